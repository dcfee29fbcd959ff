// SPDX-License-Identifier: GPL-2.0-only
//! Breakpoints in files, by perf events of the kind `uprobe`. A probe is there for as long as its
//! descriptor, and so no longer than its actor. Nothing here allocates.

use crate::system_file;
use operations::StepResult;
use std::ffi::CStr;
use std::io::Write;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::SeqCst};

/// Its number among the kinds of events.
const TYPE: &CStr = c"/sys/bus/event_source/devices/uprobe/type";

/// `PERF_ATTR_SIZE_VER1` (include/uapi/linux/perf_event.h), in words: up to `config2`.
const ATTR_WORDS: usize = 9;
/// `PERF_FLAG_FD_CLOEXEC`
const PERF_FLAG_FD_CLOEXEC: u64 = 8;

/// A probe of this process, where there is one.
struct Probe {
    /// Which file, and where in it: see [`key`].
    key: AtomicU64,
    /// Its descriptor, or -1.
    fd: AtomicI32,
}

/// All that this process may have.
static PROBES: [Probe; 4] = [const {
    Probe {
        key: AtomicU64::new(0),
        fd: AtomicI32::new(-1),
    }
}; 4];

/// Whether the kernel has them.
pub fn is_there() -> bool {
    std::path::Path::new(TYPE.to_str().unwrap_or_default()).exists()
}

/// A probe at an offset of a file that is open there.
pub fn set(file: RawFd, offset: u64) -> StepResult {
    let free = PROBES.iter().find(|probe| probe.fd.load(SeqCst) < 0);
    let Some(probe) = free else {
        return StepResult::Errno(libc::EMFILE);
    };
    match open(file, offset) {
        Ok(fd) => {
            probe.key.store(key(file, offset), SeqCst);
            probe.fd.store(fd, SeqCst);
            StepResult::Ok
        }
        Err(errno) => StepResult::Errno(errno),
    }
}

/// The one that is there goes.
pub fn remove(file: RawFd, offset: u64) -> StepResult {
    let is_it =
        |probe: &&Probe| probe.key.load(SeqCst) == key(file, offset) && probe.fd.load(SeqCst) >= 0;
    match PROBES.iter().find(is_it) {
        Some(probe) => {
            close(probe);
            StepResult::Ok
        }
        None => StepResult::Errno(libc::ENOENT),
    }
}

/// Whoever was forked has its parent's descriptors: without this the parent's probes would not go
/// before the child does.
pub fn forget() {
    PROBES.iter().for_each(close);
}

fn close(probe: &Probe) {
    let fd = probe.fd.swap(-1, SeqCst);
    if fd >= 0 {
        // SAFETY: was opened here.
        unsafe { libc::close(fd) };
    }
}

fn key(file: RawFd, offset: u64) -> u64 {
    u64::from(file.unsigned_abs()) << 48 | offset
}

/// An event of no process in particular: the probe is wherever the file is mapped.
fn open(file: RawFd, offset: u64) -> Result<RawFd, i32> {
    let kind = system_file::number(TYPE)?;
    let mut path = [0u8; 32];
    // The last byte stays 0.
    let told = write!(&mut path[..31], "/proc/self/fd/{file}");
    told.map_err(|_| libc::ENAMETOOLONG)?;
    let size = size_of::<[u64; ATTR_WORDS]>() as u64;
    let mut attr = [0u64; ATTR_WORDS];
    attr[0] = kind | size << 32;
    attr[7] = path.as_ptr() as u64;
    attr[8] = offset;
    let (nobody, hart, group) = (-1, 0, -1);
    // SAFETY: attr is as long as it says, and outlives the call, as the path does.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            attr.as_ptr(),
            nobody,
            hart,
            group,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    if fd < 0 {
        // SAFETY: the thread's errno.
        return Err(unsafe { *libc::__errno_location() });
    }
    Ok(fd as RawFd)
}
