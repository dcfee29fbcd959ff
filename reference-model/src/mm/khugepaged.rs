// SPDX-License-Identifier: GPL-2.0-only
//! `mm/khugepaged.c`: khugepaged, and MADV_COLLAPSE.
//!
//! Huge pages of files on a disk are not in the model: where one would be made, it stops
//! speaking.

mod file;
mod mthp;

use crate::api::{Allowed, Entry, PAGE_SIZE};
use crate::arch::riscv::mm::tlbflush::PMD_SIZE;
use crate::errno::{EAGAIN, EBUSY, EINVAL, ETIMEDOUT};
use crate::mm::huge_memory::{
    folio_likely_mapped_shared, map_anon_folio_pmd, pages, settings_allow, thp_vma_allowable_order,
    thp_vma_suitable_order,
};
use crate::mm::khugepaged::file::{collapse_pte_mapped_thp, hpage_collapse_scan_file};
use crate::mm::khugepaged::mthp::{Scanned, mthp_collapse};
use crate::mm::memory::fault::{SMALLEST_LARGE, map_large_anon_folio};
use crate::mm::memory::swap::do_swap_page;
use crate::mm::rmap::folio_remove_rmap_pte;
use crate::mm::shmem::huge::{
    shmem_allowable_huge_orders, shmem_allows_pmd_of_new_vma, shmem_hpage_pmd_enabled,
};
use crate::mm::swap::{folio_put, lru_add_drain, lru_add_drain_all};
use crate::mm::swap_state::free_swap_cache;
use crate::mm::swapfile::PMD_ORDER;
use crate::mm::vmscan::folio_isolate_lru;
use crate::mm::vmscan::folio_list::folio_putback_lru;
use crate::mm_types::{
    Content, FileId, Folio, FolioId, HPAGE_PMD_NR, Of, Pte, Vma, prot, pte_index, vm,
};
use crate::state::Kernel;
use operations::Storage;

/// `enum scan_result`, as far as it decides something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanResult {
    Succeed,
    PteMappedHugepage,
    VmaCheck,
    PageNull,
    PageCompound,
    Truncated,
    ExceedNonePte,
    ExceedSwapPte,
    ExceedSharedPte,
    LackReferencedPage,
    PageLazyfree,
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

/// `khugepaged_enter_vma()`: khugepaged knows the mm from now on, where it could make something
/// of the vma.
pub fn khugepaged_enter_vma(k: &mut Kernel<'_>, vma: &Vma) {
    if khugepaged_runs(k) && collapse_possible(k, vma) {
        k.mm.known_to_khugepaged = true;
    }
}

/// `khugepaged_enter_vma()` of an area that was just made, of a file or of nothing.
pub fn khugepaged_enter_new_vma(k: &mut Kernel<'_>, vma: &Vma, file: Option<FileId>) {
    match file {
        Some(file) if k.profile.vm_ops_come_last && k.storage(Some(file)) == Storage::Memory => {
            let possible =
                shmem_allows_pmd_of_new_vma(k, vma, file) && thp_vma_allowable_order(vma);
            k.mm.known_to_khugepaged |= khugepaged_runs(k) && possible;
        }
        _ => khugepaged_enter_vma(k, vma),
    }
}

/// `hugepage_pmd_enabled()`, later `hugepage_enabled()`: there is a khugepaged.
fn khugepaged_runs(k: &Kernel<'_>) -> bool {
    let any = |order: u32| match k.thp.size(order) {
        Allowed::Never => false,
        Allowed::Inherit => k.thp.enabled != Allowed::Never,
        Allowed::Madvise | Allowed::Always => true,
    };
    match k.profile.khugepaged_makes_all_sizes {
        true => {
            let global = k.thp.enabled != Allowed::Never;
            global || (0..=PMD_ORDER).any(any) || shmem_hpage_pmd_enabled(k)
        }
        false => any(PMD_ORDER),
    }
}

