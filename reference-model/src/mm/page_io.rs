// SPDX-License-Identifier: GPL-2.0-only
//! `mm/page_io.c`: writes to swap.

use crate::mm::swapfile::folio_free_swap;
use crate::mm_types::FolioId;
use crate::state::Kernel;

/// `swap_writepage()`: does not write what nobody refers to.
pub fn swap_writepage(k: &mut Kernel<'_>, id: FolioId) {
    folio_free_swap(k, id);
}
