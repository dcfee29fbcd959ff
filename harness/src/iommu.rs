// SPDX-License-Identifier: GPL-2.0-only
//! What a real IOMMU was seen to hold: from records to verdicts, by the same rules as the device
//! check's, of a cache that nobody here wrote.

use crate::device::{Reached, rights_of};
use operations::PAGE_SIZE;
use protocol::Policy;
use protocol::message::Report;
use protocol::record::{Kind as RecordKind, Record, failed};
use secondary_mmu::{Kept, Kind, Leaf, PageTables, Reading, Verdict, contradiction, merged};
use std::collections::{BTreeMap, HashMap};

/// With which IOMMU scenarios are run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// What notifications become.
    pub policy: Policy,
    /// QEMU's version.
    pub qemu: String,
}

/// What was seen of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which IOMMU it was.
    pub setting: Setting,
    /// What it held and must not hold.
    pub reached: Vec<Reached>,
    /// Pages that it was found to hold at the ends of steps.
    pub held: u64,
    /// Pages of leaves larger than a page among them.
    pub pieces: u64,
    /// After which step a page of an mm was last seen to be held so: by mm, page and kind.
    wrong: HashMap<(usize, u64, Kind), usize>,
}

impl Seen {
    /// Whether a page of an mm was still held so when it was looked after a step.
    pub fn still(&self, kind: Kind, mm: usize, page: u64, step: usize) -> bool {
        let last = self.wrong.get(&(mm, page, kind));
        last.is_some_and(|last| *last >= step)
    }
}

/// A page that it holds.
#[derive(Clone, Copy, Debug)]
struct Page {
    frame: u64,
    since: usize,
    /// Kinds in which it was named as wrong.
    named: u8,
}

/// What it holds of an mm.
#[derive(Debug, Default)]
struct OfMm {
    tables: PageTables,
    /// When it last loaded all that there was.
    loaded: usize,
    before: HashMap<u64, Page>,
    now: HashMap<u64, Page>,
    /// What was notified, in bytes, each with its step.
    notified: Vec<(usize, u64, u64)>,
}

impl OfMm {
    /// Whether an address of a leaf was notified after the step at whose end it was loaded.
    fn touched(&self, page: u64, leaf_pages: u64, since: usize) -> bool {
        let first = page & !(leaf_pages - 1);
        let (start, end) = (first * PAGE_SIZE, (first + leaf_pages) * PAGE_SIZE);
        let mut later = self.notified.iter().filter(|(step, ..)| *step > since);
        later.any(|(_, from, to)| *from < end && start < *to)
    }
}

/// Gathers it, record by record.
#[derive(Debug, Default)]
pub struct Looks {
    mms: BTreeMap<u64, OfMm>,
    step: usize,
    verdicts: Vec<Verdict>,
    wrong: HashMap<(u64, u64, Kind), usize>,
    held: u64,
    pieces: u64,
    failure: Option<String>,
}

impl Looks {
    /// A step begins.
    pub fn begin(&mut self, step: usize) {
        self.step = step;
    }

    /// A range of an mm is notified.
    pub fn notified(&mut self, mm: u64, start: u64, end: u64) {
        let step = self.step;
        if let Some(of) = self.mms.get_mut(&mm) {
            of.notified.push((step, start, end));
        }
    }

    /// What the page tables of an mm hold after it; what is held of it follows.
    pub fn walked(&mut self, mm: u64, tables: &PageTables) {
        let step = self.step;
        let of = self.mms.entry(mm).or_insert_with(|| OfMm {
            loaded: step,
            ..OfMm::default()
        });
        of.before = std::mem::take(&mut of.now);
        of.tables.clone_from(tables);
    }

    /// Takes a record that is about the IOMMU.
    pub fn push(&mut self, record: &Record) {
        match record.kind {
            RecordKind::Held => self.held(record),
            RecordKind::IommuFault => {
                let why = format!(
                    "the IOMMU refused to load {:#x} (cause {})",
                    record.start, record.arg
                );
                self.failure.get_or_insert(why);
            }
            _ => {
                let why = format!("{} ({:#x})", failure(record.arg), record.start);
                self.failure.get_or_insert(why);
            }
        }
    }

