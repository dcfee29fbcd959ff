// SPDX-License-Identifier: GPL-2.0-only
//! The cache: what was built, by the key of all that went in.
//!
//! ```text
//! apt/<suite>/               a private apt's state
//! rust/<version>/            a cross compiler for the agent
//! sources/<package_version>/ a kernel's source, unpacked
//! builds/<key>/              a kernel's source with its edits, and in it the
//!                            build directory, build/ (see provision/view.rs)
//! trees/<path's hash>/       a developer's tree: build directory, images/<key>/;
//!                            or his own image, kept as images/<key>/
//! modules/<key>/tlbdiff.ko
//! agents/<key>/init
//! initramfs/<key>/initramfs.cpio
//! disks/<key>/               disks with empty file systems
//! programs/<key>/            the disk with programs
//! states/<key>/              saved guests
//! current/<kernel>.json      what a kernel was last provisioned from
//! logs/                      the full log of each stage
//! ```
//!
//! A directory that bears its final name is whole: it is filled under another
//! name, synced, and renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use nix::fcntl::{Flock, FlockArg};

use crate::error::VmError;

/// How long one provisioning waits for another before it gives up.
const LOCK_LIMIT: Duration = Duration::from_secs(3 * 60 * 60);

/// In a directory's name: not finished, and by which process.
const PARTIAL: &str = ".partial-";

/// Where images of a developer's tree of that name, or image, are kept, by key.
pub(crate) fn images(slug: &str) -> String {
    format!("trees/{slug}/images")
}

/// The cache's root.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Where the environment says: `TLBDIFF_CACHE`, else `XDG_CACHE_HOME`,
    /// else `~/.cache`.
    pub(crate) fn from_env() -> Result<Cache, VmError> {
        let var = |name| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let root = var("TLBDIFF_CACHE")
            .or_else(|| var("XDG_CACHE_HOME").map(|dir| dir.join("tlbdiff")))
            .or_else(|| var("HOME").map(|dir| dir.join(".cache/tlbdiff")))
            .unwrap_or_default();
        if !root.is_absolute() {
            let source = io::Error::other("not absolute; set TLBDIFF_CACHE to an absolute path");
            return Err(VmError::Io {
                what: "keep a cache in",
                path: root,
                source,
            });
        }
        Ok(Cache { root })
    }

    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Cache {
        Cache {
            root: root.to_owned(),
        }
    }

    /// The cache's own folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path below the root.
    pub(crate) fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.root.join(below)
    }

    /// A directory below the root, made if need be.
    pub(crate) fn dir(&self, below: impl AsRef<Path>) -> Result<PathBuf, VmError> {
        let dir = self.path(below);
        fs::create_dir_all(&dir).map_err(VmError::io("create", &dir))?;
        Ok(dir)
    }

    /// The whole directory `kind/key`, if there is one.
    pub(crate) fn finished(&self, kind: &str, key: &str) -> Option<PathBuf> {
        Some(self.path(kind).join(key)).filter(|dir| dir.is_dir())
    }

    /// Begins the directory `kind/key`. Remains of interrupted attempts at any
    /// key of that kind are removed, so only the lock's holder may call this.
    pub(crate) fn begin(&self, kind: &str, key: &str) -> Result<Partial, VmError> {
        let parent = self.dir(kind)?;
        remove_partials(&parent)?;
        let dir = parent.join(format!("{key}{PARTIAL}{}", std::process::id()));
        fs::create_dir(&dir).map_err(VmError::io("create", &dir))?;
        Ok(Partial {
            dir,
            target: parent.join(key),
            finished: false,
        })
    }

    /// Makes this process the only one that provisions. `waiting` is told once
    /// who has the lock, if someone has; a holder that dies lets go.
    pub(crate) fn lock(&self, waiting: impl FnOnce(&str)) -> Result<Lock, VmError> {
        let path = self.dir("")?.join("lock");
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let mut file = open.map_err(VmError::io("open", &path))?;
        let mut waiting = Some(waiting);
        let begun = Instant::now();
        loop {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(mut flock) => {
                    note_holder(&mut flock).map_err(VmError::io("write", &path))?;
                    return Ok(Lock { _flock: flock });
                }
                Err((file, nix::Error::EWOULDBLOCK)) if begun.elapsed() < LOCK_LIMIT => file,
                Err((_, error)) => return Err(VmError::io("lock", &path)(error.into())),
            };
            if let Some(tell) = waiting.take() {
                tell(&holder(&mut file));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The keys of a kind's whole directories, the newest first.
    pub(crate) fn newest_first(&self, kind: &str) -> Result<Vec<String>, VmError> {
        let mut keys: Vec<(SystemTime, String)> = Vec::new();
        for entry in list(&self.path(kind))? {
            let key = entry.file_name().to_string_lossy().into_owned();
            if !key.contains(PARTIAL) {
                let modified = entry.metadata().and_then(|meta| meta.modified());
                keys.push((modified.unwrap_or(SystemTime::UNIX_EPOCH), key));
            }
        }
        keys.sort_by(|a, b| b.cmp(a));
        Ok(keys.into_iter().map(|(_, key)| key).collect())
    }

    /// Removes all but the newest `keep` directories of a kind, except those
    /// that `in_use` names.
    pub(crate) fn prune(&self, kind: &str, keep: usize, in_use: &[String]) -> Result<(), VmError> {
        let mut keys = self.newest_first(kind)?;
        keys.retain(|key| !in_use.contains(key));
        keys.iter()
            .skip(keep)
            .try_for_each(|key| discard(&self.path(kind).join(key)))
    }
}

/// Held as long as this lives, or the process does.
pub(crate) struct Lock {
    _flock: Flock<File>,
}

fn note_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{}", std::process::id())
}

