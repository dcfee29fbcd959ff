// SPDX-License-Identifier: GPL-2.0-only
//! What a real IOMMU still held after each step, and what accesses of the device behind it came
//! to. A second opinion: where it finds something that the device check does not, one of the
//! two is wrong, and that is told too.

use super::case::{Case, Check};
use super::device::{documented_pages, outcome_of};
use super::{documented, lost};
use crate::device::Reached;
use crate::finding::{Block, Finding};
use crate::iommu::{Seen, covers};
use crate::outcome::Outcome;
use crate::scenario::describe::operation;
use operations::PAGE_SIZE;
use protocol::Policy;
use secondary_mmu::Reading;
use std::path::PathBuf;

mod accesses;
mod deviations;

pub(super) const CHECK: Check = Check {
    name: "iommu",
    predicts: false,
    judge,
};

fn judge(case: &Case<'_>) -> Option<Vec<Finding>> {
    let seen = case.observed.iommu.as_ref()?;
    let mut findings = held(case, seen);
    findings.extend(disagreement(case, seen));
    findings.extend(accesses::judge(case, seen));
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
        let of_it = |one: &&Reached| outcome_of(one.reading, one.kind) == outcome;
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
    let why = deviates_by(seen, what);
    let reached = deviating.into_iter().map(|(_, one)| one).collect();
    Some(
        Finding::new(CHECK.name, Outcome::Known, why)
            .with(Block::Text(vec![format!("confirmed by {confirmed_by}")]))
            .with(Block::Reached(reached))
            .with(Block::Page(PathBuf::from(PAGE))),
    )
}

/// Where deviations are explained.
const PAGE: &str = "harness/IOMMU.md";

fn deviates_by(seen: &Seen, what: &str) -> String {
    format!("known: QEMU {} deviates: {what}", seen.setting.qemu)
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
