// SPDX-License-Identifier: GPL-2.0-only
//! Where a kernel is documented to be wrong, being so is what is expected of it.

use super::coverage::{Lost, lost};
use super::{Case, Check};
use crate::finding::{Block, Finding, Side, Uncovered};
use crate::outcome::Outcome;
use crate::scenario::KnownFinding;

pub(super) const CHECK: Check = Check {
    name: "known",
    judge,
};

fn judge(case: &Case<'_>) -> Option<Vec<Finding>> {
    let page = documented(case)?.page.clone();
    let Lost { certain, supposed } = lost(case)?;
    if is_met(case, &certain) {
        let why = format!("known: {}", page.display());
        let finding = Finding::new(CHECK.name, Outcome::Known, why)
            .with(Block::Ranges(certain))
            .with(Block::Page(page));
        return Some(vec![finding]);
    }
    // What may not have been notified may be what is known, and where nothing is predicted
    // nothing can be said.
    let predicted = case.prediction.is_some_and(|all| all.unpredicted.is_none());
    if !predicted || !supposed.is_empty() {
        return Some(Vec::new());
    }
    let why = format!("not wrong any more: {}", page.display());
    let revise = vec![
        "the kernel that was known to be wrong here told everything".to_owned(),
        format!("the page has to be revised: {}", page.display()),
    ];
    let finding = Finding::new(CHECK.name, Outcome::FindingGone, why)
        .with(Block::Text(revise))
        .with(Block::Page(page));
    Some(vec![finding])
}

/// What is known of this kernel in this scenario.
fn documented<'a>(case: &Case<'a>) -> Option<&'a KnownFinding> {
    let finding = case.scenario.finding.as_ref()?;
    let of_it = finding.kernels.iter().any(|kernel| kernel == case.kernel);
    of_it.then_some(finding)
}

/// Whether the kernel is wrong as is known of it.
pub(super) fn is_met(case: &Case<'_>, certain: &[Uncovered]) -> bool {
    let by_kernel = |lost: &Uncovered| lost.side == Side::Kernel;
    documented(case).is_some() && certain.iter().any(by_kernel)
}
