// SPDX-License-Identifier: GPL-2.0-only
//! `mm/khugepaged.c`: MADV_COLLAPSE of anonymous memory.
//!
//! Huge pages of files are not in the model: where one would be made, it stops speaking.

use crate::api::Entry;
use crate::arch::riscv::mm::tlbflush::PMD_SIZE;
use crate::errno::{EAGAIN, EINVAL};
use crate::mm::huge_memory::{map_anon_folio_pmd, pages, thp_vma_allowable_order};
use crate::mm::memory::swap::do_swap_page;
use crate::mm::rmap::folio_remove_rmap_pte;
use crate::mm::swap::{folio_put, lru_add_drain, lru_add_drain_all};
use crate::mm::swap_state::free_swap_cache;
use crate::mm::vmscan::folio_isolate_lru;
use crate::mm::vmscan::folio_list::folio_putback_lru;
use crate::mm_types::{Folio, FolioId, HPAGE_PMD_NR, Pte, PteTable, Vma, prot, pte_index, vm};
use crate::state::Kernel;
use operations::Storage;

/// `enum scan_result`, as far as it decides something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ScanResult {
    Succeed,
    PmdMapped,
    PmdNone,
    PmdNull,
    PageRo,
    PageCount,
    PageLru,
    DelPageLru,
    PteNonPresent,
    Fail,
}

/// `madvise_collapse_errno()`
fn madvise_collapse_errno(result: ScanResult) -> i32 {
    match result {
        ScanResult::PageCount | ScanResult::PageLru | ScanResult::DelPageLru => EAGAIN,
        _ => EINVAL,
    }
}

/// `madvise_collapse()`
///
/// # Errors
/// EINVAL where the vma cannot hold a huge page, or nothing could be made one; EAGAIN
/// where a page was in use.
pub fn madvise_collapse(k: &mut Kernel<'_>, vma: &Vma, start: u64, end: u64) -> Result<(), i32> {
    if vma.has(vm::UFFD) {
        // userfaultfd_armed()
        k.unpredicted = Some("huge pages where a userfaultfd is asked");
        return Ok(());
    }
    if k.storage(vma.file) != Storage::Memory {
        // file_thp_enabled()
        k.unpredicted = Some("huge pages of files on a disk");
        return Ok(());
    }
    if !thp_vma_allowable_order(vma) {
        return Err(EINVAL);
    }
    let hstart = start.next_multiple_of(PMD_SIZE);
    let hend = end & !(PMD_SIZE - 1);
    if k.profile.collapse_of_nothing_is_done && hstart >= hend {
        return Ok(());
    }
    if !vma.is_anonymous() && hstart < hend {
        // hpage_collapse_scan_file()
        k.unpredicted = Some("MADV_COLLAPSE of a file or of shared memory");
        return Err(EINVAL);
    }
    lru_add_drain_all(k);
    let (mut thps, mut last_fail) = (0, ScanResult::Fail);
    for addr in (hstart..hend).step_by(PMD_SIZE as usize) {
        match hpage_collapse_scan_pmd(k, vma, addr) {
            ScanResult::Succeed | ScanResult::PmdMapped => thps += 1,
            // Whitelisted set of results where continuing OK
            result @ (ScanResult::PmdNull
            | ScanResult::PteNonPresent
            | ScanResult::PageRo
            | ScanResult::PageCount
            | ScanResult::PageLru
            | ScanResult::DelPageLru) => last_fail = result,
            result @ ScanResult::PmdNone if k.profile.collapse_passes_over_none => {
                last_fail = result;
            }
            result @ (ScanResult::PmdNone | ScanResult::Fail) => {
                last_fail = result;
                break;
            }
        }
    }
    if hend >= hstart && thps == (hend - hstart) / PMD_SIZE {
        Ok(())
    } else {
        Err(madvise_collapse_errno(last_fail))
    }
}

/// `find_pmd_or_thp_or_none()`
fn find_pmd_or_thp_or_none(k: &Kernel<'_>, address: u64) -> ScanResult {
    if !k.mm.pgd.pmd_tables.contains(&(address >> 30)) {
        ScanResult::PmdNull
    } else if k.mm.pgd.huge_pmd(address).is_some() {
        ScanResult::PmdMapped
    } else if !k.mm.pgd.pte_tables.contains_key(&(address >> 21)) {
        ScanResult::PmdNone
    } else {
        ScanResult::Succeed
    }
}

/// `is_refcount_suitable()`: nobody has the folio but its mappings and the swap cache.
fn is_refcount_suitable(folio: &Folio) -> bool {
    let cached = u32::from(folio.swap.is_some()) * folio.nr_pages() as u32;
    folio.refcount == folio.mapcount + cached
}

/// `hpage_collapse_scan_pmd()`
fn hpage_collapse_scan_pmd(k: &mut Kernel<'_>, vma: &Vma, address: u64) -> ScanResult {
    let result = find_pmd_or_thp_or_none(k, address);
    if result != ScanResult::Succeed {
        return result;
    }
    let (mut writable, mut unmapped) = (false, false);
    for offset in pages() {
        match k.pte(address + offset) {
            Pte::Swap { .. } | Pte::Guard => unmapped = true,
            Pte::None | Pte::Present { folio: None, .. } => {}
            Pte::Present {
                folio: Some(id),
                prot: rights,
                ..
            } => {
                writable |= rights & prot::W != 0;
                if !k.folios[id].lru {
                    return ScanResult::PageLru;
                }
                if !is_refcount_suitable(&k.folios[id]) {
                    return ScanResult::PageCount;
                }
            }
        }
    }
    if !writable && k.profile.collapse_wants_a_writable_page {
        return ScanResult::PageRo;
    }
    collapse_huge_page(k, vma, address, unmapped)
}

