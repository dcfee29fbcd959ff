// SPDX-License-Identifier: GPL-2.0-only
//! The processes and threads whose memory is watched. Between two marks an actor
//! does nothing in its own mm but the step: no allocation, no stdio, no lazy
//! binding; all that it has is populated beforehand. Between its steps it sleeps.

use crate::handed::{Handed, Rung, Script, write_all};
use crate::perform::{Target, perform};
use crate::region::Region;
use crate::shared::Shared;
use crate::{call, disks, files, harts, kvm, limits, nodes, populate, touch, tracer, uffd, uprobe};
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::prctl::{set_pdeathsig, set_thp_disable};
use nix::sys::signal::Signal;
use operations::{ActorKind, Course, Op, Plain, Program, StepResult};
use protocol::message::Count;
use protocol::{Run, Tracing};
use std::ffi::CString;
use std::hint::black_box;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, OnceLock};

/// Some ticks, in nanoseconds.
const EVEN: u64 = 20_000_000;

/// `process_mrelease(2)` (include/uapi/asm-generic/unistd.h)
const SYS_PROCESS_MRELEASE: libc::c_long = 448;

/// A thread's stack, in bytes.
const THREAD_STACK: usize = 256 << 10;

/// What all actors of a process know.
struct Play {
    program: Program,
    tracing: Tracing,
    shared: Shared,
    handed: Handed,
    kill_subject: bool,
    region: Region,
    reclaims: bool,
}

/// The rest of the life of a process that a zygote forked.
pub fn live(region: Region, actor: usize) -> ! {
    end(prepare_forked(region, actor))
}

/// The life of a process that an actor executed, by its command line: the actor, the
/// step whose exec it was, and the descriptor of the shared memory.
pub fn main() -> ! {
    abort_on_panic();
    end(prepare_executed())
}

/// A panic is a wrong answer from the process's own memory, be it the program to replay. It
/// ends the process, whichever thread has it.
pub fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        println!("tlbdiff-agent: actor: {panic}");
        std::process::abort();
    }));
}

fn end(life: Result<()>) -> ! {
    match life {
        // SAFETY: ends this process; nothing waits to be written.
        Ok(()) => unsafe { libc::_exit(0) },
        Err(error) => give_up(&error),
    }
}

/// Where this process says why it gives up.
static SHARED: OnceLock<Shared> = OnceLock::new();

fn give_up(error: &anyhow::Error) -> ! {
    let why = format!("{error:#}");
    match SHARED.get() {
        Some(shared) => shared.give_up(&why),
        None => println!("tlbdiff-agent: actor: {why}"),
    }
    std::process::exit(1);
}

/// What there is to do, from the shared memory.
fn read_play(region: Region) -> Result<Arc<Play>> {
    // The agent has written it whole: a process that reads something else reads astray.
    let script: Script = postcard::from_bytes(&region.script()).expect("a script");
    let Run {
        program, tracing, ..
    } = script.run;
    // Whoever locks all memory would fill the region in as well.
    let region = match program.does(&[Plain::Mlockall]) {
        true => region.without_the_rest()?,
        false => region,
    };
    let shared = Shared::of(&region, &program);
    let _ = SHARED.set(shared);
    Ok(Arc::new(Play {
        reclaims: program.reclaims(),
        program,
        tracing,
        shared,
        handed: script.handed,
        kill_subject: script.kill_subject,
        region,
    }))
}

