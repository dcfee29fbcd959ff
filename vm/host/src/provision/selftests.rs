// SPDX-License-Identifier: GPL-2.0-only
//! Builds the kernel's own tests of its mm (tools/testing/selftests/mm) for the disk with programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::kbuild::{Kbuild, alone};
use super::stage::{BUILD_LIMIT, QUERY_LIMIT, Stage};
use super::toolchain::Toolchain;
use super::view::{self, BUILD, Edited};
use crate::cache::list;
use crate::error::VmError;
use crate::programs::{COMPILE, CONFIG, MENDED, TESTS};

/// What they are built from.
pub(super) struct From<'a> {
    /// The kernel's source.
    pub(super) source: &'a Path,
    /// The libraries that they use, unpacked.
    pub(super) libraries: &'a Path,
    /// What compiles them.
    pub(super) toolchain: Toolchain,
}

/// A program that does not build, and the first that its compiler says of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NotBuilt {
    pub(super) name: String,
    pub(super) why: String,
}

/// Builds in `work` all that builds, puts it into the folder `into`, and gives the rest.
pub(super) fn build(
    from: From<'_>,
    work: &Path,
    into: &Path,
    stage: &mut Stage,
) -> Result<Vec<NotBuilt>, VmError> {
    let (view, out) = (work.join("view"), work.join("out"));
    for folder in [&view, &out, into] {
        fs::create_dir_all(folder).map_err(VmError::io("create", folder))?;
    }
    view::make(from.source, &mended(from.source)?, &view)?;
    let tests = view.join(TESTS);
    for (name, text) in CONFIG {
        let path = tests.join(name);
        fs::write(&path, text).map_err(VmError::io("write", &path))?;
    }
    Kbuild::of_view(&view, from.toolchain.clone()).make(&["headers"], stage)?;
    let build = Build { view, out, from };
    let names = build.names(stage)?;
    // What fails here is built again by itself, below.
    let _ = stage.run(&mut build.make(&["-k", "all"]), BUILD_LIMIT);
    let mut not_built = Vec::new();
    for name in names {
        match build.built(&name, stage)? {
            Ok(program) => copy(&program, &into.join(&name))?,
            Err(why) => not_built.push(NotBuilt { name, why }),
        }
    }
    for script in list(&tests)? {
        if script.path().extension().is_some_and(|end| end == "sh") {
            copy(&script.path(), &into.join(script.file_name()))?;
        }
    }
    Ok(not_built)
}

fn copy(from: &Path, to: &Path) -> Result<(), VmError> {
    fs::copy(from, to).map_err(VmError::io("copy", from))?;
    Ok(())
}

/// Files that lack a line, with it. Where a source has none of that name, it is passed over.
fn mended(source: &Path) -> Result<Edited, VmError> {
    let mut edited = Edited::new();
    for (name, line) in MENDED {
        let name = Path::new(TESTS).join(name);
        let path = source.join(&name);
        if path.is_file() {
            let text = fs::read_to_string(&path).map_err(VmError::io("read", &path))?;
            edited.insert(name, format!("{line}\n{text}"));
        }
    }
    Ok(edited)
}

/// Their build, by their own makefile.
struct Build<'a> {
    view: PathBuf,
    out: PathBuf,
    from: From<'a>,
}

impl Build<'_> {
    fn make(&self, arguments: &[&str]) -> Command {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let libraries = self.from.libraries.join("usr");
        let mut make = Command::new("make");
        make.arg("-C")
            .arg(self.view.join(TESTS))
            .arg(format!("-j{jobs}"))
            .arg("ARCH=riscv64")
            .args(self.from.toolchain.arguments())
            .arg(format!("OUTPUT={}", self.out.display()))
            .arg(format!(
                "KHDR_INCLUDES=-isystem {}",
                self.view.join(BUILD).join("usr/include").display()
            ))
            .arg(format!(
                "EXTRA_CFLAGS={} -isystem {} -L{}",
                COMPILE.join(" "),
                libraries.join("include").display(),
                libraries.join("lib/riscv64-linux-gnu").display()
            ))
            .args(arguments);
        alone(&mut make);
        make
    }

    /// The programs that the makefile would make.
    fn names(&self, stage: &mut Stage) -> Result<Vec<String>, VmError> {
        let rule = "--eval=names: ; @echo $(notdir $(TEST_GEN_PROGS) $(TEST_GEN_FILES))";
        let names = stage.output(&mut self.make(&["-s", rule, "names"]), QUERY_LIMIT)?;
        Ok(names.split_whitespace().map(str::to_owned).collect())
    }

    /// A program's file, or why there is none.
    fn built(&self, name: &str, stage: &mut Stage) -> Result<Result<PathBuf, String>, VmError> {
        let program = self.out.join(name);
        if program.is_file() {
            return Ok(Ok(program));
        }
        let before = stage.log_text()?.len();
        let target = program.display().to_string();
        if let Err(error) = stage.run(&mut self.make(&[&target]), BUILD_LIMIT) {
            let log = stage.log_text()?;
            let why = first_error(log.get(before..).unwrap_or_default());
            return Ok(Err(why.unwrap_or_else(|| error.to_string())));
        }
        Ok(Ok(program))
    }
}

/// The first that a compiler or a linker complains of.
fn first_error(log: &str) -> Option<String> {
    let complains = |line: &&str| {
        [
            "fatal error: ",
            ": error: ",
            "undefined reference",
            "cannot find ",
        ]
        .iter()
        .any(|words| line.contains(words))
    };
    log.lines()
        .find(complains)
        .map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_is_why() {
        let log = "+ \"make\"\nIn file included from a.c:1:\n\
                   a.c:2:10: fatal error: b.h: No such file or directory\n\
                   a.c:3:1: error: c\nmake: *** [out/a] Error 1\n";
        assert_eq!(
            first_error(log).as_deref(),
            Some("a.c:2:10: fatal error: b.h: No such file or directory")
        );
        assert_eq!(first_error("make: nothing\n"), None);
        let linker = "ld: /tmp/a.o: undefined reference to `f'";
        assert_eq!(first_error(linker).as_deref(), Some(linker));
    }

    #[test]
    fn what_lacks_a_line_gets_it_where_it_is() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(TESTS);
        fs::create_dir_all(&folder).unwrap();
        assert_eq!(mended(root.path()).unwrap(), Edited::new());
        let (name, line) = MENDED[0];
        fs::write(folder.join(name), "int x;\n").unwrap();
        let edited = mended(root.path()).unwrap();
        assert_eq!(
            edited[&Path::new(TESTS).join(name)],
            format!("{line}\nint x;\n")
        );
    }
}
