// SPDX-License-Identifier: GPL-2.0-only
//! `mm/page-writeback.c`: a page is clean from the moment on at which it begins to be written.

use crate::mm::rmap::folio_mkclean;
use crate::mm_types::FolioId;
use crate::state::Kernel;

/// `folio_mark_dirty()`. Of a file that takes the bit of those that wait to be reclaimed, for it is
/// PG_readahead's, too.
pub fn folio_mark_dirty(k: &mut Kernel<'_>, id: FolioId) {
    let folio = &mut k.folios[id];
    folio.set_dirty(true);
    folio.reclaim &= folio.mapping.is_none();
}

/// `folio_clear_dirty_for_io()` of a file that can be written back
pub fn folio_clear_dirty_for_io(k: &mut Kernel<'_>, id: FolioId) {
    folio_mkclean(k, id);
    k.folios[id].dirty = false;
}
