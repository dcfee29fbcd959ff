// SPDX-License-Identifier: GPL-2.0-only
//! `mm/ksm.c`, how one page takes the place of another.

use crate::arch::riscv::mm::init::{prot_is_young, vm_get_page_prot};
use crate::mm::ksm::{ItemId, break_ksm, find_mergeable_vma, tree};
use crate::mm::memory::fault::anon_vma_of;
use crate::mm::mlock::mlock_folio;
use crate::mm::pgtable_generic::ptep_clear_flush;
use crate::mm::rmap::folio_remove_rmap_pte;
use crate::mm::swap::{folio_mark_accessed, folio_put};
use crate::mm::swap_state::free_swap_cache;
use crate::mm_types::{AnonVmaId, FolioId, Pte, Vma, prot, vm};
use crate::state::Kernel;

/// What takes a page's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kpage {
    /// Nothing: the page itself becomes one that is shared.
    Itself,
    /// The zero page.
    Zero,
    /// A merged page.
    Merged(FolioId),
}

/// `write_protect_page()`: false where somebody else has the page.
fn write_protect_page(k: &mut Kernel<'_>, id: FolioId, addr: u64) -> bool {
    let entry = k.pte(addr);
    let Pte::Present {
        folio,
        prot: rights,
        dirty,
        young,
    } = entry
    else {
        return false;
    };
    // page_vma_mapped_walk()
    if folio != Some(id) {
        return false;
    }
    let anon_exclusive = k.folios[id].anon_exclusive;
    // mm_tlb_flush_pending()
    let pending = k.mm.tlb_flush_pending > 0;
    if rights & prot::W == 0 && !dirty && !anon_exclusive && !pending {
        return true;
    }
    ptep_clear_flush(k, addr);
    let folio = &mut k.folios[id];
    let swapped = u32::from(folio.swap.is_some());
    if folio.mapcount + 1 + swapped != folio.refcount {
        k.set_pte(addr, entry);
        return false;
    }
    // folio_try_share_anon_rmap_pte(): no page is pinned.
    folio.anon_exclusive = false;
    folio.dirty |= dirty;
    k.set_pte(
        addr,
        Pte::Present {
            folio: Some(id),
            prot: rights & !prot::W,
            dirty: false,
            young,
        },
    );
    true
}

/// `replace_page()`: by a merged page, or by the zero page, whose PTE is dirty then.
fn replace_page(k: &mut Kernel<'_>, vma: &Vma, id: FolioId, kpage: Option<FolioId>, addr: u64) {
    if let Some(kpage) = kpage {
        k.folio_get(kpage);
        // folio_add_anon_rmap_pte()
        k.folios[kpage].mapcount += 1;
        if vma.has(vm::LOCKED) {
            mlock_folio(k, kpage);
        }
    }
    ptep_clear_flush(k, addr);
    // mk_pte()
    let rights = vm_get_page_prot(vma.flags);
    k.set_pte(
        addr,
        Pte::Present {
            folio: kpage,
            prot: rights,
            dirty: kpage.is_none(),
            young: prot_is_young(rights),
        },
    );
    folio_remove_rmap_pte(k, id, addr, vma.flags);
    // folio_free_swap(), where it is not mapped any more
    free_swap_cache(k, id);
    folio_put(k, id);
}

/// `try_to_merge_one_page()`
fn try_to_merge_one_page(
    k: &mut Kernel<'_>,
    vma: &Vma,
    id: FolioId,
    kpage: Kpage,
    addr: u64,
) -> bool {
    if kpage == Kpage::Merged(id) {
        // ksm page forked
        return true;
    }
    if !write_protect_page(k, id, addr) {
        return false;
    }
    match kpage {
        Kpage::Itself => {
            let folio = &mut k.folios[id];
            (folio.ksm, folio.stable_node) = (true, None);
            // mark_page_accessed()
            folio_mark_accessed(k, id);
            k.folios[id].dirty = true;
        }
        Kpage::Zero => replace_page(k, vma, id, None, addr),
        Kpage::Merged(kpage) => {
            // pages_identical()
            if k.folios[id].content != k.folios[kpage].content {
                return false;
            }
            replace_page(k, vma, id, Some(kpage), addr);
        }
    }
    true
}

/// `try_to_merge_with_zero_page()`: whether nothing is left to be done of the page.
pub fn try_to_merge_with_zero_page(k: &mut Kernel<'_>, (mm, addr): ItemId, id: FolioId) -> bool {
    if !k.ksm.use_zero_pages || !k.folios[id].content.is_zeroes() {
        return false;
    }
    k.in_mm(mm, |k| match find_mergeable_vma(k, addr) {
        Some(vma) => try_to_merge_one_page(k, &vma, id, Kpage::Zero, addr),
        None => true,
    })
}

/// `try_to_merge_with_ksm_page()`, with no page the first time: the anon_vma of what is merged.
pub fn try_to_merge_with_ksm_page(
    k: &mut Kernel<'_>,
    item: ItemId,
    id: FolioId,
    kpage: Option<FolioId>,
) -> Option<AnonVmaId> {
    let (mm, addr) = item;
    let kpage = kpage.map_or(Kpage::Itself, Kpage::Merged);
    let anon_vma = k.in_mm(mm, |k| {
        let vma = find_mergeable_vma(k, addr)?;
        let merged = try_to_merge_one_page(k, &vma, id, kpage, addr);
        merged.then(|| anon_vma_of(k, &vma))
    })?;
    tree::remove_rmap_item_from_tree(k, item);
    Some(anon_vma)
}

/// `try_to_merge_two_pages()`: the anon_vmas of both, where the first one is a merged page now,
/// which has taken the place of the other.
pub fn try_to_merge_two_pages(
    k: &mut Kernel<'_>,
    (item, id): (ItemId, FolioId),
    (tree_item, tree_page): (ItemId, FolioId),
) -> Option<(AnonVmaId, AnonVmaId)> {
    let anon_vma = try_to_merge_with_ksm_page(k, item, id, None)?;
    let other = try_to_merge_with_ksm_page(k, tree_item, tree_page, Some(id));
    if other.is_none() {
        break_cow(k, item);
    }
    Some((anon_vma, other?))
}

/// `break_cow()`
fn break_cow(k: &mut Kernel<'_>, item: ItemId) {
    let (mm, addr) = item;
    let forgets = k.profile.ksm_forgets_checksums;
    if let Some(item) = k.ksm.item(item)
        && forgets
    {
        item.oldchecksum = None;
    }
    k.in_mm(mm, |k| {
        if let Some(vma) = find_mergeable_vma(k, addr) {
            break_ksm(k, &vma, addr, addr + crate::api::PAGE_SIZE);
        }
    });
}
