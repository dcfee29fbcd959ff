// SPDX-License-Identifier: GPL-2.0-only
//! `mm/swapfile.c`: slots of the swap device, and who refers to them.
//!
//! The device is zram: SWP_SOLIDSTATE, so that slots are given out by clusters. Which
//! slot it is shows in whether a huge page finds a whole cluster.
//!
//! Absent: `reclaim_work`, which is queued when the last slot is taken, and frees slots
//! that only the swap cache refers to whenever a kworker gets the hart.

pub mod unuse;

use crate::mm::swap::folio_put;
use crate::mm::swap_slots::free_swap_slot;
use crate::mm::swap_state::{__delete_from_swap_cache, delete_from_swap_cache, folio_ref_sub};
use crate::mm_types::{ClusterList, FolioId, Swap, SwapCluster, SwapEntry, SwapSlot};
use crate::state::Kernel;
use std::collections::VecDeque;

/// Pages of the swap device: 256 MiB but for the header.
const TOTAL_SWAP_PAGES: u64 = (256 << 20) / 4096 - 1;

/// `SWAPFILE_CLUSTER`: slots of a cluster.
const SWAPFILE_CLUSTER: u32 = 512;

/// `PMD_ORDER` (`include/linux/pgtable.h`). There are folios of this order and of order 0.
pub const PMD_ORDER: u32 = 9;

/// `SWAP_NEXT_INVALID` (`include/linux/swap.h`), later `SWAP_ENTRY_INVALID`: no next slot is
/// known. It is the header's.
const SWAP_ENTRY_INVALID: SwapEntry = 0;

/// `SWAP_MAP_SHMEM` (`include/linux/swap.h`): the reference of a shmem page cache.
const SWAP_MAP_SHMEM: u32 = 0xbf;

/// `get_nr_swap_pages()` (`include/linux/swap.h`)
pub fn get_nr_swap_pages(k: &Kernel<'_>) -> u64 {
    if !k.swap.on {
        return 0;
    }
    k.swap.nr_swap_pages
}

/// `total_swap_pages`
pub fn total_swap_pages(k: &Kernel<'_>) -> u64 {
    if k.swap.on { TOTAL_SWAP_PAGES } else { 0 }
}

/// `vm_swap_full()` (`include/linux/swap.h`) and `mem_cgroup_swap_full()` (`mm/memcontrol.c`),
/// which adds nothing: no cgroup here has a swap limit.
pub fn vm_swap_full(k: &Kernel<'_>) -> bool {
    get_nr_swap_pages(k) * 2 < total_swap_pages(k)
}

/// `swapon()`, down to `setup_clusters()`: the first slot is the header's. In which order
/// 6.12 puts free clusters on their list depends on the size of a cache line; they are all
/// the same, so that it shows nowhere.
pub fn swapon(swap: &mut Swap) {
    let slots = TOTAL_SWAP_PAGES as usize + 1;
    swap.taken = vec![false; slots];
    swap.nr_swap_pages = TOTAL_SWAP_PAGES;
    let free = SwapCluster {
        count: 0,
        order: 0,
        list: ClusterList::Free,
    };
    swap.clusters = vec![free; slots / SWAPFILE_CLUSTER as usize];
    swap.taken[0] = true;
    swap.clusters[0].count = 1;
    swap.clusters[0].list = ClusterList::Nonfull(0);
    for (index, cluster) in swap.clusters.iter().enumerate() {
        swap.lists.entry(cluster.list).or_default().push_back(index);
    }
}

/// The cluster that a slot is in.
fn cluster_of(entry: SwapEntry) -> usize {
    (entry / SWAPFILE_CLUSTER) as usize
}

/// `move_cluster()`, of later kernels: puts a cluster at the end of a list, wherever it was.
fn move_cluster(k: &mut Kernel<'_>, ci: usize, list: ClusterList) {
    let swap = &mut k.swap;
    let before = std::mem::replace(&mut swap.clusters[ci].list, list);
    if let Some(before) = swap.lists.get_mut(&before) {
        before.retain(|cluster| *cluster != ci);
    }
    if list != ClusterList::None {
        swap.lists.entry(list).or_default().push_back(ci);
    }
}

/// The first cluster on a list.
fn first_on(k: &Kernel<'_>, list: ClusterList) -> Option<usize> {
    k.swap.lists.get(&list)?.front().copied()
}

