// SPDX-License-Identifier: GPL-2.0-only
//! `mm/swapfile.c` and `mm/swap_slots.c`: slots of the swap device, and who
//! refers to them.
//!
//! Simplified: which slot is given out. Nothing observable depends on it, for
//! the guest reads no slot but the wanted one (`vm.page-cluster` is 0). Slots
//! that lie in per-CPU slot caches are counted as free ones.

use crate::api::PAGE_SIZE;
use crate::kernel::Kernel;
use crate::mm_types::{FolioId, SwapEntry, SwapSlot};
use crate::swap::folio_put;
use crate::swap_state::delete_from_swap_cache;

/// Pages of the swap device: 256 MiB but for the header.
pub const TOTAL_SWAP_PAGES: u64 = (256 << 20) / 4096 - 1;

/// `SWAP_MAP_SHMEM` (`include/linux/swap.h`): the reference of a shmem page cache.
pub const SWAP_MAP_SHMEM: u32 = 0xbf;

/// `get_nr_swap_pages()` (`include/linux/swap.h`)
pub fn get_nr_swap_pages(k: &Kernel<'_>) -> u64 {
    if !k.swap.on {
        return 0;
    }
    TOTAL_SWAP_PAGES.saturating_sub(k.swap.slots.len() as u64)
}

/// `total_swap_pages`
pub fn total_swap_pages(k: &Kernel<'_>) -> u64 {
    if k.swap.on { TOTAL_SWAP_PAGES } else { 0 }
}

/// `vm_swap_full()` (`include/linux/swap.h`); `mem_cgroup_swap_full()` adds
/// nothing, for no cgroup here has a swap limit.
pub fn vm_swap_full(k: &Kernel<'_>) -> bool {
    get_nr_swap_pages(k) * 2 < total_swap_pages(k)
}

/// `folio_alloc_swap()` (`mm/swap_slots.c`): slots that only the swap cache refers to,
/// one after the other for a huge page; the caller puts the folio in. Whether a huge
/// page finds a free cluster is taken from how many slots are free at all: half of a
/// device in use may leave no whole cluster.
pub fn folio_alloc_swap(k: &mut Kernel<'_>, id: FolioId) -> Option<SwapEntry> {
    let nr_pages = k.folios[id].nr_pages() as u32;
    if get_nr_swap_pages(k) < u64::from(nr_pages) {
        return None;
    }
    let recycled = if nr_pages == 1 {
        k.swap.free.pop()
    } else {
        None
    };
    let entry = recycled.unwrap_or_else(|| {
        k.swap.next += nr_pages;
        k.swap.next - nr_pages
    });
    for page in 0..nr_pages {
        let folio = &k.folios[id];
        let slot = SwapSlot {
            charged: folio.charged,
            data: folio.page_has_data(u64::from(page) * PAGE_SIZE),
            ..SwapSlot::default()
        };
        k.swap.slots.insert(entry + page, slot);
    }
    Some(entry)
}

/// `__swap_count()`, `swap_swapcount()`
pub fn swap_count(k: &Kernel<'_>, entry: SwapEntry) -> u32 {
    k.swap.slots.get(&entry).map_or(0, |slot| slot.count)
}

/// `swap_duplicate()`: one more page table refers to the slot. None where the
/// slot is not in use.
pub fn swap_duplicate(k: &mut Kernel<'_>, entry: SwapEntry) -> Option<()> {
    k.swap.slots.get_mut(&entry)?.count += 1;
    Some(())
}

/// `swap_shmem_alloc()`
pub fn swap_shmem_alloc(k: &mut Kernel<'_>, entry: SwapEntry) {
    if let Some(slot) = k.swap.slots.get_mut(&entry) {
        slot.count = SWAP_MAP_SHMEM;
    }
}

/// Gives a slot back that nobody refers to any more (`free_swap_slot()`).
fn free_swap_slot_if_unused(k: &mut Kernel<'_>, entry: SwapEntry) {
    let unused = |slot: &SwapSlot| slot.count == 0 && slot.cache.is_none();
    if k.swap.slots.get(&entry).is_some_and(unused) {
        k.swap.slots.remove(&entry);
        k.swap.free.push(entry);
    }
}

/// `swap_free_nr()` of one slot, while the caller holds SWAP_HAS_CACHE or not.
pub fn swap_free(k: &mut Kernel<'_>, entry: SwapEntry) {
    if let Some(slot) = k.swap.slots.get_mut(&entry) {
        slot.count = match slot.count {
            SWAP_MAP_SHMEM => 0,
            count => count.saturating_sub(1),
        };
    }
    free_swap_slot_if_unused(k, entry);
}

/// `put_swap_folio()`: the swap cache no longer refers to the slots.
pub fn put_swap_folio(k: &mut Kernel<'_>, entry: SwapEntry, nr_pages: u32) {
    for entry in entry..entry + nr_pages {
        if let Some(slot) = k.swap.slots.get_mut(&entry) {
            slot.cache = None;
        }
        free_swap_slot_if_unused(k, entry);
    }
}

/// `folio_free_swap()`: gives the slot of a folio in the swap cache back, if
/// no page table and no shmem file refers to it. The caller has a reference.
pub fn folio_free_swap(k: &mut Kernel<'_>, id: FolioId) -> bool {
    let Some(entry) = k.folios[id].swap else {
        return false;
    };
    // folio_swapped()
    let nr_pages = k.folios[id].nr_pages() as u32;
    if (entry..entry + nr_pages).any(|entry| swap_count(k, entry) != 0) {
        return false;
    }
    delete_from_swap_cache(k, id);
    k.folios[id].dirty = true;
    true
}

/// `free_swap_and_cache_nr()` of one slot: a page table's or a shmem file's
/// reference is dropped, and with the last one an unmapped folio in the swap cache.
pub fn free_swap_and_cache(k: &mut Kernel<'_>, entry: SwapEntry) {
    swap_free(k, entry);
    let Some(slot) = k.swap.slots.get(&entry) else {
        return;
    };
    if let (0, Some(id)) = (slot.count, slot.cache) {
        try_to_reclaim_swap(k, id);
    }
}

/// `__try_to_reclaim_swap()` with `TTRS_UNMAPPED | TTRS_FULL`
fn try_to_reclaim_swap(k: &mut Kernel<'_>, id: FolioId) {
    if k.folios[id].mapcount != 0 && !vm_swap_full(k) {
        return;
    }
    k.folio_get(id);
    folio_free_swap(k, id);
    folio_put(k, id);
}
