// SPDX-License-Identifier: GPL-2.0-only
//! A riscv64 guest in QEMU: booted once, saved, restored, talked to, and never left behind.
//!
//! The way of a guest: [`Guest::start`] restores a saved one or boots and
//! saves it, [`Guest::run`] has its agent replay programs, dropping it kills
//! QEMU. What can go wrong is told apart by [`GuestError::fault`].
//!
//! Nothing stays behind, because nothing is made: QEMU's channels are socket
//! pairs that it inherits, and QEMU is killed with this process by the kernel
//! where this process cannot do it itself (see `process.rs`). What is kept on
//! purpose is the saved state, in the kernel's cache folder.

mod arguments;
mod console;
mod cpu;
mod diagnose;
mod error;
mod machine;
mod process;
mod qmp;
mod start;
mod state;
#[cfg(test)]
mod tests;
mod timers;
mod turns;

pub use arguments::MEMORY_FOR_GIB_PAGES;
pub use cpu::CpuFeatures;
pub use error::{Fault, GuestError, OLDEST_QEMU};

use crate::artifacts::Artifacts;
use crate::conversation::{self, Broken, End, Meanwhile};
use diagnose::{Diagnosis, diagnose};
use machine::QemuMachine;
use protocol::workload::{Ran, Workload};
use protocol::{
    Record, Request, Run,
    message::{Report, Sabotage, System},
};
use qmp::Qmp;
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// What guest to start.
#[derive(Clone, Debug)]
pub struct GuestConfig {
    /// The kernel and its initramfs.
    pub artifacts: Artifacts,
    /// How many harts.
    pub harts: u32,
    /// How much memory.
    pub memory_mib: u32,
    /// Whether it is in two nodes of the same size, if there are harts for both.
    pub nodes: bool,
    /// Whether it has two pages of hugetlb of 1 GiB, reserved when it boots. It wants
    /// [`MEMORY_FOR_GIB_PAGES`].
    pub gib_pages: bool,
    /// Whether a block of it is for pages alone that can move, so that it can go offline.
    pub movable: bool,
    /// Whether more than half of what is free is for drivers that want it in one piece (CMA), and
    /// for pages that can move until they do.
    pub contiguous: bool,
    /// QEMU's name for the kind of hart, with its properties.
    ///
    /// A restored guest with `max` never answers; `rv64` and properties added
    /// to it do.
    pub cpu: String,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// Restore a saved guest where there is one, and save it where there is none.
    pub snapshot: bool,
    /// Its clock counts instructions, whatever the host does meanwhile: what a step costs
    /// is the same on every machine.
    pub counted: bool,
    /// It has a disk with programs, whose file this is.
    pub programs: Option<PathBuf>,
    /// It has an IOMMU with devices behind it, as `vm/module/iommu` drives them.
    pub iommu: bool,
}

impl GuestConfig {
    /// The usual guest for a kernel.
    pub fn new(artifacts: Artifacts) -> GuestConfig {
        let cpu = artifacts.board.cpu.clone();
        GuestConfig {
            artifacts,
            harts: 2,
            memory_mib: 512,
            nodes: false,
            gib_pages: false,
            movable: false,
            contiguous: false,
            cpu: cpu.unwrap_or_else(|| "rv64".to_owned()),
            timeouts: Timeouts::default(),
            snapshot: true,
            counted: false,
            programs: None,
            iommu: false,
        }
    }

    /// Whether its memory is in two nodes.
    fn has_nodes(&self) -> bool {
        self.nodes && self.harts > 1
    }
}

/// How long to wait for what. Generous: they are reached when something is
/// broken, or on a machine that does ten other things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From QEMU's start to its greeting.
    pub qemu: Duration,
    /// From QEMU's start to the agent's word that it is ready.
    pub boot: Duration,
    /// For restoring, the agent's first answer included; then it is booted.
    pub restore: Duration,
    /// For saving.
    pub save: Duration,
    /// For the agent's first answer after booting.
    pub answer: Duration,
    /// How much longer than a program's own time its agent may be silent: it kills a
    /// subject that takes too long, and waits for a while before it calls it stuck.
    pub grace: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            qemu: Duration::from_secs(10),
            boot: Duration::from_secs(60),
            restore: Duration::from_secs(5),
            save: Duration::from_secs(20),
            answer: Duration::from_secs(10),
            grace: Duration::from_secs(10),
        }
    }
}

