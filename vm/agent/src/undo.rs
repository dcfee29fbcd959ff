// SPDX-License-Identifier: GPL-2.0-only
//! On a machine that others use as well: what has to be undone, noted in a file
//! before it is done, so that it can be undone by whoever comes after.

use crate::{board, cgroup, files, settings, swap};
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::kmod::{DeleteModuleFlags, delete_module};
use nix::mount::umount;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// On a tmpfs: after a reboot there is nothing to undo, and no notes.
const FOLDER: &str = "/run/tlbdiff";
/// How long what was killed may take to let go of the module.
const LET_GO: Duration = Duration::from_secs(10);

/// The open notes, and the lock; none in a guest, which is thrown away.
static NOTES: Mutex<Option<(File, Flock<File>)>> = Mutex::new(None);

/// One thing to be undone, as a line of the notes: a word, and what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A setting had this value.
    Setting(PathBuf, String),
    /// The tracing module was loaded.
    Module,
    /// This kernel module was loaded for us.
    OtherModule(String),
    /// A zram device was added.
    Zram(u32),
    /// Swap was on there, with this priority.
    Swap(PathBuf, i32),
    /// Something was mounted there.
    Mount(PathBuf),
    /// A controller was enabled below the root cgroup.
    Controller(String),
    /// This program and its module were brought into that folder.
    Folder(PathBuf),
}

impl Note {
    fn line(&self) -> String {
        match self {
            Note::Setting(path, value) => format!("setting\t{}\t{value}", path.display()),
            Note::Module => "module".to_owned(),
            Note::OtherModule(name) => format!("other-module\t{name}"),
            Note::Zram(number) => format!("zram\t{number}"),
            Note::Swap(path, priority) => format!("swap\t{}\t{priority}", path.display()),
            Note::Mount(path) => format!("mount\t{}", path.display()),
            Note::Controller(name) => format!("controller\t{name}"),
            Note::Folder(path) => format!("folder\t{}", path.display()),
        }
    }

    fn parse(line: &str) -> Option<Note> {
        let mut words = line.split('\t');
        let (word, mut next) = (words.next()?, || words.next().map(str::to_owned));
        Some(match word {
            "setting" => Note::Setting(next()?.into(), next()?),
            "module" => Note::Module,
            "other-module" => Note::OtherModule(next()?),
            "zram" => Note::Zram(next()?.parse().ok()?),
            "swap" => Note::Swap(next()?.into(), next()?.parse().ok()?),
            "mount" => Note::Mount(next()?.into()),
            "controller" => Note::Controller(next()?),
            "folder" => Note::Folder(next()?.into()),
            _ => return None,
        })
    }

    fn undo(&self) -> Result<()> {
        match self {
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

fn notes() -> PathBuf {
    Path::new(FOLDER).join("undo")
}

/// Held by the keeper and its agent for as long as one of them lives.
const LOCK: &str = "/run/tlbdiff.lock";
/// How long killed agents may take to be gone.
const DEATH: Duration = Duration::from_secs(5);

/// The lock; none if another process holds it.
fn lock() -> Result<Option<Flock<File>>> {
    loop {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(LOCK)
            .with_context(|| format!("cannot make {LOCK}"))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            // Who had it before may have removed the file after it was opened here.
            Ok(lock) if lock.metadata()?.nlink() == 0 => {}
            Ok(lock) => return Ok(Some(lock)),
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, errno)) => return Err(errno).with_context(|| format!("cannot lock {LOCK}")),
        }
    }
}

/// Notes something that is about to be done. Does nothing in a guest.
///
/// # Errors
/// It cannot be written down, and so must not be done.
pub fn note(note: &Note) -> Result<()> {
    let mut notes = NOTES.lock().unwrap_or_else(|broken| broken.into_inner());
    let Some((file, _)) = notes.as_mut() else {
        return Ok(());
    };
    writeln!(file, "{}", note.line())
        .and_then(|()| file.sync_all())
        .context("cannot note what is to be undone")
}

/// Whether this is a machine on which things have to be undone.
pub fn is_kept() -> bool {
    let notes = NOTES.lock().unwrap_or_else(|broken| broken.into_inner());
    notes.is_some()
}

/// Begins to take notes, for this process and its children. What an earlier run left
/// behind is undone before.
///
/// # Errors
/// Another run is under way, or what was left behind cannot be undone.
pub fn begin() -> Result<()> {
    let Some(lock) = lock()? else {
        bail!("another tlbdiff is at work on this machine");
    };
    if notes().exists() {
        eprintln!("tlbdiff-agent: an earlier run was cut off; undoing what it did");
        undo_all()?;
    }
    fs::create_dir_all(FOLDER).with_context(|| format!("cannot make {FOLDER}"))?;
    let file = OpenOptions::new()
        .create_new(true)
        .append(true)
        .open(notes())
        .context("cannot make the notes of what is to be undone")?;
    *NOTES.lock().unwrap_or_else(|broken| broken.into_inner()) = Some((file, lock));
    Ok(())
}

/// Ends what a run left behind alive, and undoes what it did.
///
/// # Errors
/// What could not be ended or undone; it stays noted.
pub fn restore() -> Result<()> {
    let end = Instant::now() + DEATH;
    let lock = loop {
        if let Some(lock) = lock()? {
            break lock;
        }
        kill_all(board::SERVE);
        if Instant::now() > end {
            bail!("the agent of another run cannot be killed");
        }
        sleep(Duration::from_millis(20));
    };
    let undone = undo_all();
    let _ = fs::remove_file(LOCK);
    drop(lock);
    undone
}

/// Undoes what this run did.
///
/// # Errors
/// What could not be undone; it stays noted.
pub fn end() -> Result<()> {
    let undone = undo_all();
    let _ = fs::remove_file(LOCK);
    undone
}

/// Undoes everything, the last first. Goes on where something cannot be undone.
fn undo_all() -> Result<()> {
    kill_all(crate::actor::ARGUMENT);
    cgroup::remove_all();
    let text = match fs::read_to_string(notes()) {
        Ok(text) => text,
        Err(_) => return Ok(()),
    };
    let mut left = Vec::new();
    let mut why = Vec::new();
    for line in text.lines().rev() {
        let Some(note) = Note::parse(line) else {
            continue;
        };
        if let Err(error) = note.undo() {
            why.push(format!("{error:#}"));
            left.push(line);
        }
    }
    if why.is_empty() {
        let _ = fs::remove_dir_all(FOLDER);
        return Ok(());
    }
    left.reverse();
    let _ = fs::write(notes(), left.join("\n") + "\n");
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

#[cfg(test)]
mod tests {
    use super::Note;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        for note in [
            Note::Setting("/sys/x".into(), "a b".to_owned()),
            Note::Module,
            Note::OtherModule("zram".to_owned()),
            Note::Zram(3),
            Note::Swap("/dev/sda2".into(), -2),
            Note::Mount("/sys/kernel/debug".into()),
            Note::Controller("cpuset".to_owned()),
            Note::Folder("/var/tmp/x".into()),
        ] {
            assert_eq!(Note::parse(&note.line()), Some(note));
        }
        assert_eq!(Note::parse("something else"), None);
    }
}
