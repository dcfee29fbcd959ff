// SPDX-License-Identifier: GPL-2.0-only
//! `mm/khugepaged.c`, a part: huge pages of shared memory.

use crate::api::Entry;
use crate::arch::riscv::mm::tlbflush::PMD_SIZE;
use crate::mm::huge_memory::{do_set_pmd, pages, thp_vma_allowable_order};
use crate::mm::interval_tree::vma_interval_tree;
use crate::mm::khugepaged::{ScanResult, find_pmd_or_thp_or_none, is_refcount_suitable};
use crate::mm::rmap::{
    TTU_BATCH_FLUSH, TTU_IGNORE_MLOCK, folio_remove_rmap_pte, try_to_unmap_flush, try_to_unmap_with,
};
use crate::mm::shmem::huge::entries;
use crate::mm::shmem::shmem_get_folio_noalloc;
use crate::mm::swap::{folio_add_lru, folio_put, lru_add_drain};
use crate::mm::swapfile::PMD_ORDER;
use crate::mm::vmscan::folio_isolate_lru;
use crate::mm::vmscan::folio_list::folio_putback_lru;
use crate::mm_types::{CacheEntry, FileId, Folio, FolioId, HPAGE_PMD_NR, Large, Pte, vm};
use crate::state::Kernel;

/// `HPAGE_PMD_NR`, as an index in a file.
const NR: u64 = HPAGE_PMD_NR as u64;

/// `hpage_collapse_scan_file()`, later `collapse_scan_file()`: of the pages of a file from
/// `start` on.
pub fn hpage_collapse_scan_file(
    k: &mut Kernel<'_>,
    file: FileId,
    start: u64,
    is_khugepaged: bool,
) -> ScanResult {
    let (mut present, mut swap) = (0, 0);
    for (index, nr_pages) in entries(k, file, start, start + NR) {
        let Some(CacheEntry::Folio(id)) = k.files[file].cache.get(&index).copied() else {
            swap += nr_pages as u32;
            if is_khugepaged && swap > k.thp.max_ptes_swap {
                return ScanResult::ExceedSwapPte;
            }
            continue;
        };
        let folio = &k.folios[id];
        if folio.order() == PMD_ORDER {
            return ScanResult::PteMappedHugepage;
        }
        if !folio.lru {
            return ScanResult::PageLru;
        }
        if !is_refcount_suitable(folio) {
            return ScanResult::PageCount;
        }
        present += nr_pages as u32;
    }
    if is_khugepaged && present + k.thp.max_ptes_none < HPAGE_PMD_NR as u32 {
        return ScanResult::ExceedNonePte;
    }
    collapse_file(k, file, start, is_khugepaged)
}

/// `collapse_file()`
fn collapse_file(k: &mut Kernel<'_>, file: FileId, start: u64, is_khugepaged: bool) -> ScanResult {
    let mut pagelist = Vec::new();
    let mut result = isolate_all(k, file, start, &mut pagelist);
    try_to_unmap_flush(k);
    if result == ScanResult::Succeed && holes_are_awaited(k, file, start, &pagelist) {
        result = ScanResult::ExceedNonePte;
    }
    if result != ScanResult::Succeed {
        // rollback
        for id in pagelist {
            folio_putback_lru(k, id);
            folio_put(k, id);
        }
        return result;
    }
    if k.folios.any_on_another_node() {
        k.unpredicted = Some("collapse where there are pages on several nodes");
    }
    let new = copy_all(k, file, start, &pagelist);
    folio_add_lru(k, new);
    k.files[file].cache_folio(start, NR, new);
    retract_page_tables(k, file, start);
    for id in pagelist {
        free_old(k, id);
    }
    folio_put(k, new);
    match is_khugepaged {
        true => ScanResult::Succeed,
        false => ScanResult::PteMappedHugepage,
    }
}

/// The first loop of `collapse_file()`: nothing maps the folios any more, and they are on no
/// list.
fn isolate_all(
    k: &mut Kernel<'_>,
    file: FileId,
    start: u64,
    pagelist: &mut Vec<FolioId>,
) -> ScanResult {
    if entries(k, file, start, start + NR).is_empty() {
        return ScanResult::Truncated;
    }
    let mut index = start;
    while index < start + NR {
        let id = match k.files[file].cache.get(&index).copied() {
            None => {
                index += 1;
                continue;
            }
            Some(CacheEntry::Folio(id)) if !k.folios[id].fallocated => {
                k.folio_get(id);
                id
            }
            Some(_) => {
                let Ok(id) = shmem_get_folio_noalloc(k, file, index) else {
                    return ScanResult::Fail;
                };
                lru_add_drain(k);
                id
            }
        };
        let nr_pages = k.folios[id].nr_pages();
        if k.folios[id].order() == PMD_ORDER {
            folio_put(k, id);
            return ScanResult::PteMappedHugepage;
        }
        if !folio_isolate_lru(k, id) {
            folio_put(k, id);
            return ScanResult::DelPageLru;
        }
        if k.folios[id].mapcount > 0 {
            try_to_unmap_with(k, id, TTU_IGNORE_MLOCK | TTU_BATCH_FLUSH);
        }
        // Ours, isolation's, and those of the page cache.
        if u64::from(k.folios[id].refcount) != 2 + nr_pages {
            folio_putback_lru(k, id);
            folio_put(k, id);
            return ScanResult::PageCount;
        }
        pagelist.push(id);
        index += nr_pages;
    }
    ScanResult::Succeed
}

