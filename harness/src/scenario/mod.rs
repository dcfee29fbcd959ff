// SPDX-License-Identifier: GPL-2.0-only
//! Scenarios: from YAML to steps that are known to be well-formed.

mod actors;
mod check;
pub mod describe;
mod errors;
mod file;
pub mod find;
pub mod names;
pub mod naming;
mod requirement;

pub use check::check;
pub use errors::InputError;
pub use requirement::{Has, Requirement};

use protocol::program::{ActorKind, MemoryFile, Op};
use std::path::PathBuf;

/// A checked scenario, in pages from the arena's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The file, as named on the command line.
    pub path: PathBuf,
    /// What results are called: no other scenario of the same run is called so.
    pub name: String,
    /// Which behaviour, and why it matters.
    pub about: String,
    /// Features that it needs.
    pub requires: Vec<Requirement>,
    /// What is known of kernels that are wrong here.
    pub finding: Option<KnownFinding>,
    /// Memory files, with their names.
    pub files: Vec<(String, MemoryFile)>,
    /// Who acts; the first is the subject.
    pub actors: Vec<Actor>,
    /// Whose mm each of the mms is that there will be; the first is the subject's.
    pub mms: Vec<String>,
    /// At least one.
    pub steps: Vec<Step>,
}

/// What is known of kernels that are wrong in a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownFinding {
    /// The page that tells of it.
    pub page: PathBuf,
    /// Names of the kernels that are wrong.
    pub kernels: Vec<String>,
}

/// A process or thread that performs steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ActorKind,
    /// Hart that it is pinned to, by the scenario's own numbers.
    pub hart: u32,
}

/// One step and where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Who does it: place in [`Scenario::actors`].
    pub by: usize,
    /// What to do.
    pub op: Op,
    /// Line of the file, from 1.
    pub line: usize,
    /// That line, without white space around it.
    pub source: String,
}

/// How the actor is called that every scenario has.
pub const SUBJECT: &str = "subject";

impl Scenario {
    /// How many harts its actors are pinned to.
    pub fn harts(&self) -> u32 {
        let last = self.actors.iter().map(|actor| actor.hart).max();
        last.unwrap_or(0) + 1
    }

    /// The actor that leads an actor's process: itself, unless it is a thread.
    pub fn process_of(&self, actor: usize) -> usize {
        match self.actors.get(actor).map(|actor| actor.kind) {
            Some(ActorKind::Thread { of }) => of,
            _ => actor,
        }
    }

    /// Whose an mm is, where there are several to be told apart.
    pub fn owner(&self, mm: usize) -> Option<&str> {
        let several = self.mms.len() > 1;
        self.mms.get(mm).map(String::as_str).filter(|_| several)
    }

    /// It runs with an empty swap device, else without any.
    pub fn needs_swap(&self) -> bool {
        let swap =
            |what: &Requirement| matches!(what, Requirement::Feature(name) if name == "swap");
        self.requires.iter().any(swap)
    }

    /// What a machine lacks that it needs.
    pub fn missing(&self, has: &mut Has<'_>) -> Vec<String> {
        let lacks = |what: &Requirement| what.lacks(has);
        self.requires.iter().filter_map(lacks).collect()
    }
}