    fn held(&mut self, record: &Record) {
        let Some(of) = self.mms.get_mut(&record.mm) else {
            return;
        };
        let leaf_pages = (record.cpumask / PAGE_SIZE).max(1);
        let (rights, dirty) = rights_of(record.arg);
        let first = record.start / PAGE_SIZE;
        let pages = (record.end.saturating_sub(record.start)) / PAGE_SIZE;
        self.held += pages;
        self.pieces += if leaf_pages > 1 { pages } else { 0 };
        for number in 0..pages {
            let held = Leaf {
                page: first + number,
                pages: 1,
                frame: crate::device::entry::frame(record.arg) + number,
                rights,
                dirty,
            };
            let known = of.before.get(&held.page).copied();
            let mut page = known.filter(|it| it.frame == held.frame).unwrap_or(Page {
                frame: held.frame,
                since: of.loaded,
                named: 0,
            });
            let kind = contradiction(&held, &of.tables);
            if let Some(kind) = kind {
                let key = (record.mm, held.page, kind);
                self.wrong.insert(key, self.step);
            }
            if let Some(kind) = kind.filter(|kind| page.named & 1 << *kind as u8 == 0) {
                page.named |= 1 << kind as u8;
                // One that drops whole leaves would have dropped it.
                let by_piece = leaf_pages > 1 && of.touched(held.page, leaf_pages, page.since);
                self.verdicts.push(Verdict {
                    kind,
                    reading: match by_piece {
                        true => Reading::ByPiece,
                        false => Reading::ByLeaf,
                    },
                    mm: record.mm,
                    pages: held.page..held.page + 1,
                    frame: held.frame,
                    kept: Kept::Leaf {
                        rights,
                        dirty,
                        of: leaf_pages,
                    },
                    since: page.since,
                    step: self.step,
                    near: None,
                });
            }
            of.now.insert(held.page, page);
        }
    }

    /// A step has ended: all that there is was loaded.
    pub fn end(&mut self) {
        for of in self.mms.values_mut() {
            of.loaded = self.step;
        }
    }

    /// What came of it.
    ///
    /// # Errors
    /// It could not be driven: what went wrong first.
    pub fn finish(self, report: &Report, setting: &Setting) -> Result<Seen, String> {
        if let Some(why) = self.failure {
            return Err(why);
        }
        let ours = |mm: u64| report.mms.iter().position(|of| *of == mm);
        // Whoever is told nothing would have dropped nothing.
        let told = setting.policy != Policy::None;
        let reached = merged(self.verdicts).into_iter().filter_map(|verdict| {
            let mut reached = Reached::of(ours(verdict.mm)?, verdict);
            if !told {
                reached.reading = Reading::ByLeaf;
            }
            Some(reached)
        });
        let wrong = self.wrong.into_iter();
        let wrong =
            wrong.filter_map(|((mm, page, kind), last)| Some(((ours(mm)?, page, kind), last)));
        Ok(Seen {
            setting: setting.clone(),
            reached: reached.collect(),
            held: self.held,
            pieces: self.pieces,
            wrong: wrong.collect(),
        })
    }
}

fn failure(number: u64) -> &'static str {
    match number {
        failed::COMMANDS => "the IOMMU's command queue stopped: cqcsr",
        failed::TIMEOUT => "the IOMMU did not do a command in time: cqcsr",
        failed::FAULTS => "the IOMMU's fault queue stopped: fqcsr",
        failed::DEVICE => "the device behind the IOMMU did not move bytes in time",
        failed::MEMORY => "there was no memory to note what the IOMMU holds",
        _ => "the IOMMU failed in an unknown way",
    }
}

