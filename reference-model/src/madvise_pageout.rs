// SPDX-License-Identifier: GPL-2.0-only
//! The part of `mm/madvise.c` that ages, reclaims or discards pages:
//! MADV_COLD, MADV_PAGEOUT, MADV_FREE, and MADV_WILLNEED's swapping in.
//!
//! All of these walk only PTE tables that exist (`walk_page_range()` calls
//! `pmd_entry` for no others), and first in each table make up for flushes
//! that reclaim has put off.

use crate::api::PAGE_SIZE;
use crate::errno::EINVAL;
use crate::kernel::Kernel;
use crate::mm_types::{CacheEntry, FolioId, Pte, Vma, vm};
use crate::mmu_gather::{
    MmuGather, tlb_end_vma, tlb_finish_mmu, tlb_gather_mmu, tlb_remove_tlb_entry,
};
use crate::rmap::flush_tlb_batched_pending;
use crate::swap::{
    folio_deactivate, folio_isolate_lru, folio_mark_lazyfree, folio_put, folio_putback_lru,
    lru_add_drain,
};
use crate::swap_state::read_swap_cache_async;
use crate::swapfile::{folio_free_swap, free_swap_and_cache};
use crate::tlbflush::PMD_SIZE;
use crate::vmscan::reclaim_pages;

/// `walk_page_range()` down to `walk_pmd_range()`: the parts of `[start, end)`
/// that have a PTE table, in ascending order.
fn walk_page_range(k: &Kernel<'_>, start: u64, end: u64) -> Vec<(u64, u64)> {
    if start >= end {
        return Vec::new();
    }
    let tables = k.mm.pgd.pte_tables.range((start >> 21)..=((end - 1) >> 21));
    tables
        .map(|(&table, _)| {
            let addr = table << 21;
            (addr.max(start), (addr + PMD_SIZE).min(end))
        })
        .collect()
}

/// `swapin_walk_pmd_entry()`
fn swapin_walk_pmd_entry(k: &mut Kernel<'_>, addr: u64, end: u64) {
    for addr in (addr..end).step_by(PAGE_SIZE as usize) {
        if let Pte::Swap { entry, .. } = k.pte(addr)
            && let Some(id) = read_swap_cache_async(k, entry)
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
        if let Some(id) = read_swap_cache_async(k, entry) {
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
            for (addr, next) in walk_page_range(k, start, end) {
                swapin_walk_pmd_entry(k, addr, next);
            }
        }
        Some(file) => {
            let first = vma.linear_page_index(start);
            let last = vma.linear_page_index(end).saturating_sub(1).max(first);
            shmem_swapin_range(k, file, first, last);
        }
    }
    lru_add_drain(k);
    Ok(())
}

/// `madvise_cold_or_pageout_pte_range()`, of one PTE table. The subject owns its
/// files, so that there is no `pageout_anon_only_filter`.
fn madvise_cold_or_pageout_pte_range(
    k: &mut Kernel<'_>,
    tlb: &mut MmuGather,
    pageout: bool,
    addr: u64,
    end: u64,
) {
    flush_tlb_batched_pending(k);
    let mut folio_list = Vec::new();
    for addr in (addr..end).step_by(PAGE_SIZE as usize) {
        // vm_normal_folio(): the zero page has none.
        let pte = k.pte(addr);
        let Pte::Present {
            folio: Some(id), ..
        } = pte
        else {
            continue;
        };
        // No interference with other mappings, and nothing that is still in a batch.
        if !k.folios[id].lru || k.folios[id].mapcount != 1 {
            continue;
        }
        if !pageout {
            clear_young_dirty_pte(k, tlb, addr, pte, false);
        }
        let folio = &mut k.folios[id];
        folio.referenced = false;
        if folio.active {
            folio.workingset = true;
        }
        if pageout {
            isolate_for_pageout(k, id, &mut folio_list);
        } else {
            folio_deactivate(k, id);
        }
    }
    if pageout && !folio_list.is_empty() {
        reclaim_pages(k, folio_list);
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

/// `clear_young_dirty_ptes()` of one PTE, where there is something to clear,
/// and its `tlb_remove_tlb_entries()`.
fn clear_young_dirty_pte(
    k: &mut Kernel<'_>,
    tlb: &mut MmuGather,
    addr: u64,
    pte: Pte,
    clear_dirty: bool,
) {
    let Pte::Present {
        folio,
        prot,
        dirty,
        young,
    } = pte
    else {
        return;
    };
    let to_clear = young || (clear_dirty && dirty);
    if !to_clear {
        return;
    }
    let pte = Pte::Present {
        folio,
        prot,
        dirty: dirty && !clear_dirty,
        young: false,
    };
    k.set_pte(addr, pte);
    tlb_remove_tlb_entry(tlb, addr);
}

/// `can_madv_lru_vma()`
fn can_madv_lru_vma(vma: &Vma) -> bool {
    !vma.has(vm::LOCKED)
}

/// `madvise_cold_page_range()` and `madvise_pageout_page_range()`, between
/// gathering and finishing.
fn cold_or_pageout(k: &mut Kernel<'_>, pageout: bool, start: u64, end: u64) {
    lru_add_drain(k);
    let mut tlb = tlb_gather_mmu(k);
    for (addr, next) in walk_page_range(k, start, end) {
        madvise_cold_or_pageout_pte_range(k, &mut tlb, pageout, addr, next);
    }
    tlb_end_vma(k, &mut tlb);
    tlb_finish_mmu(k, tlb);
}

/// `madvise_cold()`
///
/// # Errors
/// EINVAL where the vma is locked.
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

/// `madvise_free_pte_range()`, of one PTE table.
fn madvise_free_pte_range(k: &mut Kernel<'_>, tlb: &mut MmuGather, addr: u64, end: u64) {
    flush_tlb_batched_pending(k);
    for addr in (addr..end).step_by(PAGE_SIZE as usize) {
        let pte = k.pte(addr);
        match pte {
            // Nothing to write back, nothing to read again.
            Pte::Swap { entry, .. } => {
                free_swap_and_cache(k, entry);
                k.set_pte(addr, Pte::None);
            }
            Pte::Present {
                folio: Some(id), ..
            } if may_be_lazyfree(k, id) => {
                clear_young_dirty_pte(k, tlb, addr, pte, true);
                folio_mark_lazyfree(k, id);
            }
            Pte::Present { .. } | Pte::None | Pte::Guard => {}
        }
    }
}

/// What `madvise_free_pte_range()` does with a folio in the swap cache, or a
/// dirty one: cleans it, if it has it for itself.
fn may_be_lazyfree(k: &mut Kernel<'_>, id: FolioId) -> bool {
    let folio = &k.folios[id];
    if folio.swap.is_none() && !folio.dirty {
        return true;
    }
    if folio.mapcount != 1 {
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
    for (addr, next) in walk_page_range(k, start, end) {
        madvise_free_pte_range(k, tlb, addr, next);
    }
    tlb_end_vma(k, tlb);
    Ok(())
}
