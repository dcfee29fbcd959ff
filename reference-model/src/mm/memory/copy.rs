// SPDX-License-Identifier: GPL-2.0-only
//! `mm/memory.c`, its first part: a fork copies page tables, write-protected in both mms where
//! they map private pages.

use crate::api::PAGE_SIZE;
use crate::mm::huge_memory::copy_huge_pmd;
use crate::mm::{hugetlb, swapfile};
use crate::mm_types::{PageTables, Pte, PteTable, Vma, prot, pte_index, vm};
use crate::state::Kernel;

/// `copy_page_range()` down to `copy_pmd_range()`: the mm that is acted on is the source.
pub fn copy_page_range(k: &mut Kernel<'_>, dst: &mut PageTables, src: &Vma) {
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
        } else {
            copy_pte_range(k, dst.pte_alloc(start), src, start, end);
        }
    }
}

/// `vma_needs_copy()`: what a fault would fill in just as well is left to it.
fn vma_needs_copy(src: &Vma) -> bool {
    src.anon_vma.is_some() || src.has(vm::MAYBE_GUARD)
}

/// `copy_pte_range()`
fn copy_pte_range(k: &mut Kernel<'_>, dst: &mut PteTable, src: &Vma, start: u64, end: u64) {
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
            pte @ Pte::Present { .. } => copy_present_pte(k, src, addr, pte),
        };
    }
}

/// `copy_present_ptes()`, of one PTE: what the child's is.
fn copy_present_pte(k: &mut Kernel<'_>, src: &Vma, addr: u64, pte: Pte) -> Pte {
    let Pte::Present {
        folio,
        prot: mut rights,
        mut dirty,
        young,
    } = pte
    else {
        return pte;
    };
    if let Some(id) = folio {
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
