// SPDX-License-Identifier: GPL-2.0-only
//! What a kernel is built from and in: its source with edits laid over it, and
//! the build directory inside.
//!
//! ```text
//! builds/<key>/        the source: hard links to files of `sources/…`, and
//!                      symbolic links to whole folders
//! builds/<key>/mm/     where a file is edited: all directories its own
//! builds/<key>/build/  what kbuild makes
//! ```
//!
//! A variant begins with a copy of its base's build directory, and make builds
//! what is newer in the source, that is, the edited files. For that the source
//! must be called the same by both, because kbuild makes anew what was made by
//! another command line. Right below the source, kbuild calls it `..`, wherever
//! both are: so the build directory is there. Besides,
//!
//! * nothing is edited where another kernel reads it, so an interrupted build
//!   leaves nothing to take back, and no build waits for another's edits;
//! * neither mounts nor the rights to make them are needed;
//! * the source is there once: what a view takes is its directories.
//!
//! One thing can go around an edit: a path that leads through a symbolic link
//! and up again is in the unedited source. So what is known to have such paths
//! has directories of its own, too, and [`check`] finds what is not known.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::cache::list;
use crate::error::VmError;

/// The build directory in a view. No kernel has a folder of that name.
pub(crate) const BUILD: &str = "build";

/// Files by their path from the source's root, with their new text.
pub(super) type Edited = BTreeMap<PathBuf, String>;

/// Fills a folder with a view of a source, and an empty build directory.
pub(super) fn make(source: &Path, edited: &Edited, view: &Path) -> Result<(), VmError> {
    let mut own: Vec<PathBuf> = edited.keys().map(|file| own_folder(file)).collect();
    if !own.is_empty() {
        own.push(ARCH.into());
    }
    fill(source, Path::new(""), &own, edited, view)?;
    let build = view.join(BUILD);
    fs::create_dir(&build).map_err(VmError::io("create", &build))
}

/// It reads other folders by `..`, from deep inside (`virt/kvm`); other folders
/// do so from their top (`lib/../mm/internal.h`).
const ARCH: &str = "arch/riscv";

/// The folder that has directories of its own for an edit's sake: what is in
/// it includes its neighbours by `..`.
fn own_folder(file: &Path) -> PathBuf {
    let depth = if file.starts_with("arch") { 2 } else { 1 };
    file.iter().take(depth).collect()
}

/// Fills the folder `at`, from the source's root, of a view.
fn fill(
    source: &Path,
    at: &Path,
    own: &[PathBuf],
    edited: &Edited,
    view: &Path,
) -> Result<(), VmError> {
    let inside = own.iter().any(|folder| at.starts_with(folder));
    let top = !own.is_empty() && at == Path::new("");
    let is_own = |folder: &Path| inside || top || own.iter().any(|own| own.starts_with(folder));
    for entry in list(&source.join(at))? {
        let name = at.join(entry.file_name());
        let (from, to) = (source.join(&name), view.join(&name));
        let kind = entry.file_type().map_err(VmError::io("read", &from))?;
        if let Some(text) = edited.get(&name) {
            fs::write(&to, text).map_err(VmError::io("write", &to))?;
        } else if !kind.is_dir() {
            fs::hard_link(&from, &to).map_err(VmError::io("make a hard link to", &from))?;
        } else if is_own(&name) {
            fs::create_dir(&to).map_err(VmError::io("create", &to))?;
            fill(source, &name, own, edited, view)?;
        } else {
            symlink(&from, &to).map_err(VmError::io("make a symbolic link to", &from))?;
        }
    }
    Ok(())
}

