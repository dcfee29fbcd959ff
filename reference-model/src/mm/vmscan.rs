// SPDX-License-Identifier: GPL-2.0-only
//! `mm/vmscan.c`: which folios are reclaimed, and in what batches.
//!
//! Absent: what never happens where scenarios run. Demotion, hardware poison,
//! buffers, writeback that is still under way (zram completes in
//! `swap_writepage_bdev_sync()`), waiting for other reclaimers, kswapd,
//! `memory.low`, children of the cgroup, slab shrinkers (they free no folio of
//! an LRU list, and what they free counts for the root cgroup only).

use crate::mm::huge_memory::{can_split_folio, split_huge_page_to_list_to_order};
use crate::mm::rmap::{
    folio_referenced, try_to_unmap, try_to_unmap_flush, try_to_unmap_flush_dirty,
};
use crate::mm::shrinker::shrink_slab;
use crate::mm::swap::{
    PAGEVEC_SIZE, SWAP_CLUSTER_MAX, folio_evictable, folio_is_file_lru, folio_lruvec, folio_put,
    folio_putback_lru, lru_add_drain, lru_note_cost, lruvec_del_folio, move_folios_to_lru,
};
use crate::mm::swap_state::{
    __delete_from_swap_cache, add_to_swap, add_to_swap_cache, folio_ref_sub,
};
use crate::mm::swapfile::{
    folio_alloc_swap, folio_free_swap, get_nr_swap_pages, put_swap_folio, swap_shmem_alloc,
    total_swap_pages, vm_swap_full,
};
use crate::mm::workingset::workingset_eviction;
use crate::mm_types::{CacheEntry, FolioId, Lru, Lruvec, vm};
use crate::state::Kernel;

/// `DEF_PRIORITY` (`include/linux/mmzone.h`)
const DEF_PRIORITY: i32 = 12;
/// `MAX_SWAPPINESS` (`include/linux/swap.h`)
const MAX_SWAPPINESS: u64 = 200;
/// `vm_swappiness`, which every cgroup of the second version uses.
const VM_SWAPPINESS: u64 = 60;

const DEACTIVATE_ANON: u32 = 1;
const DEACTIVATE_FILE: u32 = 2;

/// The evictable lists, in the order of `for_each_evictable_lru()`.
const EVICTABLE: [Lru; 4] = [
    Lru::InactiveAnon,
    Lru::ActiveAnon,
    Lru::InactiveFile,
    Lru::ActiveFile,
];
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

/// `struct reclaim_stat`, as far as it is read.
#[derive(Clone, Copy, Debug, Default)]
struct ReclaimStat {
    nr_pageout: u64,
}

/// `enum folio_references`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FolioReferences {
    Reclaim,
    ReclaimClean,
    Keep,
    Activate,
}

/// `pageout_t`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pageout {
    Keep,
    Activate,
    Success,
}

/// Where a folio leaves the loop of `shrink_folio_list()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    KeepLocked,
    ActivateLocked,
    FreeIt,
}

/// `folio_check_references()`
fn folio_check_references(k: &mut Kernel<'_>, id: FolioId) -> FolioReferences {
    let (referenced_ptes, vm_flags) = folio_referenced(k, id);
    let referenced_folio = std::mem::take(&mut k.folios[id].referenced);
    if vm_flags & vm::LOCKED != 0 {
        return FolioReferences::Activate;
    }
    if referenced_ptes > 0 {
        // Every mapped folio starts out young, so one reference is no proof yet.
        k.folios[id].referenced = true;
        if referenced_folio || referenced_ptes > 1 {
            return FolioReferences::Activate;
        }
        if vm_flags & vm::EXEC != 0 && folio_is_file_lru(k, id) {
            return FolioReferences::Activate;
        }
        return FolioReferences::Keep;
    }
    if referenced_folio && folio_is_file_lru(k, id) {
        return FolioReferences::ReclaimClean;
    }
    FolioReferences::Reclaim
}

