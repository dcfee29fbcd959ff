// SPDX-License-Identifier: GPL-2.0-only
//! The adversarial secondary MMU: what an IOMMU or a device that shares a process's page tables
//! could still reach. It knows the rules and nothing of Linux.
//!
//! It caches everything that it may, keeps it as long as it may, and drops only what it is told
//! to. Facts drive it, in their order: what page tables hold at the end of a step,
//! notifications, frames that were given back. Where it holds what it must not hold, it says so.
//!
//! The rules, and where they are from:
//!
//! - A notification of a range drops *leaf* entries (RISC-V IOMMU specification, "IOTINVAL.VMA"
//!   with AV=1; issue 468 of its repository: leaf entries only, as `sfence.vma` with an
//!   address). What is above leaves stays, and is dropped where all of the address space is
//!   notified, by [0, `ULONG_MAX`]: IOTINVAL.VMA with AV=0. Drivers read that range so
//!   (`intel_arch_invalidate_secondary_tlbs()` in drivers/iommu/intel/svm.c,
//!   `arm_smmu_mm_arch_invalidate_secondary_tlbs()` in drivers/iommu/arm/arm-smmu-v3/), and give
//!   other ranges to the cache of the IOMMU and to those of devices with ATS.
//! - *By leaf*, an address in the range drops the whole leaf that translates it (the same
//!   section). *By piece*, a device that caches translations in pieces of its own size (an
//!   address translation cache: PCI Express, ATS; a GPU) drops the pages that lie wholly in the
//!   range, and keeps the others of a larger leaf.
//! - An entry that is not valid is never cached (the specification, "Caching in-memory data
//!   structures"), and nothing is due when one becomes valid. Entries that were cached when a
//!   right was missing may be used until they are invalidated, and the access is refused.
//! - A notification is due before a page is given back, and where a translation goes or
//!   loses a right (Documentation/mm/mmu_notifier.rst; `mmu_notifier_arch_invalidate_secondary_tlbs()`
//!   in include/linux/mmu_notifier.h).
//! - `release` ends all (`mmu_notifier_release()`): the device is detached from the mm, as by
//!   `arm_smmu_mm_release()`.

mod cache;
mod facts;
mod spent;
mod verdict;

pub use facts::{Leaf, Mm, PageTables, Part, Rights, Table, WHOLE_MM};
pub use spent::Spent;
pub use verdict::{Kept, Kind, Near, Reading, Verdict, contradiction, merged};

use cache::{Cache, References};
use spent::Ledger;
use std::collections::BTreeMap;

/// A secondary MMU with all mms that it is bound to.
#[derive(Debug, Default)]
pub struct SecondaryMmu {
    caches: BTreeMap<Mm, Cache>,
    references: References,
    step: usize,
    verdicts: Vec<Verdict>,
    /// What is notified is not counted.
    unmetered: bool,
    ledgers: BTreeMap<Mm, Ledger>,
    spent: Vec<Spent>,
}

impl SecondaryMmu {
    /// One that counts nothing of what is notified, and so needs no more room than what it holds.
    pub fn unmetered() -> SecondaryMmu {
        SecondaryMmu {
            unmetered: true,
            ..SecondaryMmu::default()
        }
    }

    /// Step `step`, from 0, begins.
    pub fn begin(&mut self, step: usize) {
        self.step = step;
    }

    /// The bytes `[start, end)` of an mm are to be dropped; [`WHOLE_MM`] is all of it.
    pub fn notify(&mut self, mm: Mm, start: u64, end: u64) {
        let step = self.step;
        if !self.unmetered {
            self.ledgers.entry(mm).or_default().note(start, end);
        }
        let Some(cache) = self.caches.get_mut(&mm) else {
            return;
        };
        if (start, end) == WHOLE_MM {
            cache.clear(&mut self.references);
        } else {
            cache.drop_range(start, end, &mut self.references);
        }
        cache.note(Near { step, start, end });
    }

    /// The mm goes: the device is detached from it.
    pub fn release(&mut self, mm: Mm) {
        if let Some(mut cache) = self.caches.remove(&mm) {
            cache.clear(&mut self.references);
        }
    }

    /// Frames went back to whoever gives them out anew.
    pub fn freed(&mut self, frame: u64, frames: u64) {
        let Some(last) = frame.checked_add(frames) else {
            return;
        };
        let frames = frame..last;
        for (mm, place) in self.references.of(&frames) {
            if let Some(cache) = self.caches.get_mut(&mm) {
                cache.freed(place, &frames, self.step, &mut self.verdicts);
            }
        }
    }

    /// What the page tables of an mm hold when a step has ended. First what is cached is
    /// compared with it, and then all of it is cached.
    pub fn walked(&mut self, mm: Mm, tables: &PageTables) {
        let cache = self.caches.entry(mm).or_insert_with(|| Cache::of(mm));
        cache.compare(tables, &Part::ALL, self.step, &mut self.verdicts);
        cache.load(tables, self.step, &mut self.references);
        let ledger = self.ledgers.entry(mm).or_default();
        self.spent.extend(ledger.close(self.step, mm, tables));
    }

    /// What some of an mm's page tables hold within a step. All of it is cached, and nothing is
    /// compared: what changes meanwhile may be notified yet.
    pub fn loaded(&mut self, mm: Mm, tables: &PageTables) {
        let cache = self.caches.entry(mm).or_insert_with(|| Cache::of(mm));
        cache.load(tables, self.step, &mut self.references);
    }

    /// Compares what is cached of a part of an mm with what the page tables hold there now.
    pub fn compared(&mut self, mm: Mm, tables: &PageTables, part: &Part) {
        if let Some(cache) = self.caches.get_mut(&mm) {
            cache.compare(tables, part, self.step, &mut self.verdicts);
        }
    }

    /// What was wrong since this was asked last, with pages that follow each other told as one.
    pub fn take_verdicts(&mut self) -> Vec<Verdict> {
        verdict::merged(std::mem::take(&mut self.verdicts))
    }

    /// What it holds of an mm: runs of pages, each with what is kept of it.
    pub fn held(&self, mm: Mm) -> Vec<(std::ops::Range<u64>, Kept)> {
        self.caches.get(&mm).map(Cache::held).unwrap_or_default()
    }

    /// What steps notified, and how much of it had nothing to lose.
    pub fn spent(&self) -> &[Spent] {
        &self.spent
    }

    /// All that was wrong, with pages that follow each other told as one.
    pub fn into_verdicts(self) -> Vec<Verdict> {
        verdict::merged(self.verdicts)
    }
}

#[cfg(test)]
mod tests;