fn prepare_forked(region: Region, actor: usize) -> Result<()> {
    // The end of the agent is this process's, which nobody else would end.
    set_pdeathsig(Signal::SIGKILL).context("prctl")?;
    let play = read_play(region)?;
    play.attach(play.mm_of(actor, None))?;
    if play.program.runs_vm(actor) {
        kvm::prepare()?;
    }
    if play.program.uses_uffd(actor) {
        uffd::prepare(&play.program)?;
    }
    play.shared.tid(actor).store(tid(), SeqCst);
    populate::populate_forked();
    region.populate();
    now();
    if play.has_threads(actor) || play.reclaims {
        // What is copied later all its harts would be told of, and reclaim would find.
        populate::populate_heap()?;
    }
    play.start_threads(actor)?;
    if let Some((from, to)) = play.program.migrates() {
        populate::populate_text()?;
        nodes::make_way(from, to)?;
    }
    if let Some(areas) = play.program.max_map_count {
        limits::allow_areas(areas)?;
    }
    // What the program itself has is small pages, which the kernel has no reason to take.
    set_thp_disable(false).context("prctl")?;
    // The last thing before the steps: only what they fault in is charged here.
    play.enter_cgroup()?;
    // What the preparations faulted in must not share a batch with the steps' pages.
    files::drain_lru_batches()?;
    play.begin(actor)?;
    play.act(actor, 0)
}

fn prepare_executed() -> Result<()> {
    let words: Vec<usize> = std::env::args()
        .skip(2)
        .map(|word| word.parse().expect("a number"))
        .collect();
    let [actor, step, fd] = words[..] else {
        panic!("an actor has three arguments");
    };
    let region = Region::map(fd as RawFd)?;
    let play = read_play(region)?;
    touch::install()?;
    play.attach(play.mm_of(actor, Some(step)))?;
    play.shared.tid(actor).store(tid(), SeqCst);
    populate::populate()?;
    region.populate();
    now();
    play.enter_cgroup()?;
    files::drain_lru_batches()?;
    play.mark(step, 1);
    play.finish(step, StepResult::Ok, 0);
    play.act(actor, step + 1)
}

impl Play {
    /// The mm that this process begins with.
    fn mm_of(&self, actor: usize, exec: Option<usize>) -> usize {
        let step = exec.and_then(|step| self.program.steps.get(step));
        if let Some(mm) = step.and_then(|step| step.op.made_mm()) {
            return mm;
        }
        let actor = self.program.actors.get(actor).expect("an actor");
        actor.kind.mm().expect("a process")
    }

    /// From now on this process's mm is watched, and it is known how records name it.
    fn attach(&self, mm: usize) -> Result<()> {
        if let Some(subscribers) = self.tracing.subscribers {
            tracer::subscribe(self.handed.tracer, subscribers)?;
        }
        if self.tracing.on {
            tracer::attach(self.handed.tracer)?;
            let number = tracer::status(self.handed.tracer)?.mm;
            self.shared.mm(mm).store(number, SeqCst);
        }
        Ok(())
    }

    fn enter_cgroup(&self) -> Result<()> {
        write_all(self.handed.procs, b"0").context("cannot join the cgroup")
    }

    fn leave_cgroup(&self) -> Result<()> {
        self.handed.leave_cgroup()
    }

    /// Small writes to a pipe do not come in parts, and there is room.
    fn ring(&self, what: Rung) -> Result<()> {
        write_all(self.handed.bell, &what.to_bytes()).context("cannot tell the agent")
    }

    fn mark(&self, step: usize, phase: u64) {
        if self.tracing.subscribers.is_some() {
            self.count(step, phase);
        }
        if self.tracing.on {
            tracer::mark(self.handed.tracer, step as u64, phase);
        }
    }

    /// What counting itself costs is counted first, the second time with all that it
    /// needs at hand.
    fn count(&self, step: usize, phase: u64) {
        let tracer = self.handed.tracer;
        if phase == 0 {
            sleep_until_even();
            tracer::count_begin(tracer);
            tracer::count_end(tracer);
            tracer::count_begin(tracer);
            self.shared.store_count(step, tracer::count_end(tracer));
            tracer::count_begin(tracer);
            return;
        }
        let (all, own) = (tracer::count_end(tracer), self.shared.count(step));
        let count = Count {
            cycles: all.cycles.saturating_sub(own.cycles),
            instructions: all.instructions.saturating_sub(own.instructions),
            nanoseconds: all.nanoseconds.saturating_sub(own.nanoseconds),
            calls: all.calls,
        };
        self.shared.store_count(step, count);
    }