/// `thp_vma_allowable_order()` (`include/linux/huge_mm.h`) of PMD_ORDER with TVA_ENFORCE_SYSFS, later `collapse_possible()`
/// with TVA_KHUGEPAGED: whether khugepaged looks at a vma.
fn collapse_possible(k: &Kernel<'_>, vma: &Vma) -> bool {
    if k.of(vma.file) != Of::Usual {
        return false;
    }
    if k.storage(vma.file) != Storage::Memory {
        // file_thp_enabled()
        let huge = thp_vma_allowable_order(vma) && settings_allow_files(k, vma);
        return k.profile.collapses_files_of_disks && huge;
    }
    let Some(file) = vma.file else {
        return !anon_orders(k, vma).is_empty();
    };
    let orders = shmem_allowable_huge_orders(k, vma, file, vma.pgoff);
    // 6.12 takes any size of shared memory for the one that it asks for.
    let any = !k.profile.khugepaged_makes_all_sizes && !orders.is_empty();
    thp_vma_allowable_order(vma) && (any || orders.contains(&PMD_ORDER))
}

/// `vma_file_allow_thp_tuneables()` (`mm/huge_memory.c`)
fn settings_allow_files(k: &Kernel<'_>, vma: &Vma) -> bool {
    match k.thp.enabled {
        Allowed::Always => true,
        Allowed::Madvise => vma.has(vm::HUGEPAGE),
        Allowed::Never | Allowed::Inherit => false,
    }
}

/// `collapse_possible_orders()` of an anonymous vma, in descending order: what the settings
/// allow; in 6.12 2 MiB or nothing. Where the vma has room for none of the larger ones, those
/// are out.
fn anon_orders(k: &Kernel<'_>, vma: &Vma) -> Vec<u32> {
    let smallest = match k.profile.khugepaged_makes_all_sizes {
        true => SMALLEST_LARGE,
        false => PMD_ORDER,
    };
    if vma.has(vm::NOHUGEPAGE | vm::DONTEXPAND) || vma.anon_vma.is_none() {
        return Vec::new();
    }
    let allowed = (smallest..=PMD_ORDER).rev();
    let fits = |order: &u32| {
        let last = vma.end.checked_sub(PAGE_SIZE << order);
        last.is_some_and(|last| thp_vma_suitable_order(vma, last, *order))
    };
    allowed
        .filter(|order| settings_allow(k, vma, *order))
        .skip_while(|order| !fits(order))
        .collect()
}

/// `khugepaged_do_scan()`: one pass over all mms, on the hart on which the agent is.
///
/// # Errors
/// ETIMEDOUT where no setting lets it run.
pub fn khugepaged_do_scan(k: &mut Kernel<'_>) -> Result<(), i32> {
    if !khugepaged_runs(k) {
        return Err(ETIMEDOUT);
    }
    lru_add_drain_all(k);
    k.on_the_agents_hart(|k| {
        for mm in 0..k.mms.len() {
            if !k.mm(mm).released {
                k.in_mm(mm, khugepaged_scan_mm_slot);
            }
        }
    });
    Ok(())
}

/// `khugepaged_scan_mm_slot()`, later `collapse_scan_mm_slot()`: of one mm.
fn khugepaged_scan_mm_slot(k: &mut Kernel<'_>) {
    let vmas: Vec<Vma> = k.mm.vmas.values().cloned().collect();
    for vma in vmas {
        if !collapse_possible(k, &vma) {
            continue;
        }
        let hstart = vma.start.next_multiple_of(PMD_SIZE);
        let hend = vma.end & !(PMD_SIZE - 1);
        if hstart < hend && !k.mm.known_to_khugepaged {
            k.unpredicted = Some("whether khugepaged knows the process");
        }
        if hstart < hend && k.storage(vma.file) != Storage::Memory {
            k.unpredicted = Some("khugepaged where files of disks are mapped");
        }
        for addr in (hstart..hend).step_by(PMD_SIZE as usize) {
            if k.unpredicted.is_none() {
                collapse_single_pmd(k, &vma, addr, true);
            }
        }
    }
}

/// What `hpage_collapse_scan_pmd()` counts for khugepaged, which takes only what is used and
/// of which little is missing, swapped out or shared.
#[derive(Default)]
struct Counted {
    none_or_zero: u32,
    unmapped: u32,
    shared: u32,
    referenced: u32,
    lazyfree: bool,
    present: Vec<bool>,
}

