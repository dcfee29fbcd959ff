// SPDX-License-Identifier: GPL-2.0-only
//! Where a kernel is documented to be wrong, being so is what is expected of it.

use super::case::{Case, Check};
use super::lost::{Lost, documented, is_met, lost};
use crate::finding::{Block, Finding};
use crate::outcome::Outcome;

pub(super) const CHECK: Check = Check {
    name: "known",
    predicts: true,
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
    // What may not have been notified may be what is known. What a device reaches is judged by
    // the device check: a notification that came before the step ended came too late for it.
    let predicted = case.prediction.is_some_and(|all| all.unpredicted.is_none());
    let reached = match case.observed.device.as_ref() {
        Some(device) => !device.reached.is_empty(),
        None => !predicted,
    };
    if !supposed.is_empty() || reached {
        return Some(Vec::new());
    }
    let why = format!(
        "the documented bug no longer reproduces: {}",
        page.display()
    );
    let revise = vec![
        "the kernel that was known to be wrong here notified all that was lost".to_owned(),
        format!("the page has to be revised: {}", page.display()),
    ];
    let finding = Finding::new(CHECK.name, Outcome::NotReproduced, why)
        .with(Block::Text(revise))
        .with(Block::Page(page));
    Some(vec![finding])
}
