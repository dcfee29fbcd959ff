// SPDX-License-Identifier: GPL-2.0-only
//! `mm/mlock.c`: areas are locked, and what keeps a folio off the lists that reclaim looks at.
//!
//! What is done to a folio waits in a batch of the running hart, which holds a reference to
//! it. The actors have CAP_IPC_LOCK: no limit is in their way.

use crate::api::PAGE_SIZE;
use crate::arch::riscv::mm::tlbflush::PMD_SIZE;
use crate::errno;
use crate::include::linux::mm_inline::{lruvec_add_folio, lruvec_del_folio};
use crate::mm::gup;
use crate::mm::memory::zap::folio_pte_batch;
use crate::mm::mmap::{TASK_SIZE, page_align};
use crate::mm::secretmem::vma_is_secretmem;
use crate::mm::swap::{PAGEVEC_SIZE, folio_evictable, folio_put, lru_add_drain};
use crate::mm::vma::vma_modify_flags;
use crate::mm_types::{FolioId, Pte, Vma, vm};
use crate::state::Kernel;

/// `VM_LOCKED_MASK` (`include/linux/mm.h`)
pub const VM_LOCKED_MASK: u64 = vm::LOCKED | vm::LOCKONFAULT;

// MCL_* of include/uapi/asm-generic/mman.h.
const MCL_CURRENT: u64 = 1;
const MCL_FUTURE: u64 = 2;
const MCL_ONFAULT: u64 = 4;

/// What is to be done to a folio of `mlock_fbatch`: the flags in its pointer's low bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// `LRU_FOLIO`
    Mlock,
    /// `NEW_FOLIO`
    MlockNew,
    /// Neither.
    Munlock,
}

/// The folio goes to the list that its flags say.
fn relocate(k: &mut Kernel<'_>, id: FolioId, unevictable: bool) {
    lruvec_del_folio(k, id);
    if unevictable {
        k.folios[id].active = false;
    }
    k.folios[id].unevictable = unevictable;
    lruvec_add_folio(k, id);
}

/// `__mlock_folio()`
fn __mlock_folio(k: &mut Kernel<'_>, id: FolioId) {
    // There is nothing more we can do while it's off LRU
    if !k.folios[id].lru {
        return;
    }
    let unevictable = k.folios[id].unevictable;
    if folio_evictable(k, id) {
        if unevictable {
            relocate(k, id, false);
        }
    } else if unevictable {
        k.folios[id].mlock_count += 1;
    } else {
        relocate(k, id, true);
        k.folios[id].mlock_count = 1;
    }
}

/// `__mlock_new_folio()`
fn __mlock_new_folio(k: &mut Kernel<'_>, id: FolioId) {
    if !folio_evictable(k, id) {
        k.folios[id].unevictable = true;
        k.folios[id].mlock_count = 1;
    }
    lruvec_add_folio(k, id);
    k.folios[id].lru = true;
}

/// `__munlock_folio()`
fn __munlock_folio(k: &mut Kernel<'_>, id: FolioId) {
    let folio = &mut k.folios[id];
    let on_unevictable_list = folio.lru && folio.unevictable;
    if on_unevictable_list {
        // Then mlock_count is maintained, but might undercount
        folio.mlock_count = folio.mlock_count.saturating_sub(1);
        if folio.mlock_count > 0 {
            return;
        }
    }
    folio.mlocked = false;
    if on_unevictable_list {
        relocate(k, id, false);
    }
}

/// `mlock_folio_batch()`
fn mlock_folio_batch(k: &mut Kernel<'_>, hart: usize) {
    let fbatch = std::mem::take(&mut k.fbatches_of(hart).mlock);
    for &(id, pending) in &fbatch {
        match pending {
            Pending::Mlock => __mlock_folio(k, id),
            Pending::MlockNew => __mlock_new_folio(k, id),
            Pending::Munlock => __munlock_folio(k, id),
        }
    }
    for &(id, _) in &fbatch {
        folio_put(k, id);
    }
}

/// `mlock_drain_local()`, of a hart
pub fn mlock_drain(k: &mut Kernel<'_>, hart: usize) {
    if !k.fbatches_of(hart).mlock.is_empty() {
        mlock_folio_batch(k, hart);
    }
}

