// SPDX-License-Identifier: GPL-2.0-only
//! Memory cgroups for subjects, and on a board the harts that are its alone.

use crate::files;
use crate::notes::{self, Note};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

const ROOT: &str = "/sys/fs/cgroup";

/// What all their names begin with.
const PREFIX: &str = "tlbdiff-";

/// On a board: the cgroup whose processes have harts that no other process has.
static HARTS: OnceLock<PathBuf> = OnceLock::new();

/// The cgroup below which those of the subjects are made.
fn parent() -> &'static Path {
    HARTS.get().map_or(Path::new(ROOT), PathBuf::as_path)
}

/// A cgroup of its own; gone when dropped.
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes it.
    ///
    /// # Errors
    /// The kernel has no memory controller, or refuses the name.
    pub fn new(name: &str) -> Result<Cgroup> {
        enable(parent(), "memory")?;
        let path = parent().join(format!("{PREFIX}{name}"));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Cgroup { path })
    }

    /// One of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Removed cgroups of which none has gone for so long are taken to be offline: those of a
/// few grace periods of RCU.
const SETTLED: Duration = Duration::from_millis(100);

/// Waits until cgroups that were removed are offline. The kernel counts only those that are
/// not gone, which they are soon after, but for those that a page still belongs to.
///
/// # Errors
/// cgroup.stat cannot be read.
pub fn await_offline() -> Result<()> {
    let path = parent().join("cgroup.stat");
    let mut left = dying(&files::read(&path)?);
    let mut since = Instant::now();
    while left != Some(0) && since.elapsed() < SETTLED {
        sleep(Duration::from_millis(2));
        let now = dying(&files::read(&path)?);
        if now != left {
            (left, since) = (now, Instant::now());
        }
    }
    Ok(())
}

/// How many cgroups with memory a cgroup.stat says to be dying; 6.12 and later do.
fn dying(stat: &str) -> Option<usize> {
    let mut lines = stat.lines();
    let number = lines.find_map(|line| line.strip_prefix("nr_dying_subsys_memory "))?;
    number.trim().parse().ok()
}

/// Has actors run, from now on, on harts from 1 on, and nobody else there: another
/// process's page faults would fill and drain the LRU batches of those harts, and
/// without ASIDs it would take them out of the subjects' masks.
///
/// # Errors
/// The kernel has no cpusets, or somebody else has harts to themselves.
pub fn take_harts(harts: u32) -> Result<()> {
    if harts < 2 {
        return Ok(());
    }
    let root = Path::new(ROOT);
    enable(root, "cpuset").context("harts cannot be had alone")?;
    enable(root, "memory")?;
    let path = root.join(format!("{PREFIX}harts"));
    let write = |name: &str, text: &str| {
        fs::write(path.join(name), text).with_context(|| format!("cannot write {text} to {name}"))
    };
    fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
    write("cpuset.cpus", &format!("1-{}", harts - 1))?;
    write("cpuset.cpus.partition", "isolated")?;
    let partition = files::read(&path.join("cpuset.cpus.partition"))?;
    if partition.trim() != "isolated" {
        bail!(
            "harts cannot be had alone: the partition is {}",
            partition.trim()
        );
    }
    // Processes are in the leaves.
    enable(&path, "memory")?;
    let outside = path.join(OUTSIDE);
    fs::create_dir(&outside).with_context(|| format!("cannot make {}", outside.display()))?;
    HARTS.get_or_init(|| path);
    Ok(())
}

/// Where actors are that are in no cgroup of their own, on a board.
const OUTSIDE: &str = "outside";

/// Has the cgroups below one have a controller.
fn enable(cgroup: &Path, controller: &str) -> Result<()> {
    let control = cgroup.join(CONTROL);
    let enabled = files::read(&control)?;
    if enabled.split_whitespace().any(|name| name == controller) {
        return Ok(());
    }
    if cgroup == Path::new(ROOT) {
        notes::note(&Note::Controller(controller.to_owned()))?;
    }
    fs::write(&control, format!("+{controller}"))
        .with_context(|| format!("cannot enable the {controller} controller"))
}

/// Takes a controller from the cgroups below the root's again.
///
/// # Errors
/// Somebody uses it by now.
pub fn disable(controller: &str) -> Result<()> {
    fs::write(Path::new(ROOT).join(CONTROL), format!("-{controller}"))
        .with_context(|| format!("cannot disable the {controller} controller"))
}

const CONTROL: &str = "cgroup.subtree_control";

/// Moves the calling process to the root's: the end of a login session ends what is in
/// the session's.
///
/// # Errors
/// The kernel refuses it.
pub fn enter_root() -> Result<()> {
    fs::write(Path::new(ROOT).join("cgroup.procs"), "0").context("cannot move to the root cgroup")
}

/// Those that a run left behind, with what still runs in them.
pub fn remove_all() {
    for path in below(Path::new(ROOT)) {
        let _ = fs::write(path.join("cgroup.kill"), "1");
        for path in below(&path) {
            drop(Cgroup { path });
        }
        drop(Cgroup {
            path: path.join(OUTSIDE),
        });
        drop(Cgroup { path });
    }
}

/// Our cgroups below one.
fn below(cgroup: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(cgroup).into_iter().flatten().flatten();
    let ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(PREFIX))
    };
    entries.map(|entry| entry.path()).filter(ours).collect()
}

/// The cgroup.procs of the cgroup in which actors prepare themselves.
pub fn outside() -> PathBuf {
    let cgroup = match HARTS.get() {
        Some(harts) => harts.join(OUTSIDE),
        None => PathBuf::from(ROOT),
    };
    cgroup.join("cgroup.procs")
}

impl Drop for Cgroup {
    /// The last task leaves a cgroup a moment after it was reaped.
    fn drop(&mut self) {
        for _ in 0..100 {
            match fs::remove_dir(&self.path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {}
                _ => return,
            }
            sleep(Duration::from_millis(1));
        }
        println!("tlbdiff-agent: {} stays behind", self.path.display());
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn dying_cgroups_are_counted() {
        let stat = "nr_descendants 2\nnr_subsys_memory 3\nnr_dying_subsys_memory 1\n";
        assert_eq!(super::dying(stat), Some(1));
        assert_eq!(super::dying("nr_descendants 2\n"), None);
    }
}
