// SPDX-License-Identifier: GPL-2.0-only
//! `mm/vmscan.c`, its first part: what becomes of isolated folios.

use crate::include::linux::mm_inline::folio_is_file_lru;
use crate::mm::gup::folio_maybe_dma_pinned;
use crate::mm::huge_memory::{can_split_folio, split_huge_page_to_list_to_order};
use crate::mm::memcontrol::folio_lruvec;
use crate::mm::page_alloc::free_unref_folios;
use crate::mm::page_io::swap_writepage;
use crate::mm::rmap::{
    folio_referenced, try_to_unmap, try_to_unmap_flush, try_to_unmap_flush_dirty,
};
use crate::mm::shmem::shmem_writepage;
use crate::mm::swap::{PAGEVEC_SIZE, folio_add_lru, folio_evictable, folio_put};
use crate::mm::swap_state::{__delete_from_swap_cache, add_to_swap, folio_ref_sub};
use crate::mm::swapfile::{folio_free_swap, put_swap_folio, vm_swap_full};
use crate::mm::workingset::workingset_eviction;
use crate::mm_types::{FolioId, vm};
use crate::state::Kernel;

/// `struct reclaim_stat` (`include/linux/vmstat.h`), as far as it is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReclaimStat {
    pub nr_pageout: u64,
    pub nr_unqueued_dirty: u64,
}

/// `enum folio_references`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FolioReferences {
    Reclaim,
    ReclaimClean,
    Keep,
    Activate,
}

/// `pageout_t`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pageout {
    Keep,
    Activate,
    Success,
}

/// Where a folio leaves the loop of `shrink_folio_list()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    KeepLocked,
    ActivateLocked,
    FreeIt,
}

/// `folio_check_references()`
fn folio_check_references(k: &mut Kernel<'_>, id: FolioId) -> FolioReferences {
    let (referenced_ptes, vm_flags) = folio_referenced(k, id);
    let referenced_folio = std::mem::take(&mut k.folios[id].referenced);
    if vm_flags & vm::LOCKED != 0 {
        return FolioReferences::Activate;
    }
    if referenced_ptes > 0 {
        // Every mapped folio starts out young, so one reference is no proof yet.
        k.folios[id].referenced = true;
        if referenced_folio || referenced_ptes > 1 {
            return FolioReferences::Activate;
        }
        if vm_flags & vm::EXEC != 0 && folio_is_file_lru(k, id) {
            return FolioReferences::Activate;
        }
        return FolioReferences::Keep;
    }
    if referenced_folio && folio_is_file_lru(k, id) {
        return FolioReferences::ReclaimClean;
    }
    FolioReferences::Reclaim
}

/// `pageout()`. The write is complete when it returns: a page of zeroes is only noted, and
/// zram is written synchronously (SWP_SYNCHRONOUS_IO).
fn pageout(k: &mut Kernel<'_>, id: FolioId, folio_list: &mut Vec<FolioId>) -> Pageout {
    // is_page_cache_freeable()
    if u64::from(k.folios[id].refcount) != 1 + k.folios[id].nr_pages() {
        return Pageout::Keep;
    }
    if k.folios[id].swap.is_none() {
        // A folio that is neither in the swap cache nor in a file has no mapping.
        let Some((file, _)) = k.folios[id].mapping else {
            return Pageout::Keep;
        };
        return match shmem_writepage(k, id, file, folio_list) {
            true => Pageout::Success,
            false => Pageout::Activate,
        };
    }
    k.folios[id].dirty = false;
    swap_writepage(k, id);
    Pageout::Success
}

