// SPDX-License-Identifier: GPL-2.0-only
//! The guest's root file system: the agent, the modules, and places to mount.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use cpio::newc::{Builder, ModeFileType, trailer};

use super::context::Provision;
use super::module;
use crate::error::VmError;

/// The archive's file in its directory.
pub(crate) const NAME: &str = "initramfs.cpio";

/// Packs the initramfs unless its key is in the cache.
pub(super) fn ensure(
    provision: &mut Provision,
    agent: &Path,
    modules: &Path,
    key: &str,
) -> Result<(), VmError> {
    if provision.cache.finished("initramfs", key).is_some() {
        return Ok(());
    }
    let stage = provision.stage("initramfs")?;
    let partial = provision.cache.begin("initramfs", key)?;
    let read = |path: &Path| fs::read(path).map_err(VmError::io("read", path));
    let path = partial.path().join(NAME);
    let iommu = modules.join(module::IOMMU);
    let iommu = iommu.exists().then(|| read(&iommu)).transpose()?;
    let tracer = read(&modules.join(module::NAME))?;
    let archive =
        pack(&read(agent)?, &tracer, iommu.as_deref()).map_err(VmError::io("write", &path))?;
    fs::write(&path, &archive).map_err(VmError::io("write", &path))?;
    partial.finish()?;
    stage.done(&format!("{} KiB", archive.len() / 1024));
    Ok(())
}

/// With fixed times and owners: the same files make the same archive.
fn pack(agent: &[u8], tracer: &[u8], iommu: Option<&[u8]>) -> io::Result<Vec<u8>> {
    let mut archive = Vec::new();
    for name in ["dev", "proc", "sys", "sys/fs", "tmp"] {
        let directory = Builder::new(name).mode(0o755).nlink(2);
        add(&mut archive, directory, ModeFileType::Directory, &[])?;
    }
    // The kernel gives these to init before any file system is mounted.
    for (name, major, minor) in [("dev/console", 5, 1), ("dev/null", 1, 3)] {
        let device = Builder::new(name).mode(0o600);
        let device = device.rdev_major(major).rdev_minor(minor);
        add(&mut archive, device, ModeFileType::Char, &[])?;
    }
    let files = [("init", 0o755, agent), (module::NAME, 0o644, tracer)];
    let iommu = iommu.map(|module| (module::IOMMU, 0o644, module));
    for (name, mode, content) in files.into_iter().chain(iommu) {
        let file = Builder::new(name).mode(mode);
        add(&mut archive, file, ModeFileType::Regular, content)?;
    }
    trailer(archive)
}

fn add(to: &mut Vec<u8>, entry: Builder, kind: ModeFileType, content: &[u8]) -> io::Result<()> {
    let size = u32::try_from(content.len()).map_err(io::Error::other)?;
    let mut entry = entry.set_mode_file_type(kind).write(to, size);
    entry.write_all(content)?;
    entry.finish().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpio::newc::Reader;

    #[test]
    fn all_that_init_needs_is_in_it() {
        let packed = || pack(b"#!/bin/true\n", b"12345", Some(b"123")).unwrap();
        let archive = packed();
        assert_eq!(archive, packed());
        let mut entries = Vec::new();
        let mut rest = archive.as_slice();
        loop {
            let mut reader = Reader::new(rest).unwrap();
            let entry = reader.entry();
            if entry.is_trailer() {
                break;
            }
            let device = (entry.rdev_major(), entry.rdev_minor());
            let (name, mode) = (entry.name().to_owned(), entry.mode());
            let mut content = Vec::new();
            io::copy(&mut reader, &mut content).unwrap();
            entries.push((name, mode, device, content.len()));
            rest = reader.finish().unwrap();
        }
        let has = |name: &str, mode, device, size| {
            let wanted = (name.to_owned(), mode, device, size);
            assert!(
                entries.contains(&wanted),
                "{wanted:?} is not in {entries:?}"
            );
        };
        has("sys/fs", 0o040_755, (0, 0), 0);
        has("dev/console", 0o020_600, (5, 1), 0);
        has("dev/null", 0o020_600, (1, 3), 0);
        has("init", 0o100_755, (0, 0), 12);
        has(module::NAME, 0o100_644, (0, 0), 5);
        has(module::IOMMU, 0o100_644, (0, 0), 3);
    }
}
