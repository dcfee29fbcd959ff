// SPDX-License-Identifier: GPL-2.0-only
//! The pipes of a program that speaks the protocol on its standard streams.

use crate::conversation::{Peer, Stop};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// How often it is looked whether the program has ended.
const TICK: Duration = Duration::from_millis(50);
/// How much of what it says besides is kept, in bytes.
const LAST_WORDS: usize = 16 << 10;

/// A running program and the pipes to it.
pub(super) struct Pipes {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
    errors: ChildStderr,
    said: Vec<u8>,
    deadline: Instant,
    stop: Option<Stop>,
}

impl Pipes {
    /// Starts it.
    pub(super) fn start(mut command: Command) -> io::Result<Pipes> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let missing = || io::Error::other("no pipe");
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        let errors = child.stderr.take().ok_or_else(missing)?;
        for fd in [input.as_fd(), output.as_fd(), errors.as_fd()] {
            fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok(Pipes {
            child,
            input: Some(input),
            output,
            errors,
            said: Vec::new(),
            deadline: Instant::now(),
            stop: None,
        })
    }

    /// What it said besides, the last of it.
    pub(super) fn said(&mut self) -> String {
        self.drain_errors();
        String::from_utf8_lossy(&self.said).trim().to_owned()
    }

    fn drain_errors(&mut self) {
        let mut buffer = [0; 1024];
        for _ in 0..64 {
            match self.errors.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(n) => self.said.extend_from_slice(&buffer[..n]),
            }
        }
        let excess = self.said.len().saturating_sub(LAST_WORDS);
        self.said.drain(..excess);
    }

    /// Closes its input, at which it ends, and waits for that; kills it in the end.
    pub(super) fn close(&mut self, limit: Duration) -> bool {
        self.input = None;
        let end = Instant::now() + limit;
        loop {
            self.drain_errors();
            // What it still has to say must not keep it from ending.
            let mut rest = [0; 4096];
            while matches!(self.output.read(&mut rest), Ok(n) if n > 0) {}
            match self.child.try_wait() {
                Ok(Some(_)) => return true,
                Ok(None) if Instant::now() < end => std::thread::sleep(TICK),
                Ok(None) | Err(_) => break,
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        false
    }

    fn repeat(
        &mut self,
        events: PollFlags,
        mut attempt: impl FnMut(&mut Pipes) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            if Instant::now() > self.deadline {
                return Err(self.end(Stop::TimedOut));
            }
            match attempt(self) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    self.drain_errors();
                    self.wait(events);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return Err(self.end(Stop::Died)),
                done => return done,
            }
        }
    }

    fn wait(&self, events: PollFlags) {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let limit = left.min(TICK) + Duration::from_micros(999);
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::ZERO);
        let fd = match &self.input {
            Some(input) if events == PollFlags::POLLOUT => input.as_fd(),
            _ => self.output.as_fd(),
        };
        // Whatever poll says, the caller tries again and finds out.
        let _ = poll(&mut [PollFd::new(fd, events)], limit);
    }

    fn end(&mut self, stop: Stop) -> io::Error {
        self.stop = Some(stop);
        io::Error::other("the wait ended")
    }
}

impl Read for Pipes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.repeat(PollFlags::POLLIN, |pipes| pipes.output.read(buffer))
    }
}

impl Write for Pipes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.repeat(PollFlags::POLLOUT, |pipes| match &mut pipes.input {
            Some(input) => input.write(bytes),
            None => Ok(0),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Peer for Pipes {
    type Talk<'a> = &'a mut Pipes;

    fn talk_until(&mut self, deadline: Instant) -> &mut Pipes {
        self.deadline = deadline;
        self.stop = None;
        self
    }

    fn stopped(talk: &Self::Talk<'_>) -> Option<Stop> {
        talk.stop
    }
}
