// SPDX-License-Identifier: GPL-2.0-only
//! The guest's console: kept for diagnosis, and watched for a dying kernel.
//!
//! No data is read from it but two facts: that the agent is ready (before any
//! conversation with it is possible), and that the kernel says it is broken.

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::{
    collections::VecDeque,
    io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write},
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

/// How much of the console is kept, in bytes.
const KEPT: usize = 256 << 10;
/// A line longer than this is looked at in pieces.
const LONGEST_LINE: usize = 4096;
/// How many lines an excerpt has.
const EXCERPT_LINES: usize = 60;

/// A splat is over when the console has been quiet for this long …
const QUIET: Duration = Duration::from_millis(200);
/// … or has gone on for that long.
const LONGEST_SPLAT: Duration = Duration::from_secs(2);

/// What the agent says as soon as it listens.
pub(super) const AGENT_READY: &str = "tlbdiff-agent: ready";
/// How the agent's other words begin.
const AGENT_SAYS: &str = "tlbdiff-agent: ";
/// How the line of OpenSBI begins that names the hart it boots.
const BOOT_HART: &str = "Boot HART ID ";
/// What the kernel says when the agent, its first process, ends.
const INIT_DIED: &str = "Attempted to kill init!";

/// What a line of the console says about the kernel's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// Oops, panic, BUG, a sanitizer's or lockdep's splat.
    Crash,
    /// The kernel's own watchdogs: soft lockup, hung task, RCU stall.
    Hang,
    /// The first process ended, which is the agent.
    InitDied,
    /// The kernel ends because memory was used up and nothing could be taken from anybody.
    OutOfMemory,
}

/// Lines of lockdep, which all begin as warnings; other warnings are the
/// agent's to report, with the run that they belong to.
const LOCKDEP: [&str; 11] = [
    "possible circular locking dependency",
    "possible recursive locking",
    "possible irq lock inversion",
    "inconsistent lock state",
    "-safe -> ",
    "bad unlock balance",
    "held lock freed",
    "lock held when returning to user space",
    "Nested lock was not taken",
    "Invalid wait context",
    "suspicious RCU usage",
];

/// How `out_of_memory()` of mm/oom_kill.c panics: where nobody is left to be killed, or
/// where it was told to.
const OUT_OF_MEMORY: [&str; 2] = [
    "Kernel panic - not syncing: System is deadlocked on memory",
    "Kernel panic - not syncing: Out of memory",
];

/// Memory has run out, and the kernel goes on by killing somebody.
const OOM_KILLER: &str = " invoked oom-killer: ";

const CRASH: [&str; 6] = [
    "Kernel panic - not syncing",
    "Oops [#",
    "Oops - ",
    "kernel BUG at ",
    "BUG: ",
    "Unable to handle kernel",
];

const HANG: [&str; 8] = [
    "BUG: soft lockup",
    "BUG: workqueue lockup",
    "detected hard LOCKUP",
    "self-detected stall",
    "detected stalls on CPUs",
    "detected expedited stalls",
    "blocked for more than",
    "blocked on an rw-semaphore",
];

/// What this line says about the kernel's health, if anything.
pub(super) fn sign(line: &str) -> Option<Sign> {
    let has = |words: &[&str]| words.iter().any(|word| line.contains(word));
    if line.contains(INIT_DIED) {
        Some(Sign::InitDied)
    } else if has(&OUT_OF_MEMORY) {
        Some(Sign::OutOfMemory)
    } else if has(&HANG) {
        Some(Sign::Hang)
    } else if has(&CRASH) || (line.contains("WARNING: ") && has(&LOCKDEP)) {
        Some(Sign::Crash)
    } else {
        None
    }
}

/// The first bad sign since [`Console::booted`].
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) sign: Sign,
    pub(super) line: String,
    /// Lines of the console there were before it.
    at: u64,
    since: Instant,
}

