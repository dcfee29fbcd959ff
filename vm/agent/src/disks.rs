// SPDX-License-Identifier: GPL-2.0-only
//! The guest's disks, each with a file system: mounted when the first program wants files
//! there, and from then on.

use crate::{files, notes};
use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use operations::{MemoryFile, Storage};
use std::fs::{self, File, OpenOptions};
use std::os::fd::RawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Whether this machine has such a file system on a disk of ours. A board's disks are not.
pub fn is_there(on: Storage) -> bool {
    !notes::is_kept() && knows(on.name()) && device(on.name()).is_some()
}

/// A new file, which is gone when nobody has it open or mapped any more.
///
/// # Errors
/// There is no such disk, or the kernel refuses it.
pub fn file(on: Storage) -> Result<File> {
    let place = mounted(on)?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .open(&place)
        .with_context(|| format!("cannot make a file in {}", place.display()))
}

/// What shows how much of each disk is being read or written, of those that there are files on.
///
/// # Errors
/// It cannot be opened, or the kernel does not let this process wait for interrupt handlers.
pub fn inflight(files: &[MemoryFile]) -> Result<Vec<File>> {
    let used = |on: &Storage| files.iter().any(|file| file.on == *on);
    let used = [Storage::Ext4, Storage::Xfs].into_iter().filter(used);
    let disks = used.filter_map(|on| disk(on.name()));
    let opened = disks
        .map(|disk| {
            let path = disk.join("inflight");
            File::open(&path).with_context(|| format!("cannot open {}", path.display()))
        })
        .collect::<Result<Vec<_>>>()?;
    if !opened.is_empty() {
        membarrier().context("membarrier(2)")?;
    }
    Ok(opened)
}

/// Waits until nothing is being read or written any more. What a step has begun to read, and
/// does not wait for, is there when the next one begins. A request that is counted no more may
/// have its pages handed over still, by a hart's interrupt handler: when all harts have left
/// theirs, which membarrier(2) waits for (`synchronize_rcu()`), that is over.
///
/// A disk that never comes to rest ends at the host's limit, as a step that does not end.
pub fn settle(inflight: &[RawFd]) {
    for fd in inflight {
        while !is_idle(*fd) {}
    }
    if !inflight.is_empty() {
        // It has worked before the first step; there is nobody to tell here.
        let _ = membarrier();
    }
}

fn membarrier() -> nix::Result<()> {
    // SAFETY: only waits.
    let done = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    nix::errno::Errno::result(done).map(drop)
}

/// Of include/uapi/linux/membarrier.h.
const MEMBARRIER_CMD_GLOBAL: i32 = 1;

/// Whether the two numbers are 0. What cannot be read is taken for that.
fn is_idle(fd: RawFd) -> bool {
    let mut text = [0u8; 64];
    // SAFETY: reads into a buffer of that size.
    let length = unsafe { libc::pread(fd, text.as_mut_ptr().cast(), text.len(), 0) };
    let text = &text[..usize::try_from(length).unwrap_or(0)];
    text.iter().all(|byte| matches!(byte, b'0' | b' ' | b'\n'))
}

/// Where the file system is mounted, by now.
fn mounted(on: Storage) -> Result<PathBuf> {
    let name = on.name();
    let place = Path::new("/").join(name);
    if place.exists() {
        return Ok(place);
    }
    let device = device(name).with_context(|| format!("there is no disk with {name}"))?;
    end_where_begun(on)?;
    fs::create_dir(&place).with_context(|| format!("cannot make {}", place.display()))?;
    let done = mount(
        Some(&device),
        &place,
        Some(name),
        MsFlags::MS_NOATIME,
        Some(options(on)),
    );
    if done.is_err() {
        let _ = fs::remove_dir(&place);
    }
    done.with_context(|| format!("cannot mount {} at {}", device.display(), place.display()))?;
    Ok(place)
}

/// Where the disk with programs is mounted, by now.
///
/// # Errors
/// There is none, or the kernel refuses it.
pub fn programs() -> Result<PathBuf> {
    let place = PathBuf::from("/programs");
    if place.exists() {
        return Ok(place);
    }
    let device = device("programs").context("this machine has no disk with programs")?;
    fs::create_dir(&place).with_context(|| format!("cannot make {}", place.display()))?;
    let none: Option<&str> = None;
    let done = mount(
        Some(&device),
        &place,
        Some("ext4"),
        MsFlags::MS_NOATIME,
        none,
    );
    if done.is_err() {
        let _ = fs::remove_dir(&place);
    }
    done.with_context(|| format!("cannot mount {}", device.display()))?;
    Ok(place)
}

/// Has each hart end the requests that it made (`blk_mq_complete_need_ipi()`, block/blk-mq.c): in
/// its interrupt handler, so that who waits for one page of a request goes on when all of its
/// pages are there. Another hart would wake him at that page, with the rest still to come.
fn end_where_begun(on: Storage) -> Result<()> {
    let disk = disk(on.name()).with_context(|| format!("there is no disk with {}", on.name()))?;
    let path = disk.join("queue/rq_affinity");
    fs::write(&path, "2").with_context(|| format!("cannot write {}", path.display()))
}

/// Nothing is written but when somebody asks for it: a journal that is committed by a timer
/// writes the files' pages first.
fn options(on: Storage) -> &'static str {
    match on {
        Storage::Ext4 => "commit=86400,noinit_itable",
        Storage::Xfs | Storage::Memory => "",
    }
}

/// Whether the kernel has a file system.
fn knows(name: &str) -> bool {
    let known = files::read(Path::new("/proc/filesystems")).unwrap_or_default();
    known.lines().any(|line| line.trim() == name)
}

/// The device of the disk whose serial number is that name.
fn device(name: &str) -> Option<PathBuf> {
    Some(Path::new("/dev").join(disk(name)?.file_name()?))
}

/// What sysfs has of that disk.
fn disk(name: &str) -> Option<PathBuf> {
    let disks = fs::read_dir("/sys/block").ok()?;
    disks.flatten().find_map(|disk| {
        let serial = files::read(&disk.path().join("serial")).ok()?;
        let node = Path::new("/dev").join(disk.file_name());
        (serial.trim() == name && node.exists()).then(|| disk.path())
    })
}
