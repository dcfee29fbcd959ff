// SPDX-License-Identifier: GPL-2.0-only
//! `mm/swap.c`: the per-CPU batches through which folios get onto LRU lists.
//!
//! A folio in the `lru_add` batch is not on an LRU list yet: it cannot be
//! isolated, and no scan counts it. The other batches hold folios that are on a
//! list. Every batch holds a reference to each of its folios until it is drained.

use crate::include::linux::mm_inline::{
    folio_is_file_lru, lruvec_add_folio, lruvec_add_folio_tail, lruvec_del_folio,
};
use crate::mm::hugetlb::reserve;
use crate::mm::memcontrol::folio_lruvec;
use crate::mm::mlock::{mlock_drain, mlock_new_folio};
use crate::mm::workingset::workingset_activation;
use crate::mm_types::{FolioId, Lruvec, Of, vm};
use crate::profile::Profile;
use crate::state::Kernel;

/// `PAGEVEC_SIZE`: room in a folio batch (`include/linux/pagevec.h`).
pub const PAGEVEC_SIZE: usize = 31;

/// `SWAP_CLUSTER_MAX` (`include/linux/swap.h`).
pub const SWAP_CLUSTER_MAX: u64 = 32;

/// Which of the per-CPU batches, and so which `move_fn_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Batch {
    /// `lru_add()`
    Add,
    /// `lru_move_tail()`
    MoveTail,
    /// `lru_deactivate_file()`
    DeactivateFile,
    /// `lru_deactivate()`
    Deactivate,
    /// `lru_lazyfree()`
    Lazyfree,
    /// `lru_activate()`
    Activate,
}

/// `folio_evictable()` (`mm/internal.h`); secret memory is unevictable as a whole.
pub fn folio_evictable(k: &Kernel<'_>, id: FolioId) -> bool {
    let file = k.folios[id].mapping.map(|at| at.0);
    // mapping_unevictable()
    k.of(file) != Of::Secret && !k.folios[id].mlocked
}

/// `folio_put()` (`include/linux/mm.h`), with `__folio_put()` and `__page_cache_release()`:
/// the last reference takes the folio off its list and gives its place back.
pub fn folio_put(k: &mut Kernel<'_>, id: FolioId) {
    let refcount = k.folios[id].refcount.saturating_sub(1);
    k.folios[id].refcount = refcount;
    if refcount > 0 {
        return;
    }
    if let Some(size) = k.folios[id].hugetlb {
        reserve::free_huge_folio(k, id, size);
        return;
    }
    if std::mem::take(&mut k.folios[id].lru) {
        lruvec_del_folio(k, id);
    }
    if k.folios[id].large.is_some() {
        // folio_unqueue_deferred_split()
        k.deferred_split_queue.retain(|&queued| queued != id);
    }
    k.folios.free(id);
}

/// `lru_add()`
fn lru_add(k: &mut Kernel<'_>, id: FolioId) {
    let evictable = folio_evictable(k, id);
    let folio = &mut k.folios[id];
    folio.unevictable = !evictable;
    if !evictable {
        folio.active = false;
        folio.mlock_count = 0;
    }
    lruvec_add_folio(k, id);
}

/// `lru_move_tail()`
fn lru_move_tail(k: &mut Kernel<'_>, id: FolioId) {
    if k.folios[id].unevictable {
        return;
    }
    lruvec_del_folio(k, id);
    k.folios[id].active = false;
    lruvec_add_folio_tail(k, id);
}

/// `lru_activate()`
fn lru_activate(k: &mut Kernel<'_>, id: FolioId) {
    if k.folios[id].active || k.folios[id].unevictable {
        return;
    }
    lruvec_del_folio(k, id);
    k.folios[id].active = true;
    lruvec_add_folio(k, id);
}

/// `lru_deactivate()`
fn lru_deactivate(k: &mut Kernel<'_>, id: FolioId) {
    if k.folios[id].unevictable || !k.folios[id].active {
        return;
    }
    lruvec_del_folio(k, id);
    k.folios[id].active = false;
    k.folios[id].referenced = false;
    lruvec_add_folio(k, id);
}

