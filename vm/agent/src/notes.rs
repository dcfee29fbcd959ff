// SPDX-License-Identifier: GPL-2.0-only
//! On a machine that others use as well: what has to be undone, noted in a file before it
//! is done, so that it can be undone by whoever comes after.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// On a tmpfs: after a reboot there is nothing to undo, and no notes.
const FOLDER: &str = "/run/tlbdiff";

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
    pub fn line(&self) -> String {
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

    pub fn parse(line: &str) -> Option<Note> {
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
}

fn path() -> PathBuf {
    Path::new(FOLDER).join("undo")
}

/// Held by the keeper and its agent for as long as one of them lives.
const LOCK: &str = "/run/tlbdiff.lock";

/// The lock; none if another process holds it.
///
/// # Errors
/// Its file cannot be made or locked.
pub fn lock() -> Result<Option<Flock<File>>> {
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

/// Begins to take notes, for this process and its children.
///
/// # Errors
/// There are some already, or none can be made.
pub fn begin(lock: Flock<File>) -> Result<()> {
    fs::create_dir_all(FOLDER).with_context(|| format!("cannot make {FOLDER}"))?;
    let file = OpenOptions::new()
        .create_new(true)
        .append(true)
        .open(path())
        .context("cannot make the notes of what is to be undone")?;
    *NOTES.lock().unwrap_or_else(|broken| broken.into_inner()) = Some((file, lock));
    Ok(())
}

/// The lines that are there, of this run or of one that was cut off; none where there are
/// no notes.
pub fn lines() -> Option<Vec<String>> {
    let text = fs::read_to_string(path()).ok()?;
    Some(text.lines().map(str::to_owned).collect())
}

/// Leaves only these lines, or no notes.
pub fn leave(lines: &[String]) {
    if lines.is_empty() {
        let _ = fs::remove_dir_all(FOLDER);
        return;
    }
    let _ = fs::write(path(), lines.join("\n") + "\n");
}

/// Nobody is at work any more.
pub fn forget_lock() {
    let _ = fs::remove_file(LOCK);
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
