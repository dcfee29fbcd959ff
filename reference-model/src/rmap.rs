// SPDX-License-Identifier: GPL-2.0-only
//! `mm/rmap.c` and `mm/page_vma_mapped.c`: from a folio to the PTEs that map
//! it, and the batch of unmapped pages whose flush is put off.

use crate::api::{Entry, MmId, PAGE_SIZE};
use crate::kernel::Kernel;
use crate::mm_types::{FileId, FolioId, Pte, Vma, vm};
use crate::swap::{folio_put, mlock_folio, munlock_folio};
use crate::swapfile::swap_duplicate;

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
fn set_tlb_ubc_flush_pending(k: &mut Kernel<'_>, pteval: Pte, uaddr: u64) {
    if !pte_accessible(k, pteval) {
        return;
    }
    k.enter(if k.profile.batch_pending_takes_range {
        Entry::ArchTlbbatchAddPendingRange {
            start: uaddr,
            end: uaddr + PAGE_SIZE,
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

/// `pte_accessible()` (`arch/riscv/include/asm/pgtable.h`): no TLB holds a
/// PROT_NONE page, unless the flush after mprotect may still be on its way.
fn pte_accessible(k: &Kernel<'_>, pte: Pte) -> bool {
    match pte {
        Pte::Present { prot: 0, .. } => k.mm.tlb_flush_pending > 0,
        Pte::Present { .. } => true,
        Pte::None | Pte::Swap { .. } | Pte::Guard => false,
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
enum Walk {
    Continue,
    Break,
}

/// A vma that may map a folio, of an mm.
struct Mapping {
    mm: MmId,
    vma: Vma,
}

/// All vmas, of whatever mm, that pass, in the order of an interval tree: by
/// the vma's first page, then by insertion.
fn interval_tree(
    k: &Kernel<'_>,
    holds: impl Fn(&Vma) -> bool,
    seq: fn(&Vma) -> u64,
) -> Vec<Mapping> {
    let mut found = Vec::new();
    for mm in 0..k.mms.len() {
        let vmas = k.mm(mm).vmas.values().filter(|vma| holds(vma));
        found.extend(vmas.map(|vma| Mapping {
            mm,
            vma: vma.clone(),
        }));
    }
    found.sort_by_key(|found| (found.vma.pgoff, seq(&found.vma)));
    found
}

/// `vma_interval_tree_foreach()`: the vmas of a file that map some of `[first, end)`.
pub fn vma_interval_tree(k: &Kernel<'_>, file: FileId, first: u64, end: u64) -> Vec<(MmId, Vma)> {
    let holds = |vma: &Vma| {
        vma.file == Some(file) && vma.pgoff < end && first < vma.pgoff.saturating_add(vma.pages())
    };
    let found = interval_tree(k, holds, |vma| vma.seq);
    found
        .into_iter()
        .map(|found| (found.mm, found.vma))
        .collect()
}

/// `rmap_walk()`: calls `rmap_one` for each vma and address at which the folio
/// could be mapped, with the vma's mm as the one that is acted on.
fn rmap_walk(
    k: &mut Kernel<'_>,
    id: FolioId,
    mut rmap_one: impl FnMut(&mut Kernel<'_>, &Vma, u64) -> Walk,
) {
    let folio = &k.folios[id];
    let (index, mappings) = if folio.anon {
        // rmap_walk_anon()
        let (anon_vma, index) = (folio.anon_vma, folio.index);
        let holds = |vma: &Vma| {
            vma.anon_vma_chain.contains(&anon_vma)
                && index >= vma.pgoff
                && index - vma.pgoff < vma.pages()
        };
        (index, interval_tree(k, holds, |vma| vma.anon_seq))
    } else if let Some((file, index)) = folio.mapping {
        // rmap_walk_file()
        let holds = |vma: &Vma| {
            vma.file == Some(file) && index >= vma.pgoff && index - vma.pgoff < vma.pages()
        };
        (index, interval_tree(k, holds, |vma| vma.seq))
    } else {
        return;
    };
    for Mapping { mm, vma } in &mappings {
        let address = vma.start + (index - vma.pgoff) * PAGE_SIZE;
        if k.in_mm(*mm, |k| rmap_one(k, vma, address)) == Walk::Break {
            return;
        }
    }
}

/// `page_vma_mapped_walk()`: the PTE, if it is there that the folio is mapped.
fn page_vma_mapped_walk(k: &Kernel<'_>, id: FolioId, address: u64) -> Option<Pte> {
    let pte = k.pte(address);
    match pte {
        Pte::Present {
            folio: Some(mapped),
            ..
        } if mapped == id => Some(pte),
        _ => None,
    }
}

/// `vma_has_recency()` (`include/linux/mm_inline.h`)
pub fn vma_has_recency(vma: &Vma) -> bool {
    !vma.has(vm::SEQ_READ | vm::RAND_READ)
}

/// `folio_referenced()` with `folio_referenced_one()`: how many mappings were
/// used since the last look, and the `vm_flags` of those vmas. Clears the PTEs'
/// young bits without a flush (`ptep_clear_flush_young()` of riscv).
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
        let Some(pte) = page_vma_mapped_walk(k, id, address) else {
            return Walk::Continue;
        };
        if vma.has(vm::LOCKED) {
            mlock_folio(k, id);
            vm_flags |= vm::LOCKED;
            return Walk::Break;
        }
        if ptep_test_and_clear_young(k, address, pte) {
            referenced += 1;
            vm_flags |= vma.flags & !vm::LOCKED;
        }
        mapcount = mapcount.saturating_sub(1);
        if mapcount == 0 {
            Walk::Break
        } else {
            Walk::Continue
        }
    });
    (referenced, vm_flags)
}

/// `ptep_test_and_clear_young()` (`arch/riscv/mm/pgtable.c`)
fn ptep_test_and_clear_young(k: &mut Kernel<'_>, address: u64, mut pte: Pte) -> bool {
    if let Pte::Present { young, .. } = &mut pte
        && std::mem::take(young)
    {
        k.set_pte(address, pte);
        return true;
    }
    false
}

/// `folio_remove_rmap_pte()`
pub fn folio_remove_rmap_pte(k: &mut Kernel<'_>, id: FolioId, vm_flags: u64) {
    let folio = &mut k.folios[id];
    folio.mapcount = folio.mapcount.saturating_sub(1);
    // munlock_vma_folio()
    if vm_flags & vm::LOCKED != 0 {
        munlock_folio(k, id);
    }
}

/// `try_to_unmap()` with TTU_BATCH_FLUSH: the flushes are put off
/// (`should_defer_flush()` is always true, for riscv's `arch_tlbbatch_should_defer()` is).
pub fn try_to_unmap(k: &mut Kernel<'_>, id: FolioId) {
    rmap_walk(k, id, |k, vma, address| {
        let walk = try_to_unmap_one(k, id, vma, address);
        // folio_not_mapped()
        if k.folios[id].mapcount == 0 {
            return Walk::Break;
        }
        walk
    });
}

/// `try_to_unmap_one()`
fn try_to_unmap_one(k: &mut Kernel<'_>, id: FolioId, vma: &Vma, address: u64) -> Walk {
    let Some(pteval) = page_vma_mapped_walk(k, id, address) else {
        return Walk::Continue;
    };
    if vma.has(vm::LOCKED) {
        mlock_folio(k, id);
        return Walk::Break;
    }
    k.set_pte(address, Pte::None);
    set_tlb_ubc_flush_pending(k, pteval, address);
    if matches!(pteval, Pte::Present { dirty: true, .. }) {
        k.folios[id].dirty = true;
    }
    if k.folios[id].anon && !try_to_unmap_anon(k, id, address) {
        k.set_pte(address, pteval);
        return Walk::Break;
    }
    folio_remove_rmap_pte(k, id, vma.flags);
    folio_put(k, id);
    Walk::Continue
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
    // folio_try_share_anon_rmap_pte()
    let exclusive = std::mem::take(&mut folio.anon_exclusive);
    if swap_duplicate(k, entry).is_none() {
        k.folios[id].anon_exclusive = exclusive;
        return false;
    }
    k.set_pte(address, Pte::Swap { entry, exclusive });
    true
}
