// SPDX-License-Identifier: GPL-2.0-only
//! `mm/huge_memory.c`: large folios of anonymous memory, mapped by a PMD or by PTEs.
//!
//! A fault makes them where the settings allow it (`mm/memory/fault.rs` those of less than
//! 2 MiB), and MADV_COLLAPSE (`mm/khugepaged.rs`).
//! A large page lies at a multiple of its size in every mm that maps it: where one of a file
//! would be mapped otherwise, the model stops speaking.

pub mod split_file;

use crate::api::{Allowed, Entry, PAGE_SIZE};
use crate::arch::riscv::mm::init::{prot_is_young, vm_get_page_prot};
use crate::arch::riscv::mm::pgtable::pmdp_set_access_flags;
use crate::arch::riscv::mm::tlbflush::PMD_SIZE;
use crate::include::linux::mm_inline::{folio_lru_list, vma_has_recency};
use crate::mm::filemap::filemap_release_folio;
use crate::mm::memcontrol::folio_lruvec;
use crate::mm::memory::copy::folio_needs_cow_for_dma;
use crate::mm::memory::fault::{anon_vma_of, vmf_anon_prepare};
use crate::mm::mempolicy::policy_node;
use crate::mm::mlock::{mlock_drain, mlock_folio};
use crate::mm::mmap::vma_set_page_prot;
use crate::mm::mmu_gather::{
    MmuGather, tlb_flush_mmu, tlb_flush_pmd_range, tlb_remove_page_size, tlb_remove_pmd_tlb_entry,
};
use crate::mm::pgtable_generic::flush_pmd;
use crate::mm::rmap::{
    folio_add_anon_rmap_ptes, folio_add_file_rmap_pmd, folio_remove_rmap_pmd,
    folio_remove_rmap_pte, rmap_walk, set_tlb_ubc_flush_pending, try_to_unmap_flush,
};
use crate::mm::swap::{folio_add_lru_vma, folio_mark_accessed, folio_mark_lazyfree, folio_put};
use crate::mm::swap_state::free_swap_cache;
use crate::mm::swapfile::PMD_ORDER;
use crate::mm::{page_vma_mapped, rmap, swapfile};
use crate::mm_types::{
    Content, Folio, FolioId, HPAGE_PMD_NR, HugePmd, Large, PageTables, Pte, PteTable, Vma, prot, vm,
};
use crate::state::Kernel;
use operations::Storage;

/// `HPAGE_PMD_MASK` (`include/linux/huge_mm.h`)
const HPAGE_PMD_MASK: u64 = !(PMD_SIZE - 1);

/// `hugepage_global_always()`, `hugepage_global_enabled()` and the masks of orders that
/// `thp_vma_allowable_orders()` (`include/linux/huge_mm.h`) looks at: whether the settings
/// allow anonymous folios of an order in a vma.
pub fn settings_allow(k: &Kernel<'_>, vma: &Vma, order: u32) -> bool {
    let allows = |allowed: Allowed| match allowed {
        Allowed::Always => true,
        Allowed::Madvise => vma.has(vm::HUGEPAGE),
        Allowed::Never | Allowed::Inherit => false,
    };
    match k.thp.size(order) {
        Allowed::Inherit => allows(k.thp.enabled),
        allowed => allows(allowed),
    }
}

/// `thp_vma_allowable_orders()` (`include/linux/huge_mm.h`) of one order, at a fault (TVA_IN_PF, later TVA_PAGEFAULT). Files
/// have none, for shmem has no huge_fault operation.
pub fn allowable_in_fault(k: &Kernel<'_>, vma: &Vma, order: u32) -> bool {
    vma.is_anonymous() && !vma.has(vm::NOHUGEPAGE) && settings_allow(k, vma, order)
}

/// `thp_vma_suitable_order()` (`include/linux/huge_mm.h`): whether a folio of that order lies in
/// the vma as a whole.
pub fn thp_vma_suitable_order(vma: &Vma, addr: u64, order: u32) -> bool {
    let size = PAGE_SIZE << order;
    if !vma.is_anonymous() {
        let skew = (vma.start / PAGE_SIZE).wrapping_sub(vma.pgoff);
        if !skew.is_multiple_of(size / PAGE_SIZE) {
            return false;
        }
    }
    let haddr = addr & !(size - 1);
    haddr >= vma.start && haddr + size <= vma.end
}

/// `is_huge_zero_pmd()` (`include/linux/huge_mm.h`)
pub fn is_huge_zero_pmd(k: &Kernel<'_>, pmd: HugePmd) -> bool {
    k.huge_zero_folio == Some(pmd.folio)
}

