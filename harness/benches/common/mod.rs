// SPDX-License-Identifier: GPL-2.0-only
//! What benchmarks of scenarios have in common.
#![allow(dead_code, reason = "each benchmark uses a part")]

use std::error::Error;
use std::path::{Path, PathBuf};
use tlbdiff::scenario::{Scenario, find};

/// The checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The scenarios that the command line names by paths from the checkout on, or else these.
pub fn scenarios(usual: &[&str]) -> Result<Vec<Scenario>, Box<dyn Error>> {
    // Cargo says `--bench` to each benchmark, and runs it in its package's folder.
    let given = std::env::args().skip(1).filter(|word| word != "--bench");
    let mut paths: Vec<PathBuf> = given.map(|path| root().join(path)).collect();
    if paths.is_empty() {
        paths = usual.iter().map(|path| root().join(path)).collect();
    }
    let (scenarios, errors) = find::load(&paths, None);
    match errors.first() {
        Some(error) => Err(error.to_string().into()),
        None => Ok(scenarios),
    }
}
