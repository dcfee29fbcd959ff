// SPDX-License-Identifier: GPL-2.0-only
//! What can go wrong between a kernel's name and its files.

use std::path::{Path, PathBuf};

/// Why a kernel could not be found or made. Each says what happened, where,
/// and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// `kernels.toml` cannot be read as a list of kernels.
    #[error("{}: {message}", path.display())]
    Kernels {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, with the line where that is known.
        message: String,
    },
    /// The files that kernels, module and agent are made from are nowhere.
    #[error(
        "the files that tlbdiff needs are not there: no {lacks} in {}\n  what to do: set \
         TLBDIFF_HOME to a checkout of tlbdiff, or to what was installed of it",
        shown(looked)
    )]
    NoHome {
        /// What was looked for.
        lacks: &'static str,
        /// In these folders.
        looked: Vec<PathBuf>,
    },
    /// There is no kernel of that name.
    #[error("no kernel is called `{name}`{}; known: {}", nearest_hint(nearest.as_deref()), known.join(", "))]
    UnknownKernel {
        /// What was asked for.
        name: String,
        /// Every name there is.
        known: Vec<String>,
        /// The known name that was probably meant.
        nearest: Option<String>,
    },
    /// A developer's source tree, image or build directory cannot serve as a kernel.
    #[error("{}: {why}", path.display())]
    BadTree {
        /// The tree, the image or the build directory.
        path: PathBuf,
        /// Why not, and what to do.
        why: String,
    },
    /// The compiler that a kernel is to be built with, or was, is not there.
    #[error("{why}\n  what to do: {remedy}")]
    Compiler {
        /// What was looked for, and why.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// An edit of `kernels.toml` does not fit the kernel's source.
    #[error(
        "{kernel}: an edit does not fit {}: {why}{shown}\n  what to do: read what the \
         source does now, and change {edit} in vm/kernels.toml to go with it",
        file.display()
    )]
    Edit {
        /// The kernel.
        kernel: String,
        /// Where in `kernels.toml` the edit is.
        edit: String,
        /// The file that was to be edited.
        file: PathBuf,
        /// What does not fit.
        why: String,
        /// The source around it, each line after a line break.
        shown: String,
    },
    /// An edit fits, and is still not in the kernel that was built.
    #[error("{kernel}: the edit of {} is not in what was built: {why}", file.display())]
    EditUnused {
        /// The kernel.
        kernel: String,
        /// The edited file, from the source's root.
        file: PathBuf,
        /// Why not, and what to do.
        why: &'static str,
    },
    /// What is needed has not been built, or not from what is here now.
    #[error("{kernel}: {why}: run {remedy}")]
    NotProvisioned {
        /// The kernel asked for.
        kernel: String,
        /// What is missing or out of date.
        why: String,
        /// The command that makes it.
        remedy: String,
    },
    /// The disk with programs has not been made.
    #[error("there is no disk with programs: run {remedy}")]
    NoPrograms {
        /// The command that makes it.
        remedy: String,
    },
    /// No suite has a kernel's source any more, and none was kept.
    #[error(
        "{kernel}: {suites} have no {package} any more, and it was never fetched here\n  what to \
         do: name a suite that has it in vm/kernels.toml, or give its source: --kernel-tree DIR"
    )]
    SourceGone {
        /// The kernel asked for.
        kernel: String,
        /// What was looked for.
        package: String,
        /// In these suites.
        suites: String,
    },
    /// A stage of provisioning failed.
    #[error("{stage}: {what}\n  log: {}{tail}", log.display())]
    Stage {
        /// The stage's name.
        stage: &'static str,
        /// What failed, and what to do where that is known.
        what: String,
        /// The stage's full log.
        log: PathBuf,
        /// The end of the log, each line indented, or nothing.
        tail: String,
    },
    /// The operating system refused something.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The refusal.
        source: std::io::Error,
    },
}

impl VmError {
    /// For `map_err`: names what was tried, and on what.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> VmError {
        let path = path.to_owned();
        move |source| VmError::Io { what, path, source }
    }
}

fn shown(folders: &[PathBuf]) -> String {
    let folders = folders.iter().map(|folder| folder.display().to_string());
    folders.collect::<Vec<_>>().join(", nor in ")
}

fn nearest_hint(nearest: Option<&str>) -> String {
    nearest
        .map(|name| format!(" (did you mean `{name}`?)"))
        .unwrap_or_default()
}
