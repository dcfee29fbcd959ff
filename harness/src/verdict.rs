// SPDX-License-Identifier: GPL-2.0-only
//! What a scenario came to, with all that was found.

use crate::diff::{Diff, Uncovered};
use crate::layer1::Layer1Verdict;
use crate::observe::Observation;
use crate::outcome::Outcome;
use crate::reading::Hint;
use crate::scenario::Scenario;
use reference_model::{Prediction, Unpredicted};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Calls into `tlbflush.c` after which something else followed than its model does.
    Layer1(Layer1Verdict),
    /// Steps that did something else than the model of the mm core does.
    Layer2(Diff),
    /// The same, of a release that the model was not read for.
    NotRead {
        /// The model against the kernel.
        diff: Diff,
        /// What may explain it, for each step of `diff`.
        hints: Vec<Hint>,
    },
    /// Pages of which secondary MMUs were not told in time.
    Unsafe(Vec<Uncovered>),
    /// The same, if the kernel did there what the model expects; but it did something else, or
    /// is of a release that the model was not read for.
    Supposed {
        /// What was not told.
        uncovered: Vec<Uncovered>,
        /// Whether the model speaks for the kernel's release.
        read: bool,
    },
    /// The kernel did something else than the accepted snapshot says.
    SnapshotChanged {
        /// Accepted against observed.
        diff: Diff,
        /// What is proposed instead.
        pending: Option<PathBuf>,
    },
    /// There is no accepted snapshot.
    SnapshotNew {
        /// What is proposed.
        pending: Option<PathBuf>,
    },
    /// Repeated runs did not come to the same.
    Varies {
        /// How often each result came, the most frequent first.
        counts: Vec<u32>,
        /// The most frequent against the next.
        diff: Diff,
    },
    /// Oops, panic, splat or hang.
    KernelCrashed {
        /// What happened, in a line.
        what: String,
        /// What the kernel said about it.
        log: Vec<String>,
    },
    /// The program that replays the steps died of its own memory, which the kernel keeps.
    ProgramCorrupted {
        /// What happened, in a line.
        what: String,
        /// What the kernel said about it.
        log: Vec<String>,
    },
    /// No statement about the kernel could be had.
    CouldNotRun {
        /// Why, and what to do.
        why: String,
    },
    /// The kernel is known to be wrong here, and is so.
    Known {
        /// The page that tells of it.
        page: PathBuf,
        /// What was not told.
        uncovered: Vec<Uncovered>,
    },
    /// The kernel was known to be wrong here, and is so no more.
    Gone {
        /// The page that tells of it.
        page: PathBuf,
    },
    /// Something that the scenario requires is missing.
    Skipped {
        /// What.
        why: String,
    },
}

impl Finding {
    /// What it makes of the scenario.
    pub fn outcome(&self) -> Outcome {
        match self {
            Finding::Layer1(_) | Finding::Layer2(_) | Finding::Supposed { read: true, .. } => {
                Outcome::Differs
            }
            Finding::NotRead { .. } | Finding::Supposed { read: false, .. } => {
                Outcome::ModelNotRead
            }
            Finding::Unsafe(_) => Outcome::Unsafe,
            Finding::SnapshotChanged { .. } => Outcome::SnapshotChanged,
            Finding::SnapshotNew { .. } => Outcome::SnapshotNew,
            Finding::Varies { .. } => Outcome::Varies,
            Finding::ProgramCorrupted { .. } => Outcome::ProgramCorrupted,
            Finding::KernelCrashed { .. } => Outcome::KernelCrashed,
            Finding::CouldNotRun { .. } => Outcome::CouldNotRun,
            Finding::Known { .. } => Outcome::Known,
            Finding::Gone { .. } => Outcome::FindingGone,
            Finding::Skipped { .. } => Outcome::Skipped,
        }
    }
}

/// A scenario and what it came to.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Which.
    pub scenario: Arc<Scenario>,
    /// What was found, in the order of looking; nothing if all agree.
    pub findings: Vec<Finding>,
    /// What the model expects, if it was asked.
    pub prediction: Option<Prediction>,
    /// What the kernel did, if it was observed.
    pub observation: Option<Observation>,
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
            prediction: None,
            observation: None,
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
        let found = self.findings.iter().map(Finding::outcome);
        found.max().unwrap_or(Outcome::Agree)
    }
}
