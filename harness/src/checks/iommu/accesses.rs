// SPDX-License-Identifier: GPL-2.0-only
//! What accesses by the device behind an IOMMU came to, against what page tables allow; and what
//! is read where it has written.

use super::deviations::{self, Access};
use super::{CHECK, PAGE, by, deviates_by, page_of};
use crate::checks::case::Case;
use crate::checks::lost::same_steps;
use crate::device::Walked;
use crate::finding::{Block, Finding};
use crate::iommu::{Seen, covers};
use crate::outcome::Outcome;
use crate::scenario::describe::describe;
use crate::text;
use operations::{Op, PAGE_SIZE, address};
use reference_model::StepResult;
use secondary_mmu::{Kind, Rights};
use std::path::PathBuf;

/// What accesses by the device came to, and what is wrong with that.
pub(super) fn judge(case: &Case<'_>, seen: &Seen) -> Vec<Finding> {
    let steps = case.scenario.program.steps.iter();
    let steps = steps.zip(&case.observed.observation.steps).enumerate();
    steps
        .filter_map(
            |(number, (step, observed))| match (&step.op, observed.result) {
                (Op::Device { .. }, came_to) => access(case, seen, number, came_to),
                (_, StepResult::Saw { .. }) => {
                    wrong(case, seen, number, observed.result, StepResult::Ok)
                }
                _ => None,
            },
        )
        .collect()
}

fn access(case: &Case<'_>, seen: &Seen, step: usize, came_to: StepResult) -> Option<Finding> {
    if let StepResult::Errno(errno) = came_to {
        let why = format!("the device's access could not be made: errno {errno}");
        return Some(Finding::could_not_run(why));
    }
    let expected = expected(case, step)?;
    if as_qemu_has_it(case, seen, step, expected).contains(&came_to) {
        return None;
    }
    // What page tables were seen to hold is without A, for want of which a fault is due too.
    let predicted = predicted(case, step).is_some();
    let refused = matches!(came_to, StepResult::Fault { .. });
    if !predicted && expected == StepResult::Ok && refused {
        return None;
    }
    wrong(case, seen, step, came_to, expected)
}

/// What an access may come to where that is expected, as QEMU is known to deviate: page by page,
/// from the one on that is to be refused.
fn as_qemu_has_it(
    case: &Case<'_>,
    seen: &Seen,
    step: usize,
    expected: StepResult,
) -> Vec<StepResult> {
    let mut all = vec![expected];
    let (StepResult::Fault { page, cause }, Some((at, pages, write))) = (expected, op(case, step))
    else {
        return all;
    };
    for page in page..at + pages {
        if !refuses(case, step, page, write) {
            continue;
        }
        all.push(StepResult::Fault { cause, page });
        if deviations::does(&seen.setting, Access::Silent) {
            all.push(StepResult::Lost { page });
        }
        let clean = write && is_clean(case, step, page).unwrap_or(false);
        if !clean || !deviations::does(&seen.setting, Access::Clean) {
            return all;
        }
    }
    all.push(StepResult::Ok);
    all
}

/// Whether page tables, as they were seen before a step, refuse an access to a page.
fn refuses(case: &Case<'_>, step: usize, page: u64, write: bool) -> bool {
    before(case, step).is_none_or(|walked| !allows(walked, page, write))
}

/// Pages of an access, and whether it writes.
fn op(case: &Case<'_>, step: usize) -> Option<(u64, u64, bool)> {
    match case.scenario.program.steps.get(step)?.op {
        Op::Device {
            at, pages, write, ..
        } => Some((at, pages, write)),
        _ => None,
    }
}

/// Whether a page is writable and clean before a step in which a device writes there.
fn is_clean(case: &Case<'_>, step: usize, page: u64) -> Option<bool> {
    let tables = &before(case, step)?.tables;
    let leaf = tables.leaf_of(address(page) / PAGE_SIZE)?;
    Some(Rights::W.without(leaf.rights).is_none() && !leaf.dirty)
}

