// SPDX-License-Identifier: GPL-2.0-only
//! The actors of one program, as the agent sees them: started one after the
//! other, watched, and all gone in the end.

use crate::actor::Handed;
use crate::shared::Shared;
use crate::{boot, files, limits, tracer};
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::personality::{self, Persona};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, execv, fork};
use protocol::program::{ActorKind, Program, StepResult};
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often the trace is fetched while actors run.
const FETCH: u16 = 20;
/// How long killed actors may take to end: freeing much memory takes its time on a busy
/// host. The host waits for longer (`grace` in vm/host/src/guest/mod.rs).
const DEATH: Duration = Duration::from_secs(8);
/// How long it is waited between two looks at who is ready.
const LOOK: Duration = Duration::from_micros(200);
/// PIDFD_THREAD of include/uapi/linux/pidfd.h
const PIDFD_THREAD: libc::c_int = libc::O_EXCL;

/// How a program ended.
pub enum End {
    /// All steps are done, or an actor ended too early.
    Ended {
        /// The signal that killed an actor, if one did.
        killed_by: Option<i32>,
    },
    /// A step did not return in time.
    TimedOut,
    /// And could not be ended either.
    Stuck(String),
}

/// A running process with an actor.
struct Process {
    actor: usize,
    pid: Pid,
    pidfd: OwnedFd,
    /// It was started here, and is waited for here.
    own: bool,
    ended: bool,
}

/// All actors of a program.
pub struct Cast<'a> {
    program: &'a Program,
    shared: Shared,
    handed: &'a Handed,
    bell: File,
    processes: Vec<Process>,
    /// Those whose step it was to exit.
    exited: Vec<usize>,
    killed_by: Option<i32>,
    end: Instant,
}

