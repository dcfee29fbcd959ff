// SPDX-License-Identifier: GPL-2.0-only
//! A QEMU process with its channels, and the one place where anything is waited for.
//!
//! There is no thread per channel: whoever waits for one channel reads the
//! others too. So when the agent's answer arrives, all that the console said
//! before it has been seen as well.

use super::{
    GuestConfig, GuestError,
    arguments::{self, Begin, ChannelFds},
    console::{Console, Sign, set_nonblocking},
    process::{Process, describe},
    turns::Turns,
};
use crate::conversation::{Peer, Stop};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    io::{self, ErrorKind, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// QEMU's end shows at its channels at once; this is how often we look all the same.
const TICK: Duration = Duration::from_millis(50);
/// How long a process may take to be gone after its channels have closed.
const LAST_BREATH: Duration = Duration::from_secs(2);
/// How much of QEMU's own words is kept, in bytes.
const LAST_WORDS: usize = 4096;

/// One of the channels that are spoken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Agent,
    Qmp,
    Debugger,
}

/// A running QEMU.
pub(super) struct QemuMachine {
    // First, so that QEMU is gone before its channels are closed.
    process: Process,
    pub(super) console: Console,
    agent: UnixStream,
    qmp: UnixStream,
    debugger: UnixStream,
    errors: UnixStream,
    errors_open: bool,
    last_words: Vec<u8>,
    /// Whether a bad sign on the console ends a wait.
    pub(super) heed_signs: bool,
    pub(super) turns: Turns,
}

impl QemuMachine {
    /// Starts QEMU.
    pub(super) fn start(
        qemu: &Path,
        config: &GuestConfig,
        begin: Begin,
    ) -> io::Result<QemuMachine> {
        let (console, console_qemu) = io::pipe()?;
        let (keyboard_qemu, keyboard) = io::pipe()?;
        // A guest whose console nobody reads has to go on all the same.
        set_nonblocking(&console_qemu)?;
        let (agent, agent_qemu) = UnixStream::pair()?;
        let (qmp, qmp_qemu) = UnixStream::pair()?;
        let (debugger, debugger_qemu) = UnixStream::pair()?;
        let (errors, errors_qemu) = UnixStream::pair()?;
        let fds = ChannelFds {
            console: console_qemu.as_raw_fd(),
            keyboard: keyboard_qemu.as_raw_fd(),
            agent: agent_qemu.as_raw_fd(),
            qmp: qmp_qemu.as_raw_fd(),
            debugger: debugger_qemu.as_raw_fd(),
        };
        let errors_qemu = OwnedFd::from(errors_qemu);
        let mut command = Command::new(qemu);
        command
            .args(arguments::all(config, fds, begin))
            .stdin(Stdio::null())
            .stdout(errors_qemu.try_clone()?)
            .stderr(errors_qemu);
        let inherited: [OwnedFd; 5] = [
            console_qemu.into(),
            keyboard_qemu.into(),
            agent_qemu.into(),
            qmp_qemu.into(),
            debugger_qemu.into(),
        ];
        for host in [&agent, &qmp, &debugger, &errors] {
            host.set_nonblocking(true)?;
        }
        let process = Process::start(command, &inherited)?;
        Ok(QemuMachine {
            turns: Turns::of(process.pid()),
            process,
            console: Console::new(console, keyboard)?,
            agent,
            qmp,
            debugger,
            errors,
            errors_open: true,
            last_words: Vec::new(),
            heed_signs: false,
        })
    }

    /// QEMU's process number.
    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether something is wrong already.
    pub(super) fn check(&mut self) -> Result<(), Stop> {
        let ended = self.process.ended().is_some();
        self.console.drain();
        self.drain_errors();
        if ended {
            return Err(Stop::Died);
        }
        if self.heed_signs && self.console.splat_is_over() {
            return Err(Stop::Broken);
        }
        Ok(())
    }

