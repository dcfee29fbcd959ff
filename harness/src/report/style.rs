// SPDX-License-Identifier: GPL-2.0-only
//! How people have it printed.

use crate::event::Rerun;
use crate::outcome::{Outcome, Status};
use anstyle::AnsiColor;

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

/// For what was there, or is wrong.
pub(super) const RED: anstyle::Style = AnsiColor::Red.on_default();
/// For what is there now, or is right.
pub(super) const GREEN: anstyle::Style = AnsiColor::Green.on_default();
/// For what says nothing yet.
pub(super) const YELLOW: anstyle::Style = AnsiColor::Yellow.on_default();
/// For what is to be seen first.
pub(super) const BOLD: anstyle::Style = anstyle::Style::new().bold();
/// For what is to be seen last.
pub(super) const DIM: anstyle::Style = anstyle::Style::new().dimmed();

/// How an outcome's name is printed.
pub(super) fn of_outcome(outcome: Outcome) -> anstyle::Style {
    match (Status::of(outcome), outcome) {
        (Status::Pass, _) => GREEN,
        (_, Outcome::ModelNotRead | Outcome::SnapshotNew) => YELLOW,
        (Status::Xfail | Status::Skip | Status::Error, _) => YELLOW,
        (Status::Fail | Status::Flaky, _) => RED,
    }
}
