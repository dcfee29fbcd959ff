// SPDX-License-Identifier: GPL-2.0-only
//! What a secondary MMU could reach while programs run: fed from the trace as it comes, and what
//! is wrong grouped by its cause.
//!
//! `freed`, and `walk` of a table that goes back, are decided where that happens. The others are
//! decided where a look at page tables ends: by then all that was seen to be gone has been notified
//! of, but by whom [`Look::judged`] names.

use crate::callers::{Caller, Callers};
use crate::checks::documented::page_of_observed;
use crate::device::{add, bytes};
use protocol::record::{F_ATTACHED, F_BEFORE, F_FLUSHING, F_RUNNING, Kind as RecordKind, Record};
use reference_model::Range;
use secondary_mmu::{Kept, Kind, Near, PageTables, Part, Reading, SecondaryMmu, Verdict};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::PathBuf;

const PAGE_SHIFT: u32 = operations::PAGE_SIZE.trailing_zeros();
/// So many ranges that something was about to be taken from are remembered of each mm, and so many
/// notifications.
const REMEMBERED: usize = 64;
/// So many causes are kept apart. What is wrong beyond is counted only.
const CAUSES: usize = 256;

/// The secondary MMU, and the looks at page tables that are under way.
#[derive(Debug)]
pub struct Device {
    /// Harts have it.
    svvptc: bool,
    mmu: SecondaryMmu,
    /// By the task that looks.
    looks: HashMap<i32, Look>,
    /// Of each mm.
    mms: HashMap<u64, Mm>,
    /// Nothing is loaded of these any more.
    released: HashSet<u64>,
    /// What was told as stale for those that keep pieces, the newest last: mm, pages, cause.
    stale: VecDeque<(u64, std::ops::Range<u64>, u64)>,
    /// Who called the function of tlbflush.c that a task entered last: its chain.
    entered: HashMap<i32, u64>,
    faults: BTreeMap<Cause, Fault>,
    counts: Counts,
}

/// How often page tables were looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Looks at a part of an mm.
    pub looks: u64,
    /// Those at whose end it was decided what was wrong.
    pub judged: u64,
    /// Leaf entries that were loaded, each as often as it was.
    pub loaded: u64,
    /// What is wrong for causes beyond those that are kept apart.
    pub others: u64,
}

/// What is known of an mm.
#[derive(Debug, Default)]
struct Mm {
    /// Ranges that something is being taken from: begun, and not ended.
    open: u32,
    /// The last of them, the newest last, and the record by which each ended.
    begun: VecDeque<(Record, Option<u64>)>,
    /// The last notifications, the newest last: the record, and who called for it.
    notified: VecDeque<(u64, u64)>,
}

/// A look at a part of an mm.
#[derive(Debug)]
struct Look {
    mm: u64,
    begun: u64,
    seen: PageTables,
    /// What was notified meanwhile: what was seen there may be over.
    apart: Vec<std::ops::Range<u64>>,
}

/// What faults have in common that are one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cause {
    kind: Kind,
    reading: Reading,
    /// The number of the chain of who freed it, or was about to take something there.
    chain: u64,
    /// Of what goes back, who had made it wrong: the chain of the cause by which it was stale
    /// before, or of the notification by which a table was to be forgotten.
    follows: Option<u64>,
}

/// What a secondary MMU could reach and must not, for one cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// How often.
    pub times: u64,
    /// How many pages.
    pub pages: u64,
    /// In which way that is wrong.
    pub kind: Kind,
    /// For which devices.
    pub reading: Reading,
    /// In which mm.
    pub mm: u64,
    /// Which addresses, of the first.
    pub range: Range,
    /// The frame, or the table's.
    pub frame: u64,
    /// What was kept.
    pub kept: Kept,
    /// The record by which it was loaded.
    pub since: u64,
    /// The record by which it is wrong.
    pub seq: u64,
    /// The record of whoever freed it, or was about to take something there, if somebody was.
    pub by: Option<Record>,
    /// The last notification that came near.
    pub near: Option<Near>,
    /// The name of that process.
    pub process: Option<String>,
    /// Who called.
    pub callers: Vec<Caller>,
    /// The page that documents it, if one does.
    pub page: Option<PathBuf>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reachable {
    /// Counts.
    pub counts: Counts,
    /// What could be reached, by cause, the worst first.
    pub faults: Vec<Fault>,
}

