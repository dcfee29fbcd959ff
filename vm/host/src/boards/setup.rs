// SPDX-License-Identifier: GPL-2.0-only
//! What is brought to a board before anything runs there: the agent, and the tracing
//! module, built against the headers of the board's own kernel.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use super::error::BoardError;
use super::event::BoardEvent;
use super::place::{Input, Place, last_line};
use crate::cache::Cache;
use crate::error::VmError;
use crate::home::home;
use crate::keys;

/// For a question, over a slow link, of a slow board.
const QUESTION: Duration = Duration::from_secs(60);
/// For bringing or fetching a file of a few megabytes.
const TRANSFER: Duration = Duration::from_secs(120);
/// For building the module there.
const BUILD: Duration = Duration::from_secs(900);

/// Where files are kept on a board while they are needed: on a disk from which programs
/// may be run, which /run and /tmp need not be.
const FOLDERS: &str = "/var/tmp/tlbdiff.";

/// What is asked of a board first. One word or line each.
const WHO: &str = "uname -s; uname -m; uname -r; uname -v; id -un; id -u; \
    cat /proc/sys/kernel/random/boot_id";

/// What a board says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) release: String,
    version: String,
    user: String,
    root: bool,
    pub(super) boot_id: String,
}

/// Asks a board what it is.
///
/// # Errors
/// It cannot be reached, is something else, or lets us do nothing.
pub(super) fn facts(place: &Place) -> Result<Facts, BoardError> {
    let output = succeeded("uname", place.run(WHO, Input::Nothing, QUESTION)?)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let [system, machine, release, version, user, uid, boot_id] = lines[..] else {
        return Err(BoardError::OtherMachine {
            what: text.trim().replace('\n', " "),
        });
    };
    if (system, machine) != ("Linux", "riscv64") {
        return Err(BoardError::OtherMachine {
            what: format!("{system} on {machine}"),
        });
    }
    Ok(Facts {
        release: release.to_owned(),
        version: version.to_owned(),
        user: user.to_owned(),
        root: uid == "0",
        boot_id: boot_id.to_owned(),
    })
}

impl Facts {
    pub(super) fn check_rights(&self) -> Result<(), BoardError> {
        if self.root {
            return Ok(());
        }
        Err(BoardError::NoRights {
            user: self.user.clone(),
        })
    }
}

/// Text of the kernel's configuration, from where distributions and the kernel keep it.
pub(super) fn config(place: &Place, facts: &Facts) -> Option<String> {
    let release = &facts.release;
    let script = format!(
        "cat /boot/config-{release} 2>/dev/null || zcat /proc/config.gz 2>/dev/null || \
         cat /lib/modules/{release}/build/.config"
    );
    let output = place.run(&script, Input::Nothing, QUESTION).ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text).filter(|_| output.status.success())
}

/// A folder on the board with what was brought; gone when dropped.
pub(super) struct Folder {
    place: Place,
    path: String,
}

impl Folder {
    /// Makes it.
    pub(super) fn make(place: &Place) -> Result<Folder, BoardError> {
        let script = format!("mktemp -d {FOLDERS}XXXXXX");
        let output = succeeded("mktemp", place.run(&script, Input::Nothing, QUESTION)?)?;
        let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(Folder {
            place: place.clone(),
            path,
        })
    }

    /// The path there of a file in it.
    pub(super) fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    /// Brings a file.
    pub(super) fn bring(&self, from: &Path, name: &str) -> Result<(), BoardError> {
        let file = File::open(from).map_err(VmError::io("open", from))?;
        let to = self.file(name);
        let script = format!("cat > {to} && chmod 755 {to}");
        let output = self.place.run(&script, Input::File(file), TRANSFER)?;
        succeeded("cat", output).map(drop)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let script = format!("rm -rf {}", self.path);
        let _ = self.place.run(&script, Input::Nothing, QUESTION);
    }
}

