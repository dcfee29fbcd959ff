// SPDX-License-Identifier: GPL-2.0-only
//! From the command line to the exit code.

pub mod args;
mod commands;
mod config;
mod cost;
mod drift;
pub mod failure;
mod history;
mod interrupt;
mod manual;
mod observe;
mod paths;
mod place;
mod suite;

use args::{Cli, Command};
use clap::Parser;
use std::process::ExitCode;

/// Does what the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(args) => commands::run(args),
        Command::Compare(args) => commands::compare(&args),
        Command::Drift(args) => drift::drift(&args),
        Command::Predict(args) => commands::predict(&args),
        Command::List(args) if args.ways => paths::paths(&args),
        Command::List(args) => commands::list(&args),
        Command::Check(args) => commands::check(&args),
        Command::Provision(args) => commands::provision(&args),
        Command::Doctor(args) if args.restore => commands::restore(&args),
        Command::Doctor(_) => commands::doctor(),
        Command::Cost(args) => cost::cost(&args),
        Command::Observe(args) => observe::observe(&args),
        Command::Nightly(args) => history::nightly(args),
        Command::History(args) => history::history(&args),
        Command::Man(args) => manual::man(&args),
        Command::Completions(args) => manual::completions(&args),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if !failure.is_closed_pipe() {
                eprintln!("{failure}");
            }
            ExitCode::from(failure.exit_code())
        }
    }
}