/// `lru_deactivate_file()`: what nobody has mapped is reclaimed next, or once it is written.
fn lru_deactivate_file(k: &mut Kernel<'_>, id: FolioId) {
    if k.folios[id].unevictable || k.folios[id].mapcount > 0 {
        return;
    }
    lruvec_del_folio(k, id);
    let folio = &mut k.folios[id];
    folio.active = false;
    folio.referenced = false;
    if folio.dirty {
        folio.reclaim = true;
        lruvec_add_folio(k, id);
    } else {
        lruvec_add_folio_tail(k, id);
    }
}

/// Whether `lru_lazyfree()` and `folio_mark_lazyfree()` leave the folio as it is.
fn not_for_lazyfree(k: &Kernel<'_>, id: FolioId) -> bool {
    let folio = &k.folios[id];
    !folio.anon || !folio.swapbacked || folio.swap.is_some() || folio.unevictable
}

/// `lru_lazyfree()`: to the inactive file list, no longer swap-backed.
fn lru_lazyfree(k: &mut Kernel<'_>, id: FolioId) {
    if not_for_lazyfree(k, id) {
        return;
    }
    lruvec_del_folio(k, id);
    let folio = &mut k.folios[id];
    folio.active = false;
    folio.referenced = false;
    folio.swapbacked = false;
    lruvec_add_folio(k, id);
}

/// `folio_batch_move_lru()`
fn folio_batch_move_lru(k: &mut Kernel<'_>, hart: usize, which: Batch) {
    let folios = std::mem::take(batch(k, hart, which));
    for &id in &folios {
        let on_list = std::mem::take(&mut k.folios[id].lru);
        if which != Batch::Add && !on_list {
            continue;
        }
        match which {
            Batch::Add => lru_add(k, id),
            Batch::MoveTail => lru_move_tail(k, id),
            Batch::DeactivateFile => lru_deactivate_file(k, id),
            Batch::Deactivate => lru_deactivate(k, id),
            Batch::Lazyfree => lru_lazyfree(k, id),
            Batch::Activate => lru_activate(k, id),
        }
        k.folios[id].lru = true;
    }
    for &id in &folios {
        folio_put(k, id);
    }
    // Only the room is kept.
    let room = batch(k, hart, which);
    *room = folios;
    room.clear();
}

/// A batch of a hart.
fn batch<'k>(k: &'k mut Kernel<'_>, hart: usize, which: Batch) -> &'k mut Vec<FolioId> {
    let fbatches = k.fbatches_of(hart);
    match which {
        Batch::Add => &mut fbatches.lru_add,
        Batch::MoveTail => &mut fbatches.lru_move_tail,
        Batch::DeactivateFile => &mut fbatches.lru_deactivate_file,
        Batch::Deactivate => &mut fbatches.lru_deactivate,
        Batch::Lazyfree => &mut fbatches.lru_lazyfree,
        Batch::Activate => &mut fbatches.lru_activate,
    }
}

/// `__folio_batch_add_and_move()`: a full batch is drained at once, and so is one with
/// a huge page.
fn folio_batch_add_and_move(k: &mut Kernel<'_>, id: FolioId, which: Batch) {
    k.folio_get(id);
    let hart = k.hart() as usize;
    let folios = batch(k, hart, which);
    folios.push(id);
    let full = folios.len() >= PAGEVEC_SIZE;
    if full || k.folios[id].large.is_some() {
        folio_batch_move_lru(k, hart, which);
    }
}

/// `lru_note_cost()`, until 7.3. Its sizes are as of the last flush of cgroup statistics.
/// The parents' costs are never read here: nothing reclaims on their behalf.
pub fn lru_note_cost(
    profile: &Profile,
    lruvec: &mut Lruvec,
    file: bool,
    nr_io: u64,
    nr_rotated: u64,
) {
    let cost = nr_io * SWAP_CLUSTER_MAX + nr_rotated;
    if profile.costs_are_counted || cost == 0 && !profile.note_cost_decays_on_zero {
        return;
    }
    lruvec.cost[usize::from(file)] += cost;
    let lrusize: u64 = lruvec.flushed.lru.iter().sum();
    if lruvec.cost.iter().sum::<u64>() > lrusize / 4 {
        lruvec.cost = lruvec.cost.map(|cost| cost / 2);
    }
}