    fn has_threads(&self, leader: usize) -> bool {
        let thread = ActorKind::Thread { of: leader };
        let mut actors = self.program.actors.iter();
        actors.any(|actor| actor.kind == thread)
    }

    /// The threads of this process, each on its hart and ready.
    fn start_threads(self: &Arc<Play>, leader: usize) -> Result<()> {
        for (actor, thread) in self.program.actors.iter().enumerate() {
            if thread.kind != (ActorKind::Thread { of: leader }) {
                continue;
            }
            let play = Arc::clone(self);
            let ready = self.shared.count_ready();
            let started = std::thread::Builder::new()
                .stack_size(THREAD_STACK)
                .spawn(move || {
                    let life = prepare_thread(&play, actor);
                    if let Err(error) = life.and_then(|()| play.act(actor, 0)) {
                        give_up(&error);
                    }
                    // Giving back what a thread has would be told to all its harts; its
                    // process ends soon.
                    // SAFETY: ends this thread alone, which holds nothing.
                    unsafe { libc::syscall(libc::SYS_exit, 0) };
                })
                .context("cannot start a thread")?;
            // It waits for this hart, and goes on another one without ever having run here:
            // a thread that runs is moved by the kernel's own, which takes longer.
            harts::pin_thread(&started, thread.hart as usize)?;
            self.shared.sleep_until_ready(ready + 1);
        }
        Ok(())
    }

    /// The subject starts the trace and the first step once all are ready.
    fn begin(&self, actor: usize) -> Result<()> {
        self.shared.ready();
        if actor == 0 {
            let there = |kind: ActorKind| kind != ActorKind::Fork;
            let actors = &self.program.actors;
            let initial = actors.iter().filter(|actor| there(actor.kind)).count();
            self.shared.sleep_until_ready(initial);
            if self.tracing.on {
                tracer::start(self.handed.tracer)?;
            }
            self.shared.finish(&self.program, 0);
        }
        Ok(())
    }

    /// An actor's steps, from one on, and the wait for the end of all.
    fn act(self: &Arc<Play>, actor: usize, from: usize) -> Result<()> {
        let mut running = false;
        let await_turn = |running: bool, step: usize| {
            if running {
                self.shared.spin_until(step);
                return harts::keep();
            }
            self.shared.sleep_until(actor, step);
            Ok(())
        };
        for (number, step) in self.program.steps.iter().enumerate().skip(from) {
            if step.by != actor {
                continue;
            }
            let group = self.program.group_of(number);
            let turn = group.map_or(number, |group| self.program.groups[group].first);
            await_turn(running, turn)?;
            let course = step.op.course();
            running = course == Course::Run;
            if running {
                harts::share()?;
            }
            if self.reclaims {
                self.flush_statistics();
            }
            if let Some(group) = group {
                // Who spins keeps its hart from the kernel's threads, for which others may wait.
                self.shared.arrive(group);
                let doing = self.shared.doing(&self.program, group);
                self.shared.sleep_until_arrived(group, doing);
            }
            match course {
                Course::Fork { child, mm } => self.fork(number, child, mm)?,
                Course::Exec { .. } => self.exec(number, actor)?,
                Course::Exit => self.exit(number, actor),
                Course::ActsOn(of) => {
                    self.perform(number, &step.op, self.process(of));
                }
                Course::Ends(of) => self.end_another(number, of)?,
                Course::OfDevice(mm) => {
                    let mm = self.shared.mm(mm).load(SeqCst);
                    self.perform(number, &step.op, Target::Mm(mm));
                }
                Course::Returns | Course::Reclaims | Course::Run => {
                    self.perform(number, &step.op, Target::Own);
                }
            }
            if self.kill_subject {
                // SAFETY: ends this process.
                unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            }
        }
        if running {
            self.shared.spin_until(self.program.steps.len());
        }
        self.shared.sleep_until_end(actor);
        if self.tracing.on {
            // An end that is watched is waited for.
            let _ = tracer::detach(self.handed.tracer);
        }
        Ok(())
    }

