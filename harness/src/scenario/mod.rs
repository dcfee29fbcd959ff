// SPDX-License-Identifier: GPL-2.0-only
//! Scenarios: from YAML to steps that are known to be well-formed.

mod check;
pub mod describe;
mod errors;
mod file;
pub mod find;
pub mod names;

pub use check::check;
pub use errors::InputError;

use protocol::program::{MemoryFile, Op};
use std::path::PathBuf;

/// A checked scenario, in pages from the arena's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The file, as named on the command line.
    pub path: PathBuf,
    /// Which behaviour, and why it matters.
    pub about: String,
    /// Features that it needs.
    pub requires: Vec<String>,
    /// Memory files, with their names.
    pub files: Vec<(String, MemoryFile)>,
    /// At least one.
    pub steps: Vec<Step>,
}

/// One step and where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What to do.
    pub op: Op,
    /// Line of the file, from 1.
    pub line: usize,
    /// That line, without white space around it.
    pub source: String,
}

impl Scenario {
    /// It runs with an empty swap device, else without any.
    pub fn needs_swap(&self) -> bool {
        self.requires.iter().any(|feature| feature == "swap")
    }

    /// Required features that are not among these.
    pub fn missing<'a>(&'a self, features: &'a [String]) -> Vec<&'a str> {
        let missing = self
            .requires
            .iter()
            .filter(|feature| !features.contains(feature));
        missing.map(String::as_str).collect()
    }
}
