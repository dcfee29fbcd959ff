// SPDX-License-Identifier: GPL-2.0-only
//! Whether secondary MMUs were notified of all pages that lost their mapping, a right or their
//! frame, before the step ended.
//!
//! What was lost is known from the model. It speaks for the kernel as long as that did the
//! same, step by step; after that it is a guess, and so it is of a release that the model was
//! not read for. No kernel is accused on a guess.

use super::case::{Case, Check};
use super::documented::page_of_lost;
use super::lost::{Lost, is_met, lost};
use crate::finding::{Block, Finding, Uncovered};
use crate::outcome::Outcome;
use crate::reading::Reading;
use std::collections::BTreeMap;
use std::path::PathBuf;

pub(super) const CHECK: Check = Check {
    name: "coverage",
    predicts: true,
    judge,
};

fn judge(case: &Case<'_>) -> Option<Vec<Finding>> {
    let Lost { certain, supposed } = lost(case)?;
    let read = matches!(case.reading, Reading::Read);
    let (known, certain) = known(case, certain);
    let mut findings = known;
    if !certain.is_empty() && !is_met(case, &certain) {
        let (outcome, why) = match read {
            true => (
                Outcome::Unsafe,
                "unsafe: secondary MMUs were not notified of what was lost",
            ),
            false => (
                Outcome::ModelNotRead,
                "perhaps unsafe: the model was not read for this release, so that this is a guess",
            ),
        };
        findings.push(finding(outcome, why, certain));
    }
    if !supposed.is_empty() {
        let outcome = match read {
            true => Outcome::Differs,
            false => Outcome::ModelNotRead,
        };
        let why =
            "perhaps unsafe: the kernel did not do what the model expects, so that this is a guess";
        findings.push(finding(outcome, why, supposed));
    }
    Some(findings)
}

/// What pages document, and the rest. Of a guess nothing is known.
fn known(case: &Case<'_>, certain: Vec<Uncovered>) -> (Vec<Finding>, Vec<Uncovered>) {
    let mut by_page: BTreeMap<PathBuf, Vec<Uncovered>> = BTreeMap::new();
    let mut unknown = Vec::new();
    for lost in certain {
        match page_of_lost(case, &lost) {
            Some(page) => by_page.entry(page).or_default().push(lost),
            None => unknown.push(lost),
        }
    }
    let finding = |(page, lost): (PathBuf, Vec<Uncovered>)| {
        let why = format!("known: {}", page.display());
        finding(Outcome::Known, &why, lost).with(Block::Page(page))
    };
    (by_page.into_iter().map(finding).collect(), unknown)
}

fn finding(outcome: Outcome, why: &str, lost: Vec<Uncovered>) -> Finding {
    Finding::new(CHECK.name, outcome, why).with(Block::Ranges(lost))
}
