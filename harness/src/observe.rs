// SPDX-License-Identifier: GPL-2.0-only
//! From calls to an [`Observation`]: the actors' mms only, the arena only, by step.

use crate::convert::hart;
use crate::trace::{self, Traced, TracedCall, without_asid};
use operations::{ARENA_BASE, ARENA_PAGES, PAGE_SIZE};
use protocol::message::Report;
use protocol::record::{Kind, Record};
use reference_model::{Effect, Entry, Fence, MmId, Range, StepResult, Whose};
use std::collections::HashMap;

/// What a kernel did, step by step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// One for each step.
    pub steps: Vec<ObservedStep>,
}

/// What a kernel did in one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedStep {
    /// What it came to.
    pub result: StepResult,
    /// Entries into `tlbflush.c` that concern the arena, in order.
    pub calls: Vec<ObservedCall>,
    /// `invalidate_range_start` and `_end`, in order: told, not compared.
    pub context: Vec<RangeEvent>,
}

/// An entry into `tlbflush.c` and what followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedCall {
    /// Its number in the trace; 0 where only its text was kept.
    pub seq: u64,
    /// The number of the chain of its callers; 0 where they are not known.
    pub chain: u64,
    /// The mm that it is about, by the scenario's numbers; none for `arch_tlbbatch_flush`,
    /// and where it is about an mm that is none of the scenario's.
    pub mm: Option<MmId>,
    /// What was called; none where a notification followed no entry.
    pub entry: Option<Entry>,
    /// Notifications and remote fences. An ASID is 0: which number an address
    /// space has depends on what ran before, and layer 1 has checked it.
    pub effects: Vec<Effect>,
}

/// One of the pair of calls that surround a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeEvent {
    /// Its number in the trace.
    pub seq: u64,
    /// The mm that it is about.
    pub mm: usize,
    /// `invalidate_range_start` instead of `_end`.
    pub start: bool,
    /// What is about to change, or has changed.
    pub range: Range,
    /// `enum mmu_notifier_event`.
    pub event: u64,
}

impl Observation {
    /// What secondary MMUs were notified of in a step, of which mm; none for one that is none of
    /// the scenario's.
    pub fn told(&self, step: usize) -> Vec<(Option<MmId>, Range)> {
        let calls = self
            .steps
            .get(step)
            .into_iter()
            .flat_map(|step| &step.calls);
        calls
            .flat_map(|call| told(call.mm, call.entry, &call.effects))
            .collect()
    }
}

/// All of an address space.
pub const EVERYTHING: Range = Range {
    start: 0,
    end: u64::MAX,
};

/// What secondary MMUs know by a call about an mm: its notifications, each of the mm that
/// it is about, or, when the mm is released, that all of it is gone.
pub fn told(
    mm: Option<MmId>,
    entry: Option<Entry>,
    effects: &[Effect],
) -> impl Iterator<Item = (Option<MmId>, Range)> + '_ {
    let released = (entry == Some(Entry::Release)).then_some((mm, EVERYTHING));
    let notified = effects.iter().filter_map(move |effect| match *effect {
        Effect::Notify(Whose::Own, range) => Some((mm, range)),
        Effect::Notify(Whose::Other(mm), range) => Some((mm, range)),
        Effect::Fence(_) => None,
    });
    notified.chain(released)
}

/// Gathers what may belong to an observation; which processes were the actors is known at the end.
#[derive(Debug, Default)]
pub struct Observer {
    calls: Vec<TracedCall>,
    orphans: Vec<(Record, usize)>,
    context: Vec<(Record, usize)>,
}

impl Observer {
    /// Takes what is within a step and concerns user memory.
    pub fn push(&mut self, traced: &Traced) {
        match traced {
            Traced::Call(call) if call.step.is_some() && concerns_a_process(call) => {
                self.calls.push(call.clone());
            }
            Traced::Orphan {
                record,
                step: Some(step),
                ..
            } => self.orphans.push((*record, *step)),
            Traced::Context {
                record,
                step: Some(step),
            } => self.context.push((*record, *step)),
            Traced::Call(_) | Traced::Orphan { .. } | Traced::Context { .. } => {}
        }
    }

    /// The observation of the steps that were finished, on a machine with so many harts.
    pub fn finish(self, report: &Report, harts: u32) -> Observation {
        let mut steps: Vec<ObservedStep> = report.steps.iter().map(empty_step).collect();
        let mms = Mms::new(report, &self.context);
        let calls = self
            .calls
            .iter()
            .filter_map(|call| Some((call.step?, mms.observed(call, harts)?)));
        let orphans = self
            .orphans
            .iter()
            .filter_map(|(record, step)| Some((*step, orphan(record, mms.of(record)?))));
        let releases = self
            .context
            .iter()
            .filter(|(record, _)| record.kind == Kind::Release)
            .filter_map(|(record, step)| Some((*step, release(record, mms.of(record)?))));
        for (step, call) in calls.chain(orphans).chain(releases) {
            if let Some(step) = steps.get_mut(step).filter(|_| call.concerns_arena()) {
                step.calls.push(call);
            }
        }
        for (record, step) in &self.context {
            if let Some(step) = steps.get_mut(*step) {
                step.context.extend(range_event(record, &mms));
            }
        }
        for step in &mut steps {
            step.calls.sort_by_key(|call| call.seq);
            step.context.sort_by_key(|event| event.seq);
        }
        Observation { steps }
    }
}

/// Which mms are the scenario's, and until when: what follows a release concerns
/// the replaying program's own memory as well, and nobody is notified of it.
struct Mms<'a> {
    report: &'a Report,
    released: HashMap<u64, u64>,
}