/// `collapse_huge_page()`
fn collapse_huge_page(k: &mut Kernel<'_>, vma: &Vma, address: u64, unmapped: bool) -> ScanResult {
    if unmapped && !__collapse_huge_page_swapin(k, vma, address) {
        return ScanResult::Fail;
    }
    // pmdp_collapse_flush() of arch/riscv/mm/pgtable.c: leaves become one of a level
    // above, and so all of the mm is flushed. Each page is accessible again before
    // the step ends, one way or the other.
    let Some(mut table) = k.mm.pgd.pte_tables.remove(&(address >> 21)) else {
        return ScanResult::PmdNull;
    };
    k.enter(Entry::FlushTlbMm);
    if let Err(result) = __collapse_huge_page_isolate(k, &table) {
        k.mm.pgd.pte_tables.insert(address >> 21, table);
        return result;
    }
    // hpage_collapse_find_target_node()
    if k.folios.any_on_another_node() {
        k.unpredicted = Some("collapse where there are pages on several nodes");
    }
    for (page, pte) in pages().zip(table.iter()) {
        k.note_change(address + page, *pte);
    }
    let data = __collapse_huge_page_copy(k, vma, &mut table);
    map_anon_folio_pmd(k, vma, address, data);
    ScanResult::Succeed
}

/// `__collapse_huge_page_swapin()`; false where a marker is in the way, which
/// do_swap_page() answers with a signal.
fn __collapse_huge_page_swapin(k: &mut Kernel<'_>, vma: &Vma, haddr: u64) -> bool {
    for offset in pages() {
        match k.pte(haddr + offset) {
            Pte::Swap { .. } => do_swap_page(k, vma, haddr + offset, false),
            Pte::Guard => return false,
            Pte::None | Pte::Present { .. } => {}
        }
    }
    lru_add_drain(k);
    true
}

/// `__collapse_huge_page_isolate()`
fn __collapse_huge_page_isolate(k: &mut Kernel<'_>, table: &PteTable) -> Result<(), ScanResult> {
    let mut isolated: Vec<FolioId> = Vec::new();
    let mut writable = false;
    let mut result = Ok(());
    for pte in table {
        match *pte {
            Pte::None | Pte::Present { folio: None, .. } => {}
            Pte::Swap { .. } | Pte::Guard => {
                result = Err(ScanResult::PteNonPresent);
                break;
            }
            Pte::Present {
                folio: Some(id),
                prot: rights,
                ..
            } => {
                writable |= rights & prot::W != 0;
                if k.folios[id].large.is_some() && isolated.contains(&id) {
                    continue;
                }
                if !is_refcount_suitable(&k.folios[id]) {
                    result = Err(ScanResult::PageCount);
                    break;
                }
                if !folio_isolate_lru(k, id) {
                    result = Err(ScanResult::DelPageLru);
                    break;
                }
                isolated.push(id);
            }
        }
    }
    if result.is_ok() && !writable && k.profile.collapse_wants_a_writable_page {
        result = Err(ScanResult::PageRo);
    }
    if result.is_err() {
        release_pte_pages(k, &isolated);
    }
    result
}

/// `release_pte_pages()`: small ones from the last to the first, then large ones.
fn release_pte_pages(k: &mut Kernel<'_>, isolated: &[FolioId]) {
    let is_large = |k: &Kernel<'_>, id: FolioId| k.folios[id].large.is_some();
    for &id in isolated.iter().rev() {
        if !is_large(k, id) {
            folio_putback_lru(k, id);
        }
    }
    for &id in isolated {
        if is_large(k, id) {
            folio_putback_lru(k, id);
        }
    }
}

/// `__collapse_huge_page_copy()` and `__collapse_huge_page_copy_succeeded()`: which
/// pages hold something else than zeroes.
fn __collapse_huge_page_copy(k: &mut Kernel<'_>, vma: &Vma, table: &mut PteTable) -> Vec<bool> {
    let mut data = vec![false; HPAGE_PMD_NR];
    let mut compound_pagelist: Vec<FolioId> = Vec::new();
    for (index, pte) in table.iter_mut().enumerate() {
        let Pte::Present {
            folio: Some(id), ..
        } = std::mem::take(pte)
        else {
            continue;
        };
        let addr = (index as u64) << 12;
        debug_assert_eq!(pte_index(addr), index);
        data[index] = k.folios[id].page_has_data(addr);
        let large = k.folios[id].large.is_some();
        if large && !compound_pagelist.contains(&id) {
            compound_pagelist.push(id);
        }
        if !large {
            // release_pte_folio()
            folio_putback_lru(k, id);
        }
        folio_remove_rmap_pte(k, id, addr, vma.flags);
        // free_page_and_swap_cache()
        free_swap_cache(k, id);
        folio_put(k, id);
    }
    for id in compound_pagelist {
        free_swap_cache(k, id);
        folio_putback_lru(k, id);
    }
    data
}
