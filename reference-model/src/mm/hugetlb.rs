// SPDX-License-Identifier: GPL-2.0-only
//! `mm/hugetlb.c`: pages of hugetlb are unmapped, get other rights and are shared by fork. How
//! they are reserved, faulted in, and how page tables are shared, is in parts of its own.
//!
//! Pools have no surplus pages (`nr_overcommit_hugepages` is 0), and no pages
//! are pinned. Pages of 1 GiB are there where the machine has them from its boot on.

pub mod fault;
pub mod reserve;
pub mod share;
pub mod userfault;

use crate::api::Machine;
use crate::arch::riscv::mm::hugetlbpage::{
    huge_pte_alloc, huge_pte_offset, huge_pte_wrprotect, huge_ptep_get, huge_ptep_get_and_clear,
    huge_ptep_set_wrprotect, set_huge_pte_at,
};
use crate::arch::riscv::mm::init::{prot_is_young, vm_get_page_prot};
use crate::errno;
use crate::mm::hugetlb::reserve::{hugetlb_acct_memory, region_count, vma_hugecache_offset};
use crate::mm::hugetlb::share::{huge_pmd_unshare, hugetlb_unshare_pmds, want_pmd_share};
use crate::mm::mmu_gather::{
    MmuGather, tlb_end_vma, tlb_finish_mmu, tlb_flush_mmu, tlb_flush_mmu_tlbonly,
    tlb_flush_unshared_tables, tlb_gather_mmu, tlb_remove_huge_tlb_entry, tlb_remove_page_size,
};
use crate::mm_types::{FolioId, Hstate, HugePmd, PageTables, Pte, Vma, pte_index, vm};
use crate::state::Kernel;
use operations::{HugePages, Program};

/// The pools as a program finds them.
pub fn hstates(machine: &Machine, program: &Program) -> [Hstate; 3] {
    let mut hstates = [Hstate::default(); 3];
    let sizes = program.huge_pages().into_iter();
    for size in sizes.filter(|size| *size != HugePages::Gib1 || machine.gib_pages) {
        // nr_hugepages is filled from one node after the other.
        let second = if machine.nodes > 1 {
            size.pool() / 2
        } else {
            0
        };
        let h = &mut hstates[size as usize];
        h.free_huge_pages = size.pool();
        h.free_huge_pages_node = [size.pool() - second, second];
    }
    hstates
}

/// `hstate_sizelog()` (`include/linux/hugetlb.h`): which pool mmap's flags name, if the machine
/// has it.
pub fn hstate_sizelog(k: &Kernel<'_>, flags: i32) -> Option<HugePages> {
    let there = |size: &HugePages| *size != HugePages::Kib64 || k.machine.svnapot;
    HugePages::of_flags(flags).filter(there)
}

/// `hstate_vma()` (`include/linux/hugetlb.h`)
pub fn hstate_vma(k: &Kernel<'_>, vma: &Vma) -> HugePages {
    let inode = vma.file.and_then(|file| k.files.get(file));
    let size = inode.and_then(|inode| inode.file.hugetlb);
    size.unwrap_or(HugePages::Mib2)
}

/// `hugetlb_vm_op_split()`
///
/// # Errors
/// EINVAL inside a page.
pub fn hugetlb_vm_op_split(k: &Kernel<'_>, vma: &Vma, addr: u64) -> Result<(), i32> {
    if vma.has(vm::HUGETLB) && !addr.is_multiple_of(hstate_vma(k, vma).bytes()) {
        return Err(errno::EINVAL);
    }
    Ok(())
}

/// `hugetlb_split()`: a page table may only be shared where all of it is one vma's.
pub fn hugetlb_split(k: &mut Kernel<'_>, vma: &Vma, addr: u64) {
    let floor = share::pud_start(addr);
    let ceil = floor + share::PUD_SIZE;
    if vma.has(vm::HUGETLB) && addr != floor && floor >= vma.start && ceil <= vma.end {
        hugetlb_unshare_pmds(k, vma, floor, ceil);
    }
}