/// `lru_note_cost_refault()`
pub fn lru_note_cost_refault(k: &mut Kernel<'_>, id: FolioId) {
    let file = folio_is_file_lru(k, id);
    let (profile, nr_pages) = (k.profile, k.folios[id].nr_pages());
    lru_note_cost(profile, folio_lruvec(k, id), file, nr_pages, 0);
}

/// `folio_activate()`
fn folio_activate(k: &mut Kernel<'_>, id: FolioId) {
    let folio = &k.folios[id];
    if folio.active || folio.unevictable || !folio.lru {
        return;
    }
    folio_batch_add_and_move(k, id, Batch::Activate);
}

/// `folio_mark_accessed()`, with `__lru_cache_activate_folio()`
pub fn folio_mark_accessed(k: &mut Kernel<'_>, id: FolioId) {
    let folio = &k.folios[id];
    if !folio.referenced {
        k.folios[id].referenced = true;
    } else if !folio.unevictable && !folio.active {
        if folio.lru {
            folio_activate(k, id);
        } else if in_this_harts_lru_add(k, id) {
            k.folios[id].active = true;
        }
        k.folios[id].referenced = false;
        workingset_activation(k, id);
    }
}

/// The look of `__lru_cache_activate_folio()` into the running hart's batch.
fn in_this_harts_lru_add(k: &mut Kernel<'_>, id: FolioId) -> bool {
    let hart = k.hart() as usize;
    batch(k, hart, Batch::Add).contains(&id)
}

/// `folio_rotate_reclaimable()`
pub fn folio_rotate_reclaimable(k: &mut Kernel<'_>, id: FolioId) {
    let folio = &k.folios[id];
    if !folio.dirty && !folio.unevictable && folio.lru {
        folio_batch_add_and_move(k, id, Batch::MoveTail);
    }
}

/// `folio_add_lru()`
pub fn folio_add_lru(k: &mut Kernel<'_>, id: FolioId) {
    folio_batch_add_and_move(k, id, Batch::Add);
}

/// `folio_add_lru_vma()`
pub fn folio_add_lru_vma(k: &mut Kernel<'_>, id: FolioId, vm_flags: u64) {
    if vm_flags & vm::LOCKED != 0 {
        mlock_new_folio(k, id);
    } else {
        folio_add_lru(k, id);
    }
}

/// `folio_deactivate()`
pub fn folio_deactivate(k: &mut Kernel<'_>, id: FolioId) {
    let folio = &k.folios[id];
    if folio.unevictable || !folio.lru || !folio.active {
        return;
    }
    folio_batch_add_and_move(k, id, Batch::Deactivate);
}

/// `deactivate_file_folio()`
pub fn deactivate_file_folio(k: &mut Kernel<'_>, id: FolioId) {
    let folio = &k.folios[id];
    if folio.unevictable || !folio.lru {
        return;
    }
    folio_batch_add_and_move(k, id, Batch::DeactivateFile);
}

/// `folio_mark_lazyfree()`
pub fn folio_mark_lazyfree(k: &mut Kernel<'_>, id: FolioId) {
    if !k.folios[id].lru || not_for_lazyfree(k, id) {
        return;
    }
    folio_batch_add_and_move(k, id, Batch::Lazyfree);
}

/// `lru_add_drain()`: the running hart's batches.
pub fn lru_add_drain(k: &mut Kernel<'_>) {
    let hart = k.hart() as usize;
    lru_add_drain_cpu(k, hart);
    mlock_drain(k, hart);
}

/// `lru_add_drain_cpu()`
pub fn lru_add_drain_cpu(k: &mut Kernel<'_>, hart: usize) {
    for which in [
        Batch::Add,
        Batch::MoveTail,
        Batch::DeactivateFile,
        Batch::Deactivate,
        Batch::Lazyfree,
        Batch::Activate,
    ] {
        if !batch(k, hart, which).is_empty() {
            folio_batch_move_lru(k, hart, which);
        }
    }
}

/// `lru_add_drain_all()`, in the order of Linux's harts: the scenario's count down.
pub fn lru_add_drain_all(k: &mut Kernel<'_>) {
    for hart in (0..k.fbatches.len()).rev() {
        lru_add_drain_cpu(k, hart);
        mlock_drain(k, hart);
    }
}
