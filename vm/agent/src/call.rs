// SPDX-License-Identifier: GPL-2.0-only
//! How this program is called, by what it is to be: the first word on its command line.

/// A process that performs steps.
pub const ACTOR: &str = "actor";
/// Serves on its standard input and output, on a machine that others use.
pub const SERVE: &str = "board";
/// Undoes what an earlier run left behind there.
pub const RESTORE: &str = "restore";
