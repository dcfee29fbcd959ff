// SPDX-License-Identifier: GPL-2.0-only
//! `mm/madvise.c`, the part that ages, reclaims or discards pages:
//! MADV_COLD, MADV_PAGEOUT, MADV_FREE, and MADV_WILLNEED's swapping in.
//!
//! All of these walk only PTE tables that exist (`walk_page_range()` calls
//! `pmd_entry` for no others) or huge PMDs. All but swapping in first make up, in each
//! table, for flushes that reclaim has put off.

use crate::api::PAGE_SIZE;
use crate::arch::riscv::mm::tlbflush::PMD_SIZE;
use crate::errno::EINVAL;
use crate::mm::huge_memory::{
    folio_likely_mapped_shared, is_huge_zero_pmd, madvise_free_huge_pmd, split_folio,
};
use crate::mm::memory::zap::{folio_pte_batch, swap_pte_batch};
use crate::mm::mmu_gather::{
    MmuGather, tlb_end_vma, tlb_finish_mmu, tlb_gather_mmu, tlb_remove_pmd_tlb_entry,
    tlb_remove_tlb_entry,
};
use crate::mm::pagewalk::walk_page_range;
use crate::mm::pgtable_generic::flush_pmd;
use crate::mm::readahead::force_page_cache_ra;
use crate::mm::rmap::flush_tlb_batched_pending;
use crate::mm::swap::{folio_deactivate, folio_mark_lazyfree, folio_put, lru_add_drain};
use crate::mm::swap_state::read_swap_cache_async;
use crate::mm::swapfile::{folio_free_swap, free_swap_and_cache_nr};
use crate::mm::vmscan::folio_isolate_lru;
use crate::mm::vmscan::folio_list::{folio_putback_lru, reclaim_pages};
use crate::mm_types::{CacheEntry, FolioId, HugePmd, Of, Pte, Vma, vm};
use crate::state::Kernel;
use operations::Storage;

/// `swapin_walk_pmd_entry()`
fn swapin_walk_pmd_entry(k: &mut Kernel<'_>, addr: u64, end: u64) {
    for addr in (addr..end).step_by(PAGE_SIZE as usize) {
        if let Pte::Swap { entry, .. } = k.pte(addr)
            && let Some(id) = read_swap_cache_async(k, entry, 0)
        {
            folio_put(k, id);
        }
    }
}

/// `shmem_swapin_range()`
fn shmem_swapin_range(k: &mut Kernel<'_>, file: usize, first: u64, last: u64) {
    let swapped = |(_, entry): (&u64, &CacheEntry)| match entry {
        CacheEntry::Swap(entry) => Some(*entry),
        CacheEntry::Folio(_) => None,
    };
    let cache = &k.files[file].cache;
    let entries: Vec<_> = cache.range(first..=last).filter_map(swapped).collect();
    for entry in entries {
        if let Some(id) = read_swap_cache_async(k, entry, 0) {
            folio_put(k, id);
        }
    }
}

/// `madvise_willneed()`
///
/// # Errors
/// None.
pub fn madvise_willneed(k: &mut Kernel<'_>, vma: &Vma, start: u64, end: u64) -> Result<(), i32> {
    match vma.file {
        None => {
            for (addr, next, _) in walk_page_range(k, start, end) {
                swapin_walk_pmd_entry(k, addr, next);
            }
        }
        // It has nothing to do where nothing is read.
        Some(_) if k.of(vma.file) != Of::Usual => return Ok(()),
        Some(file) if k.storage(vma.file) != Storage::Memory => {
            // vfs_fadvise()
            let (first, pages) = (vma.linear_page_index(start), (end - start) / PAGE_SIZE);
            force_page_cache_ra(k, file, first, pages);
            return Ok(());
        }
        // vfs_fadvise() has nothing to do, for hugetlbfs reads nothing.
        Some(_) if vma.has(vm::HUGETLB) => return Ok(()),
        Some(file) => {
            let first = vma.linear_page_index(start);
            let last = vma.linear_page_index(end).saturating_sub(1).max(first);
            shmem_swapin_range(k, file, first, last);
        }
    }
    lru_add_drain(k);
    Ok(())
}

