// SPDX-License-Identifier: GPL-2.0-only
//! The process whose memory is watched. Between two marks it does nothing in
//! its own mm but the step: no allocation, no stdio, no lazy binding; all that
//! it has is populated beforehand.

use crate::{files, touch, tracer};
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use protocol::program::{Op, Program, Step, StepResult};
use protocol::{ARENA_BASE, ARENA_PAGES, PAGE_SIZE};
use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Seek};
use std::os::fd::{FromRawFd, RawFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// How the agent calls itself to be a subject.
pub const ARGUMENT: &str = "subject";

/// Words of the memory that agent and subject share: these, then [`STEP_WORDS`] a step.
pub mod word {
    /// Steps finished.
    pub const FINISHED: usize = 0;
    /// The subject's mm, as records name it.
    pub const MM: usize = 1;
    /// 1 when all steps are done.
    pub const DONE: usize = 2;
    /// The first step's.
    pub const STEPS: usize = 8;
}
/// Words of each step: kind of result, its number, page, nanoseconds.
pub const STEP_WORDS: usize = 4;

/// Descriptors that the agent hands down, by number; -1 for none.
pub struct Inherited {
    /// The program, in postcard.
    pub program: RawFd,
    /// The shared memory.
    pub shared: RawFd,
    /// The open trace.
    pub tracer: RawFd,
    /// The cgroup's cgroup.procs.
    pub procs: RawFd,
    /// The cgroup's memory.reclaim.
    pub reclaim: RawFd,
    /// The cgroup's cpu.stat, of which a read flushes all statistics.
    pub stat: RawFd,
    /// 1 where the subject has to kill itself after its first step (a test of the harness).
    pub sabotage: RawFd,
    /// The program's memory files.
    pub files: Vec<RawFd>,
}

impl Inherited {
    /// As arguments of the subject's command line.
    pub fn arguments(&self) -> Vec<String> {
        let fixed = [
            self.program,
            self.shared,
            self.tracer,
            self.procs,
            self.reclaim,
            self.stat,
            self.sabotage,
        ];
        fixed
            .iter()
            .chain(&self.files)
            .map(ToString::to_string)
            .collect()
    }

    fn parse() -> Result<Inherited> {
        let numbers = std::env::args()
            .skip(2)
            .map(|word| Ok(word.parse::<RawFd>()?));
        let numbers = numbers.collect::<Result<Vec<_>>>()?;
        let [
            program,
            shared,
            tracer,
            procs,
            reclaim,
            stat,
            sabotage,
            files @ ..,
        ] = &numbers[..]
        else {
            bail!("too few arguments");
        };
        Ok(Inherited {
            program: *program,
            shared: *shared,
            tracer: *tracer,
            procs: *procs,
            reclaim: *reclaim,
            stat: *stat,
            sabotage: *sabotage,
            files: files.to_vec(),
        })
    }
}

/// The shared words of a program of that many steps.
///
/// # Errors
/// The memory cannot be mapped.
pub fn map_shared(fd: RawFd, steps: usize) -> Result<&'static [AtomicU64]> {
    let words = shared_words(steps);
    // SAFETY: a new mapping of a memfd that is large enough and never
    // unmapped; AtomicU64 has no invalid values.
    unsafe {
        let at = libc::mmap(
            std::ptr::null_mut(),
            words * 8,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_POPULATE,
            fd,
            0,
        );
        if at == libc::MAP_FAILED {
            bail!(
                "cannot map the shared memory: {}",
                std::io::Error::last_os_error()
            );
        }
        Ok(std::slice::from_raw_parts(at.cast::<AtomicU64>(), words))
    }
}

/// How many shared words a program of that many steps has.
pub fn shared_words(steps: usize) -> usize {
    word::STEPS + steps * STEP_WORDS
}

/// The whole life of a subject.
pub fn main() -> ! {
    match replay() {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            println!("tlbdiff-agent: subject: {error:#}");
            std::process::exit(1);
        }
    }
}

