// SPDX-License-Identifier: GPL-2.0-only
//! From the stream of records to calls: each entry into `tlbflush.c` with what followed it.
//!
//! What follows an entry in the same task, before anything else of that task,
//! was done by it. Records come one by one and calls go out as they end, so a
//! trace of any length takes no room here.

use protocol::record::{self, Kind, Record};
use reference_model::{Effect, Entry, Fence, Range, Whose};
use std::collections::HashMap;

/// One entry into `tlbflush.c` and what followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedCall {
    /// The entry's record.
    pub record: Record,
    /// Step in which it was made, from 0.
    pub step: Option<usize>,
    /// Notifications and remote fences, in order.
    pub effects: Vec<Record>,
    /// The trace ended before its task did anything else.
    pub cut: bool,
    /// Meanwhile another task released the mm: nobody need be notified any more.
    pub released: bool,
}

impl TracedCall {
    /// What followed, as the model names it.
    pub fn followed(&self) -> Vec<Effect> {
        let mm = self.record.mm;
        let effects = self.effects.iter();
        effects.filter_map(|record| effect(record, mm)).collect()
    }
}

/// What a record, or several, came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Traced {
    /// An entry and what followed.
    Call(TracedCall),
    /// A notification or fence that followed no entry.
    Orphan {
        /// Its record.
        record: Record,
        /// Step in which it came, from 0.
        step: Option<usize>,
        /// Its task had done nothing else since the trace began.
        first: bool,
    },
    /// `invalidate_range_start` or `_end`, or `release`.
    Context {
        /// Its record.
        record: Record,
        /// Step in which it came, from 0.
        step: Option<usize>,
    },
}

/// Puts calls together.
#[derive(Debug, Default)]
pub struct Calls {
    tasks: HashMap<(i32, u16), Option<TracedCall>>,
    steps: Steps,
}

/// The steps that are under way, and by which tasks: one, or several that were begun together,
/// which have one end.
#[derive(Debug, Default)]
struct Steps(Vec<(i32, usize)>);

impl Steps {
    /// Takes a mark.
    fn mark(&mut self, record: &Record) {
        match record.end {
            0 => self.0.push((record.pid, record.start as usize)),
            _ => self.0.clear(),
        }
    }

    /// In which step a record was made: its own task's, or else the first.
    fn of(&self, record: &Record) -> Option<usize> {
        let own = self.0.iter().find(|step| step.0 == record.pid);
        own.or(self.0.first()).map(|step| step.1)
    }
}

impl Calls {
    /// Takes the next record, gives what has ended by it.
    pub fn push(&mut self, record: Record, out: &mut dyn FnMut(Traced)) {
        if record.kind == Kind::Release {
            let open = self.tasks.values_mut().flatten();
            open.filter(|call| call.record.mm == record.mm)
                .for_each(|call| call.released = true);
        }
        let first = !self.tasks.contains_key(&task(&record));
        let step = self.steps.of(&record);
        let open = self.tasks.entry(task(&record)).or_default();
        if matches!(record.kind, Kind::Notify | Kind::SbiRfence) {
            match open {
                Some(call) => call.effects.push(record),
                None => out(Traced::Orphan {
                    record,
                    step,
                    first,
                }),
            }
            return;
        }
        if open
            .as_ref()
            .is_some_and(|call| calls_itself(call, &record))
        {
            return;
        }
        if let Some(call) = open.take() {
            out(Traced::Call(call));
        }
        match record.kind {
            Kind::Mark => self.steps.mark(&record),
            Kind::RangeStart | Kind::RangeEnd | Kind::Release => {
                out(Traced::Context { record, step })
            }
            _ => {
                *open = Some(TracedCall {
                    record,
                    step,
                    effects: Vec::new(),
                    cut: false,
                    released: false,
                })
            }
        }
    }

    /// The trace has ended.
    pub fn finish(self, out: &mut dyn FnMut(Traced)) {
        let mut open: Vec<TracedCall> = self.tasks.into_values().flatten().collect();
        open.sort_by_key(|call| call.record.seq);
        for call in open {
            out(Traced::Call(TracedCall { cut: true, ..call }));
        }
    }
}

/// The idle tasks of all harts have the same number.
fn task(record: &Record) -> (i32, u16) {
    (record.pid, if record.pid == 0 { record.hart } else { 0 })
}

/// `arch_flush_tlb_batched_pending` calls `flush_tlb_mm`, whose entry the
/// compiler may have merged into it: the two are one call, seen or not.
fn calls_itself(open: &TracedCall, record: &Record) -> bool {
    open.record.kind == Kind::TlbBatchedPending
        && record.kind == Kind::FlushTlbMm
        && record.mm == open.record.mm
        && open.effects.is_empty()
}