/// `hugetlb_vm_op_close()`: what a private mapping has reserved and not used goes back.
pub fn hugetlb_vm_op_close(k: &mut Kernel<'_>, vma: &Vma) {
    let Some(map) = vma.resv.map else {
        return;
    };
    let start = vma_hugecache_offset(k, vma, vma.start);
    let end = vma_hugecache_offset(k, vma, vma.end);
    let used = region_count(&k.resv_maps[map], start, end);
    let size = hstate_vma(k, vma);
    let reserve = (end - start).saturating_sub(used);
    // A negative delta is never refused.
    let _ = hugetlb_acct_memory(k, size, -(reserve as i64));
}

/// `copy_hugetlb_page_range()`: of a private mapping, for no others are copied. The mm that is
/// acted on is the source.
pub fn copy_hugetlb_page_range(k: &mut Kernel<'_>, dst: &mut PageTables, src: &Vma) {
    let size = hstate_vma(k, src);
    for addr in (src.start..src.end).step_by(size.bytes() as usize) {
        if !huge_pte_offset(k, addr, size) {
            continue;
        }
        // huge_pte_alloc() of the child
        match size {
            HugePages::Kib64 => drop(dst.pte_alloc(addr)),
            HugePages::Mib2 => drop(dst.pmd_tables.insert(addr >> 30)),
            HugePages::Gib1 => {}
        }
        let entry = huge_ptep_get(k, addr, size);
        let Pte::Present {
            folio: Some(id), ..
        } = entry
        else {
            continue;
        };
        // hugetlb_try_dup_anon_rmap(), hugetlb_add_file_rmap()
        k.folio_get(id);
        k.folios[id].mapcount += 1;
        k.folios[id].anon_exclusive = false;
        huge_ptep_set_wrprotect(k, addr, size);
        set_in(dst, addr, size, huge_pte_wrprotect(entry));
    }
}

/// `set_huge_pte_at()` (`arch/riscv/mm/hugetlbpage.c`) in page tables of a child that nobody
/// has run yet, so that nothing is flushed.
fn set_in(dst: &mut PageTables, addr: u64, size: HugePages, entry: Pte) {
    let Pte::Present {
        folio: Some(folio),
        prot,
        dirty,
        young,
    } = entry
    else {
        return;
    };
    if size == HugePages::Kib64 {
        let first = pte_index(addr);
        dst.pte_alloc(addr)[first..first + size.pages() as usize].fill(entry);
        return;
    }
    let pmd = HugePmd {
        folio,
        prot,
        dirty,
        young,
    };
    match size {
        HugePages::Gib1 => dst.huge_puds.insert(addr >> 30, pmd),
        _ => dst.huge_pmds.insert(addr >> 21, pmd),
    };
}

/// `move_hugetlb_page_tables()`, with `move_huge_pte()`: of an old area and its copy. A table that
/// others have, too, is given up, and faults find it again.
pub fn move_hugetlb_page_tables(
    k: &mut Kernel<'_>,
    (vma, new_vma): (&Vma, &Vma),
    (old_addr, new_addr): (u64, u64),
    len: u64,
) {
    let size = hstate_vma(k, vma);
    let mut tlb = tlb_gather_mmu(k);
    for at in (0..len).step_by(size.bytes() as usize) {
        let (old, new) = (old_addr + at, new_addr + at);
        if !huge_pte_offset(k, old, size)
            || huge_ptep_get(k, old, size) == Pte::None
            || huge_pmd_unshare(k, &mut tlb, size, old)
        {
            continue;
        }
        // huge_pmd_share() waits for i_mmap_rwsem, which move_hugetlb_page_tables() has.
        if size == HugePages::Mib2
            && want_pmd_share(new_vma, new)
            && !k.mm.pgd.pmd_tables.contains(&(new >> 30))
        {
            k.unpredicted = Some("mremap(2) that waits for itself and never ends");
            return;
        }
        huge_pte_alloc(k, new_vma, new, size);
        let pte = huge_ptep_get_and_clear(k, old, size);
        set_huge_pte_at(k, new, size, pte);
        tlb_remove_huge_tlb_entry(&mut tlb, old, size.bytes());
    }
    tlb_flush_mmu_tlbonly(k, &mut tlb);
    // huge_pmd_unshare_flush()
    tlb_flush_unshared_tables(k, &mut tlb);
    tlb_finish_mmu(k, tlb);
}