    /// Waits until something can be done on a channel, or until the console
    /// or QEMU's own output has something new.
    fn wait(&mut self, on: Option<(Channel, PollFlags)>, deadline: Instant) -> Result<(), Stop> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Stop::TimedOut);
        }
        let next_look = self.turns.look();
        let mut fds = Vec::with_capacity(3);
        if let Some((channel, events)) = on {
            fds.push(PollFd::new(self.stream(channel).as_fd(), events));
        }
        if self.console.is_open() {
            fds.push(PollFd::new(self.console.as_fd(), PollFlags::POLLIN));
        }
        if self.errors_open {
            fds.push(PollFd::new(self.errors.as_fd(), PollFlags::POLLIN));
        }
        // Rounded up, so that the last millisecond is not spent in circles.
        let limit = left.min(TICK).min(next_look) + Duration::from_micros(999);
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::ZERO);
        // Whatever poll says, the caller tries again and finds out.
        let _ = poll(&mut fds, limit);
        Ok(())
    }

    /// Waits until the console satisfies a condition.
    pub(super) fn wait_for_console(
        &mut self,
        deadline: Instant,
        mut done: impl FnMut(&Console) -> bool,
    ) -> Result<(), Stop> {
        loop {
            let state = self.check();
            if done(&self.console) {
                return Ok(());
            }
            state?;
            self.wait(None, deadline)?;
        }
    }

    /// Reads and writes on a channel until a deadline.
    pub(super) fn talk(&mut self, channel: Channel, deadline: Instant) -> Talk<'_> {
        Talk {
            machine: self,
            channel,
            deadline,
            stop: None,
        }
    }

    fn stream(&self, channel: Channel) -> &UnixStream {
        match channel {
            Channel::Agent => &self.agent,
            Channel::Qmp => &self.qmp,
            Channel::Debugger => &self.debugger,
        }
    }

    fn drain_errors(&mut self) {
        let mut buffer = [0; 1024];
        // Bounded, for a program that never stops talking.
        for _ in 0..64 {
            match self.errors.read(&mut buffer) {
                Ok(0) => self.errors_open = false,
                Ok(n) => {
                    self.last_words.extend_from_slice(&buffer[..n]);
                    continue;
                }
                Err(_) => {}
            }
            break;
        }
        let excess = self.last_words.len().saturating_sub(LAST_WORDS);
        self.last_words.drain(..excess);
    }

    /// Turns the end of a wait into the error that explains it; what it means
    /// that time ran out is for the caller to say.
    pub(super) fn explain(
        &mut self,
        stop: Stop,
        during: &'static str,
        timed_out: impl FnOnce(&mut QemuMachine) -> GuestError,
    ) -> GuestError {
        match stop {
            Stop::TimedOut => timed_out(self),
            Stop::Broken => self.broken().unwrap_or_else(|| self.died(during)),
            Stop::Died => match self.broken() {
                Some(error) => error,
                None => self.died(during),
            },
        }
    }

    /// The error for the bad sign that the console shows, if it shows one.
    pub(super) fn broken(&mut self) -> Option<GuestError> {
        let _ = self.check();
        let seen = self.console.seen()?.clone();
        let (line, console) = (seen.line, self.console.excerpt());
        Some(match seen.sign {
            Sign::Crash => GuestError::KernelCrashed { line, console },
            Sign::Hang => GuestError::KernelHung {
                evidence: line,
                console,
            },
            Sign::OutOfMemory => GuestError::OutOfMemory { line, console },
            Sign::InitDied => GuestError::AgentDied {
                line: self.console.agent_said().map_or(line, str::to_owned),
                console,
            },
        })
    }

    fn died(&mut self, during: &'static str) -> GuestError {
        let how = match self.process.ends_within(LAST_BREATH) {
            Some(status) => describe(status),
            None => "it closed its channels".to_owned(),
        };
        self.drain_errors();
        let said = String::from_utf8_lossy(&self.last_words);
        let lines: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
        let last = lines[lines.len().saturating_sub(3)..].join("; ");
        GuestError::QemuDied {
            during,
            how: if last.is_empty() {
                how
            } else {
                format!("{how}; its last words: {last}")
            },
            console: self.console.excerpt(),
        }
    }
}

/// Spoken to as an agent.
impl Peer for QemuMachine {
    type Talk<'a> = Talk<'a>;

    fn talk_until(&mut self, deadline: Instant) -> Talk<'_> {
        self.talk(Channel::Agent, deadline)
    }

    fn stopped(talk: &Talk<'_>) -> Option<Stop> {
        talk.stop
    }
}

/// A channel that can be read and written until a deadline.
///
/// What ended it otherwise is kept in `stop`; the error that `Read` and
/// `Write` can give says less.
pub(super) struct Talk<'a> {
    machine: &'a mut QemuMachine,
    channel: Channel,
    deadline: Instant,
    pub(super) stop: Option<Stop>,
}

impl Talk<'_> {
    fn repeat(
        &mut self,
        events: PollFlags,
        mut attempt: impl FnMut(&mut &UnixStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            // Also where there always is something to read.
            if Instant::now() > self.deadline {
                return Err(self.end(Stop::TimedOut));
            }
            match attempt(&mut self.machine.stream(self.channel)) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    let on = Some((self.channel, events));
                    let state = self.machine.check();
                    let state = state.and_then(|()| self.machine.wait(on, self.deadline));
                    state.map_err(|stop| self.end(stop))?;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // QEMU's end is closed, so QEMU ends.
                Ok(0) | Err(_) => return Err(self.end(Stop::Died)),
                done => return done,
            }
        }
    }

    fn end(&mut self, stop: Stop) -> io::Error {
        self.stop = Some(stop);
        io::Error::other("the wait ended")
    }
}

impl Read for Talk<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.repeat(PollFlags::POLLIN, |stream| stream.read(buffer))
    }
}

impl Write for Talk<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.repeat(PollFlags::POLLOUT, |stream| stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
impl QemuMachine {
    /// A machine whose QEMU only sleeps, and the guest's end of its agent channel.
    pub(super) fn with_fake_agent() -> (QemuMachine, UnixStream) {
        let mut command = Command::new("sleep");
        command.arg("100");
        let pair = || UnixStream::pair().expect("sockets");
        let pipe = || io::pipe().expect("a pipe");
        let (agent, guest) = pair();
        agent.set_nonblocking(true).expect("a socket");
        let process = Process::start(command, &[]).expect("sleep starts");
        let machine = QemuMachine {
            turns: Turns::of(process.pid()),
            process,
            console: Console::new(pipe().0, pipe().1).expect("a console"),
            agent,
            qmp: pair().0,
            debugger: pair().0,
            errors: pair().0,
            errors_open: false,
            last_words: Vec::new(),
            heed_signs: true,
        };
        (machine, guest)
    }
}
