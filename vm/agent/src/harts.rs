// SPDX-License-Identifier: GPL-2.0-only
//! Harts: which there are, who is where, and who has one alone.

use crate::files;
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::os::unix::thread::JoinHandleExt;
use std::path::Path;
use std::thread::JoinHandle;

/// Harts online, which have to be those from 0 on.
///
/// # Errors
/// There are gaps, or the kernel does not say.
pub fn online() -> Result<u32> {
    let list = files::read(Path::new("/sys/devices/system/cpu/online"))?;
    all_from_0(list.trim()).with_context(|| {
        format!(
            "the harts online are {}: it takes those from 0 on, without gaps",
            list.trim()
        )
    })
}

/// How many harts a list like `0-3` has; none if it has gaps.
fn all_from_0(online: &str) -> Option<u32> {
    let last = online.strip_prefix("0-").unwrap_or(online);
    let last: u32 = last.parse().ok()?;
    (online == "0" || online.starts_with("0-")).then_some(last + 1)
}

/// Brings all harts online that a program has left offline.
///
/// # Errors
/// One does not come.
pub fn all_online() -> Result<()> {
    let present = files::read(Path::new("/sys/devices/system/cpu/present"))?;
    let harts = all_from_0(present.trim()).context("/sys/devices/system/cpu/present")?;
    // The first one cannot be switched off, and has no switch.
    for hart in 1..harts {
        let switch = format!("/sys/devices/system/cpu/cpu{hart}/online");
        if files::read(Path::new(&switch))?.trim() == "0" {
            std::fs::write(&switch, "1").with_context(|| format!("hart {hart} stays offline"))?;
        }
    }
    Ok(())
}

/// Pins the calling thread to one hart.
///
/// # Errors
/// There is no such hart.
pub fn pin(hart: usize) -> Result<()> {
    let mut harts = CpuSet::new();
    harts.set(hart)?;
    sched_setaffinity(Pid::from_raw(0), &harts)
        .with_context(|| format!("cannot pin to hart {hart}"))
}

/// Has a thread of the kernel's run where subjects do not, and nowhere else: one that moves to
/// another hart within a function of tlbflush.c may fence other harts than where it entered it.
/// Nothing here allocates.
pub fn keep_kernel_thread(pid: i32) {
    let hart: u64 = 1;
    // SAFETY: a mask of one word.
    unsafe { libc::syscall(libc::SYS_sched_setaffinity, pid, size_of::<u64>(), &hart) };
}

/// Pins another thread of the calling process to one hart.
///
/// # Errors
/// There is no such hart.
pub fn pin_thread<T>(thread: &JoinHandle<T>, hart: usize) -> Result<()> {
    // SAFETY: all zeroes are the empty set.
    let mut harts: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if hart >= libc::CPU_SETSIZE as usize {
        bail!("hart {hart} is beyond what can be named");
    }
    // SAFETY: the number is one that a set has room for.
    unsafe { libc::CPU_SET(hart, &mut harts) };
    // SAFETY: the thread has not been waited for, and the set is only read.
    let error = unsafe {
        let size = size_of::<libc::cpu_set_t>();
        libc::pthread_setaffinity_np(thread.as_pthread_t(), size, &raw const harts)
    };
    match error {
        0 => Ok(()),
        error => Err(Errno::from_raw(error)).context(format!("cannot pin to hart {hart}")),
    }
}

/// Has the kernel's own threads run on the hart while the calling thread does nothing but
/// run: others' steps wait for what they do there (`lru_add_drain_all()`), which would not
/// come before the scheduler gives them their small share of each second (`fair_server`).
pub fn share() -> Result<()> {
    schedule(libc::SCHED_OTHER, 0).context("cannot share the hart")
}

/// Has the calling thread preempted by nobody on its hart during the steps: where
/// the scheduler wants the hart for another (`need_resched()`), `zap_pte_range()`
/// flushes what it has and goes on behind, and one unmapping would be told in two
/// parts, depending on when a timer came.
///
/// # Errors
/// The kernel refuses it.
pub fn keep() -> Result<()> {
    // SAFETY: only answers.
    let highest = unsafe { libc::sched_get_priority_max(libc::SCHED_FIFO) };
    schedule(libc::SCHED_FIFO, highest).context("cannot have the hart for the steps alone")
}

fn schedule(policy: libc::c_int, sched_priority: libc::c_int) -> nix::Result<()> {
    let param = libc::sched_param { sched_priority };
    // SAFETY: the parameters are valid and only read, and 0 is the caller itself.
    let set = unsafe { libc::sched_setscheduler(0, policy, &raw const param) };
    Errno::result(set).map(drop)
}

#[cfg(test)]
mod tests {
    use super::all_from_0;

    #[test]
    fn harts_are_counted_where_there_are_no_gaps() {
        assert_eq!(all_from_0("0"), Some(1));
        assert_eq!(all_from_0("0-3"), Some(4));
        assert_eq!(all_from_0("0-1,3"), None);
        assert_eq!(all_from_0("2"), None);
        assert_eq!(all_from_0("1-3"), None);
    }
}
