// SPDX-License-Identifier: GPL-2.0-only
//! The agent on a board: a machine that others use as well, that it was not booted
//! for, and that has to be as before when it is gone.
//!
//! A keeper stays beside the agent that serves, and undoes what was done when that one
//! ends, however it ends. What a killed keeper leaves behind is in the notes.

use crate::notes::{self, Note};
use crate::zygote::Zygotes;
use crate::{boot, cgroup, harts, limits, serve, settings, swap, undo};
use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Uid, fork, getppid};
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::path::Path;

/// Folders in which it is brought to a board begin so (vm/host/src/boards/setup.rs).
const FOLDERS: &str = "/var/tmp/tlbdiff.";

/// Where debugfs is looked for.
const DEBUGFS: &str = "/sys/kernel/debug";

/// Serves whoever is at the other end of standard input and output until they close it,
/// with the tracing module of that path. The exit code.
pub fn serve(module: &Path) -> i32 {
    match keep(module) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("tlbdiff-agent: {error:#}");
            1
        }
    }
}

/// Undoes what an earlier run left behind. The exit code.
pub fn restore() -> i32 {
    match only_root().and_then(|()| undo::restore()) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("tlbdiff-agent: {error:#}");
            1
        }
    }
}

fn only_root() -> Result<()> {
    if !Uid::effective().is_root() {
        bail!("no rights: it has to load a module and change settings, which takes root");
    }
    Ok(())
}

fn keep(module: &Path) -> Result<()> {
    only_root()?;
    // The end of the conversation is its end; who asks for less politeness is ignored
    // by the keeper and by the agent, who both see that end.
    for asked in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: no handler runs.
        unsafe { signal(asked, SigHandler::SigIgn) }.context("signal")?;
    }
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        bail!("cgroups of the second version are not mounted at /sys/fs/cgroup");
    }
    undo::begin()?;
    note_what_was_brought()?;
    cgroup::enter_root()?;
    let (input, output) = take_standard_streams()?;
    let keeper = std::process::id();
    // SAFETY: there is one thread.
    let child = match unsafe { fork() }.context("fork")? {
        ForkResult::Child => {
            let result = prepare(module)
                .and_then(|()| Zygotes::new())
                .and_then(|zygotes| serve::serve(input, output, zygotes));
            if let Err(error) = &result {
                eprintln!("tlbdiff-agent: {error:#}");
            }
            if getppid().as_raw() != keeper as i32 {
                // Nobody else will.
                let _ = undo::end();
            }
            std::process::exit(i32::from(result.is_err()));
        }
        ForkResult::Parent { child } => child,
    };
    // Only the agent holds the conversation, so that its end is seen by the other side.
    drop((input, output));
    let status = waitpid(child, None).context("waitpid")?;
    undo::end()?;
    match status {
        nix::sys::wait::WaitStatus::Exited(_, 0) => Ok(()),
        status => bail!("the agent ended: {status:?}"),
    }
}

/// The folder in which this program was brought, where it was: whoever brought it may
/// not be there any more when it is to go.
fn note_what_was_brought() -> Result<()> {
    let own = std::env::current_exe().context("cannot find this program")?;
    let folder = own.parent().unwrap_or(Path::new("/"));
    if folder.to_string_lossy().starts_with(FOLDERS) {
        notes::note(&Note::Folder(folder.to_owned()))?;
    }
    Ok(())
}

/// Standard input and output are the conversation's; what the agent and its actors
/// print goes to standard error.
fn take_standard_streams() -> Result<(File, File)> {
    let input = duplicate(0)?;
    let output = duplicate(1)?;
    let null = File::open("/dev/null").context("cannot open /dev/null")?;
    replace(null.as_raw_fd(), 0)?;
    replace(2, 1)?;
    Ok((input, output))
}

fn duplicate(fd: RawFd) -> Result<File> {
    // SAFETY: makes a new descriptor, which is owned by nobody else.
    let new = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    nix::errno::Errno::result(new).context("dup")?;
    // SAFETY: as above.
    Ok(unsafe { File::from_raw_fd(new) })
}

fn replace(by: RawFd, fd: RawFd) -> Result<()> {
    // SAFETY: standard streams are nobody's own.
    nix::errno::Errno::result(unsafe { libc::dup2(by, fd) })
        .context("dup2")
        .map(drop)
}

fn prepare(module: &Path) -> Result<()> {
    // Forked actors whose parents are gone are this process's, as in a guest.
    set_child_subreaper(true).context("prctl")?;
    limits::prepare()?;
    if !Path::new(DEBUGFS).join("fault_around_bytes").exists() {
        notes::note(&Note::Mount(DEBUGFS.into()))?;
        let kind = Some("debugfs");
        mount(kind, DEBUGFS, kind, MsFlags::empty(), None::<&str>).context("mount debugfs")?;
    }
    notes::note(&Note::Module)?;
    boot::load_module(module, c"")?;
    swap::take_over()?;
    settings::make_still()?;
    settings::keep_active()?;
    cgroup::take_harts(harts::online()?)?;
    // The agent stays off the harts on which subjects run.
    harts::pin(0)
}
