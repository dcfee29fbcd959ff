// SPDX-License-Identifier: GPL-2.0-only
//! `mm/memory.c`, its first part: a fork copies page tables, write-protected in both mms where
//! they map private pages.

use crate::api::PAGE_SIZE;
use crate::mm::gup::folio_maybe_dma_pinned;
use crate::mm::huge_memory::copy_huge_pmd;
use crate::mm::memory::fault::new_anon_pte;
use crate::mm::{hugetlb, swapfile};
use crate::mm_types::{FolioId, PageTables, Pte, PteTable, Vma, prot, pte_index, vm};
use crate::state::Kernel;

/// `copy_page_range()` down to `copy_pmd_range()`: the mm that is acted on is the source.
/// `areas` are the child's area and its parent's.
pub fn copy_page_range(k: &mut Kernel<'_>, dst: &mut PageTables, areas: (&Vma, &Vma)) {
    let src = areas.1;
    if !vma_needs_copy(src) {
        return;
    }
    if src.has(vm::HUGETLB) {
        hugetlb::copy_hugetlb_page_range(k, dst, src);
        return;
    }
    let last = src.end - 1;
    let pmd_tables = k.mm.pgd.pmd_tables.range((src.start >> 30)..=(last >> 30));
    dst.pmd_tables.extend(pmd_tables);
    for (start, end, huge) in k.mm.pgd.pmds(src.start, src.end) {
        if huge {
            copy_huge_pmd(k, dst, src, start);
        }
        // One of a page that is pinned was split, and is copied page by page.
        if k.mm.pgd.huge_pmd(start).is_none() {
            copy_pte_range(k, dst.pte_alloc(start), areas, (start, end));
        }
    }
}

/// `folio_needs_cow_for_dma()` (`include/linux/mm.h`), of an anonymous folio of the mm that is
/// copied.
pub fn folio_needs_cow_for_dma(k: &Kernel<'_>, id: FolioId) -> bool {
    let folio = &k.folios[id];
    k.mm.has_pinned && folio.anon && folio_maybe_dma_pinned(folio)
}

/// `vma_needs_copy()`: what a fault would fill in just as well is left to it.
fn vma_needs_copy(src: &Vma) -> bool {
    src.anon_vma.is_some() || src.has(vm::MAYBE_GUARD | vm::PFNMAP)
}

/// `copy_pte_range()`
fn copy_pte_range(
    k: &mut Kernel<'_>,
    dst: &mut PteTable,
    areas: (&Vma, &Vma),
    (start, end): (u64, u64),
) {
    for addr in (start..end).step_by(PAGE_SIZE as usize) {
        dst[pte_index(addr)] = match k.pte(addr) {
            Pte::None => continue,
            Pte::Swap { entry, .. } => {
                // copy_nonpresent_pte()
                swapfile::swap_duplicate(k, entry);
                let shared = Pte::Swap {
                    entry,
                    exclusive: false,
                };
                k.set_pte(addr, shared);
                shared
            }
            Pte::Guard => Pte::Guard,
            pte @ Pte::Present { .. } => copy_present_pte(k, areas, addr, pte),
        };
    }
}

/// `copy_present_ptes()`, of one PTE: what the child's is. A page that may be pinned is copied at
/// once (`copy_present_page()`).
fn copy_present_pte(k: &mut Kernel<'_>, areas: (&Vma, &Vma), addr: u64, pte: Pte) -> Pte {
    let src = areas.1;
    let Pte::Present {
        folio,
        prot: mut rights,
        mut dirty,
        young,
    } = pte
    else {
        return pte;
    };
    // vm_normal_page()
    if let Some(id) = folio.filter(|id| !k.folios[*id].special) {
        // folio_try_dup_anon_rmap_pte(), copy_present_page()
        if folio_needs_cow_for_dma(k, id) && k.folios[id].page_anon_exclusive(addr) {
            let content = k.folios[id].page_content(addr);
            return new_anon_pte(k, areas.0, addr, true, content);
        }
        k.folio_get(id);
        // folio_try_dup_anon_rmap_pte(), folio_dup_file_rmap_pte()
        k.folios[id].dup_rmap_pte(addr);
    }
    // is_cow_mapping()
    let cow = src.flags & (vm::SHARED | vm::MAYWRITE) == vm::MAYWRITE;
    if cow && rights & prot::W != 0 {
        rights &= !prot::W;
        let wrprotected = Pte::Present {
            folio,
            prot: rights,
            dirty,
            young,
        };
        k.set_pte(addr, wrprotected);
    }
    if src.has(vm::SHARED) {
        dirty = false;
    }
    Pte::Present {
        folio,
        prot: rights,
        dirty,
        young: false,
    }
}
