// SPDX-License-Identifier: GPL-2.0-only
//! `mm/madvise.c`, all but what ages, reclaims or discards pages, which is in a part of its own.

pub mod pageout;

use crate::api::{Extent, PAGE_SIZE, StepResult, address, bytes};
use crate::errno;
use crate::fs::open::{FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, vfs_fallocate};
use crate::fs::userfaultfd::userfaultfd_remove;
use crate::mm::memory::fault::vmf_anon_prepare;
use crate::mm::memory::zap::{ZapDetails, unmap_single_vma, zap_page_range_single};
use crate::mm::mmap::page_align;
use crate::mm::mmu_gather::{MmuGather, tlb_finish_mmu, tlb_flush_mmu, tlb_gather_mmu};
use crate::mm::vma::vma_modify_flags;
use crate::mm::{gup, hugetlb, khugepaged, ksm, mseal};
use crate::mm_types::{Pte, Vma, vm};
use crate::state::Kernel;

/// `MADV_*` of include/uapi/asm-generic/mman-common.h
#[allow(missing_docs)]
pub mod advice {
    pub const NORMAL: i32 = 0;
    pub const RANDOM: i32 = 1;
    pub const SEQUENTIAL: i32 = 2;
    pub const WILLNEED: i32 = 3;
    pub const DONTNEED: i32 = 4;
    pub const FREE: i32 = 8;
    pub const REMOVE: i32 = 9;
    pub const DONTFORK: i32 = 10;
    pub const DOFORK: i32 = 11;
    pub const MERGEABLE: i32 = 12;
    pub const UNMERGEABLE: i32 = 13;
    pub const HUGEPAGE: i32 = 14;
    pub const NOHUGEPAGE: i32 = 15;
    pub const DONTDUMP: i32 = 16;
    pub const DODUMP: i32 = 17;
    pub const WIPEONFORK: i32 = 18;
    pub const KEEPONFORK: i32 = 19;
    pub const COLD: i32 = 20;
    pub const PAGEOUT: i32 = 21;
    pub const POPULATE_READ: i32 = 22;
    pub const POPULATE_WRITE: i32 = 23;
    pub const DONTNEED_LOCKED: i32 = 24;
    pub const COLLAPSE: i32 = 25;
    pub const GUARD_INSTALL: i32 = 102;
    pub const GUARD_REMOVE: i32 = 103;
}

/// `madvise_behavior_valid()`
fn madvise_behavior_valid(k: &Kernel, behavior: i32) -> bool {
    match behavior {
        advice::NORMAL..=advice::DONTNEED | advice::FREE..=advice::COLLAPSE => true,
        advice::GUARD_INSTALL | advice::GUARD_REMOVE => k.profile.guard_pages,
        _ => false,
    }
}

/// `do_madvise()`
///
/// # Errors
/// As madvise(2), in the kernel's order.
pub fn do_madvise(k: &mut Kernel, start: u64, len_in: u64, behavior: i32) -> Result<(), i32> {
    if !madvise_behavior_valid(k, behavior) {
        return Err(errno::EINVAL);
    }
    let end = check_input_range(start, len_in)?;
    if end == start {
        return Ok(());
    }
    let mut tlb = madvise_init_tlb(k, behavior);
    let result = madvise_do_behavior(k, start, end, behavior, tlb.as_mut());
    madvise_finish_tlb(k, tlb);
    result
}

/// `check_input_range()`: where it ends.
fn check_input_range(start: u64, len_in: u64) -> Result<u64, i32> {
    if !start.is_multiple_of(PAGE_SIZE) {
        return Err(errno::EINVAL);
    }
    let len = page_align(len_in).ok_or(errno::EINVAL)?;
    start.checked_add(len).ok_or(errno::EINVAL)
}

/// `madvise_init_tlb()`, `madvise_batch_tlb_flush()`: one gather for the whole call.
fn madvise_init_tlb(k: &mut Kernel, behavior: i32) -> Option<MmuGather> {
    let batches = matches!(
        behavior,
        advice::DONTNEED | advice::DONTNEED_LOCKED | advice::FREE
    );
    (batches && k.profile.madvise_one_gather).then(|| tlb_gather_mmu(k))
}

/// `madvise_finish_tlb()`
fn madvise_finish_tlb(k: &mut Kernel, tlb: Option<MmuGather>) {
    if let Some(tlb) = tlb {
        tlb_finish_mmu(k, tlb);
    }
}