/// A full batch is done at once, and so is one with a huge page (`folio_may_be_lru_cached()`
/// of `include/linux/swap.h`).
fn fbatch_add(k: &mut Kernel<'_>, id: FolioId, pending: Pending) {
    k.folio_get(id);
    let hart = k.hart() as usize;
    let fbatch = &mut k.fbatches_of(hart).mlock;
    fbatch.push((id, pending));
    let full = fbatch.len() >= PAGEVEC_SIZE;
    if full || k.folios[id].large.is_some() {
        mlock_folio_batch(k, hart);
    }
}

/// `mlock_folio()`
pub fn mlock_folio(k: &mut Kernel<'_>, id: FolioId) {
    k.folios[id].mlocked = true;
    fbatch_add(k, id, Pending::Mlock);
}

/// `mlock_new_folio()`
pub fn mlock_new_folio(k: &mut Kernel<'_>, id: FolioId) {
    k.folios[id].mlocked = true;
    fbatch_add(k, id, Pending::MlockNew);
}

/// `munlock_folio()`
pub fn munlock_folio(k: &mut Kernel<'_>, id: FolioId) {
    fbatch_add(k, id, Pending::Munlock);
}

/// `allow_mlock_munlock()`: a huge page is locked only where all of it is mapped in
/// the range.
fn allow_mlock_munlock(k: &Kernel<'_>, vma: &Vma, id: FolioId, step: u64) -> bool {
    !vma.has(vm::LOCKED) || k.folios[id].large.is_none() || step == k.folios[id].nr_pages()
}

/// `mlock_pte_range()`
fn mlock_pte_range(k: &mut Kernel<'_>, vma: &Vma, (start, end, huge): (u64, u64, bool)) {
    let change = |k: &mut Kernel<'_>, id| match vma.has(vm::LOCKED) {
        true => mlock_folio(k, id),
        false => munlock_folio(k, id),
    };
    if huge {
        // There is none for the huge zero page.
        if let Pte::Present {
            folio: Some(id), ..
        } = k.pte(start & !(PMD_SIZE - 1))
        {
            change(k, id);
        }
        return;
    }
    let mut addr = start;
    while addr < end {
        let mut step = 1;
        if let Pte::Present {
            folio: Some(id), ..
        } = k.pte(addr)
        {
            // folio_mlock_step()
            if k.folios[id].large.is_some() {
                step = folio_pte_batch(k, id, addr, end);
            }
            if allow_mlock_munlock(k, vma, id, step) {
                change(k, id);
            }
        }
        addr += step * PAGE_SIZE;
    }
}

/// `mlock_vma_pages_range()`
fn mlock_vma_pages_range(k: &mut Kernel<'_>, vma: &Vma, start: u64, end: u64) {
    lru_add_drain(k);
    for pmd in k.mm.pgd.pmds(start, end) {
        mlock_pte_range(k, vma, pmd);
    }
    lru_add_drain(k);
}

/// `mlock_fixup()`
fn mlock_fixup(
    k: &mut Kernel<'_>,
    vma: &Vma,
    start: u64,
    end: u64,
    newflags: u64,
) -> Result<(), i32> {
    let oldflags = vma.flags;
    // Neither is hugetlb locked, nor what VM_SPECIAL says.
    if newflags == oldflags || vma.has(vm::HUGETLB | vm::DONTEXPAND) || vma_is_secretmem(k, vma) {
        return Ok(());
    }
    let vma = vma_modify_flags(k, start, end, newflags)?;
    let pages = (end - start) / PAGE_SIZE;
    match (oldflags & vm::LOCKED != 0, newflags & vm::LOCKED != 0) {
        // No work to do, and mlocking twice would be wrong
        (true, true) => return Ok(()),
        (false, true) => k.mm.locked_vm += pages,
        (_, false) => k.mm.locked_vm = k.mm.locked_vm.saturating_sub(pages),
    }
    mlock_vma_pages_range(k, &vma, start, end);
    Ok(())
}

