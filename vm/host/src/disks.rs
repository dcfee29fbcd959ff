// SPDX-License-Identifier: GPL-2.0-only
//! The guest's disks: which file systems there are to keep a scenario's files on.

use std::ffi::OsString;
use std::path::Path;

use crate::keys::Key;

/// A disk with one file system.
pub(crate) struct Disk {
    /// The file system's name, and the disk's serial number, by which the agent knows it.
    pub(crate) name: &'static str,
    /// Its size. Of what nobody has written nothing is kept.
    pub(crate) mib: u64,
    /// What makes it, before the file's name. Identifiers are given, for else each would
    /// differ, and nothing is left to be done by the guest once it is mounted.
    pub(crate) make: &'static [&'static str],
}

/// All of them, in the order in which the guest has them.
pub(crate) const DISKS: &[Disk] = &[
    Disk {
        name: "ext4",
        mib: 64,
        make: &[
            "mke2fs",
            "-q",
            "-F",
            "-t",
            "ext4",
            "-b",
            "4096",
            "-U",
            "6f8b5f2e-7a41-4c0e-9d55-000000000001",
            "-E",
            "lazy_itable_init=0,lazy_journal_init=0,hash_seed=6f8b5f2e-7a41-4c0e-9d55-000000000002",
        ],
    },
    // 300 MiB is the least that xfs takes.
    Disk {
        name: "xfs",
        mib: 300,
        make: &[
            "mkfs.xfs",
            "-q",
            "-f",
            "-m",
            "uuid=6f8b5f2e-7a41-4c0e-9d55-000000000003",
        ],
    },
];

impl Disk {
    /// Its file's name.
    pub(crate) fn file(&self) -> String {
        format!("{}.img", self.name)
    }
}

/// Over how they are made.
pub(crate) fn key() -> String {
    DISKS
        .iter()
        .fold(Key::new("disks"), |key, disk| {
            let recipe = disk.make.join(" ");
            key.field(disk.name)
                .field(disk.mib.to_le_bytes())
                .field(recipe)
        })
        .finish()
}

/// QEMU's arguments for the disks in a folder. What is written goes to a file that QEMU
/// removes at its end.
pub(crate) fn arguments(folder: &Path) -> Vec<OsString> {
    let one = |disk: &Disk| drive(disk.name, &folder.join(disk.file()));
    DISKS.iter().flat_map(one).collect()
}

/// QEMU's arguments for a disk in a file.
pub(crate) fn drive(name: &str, file: &Path) -> [OsString; 4] {
    let mut drive = OsString::from(format!("if=none,id={name},format=raw,snapshot=on,file="));
    drive.push(file);
    let device = format!("virtio-blk-device,drive={name},serial={name}");
    ["-drive".into(), drive, "-device".into(), device.into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_never_written_to() {
        let words = arguments(Path::new("/cache/disks/k"));
        let drives = words.iter().filter_map(|word| word.to_str());
        let drives: Vec<&str> = drives.filter(|word| word.contains("file=")).collect();
        assert_eq!(drives.len(), DISKS.len());
        assert!(drives.iter().all(|drive| drive.contains("snapshot=on")));
        assert!(drives[0].ends_with("file=/cache/disks/k/ext4.img"));
    }
}
