// SPDX-License-Identifier: GPL-2.0-only
//! What kernels are known to do wrong whatever the scenario, by scenarios/findings/known.toml.

use super::case::Case;
use crate::device::Reached;
use crate::scenario::describe::operation;
use operations::{MAP_HUGETLB, Op, address};
use secondary_mmu::Reading;
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::LazyLock;

/// One thing that is known.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    page: String,
    kind: String,
    by_piece: bool,
    svvptc: Option<bool>,
    #[serde(default)]
    hugetlb: bool,
    #[serde(default)]
    moved: bool,
    operations: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    known: Vec<Known>,
}

/// As the program was built with: it says which kinds there are.
const TEXT: &str = include_str!("../../../scenarios/findings/known.toml");

/// A test reads it.
static TABLE: LazyLock<Vec<Known>> = LazyLock::new(|| parse(TEXT).unwrap_or_default());

fn parse(text: &str) -> Result<Vec<Known>, toml::de::Error> {
    toml::from_str::<Table>(text).map(|table| table.known)
}

/// The page that documents what a device reaches, if one does.
pub(super) fn page_of(case: &Case<'_>, reached: &Reached) -> Option<PathBuf> {
    let step = case.scenario.program.steps.get(reached.step)?;
    let operation = operation(case.scenario, &step.op);
    let svvptc = case.subject.machine.svvptc;
    let known = TABLE.iter().find(|known| {
        known.kind == reached.kind.name()
            && known.by_piece == (reached.reading == Reading::ByPiece)
            && known.svvptc.is_none_or(|wanted| wanted == svvptc)
            && (!known.hugetlb || is_hugetlb(case, reached))
            && (!known.moved || is_moved(case, reached))
            && known.operations.contains(&operation)
    });
    known.map(|known| PathBuf::from("scenarios/findings").join(&known.page))
}

/// Whether pages of hugetlb were mapped there before.
fn is_hugetlb(case: &Case<'_>, reached: &Reached) -> bool {
    let mut before = case.scenario.program.steps.iter().take(reached.step);
    before.any(|step| match step.op {
        Op::Mmap {
            at, pages, flags, ..
        } => {
            let inside =
                address(at) <= reached.range.start && reached.range.end <= address(at + pages);
            flags & MAP_HUGETLB != 0 && inside
        }
        _ => false,
    })
}

/// Whether the table that is referred to is still one of the mm's.
fn is_moved(case: &Case<'_>, reached: &Reached) -> bool {
    let walked = case
        .observed
        .device
        .iter()
        .flat_map(|device| &device.walked);
    let mut after = walked.filter(|walked| (walked.mm, walked.step) == (reached.mm, reached.step));
    after.any(|walked| {
        let mut tables = walked.tables.tables.iter();
        tables.any(|table| table.frame == reached.frame)
    })
}

#[cfg(test)]
mod tests {
    use super::{TEXT, parse};
    use secondary_mmu::Kind;
    use std::path::Path;

    #[test]
    fn each_has_a_page_and_a_kind() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/findings");
        let table = parse(TEXT).expect("a table");
        assert!(!table.is_empty());
        for known in table {
            assert!(folder.join(&known.page).is_file(), "{}", known.page);
            let kind = Kind::ALL.iter().any(|kind| kind.name() == known.kind);
            assert!(kind, "{}", known.kind);
        }
    }
}
