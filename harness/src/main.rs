// SPDX-License-Identifier: GPL-2.0-only
//! `tlbdiff`: see `tlbdiff --help`, and the README.

use std::process::ExitCode;

fn main() -> ExitCode {
    tlbdiff::cli::main()
}