/// `mm_get_huge_zero_folio()` and `get_huge_zero_page()`: there is memory for it, and no
/// shrinker takes it away. Its own reference keeps it.
fn mm_get_huge_zero_folio(k: &mut Kernel<'_>) -> FolioId {
    if let Some(id) = k.huge_zero_folio {
        return id;
    }
    let id = k.folios.alloc(Folio {
        large: Some(Box::new(Large::unmapped(PMD_ORDER))),
        ..Folio::default()
    });
    k.huge_zero_folio = Some(id);
    id
}

/// `create_huge_pmd()` (`mm/memory.c`) where the settings allow it: false where the fault goes
/// on with PTEs.
pub fn create_huge_pmd(k: &mut Kernel<'_>, vma: &Vma, addr: u64, write: bool) -> bool {
    allowable_in_fault(k, vma, PMD_ORDER) && do_huge_pmd_anonymous_page(k, vma, addr, write)
}

/// `do_huge_pmd_anonymous_page()`: false for VM_FAULT_FALLBACK. There is always memory for
/// a huge page.
fn do_huge_pmd_anonymous_page(k: &mut Kernel<'_>, vma: &Vma, addr: u64, write: bool) -> bool {
    if !thp_vma_suitable_order(vma, addr, PMD_ORDER) {
        return false;
    }
    if vma.has(vm::UFFD_MISSING) {
        k.unpredicted = Some("huge pages where a userfaultfd is asked");
    }
    vmf_anon_prepare(k, vma);
    k.mm.known_to_khugepaged = true;
    if !write && k.thp.use_zero_page {
        // set_huge_zero_folio()
        let page_prot = vm_get_page_prot(vma.flags);
        let pmd = HugePmd {
            folio: mm_get_huge_zero_folio(k),
            prot: page_prot,
            dirty: false,
            young: prot_is_young(page_prot),
        };
        k.set_pmd(addr, Some(pmd));
        return true;
    }
    map_anon_folio_pmd(k, vma, haddr(addr), vec![Content::ZEROES; HPAGE_PMD_NR]);
    true
}

/// `__do_huge_pmd_anonymous_page()` and the end of `collapse_huge_page()`; later
/// `map_anon_folio_pmd_nopf()`: a new huge page, and the PMD that maps it. What each of
/// its pages holds is in `contents`.
pub fn map_anon_folio_pmd(k: &mut Kernel<'_>, vma: &Vma, haddr: u64, contents: Vec<Content>) {
    let mut large = Large::unmapped(PMD_ORDER);
    large.entire_mapcount = 1;
    large.anon_exclusive[0] = true;
    large.contents = contents;
    let id = k.folios.alloc(Folio {
        anon: true,
        anon_vma: anon_vma_of(k, vma),
        index: vma.linear_anon_page_index(k.profile, haddr),
        node: policy_node(vma.policy),
        mapcount: 1,
        swapbacked: true,
        charged: true,
        large: Some(Box::new(large)),
        ..Folio::default()
    });
    folio_add_lru_vma(k, id, vma.flags);
    let write = if vma.has(vm::WRITE) { prot::W } else { 0 };
    let page_prot = vm_get_page_prot(vma.flags);
    let pmd = HugePmd {
        folio: id,
        prot: page_prot | write,
        dirty: true,
        young: prot_is_young(page_prot),
    };
    k.set_pmd(haddr, Some(pmd));
    deferred_split_folio(k, id, false);
}

/// `do_set_pmd()` (`mm/memory.c`): maps a huge page of a file by its PMD, where there is none;
/// false where PTEs have to. The caller's reference becomes the mapping's.
pub fn do_set_pmd(k: &mut Kernel<'_>, vma: &Vma, addr: u64, id: FolioId, write: bool) -> bool {
    // vma_thp_disabled()
    let fits = !vma.has(vm::NOHUGEPAGE) && thp_vma_suitable_order(vma, addr, PMD_ORDER);
    if !fits || k.folios[id].order() != PMD_ORDER {
        return false;
    }
    folio_add_file_rmap_pmd(k, id, vma.flags);
    let maybe_write = write && vma.has(vm::WRITE);
    let page_prot = vma_set_page_prot(k, vma);
    let pmd = HugePmd {
        folio: id,
        prot: page_prot | if maybe_write { prot::W } else { 0 },
        dirty: write,
        young: prot_is_young(page_prot),
    };
    k.mm.pgd.pmd_tables.insert(addr >> 30);
    k.set_pmd(haddr(addr), Some(pmd));
    true
}

