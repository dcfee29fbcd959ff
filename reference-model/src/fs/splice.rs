// SPDX-License-Identifier: GPL-2.0-only
//! `fs/splice.c`: pages of a process go into a pipe, which refers to them.

use crate::mm::gup::{GupFlags, gup_fast_fallback, gup_put_folio};
use crate::mm::memory::fault::Retry;
use crate::state::{Held, Kernel};

/// `PIPE_DEF_BUFFERS` (`include/linux/pipe_fs_i.h`): how many pages a new pipe has room for.
const PIPE_DEF_BUFFERS: u64 = 16;

/// How many pages `iter_to_pipe()` takes at once.
const AT_ONCE: u64 = 16;

/// `vmsplice_to_pipe()` by `iter_to_pipe()`, into a new pipe: as many pages as it has room for,
/// up to the first that cannot be read. What it has no room for is put again.
///
/// # Errors
/// EFAULT where there is not even a first one.
pub fn vmsplice_to_pipe(k: &mut Kernel<'_>, start: u64, nr_pages: u64) -> Result<(), i32> {
    let gup = GupFlags {
        write: false,
        force: false,
        pin: false,
        longterm: false,
        retry: Retry::Tried,
    };
    let mut done = 0;
    while done < nr_pages {
        let n = AT_ONCE.min(nr_pages - done);
        // iov_iter_get_pages2()
        let addr = start + done * crate::api::PAGE_SIZE;
        let pages = match gup_fast_fallback(k, addr, n, gup) {
            Err(error) if done == 0 => return Err(error),
            Err(_) => return Ok(()),
            Ok(pages) => pages,
        };
        for page in pages {
            // add_to_pipe()
            let full = done >= PIPE_DEF_BUFFERS;
            done += 1;
            match page {
                None => {}
                Some(id) if full => gup_put_folio(k, id, false),
                Some(folio) => k.held.push(Held {
                    mms: vec![k.mm_id],
                    folio,
                    pin: false,
                }),
            }
        }
        if done > PIPE_DEF_BUFFERS {
            return Ok(());
        }
    }
    Ok(())
}