/// The record as the model names entries; none for one that the model has not.
pub fn entry(record: &Record) -> Option<Entry> {
    let Record {
        start, end, arg, ..
    } = *record;
    Some(match record.kind {
        Kind::FlushTlbAll => Entry::FlushTlbAll,
        Kind::FlushTlbMm => Entry::FlushTlbMm,
        Kind::FlushTlbMmRange => Entry::FlushTlbMmRange {
            start,
            end,
            page_size: arg,
        },
        Kind::FlushTlbPage => Entry::FlushTlbPage { addr: start },
        Kind::FlushTlbRange => {
            let hugetlb = record.flags & record::F_HUGETLB != 0;
            Entry::FlushTlbRange {
                start,
                end,
                huge_page_size: hugetlb.then_some(arg),
            }
        }
        Kind::FlushPmdTlbRange => Entry::FlushPmdTlbRange { start, end },
        Kind::FlushTlbKernelRange => Entry::FlushTlbKernelRange { start, end },
        // 6.12 passes one address, and the tracer tells no end.
        Kind::TlbbatchAddPending if end == 0 => Entry::ArchTlbbatchAddPending { uaddr: start },
        Kind::TlbbatchAddPending => Entry::ArchTlbbatchAddPendingRange { start, end },
        Kind::TlbbatchFlush => Entry::ArchTlbbatchFlush,
        Kind::TlbBatchedPending => Entry::ArchFlushTlbBatchedPending,
        Kind::FlushPudTlbRange => Entry::FlushPudTlbRange { start, end },
        Kind::Mark
        | Kind::Notify
        | Kind::RangeStart
        | Kind::RangeEnd
        | Kind::Release
        | Kind::Freed
        | Kind::Tables
        | Kind::Table
        | Kind::Leaves
        | Kind::Held
        | Kind::IommuFault
        | Kind::IommuError
        | Kind::Chain
        | Kind::Symbol
        | Kind::Task
        | Kind::SbiRfence => return None,
    })
}

/// The record as the model names effects, in a call about that mm; none for another record.
/// Other mms go by the trace's own numbers.
pub fn effect(record: &Record, mm: u64) -> Option<Effect> {
    match record.kind {
        Kind::Notify => {
            let whose = match record.mm == mm {
                true => Whose::Own,
                false => Whose::Other(usize::try_from(record.mm).ok()),
            };
            let (start, end) = (record.start, record.end);
            Some(Effect::Notify(whose, Range { start, end }))
        }
        Kind::SbiRfence => Some(Effect::Fence(Fence::Sbi {
            harts: (record.flags & record::F_ALL_HARTS == 0).then_some(record.cpumask),
            start: record.start,
            size: record.arg,
            asid: (record.asid != u64::MAX).then_some(record.asid),
        })),
        _ => None,
    }
}

/// With 0 for the ASID of a fence that has one.
pub fn without_asid(mut effect: Effect) -> Effect {
    if let Effect::Fence(fence) = &mut effect {
        let (Fence::LocalAll { asid }
        | Fence::LocalPages { asid, .. }
        | Fence::Sbi { asid, .. }
        | Fence::Ipi { asid, .. }) = fence;
        *asid = asid.map(|_| 0);
    }
    effect
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: u64, pid: i32, kind: Kind, start: u64, end: u64) -> Record {
        Record {
            seq,
            mm: if kind == Kind::Mark { 0 } else { 1 },
            start,
            end,
            arg: 0,
            cpumask: 0,
            asid: 0,
            pid,
            tgid: pid,
            kind,
            hart: 0,
            flags: 0,
            chain: Default::default(),
        }
    }

    fn calls(records: &[Record]) -> Vec<TracedCall> {
        let (mut calls, mut made) = (Calls::default(), Vec::new());
        let mut add = |traced| {
            if let Traced::Call(call) = traced {
                made.push(call);
            }
        };
        for record in records {
            calls.push(*record, &mut add);
        }
        calls.finish(&mut add);
        made
    }

    #[test]
    fn steps_that_overlap_have_the_calls_of_their_own_tasks() {
        let made = calls(&[
            record(0, 10, Kind::Mark, 4, 0),
            record(1, 11, Kind::Mark, 5, 0),
            record(2, 11, Kind::FlushTlbMm, 0, 0),
            record(3, 10, Kind::FlushTlbMm, 0, 0),
            record(4, 11, Kind::Notify, 0, 1),
            record(5, 12, Kind::FlushTlbMm, 0, 0),
            record(6, 10, Kind::Mark, 5, 1),
            record(7, 11, Kind::FlushTlbMm, 0, 0),
        ]);
        let mut steps: Vec<_> = made
            .iter()
            .map(|call| (call.record.seq, call.step))
            .collect();
        steps.sort_unstable();
        // What a task does that has no step of its own is told of the first.
        assert_eq!(steps, [(2, Some(5)), (3, Some(4)), (5, Some(4)), (7, None)]);
        let notified = made.iter().find(|call| call.record.seq == 2);
        assert_eq!(notified.map(|call| call.effects.len()), Some(1));
    }

    #[test]
    fn a_call_in_which_its_mm_is_released_is_known() {
        let released = |mm: u64| {
            let release = Record {
                mm,
                ..record(1, 11, Kind::Release, 0, 0)
            };
            let made = calls(&[record(0, 10, Kind::FlushTlbMm, 0, 0), release]);
            made[0].released
        };
        assert!(released(1));
        assert!(!released(2));
    }
}