    /// One step between its marks, on another process where it is about one.
    fn perform(&self, number: usize, op: &Op, target: Target) {
        let begin = now();
        self.mark(number, 0);
        self.meet(number);
        let result = perform(op, &self.handed, target);
        self.mark_end(number);
        let took = now() - begin;
        if let Target::Process(Some(fd), _) = target {
            // SAFETY: was opened for this step.
            unsafe { libc::close(fd) };
        }
        if self.reclaims && self.program.actors.len() > 1 {
            self.leave_no_batch();
        }
        disks::settle(&self.handed.disks);
        self.finish(number, result, took);
    }

    /// Reclaim drains the LRU batches of all harts at once, in whatever order they come:
    /// so none is left to it that is not this hart's.
    fn leave_no_batch(&self) {
        // It has worked before the first step; there is nobody to tell here.
        let _ = files::drain_lru_batches();
    }

    /// Where others begin at the same moment, waits for it, and as long as is said beside.
    fn meet(&self, number: usize) {
        let Some(group) = self.program.group_of(number) else {
            return;
        };
        let steps = &self.program.groups[group];
        self.shared
            .meet(group, self.shared.doing(&self.program, group));
        let delay = steps.delays.get(number - steps.first);
        for _ in 0..delay.copied().unwrap_or(0) {
            std::hint::spin_loop();
        }
    }

    /// Marks the end of a step; of those that were begun together there is one end.
    fn mark_end(&self, number: usize) {
        if self.program.group_of(number).is_none() {
            self.mark(number, 1);
        }
    }

    /// A step is over, and with the last one the trace. Of steps that were begun together, all
    /// are: whoever does the last of them that returns waits for the others, and goes on.
    fn finish(&self, number: usize, result: StepResult, took: u64) {
        self.shared.store(number, result, took);
        let mut number = number;
        if let Some(group) = self.program.group_of(number) {
            self.shared.arrive(group);
            if self.closer(group) != Some(number) {
                return;
            }
            let doing = self.shared.doing(&self.program, group);
            self.shared.sleep_until_arrived(group, 3 * doing);
            let steps = self.program.groups[group].steps();
            number = steps.end - 1;
            self.shared.store_unborn(&self.program, steps);
            self.mark(number, 1);
        }
        let next = self.shared.pass_over_unborn(&self.program, number + 1);
        if self.tracing.on && next == self.program.steps.len() {
            // A trace that goes on holds more than it should, and is refused for that.
            let _ = tracer::stop(self.handed.tracer);
        }
        self.shared.finish(&self.program, next);
        if next == self.program.steps.len() && self.program.actors.len() > 1 {
            // Without the agent nobody ends.
            let _ = self.ring(Rung::Done);
        }
    }

    /// The last step of a group whose actor is there after it.
    fn closer(&self, group: usize) -> Option<usize> {
        let mut steps = self.program.groups[group].steps().rev();
        steps.find(|step| {
            let step = &self.program.steps[*step];
            self.shared.is_born(step.by) && step.op.course() != Course::Exit
        })
    }

    /// The actor that an actor's process began with.
    fn leader(&self, actor: usize) -> usize {
        match self.program.actors.get(actor).map(|actor| actor.kind) {
            Some(ActorKind::Thread { of }) => of,
            Some(ActorKind::Process { .. } | ActorKind::Fork) | None => actor,
        }
    }

    /// An actor's process, with a descriptor unless it is gone.
    fn process(&self, actor: usize) -> Target {
        let pid = self.shared.tid(self.leader(actor)).load(SeqCst);
        // SAFETY: a new descriptor, or an error.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        Target::Process((fd >= 0).then_some(fd as RawFd), pid as i32)
    }

