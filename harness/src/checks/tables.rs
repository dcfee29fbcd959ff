// SPDX-License-Identifier: GPL-2.0-only
//! What the page tables hold after each step: the kernel's own against the model's. Calls and
//! notifications can be the same where they do not: a page that is copied and one that is
//! reused are both flushed.

use super::case::{Case, Check};
use super::lost::same_steps;
use crate::device::{Walked, of_model};
use crate::finding::{Block, Finding};
use crate::outcome::Outcome;
use crate::reading::Reading;
use crate::scenario::describe::operation;
use crate::text;
use operations::PAGE_SIZE;
use reference_model::{MmId, PageTables, StepResult};
use secondary_mmu::{Leaf, Rights, Table};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::{self, Display, Formatter};

pub(super) const CHECK: Check = Check {
    name: "tables",
    predicts: true,
    judge,
};

/// Entries of a page table.
const PTRS_PER_PTE: u64 = 512;

/// Most differences that are described.
const SHOWN: usize = 8;

/// A page as one side has it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Page {
    /// Base pages of the leaf.
    of: u64,
    rights: Rights,
    dirty: bool,
    frame: u64,
}

impl Display for Page {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let dirty = if self.dirty { " dirty" } else { "" };
        let of = if self.of == 1 { "page" } else { "pages" };
        write!(f, "{}{dirty}, a leaf of {} {of},", self.rights, self.of)
    }
}

type Pages = BTreeMap<u64, Page>;

/// What the kernel's page tables hold, compared from step to step with what a model says.
#[derive(Clone, Default)]
pub(crate) struct Compared {
    frames: Frames,
    there: BTreeSet<MmId>,
}

impl Compared {
    /// Whether they hold the same after a step.
    pub(crate) fn same(
        &mut self,
        model: &[(MmId, PageTables)],
        walked: &[Walked],
        step: usize,
    ) -> bool {
        let walked = walked.iter().filter(|walked| walked.step == step);
        differences(&mut self.frames, &mut self.there, model, walked).is_empty()
    }
}

fn judge(case: &Case<'_>) -> Option<Vec<Finding>> {
    let (tables, prediction) = (case.tables?, case.prediction?);
    let device = case.observed.device.as_ref()?;
    // After the first step that differs the model is about something else.
    let same = same_steps(case.scenario, prediction, &case.observed.observation);
    let mut frames = Frames::default();
    let mut lines = Vec::new();
    let mut first = None;
    let mut there = BTreeSet::new();
    let steps = prediction.steps.iter().zip(tables).enumerate().take(same);
    for (step, (predicted, model)) in steps {
        // Nobody does it: there is no end at which page tables are looked at.
        if predicted.result == StepResult::Unborn {
            continue;
        }
        // Those that were begun together have one end.
        if !case.scenario.program.ends_group(step) {
            continue;
        }
        let of_step = device.walked.iter().filter(|walked| walked.step == step);
        for (mm, what) in differences(&mut frames, &mut there, model, of_step) {
            first.get_or_insert(step);
            let title = text::title(case.scenario, step);
            let whose = text::whose(case.scenario, Some(mm));
            lines.push(format!("  after {title}: {whose}{what}"));
        }
    }
    let Some(step) = first else {
        return Some(Vec::new());
    };
    let more = lines.len().saturating_sub(SHOWN);
    lines.truncate(SHOWN);
    if more > 0 {
        lines.push(format!("  … {more} more of the kind"));
    }
    let outcome = match case.reading {
        Reading::Read => Outcome::Differs,
        Reading::NotRead { .. } => Outcome::ModelNotRead,
    };
    let op = case.scenario.program.steps.get(step);
    let operation = op.map(|step| operation(case.scenario, &step.op));
    let cause = format!("tables: after {}", operation.unwrap_or_default());
    let why = "page tables differ: the kernel's hold something else than the model's, after the \
               same calls";
    let finding = Finding::new(CHECK.name, outcome, why).because(Some(cause));
    Some(vec![finding.with(Block::Text(lines))])
}

