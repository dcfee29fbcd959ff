// SPDX-License-Identifier: GPL-2.0-only
//! What kernels are known to do wrong whatever the scenario, by scenarios/findings/known.toml.

use super::case::Case;
use super::lost::model_told;
use crate::callers::Caller;
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

fn path(page: &str) -> PathBuf {
    PathBuf::from("scenarios/findings").join(page)
}

/// One thing that is known where programs run, of which no steps are known.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Observed {
    page: String,
    kind: String,
    by_piece: bool,
    svvptc: Option<bool>,
    calls: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    known: Vec<Known>,
    observed: Vec<Observed>,
}

/// As the program was built with: it says which kinds there are.
const TEXT: &str = include_str!("../../../scenarios/findings/known.toml");

/// A test reads it.
static TABLE: LazyLock<Table> = LazyLock::new(|| toml::from_str(TEXT).unwrap_or_default());

/// The page that documents what a device reaches, if one does.
pub(super) fn page_of(case: &Case<'_>, reached: &Reached) -> Option<PathBuf> {
    let step = case.scenario.program.steps.get(reached.step)?;
    let operation = operation(case.scenario, &step.op);
    let svvptc = case.subject.machine.svvptc;
    let known = TABLE.known.iter().find(|known| {
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
    known.map(|known| path(&known.page))
}

/// The page that documents what a device reaches where programs run, if one does: on harts with or
/// without Svvptc, by who called whoever freed it or was about to take something there.
pub(crate) fn page_of_observed(
    svvptc: bool,
    (kind, reading): (Kind, Reading),
    callers: &[Caller],
) -> Option<PathBuf> {
    let called = |name: &String| callers.iter().any(|caller| caller.function == *name);
    let known = TABLE.observed.iter().find(|known| {
        known.kind == kind.name()
            && known.by_piece == (reading == Reading::ByPiece)
            && known.svvptc.is_none_or(|wanted| wanted == svvptc)
            && known
                .calls
                .as_ref()
                .is_none_or(|names| names.iter().any(called))
    });
    known.map(|known| path(&known.page))
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
    let known = TABLE.known.iter().find(|known| {
        known.kind == Kind::Stale.name()
            && known.by_piece
            && known.hugetlb
            && known.operations.contains(&operation)
            && is_hugetlb(case, lost.step, lost.pages)
    });
    known.map(|known| path(&known.page))
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
    use super::{TEXT, Table};
    use secondary_mmu::Kind;
    use std::path::Path;

    #[test]
    fn each_has_a_page_and_a_kind() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/findings");
        let Table { known, observed } = toml::from_str(TEXT).expect("a table");
        assert!(!known.is_empty() && !observed.is_empty());
        let known = known.iter().map(|known| (&known.page, &known.kind));
        let observed = observed.iter().map(|known| (&known.page, &known.kind));
        for (page, of) in known.chain(observed) {
            assert!(folder.join(page).is_file(), "{page}");
            let kind = Kind::ALL.iter().any(|kind| kind.name() == of);
            assert!(kind, "{of}");
        }
    }
}
