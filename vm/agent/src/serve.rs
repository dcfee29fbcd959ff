// SPDX-License-Identifier: GPL-2.0-only
//! Requests in, replies out.

use crate::cast::{Cast, End};
use crate::handed::{Handed, Script};
use crate::hugetlb::Pool;
use crate::kept::{self, Group, Kept};
use crate::settings::Changed;
use crate::shared::Shared;
use crate::tracer::Tracer;
use crate::workload::Meanwhile;
use crate::zygote::Zygotes;
use crate::{
    damon, disks, files, harts, iommu, kswapd, limits, lru_gen, memory_block, notes, room, swap,
    system, thp, workload,
};
use anyhow::{Context, Result, bail};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Pid, pipe2};
use operations::{Plain, Program, StepResult, Thp};
use protocol::message::{Count, Report, Sabotage};
use protocol::workload::Workload;
use protocol::{PROTOCOL_VERSION, Record, Reply, Request, Run, frame};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// Bytes of trace that go into one message at the most.
const CHUNK: usize = Record::SIZE * 8192;

/// On a board: so long the host may say nothing, or take nothing. A cable that was
/// pulled says nothing either, and the board must not wait for ever to be as before.
const SILENCE: Duration = Duration::from_secs(120);

/// Bytes that can be written to a pipe that is ready: PIPE_BUF.
const ATOMIC: usize = 4096;

/// The way to the host. Of a guest's port, what is read while nobody is connected is
/// nothing yet; on a board it is the end.
struct Port {
    input: File,
    output: File,
    /// How long it waits for the host, where it does not wait for ever.
    patience: Option<Duration>,
    ended: bool,
}

impl Port {
    /// Waits until a descriptor is ready, on a board within the time that the host has.
    fn await_host(&self, file: &File, what: PollFlags) -> io::Result<()> {
        let Some(patience) = self.patience else {
            return Ok(());
        };
        let limit = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(file.as_fd(), what)], limit)? {
            0 => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("nothing was heard of the host for {} s", patience.as_secs()),
            )),
            _ => Ok(()),
        }
    }
}

impl Read for Port {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.await_host(&self.input, PollFlags::POLLIN)?;
            match self.input.read(buffer) {
                Ok(0) if self.patience.is_some() => {
                    self.ended = true;
                    return Ok(0);
                }
                Ok(0) => sleep(Duration::from_millis(5)),
                result => return result,
            }
        }
    }
}