/// Whether each edited file is what was compiled, by what the compiler said
/// that it had read; else what is the matter.
pub(super) fn check(
    kernel: &str,
    source: &Path,
    edited: &Edited,
    view: &Path,
) -> Result<(), VmError> {
    let build = view.join(BUILD);
    let mut read = Vec::new();
    for record in files(&build)? {
        if record
            .extension()
            .is_some_and(|extension| extension == "cmd")
        {
            let bytes = fs::read(&record).map_err(VmError::io("read", &record))?;
            let text = String::from_utf8_lossy(&bytes);
            read.extend(dependencies(&text, edited).map(|path| build.join(path)));
        }
    }
    for file in edited.keys() {
        let named: Vec<PathBuf> = read
            .iter()
            .filter(|path| path.file_name() == file.file_name())
            .filter_map(|path| fs::canonicalize(path).ok())
            .collect();
        let is = |tree: &Path| fs::canonicalize(tree.join(file)).ok();
        let (ours, theirs) = (is(view), is(source));
        let why = if named.iter().any(|path| Some(path) == theirs.as_ref()) {
            "it is read by a path that leads around the edit (`..` behind a symbolic link to \
             the unedited source): edit what includes it, too, or another file"
        } else if named.iter().any(|path| Some(path) == ours.as_ref()) {
            continue;
        } else {
            "nothing that is built reads it, so the edit has no effect: edit another file, or \
             add the option that builds it to the kernel's `config`"
        };
        return Err(VmError::EditUnused {
            kernel: kernel.to_owned(),
            file: file.clone(),
            why,
        });
    }
    Ok(())
}

/// The paths in one of kbuild's records that may be edited files.
fn dependencies<'a>(text: &'a str, edited: &'a Edited) -> impl Iterator<Item = PathBuf> + 'a {
    text.lines()
        .filter_map(|line| line.trim_end_matches('\\').split_whitespace().next_back())
        .map(Path::new)
        .filter(|path| {
            edited
                .keys()
                .any(|file| path.file_name() == file.file_name())
        })
        .map(Path::to_owned)
}

/// Removes from a variant's build directory what only building it again needs:
/// that begins with its base's. What modules are built with stays.
pub(super) fn trim(view: &Path) -> Result<(), VmError> {
    let build = view.join(BUILD);
    for file in files(&build)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let is_object = [".o", ".a", ".cmd"].iter().any(|end| name.ends_with(end));
        let is_step = [".tmp_vmlinux", ".vmlinux."]
            .iter()
            .any(|begin| name.starts_with(begin));
        let tool = file.starts_with(build.join("scripts"));
        if (is_object || is_step) && !tool {
            fs::remove_file(&file).map_err(VmError::io("remove", &file))?;
        }
    }
    Ok(())
}