/// `thp_vma_allowable_order()` (`include/linux/huge_mm.h`), `__thp_vma_allowable_orders()`: of
/// PMD_ORDER, without TVA_ENFORCE_SYSFS.
pub fn thp_vma_allowable_order(vma: &Vma) -> bool {
    // VM_NO_KHUGEPAGED
    if vma.has(vm::NOHUGEPAGE | vm::HUGETLB | vm::DONTEXPAND) {
        return false;
    }
    // thp_vma_suitable_order(), of the last place where one could be.
    let last = vma
        .end
        .checked_sub(PMD_SIZE)
        .map(|addr| addr & !(PMD_SIZE - 1));
    if last.is_none_or(|haddr| haddr < vma.start) {
        return false;
    }
    if vma.is_anonymous() {
        return vma.anon_vma.is_some();
    }
    // Of a file, pages have to lie in it as they lie in memory. What settings of shmem say
    // MADV_COLLAPSE does not ask (shmem_huge_force).
    let skew = (vma.start / PAGE_SIZE).wrapping_sub(vma.pgoff);
    skew.is_multiple_of(HPAGE_PMD_NR as u64)
}

/// `folio_likely_mapped_shared()` (`include/linux/mm.h`), later
/// `folio_maybe_mapped_shared()`
pub fn folio_likely_mapped_shared(k: &Kernel<'_>, id: FolioId) -> bool {
    let folio = &k.folios[id];
    let Some(large) = &folio.large else {
        return folio.mapcount > 1;
    };
    if folio.mapcount <= 1 {
        return false;
    }
    if k.profile.knows_which_mms_map {
        return mms_that_map(k, id) > 1;
    }
    large.entire_mapcount > 0
        || u64::from(folio.mapcount) > folio.nr_pages()
        || large.mapcounts[0] > 1
}

/// FOLIO_MM_IDS_SHARED: how many mms map some of a huge page. The kernel counts for
/// two of them, and may take a page for shared still that a third has left.
pub fn mms_that_map(k: &Kernel<'_>, id: FolioId) -> usize {
    let maps = |mm: &usize| {
        let pgd = &k.mm(*mm).pgd;
        let table = |table: &PteTable| table.iter().any(|pte| pte.maps(id));
        pgd.huge_pmds.values().any(|pmd| pmd.folio == id)
            || pgd.pte_tables.values().any(|ptes| table(ptes))
    };
    (0..k.mms.len()).filter(maps).count()
}

/// `zap_huge_pmd()`. Nothing here looks for flushes that reclaim has put off.
pub fn zap_huge_pmd(k: &mut Kernel<'_>, tlb: &mut MmuGather, vma: &Vma, addr: u64) {
    let Some(pmd) = k.mm.pgd.huge_pmd(addr) else {
        return;
    };
    k.set_pmd(addr, None);
    tlb_remove_pmd_tlb_entry(tlb, addr);
    if is_huge_zero_pmd(k, pmd) {
        return;
    }
    folio_remove_rmap_pmd(k, pmd.folio, vma.flags);
    if !k.folios[pmd.folio].anon {
        k.folios[pmd.folio].dirty |= pmd.dirty;
        if k.profile.zapped_pmd_is_accessed && pmd.young && vma_has_recency(vma) {
            folio_mark_accessed(k, pmd.folio);
        }
    }
    if tlb_remove_page_size(tlb, pmd.folio) {
        tlb_flush_mmu(k, tlb);
    }
}

/// `can_change_pmd_writable()`. What shared memory maps has the right by itself.
fn can_change_pmd_writable(k: &Kernel<'_>, vma: &Vma, pmd: HugePmd, addr: u64) -> bool {
    if vma.has(vm::SHARED) {
        return pmd.prot != 0 && pmd.dirty;
    }
    // vm_normal_page_pmd(): the huge zero page has none.
    pmd.prot != 0 && !is_huge_zero_pmd(k, pmd) && k.folios[pmd.folio].page_anon_exclusive(addr)
}

/// `change_huge_pmd()`
pub fn change_huge_pmd(k: &mut Kernel<'_>, tlb: &mut MmuGather, vma: &Vma, addr: u64) {
    let Some(old) = k.mm.pgd.huge_pmd(addr) else {
        return;
    };
    // pmdp_invalidate_ad()
    flush_pmd(k, addr);
    let newprot = vma_set_page_prot(k, vma);
    // pmd_modify()
    let mut entry = HugePmd {
        prot: newprot,
        young: old.young || prot_is_young(newprot),
        ..old
    };
    if vma.has(vm::WRITE) && can_change_pmd_writable(k, vma, entry, addr) {
        entry.prot |= prot::W;
    }
    k.set_pmd(addr, Some(entry));
    // huge_pmd_needs_flush()
    tlb_flush_pmd_range(tlb, addr);
}

