// SPDX-License-Identifier: GPL-2.0-only
//! Files, in memory and on disks, and small helpers around descriptors.

use crate::nodes::AtTheActors;
use crate::{disks, hugetlb};
use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use operations::{MemoryFile, PAGE_SIZE, Storage};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// The text of a small file of procfs or sysfs.
///
/// # Errors
/// It cannot be read.
pub fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    File::open(path)
        .and_then(|mut file| file.read_to_string(&mut text))
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text)
}

/// A memfd that an executed program inherits.
///
/// # Errors
/// The kernel refuses it.
pub fn memfd(name: &std::ffi::CStr) -> Result<File> {
    let fd = memfd_create(name, MFdFlags::MFD_ALLOW_SEALING).context("memfd_create")?;
    Ok(File::from(fd))
}

/// What a filled file is full of.
const FILLED: u8 = 0x5a;

/// Makes the files of a program: sized, filled, sealed, and reopened read-only as said.
///
/// # Errors
/// The kernel refuses a step of that.
pub fn make(files: &[MemoryFile]) -> Result<Vec<OwnedFd>> {
    let there = files
        .iter()
        .any(|file| file.filled)
        .then(AtTheActors::prefer);
    let made = files.iter().map(make_one).collect::<Result<Vec<_>>>()?;
    drop(there);
    if files.iter().any(|file| file.filled) {
        drain_lru_batches()?;
    }
    Ok(made)
}

/// Moves the pages that wait in this hart's LRU batches to the LRU lists. A page
/// in a batch is on no list: it is neither aged nor reclaimed, and which pages are
/// in one depends on what ran before.
///
/// By MADV_WILLNEED, of a page of the stack, which has nothing else to do there.
/// Others would do more: dropping caches marks dirty pages on its way in a way that
/// fault-around takes for readahead, and passes over; unmapping something, and
/// MADV_COLD, pay for a flush that reclaim left pending, and on some kernels
/// unmapping does not drain.
///
/// # Errors
/// The kernel refuses the advice.
pub fn drain_lru_batches() -> Result<()> {
    let here = 0u8;
    let page = (&raw const here as usize) & !(PAGE_SIZE as usize - 1);
    let advice = libc::MADV_WILLNEED;
    // SAFETY: advice for this thread's own stack, which changes nothing of it.
    let advised = unsafe { libc::madvise(page as *mut libc::c_void, PAGE_SIZE as usize, advice) };
    nix::errno::Errno::result(advised)
        .map(drop)
        .context("cannot drain the LRU batches")
}

fn make_one(file: &MemoryFile) -> Result<OwnedFd> {
    let mut memory = match (file.on, file.hugetlb) {
        (Storage::Memory, Some(size)) => hugetlb::memfd(c"tlbdiff-file", size)?,
        (Storage::Memory, None) => memfd(c"tlbdiff-file")?,
        (Storage::Ext4 | Storage::Xfs, _) => disks::file(file.on)?,
    };
    memory
        .set_len(file.pages * PAGE_SIZE)
        .context("cannot size a file")?;
    if file.filled && file.hugetlb.is_some() {
        hugetlb::fill(&memory, file, FILLED)?;
    } else if file.filled {
        let page = [FILLED; PAGE_SIZE as usize];
        for _ in 0..file.pages {
            memory.write_all(&page).context("cannot fill a file")?;
        }
    }
    if file.on != Storage::Memory {
        // On disk and clean: what the steps do to it is all that there is to write.
        memory.sync_all().context("cannot write a file to disk")?;
    }
    if file.seals != 0 {
        let seals = SealFlag::from_bits_truncate(file.seals as i32);
        fcntl(&memory, FcntlArg::F_ADD_SEALS(seals)).context("cannot seal a file")?;
    }
    if !file.read_only {
        return Ok(memory.into());
    }
    let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
    let reopened = OpenOptions::new().read(true).open(path);
    let reopened = reopened.context("cannot reopen a file read-only")?;
    // The subject inherits it over exec.
    fcntl(&reopened, FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))?;
    Ok(reopened.into())
}
