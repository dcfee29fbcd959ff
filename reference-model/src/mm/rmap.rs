// SPDX-License-Identifier: GPL-2.0-only
//! `mm/rmap.c`: from a folio to the vmas that map it, and the batch of unmapped pages whose
//! flush is put off.

pub mod anon_vma;

use crate::api::{Entry, MmId, PAGE_SIZE};
use crate::arch::riscv::mm::hugetlbpage::{huge_ptep_clear_flush, huge_ptep_get};
use crate::arch::riscv::mm::pgtable::{pte_accessible, ptep_test_and_clear_young};
use crate::arch::riscv::mm::tlbflush::PMD_SIZE;
use crate::include::linux::mm_inline::vma_has_recency;
use crate::mm::gup::folio_maybe_dma_pinned;
use crate::mm::huge_memory::{
    __split_huge_pmd, deferred_split_folio, discard_anon_folio_pmd, haddr,
};
use crate::mm::hugetlb::share::huge_pmd_unshare;
use crate::mm::interval_tree::{Mapping, interval_tree};
use crate::mm::ksm::rmap_walk_ksm;
use crate::mm::mlock::{mlock_drain, mlock_folio, munlock_folio};
use crate::mm::mmu_gather::{tlb_finish_mmu, tlb_flush_unshared_tables, tlb_gather_mmu};
use crate::mm::page_vma_mapped::{page_vma_mapped_walk, pages_of};
use crate::mm::page_writeback::folio_mark_dirty;
use crate::mm::pgtable_generic::{flush_pmd, ptep_clear_flush};
use crate::mm::swap::folio_put;
use crate::mm::swapfile::{swap_duplicate, swap_free_nr};
use crate::mm_types::{FolioId, HPAGE_PMD_NR, HugePmd, Large, Pte, Vma, prot, vm};
use crate::state::Kernel;
use operations::HugePages;

/// `TLB_FLUSH_BATCH_PENDING_MASK`
const TLB_FLUSH_BATCH_PENDING_MASK: u32 = (1 << 15) - 1;

/// `TLB_FLUSH_BATCH_PENDING_LARGE`
const TLB_FLUSH_BATCH_PENDING_LARGE: u32 = TLB_FLUSH_BATCH_PENDING_MASK / 2;

/// `try_to_unmap_flush()`: flushes what [`try_to_unmap`] has put off.
pub fn try_to_unmap_flush(k: &mut Kernel<'_>) {
    if !k.tlb_ubc.flush_required {
        return;
    }
    k.enter(Entry::ArchTlbbatchFlush);
    k.tlb_ubc = Default::default();
}

/// `try_to_unmap_flush_dirty()`: before I/O, and only if a page of the batch
/// was dirty in its PTE.
pub fn try_to_unmap_flush_dirty(k: &mut Kernel<'_>) {
    if k.tlb_ubc.writable {
        try_to_unmap_flush(k);
    }
}

/// `set_tlb_ubc_flush_pending()`
pub fn set_tlb_ubc_flush_pending(k: &mut Kernel<'_>, pteval: Pte, uaddr: u64, nr_pages: u64) {
    if !pte_accessible(k, pteval) {
        return;
    }
    k.enter(if k.profile.batch_pending_takes_range {
        Entry::ArchTlbbatchAddPendingRange {
            start: uaddr,
            end: uaddr + nr_pages * PAGE_SIZE,
        }
    } else {
        Entry::ArchTlbbatchAddPending { uaddr }
    });
    k.tlb_ubc.cpumask |= k.mm.cpumask;
    k.tlb_ubc.flush_required = true;
    if k.mm.tlb_flush_pending_gen > TLB_FLUSH_BATCH_PENDING_LARGE {
        k.mm.tlb_flush_pending_gen = 1;
        k.mm.tlb_flush_flushed_gen = 0;
    } else {
        k.mm.tlb_flush_pending_gen += 1;
    }
    // The flag is kept until the next flush, of whichever page.
    if matches!(pteval, Pte::Present { dirty: true, .. }) {
        k.tlb_ubc.writable = true;
    }
}

