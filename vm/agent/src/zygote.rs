// SPDX-License-Identifier: GPL-2.0-only
//! Processes that actors are forked from, one on each hart. A zygote has all that an
//! actor needs, populated, and its hart for itself; it does nothing but wait, fork, and
//! wait again. So all actors begin alike, and soon, and an actor's mm is never seen by
//! another hart.

use crate::region::Region;
use crate::{actor, cgroup, files, futex, harts, limits, populate, touch};
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::prctl::{set_pdeathsig, set_thp_disable};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, getppid};
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// A zygote has so long to come up: it waits for nobody.
const COMING_UP: Duration = Duration::from_secs(10);
/// How often it is looked whether a zygote that does not answer still lives.
const LOOK: Duration = Duration::from_millis(100);
/// Size of an actor's stack, in bytes.
const STACK: usize = 256 << 10;

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
        // khugepaged gets to know who has room for a huge page of its own while programs before
        // want some, and then whoever is forked from that. Actors may have some again.
        set_thp_disable(true).context("prctl")?;
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

    /// Ends them; others are made when they are needed. For what was done to all of memory was
    /// done to them: an mm of which pages were migrated has a flush pending, and so have its
    /// children (`mm->tlb_flush_batched`, which `mm_init()` does not reset).
    ///
    /// # Errors
    /// One cannot be waited for.
    pub fn renew(&mut self) -> Result<()> {
        for (_, pid) in std::mem::take(&mut self.pids) {
            let _ = kill(pid, Signal::SIGKILL);
            waitpid(pid, None).context("waitpid")?;
        }
        flush_pending()
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
        let answered = await_answer(answer, Some(pid));
        if answered.is_err() {
            // Killed for want of memory, maybe: the next program gets another one.
            self.pids.remove(&hart);
        }
        match answered? as i64 {
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
        let agent = getpid();
        // SAFETY: this process has one thread, and the child goes on as its copy.
        let pid = unsafe { libc::syscall(libc::SYS_clone, SHARING, 0, 0, 0, 0) };
        let pid = Pid::from_raw(Errno::result(pid).context("cannot fork a zygote")? as i32);
        if pid.as_raw() == 0 {
            come_up(self.region, hart, agent);
        }
        waitpid(pid, None).context("waitpid")?;
        let pid = match await_answer(answer, None)? as i64 {
            zygote if zygote > 0 => Pid::from_raw(zygote as i32),
            _ => bail!("a process that actors are forked from does not come up"),
        };
        self.pids.insert(hart, pid);
        Ok(pid)
    }
}

/// Gives a page back: whatever is pending of this process's own mm is flushed first
/// (`flush_tlb_batched_pending()`, of `zap_pte_range()`).
fn flush_pending() -> Result<()> {
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    let length = operations::PAGE_SIZE as usize;
    // SAFETY: a new mapping, which nobody else knows of.
    unsafe {
        let at = libc::mmap(std::ptr::null_mut(), length, rights, flags, -1, 0);
        if at == libc::MAP_FAILED {
            bail!("no memory for a page: {}", Errno::last());
        }
        libc::munmap(at, length);
    }
    Ok(())
}

/// A zygote's answer, for which it lives on.
fn await_answer(answer: &AtomicU64, zygote: Option<Pid>) -> Result<u64> {
    let end = Instant::now() + COMING_UP;
    loop {
        let said = answer.load(SeqCst);
        if said != 0 {
            return Ok(said);
        }
        // A child that is dead is there until it is waited for.
        let gone =
            |pid: Pid| waitpid(pid, Some(WaitPidFlag::WNOHANG)) != Ok(WaitStatus::StillAlive);
        if zygote.is_some_and(gone) || Instant::now() > end {
            bail!("the process that actors are forked from does not answer");
        }
        futex::wait(answer, 0, Some(LOOK));
    }
}

unsafe extern "C" {
    /// malloc_trim(3)
    fn malloc_trim(pad: libc::size_t) -> i32;
}

