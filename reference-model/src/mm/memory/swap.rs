// SPDX-License-Identifier: GPL-2.0-only
//! `mm/memory.c`, of its third part what brings a page back from swap.

use crate::arch::riscv::mm::init::{prot_is_young, vm_get_page_prot};
use crate::mm::memory::fault::{anon_vma_of, do_wp_page};
use crate::mm::swap::{folio_add_lru, lru_add_drain};
use crate::mm::swap_state::{read_swap_cache_async, swap_cache_get_folio};
use crate::mm::swapfile::{folio_free_swap, swap_count, swap_free, vm_swap_full};
use crate::mm::workingset::workingset_refault;
use crate::mm_types::{Folio, FolioId, Pte, SwapEntry, Vma, prot, vm};
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
    write && folio.refcount == 2
}

/// The part of `do_swap_page()` that skips the swap cache: zram is
/// SWP_SYNCHRONOUS_IO, and one PTE only refers to the slot.
fn alloc_swap_folio(k: &mut Kernel<'_>, entry: SwapEntry) -> FolioId {
    let slot = k.swap.slots.get(&entry).copied().unwrap_or_default();
    let id = k.folios.alloc(Folio {
        swapbacked: true,
        charged: slot.charged,
        data: slot.data,
        ..Folio::default()
    });
    if let Some(shadow) = slot.shadow {
        workingset_refault(k, id, shadow);
    }
    folio_add_lru(k, id);
    id
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
    let id = match cached {
        Some(id) => id,
        None if bypass => alloc_swap_folio(k, entry),
        None => match read_swap_cache_async(k, entry) {
            Some(id) => id,
            None => return,
        },
    };
    if !bypass && write && !k.folios[id].lru {
        lru_add_drain(k);
    }
    let exclusive = exclusive || bypass;
    if !always_cached {
        // Before it is mapped; in later kernels, after.
        swap_free(k, entry);
        if should_try_to_free_swap(k, id, vma, write) {
            folio_free_swap(k, id);
        }
    }
    let exclusive = exclusive || k.folios[id].refcount == 1;
    let writable = exclusive && vma.has(vm::WRITE);
    // folio_add_new_anon_rmap(), folio_add_anon_rmap_ptes()
    // A folio of the swap cache knows its anon_vma already.
    if !k.folios[id].anon {
        let anon_vma = anon_vma_of(k, vma);
        let root = k
            .anon_vmas
            .get(anon_vma as usize)
            .map_or(0, |anon_vma| anon_vma.root);
        let index = vma.linear_anon_page_index(k.profile, addr);
        let folio = &mut k.folios[id];
        folio.anon = true;
        folio.anon_vma = if exclusive { anon_vma } else { root };
        folio.index = index;
    }
    let folio = &mut k.folios[id];
    folio.swapbacked = true;
    folio.mapcount += 1;
    folio.set_page_anon_exclusive(addr, exclusive);
    let rights = vm_get_page_prot(vma.flags) | if writable { prot::W } else { 0 };
    let pte = Pte::Present {
        folio: Some(id),
        prot: rights,
        dirty: write && writable,
        young: prot_is_young(rights),
    };
    k.set_pte(addr, pte);
    if always_cached {
        swap_free(k, entry);
        if should_try_to_free_swap(k, id, vma, write) {
            folio_free_swap(k, id);
        }
    }
    if write && !writable {
        do_wp_page(k, vma, addr, false);
    }
}
