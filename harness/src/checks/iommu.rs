// SPDX-License-Identifier: GPL-2.0-only
//! What a real IOMMU still held after each step, and what accesses of the device behind it came
//! to. A second opinion: where it finds something that the device check does not, one of the
//! two is wrong, and that is told too.

use super::case::{Case, Check};
use super::device::{documented_pages, outcome_of};
use super::{documented, lost};
use crate::device::{Reached, Walked};
use crate::finding::{Block, Finding};
use crate::iommu::{Seen, covers};
use crate::outcome::Outcome;
use crate::scenario::describe::{describe, operation};
use crate::text;
use operations::{Op, PAGE_SIZE, address};
use protocol::Policy;
use reference_model::StepResult;
use secondary_mmu::{Kind, Reading, Rights};
use std::path::PathBuf;

mod deviations;

use deviations::Access;

pub(super) const CHECK: Check = Check {
    name: "iommu",
    predicts: false,
    judge,
};

fn judge(case: &Case<'_>) -> Option<Vec<Finding>> {
    let seen = case.observed.iommu.as_ref()?;
    let mut findings = held(case, seen);
    findings.extend(disagreement(case, seen));
    findings.extend(accesses(case, seen));
    Some(findings)
}

/// What it held that it must not hold.
fn held(case: &Case<'_>, seen: &Seen) -> Vec<Finding> {
    let (mut pages, mut deviating, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for one in &seen.reached {
        let deviation = deviations::of(&seen.setting, one);
        match (page_of(case, one), deviation) {
            (Some(page), _) => pages.push((page, one.clone())),
            (None, Some(deviation)) => deviating.push((deviation, one.clone())),
            (None, None) => unknown.push(one.clone()),
        }
    }
    let mut findings = documented_pages(CHECK.name, pages);
    findings.extend(as_qemu_deviates(seen, deviating));
    for outcome in [Outcome::Unsafe, Outcome::UnsafeByPieces, Outcome::Stuck] {
        let of_it = |one: &&Reached| outcome_of(one) == outcome;
        let reached: Vec<Reached> = unknown.iter().filter(of_it).cloned().collect();
        findings.extend(finding(case, seen, outcome, reached));
    }
    findings
}

/// The page that documents what it held. What is documented for all devices is so for those
/// that keep pieces.
fn page_of(case: &Case<'_>, one: &Reached) -> Option<PathBuf> {
    let of_all = || Reached {
        reading: Reading::ByLeaf,
        ..one.clone()
    };
    documented::page_of(case, one)
        .or_else(|| documented::page_of(case, &of_all()))
        .or_else(|| lost::documented(case).map(|known| known.page.clone()))
}

fn as_qemu_deviates(seen: &Seen, deviating: Vec<([&'static str; 2], Reached)>) -> Option<Finding> {
    let [what, confirmed_by] = deviating.first()?.0;
    let why = format!("known: QEMU {} deviates: {what}", seen.setting.qemu);
    let reached = deviating.into_iter().map(|(_, one)| one).collect();
    Some(
        Finding::new(CHECK.name, Outcome::Known, why)
            .with(Block::Text(vec![format!("confirmed by {confirmed_by}")]))
            .with(Block::Reached(reached))
            .with(Block::Page(PathBuf::from("harness/IOMMU.md"))),
    )
}

/// By which policy the IOMMU is driven, where that is not the usual one.
fn by(seen: &Seen) -> String {
    match seen.setting.policy {
        Policy::Leaf => String::new(),
        policy => format!(" (policy {})", policy.name()),
    }
}

fn finding(
    case: &Case<'_>,
    seen: &Seen,
    outcome: Outcome,
    reached: Vec<Reached>,
) -> Option<Finding> {
    let worst = reached.iter().max_by_key(|one| one.kind)?;
    let what = match outcome {
        Outcome::Stuck => "stuck: a real IOMMU refuses what page tables allow",
        Outcome::UnsafeByPieces => {
            "unsafe by pieces: a real IOMMU keeps pieces of a larger page that it must not"
        }
        _ => "unsafe: a real IOMMU still translates what it must not",
    };
    let step = case.scenario.program.steps.get(worst.step);
    let operation = step.map(|step| operation(case.scenario, &step.op));
    let cause = format!(
        "iommu: {} after {}",
        worst.kind.name(),
        operation.unwrap_or_default()
    );
    let finding = Finding::new(CHECK.name, outcome, format!("{what}{}", by(seen)));
    let finding = finding.because(Some(cause)).with(Block::Reached(reached));
    Some(match deviations::unconfirmed(&seen.setting) {
        Some(note) => finding.with(Block::Text(vec![note])),
        None => finding,
    })
}

/// Pages that the IOMMU has wrong, and of which the device check says nothing: it is to hold
/// all that any device may hold.
fn disagreement(case: &Case<'_>, seen: &Seen) -> Option<Finding> {
    if seen.setting.policy == Policy::None {
        return None;
    }
    let device = case.observed.device.as_ref()?;
    let unexplained = seen.reached.iter().filter(|one| {
        let pages = one.range.start / PAGE_SIZE..one.range.end / PAGE_SIZE;
        let mut pages = pages;
        deviations::of(&seen.setting, one).is_none()
            && !pages.all(|page| covers(&device.reached, one.kind, one.mm, page, one.step))
    });
    let unexplained: Vec<Reached> = unexplained.cloned().collect();
    if unexplained.is_empty() {
        return None;
    }
    let why = "the IOMMU and the device check disagree: only the IOMMU reaches this";
    let finding = Finding::new(CHECK.name, Outcome::Differs, why);
    Some(finding.with(Block::Reached(unexplained)))
}

/// What accesses by the device came to, and what is wrong with that.
fn accesses(case: &Case<'_>, seen: &Seen) -> Vec<Finding> {
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
    let expected = expected(case, step)?;
    if expected == came_to || deviates(case, seen, step, expected, came_to) {
        return None;
    }
    // What page tables were seen to hold is without A, for want of which a fault is due too.
    let predicted = predicted(case, step).is_some();
    if !predicted
        && matches!(
            (expected, came_to),
            (StepResult::Ok, StepResult::Fault { .. })
        )
    {
        return None;
    }
    wrong(case, seen, step, came_to, expected)
}

/// Whether that is how QEMU is known to deviate.
fn deviates(
    case: &Case<'_>,
    seen: &Seen,
    step: usize,
    expected: StepResult,
    came_to: StepResult,
) -> bool {
    let StepResult::Fault { page, .. } = expected else {
        return false;
    };
    match came_to {
        StepResult::Lost { page: lost } => {
            lost == page && deviations::does(&seen.setting, Access::Silent)
        }
        StepResult::Ok => {
            is_clean(case, step, page).unwrap_or(false)
                && deviations::does(&seen.setting, Access::Clean)
        }
        _ => false,
    }
}

/// Whether a page is writable and clean before a step in which a device writes there.
fn is_clean(case: &Case<'_>, step: usize, page: u64) -> Option<bool> {
    let tables = before(case, step)?;
    let number = address(page) / PAGE_SIZE;
    let mut leaves = tables.tables.leaves.iter();
    let of_it = leaves.find(|leaf| (leaf.page..leaf.page + leaf.pages).contains(&number))?;
    Some(Rights::W.without(of_it.rights).is_none() && !of_it.dirty)
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
    let known = as_documented(case, seen, step, came_to)
        .or_else(|| after_a_stray_write(case, seen, step, came_to));
    if let Some(page) = known {
        let why = format!("known: {}", page.display());
        let finding = Finding::new(CHECK.name, Outcome::Known, why).with(Block::Text(text));
        return Some(finding.with(Block::Page(page)));
    }
    let finding = Finding::new(CHECK.name, outcome, format!("{what}{}", by(seen)));
    let landed = landed(case, seen, step, came_to);
    let text = text.into_iter().chain(landed).collect();
    Some(finding.with(Block::Text(text)))
}

fn predicted(case: &Case<'_>, step: usize) -> Option<StepResult> {
    let predicted = case.prediction?.steps.get(step)?;
    Some(predicted.result)
}

/// What the page tables allow: by the model, or else by what they were seen to hold before.
fn expected(case: &Case<'_>, step: usize) -> Option<StepResult> {
    if let Some(predicted) = predicted(case, step) {
        return Some(predicted);
    }
    let Op::Device {
        at, pages, write, ..
    } = case.scenario.program.steps.get(step)?.op
    else {
        return None;
    };
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
    let number = address(page) / PAGE_SIZE;
    let leaves = walked.tables.leaves.iter();
    let mut of_it = leaves.filter(|leaf| (leaf.page..leaf.page + leaf.pages).contains(&number));
    of_it.any(|leaf| {
        let has = |right: Rights| right.without(leaf.rights).is_none();
        match write {
            true => has(Rights::W) && leaf.dirty,
            false => has(Rights::R),
        }
    })
}

/// The page of what is known, where an access came to what it did for something that the IOMMU
/// was not told of.
fn as_documented(
    case: &Case<'_>,
    seen: &Seen,
    step: usize,
    came_to: StepResult,
) -> Option<PathBuf> {
    let (kind, page) = match came_to {
        StepResult::Lost { page } => (Kind::Narrow, page),
        StepResult::Astray { page } => (Kind::Stale, page),
        _ => return None,
    };
    let Op::Device { mm, .. } = case.scenario.program.steps.get(step)?.op else {
        return None;
    };
    let number = address(page) / PAGE_SIZE;
    let held = seen.reached.iter().filter(|one| {
        let one = std::slice::from_ref(*one);
        covers(one, kind, mm, number, step)
    });
    held.into_iter().find_map(|one| page_of(case, one))
}

/// The page of what is known, where other bytes are read because a device's write went astray or
/// was refused before.
fn after_a_stray_write(
    case: &Case<'_>,
    seen: &Seen,
    step: usize,
    came_to: StepResult,
) -> Option<PathBuf> {
    let StepResult::Saw { page, .. } = came_to else {
        return None;
    };
    let observed = case.observed.observation.steps.iter().take(step);
    // A write that came elsewhere may be read in any page, by whoever has that frame.
    let mut strays = observed
        .enumerate()
        .filter(|(_, before)| match before.result {
            StepResult::Lost { page: lost } => lost == page,
            StepResult::Astray { .. } => true,
            _ => false,
        });
    strays
        .next_back()
        .and_then(|(before, stray)| as_documented(case, seen, before, stray.result))
}

/// Whose the frame is by now that an access came to.
fn landed(case: &Case<'_>, seen: &Seen, step: usize, came_to: StepResult) -> Option<String> {
    let StepResult::Astray { page } = came_to else {
        return None;
    };
    let number = address(page) / PAGE_SIZE;
    let held = seen.reached.iter().rev().find(|one| {
        let pages = one.range.start / PAGE_SIZE..one.range.end / PAGE_SIZE;
        one.kind == Kind::Stale && one.step <= step && pages.contains(&number)
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
