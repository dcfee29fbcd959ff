// SPDX-License-Identifier: GPL-2.0-only
//! Why nobody answers: is it the kernel, the agent, or QEMU?
//!
//! A kernel that hangs is a finding and a silent agent is not, so the kernel
//! has to be convicted. In this order:
//!
//! 1. It says so itself: its watchdogs (soft lockup, hung task, RCU stall)
//!    speak on the console. They take 20 s and more, too long to rely on.
//! 2. QEMU does not run the guest at all (paused, I/O error): QEMU's fault.
//! 3. It is asked, by a break on the serial line and the letter `w`, which
//!    tasks are blocked (D state). The agent and its subjects never wait
//!    uninterruptibly for one another, so a user task stuck there is stuck in
//!    the kernel.
//! 4. A hart that never leaves the kernel over several looks at its program
//!    counter, and uses its host thread's processor all the while, runs in
//!    circles in the kernel.
//!
//! If none of these holds, the kernel is idle and well, and the agent is silent.

use super::{GuestError, machine::QemuMachine, qmp::Qmp};
use serde_json::{Value, json};
use std::{
    fs, thread,
    time::{Duration, Instant},
};

/// How long QEMU may take to answer each question.
const ANSWER: Duration = Duration::from_secs(2);
/// How long the kernel may take to list its blocked tasks.
const SYSRQ: Duration = Duration::from_secs(2);
/// How often the harts are looked at, and how far apart.
const LOOKS: usize = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
/// A hart that is busy in this part of the time does not just serve its timer.
const BUSY_PERCENT: u64 = 20;
/// Where the kernel's half of the address space begins, in every MMU mode.
const KERNEL_HALF: u64 = 0xff00_0000_0000_0000;

/// What was found out about a machine that does not answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Diagnosis {
    /// The kernel hangs, and how that is known.
    KernelHangs(String),
    /// The kernel is well, as far as can be told.
    KernelIsWell(String),
    /// QEMU is not running the guest.
    NotRunning(String),
}

/// Looks at a machine that did not answer in time.
pub(super) fn diagnose(machine: &mut QemuMachine, qmp: &mut Qmp) -> Result<Diagnosis, GuestError> {
    if let Some(error) = machine.broken() {
        return Err(error);
    }
    let status = ask(machine, qmp, "query-status", Value::Null)?;
    if status["running"] != Value::Bool(true) {
        let state = status["status"].as_str().unwrap_or("unknown");
        return Ok(Diagnosis::NotRunning(state.to_owned()));
    }
    let answered = match blocked_tasks(machine, qmp)? {
        Sysrq::Blocked(task) => {
            return Ok(Diagnosis::KernelHangs(format!(
                "{task} is stuck in the kernel"
            )));
        }
        Sysrq::NoneBlocked => "the kernel answers on the console and has no blocked task",
        Sysrq::NoAnswer => "the kernel does not answer on the console",
    };
    let harts = look_at_harts(machine, qmp)?;
    if let Some(hart) = harts.iter().find(|hart| hart.runs_in_circles()) {
        return Ok(Diagnosis::KernelHangs(format!("{hart}; {answered}")));
    }
    let harts: Vec<String> = harts.iter().map(ToString::to_string).collect();
    Ok(Diagnosis::KernelIsWell(format!(
        "{answered}; {}",
        harts.join(", ")
    )))
}

fn ask(
    machine: &mut QemuMachine,
    qmp: &mut Qmp,
    command: &'static str,
    arguments: Value,
) -> Result<Value, GuestError> {
    qmp.execute(machine, command, arguments, Instant::now() + ANSWER)
}

enum Sysrq {
    Blocked(String),
    NoneBlocked,
    NoAnswer,
}

/// Has the kernel list its blocked tasks; kernels without sysrq do not answer.
fn blocked_tasks(machine: &mut QemuMachine, qmp: &mut Qmp) -> Result<Sysrq, GuestError> {
    let from = machine.console.count();
    ask(
        machine,
        qmp,
        "chardev-send-break",
        json!({ "id": "console" }),
    )?;
    if machine.console.write(b"w").is_err() {
        return Ok(Sysrq::NoAnswer);
    }
    let deadline = Instant::now() + SYSRQ;
    let answered = |lines: &[&str]| lines.iter().any(|line| line.contains("sysrq: "));
    let _ = machine.wait_for_console(deadline, |console| {
        answered(&console.lines_from(from, 1000))
    });
    // The list follows at once where there is one.
    let _ = machine.wait_for_console(Instant::now() + BETWEEN_LOOKS * 3, |_| false);
    let lines = machine.console.lines_from(from, 1000);
    Ok(match lines.iter().find_map(|line| blocked_task(line)) {
        Some(task) => Sysrq::Blocked(task),
        None if answered(&lines) => Sysrq::NoneBlocked,
        None => Sysrq::NoAnswer,
    })
}