/// `pageout()`, with `swap_writepage()` and `shmem_writepage()`. The write is
/// complete when it returns: a page of zeroes is only noted, and zram is
/// written synchronously (SWP_SYNCHRONOUS_IO).
fn pageout(k: &mut Kernel<'_>, id: FolioId) -> Pageout {
    // is_page_cache_freeable()
    if u64::from(k.folios[id].refcount) != 1 + k.folios[id].nr_pages() {
        return Pageout::Keep;
    }
    if k.folios[id].swap.is_none() {
        // A folio that is neither in the swap cache nor in a file has no mapping.
        return match k.folios[id].mapping {
            Some((file, index)) => shmem_writepage(k, id, file, index),
            None => Pageout::Keep,
        };
    }
    k.folios[id].dirty = false;
    swap_writepage(k, id);
    Pageout::Success
}

/// `swap_writepage()` (`mm/page_io.c`): does not write what nobody refers to.
fn swap_writepage(k: &mut Kernel<'_>, id: FolioId) {
    folio_free_swap(k, id);
}

/// `shmem_writepage()` (`mm/shmem.c`): moves the folio from the file's page
/// cache to the swap cache.
fn shmem_writepage(k: &mut Kernel<'_>, id: FolioId, file: usize, index: u64) -> Pageout {
    // Without swap the folio is dirtied again: it never stopped to be.
    let Some(entry) = folio_alloc_swap(k, id) else {
        return Pageout::Activate;
    };
    k.folios[id].dirty = false;
    add_to_swap_cache(k, id, entry);
    swap_shmem_alloc(k, entry);
    // shmem_delete_from_page_cache()
    k.files[file].cache.insert(index, CacheEntry::Swap(entry));
    k.folios[id].mapping = None;
    folio_put(k, id);
    swap_writepage(k, id);
    Pageout::Success
}

/// `__remove_mapping()`: takes the folio, unless it is used or dirty, out of
/// its cache, and so drops the last reference but isolation's.
fn __remove_mapping(k: &mut Kernel<'_>, id: FolioId, memcg: bool) -> bool {
    let nr_pages = k.folios[id].nr_pages() as u32;
    if k.folios[id].refcount != 1 + nr_pages || k.folios[id].dirty {
        return false;
    }
    if let Some(entry) = k.folios[id].swap {
        let shadow = workingset_eviction(k, id, memcg);
        __delete_from_swap_cache(k, id, Some(shadow));
        put_swap_folio(k, entry, nr_pages);
    } else if let Some((file, index)) = k.folios[id].mapping.take() {
        // Never written to: a hole again. Swap-backed, it leaves no shadow.
        k.files[file].cache.remove(&index);
    } else {
        return false;
    }
    folio_ref_sub(k, id, nr_pages);
    true
}

/// The body of the loop in `shrink_folio_list()`, up to where it ends for this folio.
fn shrink_folio(
    k: &mut Kernel<'_>,
    id: FolioId,
    memcg: bool,
    stat: &mut ReclaimStat,
    ignore_references: bool,
    folio_list: &mut Vec<FolioId>,
) -> Label {
    if !folio_evictable(k, id) {
        return Label::ActivateLocked;
    }
    let mut references = FolioReferences::Reclaim;
    if !ignore_references {
        references = folio_check_references(k, id);
    }
    match references {
        FolioReferences::Activate => return Label::ActivateLocked,
        FolioReferences::Keep => return Label::KeepLocked,
        FolioReferences::Reclaim | FolioReferences::ReclaimClean => {}
    }
    let folio = &k.folios[id];
    if folio.anon
        && folio.swapbacked
        && folio.swap.is_none()
        && !swap_out_or_split(k, id, folio_list)
    {
        return Label::ActivateLocked;
    }
    if k.folios[id].mapcount > 0 {
        try_to_unmap(k, id);
        if k.folios[id].mapcount > 0 {
            return Label::ActivateLocked;
        }
    }
    if k.folios[id].dirty
        && let Some(label) = write_dirty_folio(k, id, references, stat)
    {
        return label;
    }
    let folio = &k.folios[id];
    if folio.anon && !folio.swapbacked {
        // folio_ref_freeze(folio, 1)
        if folio.refcount != 1 {
            return Label::KeepLocked;
        }
    } else if !__remove_mapping(k, id, memcg) {
        return Label::KeepLocked;
    }
    Label::FreeIt
}

