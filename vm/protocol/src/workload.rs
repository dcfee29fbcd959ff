// SPDX-License-Identifier: GPL-2.0-only
//! A program that nobody here wrote, as the agent runs it.

use serde::{Deserialize, Serialize};

/// A command, and where it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// The program and its arguments. One without a slash is looked for among what was put there,
    /// and then in the usual folders.
    pub command: Vec<String>,
    /// It is one of the programs on the machine's disk with programs, below which it runs.
    pub programs: bool,
    /// Trace at all; else it only runs (for measuring the tracer's cost).
    pub traced: bool,
    /// Look at page tables as well, for what a secondary MMU could reach.
    pub device: bool,
    /// Records that the trace buffer holds; 0 for the module's default.
    pub buffer_records: u32,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It was killed when its time was over.
    TimedOut,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// How it ended. What it left running was killed then.
    pub exit: Exit,
    /// How long it took by the machine's clock, in nanoseconds.
    pub took_ns: u64,
    /// Records that were made.
    pub recorded: u64,
    /// Records lost for want of room.
    pub lost: u64,
    /// mms that could not be followed.
    pub unfollowed: u64,
    /// /proc/sys/kernel/tainted before and after.
    pub taint_before: u64,
    /// See `taint_before`.
    pub taint_after: u64,
    /// Warnings and worse that the kernel logged meanwhile.
    pub kernel_warnings: Vec<String>,
}
