// SPDX-License-Identifier: GPL-2.0-only
//! `mm/swap_state.c`: the swap cache.
//!
//! There is no readahead: the guest has `vm.page-cluster` at 0, with which
//! `swapin_nr_pages()` and `swap_vma_ra_win()` answer 1. With another value
//! the window depends on what ran before, in all of the system.

use crate::mm::swap::{folio_add_lru, folio_put, lru_add_drain};
use crate::mm::swap_slots::folio_alloc_swap;
use crate::mm::swapfile::{folio_free_swap, put_swap_folio};
use crate::mm::workingset::workingset_refault;
use crate::mm_types::{Folio, FolioId, Large, Shadow, SwapEntry};
use crate::state::Kernel;

/// `add_to_swap_cache()`; answers the shadow entry found there.
pub fn add_to_swap_cache(k: &mut Kernel<'_>, id: FolioId, entry: SwapEntry) -> Option<Shadow> {
    let nr_pages = k.folios[id].nr_pages() as u32;
    k.folios[id].refcount += nr_pages;
    k.folios[id].swap = Some(entry);
    let mut shadow = None;
    for entry in entry..entry + nr_pages {
        let slot = k.swap.slots.entry(entry).or_default();
        slot.cache = Some(id);
        shadow = slot.shadow.take().or(shadow);
    }
    shadow
}

/// `__delete_from_swap_cache()`: leaves the swap cache's references, to folio
/// and slot, to the caller.
pub fn __delete_from_swap_cache(k: &mut Kernel<'_>, id: FolioId, shadow: Option<Shadow>) {
    let nr_pages = k.folios[id].nr_pages() as u32;
    let Some(entry) = k.folios[id].swap.take() else {
        return;
    };
    for (_, slot) in k.swap.slots.range_mut(entry..entry + nr_pages) {
        slot.shadow = shadow;
    }
}

/// `delete_from_swap_cache()`. The caller has a reference to the folio.
pub fn delete_from_swap_cache(k: &mut Kernel<'_>, id: FolioId) {
    let Some(entry) = k.folios[id].swap else {
        return;
    };
    let nr_pages = k.folios[id].nr_pages() as u32;
    __delete_from_swap_cache(k, id, None);
    put_swap_folio(k, entry, nr_pages);
    folio_ref_sub(k, id, nr_pages);
}

/// `folio_ref_sub()` (`include/linux/page_ref.h`) of the swap cache's references. The caller
/// has one more.
pub fn folio_ref_sub(k: &mut Kernel<'_>, id: FolioId, nr: u32) {
    k.folios[id].refcount -= nr - 1;
    folio_put(k, id);
}

/// `add_to_swap()`
pub fn add_to_swap(k: &mut Kernel<'_>, id: FolioId) -> bool {
    let Some(entry) = folio_alloc_swap(k, id) else {
        return false;
    };
    add_to_swap_cache(k, id, entry);
    // Normally unmapping would find a dirty PTE; it need not.
    k.folios[id].dirty = true;
    true
}

/// `free_swap_cache()`
pub fn free_swap_cache(k: &mut Kernel<'_>, id: FolioId) {
    if k.folios[id].swap.is_some() && k.folios[id].mapcount == 0 {
        folio_free_swap(k, id);
    }
}

/// `free_pages_and_swap_cache()`: the end of an mmu_gather's batch.
pub fn free_pages_and_swap_cache(k: &mut Kernel<'_>, folios: &[(FolioId, u32)]) {
    if k.profile.zap_drains_lru {
        lru_add_drain(k);
    }
    for &(id, refs) in folios {
        free_swap_cache(k, id);
        for _ in 0..refs {
            folio_put(k, id);
        }
    }
}

/// `swap_cache_get_folio()`, with a reference for the caller.
pub fn swap_cache_get_folio(k: &mut Kernel<'_>, entry: SwapEntry) -> Option<FolioId> {
    let id = k.swap.slots.get(&entry)?.cache?;
    k.folio_get(id);
    Some(id)
}

/// `__read_swap_cache_async()` and `swap_read_folio()` (`mm/page_io.c`), later
/// `swap_cache_alloc_folio()`: the folio in the swap cache, read in now if need be, with a
/// reference for the caller. None where only the cache would refer to the slot.
pub fn read_swap_cache_async(k: &mut Kernel<'_>, entry: SwapEntry, order: u32) -> Option<FolioId> {
    if let Some(id) = swap_cache_get_folio(k, entry) {
        return Some(id);
    }
    k.swap.slots.get(&entry).filter(|slot| slot.count != 0)?;
    let id = k.folios.alloc(swapped_folio(k, entry, order));
    if let Some(shadow) = add_to_swap_cache(k, id, entry) {
        workingset_refault(k, id, shadow);
    }
    folio_add_lru(k, id);
    Some(id)
}

/// A folio as it is read from slots that follow one another.
pub fn swapped_folio(k: &Kernel<'_>, entry: SwapEntry, order: u32) -> Folio {
    let slot = |entry: SwapEntry| k.swap.slots.get(&entry).copied().unwrap_or_default();
    let large = (order > 0).then(|| {
        let mut large = Large::unmapped(order);
        for (page, content) in large.contents.iter_mut().enumerate() {
            *content = slot(entry + page as SwapEntry).content;
        }
        Box::new(large)
    });
    Folio {
        swapbacked: true,
        charged: slot(entry).charged,
        content: slot(entry).content,
        large,
        ..Folio::default()
    }
}