/// Every file below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>, VmError> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in list(&folder)? {
            let path = entry.path();
            let kind = entry.file_type().map_err(VmError::io("read", &path))?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                files.push(path);
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    const FILES: &[&str] = &[
        "Makefile",
        "arch/Kconfig",
        "arch/arm/mm/a.c",
        "arch/riscv/kvm/vm.c",
        "arch/riscv/mm/a.c",
        "arch/riscv/mm/b.c",
        "mm/damon/d.c",
        "mm/internal.h",
        "fs/f.c",
        "fs/ext4/e.c",
    ];

    /// A source, and a view of it in which these files are edited.
    struct Fixture {
        root: tempfile::TempDir,
        edited: Edited,
    }

    impl Fixture {
        fn new(edited: &[&str]) -> Fixture {
            let root = tempfile::tempdir().unwrap();
            for file in FILES {
                let path = root.path().join("source").join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, format!("was {file}")).unwrap();
            }
            let edited: Edited = edited
                .iter()
                .map(|file| (file.into(), "is".to_owned()))
                .collect();
            let fixture = Fixture { root, edited };
            fs::create_dir(fixture.view()).unwrap();
            make(&fixture.source(), &fixture.edited, &fixture.view()).unwrap();
            fixture
        }

        fn source(&self) -> PathBuf {
            self.root.path().join("source")
        }

        fn view(&self) -> PathBuf {
            self.root.path().join("view")
        }

        fn text(&self, file: &str) -> String {
            fs::read_to_string(self.view().join(file)).unwrap()
        }

        fn is_link(&self, name: &str) -> bool {
            self.view().join(name).is_symlink()
        }

        /// What is found after the compiler read these, in the build directory.
        fn checked(&self, read: &[&str]) -> Result<(), String> {
            let deps: String = read.iter().map(|file| format!("  {file} \\\n")).collect();
            let record = self.view().join("build/.x.o.cmd");
            fs::write(
                record,
                format!("deps_x.o := \\\n{deps}\nx.o: $(deps_x.o)\n"),
            )
            .unwrap();
            check("mutant", &self.source(), &self.edited, &self.view())
                .map_err(|error| error.to_string())
        }
    }

    #[test]
    fn a_view_without_edits_is_links() {
        let fixture = Fixture::new(&[]);
        assert_eq!(fixture.text("mm/internal.h"), "was mm/internal.h");
        assert!(fixture.is_link("arch") && fixture.is_link("mm"));
        assert!(fixture.view().join("build").is_dir());
    }

    #[test]
    fn an_edit_is_seen_in_the_view_alone() {
        let fixture = Fixture::new(&["arch/riscv/mm/a.c", "mm/internal.h"]);
        for file in FILES {
            let was = format!("was {file}");
            let in_source = fs::read_to_string(fixture.source().join(file)).unwrap();
            assert_eq!(in_source, was);
            let is = if fixture.edited.contains_key(Path::new(file)) {
                "is"
            } else {
                &was
            };
            assert_eq!(fixture.text(file), is);
        }
    }

    #[test]
    fn what_is_beside_an_edit_leads_to_the_edit_and_takes_no_room() {
        let fixture = Fixture::new(&["arch/riscv/mm/a.c", "mm/internal.h"]);
        assert_eq!(fixture.text("arch/riscv/kvm/../mm/a.c"), "is");
        assert_eq!(fixture.text("mm/damon/../internal.h"), "is");
        let inode = |root: &Path| fs::metadata(root.join("mm/damon/d.c")).unwrap().ino();
        assert_eq!(inode(&fixture.view()), inode(&fixture.source()));
        assert_eq!(fixture.text("fs/../mm/internal.h"), "is");
        assert_eq!(fixture.text("arch/riscv/kvm/../../../mm/internal.h"), "is");
        assert!(fixture.is_link("arch/arm") && fixture.is_link("fs/ext4"));
    }

    #[test]
    fn an_edit_that_was_compiled_is_well() {
        let fixture = Fixture::new(&["mm/internal.h"]);
        fixture.checked(&["../fs/f.c", "../mm/internal.h"]).unwrap();
    }

    #[test]
    fn an_edit_that_was_gone_around_is_found() {
        let fixture = Fixture::new(&["mm/internal.h"]);
        let error = fixture.checked(&["../mm/internal.h", "../fs/ext4/../../mm/internal.h"]);
        assert!(error.unwrap_err().contains("around the edit"));
    }

    #[test]
    fn an_edit_of_what_is_not_compiled_is_found() {
        let fixture = Fixture::new(&["mm/internal.h"]);
        let error = fixture.checked(&["../mm/damon/d.c"]).unwrap_err();
        assert!(
            error.contains("mm/internal.h is not in what was built: nothing"),
            "{error}"
        );
    }

    #[test]
    fn trimming_leaves_what_modules_need() {
        let fixture = Fixture::new(&["mm/internal.h"]);
        let build = fixture.view().join("build");
        fs::create_dir_all(build.join("scripts/mod")).unwrap();
        for file in [
            "a.o",
            ".a.o.cmd",
            ".tmp_vmlinux1",
            "vmlinux",
            "Module.symvers",
            "scripts/mod/b.o",
        ] {
            fs::write(build.join(file), "").unwrap();
        }
        trim(&fixture.view()).unwrap();
        let mut left = files(&build).unwrap();
        left.sort();
        let names = ["Module.symvers", "scripts/mod/b.o", "vmlinux"];
        assert_eq!(left, names.map(|name| build.join(name)));
    }
}