impl Device {
    /// Nothing is held yet. What pages document is known by whether harts have Svvptc.
    pub fn new(svvptc: bool) -> Device {
        Device {
            svvptc,
            mmu: SecondaryMmu::unmetered(),
            looks: HashMap::new(),
            mms: HashMap::new(),
            released: HashSet::new(),
            stale: VecDeque::new(),
            entered: HashMap::new(),
            faults: BTreeMap::new(),
            counts: Counts::default(),
        }
    }

    /// Takes the next record.
    pub fn push(&mut self, record: &Record) {
        self.mmu
            .begin(usize::try_from(record.seq).unwrap_or(usize::MAX));
        match record.kind {
            kind if is_entry(kind) => {
                self.entered.insert(record.pid, record.chain);
            }
            RecordKind::Notify => self.notified(record),
            RecordKind::RangeStart => self.begun(record),
            RecordKind::RangeEnd => self.mms.entry(record.mm).or_default().ended(record),
            RecordKind::Release => self.release(record.mm),
            RecordKind::Freed => {
                let (first, last) = (record.start >> PAGE_SHIFT, record.end >> PAGE_SHIFT);
                self.mmu.freed(first, last.saturating_sub(first));
                self.sort_out(Some(record));
            }
            RecordKind::Tables if record.flags & F_RUNNING != 0 => match record.arg {
                0 => self.look(record),
                _ => self.looked(record),
            },
            RecordKind::Table | RecordKind::Leaves if record.flags & F_BEFORE != 0 => {
                self.seen(record);
            }
            _ => {}
        }
    }

    fn notified(&mut self, record: &Record) {
        let (mm, start, end) = (record.mm, record.start, record.end);
        self.mmu.notify(mm, start, end);
        let chain = self.entered.get(&record.pid).copied().unwrap_or(0);
        remember(
            &mut self.mms.entry(mm).or_default().notified,
            (record.seq, chain),
        );
        let pages = start >> PAGE_SHIFT..end.div_ceil(1 << PAGE_SHIFT);
        for look in self.looks.values_mut().filter(|look| look.mm == mm) {
            look.apart.push(pages.clone());
        }
    }

    fn begun(&mut self, record: &Record) {
        let mm = self.mms.entry(record.mm).or_default();
        mm.open += 1;
        remember(&mut mm.begun, (*record, None));
    }

    fn release(&mut self, mm: u64) {
        self.mmu.release(mm);
        self.mms.remove(&mm);
        self.released.insert(mm);
    }

    fn look(&mut self, record: &Record) {
        let look = Look {
            mm: record.mm,
            begun: record.seq,
            seen: PageTables::default(),
            apart: Vec::new(),
        };
        self.looks.insert(record.pid, look);
    }

    /// An entry was seen under its table's lock. It may be loaded.
    fn seen(&mut self, record: &Record) {
        // Of an mm that is released nothing is notified, be it that another is just about to take
        // something of it, as process_mrelease() does.
        if record.flags & F_ATTACHED == 0 || self.released.contains(&record.mm) {
            return;
        }
        let mut seen = PageTables::default();
        add(&mut seen, record);
        self.counts.loaded += seen.leaves.len() as u64;
        self.mmu.loaded(record.mm, &seen);
        let look = self.looks.get_mut(&record.pid);
        if let Some(look) = look.filter(|look| look.mm == record.mm) {
            look.seen.leaves.append(&mut seen.leaves);
            look.seen.tables.append(&mut seen.tables);
        }
    }

