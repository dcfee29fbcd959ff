// SPDX-License-Identifier: GPL-2.0-only
//! What is counted of a trace.

use crate::trace::{Traced, TracedCall, effect, entry};
use operations::PAGE_SIZE;
use protocol::record::Kind;
use reference_model::{Effect, Entry, Range};
use std::collections::BTreeMap;

/// Counts over a trace. They take as much room as there are functions and chains of callers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Entries into `tlbflush.c`, by function.
    pub entries: BTreeMap<&'static str, u64>,
    /// Entries, by function and the number of the chain of callers.
    pub chains: BTreeMap<(&'static str, u64), u64>,
    /// Entries with a range, by the number of its pages, rounded down to a power of two.
    pub sizes: BTreeMap<u64, u64>,
    /// Notifications of followed mms.
    pub notified: u64,
    /// Those of all of an mm.
    pub notified_whole: u64,
    /// Those of all of an mm, by function and the number of the chain of callers.
    pub whole_chains: BTreeMap<(&'static str, u64), u64>,
    /// Pages that were notified of by entries with a range, and not asked for: by how much ranges
    /// were widened. Of all of an mm, none is counted.
    pub widened: u64,
    /// Remote fences.
    pub fences: u64,
}

impl Tally {
    /// Counts what has ended.
    pub fn push(&mut self, traced: &Traced) {
        if let Traced::Call(call) = traced {
            self.call(call);
        }
    }

    fn call(&mut self, call: &TracedCall) {
        let record = &call.record;
        let by = (record.kind.name(), record.chain);
        *self.entries.entry(by.0).or_default() += 1;
        *self.chains.entry(by).or_default() += 1;
        let asked = entry(record).and_then(range);
        if let Some(asked) = asked {
            let pages = pages(asked).max(1);
            *self.sizes.entry(1 << pages.ilog2()).or_default() += 1;
        }
        for effect in call.effects.iter().filter_map(|of| effect(of, record.mm)) {
            match effect {
                Effect::Notify(_, told) => self.told(by, asked, told),
                Effect::Fence(_) => self.fences += 1,
            }
        }
    }

    fn told(&mut self, by: (&'static str, u64), asked: Option<Range>, told: Range) {
        self.notified += 1;
        if told.end == u64::MAX {
            self.notified_whole += 1;
            *self.whole_chains.entry(by).or_default() += 1;
        } else if let Some(asked) = asked {
            self.widened += pages(told).saturating_sub(pages(asked));
        }
    }

    /// Entries of all functions.
    pub fn all(&self) -> u64 {
        self.entries.values().sum()
    }
}

/// The range that an entry was given, of a process's memory.
fn range(entry: Entry) -> Option<Range> {
    let (start, end) = match entry {
        Entry::FlushTlbMmRange { start, end, .. }
        | Entry::FlushTlbRange { start, end, .. }
        | Entry::FlushPmdTlbRange { start, end }
        | Entry::FlushPudTlbRange { start, end }
        | Entry::ArchTlbbatchAddPendingRange { start, end } => (start, end),
        Entry::FlushTlbPage { addr: start } | Entry::ArchTlbbatchAddPending { uaddr: start } => {
            (start, start + PAGE_SIZE)
        }
        _ => return None,
    };
    Some(Range { start, end })
}

fn pages(range: Range) -> u64 {
    range.end.saturating_sub(range.start).div_ceil(PAGE_SIZE)
}

/// Kinds of records that are no calls.
pub fn is_context(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Freed | Kind::Tables | Kind::Table | Kind::Leaves | Kind::Held | Kind::Task
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::record::{F_ATTACHED, Record};

    pub fn record(kind: Kind, start: u64, end: u64) -> Record {
        Record {
            seq: 0,
            mm: 1,
            start,
            end,
            arg: PAGE_SIZE,
            cpumask: 1,
            asid: 1,
            pid: 2,
            tgid: 2,
            kind,
            hart: 0,
            flags: F_ATTACHED,
            chain: 7,
        }
    }

    fn call(effects: Vec<Record>) -> Traced {
        Traced::Call(TracedCall {
            record: record(Kind::FlushTlbMmRange, 0x1000, 0x6000),
            step: None,
            effects,
            cut: false,
            released: false,
        })
    }

    #[test]
    fn ranges_that_are_widened_are_counted_in_pages() {
        let mut tally = Tally::default();
        tally.push(&call(vec![record(Kind::Notify, 0, 0x8000)]));
        tally.push(&call(vec![record(Kind::Notify, 0, u64::MAX)]));
        assert_eq!((tally.widened, tally.notified_whole), (3, 1));
        assert_eq!((tally.notified, tally.all()), (2, 2));
        assert_eq!(tally.sizes, BTreeMap::from([(4, 2)]));
        let chain = ("flush_tlb_mm_range", 7);
        assert_eq!(tally.chains, BTreeMap::from([(chain, 2)]));
        assert_eq!(tally.whole_chains, BTreeMap::from([(chain, 1)]));
    }
}
