// SPDX-License-Identifier: GPL-2.0-only
//! `mm/khugepaged.c`: khugepaged, and MADV_COLLAPSE, of anonymous memory.
//!
//! Huge pages of files are not in the model: where one would be made, it stops speaking.

use crate::api::{Allowed, Entry, ShmemAllowed};
use crate::arch::riscv::mm::tlbflush::PMD_SIZE;
use crate::errno::{EAGAIN, EINVAL, ETIMEDOUT};
use crate::mm::huge_memory::{
    folio_likely_mapped_shared, map_anon_folio_pmd, pages, settings_allow, thp_vma_allowable_order,
};
use crate::mm::memory::fault::SMALLEST_LARGE;
use crate::mm::memory::swap::do_swap_page;
use crate::mm::rmap::folio_remove_rmap_pte;
use crate::mm::swap::{folio_put, lru_add_drain, lru_add_drain_all};
use crate::mm::swap_state::free_swap_cache;
use crate::mm::swapfile::PMD_ORDER;
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

/// `khugepaged_enter_vma()`, where the vma can hold a huge page: khugepaged knows the mm from
/// now on.
pub fn khugepaged_enter_vma(k: &mut Kernel<'_>) {
    k.mm.known_to_khugepaged = true;
}

/// `hugepage_madvise()`, of MADV_HUGEPAGE
pub fn hugepage_madvise(k: &mut Kernel<'_>, vma: &Vma, flags: u64) {
    let advised = Vma {
        flags,
        ..vma.clone()
    };
    if advised.is_anonymous()
        && settings_allow(k, &advised, PMD_ORDER)
        && thp_vma_allowable_order(&advised)
    {
        khugepaged_enter_vma(k);
    }
}

/// `hugepage_pmd_enabled()`, later `hugepage_enabled()`: there is a khugepaged.
fn khugepaged_runs(k: &Kernel<'_>) -> bool {
    let any = |order: u32| match k.thp.size(order) {
        Allowed::Never => false,
        Allowed::Inherit => k.thp.enabled != Allowed::Never,
        Allowed::Madvise | Allowed::Always => true,
    };
    let shmem = match k.thp.shmem_size(PMD_ORDER) {
        ShmemAllowed::Inherit => k.thp.shmem != ShmemAllowed::Never,
        allowed => allowed != ShmemAllowed::Never,
    };
    match k.profile.khugepaged_makes_all_sizes {
        true => k.thp.enabled != Allowed::Never || (0..=PMD_ORDER).any(any) || shmem,
        false => any(PMD_ORDER),
    }
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
    let current = k.current;
    let hart = std::mem::replace(&mut k.tasks[current].hart, k.machine.harts - 1);
    for mm in 0..k.mms.len() {
        if !k.mm(mm).released {
            k.in_mm(mm, khugepaged_scan_mm_slot);
        }
    }
    k.tasks[current].hart = hart;
    Ok(())
}

/// `khugepaged_scan_mm_slot()`, later `collapse_scan_mm_slot()`: of one mm.
fn khugepaged_scan_mm_slot(k: &mut Kernel<'_>) {
    let vmas: Vec<Vma> = k.mm.vmas.values().cloned().collect();
    for vma in vmas {
        if !vma.is_anonymous() {
            let shared = k.thp.shmem_size(PMD_ORDER) != ShmemAllowed::Never;
            if shared || k.profile.khugepaged_makes_all_sizes && thp_vma_allowable_order(&vma) {
                k.unpredicted = Some("khugepaged where files are mapped");
            }
            continue;
        }
        let others = k.profile.khugepaged_makes_all_sizes
            && (SMALLEST_LARGE..PMD_ORDER).any(|order| settings_allow(k, &vma, order));
        if others && vma.anon_vma.is_some() && !vma.has(vm::NOHUGEPAGE) {
            k.unpredicted = Some("khugepaged where it may make folios of other sizes");
        }
        if !settings_allow(k, &vma, PMD_ORDER) || !thp_vma_allowable_order(&vma) {
            continue;
        }
        if !k.mm.known_to_khugepaged {
            k.unpredicted = Some("whether khugepaged knows the process");
        }
        let hstart = vma.start.next_multiple_of(PMD_SIZE);
        let hend = vma.end & !(PMD_SIZE - 1);
        for addr in (hstart..hend).step_by(PMD_SIZE as usize) {
            hpage_collapse_scan_pmd(k, &vma, addr, true);
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
}

impl Counted {
    fn allowed(&self, k: &Kernel<'_>) -> bool {
        let few = self.unmapped > 0 && self.referenced < HPAGE_PMD_NR as u32 / 2;
        self.none_or_zero <= k.thp.max_ptes_none
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
        match hpage_collapse_scan_pmd(k, vma, addr, false) {
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
    let (mut writable, mut counted) = (false, Counted::default());
    for offset in pages() {
        match k.pte(address + offset) {
            Pte::Swap { .. } | Pte::Guard => counted.unmapped += 1,
            Pte::None | Pte::Present { folio: None, .. } => counted.none_or_zero += 1,
            Pte::Present {
                folio: Some(id),
                prot: rights,
                dirty,
                young,
            } => {
                writable |= rights & prot::W != 0;
                let folio = &k.folios[id];
                if !folio.lru {
                    return ScanResult::PageLru;
                }
                if !is_refcount_suitable(folio) {
                    return ScanResult::PageCount;
                }
                counted.referenced += u32::from(young || folio.referenced);
                counted.lazyfree |= folio.anon && !folio.swapbacked && !dirty;
                counted.shared += u32::from(folio_likely_mapped_shared(k, id));
            }
        }
    }
    if !writable && k.profile.collapse_wants_a_writable_page {
        return ScanResult::PageRo;
    }
    if is_khugepaged && !counted.allowed(k) {
        return ScanResult::Fail;
    }
    let unmapped = counted.unmapped > 0;
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