/// What `shrink_folio_list()` does to get a folio into the swap cache: one of which
/// some pages are unmapped is split before. False where it cannot be done.
fn swap_out_or_split(k: &mut Kernel<'_>, id: FolioId, folio_list: &mut Vec<FolioId>) -> bool {
    if let Some(large) = &k.folios[id].large {
        let partially_mapped = large.partially_mapped && k.deferred_split_queue.contains(&id);
        if !can_split_folio(k, id, 1) {
            return false;
        }
        if partially_mapped && !split_huge_page_to_list_to_order(k, id, Some(folio_list)) {
            return false;
        }
    }
    if add_to_swap(k, id) {
        return true;
    }
    // Fallback to swap normal pages
    k.folios[id].large.is_some()
        && split_huge_page_to_list_to_order(k, id, Some(folio_list))
        && add_to_swap(k, id)
}

/// What `shrink_folio_list()` does with a folio that is dirty once it is
/// unmapped; None where it may now be freed.
fn write_dirty_folio(
    k: &mut Kernel<'_>,
    id: FolioId,
    references: FolioReferences,
    stat: &mut ReclaimStat,
) -> Option<Label> {
    // Only kswapd writes for the file LRU.
    if folio_is_file_lru(k, id) {
        return Some(Label::ActivateLocked);
    }
    if references == FolioReferences::ReclaimClean {
        return Some(Label::KeepLocked);
    }
    try_to_unmap_flush_dirty(k);
    match pageout(k, id) {
        Pageout::Keep => Some(Label::KeepLocked),
        Pageout::Activate => Some(Label::ActivateLocked),
        Pageout::Success => {
            let nr_pages = k.folios[id].nr_pages();
            stat.nr_pageout += nr_pages;
            // NR_VMSCAN_WRITE, of pageout()
            folio_lruvec(k, id).events[0].io += nr_pages;
            // swap_writepage() dirties what it took out of the swap cache.
            k.folios[id].dirty.then_some(Label::KeepLocked)
        }
    }
}

/// `shrink_folio_list()`. `folio_list` is in the order in which folios leave
/// the kernel's list (from its tail); so is the list of kept ones that is
/// answered with the number of reclaimed ones.
fn shrink_folio_list(
    k: &mut Kernel<'_>,
    folio_list: Vec<FolioId>,
    memcg: bool,
    stat: &mut ReclaimStat,
    ignore_references: bool,
) -> (u64, Vec<FolioId>) {
    let mut free_folios: Vec<FolioId> = Vec::with_capacity(PAGEVEC_SIZE);
    let mut ret_folios = Vec::new();
    let mut nr_reclaimed = 0;
    let mut folio_list = folio_list;
    // From its end: the pages of a huge page that is split go there.
    folio_list.reverse();
    while let Some(id) = folio_list.pop() {
        match shrink_folio(k, id, memcg, stat, ignore_references, &mut folio_list) {
            Label::FreeIt => {
                nr_reclaimed += k.folios[id].nr_pages();
                free_folios.push(id);
                if free_folios.len() == PAGEVEC_SIZE {
                    try_to_unmap_flush(k);
                    free_unref_folios(k, &mut free_folios);
                }
                continue;
            }
            Label::ActivateLocked => activate_locked(k, id),
            Label::KeepLocked => {}
        }
        ret_folios.push(id);
    }
    try_to_unmap_flush(k);
    free_unref_folios(k, &mut free_folios);
    (nr_reclaimed, ret_folios)
}

/// The label `activate_locked` of `shrink_folio_list()`.
fn activate_locked(k: &mut Kernel<'_>, id: FolioId) {
    if k.folios[id].swap.is_some() && (vm_swap_full(k) || k.folios[id].mlocked) {
        folio_free_swap(k, id);
    }
    if !k.folios[id].mlocked {
        k.folios[id].active = true;
    }
}

/// `free_unref_folios()` (`mm/page_alloc.c`)
fn free_unref_folios(k: &mut Kernel<'_>, folios: &mut Vec<FolioId>) {
    for id in folios.drain(..) {
        folio_put(k, id);
    }
}

/// `reclaim_pages()` with `reclaim_folio_list()`: MADV_PAGEOUT's isolated
/// folios, in the order of their isolation.
pub fn reclaim_pages(k: &mut Kernel<'_>, folio_list: Vec<FolioId>) -> u64 {
    for &id in &folio_list {
        k.folios[id].active = false;
    }
    let mut stat = ReclaimStat::default();
    let (nr_reclaimed, kept) = shrink_folio_list(k, folio_list, false, &mut stat, true);
    for id in kept {
        folio_putback_lru(k, id);
    }
    nr_reclaimed
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