/// The part of `madvise_cold_or_pageout_pte_range()` for a huge PMD; false where it was
/// split, and the PTEs are to be looked at.
fn madvise_cold_or_pageout_huge_pmd(
    k: &mut Kernel<'_>,
    tlb: &mut MmuGather,
    pageout: bool,
    (addr, next): (u64, u64),
) -> bool {
    let Some(pmd) = k.mm.pgd.huge_pmd(addr) else {
        return false;
    };
    let id = pmd.folio;
    // Do not interfere with other mappings of this folio.
    if is_huge_zero_pmd(k, pmd) || folio_likely_mapped_shared(k, id) {
        return true;
    }
    if next - addr != PMD_SIZE {
        k.folio_get(id);
        let split = split_folio(k, id);
        folio_put(k, id);
        return !split;
    }
    if !pageout && pmd.young {
        pmd_mkold(k, addr, pmd);
        tlb_remove_pmd_tlb_entry(tlb, addr);
    }
    let mut folio_list = Vec::new();
    cold_or_pageout_folio(k, id, pageout, &mut folio_list);
    if pageout {
        reclaim_pages(k, folio_list);
    }
    true
}

/// How `madvise_cold_or_pageout_pte_range()` makes a huge PMD old.
fn pmd_mkold(k: &mut Kernel<'_>, addr: u64, pmd: HugePmd) {
    if k.profile.cold_invalidates_pmd {
        flush_pmd(k, addr);
    }
    k.set_pmd(
        addr,
        Some(HugePmd {
            young: false,
            ..pmd
        }),
    );
}

/// What `madvise_cold_or_pageout_pte_range()` does with a folio.
fn cold_or_pageout_folio(
    k: &mut Kernel<'_>,
    id: FolioId,
    pageout: bool,
    folio_list: &mut Vec<FolioId>,
) {
    let folio = &mut k.folios[id];
    folio.referenced = false;
    if folio.active {
        folio.workingset = true;
    }
    if pageout {
        isolate_for_pageout(k, id, folio_list);
    } else {
        folio_deactivate(k, id);
    }
}

/// Splits a huge page of which only `nr` pages are in the range that MADV_COLD and its like
/// are for: whether it was split. None where it is left as it is.
fn split_partial(k: &mut Kernel<'_>, id: FolioId, nr: u64) -> Option<bool> {
    if nr == k.folios[id].nr_pages() {
        return Some(false);
    }
    if folio_likely_mapped_shared(k, id) {
        return None;
    }
    k.folio_get(id);
    let split = split_folio(k, id);
    folio_put(k, id);
    flush_tlb_batched_pending(k);
    split.then_some(true)
}

/// `madvise_cold_or_pageout_pte_range()`, of one PMD. The subject owns its
/// files, so that there is no `pageout_anon_only_filter`.
fn madvise_cold_or_pageout_pte_range(
    k: &mut Kernel<'_>,
    tlb: &mut MmuGather,
    pageout: bool,
    mut addr: u64,
    end: u64,
) {
    if k.mm.pgd.huge_pmd(addr).is_some()
        && madvise_cold_or_pageout_huge_pmd(k, tlb, pageout, (addr, end))
    {
        return;
    }
    // pte_offset_map_lock(): of a file nothing is left where the huge page was split.
    if !k.mm.pgd.pte_tables.contains_key(&(addr >> 21)) {
        return;
    }
    flush_tlb_batched_pending(k);
    let mut folio_list = Vec::new();
    while addr < end {
        addr += cold_or_pageout_ptes(k, tlb, (addr, end), pageout, &mut folio_list) * PAGE_SIZE;
    }
    if pageout && !folio_list.is_empty() {
        reclaim_pages(k, folio_list);
    }
}