/// `apply_vma_lock_flags()`
fn apply_vma_lock_flags(k: &mut Kernel<'_>, start: u64, len: u64, flags: u64) -> Result<(), i32> {
    let end = start + len;
    let mut nstart = start;
    while nstart < end {
        let vma = k.mm.vma_lookup(nstart).ok_or(errno::ENOMEM)?.clone();
        let tmp = vma.end.min(end);
        let newflags = vma.flags & !VM_LOCKED_MASK | flags;
        mlock_fixup(k, &vma, nstart, tmp, newflags)?;
        // vma_iter_end(): it may have become one with the next.
        nstart = k.mm.vma_lookup(nstart).map_or(tmp, |vma| vma.end);
    }
    Ok(())
}

/// mlock(2), and mlock2(2) with MLOCK_ONFAULT: `do_mlock()`
///
/// # Errors
/// ENOMEM over a hole, once what comes before it is locked, and where a page cannot be had.
pub fn do_mlock(k: &mut Kernel<'_>, start: u64, len: u64, onfault: bool) -> Result<(), i32> {
    let len = page_align(len).ok_or(errno::ENOMEM)?;
    let flags = if onfault { VM_LOCKED_MASK } else { vm::LOCKED };
    apply_vma_lock_flags(k, start, len, flags)?;
    // __mlock_posix_error_return()
    gup::mm_populate_all(k, start, len).map_err(|error| match error {
        errno::EFAULT => errno::ENOMEM,
        errno::ENOMEM => errno::EAGAIN,
        error => error,
    })
}

/// munlock(2)
///
/// # Errors
/// ENOMEM over a hole, once what comes before it is unlocked, and where there are too many areas.
pub fn munlock(k: &mut Kernel<'_>, start: u64, len: u64) -> Result<(), i32> {
    let len = page_align(len).ok_or(errno::ENOMEM)?;
    apply_vma_lock_flags(k, start, len, 0)
}

/// mlockall(2)
///
/// # Errors
/// EINVAL for flags that there are not, or of which none says when.
pub fn mlockall(k: &mut Kernel<'_>, flags: u64) -> Result<(), i32> {
    let known = MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT;
    if flags == 0 || flags & !known != 0 || flags == MCL_ONFAULT {
        return Err(errno::EINVAL);
    }
    apply_mlockall_flags(k, flags);
    if flags & MCL_CURRENT != 0 {
        // The program's own areas lie before and behind the arena; each drains the batches.
        let drains = flags & MCL_ONFAULT == 0;
        if drains {
            lru_add_drain(k);
        }
        gup::mm_populate(k, 0, TASK_SIZE);
        if drains {
            lru_add_drain(k);
        }
    }
    Ok(())
}

/// munlockall(2)
pub fn munlockall(k: &mut Kernel<'_>) {
    apply_mlockall_flags(k, 0);
}

/// `apply_mlockall_flags()`
fn apply_mlockall_flags(k: &mut Kernel<'_>, flags: u64) {
    if k.max_map_count.is_some() {
        // Some of the program's own areas may become one.
        k.unpredicted = Some("how many areas a program has after mlockall(2)");
    }
    let onfault = if flags & MCL_ONFAULT != 0 {
        vm::LOCKONFAULT
    } else {
        0
    };
    k.mm.def_flags = 0;
    if flags & MCL_FUTURE != 0 {
        k.mm.def_flags = vm::LOCKED | onfault;
        if flags & MCL_CURRENT == 0 {
            return;
        }
    }
    let to_add = if flags & MCL_CURRENT != 0 {
        vm::LOCKED | onfault
    } else {
        0
    };
    // The program's own areas, which lie around the arena: mlock_vma_pages_range() of them.
    let own = std::mem::replace(&mut k.mm.own_areas_locked, to_add != 0);
    if own != (to_add != 0) {
        lru_add_drain(k);
    }
    let mut start = 0;
    while let Some(vma) = k.mm.find_vma(start).cloned() {
        let newflags = vma.flags & !VM_LOCKED_MASK | to_add;
        // Errors are passed over, and of a whole area there is none.
        let _ = mlock_fixup(k, &vma, vma.start, vma.end, newflags);
        start = k.mm.vma_lookup(vma.start).map_or(vma.end, |vma| vma.end);
    }
    if own != (to_add != 0) {
        lru_add_drain(k);
    }
}
