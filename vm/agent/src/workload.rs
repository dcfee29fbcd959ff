// SPDX-License-Identifier: GPL-2.0-only
//! A program that nobody here wrote, run under the tracer: it is followed through its forks and
//! execs, and the trace is handed on while it runs.

use crate::cgroup::Cgroup;
use crate::kept::{self, Kept};
use crate::tracer::{self, Tracer};
use crate::{disks, harts, swap};
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::personality::{self, Persona};
use nix::sys::prctl::set_thp_disable;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, chroot, execvpe, fork, pipe2, setsid};
use operations::{Allowed, PMD_ORDER, Program, Thp};
use protocol::Run;
use protocol::uapi::Walk;
use protocol::workload::{Exit, Ran, Workload};
use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Where files are put, and where commands begin.
const FOLDER: &str = "/run/tlbdiff-workload";
/// How often the trace is fetched, in milliseconds.
const FETCH: u16 = 2;
/// How long page tables are let alone between two looks at all of them, at the least; and how many
/// times as long as a look took.
const LOOK: (Duration, u32) = (Duration::from_millis(50), 9);
/// How much of what a program says is handed on at once.
const SAID: usize = 16 << 10;
/// How long what was killed may take to be gone.
const DEATH: Duration = Duration::from_secs(8);
/// Where programs are.
const PATHS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is handed on while a command runs.
pub enum Meanwhile<'a> {
    /// The trace may have more.
    Trace(&'a mut Tracer),
    /// What there is of the trace is all that comes.
    Rest(&'a mut Tracer),
    /// The command says something.
    Said(Vec<u8>),
}

/// Puts a piece of a file where commands find it; the first piece makes it anew.
///
/// # Errors
/// The name is none, or the file cannot be written.
pub fn put(name: &str, first: bool, bytes: &[u8]) -> Result<()> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        bail!("`{name}` is no name of a file");
    }
    fs::create_dir_all(FOLDER).with_context(|| format!("cannot make {FOLDER}"))?;
    let path = Path::new(FOLDER).join(name);
    let mut options = OpenOptions::new();
    options.mode(0o755).create(true);
    match first {
        true => options.write(true).truncate(true),
        false => options.append(true),
    };
    let written = options
        .open(&path)
        .and_then(|mut file| file.write_all(bytes));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Removes what was put there. The folder itself may be shown elsewhere.
pub fn clear() {
    for entry in fs::read_dir(FOLDER).into_iter().flatten().flatten() {
        let path = entry.path();
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
    }
}

/// Runs a command to its end, for as long as it may take.
///
/// # Errors
/// It cannot be begun or traced.
pub fn run(
    kept: &mut Kept,
    (id, workload): (u64, &Workload),
    limit: Duration,
    tell: &mut dyn FnMut(Meanwhile) -> Result<()>,
) -> Result<Ran> {
    as_users_have_it(kept)?;
    let cgroup = Cgroup::new(&format!("workload-{id}"))?;
    kept.kmsg.skip();
    let taint_before = kept.taint()?;
    let mut tracer = match workload.traced {
        true => Some(Tracer::open(workload.buffer_records)?),
        false => None,
    };
    if let Some(tracer) = &tracer {
        if workload.device {
            tracer.watch_running()?;
        }
        tracer::follow(tracer.fd())?;
        tracer::start(tracer.fd())?;
    }
    let begun = Instant::now();
    let mut running = Running::begin(workload, &cgroup, tracer.as_ref())?;
    let exit = running.watch(begun + limit, &mut tracer, tell);
    // The rest of it ends as well, and that is still traced.
    fs::write(cgroup.file("cgroup.kill"), "1").context("cgroup.kill")?;
    let exit = exit?;
    let took = begun.elapsed();
    running.await_end(&cgroup, &mut tracer, tell)?;
    if let Some(tracer) = &mut tracer {
        tell(Meanwhile::Rest(tracer))?;
        tracer::stop(tracer.fd())?;
        tell(Meanwhile::Rest(tracer))?;
    }
    let status = tracer.as_ref().map(Tracer::status).transpose()?;
    let status = status.unwrap_or_default();
    Ok(Ran {
        exit,
        took_ns: u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
        recorded: status.recorded,
        lost: status.lost,
        unfollowed: status.unfollowed,
        taint_before,
        taint_after: kept.taint()?,
        kernel_warnings: kept.kmsg.warnings(),
    })
}

