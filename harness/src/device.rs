// SPDX-License-Identifier: GPL-2.0-only
//! From records to facts for the secondary MMU, and from its verdicts to the scenario's words.

use crate::iommu::{Looks, Seen, Setting};
use operations::{ARENA_PAGES, MmId, address};
use protocol::message::Report;
use protocol::record::{F_BEFORE, F_SAME_FRAME, Kind as RecordKind, Record};
use reference_model::Range;
use secondary_mmu::{
    Kept, Kind, Leaf, Near, PageTables, Reading, Rights, SecondaryMmu, Spent, Table, Verdict,
    WHOLE_MM,
};

/// Bits of a riscv64 page-table entry (arch/riscv/include/asm/pgtable-bits.h).
pub(crate) mod entry {
    pub const R: u64 = 1 << 1;
    pub const W: u64 = 1 << 2;
    pub const X: u64 = 1 << 3;
    pub const U: u64 = 1 << 4;
    pub const D: u64 = 1 << 7;

    /// The frame that an entry refers to.
    pub fn frame(entry: u64) -> u64 {
        entry >> 10 & ((1 << 44) - 1)
    }
}

const PAGE_SHIFT: u32 = operations::PAGE_SIZE.trailing_zeros();

/// Something that a device could still reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// In which way that is wrong.
    pub kind: Kind,
    /// For which devices.
    pub reading: Reading,
    /// In which mm.
    pub mm: MmId,
    /// Which addresses.
    pub range: Range,
    /// The first frame, or the table's.
    pub frame: u64,
    /// What was kept.
    pub kept: Kept,
    /// Since which step, from 0.
    pub since: usize,
    /// In which step it became wrong.
    pub step: usize,
    /// The last notification of the mm that came near.
    pub near: Option<Near>,
}

impl Reached {
    /// What a verdict says of an mm of the scenario.
    pub fn of(mm: MmId, verdict: Verdict) -> Reached {
        Reached {
            kind: verdict.kind,
            reading: verdict.reading,
            mm,
            range: bytes(verdict.pages),
            frame: verdict.frame,
            kept: verdict.kept,
            since: verdict.since,
            step: verdict.step,
            near: verdict.near,
        }
    }
}

/// Pages that a device has translations of, alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// In which mm.
    pub mm: MmId,
    /// Which addresses.
    pub range: Range,
    /// What it may do there.
    pub rights: Rights,
    /// It has written there, as far as the entry's D bit goes.
    pub dirty: bool,
    /// Base pages of each leaf.
    pub of: u64,
}

impl Held {
    /// None for an entry that refers to a table.
    pub fn of(mm: MmId, pages: std::ops::Range<u64>, kept: Kept) -> Option<Held> {
        let Kept::Leaf { rights, dirty, of } = kept else {
            return None;
        };
        Some(Held {
            mm,
            range: bytes(pages),
            rights,
            dirty,
            of,
        })
    }
}

/// What a device holds and reaches by the model's page tables and notifications.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreseen {
    /// What it holds after each step, in order.
    pub held: Vec<Vec<Held>>,
    /// What it could reach and must not.
    pub reached: Vec<Reached>,
}

/// From numbers of pages to addresses.
pub(crate) fn bytes(pages: std::ops::Range<u64>) -> Range {
    Range {
        start: pages.start << PAGE_SHIFT,
        end: pages.end << PAGE_SHIFT,
    }
}

/// What came of looking at what a device could reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// What it could reach and must not.
    pub reached: Vec<Reached>,
    /// What page tables held after steps, in order.
    pub walked: Vec<Walked>,
    /// What steps notified of the scenario's mms, and how much of it had nothing to lose.
    pub spent: Vec<Spent>,
}

/// What was notified, and how much of it had nothing to lose ([`Spent`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notified {
    /// Pages that ranges named.
    pub pages: u64,
    /// Those of them that had nothing to lose.
    pub needless: u64,
    /// How often the whole mm was notified.
    pub whole: u64,
    /// How often of these nothing was lost.
    pub whole_needless: u64,
}

impl Notified {
    /// Both together.
    pub fn and(self, other: Notified) -> Notified {
        Notified {
            pages: self.pages + other.pages,
            needless: self.needless + other.needless,
            whole: self.whole + other.whole,
            whole_needless: self.whole_needless + other.whole_needless,
        }
    }
}

impl Device {
    /// What was notified in a step, of whichever mm.
    pub fn notified_in(&self, step: usize) -> Notified {
        let of_step = self.spent.iter().filter(|spent| spent.step == step);
        of_step
            .map(Notified::of)
            .fold(Notified::default(), Notified::and)
    }

    /// In all steps.
    pub fn notified(&self) -> Notified {
        let all = self.spent.iter().map(Notified::of);
        all.fold(Notified::default(), Notified::and)
    }
}