impl<'a> Cast<'a> {
    /// Starts the processes that are there before the first step. `bell` is the
    /// reading end of the pipe whose other end is handed down.
    ///
    /// # Errors
    /// One cannot be started, or gives up before it is ready.
    pub fn start(
        program: &'a Program,
        shared: Shared,
        handed: &'a Handed,
        bell: File,
        limit: Duration,
    ) -> Result<Cast<'a>> {
        let mut cast = Cast {
            program,
            shared,
            handed,
            bell,
            processes: Vec::new(),
            exited: Vec::new(),
            killed_by: None,
            end: Instant::now() + limit,
        };
        let result = cast.start_processes();
        if result.is_err() {
            cast.kill_all()?;
        }
        result.map(|()| cast)
    }

    fn start_processes(&mut self) -> Result<()> {
        let mut ready = 0;
        for (number, actor) in self.program.actors.iter().enumerate() {
            if !matches!(actor.kind, ActorKind::Process { .. }) {
                continue;
            }
            let process = Process::start(self.handed, number, actor.hart)?;
            self.processes.push(process);
            let threads = self.program.actors.iter();
            let its = |kind: ActorKind| kind == ActorKind::Thread { of: number };
            ready += 1 + threads.filter(|thread| its(thread.kind)).count();
            // One after the other, so that harts load their mms in a known order.
            if self.program.actors.len() > 1 {
                self.await_ready(ready)?;
            }
        }
        Ok(())
    }

    fn await_ready(&mut self, actors: usize) -> Result<()> {
        while self.shared.count_ready() < actors {
            self.reap()?;
            // The last to be ready may be through with its steps by now.
            let ended = self.processes.iter().any(|process| process.ended);
            if ended && self.shared.count_ready() < actors {
                bail!("an actor ended before its first step{}", self.cause());
            }
            if Instant::now() > self.end {
                bail!("an actor was not ready in time");
            }
            sleep(LOOK);
        }
        Ok(())
    }

    fn cause(&self) -> String {
        self.killed_by
            .map_or_else(String::new, |signal| format!(", killed by signal {signal}"))
    }

    /// Until all have ended, calling `meanwhile` every now and then.
    ///
    /// # Errors
    /// The system refuses something.
    pub fn watch(&mut self, meanwhile: &mut dyn FnMut() -> Result<()>) -> Result<End> {
        loop {
            self.find_forked();
            let rung = self.await_something(FETCH)?;
            if rung {
                self.see_exit()?;
            }
            self.reap()?;
            let done = self.shared.finished() == Some(self.program.steps.len());
            if self.processes.iter().all(|process| process.ended) {
                return self.gone();
            }
            if !done && self.processes.iter().any(|process| self.too_early(process)) {
                self.kill_all()?;
                return self.gone();
            }
            let fetched = meanwhile();
            if fetched.is_err() || Instant::now() > self.end {
                let stuck = self.kill_all()?;
                fetched?;
                return Ok(stuck.map_or(End::TimedOut, End::Stuck));
            }
        }
    }

    fn gone(&mut self) -> Result<End> {
        self.reap_orphans()?;
        Ok(End::Ended {
            killed_by: self.killed_by,
        })
    }

    fn too_early(&self, process: &Process) -> bool {
        process.ended && !self.exited.contains(&process.actor)
    }

    /// Forked actors are others' children; they are watched all the same.
    fn find_forked(&mut self) {
        for (actor, tid) in self.shared.tids().into_iter().enumerate() {
            let forked = self.program.actors[actor].kind == ActorKind::Fork;
            let known = self.processes.iter().any(|process| process.actor == actor);
            if !forked || known || tid == 0 || self.exited.contains(&actor) {
                continue;
            }
            if let Ok(pidfd) = pidfd_open(tid, 0) {
                self.processes.push(Process {
                    actor,
                    pid: Pid::from_raw(tid),
                    pidfd,
                    own: false,
                    ended: false,
                });
            }
        }
    }

    /// Until somebody has ended or is about to; true where the bell rang.
    fn await_something(&self, ms: u16) -> Result<bool> {
        let mut waited = vec![PollFd::new(self.bell.as_fd(), PollFlags::POLLIN)];
        let running = self.processes.iter().filter(|process| !process.ended);
        waited.extend(running.map(|process| PollFd::new(process.pidfd.as_fd(), PollFlags::POLLIN)));
        poll(&mut waited, PollTimeout::from(ms))?;
        Ok(waited[0].any().unwrap_or(false))
    }

    /// Somebody is about to exit: waits for that, and ends its step.
    fn see_exit(&mut self) -> Result<()> {
        let mut number = [0; 4];
        self.bell.read_exact(&mut number)?;
        let actor = u32::from_le_bytes(number) as usize;
        self.exited.push(actor);
        let thread = matches!(self.program.actors[actor].kind, ActorKind::Thread { .. });
        let flags = if thread { PIDFD_THREAD } else { 0 };
        let tid = self.shared.tids()[actor];
        // Where nobody is there any more it has come to its end already.
        if let Ok(pidfd) = pidfd_open(tid, flags) {
            self.await_end(&pidfd)?;
        }
        // Whether a dead process is still a zombie must not depend on the next step's haste.
        self.reap()?;
        let Some(step) = self.shared.finished() else {
            return Ok(());
        };
        if self.program.trace {
            tracer::mark(self.handed.tracer, step as u64, 1);
        }
        self.shared.store(step, StepResult::Ok, 0);
        let next = self.shared.pass_over_unborn(self.program, step + 1);
        if self.program.trace && next == self.program.steps.len() {
            tracer::stop(self.handed.tracer)?;
        }
        self.shared.finish(self.program, next);
        Ok(())
    }

    /// Until a process or thread has ended, or the program's time is over.
    fn await_end(&self, pidfd: &OwnedFd) -> Result<bool> {
        let left = self.end.saturating_duration_since(Instant::now());
        let limit = PollTimeout::try_from(left.as_millis() as i32).unwrap_or(PollTimeout::MAX);
        let mut ended = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut ended, limit)? > 0)
    }

    /// Takes note of processes that have ended.
    fn reap(&mut self) -> Result<()> {
        for process in self.processes.iter_mut().filter(|process| !process.ended) {
            let mut ended = [PollFd::new(process.pidfd.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ended, PollTimeout::ZERO)? == 0 {
                continue;
            }
            process.ended = true;
            if process.own {
                let status = waitpid(process.pid, None)?;
                note(&mut self.killed_by, status);
            }
        }
        Ok(())
    }

    /// What actors forked and nobody waited for is this process's in the end.
    fn reap_orphans(&mut self) -> Result<()> {
        let end = Instant::now() + DEATH;
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) if Instant::now() > end => {
                    bail!("forked actors do not end")
                }
                Ok(WaitStatus::StillAlive) => sleep(LOOK),
                Ok(status) => note(&mut self.killed_by, status),
                Err(Errno::ECHILD) => return Ok(()),
                Err(error) => return Err(error).context("waitpid"),
            }
        }
    }

    /// Kills all that is left; where something cannot be killed, what is known of it.
    fn kill_all(&mut self) -> Result<Option<String>> {
        let tids = self.shared.tids();
        let pids = self.processes.iter().map(|process| process.pid.as_raw());
        for pid in pids.chain(tids).filter(|pid| *pid > 0) {
            // SAFETY: no memory is involved; who is gone already is no matter.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        let end = Instant::now() + DEATH;
        while Instant::now() < end {
            self.reap()?;
            if self.processes.iter().all(|process| process.ended) {
                self.reap_orphans()?;
                return Ok(None);
            }
            sleep(LOOK);
        }
        let stuck = self.processes.iter().find(|process| !process.ended);
        Ok(stuck.map(Process::whereabouts))
    }
}

