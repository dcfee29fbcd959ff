// SPDX-License-Identifier: GPL-2.0-only
//! What a kernel's source tree defines, as far as the model could mirror it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;
use vm::c_source::{self, DefinitionKind};

/// Where what the model mirrors is defined, and what that calls.
const PLACES: &[&str] = &[
    "arch/riscv/include/asm",
    "arch/riscv/kernel",
    "arch/riscv/mm",
    "block/blk-settings.c",
    "block/blk.h",
    "fs/drop_caches.c",
    "fs/exec.c",
    "fs/ext4/extents.c",
    "fs/ext4/inode.c",
    "fs/file.c",
    "fs/file_table.c",
    "fs/hugetlbfs/inode.c",
    "fs/iomap/buffered-io.c",
    "fs/iomap/direct-io.c",
    "fs/open.c",
    "fs/proc/base.c",
    "fs/proc/task_mmu.c",
    "fs/read_write.c",
    "fs/splice.c",
    "fs/sync.c",
    "fs/userfaultfd.c",
    "fs/xfs/xfs_bmap_util.c",
    "fs/xfs/xfs_file.c",
    "fs/xfs/xfs_iops.c",
    "include/asm-generic",
    "include/linux",
    "io_uring/memmap.c",
    "io_uring/rsrc.c",
    "kernel/cgroup",
    "kernel/cpu.c",
    "kernel/exit.c",
    "kernel/fork.c",
    "kernel/pid.c",
    "kernel/ptrace.c",
    "kernel/sched",
    "lib",
    "mm",
];

/// Folders below those that no kernel is built from.
const APART: &[&str] = &["tests", "kunit"];

/// A kernel's source.
#[derive(Debug)]
pub struct Source {
    /// As it was asked for by: a name, or a folder.
    pub name: String,
    files: Vec<File>,
    names: HashMap<String, Vec<Located>>,
}

#[derive(Debug)]
struct File {
    path: String,
    text: String,
}

#[derive(Clone, Debug)]
struct Located {
    file: usize,
    kind: DefinitionKind,
    whole: Range<usize>,
}

/// Where a name is defined, and what stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition<'a> {
    /// The file, from the source's root.
    pub file: &'a str,
    /// The line at which it begins, from 1.
    pub line: usize,
    /// What it is.
    pub kind: DefinitionKind,
    /// All of it.
    pub text: &'a str,
}

impl Source {
    /// Reads a tree.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(name: String, root: &Path) -> io::Result<Source> {
        let mut files = Vec::new();
        for place in PLACES {
            read_below(root, place, &mut files)?;
        }
        // The same on every machine.
        files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(Source::of(name, files))
    }

    fn of(name: String, files: Vec<File>) -> Source {
        let mut names: HashMap<String, Vec<Located>> = HashMap::new();
        for (file, File { text, .. }) in files.iter().enumerate() {
            for definition in c_source::all(text) {
                let (kind, whole) = (definition.kind, definition.whole);
                let place = Located { file, kind, whole };
                let places = names.entry(definition.name.to_owned()).or_default();
                places.push(place);
            }
        }
        Source { name, files, names }
    }

    /// A source of these files, each a path and its text.
    #[cfg(test)]
    pub fn made(files: &[(&str, &str)]) -> Source {
        let file = |(path, text): &(&str, &str)| File {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
        };
        Source::of("made".to_owned(), files.iter().map(file).collect())
    }

    /// Where a name is defined, in the order of the files.
    pub fn definitions(&self, name: &str) -> Vec<Definition<'_>> {
        let places = self.names.get(name).into_iter().flatten();
        places.map(|place| self.definition(place)).collect()
    }

    /// Whether a name is defined.
    pub fn defines(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// All names that another source does not define, with their functions.
    pub fn functions_beyond<'a>(
        &'a self,
        other: &'a Source,
    ) -> impl Iterator<Item = (&'a str, Definition<'a>)> {
        let beyond = self.names.iter().filter(|(name, _)| !other.defines(name));
        beyond.flat_map(|(name, places)| {
            let functions = places
                .iter()
                .filter(|place| place.kind == DefinitionKind::Function);
            functions.map(|place| (name.as_str(), self.definition(place)))
        })
    }

    fn definition(&self, place: &Located) -> Definition<'_> {
        let File { path, text } = &self.files[place.file];
        let before = &text[..place.whole.start];
        Definition {
            file: path,
            line: before.matches('\n').count() + 1,
            kind: place.kind,
            text: &text[place.whole.clone()],
        }
    }
}

/// Reads the C files at or below a place of a tree. What a release does not have is none.
fn read_below(root: &Path, place: &str, files: &mut Vec<File>) -> io::Result<()> {
    let path = root.join(place);
    let Ok(meta) = fs::metadata(&path) else {
        return Ok(());
    };
    if meta.is_dir() {
        for entry in fs::read_dir(&path)? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            if !APART.contains(&name.as_ref()) {
                read_below(root, &format!("{place}/{name}"), files)?;
            }
        }
    } else if place.ends_with(".c") || place.ends_with(".h") {
        // A name in a comment may be in another encoding.
        let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        let path = place.to_owned();
        files.push(File { path, text });
    }
    Ok(())
}
