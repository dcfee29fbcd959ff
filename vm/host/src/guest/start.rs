// SPDX-License-Identifier: GPL-2.0-only
//! From nothing to a guest whose agent has answered.

use super::{
    Guest, GuestConfig, GuestError, GuestEvent, OLDEST_QEMU,
    arguments::{Begin, QEMU},
    console::Console,
    machine::QemuMachine,
    qmp::Qmp,
    silent,
    state::{SavedState, Writing},
    timers,
};
use crate::conversation::{self, Broken, Stop};
use protocol::message::System;
use serde_json::{Value, json};
use std::{
    env, fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How often a guest is started until the firmware boots the hart that is wanted.
const BEGINNINGS: usize = 20;
/// How often a state is tried that another process saved again after it had failed here.
const RESTORES: usize = 3;

type Events<'a> = &'a mut dyn FnMut(GuestEvent);

/// See [`Guest::start`].
pub(super) fn start(config: &GuestConfig, events: Events) -> Result<Guest, GuestError> {
    start_with(&find_qemu()?, config, events)
}

/// The same, with this QEMU.
pub(super) fn start_with(
    qemu: &Path,
    config: &GuestConfig,
    events: Events,
) -> Result<Guest, GuestError> {
    let begin = Instant::now();
    let (guest, restored) = if config.snapshot {
        restore_or_boot(config, qemu, events)?
    } else {
        (boot(config, qemu, None, events)?, false)
    };
    let took = begin.elapsed();
    events(GuestEvent::Ready { restored, took });
    Ok(guest)
}

fn restore_or_boot(
    config: &GuestConfig,
    qemu: &Path,
    events: Events,
) -> Result<(Guest, bool), GuestError> {
    let state = SavedState::of(config, qemu).map_err(GuestError::NotStarted)?;
    // Between two edits it is often the only one, and saving takes as long as half of a boot.
    if config.artifacts.own && !state.exists() && state.is_first() {
        return Ok((boot(config, qemu, None, events)?, false));
    }
    // Several guests started at once: one boots and saves, the others restore.
    let patience = Instant::now() + config.timeouts.boot + config.timeouts.save;
    for _ in 0..RESTORES {
        if let Some(guest) = restore_if_saved(config, qemu, &state, events)? {
            return Ok((guest, true));
        }
        let mut announce = || events(GuestEvent::WaitingForOther);
        match state.lock(patience, &mut announce) {
            // Restored without the lock, so that all who waited restore at once.
            Ok(_) if state.exists() => {}
            Ok(writing) => return Ok((boot(config, qemu, Some(writing), events)?, false)),
            Err(error) => {
                let folder = config.artifacts.cache.display();
                events(GuestEvent::SaveFailed(format!("{folder}: {error}")));
                break;
            }
        }
    }
    Ok((boot(config, qemu, None, events)?, false))
}

/// Restores the saved guest; `None` if there is none, or none that can be restored.
fn restore_if_saved(
    config: &GuestConfig,
    qemu: &Path,
    state: &SavedState,
    events: Events,
) -> Result<Option<Guest>, GuestError> {
    if !state.exists() {
        return Ok(None);
    }
    events(GuestEvent::Restoring { from: state.file() });
    match restore(config, qemu, state, events) {
        Ok(guest) => {
            state.used();
            Ok(Some(guest))
        }
        // Booting would fail in the same way.
        Err(error @ (GuestError::NotStarted(_) | GuestError::QemuTooOld { .. })) => Err(error),
        Err(error) => {
            events(GuestEvent::RestoreFailed(error.to_string()));
            state.discard();
            Ok(None)
        }
    }
}

fn restore(
    config: &GuestConfig,
    qemu: &Path,
    state: &SavedState,
    events: Events,
) -> Result<Guest, GuestError> {
    let deadline = Instant::now() + config.timeouts.restore;
    let file = state.file();
    let mut qemu = Qemu::start(qemu, config, Begin::Restore, deadline, events)?;
    let Qemu { machine, qmp, .. } = &mut qemu;
    qmp.use_mapped_ram(machine, deadline)?;
    let from = json!({ "uri": uri(&file)? });
    qmp.execute(machine, "migrate-incoming", from, deadline)?;
    qmp.wait_for_migration(machine, deadline)?;
    timers::rearm(machine, qmp, config.harts, deadline)?;
    qmp.execute(machine, "cont", Value::Null, deadline)?;
    machine.heed_signs = true;
    let during = "the restored agent's first answer";
    // Why it is silent is not asked: it is booted afresh.
    let system = greet(&mut qemu, deadline, during, |machine, _| {
        GuestError::AgentSilent {
            during,
            after: config.timeouts.restore,
            evidence: "the saved guest is of no use".to_owned(),
            console: machine.console.excerpt(),
        }
    })?;
    Ok(qemu.into_guest(config, system))
}

/// Starts QEMU until the firmware boots the first hart, where that matters. Of several harts
/// it takes whichever comes first (OpenSBI's `coldboot_lottery`), which on a busy host may be
/// any, and which the kernel then calls the first: with nodes, that is the agent's, and the
/// only one at its node.
fn begin_to_boot(
    config: &GuestConfig,
    program: &Path,
    deadline: Instant,
    events: Events,
) -> Result<Qemu, GuestError> {
    for _ in 0..BEGINNINGS {
        let greeting_deadline = Instant::now() + config.timeouts.qemu;
        let mut qemu = Qemu::start(program, config, Begin::Boot, greeting_deadline, events)?;
        if !config.has_nodes() {
            return Ok(qemu);
        }
        let begun = |console: &Console| console.boot_hart().is_some() || console.agent_ready();
        qemu.await_boot(deadline, config.timeouts.boot, begun)?;
        if qemu.machine.console.boot_hart().unwrap_or(0) == 0 {
            return Ok(qemu);
        }
    }
    Err(GuestError::BootFailed {
        why: format!(
            "the firmware did not boot the first hart, which a guest of two nodes needs, in \
             {BEGINNINGS} tries; the host may be too busy"
        ),
        console: String::new(),
    })
}

/// Boots a guest, and saves it where that is possible.
fn boot(
    config: &GuestConfig,
    qemu: &Path,
    writing: Option<Writing>,
    events: Events,
) -> Result<Guest, GuestError> {
    let timeouts = config.timeouts;
    let deadline = Instant::now() + timeouts.boot;
    events(GuestEvent::Booting);
    let mut qemu = begin_to_boot(config, qemu, deadline, events)?;
    qemu.await_boot(deadline, timeouts.boot, |console| console.agent_ready())?;
    if let Some(writing) = writing {
        save(&mut qemu, &writing, timeouts.save, events)?;
    }
    qemu.machine.console.booted();
    qemu.machine.heed_signs = true;
    let deadline = Instant::now() + timeouts.answer;
    let during = "the booted agent's first answer";
    let system = greet(&mut qemu, deadline, during, |machine, qmp| {
        silent(machine, qmp, during, timeouts.answer)
    });
    let system = system.map_err(as_boot_failure)?;
    Ok(qemu.into_guest(config, system))
}

/// Saves the booted guest. Failing at that does no harm, as long as the guest goes on.
fn save(
    qemu: &mut Qemu,
    writing: &Writing,
    limit: Duration,
    events: Events,
) -> Result<(), GuestError> {
    let begin = Instant::now();
    let deadline = begin + limit;
    events(GuestEvent::Saving);
    let saved = save_to(qemu, &writing.partial(), deadline).and_then(|()| {
        let failed = |error: io::Error| GuestError::Qmp {
            why: error.to_string(),
        };
        writing.commit().map_err(failed)
    });
    let Qemu { machine, qmp, .. } = qemu;
    match saved {
        Ok(()) => events(GuestEvent::Saved {
            to: writing.file(),
            took: begin.elapsed(),
        }),
        Err(error @ GuestError::QemuDied { .. }) => {
            writing.abandon();
            return Err(error);
        }
        Err(error) => {
            // A save still under way would hold up the guest.
            let _ = qmp.execute(machine, "migrate_cancel", Value::Null, deadline);
            writing.abandon();
            events(GuestEvent::SaveFailed(error.to_string()));
        }
    }
    let deadline = Instant::now() + limit;
    qmp.execute(machine, "cont", Value::Null, deadline)?;
    Ok(())
}

fn save_to(qemu: &mut Qemu, file: &Path, deadline: Instant) -> Result<(), GuestError> {
    let Qemu { machine, qmp, .. } = qemu;
    // Pages that a running guest writes while they are saved are saved twice.
    qmp.execute(machine, "stop", Value::Null, deadline)?;
    qmp.use_mapped_ram(machine, deadline)?;
    let to = json!({ "uri": uri(file)? });
    qmp.execute(machine, "migrate", to, deadline)?;
    qmp.wait_for_migration(machine, deadline)
}

/// QEMU's name for a file, as a place to migrate to and from.
fn uri(file: &Path) -> Result<String, GuestError> {
    let odd = || GuestError::Qmp {
        why: format!("{}: QEMU takes no such file name", file.display()),
    };
    // What follows a comma would be taken for an option.
    let name = file.to_str().filter(|name| !name.contains(','));
    Ok(format!("file:{}", name.ok_or_else(odd)?))
}

/// A QEMU that has greeted, before anything is known of its guest.
struct Qemu {
    machine: QemuMachine,
    qmp: Qmp,
    version: String,
}

impl Qemu {
    fn start(
        program: &Path,
        config: &GuestConfig,
        begin: Begin,
        deadline: Instant,
        events: Events,
    ) -> Result<Qemu, GuestError> {
        let machine = QemuMachine::start(program, config, begin);
        let mut machine = machine.map_err(GuestError::NotStarted)?;
        events(GuestEvent::Started { pid: machine.pid() });
        let (qmp, greeting) = Qmp::connect(&mut machine, deadline)?;
        if greeting.version < OLDEST_QEMU {
            return Err(GuestError::QemuTooOld {
                found: greeting.text,
            });
        }
        Ok(Qemu {
            machine,
            qmp,
            version: greeting.text,
        })
    }

    /// Until the console has what is waited for.
    fn await_boot(
        &mut self,
        deadline: Instant,
        limit: Duration,
        until: impl Fn(&Console) -> bool,
    ) -> Result<(), GuestError> {
        let waited = self.machine.wait_for_console(deadline, until);
        waited.map_err(|stop| not_booted(&mut self.machine, stop, limit))
    }

    fn into_guest(self, config: &GuestConfig, system: System) -> Guest {
        Guest {
            machine: self.machine,
            qmp: self.qmp,
            system,
            qemu: self.version,
            timeouts: config.timeouts,
            programs: 0,
            spent: None,
        }
    }
}

fn greet(
    qemu: &mut Qemu,
    deadline: Instant,
    during: &'static str,
    timed_out: impl FnOnce(&mut QemuMachine, &mut Qmp) -> GuestError,
) -> Result<System, GuestError> {
    let Qemu { machine, qmp, .. } = qemu;
    match conversation::greet(machine, deadline) {
        Ok(conversation::Greeting::System(system)) => Ok(system),
        Ok(conversation::Greeting::Mismatch { host, agent }) => {
            Err(GuestError::Mismatch { host, agent })
        }
        Ok(conversation::Greeting::Failed(why)) => Err(GuestError::AgentFailed {
            why,
            console: machine.console.excerpt(),
        }),
        Err(Broken::Nonsense(why)) => Err(GuestError::Protocol {
            why,
            console: machine.console.excerpt(),
        }),
        Err(Broken::Stopped(stop)) => {
            Err(machine.explain(stop, during, |machine| timed_out(machine, qmp)))
        }
    }
}

/// Why the agent never said that it is ready.
fn not_booted(machine: &mut QemuMachine, stop: Stop, limit: Duration) -> GuestError {
    let during = "the guest to boot";
    let error = machine.explain(stop, during, |machine| {
        machine.broken().unwrap_or_else(|| GuestError::BootFailed {
            why: match machine.console.agent_said() {
                Some(said) => format!("the agent got stuck: {said}"),
                None => format!("no word from the agent within {limit:?}"),
            },
            console: machine.console.excerpt(),
        })
    });
    as_boot_failure(error)
}

/// A kernel that crashes before any program runs has not been tested.
fn as_boot_failure(error: GuestError) -> GuestError {
    let console = error.console().to_owned();
    match error {
        GuestError::KernelCrashed { .. }
        | GuestError::KernelHung { .. }
        | GuestError::OutOfMemory { .. }
        | GuestError::AgentDied { .. } => GuestError::BootFailed {
            why: error.to_string(),
            console,
        },
        other => other,
    }
}

/// Finds QEMU in PATH.
fn find_qemu() -> Result<PathBuf, GuestError> {
    let path = env::var_os("PATH").unwrap_or_default();
    find_in(&path).ok_or_else(|| GuestError::NoQemu {
        program: QEMU.to_owned(),
    })
}

fn find_in(path: &std::ffi::OsStr) -> Option<PathBuf> {
    env::split_paths(path)
        .map(|folder| folder.join(QEMU))
        .find(|file| {
            fs::metadata(file)
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qemu_is_looked_for_in_every_folder_and_has_to_be_a_program() {
        let (empty, full) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = env::join_paths([empty.path(), full.path()]).unwrap();
        let file = full.path().join(QEMU);
        assert_eq!(find_in(&path), None);
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(find_in(&path), None);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find_in(&path), Some(file));
    }

    #[test]
    fn a_comma_is_no_part_of_a_files_name() {
        assert_eq!(uri(Path::new("/a/b.guest")).unwrap(), "file:/a/b.guest");
        assert!(uri(Path::new("/a,offset=5/b.guest")).is_err());
    }
}