/// `madvise_do_behavior()`
fn madvise_do_behavior(
    k: &mut Kernel,
    start: u64,
    end: u64,
    behavior: i32,
    tlb: Option<&mut MmuGather>,
) -> Result<(), i32> {
    match behavior {
        advice::POPULATE_READ | advice::POPULATE_WRITE => madvise_populate(k, start, end, behavior),
        _ => madvise_walk_vmas(k, start, end, behavior, tlb),
    }
}

/// `MAX_RW_COUNT` (`include/linux/fs.h`): what a vector comes to at the most.
const MAX_RW_COUNT: u64 = i32::MAX as u64 & !(PAGE_SIZE - 1);

/// `import_iovec()` (`lib/iov_iter.c`): what is too long is cut.
fn import_iovec(ranges: &[Extent]) -> Vec<(u64, u64)> {
    let mut total = 0;
    let cut = |range: &Extent| {
        let len = bytes(range.pages).min(MAX_RW_COUNT - total);
        total += len;
        (address(range.at), len)
    };
    ranges.iter().map(cut).collect()
}

/// `process_madvise()` of another actor's mm.
///
/// # Errors
/// ESRCH where it has exited, and as madvise(2) for the first range.
pub fn process_madvise(
    k: &mut Kernel,
    of: usize,
    ranges: &[Extent],
    behavior: i32,
) -> Result<StepResult, i32> {
    let iter = import_iovec(ranges);
    // process_madvise_remote_valid(), as it was called later
    let valid = matches!(
        behavior,
        advice::COLD | advice::PAGEOUT | advice::WILLNEED | advice::COLLAPSE
    );
    let task = k.tasks.get(of).ok_or(errno::ESRCH)?;
    let mm = task.mm;
    // pidfd_open() of nobody fails, and there is nothing to advise.
    if !task.born {
        return Err(errno::ESRCH);
    }
    // pidfd_get_task()
    if mm.is_none() && !task.forked {
        return Err(errno::ESRCH);
    }
    let own = mm == Some(k.mm_id) && k.profile.process_madvise_any_for_self;
    if k.profile.process_madvise_any_for_self && mm.is_none() {
        return Err(errno::ESRCH);
    }
    let known = !k.profile.process_madvise_any_for_self || madvise_behavior_valid(k, behavior);
    if !(valid || own && known) {
        return Err(errno::EINVAL);
    }
    let mm = mm.ok_or(errno::ESRCH)?;
    let (done, result) = k.in_mm(mm, |k| vector_madvise(k, &iter, behavior));
    let asked: u64 = ranges.iter().map(|range| bytes(range.pages)).sum();
    match result {
        _ if done == asked && asked > 0 => Ok(StepResult::Ok),
        // What is done counts, whatever is refused after it.
        _ if done > 0 => Ok(StepResult::Part {
            pages: done / PAGE_SIZE,
        }),
        result => result.map(|()| StepResult::Ok),
    }
}

/// `vector_madvise()`: how many bytes were done, and what the last range came to. Before there
/// was one gather for all of them, each range was an advice of its own.
fn vector_madvise(k: &mut Kernel, iter: &[(u64, u64)], behavior: i32) -> (u64, Result<(), i32>) {
    let mut tlb = madvise_init_tlb(k, behavior);
    let (mut done, mut result) = (0, Ok(()));
    // iov_iter_count()
    let mut left: u64 = iter.iter().map(|range| range.1).sum();
    for &(start, len) in iter {
        if left == 0 {
            break;
        }
        result = check_input_range(start, len).and_then(|end| match len {
            0 => Ok(()),
            _ => madvise_do_behavior(k, start, end, behavior, tlb.as_mut()),
        });
        if result.is_err() {
            break;
        }
        done += len;
        left -= len;
    }
    madvise_finish_tlb(k, tlb);
    (done, result)
}

/// `madvise_walk_vmas()`: holes are skipped, and told at the end. After the
/// arena there is always a vma (the stack), so the walk never runs out of them.
fn madvise_walk_vmas(
    k: &mut Kernel,
    start: u64,
    end: u64,
    behavior: i32,
    mut tlb: Option<&mut MmuGather>,
) -> Result<(), i32> {
    let mut start = start;
    let mut unmapped_error = Ok(());
    while start < end {
        let Some(vma) = k.mm.find_vma(start).cloned() else {
            return Err(errno::ENOMEM);
        };
        if start < vma.start {
            unmapped_error = Err(errno::ENOMEM);
            start = vma.start;
            if start >= end {
                break;
            }
        }
        let tmp = end.min(vma.end);
        madvise_vma_behavior(k, &vma, (start, tmp), behavior, tlb.as_deref_mut())?;
        start = tmp;
    }
    unmapped_error
}

