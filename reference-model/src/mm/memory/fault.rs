// SPDX-License-Identifier: GPL-2.0-only
//! `mm/memory.c`, its third part: faults.

use crate::api::{Entry, PAGE_SIZE};
use crate::arch::riscv::mm::init::{prot_is_young, vm_get_page_prot};
use crate::arch::riscv::mm::pgtable::ptep_set_access_flags;
use crate::mm::filemap::{FilemapFault, filemap_fault, filemap_map_pages};
use crate::mm::huge_memory::mms_that_map;
use crate::mm::hugetlb::fault::hugetlb_fault;
use crate::mm::memory::swap as memory_swap;
use crate::mm::mempolicy::policy_node;
use crate::mm::mmap::vma_set_page_prot;
use crate::mm::page_writeback::folio_mark_dirty;
use crate::mm::pgtable_generic::ptep_clear_flush;
use crate::mm::rmap::anon_vma::anon_vma_prepare;
use crate::mm::secretmem::secretmem_fault;
use crate::mm::swapfile::PMD_ORDER;
use crate::mm::{huge_memory, rmap, shmem, swap, swap_state, swapfile};
use crate::mm_types::{
    AnonVmaId, Content, Folio, FolioId, Large, Of, Pte, Vma, prot, pte_index, vm,
};
use crate::state::Kernel;
use operations::Storage;

/// `PTRS_PER_PTE` (`arch/riscv/include/asm/pgtable.h`)
const PTRS_PER_PTE: u64 = 512;

/// The smallest order of large anonymous folios: `THP_ORDERS_ALL_ANON`
/// (`include/linux/huge_mm.h`).
pub const SMALLEST_LARGE: u32 = 2;

/// `enum vm_fault_reason` (`include/linux/mm_types.h`), of faults that did not map the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `VM_FAULT_SIGSEGV`, or no vma, or no right.
    Sigsegv,
    /// `VM_FAULT_SIGBUS`
    Sigbus,
}

/// How a fault goes on that has given up mmap_lock to wait for a page (VM_FAULT_RETRY).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It is tried again with FAULT_FLAG_TRIED.
    Tried,
    /// There is a new fault.
    Anew,
    /// It does not give it up, for want of FAULT_FLAG_ALLOW_RETRY.
    Never,
}

/// Which attempt at a fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// `fault_flag_allow_retry_first()`
    First,
    /// FAULT_FLAG_TRIED
    Again,
    /// Neither flag.
    Only,
}

/// `handle_mm_fault()` and `__handle_mm_fault()` down to `handle_pte_fault()`
pub fn handle_mm_fault(
    k: &mut Kernel,
    vma: &Vma,
    addr: u64,
    write: bool,
    retry: Retry,
) -> Result<(), Fault> {
    if vma.has(vm::HUGETLB) {
        return hugetlb_fault(k, vma, addr, write);
    }
    // __handle_mm_fault(): pmd_alloc()
    k.mm.pgd.pmd_tables.insert(addr >> 30);
    let none = k.mm.pgd.pmds(addr, addr + PAGE_SIZE).is_empty();
    if none && huge_memory::create_huge_pmd(k, vma, addr, write) {
        return Ok(());
    }
    if let Some(pmd) = k.mm.pgd.huge_pmd(addr) {
        if !write || pmd.prot & prot::W != 0 {
            // huge_pmd_set_accessed()
            huge_memory::touch_pmd(k, addr, pmd, write);
            return Ok(());
        }
        // wp_huge_pmd()
        if huge_memory::do_huge_pmd_wp_page(k, vma, addr, pmd) {
            return Ok(());
        }
    }
    match k.pte(addr) {
        Pte::None if vma.is_anonymous() => do_anonymous_page(k, vma, addr, write),
        Pte::None => do_fault(k, vma, addr, write, retry),
        Pte::Swap { .. } => {
            memory_swap::do_swap_page(k, vma, addr, write);
            Ok(())
        }
        // handle_pte_marker()
        Pte::Guard => Err(Fault::Sigsegv),
        Pte::Present { prot: rights, .. } if write && rights & prot::W == 0 => {
            do_wp_page(k, vma, addr, false);
            Ok(())
        }
        Pte::Present {
            folio,
            prot: rights,
            dirty,
            ..
        } => {
            let entry = Pte::Present {
                folio,
                prot: rights,
                dirty: dirty || write,
                young: true,
            };
            if !ptep_set_access_flags(k, addr, entry) && write {
                // flush_tlb_fix_spurious_fault()
                k.enter(Entry::FlushTlbPage { addr });
            }
            Ok(())
        }
    }
}

