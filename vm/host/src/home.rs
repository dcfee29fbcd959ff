// SPDX-License-Identifier: GPL-2.0-only
//! Where the files are that kernels, module and agent are made from: the checkout, or
//! what was installed beside the program.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::VmError;

/// Names it, whatever else there is.
const VARIABLE: &str = "TLBDIFF_HOME";

/// Where an installation keeps it, from the folder that `bin` is in.
const SHARED: &str = "share/tlbdiff";

/// A folder with these is one.
const MARKS: &[&str] = &["vm/kernels.toml", "vm/module/Kbuild"];

/// The agent, where it was installed ready-made for RISC-V.
const AGENT: &str = "tlbdiff-agent";

/// The folder that `vm/kernels.toml` and all the others are in.
///
/// # Errors
/// There is none, or `TLBDIFF_HOME` names something else.
pub fn home() -> Result<PathBuf, VmError> {
    find(
        std::env::var_os(VARIABLE).filter(|value| !value.is_empty()),
        std::env::current_exe().ok().as_deref(),
        &built_from(),
    )
}

/// The checkout that this was compiled in. It may have been moved since.
fn built_from() -> PathBuf {
    let host = Path::new(env!("CARGO_MANIFEST_DIR"));
    host.ancestors().nth(2).unwrap_or(host).to_owned()
}

/// What was installed with a program goes before what it was built from: it is of the
/// program's version, and somebody else may have put something where that was.
fn find(
    named: Option<OsString>,
    program: Option<&Path>,
    built_from: &Path,
) -> Result<PathBuf, VmError> {
    let looked = match named {
        Some(named) => vec![PathBuf::from(named)],
        None => {
            let beside = program.and_then(beside);
            beside.into_iter().chain([built_from.to_owned()]).collect()
        }
    };
    let found = looked.iter().find(|folder| is_home(folder));
    found.cloned().ok_or(VmError::NoHome {
        lacks: MARKS[0],
        looked,
    })
}

/// `/usr/share/tlbdiff` for `/usr/bin/tlbdiff`.
fn beside(program: &Path) -> Option<PathBuf> {
    let folder = program.parent().filter(|folder| folder.ends_with("bin"))?;
    Some(folder.parent()?.join(SHARED))
}

fn is_home(folder: &Path) -> bool {
    MARKS.iter().all(|mark| folder.join(mark).is_file())
}

/// The agent that was installed; none in a checkout, where it is built.
pub(crate) fn installed_agent(home: &Path) -> Option<PathBuf> {
    Some(home.join(AGENT)).filter(|file| file.is_file())
}

/// The command that provisions, as it can be typed where the user is.
pub fn provision_command(home: &Path) -> String {
    let here = std::env::current_dir()
        .ok()
        .and_then(|dir| dir.canonicalize().ok());
    match here.is_some() && here == home.canonicalize().ok() {
        true => "./vm/provision".to_owned(),
        false => home.join("vm/provision").display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn make(folder: &Path) -> PathBuf {
        for mark in MARKS {
            let file = folder.join(mark);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        folder.to_owned()
    }

    #[test]
    fn what_is_named_is_taken_or_refused_but_never_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let named = make(&folder.path().join("named"));
        let built = make(&folder.path().join("built"));
        let found = find(Some(named.clone().into()), None, &built).unwrap();
        assert_eq!(found, named);
        fs::remove_file(named.join(MARKS[1])).unwrap();
        let error = find(Some(named.clone().into()), None, &built).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(&named.display().to_string()), "{message}");
        assert!(!message.contains(&built.display().to_string()), "{message}");
        assert!(message.contains(VARIABLE), "{message}");
    }

    #[test]
    fn what_was_installed_goes_before_what_it_was_built_from() {
        let folder = tempfile::tempdir().unwrap();
        let built = make(&folder.path().join("built"));
        let program = folder.path().join("usr/bin/tlbdiff");
        assert_eq!(find(None, Some(&program), &built).unwrap(), built);
        let installed = make(&folder.path().join("usr/share/tlbdiff"));
        assert_eq!(find(None, Some(&program), &built).unwrap(), installed);
        // Cargo's own folder of programs is not one of an installation.
        let program = folder.path().join("usr/debug/tlbdiff");
        assert_eq!(find(None, Some(&program), &built).unwrap(), built);
    }

    #[test]
    fn where_there_is_none_all_that_was_looked_at_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("usr/bin/tlbdiff");
        let built = folder.path().join("moved");
        let message = find(None, Some(&program), &built).unwrap_err().to_string();
        for part in ["usr/share/tlbdiff", "moved", "vm/kernels.toml", VARIABLE] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn these_tests_have_one() {
        assert!(is_home(&home().unwrap()));
    }
}
