// SPDX-License-Identifier: GPL-2.0-only
//! `mm/page_alloc.c`: folios that nobody has.

use crate::mm::mlock::mlock_drain;
use crate::mm::swap::{folio_put, lru_add_drain_cpu};
use crate::mm_types::FolioId;
use crate::state::Kernel;

/// `free_unref_folios()`
pub fn free_unref_folios(k: &mut Kernel<'_>, folios: &mut Vec<FolioId>) {
    for id in folios.drain(..) {
        folio_put(k, id);
    }
}

/// `page_alloc_cpu_dead()`: what waits in the batches of a hart that is offline goes to the
/// lists.
pub fn page_alloc_cpu_dead(k: &mut Kernel<'_>, hart: u32) {
    lru_add_drain_cpu(k, hart as usize);
    // mlock_drain_remote()
    mlock_drain(k, hart as usize);
}