/// How many clusters are on a list.
fn length_of(k: &Kernel<'_>, list: ClusterList) -> usize {
    k.swap.lists.get(&list).map_or(0, VecDeque::len)
}

/// `__free_cluster()`. Nothing is discarded (SWP_PAGE_DISCARD): swapon() was not asked to.
fn free_cluster(k: &mut Kernel<'_>, ci: usize) {
    move_cluster(k, ci, ClusterList::Free);
    k.swap.clusters[ci].order = 0;
}

/// `swap_entry_range_free()` and `dec_cluster_info_page()`; later
/// `__swap_cluster_free_entries()`: slots that nobody uses can be taken again.
pub fn swap_entry_range_free(k: &mut Kernel<'_>, entry: SwapEntry, nr_pages: u32) {
    for slot in entry..entry + nr_pages {
        k.swap.taken[slot as usize] = false;
    }
    let ci = cluster_of(entry);
    let cluster = &mut k.swap.clusters[ci];
    cluster.count -= nr_pages;
    let cluster = *cluster;
    if cluster.count == 0 {
        free_cluster(k, ci);
    } else if !matches!(cluster.list, ClusterList::Nonfull(_)) {
        // partial_free_cluster()
        move_cluster(k, ci, ClusterList::Nonfull(cluster.order));
    }
    k.swap.nr_swap_pages += u64::from(nr_pages);
}

/// `cluster_scan_range()`, and `cluster_reclaim_range()` where swap is full: whether all
/// slots can be had.
fn cluster_scan_range(k: &mut Kernel<'_>, start: SwapEntry, nr_pages: u32) -> bool {
    let taken = |k: &Kernel<'_>, slot: SwapEntry| k.swap.taken[slot as usize];
    let mut need_reclaim = false;
    for slot in start..start + nr_pages {
        if !taken(k, slot) {
            continue;
        }
        // Not those in use, nor those in a hart's cache, which hold no folio.
        let only_cached = |slot: &SwapSlot| slot.count == 0 && slot.cache.is_some();
        if !k.swap.slots.get(&slot).is_some_and(only_cached) || !vm_swap_full(k) {
            return false;
        }
        need_reclaim = true;
    }
    if need_reclaim {
        for slot in start..start + nr_pages {
            if taken(k, slot) && !reclaim_swap_anyway(k, slot) {
                break;
            }
        }
    }
    (start..start + nr_pages).all(|slot| !taken(k, slot))
}

/// `__try_to_reclaim_swap()` with TTRS_ANYWAY, and not by way of a hart's cache
/// (TTRS_DIRECT).
fn reclaim_swap_anyway(k: &mut Kernel<'_>, slot: SwapEntry) -> bool {
    let Some(id) = k.swap.slots.get(&slot).and_then(|slot| slot.cache) else {
        return false;
    };
    let Some(entry) = k.folios[id].swap else {
        return false;
    };
    let nr_pages = k.folios[id].nr_pages() as u32;
    if (entry..entry + nr_pages).any(|entry| swap_count(k, entry) != 0) {
        return false;
    }
    k.folio_get(id);
    __delete_from_swap_cache(k, id, None);
    for entry in entry..entry + nr_pages {
        k.swap.slots.remove(&entry);
    }
    swap_entry_range_free(k, entry, nr_pages);
    folio_ref_sub(k, id, nr_pages);
    k.folios[id].dirty = true;
    folio_put(k, id);
    true
}

/// `alloc_swap_scan_cluster()`: slots of a cluster from one on, and where this hart looks
/// for the next.
fn alloc_swap_scan_cluster(
    k: &mut Kernel<'_>,
    mut offset: SwapEntry,
    order: u32,
) -> Option<SwapEntry> {
    let ci = cluster_of(offset);
    let nr_pages = 1 << order;
    let end = (ci as u32 + 1) * SWAPFILE_CLUSTER - nr_pages;
    let (mut found, mut next) = (None, SWAP_ENTRY_INVALID);
    if k.swap.clusters[ci].count + nr_pages <= SWAPFILE_CLUSTER {
        while offset <= end {
            if cluster_scan_range(k, offset, nr_pages) {
                // What was reclaimed may have been the last of the cluster: it has no
                // table then (cluster_is_usable()).
                let freed = k.swap.clusters[ci].list == ClusterList::Free;
                if freed && k.profile.isolates_swap_clusters {
                    break;
                }
                cluster_alloc_range(k, ci, offset, order);
                found = Some(offset);
                offset += nr_pages;
                if k.swap.clusters[ci].count < SWAPFILE_CLUSTER && offset <= end {
                    next = offset;
                }
                break;
            }
            offset += nr_pages;
        }
    }
    if k.profile.isolates_swap_clusters {
        relocate_cluster(k, ci);
    }
    k.swap.next.insert((k.hart(), order), next);
    found
}

