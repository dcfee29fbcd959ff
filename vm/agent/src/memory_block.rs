// SPDX-License-Identifier: GPL-2.0-only
//! Blocks of memory that go offline and come back. What a step does does not allocate.

use crate::system_file;
use anyhow::{Context, Result};
use operations::{PAGE_SIZE, StepResult, address};
use std::ffi::CStr;
use std::fs;
use std::path::{Path, PathBuf};

const MEMORY: &str = "/sys/devices/system/memory";
const BLOCK_SIZE: &CStr = c"/sys/devices/system/memory/block_size_bytes";

/// `PM_PRESENT` of fs/proc/task_mmu.c, and the bits that are a frame's number.
const PM_PRESENT: u64 = 1 << 63;
const PM_PFRAME: u64 = (1 << 55) - 1;

/// A step: the block goes offline in which a process's page has its frame.
pub fn offline(pid: i32, page: u64) -> StepResult {
    let offline = || {
        let block = frame(pid, page)? * PAGE_SIZE / block_size()?;
        let path = system_file::of_memory_block(block as u32);
        system_file::write(path.as_c_str(), b"offline")
    };
    match offline() {
        Ok(()) => StepResult::Ok,
        Err(errno) => StepResult::Errno(errno),
    }
}

/// The number of a page's frame, by `/proc/PID/pagemap`.
fn frame(pid: i32, page: u64) -> Result<u64, i32> {
    let mut entry = 0u64;
    let path = system_file::of_process(pid, b"pagemap");
    let size = size_of::<u64>();
    let place = address(page) / PAGE_SIZE * size as u64;
    system_file::with(path.as_c_str(), libc::O_RDONLY, |fd| {
        // SAFETY: reads one word.
        unsafe { libc::pread(fd, (&raw mut entry).cast(), size, place as i64) }
    })?;
    match entry & PM_PRESENT {
        0 => Err(libc::EFAULT),
        _ => Ok(entry & PM_PFRAME),
    }
}

/// In bytes; the file has it in hexadecimal.
fn block_size() -> Result<u64, i32> {
    let mut text = [0u8; 32];
    let length = system_file::with(BLOCK_SIZE, libc::O_RDONLY, |fd| {
        // SAFETY: reads into a valid buffer.
        unsafe { libc::read(fd, text.as_mut_ptr().cast(), text.len()) }
    })?;
    let text = std::str::from_utf8(&text[..length]).map_err(|_| libc::EINVAL)?;
    u64::from_str_radix(text.trim(), 16).map_err(|_| libc::EINVAL)
}

/// All blocks.
fn blocks() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(MEMORY) else {
        return Vec::new();
    };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.filter(|path| path.join("state").exists()).collect()
}

/// Whether there are some that movable memory alone is in: those can go.
pub fn are_movable() -> bool {
    let zone = |path: &Path| fs::read_to_string(path.join("valid_zones")).unwrap_or_default();
    blocks().iter().any(|path| zone(path).trim() == "Movable")
}

/// Brings all of them back that a program has taken offline.
///
/// # Errors
/// One does not come.
pub fn all_online() -> Result<()> {
    for block in blocks() {
        let state = block.join("state");
        if crate::files::read(&state)?.trim() == "offline" {
            fs::write(&state, "online_movable")
                .with_context(|| format!("{} stays offline", block.display()))?;
        }
    }
    Ok(())
}
