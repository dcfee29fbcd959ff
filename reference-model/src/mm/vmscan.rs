// SPDX-License-Identifier: GPL-2.0-only
//! `mm/vmscan.c`: which folios are reclaimed, and in what batches.
//!
//! Absent: what never happens where scenarios run. Demotion, hardware poison,
//! buffers, writeback that is still under way (zram completes in
//! `swap_writepage_bdev_sync()`), waiting for other reclaimers, kswapd,
//! `memory.low`, children of the cgroup. Of the shrinkers there is the one that splits
//! huge pages (`mm/shrinker.c`). The others free no folio of an LRU list, and what they
//! free counts only where reclaim is for no cgroup (`flush_reclaim_state()`).

pub mod folio_list;

use crate::include::linux::mm_inline::{folio_is_file_lru, lruvec_add_folio, lruvec_del_folio};
use crate::mm::rmap::folio_referenced;
use crate::mm::shrinker::shrink_slab;
use crate::mm::swap::{SWAP_CLUSTER_MAX, folio_evictable, folio_put, lru_add_drain, lru_note_cost};
use crate::mm::swapfile::{get_nr_swap_pages, total_swap_pages};
use crate::mm::vmscan::folio_list::{ReclaimStat, folio_putback_lru, shrink_folio_list};
use crate::mm::workingset::workingset_age_nonresident;
use crate::mm_types::{FolioId, Lru, Lruvec, vm};
use crate::state::Kernel;

/// `DEF_PRIORITY` (`include/linux/mmzone.h`)
const DEF_PRIORITY: i32 = 12;
/// `MAX_SWAPPINESS` (`include/linux/swap.h`)
const MAX_SWAPPINESS: u64 = 200;
/// `vm_swappiness`, which every cgroup of the second version uses.
const VM_SWAPPINESS: u64 = 60;

/// `DEACTIVATE_ANON`, of `may_deactivate`
const DEACTIVATE_ANON: u32 = 1;
/// `DEACTIVATE_FILE`, of `may_deactivate`
const DEACTIVATE_FILE: u32 = 2;

/// The evictable lists, in the order of `for_each_evictable_lru()` (`include/linux/mmzone.h`).
const EVICTABLE: [Lru; 4] = [
    Lru::InactiveAnon,
    Lru::ActiveAnon,
    Lru::InactiveFile,
    Lru::ActiveFile,
];
// Where each is in lists and counts.
const INACTIVE_ANON: usize = Lru::InactiveAnon as usize;
const ACTIVE_ANON: usize = Lru::ActiveAnon as usize;
const INACTIVE_FILE: usize = Lru::InactiveFile as usize;
const ACTIVE_FILE: usize = Lru::ActiveFile as usize;

/// `struct scan_control`
#[derive(Clone, Debug, Default)]
struct ScanControl {
    nr_to_reclaim: u64,
    /// There is a `target_mem_cgroup`: the subject's.
    target_mem_cgroup: bool,
    anon_cost: u64,
    file_cost: u64,
    may_deactivate: u32,
    force_deactivate: bool,
    skipped_deactivate: bool,
    memcg_full_walk: bool,
    cache_trim_mode: bool,
    priority: i32,
    nr_reclaimed: u64,
}

/// `isolate_lru_folios()`: from the old end of a list.
fn isolate_lru_folios(k: &mut Kernel<'_>, nr_to_scan: u64, lru: Lru) -> Vec<FolioId> {
    let mut taken = Vec::new();
    let mut scan = 0;
    while scan < nr_to_scan {
        let Some(id) = k.lruvec.lists[lru as usize].tail else {
            break;
        };
        scan += k.folios[id].nr_pages();
        k.folio_get(id);
        k.folios[id].lru = false;
        lruvec_del_folio(k, id);
        taken.push(id);
    }
    taken
}

/// `folio_isolate_lru()`
pub fn folio_isolate_lru(k: &mut Kernel<'_>, id: FolioId) -> bool {
    if !std::mem::take(&mut k.folios[id].lru) {
        return false;
    }
    k.folio_get(id);
    lruvec_del_folio(k, id);
    true
}