fn replay() -> Result<()> {
    let inherited = Inherited::parse()?;
    // SAFETY: the agent opened it for this process alone.
    let mut program = unsafe { File::from_raw_fd(inherited.program) };
    let mut bytes = Vec::new();
    program.rewind()?;
    program
        .read_to_end(&mut bytes)
        .context("cannot read the program")?;
    let program: Program = postcard::from_bytes(&bytes).context("not a program")?;
    let shared = map_shared(inherited.shared, program.steps.len())?;
    let reclaims = program
        .steps
        .iter()
        .any(|step| matches!(step.op, Op::Reclaim { .. }));

    touch::install()?;
    if program.trace {
        tracer::attach(inherited.tracer)?;
        shared[word::MM].store(tracer::status(inherited.tracer)?.mm, SeqCst);
    }
    populate()?;
    now();
    // The last thing before the steps: only what they fault in is charged here.
    write_all(inherited.procs, b"0").context("cannot join the cgroup")?;
    keep_the_hart()?;
    // What the preparations faulted in must not share a batch with the steps' pages.
    files::drain_lru_batches()?;
    if program.trace {
        tracer::start(inherited.tracer)?;
    }
    for (number, Step { op, .. }) in program.steps.iter().enumerate() {
        if reclaims {
            flush_statistics(inherited.stat);
        }
        step(&inherited, &program, shared, number, op);
        if inherited.sabotage == 1 {
            // SAFETY: ends this process.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
    }
    if program.trace {
        tracer::stop(inherited.tracer)?;
    }
    shared[word::DONE].store(1, SeqCst);
    Ok(())
}

/// One step between its marks.
fn step(inherited: &Inherited, program: &Program, shared: &[AtomicU64], number: usize, op: &Op) {
    let begin = now();
    if program.trace {
        tracer::mark(inherited.tracer, number as u64, 0);
    }
    let result = perform(op, inherited);
    if program.trace {
        tracer::mark(inherited.tracer, number as u64, 1);
    }
    let [kind, value, page] = encode(result);
    let at = word::STEPS + number * STEP_WORDS;
    shared[at].store(kind, SeqCst);
    shared[at + 1].store(value, SeqCst);
    shared[at + 2].store(page, SeqCst);
    shared[at + 3].store(now() - begin, SeqCst);
    shared[word::FINISHED].store(number as u64 + 1, SeqCst);
}

fn encode(result: StepResult) -> [u64; 3] {
    match result {
        StepResult::Ok => [0, 0, 0],
        StepResult::Errno(errno) => [1, errno as u64, 0],
        StepResult::Signal { signal, page } => [2, signal as u64, page],
    }
}

/// What a finished step left in the shared words.
pub fn decode(words: &[AtomicU64]) -> StepResult {
    let value = words[1].load(SeqCst) as i32;
    match words[0].load(SeqCst) {
        0 => StepResult::Ok,
        1 => StepResult::Errno(value),
        _ => StepResult::Signal {
            signal: value,
            page: words[2].load(SeqCst),
        },
    }
}

/// The operation itself.
fn perform(op: &Op, inherited: &Inherited) -> StepResult {
    // SAFETY: all addresses lie in the arena, where nothing of this program does.
    unsafe {
        match *op {
            Op::Mmap {
                at,
                pages,
                prot,
                flags,
                file,
                offset,
            } => {
                let fd = file.map_or(-1, |file| inherited.files.get(file).copied().unwrap_or(-1));
                call(libc::syscall(
                    libc::SYS_mmap,
                    addr(at),
                    bytes(pages),
                    prot,
                    flags,
                    fd,
                    bytes(offset),
                ))
            }
            Op::Munmap { at, pages } => {
                call(libc::syscall(libc::SYS_munmap, addr(at), bytes(pages)))
            }
            Op::Mprotect { at, pages, prot } => call(libc::syscall(
                libc::SYS_mprotect,
                addr(at),
                bytes(pages),
                prot,
            )),
            Op::Madvise { at, pages, advice } => call(libc::syscall(
                libc::SYS_madvise,
                addr(at),
                bytes(pages),
                advice,
            )),
            Op::Run => StepResult::Ok,
            Op::Fork { .. } | Op::Exit | Op::Exec { .. } => StepResult::Errno(libc::ENOSYS),
            Op::Ftruncate { .. } | Op::PunchHole { .. } => StepResult::Errno(libc::ENOSYS),
            Op::ProcessMadvise { .. } => StepResult::Errno(libc::ENOSYS),
            Op::Touch {
                at,
                pages,
                every,
                write,
            } => touch_pages(at, pages, every, write),
            Op::Reclaim { pages } => {
                let mut text = [0; 20];
                let text = decimal(bytes(pages), &mut text);
                call(libc::syscall(
                    libc::SYS_pwrite64,
                    inherited.reclaim,
                    text.as_ptr(),
                    text.len(),
                    0,
                ))
            }
        }
    }
}

fn addr(page: u64) -> u64 {
    ARENA_BASE + page * PAGE_SIZE
}

fn bytes(pages: u64) -> u64 {
    pages * PAGE_SIZE
}

fn call(result: libc::c_long) -> StepResult {
    if result == -1 {
        // SAFETY: the thread's errno.
        return StepResult::Errno(unsafe { *libc::__errno_location() });
    }
    StepResult::Ok
}

fn touch_pages(at: u64, pages: u64, every: u64, write: bool) -> StepResult {
    let mut page = at;
    while page < at + pages {
        if let Some(signal) = touch::touch(addr(page), write) {
            return StepResult::Signal { signal, page };
        }
        page += every.max(1);
    }
    StepResult::Ok
}

/// A number in decimal digits, without allocating.
fn decimal(mut number: u64, text: &mut [u8; 20]) -> &[u8] {
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &text[at..];
        }
    }
}

