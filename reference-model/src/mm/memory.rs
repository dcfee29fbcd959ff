// SPDX-License-Identifier: GPL-2.0-only
//! `mm/memory.c`, in parts: it is too long for one file.

pub mod copy;
pub mod fault;
pub mod pfn;
pub mod swap;
pub mod zap;

use crate::mm::gup::{GupFlags, get_user_pages_remote};
use crate::mm::memory::fault::Retry;
use crate::mm::mmap::expand_downwards;
use crate::mm::page_writeback::folio_mark_dirty;
use crate::mm_types::{Vma, Written};
use crate::state::Kernel;

/// `lock_mm_and_find_vma()`: the vma at an address, or one that grows down to it.
pub fn lock_mm_and_find_vma(k: &mut Kernel, addr: u64) -> Option<Vma> {
    match k.mm.vma_lookup(addr).cloned() {
        Some(vma) => Some(vma),
        None => expand_downwards(k, addr),
    }
}

/// `access_remote_vm()` by `__access_remote_vm()`, of a write of less than a page that
/// FOLL_FORCE lets write whatever the rights are.
///
/// # Errors
/// Nothing can be written there.
pub fn access_remote_vm(k: &mut Kernel, addr: u64, written: Written) -> Result<(), ()> {
    let gup = GupFlags {
        write: true,
        force: true,
        pin: false,
        longterm: false,
        retry: Retry::Never,
    };
    lock_mm_and_find_vma(k, addr).ok_or(())?;
    let folio = get_user_pages_remote(k, addr, gup).map_err(drop)?;
    // copy_to_user_page(), set_page_dirty_lock()
    if let Some(id) = folio {
        k.folios[id].write_page(addr, written);
        folio_mark_dirty(k, id);
    }
    Ok(())
}