/// The console's host side.
pub(super) struct Console {
    output: PipeReader,
    keyboard: PipeWriter,
    open: bool,
    lines: VecDeque<String>,
    bytes: usize,
    /// Lines so far, those no longer kept included.
    count: u64,
    partial: Vec<u8>,
    booted_at: u64,
    seen: Option<Seen>,
    ready: bool,
    boot_hart: Option<u32>,
    agent_said: Option<String>,
    out_of_memory: Option<String>,
    last_output: Instant,
}

impl Console {
    /// Takes over the host's end of the console.
    pub(super) fn new(output: PipeReader, keyboard: PipeWriter) -> io::Result<Console> {
        set_nonblocking(&output)?;
        set_nonblocking(&keyboard)?;
        Ok(Console {
            output,
            keyboard,
            open: true,
            lines: VecDeque::new(),
            bytes: 0,
            count: 0,
            partial: Vec::new(),
            booted_at: 0,
            seen: None,
            ready: false,
            boot_hart: None,
            agent_said: None,
            out_of_memory: None,
            last_output: Instant::now(),
        })
    }

    /// Whether QEMU still has its end open.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Reads all that is there, without waiting.
    pub(super) fn drain(&mut self) {
        let mut buffer = [0; 4096];
        // As much as is ever kept, so that a console that never stops does not keep us here.
        for _ in 0..KEPT / buffer.len() {
            match self.output.read(&mut buffer) {
                Ok(0) => self.open = false,
                Ok(n) => {
                    self.feed(&buffer[..n]);
                    continue;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.open = false,
            }
            break;
        }
    }

    /// Types something at the console.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.keyboard.write_all(bytes)
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.last_output = Instant::now();
        for &byte in bytes {
            if byte == b'\n' || self.partial.len() >= LONGEST_LINE {
                self.end_line();
            }
            // Carriage returns, colours and the like have no place in a report.
            if byte == b'\t' || !byte.is_ascii_control() {
                self.partial.push(byte);
            }
        }
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.partial).into_owned();
        self.partial.clear();
        self.look_at(&line);
        self.count += 1;
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.bytes > KEPT {
            self.bytes -= self.lines.pop_front().map_or(0, |line| line.len());
        }
    }

    fn look_at(&mut self, line: &str) {
        if line.contains(AGENT_READY) {
            self.ready = true;
        } else if let Some(hart) = line.strip_prefix(BOOT_HART) {
            let hart = hart.trim_start().trim_start_matches(':').trim();
            self.boot_hart = hart.parse().ok();
        } else if let Some((_, said)) = line.split_once(AGENT_SAYS) {
            self.agent_said = Some(said.to_owned());
        } else if line.contains(OOM_KILLER) && self.out_of_memory.is_none() {
            self.out_of_memory = Some(without_timestamp(line).to_owned());
        }
        if self.seen.is_none()
            && let Some(sign) = sign(line)
        {
            self.seen = Some(Seen {
                sign,
                line: without_timestamp(line).to_owned(),
                at: self.count,
                since: Instant::now(),
            });
        }
    }

    /// Whether the agent has said that it listens.
    pub(super) fn agent_ready(&self) -> bool {
        self.ready
    }

    /// The hart that the firmware says it boots the kernel on.
    pub(super) fn boot_hart(&self) -> Option<u32> {
        self.boot_hart
    }

    /// What else the agent said last.
    pub(super) fn agent_said(&self) -> Option<&str> {
        self.agent_said.as_deref()
    }

    /// The first line that says that memory ran out, where the kernel went on.
    pub(super) fn out_of_memory(&self) -> Option<&str> {
        self.out_of_memory.as_deref()
    }

    /// The first bad sign, those of the boot not counted.
    pub(super) fn seen(&self) -> Option<&Seen> {
        self.seen.as_ref()
    }

    /// Whether a bad sign was seen, and what belongs to it has been read.
    pub(super) fn splat_is_over(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| {
            self.last_output.elapsed() > QUIET || seen.since.elapsed() > LONGEST_SPLAT
        })
    }

    /// Forgets the boot: what was seen there is not of any program's making,
    /// and explains no later error.
    pub(super) fn booted(&mut self) {
        self.seen = None;
        self.out_of_memory = None;
        self.booted_at = self.count;
    }

    /// Lines so far.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Lines from that one on, at most `most`.
    pub(super) fn lines_from(&self, from: u64, most: usize) -> Vec<&str> {
        let dropped = self.count - self.lines.len() as u64;
        let skip = from.saturating_sub(dropped) as usize;
        let lines = self.lines.iter().skip(skip).take(most);
        lines.map(String::as_str).collect()
    }

    /// The part that explains an error: what follows the first bad sign, or the end.
    pub(super) fn excerpt(&self) -> String {
        let from = match &self.seen {
            Some(seen) => seen.at.saturating_sub(3),
            None => self
                .count
                .saturating_sub(EXCERPT_LINES as u64)
                .max(self.booted_at),
        };
        let mut lines = self.lines_from(from, EXCERPT_LINES);
        let partial = String::from_utf8_lossy(&self.partial);
        if lines.len() < EXCERPT_LINES && !partial.is_empty() {
            lines.push(&partial);
        }
        lines.join("\n")
    }

    /// All that is kept.
    pub(super) fn text(&self) -> String {
        let mut text = String::with_capacity(self.bytes + self.lines.len());
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str(&String::from_utf8_lossy(&self.partial));
        text
    }
}

