// SPDX-License-Identifier: GPL-2.0-only
//! What the agent keeps from program to program, for to make it takes longer than most
//! programs do.

use crate::cgroup::{self, Cgroup};
use crate::kmsg::Kmsg;
use crate::thp;
use crate::zygote::Zygotes;
use anyhow::{Context, Result};
use protocol::Run;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::rc::Rc;

/// What is kept.
pub struct Kept {
    /// What actors are forked from.
    pub zygotes: Zygotes,
    /// What the kernel logs.
    pub kmsg: Kmsg,
    /// The cgroup.procs of the cgroup in which actors prepare themselves.
    pub outside: File,
    /// The IOMMU is to fail (a test of the harness).
    pub stop_iommu: bool,
    /// What huge pages the kernel is set to make.
    pub thp: thp::Setting,
    taint: File,
    common: Option<Rc<Group>>,
    /// Those of programs that are over.
    spent: Vec<Rc<Group>>,
}

/// So many cgroups of programs that are over are removed together.
const SPENT: usize = 128;

/// A cgroup, and its cgroup.procs.
pub struct Group {
    /// Gone when dropped.
    pub cgroup: Cgroup,
    /// Open for writing.
    pub procs: File,
}

impl Kept {
    /// All of it.
    ///
    /// # Errors
    /// Something cannot be opened.
    pub fn new(zygotes: Zygotes) -> Result<Kept> {
        Ok(Kept {
            zygotes,
            kmsg: Kmsg::open()?,
            outside: open(cgroup::outside(), true)?,
            stop_iommu: false,
            thp: thp::Setting::default(),
            taint: open("/proc/sys/kernel/tainted".into(), false)?,
            common: None,
            spent: Vec::new(),
        })
    }

    /// /proc/sys/kernel/tainted
    ///
    /// # Errors
    /// It cannot be read.
    pub fn taint(&self) -> Result<u64> {
        let mut text = [0; 32];
        let length = self.taint.read_at(&mut text, 0)?;
        let text = std::str::from_utf8(&text[..length])?;
        text.trim().parse().context("/proc/sys/kernel/tainted")
    }

    /// The cgroup in which a program's steps run. What a cgroup remembers of its past (what
    /// reclaim cost, what came back, how old the working set is) is read by reclaim alone:
    /// a program that reclaims or swaps has a cgroup of its own, and no program that does
    /// is ever in the one that all others have in common.
    ///
    /// A cgroup that is removed goes offline later, and since 7.3 the statistics of all
    /// cgroups are flushed then, by which reclaim decides (`reparent_state_local()` of
    /// mm/memcontrol.c): so it is waited for, and for many at once.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn group(&mut self, id: u64, run: &Run) -> Result<Rc<Group>> {
        if run.swap || run.program.reclaims() {
            if self.spent.len() >= SPENT {
                self.spent.clear();
                cgroup::await_offline()?;
            }
            let own = Rc::new(Group::new(&id.to_string())?);
            self.spent.push(Rc::clone(&own));
            return Ok(own);
        }
        if let Some(common) = &self.common {
            return Ok(Rc::clone(common));
        }
        let common = Rc::new(Group::new("common")?);
        Ok(Rc::clone(self.common.insert(common)))
    }
}

impl Group {
    fn new(name: &str) -> Result<Group> {
        let cgroup = Cgroup::new(name)?;
        let procs = open(cgroup.file("cgroup.procs"), true)?;
        Ok(Group { cgroup, procs })
    }
}

/// Opens a file of procfs or cgroupfs, for writing or for reading.
///
/// # Errors
/// It cannot be opened.
pub fn open(path: PathBuf, write: bool) -> Result<File> {
    OpenOptions::new()
        .read(!write)
        .write(write)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))
}
