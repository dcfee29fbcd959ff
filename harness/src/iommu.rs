// SPDX-License-Identifier: GPL-2.0-only
//! What a real IOMMU was seen to hold: from records to verdicts, by the same rules as the device
//! check's, of a cache that nobody here wrote.

use crate::device::{Reached, rights_of};
use operations::PAGE_SIZE;
use protocol::Policy;
use protocol::message::Report;
use protocol::record::{Kind as RecordKind, Record};
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
}

/// Gathers it, record by record.
#[derive(Debug, Default)]
pub struct Looks {
    mms: BTreeMap<u64, OfMm>,
    step: usize,
    verdicts: Vec<Verdict>,
    held: u64,
    pieces: u64,
    failure: Option<String>,
}

impl Looks {
    /// A step begins.
    pub fn begin(&mut self, step: usize) {
        self.step = step;
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
            if let Some(kind) = kind.filter(|kind| page.named & 1 << *kind as u8 == 0) {
                page.named |= 1 << kind as u8;
                self.verdicts.push(Verdict {
                    kind,
                    // It keeps pieces of larger leaves, as QEMU's does.
                    reading: match leaf_pages {
                        1 => Reading::ByLeaf,
                        _ => Reading::ByPiece,
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
        let reached = merged(self.verdicts).into_iter().filter_map(|verdict| {
            let mm = report.mms.iter().position(|mm| *mm == verdict.mm)?;
            Some(Reached::of(mm, verdict))
        });
        Ok(Seen {
            setting: setting.clone(),
            reached: reached.collect(),
            held: self.held,
            pieces: self.pieces,
        })
    }
}

/// `TLBDIFF_IOMMU_*`
fn failure(number: u64) -> &'static str {
    match number {
        1 => "the IOMMU's command queue stopped: cqcsr",
        2 => "the IOMMU did not do a command in time: cqcsr",
        3 => "the IOMMU's fault queue stopped: fqcsr",
        4 => "there was no memory to note what the IOMMU holds",
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
