// SPDX-License-Identifier: GPL-2.0-only
//! What can go wrong with a guest, told apart by whose fault it is.

use std::{io, time::Duration};
use thiserror::Error;

/// The oldest QEMU that saves a guest in a file that restores fast (`mapped-ram`).
pub const OLDEST_QEMU: (u64, u64) = (9, 0);

/// Whether an error says something about the kernel under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The kernel crashed or hangs: a finding.
    Kernel,
    /// The program could not be run: no statement about the kernel.
    Run,
}

/// Why a guest did not do what was asked of it.
#[derive(Debug, Error)]
pub enum GuestError {
    /// An oops, a panic, a lockdep or sanitizer splat.
    #[error("the kernel crashed: {line}")]
    KernelCrashed {
        /// The console's line that says so.
        line: String,
        /// The console from there on.
        console: String,
    },
    /// A step never returns, or the kernel runs in circles or says that it is stuck.
    #[error("the kernel hangs: {evidence}")]
    KernelHung {
        /// How that is known.
        evidence: String,
        /// The console's end.
        console: String,
    },
    /// There is no QEMU for riscv64.
    #[error("there is no `{program}` in PATH")]
    NoQemu {
        /// What was looked for.
        program: String,
    },
    /// QEMU is there and cannot be started.
    #[error("QEMU cannot be started: {0}")]
    NotStarted(#[source] io::Error),
    /// QEMU is older than [`OLDEST_QEMU`].
    #[error("QEMU {found} is too old: {}.{} or later is needed", OLDEST_QEMU.0, OLDEST_QEMU.1)]
    QemuTooOld {
        /// What it says it is.
        found: String,
    },
    /// The QEMU process ended though nobody asked it to.
    #[error("QEMU died while waiting for {during}: {how}")]
    QemuDied {
        /// What was being waited for.
        during: &'static str,
        /// Exit status or signal, and its last words.
        how: String,
        /// The console's end.
        console: String,
    },
    /// QEMU's control channel failed, or a command was refused.
    #[error("QEMU's control channel: {why}")]
    Qmp {
        /// What happened.
        why: String,
    },
    /// The guest never got as far as the agent.
    #[error("the guest did not boot: {why}")]
    BootFailed {
        /// What happened.
        why: String,
        /// The console's end.
        console: String,
    },
    /// The agent does not answer, and the kernel seems well.
    #[error("the agent is silent: waited {after:?} for {during}; {evidence}")]
    AgentSilent {
        /// What was being waited for.
        during: &'static str,
        /// For how long.
        after: Duration,
        /// What the rest of the machine was doing.
        evidence: String,
        /// The console's end.
        console: String,
    },
    /// The agent ended; it is the guest's only program, so the guest ended with it.
    #[error("the agent died: {line}")]
    AgentDied {
        /// The console's line that says so.
        line: String,
        /// The console's end.
        console: String,
    },
    /// The program asked for more memory than there is: the kernel gave up, or it could not
    /// be replayed in time.
    #[error("the guest's memory was used up: {line}")]
    OutOfMemory {
        /// The console's line that says so.
        line: String,
        /// The console's end.
        console: String,
    },
    /// What came from the agent is not what the protocol has.
    #[error("the agent's answer makes no sense: {why}")]
    Protocol {
        /// What is wrong with it.
        why: String,
        /// The console's end.
        console: String,
    },
    /// Host and agent were built from different versions of the protocol.
    #[error("the agent speaks protocol version {agent}, this program version {host}")]
    Mismatch {
        /// The host's version.
        host: u32,
        /// The agent's version.
        agent: u32,
    },
    /// The agent could not replay the program (tracing module refused, no memory, …).
    #[error("the agent could not replay the program: {why}")]
    AgentFailed {
        /// In the agent's words.
        why: String,
        /// The console's end.
        console: String,
    },
    /// An earlier error left the guest in no state to go on.
    #[error("the guest cannot be used any more: {why}")]
    Spent {
        /// That error.
        why: String,
    },
}

impl GuestError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            GuestError::KernelCrashed { .. } | GuestError::KernelHung { .. } => Fault::Kernel,
            _ => Fault::Run,
        }
    }

    /// The end of the console, where it may tell more; empty where it does not.
    pub fn console(&self) -> &str {
        match self {
            GuestError::KernelCrashed { console, .. }
            | GuestError::KernelHung { console, .. }
            | GuestError::QemuDied { console, .. }
            | GuestError::BootFailed { console, .. }
            | GuestError::AgentSilent { console, .. }
            | GuestError::AgentDied { console, .. }
            | GuestError::OutOfMemory { console, .. }
            | GuestError::Protocol { console, .. }
            | GuestError::AgentFailed { console, .. } => console,
            _ => "",
        }
    }

    /// What to do next, in one sentence.
    pub fn advice(&self) -> &'static str {
        match self {
            GuestError::KernelCrashed { .. } | GuestError::KernelHung { .. } => {
                "read the console's excerpt; a new guest is needed to go on"
            }
            GuestError::NoQemu { .. } => {
                "run ./vm/provision, or install qemu-system-misc (Debian 13: qemu-system-riscv)"
            }
            GuestError::NotStarted(_) => "check that the QEMU found first in PATH can be run",
            GuestError::QemuTooOld { .. } => {
                "run ./vm/provision; on Debian 12 it takes QEMU from bookworm-backports"
            }
            GuestError::QemuDied { .. } => {
                "if nobody killed it: look for the out-of-memory killer in the host's `dmesg`, \
                 or run fewer guests at once"
            }
            GuestError::Qmp { .. } => "run again; if it stays, report it with the version of QEMU",
            GuestError::BootFailed { .. } => {
                "read the console's end; if kernel or module were changed, run ./vm/provision"
            }
            GuestError::AgentSilent { .. } | GuestError::AgentDied { .. } => {
                "run again; if it stays, read the console's end: the agent is at fault"
            }
            GuestError::OutOfMemory { .. } => {
                "give the guest more with --memory MIB, or have the scenario take less"
            }
            GuestError::Protocol { .. } | GuestError::Mismatch { .. } => {
                "run ./vm/provision: agent and harness were built from different versions"
            }
            GuestError::AgentFailed { .. } => {
                "if steps only take long, give them longer with --timeout SECONDS; if kernel or module \
                 were changed, run ./vm/provision; else read the console's end"
            }
            GuestError::Spent { .. } => "start a new guest",
        }
    }
}
