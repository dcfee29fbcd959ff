// SPDX-License-Identifier: GPL-2.0-only
//! Settings for huge pages, as a program wants them, and khugepaged kept still meanwhile.
//!
//! khugepaged scans as soon as a first mm is registered with it, and then whenever it has slept.
//! So it sleeps very long, and a process that does nothing is registered before any program.

use crate::settings::{self, THP};
use crate::system_file;
use anyhow::{Context, Result, bail};
use nix::fcntl::OFlag;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl::{set_pdeathsig, set_thp_disable};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid, pipe2};
use operations::{PAGE_SIZE, PMD_ORDER, StepResult, Thp};
use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// So long khugepaged may take for its first scan, of one process.
const FIRST_SCAN: Duration = Duration::from_secs(10);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(2);
/// How long it may have taken no notice, having looked before there was anything to scan.
const UNNOTICED: Duration = Duration::from_millis(50);
/// How long after it was woken it is taken to sleep all the same: a scan of one process takes
/// far less.
const ASLEEP_AGAIN: Duration = Duration::from_millis(500);

/// Where it is told to scan: what is written is what was there.
const SCAN_SLEEP: &CStr = c"/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs";
/// How long it sleeps (`settings.rs`).
const ASLEEP: &[u8] = b"4294967295";
const FULL_SCANS: &CStr = c"/sys/kernel/mm/transparent_hugepage/khugepaged/full_scans";
const SPLIT_HUGE_PAGES: &CStr = c"/sys/kernel/debug/split_huge_pages";

/// A step: khugepaged, by its pid, goes over all that it knows once. Nothing here allocates.
pub fn khugepaged(pid: i32) -> StepResult {
    let scan = || -> Result<(), i32> {
        // Who is still about to sleep sets its clock after it was woken, and sleeps on.
        until(|| is_asleep(pid))?;
        let before = system_file::number(FULL_SCANS)?;
        system_file::write(SCAN_SLEEP, ASLEEP)?;
        until(|| Ok(system_file::number(FULL_SCANS)? != before))?;
        until(|| is_asleep(pid))
    };
    match scan() {
        Ok(()) => StepResult::Ok,
        Err(errno) => StepResult::Errno(errno),
    }
}

/// Looks until something is so, for as long as a first scan may take. Nothing here allocates.
pub fn until(done: impl Fn() -> Result<bool, i32>) -> Result<(), i32> {
    let begin = Instant::now();
    while !done()? {
        if begin.elapsed() > FIRST_SCAN {
            return Err(libc::ETIMEDOUT);
        }
        sleep(LOOK);
    }
    Ok(())
}

/// Whether khugepaged, or kswapd, waits for something to do (`khugepaged_wait_work()`,
/// `kswapd_try_to_sleep()`): what it waits for at work cannot be interrupted. Where there is
/// none nobody is awake.
pub fn is_asleep(pid: i32) -> Result<bool, i32> {
    if pid <= 0 {
        return Ok(true);
    }
    let mut text = [0; 64];
    let stat = system_file::of_process(pid, b"stat");
    let length = system_file::read(stat.as_c_str(), &mut text)?;
    Ok(text[..length].windows(3).any(|state| state == b") S"))
}

/// A step: the large folios of a range are split to an order. Nothing here allocates.
pub fn split(pid: i32, (start, end): (u64, u64), order: u64) -> StepResult {
    let mut text = [0; 96];
    let mut rest = &mut text[..];
    let told = write!(rest, "{pid},{start:#x},{end:#x},{order}");
    let left = rest.len();
    let length = text.len() - left;
    match told {
        Ok(()) => match system_file::write(SPLIT_HUGE_PAGES, &text[..length]) {
            Ok(()) => StepResult::Ok,
            Err(errno) => StepResult::Errno(errno),
        },
        Err(_) => StepResult::Errno(libc::EINVAL),
    }
}

/// What the kernel is set to.
#[derive(Default)]
pub struct Setting {
    now: Thp,
    /// khugepaged, where there is one.
    khugepaged: Option<Pid>,
    registered: Option<Registered>,
}

impl Setting {
    /// khugepaged's pid; 0 for none.
    pub fn khugepaged(&self) -> i32 {
        self.khugepaged.map_or(0, Pid::as_raw)
    }

    /// Sets what a program wants, where it is not so already.
    ///
    /// # Errors
    /// The kernel refuses a setting, or khugepaged does not come to rest.
    pub fn set(&mut self, wanted: &Thp) -> Result<()> {
        if self.now == *wanted {
            return Ok(());
        }
        // Where a khugepaged does not come to rest in time another one is begun, once.
        self.begin(wanted).or_else(|_| self.begin(wanted))
    }

    fn begin(&mut self, wanted: &Thp) -> Result<()> {
        // A khugepaged of its own for each setting: what it scans first is known.
        self.registered = None;
        self.now = Thp::default();
        write(&Thp::default())?;
        write(wanted)?;
        self.khugepaged = kernel_thread("khugepaged");
        if let Some(khugepaged) = self.khugepaged {
            // Not where subjects are.
            let mut agents = CpuSet::new();
            agents.set(0)?;
            sched_setaffinity(khugepaged, &agents).context("khugepaged's hart")?;
            // It runs for `enabled` alone, too, and has nothing to scan where no size is.
            if wanted.makes_any() {
                self.registered = Some(Registered::new()?);
            }
        }
        self.now = wanted.clone();
        Ok(())
    }
}

