// SPDX-License-Identifier: GPL-2.0-only
//! A real kernel in QEMU: one guest for many scenarios, a new one after a crash.

use super::agent::{Warnings, nr_cpus, observe, subject, too_few_harts};
use super::{Backend, Observed, Subject};
use crate::cli::args::SabotageName;
use crate::convert::to_run;
use crate::event::Event;
use crate::finding::Finding;
use crate::iommu::Setting;
use crate::layer1::Layer1;
use crate::run::{Message, Stop};
use crate::scenario::Scenario;
use operations::Plain;
use protocol::Record;
use protocol::message::{Report, Sabotage};
use protocol::{Policy, Tracing};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;
use vm::Artifacts;
use vm::guest::{
    CpuFeatures, Fault, Guest, GuestConfig, GuestError, GuestEvent, MEMORY_FOR_GIB_PAGES,
};

/// How guests are made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The kernel.
    pub artifacts: Artifacts,
    /// How many harts; none for as many as a scenario needs, and one for the agent.
    pub harts: Option<u32>,
    /// Where `harts` says nothing: as many as if a scenario acted on that many. A run whose
    /// scenarios all find the same guest starts fewer of them.
    pub acted_on: u32,
    /// How much memory.
    pub memory_mib: u32,
    /// What its harts have and have not.
    pub cpu: CpuFeatures,
    /// Longest that one scenario may take.
    pub timeout: Duration,
    /// Restore a saved guest where there is one.
    pub restore: bool,
    /// What to break before the first scenario.
    pub sabotage: Option<SabotageName>,
    /// Records that the trace buffer holds; 0 for the module's default.
    pub buffer_records: u32,
    /// Devices load translations in steps, too.
    pub eager: bool,
    /// A device behind an IOMMU shares the actors' mms, and what notifications become for it.
    pub iommu: Option<Policy>,
    /// Its clock counts instructions, and it is booted each time.
    pub counted: bool,
}

/// So many starts in a row may fail before nothing more is tried.
const FAILED_STARTS: u32 = 2;

/// Lines of the console's end that are told where something could not be run.
const CONSOLE_LINES: usize = 20;

/// The memory of a guest that is to be short of it, in MiB, whatever others have: scenarios fill
/// most of it.
const SHORT_MEMORY: u32 = 192;

/// Guests of different kinds that are kept at once.
const GUESTS: usize = 4;

/// What guests are kept apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct GuestKind {
    harts: u32,
    /// To switch swap on and off takes longer than most scenarios do.
    swap: bool,
    /// Two nodes are another machine: reclaim goes node by node.
    nodes: bool,
    /// Pages of 1 GiB are reserved at the boot.
    gib_pages: bool,
    /// A block of its memory can go offline.
    movable: bool,
    /// More than half of what is free is a driver's to take.
    contiguous: bool,
    /// It has little memory, for what is about running out of it.
    short: bool,
}

/// Runs scenarios in guests, each started when it is first needed.
pub struct GuestBackend {
    settings: Settings,
    sender: Sender<Message>,
    stop: Arc<Stop>,
    /// The one used last is the last.
    guests: Vec<(GuestKind, Guest)>,
    failed_starts: u32,
    /// The most that the kernel uses, as far as that is known.
    most_harts: u32,
}

impl GuestBackend {
    /// No guest started yet.
    pub fn new(settings: Settings, sender: Sender<Message>, stop: Arc<Stop>) -> GuestBackend {
        let config = settings.artifacts.config();
        let most_harts = config.as_deref().and_then(nr_cpus);
        if let (Some(most), Some(asked)) = (most_harts, settings.harts)
            && most < asked
        {
            let note = format!(
                "guests have {most} of the {asked} harts asked for: the kernel uses no more, it is \
                 built with CONFIG_NR_CPUS={most}"
            );
            // Nobody listens any more after Ctrl-C.
            let _ = sender.send(Message::Event(Event::Note(note)));
        }
        GuestBackend {
            most_harts: most_harts.unwrap_or(u32::MAX),
            settings,
            sender,
            stop,
            guests: Vec::new(),
            failed_starts: 0,
        }
    }