/// What happens while a guest starts. For showing only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestEvent {
    /// A saved guest is restored.
    Restoring {
        /// From this file.
        from: PathBuf,
    },
    /// It could not be restored; it is booted instead.
    RestoreFailed(String),
    /// Another process is saving the same guest; it is waited for.
    WaitingForOther,
    /// QEMU has been started, to boot or to restore.
    Started {
        /// Its process number.
        pid: u32,
    },
    /// The guest boots.
    Booting,
    /// The booted guest is saved for the next start.
    Saving,
    /// It was saved.
    Saved {
        /// In this file.
        to: PathBuf,
        /// It took this long.
        took: Duration,
    },
    /// It could not be saved; the next start boots again.
    SaveFailed(String),
    /// The agent has answered.
    Ready {
        /// By restoring, not by booting.
        restored: bool,
        /// Since the start.
        took: Duration,
    },
}

/// A running guest whose agent has answered. Dropping it ends it.
pub struct Guest {
    machine: QemuMachine,
    qmp: Qmp,
    system: System,
    qemu: String,
    timeouts: Timeouts,
    programs: u64,
    spent: Option<String>,
}

impl Guest {
    /// Restores or boots a guest, and waits until its agent answers.
    ///
    /// # Errors
    /// Never of [`Fault::Kernel`]: a kernel that does not boot cannot be tested.
    pub fn start(
        config: &GuestConfig,
        events: &mut dyn FnMut(GuestEvent),
    ) -> Result<Guest, GuestError> {
        start::start(config, events)
    }

    /// What the agent found out about its machine.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// QEMU's version, with the distribution's own.
    pub fn qemu(&self) -> &str {
        &self.qemu
    }

    /// QEMU's process number.
    pub fn pid(&self) -> u32 {
        self.machine.pid()
    }

    /// The console's end, as far as it is kept.
    pub fn console(&self) -> String {
        self.machine.console.text()
    }

    /// Whether the guest can run another program; after some errors it cannot.
    pub fn usable(&self) -> bool {
        self.spent.is_none()
    }

    /// Has the agent replay a program in a fresh subject, for at most `timeout`.
    ///
    /// The records are handed on as they come, before it is known how the run ends.
    ///
    /// # Errors
    /// Of [`Fault::Kernel`] if the kernel crashed or a step hangs, of
    /// [`Fault::Run`] if the program could not be run.
    pub fn run(
        &mut self,
        run: &Run,
        timeout: Duration,
        on_record: &mut dyn FnMut(Record),
    ) -> Result<Report, GuestError> {
        self.check()?;
        self.programs += 1;
        let silence = timeout + self.timeouts.grace;
        self.machine.turns.begin();
        let end = conversation::run(
            &mut self.machine,
            self.programs,
            run,
            (timeout, silence),
            on_record,
        );
        self.machine.turns.end();
        let during = "the agent's answer to a program";
        self.ended(end, (during, silence), |end| match end {
            End::Done(report) => Some(report),
            _ => None,
        })
    }