/// `cluster_alloc_range()`, later `__swap_cluster_alloc_entries()`
fn cluster_alloc_range(k: &mut Kernel<'_>, ci: usize, start: SwapEntry, order: u32) {
    let nr_pages = 1 << order;
    let empty = k.swap.clusters[ci].count == 0;
    if empty {
        k.swap.clusters[ci].order = order;
    }
    k.swap.clusters[ci].count += nr_pages;
    for slot in start..start + nr_pages {
        k.swap.taken[slot as usize] = true;
    }
    if k.profile.isolates_swap_clusters {
        k.swap.nr_swap_pages -= u64::from(nr_pages);
        return;
    }
    if empty && nr_pages < SWAPFILE_CLUSTER {
        move_cluster(k, ci, ClusterList::Nonfull(order));
    }
    if k.swap.clusters[ci].count == SWAPFILE_CLUSTER {
        move_cluster(k, ci, ClusterList::Full);
    }
}

/// `relocate_cluster()`: after each look at a cluster it goes where it belongs.
fn relocate_cluster(k: &mut Kernel<'_>, ci: usize) {
    let SwapCluster { count, order, list } = k.swap.clusters[ci];
    if count == 0 {
        if list != ClusterList::Free {
            free_cluster(k, ci);
        }
    } else if count != SWAPFILE_CLUSTER {
        if !matches!(list, ClusterList::Frag(_)) {
            move_cluster(k, ci, ClusterList::Frag(order));
        }
    } else if list != ClusterList::Full {
        move_cluster(k, ci, ClusterList::Full);
    }
}

/// `alloc_swap_scan_list()`
fn alloc_swap_scan_list(
    k: &mut Kernel<'_>,
    list: ClusterList,
    order: u32,
    scan_all: bool,
) -> Option<SwapEntry> {
    let looks = if scan_all { length_of(k, list) } else { 1 };
    for _ in 0..looks {
        // isolate_lock_cluster()
        let ci = first_on(k, list)?;
        move_cluster(k, ci, ClusterList::None);
        let found = alloc_swap_scan_cluster(k, ci as u32 * SWAPFILE_CLUSTER, order);
        if found.is_some() {
            return found;
        }
    }
    None
}

/// `swap_reclaim_full_clusters()`, of one cluster: takes from the swap cache what nobody
/// else refers to.
fn swap_reclaim_full_clusters(k: &mut Kernel<'_>) {
    let Some(ci) = first_on(k, ClusterList::Full) else {
        return;
    };
    let isolated = k.profile.isolates_swap_clusters;
    let meanwhile = if isolated {
        ClusterList::None
    } else {
        ClusterList::Full
    };
    move_cluster(k, ci, meanwhile);
    let start = ci as u32 * SWAPFILE_CLUSTER;
    for slot in start..start + SWAPFILE_CLUSTER {
        let count = k.swap.slots.get(&slot).map(|slot| slot.count);
        if count == Some(0) {
            reclaim_swap_anyway(k, slot);
        }
    }
    if k.swap.clusters[ci].list == ClusterList::None {
        relocate_cluster(k, ci);
    }
}

/// `cluster_alloc_swap_entry()`
fn cluster_alloc_swap_entry(k: &mut Kernel<'_>, order: u32) -> Option<SwapEntry> {
    let offset = k.swap.next.get(&(k.hart(), order)).copied();
    let offset = offset.filter(|offset| *offset != SWAP_ENTRY_INVALID);
    if let Some(offset) = offset
        && let Some(found) = alloc_swap_scan_cluster(k, offset, order)
    {
        return Some(found);
    }
    if let Some(ci) = first_on(k, ClusterList::Free) {
        return alloc_swap_scan_cluster(k, ci as u32 * SWAPFILE_CLUSTER, order);
    }
    if vm_swap_full(k) {
        swap_reclaim_full_clusters(k);
    }
    if order == PMD_ORDER {
        return None;
    }
    // Each cluster that was looked at is on the list of fragments.
    let mut frags = 0;
    while let Some(ci) = first_on(k, ClusterList::Nonfull(order)) {
        move_cluster(k, ci, ClusterList::Frag(order));
        frags += 1;
        let found = alloc_swap_scan_cluster(k, ci as u32 * SWAPFILE_CLUSTER, order);
        if found.is_some() {
            return found;
        }
    }
    while frags < length_of(k, ClusterList::Frag(order)) {
        let ci = first_on(k, ClusterList::Frag(order))?;
        move_cluster(k, ci, ClusterList::Frag(order));
        frags += 1;
        let found = alloc_swap_scan_cluster(k, ci as u32 * SWAPFILE_CLUSTER, order);
        if found.is_some() {
            return found;
        }
    }
    if order != 0 {
        return None;
    }
    // Order 0 stealing from higher order
    for list in stolen_from() {
        if let Some(ci) = first_on(k, list) {
            return alloc_swap_scan_cluster(k, ci as u32 * SWAPFILE_CLUSTER, order);
        }
    }
    None
}

