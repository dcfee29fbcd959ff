// SPDX-License-Identifier: GPL-2.0-only
//! `io_uring/memmap.c`: memory of a process becomes a buffer of an io_uring's.

use crate::errno;
use crate::mm::gup::{GupFlags, gup_fast_fallback, gup_put_folio};
use crate::mm::memory::fault::Retry;
use crate::state::{Held, Kernel};

/// `io_pin_pages()`, as `io_sqe_buffer_register()` (`io_uring/rsrc.c`) has it done: all pages or
/// none are pinned, to be written to for long.
///
/// # Errors
/// EFAULT where a page cannot be had.
pub fn io_pin_pages(k: &mut Kernel<'_>, start: u64, nr_pages: u64) -> Result<(), i32> {
    let gup = GupFlags {
        write: true,
        force: false,
        pin: true,
        longterm: true,
        retry: Retry::Tried,
    };
    if nr_pages == 0 {
        return Err(errno::EFAULT);
    }
    if k.machine.movable_memory {
        // check_and_migrate_movable_pages()
        k.unpredicted = Some("pinned pages that leave memory which can go");
        return Ok(());
    }
    let pages = gup_fast_fallback(k, start, nr_pages, gup)?;
    let all = pages.len() as u64 == nr_pages;
    for folio in pages.into_iter().flatten() {
        if all {
            k.held.push(Held {
                mms: vec![k.mm_id],
                folio,
                pin: true,
            });
        } else {
            // unpin_user_pages()
            gup_put_folio(k, folio, true);
        }
    }
    if all { Ok(()) } else { Err(errno::EFAULT) }
}
