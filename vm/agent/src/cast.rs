// SPDX-License-Identifier: GPL-2.0-only
//! The actors of one program, as the agent sees them: started one after the
//! other, watched, and all gone in the end.

use crate::handed::{Handed, Rung};
use crate::shared::Shared;
use crate::zygote::Zygotes;
use crate::{files, tracer};
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use operations::{ActorKind, Program, StepResult};
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
/// How often it is looked whether somebody who is to be ready has died instead.
const LOOK: Duration = Duration::from_millis(20);
/// How long it is waited between two looks at who is gone, where nothing tells.
const GOING: Duration = Duration::from_micros(200);
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
    /// Steps are traced.
    traced: bool,
    shared: Shared,
    tracer: RawFd,
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
        (program, traced): (&'a Program, bool),
        zygotes: &mut Zygotes,
        handed: &Handed,
        bell: File,
        limit: Duration,
    ) -> Result<Cast<'a>> {
        let mut cast = Cast {
            program,
            traced,
            shared: Shared::of(zygotes.region(), program),
            tracer: handed.tracer,
            bell,
            processes: Vec::new(),
            exited: Vec::new(),
            killed_by: None,
            end: Instant::now() + limit,
        };
        let result = cast.start_processes(zygotes);
        if result.is_err() {
            cast.kill_all()?;
        }
        result.map(|()| cast)
    }

    fn start_processes(&mut self, zygotes: &mut Zygotes) -> Result<()> {
        let mut ready = 0;
        for (number, actor) in self.program.actors.iter().enumerate() {
            if !matches!(actor.kind, ActorKind::Process { .. }) {
                continue;
            }
            let pid = zygotes.fork(actor.hart, number)?;
            self.processes.push(Process::found(number, pid, true)?);
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
        loop {
            let ready = self.shared.count_ready();
            if ready >= actors {
                return Ok(());
            }
            self.reap()?;
            // The last to be ready may be through with its steps by now.
            let ended = self.processes.iter().any(|process| process.ended);
            if ended && self.shared.count_ready() < actors {
                // Who was killed is a matter for the report, which `watch` comes to.
                if self.killed_by.is_some() {
                    return Ok(());
                }
                bail!("an actor ended before its first step");
            }
            if Instant::now() > self.end {
                bail!("an actor was not ready in time");
            }
            self.shared.await_ready(ready, LOOK);
        }
    }

    /// Until all have ended, calling `meanwhile` every now and then.
    ///
    /// # Errors
    /// The system refuses something.
    pub fn watch(&mut self, meanwhile: &mut dyn FnMut() -> Result<()>) -> Result<End> {
        loop {
            if self.await_something(FETCH)? {
                self.answer_bell()?;
            }
            self.reap()?;
            let done = self.shared.finished() == Some(self.program.steps.len());
            if self.processes.iter().all(|process| process.ended) {
                return self.gone();
            }
            // Who was killed is not waited for in the end.
            let broken = !done || self.killed_by.is_some();
            if broken && self.processes.iter().any(|process| self.too_early(process)) {
                // Who exits rings before: its end was seen first where both came in between.
                if self.await_something(0)? {
                    self.answer_bell()?;
                    continue;
                }
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

    fn answer_bell(&mut self) -> Result<()> {
        let mut said = [0; Rung::SIZE];
        self.bell.read_exact(&mut said)?;
        match Rung::from_bytes(said) {
            Rung::Born(actor) => self.note_forked(actor),
            Rung::Exits(actor) => self.see_exit(actor),
            Rung::Done => self.end_all(),
        }
    }

    /// Forked actors are others' children; they are watched all the same.
    fn note_forked(&mut self, actor: usize) -> Result<()> {
        let pid = self.shared.tids().get(actor).copied().unwrap_or(0);
        let process = Process::found(actor, Pid::from_raw(pid), false);
        // One that is gone by now needs no watching.
        self.processes.extend(process.ok());
        Ok(())
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
    fn see_exit(&mut self, actor: usize) -> Result<()> {
        self.exited.push(actor);
        let flags = self.pidfd_flags(actor);
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
        if let Some(group) = self.program.group_of(step) {
            self.end_in_group(group, actor);
            return Ok(());
        }
        if self.traced {
            tracer::mark(self.tracer, step as u64, 1);
        }
        self.shared.store(step, StepResult::Ok, 0);
        let next = self.shared.pass_over_unborn(self.program, step + 1);
        if self.traced && next == self.program.steps.len() {
            tracer::stop(self.tracer)?;
        }
        self.shared.finish(self.program, next);
        if next == self.program.steps.len() {
            self.end_all()?;
        }
        Ok(())
    }

    /// Somebody has exited while others were at what began with it: they go on with the rest.
    fn end_in_group(&self, group: usize, actor: usize) {
        let by_it = |step: &usize| self.program.steps[*step].by == actor;
        if let Some(step) = self.program.groups[group].steps().find(by_it) {
            self.shared.store(step, StepResult::Ok, 0);
        }
        self.shared.arrive(group);
    }

    /// Calls all to their end, one after the other and threads before their process: where
    /// several end at once, harts wait for each other's locks.
    fn end_all(&mut self) -> Result<()> {
        let (living, tids) = (self.shared.living(self.program), self.shared.tids());
        for actor in (0..living.len()).rev().filter(|actor| living[*actor]) {
            // One that is gone already needs no waiting for.
            let pidfd = pidfd_open(tids[actor], self.pidfd_flags(actor));
            self.shared.call_to_end(actor);
            if let Ok(pidfd) = pidfd {
                if !self.await_end(&pidfd)? {
                    break;
                }
            }
        }
        Ok(())
    }

    fn pidfd_flags(&self, actor: usize) -> libc::c_int {
        match self.program.actors[actor].kind {
            ActorKind::Thread { .. } => PIDFD_THREAD,
            ActorKind::Process { .. } | ActorKind::Fork => 0,
        }
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
                // A step has killed it.
                if !self.exited.contains(&process.actor) {
                    note(&mut self.killed_by, status);
                }
            }
        }
        Ok(())
    }

    /// What actors forked and nobody waited for is this process's in the end.
    fn reap_orphans(&mut self) -> Result<()> {
        let end = Instant::now() + DEATH;
        for process in self.processes.iter().filter(|process| !process.own) {
            loop {
                match waitpid(process.pid, Some(WaitPidFlag::WNOHANG)) {
                    Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) if process.is_there() => {
                        if Instant::now() > end {
                            bail!("forked actors do not end");
                        }
                        sleep(GOING);
                    }
                    Ok(status) => {
                        if !self.exited.contains(&process.actor) {
                            note(&mut self.killed_by, status);
                        }
                        break;
                    }
                    // Whose child it was has waited for it.
                    Err(Errno::ECHILD) => break,
                    Err(error) => return Err(error).context("waitpid"),
                }
            }
        }
        Ok(())
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
            sleep(GOING);
        }
        let stuck = self.processes.iter().find(|process| !process.ended);
        Ok(stuck.map(Process::whereabouts))
    }
}

/// The first signal counts. But SIGKILL is what the others get for it, and who was forked
/// is found out about last.
fn note(killed_by: &mut Option<i32>, status: WaitStatus) {
    if let WaitStatus::Signaled(_, signal, _) = status {
        if killed_by.is_none_or(|known| known == Signal::SIGKILL as i32) {
            *killed_by = Some(signal as i32);
        }
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
    /// A running one.
    fn found(actor: usize, pid: Pid, own: bool) -> Result<Process> {
        Ok(Process {
            actor,
            pid,
            pidfd: pidfd_open(pid.as_raw(), 0)?,
            own,
            ended: false,
        })
    }

    /// Whether there still is such a process, be it a dead one.
    fn is_there(&self) -> bool {
        // SAFETY: no memory is involved; nothing is sent.
        unsafe { libc::kill(self.pid.as_raw(), 0) == 0 }
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
