// SPDX-License-Identifier: GPL-2.0-only
//! Saved guests: a file per machine that can be told apart, in the kernel's own cache folder.

use super::{GuestConfig, arguments};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

/// Changes when what a saved state means does.
const FORMAT: &str = "1";
/// How often a taken lock is tried again.
const LOCK_POLL: Duration = Duration::from_millis(20);
/// How many states of one kernel are kept: of other harts, memory, QEMU. All modes of
/// address translation, with and without an extension, on two numbers of harts.
const KEPT: usize = 12;
const SUFFIX: &str = "guest";

/// Where the state of one kind of guest is kept.
#[derive(Clone, Debug)]
pub(super) struct SavedState {
    folder: PathBuf,
    name: String,
}

/// Held by whoever may write a state; released when dropped, or by the kernel.
pub(super) struct Writing<'a> {
    state: &'a SavedState,
    _lock: Flock<File>,
}

impl SavedState {
    /// The state that fits this configuration under this QEMU, saved or not.
    pub(super) fn of(config: &GuestConfig, qemu: &Path) -> io::Result<SavedState> {
        let binary = fs::metadata(qemu)?;
        let mut hash = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        add(FORMAT.as_bytes());
        add(config.artifacts.key.as_bytes());
        // An upgraded QEMU is another file. To ask for its version would cost
        // as much as to restore.
        add(qemu.as_os_str().as_bytes());
        for number in [binary.size() as i64, binary.mtime(), binary.mtime_nsec()] {
            add(&number.to_le_bytes());
        }
        for argument in arguments::machine(config) {
            add(argument.as_bytes());
        }
        let name = hash.finalize()[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(SavedState {
            folder: config.artifacts.cache.clone(),
            name,
        })
    }

    /// The file, there or not.
    pub(super) fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.{SUFFIX}", self.name))
    }

    /// Whether something has been saved.
    pub(super) fn exists(&self) -> bool {
        self.file().is_file()
    }

    /// Whether no guest of this kind was started before; from now on one was.
    pub(super) fn is_first(&self) -> bool {
        let met = self.folder.join(format!("{}.met", self.name));
        let made = fs::create_dir_all(&self.folder)
            .and_then(|()| File::options().write(true).create_new(true).open(met));
        made.is_ok()
    }

    /// Notes that it has been of use; only tidying asks.
    pub(super) fn used(&self) {
        if let Ok(file) = File::open(self.file()) {
            let _ = file.set_modified(SystemTime::now());
        }
    }

    /// Throws the state away.
    pub(super) fn discard(&self) {
        let _ = fs::remove_file(self.file());
    }

    /// Waits for the right to write this state.
    /// `waiting` is told once if somebody else has it.
    pub(super) fn lock(
        &self,
        deadline: Instant,
        waiting: &mut dyn FnMut(),
    ) -> io::Result<Writing<'_>> {
        fs::create_dir_all(&self.folder)?;
        let path = self.folder.join(format!("{}.lock", self.name));
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        let mut waited = false;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => {
                    return Ok(Writing {
                        state: self,
                        _lock: lock,
                    });
                }
                Err((back, Errno::EWOULDBLOCK)) if Instant::now() < deadline => file = back,
                Err((_, Errno::EWOULDBLOCK)) => {
                    let why = "another tlbdiff takes too long to save it";
                    return Err(io::Error::new(io::ErrorKind::TimedOut, why));
                }
                Err((_, errno)) => return Err(errno.into()),
            }
            if !waited {
                waiting();
            }
            waited = true;
            thread::sleep(LOCK_POLL);
        }
    }
}

