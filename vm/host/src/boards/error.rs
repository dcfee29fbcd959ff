// SPDX-License-Identifier: GPL-2.0-only
//! What can go wrong with a board, told apart by whose fault it is.

use crate::error::VmError;
use crate::guest::Fault;
use std::time::Duration;
use thiserror::Error;

/// Why a board did not do what was asked of it.
#[derive(Debug, Error)]
pub enum BoardError {
    /// It came back with another boot while it had something to do.
    #[error("the board rebooted while {during}: its kernel crashed, or its power failed")]
    Rebooted {
        /// What was under way.
        during: &'static str,
    },
    /// A step never returns.
    #[error("the kernel hangs: {why}")]
    KernelHung {
        /// How that is known.
        why: String,
    },
    /// There is no such program here.
    #[error("{program} cannot be started: {why}")]
    NotStarted {
        /// Which.
        program: &'static str,
        /// As the system says it.
        why: String,
    },
    /// SSH does not get there, or not in.
    #[error("{place} cannot be reached: {why}")]
    Unreachable {
        /// Which board.
        place: String,
        /// As ssh says it.
        why: String,
    },
    /// The connection was there, and ended.
    #[error("the connection to the board was lost while {during}; {then}")]
    Lost {
        /// What was under way.
        during: &'static str,
        /// What is known since.
        then: String,
    },
    /// Something takes longer than it may.
    #[error("the board has not finished `{what}` within {after:?}")]
    TimedOut {
        /// What.
        what: String,
        /// For how long.
        after: Duration,
    },
    /// The agent does not answer, and the board does.
    #[error("the agent on the board is silent: waited {after:?} while {during}")]
    Silent {
        /// What was under way.
        during: &'static str,
        /// For how long.
        after: Duration,
        /// What it said last.
        said: String,
    },
    /// It is not a machine of this kind.
    #[error("this is not RISC-V Linux but {what}")]
    OtherMachine {
        /// What it is.
        what: String,
    },
    /// The user there may not load modules.
    #[error("no rights on the board: {user} may not load a module")]
    NoRights {
        /// Who.
        user: String,
    },
    /// A disk there is full.
    #[error("no room on the board: {why}")]
    DiskFull {
        /// As the board says it.
        why: String,
    },
    /// The module cannot be built there.
    #[error("there are no headers of the board's kernel {release}")]
    NoHeaders {
        /// `uname -r`.
        release: String,
    },
    /// It was tried, and failed.
    #[error("the tracing module does not build on the board: {why}")]
    ModuleBuild {
        /// The end of what was said.
        why: String,
    },
    /// A command there failed otherwise.
    #[error("`{what}` failed on the board: {why}")]
    Failed {
        /// Which.
        what: String,
        /// What it said.
        why: String,
    },
    /// What comes from the agent is not what the protocol has.
    #[error("the agent's answer makes no sense: {why}")]
    Protocol {
        /// What is wrong with it.
        why: String,
    },
    /// Agent and harness were built from different versions.
    #[error("the agent speaks protocol version {agent}, this program version {host}")]
    Mismatch {
        /// The host's.
        host: u32,
        /// The agent's.
        agent: u32,
    },
    /// The agent ended before it had answered.
    #[error("the agent gave up: {said}")]
    AgentEnded {
        /// Its last words.
        said: String,
    },
    /// The agent could not replay the program.
    #[error("the agent could not replay the program: {why}")]
    AgentFailed {
        /// In its words.
        why: String,
    },
    /// The agent could not be built.
    #[error(transparent)]
    Provision(#[from] VmError),
    /// An earlier error left nothing to go on with.
    #[error("the board cannot be used any more: {why}")]
    Spent {
        /// That error.
        why: String,
    },
}

impl BoardError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            BoardError::Rebooted { .. } | BoardError::KernelHung { .. } => Fault::Kernel,
            _ => Fault::Run,
        }
    }

    /// Whether trying again, with another scenario, can only end the same way.
    pub fn is_lasting(&self) -> bool {
        matches!(
            self,
            BoardError::NotStarted { .. }
                | BoardError::OtherMachine { .. }
                | BoardError::NoRights { .. }
                | BoardError::NoHeaders { .. }
                | BoardError::ModuleBuild { .. }
                | BoardError::Mismatch { .. }
                | BoardError::Provision(_)
        )
    }

    /// What to do next, in one sentence.
    pub fn advice(&self) -> &'static str {
        match self {
            BoardError::Rebooted { .. } | BoardError::KernelHung { .. } => {
                "read the board's serial console, or what its pstore has kept"
            }
            BoardError::NotStarted { .. } => "install openssh-client",
            BoardError::Unreachable { .. } => {
                "try `ssh` with the same name by hand: it must log in without asking anything"
            }
            BoardError::Lost { .. } | BoardError::TimedOut { .. } => {
                "see whether the board runs; what was left there undoes `tlbdiff doctor --restore`"
            }
            BoardError::Silent { .. } => {
                "run again; what was left there undoes `tlbdiff doctor --restore`"
            }
            BoardError::OtherMachine { .. } => "name a RISC-V board, or use the guest",
            BoardError::NoRights { .. } => "log in as root: ssh:root@HOST",
            BoardError::DiskFull { .. } => "make room in /var/tmp there: about 20 MiB",
            BoardError::NoHeaders { .. } => {
                "install the headers of that very kernel: apt-get install linux-headers-$(uname -r)"
            }
            BoardError::ModuleBuild { .. } => "install make and gcc there, and see what they say",
            BoardError::Failed { .. } | BoardError::Spent { .. } => "see what the board says",
            BoardError::Protocol { .. } | BoardError::Mismatch { .. } => {
                "run again: the agent is built anew where it was changed"
            }
            BoardError::AgentEnded { .. } | BoardError::AgentFailed { .. } => {
                "see what it says; `dmesg` on the board may say more"
            }
            BoardError::Provision(_) => "see `tlbdiff doctor`",
        }
    }
}
