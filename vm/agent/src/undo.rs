// SPDX-License-Identifier: GPL-2.0-only
//! On a machine that others use as well: undoes what was noted.

use crate::notes::{self, Note};
use crate::{call, cgroup, files, settings, swap};
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::kmod::{DeleteModuleFlags, delete_module};
use nix::mount::umount;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long what was killed may take to let go of the module.
const LET_GO: Duration = Duration::from_secs(10);
/// How long killed agents may take to be gone.
const DEATH: Duration = Duration::from_secs(5);

fn undo(note: &Note) -> Result<()> {
    match note {
        Note::Setting(path, value) => put_back(path, value),
        Note::Module => unload("tlbdiff"),
        Note::OtherModule(name) => unload(name),
        Note::Zram(number) => swap::remove(*number),
        Note::Swap(path, priority) => swap::on(path, *priority),
        Note::Mount(path) => {
            umount(path).with_context(|| format!("cannot unmount {}", path.display()))
        }
        Note::Controller(name) => cgroup::disable(name),
        Note::Folder(path) => match fs::remove_dir_all(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        },
    }
}

/// Writes a setting's value, and looks whether it is there then.
fn put_back(path: &Path, value: &str) -> Result<()> {
    fs::write(path, value)
        .with_context(|| format!("cannot write {value} to {}", path.display()))?;
    let now = settings::value(path)?;
    if now != value {
        bail!("{} stays {now} where it was {value}", path.display());
    }
    Ok(())
}

/// A module goes as soon as nobody has it open any more.
fn unload(name: &str) -> Result<()> {
    let module = std::ffi::CString::new(name).context("a module's name")?;
    let end = Instant::now() + LET_GO;
    loop {
        match delete_module(&module, DeleteModuleFlags::O_NONBLOCK) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            Err(_) if Instant::now() < end => sleep(Duration::from_millis(50)),
            Err(errno) => return Err(errno).with_context(|| format!("cannot unload {name}")),
        }
    }
}

/// Begins to take notes, for this process and its children. What an earlier run left
/// behind is undone before.
///
/// # Errors
/// Another run is under way, or what was left behind cannot be undone.
pub fn begin() -> Result<()> {
    let Some(lock) = notes::lock()? else {
        bail!("another tlbdiff is at work on this machine");
    };
    if notes::lines().is_some() {
        eprintln!("tlbdiff-agent: an earlier run was cut off; undoing what it did");
        undo_all()?;
    }
    notes::begin(lock)
}

/// Ends what a run left behind alive, and undoes what it did.
///
/// # Errors
/// What could not be ended or undone; it stays noted.
pub fn restore() -> Result<()> {
    let end = Instant::now() + DEATH;
    let lock = loop {
        if let Some(lock) = notes::lock()? {
            break lock;
        }
        kill_all(call::SERVE);
        if Instant::now() > end {
            bail!("the agent of another run cannot be killed");
        }
        sleep(Duration::from_millis(20));
    };
    let undone = undo_all();
    notes::forget_lock();
    drop(lock);
    undone
}

/// Undoes what this run did.
///
/// # Errors
/// What could not be undone; it stays noted.
pub fn end() -> Result<()> {
    let undone = undo_all();
    notes::forget_lock();
    undone
}

/// Undoes everything, the last first. Goes on where something cannot be undone.
fn undo_all() -> Result<()> {
    kill_all(call::ACTOR);
    cgroup::remove_all();
    let Some(lines) = notes::lines() else {
        return Ok(());
    };
    let mut left = Vec::new();
    let mut why = Vec::new();
    for line in lines.into_iter().rev() {
        let Some(note) = Note::parse(&line) else {
            continue;
        };
        if let Err(error) = undo(&note) {
            why.push(format!("{error:#}"));
            left.push(line);
        }
    }
    left.reverse();
    notes::leave(&left);
    if why.is_empty() {
        return Ok(());
    }
    bail!("could not be undone: {}", why.join("; "))
}

/// Kills this program's other processes that were called so.
fn kill_all(called: &str) {
    let Ok(processes) = fs::read_dir("/proc") else {
        return;
    };
    for process in processes.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(command) = files::read(&process.path().join("cmdline")) else {
            continue;
        };
        let mut words = command.split('\0');
        let program = words.next().is_some_and(|word| word.contains("tlbdiff"));
        let other = pid != std::process::id();
        if program && other && words.next() == Some(called) {
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
        }
    }
}