/// `vmf_anon_prepare()` (`mm/internal.h`) and `__vmf_anon_prepare()`
pub fn vmf_anon_prepare(k: &mut Kernel, vma: &Vma) {
    let Some(mut current) = k.mm.vmas.get(&vma.start).cloned() else {
        return;
    };
    if current.anon_vma.is_some() {
        return;
    }
    anon_vma_prepare(k, &mut current);
    k.mm.vmas.insert(current.start, current);
}

/// The anon_vma of a vma as it is now: `vma` may have been looked up before it had one.
pub fn anon_vma_of(k: &Kernel, vma: &Vma) -> AnonVmaId {
    let now = k.mm.vmas.get(&vma.start).and_then(|now| now.anon_vma);
    now.or(vma.anon_vma).unwrap_or_default()
}

/// A new private page, mapped.
pub fn map_new_anon_folio(k: &mut Kernel, vma: &Vma, addr: u64, dirty: bool, content: Content) {
    let pte = new_anon_pte(k, vma, addr, dirty, content);
    k.set_pte(addr, pte);
}

/// A new private page, and the PTE that is to map it.
pub fn new_anon_pte(k: &mut Kernel, vma: &Vma, addr: u64, dirty: bool, content: Content) -> Pte {
    // folio_add_new_anon_rmap()
    let id = k.folios.alloc(Folio {
        anon: true,
        node: policy_node(vma.policy),
        anon_vma: anon_vma_of(k, vma),
        index: vma.linear_anon_page_index(k.profile, addr),
        mapcount: 1,
        swapbacked: true,
        anon_exclusive: true,
        charged: true,
        content,
        ..Folio::default()
    });
    swap::folio_add_lru_vma(k, id, vma.flags);
    let write = if dirty && vma.has(vm::WRITE) {
        prot::W
    } else {
        0
    };
    let rights = vm_get_page_prot(vma.flags) | write;
    Pte::Present {
        folio: Some(id),
        prot: rights,
        dirty,
        young: prot_is_young(rights),
    }
}

/// `handle_userfault()` (`fs/userfaultfd.c`) with UFFD_FEATURE_SIGBUS
pub fn handle_userfault() -> Fault {
    Fault::Sigbus
}

/// `do_anonymous_page()`
fn do_anonymous_page(k: &mut Kernel, vma: &Vma, addr: u64, write: bool) -> Result<(), Fault> {
    k.mm.pgd.pte_alloc(addr);
    if !write {
        if vma.has(vm::UFFD_MISSING) {
            return Err(handle_userfault());
        }
        let rights = vm_get_page_prot(vma.flags);
        k.set_pte(
            addr,
            Pte::Present {
                folio: None,
                prot: rights,
                dirty: false,
                young: true,
            },
        );
        return Ok(());
    }
    vmf_anon_prepare(k, vma);
    if vma.has(vm::UFFD_MISSING) {
        return Err(handle_userfault());
    }
    match alloc_anon_folio(k, vma, addr) {
        // Forced into an area that may not be written it is not dirty yet.
        0 => map_new_anon_folio(k, vma, addr, vma.has(vm::WRITE), Content::ZEROES),
        order => {
            let zeroes = vec![Content::ZEROES; 1 << order];
            map_large_anon_folio(k, vma, addr & !((PAGE_SIZE << order) - 1), zeroes);
        }
    }
    Ok(())
}

/// `alloc_anon_folio()`: of which order. There is always memory for it.
fn alloc_anon_folio(k: &Kernel, vma: &Vma, addr: u64) -> u32 {
    // userfaultfd_armed()
    if vma.has(vm::UFFD) {
        return 0;
    }
    let fits = |order: &u32| {
        let size = PAGE_SIZE << order;
        let start = addr & !(size - 1);
        let mut pages = (start..start + size).step_by(PAGE_SIZE as usize);
        huge_memory::allowable_in_fault(k, vma, *order)
            && huge_memory::thp_vma_suitable_order(vma, addr, *order)
            // pte_range_none()
            && pages.all(|page| k.pte(page) == Pte::None)
    };
    (SMALLEST_LARGE..PMD_ORDER).rev().find(fits).unwrap_or(0)
}

