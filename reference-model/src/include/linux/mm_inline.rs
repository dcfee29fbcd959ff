// SPDX-License-Identifier: GPL-2.0-only
//! `include/linux/mm_inline.h`: on which LRU list a folio is. It belongs to no file of `mm/`.

use crate::mm_types::{FolioId, Folios, Lru, LruList, Vma, vm};
use crate::state::Kernel;

/// `folio_is_file_lru()`
pub fn folio_is_file_lru(k: &Kernel<'_>, id: FolioId) -> bool {
    !k.folios[id].swapbacked
}

/// `folio_lru_list()`
pub fn folio_lru_list(k: &Kernel<'_>, id: FolioId) -> Lru {
    let folio = &k.folios[id];
    if folio.unevictable {
        return Lru::Unevictable;
    }
    match (folio.swapbacked, folio.active) {
        (true, false) => Lru::InactiveAnon,
        (true, true) => Lru::ActiveAnon,
        (false, false) => Lru::InactiveFile,
        (false, true) => Lru::ActiveFile,
    }
}

/// Does something with the LRU list that the folio belongs on.
fn with_list(k: &mut Kernel<'_>, id: FolioId, what: fn(&mut LruList, &mut Folios, FolioId)) {
    let lru = folio_lru_list(k, id) as usize;
    let lruvec = if k.folios[id].charged {
        &mut k.lruvec
    } else {
        &mut k.other_lruvec
    };
    what(&mut lruvec.lists[lru], &mut k.folios, id);
}

/// `lruvec_add_folio()`
pub fn lruvec_add_folio(k: &mut Kernel<'_>, id: FolioId) {
    with_list(k, id, LruList::add);
}

/// `lruvec_add_folio_tail()`
pub fn lruvec_add_folio_tail(k: &mut Kernel<'_>, id: FolioId) {
    with_list(k, id, LruList::add_tail);
}

/// `lruvec_del_folio()`
pub fn lruvec_del_folio(k: &mut Kernel<'_>, id: FolioId) {
    with_list(k, id, LruList::del);
}

/// `vma_has_recency()`
pub fn vma_has_recency(vma: &Vma) -> bool {
    !vma.has(vm::SEQ_READ | vm::RAND_READ)
}
