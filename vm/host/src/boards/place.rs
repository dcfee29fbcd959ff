// SPDX-License-Identifier: GPL-2.0-only
//! Where a board is, and how a command is run there.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::error::BoardError;
use super::wait::within;

/// Options of every call: nothing is asked, and a dead connection is noticed.
const SSH_OPTIONS: &[&str] = &[
    "BatchMode=yes",
    "ConnectTimeout=15",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    // One connection serves all calls, and outlives the last one by little.
    "ControlMaster=auto",
    "ControlPersist=10",
];

/// What ssh exits with where it, and not the command, has failed.
const SSH_FAILED: i32 = 255;

/// Where a board is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// This machine.
    Local,
    /// Over SSH, by the system's OpenSSH with its configuration, keys and known hosts.
    Ssh {
        /// `[USER@]HOST`, as ssh takes it.
        destination: String,
        /// A port that is not the configuration's.
        port: Option<u16>,
        /// Another configuration file, for `ssh -F`.
        config: Option<PathBuf>,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Local => f.write_str("local"),
            Place::Ssh {
                destination, port, ..
            } => match port {
                Some(port) => write!(f, "ssh:{destination}:{port}"),
                None => write!(f, "ssh:{destination}"),
            },
        }
    }
}

impl Place {
    /// A place over SSH from `[USER@]HOST[:PORT]`; none where that is no such thing. An
    /// IPv6 address is given a name in ssh's configuration.
    pub fn ssh(text: &str, config: Option<PathBuf>) -> Option<Place> {
        let (destination, port) = match text.rsplit_once(':') {
            Some((destination, port)) => (destination, Some(port.parse().ok()?)),
            None => (text, None),
        };
        // What begins with a dash would be an option.
        let host = destination.rsplit('@').next().unwrap_or_default();
        let good = !host.is_empty() && !destination.starts_with('-') && !host.starts_with('-');
        let plain = !destination.contains(|c: char| c.is_whitespace() || c == ':');
        (good && plain).then(|| Place::Ssh {
            destination: destination.to_owned(),
            port,
            config,
        })
    }

    /// A shell command there.
    pub(super) fn command(&self, script: &str) -> Command {
        match self {
            Place::Local => {
                let mut command = Command::new("sh");
                command.arg("-c").arg(script);
                command
            }
            Place::Ssh { destination, .. } => {
                let mut command = Command::new("ssh");
                command.args(self.ssh_arguments());
                command.arg("--").arg(destination).arg(script);
                command
            }
        }
    }

    fn ssh_arguments(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        if let Place::Ssh { config, port, .. } = self {
            if let Some(config) = config {
                words.extend(["-F".into(), config.into()]);
            }
            // Also where the shared connection is ended: it goes by the port, too.
            if let Some(port) = port {
                words.extend(["-p".into(), port.to_string().into()]);
            }
        }
        for option in SSH_OPTIONS {
            words.extend(["-o".into(), (*option).into()]);
        }
        let control = std::env::temp_dir().join(format!("tlbdiff-{}-%C", std::process::id()));
        let mut path = OsString::from("ControlPath=");
        path.push(control);
        words.extend(["-o".into(), path]);
        words
    }

    /// Runs a shell command there to its end, with that as its input.
    ///
    /// # Errors
    /// It cannot be started, the board cannot be reached, or the time is over. What the
    /// command itself answers is in the output.
    pub(super) fn run(
        &self,
        script: &str,
        input: Input,
        limit: Duration,
    ) -> Result<Output, BoardError> {
        let mut command = self.command(script);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        match input {
            Input::Nothing => command.stdin(Stdio::null()),
            Input::File(file) => command.stdin(file),
        };
        let child = command.spawn().map_err(|error| self.no_program(error))?;
        let output = within(child, limit).ok_or_else(|| BoardError::TimedOut {
            what: script.lines().next().unwrap_or_default().to_owned(),
            after: limit,
        })?;
        let is_ssh = matches!(self, Place::Ssh { .. });
        if is_ssh && output.status.code() == Some(SSH_FAILED) {
            return Err(BoardError::Unreachable {
                place: self.to_string(),
                why: last_line(&output.stderr),
            });
        }
        Ok(output)
    }

    pub(super) fn no_program(&self, error: std::io::Error) -> BoardError {
        let program = match self {
            Place::Local => "sh",
            Place::Ssh { .. } => "ssh",
        };
        BoardError::NotStarted {
            program,
            why: error.to_string(),
        }
    }

    /// Ends what serves several calls, where something does.
    pub(super) fn disconnect(&self) {
        if let Place::Ssh { destination, .. } = self {
            let mut command = Command::new("ssh");
            command.args(self.ssh_arguments());
            command.args(["-O", "exit", "--"]).arg(destination);
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            if let Ok(child) = command.spawn() {
                let _ = within(child, Duration::from_secs(5));
            }
        }
    }
}

/// What a command reads.
pub(super) enum Input {
    Nothing,
    File(File),
}

/// The last line that a program said something in.
pub(super) fn last_line(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let mut lines = text.lines().map(str::trim);
    let last = lines.rfind(|line| !line.is_empty());
    last.unwrap_or("it did not say why").to_owned()
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn places_are_read_as_ssh_would() {
        let place = |text| Place::ssh(text, None).map(|place| place.to_string());
        assert_eq!(place("board").as_deref(), Some("ssh:board"));
        let whole = "root@visionfive.lan:2222";
        assert_eq!(place(whole), Some(format!("ssh:{whole}")));
        for bad in [
            "",
            "root@",
            ":22",
            "host:port",
            "-oProxyCommand=x",
            "a@-b",
            "a b",
            "::1",
        ] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }
}