/// `flush_tlb_batched_pending()`: the first operation after reclaim that a
/// stale entry could hurt pays with a flush of the whole mm.
pub fn flush_tlb_batched_pending(k: &mut Kernel<'_>) {
    if k.mm.tlb_flush_pending_gen != k.mm.tlb_flush_flushed_gen {
        k.enter(if k.profile.batched_pending_in_arch {
            Entry::ArchFlushTlbBatchedPending
        } else {
            Entry::FlushTlbMm
        });
        k.mm.tlb_flush_flushed_gen = k.mm.tlb_flush_pending_gen;
    }
}

/// What a walk over a folio's mappings does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// To the next vma.
    Continue,
    /// It is over.
    Break,
}

/// `rmap_walk()`: calls `rmap_one` for each vma in which some of the folio could be
/// mapped, and the first address at which it could, with the vma's mm as the one that
/// is acted on.
pub fn rmap_walk(
    k: &mut Kernel<'_>,
    id: FolioId,
    mut rmap_one: impl FnMut(&mut Kernel<'_>, &Vma, u64) -> Walk,
) {
    let folio = &k.folios[id];
    let (anon, profile) = (folio.anon, k.profile);
    let first = |vma: &Vma| match anon {
        true => vma.start_anon_pgoff(profile),
        false => vma.pgoff,
    };
    let (index, mappings) = if folio.ksm {
        for (Mapping { mm, vma }, address) in rmap_walk_ksm(k, id) {
            if k.in_mm(mm, |k| rmap_one(k, &vma, address)) == Walk::Break {
                return;
            }
        }
        return;
    } else if anon {
        // rmap_walk_anon()
        let (anon_vma, index) = (folio.anon_vma, folio.index);
        let behind = index + folio.nr_pages();
        let holds = |vma: &Vma| {
            vma.anon_vma_chain.contains(&anon_vma)
                && behind > first(vma)
                && index < first(vma) + vma.pages()
        };
        (
            index,
            interval_tree(k, holds, |vma| (first(vma), vma.anon_seq)),
        )
    } else if let Some((file, index)) = folio.mapping {
        // rmap_walk_file(); in the cache pages of hugetlb are numbered by their size.
        let index = index * folio.hugetlb.map_or(1, HugePages::pages);
        let behind = index + folio.nr_pages();
        let holds = |vma: &Vma| {
            vma.file == Some(file) && behind > vma.pgoff && index < vma.pgoff + vma.pages()
        };
        (index, interval_tree(k, holds, |vma| (vma.pgoff, vma.seq)))
    } else {
        return;
    };
    for Mapping { mm, vma } in &mappings {
        // vma_address()
        let address = vma.start + index.saturating_sub(first(vma)) * PAGE_SIZE;
        if k.in_mm(*mm, |k| rmap_one(k, vma, address)) == Walk::Break {
            return;
        }
    }
}

/// `folio_referenced()` with `folio_referenced_one()`: how many mappings were
/// used since the last look, and the `vm_flags` of those vmas. Clears the PTEs'
/// young bits without a flush, as `ptep_clear_flush_young()` of riscv does.
pub fn folio_referenced(k: &mut Kernel<'_>, id: FolioId) -> (u32, u64) {
    let (mut mapcount, mut referenced, mut vm_flags) = (k.folios[id].mapcount, 0, 0);
    if mapcount == 0 {
        return (0, 0);
    }
    rmap_walk(k, id, |k, vma, address| {
        // invalid_folio_referenced_vma()
        if !vma_has_recency(vma) {
            return Walk::Continue;
        }
        let Some((mapped, young)) = folio_referenced_one(k, id, vma, address) else {
            mlock_folio(k, id);
            vm_flags |= vm::LOCKED;
            return Walk::Break;
        };
        if young {
            referenced += 1;
            vm_flags |= vma.flags & !vm::LOCKED;
        }
        mapcount = mapcount.saturating_sub(mapped);
        if mapcount == 0 {
            Walk::Break
        } else {
            Walk::Continue
        }
    });
    (referenced, vm_flags)
}

/// `folio_referenced_one()`: how many entries of the vma map the folio, and whether one
/// was young. None where the folio is to be mlocked.
fn folio_referenced_one(
    k: &mut Kernel<'_>,
    id: FolioId,
    vma: &Vma,
    address: u64,
) -> Option<(u32, bool)> {
    if let Some(pmd) = k.mm.pgd.huge_pmd(address).filter(|pmd| pmd.folio == id) {
        if vma.has(vm::LOCKED) {
            return None;
        }
        // pmdp_clear_flush_young() flushes, where a PTE's counterpart does not.
        if pmd.young {
            let start = address & !(PMD_SIZE - 1);
            k.set_pmd(
                address,
                Some(HugePmd {
                    young: false,
                    ..pmd
                }),
            );
            let end = start + PMD_SIZE;
            k.enter(Entry::FlushPmdTlbRange { start, end });
        }
        return Some((1, pmd.young));
    }
    let (mut mapped, mut young) = (0, false);
    for address in pages_of(k, id, vma, address) {
        let Some(pte) = page_vma_mapped_walk(k, id, address) else {
            continue;
        };
        mapped += 1;
        if !vma.has(vm::LOCKED) {
            young |= ptep_test_and_clear_young(k, address, pte);
        } else if k.folios[id].large.is_none() {
            return None;
        }
    }
    // A huge page is mlocked where all of it is mapped.
    if vma.has(vm::LOCKED) && u64::from(mapped) == k.folios[id].nr_pages() {
        return None;
    }
    Some((mapped, young))
}

/// `folio_remove_rmap_pte()` (`include/linux/rmap.h`)
pub fn folio_remove_rmap_pte(k: &mut Kernel<'_>, id: FolioId, addr: u64, vm_flags: u64) {
    folio_remove_rmap_ptes(k, id, (addr, addr + PAGE_SIZE), vm_flags);
}

/// `folio_remove_rmap_ptes()`, `__folio_remove_rmap()` of RMAP_LEVEL_PTE
pub fn folio_remove_rmap_ptes(
    k: &mut Kernel<'_>,
    id: FolioId,
    (start, end): (u64, u64),
    vm_flags: u64,
) {
    let folio = &mut k.folios[id];
    let nr_pages = ((end - start) / PAGE_SIZE) as u32;
    folio.mapcount = folio.mapcount.saturating_sub(nr_pages);
    let mut partially_mapped = false;
    if let Some(large) = &mut folio.large {
        let mut last = false;
        for addr in (start..end).step_by(PAGE_SIZE as usize) {
            let page = large.page(addr);
            let mapcount = &mut large.mapcounts[page];
            *mapcount = mapcount.saturating_sub(1);
            last |= *mapcount == 0;
        }
        partially_mapped =
            last && large.entire_mapcount == 0 && large.mapcounts.iter().any(|&count| count > 0);
    }
    rmap_removed(k, id, partially_mapped, vm_flags);
}

/// `folio_remove_rmap_pmd()`, `__folio_remove_rmap()` of RMAP_LEVEL_PMD
pub fn folio_remove_rmap_pmd(k: &mut Kernel<'_>, id: FolioId, vm_flags: u64) {
    let folio = &mut k.folios[id];
    folio.mapcount = folio.mapcount.saturating_sub(1);
    let mut partially_mapped = false;
    if let Some(large) = &mut folio.large {
        large.entire_mapcount = large.entire_mapcount.saturating_sub(1);
        let unmapped = large.mapcounts.iter().filter(|&&count| count == 0).count();
        partially_mapped =
            large.entire_mapcount == 0 && unmapped > 0 && unmapped < large.mapcounts.len();
    }
    rmap_removed(k, id, partially_mapped, vm_flags);
}

/// The end of `__folio_remove_rmap()`
fn rmap_removed(k: &mut Kernel<'_>, id: FolioId, partially_mapped: bool, vm_flags: u64) {
    let known = |large: &Large| large.partially_mapped;
    let folio = &k.folios[id];
    if partially_mapped && folio.anon && !folio.large.as_deref().is_some_and(known) {
        deferred_split_folio(k, id, true);
    }
    // munlock_vma_folio()
    if vm_flags & vm::LOCKED != 0 {
        munlock_folio(k, id);
    }
}

/// `folio_add_file_rmap_ptes()`, `__folio_add_file_rmap()`: a large folio is locked, if at all,
/// where all of it is mapped at once.
pub fn folio_add_file_rmap_ptes(
    k: &mut Kernel<'_>,
    id: FolioId,
    (start, end): (u64, u64),
    vm_flags: u64,
) {
    let folio = &mut k.folios[id];
    let nr_pages = (end - start) / PAGE_SIZE;
    folio.mapcount += nr_pages as u32;
    if let Some(large) = &mut folio.large {
        for addr in (start..end).step_by(PAGE_SIZE as usize) {
            let page = large.page(addr);
            large.mapcounts[page] += 1;
        }
    }
    let small = folio.large.is_none();
    let whole = k.profile.locks_large_file_folios && folio.nr_pages() == nr_pages;
    // mlock_vma_folio()
    if vm_flags & vm::LOCKED != 0 && (small || whole) {
        mlock_folio(k, id);
    }
}

/// `folio_add_file_rmap_pmd()`
pub fn folio_add_file_rmap_pmd(k: &mut Kernel<'_>, id: FolioId, vm_flags: u64) {
    let folio = &mut k.folios[id];
    folio.mapcount += 1;
    if let Some(large) = &mut folio.large {
        large.entire_mapcount += 1;
    }
    // mlock_vma_folio()
    if vm_flags & vm::LOCKED != 0 && k.profile.locks_large_file_folios {
        mlock_folio(k, id);
    }
}

/// `folio_add_anon_rmap_ptes()` of all pages of a huge page
pub fn folio_add_anon_rmap_ptes(k: &mut Kernel<'_>, id: FolioId, exclusive: bool) {
    let folio = &mut k.folios[id];
    folio.mapcount += HPAGE_PMD_NR as u32;
    if let Some(large) = &mut folio.large {
        for mapcount in &mut large.mapcounts {
            *mapcount += 1;
        }
        // Never cleared here: another mm may map some of it by PTEs.
        if exclusive {
            large.anon_exclusive.fill(true);
        }
    }
}

/// What a migration entry keeps of the PTE, or of the PMD, in whose place it is.
pub struct MigrationEntry {
    /// The mm whose it is.
    pub mm: MmId,
    /// `vm_flags` of its vma.
    pub vma_flags: u64,
    /// Where it is.
    pub addr: u64,
    /// What was there; of a PMD, its leaf.
    pub pteval: Pte,
    /// In the place of a PMD.
    pub huge: bool,
    /// `PageAnonExclusive()` of the page.
    pub exclusive: bool,
}

/// `try_to_migrate()` with TTU_BATCH_FLUSH: migration entries take the place of all that maps
/// the folio.
pub fn try_to_migrate(k: &mut Kernel<'_>, id: FolioId) -> Vec<MigrationEntry> {
    let mut entries = Vec::new();
    rmap_walk(k, id, |k, vma, address| {
        try_to_migrate_one(k, id, vma, address, &mut entries);
        // folio_not_mapped()
        if k.folios[id].mapcount == 0 {
            Walk::Break
        } else {
            Walk::Continue
        }
    });
    entries
}

/// `try_to_migrate_one()`, and `set_pmd_migration_entry()` of `mm/huge_memory.c`
fn try_to_migrate_one(
    k: &mut Kernel<'_>,
    id: FolioId,
    vma: &Vma,
    address: u64,
    entries: &mut Vec<MigrationEntry>,
) {
    let mm = k.mm_id;
    let entry = |addr: u64, pteval: Pte, huge: bool, exclusive: bool| MigrationEntry {
        mm,
        vma_flags: vma.flags,
        addr,
        pteval,
        huge,
        exclusive,
    };
    if let Some(size) = k.folios[id].hugetlb {
        if let Some(pteval) = hugetlb_unmap_to_migrate(k, id, (address, size)) {
            let exclusive = k.folios[id].anon && k.folios[id].anon_exclusive;
            entries.push(entry(address, pteval, false, exclusive));
            folio_put(k, id);
        }
        return;
    }
    if let Some(pmd) = k.mm.pgd.huge_pmd(address).filter(|pmd| pmd.folio == id) {
        let haddr = haddr(address);
        k.set_pmd(haddr, None);
        flush_pmd(k, haddr);
        let folio = &mut k.folios[id];
        folio.dirty |= pmd.dirty;
        entries.push(entry(
            haddr,
            pmd.leaf(),
            true,
            folio.page_anon_exclusive(haddr),
        ));
        folio_remove_rmap_pmd(k, id, vma.flags);
        migrated(k, id, vma);
        return;
    }
    for addr in pages_of(k, id, vma, address) {
        let Some(pteval) = page_vma_mapped_walk(k, id, addr) else {
            continue;
        };
        k.set_pte(addr, Pte::None);
        set_tlb_ubc_flush_pending(k, pteval, addr, 1);
        let folio = &mut k.folios[id];
        folio.dirty |= matches!(pteval, Pte::Present { dirty: true, .. });
        entries.push(entry(addr, pteval, false, folio.page_anon_exclusive(addr)));
        folio_remove_rmap_pte(k, id, addr, vma.flags);
        migrated(k, id, vma);
    }
}

/// The part of `try_to_migrate_one()` for a page of hugetlb: what mapped it. Of a file's a table that
/// others have, too, goes first, and what it maps with it.
fn hugetlb_unmap_to_migrate(
    k: &mut Kernel<'_>,
    id: FolioId,
    (address, size): (u64, HugePages),
) -> Option<Pte> {
    page_vma_mapped_walk(k, id, address)?;
    if !k.folios[id].anon {
        let mut tlb = tlb_gather_mmu(k);
        let unshared = huge_pmd_unshare(k, &mut tlb, size, address);
        // huge_pmd_unshare_flush()
        tlb_flush_unshared_tables(k, &mut tlb);
        tlb_finish_mmu(k, tlb);
        if unshared {
            return None;
        }
    }
    let pteval = huge_ptep_get(k, address, size);
    huge_ptep_clear_flush(k, address, size);
    let folio = &mut k.folios[id];
    folio.dirty |= matches!(pteval, Pte::Present { dirty: true, .. });
    // hugetlb_remove_rmap()
    folio.mapcount = folio.mapcount.saturating_sub(1);
    Some(pteval)
}

/// The end of a turn of `try_to_migrate_one()`
fn migrated(k: &mut Kernel<'_>, id: FolioId, vma: &Vma) {
    if vma.has(vm::LOCKED) {
        // mlock_drain_local()
        let hart = k.hart() as usize;
        mlock_drain(k, hart);
    }
    folio_put(k, id);
}

/// `try_to_unmap()` with TTU_BATCH_FLUSH: the flushes are put off
/// (`should_defer_flush()` is always true, for riscv's `arch_tlbbatch_should_defer()` is).
pub fn try_to_unmap(k: &mut Kernel<'_>, id: FolioId) {
    try_to_unmap_with(k, id, TTU_BATCH_FLUSH);
}

/// `TTU_IGNORE_MLOCK` (`include/linux/rmap.h`): locked areas are no obstacle.
pub const TTU_IGNORE_MLOCK: u32 = 0x20;
/// `TTU_BATCH_FLUSH` (`include/linux/rmap.h`)
pub const TTU_BATCH_FLUSH: u32 = 0x40;

/// `try_to_unmap()` with other flags.
pub fn try_to_unmap_with(k: &mut Kernel<'_>, id: FolioId, flags: u32) {
    rmap_walk(k, id, |k, vma, address| {
        let walk = try_to_unmap_one(k, id, vma, address, flags);
        // folio_not_mapped()
        if k.folios[id].mapcount == 0 {
            return Walk::Break;
        }
        walk
    });
}

/// `try_to_unmap_one()`
fn try_to_unmap_one(k: &mut Kernel<'_>, id: FolioId, vma: &Vma, address: u64, flags: u32) -> Walk {
    if let Some(pmd) = k.mm.pgd.huge_pmd(address).filter(|pmd| pmd.folio == id) {
        if vma.has(vm::LOCKED) && flags & TTU_IGNORE_MLOCK == 0 {
            return Walk::Break;
        }
        let lazyfree = k.folios[id].anon && !k.folios[id].swapbacked;
        if lazyfree && k.profile.discards_lazyfree_pmd {
            if discard_anon_folio_pmd(k, vma, address, pmd) {
                return Walk::Continue;
            }
            if k.profile.keeps_lazyfree_pmd {
                return Walk::Break;
            }
        }
        // TTU_SPLIT_HUGE_PMD
        __split_huge_pmd(k, vma, address);
    }
    let mut pages = pages_of(k, id, vma, address);
    while let Some(address) = pages.next() {
        let nr = folio_unmap_pte_batch(k, id, vma, address);
        if try_to_unmap_ptes(k, id, vma, (address, nr), flags) == Walk::Break {
            return Walk::Break;
        }
        if nr > 1 {
            pages.nth(nr as usize - 2);
        }
    }
    Walk::Continue
}

/// `folio_unmap_pte_batch()`: how many PTEs go at once; those of a lazyfree huge page, or of a
/// large one of a file, that have the same right to write.
fn folio_unmap_pte_batch(k: &Kernel<'_>, id: FolioId, vma: &Vma, address: u64) -> u64 {
    let folio = &k.folios[id];
    let swapped_out = folio.anon && folio.swapbacked;
    if !k.profile.unmaps_lazyfree_in_batches || folio.large.is_none() || swapped_out {
        return 1;
    }
    let first = page_vma_mapped_walk(k, id, address).map(|pte| pte.rights());
    if first.is_none() {
        return 1;
    }
    let same = |addr: &u64| page_vma_mapped_walk(k, id, *addr).map(|pte| pte.rights()) == first;
    pages_of(k, id, vma, address).take_while(same).count() as u64
}

/// The loop of `try_to_unmap_one()`, for some PTEs in a row
fn try_to_unmap_ptes(
    k: &mut Kernel<'_>,
    id: FolioId,
    vma: &Vma,
    (address, nr_pages): (u64, u64),
    flags: u32,
) -> Walk {
    let Some(pteval) = page_vma_mapped_walk(k, id, address) else {
        return Walk::Continue;
    };
    if vma.has(vm::LOCKED) && flags & TTU_IGNORE_MLOCK == 0 {
        if k.folios[id].large.is_none() {
            mlock_folio(k, id);
        }
        return Walk::Break;
    }
    let end = address + nr_pages * PAGE_SIZE;
    let pages = || (address..end).step_by(PAGE_SIZE as usize);
    let pteval = pages().fold(pteval, |all, page| all.with_bits_of(k.pte(page)));
    for page in pages() {
        k.set_pte(page, Pte::None);
    }
    // should_defer_flush()
    if flags & TTU_BATCH_FLUSH != 0 {
        set_tlb_ubc_flush_pending(k, pteval, address, nr_pages);
    } else {
        flush_unmapped(k, pteval, address..end);
    }
    if matches!(pteval, Pte::Present { dirty: true, .. }) {
        folio_mark_dirty(k, id);
    }
    if k.folios[id].anon && !try_to_unmap_anon(k, id, address) {
        for page in pages() {
            k.set_pte(page, pteval);
        }
        return Walk::Break;
    }
    folio_remove_rmap_ptes(k, id, (address, end), vma.flags);
    if vma.has(vm::LOCKED) {
        // mlock_drain_local()
        let hart = k.hart() as usize;
        mlock_drain(k, hart);
    }
    for _ in pages() {
        folio_put(k, id);
    }
    Walk::Continue
}

/// What `try_to_unmap_one()` flushes where that is not to wait: a page, later as many as it has
/// unmapped at once.
fn flush_unmapped(k: &mut Kernel<'_>, pteval: Pte, range: std::ops::Range<u64>) {
    let (start, end) = (range.start, range.end);
    match k.profile.unmaps_lazyfree_in_batches {
        true => k.enter(Entry::FlushTlbRange {
            start,
            end,
            huge_page_size: None,
        }),
        // ptep_clear_flush()
        false if pte_accessible(k, pteval) => k.enter(Entry::FlushTlbPage { addr: start }),
        false => {}
    }
}

/// The anonymous part of `try_to_unmap_one()`; false where the PTE has to be
/// restored (`walk_abort`).
fn try_to_unmap_anon(k: &mut Kernel<'_>, id: FolioId, address: u64) -> bool {
    let folio = &mut k.folios[id];
    if !folio.swapbacked {
        // The only references: isolation's and the mappings'.
        if folio.refcount == 1 + folio.mapcount && !folio.dirty {
            return true;
        }
        // Written to since MADV_FREE: cannot be discarded any more.
        if folio.dirty || k.profile.lazyfree_extra_ref_makes_swapbacked {
            folio.swapbacked = true;
        }
        return false;
    }
    let Some(entry) = folio.swap else {
        return false;
    };
    // folio_page_idx()
    let entry = entry + folio.page(address) as u32;
    // folio_try_share_anon_rmap_pte()
    let exclusive = folio.page_anon_exclusive(address);
    folio.set_page_anon_exclusive(address, false);
    if swap_duplicate(k, entry).is_none() {
        k.folios[id].set_page_anon_exclusive(address, exclusive);
        return false;
    }
    if exclusive && folio_maybe_dma_pinned(&k.folios[id]) {
        k.folios[id].set_page_anon_exclusive(address, exclusive);
        swap_free_nr(k, entry, 1);
        return false;
    }
    k.set_pte(address, Pte::Swap { entry, exclusive });
    true
}

/// `folio_mkclean()`: takes the dirty bit and the right to write from all that maps a file's
/// page as shared.
pub fn folio_mkclean(k: &mut Kernel<'_>, id: FolioId) {
    if k.folios[id].mapcount == 0 {
        return;
    }
    rmap_walk(k, id, |k, vma, address| {
        // invalid_mkclean_vma()
        if vma.has(vm::SHARED) {
            page_vma_mkclean_one(k, id, vma, address);
        }
        Walk::Continue
    });
}

/// `page_vma_mkclean_one()`
fn page_vma_mkclean_one(k: &mut Kernel<'_>, id: FolioId, vma: &Vma, address: u64) {
    match k.mm.pgd.huge_pmd(address).filter(|pmd| pmd.folio == id) {
        Some(pmd) if pmd.dirty || pmd.prot & prot::W != 0 => {
            // pmdp_invalidate()
            flush_pmd(k, haddr(address));
            let clean = HugePmd {
                prot: pmd.prot & !prot::W,
                dirty: false,
                ..pmd
            };
            k.set_pmd(haddr(address), Some(clean));
        }
        Some(_) => {}
        None => {
            for addr in pages_of(k, id, vma, address) {
                pte_mkclean(k, id, addr);
            }
        }
    }
}

/// The turn of `page_vma_mkclean_one()` for a PTE.
fn pte_mkclean(k: &mut Kernel<'_>, id: FolioId, address: u64) {
    let Some(pte) = page_vma_mapped_walk(k, id, address) else {
        return;
    };
    let Pte::Present {
        folio,
        prot: rights,
        dirty,
        young,
    } = pte
    else {
        return;
    };
    if !dirty && rights & prot::W == 0 {
        return;
    }
    ptep_clear_flush(k, address);
    k.set_pte(
        address,
        Pte::Present {
            folio,
            prot: rights & !prot::W,
            dirty: false,
            young,
        },
    );
}
