// SPDX-License-Identifier: GPL-2.0-only
//! A child process that never outlives this one.

use super::turns;
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::{
        prctl::set_pdeathsig,
        signal::{Signal, killpg},
    },
    unistd::{Pid, getppid},
};
use std::{
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Child, Command, ExitStatus},
    sync::{
        OnceLock,
        mpsc::{Sender, channel, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

/// How long a killed process may take to be gone.
const REAPING: Duration = Duration::from_secs(5);

/// A command to start, and where to answer.
struct Order {
    command: Command,
    answer: std::sync::mpsc::SyncSender<io::Result<Child>>,
}

/// The thread that starts all children.
///
/// The kernel ties a parent-death signal to the *thread* that forked. Guests
/// are started from worker threads that end before the guests do, so one
/// thread that lives as long as the process starts them all.
fn spawner() -> io::Result<&'static Sender<Order>> {
    static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();
    if let Some(sender) = SPAWNER.get() {
        return Ok(sender);
    }
    let (sender, orders) = channel::<Order>();
    thread::Builder::new()
        .name("spawner".into())
        .spawn(move || {
            for mut order in orders {
                // Whoever asked may have gone; then the child goes too.
                if let Err(unwanted) = order.answer.send(order.command.spawn())
                    && let Ok(mut child) = unwanted.0
                {
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
        })?;
    // Where two threads come here at once, the loser's thread ends with its channel.
    Ok(SPAWNER.get_or_init(|| sender))
}

/// A running child, killed and reaped when dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts a command in its own process group, with `inherited` open in it.
    ///
    /// In its own group it is spared the terminal's Ctrl-C, which this process
    /// answers for both. It is killed when this process dies, however that happens.
    pub(super) fn start(mut command: Command, inherited: &[OwnedFd]) -> io::Result<Process> {
        let parent = Pid::this();
        let fds: Vec<i32> = inherited.iter().map(AsRawFd::as_raw_fd).collect();
        command.process_group(0);
        // SAFETY: between fork and exec only system calls are made, which are
        // async-signal-safe, and nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                set_pdeathsig(Signal::SIGKILL)?;
                // The parent may have died before the line above.
                if getppid() != parent {
                    return Err(io::ErrorKind::NotConnected.into());
                }
                for &fd in &fds {
                    // `inherited` is borrowed until the child has been started.
                    let fd = BorrowedFd::borrow_raw(fd);
                    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
                }
                turns::take();
                Ok(())
            });
        }
        let (answer, child) = sync_channel(0);
        let gone = |_| io::Error::other("the thread that starts processes is gone");
        spawner()?
            .send(Order { command, answer })
            .map_err(|_| gone(()))?;
        let child = child.recv().map_err(|_| gone(()))??;
        Ok(Process { child, ended: None })
    }

    /// The process's number.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// How it ended, if it does so soon.
    pub(super) fn ends_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        while self.ended().is_none() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        self.ended
    }

    fn kill(&mut self) {
        if self.ended().is_some() {
            return;
        }
        // The whole group: what is called QEMU may be a wrapper around it.
        let group = Pid::from_raw(self.pid() as i32);
        if killpg(group, Signal::SIGKILL).is_err() {
            let _ = self.child.kill();
        }
        self.ends_within(REAPING);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How a process ended, in words.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(number), _) => match Signal::try_from(number) {
            Ok(signal) => format!("killed by {signal}"),
            Err(_) => format!("killed by signal {number}"),
        },
        (None, Some(0)) => "it ended by itself, without an error".to_owned(),
        (None, code) => format!("exit status {}", code.unwrap_or(-1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::kill;
    use std::process::Stdio;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        Process::start(command, &[]).expect("sh starts")
    }

    #[test]
    fn exit_is_described() {
        let limit = Duration::from_secs(10);
        let how = |script| describe(shell(script).ends_within(limit).expect("it ends"));
        assert_eq!(how("exit 3"), "exit status 3");
        assert_eq!(how("exit 0"), "it ended by itself, without an error");
        assert_eq!(how("kill -SEGV $$"), "killed by SIGSEGV");
    }

    #[test]
    fn dropping_kills_the_whole_group() {
        let mut pipe = io::pipe().expect("a pipe");
        let mut command = Command::new("sh");
        command
            .args(["-c", "sleep 100 & sleep 100; :"])
            .stdout(pipe.1);
        let process = Process::start(command, &[]).expect("sh starts");
        let pid = Pid::from_raw(process.pid() as i32);
        drop(process);
        assert!(kill(pid, None).is_err(), "still there");
        // Its end of the pipe is closed once the background process is gone too.
        let mut rest = Vec::new();
        io::Read::read_to_end(&mut pipe.0, &mut rest).expect("the pipe ends");
    }

    #[test]
    fn outlives_the_thread_that_asked_for_it() {
        let mut process = thread::spawn(|| shell("sleep 100"))
            .join()
            .expect("a process");
        assert_eq!(process.ends_within(Duration::from_millis(200)), None);
    }

    #[test]
    fn a_missing_program_is_an_error() {
        let error = Process::start(Command::new("no-such-program-at-all"), &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
