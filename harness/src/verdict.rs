// SPDX-License-Identifier: GPL-2.0-only
//! What a scenario came to, with all that was found.

use crate::callers::Callers;
use crate::finding::Finding;
use crate::observe::Observation;
use crate::outcome::Outcome;
use crate::scenario::Scenario;
use crate::together::Orders;
use reference_model::{Prediction, Unpredicted};
use std::sync::Arc;
use std::time::Duration;

/// A scenario and what it came to.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Which.
    pub scenario: Arc<Scenario>,
    /// What was found, in the order of looking; nothing if all agree.
    pub findings: Vec<Finding>,
    /// The checks that it was judged by: those that had something to look at.
    pub checks: Vec<&'static str>,
    /// What the model expects, if it was asked.
    pub prediction: Option<Prediction>,
    /// What the kernel did, if it was observed.
    pub observation: Option<Observation>,
    /// In which order steps were done that were begun together, in all runs.
    pub orders: Orders,
    /// Who called `tlbflush.c`.
    pub callers: Callers,
    /// Calls into `tlbflush.c` that layer 1 checked.
    pub checked: u64,
    /// How often it was run.
    pub runs: u32,
    /// How long all runs took.
    pub elapsed: Duration,
}

impl Verdict {
    /// Nothing found yet.
    pub fn new(scenario: &Arc<Scenario>) -> Verdict {
        Verdict {
            scenario: Arc::clone(scenario),
            findings: Vec::new(),
            checks: Vec::new(),
            prediction: None,
            observation: None,
            orders: Orders::new(),
            callers: Callers::default(),
            checked: 0,
            runs: 1,
            elapsed: Duration::ZERO,
        }
    }

    /// The first step that the model does not speak for, if there is one.
    pub fn unpredicted(&self) -> Option<Unpredicted> {
        self.prediction.as_ref()?.unpredicted
    }

    /// The worst that was found.
    pub fn outcome(&self) -> Outcome {
        self.worst()
            .map_or(Outcome::Agree, |finding| finding.outcome)
    }

    /// What the outcome is of: the first of the worst findings.
    pub fn worst(&self) -> Option<&Finding> {
        let worst = self.findings.iter().map(|finding| finding.outcome).max()?;
        self.findings
            .iter()
            .find(|finding| finding.outcome == worst)
    }

    /// What it has in common with other failures: the first cause that a check tells.
    pub fn cause(&self) -> Option<&str> {
        let mut causes = self.findings.iter();
        causes.find_map(|finding| finding.cause.as_deref())
    }
}
