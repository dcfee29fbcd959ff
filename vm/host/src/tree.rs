// SPDX-License-Identifier: GPL-2.0-only
//! A developer's own source tree: what it is, and whether it was edited.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::VmError;
use crate::keys::Key;

/// The first version whose riscv `tlbflush.c` the module can hook.
const OLDEST: (u32, u32) = (6, 12);

/// What an edit that matters here touches. The rest of a kernel is large, and
/// this is walked on every run; a build looks at everything.
const WATCHED: &[&str] = &[
    "arch/riscv",
    "include/asm-generic",
    "include/linux",
    "kernel",
    "lib",
    "mm",
    "virt",
];

/// A source tree of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    path: PathBuf,
}

impl Tree {
    /// Checks that a folder is the source of a kernel that will do.
    pub(crate) fn open(path: &Path) -> Result<Tree, VmError> {
        let bad = |why: String| VmError::BadTree {
            path: path.to_owned(),
            why,
        };
        let path = fs::canonicalize(path).map_err(|error| bad(error.to_string()))?;
        let makefile = fs::read_to_string(path.join("Makefile"))
            .map_err(|_| bad("not a kernel's source tree: it has no Makefile".to_owned()))?;
        if !path.join("arch/riscv/mm/tlbflush.c").is_file() {
            return Err(bad(
                "not a riscv kernel's source tree: no arch/riscv/mm/tlbflush.c".to_owned(),
            ));
        }
        let refused = |byte: &u8| byte.is_ascii_whitespace() || *byte == b':';
        if path.as_os_str().as_encoded_bytes().iter().any(refused) {
            return Err(bad(
                "its path has a space or a colon, where the kernel's Makefile builds nothing: \
                 move it, or mount it at another place (mount --bind)"
                    .to_owned(),
            ));
        }
        match version(&makefile) {
            Some(version) if version >= OLDEST => Ok(Tree { path }),
            Some((major, minor)) => Err(bad(format!(
                "this is Linux {major}.{minor}; {}.{} or later is needed",
                OLDEST.0, OLDEST.1
            ))),
            None => Err(bad(
                "not a kernel's source tree: its Makefile says no VERSION".to_owned(),
            )),
        }
    }

    /// Kbuild refuses to build elsewhere what has been built in place.
    pub(crate) fn check_clean(&self) -> Result<(), VmError> {
        let traces = [".config", "include/config", "arch/riscv/include/generated"];
        match traces.iter().find(|trace| self.path.join(trace).exists()) {
            None => Ok(()),
            Some(trace) => Err(VmError::BadTree {
                path: self.path.clone(),
                why: format!(
                    "it has been built in place ({trace} exists), so it cannot be built \
                     elsewhere: save its .config if you need it, then run \
                     `make -C {} ARCH=riscv mrproper`, and build with O=DIR from then on",
                    self.path.display()
                ),
            }),
        }
    }

    /// Where it is, without symbolic links.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its name in the cache.
    pub(crate) fn slug(&self) -> String {
        format!(
            "tree-{}",
            Key::new("tree")
                .field(self.path.as_os_str().as_encoded_bytes())
                .finish()
        )
    }

    /// A file that changed after `since`, if one of those that matter did.
    pub(crate) fn edited_since(&self, since: SystemTime) -> Option<PathBuf> {
        let mut folders: Vec<PathBuf> = WATCHED.iter().map(|name| self.path.join(name)).collect();
        while let Some(folder) = folders.pop() {
            // What cannot be read is the build's to complain about.
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let Ok(meta) = entry.metadata() else { continue };
                if meta.is_dir() {
                    folders.push(entry.path());
                } else if !is_made(&entry.file_name().to_string_lossy())
                    && meta.modified().is_ok_and(|modified| modified > since)
                {
                    let path = entry.path();
                    return Some(path.strip_prefix(&self.path).unwrap_or(&path).to_owned());
                }
            }
        }
        None
    }
}

/// What editors leave, and what kbuild makes beside sources where it builds in place.
fn is_made(name: &str) -> bool {
    const SUFFIXES: &[&str] = &[
        "~", ".a", ".gz", ".ko", ".mod", ".mod.c", ".o", ".order", "Image",
    ];
    name.starts_with('.') || SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

fn version(makefile: &str) -> Option<(u32, u32)> {
    let field = |name: &str| {
        let value = makefile
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().strip_prefix('='));
        value?.trim().parse().ok()
    };
    Some((field("VERSION")?, field("PATCHLEVEL")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn tree(makefile: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("arch/riscv/mm")).unwrap();
        fs::write(root.path().join("arch/riscv/mm/tlbflush.c"), "int x;").unwrap();
        fs::write(root.path().join("Makefile"), makefile).unwrap();
        root
    }

    const MAKEFILE: &str = "# SPDX\nVERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 1\n";

    #[test]
    fn a_tree_is_known_by_its_makefile() {
        assert!(Tree::open(tree(MAKEFILE).path()).is_ok());
        let error = |makefile: &str| Tree::open(tree(makefile).path()).unwrap_err().to_string();
        assert!(error("VERSION = 6\nPATCHLEVEL = 1\n").contains("Linux 6.1; 6.12 or later"));
        assert!(error("all:\n").contains("says no VERSION"));
        assert!(Tree::open(Path::new("/no/such/tree")).is_err());
    }

    #[test]
    fn a_path_that_kbuild_refuses_is_told_before_anything_is_built() {
        for name in ["my linux", "linux:next"] {
            let root = tree(MAKEFILE);
            let path = root.path().join(name);
            fs::create_dir(&path).unwrap();
            for entry in ["arch", "Makefile"] {
                fs::rename(root.path().join(entry), path.join(entry)).unwrap();
            }
            let error = Tree::open(&path).unwrap_err().to_string();
            assert!(error.contains("a space or a colon"), "{error}");
        }
    }

    #[test]
    fn a_tree_built_in_place_is_refused_with_the_remedy() {
        let root = tree(MAKEFILE);
        let tree = Tree::open(root.path()).unwrap();
        tree.check_clean().unwrap();
        fs::write(root.path().join(".config"), "").unwrap();
        let error = tree.check_clean().unwrap_err().to_string();
        assert!(error.contains("ARCH=riscv mrproper"), "{error}");
    }

    #[test]
    fn an_edit_is_noticed() {
        let root = tree(MAKEFILE);
        let tree = Tree::open(root.path()).unwrap();
        let now = SystemTime::now();
        assert_eq!(tree.edited_since(now + Duration::from_secs(60)), None);
        let edited = tree.edited_since(now - Duration::from_secs(60));
        assert_eq!(
            edited.as_deref(),
            Some(Path::new("arch/riscv/mm/tlbflush.c"))
        );
    }

    #[test]
    fn what_kbuild_makes_is_no_edit() {
        let root = tree(MAKEFILE);
        let tree = Tree::open(root.path()).unwrap();
        fs::remove_file(root.path().join("arch/riscv/mm/tlbflush.c")).unwrap();
        let since = SystemTime::now() - Duration::from_secs(60);
        let write = |name: &str| fs::write(root.path().join("arch/riscv").join(name), "");
        for name in [".Image.cmd", "Image", "Image.gz", "a.o", "a.mod.c", "a.c~"] {
            write(name).unwrap();
            assert_eq!(tree.edited_since(since), None, "{name}");
        }
        for name in ["a.S", "a.c", "Kconfig"] {
            write(name).unwrap();
            let edited = tree.edited_since(since).unwrap();
            assert!(edited.ends_with(name), "{}", edited.display());
            fs::remove_file(root.path().join(&edited)).unwrap();
        }
    }
}