impl AsFd for Console {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }
}

/// Makes reads and writes return instead of waiting.
pub(super) fn set_nonblocking(fd: &impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// The line without printk's `[   12.345678] `.
fn without_timestamp(line: &str) -> &str {
    match line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
    {
        Some((time, rest)) if time.trim().parse::<f64>().is_ok() => rest,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_told_apart() {
        let table = [
            (
                "[    3.1] Kernel panic - not syncing: sysrq triggered crash",
                Some(Sign::Crash),
            ),
            ("Oops [#1]", Some(Sign::Crash)),
            ("Oops - illegal instruction [#1]", Some(Sign::Crash)),
            ("kernel BUG at mm/mmap.c:1234!", Some(Sign::Crash)),
            (
                "BUG: KASAN: slab-use-after-free in do_munmap",
                Some(Sign::Crash),
            ),
            (
                "BUG: sleeping function called from invalid context at x.c:1",
                Some(Sign::Crash),
            ),
            ("BUG: Bad page state in process subject", Some(Sign::Crash)),
            (
                "Unable to handle kernel NULL pointer dereference at virtual address 0",
                Some(Sign::Crash),
            ),
            (
                "WARNING: possible recursive locking detected",
                Some(Sign::Crash),
            ),
            (
                "WARNING: possible circular locking dependency detected",
                Some(Sign::Crash),
            ),
            ("WARNING: suspicious RCU usage", Some(Sign::Crash)),
            (
                "watchdog: BUG: soft lockup - CPU#0 stuck for 22s!",
                Some(Sign::Hang),
            ),
            (
                "rcu: INFO: rcu_sched self-detected stall on CPU",
                Some(Sign::Hang),
            ),
            (
                "rcu: INFO: rcu_sched detected stalls on CPUs/tasks:",
                Some(Sign::Hang),
            ),
            (
                "INFO: task subject:42 blocked for more than 30 seconds.",
                Some(Sign::Hang),
            ),
            (
                "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000300",
                Some(Sign::InitDied),
            ),
            (
                "Kernel panic - not syncing: System is deadlocked on memory",
                Some(Sign::OutOfMemory),
            ),
            (
                "Kernel panic - not syncing: Out of memory: system-wide panic_on_oom is enabled",
                Some(Sign::OutOfMemory),
            ),
            ("Out of memory: Killed process 37 (tlbdiff-agent)", None),
            ("WARNING: CPU: 0 PID: 1 at mm/mmap.c:1 f+0x1/0x2", None),
            ("Run /init as init process", None),
            ("rcu: Hierarchical RCU implementation.", None),
            ("tlbdiff-agent: ready", None),
            ("", None),
        ];
        for (line, expected) in table {
            assert_eq!(sign(line), expected, "{line}");
        }
    }

    /// The guest's end, and the console.
    fn pair() -> (PipeWriter, Console) {
        let (output, guest) = io::pipe().unwrap();
        let (_, keyboard) = io::pipe().unwrap();
        (guest, Console::new(output, keyboard).unwrap())
    }

    fn console_with(text: &[u8]) -> Console {
        let (mut guest, mut console) = pair();
        for piece in text.chunks(1000) {
            guest.write_all(piece).unwrap();
            console.drain();
        }
        console
    }

    #[test]
    fn excerpt_begins_shortly_before_the_first_sign() {
        let mut text = String::new();
        for i in 0..100 {
            text += &format!("[    0.{i}] line {i}\r\n");
        }
        text += "[    1.5] Oops [#1]\r\nCPU: 0 PID: 7\r\nKernel panic - not syncing: x\r\n";
        let console = console_with(text.as_bytes());
        let seen = console.seen().expect("an oops");
        assert_eq!((seen.sign, seen.line.as_str()), (Sign::Crash, "Oops [#1]"));
        let excerpt = console.excerpt();
        assert!(excerpt.starts_with("[    0.97] line 97\n"), "{excerpt}");
        assert!(excerpt.ends_with("not syncing: x"), "{excerpt}");
    }

    #[test]
    fn a_sign_split_over_two_reads_is_seen() {
        let (mut guest, mut console) = pair();
        guest.write_all(b"Oop").unwrap();
        console.drain();
        assert!(console.seen().is_none());
        guest.write_all(b"s [#1]\n").unwrap();
        console.drain();
        assert!(console.seen().is_some());
        console.booted();
        assert!(console.seen().is_none());
    }

    #[test]
    fn the_boot_explains_no_later_error() {
        let (mut guest, mut console) = pair();
        guest
            .write_all(b"Linux version 6.12\ntlbdiff-agent: ready\n")
            .unwrap();
        console.drain();
        assert!(console.excerpt().starts_with("Linux version"));
        console.booted();
        assert_eq!(console.excerpt(), "");
        guest.write_all(b"something new\n").unwrap();
        console.drain();
        assert_eq!(console.excerpt(), "something new");
        assert!(console.text().starts_with("Linux version"));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let console = console_with(&vec![b'x'; 3 * KEPT]);
        assert!(console.text().len() <= KEPT + 2 * LONGEST_LINE);
        let lines = b"0123456789\n".repeat(KEPT / 5);
        let console = console_with(&lines);
        assert!(console.text().len() <= 2 * KEPT);
        assert_eq!(console.count(), KEPT as u64 / 5);
    }

    #[test]
    fn the_agents_words_are_noticed() {
        let console = console_with(b"tlbdiff-agent: cannot load tlbdiff.ko: EINVAL\n");
        assert!(!console.agent_ready());
        let said = console.agent_said();
        assert_eq!(said, Some("cannot load tlbdiff.ko: EINVAL"));
        assert!(console_with(b"\x1b[0mtlbdiff-agent: ready\r\n").agent_ready());
    }

    #[test]
    fn the_hart_that_boots_is_noticed() {
        assert_eq!(console_with(b"Boot HART Domain : root\n").boot_hart(), None);
        let line = b"Boot HART ID                : 2\r\n";
        assert_eq!(console_with(line).boot_hart(), Some(2));
    }

    #[test]
    fn that_memory_ran_out_is_noticed_and_is_no_crash() {
        let line = b"[   9.5] exe invoked oom-killer: gfp_mask=0x0, order=0\n";
        let mut console = console_with(line);
        let said = "exe invoked oom-killer: gfp_mask=0x0, order=0";
        assert_eq!(console.out_of_memory(), Some(said));
        assert!(console.seen().is_none());
        console.booted();
        assert_eq!(console.out_of_memory(), None);
    }

    #[test]
    fn a_closed_console_is_noticed() {
        let (guest, mut console) = pair();
        drop(guest);
        console.drain();
        assert!(!console.is_open());
    }
}