/// `copy_huge_pmd()`: the child's PMD, and the parent's loses the right to write. What a fault
/// fills in again, a file's, is left to that; where the page may be pinned it is split instead.
pub fn copy_huge_pmd(k: &mut Kernel<'_>, dst: &mut PageTables, src: &Vma, addr: u64) {
    if !src.is_anonymous() {
        return;
    }
    let Some(pmd) = k.mm.pgd.huge_pmd(addr) else {
        return;
    };
    // folio_try_dup_anon_rmap_pmd()
    if folio_needs_cow_for_dma(k, pmd.folio) && k.folios[pmd.folio].page_anon_exclusive(addr) {
        __split_huge_pmd(k, src, addr);
        return;
    }
    if !is_huge_zero_pmd(k, pmd) {
        k.folio_get(pmd.folio);
        // folio_try_dup_anon_rmap_pmd()
        let folio = &mut k.folios[pmd.folio];
        folio.mapcount += 1;
        if let Some(large) = &mut folio.large {
            large.entire_mapcount += 1;
            large.anon_exclusive[0] = false;
        }
    }
    let pmd = HugePmd {
        prot: pmd.prot & !prot::W,
        ..pmd
    };
    k.set_pmd(addr, Some(pmd));
    let old = HugePmd {
        young: false,
        ..pmd
    };
    dst.huge_pmds.insert(addr >> 21, old);
}

/// `__split_huge_pmd()`: from now on PTEs map the huge page, or, of a file, nothing does.
pub fn __split_huge_pmd(k: &mut Kernel<'_>, vma: &Vma, addr: u64) {
    let haddr = addr & HPAGE_PMD_MASK;
    if let Some(pmd) = k.mm.pgd.huge_pmd(haddr) {
        __split_huge_pmd_locked(k, vma, haddr, pmd);
    }
}

/// `__split_huge_pmd_locked()` without `freeze`
fn __split_huge_pmd_locked(k: &mut Kernel<'_>, vma: &Vma, haddr: u64, pmd: HugePmd) {
    if !vma.is_anonymous() {
        // pmdp_huge_clear_flush()
        k.set_pmd(haddr, None);
        flush_pmd(k, haddr);
        let folio = &mut k.folios[pmd.folio];
        if !folio.dirty && pmd.dirty {
            folio.set_dirty(true);
        }
        folio.referenced |= pmd.young;
        folio_remove_rmap_pmd(k, pmd.folio, vma.flags);
        folio_put(k, pmd.folio);
        return;
    }
    if is_huge_zero_pmd(k, pmd) {
        __split_huge_zero_page_pmd(k, vma, haddr);
        return;
    }
    flush_pmd(k, haddr);
    let folio = &mut k.folios[pmd.folio];
    folio.dirty |= pmd.dirty;
    let exclusive = folio.page_anon_exclusive(haddr);
    folio.refcount += HPAGE_PMD_NR as u32 - 1;
    folio_add_anon_rmap_ptes(k, pmd.folio, exclusive);
    let page_prot = vm_get_page_prot(vma.flags);
    let entry = Pte::Present {
        folio: Some(pmd.folio),
        prot: page_prot | pmd.prot & prot::W,
        dirty: pmd.dirty,
        young: pmd.young && prot_is_young(page_prot),
    };
    k.mm.pgd.huge_pmds.remove(&(haddr >> 21));
    *k.mm.pgd.pte_alloc(haddr) = [entry; HPAGE_PMD_NR];
    folio_remove_rmap_pmd(k, pmd.folio, vma.flags);
}

/// `__split_huge_zero_page_pmd()`: from now on PTEs map the small zero page.
fn __split_huge_zero_page_pmd(k: &mut Kernel<'_>, vma: &Vma, haddr: u64) {
    // pmdp_huge_clear_flush()
    k.set_pmd(haddr, None);
    flush_pmd(k, haddr);
    let page_prot = vm_get_page_prot(vma.flags);
    let entry = Pte::Present {
        folio: None,
        prot: page_prot,
        dirty: false,
        young: prot_is_young(page_prot),
    };
    *k.mm.pgd.pte_alloc(haddr) = [entry; HPAGE_PMD_NR];
}

/// `split_huge_pmd_if_needed()` of `vma_adjust_trans_huge()`: a vma will begin or
/// end at an address.
pub fn split_huge_pmd_if_needed(k: &mut Kernel<'_>, vma: &Vma, address: u64) {
    let haddr = address & HPAGE_PMD_MASK;
    // range_in_vma()
    if address != haddr && vma.start <= haddr && haddr + PMD_SIZE <= vma.end {
        __split_huge_pmd(k, vma, address);
    }
}

/// `move_huge_pmd()`; false where there is a table in the way.
pub fn move_huge_pmd(k: &mut Kernel<'_>, old_addr: u64, new_addr: u64) -> bool {
    let pgd = &k.mm.pgd;
    if pgd.pte_tables.contains_key(&(new_addr >> 21)) || pgd.huge_pmd(new_addr).is_some() {
        return false;
    }
    let pmd = pgd.huge_pmd(old_addr);
    k.set_pmd(old_addr, None);
    k.set_pmd(new_addr, pmd);
    k.enter(Entry::FlushPmdTlbRange {
        start: old_addr,
        end: old_addr + PMD_SIZE,
    });
    true
}

