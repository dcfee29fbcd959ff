// SPDX-License-Identifier: GPL-2.0-only
//! Messages over the agent's channel: the host asks, the agent answers in order.

use crate::run::Run;
use crate::workload::{Ran, Workload};
use operations::StepResult;
use serde::{Deserialize, Serialize};

/// From the host to the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// First of a conversation; answered by [`Reply::Ready`].
    Hello {
        /// The host's [`crate::PROTOCOL_VERSION`].
        version: u32,
    },
    /// Replay a program with fresh actors; answered by any number of
    /// [`Reply::Trace`], then one [`Reply::Done`] or [`Reply::Failed`].
    Run {
        /// Repeated in the answers.
        id: u64,
        /// What to replay.
        run: Box<Run>,
        /// After this long the actors are killed and the run has failed.
        timeout_ms: u64,
    },
    /// Put a piece of a file where commands find it; answered by [`Reply::Put`] or
    /// [`Reply::Failed`].
    Put {
        /// Repeated in the answer.
        id: u64,
        /// The file's name, without a folder.
        name: String,
        /// The file is made anew by this piece.
        first: bool,
        /// The piece.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// Run a command; answered by any number of [`Reply::Trace`] and [`Reply::Said`], then one
    /// [`Reply::Ran`] or [`Reply::Failed`].
    Observe {
        /// Repeated in the answers.
        id: u64,
        /// What to run.
        workload: Workload,
        /// After this long it is killed.
        timeout_ms: u64,
    },
    /// Break something on purpose: for the tests of the harness.
    Sabotage(Sabotage),
    /// Power the guest off.
    Poweroff,
}

/// Faults that the tests ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sabotage {
    /// The kernel panics (by sysrq).
    Panic,
    /// The agent stops answering.
    Hang,
    /// The next subject kills itself after its first step.
    KillSubject,
    /// The agent panics or exits.
    Die,
    /// The IOMMU is sent what is no command, at which its queue stops.
    StopIommu,
}

/// From the agent to the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Answer to [`Request::Hello`].
    Ready {
        /// The agent's [`crate::PROTOCOL_VERSION`].
        version: u32,
        /// What this machine is and has.
        system: System,
    },
    /// A piece of the trace: whole records, [`crate::Record::SIZE`] bytes each.
    Trace {
        /// The run it belongs to.
        id: u64,
        /// Raw records.
        #[serde(with = "serde_bytes")]
        records: Vec<u8>,
    },
    /// The program has been replayed to its end, or an actor died on the way.
    Done {
        /// The run it belongs to.
        id: u64,
        /// What came of it.
        report: Report,
    },
    /// The program could not be replayed: no statement about the kernel.
    Failed {
        /// The run it belongs to.
        id: u64,
        /// What happened, where, in one line.
        why: String,
    },
    /// The piece of a file is there.
    Put {
        /// The request it answers.
        id: u64,
    },
    /// A command says something.
    Said {
        /// The command it belongs to.
        id: u64,
        /// What.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// A command has ended.
    Ran {
        /// Which.
        id: u64,
        /// What came of it.
        ran: Ran,
    },
    /// A step did not return in time and its actor cannot be killed, though
    /// the agent is well: the kernel hangs. This guest is of no more use.
    Stuck {
        /// The run it belongs to.
        id: u64,
        /// The step, from 0.
        step: u64,
        /// What is known about it (the actor's kernel stack, say), in one line.
        why: String,
    },
}

/// What the agent found out about its machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    /// `uname -r`.
    pub release: String,
    /// Harts online.
    pub harts: u32,
    /// The MMU mode (`sv39`, `sv48`, `sv57`), as /proc/cpuinfo has it.
    pub mmu: String,
    /// `fault_around_bytes`.
    pub fault_around_bytes: u64,
    /// `use_asid_allocator`: mms have ASIDs.
    pub asids: bool,
    /// Remote fences go by SBI; else by IPI.
    pub sbi_rfence: bool,
    /// `totalram_pages()`: what the kernel thinks it can promise, in pages.
    pub ram_pages: u64,
    /// What programs can have of it without taking it from others (MemAvailable), in pages.
    pub free_pages: u64,
    /// How functions are hooked: `kprobes`, `ftrace`, or both.
    pub tracing: String,
    /// CONFIG_SPARSEMEM: migration entries have room for accessed and dirty bits.
    pub sparsemem: bool,
    /// Names of what it has, as scenarios may require it: `swap`, `svadu`, `sv48`, …
    pub features: Vec<String>,
}

/// What was counted in a step, without what counting itself costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The hart's cycles; 0 where it does not tell.
    pub cycles: u64,
    /// The hart's instructions; 0 where it does not tell.
    pub instructions: u64,
    /// By the kernel's clock.
    pub nanoseconds: u64,
    /// Calls of subscribers' callbacks.
    pub calls: u64,
}

/// What came of a replayed program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// One for each step that was finished.
    pub steps: Vec<StepResult>,
    /// How long each finished step took by the guest's clock, in nanoseconds.
    pub step_ns: Vec<u64>,
    /// What was counted in each finished step, where [`Tracing::subscribers`](crate::Tracing) asks for it.
    pub step_counts: Vec<Count>,
    /// The signal that ended an actor before its last step, if one did.
    pub killed_by: Option<i32>,
    /// The mms that there were, as records name them; 0 for one that was not made.
    pub mms: Vec<u64>,
    /// The actors' thread ids; 0 for one that was not made.
    pub pids: Vec<i32>,
    /// Records that were made.
    pub recorded: u64,
    /// Records lost for want of room.
    pub lost: u64,
    /// /proc/sys/kernel/tainted before and after.
    pub taint_before: u64,
    /// See `taint_before`.
    pub taint_after: u64,
    /// Pages that the kernel looked at to free memory of the whole machine, which it does
    /// where that runs short. Asked only where a program has much memory.
    pub scanned: u64,
    /// Warnings and worse that the kernel logged during the run.
    pub kernel_warnings: Vec<String>,
}
