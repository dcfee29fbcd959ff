// SPDX-License-Identifier: GPL-2.0-only
//! `mm/madvise.c`, all but what reclaims (`madvise_pageout.rs`).

use crate::api::PAGE_SIZE;
use crate::kernel::Kernel;
use crate::memory_zap::{ZapDetails, zap_page_range_single};
use crate::mm_types::{Vma, vm};
use crate::mmap::page_align;
use crate::vma::vma_modify_flags;
use crate::{errno, gup, madvise_pageout, shmem};

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
}

/// `madvise_behavior_valid()`
fn madvise_behavior_valid(behavior: i32) -> bool {
    matches!(behavior, advice::NORMAL..=advice::DONTNEED | advice::FREE..=advice::COLLAPSE)
}

/// `do_madvise()`
///
/// # Errors
/// As madvise(2), in the kernel's order.
pub fn do_madvise(k: &mut Kernel, start: u64, len_in: u64, behavior: i32) -> Result<(), i32> {
    if !madvise_behavior_valid(behavior) || !start.is_multiple_of(PAGE_SIZE) {
        return Err(errno::EINVAL);
    }
    let len = page_align(len_in).ok_or(errno::EINVAL)?;
    let end = start.checked_add(len).ok_or(errno::EINVAL)?;
    if end == start {
        return Ok(());
    }
    match behavior {
        advice::POPULATE_READ => gup::madvise_populate(k, start, end, false),
        advice::POPULATE_WRITE => gup::madvise_populate(k, start, end, true),
        _ => madvise_walk_vmas(k, start, end, behavior),
    }
}

/// `process_madvise(2)` of one range of another actor's mm.
///
/// # Errors
/// ESRCH where it has exited, and as madvise(2).
pub fn process_madvise(
    k: &mut Kernel,
    of: usize,
    start: u64,
    len: u64,
    behavior: i32,
) -> Result<(), i32> {
    let task = k.tasks.get(of).ok_or(errno::ESRCH)?;
    // process_madvise_behavior_valid()
    let valid = matches!(
        behavior,
        advice::COLD | advice::PAGEOUT | advice::WILLNEED | advice::COLLAPSE
    );
    if !valid {
        return Err(errno::EINVAL);
    }
    let mm = task.mm.ok_or(errno::ESRCH)?;
    k.in_mm(mm, |k| do_madvise(k, start, len, behavior))
}

/// `madvise_walk_vmas()`: holes are skipped, and told at the end. Behind the
/// arena there is always a vma (the stack), so the walk never runs out of them.
fn madvise_walk_vmas(k: &mut Kernel, start: u64, end: u64, behavior: i32) -> Result<(), i32> {
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
        madvise_vma_behavior(k, &vma, start, tmp, behavior)?;
        start = tmp;
    }
    unmapped_error
}

/// `madvise_vma_behavior()`
fn madvise_vma_behavior(
    k: &mut Kernel,
    vma: &Vma,
    start: u64,
    end: u64,
    behavior: i32,
) -> Result<(), i32> {
    match behavior {
        advice::REMOVE => return madvise_remove(k, vma, start, end),
        advice::WILLNEED => return madvise_pageout::madvise_willneed(k, vma, start, end),
        advice::COLD => return madvise_pageout::madvise_cold(k, vma, start, end),
        advice::PAGEOUT => return madvise_pageout::madvise_pageout(k, vma, start, end),
        advice::FREE | advice::DONTNEED | advice::DONTNEED_LOCKED => {
            return madvise_dontneed_free(k, vma, start, end, behavior);
        }
        // madvise_collapse(): no huge pages here, so nothing is ever suitable.
        advice::COLLAPSE => return Err(errno::EINVAL),
        _ => {}
    }
    let new_flags = new_flags(vma, behavior)?;
    // madvise_update_vma()
    if new_flags != vma.flags {
        vma_modify_flags(k, start, end, new_flags);
    }
    Ok(())
}

/// The advices that only change vm_flags.
fn new_flags(vma: &Vma, behavior: i32) -> Result<u64, i32> {
    let flags = vma.flags;
    Ok(match behavior {
        advice::NORMAL => flags & !vm::RAND_READ & !vm::SEQ_READ,
        advice::SEQUENTIAL => flags & !vm::RAND_READ | vm::SEQ_READ,
        advice::RANDOM => flags & !vm::SEQ_READ | vm::RAND_READ,
        advice::DONTFORK => flags | vm::DONTCOPY,
        advice::DOFORK => flags & !vm::DONTCOPY,
        advice::WIPEONFORK if !vma.is_anonymous() => return Err(errno::EINVAL),
        advice::WIPEONFORK => flags | vm::WIPEONFORK,
        advice::KEEPONFORK => flags & !vm::WIPEONFORK,
        advice::DONTDUMP => flags | vm::DONTDUMP,
        advice::DODUMP => flags & !vm::DONTDUMP,
        // ksm_madvise() and vma_ksm_compatible(): shared vmas are passed over.
        advice::MERGEABLE if vma.has(vm::SHARED | vm::MAYSHARE) => flags,
        advice::MERGEABLE => flags | vm::MERGEABLE,
        advice::UNMERGEABLE => flags & !vm::MERGEABLE,
        advice::HUGEPAGE => flags & !vm::NOHUGEPAGE | vm::HUGEPAGE,
        advice::NOHUGEPAGE => flags & !vm::HUGEPAGE | vm::NOHUGEPAGE,
        _ => return Err(errno::EINVAL),
    })
}

/// `madvise_dontneed_free()`
fn madvise_dontneed_free(
    k: &mut Kernel,
    vma: &Vma,
    start: u64,
    end: u64,
    behavior: i32,
) -> Result<(), i32> {
    // madvise_dontneed_free_valid_vma()
    if behavior != advice::DONTNEED_LOCKED && vma.has(vm::LOCKED) {
        return Err(errno::EINVAL);
    }
    if behavior == advice::FREE {
        return madvise_pageout::madvise_free_single_vma(k, vma, start, end);
    }
    // madvise_dontneed_single_vma()
    zap_page_range_single(k, vma, start, end, ZapDetails { even_cows: true });
    Ok(())
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
    let first = vma.linear_page_index(start);
    shmem::punch_hole(k, file, first, first + (end - start) / PAGE_SIZE)
}