fn note(killed_by: &mut Option<i32>, status: WaitStatus) {
    if let WaitStatus::Signaled(_, signal, _) = status {
        killed_by.get_or_insert(signal as i32);
    }
}

fn pidfd_open(pid: i32, flags: libc::c_int) -> Result<OwnedFd> {
    // SAFETY: a new descriptor, or an error.
    unsafe {
        let fd = Errno::result(libc::syscall(libc::SYS_pidfd_open, pid, flags));
        Ok(OwnedFd::from_raw_fd(fd.context("pidfd_open")? as RawFd))
    }
}

impl Process {
    /// Starts it, pinned to its hart before it has an mm of its own, so that
    /// the mm is never seen by another.
    ///
    /// By fork and exec themselves: the standard library's `Command` wants
    /// Unix sockets, and this kernel has no network.
    fn start(handed: &Handed, actor: usize, hart: u32) -> Result<Process> {
        let words = handed.command(actor, None)?;
        // SAFETY: this process has one thread.
        match unsafe { fork() }.context("cannot start an actor")? {
            ForkResult::Child => become_actor(handed, hart, &words),
            ForkResult::Parent { child } => Ok(Process {
                actor,
                pid: child,
                pidfd: pidfd_open(child.as_raw(), 0)?,
                own: true,
                ended: false,
            }),
        }
    }

    fn whereabouts(&self) -> String {
        let proc = format!("/proc/{}", self.pid);
        let of = |name: &str| files::read(&Path::new(&proc).join(name)).unwrap_or_default();
        let stack = of("stack");
        let stack: Vec<&str> = stack.lines().map(str::trim).collect();
        format!(
            "its process cannot be killed; it is in {} {}",
            of("wchan"),
            stack.join(" ")
        )
    }
}

/// The end of the agent is this process's, which nobody else would end; its memory lies
/// where that of all others lies; and on a board it is where it may use its hart.
fn prepare(handed: &Handed) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).context("prctl")?;
    limits::first_to_go()?;
    handed.leave_cgroup()?;
    let persona = personality::get().context("personality")? | Persona::ADDR_NO_RANDOMIZE;
    personality::set(persona).map(drop).context("personality")
}

/// The child's way from fork to exec.
fn become_actor(handed: &Handed, hart: u32, words: &[CString]) -> ! {
    for fd in handed.descriptors() {
        // SAFETY: only clears the close-on-exec flag.
        unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
    }
    let prepared = prepare(handed).and_then(|()| boot::pin(hart as usize));
    let error = match prepared {
        Ok(()) => execv(c"/proc/self/exe", words)
            .map(|_| ())
            .err()
            .map(anyhow::Error::from),
        Err(error) => Some(error),
    };
    println!("tlbdiff-agent: cannot become an actor: {error:?}");
    // SAFETY: ends the child without running anything of the agent's.
    unsafe { libc::_exit(1) }
}