/// `__remove_mapping()`: takes the folio, unless it is used or dirty, out of
/// its cache, and so drops the last reference but isolation's.
fn __remove_mapping(k: &mut Kernel<'_>, id: FolioId, memcg: bool) -> bool {
    let nr_pages = k.folios[id].nr_pages() as u32;
    if k.folios[id].refcount != 1 + nr_pages || k.folios[id].dirty {
        return false;
    }
    if let Some(entry) = k.folios[id].swap {
        let shadow = workingset_eviction(k, id, memcg);
        __delete_from_swap_cache(k, id, Some(shadow));
        put_swap_folio(k, entry, nr_pages);
    } else if let Some((file, index)) = k.folios[id].mapping {
        // What was never written to of shared memory is a hole again, and leaves no shadow.
        if folio_is_file_lru(k, id) {
            let shadow = workingset_eviction(k, id, memcg);
            let pages = index..index + u64::from(nr_pages);
            k.files[file].shadows.extend(pages.map(|at| (at, shadow)));
        }
        k.folios[id].mapping = None;
        k.files[file].uncache(index, u64::from(nr_pages));
    } else {
        return false;
    }
    folio_ref_sub(k, id, nr_pages);
    true
}

/// `folio_putback_lru()`
pub fn folio_putback_lru(k: &mut Kernel<'_>, id: FolioId) {
    folio_add_lru(k, id);
    folio_put(k, id);
}

/// The body of the loop in `shrink_folio_list()`, up to where it ends for this folio.
fn shrink_folio(
    k: &mut Kernel<'_>,
    id: FolioId,
    memcg: bool,
    stat: &mut ReclaimStat,
    ignore_references: bool,
    folio_list: &mut Vec<FolioId>,
) -> Label {
    if !folio_evictable(k, id) {
        return Label::ActivateLocked;
    }
    // folio_check_dirty_writeback()
    if folio_is_file_lru(k, id) && k.folios[id].mapping.is_some() && k.folios[id].dirty {
        stat.nr_unqueued_dirty += k.folios[id].nr_pages();
    }
    let mut references = FolioReferences::Reclaim;
    if !ignore_references {
        references = folio_check_references(k, id);
    }
    match references {
        FolioReferences::Activate => return Label::ActivateLocked,
        FolioReferences::Keep => return Label::KeepLocked,
        FolioReferences::Reclaim | FolioReferences::ReclaimClean => {}
    }
    let folio = &k.folios[id];
    if folio.anon && folio.swapbacked && folio.swap.is_none() {
        if folio_maybe_dma_pinned(folio) {
            return Label::KeepLocked;
        }
        if !swap_out_or_split(k, id, folio_list) {
            return Label::ActivateLocked;
        }
    }
    if k.folios[id].mapcount > 0 {
        try_to_unmap(k, id);
        if k.folios[id].mapcount > 0 {
            return Label::ActivateLocked;
        }
    }
    if folio_maybe_dma_pinned(&k.folios[id]) {
        return Label::ActivateLocked;
    }
    if k.folios[id].dirty
        && let Some(label) = write_dirty_folio(k, id, references, stat, folio_list)
    {
        return label;
    }
    let folio = &k.folios[id];
    if folio.anon && !folio.swapbacked {
        // folio_ref_freeze(folio, 1)
        if folio.refcount != 1 {
            return Label::KeepLocked;
        }
    } else if !__remove_mapping(k, id, memcg) {
        return Label::KeepLocked;
    }
    Label::FreeIt
}

/// What `shrink_folio_list()` does to get a folio into the swap cache: one of which
/// some pages are unmapped is split before. False where it cannot be done.
fn swap_out_or_split(k: &mut Kernel<'_>, id: FolioId, folio_list: &mut Vec<FolioId>) -> bool {
    if let Some(large) = &k.folios[id].large {
        let partially_mapped = large.partially_mapped && k.deferred_split_queue.contains(&id);
        if !can_split_folio(k, id, 1) {
            return false;
        }
        if partially_mapped && !split_huge_page_to_list_to_order(k, id, Some(folio_list), 0) {
            return false;
        }
    }
    if add_to_swap(k, id) {
        return true;
    }
    // Fallback to swap normal pages
    k.folios[id].large.is_some()
        && split_huge_page_to_list_to_order(k, id, Some(folio_list), 0)
        && add_to_swap(k, id)
}