/// The end of `do_anonymous_page()`, later `map_anon_folio_pte_nopf()`, of a large folio: all of
/// its PTEs are writable and dirty, whichever page was written to. What each of them holds is
/// in `contents`.
pub fn map_large_anon_folio(k: &mut Kernel, vma: &Vma, start: u64, contents: Vec<Content>) {
    let nr_pages = contents.len() as u32;
    let mut large = Large::unmapped(nr_pages.trailing_zeros());
    large.contents = contents;
    large.mapcounts.fill(1);
    large.anon_exclusive.fill(true);
    let id = k.folios.alloc(Folio {
        anon: true,
        anon_vma: anon_vma_of(k, vma),
        index: vma.linear_anon_page_index(k.profile, start),
        node: policy_node(vma.policy),
        mapcount: nr_pages,
        swapbacked: true,
        charged: true,
        large: Some(Box::new(large)),
        ..Folio::default()
    });
    k.folios[id].refcount = nr_pages;
    swap::folio_add_lru_vma(k, id, vma.flags);
    let write = if vma.has(vm::WRITE) { prot::W } else { 0 };
    let entry = Pte::Present {
        folio: Some(id),
        prot: vm_get_page_prot(vma.flags) | write,
        dirty: vma.has(vm::WRITE),
        young: true,
    };
    for page in 0..u64::from(nr_pages) {
        k.set_pte(start + page * PAGE_SIZE, entry);
    }
}

/// `do_fault()`, and again where it is to be retried (VM_FAULT_RETRY)
fn do_fault(k: &mut Kernel, vma: &Vma, addr: u64, write: bool, retry: Retry) -> Result<(), Fault> {
    // A driver's vma has nobody who would fill it.
    if vma.has(vm::PFNMAP) {
        return Err(Fault::Sigbus);
    }
    // A page is read at most, then one that is marked is reached, and then it is there.
    for nth in 0..3 {
        let attempt = match retry {
            Retry::Never => Attempt::Only,
            Retry::Tried if nth > 0 => Attempt::Again,
            Retry::Tried | Retry::Anew => Attempt::First,
        };
        let done = if !write {
            do_read_fault(k, vma, addr, attempt)?
        } else if !vma.has(vm::SHARED) {
            do_cow_fault(k, vma, addr, attempt)?
        } else {
            do_shared_fault(k, vma, addr, attempt)?
        };
        if done || k.unpredicted.is_some() {
            return Ok(());
        }
        if retry == Retry::Anew {
            // populate_vma_page_range() is over, and called again.
            swap::lru_add_drain(k);
        }
    }
    k.unpredicted = Some("a fault that is retried again and again");
    Ok(())
}

/// `__do_fault()`: the page, with a reference; none where the fault is to be tried again.
fn __do_fault(
    k: &mut Kernel,
    vma: &Vma,
    addr: u64,
    attempt: Attempt,
) -> Result<Option<FolioId>, Fault> {
    let Some(file) = vma.file else {
        return Err(Fault::Sigbus);
    };
    let index = vma.linear_page_index(addr);
    if k.of(vma.file) == Of::Secret {
        let page = secretmem_fault(k, file, index);
        return page.map(Some).ok_or(Fault::Sigbus);
    }
    match k.storage(vma.file) {
        Storage::Memory => {
            let page = shmem::shmem_fault(k, vma, file, index);
            page.map(Some).ok_or(Fault::Sigbus)
        }
        Storage::Ext4 | Storage::Xfs => match filemap_fault(k, vma, (file, index), attempt) {
            FilemapFault::Page(id) => Ok(Some(id)),
            FilemapFault::Retry => Ok(None),
            FilemapFault::Sigbus => Err(Fault::Sigbus),
        },
    }
}

/// `do_read_fault()`; false where it is to be retried.
fn do_read_fault(k: &mut Kernel, vma: &Vma, addr: u64, attempt: Attempt) -> Result<bool, Fault> {
    // should_fault_around(), uffd_disable_fault_around(); what is secret comes one by one.
    if !vma.has(vm::UFFD_MINOR)
        && k.of(vma.file) == Of::Usual
        && k.machine.fault_around_bytes / PAGE_SIZE > 1
        && do_fault_around(k, vma, addr)
    {
        return Ok(true);
    }
    let Some(id) = __do_fault(k, vma, addr, attempt)? else {
        return Ok(false);
    };
    finish_fault(k, vma, addr, id, false);
    Ok(true)
}

/// `do_fault_around()`: true where it mapped the page itself (`VM_FAULT_NOPAGE`).
fn do_fault_around(k: &mut Kernel, vma: &Vma, addr: u64) -> bool {
    let nr_pages = k.machine.fault_around_bytes / PAGE_SIZE;
    let pte_off = pte_index(addr) as u64;
    let vma_pages = (vma.end - vma.start) / PAGE_SIZE;
    let vma_off = (addr - vma.start) / PAGE_SIZE;
    let from_pte = (pte_off - pte_off % nr_pages).max(pte_off - pte_off.min(vma_off));
    let to_pte = (from_pte + nr_pages)
        .min(PTRS_PER_PTE)
        .min(pte_off + vma_pages - vma_off)
        - 1;
    let pgoff = vma.linear_page_index(addr);
    filemap_map_pages(
        k,
        vma,
        addr,
        pgoff + from_pte - pte_off,
        pgoff + to_pte - pte_off,
    )
}

