// SPDX-License-Identifier: GPL-2.0-only
//! From the command line to the exit code.

pub mod args;
mod commands;
mod config;
mod cost;
mod drift;
mod history;
mod interrupt;
mod manual;

use crate::outcome::{EXIT_COULD_NOT_RUN, EXIT_INVALID};
use crate::scenario::InputError;
use args::{Cli, Command};
use clap::Parser;
use std::io;
use std::process::ExitCode;
use thiserror::Error;

/// Why a command ended without doing what it is for.
#[derive(Debug, Error)]
pub enum Failure {
    /// Scenarios are wrong.
    #[error("{}", listed(.0))]
    Input(Vec<InputError>),
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// It cannot be done here and now.
    #[error("{0}")]
    Cannot(String),
    /// What was found cannot be told.
    #[error("output: {0}")]
    Output(#[from] io::Error),
}

fn listed(errors: &[InputError]) -> String {
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Failure::Input(_) | Failure::Usage(_) => EXIT_INVALID,
            Failure::Cannot(_) | Failure::Output(_) => EXIT_COULD_NOT_RUN,
        }
    }

    /// Whoever read the output has had enough of it: no reason to complain.
    fn is_closed_pipe(&self) -> bool {
        matches!(self, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(args) => commands::run(args),
        Command::Compare(args) => commands::compare(&args),
        Command::Drift(args) => drift::drift(&args),
        Command::Predict(args) => commands::predict(&args),
        Command::List(args) => commands::list(&args),
        Command::Check(args) => commands::check(&args),
        Command::Provision(args) => commands::provision(&args),
        Command::Doctor(args) if args.restore => commands::restore(&args),
        Command::Doctor(_) => commands::doctor(),
        Command::Cost(args) => cost::cost(&args),
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
