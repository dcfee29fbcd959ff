// SPDX-License-Identifier: GPL-2.0-only
//! The guest's disks, each with a file system: mounted when the first program wants files
//! there, and from then on.

use crate::{files, notes};
use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use operations::Storage;
use std::fs::{self, File, OpenOptions};
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

/// Where the file system is mounted, by now.
fn mounted(on: Storage) -> Result<PathBuf> {
    let name = on.name();
    let place = Path::new("/").join(name);
    if place.exists() {
        return Ok(place);
    }
    let device = device(name).with_context(|| format!("there is no disk with {name}"))?;
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

/// The disk whose serial number is that name.
fn device(name: &str) -> Option<PathBuf> {
    let disks = fs::read_dir("/sys/block").ok()?;
    disks.flatten().find_map(|disk| {
        let serial = files::read(&disk.path().join("serial")).ok()?;
        let node = Path::new("/dev").join(disk.file_name());
        (serial.trim() == name && node.exists()).then_some(node)
    })
}