/// `touch_pmd()`
pub fn touch_pmd(k: &mut Kernel<'_>, addr: u64, pmd: HugePmd, write: bool) {
    let entry = HugePmd {
        young: true,
        dirty: pmd.dirty || write,
        ..pmd
    };
    pmdp_set_access_flags(k, addr, entry);
}

/// `do_huge_pmd_wp_page()`: false where the PMD was split instead
/// (`VM_FAULT_FALLBACK`).
pub fn do_huge_pmd_wp_page(k: &mut Kernel<'_>, vma: &Vma, addr: u64, pmd: HugePmd) -> bool {
    let haddr = addr & HPAGE_PMD_MASK;
    let id = pmd.folio;
    if is_huge_zero_pmd(k, pmd) {
        return do_huge_zero_wp_pmd(k, vma, haddr);
    }
    if !k.folios[id].page_anon_exclusive(haddr) {
        let folio = &k.folios[id];
        let cached = u32::from(folio.swap.is_some()) * folio.nr_pages() as u32;
        let alone = folio.refcount <= 1 + cached;
        if alone && folio.swap.is_some() {
            swapfile::folio_free_swap(k, id);
        }
        if !alone || k.folios[id].refcount != 1 {
            __split_huge_pmd(k, vma, addr);
            return false;
        }
        // folio_move_anon_rmap()
        k.folios[id].anon_vma = anon_vma_of(k, vma);
        k.folios[id].set_page_anon_exclusive(haddr, true);
    }
    let write = if vma.has(vm::WRITE) { prot::W } else { 0 };
    let entry = HugePmd {
        prot: pmd.prot | write,
        dirty: true,
        young: true,
        ..pmd
    };
    pmdp_set_access_flags(k, haddr, entry);
    true
}

/// `do_huge_zero_wp_pmd()`: a huge page in place of the huge zero page; until 6.12 a small one,
/// once that is split.
fn do_huge_zero_wp_pmd(k: &mut Kernel<'_>, vma: &Vma, haddr: u64) -> bool {
    if !k.profile.copies_huge_zero_page {
        __split_huge_pmd(k, vma, haddr);
        return false;
    }
    // pmdp_huge_clear_flush()
    k.set_pmd(haddr, None);
    flush_pmd(k, haddr);
    map_anon_folio_pmd(k, vma, haddr, vec![Content::ZEROES; HPAGE_PMD_NR]);
    true
}

/// `madvise_free_huge_pmd()`: false where the PTEs are to be looked at.
pub fn madvise_free_huge_pmd(
    k: &mut Kernel<'_>,
    tlb: &mut MmuGather,
    (addr, next): (u64, u64),
) -> bool {
    let Some(pmd) = k.mm.pgd.huge_pmd(addr) else {
        return false;
    };
    let id = pmd.folio;
    if is_huge_zero_pmd(k, pmd) || folio_likely_mapped_shared(k, id) {
        return false;
    }
    if next - addr != PMD_SIZE {
        k.folio_get(id);
        split_folio(k, id);
        folio_put(k, id);
        return false;
    }
    k.folios[id].dirty = false;
    if pmd.young || pmd.dirty {
        flush_pmd(k, addr);
        let clean = HugePmd {
            young: false,
            dirty: false,
            ..pmd
        };
        k.set_pmd(addr, Some(clean));
        tlb_remove_pmd_tlb_entry(tlb, addr);
    }
    folio_mark_lazyfree(k, id);
    true
}

/// `__discard_anon_folio_pmd_locked()` of `unmap_huge_pmd_locked()`, for a lazyfree huge
/// page; false where it has to stay.
pub fn discard_anon_folio_pmd(k: &mut Kernel<'_>, vma: &Vma, addr: u64, pmd: HugePmd) -> bool {
    let folio = &mut k.folios[pmd.folio];
    if k.profile.keeps_lazyfree_pmd {
        folio.dirty |= pmd.dirty;
        folio.swapbacked |= folio.dirty;
    }
    if folio.dirty || pmd.dirty {
        return false;
    }
    k.set_pmd(addr, None);
    flush_pmd(k, haddr(addr));
    let folio = &k.folios[pmd.folio];
    if folio.refcount != folio.mapcount + 1 {
        k.set_pmd(addr, Some(pmd));
        return false;
    }
    folio_remove_rmap_pmd(k, pmd.folio, vma.flags);
    folio_put(k, pmd.folio);
    true
}

