// SPDX-License-Identifier: GPL-2.0-only
//! Why a command ends without doing what it is for.

use crate::outcome::{EXIT_COULD_NOT_RUN, EXIT_INVALID};
use crate::scenario::InputError;
use std::io;
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
    /// What the process ends with.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Failure::Input(_) | Failure::Usage(_) => EXIT_INVALID,
            Failure::Cannot(_) | Failure::Output(_) => EXIT_COULD_NOT_RUN,
        }
    }

    /// Whoever read the output has had enough of it: no reason to complain.
    pub(super) fn is_closed_pipe(&self) -> bool {
        matches!(self, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