/// `move_folios_to_lru()`: isolated folios, in the order in
/// which they leave the private list's tail. Returns how many were moved.
fn move_folios_to_lru(k: &mut Kernel<'_>, list: &[FolioId]) -> u64 {
    let mut nr_moved = 0;
    for &id in list {
        if !folio_evictable(k, id) {
            folio_putback_lru(k, id);
            continue;
        }
        if k.folios[id].refcount <= 1 {
            k.folios[id].active = false;
            folio_put(k, id);
            continue;
        }
        k.folios[id].refcount -= 1;
        k.folios[id].lru = true;
        lruvec_add_folio(k, id);
        let nr_pages = k.folios[id].nr_pages();
        nr_moved += nr_pages;
        if k.folios[id].active {
            workingset_age_nonresident(k, k.folios[id].charged, nr_pages);
        }
    }
    nr_moved
}

/// `is_file_lru()` (`include/linux/mmzone.h`)
fn is_file_lru(lru: Lru) -> bool {
    matches!(lru, Lru::InactiveFile | Lru::ActiveFile)
}

/// `shrink_inactive_list()`
fn shrink_inactive_list(k: &mut Kernel<'_>, nr_to_scan: u64, sc: &ScanControl, lru: Lru) -> u64 {
    lru_add_drain(k);
    let taken = isolate_lru_folios(k, nr_to_scan, lru);
    if taken.is_empty() {
        return 0;
    }
    let nr_scanned: u64 = taken.iter().map(|&id| k.folios[id].nr_pages()).sum();
    let mut stat = ReclaimStat::default();
    let (nr_reclaimed, kept) = shrink_folio_list(k, taken, sc.target_mem_cgroup, &mut stat, false);
    move_folios_to_lru(k, &kept);
    if stat.nr_unqueued_dirty == nr_scanned {
        // The flushers are woken.
        k.unpredicted = Some("what is written because reclaim finds nothing that is clean");
    }
    let (file, nr_rotated) = (is_file_lru(lru), nr_scanned - nr_reclaimed);
    lru_note_cost(k.profile, &mut k.lruvec, file, stat.nr_pageout, nr_rotated);
    k.lruvec.events[usize::from(file)].rotated += nr_rotated;
    nr_reclaimed
}

/// `shrink_active_list()`
fn shrink_active_list(k: &mut Kernel<'_>, nr_to_scan: u64, lru: Lru) {
    lru_add_drain(k);
    let hold = isolate_lru_folios(k, nr_to_scan, lru);
    let (mut active, mut inactive) = (Vec::new(), Vec::new());
    for id in hold {
        if !folio_evictable(k, id) {
            folio_putback_lru(k, id);
            continue;
        }
        let (referenced, vm_flags) = folio_referenced(k, id);
        if referenced > 0 && vm_flags & vm::EXEC != 0 && folio_is_file_lru(k, id) {
            active.push(id);
            continue;
        }
        k.folios[id].active = false;
        k.folios[id].workingset = true;
        inactive.push(id);
    }
    move_folios_to_lru(k, &active);
    move_folios_to_lru(k, &inactive);
    if !active.is_empty() {
        let nr_rotated = active.iter().map(|&id| k.folios[id].nr_pages()).sum();
        lru_note_cost(k.profile, &mut k.lruvec, is_file_lru(lru), 0, nr_rotated);
        k.lruvec.events[usize::from(is_file_lru(lru))].rotated += nr_rotated;
    }
}

/// `shrink_list()`
fn shrink_list(k: &mut Kernel<'_>, lru: Lru, nr_to_scan: u64, sc: &mut ScanControl) -> u64 {
    if matches!(lru, Lru::ActiveAnon | Lru::ActiveFile) {
        if sc.may_deactivate & (1 << u32::from(is_file_lru(lru))) != 0 {
            shrink_active_list(k, nr_to_scan, lru);
        } else {
            sc.skipped_deactivate = true;
        }
        return 0;
    }
    shrink_inactive_list(k, nr_to_scan, sc, lru)
}