/// Whether there are holes, and a userfaultfd that is to be asked where one is filled.
fn holes_are_awaited(k: &Kernel<'_>, file: FileId, start: u64, pagelist: &[FolioId]) -> bool {
    let there: u64 = pagelist.iter().map(|&id| k.folios[id].nr_pages()).sum();
    let areas = vma_interval_tree(k, file, start, start + NR + 1);
    there < NR && areas.iter().any(|(_, vma)| vma.has(vm::UFFD_MISSING))
}

/// The new huge page of `collapse_file()`, with its references of the page cache and ours.
fn copy_all(k: &mut Kernel<'_>, file: FileId, start: u64, pagelist: &[FolioId]) -> FolioId {
    let mut large = Large::unmapped(PMD_ORDER);
    for &id in pagelist {
        let folio = &k.folios[id];
        let first = folio.mapping.map_or(0, |at| at.1 - start) as usize;
        for page in 0..folio.nr_pages() as usize {
            large.contents[first + page] = folio.nth_page_content(page);
        }
    }
    let new = k.folios.alloc(Folio {
        mapping: Some((file, start)),
        swapbacked: true,
        dirty: true,
        charged: true,
        large: Some(Box::new(large)),
        ..Folio::default()
    });
    k.folios[new].refcount += HPAGE_PMD_NR as u32;
    new
}

/// A folio in the place of which the huge page is: all references to it go.
fn free_old(k: &mut Kernel<'_>, id: FolioId) {
    let folio = &mut k.folios[id];
    folio.mapping = None;
    folio.active = false;
    folio.unevictable = false;
    folio.refcount -= 1 + folio.nr_pages() as u32;
    folio_put(k, id);
}

/// `retract_page_tables()`: whoever maps the file there has no page table for it any more, but
/// for private mappings that were written to, and those with guard pages.
fn retract_page_tables(k: &mut Kernel<'_>, file: FileId, pgoff: u64) {
    for (mm, vma) in vma_interval_tree(k, file, pgoff, pgoff + 1) {
        let addr = vma.start + (pgoff - vma.pgoff) * crate::api::PAGE_SIZE;
        // file_backed_vma_is_retractable()
        let kept =
            vma.anon_vma.is_some() || k.profile.guards_keep_page_tables && vma.has(vm::MAYBE_GUARD);
        if kept || !addr.is_multiple_of(PMD_SIZE) || vma.end < addr + PMD_SIZE {
            continue;
        }
        k.in_mm(mm, |k| {
            if find_pmd_or_thp_or_none(k, addr) == ScanResult::Succeed {
                pmdp_collapse_flush(k, addr);
            }
        });
    }
}

/// `pmdp_collapse_flush()` (`arch/riscv/mm/pgtable.c`): the page table is gone, and so
/// all of the mm is flushed.
fn pmdp_collapse_flush(k: &mut Kernel<'_>, addr: u64) {
    k.mm.pgd.pte_tables.remove(&(addr >> 21));
    k.enter(Entry::FlushTlbMm);
}

/// `collapse_pte_mapped_thp()`, later `try_collapse_pte_mapped_thp()`: a huge page of a file is
/// there, and takes the place of a page table that maps nothing else.
pub fn collapse_pte_mapped_thp(k: &mut Kernel<'_>, haddr: u64, install_pmd: bool) -> ScanResult {
    let vma =
        k.mm.vma_lookup(haddr)
            .filter(|vma| vma.end >= haddr + PMD_SIZE);
    let Some(vma) = vma.cloned() else {
        return ScanResult::VmaCheck;
    };
    let Some(file) = vma.file else {
        return ScanResult::VmaCheck;
    };
    if find_pmd_or_thp_or_none(k, haddr) == ScanResult::PmdMapped {
        return ScanResult::PmdMapped;
    }
    if !thp_vma_allowable_order(&vma) {
        return ScanResult::VmaCheck;
    }
    let cached = k.files[file].cache.get(&vma.linear_page_index(haddr));
    let Some(&CacheEntry::Folio(id)) = cached else {
        return ScanResult::PageNull;
    };
    if k.folios[id].order() != PMD_ORDER {
        return ScanResult::PageCompound;
    }
    match find_pmd_or_thp_or_none(k, haddr) {
        ScanResult::Succeed => {
            if let Some(result) = unmap_all(k, vma.flags, id, haddr) {
                return result;
            }
        }
        ScanResult::PmdNone => {}
        ScanResult::PmdNull if k.profile.collapse_passes_over_none => {}
        result => return result,
    }
    if !install_pmd {
        return ScanResult::Succeed;
    }
    // set_huge_pmd()
    if !do_set_pmd(k, &vma, haddr, id, false) {
        return ScanResult::Fail;
    }
    k.folio_get(id);
    ScanResult::Succeed
}

/// What `collapse_pte_mapped_thp()` does with a page table: nothing, and a result, where it maps
/// something else than the huge page.
fn unmap_all(k: &mut Kernel<'_>, vm_flags: u64, id: FolioId, haddr: u64) -> Option<ScanResult> {
    for page in pages() {
        match k.pte(haddr + page) {
            Pte::None => {}
            Pte::Swap { .. } | Pte::Guard => return Some(ScanResult::PteNonPresent),
            Pte::Present {
                folio: Some(mapped),
                ..
            } if mapped == id => {}
            Pte::Present { .. } => return Some(ScanResult::Fail),
        }
    }
    for page in pages() {
        let addr = haddr + page;
        if k.pte(addr) != Pte::None {
            k.set_pte(addr, Pte::None);
            folio_remove_rmap_pte(k, id, addr, vm_flags);
            k.folios[id].refcount -= 1;
        }
    }
    pmdp_collapse_flush(k, haddr);
    None
}