/// `__unmap_hugepage_range()`; with a page, only where that one is mapped, and for good
/// (`HPAGE_RESV_UNMAPPED`).
pub fn __unmap_hugepage_range(
    k: &mut Kernel<'_>,
    tlb: &mut MmuGather,
    vma: &Vma,
    start: u64,
    end: u64,
    only: Option<FolioId>,
) {
    let size = hstate_vma(k, vma);
    for address in (start..end).step_by(size.bytes() as usize) {
        if !huge_pte_offset(k, address, size) || huge_pmd_unshare(k, tlb, size, address) {
            continue;
        }
        let Pte::Present {
            folio: Some(id), ..
        } = huge_ptep_get(k, address, size)
        else {
            continue;
        };
        if only.is_some_and(|only| only != id) {
            continue;
        }
        if only.is_some()
            && let Some(vma) = k.mm.vmas.get_mut(&vma.start)
        {
            vma.resv.unmapped = true;
        }
        unmap_one(k, tlb, vma, (address, size), id);
        if only.is_some() {
            break;
        }
    }
    tlb_end_vma(k, tlb);
    // huge_pmd_unshare_flush()
    tlb_flush_unshared_tables(k, tlb);
}

/// The part of `__unmap_hugepage_range()` for a page that is mapped
fn unmap_one(
    k: &mut Kernel<'_>,
    tlb: &mut MmuGather,
    vma: &Vma,
    (address, size): (u64, HugePages),
    id: FolioId,
) {
    huge_ptep_get_and_clear(k, address, size);
    tlb_remove_huge_tlb_entry(tlb, address, size.bytes());
    // hugetlb_remove_rmap()
    let folio = &mut k.folios[id];
    folio.mapcount = folio.mapcount.saturating_sub(1);
    // __vma_private_lock()
    if vma.resv.map.is_some() && folio.mapcount == 0 && folio.anon {
        folio.restore_reserve = true;
        if reserve::vma_needs_reservation(k, vma, address) {
            reserve::vma_add_reservation(k, vma, address);
        }
    }
    if tlb_remove_page_size(tlb, id) {
        tlb_flush_mmu(k, tlb);
    }
}

/// `unmap_hugepage_range()`
pub fn unmap_hugepage_range(
    k: &mut Kernel<'_>,
    vma: &Vma,
    start: u64,
    end: u64,
    only: Option<FolioId>,
) {
    let mut tlb = tlb_gather_mmu(k);
    __unmap_hugepage_range(k, &mut tlb, vma, start, end, only);
    tlb_finish_mmu(k, tlb);
}

/// `hugetlb_change_protection()`: no right to write comes back by it to a private page.
pub fn hugetlb_change_protection(k: &mut Kernel<'_>, vma: &Vma, start: u64, end: u64) {
    let size = hstate_vma(k, vma);
    let newprot = vm_get_page_prot(vma.flags);
    let mut tlb = tlb_gather_mmu(k);
    for address in (start..end).step_by(size.bytes() as usize) {
        if !huge_pte_offset(k, address, size) || huge_pmd_unshare(k, &mut tlb, size, address) {
            continue;
        }
        let Pte::Present {
            folio,
            dirty,
            young,
            ..
        } = huge_ptep_get(k, address, size)
        else {
            continue;
        };
        // huge_ptep_modify_prot_start(), huge_pte_modify(), huge_ptep_modify_prot_commit()
        huge_ptep_get_and_clear(k, address, size);
        let entry = Pte::Present {
            folio,
            prot: newprot,
            dirty,
            young: young || prot_is_young(newprot),
        };
        set_huge_pte_at(k, address, size, entry);
        tlb_remove_huge_tlb_entry(&mut tlb, address, size.bytes());
    }
    tlb_flush_mmu_tlbonly(k, &mut tlb);
    tlb_flush_unshared_tables(k, &mut tlb);
    // mprotect's own gather is still open.
    tlb_finish_mmu(k, tlb);
}
