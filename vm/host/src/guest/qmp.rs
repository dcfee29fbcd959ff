// SPDX-License-Identifier: GPL-2.0-only
//! QEMU's control channel: one JSON value per line, one command at a time.
//!
//! Half a dozen commands are all that is used, and every wait has to watch
//! QEMU and the console as well, so the ready-made clients (which generate
//! types for QEMU's whole schema and block on a stream of their own) would
//! save nothing.

use super::{
    GuestError,
    machine::{Channel, QemuMachine},
};
use crate::conversation::Stop;
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    thread,
    time::{Duration, Instant},
};

/// No answer is longer, in bytes (`info registers` of 64 harts is 200 KiB).
const LONGEST_ANSWER: usize = 4 << 20;
/// How often it is asked how far a migration is.
const MIGRATION_POLL: Duration = Duration::from_millis(2);

/// A conversation with QEMU.
#[derive(Default)]
pub(super) struct Qmp {
    unread: Vec<u8>,
}

/// What QEMU says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    /// Major and minor version.
    pub(super) version: (u64, u64),
    /// The same for people, with the distribution's own version.
    pub(super) text: String,
}

impl Qmp {
    /// Reads the greeting and leaves capabilities negotiation.
    pub(super) fn connect(
        machine: &mut QemuMachine,
        deadline: Instant,
    ) -> Result<(Qmp, Greeting), GuestError> {
        let mut qmp = Qmp::default();
        let first = qmp.read(machine, "QEMU's greeting", deadline)?;
        let greeting = greeting(&first).ok_or_else(|| GuestError::Qmp {
            why: format!("this is no greeting: {}", shortened(&first.to_string())),
        })?;
        qmp.execute(machine, "qmp_capabilities", Value::Null, deadline)?;
        Ok((qmp, greeting))
    }

    /// Executes one command and gives back its result.
    pub(super) fn execute(
        &mut self,
        machine: &mut QemuMachine,
        command: &'static str,
        arguments: Value,
        deadline: Instant,
    ) -> Result<Value, GuestError> {
        let mut request = json!({ "execute": command });
        if !arguments.is_null() {
            request["arguments"] = arguments;
        }
        let mut talk = machine.talk(Channel::Qmp, deadline);
        if talk.write_all(format!("{request}\n").as_bytes()).is_err() {
            let stop = talk.stop;
            return Err(ended(machine, stop, command));
        }
        loop {
            let mut answer = self.read(machine, command, deadline)?;
            if let Some(result) = answer.get_mut("return") {
                return Ok(result.take());
            }
            if let Some(error) = answer.get("error") {
                let words = error["desc"].as_str().unwrap_or("no reason given");
                return Err(GuestError::Qmp {
                    why: format!("{command} was refused: {words}"),
                });
            }
            // Else an event, which nothing here depends on.
        }
    }

    /// Turns on the one migration capability that is used.
    ///
    /// With `mapped-ram` each page has its place in a sparse file, so that
    /// restoring reads only what the guest ever touched. `multifd` on top of
    /// it was measured to be slower for a guest this small.
    pub(super) fn use_mapped_ram(
        &mut self,
        machine: &mut QemuMachine,
        deadline: Instant,
    ) -> Result<(), GuestError> {
        let capabilities = json!({
            "capabilities": [{ "capability": "mapped-ram", "state": true }]
        });
        let command = "migrate-set-capabilities";
        self.execute(machine, command, capabilities, deadline)?;
        Ok(())
    }

    /// Waits until the migration, out or in, is complete.
    pub(super) fn wait_for_migration(
        &mut self,
        machine: &mut QemuMachine,
        deadline: Instant,
    ) -> Result<(), GuestError> {
        loop {
            let progress = self.execute(machine, "query-migrate", Value::Null, deadline)?;
            match progress["status"].as_str() {
                Some("completed") => return Ok(()),
                Some(bad @ ("failed" | "cancelled" | "cancelling")) => {
                    let why = progress["error-desc"].as_str().unwrap_or(bad);
                    return Err(GuestError::Qmp {
                        why: format!("the guest's state cannot be moved: {why}"),
                    });
                }
                _ => thread::sleep(MIGRATION_POLL),
            }
        }
    }

    fn read(
        &mut self,
        machine: &mut QemuMachine,
        during: &'static str,
        deadline: Instant,
    ) -> Result<Value, GuestError> {
        let mut chunk = [0; 4096];
        loop {
            if let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return serde_json::from_slice(&line).map_err(|_| GuestError::Qmp {
                    why: format!("not JSON: {}", shortened(&String::from_utf8_lossy(&line))),
                });
            }
            if self.unread.len() > LONGEST_ANSWER {
                return Err(GuestError::Qmp {
                    why: format!("an answer to {during} that never ends"),
                });
            }
            let mut talk = machine.talk(Channel::Qmp, deadline);
            match talk.read(&mut chunk) {
                Ok(n) => self.unread.extend_from_slice(&chunk[..n]),
                Err(_) => {
                    let stop = talk.stop;
                    return Err(ended(machine, stop, during));
                }
            }
        }
    }
}

fn ended(machine: &mut QemuMachine, stop: Option<Stop>, during: &'static str) -> GuestError {
    machine.explain(stop.unwrap_or(Stop::Died), during, |_| GuestError::Qmp {
        why: format!("no answer in time: waited for {during}"),
    })
}

fn greeting(first: &Value) -> Option<Greeting> {
    let version = &first["QMP"]["version"];
    let number = |part: &str| version["qemu"][part].as_u64();
    let (major, minor, micro) = (number("major")?, number("minor")?, number("micro")?);
    let package = version["package"].as_str().unwrap_or_default();
    Some(Greeting {
        version: (major, minor),
        text: format!("{major}.{minor}.{micro} {package}")
            .trim()
            .to_owned(),
    })
}

fn shortened(text: &str) -> String {
    let mut short: String = text.trim().chars().take(80).collect();
    if short.len() < text.trim().len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_are_read() {
        let first = json!({ "QMP": {
            "version": {
                "qemu": { "micro": 2, "minor": 0, "major": 10 },
                "package": "Debian 1:10.0.2",
            },
            "capabilities": ["oob"],
        }});
        let expected = Greeting {
            version: (10, 0),
            text: "10.0.2 Debian 1:10.0.2".into(),
        };
        assert_eq!(greeting(&first), Some(expected));
        assert_eq!(greeting(&json!({ "return": {} })), None);
    }
}
