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
    step: Option<usize>,
}

impl Calls {
    /// Takes the next record, gives what has ended by it.
    pub fn push(&mut self, record: Record, out: &mut dyn FnMut(Traced)) {
        let first = !self.tasks.contains_key(&task(&record));
        let open = self.tasks.entry(task(&record)).or_default();
        if matches!(record.kind, Kind::Notify | Kind::SbiRfence) {
            match open {
                Some(call) => call.effects.push(record),
                None => out(Traced::Orphan {
                    record,
                    step: self.step,
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
            Kind::Mark => self.step = (record.end == 0).then_some(record.start as usize),
            Kind::RangeStart | Kind::RangeEnd | Kind::Release => out(Traced::Context {
                record,
                step: self.step,
            }),
            _ => {
                *open = Some(TracedCall {
                    record,
                    step: self.step,
                    effects: Vec::new(),
                    cut: false,
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
