// SPDX-License-Identifier: GPL-2.0-only
//! What a secondary MMU could still reach after each step, by the kernel's own page tables and
//! frames. Needs no model.

use super::case::{Case, Check};
use super::{documented, lost};
use crate::device::Reached;
use crate::finding::{Block, Finding};
use crate::outcome::Outcome;
use crate::scenario::describe::operation;
use secondary_mmu::{Kind, Reading};
use std::collections::BTreeMap;
use std::path::PathBuf;

pub(super) const CHECK: Check = Check {
    name: "device",
    predicts: false,
    judge,
};

fn judge(case: &Case<'_>) -> Option<Vec<Finding>> {
    let reached = &case.observed.device.as_ref()?.reached;
    // A kernel without the patch promises nothing: there is no promise to break.
    if !case.profile.notifies_secondary {
        return None;
    }
    let mut findings = Vec::new();
    let mut unknown = Vec::new();
    for one in reached {
        // A page that documents this kernel in this scenario speaks of what devices reach.
        let page = documented::page_of(case, one)
            .or_else(|| lost::documented(case).map(|known| known.page.clone()));
        match page {
            Some(page) => findings.push((page, one.clone())),
            None => unknown.push(one.clone()),
        }
    }
    let mut findings = documented_pages(CHECK.name, findings);
    for outcome in [Outcome::Unsafe, Outcome::UnsafeByPieces, Outcome::Stuck] {
        let of_it = |one: &&Reached| outcome_of(one.reading, one.kind) == outcome;
        let reached: Vec<Reached> = unknown.iter().filter(of_it).cloned().collect();
        findings.extend(finding(case, outcome, reached));
    }
    Some(findings)
}

/// What pages document, by page.
pub(super) fn documented_pages(
    check: &'static str,
    reached: Vec<(PathBuf, Reached)>,
) -> Vec<Finding> {
    let mut by_page: BTreeMap<PathBuf, Vec<Reached>> = BTreeMap::new();
    for (page, one) in reached {
        by_page.entry(page).or_default().push(one);
    }
    let finding = |(page, reached): (PathBuf, Vec<Reached>)| {
        let why = format!("known: {}", page.display());
        Finding::new(check, Outcome::Known, why)
            .with(Block::Reached(reached))
            .with(Block::Page(page))
    };
    by_page.into_iter().map(finding).collect()
}

/// What it is that a device reaches what it must not.
pub(crate) fn outcome_of(reading: Reading, kind: Kind) -> Outcome {
    match (reading, kind) {
        (Reading::ByPiece, _) => Outcome::UnsafeByPieces,
        (Reading::ByLeaf, Kind::Narrow) => Outcome::Stuck,
        (Reading::ByLeaf, _) => Outcome::Unsafe,
    }
}

fn finding(case: &Case<'_>, outcome: Outcome, reached: Vec<Reached>) -> Option<Finding> {
    let worst = reached.iter().max_by_key(|one| one.kind)?;
    let why = match outcome {
        Outcome::Stuck => "stuck: a device's access is refused for good",
        Outcome::UnsafeByPieces => {
            "unsafe by pieces: a device that caches parts of a larger page reaches what it must not"
        }
        _ => "unsafe: a device reaches what it must not",
    };
    let step = case.scenario.program.steps.get(worst.step);
    let operation = step.map(|step| operation(case.scenario, &step.op));
    let cause = format!(
        "device: {} after {}",
        worst.kind.name(),
        operation.unwrap_or_default()
    );
    let finding = Finding::new(CHECK.name, outcome, why).because(Some(cause));
    Some(finding.with(Block::Reached(reached)))
}