/// The loop of `madvise_cold_or_pageout_pte_range()`, for one folio: how many PTEs it
/// goes on; none where a huge page was split, whose pages come next.
fn cold_or_pageout_ptes(
    k: &mut Kernel<'_>,
    tlb: &mut MmuGather,
    (addr, end): (u64, u64),
    pageout: bool,
    folio_list: &mut Vec<FolioId>,
) -> u64 {
    // vm_normal_folio(): the zero page has none.
    let Pte::Present {
        folio: Some(id), ..
    } = k.pte(addr)
    else {
        return 1;
    };
    let nr = madvise_folio_pte_batch(k, id, addr, end);
    match split_partial(k, id, nr) {
        None => return nr,
        Some(true) => return 0,
        Some(false) => {}
    }
    // No interference with other mappings, and nothing that is still in a batch.
    let folio = &k.folios[id];
    if !folio.lru || u64::from(folio.mapcount) != folio.nr_pages() {
        return nr;
    }
    if !pageout {
        clear_young_dirty_ptes(k, tlb, (addr, nr), false);
    }
    cold_or_pageout_folio(k, id, pageout, folio_list);
    nr
}

/// `madvise_folio_pte_batch()`
fn madvise_folio_pte_batch(k: &Kernel<'_>, id: FolioId, addr: u64, end: u64) -> u64 {
    if k.folios[id].large.is_some() {
        folio_pte_batch(k, id, addr, end)
    } else {
        1
    }
}

/// The isolation in `madvise_cold_or_pageout_pte_range()`.
fn isolate_for_pageout(k: &mut Kernel<'_>, id: FolioId, folio_list: &mut Vec<FolioId>) {
    if !folio_isolate_lru(k, id) {
        return;
    }
    if k.folios[id].unevictable {
        folio_putback_lru(k, id);
    } else {
        folio_list.push(id);
    }
}

/// `clear_young_dirty_ptes()` (`include/linux/pgtable.h`) of one folio's PTEs, where there is
/// something to clear in any of them, and its `tlb_remove_tlb_entries()`
/// (`include/asm-generic/tlb.h`).
fn clear_young_dirty_ptes(
    k: &mut Kernel<'_>,
    tlb: &mut MmuGather,
    (addr, nr): (u64, u64),
    clear_dirty: bool,
) {
    let pages = || (addr..addr + nr * PAGE_SIZE).step_by(PAGE_SIZE as usize);
    let to_clear = |addr| match k.pte(addr) {
        Pte::Present { dirty, young, .. } => young || (clear_dirty && dirty),
        _ => false,
    };
    if !pages().any(to_clear) {
        return;
    }
    for addr in pages() {
        if let Pte::Present {
            folio, prot, dirty, ..
        } = k.pte(addr)
        {
            let pte = Pte::Present {
                folio,
                prot,
                dirty: dirty && !clear_dirty,
                young: false,
            };
            k.set_pte(addr, pte);
        }
        tlb_remove_tlb_entry(tlb, addr);
    }
}

/// `can_madv_lru_vma()`
fn can_madv_lru_vma(vma: &Vma) -> bool {
    !vma.has(vm::LOCKED | vm::PFNMAP | vm::HUGETLB)
}

/// `madvise_cold_page_range()` and `madvise_pageout_page_range()`, between
/// gathering and finishing.
fn cold_or_pageout(k: &mut Kernel<'_>, pageout: bool, start: u64, end: u64) {
    lru_add_drain(k);
    let mut tlb = tlb_gather_mmu(k);
    for (addr, next, _) in walk_page_range(k, start, end) {
        madvise_cold_or_pageout_pte_range(k, &mut tlb, pageout, addr, next);
    }
    tlb_end_vma(k, &mut tlb);
    tlb_finish_mmu(k, tlb);
}

