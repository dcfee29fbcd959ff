// SPDX-License-Identifier: GPL-2.0-only
//! `mm/mprotect.c`: rights of an area change.

use crate::api::PAGE_SIZE;
use crate::arch::riscv::mm::init::prot_is_young;
use crate::errno;
use crate::mm::mmap::{calc_vm_prot_bits, page_align, vma_set_page_prot};
use crate::mm::mmu_gather::{
    MmuGather, tlb_end_vma, tlb_finish_mmu, tlb_gather_mmu, tlb_remove_tlb_entry,
};
use crate::mm::mseal;
use crate::mm::util::vm_enough_memory;
use crate::mm::vma::vma_modify_flags;
use crate::mm::{gup, huge_memory, hugetlb, rmap};
use crate::mm_types::{Pte, Vma, prot, vm};
use crate::state::Kernel;

/// `can_change_pte_writable()`
fn can_change_pte_writable(k: &Kernel, vma: &Vma, addr: u64, pte: Pte) -> bool {
    let Pte::Present { folio, dirty, .. } = pte else {
        return false;
    };
    if vma.has(vm::SHARED) {
        return dirty;
    }
    folio.is_some_and(|id| k.folios[id].anon && k.folios[id].page_anon_exclusive(addr))
}

/// `change_pte_range()`: swap entries keep as they are, none stays none.
fn change_pte_range(k: &mut Kernel, tlb: &mut MmuGather, vma: &Vma, start: u64, end: u64) {
    // MM_CP_TRY_CHANGE_WRITABLE: vma_wants_manual_pte_write_upgrade()
    let newprot = vma_set_page_prot(k, vma);
    let try_change_writable = vma.has(vm::WRITE);
    rmap::flush_tlb_batched_pending(k);
    for addr in (start..end).step_by(PAGE_SIZE as usize) {
        let Pte::Present {
            folio,
            dirty,
            young,
            ..
        } = k.pte(addr)
        else {
            continue;
        };
        // pte_modify(): dirty and accessed bits stay.
        let young = young || prot_is_young(newprot);
        let mut rights = newprot;
        let changed = Pte::Present {
            folio,
            prot: rights,
            dirty,
            young,
        };
        if try_change_writable
            && rights & prot::W == 0
            && can_change_pte_writable(k, vma, addr, changed)
        {
            rights |= prot::W;
        }
        k.set_pte(
            addr,
            Pte::Present {
                folio,
                prot: rights,
                dirty,
                young,
            },
        );
        // pte_needs_flush() is always true here: tlb_flush_pte_range()
        tlb_remove_tlb_entry(tlb, addr);
    }
}

/// `change_protection()` down to `change_pmd_range()`
fn change_protection(k: &mut Kernel, tlb: &mut MmuGather, vma: &Vma, start: u64, end: u64) {
    if vma.has(vm::HUGETLB) {
        hugetlb::hugetlb_change_protection(k, vma, start, end);
        return;
    }
    for (from, to, huge) in k.mm.pgd.pmds(start, end) {
        // A huge page is never in the range in part: the vma was split there before, and the
        // huge page with it.
        if huge {
            huge_memory::change_huge_pmd(k, tlb, vma, from);
        } else {
            change_pte_range(k, tlb, vma, from, to);
        }
    }
    tlb_end_vma(k, tlb);
}

/// `mprotect_fixup()`
fn mprotect_fixup(
    k: &mut Kernel,
    tlb: &mut MmuGather,
    vma: &Vma,
    start: u64,
    end: u64,
    mut newflags: u64,
) -> Result<(), i32> {
    let oldflags = vma.flags;
    if newflags == oldflags {
        return Ok(());
    }
    if newflags & vm::WRITE != 0 {
        let apart = vm::ACCOUNT | vm::WRITE | vm::HUGETLB | vm::SHARED | vm::NORESERVE;
        if oldflags & apart == 0 {
            if !vm_enough_memory(k, (end - start) / PAGE_SIZE) {
                return Err(errno::ENOMEM);
            }
            newflags |= vm::ACCOUNT;
        }
    } else if oldflags & vm::ACCOUNT != 0 && vma.is_anonymous() && vma.anon_vma.is_none() {
        newflags &= !vm::ACCOUNT;
    }
    let vma = vma_modify_flags(k, start, end, newflags)?;
    change_protection(k, tlb, &vma, start, end);
    // A private locked vma becomes writable: copy now rather than fault later.
    if oldflags & (vm::WRITE | vm::SHARED | vm::LOCKED) == vm::LOCKED && newflags & vm::WRITE != 0 {
        let _ = gup::populate_vma_page_range(k, &vma, start, end);
    }
    Ok(())
}

/// `do_mprotect_pkey()`
///
/// # Errors
/// EINVAL unaligned, ENOMEM over a hole, once what comes before it is done, EACCES
/// for a right that the mapping may not have.
pub fn do_mprotect(k: &mut Kernel, start: u64, len: u64, prot: i32) -> Result<(), i32> {
    if !start.is_multiple_of(PAGE_SIZE) {
        return Err(errno::EINVAL);
    }
    if len == 0 {
        return Ok(());
    }
    let end = page_align(len)
        .and_then(|len| start.checked_add(len))
        .filter(|end| *end > start)
        .ok_or(errno::ENOMEM)?;
    // arch_validate_prot(): PROT_SEM and the three rights
    if prot & !0xf != 0 {
        return Err(errno::EINVAL);
    }
    if k.mm.vma_lookup(start).is_none() {
        return Err(errno::ENOMEM);
    }
    let mut tlb = tlb_gather_mmu(k);
    let result = mprotect_vmas(k, &mut tlb, start, end, prot);
    tlb_finish_mmu(k, tlb);
    result
}

/// The loop of `do_mprotect_pkey()`
fn mprotect_vmas(
    k: &mut Kernel,
    tlb: &mut MmuGather,
    start: u64,
    end: u64,
    prot: i32,
) -> Result<(), i32> {
    let mut nstart = start;
    while nstart < end {
        let Some(vma) = k.mm.vma_lookup(nstart).cloned() else {
            return Err(errno::ENOMEM);
        };
        let newflags = calc_vm_prot_bits(k, prot) | (vma.flags & !vm::ACCESS_FLAGS);
        // newflags >> 4 shifts VM_MAY% in place of VM_%
        if newflags & !(newflags >> 4) & vm::ACCESS_FLAGS != 0 {
            return Err(errno::EACCES);
        }
        let tmp = vma.end.min(end);
        // mprotect_fixup() begins with it.
        if !mseal::can_modify_vma(&vma) {
            return Err(errno::EPERM);
        }
        mprotect_fixup(k, tlb, &vma, nstart, tmp, newflags)?;
        nstart = tmp;
    }
    Ok(())
}
