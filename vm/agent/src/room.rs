// SPDX-License-Identifier: GPL-2.0-only
//! Free memory for a program's steps.

use anyhow::{Context, Result};
use nix::sys::sysinfo::sysinfo;
use std::fs;

/// Of all memory, so much has to be free: one part of so many.
const PART: u64 = 8;

/// What programs before have left in the page cache makes way where little is free. An allocation
/// that may not wait, as mmu_gather's of a batch (`tlb_next_batch()`), fails where reclaim has not
/// kept up, and what is flushed is another then.
///
/// # Errors
/// The kernel refuses it.
pub fn make() -> Result<()> {
    let memory = sysinfo().context("sysinfo")?;
    if memory.ram_unused() >= memory.ram_total() / PART {
        return Ok(());
    }
    fs::write("/proc/sys/vm/drop_caches", "1").context("/proc/sys/vm/drop_caches")
}