    fn looked(&mut self, record: &Record) {
        let Some(look) = self.looks.remove(&record.pid) else {
            return;
        };
        self.counts.looks += 1;
        let open = self.mms.get(&look.mm).is_some_and(|mm| mm.open > 0);
        let flushing = record.flags & F_FLUSHING != 0;
        if look.mm != record.mm || self.released.contains(&look.mm) || open || flushing {
            return;
        }
        self.counts.judged += 1;
        let Look { mm, seen, .. } = &look;
        self.mmu.compared(*mm, seen, &look.part(record));
        self.sort_out(None);
    }

    /// What was found, to its cause.
    fn sort_out(&mut self, freed: Option<&Record>) {
        for verdict in self.mmu.take_verdicts() {
            let by = freed.copied().or_else(|| self.taken_by(&verdict));
            let cause = Cause {
                kind: verdict.kind,
                reading: verdict.reading,
                chain: by.map_or(0, |record| record.chain),
                follows: self.follows(&verdict),
            };
            self.note_stale(&verdict, cause.chain);
            let pages = verdict.pages.end - verdict.pages.start;
            if let Some(known) = self.faults.get_mut(&cause) {
                known.times += 1;
                known.pages += pages;
            } else if self.faults.len() < CAUSES {
                self.faults.insert(cause, Fault::of(verdict, by));
            } else {
                self.counts.others += 1;
            }
        }
    }

    fn note_stale(&mut self, verdict: &Verdict, chain: u64) {
        if (verdict.kind, verdict.reading) != (Kind::Stale, Reading::ByPiece) {
            return;
        }
        if self.stale.len() == CAUSES {
            self.stale.pop_front();
        }
        self.stale
            .push_back((verdict.mm, verdict.pages.clone(), chain));
    }

    /// Who had made wrong what goes back.
    fn follows(&self, verdict: &Verdict) -> Option<u64> {
        match (verdict.kind, verdict.reading) {
            (Kind::Freed, Reading::ByPiece) => self.became_stale(verdict),
            (Kind::Walk, _) => self.told(verdict),
            _ => None,
        }
    }

    /// By whom the last notification came near the pages of a table.
    fn told(&self, verdict: &Verdict) -> Option<u64> {
        let near = verdict.near?.step as u64;
        let mut notified = self.mms.get(&verdict.mm)?.notified.iter();
        Some(notified.find(|(seq, _)| *seq == near)?.1)
    }

    /// By what the same pages had become stale before they go back.
    fn became_stale(&self, verdict: &Verdict) -> Option<u64> {
        let mut before = self.stale.iter().rev();
        let (_, _, chain) = before.find(|(mm, pages, _)| {
            *mm == verdict.mm
                && pages.start <= verdict.pages.start
                && verdict.pages.end <= pages.end
        })?;
        Some(*chain)
    }

    /// Who was about to take something there last, since it was loaded.
    fn taken_by(&self, verdict: &Verdict) -> Option<Record> {
        let range = bytes(verdict.pages.clone());
        let since = verdict.since as u64;
        let touches = |(record, ended): &&(Record, Option<u64>)| {
            let after = ended.is_none_or(|ended| ended > since);
            record.start < range.end && range.start < record.end && after
        };
        let mm = self.mms.get(&verdict.mm)?;
        let taken = mm.begun.iter().rev().find(touches)?;
        Some(taken.0)
    }

