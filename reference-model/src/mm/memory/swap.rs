// SPDX-License-Identifier: GPL-2.0-only
//! `mm/memory.c`, of its third part what brings a page back from swap.

use crate::api::PAGE_SIZE;
use crate::arch::riscv::mm::init::{prot_is_young, vm_get_page_prot};
use crate::arch::riscv::mm::tlbflush::PMD_SIZE;
use crate::mm::huge_memory;
use crate::mm::ksm::ksm_might_need_to_copy;
use crate::mm::memory::fault::{SMALLEST_LARGE, anon_vma_of, do_wp_page};
use crate::mm::memory::zap::swap_pte_batch;
use crate::mm::mempolicy::policy_node;
use crate::mm::mlock::mlock_folio;
use crate::mm::swap::{folio_add_lru, folio_add_lru_vma, folio_put, lru_add_drain};
use crate::mm::swap_state::{read_swap_cache_async, swap_cache_get_folio, swapped_folio};
use crate::mm::swapfile::PMD_ORDER;
use crate::mm::swapfile::{folio_free_swap, swap_count, swap_free, vm_swap_full};
use crate::mm::workingset::workingset_refault;
use crate::mm_types::{FolioId, Pte, SwapEntry, Vma, prot, vm};
use crate::state::Kernel;

/// `should_try_to_free_swap()`
fn should_try_to_free_swap(k: &Kernel<'_>, id: FolioId, vma: &Vma, write: bool) -> bool {
    let folio = &k.folios[id];
    if folio.swap.is_none() {
        return false;
    }
    // SWP_SYNCHRONOUS_IO
    if k.profile.swapin_always_cached {
        return true;
    }
    if vm_swap_full(k) || vma.has(vm::LOCKED) || folio.mlocked {
        return true;
    }
    write && !folio.ksm && u64::from(folio.refcount) == 1 + folio.nr_pages()
}

/// The part of `do_swap_page()` that skips the swap cache: zram is
/// SWP_SYNCHRONOUS_IO, and one PTE only refers to the slot. The first of the folio's slots is
/// `entry`.
fn alloc_swap_folio(k: &mut Kernel<'_>, entry: SwapEntry, order: u32) -> FolioId {
    let slot = k.swap.slots.get(&entry).copied().unwrap_or_default();
    let id = k.folios.alloc(swapped_folio(k, entry, order));
    if let Some(shadow) = slot.shadow {
        workingset_refault(k, id, shadow);
    }
    folio_add_lru(k, id);
    id
}

/// `thp_swapin_suitable_orders()`, in 6.12 the first part of `alloc_swap_folio()`: of which
/// order the folio is that is read in.
fn thp_swapin_suitable_order(k: &Kernel<'_>, vma: &Vma, addr: u64, entry: SwapEntry) -> u32 {
    let fits = |order: &u32| {
        let nr_pages = 1u64 << order;
        huge_memory::allowable_in_fault(k, vma, *order)
            && huge_memory::thp_vma_suitable_order(vma, addr, *order)
            // thp_swap_suitable_orders()
            && (addr / PAGE_SIZE) % nr_pages == u64::from(entry) % nr_pages
            && can_swapin_thp(k, addr & !(nr_pages * PAGE_SIZE - 1), nr_pages)
    };
    (SMALLEST_LARGE..PMD_ORDER).rev().find(fits).unwrap_or(0)
}

/// `can_swapin_thp()`, later with `__swap_cache_add_check()`: the PTEs name one slot after the
/// other, none of which is in the swap cache, and all went out as zeroes, or none did.
fn can_swapin_thp(k: &Kernel<'_>, start: u64, nr_pages: u64) -> bool {
    let Pte::Swap { entry, .. } = k.pte(start) else {
        return false;
    };
    if !u64::from(entry).is_multiple_of(nr_pages) {
        return false;
    }
    let slot = |page: u64| k.swap.slots.get(&(entry + page as u32));
    let zero = |page: u64| slot(page).map(|slot| slot.zero);
    let end = start + nr_pages * PAGE_SIZE;
    u64::from(swap_pte_batch(k, start, end)) == nr_pages
        && (0..nr_pages).all(|page| zero(page) == zero(0))
        && (0..nr_pages).all(|page| slot(page).is_some_and(|slot| slot.cache.is_none()))
}

/// What `do_swap_page()` maps of a folio in the swap cache: all of it where all of its PTEs
/// name its slots, else the one page. The first address, the first slot and how many.
fn mapped_at_once(
    k: &Kernel<'_>,
    vma: &Vma,
    id: FolioId,
    (addr, entry): (u64, SwapEntry),
) -> (u64, SwapEntry, u64) {
    let one = (addr, entry, 1);
    let nr_pages = k.folios[id].nr_pages();
    let Some(first) = k.folios[id].swap.filter(|_| nr_pages > 1) else {
        return one;
    };
    let idx = u64::from(entry - first) * PAGE_SIZE;
    let pmd = addr & !(PMD_SIZE - 1);
    let Some(start) = addr
        .checked_sub(idx)
        .filter(|start| *start >= pmd.max(vma.start))
    else {
        return one;
    };
    let end = start + nr_pages * PAGE_SIZE;
    let named = |pte: Pte| matches!(pte, Pte::Swap { entry, .. } if entry == first);
    let all = end <= vma.end.min(pmd + PMD_SIZE)
        && named(k.pte(start))
        && u64::from(swap_pte_batch(k, start, end)) == nr_pages;
    if all { (start, first, nr_pages) } else { one }
}