    /// fork(2), and the child's coming to life, which is no part of the step. What
    /// both fault in for that is charged to another cgroup.
    fn fork(self: &Arc<Play>, number: usize, child: usize, mm: usize) -> Result<()> {
        let ready = self.shared.count_ready();
        self.leave_cgroup()?;
        let begin = now();
        self.mark(number, 0);
        self.meet(number);
        // SAFETY: the child goes on as a copy of this thread alone, and uses
        // nothing that another thread of this process might hold: they all sleep.
        let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        if pid == 0 {
            self.be_born(number, child, mm);
        }
        let refused = Errno::last_raw();
        self.mark_end(number);
        let took = now() - begin;
        let result = if pid < 0 {
            self.shared.never_born(child);
            StepResult::Errno(refused)
        } else {
            self.shared.sleep_until_ready(ready + 1);
            StepResult::Ok
        };
        if self.reclaims {
            populate::populate_heap()?;
        }
        self.enter_cgroup()?;
        files::drain_lru_batches()?;
        self.finish(number, result, took);
        Ok(())
    }

    /// The whole life of a forked child.
    fn be_born(self: &Arc<Play>, number: usize, child: usize, mm: usize) -> ! {
        let life = || -> Result<()> {
            self.shared.tid(child).store(tid(), SeqCst);
            uprobe::forget();
            self.ring(Rung::Born(child))?;
            let hart = self.program.actors[child].hart;
            // Before another hart has seen its mm, and would have to be told.
            populate::populate_forked();
            if self.reclaims {
                populate::populate_heap()?;
            }
            if self.has_threads(self.leader(self.program.steps[number].by)) {
                populate::populate_writable()?;
            }
            harts::pin(hart as usize)?;
            self.attach(mm)?;
            self.enter_cgroup()?;
            files::drain_lru_batches()?;
            self.shared.ready();
            self.act(child, number + 1)
        };
        let code = match life() {
            Ok(()) => 0,
            Err(error) => {
                self.shared.give_up(&format!("forked actor: {error:#}"));
                1
            }
        };
        // SAFETY: ends the child without running anything of its parent's.
        unsafe { libc::_exit(code) }
    }

    /// execve(2) of this very program. The end is marked by what comes after it.
    fn exec(&self, number: usize, actor: usize) -> Result<()> {
        let fd = self.region.fd();
        let numbers = [actor.to_string(), number.to_string(), fd.to_string()];
        let words = ["tlbdiff-agent".to_owned(), call::ACTOR.to_owned()].into_iter();
        let words = words.chain(numbers).map(CString::new);
        let words = words.collect::<Result<Vec<_>, _>>()?;
        self.handed.keep_over_exec(fd);
        self.leave_cgroup()?;
        self.mark(number, 0);
        let Err(error) = nix::unistd::execv(c"/proc/self/exe", &words);
        self.mark(number, 1);
        self.enter_cgroup()?;
        self.finish(number, StepResult::Errno(error as i32), 0);
        Ok(())
    }

    /// exit_group(2) of a process, exit(2) of a thread. The end is marked by the
    /// agent, once it has come.
    fn exit(&self, number: usize, actor: usize) -> ! {
        let thread = matches!(
            self.program.actors.get(actor).map(|actor| actor.kind),
            Some(ActorKind::Thread { .. })
        );
        let _ = self.ring(Rung::Exits(actor));
        self.mark(number, 0);
        self.meet(number);
        let call = if thread {
            libc::SYS_exit
        } else {
            libc::SYS_exit_group
        };
        // SAFETY: ends this thread, or the process.
        unsafe { libc::syscall(call, 0) };
        unreachable!("exit returned")
    }