fn write(wanted: &Thp) -> Result<()> {
    let thp = Path::new(THP);
    let set = |name: &str, value: &str| settings::set(&thp.join(name), value);
    set(
        "khugepaged/max_ptes_none",
        &wanted.max_ptes_none.to_string(),
    )?;
    set(
        "khugepaged/max_ptes_swap",
        &wanted.max_ptes_swap.to_string(),
    )?;
    set(
        "khugepaged/max_ptes_shared",
        &wanted.max_ptes_shared.to_string(),
    )?;
    set(
        "use_zero_page",
        if wanted.use_zero_page { "1" } else { "0" },
    )?;
    for order in 1..=PMD_ORDER {
        let size = size(order);
        set(&format!("{size}/enabled"), wanted.size(order).word())?;
        set(
            &format!("{size}/shmem_enabled"),
            wanted.shmem_size(order).word(),
        )?;
    }
    set("shmem_enabled", wanted.shmem.word())?;
    set("enabled", wanted.enabled.word())
}

/// The folder of a size's settings.
fn size(order: u32) -> String {
    format!("hugepages-{}kB", (PAGE_SIZE >> 10) << order)
}

/// A thread of the kernel's by its name, as kswapd, or khugepaged, which is there only where a
/// setting lets it make something.
pub fn kernel_thread(name: &str) -> Option<Pid> {
    let is_it = |path: &PathBuf| {
        let comm = fs::read_to_string(path.join("comm"));
        comm.is_ok_and(|comm| comm.trim() == name)
    };
    let processes = fs::read_dir("/proc").ok()?;
    let mut paths = processes.flatten().map(|process| process.path());
    let path = paths.find(is_it)?;
    path.file_name()?.to_str()?.parse().ok().map(Pid::from_raw)
}

/// A process whose mm khugepaged knows, and has scanned; gone when dropped.
struct Registered {
    pid: Pid,
}

impl Registered {
    fn new() -> Result<Registered> {
        let before = full_scans()?;
        let (done, ready) = pipe2(OFlag::O_CLOEXEC).context("pipe")?;
        let (mut done, mut ready): (File, File) = (done.into(), ready.into());
        let agent = getpid();
        // SAFETY: this process has one thread.
        let pid = match unsafe { fork() }.context("fork")? {
            ForkResult::Child => {
                let there = register(agent).is_ok();
                let _ = ready.write_all(&[u8::from(there)]);
                loop {
                    nix::unistd::pause();
                }
            }
            ForkResult::Parent { child } => child,
        };
        let registered = Registered { pid };
        drop(ready);
        let mut there = [0];
        done.read_exact(&mut there)
            .context("the process that khugepaged is to know ended")?;
        if there != [1] {
            bail!("the process that khugepaged is to know has no memory");
        }
        await_scan(before)?;
        Ok(registered)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = waitpid(self.pid, None);
    }
}

/// Registers this process: by MADV_HUGEPAGE of memory in which a huge page has room, private
/// and shared, for which of them counts is the settings' business.
fn register(agent: Pid) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    set_thp_disable(false)?;
    if getppid() != agent {
        bail!("the agent is gone");
    }
    let length = 4 * (PAGE_SIZE << PMD_ORDER) as usize;
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    for kind in [libc::MAP_PRIVATE, libc::MAP_SHARED] {
        // SAFETY: a new mapping that nobody else knows of.
        unsafe {
            let flags = kind | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            let at = libc::mmap(std::ptr::null_mut(), length, rights, flags, -1, 0);
            if at == libc::MAP_FAILED {
                bail!("mmap: {}", nix::errno::Errno::last());
            }
            // It has an anon_vma from the first page on.
            at.cast::<u8>().write_volatile(1);
            libc::madvise(at, length, libc::MADV_HUGEPAGE);
        }
    }
    Ok(())
}

fn full_scans() -> Result<u64> {
    let path = Path::new(THP).join("khugepaged/full_scans");
    settings::value(&path)?.parse().context("full_scans")
}

/// Waits for the scan of all mms that follows a registration. Then khugepaged sleeps.
fn await_scan(before: u64) -> Result<()> {
    let begin = Instant::now();
    let mut wake = UNNOTICED;
    while full_scans()? == before {
        if begin.elapsed() > FIRST_SCAN {
            bail!("khugepaged does not come to rest");
        }
        // Who was just about to sleep misses it, and sleeps on.
        if begin.elapsed() > wake {
            wake = begin.elapsed() + ASLEEP_AGAIN;
            let path = Path::new(THP).join("khugepaged/scan_sleep_millisecs");
            fs::write(&path, settings::value(&path)?)?;
        }
        sleep(LOOK);
    }
    Ok(())
}