    /// The trace has ended.
    pub fn finish(self, callers: &Callers, names: &HashMap<i32, String>) -> Reachable {
        let mut faults = Vec::new();
        for (cause, mut fault) in self.faults {
            if let Some(by) = &fault.by {
                fault.callers = callers.chain(by.chain);
                fault.process = names.get(&by.tgid).cloned();
            }
            let of = (fault.kind, fault.reading);
            let page = |of, callers: &[Caller]| page_of_observed(self.svvptc, of, callers);
            fault.page = page(of, &fault.callers).or_else(|| {
                let before = callers.chain(cause.follows?);
                let kind = match fault.kind {
                    Kind::Freed => Kind::Stale,
                    kind => kind,
                };
                page((kind, fault.reading), &before)
            });
            faults.push(fault);
        }
        faults.sort_by_key(|fault| std::cmp::Reverse((fault.reading, fault.kind, fault.times)));
        Reachable {
            counts: self.counts,
            faults,
        }
    }
}

/// Of so many things the oldest is forgotten.
fn remember<T>(last: &mut VecDeque<T>, new: T) {
    if last.len() == REMEMBERED {
        last.pop_front();
    }
    last.push_back(new);
}

/// A function of tlbflush.c was entered.
fn is_entry(kind: RecordKind) -> bool {
    (RecordKind::FlushTlbAll as u16..=RecordKind::TlbBatchedPending as u16).contains(&(kind as u16))
}

impl Mm {
    fn ended(&mut self, end: &Record) {
        self.open = self.open.saturating_sub(1);
        let of = |record: &Record| (record.pid, record.start, record.end);
        let is_it =
            |(record, ended): &&mut (Record, Option<u64>)| ended.is_none() && of(record) == of(end);
        if let Some((_, ended)) = self.begun.iter_mut().rev().find(is_it) {
            *ended = Some(end.seq);
        }
    }
}

impl Look {
    /// What may be compared, now that it has ended.
    ///
    /// Whoever takes something either notifies of it before the lock of its table is let go, or
    /// holds the mm's lock for writing until that is done, or is between the start and the end of
    /// a range, or has a flush due (`mm_tlb_flush_pending()`): what was seen to be gone, with the
    /// mm's lock held and none of the latter two at the end, has been notified of before it. What
    /// was notified meanwhile may have been loaded after it was seen otherwise.
    fn part(&self, end: &Record) -> Part {
        Part {
            pages: end.start >> PAGE_SHIFT..end.end >> PAGE_SHIFT,
            apart: self.apart.clone(),
            before: usize::try_from(self.begun).unwrap_or(usize::MAX),
            // Only where there are areas are tables looked at.
            tables: false,
        }
    }
}