    /// Has another process end, and its memory be given back before it gets to run where it is
    /// on the same hart. The end is marked by the agent, once it has come.
    fn end_another(&self, number: usize, of: usize) -> Result<()> {
        let oom = matches!(
            self.program.steps[number].op,
            Op::Plain {
                what: Plain::OomKill,
                ..
            }
        );
        if oom {
            self.oom_kill(number, of)
        } else {
            self.release(number, of)
        }
    }

    /// Kills it, and gives its memory back oneself (`process_mrelease(2)`).
    fn release(&self, number: usize, of: usize) -> Result<()> {
        let Target::Process(Some(pidfd), _) = self.process(of) else {
            bail!("nobody is there to be killed");
        };
        self.ring(Rung::Exits(of))?;
        self.mark(number, 0);
        // SAFETY: no memory of this process is involved.
        unsafe {
            let (kill, release) = (libc::SYS_pidfd_send_signal, SYS_PROCESS_MRELEASE);
            libc::syscall(kill, pidfd, libc::SIGKILL, 0, 0);
            libc::syscall(release, pidfd, 0);
            libc::close(pidfd);
        }
        Ok(())
    }

    /// The cgroup may have no memory at all, and nobody but this process may be killed for that.
    /// The call looks for somebody to kill until nobody is left who has anything
    /// (`memory_max_write()`): so it returns when the OOM reaper has given all back, which it does
    /// two seconds after the kill (OOM_REAPER_DELAY), if the process has not ended until then.
    fn oom_kill(&self, number: usize, of: usize) -> Result<()> {
        let of = self.leader(of);
        for actor in 0..self.program.actors.len() {
            // Who is not born, or gone, cannot be killed either.
            if let Ok(pid @ 1..) = i32::try_from(self.shared.tid(self.leader(actor)).load(SeqCst)) {
                limits::adjust_another(pid, self.leader(actor) == of);
            }
        }
        self.ring(Rung::Exits(of))?;
        self.mark(number, 0);
        for limit in [&b"0"[..], b"max"] {
            let file = self.handed.memory_max;
            // SAFETY: writes from a valid buffer.
            unsafe { libc::pwrite(file, limit.as_ptr().cast(), limit.len(), 0) };
        }
        Ok(())
    }

    /// Has the kernel add up its statistics. On 6.12 a read of cpu.stat does, and
    /// where the module cannot hook the kernel's timer nothing else does.
    fn flush_statistics(&self) {
        if self.tracing.on && tracer::flush_stats(self.handed.tracer).is_ok() {
            return;
        }
        let mut text = [0u8; 1024];
        let (at, size) = (text.as_mut_ptr().cast(), text.len());
        // SAFETY: reads into a buffer of that size; what it says is of no interest.
        black_box(unsafe { libc::pread(self.handed.stat, at, size, 0) });
    }
}

/// A thread before its first step.
fn prepare_thread(play: &Play, actor: usize) -> Result<()> {
    touch::install_stack()?;
    touch::populate_thread();
    populate::deepen_stack();
    harts::keep()?;
    files::drain_lru_batches()?;
    play.shared.tid(actor).store(tid(), SeqCst);
    play.shared.ready();
    Ok(())
}

fn tid() -> u64 {
    // SAFETY: only answers.
    unsafe { libc::syscall(libc::SYS_gettid) as u64 }
}

fn now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: time is a valid timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Sleeps until the clock shows a multiple of [`EVEN`]. Ticks come at even times, too, so
/// that a step is as far from the next one in each round.
fn sleep_until_even() {
    let even = (now() / EVEN + 1) * EVEN;
    let until = libc::timespec {
        tv_sec: (even / 1_000_000_000) as libc::time_t,
        tv_nsec: (even % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: the time is only read, and what is left of it is not asked for. A signal that
    // cuts it short makes the step one of those that are not the cheapest.
    unsafe {
        libc::clock_nanosleep(
            libc::CLOCK_MONOTONIC,
            libc::TIMER_ABSTIME,
            &until,
            std::ptr::null_mut(),
        )
    };
}