impl Write for Port {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.patience.is_none() {
            return self.output.write(buffer);
        }
        self.await_host(&self.output, PollFlags::POLLOUT)?;
        self.output.write(&buffer[..buffer.len().min(ATOMIC)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// Answers the host until it asks for the end, or is gone.
///
/// # Errors
/// The channel failed.
pub fn serve(input: File, output: File, zygotes: Zygotes) -> Result<()> {
    let mut port = Port {
        input,
        output,
        patience: notes::is_kept().then_some(SILENCE),
        ended: false,
    };
    let mut kept = Kept::new(zygotes)?;
    let mut kill_subject = false;
    loop {
        let request = frame::receive(&mut port);
        if port.ended {
            return Ok(());
        }
        match request.context("cannot read a request")? {
            Request::Hello { .. } => {
                let system = system::facts()?;
                let ready = Reply::Ready {
                    version: PROTOCOL_VERSION,
                    system,
                };
                frame::send(&mut port, &ready)?;
            }
            Request::Run {
                id,
                run: asked,
                timeout_ms,
            } => {
                let limit = Duration::from_millis(timeout_ms);
                let kill = std::mem::take(&mut kill_subject);
                let moves = asked.program.moves_memory();
                let harts = asked.program.does(&[Plain::HartOffline]);
                let swapoff = asked.program.does(&[Plain::Swapoff]);
                let blocks = asked.program.does(&[Plain::MemoryUnplug]);
                let end = run(&mut port, &mut kept, id, *asked, (limit, kill));
                if swapoff {
                    swap::forget();
                }
                if harts {
                    harts::all_online()?;
                }
                if blocks {
                    memory_block::all_online()?;
                }
                if moves || harts {
                    kept.zygotes.renew()?;
                }
                let reply = end.unwrap_or_else(|error| failed(id, &error));
                frame::send(&mut port, &reply)?;
            }
            Request::Put {
                id,
                name,
                first,
                bytes,
            } => {
                let put = workload::put(&name, first, &bytes);
                let reply = match put {
                    Ok(()) => Reply::Put { id },
                    Err(error) => failed(id, &error),
                };
                frame::send(&mut port, &reply)?;
            }
            Request::Observe {
                id,
                workload,
                timeout_ms,
            } => {
                let limit = Duration::from_millis(timeout_ms);
                let reply = observe(&mut port, &mut kept, (id, &workload), limit);
                workload::clear();
                let reply = reply.unwrap_or_else(|error| failed(id, &error));
                frame::send(&mut port, &reply)?;
            }
            Request::Sabotage(Sabotage::KillSubject) => kill_subject = true,
            Request::Sabotage(Sabotage::StopIommu) => kept.stop_iommu = true,
            Request::Sabotage(Sabotage::Panic) => fs::write("/proc/sysrq-trigger", "c")?,
            Request::Sabotage(Sabotage::Hang) => loop {
                sleep(Duration::from_secs(60));
            },
            Request::Sabotage(Sabotage::Die) => std::process::exit(1),
            Request::Poweroff => return Ok(()),
        }
    }
}

fn failed(id: u64, error: &anyhow::Error) -> Reply {
    Reply::Failed {
        id,
        why: format!("{error:#}"),
    }
}

/// A command, with its trace.
fn observe(
    port: &mut Port,
    kept: &mut Kept,
    (id, workload): (u64, &Workload),
    limit: Duration,
) -> Result<Reply> {
    let mut tell = |meanwhile: Meanwhile| match meanwhile {
        // The next look at the clock does not wait for a program that is never done.
        Meanwhile::Trace(tracer) => send_piece(port, id, tracer).map(drop),
        Meanwhile::Rest(tracer) => send_trace(port, id, tracer),
        Meanwhile::Said(bytes) => Ok(frame::send(port, &Reply::Said { id, bytes })?),
    };
    let ran = workload::run(kept, (id, workload), limit, &mut tell)?;
    Ok(Reply::Ran { id, ran })
}

/// One program with fresh actors.
fn run(
    port: &mut Port,
    kept: &mut Kept,
    id: u64,
    run: Run,
    (limit, kill_subject): (Duration, bool),
) -> Result<Reply> {
    if run.program.actors.is_empty() {
        bail!("a program without a subject");
    }
    if notes::is_kept() && run.program.does(Plain::SPOILS) {
        bail!("a step would change what others on this machine have");
    }
    if !notes::is_kept() {
        room::make()?;
    }
    let pools = run.program.huge_pages().into_iter().map(Pool::fill);
    let _pools = pools.collect::<Result<Vec<Pool>>>()?;
    if run.program.files.iter().any(|file| file.filled) {
        // What a program before wanted of shared memory is no business of this one's files.
        kept.thp.set(&Thp::default())?;
    }
    let files = files::make(&run.program.files)?;
    swap::set(&run)?;
    kept.thp.set(&run.program.thp)?;
    let limited = run.program.max_map_count;
    let _max_map_count = limited
        .map(|_| Changed::soon(limits::MAX_MAP_COUNT))
        .transpose()?;
    let _used = Used::soon(&run.program)?;
    let group = kept.group(id, &run)?;
    // What the preparations make the kernel say is not the steps' doing.
    kept.kmsg.skip();
    let taint_before = kept.taint()?;
    let small = swap::is_small(&run.program);
    let scanned_before = if small { 0 } else { system::scanned()? };
    let iommu = run.iommu;
    let iommu = iommu
        .map(|policy| iommu::open(policy, kept.stop_iommu))
        .transpose()?;
    let mut tracer = match run.tracing.on || run.counts() {
        true => Some(Tracer::open(run.tracing.buffer_records)?),
        false => None,
    };
    if let Some(tracer) = tracer.as_ref().filter(|_| run.tracing.tables) {
        tracer.watch_arena(run.tracing.eager)?;
    }
    let open = Open::new(&group, &run.program)?;
    let script = Script {
        run,
        handed: Handed {
            iommu: iommu.as_ref().map_or(-1, AsRawFd::as_raw_fd),
            ..open.handed(kept, &group, tracer.as_ref(), &files)
        },
        kill_subject,
    };
    let region = *kept.zygotes.region();
    region.begin(
        Shared::size(&script.run.program),
        &postcard::to_stdvec(&script)?,
    )?;
    let Script { run, handed, .. } = script;
    let program = run.program;
    let mut fetch = |port: &mut Port, all: bool| match &mut tracer {
        Some(tracer) if all || !run.tracing.keeps_all => send_trace(port, id, tracer),
        _ => Ok(()),
    };
    let end = Cast::start(
        (&program, run.tracing.on),
        &mut kept.zygotes,
        &handed,
        open.bell,
        limit,
    )
    .and_then(|mut cast| cast.watch(&mut || fetch(port, false)));
    let play = Played::take(
        Shared::of(&region, &program),
        &program,
        run.tracing.subscribers.is_some(),
    );
    region.end();
    if let Some(why) = &play.gave_up {
        bail!("an actor gave up in {}: {why}", play.position(&program));
    }
    let scanned = if small {
        0
    } else {
        system::scanned()?.saturating_sub(scanned_before)
    };
    let late = format!("{} did not return in {limit:?}", play.position(&program));
    let end = end?;
    let short = match end {
        End::Ended { .. } => false,
        End::TimedOut => scanned > 0 || killed_for_memory(&kept.kmsg.warnings()),
        // To look for pages ends at some time, and excuses no kernel that hangs.
        End::Stuck(_) => killed_for_memory(&kept.kmsg.warnings()),
    };
    if short {
        bail!(
            "the machine's memory was used up, so this says nothing about the kernel: {late}; \
             give it more (--memory MIB), or have the scenario take less"
        );
    }
    let killed_by = match end {
        End::Ended { killed_by } => killed_by,
        End::TimedOut => bail!("{late}"),
        End::Stuck(why) => {
            return Ok(Reply::Stuck {
                id,
                step: play.steps.len() as u64,
                why,
            });
        }
    };
    fetch(port, true)?;
    if !play.begun && killed_by.is_none() {
        bail!("the subject ended before its first step");
    }
    let counts = tracer
        .as_ref()
        .map(Tracer::status)
        .transpose()?
        .unwrap_or_default();
    let report = Report {
        steps: play.steps,
        step_ns: play.step_ns,
        step_counts: play.step_counts,
        mms: play.mms,
        pids: play.pids,
        killed_by,
        recorded: counts.recorded,
        lost: counts.lost,
        taint_before,
        taint_after: kept.taint()?,
        scanned,
        kernel_warnings: kept.kmsg.warnings(),
    };
    Ok(Reply::Done { id, report })
}

/// What steps set that the whole machine goes by: when dropped, it is as it was.
struct Used {
    _damon: Option<damon::Used>,
    _settings: Vec<Changed>,
}

impl Used {
    fn soon(program: &Program) -> Result<Used> {
        let damon = program.does(&[Plain::DamonPageout, Plain::DamonCold]);
        let settings = [
            (Plain::Kswapd, kswapd::MIN_FREE),
            (Plain::Kswapd, kswapd::POOL),
            (Plain::LruGen, lru_gen::ENABLED),
        ];
        // A kernel without hugetlb has no pool of it.
        let changed =
            |(step, path): &&(Plain, &str)| program.does(&[*step]) && Path::new(path).exists();
        let settings = settings.iter().filter(changed);
        Ok(Used {
            _damon: damon.then(damon::Used::soon).transpose()?,
            _settings: settings
                .map(|(_, path)| Changed::soon(path))
                .collect::<Result<_>>()?,
        })
    }
}

/// Whether the kernel says that it kills for want of memory. What it is busy with then, as
/// where it looks for pages to free, may take any time.
fn killed_for_memory(said: &[String]) -> bool {
    said.iter().any(|line| line.contains("oom-killer"))
}

/// Sends what is waiting in the trace.
fn send_trace(port: &mut Port, id: u64, tracer: &mut Tracer) -> Result<()> {
    while send_piece(port, id, tracer)? {}
    Ok(())
}

/// Sends as much of it as goes into one message; false where there is nothing.
fn send_piece(port: &mut Port, id: u64, tracer: &mut Tracer) -> Result<bool> {
    let mut records = Vec::new();
    while records.len() < CHUNK && tracer.read(&mut records)? {}
    if records.is_empty() {
        return Ok(false);
    }
    frame::send(port, &Reply::Trace { id, records })?;
    Ok(true)
}

/// What a program's actors have beside what is kept, open in the agent until they are gone.
struct Open {
    /// memory.reclaim and cpu.stat, where one reclaims.
    reclaim: Option<(File, File)>,
    /// memory.max and memory.high, where one sets them.
    limits: Option<(File, File)>,
    /// What shows how much of each disk is under way, where the program has files there.
    disks: Vec<File>,
    /// kswapd's pid, where a step has it work.
    kswapd: i32,
    bell: File,
    ring: File,
}

impl Open {
    fn new(group: &Group, program: &Program) -> Result<Open> {
        let file = |name: &str, write: bool| kept::open(group.cgroup.file(name), write);
        let reclaim =
            || -> Result<_> { Ok((file("memory.reclaim", true)?, file("cpu.stat", false)?)) };
        let limits =
            || -> Result<_> { Ok((file("memory.max", true)?, file("memory.high", true)?)) };
        let limited = program.does(&[Plain::MemoryMax, Plain::MemoryHigh, Plain::OomKill]);
        let kswapd = program.does(&[Plain::Kswapd]);
        let kswapd = kswapd.then(|| thp::kernel_thread("kswapd0")).flatten();
        let (bell, ring) = pipe2(OFlag::O_CLOEXEC).context("pipe")?;
        Ok(Open {
            disks: disks::inflight(&program.files)?,
            kswapd: kswapd.map_or(0, Pid::as_raw),
            reclaim: program.reclaims().then(reclaim).transpose()?,
            limits: limited.then(limits).transpose()?,
            bell: bell.into(),
            ring: ring.into(),
        })
    }

    fn handed(
        &self,
        kept: &Kept,
        group: &Group,
        tracer: Option<&Tracer>,
        files: &[OwnedFd],
    ) -> Handed {
        let (reclaim, stat) = match &self.reclaim {
            Some((reclaim, stat)) => (reclaim.as_raw_fd(), stat.as_raw_fd()),
            None => (-1, -1),
        };
        let (memory_max, memory_high) = match &self.limits {
            Some((max, high)) => (max.as_raw_fd(), high.as_raw_fd()),
            None => (-1, -1),
        };
        Handed {
            memory_max,
            memory_high,
            tracer: tracer.map_or(-1, Tracer::fd),
            procs: group.procs.as_raw_fd(),
            outside: kept.outside.as_raw_fd(),
            reclaim,
            stat,
            bell: self.ring.as_raw_fd(),
            iommu: -1,
            khugepaged: kept.thp.khugepaged(),
            kswapd: self.kswapd,
            disks: self.disks.iter().map(AsRawFd::as_raw_fd).collect(),
            files: files.iter().map(AsRawFd::as_raw_fd).collect(),
        }
    }
}

/// What the actors left in the shared memory.
struct Played {
    begun: bool,
    gave_up: Option<String>,
    steps: Vec<StepResult>,
    step_ns: Vec<u64>,
    step_counts: Vec<Count>,
    mms: Vec<u64>,
    pids: Vec<i32>,
}

impl Played {
    /// Reads it.
    fn take(shared: Shared, program: &Program, counts: bool) -> Played {
        let finished = shared.finished();
        let done = 0..finished.unwrap_or(0).min(program.steps.len());
        let (steps, step_ns) = done.clone().map(|step| shared.load(step)).unzip();
        let counted = done.filter(|_| counts);
        Played {
            begun: finished.is_some(),
            gave_up: shared.gave_up(),
            steps,
            step_ns,
            step_counts: counted.map(|step| shared.count(step)).collect(),
            mms: shared.mms(),
            pids: shared.tids(),
        }
    }

    /// Where actors that do not answer are.
    fn position(&self, program: &Program) -> String {
        match self.steps.len() {
            _ if !self.begun => "the actors' preparation".to_owned(),
            finished if finished < program.steps.len() => format!("step {}", finished + 1),
            _ => "the actors' end".to_owned(),
        }
    }
}