/// Whether something wrong of this kind was said of a page, up to a step.
pub fn covers(reached: &[Reached], kind: Kind, mm: usize, page: u64, step: usize) -> bool {
    reached.iter().any(|one| {
        let range = one.range.start / PAGE_SIZE..one.range.end / PAGE_SIZE;
        one.kind == kind && one.mm == mm && one.step <= step && range.contains(&page)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use operations::address;
    use secondary_mmu::Rights;

    const MM: u64 = 3;

    fn record(kind: RecordKind, first: u64, last: u64, entry: u64, leaf: u64) -> Record {
        Record {
            seq: 0,
            mm: MM,
            start: address(first),
            end: address(last),
            arg: entry,
            cpumask: leaf * PAGE_SIZE,
            asid: 0,
            pid: 1,
            tgid: 1,
            kind,
            hart: 0,
            flags: 0,
            chain: 0,
        }
    }

    /// A valid entry of that frame, readable for user mode, with these bits as well.
    fn entry(frame: u64, bits: u64) -> u64 {
        frame << 10 | 0x13 | bits
    }

    const W: u64 = 4;
    const D: u64 = 0x80;

    fn tables(first: u64, frame: u64, pages: u64, bits: u64) -> PageTables {
        let (rights, dirty) = rights_of(entry(frame, bits));
        let leaf = |number: u64| Leaf {
            page: address(first) / PAGE_SIZE + number,
            pages: 1,
            frame: frame + number,
            rights,
            dirty,
        };
        PageTables {
            leaves: (0..pages).map(leaf).collect(),
            tables: Vec::new(),
        }
    }

    fn finish(looks: Looks) -> Result<Seen, String> {
        let report = Report {
            mms: vec![7, MM],
            ..Report::default()
        };
        let setting = Setting {
            policy: Policy::Leaf,
            qemu: "10.0.2".to_owned(),
        };
        looks.finish(&report, &setting)
    }

    /// What was held after the second of two steps, and what the page tables had after it.
    fn after(held: Record, now: PageTables) -> Vec<Reached> {
        let mut looks = Looks::default();
        looks.begin(0);
        looks.walked(MM, &tables(4, 0x100, 2, W | D));
        looks.end();
        looks.begin(1);
        looks.walked(MM, &now);
        looks.push(&held);
        finish(looks).expect("it was driven").reached
    }

    #[test]
    fn what_it_holds_is_judged_by_what_page_tables_hold() {
        let held = |bits: u64| record(RecordKind::Held, 4, 6, entry(0x100, bits), 1);
        assert_eq!(after(held(W | D), tables(4, 0x100, 2, W | D)), []);
        for (held, now, kind) in [
            (held(W | D), PageTables::default(), Kind::Stale),
            (held(W | D), tables(4, 0x900, 2, W | D), Kind::Stale),
            (held(W | D), tables(4, 0x100, 2, D), Kind::Right),
            (held(W | D), tables(4, 0x100, 2, W), Kind::Dirty),
            (held(D), tables(4, 0x100, 2, W | D), Kind::Narrow),
        ] {
            let reached = after(held, now);
            let [one] = &reached[..] else {
                panic!("{kind:?}: {reached:?}");
            };
            assert_eq!((one.kind, one.mm, one.frame), (kind, 1, 0x100));
            assert_eq!((one.since, one.step), (0, 1));
            assert_eq!(one.range.start / PAGE_SIZE, address(4) / PAGE_SIZE);
            assert_eq!(one.range.end / PAGE_SIZE, address(6) / PAGE_SIZE);
            assert_eq!(one.reading, Reading::ByLeaf);
        }
        assert!(!Rights::R.is_none());
    }

    #[test]
    fn what_stays_wrong_is_told_once_and_pieces_are_pieces() {
        let held = record(RecordKind::Held, 4, 6, entry(0x100, W | D), 512);
        let reading = |notified: Option<u64>| {
            let mut looks = Looks::default();
            looks.begin(0);
            looks.walked(MM, &tables(4, 0x100, 2, W | D));
            looks.end();
            for step in 1..4 {
                looks.begin(step);
                if let Some(page) = notified {
                    looks.notified(MM, address(page), address(page + 1));
                }
                looks.walked(MM, &PageTables::default());
                looks.push(&held);
                looks.end();
            }
            let seen = finish(looks).expect("it was driven");
            assert_eq!((seen.held, seen.pieces), (6, 6));
            let page = address(5) / PAGE_SIZE;
            assert!(seen.still(Kind::Stale, 1, page, 3));
            assert!(!seen.still(Kind::Stale, 1, page, 4));
            let [one] = &seen.reached[..] else {
                panic!("{seen:?}");
            };
            one.reading
        };
        // An address of the leaf was notified, one of another, or none.
        assert_eq!(reading(Some(500)), Reading::ByPiece);
        assert_eq!(reading(Some(512)), Reading::ByLeaf);
        assert_eq!(reading(None), Reading::ByLeaf);
    }

    #[test]
    fn one_that_fails_says_nothing_of_the_kernel() {
        for (kind, arg, words) in [
            (
                RecordKind::IommuError,
                1,
                "command queue stopped: cqcsr (0x1000",
            ),
            (RecordKind::IommuError, 2, "in time"),
            (RecordKind::IommuError, 4, "no memory"),
            (
                RecordKind::IommuFault,
                13,
                "refused to load 0x1000004000 (cause 13)",
            ),
        ] {
            let mut looks = Looks::default();
            looks.push(&record(kind, 4, 4, arg, 0));
            looks.push(&record(RecordKind::IommuError, 4, 4, 3, 0));
            let why = finish(looks).expect_err("it failed");
            assert!(why.contains(words), "{why}");
        }
    }
}