/// Huge pages where a program's alignment has room for one, and swap.
fn as_users_have_it(kept: &mut Kept) -> Result<()> {
    kept.thp.set(&Thp {
        enabled: Allowed::Always,
        sizes: vec![(PMD_ORDER, Allowed::Inherit)],
        ..Thp::default()
    })?;
    swap::set(&Run {
        swap: swap::available(),
        program: Program::default(),
        ..Run::default()
    })
}

/// The command's first process, and what it says.
struct Running {
    pid: Pid,
    exit: Option<Exit>,
    said: Option<File>,
    looks: Option<Looks>,
}

/// Looks at the page tables of all processes, part by part.
struct Looks {
    walk: Walk,
    took: Duration,
    next: Instant,
}

impl Looks {
    fn soon() -> Looks {
        Looks {
            walk: Walk::default(),
            took: Duration::ZERO,
            next: Instant::now(),
        }
    }

    /// The next part, if it is time for one.
    fn look(&mut self, tracer: &Tracer) -> Result<()> {
        let begun = Instant::now();
        if begun < self.next {
            return Ok(());
        }
        let more = tracer.walk(&mut self.walk)?;
        self.took += begun.elapsed();
        if !more {
            let (least, times) = LOOK;
            let took = std::mem::take(&mut self.took);
            self.next = Instant::now() + least.max(took * times);
        }
        Ok(())
    }
}

impl Running {
    /// Begins it. Not by [`std::process::Command`], which wants sockets, and a kernel may have none.
    fn begin(workload: &Workload, cgroup: &Cgroup, tracer: Option<&Tracer>) -> Result<Running> {
        let name = workload.command.first().context("no command")?;
        fs::create_dir_all(FOLDER).with_context(|| format!("cannot make {FOLDER}"))?;
        let root = workload.programs.then(programs).transpose()?;
        let (said, says) = pipe2(OFlag::O_CLOEXEC).context("pipe")?;
        let (failed, fails) = pipe2(OFlag::O_CLOEXEC).context("pipe")?;
        let begin = Begin {
            root,
            program: c_string(program(name))?,
            arguments: workload
                .command
                .iter()
                .map(c_string)
                .collect::<Result<_>>()?,
            environment: [format!("PATH={FOLDER}:{PATHS}"), format!("HOME={FOLDER}")]
                .iter()
                .map(c_string)
                .collect::<Result<_>>()?,
            procs: kept::open(cgroup.file("cgroup.procs"), true)?,
            harts: all_harts()?,
            tracer: tracer.map(Tracer::fd),
            says: says.as_raw_fd(),
        };
        // SAFETY: this process has one thread, and the child goes on as its copy.
        let pid = match unsafe { fork() }.context("fork")? {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                let Err(error) = begin.exec();
                let _ = File::from(fails).write_all(format!("{error:#}").as_bytes());
                // SAFETY: ends this process without running anything of its parent's.
                unsafe { libc::_exit(127) }
            }
        };
        drop((says, fails));
        let mut why = String::new();
        let read = File::from(failed).read_to_string(&mut why);
        if read.is_err() || !why.is_empty() {
            let _ = waitpid(pid, None);
            bail!("cannot run `{name}`: {why}");
        }
        Ok(Running {
            pid,
            exit: None,
            said: Some(said.into()),
            looks: workload.device.then(Looks::soon),
        })
    }

    /// Waits for who has ended, and notes how the first process did. Who was left by a parent is
    /// a child of the agent's, where that is the machine's first process.
    fn reap(&mut self) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            match status {
                WaitStatus::StillAlive => return,
                WaitStatus::Exited(pid, code) if pid == self.pid => {
                    self.exit = Some(Exit::Code(code));
                }
                WaitStatus::Signaled(pid, signal, _) if pid == self.pid => {
                    self.exit = Some(Exit::Signal(signal as i32));
                }
                _ => {}
            }
        }
    }

    /// Until the first process has ended, or has to.
    fn watch(
        &mut self,
        end: Instant,
        tracer: &mut Option<Tracer>,
        tell: &mut dyn FnMut(Meanwhile) -> Result<()>,
    ) -> Result<Exit> {
        loop {
            self.fetch(tracer, tell)?;
            self.reap();
            if let Some(exit) = self.exit {
                return Ok(exit);
            }
            if Instant::now() > end {
                return Ok(Exit::TimedOut);
            }
        }
    }

    /// Until nobody is left in the cgroup, and all that was said is handed on.
    fn await_end(
        &mut self,
        cgroup: &Cgroup,
        tracer: &mut Option<Tracer>,
        tell: &mut dyn FnMut(Meanwhile) -> Result<()>,
    ) -> Result<()> {
        let end = Instant::now() + DEATH;
        loop {
            self.fetch(tracer, tell)?;
            self.reap();
            let left = fs::read_to_string(cgroup.file("cgroup.events")).context("cgroup.events")?;
            if left.contains("populated 0") && self.said.is_none() {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("what the command left running cannot be killed");
            }
        }
    }

    /// What there is of the trace, and of what is said; waits a moment for that.
    fn fetch(
        &mut self,
        tracer: &mut Option<Tracer>,
        tell: &mut dyn FnMut(Meanwhile) -> Result<()>,
    ) -> Result<()> {
        if let Some(tracer) = tracer {
            if let Some(looks) = &mut self.looks {
                looks.look(tracer)?;
            }
            tell(Meanwhile::Trace(tracer))?;
        }
        let Some(said) = self.said.as_mut() else {
            sleep(Duration::from_millis(FETCH.into()));
            return Ok(());
        };
        let mut fds = [PollFd::new(said.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(FETCH)).context("poll")? == 0 {
            return Ok(());
        }
        let mut bytes = vec![0; SAID];
        let length = said.read(&mut bytes).context("what the command says")?;
        bytes.truncate(length);
        match length {
            0 => self.said = None,
            _ => tell(Meanwhile::Said(bytes))?,
        }
        Ok(())
    }
}

