// SPDX-License-Identifier: GPL-2.0-only
//! A scenario that is known to be well-formed.

use super::requirement::{Has, Requirement};
use operations::{ActorKind, Program, Step, Thp};
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
    /// Linux is free in what steps do here: no two runs need be the same.
    pub varies: bool,
    /// What is done: at least one step. Harts are by the scenario's own numbers, and a step on
    /// another's process names the actor that is written there, be it a thread.
    pub program: Program,
    /// What memory files are called.
    pub files: Vec<String>,
    /// What actors are called; the first is the subject.
    pub actors: Vec<String>,
    /// Whose mm each of the mms is that there will be; the first is the subject's.
    pub mms: Vec<String>,
    /// Where each step is written.
    pub written: Vec<Written>,
    /// Which steps are the rounds of a `repeat` that has no other in it.
    pub rounds: Vec<Rounds>,
}

/// Steps that are rounds of a `repeat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounds {
    /// The first step of the first round, from 0.
    pub first: usize,
    /// Steps of each round.
    pub steps: usize,
    /// How many rounds.
    pub times: usize,
}

/// What is known of kernels that are wrong in a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownFinding {
    /// The page that tells of it.
    pub page: PathBuf,
    /// Names of the kernels that are wrong.
    pub kernels: Vec<String>,
}

/// Where a step is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Line of the file, from 1.
    pub line: usize,
    /// That line, without white space around it, and in which round of a `repeat`.
    pub source: String,
}

/// How the actor is called that every scenario has.
pub const SUBJECT: &str = "subject";

impl Scenario {
    /// How many harts its actors are pinned to.
    pub fn harts(&self) -> u32 {
        let last = self.program.actors.iter().map(|actor| actor.hart).max();
        last.unwrap_or(0) + 1
    }

    /// The actor that leads an actor's process: itself, unless it is a thread.
    pub fn process_of(&self, actor: usize) -> usize {
        match self.program.actors.get(actor).map(|actor| actor.kind) {
            Some(ActorKind::Thread { of }) => of,
            Some(ActorKind::Process { .. } | ActorKind::Fork) | None => actor,
        }
    }

    /// A step, and where it is written.
    pub fn step(&self, index: usize) -> Option<(&Step, &Written)> {
        self.program.steps.get(index).zip(self.written.get(index))
    }

    /// Whose an mm is, where there are several to be told apart.
    pub fn owner(&self, mm: usize) -> Option<&str> {
        let several = self.mms.len() > 1;
        self.mms.get(mm).map(String::as_str).filter(|_| several)
    }

    /// It runs with an empty swap device, else without any.
    pub fn needs_swap(&self) -> bool {
        self.needs("swap")
    }

    /// How many nodes its guest's memory has.
    pub fn nodes(&self) -> u32 {
        1 + u32::from(self.needs("numa"))
    }

    /// Its guest has pages of 1 GiB from its boot on, and more memory.
    pub fn gib_pages(&self) -> bool {
        self.needs("hugetlb-1g")
    }

    /// Its guest has memory that can go offline.
    pub fn movable_memory(&self) -> bool {
        self.needs("memory-hotplug")
    }

    /// Its guest has memory that a driver may take in one piece, in which most pages are.
    pub fn contiguous_memory(&self) -> bool {
        self.needs("cma")
    }

    /// Its guest has little memory.
    pub fn short_of_memory(&self) -> bool {
        self.needs("kswapd")
    }

    fn needs(&self, feature: &str) -> bool {
        let is = |what: &Requirement| matches!(what, Requirement::Feature(name) if name == feature);
        self.requires.iter().any(is)
    }

    /// What a machine lacks that it needs.
    pub fn missing(&self, has: &mut Has<'_>) -> Vec<String> {
        let lacks = |what: &Requirement| what.lacks(has);
        let thp = (self.program.thp != Thp::default()).then(Requirement::thp);
        let requires = self.requires.iter().chain(thp.iter());
        requires.filter_map(lacks).collect()
    }
}