fn holder(file: &mut File) -> String {
    let mut pid = String::new();
    // The note may be half written; it is only for a message.
    let read = file.rewind().and_then(|()| file.read_to_string(&mut pid));
    if read.is_ok() && !pid.is_empty() {
        format!("process {pid}")
    } else {
        "another process".to_owned()
    }
}

/// A directory that is not whole yet; removed unless finished.
#[derive(Debug)]
pub(crate) struct Partial {
    dir: PathBuf,
    target: PathBuf,
    finished: bool,
}

impl Partial {
    /// Where to put what belongs in it.
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// Gives it its name: from now on it counts as whole.
    pub(crate) fn finish(mut self) -> Result<PathBuf, VmError> {
        sync(&self.dir)?;
        if self.target.exists() {
            // Only `--update` and repairs come here: what is there is replaced.
            discard(&self.target)?;
        }
        fs::rename(&self.dir, &self.target).map_err(VmError::io("rename", &self.dir))?;
        self.finished = true;
        Ok(self.target.clone())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed now is removed by the next run.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// A rename can reach the disk before the files do; then a power cut would
/// leave a directory that looks whole.
fn sync(dir: &Path) -> Result<(), VmError> {
    let file = File::open(dir).map_err(VmError::io("open", dir))?;
    // SAFETY: syncfs takes a descriptor, which `file` keeps open, and no memory.
    match unsafe { libc::syncfs(file.as_raw_fd()) } {
        0 => Ok(()),
        _ => Err(VmError::io("sync", dir)(io::Error::last_os_error())),
    }
}

/// Removes a directory that may have been taken for whole: it loses its name
/// first, so that what an interruption leaves is never taken for whole.
fn discard(dir: &Path) -> Result<(), VmError> {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(format!("{PARTIAL}{}-old", std::process::id()));
    let doomed = dir.with_file_name(name);
    fs::rename(dir, &doomed).map_err(VmError::io("rename", dir))?;
    fs::remove_dir_all(&doomed).map_err(VmError::io("remove", &doomed))
}

fn remove_partials(parent: &Path) -> Result<(), VmError> {
    for entry in list(parent)? {
        if entry.file_name().to_string_lossy().contains(PARTIAL) {
            // A compiler that outlived its killed parent may still write here.
            // The name is never used again, so the next run gets it.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

/// A directory's entries; none if there is no such directory.
pub(crate) fn list(dir: &Path) -> Result<Vec<fs::DirEntry>, VmError> {
    match fs::read_dir(dir) {
        Ok(entries) => entries
            .collect::<Result<_, _>>()
            .map_err(VmError::io("list", dir)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(VmError::io("list", dir)(error)),
    }
}

/// Writes a file so that it is either the old one or the new one, never half.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), VmError> {
    let temporary = path.with_extension(format!("partial-{}", std::process::id()));
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(VmError::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_whole_only_once_finished() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::at(root.path());
        let partial = cache.begin("builds", "k").unwrap();
        fs::write(partial.path().join("Image"), "half").unwrap();
        assert_eq!(cache.finished("builds", "k"), None);
        let dir = partial.finish().unwrap();
        assert_eq!(cache.finished("builds", "k"), Some(dir.clone()));
        assert_eq!(fs::read_to_string(dir.join("Image")).unwrap(), "half");
    }

    #[test]
    fn what_a_killed_run_left_is_not_taken_for_whole_and_goes_away() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::at(root.path());
        let left = root.path().join("builds/k.partial-1");
        fs::create_dir_all(left.join("deep")).unwrap();
        assert_eq!(cache.finished("builds", "k"), None);
        let partial = cache.begin("builds", "other").unwrap();
        assert!(!left.exists());
        partial.finish().unwrap();
    }

    #[test]
    fn a_failed_attempt_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::at(root.path());
        drop(cache.begin("builds", "k").unwrap());
        assert!(list(&root.path().join("builds")).unwrap().is_empty());
    }

    #[test]
    fn finishing_twice_replaces() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::at(root.path());
        for text in ["old", "new"] {
            let partial = cache.begin("agents", "k").unwrap();
            fs::write(partial.path().join("init"), text).unwrap();
            partial.finish().unwrap();
        }
        assert_eq!(
            fs::read_to_string(root.path().join("agents/k/init")).unwrap(),
            "new"
        );
        assert_eq!(list(&root.path().join("agents")).unwrap().len(), 1);
    }

    #[test]
    fn pruning_keeps_the_newest_and_those_in_use() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::at(root.path());
        let now = SystemTime::now();
        for (age, key) in ["e", "d", "c", "b", "a"].iter().enumerate() {
            let dir = cache.dir(format!("states/{key}")).unwrap();
            let then = now - Duration::from_secs(60 * age as u64);
            File::open(dir).unwrap().set_modified(then).unwrap();
        }
        cache.prune("states", 2, &["a".to_owned()]).unwrap();
        let mut left: Vec<_> = list(&root.path().join("states")).unwrap();
        left.sort_by_key(fs::DirEntry::file_name);
        let left: Vec<_> = left.iter().map(fs::DirEntry::file_name).collect();
        assert_eq!(left, ["a", "d", "e"]);
    }

    #[test]
    fn the_second_waits_until_the_first_lets_go() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::at(root.path());
        let first = cache.lock(|_| panic!("nobody else has it")).unwrap();
        let (told, was_told) = std::sync::mpsc::channel();
        let second = {
            let cache = cache.clone();
            std::thread::spawn(move || {
                cache
                    .lock(|who| told.send(who.to_owned()).unwrap())
                    .map(|_| ())
            })
        };
        let who = was_told.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(who, format!("process {}", std::process::id()));
        assert!(!second.is_finished());
        drop(first);
        second.join().unwrap().unwrap();
    }
}
