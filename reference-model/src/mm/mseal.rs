// SPDX-License-Identifier: GPL-2.0-only
//! `mm/mseal.c`, and what asks whether an area is sealed.

use crate::api::PAGE_SIZE;
use crate::errno;
use crate::mm::madvise::advice;
use crate::mm::mmap::page_align;
use crate::mm::vma::vma_modify_flags;
use crate::mm_types::{Vma, vm};
use crate::state::Kernel;

/// `do_mseal()`
///
/// # Errors
/// As mseal(2), in the kernel's order.
pub fn do_mseal(k: &mut Kernel, start: u64, len: u64) -> Result<(), i32> {
    if !start.is_multiple_of(PAGE_SIZE) {
        return Err(errno::EINVAL);
    }
    let len = page_align(len).ok_or(errno::EINVAL)?;
    let end = start.checked_add(len).ok_or(errno::EINVAL)?;
    if end == start {
        return Ok(());
    }
    // check_mm_seal(), later range_contains_unmapped()
    let mut areas = Vec::new();
    let mut at = start;
    while at < end {
        let vma = k.mm.vma_lookup(at).ok_or(errno::ENOMEM)?;
        areas.push((at, vma.end.min(end), vma.flags));
        at = vma.end;
    }
    // apply_mm_seal() by mseal_fixup(), later mseal_apply()
    for (start, end, flags) in areas {
        if flags & vm::SEALED == 0 {
            vma_modify_flags(k, start, end, flags | vm::SEALED)?;
        }
    }
    Ok(())
}

/// `can_modify_vma()` (`mm/vma.h`), later `vma_is_sealed()`
pub fn can_modify_vma(vma: &Vma) -> bool {
    !vma.has(vm::SEALED)
}

/// `can_modify_vma_madv()`, later `can_madvise_modify()` of mm/madvise.c: what would empty a
/// sealed area that nobody may write is refused. What discards is said by
/// `is_madv_discard()`.
pub fn can_modify_vma_madv(vma: &Vma, behavior: i32) -> bool {
    let discards = matches!(
        behavior,
        advice::FREE
            | advice::DONTNEED
            | advice::DONTNEED_LOCKED
            | advice::REMOVE
            | advice::DONTFORK
            | advice::WIPEONFORK
            | advice::GUARD_INSTALL
    );
    // is_ro_anon()
    let read_only = vma.is_anonymous() && !vma.has(vm::WRITE);
    can_modify_vma(vma) || !discards || !read_only
}