/// `can_split_folio()`: nobody has a reference but mappings, the swap cache and the callers.
pub fn can_split_folio(k: &Kernel<'_>, id: FolioId, caller_pins: u32) -> bool {
    let folio = &k.folios[id];
    let cached = folio.swap.is_some() || folio.mapping.is_some();
    let extra_pins = u32::from(cached) * folio.nr_pages() as u32;
    folio.mapcount + extra_pins + caller_pins == folio.refcount
}

/// A page of a huge page that is split: who maps it, and how.
struct Migration {
    mm: usize,
    vma_flags: u64,
    addr: u64,
    pteval: Pte,
    exclusive: bool,
}

/// `split_folio()` (`include/linux/huge_mm.h`), where the caller has a reference to the folio;
/// false where others have one as well. The new small folios go on the LRU beside the first.
pub fn split_folio(k: &mut Kernel<'_>, id: FolioId) -> bool {
    split_huge_page_to_list_to_order(k, id, None, 0)
}

/// `folio_check_splittable()`, whose questions `split_huge_page_to_list_to_order()` asked itself
/// before.
fn folio_check_splittable(k: &Kernel<'_>, id: FolioId, new_order: u32) -> bool {
    let folio = &k.folios[id];
    match new_order {
        0 => true,
        _ if folio.swap.is_some() => false,
        _ if folio.anon => new_order != 1,
        _ => {
            let of = folio.mapping.map(|at| at.0);
            k.profile.splits_shmem_to_any_order || k.storage(of) != Storage::Memory
        }
    }
}

/// `split_huge_page_to_list_to_order()`: to folios of that order, the first of which keeps the
/// caller's reference. With a list, of isolated folios that are taken from its end, the new ones
/// go there.
pub fn split_huge_page_to_list_to_order(
    k: &mut Kernel<'_>,
    id: FolioId,
    list: Option<&mut Vec<FolioId>>,
    new_order: u32,
) -> bool {
    let splittable = folio_check_splittable(k, id, new_order) && filemap_release_folio(k, id);
    if !splittable || !can_split_folio(k, id, 1) {
        return false;
    }
    if k.folios[id].mapping.is_some() {
        split_file::split_uniformly(k, id, list, new_order);
        return true;
    }
    let mappings = unmap_folio(k, id);
    k.deferred_split_queue.retain(|&queued| queued != id);
    let subpages = __split_huge_page(k, id, list, new_order);
    remap_page(k, &subpages, mappings);
    for &subpage in subpages.iter().filter(|&&subpage| subpage != id) {
        // free_page_and_swap_cache()
        free_swap_cache(k, subpage);
        folio_put(k, subpage);
    }
    true
}

/// `unmap_folio()`, with `try_to_migrate_one()`: migration entries take the place of
/// what maps the folio.
fn unmap_folio(k: &mut Kernel<'_>, id: FolioId) -> Vec<Migration> {
    let mut mappings = Vec::with_capacity(HPAGE_PMD_NR);
    rmap_walk(k, id, |k, vma, address| {
        let haddr = address & HPAGE_PMD_MASK;
        // split_huge_pmd_locked() with `freeze`
        let huge = k.mm.pgd.huge_pmd(haddr).filter(|pmd| pmd.folio == id);
        if let Some(pmd) = huge {
            __split_huge_pmd_locked(k, vma, haddr, pmd);
        }
        for addr in page_vma_mapped::pages_of(k, id, vma, address) {
            let Some(pteval) = page_vma_mapped::page_vma_mapped_walk(k, id, addr) else {
                continue;
            };
            k.set_pte(addr, Pte::None);
            if huge.is_none() {
                set_tlb_ubc_flush_pending(k, pteval, addr, 1);
            }
            if let Pte::Present { dirty: true, .. } = pteval {
                k.folios[id].dirty = true;
            }
            mappings.push(Migration {
                mm: k.mm_id,
                vma_flags: vma.flags,
                addr,
                pteval,
                exclusive: k.folios[id].page_anon_exclusive(addr),
            });
            folio_remove_rmap_pte(k, id, addr, vma.flags);
            folio_put(k, id);
        }
        rmap::Walk::Continue
    });
    try_to_unmap_flush(k);
    mappings
}

/// A huge page on its list is about to be a small one there: its other pages count
/// no more.
fn lruvec_del_tails(k: &mut Kernel<'_>, head: FolioId, tails: u64) {
    let lru = folio_lru_list(k, head) as usize;
    folio_lruvec(k, head).lists[lru].len -= tails;
}

/// `lru_add_page_tail()`: a page of a huge page that is on its
/// list becomes a folio of its own there.
fn lru_add_page_tail(k: &mut Kernel<'_>, tail: FolioId, head: FolioId) {
    let lru = folio_lru_list(k, head) as usize;
    let lruvec = if k.folios[head].charged {
        &mut k.lruvec
    } else {
        &mut k.other_lruvec
    };
    lruvec.lists[lru].add_before(&mut k.folios, tail, head);
}