    /// How many harts the guest of a scenario has.
    fn harts(&self, scenario: &Scenario) -> u32 {
        // One of them is the agent's, which must not change what harts have loaded. What a
        // counted guest's harts do is added up, so it has none that nobody acts on.
        let agent = u32::from(!self.settings.counted);
        let acted_on = scenario.harts().max(self.settings.acted_on);
        let wanted = self.settings.harts.unwrap_or(acted_on + agent);
        // More would be there, and not be used.
        wanted.min(self.most_harts)
    }

    /// A guest that can run a scenario.
    fn guest(&mut self, scenario: &Scenario) -> Result<&mut Guest, Finding> {
        let kind = GuestKind {
            harts: self.harts(scenario),
            swap: scenario.needs_swap(),
            nodes: scenario.nodes() > 1,
            gib_pages: scenario.gib_pages() && self.settings.memory_mib >= MEMORY_FOR_GIB_PAGES,
            movable: scenario.movable_memory(),
            contiguous: scenario.contiguous_memory(),
            short: scenario.short_of_memory(),
        };
        let place = self.guests.iter().position(|(is, _)| *is == kind);
        let usable = place.map(|place| self.guests.remove(place).1);
        let guest = match usable.filter(Guest::usable) {
            Some(guest) => guest,
            None => {
                // The one that was used longest ago makes room.
                let room = self.guests.len().saturating_sub(GUESTS - 1);
                self.guests.drain(..room);
                self.start(kind)
                    .map_err(|error| self.start_failed(&error))?
            }
        };
        self.failed_starts = 0;
        self.guests.push((kind, guest));
        let last = self.guests.len() - 1;
        Ok(&mut self.guests[last].1)
    }

    fn start(&mut self, kind: GuestKind) -> Result<Guest, GuestError> {
        let usual = GuestConfig::new(self.settings.artifacts.clone());
        let config = GuestConfig {
            harts: kind.harts,
            nodes: kind.nodes,
            gib_pages: kind.gib_pages,
            movable: kind.movable,
            contiguous: kind.contiguous,
            memory_mib: match kind.short {
                true => SHORT_MEMORY,
                false => self.settings.memory_mib,
            },
            cpu: self.settings.cpu.of(&usual.cpu),
            snapshot: self.settings.restore && !self.settings.counted,
            counted: self.settings.counted,
            iommu: self.settings.iommu.is_some(),
            ..usual
        };
        let sender = self.sender.clone();
        // Nobody listens any more after Ctrl-C.
        let mut tell = |event| drop(sender.send(Message::Event(told(event))));
        let mut guest = Guest::start(&config, &mut tell)?;
        if let Some(sabotage) = self.settings.sabotage.take() {
            guest.sabotage(sabotage_of(sabotage))?;
        }
        Ok(guest)
    }

    fn start_failed(&mut self, error: &GuestError) -> Finding {
        self.failed_starts += 1;
        let hopeless = matches!(
            error,
            GuestError::NoQemu { .. } | GuestError::QemuTooOld { .. }
        );
        if hopeless || self.failed_starts >= FAILED_STARTS {
            self.stop.stop(&format!("no guest can be started: {error}"));
        }
        finding(error)
    }

    fn run(
        &mut self,
        scenario: &Scenario,
        tracing: Tracing,
        take: &mut dyn FnMut(Record),
    ) -> Result<Report, Finding> {
        let (timeout, policy) = (self.settings.timeout, self.settings.iommu);
        let guest = self.guest(scenario)?;
        let (has, needs) = (guest.system().harts, scenario.harts());
        let Some(mut run) = to_run(scenario, has, tracing) else {
            let why = too_few_harts(has, needs, None);
            return Err(Finding::skipped(why));
        };
        run.iommu = policy;
        let result = guest.run(&run, timeout, take);
        result.map_err(|error| finding(&error))
    }
}

