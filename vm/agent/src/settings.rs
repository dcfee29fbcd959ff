// SPDX-License-Identifier: GPL-2.0-only
//! Everything that scans or moves memory by itself is switched off.

use crate::files;
use crate::notes::{self, Note};
use anyhow::{Context, Result};
use std::io::{Seek, Write};
use std::os::fd::IntoRawFd;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// What only a guest does: its end is its host's to notice.
const IN_A_GUEST: &[(&str, &str)] = &[
    ("/proc/sys/kernel/panic_on_oops", "1"),
    ("/proc/sys/kernel/sysrq", "1"),
];

/// Path and value. Those that this kernel does not have are passed over.
const STILL: &[(&str, &str)] = &[
    ("/proc/sys/kernel/numa_balancing", "0"),
    // Subjects are real-time tasks and may use all of their hart.
    ("/proc/sys/kernel/sched_rt_runtime_us", "-1"),
    // Its stopper thread runs on each hart in its mask every four seconds, before
    // any subject, which then finds that it should make room.
    ("/proc/sys/kernel/watchdog_cpumask", "0"),
    // A subject's SIGSEGV is a result, not worth a register dump.
    ("/proc/sys/debug/exception-trace", "0"),
    ("/proc/sys/vm/compaction_proactiveness", "0"),
    ("/proc/sys/vm/watermark_boost_factor", "0"),
    ("/proc/sys/vm/swappiness", "60"),
    // Swap readahead's window depends on what was read before, by whomever.
    ("/proc/sys/vm/page-cluster", "0"),
    ("/proc/sys/vm/overcommit_memory", "0"),
    ("/proc/sys/vm/zone_reclaim_mode", "0"),
    ("/sys/kernel/mm/transparent_hugepage/enabled", "never"),
    ("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "never"),
    ("/sys/kernel/mm/transparent_hugepage/khugepaged/defrag", "0"),
    // It sleeps until it is told to scan.
    (
        "/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs",
        "4294967295",
    ),
    (
        "/sys/kernel/mm/transparent_hugepage/khugepaged/pages_to_scan",
        "1048576",
    ),
    // As kernels have them at first, and as the model has them.
    (
        "/sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_none",
        "511",
    ),
    (
        "/sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_swap",
        "64",
    ),
    (
        "/sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_shared",
        "256",
    ),
    ("/sys/kernel/mm/transparent_hugepage/defrag", "madvise"),
    ("/sys/kernel/mm/transparent_hugepage/use_zero_page", "1"),
    ("/sys/kernel/mm/transparent_hugepage/shrink_underused", "1"),
    ("/sys/kernel/mm/ksm/run", "0"),
    // Where a step asks for it, it scans all at once, and passes over nothing.
    ("/sys/kernel/mm/ksm/pages_to_scan", "100000"),
    ("/sys/kernel/mm/ksm/sleep_millisecs", "0"),
    ("/sys/kernel/mm/ksm/smart_scan", "0"),
    ("/sys/kernel/mm/ksm/use_zero_pages", "0"),
    ("/sys/kernel/mm/lru_gen/enabled", "0"),
    // It would be where swapped pages go, before any device.
    ("/sys/module/zswap/parameters/enabled", "N"),
    ("/sys/module/zswap/parameters/shrinker_enabled", "N"),
    ("/sys/module/damon_reclaim/parameters/enabled", "N"),
    ("/sys/module/damon_lru_sort/parameters/enabled", "N"),
    ("/sys/kernel/mm/numa/demotion_enabled", "false"),
    // Pages of files are written back when somebody asks for it, and not by a timer.
    // A day. With 0 a file that gets dirty has the flusher look at once (wb_wakeup_delayed()).
    ("/proc/sys/vm/dirty_writeback_centisecs", "8640000"),
    // Not for stillness: whoever makes and ends a process, a cgroup or a swap device waits
    // for RCU, and would do so for some ticks.
    ("/sys/kernel/rcu_expedited", "1"),
];

/// Sizes of folios have a switch each, below the one for all.
pub const THP: &str = "/sys/kernel/mm/transparent_hugepage";

/// Writes them all, having noted what was there.
///
/// # Errors
/// A setting is there and refuses its value.
pub fn make_still() -> Result<()> {
    if !notes::is_kept() {
        for (path, value) in IN_A_GUEST {
            set(Path::new(path), value)?;
        }
        // Who fences whom depends on the hart that it runs on.
        pin_to_the_agents_hart(&["ksmd", "oom_reaper"]);
    }
    for (path, value) in STILL {
        set(Path::new(path), value)?;
    }
    for size in folders(THP, "hugepages-") {
        set(&size.join("enabled"), "never")?;
        set(&size.join("shmem_enabled"), "never")?;
    }
    Ok(())
}

/// These of the kernel's threads run on hart 0 from now on, where they are.
fn pin_to_the_agents_hart(names: &[&str]) {
    let Ok(entries) = fs::read_dir("/proc") else {
        return;
    };
    let is_named = |pid: &i32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm"));
        comm.is_ok_and(|comm| names.contains(&comm.trim()))
    };
    let files = entries.flatten().map(|entry| entry.file_name());
    let pids = files.filter_map(|name| name.to_str()?.parse::<i32>().ok());
    for pid in pids.filter(is_named) {
        let hart: u64 = 1;
        // SAFETY: a mask of one word.
        unsafe { libc::syscall(libc::SYS_sched_setaffinity, pid, size_of::<u64>(), &hart) };
    }
}