/// What differs after a step, of each mm that one side has. `there` are those that the model
/// had before: one that the step made attaches after it, and is not looked at before the next.
fn differences<'a>(
    frames: &mut Frames,
    there: &mut BTreeSet<MmId>,
    model: &[(MmId, PageTables)],
    walked: impl Iterator<Item = &'a Walked>,
) -> Vec<(MmId, String)> {
    let kernel: BTreeMap<MmId, &Walked> = walked.map(|walked| (walked.mm, walked)).collect();
    let model: BTreeMap<MmId, &PageTables> = model.iter().map(|(mm, held)| (*mm, held)).collect();
    let before = std::mem::replace(there, model.keys().copied().collect());
    let of_mm = |mm: MmId| match (model.get(&mm), kernel.get(&mm)) {
        (Some(model), Some(kernel)) => {
            let expected = pages(&of_model(model).leaves);
            let mut found = frames.compare(mm, &expected, &pages(&kernel.tables.leaves));
            found.extend(pte_tables(model, kernel));
            told(&found).map(|what| (mm, what)).collect()
        }
        (Some(_), None) if before.contains(&mm) => {
            vec![(mm, "there by the model, gone by the kernel".to_owned())]
        }
        (None, Some(_)) => vec![(mm, "gone by the model, there by the kernel".to_owned())],
        (_, None) => Vec::new(),
    };
    let mms: BTreeSet<MmId> = kernel.keys().chain(model.keys()).copied().collect();
    mms.into_iter().flat_map(of_mm).collect()
}

/// Neighbours of which the same is to be said, in one line.
fn told(found: &[(u64, String)]) -> impl Iterator<Item = String> + '_ {
    let joins = |one: &(u64, String), next: &(u64, String)| one.0 + 1 == next.0 && one.1 == next.1;
    found.chunk_by(joins).map(|run| {
        let place = |number: u64| text::place(number * PAGE_SIZE);
        let (first, last) = (place(run[0].0), place(run[run.len() - 1].0));
        match run.len() {
            1 => format!("page {first}: {}", run[0].1),
            _ => format!("pages {first} to {last}: {}", run[0].1),
        }
    })
}

/// Tables of the lowest level that one side has and the other has not.
fn pte_tables(model: &PageTables, kernel: &Walked) -> Vec<(u64, String)> {
    let lowest = |table: &&Table| table.pages == PTRS_PER_PTE;
    let kernel = kernel.tables.tables.iter().filter(lowest);
    let kernel: BTreeSet<u64> = kernel.map(|table| table.page).collect();
    let model = model.pte_tables.iter().map(|addr| addr / PAGE_SIZE);
    let model: BTreeSet<u64> = model.collect();
    let told = |page: &u64| {
        let (has, not) = match model.contains(page) {
            true => ("model", "kernel"),
            false => ("kernel", "model"),
        };
        let what = format!("a page table for what begins here by the {has}, none by the {not}");
        (*page, what)
    };
    model.symmetric_difference(&kernel).map(told).collect()
}

fn pages(leaves: &[Leaf]) -> Pages {
    let mut pages = Pages::new();
    for leaf in leaves {
        for number in 0..leaf.pages {
            let page = Page {
                of: leaf.pages,
                rights: leaf.rights,
                dirty: leaf.dirty,
                frame: leaf.frame + number,
            };
            pages.insert(leaf.page + number, page);
        }
    }
    pages
}

/// Frames have other numbers on both sides. What is the same frame on one has to be on the
/// other, in a step; and what stays the same frame in the model has to stay so in the kernel.
#[derive(Clone, Default)]
struct Frames {
    before: HashMap<usize, HashMap<u64, (u64, u64)>>,
}