impl<'a> Mms<'a> {
    fn new(report: &'a Report, context: &[(Record, usize)]) -> Mms<'a> {
        let released = context
            .iter()
            .filter(|(record, _)| record.kind == Kind::Release)
            .map(|(record, _)| (record.mm, record.seq));
        Mms {
            report,
            released: released.collect(),
        }
    }

    /// The scenario's number of a record's mm.
    fn of(&self, record: &Record) -> Option<usize> {
        let released = self.released.get(&record.mm);
        if record.mm == 0 || released.is_some_and(|seq| record.seq > *seq) {
            return None;
        }
        self.report.mms.iter().position(|mm| *mm == record.mm)
    }

    /// A call that is the scenario's business: it is about an mm of the scenario or notifies
    /// of one. A batch has no mm and belongs to whichever actor flushes it.
    fn observed(&self, call: &TracedCall, harts: u32) -> Option<ObservedCall> {
        let mm = self.of(&call.record);
        let batch = call.record.kind == Kind::TlbbatchFlush;
        let batch = batch && self.report.pids.contains(&call.record.pid);
        let tells = call.effects.iter().any(|effect| self.of(effect).is_some());
        if mm.is_none() && !batch && !tells {
            return None;
        }
        let effects = call.effects.iter().filter_map(|record| {
            let effect = match trace::effect(record, call.record.mm)? {
                Effect::Notify(Whose::Other(_), range) => {
                    Effect::Notify(Whose::Other(self.of(record)), range)
                }
                other => other,
            };
            Some(by_the_scenarios_harts(without_asid(effect), harts))
        });
        Some(ObservedCall {
            seq: call.record.seq,
            chain: call.record.chain,
            mm,
            entry: trace::entry(&call.record),
            effects: effects.collect(),
        })
    }
}

fn empty_step(result: &StepResult) -> ObservedStep {
    ObservedStep {
        result: *result,
        calls: Vec::new(),
        context: Vec::new(),
    }
}

fn orphan(record: &Record, mm: usize) -> ObservedCall {
    let effects = trace::effect(record, record.mm)
        .map(without_asid)
        .into_iter()
        .collect();
    ObservedCall {
        seq: record.seq,
        chain: 0,
        mm: Some(mm),
        entry: None,
        effects,
    }
}

fn release(record: &Record, mm: usize) -> ObservedCall {
    ObservedCall {
        seq: record.seq,
        chain: 0,
        mm: Some(mm),
        entry: Some(Entry::Release),
        effects: Vec::new(),
    }
}

/// What flushes the kernel's own memory does not, unless it notifies of a process's.
fn concerns_a_process(call: &TracedCall) -> bool {
    let kernels = matches!(
        call.record.kind,
        Kind::FlushTlbAll | Kind::FlushTlbKernelRange
    );
    let tells = |effect: &Record| effect.kind == Kind::Notify;
    !kernels || call.effects.iter().any(tells)
}

fn by_the_scenarios_harts(effect: Effect, harts: u32) -> Effect {
    let turned = |mask: u64| {
        let set = (0..harts.min(64)).filter(|bit| mask & 1 << bit != 0);
        set.filter_map(|bit| hart(harts, bit))
            .fold(0, |turned, bit| turned | 1 << bit)
    };
    match effect {
        Effect::Fence(Fence::Sbi {
            harts: Some(mask),
            start,
            size,
            asid,
        }) => Effect::Fence(Fence::Sbi {
            harts: Some(turned(mask)),
            start,
            size,
            asid,
        }),
        other => other,
    }
}

impl ObservedCall {
    /// Its arguments, or what it notified, touch the arena. A call for another
    /// part of an actor (its stack, its data) is noise of the replay.
    fn concerns_arena(&self) -> bool {
        let told = told(self.mm, self.entry, &self.effects).map(|(_, range)| range);
        self.entry
            .and_then(arguments)
            .into_iter()
            .chain(told)
            .any(touches_arena)
            || self.entry.is_some_and(|entry| arguments(entry).is_none())
    }
}

/// The range that an entry names; none where it is for a whole mm or several.
fn arguments(entry: Entry) -> Option<Range> {
    let (start, end) = match entry {
        Entry::FlushTlbMmRange { start, end, .. }
        | Entry::FlushTlbRange { start, end, .. }
        | Entry::FlushPmdTlbRange { start, end }
        | Entry::FlushPudTlbRange { start, end }
        | Entry::ArchTlbbatchAddPendingRange { start, end }
        | Entry::FlushTlbKernelRange { start, end } => (start, end),
        Entry::FlushTlbPage { addr: start } | Entry::ArchTlbbatchAddPending { uaddr: start } => {
            (start, start.saturating_add(PAGE_SIZE))
        }
        Entry::FlushTlbAll
        | Entry::FlushTlbMm
        | Entry::ArchTlbbatchFlush
        | Entry::Release
        | Entry::ArchFlushTlbBatchedPending => return None,
    };
    Some(Range { start, end })
}

/// An empty or inverted range at a place of the arena touches it too: it is wrong, not noise.
fn touches_arena(range: Range) -> bool {
    let arena = ARENA_BASE..ARENA_BASE + ARENA_PAGES * PAGE_SIZE;
    arena.contains(&range.start)
        || (range.start < arena.end && range.end > arena.start)
        || (range.end > arena.start && range.end <= arena.end)
}

fn range_event(record: &Record, mms: &Mms<'_>) -> Option<RangeEvent> {
    if record.kind == Kind::Release {
        return None;
    }
    let mm = mms.of(record)?;
    let range = Range {
        start: record.start,
        end: record.end,
    };
    touches_arena(range).then_some(RangeEvent {
        seq: record.seq,
        mm,
        start: record.kind == Kind::RangeStart,
        range,
        event: record.arg,
    })
}
