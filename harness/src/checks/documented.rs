// SPDX-License-Identifier: GPL-2.0-only
//! What kernels are known to do wrong whatever the scenario, by scenarios/findings/known.toml.

use super::case::Case;
use super::lost::model_told;
use crate::device::Reached;
use crate::finding::{Side, Uncovered};
use crate::scenario::describe::operation;
use operations::{HugePages, Op, PAGE_SIZE, address};
use reference_model::Range;
use secondary_mmu::{Kind, Reading};
use serde::Deserialize;
use std::collections::BTreeMap;
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
    #[serde(default)]
    shared: bool,
    follows: Option<String>,
    operations: Vec<String>,
}

impl Known {
    fn path(&self) -> PathBuf {
        PathBuf::from("scenarios/findings").join(&self.page)
    }
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
            && (!known.hugetlb || is_hugetlb(case, reached.step, reached.range))
            && (!known.moved || is_moved(case, reached))
            && (!known.shared || is_shared(case, reached))
            && known
                .follows
                .as_ref()
                .is_none_or(|kind| follows(case, reached, kind))
            && known.operations.contains(&operation)
    });
    known.map(Known::path)
}

/// The page that documents why pages that were lost were not notified, if one does: the rest of
/// a page of hugetlb of which a small one was notified.
pub(super) fn page_of_lost(case: &Case<'_>, lost: &Uncovered) -> Option<PathBuf> {
    let step = case.scenario.program.steps.get(lost.step)?;
    let operation = operation(case.scenario, &step.op);
    let first = lost.pages.start.checked_sub(PAGE_SIZE)?;
    let mut sizes = [HugePages::Mib2, HugePages::Gib1]
        .map(HugePages::bytes)
        .into_iter();
    let rest = sizes.any(|size| first.is_multiple_of(size) && lost.pages.end == first + size);
    let told = match lost.side {
        Side::Model => model_told(case.prediction?.steps.get(lost.step)?),
        Side::Kernel => case.observed.observation.told(lost.step),
    };
    let one = Range {
        start: first,
        end: lost.pages.start,
    };
    if !rest || !told.contains(&(Some(lost.mm), one)) {
        return None;
    }
    let known = TABLE.iter().find(|known| {
        known.kind == Kind::Stale.name()
            && known.by_piece
            && known.hugetlb
            && known.operations.contains(&operation)
            && is_hugetlb(case, lost.step, lost.pages)
    });
    known.map(Known::path)
}

/// Whether pages of hugetlb were mapped there, or moved there, by that step or before.
fn is_hugetlb(case: &Case<'_>, step: usize, range: Range) -> bool {
    let program = &case.scenario.program;
    let pages = |at: u64, pages: u64| Range {
        start: address(at),
        end: address(at.saturating_add(pages)),
    };
    let inside = |all: &Range, part: Range| all.start <= part.start && part.end <= all.end;
    let mut mapped: Vec<Range> = Vec::new();
    for step in program.steps.iter().take(step + 1) {
        match step.op {
            Op::Mmap {
                at,
                pages: length,
                flags,
                file,
                ..
            } => {
                let of_file = file.and_then(|file| program.files.get(file)?.hugetlb);
                if of_file.is_some() || HugePages::of_flags(flags).is_some() {
                    mapped.push(pages(at, length));
                }
            }
            Op::Mremap {
                at,
                pages: length,
                to: Some(to),
                ..
            } if mapped.iter().any(|all| inside(all, pages(at, 1))) => {
                mapped.push(pages(to, length.next_multiple_of(HugePages::Mib2.pages())));
            }
            _ => {}
        }
    }
    mapped.iter().any(|all| inside(all, range))
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

/// Whether the same pages were reached in an earlier step, as this kind.
fn follows(case: &Case<'_>, reached: &Reached, kind: &str) -> bool {
    let all = case.observed.device.iter();
    let mut all = all.flat_map(|device| &device.reached);
    all.any(|before| {
        before.kind.name() == kind
            && (before.mm, before.reading) == (reached.mm, reached.reading)
            && before.step < reached.step
            && before.range.start <= reached.range.start
            && reached.range.end <= before.range.end
    })
}

/// Whether the table that is referred to was in two places before: of one mm or of two.
fn is_shared(case: &Case<'_>, reached: &Reached) -> bool {
    let walked = case.observed.device.iter();
    let walked = walked.flat_map(|device| &device.walked);
    let before = walked.filter(|walked| walked.step < reached.step);
    let mut places = BTreeMap::<usize, usize>::new();
    for walked in before {
        let tables = walked.tables.tables.iter();
        let there = tables.filter(|table| table.frame == reached.frame).count();
        *places.entry(walked.step).or_default() += there;
    }
    places.values().any(|&there| there > 1)
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
