// SPDX-License-Identifier: GPL-2.0-only
//! The guest's root file system: the agent, the module, and places to mount.

use std::fs;
use std::path::Path;

use super::context::Provision;
use super::cpio::Cpio;
use super::module;
use crate::error::VmError;

/// The archive's file in its directory.
pub(crate) const NAME: &str = "initramfs.cpio";

/// Packs the initramfs unless its key is in the cache.
pub(super) fn ensure(
    provision: &mut Provision,
    agent: &Path,
    module: &Path,
    key: &str,
) -> Result<(), VmError> {
    if provision.cache.finished("initramfs", key).is_some() {
        return Ok(());
    }
    let stage = provision.stage("initramfs")?;
    let partial = provision.cache.begin("initramfs", key)?;
    let read = |path: &Path| fs::read(path).map_err(VmError::io("read", path));
    let archive = pack(&read(agent)?, &read(module)?);
    let path = partial.path().join(NAME);
    fs::write(&path, &archive).map_err(VmError::io("write", &path))?;
    partial.finish()?;
    stage.done(&format!("{} KiB", archive.len() / 1024));
    Ok(())
}

fn pack(agent: &[u8], module: &[u8]) -> Vec<u8> {
    let mut cpio = Cpio::default();
    for directory in ["dev", "proc", "sys", "sys/fs", "tmp"] {
        cpio.directory(directory);
    }
    // The kernel gives these to init before any file system is mounted.
    cpio.character_device("dev/console", 5, 1);
    cpio.character_device("dev/null", 1, 3);
    cpio.file("init", 0o755, agent);
    cpio.file(module::NAME, 0o644, module);
    cpio.finish()
}
