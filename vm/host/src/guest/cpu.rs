// SPDX-License-Identifier: GPL-2.0-only
//! What the guest's harts have, and have not, that QEMU would give them.

use std::fmt;
use std::str::FromStr;

/// Modes of address translation, the smallest first: harts have those up to one.
const MODES: &[&str] = &["sv39", "sv48", "sv57"];

/// Extensions that can be had or not, by QEMU's names.
const EXTENSIONS: &[&str] = &["svnapot", "svinval", "svadu", "svvptc"];

/// Before an extension that is not to be had.
const WITHOUT: &str = "no-";

/// Deviations from the usual hart, as in `sv48,no-svadu,svnapot`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuFeatures(Vec<Feature>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Feature {
    /// The largest mode of address translation.
    Mode(usize),
    /// An extension, and whether it is there.
    Extension(&'static str, bool),
}

impl CpuFeatures {
    /// The usual hart, changed so, as `-cpu` takes it.
    pub fn of(&self, cpu: &str) -> String {
        let properties = self.0.iter().flat_map(Feature::properties);
        let words = std::iter::once(cpu.to_owned()).chain(properties);
        words.collect::<Vec<_>>().join(",")
    }

    /// Levels of page tables of the largest mode, where one is given.
    pub fn page_table_levels(&self) -> Option<u32> {
        let mode = |feature: &Feature| match *feature {
            Feature::Mode(mode) => Some(mode as u32 + 3),
            Feature::Extension(..) => None,
        };
        self.0.iter().rev().find_map(mode)
    }

    /// Whether harts have an extension, where that is given.
    pub fn extension(&self, wanted: &str) -> Option<bool> {
        let given = |feature: &Feature| match *feature {
            Feature::Extension(name, on) => (name == wanted).then_some(on),
            Feature::Mode(_) => None,
        };
        self.0.iter().rev().find_map(given)
    }
}

impl Feature {
    fn properties(&self) -> Vec<String> {
        let word = |name: &str, on: bool| format!("{name}={}", if on { "on" } else { "off" });
        match *self {
            Feature::Mode(last) => MODES
                .iter()
                .enumerate()
                .map(|(mode, name)| word(name, mode <= last))
                .collect(),
            // Harts with neither of the two set the bits themselves all the same.
            Feature::Extension("svadu", on) => vec![word("svadu", on), word("svade", !on)],
            Feature::Extension(name, on) => vec![word(name, on)],
        }
    }

    fn parse(word: &str) -> Option<Feature> {
        if let Some(mode) = MODES.iter().position(|mode| *mode == word) {
            return Some(Feature::Mode(mode));
        }
        let name = word.strip_prefix(WITHOUT).unwrap_or(word);
        let known = EXTENSIONS.iter().find(|known| **known == name)?;
        Some(Feature::Extension(known, name == word))
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Feature::Mode(mode) => f.write_str(MODES[*mode]),
            Feature::Extension(name, true) => f.write_str(name),
            Feature::Extension(name, false) => write!(f, "{WITHOUT}{name}"),
        }
    }
}

impl fmt::Display for CpuFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.0.iter().map(Feature::to_string).collect();
        f.write_str(&words.join(","))
    }
}

impl FromStr for CpuFeatures {
    type Err = String;

    fn from_str(text: &str) -> Result<CpuFeatures, String> {
        let parse = |word: &str| {
            Feature::parse(word).ok_or_else(|| {
                format!(
                    "`{word}` is none of {}, nor one of {} with or without `{WITHOUT}` before it",
                    MODES.join(", "),
                    EXTENSIONS.join(", ")
                )
            })
        };
        text.split(',')
            .map(parse)
            .collect::<Result<_, _>>()
            .map(CpuFeatures)
    }
}

#[cfg(test)]
mod tests {
    use super::CpuFeatures;

    #[test]
    fn features_are_qemus_properties() {
        let of = |text: &str| {
            text.parse::<CpuFeatures>()
                .map(|features| features.of("rv64"))
        };
        assert_eq!(
            of("sv48,svnapot").as_deref(),
            Ok("rv64,sv39=on,sv48=on,sv57=off,svnapot=on")
        );
        assert_eq!(of("no-svadu").as_deref(), Ok("rv64,svadu=off,svade=on"));
        assert_eq!(
            of("svadu,no-svinval").as_deref(),
            Ok("rv64,svadu=on,svade=off,svinval=off")
        );
        assert_eq!(CpuFeatures::default().of("rv64"), "rv64");
        for wrong in ["", "sv32", "no-sv39", "svnapot,,sv39", "svnapot=on"] {
            assert!(wrong.parse::<CpuFeatures>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_given_last_counts_and_what_is_not_given_is_not_known() {
        let features = |text: &str| text.parse::<CpuFeatures>().expect("features");
        let some = features("sv39,svadu,sv48,no-svadu");
        assert_eq!(some.page_table_levels(), Some(4));
        assert_eq!(some.extension("svadu"), Some(false));
        assert_eq!(some.extension("svvptc"), None);
        assert_eq!(features("svnapot").page_table_levels(), None);
    }

    #[test]
    fn features_are_told_as_they_are_given() {
        let text = "sv57,no-svadu,svnapot";
        assert_eq!(
            text.parse::<CpuFeatures>()
                .map(|features| features.to_string())
                .as_deref(),
            Ok(text)
        );
    }
}