/// `madvise_vma_behavior()`
fn madvise_vma_behavior(
    k: &mut Kernel,
    vma: &Vma,
    (start, end): (u64, u64),
    behavior: i32,
    tlb: Option<&mut MmuGather>,
) -> Result<(), i32> {
    if !mseal::can_modify_vma_madv(vma, behavior) {
        return Err(errno::EPERM);
    }
    match behavior {
        advice::REMOVE => return madvise_remove(k, vma, start, end),
        advice::WILLNEED => return pageout::madvise_willneed(k, vma, start, end),
        advice::COLD => return pageout::madvise_cold(k, vma, start, end),
        advice::PAGEOUT => return pageout::madvise_pageout(k, vma, start, end),
        advice::FREE | advice::DONTNEED | advice::DONTNEED_LOCKED => {
            return madvise_dontneed_free(k, vma, (start, end), behavior, tlb);
        }
        advice::GUARD_INSTALL => return madvise_guard_install(k, vma, start, end),
        advice::GUARD_REMOVE => return madvise_guard_remove(k, vma, start, end),
        advice::COLLAPSE => return khugepaged::madvise_collapse(k, vma, start, end),
        _ => {}
    }
    let new_flags = match behavior {
        // ksm_madvise()
        advice::MERGEABLE => ksm::madvise_mergeable(k, vma),
        advice::UNMERGEABLE => ksm::madvise_unmergeable(k, vma, start, end),
        _ => new_flags(k, vma, behavior)?,
    };
    // madvise_update_vma()
    if new_flags != vma.flags {
        let vma = vma_modify_flags(k, start, end, new_flags).map_err(|error| match error {
            errno::ENOMEM => errno::EAGAIN,
            error => error,
        })?;
        if vma.has(vm::HUGEPAGE) {
            khugepaged::khugepaged_enter_vma(k, &vma);
        }
    }
    Ok(())
}

/// The part of `madvise_vma_behavior()` for advices that only change vm_flags.
fn new_flags(k: &Kernel, vma: &Vma, behavior: i32) -> Result<u64, i32> {
    let flags = vma.flags;
    Ok(match behavior {
        advice::NORMAL => flags & !vm::RAND_READ & !vm::SEQ_READ,
        advice::SEQUENTIAL => flags & !vm::RAND_READ | vm::SEQ_READ,
        advice::RANDOM => flags & !vm::SEQ_READ | vm::RAND_READ,
        advice::DONTFORK => flags | vm::DONTCOPY,
        advice::DOFORK if vma.has(vm::IO) => return Err(errno::EINVAL),
        advice::DODUMP if vma.has(vm::PFNMAP) => return Err(errno::EINVAL),
        advice::DOFORK if k.profile.dofork_refuses_special && vma.has(vm::DONTEXPAND) => {
            return Err(errno::EINVAL);
        }
        advice::DOFORK => flags & !vm::DONTCOPY,
        advice::WIPEONFORK if !vma.is_anonymous() => return Err(errno::EINVAL),
        advice::WIPEONFORK => flags | vm::WIPEONFORK,
        advice::KEEPONFORK => flags & !vm::WIPEONFORK,
        advice::DONTDUMP => flags | vm::DONTDUMP,
        advice::DODUMP => flags & !vm::DONTDUMP,
        advice::HUGEPAGE => flags & !vm::NOHUGEPAGE | vm::HUGEPAGE,
        advice::NOHUGEPAGE => flags & !vm::HUGEPAGE | vm::NOHUGEPAGE,
        _ => return Err(errno::EINVAL),
    })
}

/// `madvise_dontneed_free_valid_vma()`: where it ends, rounded down to a page of hugetlb.
fn madvise_dontneed_free_valid_vma(
    k: &Kernel,
    vma: &Vma,
    (start, end): (u64, u64),
    behavior: i32,
) -> Result<u64, i32> {
    if !vma.has(vm::HUGETLB) {
        let forbidden = match behavior {
            advice::DONTNEED_LOCKED => vm::PFNMAP,
            _ => vm::PFNMAP | vm::LOCKED,
        };
        let refused = vma.has(forbidden);
        return if refused { Err(errno::EINVAL) } else { Ok(end) };
    }
    let size = hugetlb::hstate_vma(k, vma).bytes();
    if behavior == advice::FREE || !start.is_multiple_of(size) {
        return Err(errno::EINVAL);
    }
    Ok(end & !(size - 1))
}

