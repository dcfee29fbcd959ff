// SPDX-License-Identifier: GPL-2.0-only
//! `mm/mlock.c`: what keeps a folio off the lists that reclaim looks at.

use crate::include::linux::mm_inline::{lruvec_add_folio, lruvec_del_folio};
use crate::mm_types::FolioId;
use crate::state::Kernel;

/// `mlock_folio()` and `__mlock_folio()`, at once.
pub fn mlock_folio(k: &mut Kernel<'_>, id: FolioId) {
    k.folios[id].mlocked = true;
    // Off the LRU, lru_add() or the putback will see that it is not evictable.
    if !k.folios[id].lru || k.folios[id].unevictable {
        return;
    }
    lruvec_del_folio(k, id);
    k.folios[id].active = false;
    k.folios[id].unevictable = true;
    lruvec_add_folio(k, id);
}

/// `mlock_new_folio()` and `__mlock_new_folio()`, at once
/// instead of at the drain of `mlock_fbatch`: an mlocked folio is on no list
/// that a scan looks at, before the drain or after it.
pub fn mlock_new_folio(k: &mut Kernel<'_>, id: FolioId) {
    let folio = &mut k.folios[id];
    folio.mlocked = true;
    folio.unevictable = true;
    folio.active = false;
    lruvec_add_folio(k, id);
    k.folios[id].lru = true;
}

/// `munlock_folio()` and `__munlock_folio()`, at once and
/// without `mlock_count`: the last mlocked mapping is taken for the only one.
pub fn munlock_folio(k: &mut Kernel<'_>, id: FolioId) {
    k.folios[id].mlocked = false;
    if !k.folios[id].lru || !k.folios[id].unevictable {
        return;
    }
    lruvec_del_folio(k, id);
    k.folios[id].unevictable = false;
    lruvec_add_folio(k, id);
}
