// SPDX-License-Identifier: GPL-2.0-only
//! What this process may use, and what of it goes first where memory runs out.

use crate::system_file;
use anyhow::{Context, Result};
use nix::errno::Errno;
use std::fs;
use std::hint::black_box;

/// Descriptors that the agent may have open: a program's files, a few of each actor.
const OPEN_FILES: libc::rlim_t = 4096;

/// OOM_SCORE_ADJ_MIN and OOM_SCORE_ADJ_MAX of include/uapi/linux/oom.h
const LAST: &str = "-1000";
const FIRST: &str = "1000";

/// For the agent: it outlives a machine whose memory is used up, to tell of it, and can
/// open all that programs name.
///
/// # Errors
/// The kernel refuses it.
pub fn prepare() -> Result<()> {
    adjust(LAST)?;
    let limit = libc::rlimit {
        rlim_cur: OPEN_FILES,
        rlim_max: OPEN_FILES,
    };
    // SAFETY: the limit is only read.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    Errno::result(set)
        .map(drop)
        .context("cannot open more files")
}

/// For an actor: it is the first that the kernel kills for want of memory.
///
/// # Errors
/// The kernel refuses it.
pub fn first_to_go() -> Result<()> {
    adjust(FIRST)
}

/// vm.max_map_count
pub const MAX_MAP_COUNT: &str = "/proc/sys/vm/max_map_count";

/// Bytes that a process allocates at most between counting its areas and its first step.
const ROOM: usize = 32 << 10;

/// For the subject: processes may have so many areas more than it has now.
///
/// # Errors
/// The kernel refuses it.
pub fn allow_areas(more: u64) -> Result<()> {
    // The heap of a forked process grows by an area of its own, for what has an anon_vma of
    // the parent's is not extended (`is_mergeable_anon_vma()` of mm/vma.c). It has to have
    // grown before areas are counted.
    drop(black_box(Vec::<u8>::with_capacity(ROOM)));
    let maps = fs::read_to_string("/proc/self/maps").context("cannot count areas")?;
    let limit = maps.lines().count() as u64 + more;
    fs::write(MAX_MAP_COUNT, limit.to_string()).context("cannot write max_map_count")
}

/// For another process: it is the first that is killed for want of memory, or nobody kills it for
/// that. Nothing here allocates.
pub fn adjust_another(pid: i32, first: bool) {
    let score = if first { FIRST } else { LAST };
    let file = system_file::of_process(pid, b"oom_score_adj");
    // Who is gone by now needs none.
    let _ = system_file::write(file.as_c_str(), score.as_bytes());
}

fn adjust(score: &str) -> Result<()> {
    fs::write("/proc/self/oom_score_adj", score).context("cannot write oom_score_adj")
}