/// The task in a line like `task:subject  state:D stack:0  pid:42 …`, save for
/// kernel threads: kthreadd's children wait like that as a matter of course.
fn blocked_task(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("task:")?;
    let (name, rest) = rest.split_once("state:D")?;
    let field = |name: &str| {
        let (_, value) = rest.split_once(name)?;
        value.split_whitespace().next()
    };
    let (pid, parent) = (field(" pid:")?, field("ppid:")?);
    (parent != "2" && pid != "2").then(|| format!("task {} (pid {pid})", name.trim()))
}

struct Hart {
    index: u64,
    /// Where it was seen.
    counters: Vec<u64>,
    busy_percent: u64,
}

impl Hart {
    fn runs_in_circles(&self) -> bool {
        !self.counters.is_empty()
            && self.busy_percent >= BUSY_PERCENT
            && self.counters.iter().all(|&pc| pc >= KERNEL_HALF)
    }
}

impl std::fmt::Display for Hart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match self.busy_percent >= BUSY_PERCENT {
            true => "busy",
            false => "idle",
        };
        write!(f, "hart {} is {state}", self.index)?;
        match self.counters.last() {
            Some(pc) => write!(f, " at {pc:#x}"),
            None => Ok(()),
        }
    }
}

fn look_at_harts(machine: &mut QemuMachine, qmp: &mut Qmp) -> Result<Vec<Hart>, GuestError> {
    let processors = ask(machine, qmp, "query-cpus-fast", Value::Null)?;
    let threads: Vec<(u64, u64)> = processors
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|cpu| Some((cpu["cpu-index"].as_u64()?, cpu["thread-id"].as_u64()?)))
        .collect();
    let pid = machine.pid();
    let ticks = |thread| processor_ticks(pid, thread).unwrap_or(0);
    let before: Vec<u64> = threads.iter().map(|&(_, thread)| ticks(thread)).collect();
    let begin = Instant::now();
    let mut looks = Vec::new();
    for _ in 0..LOOKS {
        thread::sleep(BETWEEN_LOOKS);
        let command = json!({ "command-line": "info registers -a" });
        let registers = ask(machine, qmp, "human-monitor-command", command)?;
        looks.push(program_counters(registers.as_str().unwrap_or_default()));
    }
    // Linux counts in hundredths of a second here, whatever its own tick is.
    let total = (begin.elapsed().as_millis() as u64 / 10).max(1);
    let harts = threads
        .iter()
        .zip(before)
        .map(|(&(index, thread), before)| Hart {
            index,
            counters: looks
                .iter()
                .filter_map(|look| look.get(index as usize).copied())
                .collect(),
            busy_percent: ticks(thread).saturating_sub(before) * 100 / total,
        });
    Ok(harts.collect())
}

/// Processor time that a thread of QEMU has used, in ticks.
fn processor_ticks(pid: u32, thread: u64) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat")).ok()?;
    // The name, in parentheses, may hold spaces.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(number(11)? + number(12)?)
}

/// The program counters in `info registers -a`, in the order of the harts.
fn program_counters(registers: &str) -> Vec<u64> {
    registers
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pc "))
        .filter_map(|value| u64::from_str_radix(value.trim(), 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_counters_are_found() {
        let text = "\r\nCPU#0\r\n V      =   0\r\n pc       ffffffff80010414\r\n mepc  \
                    00000000800107e8\r\nCPU#1\r\n pc       0000000080010420\r\n";
        assert_eq!(program_counters(text), [0xffff_ffff_8001_0414, 0x8001_0420]);
    }

    #[test]
    fn blocked_user_tasks_are_found() {
        let subject = "task:subject         state:D stack:0     pid:42    tgid:42    ppid:1      \
                       flags:0x00000000";
        assert_eq!(
            blocked_task(subject).as_deref(),
            Some("task subject (pid 42)")
        );
        let kernel = "task:kworker/0:1     state:D stack:0     pid:9     tgid:9     ppid:2      \
                      flags:0x00000000";
        assert_eq!(blocked_task(kernel), None);
        let sleeping = subject.replace("state:D", "state:S");
        assert_eq!(blocked_task(&sleeping), None);
        assert_eq!(blocked_task("sysrq: Show Blocked State"), None);
    }

    #[test]
    fn only_busy_harts_in_the_kernel_run_in_circles() {
        let hart = |busy_percent, counters: &[u64]| Hart {
            index: 0,
            counters: counters.to_vec(),
            busy_percent,
        };
        let kernel = 0xffff_ffff_8001_0414;
        assert!(hart(90, &[kernel, kernel]).runs_in_circles());
        assert!(!hart(1, &[kernel, kernel]).runs_in_circles());
        assert!(!hart(90, &[kernel, 0x1_0000]).runs_in_circles());
        assert!(!hart(90, &[]).runs_in_circles());
    }

    #[test]
    fn a_threads_time_is_read() {
        let pid = std::process::id();
        assert!(processor_ticks(pid, u64::from(pid)).is_some());
        assert_eq!(processor_ticks(pid, 1), None);
    }
}