/// `madvise_cold()`
///
/// # Errors
/// EINVAL where the vma is locked, or hugetlb's.
pub fn madvise_cold(k: &mut Kernel<'_>, vma: &Vma, start: u64, end: u64) -> Result<(), i32> {
    if !can_madv_lru_vma(vma) {
        return Err(EINVAL);
    }
    cold_or_pageout(k, false, start, end);
    Ok(())
}

/// `madvise_pageout()`
///
/// # Errors
/// EINVAL where the vma is locked.
pub fn madvise_pageout(k: &mut Kernel<'_>, vma: &Vma, start: u64, end: u64) -> Result<(), i32> {
    if !can_madv_lru_vma(vma) {
        return Err(EINVAL);
    }
    cold_or_pageout(k, true, start, end);
    Ok(())
}

/// `madvise_free_pte_range()`, of one PMD.
fn madvise_free_pte_range(k: &mut Kernel<'_>, tlb: &mut MmuGather, mut addr: u64, end: u64) {
    if madvise_free_huge_pmd(k, tlb, (addr, end)) {
        return;
    }
    // pte_offset_map_lock(): the PMD may map a huge page still, that others map too.
    if k.mm.pgd.huge_pmd(addr).is_some() {
        return;
    }
    flush_tlb_batched_pending(k);
    while addr < end {
        addr += madvise_free_ptes(k, tlb, addr, end) * PAGE_SIZE;
    }
}

/// The loop of `madvise_free_pte_range()`, for one entry or folio: how many PTEs it goes
/// on; none where a huge page was split, whose pages come next.
fn madvise_free_ptes(k: &mut Kernel<'_>, tlb: &mut MmuGather, addr: u64, end: u64) -> u64 {
    match k.pte(addr) {
        // Nothing to write back, nothing to read again.
        Pte::Swap { entry, .. } => {
            let nr = swap_pte_batch(k, addr, end);
            free_swap_and_cache_nr(k, entry, nr);
            for page in 0..u64::from(nr) {
                k.set_pte(addr + page * PAGE_SIZE, Pte::None);
            }
            u64::from(nr)
        }
        Pte::Present {
            folio: Some(id), ..
        } => {
            let nr = madvise_folio_pte_batch(k, id, addr, end);
            match split_partial(k, id, nr) {
                None => return nr,
                Some(true) => return 0,
                Some(false) => {}
            }
            if may_be_lazyfree(k, id) {
                clear_young_dirty_ptes(k, tlb, (addr, nr), true);
                folio_mark_lazyfree(k, id);
            }
            nr
        }
        Pte::Present { .. } | Pte::None | Pte::Guard => 1,
    }
}

/// What `madvise_free_pte_range()` does with a folio in the swap cache, or a
/// dirty one: cleans it, if it has it for itself.
fn may_be_lazyfree(k: &mut Kernel<'_>, id: FolioId) -> bool {
    let folio = &k.folios[id];
    if folio.swap.is_none() && !folio.dirty {
        return true;
    }
    if u64::from(folio.mapcount) != folio.nr_pages() {
        return false;
    }
    if folio.swap.is_some() && !folio_free_swap(k, id) {
        return false;
    }
    k.folios[id].dirty = false;
    true
}

/// `madvise_free_single_vma()`
///
/// # Errors
/// EINVAL where the vma is not anonymous.
pub fn madvise_free_single_vma(
    k: &mut Kernel<'_>,
    tlb: &mut MmuGather,
    vma: &Vma,
    start: u64,
    end: u64,
) -> Result<(), i32> {
    if !vma.is_anonymous() {
        return Err(EINVAL);
    }
    lru_add_drain(k);
    for (addr, next, _) in walk_page_range(k, start, end) {
        madvise_free_pte_range(k, tlb, addr, next);
    }
    tlb_end_vma(k, tlb);
    Ok(())
}