impl Notified {
    fn of(spent: &Spent) -> Notified {
        Notified {
            pages: spent.pages,
            needless: spent.needless,
            whole: spent.whole,
            whole_needless: spent.whole_needless,
        }
    }
}

/// What the page tables of an mm held after a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walked {
    /// The step, from 0.
    pub step: usize,
    /// The mm.
    pub mm: MmId,
    /// What they translate of the arena.
    pub tables: PageTables,
}

/// The secondary MMU, and what of a walk has come so far.
#[derive(Debug, Default)]
pub struct Watch {
    mmu: SecondaryMmu,
    walk: PageTables,
    /// Of which mm it is, until it has ended.
    walking: Option<u64>,
    walks: usize,
    step: usize,
    walked: Vec<(usize, u64, PageTables)>,
    iommu: Looks,
}

impl Watch {
    /// Takes the next record. Those that are facts for it alone are no part of any call:
    /// whether it was one.
    pub fn push(&mut self, record: &Record) -> bool {
        let (mm, start, end) = (record.mm, record.start, record.end);
        match record.kind {
            RecordKind::Mark if end == 0 => {
                self.iommu.end();
                self.step = start as usize;
                self.mmu.begin(self.step);
                self.iommu.begin(self.step);
            }
            // Of steps that were begun together the last one ends them all.
            RecordKind::Mark => self.step = start as usize,
            RecordKind::Notify => {
                self.iommu.notified(mm, start, end);
                if let Some((start, end)) = of_arena(start, end) {
                    self.mmu.notify(mm, start, end);
                    self.taken_meanwhile(mm, (start, end));
                }
            }
            RecordKind::Release => self.mmu.release(mm),
            RecordKind::Freed => {
                let (first, last) = (start >> PAGE_SHIFT, end >> PAGE_SHIFT);
                self.mmu.freed(first, last.saturating_sub(first));
                return true;
            }
            RecordKind::Tables if record.arg == 0 => {
                self.walk = PageTables::default();
                self.walking = Some(mm);
                return true;
            }
            RecordKind::Tables => {
                self.walks += 1;
                let walk = std::mem::take(&mut self.walk);
                self.walking = None;
                self.mmu.walked(mm, &walk);
                self.iommu.walked(mm, &walk);
                self.walked.push((self.step, mm, walk));
                return true;
            }
            RecordKind::Held | RecordKind::IommuFault | RecordKind::IommuError => {
                self.iommu.push(record);
                return true;
            }
            RecordKind::Table | RecordKind::Leaves => {
                match record.flags & F_BEFORE {
                    0 => add(&mut self.walk, record),
                    _ => {
                        let mut seen = PageTables::default();
                        add(&mut seen, record);
                        self.mmu.loaded(mm, &seen);
                    }
                }
                return true;
            }
            _ => {}
        }
        false
    }

    /// A step has ended, and others, as kswapd, are still at work: what was seen by the walk that
    /// is under way, and is notified of before that ends, nobody can load at its end.
    fn taken_meanwhile(&mut self, mm: u64, (start, end): (u64, u64)) {
        if self.walking != Some(mm) {
            return;
        }
        if (start, end) == WHOLE_MM {
            self.walk = PageTables::default();
        }
        let (first, last) = (start >> PAGE_SHIFT, end.div_ceil(1 << PAGE_SHIFT));
        let apart = |leaf: &Leaf| leaf.page + leaf.pages <= first || last <= leaf.page;
        self.walk.leaves.retain(apart);
    }

    /// What came of the IOMMU.
    ///
    /// # Errors
    /// It could not be driven: what went wrong first.
    pub fn iommu(&mut self, report: &Report, setting: &Setting) -> Result<Seen, String> {
        std::mem::take(&mut self.iommu).finish(report, setting)
    }

    /// What came of it; none where page tables were never looked at.
    pub fn finish(self, report: &Report) -> Option<Device> {
        if self.walks == 0 {
            return None;
        }
        let ours = |mm: &u64| report.mms.contains(mm);
        let spent = self.mmu.spent().iter().filter(|spent| ours(&spent.mm));
        let spent = spent.copied().collect();
        let verdicts = self.mmu.into_verdicts().into_iter();
        let reached = verdicts.filter_map(|verdict| {
            let mm = report.mms.iter().position(|mm| *mm == verdict.mm)?;
            Some(Reached::of(mm, verdict))
        });
        let walked = self.walked.into_iter().filter_map(|(step, mm, tables)| {
            let mm = report.mms.iter().position(|of| *of == mm)?;
            Some(Walked { step, mm, tables })
        });
        Some(Device {
            reached: reached.collect(),
            walked: walked.collect(),
            spent,
        })
    }
}

