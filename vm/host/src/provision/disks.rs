// SPDX-License-Identifier: GPL-2.0-only
//! Disks with an empty file system each, for scenarios whose files are written back. A guest
//! writes into a copy of its own; what is made here stays as it is.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use super::context::Provision;
use super::stage::QUERY_LIMIT;
use crate::disks::{DISKS, Disk, key};
use crate::error::VmError;

/// Makes the disks unless their key is in the cache.
pub(super) fn ensure(provision: &mut Provision) -> Result<(), VmError> {
    let key = key();
    if provision.cache.finished("disks", &key).is_some() {
        return Ok(());
    }
    let mut stage = provision.stage("disks")?;
    let partial = provision.cache.begin("disks", &key)?;
    for disk in DISKS {
        let path = partial.path().join(disk.file());
        empty(&path, disk.mib).map_err(VmError::io("write", &path))?;
        stage.doing(format!("making a disk with {}", disk.name));
        stage.run(&mut make(disk, &path), QUERY_LIMIT)?;
    }
    partial.finish()?;
    stage.done("ext4 and xfs");
    Ok(())
}

/// A file without blocks, as large as the disk.
fn empty(path: &Path, mib: u64) -> std::io::Result<()> {
    File::create(path)?.set_len(mib << 20)
}

/// The command that makes its file system. Where root alone has its program in PATH, it is
/// looked for there, too.
fn make(disk: &Disk, path: &Path) -> Command {
    let mut command = Command::new("env");
    let paths = std::env::var("PATH").unwrap_or_default();
    command.arg(format!("PATH={paths}:/usr/sbin:/sbin"));
    command.args(disk.make).arg(path);
    command
}