/// Brings the tracing module: the one built earlier for this very kernel, or one that is
/// built there now, and kept here.
pub(super) fn bring_module(
    folder: &Folder,
    facts: &Facts,
    events: &mut dyn FnMut(BoardEvent),
) -> Result<String, BoardError> {
    let place = &folder.place;
    let kernel = format!("{} {}", facts.release, facts.version);
    let key = keys::module(&home()?, &kernel)?;
    let cache = Cache::from_env()?;
    if let Some(kept) = cache.finished("board-modules", &key) {
        folder.bring(&kept.join(MODULE), MODULE)?;
        return Ok(folder.file(MODULE));
    }
    let release = &facts.release;
    let build = format!("/lib/modules/{release}/build");
    let script = format!("test -e {build}/Makefile && echo there");
    let there = place.run(&script, Input::Nothing, QUESTION)?;
    if there.stdout.is_empty() {
        return Err(BoardError::NoHeaders {
            release: release.clone(),
        });
    }
    events(BoardEvent::BuildingModule);
    // Those of the tracing module alone: they lie beside each other.
    let tracer = |source: &PathBuf| source.parent().is_some_and(|at| at.ends_with("vm/module"));
    for source in keys::module_sources(&home()?)?.into_iter().filter(tracer) {
        let name = source.file_name().unwrap_or_default().to_string_lossy();
        folder.bring(&source, &name)?;
    }
    let script = format!("make -C {build} M={} modules 2>&1", folder.path);
    let made = place.run(&script, Input::Nothing, BUILD)?;
    if !made.status.success() {
        return Err(not_built(&made));
    }
    keep(&cache, &key, folder)?;
    Ok(folder.file(MODULE))
}

const MODULE: &str = "tlbdiff.ko";

/// Lines of a failed build that are told.
const LINES: usize = 12;

fn not_built(made: &Output) -> BoardError {
    let said = String::from_utf8_lossy(&made.stdout);
    if said.contains("No space left on device") {
        return BoardError::DiskFull {
            why: last_line(&made.stdout),
        };
    }
    let lines: Vec<&str> = said.lines().collect();
    let end = &lines[lines.len().saturating_sub(LINES)..];
    BoardError::ModuleBuild {
        why: end.join("\n  | "),
    }
}

fn keep(cache: &Cache, key: &str, folder: &Folder) -> Result<(), BoardError> {
    let script = format!("cat {}", folder.file(MODULE));
    let output = folder.place.run(&script, Input::Nothing, TRANSFER)?;
    let module = succeeded("cat", output)?.stdout;
    let partial = cache.begin("board-modules", key)?;
    let path: PathBuf = partial.path().join(MODULE);
    fs::write(&path, module).map_err(VmError::io("write", &path))?;
    partial.finish()?;
    Ok(())
}

/// The output of a command that did what it should.
fn succeeded(what: &str, output: Output) -> Result<Output, BoardError> {
    if output.status.success() {
        return Ok(output);
    }
    let why = last_line(&output.stderr);
    if why.contains("No space left on device") {
        return Err(BoardError::DiskFull { why });
    }
    Err(BoardError::Failed {
        what: what.to_owned(),
        why,
    })
}

/// Undoes on a board what a killed run left behind there.
///
/// # Errors
/// It cannot be reached, or something cannot be undone.
pub fn restore(place: &Place) -> Result<(), BoardError> {
    facts(place)?.check_rights()?;
    let folder = Folder::make(place)?;
    let agent = crate::provision::agent_program()?;
    folder.bring(&agent, AGENT)?;
    let script = format!("{} restore", folder.file(AGENT));
    let result = succeeded("restore", place.run(&script, Input::Nothing, TRANSFER)?);
    // Also what else was brought and forgotten; a run that still builds there is younger.
    let (parent, name) = FOLDERS.rsplit_once('/').unwrap_or_default();
    let forgotten = format!(
        "find {parent} -maxdepth 1 -name '{name}*' -mmin +{} -exec rm -rf {{}} +",
        BUILD.as_secs() / 60
    );
    let _ = place.run(&forgotten, Input::Nothing, QUESTION);
    drop(folder);
    place.disconnect();
    result.map(drop)
}

/// The agent's name on a board.
pub(super) const AGENT: &str = "tlbdiff-agent";
