// SPDX-License-Identifier: GPL-2.0-only
//! Requests in, replies out.

use crate::cgroup::Cgroup;
use crate::kmsg::Kmsg;
use crate::subject::{self, Inherited, STEP_WORDS, word};
use crate::tracer::Tracer;
use crate::{boot, files, swap, system};
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, execv, fork};
use protocol::message::{Report, Sabotage};
use protocol::program::Program;
use protocol::{PROTOCOL_VERSION, Record, Reply, Request, frame};
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often the trace is fetched while a subject runs.
const FETCH: u16 = 20;
/// How long a killed subject may take to end.
const DEATH: Duration = Duration::from_secs(3);
/// Bytes of trace that go into one message at the most.
const CHUNK: usize = Record::SIZE * 8192;

/// The host's port: what it reads while nobody is connected is nothing yet.
struct Port(File);

impl Read for Port {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Ok(0) => sleep(Duration::from_millis(5)),
                result => return result,
            }
        }
    }
}

impl Write for Port {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Answers the host until it asks for the end.
///
/// # Errors
/// The channel failed.
pub fn serve(port: File) -> Result<()> {
    let mut port = Port(port);
    let mut kill_subject = false;
    loop {
        match frame::receive(&mut port).context("cannot read a request")? {
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
                program,
                timeout_ms,
            } => {
                let limit = Duration::from_millis(timeout_ms);
                let kill = std::mem::take(&mut kill_subject);
                let end = run(&mut port, id, &program, limit, kill);
                let reply = end.unwrap_or_else(|error| failed(id, &error));
                frame::send(&mut port, &reply)?;
            }
            Request::Sabotage(Sabotage::KillSubject) => kill_subject = true,
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

/// One program in one fresh subject.
fn run(
    port: &mut Port,
    id: u64,
    program: &Program,
    limit: Duration,
    kill_subject: bool,
) -> Result<Reply> {
    let files = files::make(&program.files)?;
    swap::set(program.swap)?;
    let cgroup = Cgroup::new(id)?;
    // What the preparations make the kernel say is not the steps' doing.
    let mut kmsg = Kmsg::open(true)?;
    let taint_before = taint()?;
    let mut tracer = if program.trace {
        Some(Tracer::open(program.buffer_records)?)
    } else {
        None
    };
    let shared_file = files::memfd(c"tlbdiff-shared")?;
    let steps = program.steps.len();
    shared_file.set_len(subject::shared_words(steps) as u64 * 8)?;
    let shared = Shared::map(&shared_file, steps)?;
    let hart = program
        .actors
        .first()
        .context("a program without a subject")?
        .hart;

    let subject = {
        let handed = Handed::open(program, &cgroup)?;
        let inherited = Inherited {
            program: handed.program.as_raw_fd(),
            shared: shared_file.as_raw_fd(),
            tracer: tracer.as_ref().map_or(-1, Tracer::fd),
            procs: handed.procs.as_raw_fd(),
            reclaim: handed.reclaim.as_raw_fd(),
            stat: handed.stat.as_raw_fd(),
            sabotage: i32::from(kill_subject),
            files: files.iter().map(AsRawFd::as_raw_fd).collect(),
        };
        Subject::start(&inherited, hart)?
    };
    let pid = subject.pid.as_raw();
    let mut fetch = |port: &mut Port, all: bool| match &mut tracer {
        // A buffer of a given size is for trying what overflows.
        Some(tracer) if all || program.buffer_records == 0 => send_trace(port, id, tracer),
        _ => Ok(()),
    };
    let status = match subject.wait(limit, &mut || fetch(port, false))? {
        End::Exited(status) => status,
        End::TimedOut => bail!("{} did not return in {limit:?}", shared.position(steps)),
        End::Stuck(why) => {
            return Ok(Reply::Stuck {
                id,
                step: shared.finished() as u64,
                why,
            });
        }
    };
    fetch(port, true)?;
    let killed_by = match status {
        WaitStatus::Signaled(_, signal, _) => Some(signal as i32),
        _ => None,
    };
    if !shared.done() && killed_by.is_none() {
        bail!("the subject gave up before its first step; the console says why");
    }
    let counts = tracer
        .as_ref()
        .map(Tracer::status)
        .transpose()?
        .unwrap_or_default();
    let mut report = Report {
        killed_by,
        pids: vec![pid],
        recorded: counts.recorded,
        lost: counts.lost,
        taint_before,
        taint_after: taint()?,
        kernel_warnings: kmsg.warnings(),
        ..Report::default()
    };
    shared.fill(&mut report);
    Ok(Reply::Done { id, report })
}

/// Sends what is waiting in the trace.
fn send_trace(port: &mut Port, id: u64, tracer: &mut Tracer) -> Result<()> {
    loop {
        let mut records = Vec::new();
        while records.len() < CHUNK && tracer.read(&mut records)? {}
        if records.is_empty() {
            return Ok(());
        }
        frame::send(port, &Reply::Trace { id, records })?;
    }
}

fn taint() -> Result<u64> {
    let text = files::read(Path::new("/proc/sys/kernel/tainted"))?;
    text.trim().parse().context("/proc/sys/kernel/tainted")
}

/// What the subject inherits, open in the agent until it was started.
struct Handed {
    program: File,
    procs: File,
    reclaim: File,
    stat: File,
}

impl Handed {
    fn open(program: &Program, cgroup: &Cgroup) -> Result<Handed> {
        let mut file = files::memfd(c"tlbdiff-program")?;
        file.write_all(&postcard::to_stdvec(program)?)?;
        let open = |name: &str, write: bool| {
            let path = cgroup.file(name);
            OpenOptions::new()
                .read(!write)
                .write(write)
                .open(&path)
                .with_context(|| format!("cannot open {}", path.display()))
        };
        Ok(Handed {
            program: file,
            procs: open("cgroup.procs", true)?,
            reclaim: open("memory.reclaim", true)?,
            stat: open("cpu.stat", false)?,
        })
    }
}

/// The words shared with a subject; unmapped when dropped.
struct Shared {
    words: &'static [AtomicU64],
}

impl Shared {
    fn map(file: &File, steps: usize) -> Result<Shared> {
        Ok(Shared {
            words: subject::map_shared(file.as_raw_fd(), steps)?,
        })
    }

    fn finished(&self) -> usize {
        self.words[word::FINISHED].load(SeqCst) as usize
    }

    fn done(&self) -> bool {
        self.words[word::DONE].load(SeqCst) == 1
    }

    /// Where a subject that does not answer is.
    fn position(&self, steps: usize) -> String {
        match self.finished() {
            finished if finished < steps => format!("step {}", finished + 1),
            _ => "the subject's end".to_owned(),
        }
    }

    fn fill(&self, report: &mut Report) {
        report.mms = vec![self.words[word::MM].load(SeqCst)];
        for number in 0..self.finished() {
            let words = &self.words[word::STEPS + number * STEP_WORDS..];
            report.steps.push(subject::decode(words));
            report.step_ns.push(words[3].load(SeqCst));
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let length = self.words.len() * 8;
        // SAFETY: the mapping is this one's own, and nobody else has it.
        unsafe { libc::munmap(self.words.as_ptr().cast_mut().cast(), length) };
    }
}

/// A running subject.
struct Subject {
    pid: Pid,
    pidfd: OwnedFd,
}

/// How a subject ended.
enum End {
    Exited(WaitStatus),
    TimedOut,
    Stuck(String),
}

impl Subject {
    /// Starts it, pinned to its hart before it has an mm of its own, so that
    /// the mm is never seen by another.
    ///
    /// By fork and exec themselves: the standard library's `Command` wants
    /// Unix sockets, and this kernel has no network.
    fn start(inherited: &Inherited, hart: u32) -> Result<Subject> {
        let words = ["init".to_owned(), subject::ARGUMENT.to_owned()];
        let words = words.into_iter().chain(inherited.arguments());
        let words = words.map(CString::new).collect::<Result<Vec<_>, _>>()?;
        // SAFETY: this process has one thread.
        match unsafe { fork() }.context("cannot start a subject")? {
            ForkResult::Child => become_subject(inherited, hart, &words),
            ForkResult::Parent { child } => {
                // SAFETY: a new descriptor, or an error.
                let pidfd = unsafe {
                    let fd = Errno::result(libc::syscall(libc::SYS_pidfd_open, child.as_raw(), 0));
                    OwnedFd::from_raw_fd(fd.context("pidfd_open")? as RawFd)
                };
                Ok(Subject { pid: child, pidfd })
            }
        }
    }

    /// Until it ends, calling `meanwhile` every now and then.
    fn wait(mut self, limit: Duration, meanwhile: &mut dyn FnMut() -> Result<()>) -> Result<End> {
        let end = Instant::now() + limit;
        loop {
            let mut ended = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ended, PollTimeout::from(FETCH))? > 0 {
                return Ok(End::Exited(waitpid(self.pid, None)?));
            }
            let fetched = meanwhile();
            if fetched.is_err() || Instant::now() > end {
                let stuck = self.kill()?;
                fetched?;
                return Ok(stuck.map_or(End::TimedOut, End::Stuck));
            }
        }
    }

    /// Kills it; where it cannot be killed, what is known of it.
    fn kill(&mut self) -> Result<Option<String>> {
        kill(self.pid, Signal::SIGKILL).ok();
        let mut ended = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(DEATH.as_millis() as i32).unwrap_or(PollTimeout::MAX);
        if poll(&mut ended, limit)? > 0 {
            waitpid(self.pid, None)?;
            return Ok(None);
        }
        let proc = format!("/proc/{}", self.pid);
        let of = |name: &str| files::read(&Path::new(&proc).join(name)).unwrap_or_default();
        let stack = of("stack")
            .lines()
            .map(str::trim)
            .collect::<Vec<_>>()
            .join(" ");
        Ok(Some(format!(
            "the subject cannot be killed; it is in {} {stack}",
            of("wchan")
        )))
    }
}

/// The child's way from fork to exec.
fn become_subject(inherited: &Inherited, hart: u32, words: &[CString]) -> ! {
    let handed_down = [
        inherited.program,
        inherited.shared,
        inherited.tracer,
        inherited.procs,
        inherited.reclaim,
        inherited.stat,
    ];
    for fd in handed_down
        .iter()
        .chain(&inherited.files)
        .filter(|fd| **fd >= 0)
    {
        // SAFETY: only clears the close-on-exec flag.
        unsafe { libc::fcntl(*fd, libc::F_SETFD, 0) };
    }
    let error = match boot::pin(hart as usize) {
        Ok(()) => execv(c"/proc/self/exe", words)
            .map(|_| ())
            .err()
            .map(anyhow::Error::from),
        Err(error) => Some(error),
    };
    println!("tlbdiff-agent: cannot become a subject: {error:?}");
    // SAFETY: ends the child without running anything of the agent's.
    unsafe { libc::_exit(1) }
}