impl Fault {
    fn of(verdict: Verdict, by: Option<Record>) -> Fault {
        Fault {
            times: 1,
            pages: verdict.pages.end - verdict.pages.start,
            kind: verdict.kind,
            reading: verdict.reading,
            mm: verdict.mm,
            range: bytes(verdict.pages),
            frame: verdict.frame,
            kept: verdict.kept,
            since: verdict.since as u64,
            seq: verdict.step as u64,
            by,
            near: verdict.near,
            process: None,
            callers: Vec::new(),
            page: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::entry;
    use secondary_mmu::Rights;

    const MM: u64 = 3;
    const LOOKER: i32 = 40;

    fn record(seq: u64, kind: RecordKind, (first, last): (u64, u64)) -> Record {
        Record {
            seq,
            mm: MM,
            start: first << PAGE_SHIFT,
            end: last << PAGE_SHIFT,
            arg: 0,
            cpumask: 0,
            asid: 0,
            pid: 7,
            tgid: 7,
            kind,
            hart: 0,
            flags: 0,
            chain: 0,
        }
    }

    /// A leaf entry of each page, for reading and writing.
    fn leaves(seq: u64, pages: (u64, u64), frame: u64) -> Record {
        Record {
            arg: frame << 10 | entry::U | entry::R | entry::W | 1,
            cpumask: operations::PAGE_SIZE,
            flags: F_BEFORE | F_ATTACHED,
            ..record(seq, RecordKind::Leaves, pages)
        }
    }

    fn bound(seq: u64, pages: (u64, u64), end: u64, flags: u32) -> Record {
        Record {
            arg: end,
            pid: LOOKER,
            flags: F_RUNNING | flags,
            ..record(seq, RecordKind::Tables, pages)
        }
    }

    fn by_looker(record: Record) -> Record {
        Record {
            pid: LOOKER,
            ..record
        }
    }

    /// What is wrong by the end of a trace: kind, pages and chain of who did it.
    fn wrong(records: &[Record]) -> Vec<(Kind, (u64, u64), u64)> {
        let mut device = Device::new(true);
        for record in records {
            device.push(record);
        }
        let reachable = device.finish(&Callers::default(), &HashMap::new());
        let told = |fault: &Fault| {
            let pages = (
                fault.range.start >> PAGE_SHIFT,
                fault.range.end >> PAGE_SHIFT,
            );
            (fault.kind, pages, fault.by.map_or(0, |by| by.chain))
        };
        reachable.faults.iter().map(told).collect()
    }

    /// Pages 4 to 7 are loaded as something is about to be taken of them.
    fn taken() -> [Record; 2] {
        let begun = Record {
            chain: 99,
            ..record(1, RecordKind::RangeStart, (4, 8))
        };
        [begun, leaves(2, (4, 8), 0x100)]
    }

    fn ended(seq: u64) -> Record {
        record(seq, RecordKind::RangeEnd, (4, 8))
    }

    #[test]
    fn a_frame_that_goes_back_before_the_notification_is_found_at_once() {
        let freed = |seq| Record {
            mm: 0,
            chain: 5,
            ..record(seq, RecordKind::Freed, (0x101, 0x103))
        };
        let notify = |seq| record(seq, RecordKind::Notify, (4, 8));
        let [begun, loaded] = taken();
        let late = [begun, loaded, freed(3), notify(4), ended(5)];
        assert_eq!(wrong(&late), [(Kind::Freed, (5, 7), 5)]);
        let right = [begun, loaded, notify(3), freed(4), ended(5)];
        assert_eq!(wrong(&right), []);
    }

    #[test]
    fn what_was_taken_without_a_word_is_found_by_the_look_after() {
        let [begun, loaded] = taken();
        let look = |flags| [bound(4, (0, 10), 0, 0), bound(5, (0, 10), 1, flags)];
        let [first, last] = look(0);
        let trace = [begun, loaded, ended(3), first, last];
        assert_eq!(wrong(&trace), [(Kind::Stale, (4, 8), 99)]);
        // Not where a flush is due, or the range has not ended, or all of it was notified.
        let [first, last] = look(F_FLUSHING);
        assert_eq!(wrong(&[begun, loaded, ended(3), first, last]), []);
        let [first, last] = look(0);
        assert_eq!(wrong(&[begun, loaded, first, last]), []);
        let notify = record(3, RecordKind::Notify, (4, 8));
        assert_eq!(wrong(&[begun, loaded, notify, ended(3), first, last]), []);
    }

    #[test]
    fn a_look_at_a_part_says_nothing_of_the_rest() {
        let [begun, loaded] = taken();
        let trace = [
            begun,
            loaded,
            ended(3),
            bound(4, (0, 6), 0, 0),
            by_looker(leaves(5, (4, 5), 0x100)),
            bound(6, (0, 6), 1, 0),
        ];
        assert_eq!(wrong(&trace), [(Kind::Stale, (5, 6), 99)]);
    }

    #[test]
    fn what_comes_and_goes_while_it_is_looked_is_not_compared() {
        // Page 4 was not there when it was looked at, and is loaded by another before the end.
        let trace = [
            bound(1, (0, 10), 0, 0),
            leaves(2, (4, 5), 0x100),
            bound(3, (0, 10), 1, 0),
        ];
        assert_eq!(wrong(&trace), []);
        // Page 4 was notified of meanwhile and is another one by now, which was loaded before.
        let trace = [
            leaves(1, (4, 5), 0x200),
            bound(2, (0, 10), 0, 0),
            by_looker(leaves(3, (4, 5), 0x100)),
            record(4, RecordKind::Notify, (4, 5)),
            bound(5, (0, 10), 1, 0),
        ];
        assert_eq!(wrong(&trace), []);
    }

    #[test]
    fn what_goes_back_is_known_by_what_had_become_stale() {
        let reading = Reading::ByPiece;
        let verdict = |kind, pages: std::ops::Range<u64>| Verdict {
            kind,
            reading,
            mm: MM,
            pages,
            frame: 1,
            kept: Kept::Table { pages: 1 },
            since: 1,
            step: 2,
            near: None,
        };
        let mut device = Device::new(true);
        device.note_stale(&verdict(Kind::Stale, 1..512), 7);
        assert_eq!(device.follows(&verdict(Kind::Freed, 4..9)), Some(7));
        assert_eq!(device.follows(&verdict(Kind::Freed, 500..513)), None);
        assert_eq!(device.follows(&verdict(Kind::Right, 4..9)), None);
    }

    #[test]
    fn a_table_that_goes_back_is_known_by_who_notified_last_near_it() {
        let table = Record {
            cpumask: 512 * operations::PAGE_SIZE,
            flags: F_BEFORE | F_ATTACHED,
            arg: 0x50 << 10 | 1,
            ..record(1, RecordKind::Table, (0, 512))
        };
        let entry = |seq, pid, chain| Record {
            pid,
            chain,
            ..record(seq, RecordKind::FlushTlbMmRange, (0, 512))
        };
        let notify = |seq, pages| record(seq, RecordKind::Notify, pages);
        let freed = Record {
            chain: 5,
            ..record(9, RecordKind::Freed, (0x50, 0x51))
        };
        let trace = [
            table,
            entry(2, 7, 21),
            entry(3, 8, 22),
            notify(4, (0, 512)),
            entry(5, 7, 23),
            notify(6, (600, 601)),
            freed,
        ];
        let mut device = Device::new(true);
        trace.iter().for_each(|record| device.push(record));
        let causes: Vec<_> = device.faults.keys().collect();
        let [cause] = causes[..] else {
            panic!("{causes:?}");
        };
        assert_eq!(
            (cause.kind, cause.chain, cause.follows),
            (Kind::Walk, 5, Some(21))
        );
    }

    #[test]
    fn nothing_is_loaded_of_who_is_gone() {
        let trace = [
            record(1, RecordKind::Release, (0, 0)),
            leaves(2, (4, 8), 0x100),
            record(3, RecordKind::Freed, (0x100, 0x104)),
        ];
        assert_eq!(wrong(&trace), []);
        // The module calls it by another number then.
        let foreign = |record: Record| Record {
            mm: 1 << 63,
            flags: record.flags & !F_ATTACHED,
            ..record
        };
        let trace = [trace[0], foreign(trace[1]), trace[2]];
        assert_eq!(wrong(&trace), []);
    }

    #[test]
    fn one_cause_is_told_once() {
        let [begun, loaded] = taken();
        let mut device = Device::new(true);
        let again = leaves(6, (12, 13), 0x300);
        let freed = |seq, frames| record(seq, RecordKind::Freed, frames);
        let trace = [
            begun,
            loaded,
            freed(3, (0x100, 0x101)),
            again,
            freed(7, (0x300, 0x301)),
        ];
        trace.iter().for_each(|record| device.push(record));
        let reachable = device.finish(&Callers::default(), &HashMap::new());
        let [fault] = &reachable.faults[..] else {
            panic!("{:?}", reachable.faults);
        };
        assert_eq!(
            (fault.times, fault.pages, fault.since, fault.seq),
            (2, 2, 2, 3)
        );
        let rights = Rights::R.and(Rights::W).and(Rights::U);
        let kept = Kept::Leaf {
            rights,
            dirty: false,
            of: 1,
        };
        assert_eq!(fault.kept, kept);
        assert_eq!(reachable.counts.loaded, 5);
    }
}