    /// Puts a file where commands find it.
    ///
    /// # Errors
    /// It could not be put there.
    pub fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), GuestError> {
        self.check()?;
        self.programs += 1;
        let silence = self.timeouts.answer;
        let end = conversation::put(&mut self.machine, self.programs, (name, bytes), silence);
        let during = "the agent to take a file";
        self.ended(end, (during, silence), |end| {
            matches!(end, End::Put).then_some(())
        })
    }

    /// Has the agent run a command, for at most `timeout`; the trace, and what it says, are
    /// handed on as they come.
    ///
    /// # Errors
    /// As of [`Guest::run`].
    pub fn observe(
        &mut self,
        workload: &Workload,
        timeout: Duration,
        on: &mut dyn FnMut(Meanwhile),
    ) -> Result<Ran, GuestError> {
        self.check()?;
        self.programs += 1;
        let silence = timeout + self.timeouts.grace;
        let end = conversation::observe(
            &mut self.machine,
            self.programs,
            workload,
            (timeout, silence),
            on,
        );
        let during = "the agent's answer to a command";
        self.ended(end, (during, silence), |end| match end {
            End::Ran(ran) => Some(ran),
            _ => None,
        })
    }

    /// What a request came to, of which the end is to be of one kind.
    fn ended<T>(
        &mut self,
        end: Result<End, Broken>,
        (during, limit): (&'static str, Duration),
        wanted: impl Fn(End) -> Option<T>,
    ) -> Result<T, GuestError> {
        let result = match end.map(|end| self.judge(end)) {
            Ok(Ok(end)) => wanted(end).ok_or_else(|| {
                let broken = conversation::nonsense("another answer", during);
                self.explain(broken, during, limit)
            }),
            Ok(Err(error)) => Err(error),
            Err(broken) => Err(self.explain(broken, during, limit)),
        };
        self.note(result)
    }

    /// Breaks something on purpose, for tests. There is no answer to wait for:
    /// the next [`Guest::run`] meets the consequences.
    ///
    /// # Errors
    /// The request could not be sent.
    pub fn sabotage(&mut self, sabotage: Sabotage) -> Result<(), GuestError> {
        self.check()?;
        let limit = self.timeouts.answer;
        let request = Request::Sabotage(sabotage);
        let sent = conversation::send(&mut self.machine, &request, Instant::now() + limit);
        let during = "the agent to take a request";
        let result = sent.map_err(|broken| self.explain(broken, during, limit));
        self.note(result)
    }

    /// Ends the guest, as dropping it does.
    pub fn stop(self) {}

    /// Nothing more is asked of a guest that is broken or gone.
    fn check(&mut self) -> Result<(), GuestError> {
        if let Some(why) = &self.spent {
            return Err(GuestError::Spent { why: why.clone() });
        }
        // A sign seen now came after the last program's end.
        let state = self.machine.check();
        let result = state.map_err(|stop| {
            let during = "the next program";
            self.explain(Broken::Stopped(stop), during, Duration::ZERO)
        });
        self.note(result)
    }

    fn judge(&mut self, end: End) -> Result<End, GuestError> {
        // The last of the console was written before the answer was.
        if self.machine.check().is_ok() && self.machine.console.seen().is_some() {
            let soon = Instant::now() + self.timeouts.grace;
            let _ = self.machine.wait_for_console(soon, |_| false);
        }
        if let Some(error) = self.machine.broken() {
            return Err(error);
        }
        let console = self.machine.console.excerpt();
        let out_of_memory = self.machine.console.out_of_memory().map(str::to_owned);
        match (end, out_of_memory) {
            // What takes long then, or does not end, says nothing about the kernel.
            (End::Failed(_) | End::Stuck { .. }, Some(line)) => {
                Err(GuestError::OutOfMemory { line, console })
            }
            (end, _) => Self::judge_end(end, console),
        }
    }

    fn judge_end(end: End, console: String) -> Result<End, GuestError> {
        match end {
            End::Done(_) | End::Ran(_) | End::Put => Ok(end),
            End::Failed(why) => Err(GuestError::AgentFailed { why, console }),
            End::Stuck { step, why } => Err(GuestError::KernelHung {
                evidence: format!("step {step} does not return: {why}"),
                console,
            }),
        }
    }

    fn explain(&mut self, broken: Broken, during: &'static str, limit: Duration) -> GuestError {
        let stop = match broken {
            Broken::Stopped(stop) => stop,
            Broken::Nonsense(why) => {
                let console = self.machine.console.excerpt();
                return GuestError::Protocol { why, console };
            }
        };
        let qmp = &mut self.qmp;
        self.machine
            .explain(stop, during, |machine| silent(machine, qmp, during, limit))
    }

    /// After all but a well-formed answer, nobody knows what state the guest is in.
    fn note<T>(&mut self, result: Result<T, GuestError>) -> Result<T, GuestError> {
        match &result {
            Ok(_) | Err(GuestError::AgentFailed { .. } | GuestError::Spent { .. }) => {}
            Err(error) => self.spent = Some(error.to_string()),
        }
        result
    }
}

/// The error for an agent that does not answer in time.
fn silent(
    machine: &mut QemuMachine,
    qmp: &mut Qmp,
    during: &'static str,
    after: Duration,
) -> GuestError {
    let finding = match diagnose(machine, qmp) {
        Ok(finding) => finding,
        Err(error) => return error,
    };
    let console = machine.console.excerpt();
    match finding {
        Diagnosis::KernelHangs(evidence) => GuestError::KernelHung { evidence, console },
        Diagnosis::KernelIsWell(evidence) => GuestError::AgentSilent {
            during,
            after,
            evidence,
            console,
        },
        Diagnosis::NotRunning(state) => GuestError::Qmp {
            why: format!("QEMU does not run the guest, it is in state `{state}`"),
        },
    }
}