/// A zygote's descriptors are the agent's, those of later programs too.
const SHARING: libc::c_int = libc::CLONE_FILES | libc::SIGCHLD;

/// Moves to a hart, forks the zygote there and ends: so the zygote's mm is never seen by
/// another hart, which would have to be told whenever an actor is forked.
fn come_up(region: Region, hart: u32, agent: Pid) -> ! {
    let moved = move_to(hart);
    let pid = match moved {
        // SAFETY: this process has one thread, and the child goes on as its copy.
        Ok(()) => unsafe {
            let flags = SHARING | libc::CLONE_PARENT;
            libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0)
        },
        Err(_) => -1,
    };
    if pid == 0 {
        live(region, hart, agent);
    }
    if let (Err(error), Some((_, answer))) = (moved, region.order(hart as usize)) {
        println!("tlbdiff-agent: a zygote: {error:#}");
        answer.store(-1i64 as u64, SeqCst);
    }
    // SAFETY: ends this process without running anything of its parent's.
    unsafe { libc::_exit(0) }
}

fn move_to(hart: u32) -> Result<()> {
    fs::write(cgroup::outside(), "0").context("cannot leave the cgroup")?;
    harts::pin(hart as usize)
}

/// The whole life of a zygote.
fn live(region: Region, hart: u32, agent: Pid) -> ! {
    if let Err(error) = serve(region, hart, agent) {
        println!("tlbdiff-agent: a zygote: {error:#}");
    }
    if let Some((_, answer)) = region.order(hart as usize) {
        answer.store(-1i64 as u64, SeqCst);
    }
    // SAFETY: ends this process without running anything of its parent's.
    unsafe { libc::_exit(1) }
}

fn serve(region: Region, hart: u32, agent: Pid) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).context("prctl")?;
    if getppid() != agent {
        bail!("the agent is gone");
    }
    limits::first_to_go()?;
    actor::abort_on_panic();
    // SAFETY: only sets how memory is allocated: threads need no arenas of their own.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    touch::install()?;
    populate::populate()?;
    harts::keep()?;
    // What actors allocate is new memory, not what the zygote once used.
    // SAFETY: gives free memory back.
    unsafe { malloc_trim(0) };
    files::drain_lru_batches()?;
    let stack = stack()?;
    let (order, answer) = region.order(hart as usize).context("no such hart")?;
    let say = |what: u64| {
        answer.store(what, SeqCst);
        futex::wake(answer);
    };
    say(getpid().as_raw() as u64);
    loop {
        let ordered = order.load(SeqCst);
        if ordered == 0 {
            futex::wait(order, 0, None);
            continue;
        }
        order.store(0, SeqCst);
        say(fork_on(
            stack,
            Start {
                region,
                actor: ordered as usize - 1,
            },
        ));
    }
}

/// What an actor begins with.
struct Start {
    region: Region,
    actor: usize,
}

/// Forks an actor that goes on at the top of that stack: a child of the agent, which waits
/// for it. Its pid, or an errno below 0.
fn fork_on(stack: *mut libc::c_void, start: Start) -> u64 {
    extern "C" fn begin(start: *mut libc::c_void) -> i32 {
        // SAFETY: points to this process's copy of what its parent still has.
        let start = unsafe { &*start.cast::<Start>() };
        actor::live(start.region, start.actor)
    }
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    let start = (&raw const start).cast_mut().cast();
    // SAFETY: this process has one thread, the child goes on as its copy, and the stack is
    // used by nobody else.
    let pid = unsafe { libc::clone(begin, stack, flags, start) };
    if pid > 0 {
        pid as u64
    } else {
        -i64::from(Errno::last_raw()) as u64
    }
}

/// The top of a stack that the zygote itself never touches: each child finds it empty, and
/// has nothing of it to copy.
fn stack() -> Result<*mut libc::c_void> {
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), STACK, rights, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        bail!("no memory for a stack: {}", Errno::last());
    }
    // SAFETY: still within the mapping, or right behind it.
    Ok(unsafe { at.byte_add(STACK) })
}
