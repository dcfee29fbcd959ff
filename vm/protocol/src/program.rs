// SPDX-License-Identifier: GPL-2.0-only
//! A scenario as the agent replays it: plain numbers, nothing left to decide.

use serde::{Deserialize, Serialize};

/// A program for one fresh subject process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Memory files made before the subject's first step, by their number.
    pub files: Vec<MemoryFile>,
    /// Whether the steps need swap (the agent then gives a fresh, empty swap device).
    pub swap: bool,
    /// Who acts; the first is the subject.
    pub actors: Vec<Actor>,
    /// What they do, in order.
    pub steps: Vec<Step>,
    /// Trace the steps; without it they only run (for measuring the tracer's cost).
    pub trace: bool,
    /// Count what each step costs with so many subscribers, instead of tracing it.
    pub subscribers: Option<u32>,
    /// Records that the trace buffer holds; 0 for the module's default.
    pub buffer_records: u32,
    /// The trace buffer is not emptied while the steps run: for trying what overflows.
    pub keeps_all: bool,
}

impl Program {
    /// How many mms there are in the end.
    pub fn mms(&self) -> usize {
        let of_actors = self.actors.iter().filter_map(|actor| match actor.kind {
            ActorKind::Process { mm } => Some(mm),
            ActorKind::Thread { .. } | ActorKind::Fork => None,
        });
        let of_steps = self.steps.iter().filter_map(|step| match step.op {
            Op::Fork { mm, .. } | Op::Exec { mm } => Some(mm),
            _ => None,
        });
        of_actors.chain(of_steps).max().map_or(0, |last| last + 1)
    }
}

/// A process or thread that performs steps. Between its steps it sleeps, but for [`Op::Run`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// What it is.
    pub kind: ActorKind,
    /// Hart that it is pinned to, by Linux's number.
    pub hart: u32,
}

/// What an actor is. An mm is named by its place in [`crate::message::Report::mms`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActorKind {
    /// A process of its own, there before the first step, with this mm.
    Process {
        /// Its mm.
        mm: usize,
    },
    /// A thread of another actor's process, there before the first step.
    Thread {
        /// That actor.
        of: usize,
    },
    /// Made by an [`Op::Fork`]. It runs for the first time on its parent's hart,
    /// and then moves to its own.
    Fork,
}

/// One step: who does what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Place in [`Program::actors`].
    pub by: usize,
    /// What.
    pub op: Op,
}

/// A memfd that the subject's mappings name by its place in [`Program::files`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryFile {
    /// Size in pages.
    pub pages: u64,
    /// Filled with data beforehand, so that every page is in the page cache.
    pub filled: bool,
    /// Mapped through a descriptor opened read-only.
    pub read_only: bool,
    /// Bits of `F_SEAL_*`, set after filling.
    pub seals: u32,
}

/// An operation. `at`, `pages` and `offset` are in pages, `at` from the arena's start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// `mmap(at, pages, prot, flags, file, offset)`.
    Mmap {
        /// First page.
        at: u64,
        /// Length.
        pages: u64,
        /// Bits of `PROT_*`.
        prot: i32,
        /// Bits of `MAP_*`, whole (MAP_FIXED included).
        flags: i32,
        /// Place in [`Program::files`], or none for anonymous memory.
        file: Option<usize>,
        /// Offset in the file.
        offset: u64,
    },
    /// `munmap(at, pages)`.
    Munmap {
        /// First page.
        at: u64,
        /// Length.
        pages: u64,
    },
    /// `mprotect(at, pages, prot)`.
    Mprotect {
        /// First page.
        at: u64,
        /// Length.
        pages: u64,
        /// Bits of `PROT_*`.
        prot: i32,
    },
    /// `madvise(at, pages, advice)`.
    Madvise {
        /// First page.
        at: u64,
        /// Length.
        pages: u64,
        /// `MADV_*`.
        advice: i32,
    },
    /// One byte of every `every`th page is read or written, in ascending order.
    Touch {
        /// First page.
        at: u64,
        /// Length.
        pages: u64,
        /// Distance between touched pages, at least 1.
        every: u64,
        /// Write instead of read.
        write: bool,
    },
    /// The subject's cgroup is told to reclaim that many pages (`memory.reclaim`).
    Reclaim {
        /// How many pages to ask for.
        pages: u64,
    },
    /// `fork()`: an actor of the kind [`ActorKind::Fork`] comes to life.
    Fork {
        /// That actor.
        child: usize,
        /// Its mm.
        mm: usize,
    },
    /// `exit_group()` of a process, `exit()` of a thread. The step ends when it is gone.
    Exit,
    /// `execve()` of the replaying program itself: the actor goes on with a new mm.
    Exec {
        /// That mm.
        mm: usize,
    },
    /// The actor runs in user mode, touching nothing, until its next step.
    Run,
    /// `ftruncate()`.
    Ftruncate {
        /// Place in [`Program::files`].
        file: usize,
        /// The new size.
        pages: u64,
    },
    /// `fallocate()` with `FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE`.
    PunchHole {
        /// Place in [`Program::files`].
        file: usize,
        /// First page in the file.
        offset: u64,
        /// Length.
        pages: u64,
    },
    /// `process_madvise()` of one range.
    ProcessMadvise {
        /// The actor on whose process it acts.
        of: usize,
        /// First page.
        at: u64,
        /// Length.
        pages: u64,
        /// `MADV_*`.
        advice: i32,
    },
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepResult {
    /// It succeeded.
    Ok,
    /// The call was refused with this errno.
    Errno(i32),
    /// A touch was answered with a signal (SIGSEGV 11, SIGBUS 7) at this page of the arena.
    Signal {
        /// The signal's number.
        signal: i32,
        /// The page touched, from the arena's start.
        page: u64,
    },
    /// Not done: the fork that would have made its actor was refused.
    Unborn,
}