impl Counted {
    fn allowed(&self, k: &Kernel<'_>, max_ptes_none: u32) -> bool {
        let few = self.unmapped > 0 && self.referenced < HPAGE_PMD_NR as u32 / 2;
        self.none_or_zero <= max_ptes_none
            && self.unmapped <= k.thp.max_ptes_swap
            && self.shared <= k.thp.max_ptes_shared
            && self.referenced > 0
            && !few
            && !(self.lazyfree && k.profile.khugepaged_makes_all_sizes)
    }
}

/// `madvise_collapse_errno()`
fn madvise_collapse_errno(result: ScanResult) -> i32 {
    match result {
        ScanResult::ExceedNonePte => EBUSY,
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
    if !allowable_to_collapse(k, vma) {
        return Err(EINVAL);
    }
    let hstart = start.next_multiple_of(PMD_SIZE);
    let hend = end & !(PMD_SIZE - 1);
    if k.profile.collapse_of_nothing_is_done && hstart >= hend {
        return Ok(());
    }
    if k.storage(vma.file) != Storage::Memory && hstart < hend {
        k.unpredicted = Some("huge pages of files on a disk");
        return Ok(());
    }
    lru_add_drain_all(k);
    let (mut thps, mut last_fail) = (0, ScanResult::Fail);
    for addr in (hstart..hend).step_by(PMD_SIZE as usize) {
        match collapse_single_pmd(k, vma, addr, false) {
            ScanResult::Succeed | ScanResult::PmdMapped => thps += 1,
            // Whitelisted set of results where continuing OK
            result @ (ScanResult::PmdNull
            | ScanResult::PteNonPresent
            | ScanResult::PageNull
            | ScanResult::PageCompound
            | ScanResult::PageRo
            | ScanResult::PageCount
            | ScanResult::PageLru
            | ScanResult::DelPageLru) => last_fail = result,
            result @ ScanResult::PmdNone if k.profile.collapse_passes_over_none => {
                last_fail = result;
            }
            result => {
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

/// What `madvise_collapse()` asks of a vma first.
fn allowable_to_collapse(k: &Kernel<'_>, vma: &Vma) -> bool {
    // file_thp_enabled(), mapping_pmd_folio_support()
    let of_disks = k.profile.collapses_files_of_disks;
    match k.storage(vma.file) {
        Storage::Memory => {}
        Storage::Xfs if of_disks => {}
        Storage::Ext4 if of_disks => {}
        Storage::Ext4 | Storage::Xfs => return false,
    }
    k.of(vma.file) == Of::Usual && thp_vma_allowable_order(vma)
}

/// `collapse_single_pmd()`, in 6.12 a part of `madvise_collapse()` and of
/// `khugepaged_scan_mm_slot()`.
fn collapse_single_pmd(
    k: &mut Kernel<'_>,
    vma: &Vma,
    addr: u64,
    is_khugepaged: bool,
) -> ScanResult {
    let Some(file) = vma.file else {
        return hpage_collapse_scan_pmd(k, vma, addr, is_khugepaged);
    };
    let pgoff = vma.linear_page_index(addr);
    match hpage_collapse_scan_file(k, file, pgoff, is_khugepaged) {
        ScanResult::PteMappedHugepage => collapse_pte_mapped_thp(k, addr, !is_khugepaged),
        result => result,
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

/// `is_refcount_suitable()`: nobody has the folio but its mappings, the page cache and the swap
/// cache.
fn is_refcount_suitable(folio: &Folio) -> bool {
    let cached = !folio.anon || folio.swap.is_some();
    folio.refcount == folio.mapcount + u32::from(cached) * folio.nr_pages() as u32
}

/// `hpage_collapse_scan_pmd()`, later `collapse_scan_pmd()`
fn hpage_collapse_scan_pmd(
    k: &mut Kernel<'_>,
    vma: &Vma,
    address: u64,
    is_khugepaged: bool,
) -> ScanResult {
    let result = find_pmd_or_thp_or_none(k, address);
    if result != ScanResult::Succeed {
        return result;
    }
    let orders = match is_khugepaged {
        true => anon_orders(k, vma),
        false => vec![PMD_ORDER],
    };
    let mut counted = Counted::default();
    let writable = match scan_ptes(k, vma, address, &mut counted) {
        Ok(writable) => writable,
        Err(result) => return result,
    };
    if !writable && k.profile.collapse_wants_a_writable_page {
        return ScanResult::PageRo;
    }
    // Where there are other sizes, mthp_collapse() asks for each of them.
    let max_ptes_none = match orders == [PMD_ORDER] {
        true => k.thp.max_ptes_none,
        false => HPAGE_PMD_NR as u32 - 1,
    };
    if is_khugepaged && !counted.allowed(k, max_ptes_none) {
        return ScanResult::Fail;
    }
    let scanned = Scanned {
        orders: &orders,
        present: counted.present,
        unmapped: counted.unmapped,
    };
    mthp_collapse(k, vma, address, &scanned, is_khugepaged)
}

/// The loop of `hpage_collapse_scan_pmd()`: whether a page is writable.
fn scan_ptes(
    k: &Kernel<'_>,
    vma: &Vma,
    address: u64,
    counted: &mut Counted,
) -> Result<bool, ScanResult> {
    let mut writable = false;
    for offset in pages() {
        let pte = k.pte(address + offset);
        let mut present = false;
        match pte {
            Pte::Swap { .. } | Pte::Guard => counted.unmapped += 1,
            Pte::None | Pte::Present { folio: None, .. } => {
                counted.none_or_zero += 1;
                // userfaultfd_armed()
                if vma.has(vm::UFFD) {
                    return Err(ScanResult::ExceedNonePte);
                }
            }
            Pte::Present {
                folio: Some(id),
                prot: rights,
                young,
                ..
            } => {
                present = true;
                writable |= rights & prot::W != 0;
                let folio = &k.folios[id];
                if !folio.lru {
                    return Err(ScanResult::PageLru);
                }
                if !is_refcount_suitable(folio) {
                    return Err(ScanResult::PageCount);
                }
                counted.referenced += u32::from(young || folio.referenced);
                counted.lazyfree |= is_clean_lazyfree(k, pte);
                counted.shared += u32::from(folio_likely_mapped_shared(k, id));
            }
        }
        counted.present.push(present);
    }
    Ok(writable)
}

/// SCAN_PAGE_LAZYFREE
fn is_clean_lazyfree(k: &Kernel<'_>, pte: Pte) -> bool {
    let Pte::Present {
        folio: Some(id),
        dirty,
        ..
    } = pte
    else {
        return false;
    };
    k.folios[id].anon && !k.folios[id].swapbacked && !dirty
}

/// `collapse_huge_page()`: a folio of that order, at that address.
fn collapse_huge_page(
    k: &mut Kernel<'_>,
    vma: &Vma,
    (start, order): (u64, u32),
    unmapped: bool,
    is_khugepaged: bool,
) -> ScanResult {
    let result = find_pmd_or_thp_or_none(k, start);
    if result != ScanResult::Succeed {
        return result;
    }
    if unmapped && let Err(result) = __collapse_huge_page_swapin(k, vma, (start, order)) {
        return result;
    }
    // pmdp_collapse_flush() of arch/riscv/mm/pgtable.c: leaves become one of a level
    // above, and so all of the mm is flushed. Each page is accessible again before
    // the step ends, one way or the other.
    let Some(mut table) = k.mm.pgd.pte_tables.remove(&(start >> 21)) else {
        return ScanResult::PmdNull;
    };
    k.enter(Entry::FlushTlbMm);
    let first = pte_index(start);
    let part = first..first + (1 << order);
    let isolated = __collapse_huge_page_isolate(k, &table[part.clone()], order, is_khugepaged);
    if let Err(result) = isolated {
        k.mm.pgd.pte_tables.insert(start >> 21, table);
        return result;
    }
    // hpage_collapse_find_target_node()
    if k.folios.any_on_another_node() {
        k.unpredicted = Some("collapse where there are pages on several nodes");
    }
    for (page, pte) in pages().zip(&table[part.clone()]) {
        k.note_change(start + page, *pte);
    }
    let contents = __collapse_huge_page_copy(k, vma, start, &mut table[part]);
    if order == PMD_ORDER {
        map_anon_folio_pmd(k, vma, start, contents);
    } else {
        k.mm.pgd.pte_tables.insert(start >> 21, table);
        map_large_anon_folio(k, vma, start, contents);
    }
    ScanResult::Succeed
}

/// `__collapse_huge_page_swapin()`; refused where a marker is in the way, which
/// do_swap_page() answers with a signal, and for sizes below 2 MiB.
fn __collapse_huge_page_swapin(
    k: &mut Kernel<'_>,
    vma: &Vma,
    (start, order): (u64, u32),
) -> Result<(), ScanResult> {
    for offset in pages().take(1 << order) {
        match k.pte(start + offset) {
            Pte::None | Pte::Present { .. } => {}
            _ if order != PMD_ORDER => return Err(ScanResult::ExceedSwapPte),
            Pte::Swap { .. } => do_swap_page(k, vma, start + offset, false),
            Pte::Guard => return Err(ScanResult::Fail),
        }
    }
    if order == PMD_ORDER {
        lru_add_drain(k);
    }
    Ok(())
}

/// `__collapse_huge_page_isolate()`
fn __collapse_huge_page_isolate(
    k: &mut Kernel<'_>,
    ptes: &[Pte],
    order: u32,
    is_khugepaged: bool,
) -> Result<(), ScanResult> {
    let mut isolated: Vec<FolioId> = Vec::new();
    let (mut writable, mut referenced) = (false, false);
    let mut result = Ok(());
    for pte in ptes {
        match *pte {
            Pte::None | Pte::Present { folio: None, .. } => {}
            Pte::Swap { .. } | Pte::Guard => {
                result = Err(ScanResult::PteNonPresent);
                break;
            }
            Pte::Present {
                folio: Some(id),
                prot: rights,
                young,
                ..
            } => {
                writable |= rights & prot::W != 0;
                if order < PMD_ORDER
                    && let Err(unfit) = fits_below_pmd(k, *pte, id, order)
                {
                    result = Err(unfit);
                    break;
                }
                if k.folios[id].large.is_none() || !isolated.contains(&id) {
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
                referenced |= young || k.folios[id].referenced;
            }
        }
    }
    if result.is_ok() && !writable && k.profile.collapse_wants_a_writable_page {
        result = Err(ScanResult::PageRo);
    }
    if result.is_ok() && is_khugepaged && !referenced {
        result = Err(ScanResult::LackReferencedPage);
    }
    if result.is_err() {
        release_pte_pages(k, &isolated);
    }
    result
}

/// What `__collapse_huge_page_isolate()` asks of a page for a folio of less than 2 MiB.
fn fits_below_pmd(k: &Kernel<'_>, pte: Pte, id: FolioId, order: u32) -> Result<(), ScanResult> {
    if is_clean_lazyfree(k, pte) {
        return Err(ScanResult::PageLazyfree);
    }
    if folio_likely_mapped_shared(k, id) {
        return Err(ScanResult::ExceedSharedPte);
    }
    match k.folios[id].order() >= order {
        true => Err(ScanResult::PteMappedHugepage),
        false => Ok(()),
    }
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

/// `__collapse_huge_page_copy()` and `__collapse_huge_page_copy_succeeded()`: what
/// each page holds.
fn __collapse_huge_page_copy(
    k: &mut Kernel<'_>,
    vma: &Vma,
    start: u64,
    ptes: &mut [Pte],
) -> Vec<Content> {
    let mut contents = vec![Content::ZEROES; ptes.len()];
    let mut compound_pagelist: Vec<FolioId> = Vec::new();
    for (index, pte) in ptes.iter_mut().enumerate() {
        let Pte::Present {
            folio: Some(id), ..
        } = std::mem::take(pte)
        else {
            continue;
        };
        let addr = start + index as u64 * PAGE_SIZE;
        contents[index] = k.folios[id].page_content(addr);
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
    contents
}
