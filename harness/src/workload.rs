// SPDX-License-Identifier: GPL-2.0-only
//! Any workload: the trace of a program that nobody here wrote, checked while it runs.
//!
//! Records come one by one ([`watch`]), are judged by layer 1, told to a secondary MMU ([`device`])
//! and counted ([`tally`]), and may be kept in a file ([`file`]). None of that grows with the length
//! of the trace, but the secondary MMU with what programs have mapped. Some workloads have names
//! ([`suite`]), a line each ([`lines`]), and a history ([`kept`]).

pub mod device;
pub mod file;
pub mod kept;
pub mod lines;
pub mod reduce;
pub mod report;
pub mod suite;
pub mod tally;
pub mod watch;