/// What the page tables held before a step that accesses them.
fn before<'a>(case: &Case<'a>, step: usize) -> Option<&'a Walked> {
    let Op::Device { mm, .. } = case.scenario.program.steps.get(step)?.op else {
        return None;
    };
    let walked = case.observed.device.as_ref()?.walked.iter();
    let before = walked.filter(|walked| walked.mm == mm && walked.step < step);
    before.max_by_key(|walked| walked.step)
}

fn wrong(
    case: &Case<'_>,
    seen: &Seen,
    step: usize,
    came_to: StepResult,
    expected: StepResult,
) -> Option<Finding> {
    let outcome = match came_to {
        StepResult::Lost { .. } => Outcome::Stuck,
        StepResult::Ok | StepResult::Astray { .. } | StepResult::Saw { .. } => Outcome::Unsafe,
        _ => Outcome::Differs,
    };
    let what = match came_to {
        StepResult::Lost { .. } => "stuck: a device's access was refused, and nobody was told",
        StepResult::Astray { .. } => {
            "unsafe: a device's access came to a page frame that is not the page's"
        }
        StepResult::Saw { .. } => "unsafe: other bytes are read than were written there",
        StepResult::Ok => "unsafe: a device got where it must not get",
        _ => "a device's access came to something else than page tables allow",
    };
    let described = describe(case.scenario, case.scenario.program.steps.get(step)?);
    let text = vec![
        format!("step {}. {described}", step + 1),
        format!("- {}", text::result(expected)),
        format!("+ {}", text::result(came_to)),
    ];
    let known = explained(case, seen, step, (expected, came_to))
        .or_else(|| after_a_stray_write(case, seen, step, came_to));
    if let Some(Explained { why, page }) = known {
        let finding = Finding::new(CHECK.name, Outcome::Known, why).with(Block::Text(text));
        return Some(finding.with(Block::Page(page)));
    }
    let finding = Finding::new(CHECK.name, outcome, format!("{what}{}", by(seen)));
    let landed = landed(case, seen, step, came_to);
    let unconfirmed = deviations::unconfirmed(&seen.setting);
    let text = text.into_iter().chain(landed).chain(unconfirmed).collect();
    Some(finding.with(Block::Text(text)))
}

/// By the model, as long as it speaks for the kernel: it was read for the release, and all steps
/// so far did what it expects.
fn predicted(case: &Case<'_>, step: usize) -> Option<StepResult> {
    let prediction = case.prediction?;
    let read = case.reading.releases().is_none();
    let same = same_steps(case.scenario, prediction, &case.observed.observation);
    let predicted = prediction.steps.get(step)?;
    (read && step < same).then_some(predicted.result)
}

/// What the page tables allow: by the model, or else by what they were seen to hold before.
fn expected(case: &Case<'_>, step: usize) -> Option<StepResult> {
    if let Some(predicted) = predicted(case, step) {
        return Some(predicted);
    }
    let (at, pages, write) = op(case, step)?;
    let tables = before(case, step)?;
    let refused = (at..at + pages).find(|page| !allows(tables, *page, write));
    Some(match refused {
        Some(page) => StepResult::Fault {
            cause: if write { 15 } else { 13 },
            page,
        },
        None => StepResult::Ok,
    })
}

fn allows(walked: &Walked, page: u64, write: bool) -> bool {
    let leaf = walked.tables.leaf_of(address(page) / PAGE_SIZE);
    leaf.is_some_and(|leaf| {
        let has = |right: Rights| right.without(leaf.rights).is_none();
        match write {
            true => has(Rights::W) && leaf.dirty,
            false => has(Rights::R),
        }
    })
}

/// Why an access came to what it did, where that is known.
struct Explained {
    why: String,
    page: PathBuf,
}