impl Frames {
    /// The pages that differ, in ascending order, and how.
    fn compare(&mut self, mm: usize, model: &Pages, kernel: &Pages) -> Vec<(u64, String)> {
        let mut found = Vec::new();
        let before = self.before.remove(&mm).unwrap_or_default();
        let mut now = HashMap::new();
        let (mut of_model, mut of_kernel) = (HashMap::new(), HashMap::new());
        let numbers = model.keys().chain(kernel.keys());
        let mut numbers: Vec<u64> = numbers.copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        for number in numbers {
            let (expected, seen) = (model.get(&number), kernel.get(&number));
            let (Some(expected), Some(seen)) = (expected, seen) else {
                let has = |side: Option<&Page>| match side {
                    Some(_) => "mapped",
                    None => "not mapped",
                };
                let (model, kernel) = (has(expected), has(seen));
                found.push((
                    number,
                    format!("{model} by the model, {kernel} by the kernel"),
                ));
                continue;
            };
            if (expected.of, expected.rights, expected.dirty) != (seen.of, seen.rights, seen.dirty)
            {
                let what = format!("{expected} by the model, {seen} by the kernel");
                found.push((number, what));
            }
            let stayed = before
                .get(&number)
                .is_some_and(|(model, kernel)| *model == expected.frame && *kernel != seen.frame);
            let one = *of_model.entry(expected.frame).or_insert(seen.frame) != seen.frame;
            let other = *of_kernel.entry(seen.frame).or_insert(expected.frame) != expected.frame;
            if stayed {
                let what = "the frame of before by the model, another by the kernel";
                found.push((number, what.to_owned()));
            } else if one || other {
                let what = "not the same pages share a frame by the model and by the kernel";
                found.push((number, what.to_owned()));
            }
            now.insert(number, (expected.frame, seen.frame));
        }
        self.before.insert(mm, now);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(frame: u64) -> Page {
        Page {
            of: 1,
            rights: Rights::R,
            dirty: false,
            frame,
        }
    }

    fn made(frames: &[(u64, u64)]) -> Pages {
        let pages = frames.iter();
        pages
            .map(|(number, frame)| (*number, page(*frame)))
            .collect()
    }

    #[test]
    fn numbers_of_frames_may_differ_and_what_is_shared_may_not() {
        let mut frames = Frames::default();
        assert_eq!(
            frames.compare(0, &made(&[(1, 7), (2, 8)]), &made(&[(1, 70), (2, 80)])),
            []
        );
        let found = frames.compare(0, &made(&[(1, 7), (2, 7)]), &made(&[(1, 70), (2, 90)]));
        assert_eq!(found.len(), 1, "{found:?}");
        let found = frames.compare(0, &made(&[(1, 7), (2, 9)]), &made(&[(1, 70), (2, 70)]));
        assert!(found[0].1.contains("share a frame"), "{found:?}");
    }

    #[test]
    fn a_copy_where_the_model_reuses_is_seen() {
        let mut frames = Frames::default();
        frames.compare(0, &made(&[(1, 7)]), &made(&[(1, 70)]));
        let found = frames.compare(0, &made(&[(1, 7)]), &made(&[(1, 71)]));
        assert!(found[0].1.contains("another by the kernel"), "{found:?}");
        // What goes in between may come back in any frame.
        frames.compare(0, &made(&[]), &made(&[]));
        assert_eq!(frames.compare(0, &made(&[(1, 7)]), &made(&[(1, 72)])), []);
    }

    #[test]
    fn rights_and_what_is_there_are_compared() {
        let mut frames = Frames::default();
        let writable = Page {
            rights: Rights::R.and(Rights::W),
            ..page(70)
        };
        let found = frames.compare(0, &made(&[(1, 7), (2, 8)]), &[(1, writable)].into());
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn an_mm_that_one_side_lacks_is_told_but_in_the_step_that_made_it() {
        let walked = Walked {
            step: 0,
            mm: 0,
            tables: secondary_mmu::PageTables::default(),
        };
        let held = |mm: MmId| (mm, PageTables::default());
        let (mut frames, mut there) = (Frames::default(), BTreeSet::new());
        let mut after = |model: &[MmId]| {
            let model: Vec<_> = model.iter().map(|mm| held(*mm)).collect();
            let found = differences(&mut frames, &mut there, &model, [&walked].into_iter());
            found.into_iter().map(|(mm, _)| mm).collect::<Vec<_>>()
        };
        assert_eq!(after(&[0]), [0; 0]);
        assert_eq!(after(&[0, 1]), [0; 0], "a fork");
        assert_eq!(after(&[0, 1]), [1], "the kernel's is gone");
        assert_eq!(after(&[]), [0], "the kernel's is still there");
    }

    #[test]
    fn page_tables_that_one_side_lacks_are_told() {
        let table = |page, pages| Table {
            page,
            pages,
            frame: 1,
        };
        let tables = vec![table(0, 1 << 18), table(0, 512), table(512, 512)];
        let kernel = Walked {
            step: 0,
            mm: 0,
            tables: secondary_mmu::PageTables {
                leaves: Vec::new(),
                tables,
            },
        };
        let model = |pages: &[u64]| PageTables {
            leaves: Vec::new(),
            pte_tables: pages.iter().map(|page| page * PAGE_SIZE).collect(),
        };
        assert_eq!(pte_tables(&model(&[0, 512]), &kernel), []);
        let found = pte_tables(&model(&[512, 1024]), &kernel);
        let pages: Vec<u64> = found.iter().map(|(page, _)| *page).collect();
        assert_eq!(pages, [0, 1024]);
        assert!(found[0].1.contains("by the kernel, none by the model"));
    }
}