/// `inactive_is_low()`; below 1 GiB the ratio of both lists is 1.
fn inactive_is_low(k: &Kernel<'_>, inactive: usize) -> bool {
    let lru = &k.lruvec.flushed.lru;
    lru[inactive] < lru[inactive + 1]
}

/// `prepare_scan_control()`. Sizes are `lruvec_page_state()`'s: as of the last
/// flush of cgroup statistics.
fn prepare_scan_control(k: &mut Kernel<'_>, sc: &mut ScanControl) {
    if k.profile.costs_are_counted {
        count_costs(&mut k.lruvec);
    }
    let lruvec = &k.lruvec;
    [sc.anon_cost, sc.file_cost] = lruvec.cost;
    if sc.force_deactivate {
        sc.may_deactivate = DEACTIVATE_ANON | DEACTIVATE_FILE;
    } else {
        sc.may_deactivate = 0;
        let refaults = lruvec.flushed.workingset_activate;
        if refaults[0] != lruvec.refaults[0] || inactive_is_low(k, INACTIVE_ANON) {
            sc.may_deactivate |= DEACTIVATE_ANON;
        }
        if refaults[1] != lruvec.refaults[1] || inactive_is_low(k, INACTIVE_FILE) {
            sc.may_deactivate |= DEACTIVATE_FILE;
        }
    }
    let file = lruvec.flushed.lru[INACTIVE_FILE];
    sc.cache_trim_mode = file >> sc.priority != 0 && sc.may_deactivate & DEACTIVATE_FILE == 0;
}

/// What `prepare_scan_control()` does of costs from 7.3 on: what happened since it looked
/// last is added, and all of it decays.
fn count_costs(lruvec: &mut Lruvec) {
    let events = lruvec.flushed.events;
    for (cost, (now, last)) in lruvec.cost.iter_mut().zip(events.iter().zip(lruvec.last)) {
        *cost += (now.io - last.io) * SWAP_CLUSTER_MAX + now.rotated - last.rotated;
    }
    lruvec.last = events;
    let lrusize: u64 = lruvec.flushed.lru.iter().sum();
    while lruvec.cost.iter().sum::<u64>() > lrusize / 4 {
        lruvec.cost = lruvec.cost.map(|cost| cost / 2);
    }
}

/// `enum scan_balance`
enum ScanBalance {
    Equal,
    Fract { fraction: [u64; 2] },
    File,
}

/// The first half of `get_scan_count()`: how anonymous and file pages share
/// the pressure.
fn scan_balance(k: &Kernel<'_>, sc: &ScanControl) -> ScanBalance {
    // can_reclaim_anon_pages()
    if get_nr_swap_pages(k) == 0 {
        return ScanBalance::File;
    }
    if sc.priority == 0 {
        return ScanBalance::Equal;
    }
    if sc.cache_trim_mode {
        return ScanBalance::File;
    }
    let total_cost = sc.anon_cost + sc.file_cost;
    let anon_cost = total_cost + sc.anon_cost;
    let file_cost = total_cost + sc.file_cost;
    let total_cost = anon_cost + file_cost;
    let ap = VM_SWAPPINESS * (total_cost + 1) / (anon_cost + 1);
    let fp = (MAX_SWAPPINESS - VM_SWAPPINESS) * (total_cost + 1) / (file_cost + 1);
    ScanBalance::Fract { fraction: [ap, fp] }
}

/// `get_scan_count()`: how many folios of each list to look at. Here the lists
/// count as they are (`lruvec_lru_size()`).
fn get_scan_count(k: &Kernel<'_>, sc: &ScanControl) -> [u64; 4] {
    let balance = scan_balance(k, sc);
    EVICTABLE.map(|lru| {
        let scan = k.lruvec.lists[lru as usize].len >> sc.priority;
        match balance {
            ScanBalance::Equal => scan,
            ScanBalance::Fract { fraction } => {
                let denominator = (fraction[0] + fraction[1]).max(1);
                scan * fraction[usize::from(is_file_lru(lru))] / denominator
            }
            ScanBalance::File if is_file_lru(lru) => scan,
            ScanBalance::File => 0,
        }
    })
}

