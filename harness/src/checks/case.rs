// SPDX-License-Identifier: GPL-2.0-only
//! What a check gets, and what it is.

use crate::backend::{Observed, Subject};
use crate::finding::Finding;
use crate::reading::Reading;
use crate::scenario::Scenario;
use crate::snapshot::Set;
use reference_model::{Prediction, Profile, Tables};

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
    /// What the model expects page tables to hold after each step.
    pub tables: Option<&'a Tables>,
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
    /// It judges by what the model expects of the steps.
    pub predicts: bool,
    /// What it finds; none where the case has nothing that it could look at.
    pub judge: fn(&Case<'_>) -> Option<Vec<Finding>>,
}
