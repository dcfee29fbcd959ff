// SPDX-License-Identifier: GPL-2.0-only
//! `mm/swapfile.c`, a part: swap is switched off, and all that is in it comes back.
//!
//! Pages of page tables come back to where their entries are, old, clean and without the right to
//! write; pages of memory files to their page cache. What was not mapped is in no TLB: nothing is
//! flushed.

use crate::api::{MmId, PAGE_SIZE};
use crate::arch::riscv::mm::init::vm_get_page_prot;
use crate::errno;
use crate::mm::ksm::ksm_might_need_to_copy;
use crate::mm::memory::swap::folio_add_new_anon_rmap;
use crate::mm::mempolicy::policy_node;
use crate::mm::mlock::mlock_folio;
use crate::mm::shmem::shmem_unuse;
use crate::mm::swap::{folio_add_lru_vma, folio_put};
use crate::mm::swap_slots::deactivate_swap_slots_cache;
use crate::mm::swap_state::{read_swap_cache_async, swap_cache_get_folio};
use crate::mm::swapfile::{folio_free_swap, swap_free};
use crate::mm_types::{FolioId, Pte, SwapEntry, Vma, vm};
use crate::state::Kernel;

/// `swapoff()` of the one device that there is. It is not written to any more before what it holds
/// comes back.
///
/// # Errors
/// EINVAL where it is off already.
pub fn swapoff(k: &mut Kernel<'_>) -> Result<(), i32> {
    if !k.swap.on {
        return Err(errno::EINVAL);
    }
    k.swap.on = false;
    if k.profile.swap_slots_cache {
        // disable_swap_slots_cache_lock()
        deactivate_swap_slots_cache(k);
    }
    try_to_unuse(k);
    Ok(())
}

/// `try_to_unuse()`: again as long as anything is left, for of a file's large pages only the first
/// may have been found. The order of the mms, which is that of `init_mm.mmlist`, shows nowhere:
/// without swap nobody reclaims what comes back.
fn try_to_unuse(k: &mut Kernel<'_>) {
    while let left @ 1.. = k.swap.slots.len() {
        shmem_unuse(k);
        let there: Vec<MmId> = (0..k.mms.len()).filter(|mm| !k.mm(*mm).released).collect();
        for mm in there {
            k.in_mm(mm, unuse_mm);
        }
        unuse_cached(k);
        if k.swap.slots.len() >= left {
            k.unpredicted = Some("whose swapped out pages swapoff(2) waits for");
            return;
        }
    }
}

/// The end of `try_to_unuse()`: what is only in the swap cache leaves it.
fn unuse_cached(k: &mut Kernel<'_>) {
    let entries: Vec<SwapEntry> = k.swap.slots.keys().copied().collect();
    for entry in entries {
        if let Some(id) = swap_cache_get_folio(k, entry) {
            folio_free_swap(k, id);
            folio_put(k, id);
        }
    }
}

/// `unuse_mm()`
fn unuse_mm(k: &mut Kernel<'_>) {
    let vmas = k.mm.vmas.values();
    let vmas = vmas.filter(|vma| vma.anon_vma.is_some() && !vma.has(vm::HUGETLB));
    for vma in vmas.cloned().collect::<Vec<_>>() {
        unuse_vma(k, &vma);
    }
}

/// `unuse_vma()`, down to `unuse_pmd_range()`: only what page tables there are.
fn unuse_vma(k: &mut Kernel<'_>, vma: &Vma) {
    for (start, end, huge) in k.mm.pgd.pmds(vma.start, vma.end) {
        if !huge {
            unuse_pte_range(k, vma, start, end);
        }
    }
}

/// `unuse_pte_range()`: each page is looked up in the swap cache, or read, by itself.
fn unuse_pte_range(k: &mut Kernel<'_>, vma: &Vma, start: u64, end: u64) {
    for addr in (start..end).step_by(PAGE_SIZE as usize) {
        let Pte::Swap { entry, exclusive } = k.pte(addr) else {
            continue;
        };
        let cached = swap_cache_get_folio(k, entry);
        // swapin_readahead()
        let Some(id) = cached.or_else(|| read_swap_cache_async(k, entry, 0)) else {
            continue;
        };
        if cached.is_none() {
            k.folios[id].node = policy_node(vma.policy);
        }
        unuse_pte(k, vma, addr, (entry, exclusive), id);
        folio_free_swap(k, id);
        folio_put(k, id);
    }
}

/// `unuse_pte()`: the entry is the page's again, or that of a copy of a merged one.
fn unuse_pte(
    k: &mut Kernel<'_>,
    vma: &Vma,
    addr: u64,
    (entry, exclusive): (SwapEntry, bool),
    swapcache: FolioId,
) {
    let copy = ksm_might_need_to_copy(k, vma, swapcache, addr);
    let id = match copy {
        Some(copy) => {
            folio_add_new_anon_rmap(k, vma, copy, addr, true);
            folio_add_lru_vma(k, copy, vma.flags);
            copy
        }
        None => {
            k.folio_get(swapcache);
            add_rmap(k, vma, addr, swapcache, exclusive);
            swapcache
        }
    };
    k.folios[id].swapbacked = true;
    k.folios[id].dup_rmap_pte(addr);
    k.folios[id].set_page_anon_exclusive(addr, copy.is_some() || exclusive);
    k.set_pte(
        addr,
        Pte::Present {
            folio: Some(id),
            prot: vm_get_page_prot(vma.flags),
            dirty: false,
            young: false,
        },
    );
    swap_free(k, entry);
}

/// The part of `unuse_pte()` that says whose the page is, where that is not known.
fn add_rmap(k: &mut Kernel<'_>, vma: &Vma, addr: u64, id: FolioId, exclusive: bool) {
    if !k.folios[id].anon {
        folio_add_new_anon_rmap(k, vma, id, addr, exclusive);
    } else if vma.has(vm::LOCKED) && k.folios[id].large.is_none() {
        // mlock_vma_folio(), by __folio_add_anon_rmap()
        mlock_folio(k, id);
    }
}