/// As much of a notified range as is about the arena. One that is empty or inverted there drops
/// nothing.
fn of_arena(start: u64, end: u64) -> Option<(u64, u64)> {
    let (first, last) = (address(0), address(ARENA_PAGES));
    if (start, end) == WHOLE_MM {
        return Some((start, end));
    }
    let (start, end) = (start.max(first), end.min(last));
    (start < end).then_some((start, end))
}

/// What a record tells of page tables.
pub(crate) fn add(tables: &mut PageTables, record: &Record) {
    match record.kind {
        RecordKind::Table => tables.tables.push(Table {
            page: record.start >> PAGE_SHIFT,
            pages: record.end.saturating_sub(record.start) >> PAGE_SHIFT,
            frame: entry::frame(record.arg),
        }),
        _ => tables.leaves.extend(leaves(record)),
    }
}

/// The leaves of a run.
fn leaves(record: &Record) -> impl Iterator<Item = Leaf> {
    let (size, first, pte) = (record.cpumask.max(1), record.start, record.arg);
    let (pages, frame) = (size >> PAGE_SHIFT, entry::frame(pte));
    let stride = match record.flags & F_SAME_FRAME {
        0 => pages,
        _ => 0,
    };
    let (rights, dirty) = rights_of(pte);
    let count = record.end.saturating_sub(first) / size;
    (0..count).map(move |number| Leaf {
        page: (first + number * size) >> PAGE_SHIFT,
        pages,
        frame: frame + number * stride,
        rights,
        dirty,
    })
}

/// What an entry allows, and its D bit.
pub fn rights_of(pte: u64) -> (Rights, bool) {
    let rights = [
        (entry::R, Rights::R),
        (entry::W, Rights::W),
        (entry::X, Rights::X),
        (entry::U, Rights::U),
    ];
    let rights = rights
        .into_iter()
        .filter(|(bit, _)| pte & bit != 0)
        .fold(Rights::default(), |all, (_, right)| all.and(right));
    (rights, pte & entry::D != 0)
}