/// `finish_fault()` of a page of the page cache: maps its folio as a whole where that can be. The
/// caller's reference becomes the mapping's.
fn finish_fault(k: &mut Kernel, vma: &Vma, addr: u64, id: FolioId, write: bool) {
    let none = k.mm.pgd.pmds(addr, addr + PAGE_SIZE).is_empty();
    let of_disk = k.storage(vma.file) != Storage::Memory;
    let behind_end = of_disk && shmem::huge::crosses_end(k, id);
    if none && !behind_end && huge_memory::do_set_pmd(k, vma, addr, id, write) {
        return;
    }
    let fits = lies_as_a_whole(k, vma, id, addr).filter(|_| !behind_end);
    let of_any_file = k.profile.maps_large_folios_of_files || is_anon_shmem(k, vma);
    // userfaultfd_armed()
    let (start, end) = match fits.filter(|_| of_any_file && !vma.has(vm::UFFD)) {
        // pte_range_none()
        Some((start, end)) if !any_mapped(k, start, end) => (start, end),
        _ => (addr, addr + PAGE_SIZE),
    };
    k.folios[id].refcount += ((end - start) / PAGE_SIZE) as u32 - 1;
    set_pte_range(k, vma, id, (start, end), write);
}

/// Where a large folio of a file begins and ends, if all of it lies in the vma and in one page
/// table.
pub fn lies_as_a_whole(k: &Kernel, vma: &Vma, id: FolioId, addr: u64) -> Option<(u64, u64)> {
    let folio = &k.folios[id];
    let bytes = folio.nr_pages() * PAGE_SIZE;
    let start = addr & !(bytes - 1);
    (folio.large.is_some() && vma.start <= start && start + bytes <= vma.end)
        .then_some((start, start + bytes))
}

/// Whether there is an entry that is not none.
fn any_mapped(k: &Kernel, start: u64, end: u64) -> bool {
    let mut pages = (start..end).step_by(PAGE_SIZE as usize);
    pages.any(|page| k.pte(page) != Pte::None)
}

/// `vma_is_anon_shmem()`, as `shmem_mmap()` (both of `mm/shmem.c`) has it: memfds are unlinked, and so taken for anonymous
/// shared memory.
fn is_anon_shmem(k: &Kernel, vma: &Vma) -> bool {
    vma.file.is_some() && k.storage(vma.file) == Storage::Memory && !vma.has(vm::HUGETLB)
}

/// `set_pte_range()` for pages of a folio of the page cache; the caller's references to it
/// become the mappings'.
pub fn set_pte_range(
    k: &mut Kernel,
    vma: &Vma,
    id: FolioId,
    (start, end): (u64, u64),
    write: bool,
) {
    let skew = (start / PAGE_SIZE).wrapping_sub(vma.linear_page_index(start));
    if !skew.is_multiple_of(k.folios[id].nr_pages()) {
        k.unpredicted = Some("large pages of files that do not lie at multiples of their size");
        return;
    }
    rmap::folio_add_file_rmap_ptes(k, id, (start, end), vma.flags);
    let maybe_write = if write && vma.has(vm::WRITE) {
        prot::W
    } else {
        0
    };
    let rights = vma_set_page_prot(k, vma) | maybe_write;
    let found_dirty = k.profile.read_fault_maps_dirty && k.folios[id].dirty;
    let entry = Pte::Present {
        folio: Some(id),
        prot: rights,
        dirty: write || rights & prot::W != 0 && found_dirty,
        young: true,
    };
    for addr in (start..end).step_by(PAGE_SIZE as usize) {
        k.set_pte(addr, entry);
    }
}

/// `do_cow_fault()`
fn do_cow_fault(k: &mut Kernel, vma: &Vma, addr: u64, attempt: Attempt) -> Result<bool, Fault> {
    vmf_anon_prepare(k, vma);
    let Some(page) = __do_fault(k, vma, addr, attempt)? else {
        return Ok(false);
    };
    let nth = vma.linear_page_index(addr) - k.folios[page].mapping.map_or(0, |at| at.1);
    let content = k.folios[page].nth_page_content(nth as usize);
    map_new_anon_folio(k, vma, addr, true, content);
    swap::folio_put(k, page);
    Ok(true)
}

