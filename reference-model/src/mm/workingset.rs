// SPDX-License-Identifier: GPL-2.0-only
//! `mm/workingset.c`: shadow entries tell on a refault whether the page was
//! evicted so recently that it belongs on the active list.
//!
//! There are two cgroups: the subject's, whose `memory.reclaim` evicts on its
//! own behalf, and the root, on whose behalf MADV_PAGEOUT evicts. The root's
//! `nonresident_age` counts both.

use crate::api::PAGE_SIZE;
use crate::include::linux::mm_inline::folio_is_file_lru;
use crate::mm::memcontrol::folio_lruvec;
use crate::mm::swap::lru_note_cost_refault;
use crate::mm::swapfile::get_nr_swap_pages;
use crate::mm_types::{FolioId, Lru, Shadow};
use crate::state::Kernel;

/// Active pages of the root cgroup that no scenario's steps made, at least: the
/// guest's agent keeps that many (64 MiB). With few, whether a page that
/// MADV_PAGEOUT evicted comes back as active would hang on what else the guest
/// holds in memory; with many, it always does.
const ROOT_ACTIVE_ANON: u64 = (64 << 20) / PAGE_SIZE;

/// `workingset_age_nonresident()`: of the actors' cgroup (`memcg`) and the
/// root's, or of the root's only.
pub fn workingset_age_nonresident(k: &mut Kernel<'_>, memcg: bool, nr_pages: u64) {
    if memcg {
        k.lruvec.nonresident_age += nr_pages;
    }
    k.other_lruvec.nonresident_age += nr_pages;
}

/// `workingset_eviction()`; `memcg` is whether reclaim has a target cgroup.
pub fn workingset_eviction(k: &mut Kernel<'_>, id: FolioId, memcg: bool) -> Shadow {
    let lruvec = if memcg { &k.lruvec } else { &k.other_lruvec };
    let shadow = Shadow {
        memcg,
        eviction: lruvec.nonresident_age,
        workingset: k.folios[id].workingset,
    };
    workingset_age_nonresident(k, memcg, k.folios[id].nr_pages());
    shadow
}

/// `workingset_test_recent()`, of the root's with those active pages only that are known.
fn workingset_test_recent(k: &Kernel<'_>, shadow: Shadow, file: bool) -> bool {
    let lruvec = if shadow.memcg {
        &k.lruvec
    } else {
        &k.other_lruvec
    };
    let refault_distance = lruvec.nonresident_age.saturating_sub(shadow.eviction);
    let mut sizes = lruvec.flushed.lru;
    if !shadow.memcg {
        // The root's statistics count its children's.
        for (size, child) in sizes.iter_mut().zip(k.lruvec.flushed.lru) {
            *size += child;
        }
        sizes[Lru::ActiveAnon as usize] += ROOT_ACTIVE_ANON;
    }
    let [inactive_anon, active_anon, inactive_file, active_file] = sizes;
    let mut workingset_size = active_file;
    if !file {
        workingset_size += inactive_file;
    }
    if get_nr_swap_pages(k) > 0 {
        workingset_size += active_anon;
        if file {
            workingset_size += inactive_anon;
        }
    }
    refault_distance <= workingset_size
}

/// `workingset_refault()`
pub fn workingset_refault(k: &mut Kernel<'_>, id: FolioId, shadow: Shadow) {
    let file = folio_is_file_lru(k, id);
    if !workingset_test_recent(k, shadow, file) {
        k.refaults_unknown |= file && !shadow.memcg && get_nr_swap_pages(k) == 0;
        return;
    }
    k.folios[id].active = true;
    let nr_pages = k.folios[id].nr_pages();
    workingset_age_nonresident(k, k.folios[id].charged, nr_pages);
    folio_lruvec(k, id).workingset_activate[usize::from(file)] += nr_pages;
    if shadow.workingset {
        k.folios[id].workingset = true;
        lru_note_cost_refault(k, id);
        folio_lruvec(k, id).events[usize::from(file)].io += nr_pages;
    }
}

/// `workingset_activation()`
pub fn workingset_activation(k: &mut Kernel<'_>, id: FolioId) {
    workingset_age_nonresident(k, k.folios[id].charged, k.folios[id].nr_pages());
}
