// SPDX-License-Identifier: GPL-2.0-only
//! A fresh memory cgroup for each subject.

use crate::files;
use crate::undo::{self, Note};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

const ROOT: &str = "/sys/fs/cgroup";

/// What all their names begin with.
const PREFIX: &str = "tlbdiff-";

/// A cgroup of its own; gone when dropped.
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes it.
    ///
    /// # Errors
    /// The kernel has no memory controller, or refuses the name.
    pub fn new(id: u64) -> Result<Cgroup> {
        enable_memory()?;
        let path = Path::new(ROOT).join(format!("{PREFIX}{id}"));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Cgroup { path })
    }

    /// One of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Has cgroups below the root's have the memory controller.
fn enable_memory() -> Result<()> {
    let enabled = files::read(&control())?;
    if enabled.split_whitespace().any(|name| name == "memory") {
        return Ok(());
    }
    undo::note(&Note::MemoryController)?;
    fs::write(control(), "+memory").context("cannot enable the memory controller")
}

/// Takes it from them again.
///
/// # Errors
/// Somebody uses it by now.
pub fn disable_memory() -> Result<()> {
    fs::write(control(), "-memory").context("cannot disable the memory controller")
}

fn control() -> PathBuf {
    Path::new(ROOT).join("cgroup.subtree_control")
}

/// Moves the calling process to the root's: the end of a login session ends what is in
/// the session's.
///
/// # Errors
/// The kernel refuses it.
pub fn enter_root() -> Result<()> {
    fs::write(outside(), "0").context("cannot move to the root cgroup")
}

/// Those that a run left behind, with what still runs in them.
pub fn remove_all() {
    let Ok(entries) = fs::read_dir(ROOT) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(PREFIX)) {
            let path = entry.path();
            let _ = fs::write(path.join("cgroup.kill"), "1");
            drop(Cgroup { path });
        }
    }
}

/// The cgroup.procs of the cgroup above.
pub fn outside() -> PathBuf {
    Path::new(ROOT).join("cgroup.procs")
}

impl Drop for Cgroup {
    /// The last task leaves a cgroup a moment after it was reaped.
    fn drop(&mut self) {
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            sleep(Duration::from_millis(1));
        }
        println!("tlbdiff-agent: {} stays behind", self.path.display());
    }
}
