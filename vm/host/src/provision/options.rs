// SPDX-License-Identifier: GPL-2.0-only
//! What a configuration can go without, as `vm/kernels/options.toml` lists it: kernels
//! gain, lose and rename options, and not each is needed to run scenarios.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::error::VmError;

/// The list, below the checkout's `vm`.
const LIST: &str = "kernels/options.toml";

/// What is known of an option.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    stands_for: Option<String>,
    without: Option<String>,
    /// For who reads the list.
    #[serde(rename = "why")]
    _why: String,
}

/// The options that are not always needed, by name.
#[derive(Clone, Debug)]
pub(super) struct Options(BTreeMap<String, Entry>);

/// What came of the lines of a configuration that had no effect.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// Without these nothing can be run.
    pub(super) needed: Vec<String>,
    /// These are told, with what it means.
    pub(super) missing: Vec<String>,
}

impl Options {
    /// Reads the list of a checkout.
    pub(super) fn read(checkout: &Path) -> Result<Options, VmError> {
        let path = checkout.join("vm").join(LIST);
        let text = fs::read_to_string(&path).map_err(VmError::io("read", &path))?;
        Options::parse(&text).map_err(|message| VmError::Kernels { path, message })
    }

    fn parse(text: &str) -> Result<Options, String> {
        let entries: BTreeMap<String, Entry> =
            toml::from_str(text).map_err(|error| error.to_string())?;
        let says_nothing =
            |(_, entry): &(&String, &Entry)| entry.stands_for.is_none() == entry.without.is_none();
        match entries.iter().find(says_nothing) {
            Some((name, _)) => Err(format!("{name}: either `stands_for` or `without`")),
            None => Ok(Options(entries)),
        }
    }

    /// Sorts lines of fragments that a configuration does not fulfil.
    pub(super) fn sort(&self, lines: &[&str], config: &str) -> Lost {
        let mut lost = Lost::default();
        for line in lines {
            let name = line.split_once('=').map_or(*line, |(name, _)| name);
            match self.0.get(name) {
                Some(Entry {
                    without: Some(without),
                    ..
                }) => lost.missing.push(format!("{line}: {without}")),
                Some(Entry {
                    stands_for: Some(other),
                    ..
                }) if is_set(config, other) => {}
                _ => lost.needed.push((*line).to_owned()),
            }
        }
        lost
    }
}

/// Whether a configuration has an option.
fn is_set(config: &str, name: &str) -> bool {
    let mut lines = config.lines();
    lines.any(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest == "=y" || rest == "=m")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "[CONFIG_OLD]\nstands_for = \"CONFIG_NEW\"\nwhy = \"x\"\n\
                        [CONFIG_KSM]\nwithout = \"no ksm\"\nwhy = \"x\"\n";

    #[test]
    fn what_is_needed_is_told_from_what_is_not() {
        let options = Options::parse(LIST).unwrap();
        let lines = ["CONFIG_OLD=y", "CONFIG_KSM=y", "CONFIG_SMP=y"];
        let lost = options.sort(&lines, "CONFIG_NEW=y\n");
        assert_eq!(lost.needed, ["CONFIG_SMP=y"]);
        assert_eq!(lost.missing, ["CONFIG_KSM=y: no ksm"]);
        let lost = options.sort(&lines, "CONFIG_NEWER=y\n");
        assert_eq!(lost.needed, ["CONFIG_OLD=y", "CONFIG_SMP=y"]);
    }

    #[test]
    fn an_entry_says_one_thing() {
        let neither = Options::parse("[CONFIG_A]\nwhy = \"x\"\n").unwrap_err();
        assert!(neither.contains("CONFIG_A"), "{neither}");
    }

    #[test]
    fn the_list_is_of_options_that_fragments_ask_for() {
        let vm = crate::home::home().unwrap().join("vm");
        let options = Options::read(vm.parent().unwrap()).unwrap();
        let fragments: String = fs::read_dir(vm.join("kernels"))
            .unwrap()
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|e| e == "config"))
            .map(|entry| fs::read_to_string(entry.path()).unwrap())
            .collect();
        for name in options.0.keys() {
            assert!(
                fragments.contains(&format!("\n{name}=")),
                "{name} is asked for by no fragment"
            );
        }
    }
}