/// `__split_huge_page()`: the new folios, the first of which is where the large one was.
fn __split_huge_page(
    k: &mut Kernel<'_>,
    id: FolioId,
    mut list: Option<&mut Vec<FolioId>>,
    new_order: u32,
) -> Vec<FolioId> {
    let on_lru = k.folios[id].lru;
    let folio = &mut k.folios[id];
    let nr_pages = folio.nr_pages() as usize;
    let new_nr = 1usize << new_order;
    let Some(large) = folio.large.take() else {
        return vec![id];
    };
    folio.mapcount = 0;
    folio.anon_exclusive = false;
    let head = folio.clone();
    if on_lru {
        lruvec_del_tails(k, id, (nr_pages - new_nr) as u64);
    }
    part_of_large(&mut k.folios[id], &large, 0, new_order);
    let parts = nr_pages / new_nr;
    let mut subpages = vec![id; parts];
    for nth in 1..parts {
        let ascending = k.profile.splits_ascending;
        let part = if ascending { nth } else { parts - nth };
        let tail = part * new_nr;
        let new = __split_huge_page_tail(k, &head, &large, tail, new_order);
        subpages[part] = new;
        // lru_add_page_tail()
        match &mut list {
            Some(list) => {
                k.folio_get(new);
                list.push(new);
            }
            None if on_lru => lru_add_page_tail(k, new, id),
            None => {}
        }
    }
    if head.swap.is_some() {
        // The pins of all pages were the head's.
        k.folios[id].refcount -= nr_pages as u32 - 1;
    }
    subpages
}

/// `__split_huge_page_tail()`
fn __split_huge_page_tail(
    k: &mut Kernel<'_>,
    head: &Folio,
    large: &Large,
    tail: usize,
    new_order: u32,
) -> FolioId {
    let mut new = Folio {
        pfn: head.pfn + tail as u64,
        index: head.index + tail as u64,
        mlock_count: 0,
        swap: head.swap.map(|entry| entry + tail as u32),
        reclaim: false,
        prev: None,
        next: None,
        ..head.clone()
    };
    part_of_large(&mut new, large, tail, new_order);
    let new = k.folios.alloc(new);
    if let Some(entry) = k.folios[new].swap {
        k.folio_get(new);
        if let Some(slot) = k.swap.slots.get_mut(&entry) {
            slot.cache = Some(new);
        }
    }
    new
}

/// What a folio holds that was pages of a large one, from `first` on, and is mapped by nobody.
fn part_of_large(folio: &mut Folio, large: &Large, first: usize, order: u32) {
    let contents = &large.contents[first..first + (1 << order)];
    folio.content = contents[0];
    folio.large = (order > 0).then(|| {
        let mut part = Large::unmapped(order);
        part.contents.copy_from_slice(contents);
        Box::new(part)
    });
}

/// `remap_page()`: `remove_migration_pte()` for each mapping. A page of zeroes is given
/// up for the zero page (`try_to_map_unused_to_zeropage()`).
fn remap_page(k: &mut Kernel<'_>, subpages: &[FolioId], mappings: Vec<Migration>) {
    let keeps_ad = k.machine.migration_keeps_ad;
    for Migration {
        mm,
        vma_flags,
        addr,
        pteval,
        exclusive,
    } in mappings
    {
        let Pte::Present {
            prot: rights,
            dirty,
            young,
            ..
        } = pteval
        else {
            continue;
        };
        let nr_pages = k.folios[subpages[0]].nr_pages() as usize;
        let id = subpages[crate::mm_types::pte_index(addr) / nr_pages % subpages.len()];
        let folio = &mut k.folios[id];
        let locked = folio.mlocked || vma_flags & vm::LOCKED != 0;
        // Only a page of its own, and not one of a large folio (PageCompound()).
        let zero = folio.large.is_none() && folio.content.is_zeroes() && !locked;
        let page_prot = vm_get_page_prot(vma_flags);
        let entry = if zero {
            Pte::Present {
                folio: None,
                prot: page_prot,
                dirty: false,
                young: prot_is_young(page_prot),
            }
        } else {
            folio.refcount += 1;
            folio.mapcount += 1;
            folio.set_page_anon_exclusive(addr, exclusive);
            let page = folio.page(addr);
            if let Some(large) = &mut folio.large {
                large.mapcounts[page] += 1;
            }
            Pte::Present {
                folio: Some(id),
                prot: page_prot | rights & prot::W,
                dirty: keeps_ad && dirty && folio.dirty,
                young: keeps_ad && young && prot_is_young(page_prot),
            }
        };
        k.in_mm(mm, |k| k.set_pte(addr, entry));
        if vma_flags & vm::LOCKED != 0 {
            // mlock_vma_folio(), by __folio_add_anon_rmap()
            if k.folios[id].large.is_none() {
                mlock_folio(k, id);
            }
            let hart = k.hart() as usize;
            mlock_drain(k, hart);
        }
    }
}