/// `madvise_dontneed_free()`; with a gather of the whole call, or one of its own.
fn madvise_dontneed_free(
    k: &mut Kernel,
    vma: &Vma,
    (start, end): (u64, u64),
    behavior: i32,
    tlb: Option<&mut MmuGather>,
) -> Result<(), i32> {
    let end = madvise_dontneed_free_valid_vma(k, vma, (start, end), behavior)?;
    if start == end {
        return Ok(());
    }
    let free = behavior == advice::FREE;
    userfaultfd_remove(k, vma);
    if free && !vma.is_anonymous() {
        return Err(errno::EINVAL);
    }
    let drop = ZapDetails {
        reclaim_pt: true,
        ..ZapDetails::PAGES
    };
    match tlb {
        Some(tlb) if free => pageout::madvise_free_single_vma(k, tlb, vma, start, end),
        Some(tlb) => {
            // madvise_dontneed_single_vma(), zap_vma_range_batched()
            unmap_single_vma(k, tlb, vma, start, end, drop);
            if vma.has(vm::HUGETLB) {
                // tlb_finish_mmu() and tlb_gather_mmu()
                tlb_flush_mmu(k, tlb);
            }
            Ok(())
        }
        None if free => {
            let mut tlb = tlb_gather_mmu(k);
            let result = pageout::madvise_free_single_vma(k, &mut tlb, vma, start, end);
            tlb_finish_mmu(k, tlb);
            result
        }
        None => {
            zap_page_range_single(k, vma, start, end, drop);
            Ok(())
        }
    }
}

/// `madvise_guard_install()`: a marker in each PTE; what is mapped goes first.
fn madvise_guard_install(k: &mut Kernel, vma: &Vma, start: u64, end: u64) -> Result<(), i32> {
    // is_valid_guard_vma()
    if vma.has(vm::LOCKED | vm::DONTEXPAND | vm::HUGETLB) {
        return Err(errno::EINVAL);
    }
    if let Some(vma) = k.mm.vmas.get_mut(&vma.start) {
        vma.flags |= vm::MAYBE_GUARD;
    }
    if vma.is_anonymous() {
        vmf_anon_prepare(k, vma);
    }
    // Twice is enough: nobody populates anything in between.
    for _ in 0..2 {
        if guard_install(k, start, end) {
            return Ok(());
        }
        zap_page_range_single(k, vma, start, end, ZapDetails::PAGES);
    }
    guard_install(k, start, end);
    Ok(())
}

/// `guard_install_pte_entry()` and `guard_install_set_pte()`, in ascending order; false
/// at the first page that has to be zapped before.
fn guard_install(k: &mut Kernel, start: u64, end: u64) -> bool {
    for addr in (start..end).step_by(PAGE_SIZE as usize) {
        match k.pte(addr) {
            Pte::None => k.set_pte(addr, Pte::Guard),
            Pte::Guard => {}
            Pte::Present { .. } | Pte::Swap { .. } => return false,
        }
    }
    true
}

/// `madvise_guard_remove()`
fn madvise_guard_remove(k: &mut Kernel, vma: &Vma, start: u64, end: u64) -> Result<(), i32> {
    // is_valid_guard_vma()
    if vma.has(vm::DONTEXPAND | vm::HUGETLB) {
        return Err(errno::EINVAL);
    }
    for addr in (start..end).step_by(PAGE_SIZE as usize) {
        if k.pte(addr) == Pte::Guard {
            k.set_pte(addr, Pte::None);
        }
    }
    Ok(())
}

/// `madvise_populate()`
fn madvise_populate(k: &mut Kernel, start: u64, end: u64, behavior: i32) -> Result<(), i32> {
    let write = behavior == advice::POPULATE_WRITE;
    gup::faultin_page_range(k, start, end, write)
}

/// `madvise_remove()`
fn madvise_remove(k: &mut Kernel, vma: &Vma, start: u64, end: u64) -> Result<(), i32> {
    if vma.has(vm::LOCKED) {
        return Err(errno::EINVAL);
    }
    let Some(file) = vma.file else {
        return Err(errno::EINVAL);
    };
    // vma_is_shared_maywrite()
    if vma.flags & (vm::SHARED | vm::MAYWRITE) != vm::SHARED | vm::MAYWRITE {
        return Err(errno::EACCES);
    }
    userfaultfd_remove(k, vma);
    let first = vma.linear_page_index(start);
    let mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    let part = (first.wrapping_mul(PAGE_SIZE), end - start);
    vfs_fallocate(k, file, mode, part)
}
