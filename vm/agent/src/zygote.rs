// SPDX-License-Identifier: GPL-2.0-only
//! Processes that actors are forked from, one on each hart. A zygote has all that an
//! actor needs, populated, and its hart for itself; it does nothing but wait, fork, and
//! wait again. So all actors begin alike, and soon, and an actor's mm is never seen by
//! another hart.

use crate::region::Region;
use crate::{actor, boot, cgroup, files, futex, populate, touch};
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getppid};
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// A zygote has so long to come up: it waits for nobody.
const COMING_UP: Duration = Duration::from_secs(10);
/// How often it is looked whether a zygote that does not answer still lives.
const LOOK: Duration = Duration::from_millis(100);
/// What a zygote answers when it has come up.
const READY: u64 = u64::MAX;

/// All of them. They end with the process that made them.
pub struct Zygotes {
    region: Region,
    pids: BTreeMap<u32, Pid>,
}

impl Zygotes {
    /// None yet.
    ///
    /// # Errors
    /// The memory that is shared with them cannot be had.
    pub fn new() -> Result<Zygotes> {
        Ok(Zygotes {
            region: Region::make()?,
            pids: BTreeMap::new(),
        })
    }

    /// The memory that is shared with them and with their children.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Makes those of the harts below a number, so that none has to be made later.
    ///
    /// # Errors
    /// One does not come up.
    pub fn make(&mut self, harts: u32) -> Result<()> {
        (0..harts).try_for_each(|hart| self.zygote(hart).map(drop))
    }

    /// Forks an actor on a hart: a child of this process.
    ///
    /// # Errors
    /// It cannot be forked.
    pub fn fork(&mut self, hart: u32, actor: usize) -> Result<Pid> {
        let pid = self.zygote(hart)?;
        let (order, answer) = self.words(hart)?;
        answer.store(0, SeqCst);
        order.store(actor as u64 + 1, SeqCst);
        futex::wake(order);
        match await_answer(answer, pid)? as i64 {
            child if child > 0 => Ok(Pid::from_raw(child as i32)),
            errno => Err(Errno::from_raw(-errno as i32)).context("cannot fork an actor"),
        }
    }

    fn words(&self, hart: u32) -> Result<(&'static AtomicU64, &'static AtomicU64)> {
        let words = self.region.order(hart as usize);
        words.with_context(|| format!("hart {hart} is beyond what can be named"))
    }

    fn zygote(&mut self, hart: u32) -> Result<Pid> {
        if let Some(pid) = self.pids.get(&hart) {
            return Ok(*pid);
        }
        let (_, answer) = self.words(hart)?;
        answer.store(0, SeqCst);
        let parent = getpid();
        // With this process's descriptors, those of later programs too.
        let flags = libc::CLONE_FILES | libc::SIGCHLD;
        // SAFETY: this process has one thread, and the child goes on as its copy.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
        let pid = Pid::from_raw(Errno::result(pid).context("cannot fork a zygote")? as i32);
        if pid.as_raw() == 0 {
            live(self.region, hart, parent);
        }
        await_answer(answer, pid)?;
        self.pids.insert(hart, pid);
        Ok(pid)
    }
}

/// A zygote's answer, for which it lives on.
fn await_answer(answer: &AtomicU64, zygote: Pid) -> Result<u64> {
    let end = Instant::now() + COMING_UP;
    loop {
        let said = answer.load(SeqCst);
        if said != 0 {
            return Ok(said);
        }
        // SAFETY: no memory is involved; only asks whether there is such a process.
        if unsafe { libc::kill(zygote.as_raw(), 0) } != 0 || Instant::now() > end {
            bail!("the process that actors are forked from does not answer");
        }
        futex::wait(answer, 0, Some(LOOK));
    }
}

/// The whole life of a zygote.
fn live(region: Region, hart: u32, parent: Pid) -> ! {
    if let Err(error) = serve(region, hart, parent) {
        println!("tlbdiff-agent: a zygote: {error:#}");
    }
    // SAFETY: ends this process without running anything of its parent's.
    unsafe { libc::_exit(1) }
}

fn serve(region: Region, hart: u32, parent: Pid) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).context("prctl")?;
    if getppid() != parent {
        bail!("the agent is gone");
    }
    fs::write(cgroup::outside(), "0").context("cannot leave the cgroup")?;
    boot::pin(hart as usize)?;
    touch::install()?;
    populate::populate()?;
    actor::keep_the_hart()?;
    files::drain_lru_batches()?;
    let (order, answer) = region.order(hart as usize).context("no such hart")?;
    let say = |what: u64| {
        answer.store(what, SeqCst);
        futex::wake(answer);
    };
    say(READY);
    loop {
        let ordered = order.load(SeqCst);
        if ordered == 0 {
            futex::wait(order, 0, None);
            continue;
        }
        order.store(0, SeqCst);
        // A child of the agent, which waits for it.
        let flags = libc::CLONE_PARENT | libc::SIGCHLD;
        // SAFETY: this process has one thread, and the child goes on as its copy.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
        if pid == 0 {
            actor::live(region, ordered as usize - 1);
        }
        say(if pid > 0 {
            pid as u64
        } else {
            -i64::from(Errno::last_raw()) as u64
        });
    }
}