/// `do_swap_page()`: the PTE at `addr` is a swap entry. No entry into
/// `tlbflush.c`, for what was not present is in no TLB.
pub fn do_swap_page(k: &mut Kernel<'_>, vma: &Vma, addr: u64, write: bool) {
    let Pte::Swap { entry, exclusive } = k.pte(addr) else {
        return;
    };
    // The reference that is taken here becomes the mapping's.
    let cached = swap_cache_get_folio(k, entry);
    let always_cached = k.profile.swapin_always_cached;
    // A slot that others refer to as well is read into the swap cache for all of them.
    let bypass = cached.is_none() && !always_cached && swap_count(k, entry) == 1;
    let order = match cached.is_none() && (bypass || always_cached) {
        true => thp_swapin_suitable_order(k, vma, addr, entry),
        false => 0,
    };
    let first = entry & !((1 << order) - 1);
    let id = match cached {
        Some(id) => id,
        None if bypass => alloc_swap_folio(k, first, order),
        None => match read_swap_cache_async(k, first, order) {
            Some(id) => id,
            None => return,
        },
    };
    if cached.is_none() {
        k.folios[id].node = policy_node(vma.policy);
    }
    let swapcache = id;
    let copy = match bypass {
        true => None,
        false => ksm_might_need_to_copy(k, vma, id, addr),
    };
    let id = copy.unwrap_or(id);
    let drains = copy.is_none() || k.profile.swapin_always_cached;
    if !bypass && write && drains && !k.folios[id].ksm && !k.folios[id].lru {
        lru_add_drain(k);
    }
    let (start, entry, nr_pages) = match bypass {
        true => (addr & !((PAGE_SIZE << order) - 1), first, 1 << order),
        false => mapped_at_once(k, vma, id, (addr, entry)),
    };
    let entries = entry..entry + nr_pages as u32;
    let ksm = k.folios[id].ksm;
    let exclusive = !ksm && (exclusive || bypass || copy.is_some());
    if !always_cached {
        // Before it is mapped; in later kernels, after.
        swap_free_nr(k, entries.clone());
        if should_try_to_free_swap(k, id, vma, write) {
            folio_free_swap(k, id);
        }
    }
    let exclusive = exclusive || !ksm && k.folios[id].refcount == 1;
    let writable = exclusive && vma.has(vm::WRITE);
    // A folio of the swap cache knows its anon_vma already.
    if !k.folios[id].anon {
        folio_add_new_anon_rmap(k, vma, id, start, exclusive);
        if copy.is_some() {
            folio_add_lru_vma(k, id, vma.flags);
        }
    } else if vma.has(vm::LOCKED) && k.folios[id].large.is_none() {
        // mlock_vma_folio(), by __folio_add_anon_rmap()
        mlock_folio(k, id);
    }
    let rights = vm_get_page_prot(vma.flags) | if writable { prot::W } else { 0 };
    let pte = Pte::Present {
        folio: Some(id),
        prot: rights,
        dirty: write && writable,
        young: prot_is_young(rights),
    };
    k.folios[id].swapbacked = true;
    k.folios[id].refcount += nr_pages as u32 - 1;
    for addr in (start..start + nr_pages * PAGE_SIZE).step_by(PAGE_SIZE as usize) {
        // folio_add_anon_rmap_ptes()
        k.folios[id].dup_rmap_pte(addr);
        k.folios[id].set_page_anon_exclusive(addr, exclusive);
        k.set_pte(addr, pte);
    }
    if always_cached {
        swap_free_nr(k, entries);
        if should_try_to_free_swap(k, id, vma, write) {
            folio_free_swap(k, id);
        }
    }
    if copy.is_some() {
        folio_put(k, swapcache);
    }
    if write && !writable {
        do_wp_page(k, vma, addr, false);
    }
}

/// What `folio_add_new_anon_rmap()` (`mm/rmap.c`) notes of a folio that is mapped for the first time.
pub fn folio_add_new_anon_rmap(
    k: &mut Kernel<'_>,
    vma: &Vma,
    id: FolioId,
    addr: u64,
    exclusive: bool,
) {
    let anon_vma = anon_vma_of(k, vma);
    let known = k.anon_vmas.get(anon_vma as usize);
    let root = known.map_or(0, |anon_vma| anon_vma.root);
    let index = vma.linear_anon_page_index(k.profile, addr);
    let folio = &mut k.folios[id];
    folio.anon = true;
    folio.anon_vma = if exclusive { anon_vma } else { root };
    folio.index = index;
}

/// `swap_free_nr()` (`mm/swapfile.c`)
fn swap_free_nr(k: &mut Kernel<'_>, entries: std::ops::Range<SwapEntry>) {
    for entry in entries {
        swap_free(k, entry);
    }
}