/// What a model's page tables hold, as facts; all is for user mode. What is above leaves has
/// no frames in the model, and is left out.
pub fn of_model(tables: &reference_model::PageTables) -> PageTables {
    let rights = |leaf: &reference_model::Leaf| {
        let rights = [
            (leaf.read, Rights::R),
            (leaf.write, Rights::W),
            (leaf.exec, Rights::X),
        ];
        let rights = rights.into_iter().filter(|(has, _)| *has);
        rights.fold(Rights::U, |all, (_, right)| all.and(right))
    };
    let leaf = |leaf: &reference_model::Leaf| Leaf {
        page: leaf.addr >> PAGE_SHIFT,
        pages: leaf.pages,
        frame: leaf.frame,
        rights: rights(leaf),
        dirty: leaf.dirty,
    };
    PageTables {
        leaves: tables.leaves.iter().map(leaf).collect(),
        tables: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MM: u64 = 7;

    fn record(kind: RecordKind, start: u64, end: u64) -> Record {
        Record {
            seq: 0,
            mm: MM,
            start,
            end,
            arg: 0,
            cpumask: 0,
            asid: 0,
            pid: 1,
            tgid: 1,
            kind,
            hart: 0,
            flags: 0,
            chain: 0,
        }
    }

    /// A valid entry of that frame, for user mode, with these bits.
    fn pte(frame: u64, bits: u64) -> u64 {
        frame << 10 | entry::U | bits | 1
    }

    /// Leaf entries of the arena, in a step.
    fn before(first: u64, last: u64, entry: u64) -> Record {
        Record {
            arg: entry,
            cpumask: operations::PAGE_SIZE,
            flags: F_BEFORE,
            ..record(RecordKind::Leaves, address(first), address(last))
        }
    }

    /// A walk that finds pages of the arena from `first` on in these entries.
    fn walk(watch: &mut Watch, leaves: &[(u64, u64, u64, u32)]) {
        let bound = |end: u64| Record {
            arg: end,
            ..record(RecordKind::Tables, address(0), address(ARENA_PAGES))
        };
        assert!(watch.push(&bound(0)));
        for (first, last, entry, flags) in leaves {
            let leaves = Record {
                arg: *entry,
                cpumask: operations::PAGE_SIZE,
                flags: *flags,
                ..record(RecordKind::Leaves, address(*first), address(*last))
            };
            assert!(watch.push(&leaves));
        }
        assert!(watch.push(&bound(1)));
    }

    fn finish(watch: Watch) -> Device {
        let report = Report {
            mms: vec![3, MM],
            ..Report::default()
        };
        watch.finish(&report).expect("page tables were looked at")
    }

    /// Pages 4 to 6, writable and dirty, in frames from 0x100 on, and a step begins.
    fn three_pages() -> Watch {
        let mut watch = Watch::default();
        walk(
            &mut watch,
            &[(4, 7, pte(0x100, entry::R | entry::W | entry::D), 0)],
        );
        assert!(!watch.push(&record(RecordKind::Mark, 1, 0)));
        watch
    }

    #[test]
    fn what_is_taken_while_it_is_looked_is_not_loaded_then() {
        let mut watch = Watch::default();
        let entry = pte(0x100, entry::R | entry::W | entry::D);
        let bound = |arg: u64| Record {
            arg,
            ..record(RecordKind::Tables, address(0), address(ARENA_PAGES))
        };
        let leaves = Record {
            arg: entry,
            cpumask: operations::PAGE_SIZE,
            ..record(RecordKind::Leaves, address(4), address(7))
        };
        assert!(watch.push(&bound(0)) && watch.push(&leaves));
        assert!(!watch.push(&record(RecordKind::Notify, address(5), address(6))));
        assert!(watch.push(&record(RecordKind::Freed, 0x101 << 12, 0x102 << 12)));
        assert!(watch.push(&bound(1)));
        let device = finish(watch);
        assert_eq!(device.reached, []);
        let pages: Vec<u64> = device.walked[0]
            .tables
            .leaves
            .iter()
            .map(|leaf| leaf.page)
            .collect();
        assert_eq!(pages, [4, 6].map(|page| address(page) >> PAGE_SHIFT));
    }

    #[test]
    fn frames_that_go_back_before_the_notification_are_freed() {
        let mut watch = three_pages();
        assert!(watch.push(&record(RecordKind::Freed, 0x101 << 12, 0x103 << 12)));
        assert!(!watch.push(&record(RecordKind::Notify, address(4), address(7))));
        walk(&mut watch, &[]);
        let device = finish(watch);
        let [one] = &device.reached[..] else {
            panic!("{device:?}");
        };
        assert_eq!((one.kind, one.mm, one.step), (Kind::Freed, 1, 1));
        assert_eq!((one.range.start, one.range.end), (address(5), address(7)));
        assert_eq!(one.frame, 0x101);
        let notified = device.notified();
        assert_eq!((notified.pages, notified.needless), (3, 0));
    }

    #[test]
    fn entries_are_read_bit_by_bit() {
        let read_only = entry::R | entry::X | entry::D;
        let mut watch = three_pages();
        walk(&mut watch, &[(4, 7, pte(0x100, read_only), 0)]);
        let device = finish(watch);
        assert_eq!(device.reached[0].kind, Kind::Right, "{device:?}");

        let clean = entry::R | entry::W;
        let mut watch = three_pages();
        walk(&mut watch, &[(4, 7, pte(0x100, clean), 0)]);
        assert_eq!(finish(watch).reached[0].kind, Kind::Dirty);
    }

    #[test]
    fn of_a_run_with_one_frame_each_page_has_it() {
        let zero = pte(0x50, entry::R);
        let mut watch = Watch::default();
        walk(&mut watch, &[(0, 4, zero, F_SAME_FRAME)]);
        walk(
            &mut watch,
            &[(0, 1, zero, 0), (1, 2, zero, 0), (2, 4, zero, F_SAME_FRAME)],
        );
        assert_eq!(finish(watch).reached, []);
    }

    #[test]
    fn what_is_notified_outside_of_the_arena_is_no_business_of_it() {
        let mut watch = three_pages();
        watch.push(&record(RecordKind::Notify, 0x1000, 0x9000));
        walk(
            &mut watch,
            &[(4, 7, pte(0x100, entry::R | entry::W | entry::D), 0)],
        );
        let device = finish(watch);
        assert_eq!(device.notified(), Notified::default());
        assert_eq!(device.reached, []);
    }

    #[test]
    fn what_comes_and_goes_within_a_step_is_seen_where_it_was_loaded() {
        let (old, new) = (pte(0x200, entry::R), pte(0x201, entry::R));
        let frames = |loaded: bool, notified: bool| {
            let mut watch = three_pages();
            if loaded {
                assert!(watch.push(&before(9, 10, old)));
            }
            if notified {
                watch.push(&record(RecordKind::Notify, address(9), address(10)));
            }
            let dirty = pte(0x100, entry::R | entry::W | entry::D);
            walk(&mut watch, &[(4, 7, dirty, 0), (9, 10, new, 0)]);
            let reached = finish(watch).reached.into_iter();
            reached.map(|one| (one.kind, one.frame)).collect::<Vec<_>>()
        };
        assert_eq!(frames(true, false), [(Kind::Stale, 0x200)]);
        assert_eq!(frames(true, true), []);
        assert_eq!(frames(false, false), []);
    }

    #[test]
    fn without_a_walk_nothing_is_said() {
        assert_eq!(Watch::default().finish(&Report::default()), None);
    }
}
