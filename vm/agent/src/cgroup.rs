// SPDX-License-Identifier: GPL-2.0-only
//! A fresh memory cgroup for each subject.

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
        let control = Path::new(ROOT).join("cgroup.subtree_control");
        fs::write(&control, "+memory").context("cannot enable the memory controller")?;
        let path = Path::new(ROOT).join(format!("{PREFIX}{id}"));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Cgroup { path })
    }

    /// One of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
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
