// SPDX-License-Identifier: GPL-2.0-only
//! `fs/proc/task_mmu.c`: `/proc/PID/clear_refs`, and what is asked of `/proc/PID/pagemap`.

use crate::api::{Entry, PAGE_SIZE};
use crate::arch::riscv::mm::pgtable::ptep_test_and_clear_young;
use crate::errno;
use crate::mm::mmap::find_vma_intersection;
use crate::mm::pagewalk::walk_page_range;
use crate::mm_types::{Pte, Vma, vm};
use crate::state::Kernel;

// `enum clear_refs_types`
const CLEAR_REFS_ALL: u64 = 1;
const CLEAR_REFS_ANON: u64 = 2;
const CLEAR_REFS_MAPPED: u64 = 3;
const CLEAR_REFS_SOFT_DIRTY: u64 = 4;
const CLEAR_REFS_MM_HIWATER_RSS: u64 = 5;
const CLEAR_REFS_LAST: u64 = 6;

/// `clear_refs_write()` on the mm that is acted on. RISC-V has no soft-dirty bit here: what
/// is left of that kind is its flush of the whole mm.
///
/// # Errors
/// EINVAL for a kind that there is not.
pub fn clear_refs_write(k: &mut Kernel, kind: u64) -> Result<(), i32> {
    if !(CLEAR_REFS_ALL..CLEAR_REFS_LAST).contains(&kind) {
        return Err(errno::EINVAL);
    }
    match kind {
        CLEAR_REFS_MM_HIWATER_RSS => {}
        CLEAR_REFS_SOFT_DIRTY => k.enter(Entry::FlushTlbMm),
        _ => {
            let vmas: Vec<Vma> = k.mm.vmas.values().cloned().collect();
            for vma in vmas.iter().filter(|vma| is_walked(vma, kind)) {
                clear_refs_of(k, vma);
            }
        }
    }
    Ok(())
}

/// `PM_SCAN_CHECK_WPASYNC` (`include/uapi/linux/fs.h`)
const PM_SCAN_CHECK_WPASYNC: u64 = 2;
/// `PM_SCAN_FLAGS`
const PM_SCAN_FLAGS: u64 = 3;

/// `do_pagemap_scan()`, and `pagemap_scan_test_walk()` of each vma. Where no vma is registered for
/// write protection that answers by itself (the model does not speak where one is), none is
/// protected, and nothing is flushed.
///
/// # Errors
/// EINVAL for other flags, EPERM with `PM_SCAN_CHECK_WPASYNC` where there is a vma.
pub fn do_pagemap_scan(k: &mut Kernel, (start, end): (u64, u64), flags: u64) -> Result<(), i32> {
    if flags & !PM_SCAN_FLAGS != 0 {
        return Err(errno::EINVAL);
    }
    let there = find_vma_intersection(k, start, end).is_some();
    if flags & PM_SCAN_CHECK_WPASYNC != 0 && there {
        return Err(errno::EPERM);
    }
    Ok(())
}

/// `clear_refs_test_walk()`
fn is_walked(vma: &Vma, kind: u64) -> bool {
    match kind {
        _ if vma.has(vm::PFNMAP) => false,
        CLEAR_REFS_ANON => vma.file.is_none(),
        CLEAR_REFS_MAPPED => vma.file.is_some(),
        _ => true,
    }
}

/// `clear_refs_pte_range()` of all page tables of a vma: nothing is flushed for it.
fn clear_refs_of(k: &mut Kernel, vma: &Vma) {
    for (start, end, huge) in walk_page_range(k, vma.start, vma.end) {
        if huge {
            k.unpredicted = Some("clear_refs of a huge page");
            return;
        }
        for addr in (start..end).step_by(PAGE_SIZE as usize) {
            let pte = k.pte(addr);
            // vm_normal_folio(): the zero page is none.
            if let Pte::Present {
                folio: Some(id), ..
            } = pte
            {
                ptep_test_and_clear_young(k, addr, pte);
                k.folios[id].referenced = false;
            }
        }
    }
}
