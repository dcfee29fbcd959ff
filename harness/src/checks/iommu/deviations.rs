// SPDX-License-Identifier: GPL-2.0-only
//! Where QEMU's IOMMU does other than the specification says, by vm/iommu-deviations.toml:
//! each by QEMU's version, in which it was confirmed.

use crate::device::Reached;
use crate::iommu::Setting;
use secondary_mmu::Reading;
use serde::Deserialize;
use std::sync::LazyLock;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Deviation {
    /// In a sentence.
    what: String,
    /// Beginnings of the versions in which it was confirmed.
    qemu: Vec<String>,
    /// What it makes of what is held; none for one that only accesses show.
    #[serde(default)]
    held: Option<Held>,
    /// What it makes of accesses.
    #[serde(default)]
    access: Option<Access>,
    /// The scenario, or the test, that confirms it.
    confirmed_by: String,
}

/// Which accesses it explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::checks) enum Access {
    /// One that is refused is refused without a word.
    Silent,
    /// A write to a clean page is let through.
    Clean,
}

/// Which of what is held is explained by it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Held {
    kinds: Vec<String>,
    /// Pieces of larger leaves alone.
    pieces: bool,
    policies: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    deviation: Vec<Deviation>,
}

const TEXT: &str = include_str!("../../../../vm/iommu-deviations.toml");

/// A test reads it.
static TABLE: LazyLock<Vec<Deviation>> = LazyLock::new(|| parse(TEXT).unwrap_or_default());

fn parse(text: &str) -> Result<Vec<Deviation>, toml::de::Error> {
    toml::from_str::<Table>(text).map(|table| table.deviation)
}

/// The deviation that explains what was held, if one does: what it is, and what confirms it.
pub(super) fn of(setting: &Setting, reached: &Reached) -> Option<[&'static str; 2]> {
    let deviation = TABLE.iter().find(|deviation| {
        confirmed(deviation, setting)
            && deviation.held.as_ref().is_some_and(|held| {
                held.kinds.iter().any(|kind| kind == reached.kind.name())
                    && held.policies.iter().any(|it| it == setting.policy.name())
                    && (!held.pieces || reached.reading == Reading::ByPiece)
            })
    });
    deviation.map(|it| [it.what.as_str(), it.confirmed_by.as_str()])
}

/// Whether this QEMU is known to do so.
pub(super) fn does(setting: &Setting, access: Access) -> bool {
    let mut of_it = TABLE.iter().filter(|it| it.access == Some(access));
    of_it.any(|deviation| confirmed(deviation, setting))
}

fn confirmed(deviation: &Deviation, setting: &Setting) -> bool {
    let mut versions = deviation.qemu.iter();
    versions.any(|version| setting.qemu.starts_with(version.as_str()))
}

/// What to do where nobody has looked at a QEMU of this version.
pub(super) fn unconfirmed(setting: &Setting) -> Option<String> {
    let known = TABLE.iter().any(|deviation| confirmed(deviation, setting));
    (!known && !TABLE.is_empty()).then(|| {
        format!(
            "QEMU {} is none of those whose IOMMU was looked at: see whether \
             vm/iommu-deviations.toml is right for it",
            setting.qemu
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{Access, TEXT, does, of, parse, unconfirmed};
    use crate::device::Reached;
    use crate::iommu::Setting;
    use protocol::Policy;
    use reference_model::Range;
    use secondary_mmu::{Kept, Kind, Reading, Rights};
    use std::path::Path;

    #[test]
    fn a_deviation_is_excused_in_the_qemu_that_it_was_confirmed_in_and_in_no_other() {
        let setting = |qemu: &str, policy: Policy| Setting {
            policy,
            qemu: qemu.to_owned(),
        };
        let reached = |reading: Reading| Reached {
            kind: Kind::Stale,
            reading,
            mm: 0,
            range: Range { start: 0, end: 0 },
            frame: 0,
            kept: Kept::Leaf {
                rights: Rights::R,
                dirty: false,
                of: 512,
            },
            since: 0,
            step: 1,
            near: None,
        };
        let known = setting("10.0.2 Debian", Policy::Exact);
        assert!(of(&known, &reached(Reading::ByPiece)).is_some());
        assert!(of(&known, &reached(Reading::ByLeaf)).is_none());
        let leaf = setting("10.0.2 Debian", Policy::Leaf);
        assert!(of(&leaf, &reached(Reading::ByPiece)).is_none());
        assert!(does(&leaf, Access::Silent) && does(&leaf, Access::Clean));
        assert_eq!(unconfirmed(&leaf), None);
        let newer = setting("11.1.0", Policy::Exact);
        assert!(of(&newer, &reached(Reading::ByPiece)).is_none());
        assert!(!does(&newer, Access::Silent) && !does(&newer, Access::Clean));
        assert!(unconfirmed(&newer).is_some_and(|note| note.contains("11.1.0")));
    }

    #[test]
    fn each_names_kinds_policies_and_what_confirms_it() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let table = parse(TEXT).expect("a table");
        assert!(!table.is_empty());
        for deviation in table {
            let place = deviation
                .confirmed_by
                .split("::")
                .next()
                .unwrap_or_default();
            assert!(root.join(place).is_file(), "{}", deviation.what);
            assert!(!deviation.qemu.is_empty(), "{}", deviation.what);
            let Some(held) = deviation.held else { continue };
            let known = |kind: &String| Kind::ALL.iter().any(|it| it.name() == kind);
            assert!(held.kinds.iter().all(known), "{}", deviation.what);
            let policies = protocol::Policy::ALL.map(protocol::Policy::name);
            let known = |policy: &String| policies.contains(&policy.as_str());
            assert!(held.policies.iter().all(known), "{}", deviation.what);
        }
    }
}