impl Backend for GuestBackend {
    fn prepare(&mut self, scenario: &Scenario) -> Result<Subject, Finding> {
        let artifacts = self.settings.artifacts.clone();
        let (has, needs) = (self.harts(scenario), scenario.harts());
        if has < needs {
            let why = too_few_harts(has, needs, artifacts.config().as_deref());
            return Err(Finding::skipped(why));
        }
        let system = self.guest(scenario)?.system();
        subject(scenario, system, &mut || artifacts.config())
    }

    fn observe(&mut self, scenario: &Scenario, layer1: Layer1<'_>) -> Result<Observed, Finding> {
        let policy = self.settings.iommu;
        let guest = self.guest(scenario)?;
        let system = guest.system().clone();
        let setting = policy.map(|policy| Setting {
            policy,
            qemu: guest.qemu().to_owned(),
        });
        let tracing = Tracing {
            eager: self.settings.eager,
            ..Tracing::full(self.settings.buffer_records)
        };
        let observed = observe(
            scenario,
            &system,
            Warnings::OfTheProgram,
            tracing,
            setting.as_ref(),
            &layer1,
            &mut |tracing, take| self.run(scenario, tracing, take),
        );
        let spoilt = observed
            .as_ref()
            .map_or(true, |observed| !observed.complaints.is_empty());
        if spoilt || scenario.program.does(Plain::SPOILS) {
            // A kernel that has complained once, or spoilt a program, is not the one to run
            // others on, nor one whose memory was used up, be it that a step has asked for it.
            self.guests.pop();
        }
        observed
    }

    fn count(&mut self, scenario: &Scenario, subscribers: u32) -> Result<Report, Finding> {
        self.run(scenario, Tracing::count(subscribers), &mut drop)
    }
}

fn finding(error: &GuestError) -> Finding {
    let console: Vec<&str> = error.console().lines().collect();
    match error.fault() {
        Fault::Kernel => {
            let log = console.iter().map(|line| (*line).to_owned());
            Finding::kernel_crashed(error.to_string(), log.collect())
        }
        Fault::Run => {
            let mut why = format!("{error}\n{}", error.advice());
            let end = &console[console.len().saturating_sub(CONSOLE_LINES)..];
            for line in end {
                why.push_str("\n  | ");
                why.push_str(line);
            }
            Finding::could_not_run(why)
        }
    }
}

fn told(event: GuestEvent) -> Event {
    match event {
        GuestEvent::Restoring { .. } => Event::Progress("restoring a guest".to_owned()),
        GuestEvent::RestoreFailed(why) => Event::Note(format!(
            "the saved guest could not be restored, booting instead: {why}"
        )),
        GuestEvent::WaitingForOther => {
            Event::Progress("waiting for another process that saves the same guest".to_owned())
        }
        GuestEvent::Started { .. } => Event::Progress("QEMU runs".to_owned()),
        GuestEvent::Booting => Event::Progress("booting a guest".to_owned()),
        GuestEvent::Saving => Event::Progress("saving the booted guest".to_owned()),
        GuestEvent::Saved { took, .. } => {
            Event::Progress(format!("guest saved in {:.2} s", took.as_secs_f64()))
        }
        GuestEvent::SaveFailed(why) => Event::Note(format!(
            "the guest could not be saved, the next start boots again: {why}"
        )),
        GuestEvent::Ready { took, .. } => {
            Event::Progress(format!("guest ready after {:.2} s", took.as_secs_f64()))
        }
    }
}

pub(super) fn sabotage_of(name: SabotageName) -> Sabotage {
    match name {
        SabotageName::Panic => Sabotage::Panic,
        SabotageName::Hang => Sabotage::Hang,
        SabotageName::KillSubject => Sabotage::KillSubject,
        SabotageName::Die => Sabotage::Die,
        SabotageName::StopIommu => Sabotage::StopIommu,
    }
}