/// `split_huge_pages_pid()`: what a range maps of large folios is split to folios of that order.
///
/// # Errors
/// EINVAL for an mm that is gone.
pub fn split_huge_pages_pid(
    k: &mut Kernel<'_>,
    (start, end): (u64, u64),
    new_order: u64,
) -> Result<(), i32> {
    let mut addr = start;
    while addr < end {
        let Some(vma) = k.mm.vma_lookup(addr) else {
            break;
        };
        if vma_not_suitable_for_thp_split(vma) {
            // The page behind it is passed over as well.
            addr = vma.end;
        } else {
            split_folio_at(k, addr, new_order);
        }
        addr += PAGE_SIZE;
    }
    Ok(())
}

/// `vma_not_suitable_for_thp_split()`
fn vma_not_suitable_for_thp_split(vma: &Vma) -> bool {
    vma.has(vm::IO | vm::HUGETLB) || vma.file.is_some() && vma.has(vm::PFNMAP)
}

/// The loop of `split_huge_pages_pid()`, for what is mapped at an address.
fn split_folio_at(k: &mut Kernel<'_>, addr: u64, new_order: u64) {
    // folio_walk_start(), which passes over the zero page
    let Pte::Present {
        folio: Some(id), ..
    } = k.pte(addr)
    else {
        return;
    };
    let splits = k.huge_zero_folio != Some(id) && new_order < u64::from(k.folios[id].order());
    if !splits || !can_split_folio(k, id, 0) {
        return;
    }
    k.folio_get(id);
    split_huge_page_to_list_to_order(k, id, None, new_order as u32);
    folio_put(k, id);
}

/// `deferred_split_folio()`
pub fn deferred_split_folio(k: &mut Kernel<'_>, id: FolioId, partially_mapped: bool) {
    let folio = &mut k.folios[id];
    if folio.swap.is_some() {
        return;
    }
    if let Some(large) = &mut folio.large {
        large.partially_mapped |= partially_mapped;
    }
    if !k.deferred_split_queue.contains(&id) {
        k.deferred_split_queue.push(id);
    }
}

/// `thp_underused()`: more of the pages hold nothing but zeroes than khugepaged would fill in. With
/// `khugepaged_max_ptes_none` at its default it never is so.
fn thp_underused(k: &Kernel<'_>, id: FolioId) -> bool {
    let folio = &k.folios[id];
    let Some(large) = &folio.large else {
        return false;
    };
    let limit = k.thp.max_ptes_none as usize;
    if limit == HPAGE_PMD_NR - 1 || folio.mlocked && k.profile.leaves_underused_locked {
        return false;
    }
    // It stops at the first of the two numbers that is reached.
    let (mut zero, mut filled) = (0, 0);
    for content in &large.contents {
        if !content.is_zeroes() {
            filled += 1;
        } else {
            zero += 1;
        }
        if zero > limit || filled >= HPAGE_PMD_NR - limit {
            break;
        }
    }
    zero > limit
}

/// `deferred_split_scan()`: how many were split, or none for SHRINK_STOP.
pub fn deferred_split_scan(k: &mut Kernel<'_>, nr_to_scan: u64) -> Option<u64> {
    let isolated = k.deferred_split_queue.len().min(nr_to_scan as usize);
    // list_move() puts each before those taken earlier, and so does list_lru_isolate_move().
    let list: Vec<FolioId> = k.deferred_split_queue.drain(..isolated).rev().collect();
    for &id in &list {
        k.folio_get(id);
    }
    let (mut split, mut left) = (0, Vec::new());
    for id in list {
        let large = k.folios[id].large.as_deref();
        let partially_mapped = large.is_some_and(|large| large.partially_mapped);
        if partially_mapped || thp_underused(k, id) {
            if split_folio(k, id) {
                split += 1;
            } else if partially_mapped {
                left.push(id);
            }
        }
        folio_put(k, id);
    }
    k.deferred_split_queue.extend(left);
    let stop = split == 0
        && match k.profile.emptied_split_queue_stops {
            true => k.deferred_split_queue.is_empty(),
            false => isolated == 0,
        };
    (!stop).then_some(split)
}

/// What an address of a huge page is rounded to.
pub fn haddr(addr: u64) -> u64 {
    addr & HPAGE_PMD_MASK
}

/// Pages of a huge page, in bytes from its start.
pub fn pages() -> impl Iterator<Item = u64> {
    (0..PMD_SIZE).step_by(PAGE_SIZE as usize)
}
