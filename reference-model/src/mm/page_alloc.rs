// SPDX-License-Identifier: GPL-2.0-only
//! `mm/page_alloc.c`: folios that nobody has.

use crate::mm::swap::folio_put;
use crate::mm_types::FolioId;
use crate::state::Kernel;

/// `free_unref_folios()`
pub fn free_unref_folios(k: &mut Kernel<'_>, folios: &mut Vec<FolioId>) {
    for id in folios.drain(..) {
        folio_put(k, id);
    }
}