/// By what the IOMMU held, which it was not told of: that is documented, or QEMU deviates so.
fn explained(
    case: &Case<'_>,
    seen: &Seen,
    step: usize,
    (expected, came_to): (StepResult, StepResult),
) -> Option<Explained> {
    let (kinds, page): (&[Kind], u64) = match (came_to, expected) {
        (StepResult::Lost { page }, _) => (&[Kind::Narrow], page),
        (StepResult::Astray { page }, _) => (&[Kind::Stale], page),
        (StepResult::Ok, StepResult::Fault { page, .. }) => (&[Kind::Right, Kind::Dirty], page),
        _ => return None,
    };
    let Op::Device { mm, .. } = case.scenario.program.steps.get(step)?.op else {
        return None;
    };
    let number = address(page) / PAGE_SIZE;
    // It has to be held so still when it was looked at last.
    let looked = before(case, step)?.step;
    let mut held = seen.reached.iter().filter(|one| {
        let one = std::slice::from_ref(*one);
        kinds.iter().any(|kind| {
            covers(one, *kind, mm, number, step) && seen.still(*kind, mm, number, looked)
        })
    });
    held.find_map(|one| {
        if let Some(page) = page_of(case, one) {
            let why = format!("known: {}", page.display());
            return Some(Explained { why, page });
        }
        let [what, _] = deviations::of(&seen.setting, one)?;
        Some(Explained {
            why: deviates_by(seen, what),
            page: PathBuf::from(PAGE),
        })
    })
}

/// Where other bytes are read because a device's write went astray, or was refused, before.
fn after_a_stray_write(
    case: &Case<'_>,
    seen: &Seen,
    step: usize,
    came_to: StepResult,
) -> Option<Explained> {
    let StepResult::Saw { page, value } = came_to else {
        return None;
    };
    let steps = case.scenario.program.steps.iter();
    let before = steps.zip(&case.observed.observation.steps).take(step);
    // A write that came elsewhere may be read in any page, by whoever has that frame; one that
    // came to where it must not may be read there; of one that was lost the old byte is.
    let strays = before.enumerate().rev().filter_map(|(number, (of, came))| {
        let Op::Device {
            write: true,
            value: written,
            ..
        } = of.op
        else {
            return None;
        };
        let same = written.unwrap_or(1) == value;
        let stray = match came.result {
            StepResult::Lost { page: lost } => lost == page && !same,
            StepResult::Astray { .. } | StepResult::Ok => same,
            _ => false,
        };
        let results = (expected(case, number)?, came.result);
        stray.then(|| explained(case, seen, number, results))?
    });
    strays.into_iter().next()
}

/// Whose the frame is by now that an access came to.
fn landed(case: &Case<'_>, seen: &Seen, step: usize, came_to: StepResult) -> Option<String> {
    let StepResult::Astray { page } = came_to else {
        return None;
    };
    let Op::Device { mm, .. } = case.scenario.program.steps.get(step)?.op else {
        return None;
    };
    let number = address(page) / PAGE_SIZE;
    let held = seen.reached.iter().rev().find(|one| {
        let pages = one.range.start / PAGE_SIZE..one.range.end / PAGE_SIZE;
        let here = one.mm == mm && pages.contains(&number);
        here && one.kind == Kind::Stale && one.step <= step
    })?;
    let frame = held.frame + number - held.range.start / PAGE_SIZE;
    let walked = case.observed.device.as_ref()?.walked.iter();
    let mut owners = walked
        .filter(|walked| walked.step == step)
        .flat_map(|walked| {
            let of_it = walked
                .tables
                .leaves
                .iter()
                .filter(move |leaf| (leaf.frame..leaf.frame + leaf.pages).contains(&frame));
            of_it.map(move |leaf| (walked.mm, leaf.page + frame - leaf.frame))
        });
    let owner = owners.next().map(|(mm, page)| {
        let page = page.wrapping_sub(address(0) / PAGE_SIZE);
        let whose = case.scenario.mms.get(mm).map_or("", String::as_str);
        format!("frame {frame:#x}, which is page {page} of {whose} by now")
    });
    Some(owner.unwrap_or_else(|| format!("frame {frame:#x}, which no mm here has any more")))
}
