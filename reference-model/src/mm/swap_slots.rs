// SPDX-License-Identifier: GPL-2.0-only
//! `mm/swap_slots.c`: each hart's cache of free swap slots. Later kernels have none
//! (`Profile::swap_slots_cache`).

use crate::api::PAGE_SIZE;
use crate::mm::swapfile::{get_nr_swap_pages, get_swap_pages, swap_alloc, swap_entry_range_free};
use crate::mm_types::{FolioId, SwapEntry, SwapSlot};
use crate::state::Kernel;

/// `SWAP_SLOTS_CACHE_SIZE` (`include/linux/swap_slots.h`)
const SWAP_SLOTS_CACHE_SIZE: u64 = 64;

/// `check_cache_active()`
fn check_cache_active(k: &mut Kernel<'_>) -> bool {
    let slots = u64::from(k.machine.harts) * SWAP_SLOTS_CACHE_SIZE;
    let pages = get_nr_swap_pages(k);
    if !k.swap.slots_cache_active {
        k.swap.slots_cache_active = pages > 5 * slots;
    } else if pages < 2 * slots {
        deactivate_swap_slots_cache(k);
    }
    k.swap.slots_cache_active
}

/// `deactivate_swap_slots_cache()`: all harts' slots go back.
pub fn deactivate_swap_slots_cache(k: &mut Kernel<'_>) {
    k.swap.slots_cache_active = false;
    for cache in std::mem::take(&mut k.swap.slots_caches).into_values() {
        for entry in cache.slots.into_iter().chain(cache.slots_ret) {
            swap_entry_range_free(k, entry, 1);
        }
    }
}

/// `free_swap_slot()`: the slot waits in the hart's cache, or is free
/// at once.
pub fn free_swap_slot(k: &mut Kernel<'_>, entry: SwapEntry) {
    if !k.profile.swap_slots_cache || !k.swap.slots_cache_active {
        swap_entry_range_free(k, entry, 1);
        return;
    }
    let hart = k.hart();
    let slots_ret = &mut k.swap.slots_caches.entry(hart).or_default().slots_ret;
    let full = slots_ret.len() as u64 >= SWAP_SLOTS_CACHE_SIZE;
    let returned = if full {
        std::mem::take(slots_ret)
    } else {
        Vec::new()
    };
    slots_ret.push(entry);
    for entry in returned {
        swap_entry_range_free(k, entry, 1);
    }
}

/// `folio_alloc_swap()`: slots that only the swap cache refers to,
/// one after the other for a huge page; the caller puts the folio in.
pub fn folio_alloc_swap(k: &mut Kernel<'_>, id: FolioId) -> Option<SwapEntry> {
    if !k.swap.on {
        return None;
    }
    let nr_pages = k.folios[id].nr_pages() as u32;
    let entry = get_slots(k, k.folios[id].order())?;
    // is_folio_zero_filled(): the folio as a whole
    let content = |page: u32| k.folios[id].page_content(u64::from(page) * PAGE_SIZE);
    let zero = (0..nr_pages).all(|page| content(page).is_zeroes());
    for page in 0..nr_pages {
        let folio = &k.folios[id];
        let slot = SwapSlot {
            charged: folio.charged,
            content: folio.page_content(u64::from(page) * PAGE_SIZE),
            zero,
            ..SwapSlot::default()
        };
        k.swap.slots.insert(entry + page, slot);
    }
    Some(entry)
}

/// The part of `folio_alloc_swap()` that finds the slots.
fn get_slots(k: &mut Kernel<'_>, order: u32) -> Option<SwapEntry> {
    if !k.profile.swap_slots_cache {
        return swap_alloc(k, order);
    }
    if order != 0 || !check_cache_active(k) {
        return get_swap_pages(k, 1, order).pop();
    }
    let hart = k.hart();
    if k.swap
        .slots_caches
        .entry(hart)
        .or_default()
        .slots
        .is_empty()
    {
        // refill_swap_slots_cache()
        let slots = get_swap_pages(k, SWAP_SLOTS_CACHE_SIZE, 0);
        k.swap.slots_caches.entry(hart).or_default().slots = slots.into();
    }
    let cached = k
        .swap
        .slots_caches
        .entry(hart)
        .or_default()
        .slots
        .pop_front();
    cached.or_else(|| get_swap_pages(k, 1, 0).pop())
}