/// Has the kernel add up its statistics: reclaim decides by them, and without
/// this they would be up to two seconds old, or not.
fn flush_statistics(stat: RawFd) {
    let mut text = [0u8; 1024];
    // SAFETY: reads into a buffer of that size; what it says is of no interest.
    black_box(unsafe { libc::pread(stat, text.as_mut_ptr().cast(), text.len(), 0) });
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

fn write_all(fd: RawFd, text: &[u8]) -> Result<()> {
    // SAFETY: writes from a valid buffer.
    let written = unsafe { libc::write(fd, text.as_ptr().cast(), text.len()) };
    if written != text.len() as isize {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(())
}

/// Faults in all that this process has, so that nothing of it faults during a
/// step, and checks that the arena is empty.
///
/// # Errors
/// Something lies in the arena.
fn populate() -> Result<()> {
    deepen_stack();
    let maps = files::read(Path::new("/proc/self/maps"))?;
    let areas: Vec<Area> = maps.lines().filter_map(Area::parse).collect();
    let arena = ARENA_BASE..ARENA_BASE + ARENA_PAGES * PAGE_SIZE;
    if let Some(area) = areas
        .iter()
        .find(|area| area.start < arena.end && area.end > arena.start)
    {
        bail!(
            "the arena is not empty: {:x}-{:x} is mapped there",
            area.start,
            area.end
        );
    }
    for area in &areas {
        area.touch();
    }
    Ok(())
}

/// Has this process preempted by nobody on its hart during the steps: where the
/// scheduler wants the hart for another (`need_resched()`), `zap_pte_range()` flushes
/// what it has and goes on behind, and one unmapping would be told in two parts,
/// depending on when a timer came.
fn keep_the_hart() -> Result<()> {
    // SAFETY: the parameters are valid and only read, and 0 is the caller itself.
    let set = unsafe {
        let highest = libc::sched_param {
            sched_priority: libc::sched_get_priority_max(libc::SCHED_FIFO),
        };
        libc::sched_setscheduler(0, libc::SCHED_FIFO, &highest)
    };
    Errno::result(set)
        .map(drop)
        .context("cannot have the hart for the steps alone")
}

/// Makes the stack as deep as the steps may need it.
#[inline(never)]
fn deepen_stack() {
    let mut deep = [0u8; 128 << 10];
    for page in deep.chunks_mut(PAGE_SIZE as usize) {
        page[0] = black_box(1);
    }
    black_box(&deep);
}

/// A line of /proc/self/maps.
#[derive(Debug, PartialEq, Eq)]
struct Area {
    start: u64,
    end: u64,
    read: bool,
    write: bool,
    private: bool,
}

impl Area {
    fn parse(line: &str) -> Option<Area> {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let rights = words.next()?;
        // The kernel's own pages, which cannot be read everywhere.
        let special = line.ends_with("[vvar]") || line.ends_with("[vdso]");
        Some(Area {
            start: u64::from_str_radix(start, 16).ok()?,
            end: u64::from_str_radix(end, 16).ok()?,
            read: rights.starts_with('r') && !special,
            write: rights[1..].starts_with('w'),
            private: rights.ends_with('p'),
        })
    }

    fn touch(&self) {
        if !self.read {
            return;
        }
        for page in (self.start..self.end).step_by(PAGE_SIZE as usize) {
            let byte = page as *mut u8;
            // SAFETY: the area is mapped with these rights, and what is
            // written is what was there; this process has one thread.
            unsafe {
                let value = byte.read_volatile();
                if self.write && self.private {
                    byte.write_volatile(value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_lines_have_ranges_and_rights() {
        let line = "00010000-00078000 rw-p 00000000 00:02 5 /init";
        let area = Area {
            start: 0x10000,
            end: 0x78000,
            read: true,
            write: true,
            private: true,
        };
        assert_eq!(Area::parse(line), Some(area));
        let vvar = "3ff7ffc000-3ff7ffe000 r--p 00000000 00:00 0 [vvar]";
        assert!(Area::parse(vvar).is_some_and(|area| !area.read));
        assert_eq!(Area::parse("nonsense"), None);
    }

    #[test]
    fn numbers_become_digits() {
        let mut text = [0; 20];
        assert_eq!(decimal(0, &mut text), b"0");
        assert_eq!(decimal(40_960, &mut text), b"40960");
        assert_eq!(decimal(u64::MAX, &mut text), b"18446744073709551615");
    }

    #[test]
    fn results_survive_the_shared_words() {
        for result in [
            StepResult::Ok,
            StepResult::Errno(22),
            StepResult::Signal {
                signal: 11,
                page: 7,
            },
        ] {
            let words = encode(result).map(AtomicU64::new);
            assert_eq!(decode(&words), result);
        }
    }
}
