// SPDX-License-Identifier: GPL-2.0-only
//! How people have it printed.

use crate::event::Rerun;
use crate::outcome::Outcome;

/// How it is printed.
#[derive(Clone, Debug, Default)]
pub struct Style {
    /// With colours.
    pub colour: bool,
    /// With a progress bar.
    pub bar: bool,
    /// Without a line for each scenario.
    pub quiet: bool,
    /// All about each failure, and not of one only of each cause.
    pub verbose: bool,
    /// The command to run one scenario again.
    pub rerun: Rerun,
}

/// Colours of a terminal, by their numbers.
#[derive(Clone, Copy)]
pub(super) enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
    Bold = 1,
    Dim = 2,
}

pub(super) fn colour_of(outcome: Outcome) -> Colour {
    match outcome {
        Outcome::Agree => Colour::Green,
        Outcome::Known
        | Outcome::Skipped
        | Outcome::CouldNotRun
        | Outcome::ModelNotRead
        | Outcome::SnapshotNew => Colour::Yellow,
        Outcome::SnapshotChanged
        | Outcome::Varies
        | Outcome::FindingGone
        | Outcome::Differs
        | Outcome::Unsafe
        | Outcome::ProgramCorrupted
        | Outcome::KernelCrashed => Colour::Red,
    }
}