/// What `shrink_folio_list()` does with a folio that is dirty once it is
/// unmapped; None where it may now be freed.
fn write_dirty_folio(
    k: &mut Kernel<'_>,
    id: FolioId,
    references: FolioReferences,
    stat: &mut ReclaimStat,
    folio_list: &mut Vec<FolioId>,
) -> Option<Label> {
    // Only kswapd writes for the file LRU.
    if folio_is_file_lru(k, id) {
        // PG_reclaim
        k.folios[id].reclaim |= k.folios[id].mapping.is_some();
        return Some(Label::ActivateLocked);
    }
    if references == FolioReferences::ReclaimClean {
        return Some(Label::KeepLocked);
    }
    try_to_unmap_flush_dirty(k);
    match pageout(k, id, folio_list) {
        Pageout::Keep => Some(Label::KeepLocked),
        Pageout::Activate => Some(Label::ActivateLocked),
        Pageout::Success => {
            let nr_pages = k.folios[id].nr_pages();
            stat.nr_pageout += nr_pages;
            // NR_VMSCAN_WRITE, of pageout()
            folio_lruvec(k, id).events[0].io += nr_pages;
            // swap_writepage() dirties what it took out of the swap cache.
            k.folios[id].dirty.then_some(Label::KeepLocked)
        }
    }
}

/// `shrink_folio_list()`. `folio_list` is in the order in which folios leave
/// the kernel's list (from its tail); so is the list of kept ones that is
/// answered with the number of reclaimed ones.
pub fn shrink_folio_list(
    k: &mut Kernel<'_>,
    folio_list: Vec<FolioId>,
    memcg: bool,
    stat: &mut ReclaimStat,
    ignore_references: bool,
) -> (u64, Vec<FolioId>) {
    let mut free_folios: Vec<FolioId> = Vec::with_capacity(PAGEVEC_SIZE);
    let mut ret_folios = Vec::new();
    let mut nr_reclaimed = 0;
    let mut folio_list = folio_list;
    // From its end: the pages of a huge page that is split go there.
    folio_list.reverse();
    while let Some(id) = folio_list.pop() {
        match shrink_folio(k, id, memcg, stat, ignore_references, &mut folio_list) {
            Label::FreeIt => {
                nr_reclaimed += k.folios[id].nr_pages();
                free_folios.push(id);
                if free_folios.len() == PAGEVEC_SIZE {
                    try_to_unmap_flush(k);
                    free_unref_folios(k, &mut free_folios);
                }
                continue;
            }
            Label::ActivateLocked => activate_locked(k, id),
            Label::KeepLocked => {}
        }
        ret_folios.push(id);
    }
    try_to_unmap_flush(k);
    free_unref_folios(k, &mut free_folios);
    (nr_reclaimed, ret_folios)
}

/// The label `activate_locked` of `shrink_folio_list()`.
fn activate_locked(k: &mut Kernel<'_>, id: FolioId) {
    if k.folios[id].swap.is_some() && (vm_swap_full(k) || k.folios[id].mlocked) {
        folio_free_swap(k, id);
    }
    if !k.folios[id].mlocked {
        k.folios[id].active = true;
    }
}

/// `reclaim_pages()`: MADV_PAGEOUT's isolated folios, in the order of their isolation; those in
/// a row that are on one node at once.
pub fn reclaim_pages(k: &mut Kernel<'_>, folio_list: Vec<FolioId>) -> u64 {
    let mut nr_reclaimed = 0;
    let mut rest = folio_list.as_slice();
    while let Some(&first) = rest.first() {
        let nid = k.folios[first].node;
        let other = rest.iter().position(|&id| k.folios[id].node != nid);
        let (of_node, others) = rest.split_at(other.unwrap_or(rest.len()));
        nr_reclaimed += reclaim_folio_list(k, of_node.to_vec());
        rest = others;
    }
    nr_reclaimed
}

/// `reclaim_folio_list()`
fn reclaim_folio_list(k: &mut Kernel<'_>, folio_list: Vec<FolioId>) -> u64 {
    for &id in &folio_list {
        k.folios[id].active = false;
    }
    let mut stat = ReclaimStat::default();
    let (nr_reclaimed, kept) = shrink_folio_list(k, folio_list, false, &mut stat, true);
    for id in kept {
        folio_putback_lru(k, id);
    }
    nr_reclaimed
}
