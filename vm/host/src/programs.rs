// SPDX-License-Identifier: GPL-2.0-only
//! A disk with everyday programs of Debian's and the kernel's own tests of its mm, for commands
//! that `tlbdiff observe` runs in a guest. Scenarios need none of it.

use std::path::PathBuf;

use crate::cache::Cache;
use crate::error::VmError;
use crate::home::home;
use crate::keys::{Facts, Key};
use crate::manifest::Manifest;

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
    "libcap2",
    "libnuma1",
    "liburing2",
    "make",
    "mawk",
    "mount",
    "procps",
    "python3",
    "sed",
    "sqlite3",
    "stress-ng",
    "tar",
    "trinity",
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

/// The kernel whose tests are there, by its name.
pub(crate) const KERNEL: &str = "stable";

/// Where the kernel has its tests, from its source's root.
pub(crate) const TESTS: &str = "tools/testing/selftests/mm";

/// Where they are on the disk.
pub(crate) const TESTS_THERE: &str = "usr/lib/mm-selftests";

/// What they are compiled against, besides libc.
pub(crate) const LIBRARIES: &[&str] = &[
    "libcap-dev",
    "libcap2",
    "libnuma-dev",
    "libnuma1",
    "liburing-dev",
    "liburing2",
];

/// How they are compiled: without warnings, which are not ours to mend; and the disk's libraries
/// may want a newer libc than the host's, which is there where they run.
pub(crate) const COMPILE: &[&str] = &["-w", "-Wl,--allow-shlib-undefined"];

/// What check_config.sh would find out, were it told where the libraries are.
pub(crate) const CONFIG: &[(&str, &str)] = &[
    ("local_config.h", "#define LOCAL_CONFIG_HAVE_LIBURING 1\n"),
    ("local_config.mk", "IOURING_EXTRA_LIBS = -luring\n"),
];

/// Files that lack a line, and the line. 6.12.117's khugepaged.c has KSFT_SKIP from nowhere.
pub(crate) const MENDED: &[(&str, &str)] = &[("khugepaged.c", "#include \"../kselftest.h\"")];

/// Over what is on it: by what its kernel was provisioned from, the tests' source and compiler.
/// Debian's updates make no other disk: it is made anew when somebody wants it so (`--update`).
pub(crate) fn key(facts: &Facts) -> String {
    let texts = CONFIG
        .iter()
        .chain(MENDED)
        .flat_map(|(name, text)| [*name, *text]);
    let words = [MAKE, UNWANTED, LIBRARIES, COMPILE].concat();
    let key = Key::new(NAME)
        .field(SUITE)
        .field(MIB.to_le_bytes())
        .field(&facts.source)
        .field(&facts.gcc)
        .field(TESTS_THERE);
    let key = PACKAGES.iter().fold(key, |key, name| key.field(name));
    words
        .into_iter()
        .chain(texts)
        .fold(key, Key::field)
        .finish()
}

/// What its kernel was provisioned from, if it was.
pub(crate) fn facts(cache: &Cache) -> Result<Option<Facts>, VmError> {
    Ok(Manifest::read(cache, KERNEL)?.map(|manifest| manifest.facts))
}

/// The disk's file.
///
/// # Errors
/// It has not been made, or of another source.
pub fn disk() -> Result<PathBuf, VmError> {
    let cache = Cache::from_env()?;
    let key = facts(&cache)?.map(|facts| key(&facts));
    let folder = key.and_then(|key| cache.finished(NAME, &key));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::tests::facts;

    #[test]
    fn source_and_compiler_of_the_tests_reach_the_disk_and_no_other_compiler() {
        let was = key(&facts());
        let other = |change: &dyn Fn(&mut Facts)| {
            let mut facts = facts();
            change(&mut facts);
            key(&facts)
        };
        assert_ne!(was, other(&|facts| facts.source += "x"));
        assert_ne!(was, other(&|facts| facts.gcc += "x"));
        assert_eq!(was, other(&|facts| facts.rust += "x"));
    }
}
