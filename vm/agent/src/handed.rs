// SPDX-License-Identifier: GPL-2.0-only
//! What the agent hands down to its actors, and what they tell it.

use anyhow::{Context, Result};
use protocol::Run;
use serde::{Deserialize, Serialize};
use std::os::fd::RawFd;

/// What an actor goes by.
#[derive(Serialize, Deserialize)]
pub struct Script {
    /// What is to be done.
    pub run: Run,
    /// With what.
    pub handed: Handed,
    /// The subject has to kill itself after its first step (a test of the harness).
    pub kill_subject: bool,
}

/// Descriptors that the agent hands down, by number; -1 for none. And a process.
#[derive(Clone, Serialize, Deserialize)]
pub struct Handed {
    /// The open trace.
    pub tracer: RawFd,
    /// The cgroup's cgroup.procs.
    pub procs: RawFd,
    /// The cgroup.procs of the cgroup above.
    pub outside: RawFd,
    /// The cgroup's memory.reclaim.
    pub reclaim: RawFd,
    /// The cgroup's memory.max.
    pub memory_max: RawFd,
    /// The cgroup's memory.high.
    pub memory_high: RawFd,
    /// The cgroup's cpu.stat, of which a read flushes statistics.
    pub stat: RawFd,
    /// A pipe: [`Rung`]s for the agent.
    pub bell: RawFd,
    /// The device behind an IOMMU.
    pub iommu: RawFd,
    /// khugepaged's pid; 0 for none.
    pub khugepaged: i32,
    /// kswapd's pid, where a step has it work; else 0.
    pub kswapd: i32,
    /// What shows how much of each disk is being read or written (`inflight`), of those that the
    /// program has files on.
    pub disks: Vec<RawFd>,
    /// The program's memory files.
    pub files: Vec<RawFd>,
}

impl Handed {
    /// Moves the calling process to where no program's memory is charged.
    pub fn leave_cgroup(&self) -> Result<()> {
        write_all(self.outside, b"0").context("cannot leave the cgroup")
    }

    /// Has what is executed next inherit them, and another one.
    pub fn keep_over_exec(&self, other: RawFd) {
        let fixed = [
            self.tracer,
            self.procs,
            self.outside,
            self.reclaim,
            self.memory_max,
            self.memory_high,
            self.stat,
            self.bell,
            self.iommu,
            other,
        ];
        let others = self.files.iter().chain(&self.disks);
        let all = fixed.iter().chain(others).filter(|fd| **fd >= 0);
        for fd in all {
            // SAFETY: only clears the close-on-exec flag.
            unsafe { libc::fcntl(*fd, libc::F_SETFD, 0) };
        }
    }
}

/// What an actor tells the agent by the bell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// This actor was forked.
    Born(usize),
    /// This one is about to exit.
    Exits(usize),
    /// All steps are done.
    Done,
}

impl Rung {
    /// Bytes of one.
    pub const SIZE: usize = 8;

    pub fn to_bytes(self) -> [u8; Rung::SIZE] {
        let number = match self {
            Rung::Born(actor) => actor as u64 * 2,
            Rung::Exits(actor) => actor as u64 * 2 + 1,
            Rung::Done => u64::MAX,
        };
        number.to_ne_bytes()
    }

    /// What the bytes say.
    pub fn from_bytes(bytes: [u8; Rung::SIZE]) -> Rung {
        let number = u64::from_ne_bytes(bytes);
        if number == u64::MAX {
            return Rung::Done;
        }
        let actor = (number / 2) as usize;
        if number % 2 == 0 {
            Rung::Born(actor)
        } else {
            Rung::Exits(actor)
        }
    }
}

/// Writes all of a short text.
///
/// # Errors
/// The kernel takes less.
pub fn write_all(fd: RawFd, text: &[u8]) -> Result<()> {
    // SAFETY: writes from a valid buffer.
    let written = unsafe { libc::write(fd, text.as_ptr().cast(), text.len()) };
    if written != text.len() as isize {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(())
}
