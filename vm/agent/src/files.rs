// SPDX-License-Identifier: GPL-2.0-only
//! Memory files, and small helpers around descriptors.

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use protocol::{PAGE_SIZE, program::MemoryFile};
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

/// Makes the files of a program: sized, filled, sealed, and reopened read-only as said.
///
/// # Errors
/// The kernel refuses a step of that.
pub fn make(files: &[MemoryFile]) -> Result<Vec<OwnedFd>> {
    let made = files.iter().map(make_one).collect::<Result<Vec<_>>>()?;
    if files.iter().any(|file| file.filled) {
        drain_lru_batches()?;
    }
    Ok(made)
}

/// Moves the pages that wait in this hart's LRU batches to the LRU lists, as
/// MADV_COLD does on whatever area. A page in a batch is on no list: it is neither
/// aged nor reclaimed, and which pages are in one depends on what ran before.
/// (Dropping caches drains all harts' batches too, but marks dirty pages on its
/// way in a way that fault-around takes for readahead, and passes over.)
///
/// # Errors
/// There is no room for a mapping of one page, or it cannot be advised.
pub fn drain_lru_batches() -> Result<()> {
    let length = PAGE_SIZE as usize;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping that nobody uses, and its removal.
    unsafe {
        let at = libc::mmap(std::ptr::null_mut(), length, libc::PROT_NONE, flags, -1, 0);
        if at == libc::MAP_FAILED
            || libc::madvise(at, length, libc::MADV_COLD) != 0
            || libc::munmap(at, length) != 0
        {
            return Err(std::io::Error::last_os_error()).context("cannot drain the LRU batches");
        }
    }
    Ok(())
}

fn make_one(file: &MemoryFile) -> Result<OwnedFd> {
    let mut memory = memfd(c"tlbdiff-file")?;
    memory
        .set_len(file.pages * PAGE_SIZE)
        .context("cannot size a memory file")?;
    if file.filled {
        let page = [0x5a; PAGE_SIZE as usize];
        for _ in 0..file.pages {
            memory
                .write_all(&page)
                .context("cannot fill a memory file")?;
        }
    }
    if file.seals != 0 {
        let seals = SealFlag::from_bits_truncate(file.seals as i32);
        fcntl(&memory, FcntlArg::F_ADD_SEALS(seals)).context("cannot seal a memory file")?;
    }
    if !file.read_only {
        return Ok(memory.into());
    }
    let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
    let reopened = OpenOptions::new().read(true).open(path);
    let reopened = reopened.context("cannot reopen a memory file read-only")?;
    // The subject inherits it over exec.
    fcntl(&reopened, FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))?;
    Ok(reopened.into())
}