/// `swap_alloc_fast()`, and `swap_alloc_slow()` down to the later
/// `cluster_alloc_swap_entry()`
pub fn swap_alloc(k: &mut Kernel<'_>, order: u32) -> Option<SwapEntry> {
    let offset = k.swap.next.get(&(k.hart(), order)).copied();
    if let Some(offset) = offset.filter(|offset| *offset != SWAP_ENTRY_INVALID) {
        let cluster = k.swap.clusters[cluster_of(offset)];
        // cluster_is_usable(): one on the list of free clusters has no table.
        let listed = !matches!(cluster.list, ClusterList::Full | ClusterList::Free);
        if listed
            && (order == 0 || cluster.order == order)
            && let Some(found) = alloc_swap_scan_cluster(k, offset, order)
        {
            return Some(found);
        }
    }
    let small = order == 0;
    let listed = order < PMD_ORDER;
    if listed && let Some(found) = alloc_swap_scan_list(k, ClusterList::Nonfull(order), order, true)
    {
        return Some(found);
    }
    if let Some(found) = alloc_swap_scan_list(k, ClusterList::Free, order, false) {
        return Some(found);
    }
    if vm_swap_full(k) {
        swap_reclaim_full_clusters(k);
    }
    if listed && let Some(found) = alloc_swap_scan_list(k, ClusterList::Frag(order), order, false) {
        return Some(found);
    }
    if !small {
        return None;
    }
    // Order 0 stealing from higher order
    stolen_from().find_map(|list| alloc_swap_scan_list(k, list, order, true))
}

/// The lists of clusters from which a small page takes a slot where it has none else.
fn stolen_from() -> impl Iterator<Item = ClusterList> {
    (1..=PMD_ORDER).flat_map(|order| [ClusterList::Frag(order), ClusterList::Nonfull(order)])
}

/// `get_swap_pages()` of so many slots of one page, or of one huge page. They are taken
/// off the number of free ones before they are looked for.
pub fn get_swap_pages(k: &mut Kernel<'_>, goal: u64, order: u32) -> Vec<SwapEntry> {
    let goal = goal.min(k.swap.nr_swap_pages >> order);
    k.swap.nr_swap_pages -= goal << order;
    let mut entries = Vec::new();
    for _ in 0..goal {
        entries.extend(cluster_alloc_swap_entry(k, order));
    }
    k.swap.nr_swap_pages += (goal - entries.len() as u64) << order;
    entries
}

/// `__swap_count()`, `swap_swapcount()`
pub fn swap_count(k: &Kernel<'_>, entry: SwapEntry) -> u32 {
    k.swap.slots.get(&entry).map_or(0, |slot| slot.count)
}

/// `swap_duplicate()`: one more page table refers to the slot. None where the
/// slot is not in use.
pub fn swap_duplicate(k: &mut Kernel<'_>, entry: SwapEntry) -> Option<()> {
    k.swap.slots.get_mut(&entry)?.count += 1;
    Some(())
}

/// `swap_shmem_alloc()`
pub fn swap_shmem_alloc(k: &mut Kernel<'_>, entry: SwapEntry) {
    if let Some(slot) = k.swap.slots.get_mut(&entry) {
        slot.count = SWAP_MAP_SHMEM;
    }
}

/// Gives a slot back that nobody refers to any more.
fn free_swap_slot_if_unused(k: &mut Kernel<'_>, entry: SwapEntry) {
    let unused = |slot: &SwapSlot| slot.count == 0 && slot.cache.is_none();
    if k.swap.slots.get(&entry).is_some_and(unused) {
        k.swap.slots.remove(&entry);
        free_swap_slot(k, entry);
    }
}