/// `do_shared_fault()`, and `fault_dirty_shared_page()`
fn do_shared_fault(k: &mut Kernel, vma: &Vma, addr: u64, attempt: Attempt) -> Result<bool, Fault> {
    let Some(id) = __do_fault(k, vma, addr, attempt)? else {
        return Ok(false);
    };
    finish_fault(k, vma, addr, id, true);
    folio_mark_dirty(k, id);
    Ok(true)
}

/// `do_wp_page()`; to `unshare` is to have a page of one's own without writing to it
/// (`FAULT_FLAG_UNSHARE`).
pub fn do_wp_page(k: &mut Kernel, vma: &Vma, addr: u64, unshare: bool) {
    let Pte::Present { folio, .. } = k.pte(addr) else {
        return;
    };
    if vma.has(vm::SHARED | vm::MAYSHARE) {
        // wp_page_shared()
        wp_page_reuse(k, vma, addr);
        if let Some(id) = folio {
            folio_mark_dirty(k, id);
        }
        return;
    }
    if let Some(id) = folio
        && k.folios[id].anon
        && (k.folios[id].page_anon_exclusive(addr) || wp_can_reuse_anon_folio(k, id))
    {
        if !k.folios[id].page_anon_exclusive(addr) {
            // folio_move_anon_rmap(), but for a huge page, of which other vmas may have a part
            if k.folios[id].large.is_none() {
                k.folios[id].anon_vma = anon_vma_of(k, vma);
            }
            k.folios[id].set_page_anon_exclusive(addr, true);
        }
        if !unshare {
            wp_page_reuse(k, vma, addr);
        }
        return;
    }
    if let Some(id) = folio {
        k.folio_get(id);
    }
    wp_page_copy(k, vma, addr, folio, unshare);
}

/// `__wp_can_reuse_large_anon_folio()`
fn wp_can_reuse_large_anon_folio(k: &mut Kernel<'_>, id: FolioId) -> bool {
    if k.folios[id].mapcount <= 1 || mms_that_map(k, id) > 1 {
        return false;
    }
    if k.folios[id].swap.is_some() {
        swapfile::folio_free_swap(k, id);
    }
    k.folios[id].mapcount == k.folios[id].refcount
}

/// `wp_can_reuse_anon_folio()`
fn wp_can_reuse_anon_folio(k: &mut Kernel, id: FolioId) -> bool {
    if k.folios[id].large.is_some() {
        return k.profile.reuses_large_anon && wp_can_reuse_large_anon_folio(k, id);
    }
    // What KSM has merged is not reused.
    if k.folios[id].ksm {
        return false;
    }
    let maybe_in_lru_cache = !k.folios[id].lru;
    let expected = match k.profile.reuse_counts_references {
        true => {
            let in_swapcache = k.folios[id].swap.is_some();
            1 + u32::from(maybe_in_lru_cache) + u32::from(in_swapcache)
        }
        false => 3,
    };
    if k.folios[id].refcount > expected {
        return false;
    }
    if maybe_in_lru_cache {
        swap::lru_add_drain(k);
    }
    let folio = &k.folios[id];
    if folio.refcount > 1 + u32::from(folio.swap.is_some()) {
        return false;
    }
    if folio.swap.is_some() {
        swapfile::folio_free_swap(k, id);
    }
    k.folios[id].refcount == 1
}

/// `wp_page_reuse()`
fn wp_page_reuse(k: &mut Kernel, vma: &Vma, addr: u64) {
    let Pte::Present {
        folio,
        prot: rights,
        ..
    } = k.pte(addr)
    else {
        return;
    };
    let write = if vma.has(vm::WRITE) { prot::W } else { 0 };
    let entry = Pte::Present {
        folio,
        prot: rights | write,
        dirty: true,
        young: true,
    };
    ptep_set_access_flags(k, addr, entry);
}

/// `wp_page_copy()`
fn wp_page_copy(k: &mut Kernel, vma: &Vma, addr: u64, old: Option<FolioId>, unshare: bool) {
    vmf_anon_prepare(k, vma);
    ptep_clear_flush(k, addr);
    let content = old.map_or(Content::ZEROES, |id| k.folios[id].page_content(addr));
    map_new_anon_folio(k, vma, addr, !unshare, content);
    if let Some(id) = old {
        rmap::folio_remove_rmap_pte(k, id, addr, vma.flags);
        swap::folio_put(k, id);
        swap_state::free_swap_cache(k, id);
        swap::folio_put(k, id);
    }
}
