// SPDX-License-Identifier: GPL-2.0-only
//! What is judged, as a list. Each check is a file and a line of [`CHECKS`]: a pure function
//! from a [`Case`] to what it found. Nothing else has to know of it.

mod coverage;
mod kernel;
mod known;
mod layer1;
mod layer2;
mod snapshot;
pub mod variation;

pub use coverage::{model_told, same_steps, uncovered};

use crate::backend::{Observed, Subject};
use crate::finding::Finding;
use crate::reading::Reading;
use crate::scenario::Scenario;
use crate::snapshot::Set;
use reference_model::{Prediction, Profile};

/// A scenario that was run: all that a check may look at.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// What it was run on.
    pub subject: &'a Subject,
    /// The kernel's name.
    pub kernel: &'a str,
    /// The model's kernel.
    pub profile: &'static Profile,
    /// Whether that was read for the kernel's release.
    pub reading: &'a Reading,
    /// What the model expects; none where it was not asked.
    pub prediction: Option<&'a Prediction>,
    /// What the kernel did.
    pub observed: &'a Observed,
    /// Which accepted snapshots it is compared with; none for no comparison.
    pub snapshots: Option<&'a Set>,
}

/// One judgement.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Its name in results.
    pub name: &'static str,
    /// What it finds; none where the case has nothing that it could look at.
    pub judge: fn(&Case<'_>) -> Option<Vec<Finding>>,
}

/// All judgements of one run, in the order of telling. What varies between runs is judged when
/// all are there ([`variation`]).
pub const CHECKS: &[Check] = &[
    kernel::CHECK,
    layer1::CHECK,
    layer2::CHECK,
    coverage::CHECK,
    known::CHECK,
    snapshot::CHECK,
];

/// What all checks find, and which of them had something to look at.
pub fn judge(case: &Case<'_>) -> (Vec<Finding>, Vec<&'static str>) {
    let (mut findings, mut names) = (Vec::new(), Vec::new());
    for check in CHECKS {
        if let Some(found) = (check.judge)(case) {
            findings.extend(found);
            names.push(check.name);
        }
    }
    (findings, names)
}

#[cfg(test)]
mod tests {
    use super::CHECKS;

    #[test]
    fn checks_have_names_of_their_own() {
        let mut names: Vec<&str> = CHECKS.iter().map(|check| check.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CHECKS.len());
    }
}