/// `swap_free_nr()`, later `folio_put_swap()`
pub fn swap_free_nr(k: &mut Kernel<'_>, entry: SwapEntry, nr: u32) {
    for entry in entry..entry + nr {
        swap_free(k, entry);
    }
}

/// The same of one slot, while the caller holds SWAP_HAS_CACHE or not.
pub fn swap_free(k: &mut Kernel<'_>, entry: SwapEntry) {
    if let Some(slot) = k.swap.slots.get_mut(&entry) {
        slot.count = match slot.count {
            SWAP_MAP_SHMEM => 0,
            count => count.saturating_sub(1),
        };
    }
    free_swap_slot_if_unused(k, entry);
}

/// `put_swap_folio()`: the swap cache no longer refers to the slots.
pub fn put_swap_folio(k: &mut Kernel<'_>, entry: SwapEntry, nr_pages: u32) {
    let entries = entry..entry + nr_pages;
    // A huge page's go at once where nobody refers to any (swap_is_has_cache()).
    if nr_pages > 1 && entries.clone().all(|entry| swap_count(k, entry) == 0) {
        for entry in entries {
            k.swap.slots.remove(&entry);
        }
        swap_entry_range_free(k, entry, nr_pages);
        return;
    }
    for entry in entries {
        if let Some(slot) = k.swap.slots.get_mut(&entry) {
            slot.cache = None;
        }
        free_swap_slot_if_unused(k, entry);
    }
}

/// `folio_free_swap()`: gives the slot of a folio in the swap cache back, if
/// no page table and no shmem file refers to it. The caller has a reference.
pub fn folio_free_swap(k: &mut Kernel<'_>, id: FolioId) -> bool {
    let Some(entry) = k.folios[id].swap else {
        return false;
    };
    // folio_swapped()
    let nr_pages = k.folios[id].nr_pages() as u32;
    if (entry..entry + nr_pages).any(|entry| swap_count(k, entry) != 0) {
        return false;
    }
    delete_from_swap_cache(k, id);
    k.folios[id].dirty = true;
    true
}

/// `free_swap_and_cache_nr()`, later `swap_put_entries_direct()`: a page table's or a
/// shmem file's references are dropped, and with the last one an unmapped folio in the
/// swap cache.
pub fn free_swap_and_cache_nr(k: &mut Kernel<'_>, entry: SwapEntry, nr: u32) {
    if !__swap_entries_free(k, entry, nr) {
        for entry in entry..entry + nr {
            swap_free(k, entry);
        }
    }
    for entry in entry..entry + nr {
        let slot = k.swap.slots.get(&entry);
        if let Some((0, Some(id))) = slot.map(|slot| (slot.count, slot.cache)) {
            try_to_reclaim_swap(k, id);
        }
    }
}

/// `__swap_entries_free()`, where all slots have one reference, this, and are in no swap
/// cache: they go at once, by no hart's cache. False where not.
fn __swap_entries_free(k: &mut Kernel<'_>, entry: SwapEntry, nr: u32) -> bool {
    // Across two clusters each goes by itself, as it does later within its own.
    if nr <= 1 || nr > SWAPFILE_CLUSTER - entry % SWAPFILE_CLUSTER {
        return false;
    }
    // swap_is_last_map()
    // A file's own reference counts as one once there is no SWAP_MAP_SHMEM any more.
    let one = |count| count == 1 || count == SWAP_MAP_SHMEM && !k.profile.swap_slots_cache;
    let last = |slot: &SwapSlot| one(slot.count) && slot.cache.is_none();
    let mut entries = entry..entry + nr;
    if !entries.all(|entry| k.swap.slots.get(&entry).is_some_and(last)) {
        return false;
    }
    for entry in entry..entry + nr {
        k.swap.slots.remove(&entry);
    }
    swap_entry_range_free(k, entry, nr);
    true
}

/// `__try_to_reclaim_swap()` with `TTRS_UNMAPPED | TTRS_FULL`
fn try_to_reclaim_swap(k: &mut Kernel<'_>, id: FolioId) {
    if k.folios[id].mapcount != 0 && !vm_swap_full(k) {
        return;
    }
    k.folio_get(id);
    folio_free_swap(k, id);
    folio_put(k, id);
}
