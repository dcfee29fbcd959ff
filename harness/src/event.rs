// SPDX-License-Identifier: GPL-2.0-only
//! What happens in a run, for whoever tells of it. All reporters are fed the same events and
//! give nothing back.

use crate::history::changes::Changes;
use crate::outcome::{EXIT_INTERRUPTED, Outcome};
use crate::verdict::Verdict;
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Something happened that is worth telling.
#[derive(Clone, Debug)]
pub enum Event {
    /// These files are no scenarios, for these reasons; nothing is run.
    Invalid(Vec<(PathBuf, String)>),
    /// A run begins.
    Started(Box<Start>),
    /// What is being done that takes a while: a guest boots, …
    Progress(String),
    /// Something that the user should know and that changes no verdict.
    Note(String),
    /// A scenario has its verdict; these come in the order of the scenarios.
    Judged(Box<Verdict>),
    /// The run on a kernel has ended.
    Finished(Summary),
    /// All runs have, where there were several kernels: what each came to.
    AllFinished(Vec<(String, Summary)>),
    /// What a run changed against those before it, where these are kept.
    Changed(Box<Changes>),
}

/// What is going to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// The run's own name, which no other run has.
    pub id: String,
    /// When it began.
    pub began: DateTime<Utc>,
    /// On which machine, by the name that its results are kept under.
    pub board: String,
    /// Results of the same line of kernels are compared with each other.
    pub line: String,
    /// How many scenarios.
    pub scenarios: usize,
    /// Their names, in the order of telling.
    pub names: Vec<String>,
    /// How many kernels are run on, one after the other.
    pub runs: usize,
    /// `guest`, `recorded` or `board`.
    pub backend: &'static str,
    /// The real secondary MMU, and its policy: `iommu leaf`.
    pub secondary: Option<String>,
    /// Which kernel.
    pub kernel: String,
    /// The model's profile.
    pub profile: &'static str,
    /// One of several kernels.
    pub several: bool,
    /// How one scenario is run again on this kernel.
    pub rerun: Rerun,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many scenarios came to what.
    pub counts: BTreeMap<Outcome, usize>,
    /// Scenarios that were not come to.
    pub not_run: usize,
    /// Why the run ended early, if it did.
    pub stopped: Option<String>,
    /// Ctrl-C ended it.
    pub interrupted: bool,
    /// Calls into `tlbflush.c` that layer 1 checked.
    pub checked: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// Until the first verdict.
    pub first_verdict: Option<Duration>,
}

impl Summary {
    /// The worst outcome.
    pub fn worst(&self) -> Outcome {
        let worst = self.counts.keys().next_back().copied();
        let worst = worst.unwrap_or(Outcome::Agree);
        if self.not_run > 0 {
            worst.max(Outcome::CouldNotRun)
        } else {
            worst
        }
    }

    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        if self.interrupted {
            EXIT_INTERRUPTED
        } else {
            self.worst().exit_code()
        }
    }
}

/// Whatever prints.
pub trait Reporter {
    /// Tells of an event.
    ///
    /// # Errors
    /// The output cannot be written to.
    fn tell(&mut self, event: &Event) -> io::Result<()>;

    /// All is told.
    ///
    /// # Errors
    /// The output cannot be written to.
    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The command that runs just one scenario again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rerun {
    /// The program and its options, without the scenario.
    pub command: Vec<String>,
}

impl Rerun {
    /// As a line for a shell.
    pub fn line(&self, verdict: &Verdict) -> String {
        let path = verdict.scenario.path.display().to_string();
        let words = self.command.iter().chain(std::iter::once(&path));
        let quoted = words.map(|word| shlex::try_quote(word).unwrap_or_else(|_| word.into()));
        quoted.collect::<Vec<_>>().join(" ")
    }
}
