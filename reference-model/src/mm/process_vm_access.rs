// SPDX-License-Identifier: GPL-2.0-only
//! `mm/process_vm_access.c`

use crate::errno;
use crate::mm::gup::GupFlags;
use crate::mm::gup::get_user_pages_remote;
use crate::mm::memory::fault::Retry;
use crate::mm::page_writeback::folio_mark_dirty;
use crate::mm_types::Written;
use crate::state::Kernel;

/// `process_vm_rw_single_vec()` of one byte, to be read or written, on the mm that is acted on: the page is pinned for
/// as long as it is copied.
///
/// # Errors
/// EFAULT where the page cannot be had.
pub fn process_vm_rw_single_vec(k: &mut Kernel, addr: u64, write: Option<u8>) -> Result<(), i32> {
    let gup = GupFlags {
        write: write.is_some(),
        pin: true,
        force: false,
        longterm: false,
        retry: Retry::Tried,
    };
    let folio = get_user_pages_remote(k, addr, gup).map_err(|_| errno::EFAULT)?;
    // unpin_user_pages_dirty_lock()
    if let (Some(id), Some(byte)) = (folio, write) {
        folio_mark_dirty(k, id);
        k.folios[id].write_page(addr, Written::Byte(byte));
    }
    Ok(())
}