/// `shrink_lruvec()`
fn shrink_lruvec(k: &mut Kernel<'_>, sc: &mut ScanControl) {
    let mut nr = get_scan_count(k, sc);
    let targets = nr;
    let mut nr_reclaimed = 0;
    while nr[INACTIVE_ANON] != 0 || nr[ACTIVE_FILE] != 0 || nr[INACTIVE_FILE] != 0 {
        for lru in EVICTABLE {
            let left = &mut nr[lru as usize];
            if *left != 0 {
                let nr_to_scan = (*left).min(SWAP_CLUSTER_MAX);
                *left -= nr_to_scan;
                nr_reclaimed += shrink_list(k, lru, nr_to_scan, sc);
            }
        }
        if nr_reclaimed < sc.nr_to_reclaim {
            continue;
        }
        let nr_file = nr[INACTIVE_FILE] + nr[ACTIVE_FILE];
        let nr_anon = nr[INACTIVE_ANON] + nr[ACTIVE_ANON];
        if nr_file == 0 || nr_anon == 0 {
            break;
        }
        stop_smaller(&mut nr, &targets);
    }
    sc.nr_reclaimed += nr_reclaimed;
    // can_age_anon_pages()
    if total_swap_pages(k) > 0 && inactive_is_low(k, INACTIVE_ANON) {
        shrink_active_list(k, SWAP_CLUSTER_MAX, Lru::ActiveAnon);
    }
}

/// The end of `shrink_lruvec()`'s loop: once enough is reclaimed, the smaller
/// kind is left alone, and the larger one gets as much as that one had.
fn stop_smaller(nr: &mut [u64; 4], targets: &[u64; 4]) {
    let nr_file = nr[INACTIVE_FILE] + nr[ACTIVE_FILE];
    let nr_anon = nr[INACTIVE_ANON] + nr[ACTIVE_ANON];
    let (smaller, larger, left) = if nr_file > nr_anon {
        (INACTIVE_ANON, INACTIVE_FILE, nr_anon)
    } else {
        (INACTIVE_FILE, INACTIVE_ANON, nr_file)
    };
    let scan_target = targets[smaller] + targets[smaller + 1] + 1;
    let percentage = left * 100 / scan_target;
    nr[smaller] = 0;
    nr[smaller + 1] = 0;
    for lru in [larger, larger + 1] {
        let nr_scanned = targets[lru] - nr[lru];
        nr[lru] = (targets[lru] * (100 - percentage) / 100).saturating_sub(nr_scanned);
    }
}

/// `shrink_node()` with `shrink_zones()` and `shrink_node_memcgs()`: one node,
/// one cgroup without children.
fn shrink_node(k: &mut Kernel<'_>, sc: &mut ScanControl) {
    prepare_scan_control(k, sc);
    shrink_lruvec(k, sc);
    shrink_slab(k, sc.priority);
}

/// `do_try_to_free_pages()`
fn do_try_to_free_pages(k: &mut Kernel<'_>, sc: &mut ScanControl) -> u64 {
    let initial_priority = sc.priority;
    loop {
        while sc.priority >= 0 {
            shrink_node(k, sc);
            if sc.nr_reclaimed >= sc.nr_to_reclaim {
                break;
            }
            sc.priority -= 1;
        }
        // snapshot_refaults()
        k.lruvec.refaults = k.lruvec.flushed.workingset_activate;
        if sc.nr_reclaimed != 0 {
            return sc.nr_reclaimed;
        }
        if !sc.memcg_full_walk {
            sc.priority = initial_priority;
            sc.memcg_full_walk = true;
        } else if sc.skipped_deactivate {
            sc.priority = initial_priority;
            sc.force_deactivate = true;
            sc.skipped_deactivate = false;
        } else {
            return 0;
        }
    }
}

/// `try_to_free_mem_cgroup_pages()`
pub fn try_to_free_mem_cgroup_pages(k: &mut Kernel<'_>, nr_pages: u64) -> u64 {
    let mut sc = ScanControl {
        nr_to_reclaim: nr_pages.max(SWAP_CLUSTER_MAX),
        target_mem_cgroup: true,
        priority: DEF_PRIORITY,
        ..ScanControl::default()
    };
    do_try_to_free_pages(k, &mut sc)
}