/// The folders there whose names begin so.
fn folders(parent: &str, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else {
        return Vec::new();
    };
    let begins_so = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(prefix))
    };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.filter(begins_so).collect()
}

/// One setting, where this kernel has it.
///
/// # Errors
/// It is there and refuses the value.
pub fn set(path: &Path, wanted: &str) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let before = value(path)?;
    if before == wanted {
        return Ok(());
    }
    notes::note(&Note::Setting(path.to_owned(), before))?;
    fs::write(path, wanted).with_context(|| format!("cannot write {wanted} to {}", path.display()))
}

/// A setting that a program changes itself: when dropped, it is as it was.
pub struct Changed {
    path: &'static str,
    before: String,
}

impl Changed {
    /// For one that is about to be changed.
    ///
    /// # Errors
    /// It cannot be read, or noted.
    pub fn soon(path: &'static str) -> Result<Changed> {
        let before = value(Path::new(path))?;
        notes::note(&Note::Setting(path.into(), before.clone()))?;
        Ok(Changed { path, before })
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        if let Err(error) = fs::write(self.path, &self.before) {
            println!("tlbdiff-agent: {} stays changed: {error}", self.path);
        }
    }
}

/// What a setting is set to.
///
/// # Errors
/// It cannot be read.
pub fn value(path: &Path) -> Result<String> {
    Ok(chosen(&files::read(path)?).to_owned())
}

/// The value in the text of a setting: of several choices, the one in brackets.
fn chosen(text: &str) -> &str {
    let text = text.trim();
    let bracketed = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    bracketed.map_or(text, |(value, _)| value)
}

/// Memory that stays on the active list for as long as the agent runs, in bytes.
const ACTIVE: usize = 64 << 20;

/// Fills and keeps that memory. A page that MADV_PAGEOUT evicted comes back as
/// an active one if fewer pages were evicted since than there are active ones
/// in the whole system: with so many, it always does, whatever else is there.
///
/// # Errors
/// There is not that much memory.
pub fn keep_active() -> Result<()> {
    let mut file = files::memfd(c"tlbdiff-active")?;
    let zeroes = vec![0; 1 << 20];
    // Written to for the second time, a page is activated.
    for _ in 0..2 {
        file.rewind()?;
        for _ in 0..ACTIVE / zeroes.len() {
            file.write_all(&zeroes)
                .context("cannot fill the active memory")?;
        }
    }
    // Never closed.
    let _ = file.into_raw_fd();
    // What decides is the statistics of the root cgroup, as of their last
    // flush; reading them flushes them after so many changes.
    files::read(Path::new("/sys/fs/cgroup/memory.stat"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_setting_is_read_as_it_is_written() {
        assert_eq!(super::chosen("always [madvise] never\n"), "madvise");
        assert_eq!(super::chosen("0x0007\n"), "0x0007");
        assert_eq!(super::chosen("-1\n"), "-1");
    }
}