impl Writing<'_> {
    /// Where to save. There is one such name, so what an interrupted run left
    /// behind is written over by the next.
    pub(super) fn partial(&self) -> PathBuf {
        self.state.file().with_extension("partial")
    }

    /// Where it is once it is saved.
    pub(super) fn file(&self) -> PathBuf {
        self.state.file()
    }

    /// Makes what was written to [`Writing::partial`] the saved state.
    pub(super) fn commit(&self) -> io::Result<()> {
        let partial = self.partial();
        // A file cut short by a power failure would restore to a broken guest.
        File::open(&partial)?.sync_all()?;
        fs::rename(&partial, self.state.file())?;
        self.tidy();
        Ok(())
    }

    /// Removes what a failed save left.
    pub(super) fn abandon(&self) {
        let _ = fs::remove_file(self.partial());
    }

    /// Removes the states longest unused.
    fn tidy(&self) {
        let Ok(entries) = fs::read_dir(&self.state.folder) else {
            return;
        };
        let mut states: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|suffix| suffix == SUFFIX))
            .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
            .collect();
        states.sort();
        states.reverse();
        for (_, path) in states.iter().skip(KEPT) {
            let _ = fs::remove_file(path);
            let _ = fs::remove_file(path.with_extension("lock"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::tests::config;

    fn state_in(folder: &Path) -> SavedState {
        let mut config = config();
        config.artifacts.cache = folder.to_owned();
        SavedState::of(&config, Path::new("/bin/sh")).unwrap()
    }

    #[test]
    fn every_part_of_the_machine_makes_another_state() {
        let sh = Path::new("/bin/sh");
        let name = |config: &GuestConfig, qemu| SavedState::of(config, qemu).unwrap().name;
        let base = config();
        let mut others = vec![base.clone(), base.clone(), base.clone(), base.clone()];
        others[0].harts += 1;
        others[1].memory_mib += 1;
        others[2].cpu += ",svnapot=on";
        others[3].artifacts.key += "x";
        for other in &others {
            assert_ne!(name(&base, sh), name(other, sh), "{other:?}");
        }
        assert_ne!(name(&base, sh), name(&base, Path::new("/bin/ls")));
        assert_eq!(name(&base, sh), name(&base.clone(), sh));
    }

    #[test]
    fn nothing_is_there_before_it_is_committed() {
        let folder = tempfile::tempdir().unwrap();
        let state = state_in(folder.path());
        let writing = state.lock(Instant::now(), &mut || ()).unwrap();
        fs::write(writing.partial(), "half").unwrap();
        assert!(!state.exists());
        writing.commit().unwrap();
        assert_eq!(fs::read(state.file()).unwrap(), b"half");
        state.discard();
        assert!(!state.exists());
    }

    #[test]
    fn only_one_writes_and_the_other_does_not_wait_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let state = state_in(folder.path());
        let first = state.lock(Instant::now(), &mut || ()).unwrap();
        let Err(error) = state.lock(Instant::now() + Duration::from_millis(60), &mut || ()) else {
            panic!("locked twice");
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        thread::scope(|scope| {
            let second = scope.spawn(|| {
                let mut waited = false;
                let deadline = Instant::now() + Duration::from_secs(10);
                state.lock(deadline, &mut || waited = true).unwrap();
                waited
            });
            thread::sleep(Duration::from_millis(50));
            drop(first);
            assert!(second.join().unwrap());
        });
    }

    #[test]
    fn the_longest_unused_go() {
        let folder = tempfile::tempdir().unwrap();
        let state = state_in(folder.path());
        for i in 0..KEPT + 2 {
            let path = folder.path().join(format!("old{i}.{SUFFIX}"));
            let file = File::create(path).unwrap();
            let age = Duration::from_secs(3600 * (1 + i as u64));
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        let writing = state.lock(Instant::now(), &mut || ()).unwrap();
        fs::write(writing.partial(), "new").unwrap();
        writing.commit().unwrap();
        assert!(state.exists());
        let kept = |i| folder.path().join(format!("old{i}.{SUFFIX}")).exists();
        assert_eq!(
            (kept(0), kept(KEPT - 2), kept(KEPT - 1)),
            (true, true, false)
        );
    }
}