/// What a command is begun with.
struct Begin {
    root: Option<PathBuf>,
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    procs: File,
    harts: CpuSet,
    tracer: Option<RawFd>,
    says: RawFd,
}

impl Begin {
    /// Becomes the command.
    fn exec(&self) -> Result<Infallible> {
        setsid().context("setsid")?;
        (&self.procs).write_all(b"0").context("cgroup.procs")?;
        sched_setaffinity(Pid::from_raw(0), &self.harts).context("its harts")?;
        let now = personality::get().context("personality")?;
        personality::set(now & !Persona::ADDR_NO_RANDOMIZE).context("personality")?;
        set_thp_disable(false).context("prctl")?;
        if let Some(root) = &self.root {
            chroot(root).context("chroot")?;
        }
        std::env::set_current_dir(FOLDER).context(FOLDER)?;
        let nothing = File::open("/dev/null").context("/dev/null")?;
        let standard = [(nothing.as_raw_fd(), 0), (self.says, 1), (self.says, 2)];
        for (is, becomes) in standard {
            // SAFETY: descriptors of this process.
            Errno::result(unsafe { libc::dup2(is, becomes) }).context("dup2")?;
        }
        if let Some(tracer) = self.tracer {
            tracer::attach(tracer)?;
        }
        Ok(execvpe(&self.program, &self.arguments, &self.environment)?)
    }
}

fn c_string(text: impl AsRef<OsStr>) -> Result<CString> {
    CString::new(text.as_ref().as_bytes()).context("a zero byte")
}

/// What programs find below their root as it is here.
const SHARED: &[&str] = &["/proc", "/sys", "/dev", FOLDER];

/// The root of the disk with programs.
fn programs() -> Result<PathBuf> {
    let root = disks::programs()?;
    for folder in SHARED {
        let there = root.join(&folder[1..]);
        fs::create_dir_all(&there).with_context(|| format!("cannot make {}", there.display()))?;
        if is_mounted(&there)? {
            continue;
        }
        let none: Option<&str> = None;
        mount(Some(*folder), &there, none, MsFlags::MS_BIND, none)
            .with_context(|| format!("cannot show {folder} at {}", there.display()))?;
    }
    Ok(root)
}

/// Whether something is mounted at a folder.
fn is_mounted(folder: &Path) -> Result<bool> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
    let mut places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    Ok(places.any(|place| Path::new(place) == folder))
}

/// What was put there comes first.
fn program(name: &str) -> PathBuf {
    let put = Path::new(FOLDER).join(name);
    match name.contains('/') || !put.is_file() {
        true => PathBuf::from(name),
        false => put,
    }
}

fn all_harts() -> Result<CpuSet> {
    let mut all = CpuSet::new();
    for hart in 0..harts::online()? {
        all.set(usize::try_from(hart)?)?;
    }
    Ok(all)
}
