// SPDX-License-Identifier: GPL-2.0-only
//! A disk with everyday programs of Debian's, for commands that `tlbdiff observe` runs in a
//! guest. Scenarios need none of it.

use std::path::PathBuf;

use crate::cache::Cache;
use crate::error::VmError;
use crate::home::home;
use crate::keys::Key;

/// The suite that they are of.
pub(crate) const SUITE: &str = "trixie";

/// What is there, with all that it depends on. The first has the folders that the others are
/// unpacked into.
pub(crate) const PACKAGES: &[&str] = &[
    "base-files",
    "bash",
    "coreutils",
    "dash",
    "diffutils",
    "findutils",
    "gcc",
    "git",
    "grep",
    "gzip",
    "libc-bin",
    "libc6-dev",
    "make",
    "mawk",
    "procps",
    "python3",
    "sed",
    "sqlite3",
    "stress-ng",
    "tar",
    "util-linux",
    "xz-utils",
];

/// What nobody runs.
pub(crate) const UNWANTED: &[&str] = &["usr/share/doc", "usr/share/man", "usr/share/locale"];

/// The disk's size, of which as much is written as is used.
pub(crate) const MIB: u64 = 2048;

/// What makes the file system, before the options that name what goes into it.
pub(crate) const MAKE: &[&str] = &["mke2fs", "-q", "-F", "-t", "ext4"];

/// The disk's file, and its serial number, by which the agent knows it.
pub(crate) const NAME: &str = "programs";

/// Over what is on it. Debian's updates make no other disk: it is made anew when somebody wants
/// it so (`--update`).
pub(crate) fn key() -> String {
    let key = Key::new(NAME).field(SUITE).field(MIB.to_le_bytes());
    let packages = PACKAGES.iter().fold(key, |key, name| key.field(name));
    let all = [MAKE, UNWANTED].concat();
    all.iter()
        .fold(packages, |key, word| key.field(word))
        .finish()
}

/// The disk's file.
///
/// # Errors
/// It has not been made.
pub fn disk() -> Result<PathBuf, VmError> {
    let folder = Cache::from_env()?.finished(NAME, &key());
    folder.map(|folder| folder.join(file())).ok_or_else(|| {
        let script = home().map(|home| home.join("vm/provision"));
        VmError::NoPrograms {
            remedy: format!("{} --programs", script.unwrap_or_default().display()),
        }
    })
}

/// The file's name.
pub(crate) fn file() -> String {
    format!("{NAME}.img")
}
