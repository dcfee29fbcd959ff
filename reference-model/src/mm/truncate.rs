// SPDX-License-Identifier: GPL-2.0-only
//! `mm/truncate.c`: the page cache of files on a disk loses pages.

use crate::mm::filemap::folio_lock;
use crate::mm::huge_memory::split_file::folio_split;
use crate::mm::memory::zap::{ZapDetails, unmap_mapping_range};
use crate::mm::rmap::{TTU_IGNORE_MLOCK, try_to_unmap_with};
use crate::mm::shmem::huge::{entries, truncate_entry};
use crate::mm::shmem::shmem_undo_range;
use crate::mm::swap;
use crate::mm::swap::{PAGEVEC_SIZE, deactivate_file_folio};
use crate::mm_types::{CacheEntry, Content, FileId, FolioId};
use crate::state::Kernel;
use operations::Storage;

/// `truncate_pagecache()`, of whole pages. The second look is for private copies that were made
/// in between.
pub fn truncate_pagecache(k: &mut Kernel<'_>, file: FileId, new: u64) {
    unmap_mapping_range(k, file, new, u64::MAX, ZapDetails::PAGES);
    truncate_inode_pages_range(k, file, new, u64::MAX);
    unmap_mapping_range(k, file, new, u64::MAX, ZapDetails::PAGES);
}

/// `truncate_pagecache_range()`, of whole pages `[first, end)`: private copies stay.
pub fn truncate_pagecache_range(k: &mut Kernel<'_>, file: FileId, first: u64, end: u64) {
    let spared = ZapDetails {
        even_cows: false,
        ..ZapDetails::PAGES
    };
    if first < end {
        unmap_mapping_range(k, file, first, end, spared);
        truncate_inode_pages_range(k, file, first, end);
    }
}

/// `truncate_inode_pages_range()`
pub fn truncate_inode_pages_range(k: &mut Kernel<'_>, file: FileId, first: u64, end: u64) {
    let Some(inode) = k.files.get_mut(file) else {
        return;
    };
    inode.in_flight.retain(|at, _| !(first..end).contains(at));
    inode.shadows.retain(|at, _| !(first..end).contains(at));
    // Its loops are those of shared memory.
    shmem_undo_range(k, file, first, end);
}

/// `truncate_inode_partial_folio()`: what of the folio at `at` is in the range becomes zeroes, and
/// the folio is split where the range begins and where it ends.
pub fn truncate_inode_partial_folio(
    k: &mut Kernel<'_>,
    (file, id): (FileId, FolioId),
    (at, nr_pages): (u64, u64),
    (first, end): (u64, u64),
) {
    let from = (first.max(at) - at) as usize;
    let to = (end.min(at + nr_pages) - at) as usize;
    folio_lock(k, file, at);
    let storage = k.storage(Some(file));
    k.folios[id].dirty |= storage == Storage::Memory;
    if let Some(large) = &mut k.folios[id].large {
        large.contents[from..to].fill(Content::ZEROES);
        if storage == Storage::Ext4 {
            // Its buffers are given up, of xfs nothing is.
            large.dirty[from..to].fill(false);
        }
    }
    if !folio_split_or_unmap(k, id, from) {
        if storage == Storage::Memory {
            k.unpredicted = Some("a large page of shared memory that cannot be split");
        } else if !k.folios[id].dirty {
            truncate_entry(k, file, (at, nr_pages));
        }
        return;
    }
    if !k.profile.splits_files_by_halves || to == nr_pages as usize {
        return;
    }
    let behind = at + to as u64;
    if let Some(&CacheEntry::Folio(second)) = k.files[file].cache.get(&behind)
        && k.folios[second].large.is_some()
    {
        let start = k.folios[second].mapping.map_or(behind, |at| at.1);
        folio_split_or_unmap(k, second, (behind - start) as usize);
    }
}

/// `folio_split_or_unmap()`, before `try_folio_split_or_unmap()`: false where it is not split; what
/// is of a disk nobody maps then.
fn folio_split_or_unmap(k: &mut Kernel<'_>, id: FolioId, split_at: usize) -> bool {
    let of_disk = k.storage(k.folios[id].mapping.map(|at| at.0)) != Storage::Memory;
    k.folio_get(id);
    let split = folio_split(k, id, split_at);
    if !split && of_disk {
        try_to_unmap_with(k, id, TTU_IGNORE_MLOCK);
    }
    swap::folio_put(k, id);
    split
}

/// `mapping_try_invalidate()` of a whole file: clean pages that nobody has mapped leave the page
/// cache, others are to be reclaimed soon.
pub fn mapping_try_invalidate(k: &mut Kernel<'_>, file: FileId) {
    if !k.files[file].in_flight.is_empty() {
        // find_lock_entries() does not wait.
        k.unpredicted = Some("which pages have come from the disk already");
        return;
    }
    // clear_shadow_entries()
    k.files[file].shadows.clear();
    let mut index = 0;
    loop {
        // find_lock_entries()
        let batch: Vec<(u64, u64)> = entries(k, file, index, u64::MAX)
            .into_iter()
            .take(PAGEVEC_SIZE)
            .collect();
        let Some(last) = batch.last().map(|at| at.0 + at.1) else {
            return;
        };
        let mut evicted = Vec::new();
        let mut any = false;
        for (first, _) in batch {
            let Some(&CacheEntry::Folio(id)) = k.files[file].cache.get(&first) else {
                continue;
            };
            any = true;
            match mapping_evict_folio(k, file, id) {
                true => evicted.push(id),
                false => deactivate_file_folio(k, id),
            }
        }
        // folio_batch_release()
        if any {
            swap::lru_add_drain(k);
        }
        for id in evicted {
            swap::folio_put(k, id);
        }
        index = last;
    }
}

/// `mapping_evict_folio()`: whether it has left the page cache; the last reference is the
/// caller's then.
fn mapping_evict_folio(k: &mut Kernel<'_>, file: FileId, id: FolioId) -> bool {
    let folio = &k.folios[id];
    let nr_pages = folio.nr_pages();
    if folio.dirty || u64::from(folio.refcount) > nr_pages {
        return false;
    }
    // remove_mapping()
    if let Some((_, first)) = k.folios[id].mapping.take() {
        k.files[file].uncache(first, nr_pages);
    }
    k.folios[id].refcount -= nr_pages as u32 - 1;
    true
}

/// `invalidate_inode_pages2_range()`, of one page that is to be read from the disk again: nobody
/// maps its folio any more but private copies, and it leaves the page cache.
pub fn invalidate_inode_pages2_range(k: &mut Kernel<'_>, file: FileId, index: u64) {
    let Some(&CacheEntry::Folio(id)) = k.files[file].cache.get(&index) else {
        return;
    };
    let spared = ZapDetails {
        even_cows: false,
        ..ZapDetails::PAGES
    };
    folio_lock(k, file, index);
    let nr_pages = k.folios[id].nr_pages();
    let first = k.folios[id].mapping.map_or(index, |at| at.1);
    if k.folios[id].mapcount > 0 {
        unmap_mapping_range(k, file, index, index + 1, spared);
    }
    if k.folios[id].mapcount > 0 {
        // unmap_mapping_folio()
        unmap_mapping_range(k, file, first, first + nr_pages, spared);
    }
    if k.folios[id].dirty {
        // invalidate_complete_folio2(), and who calls writes by way of the page cache.
        k.unpredicted = Some("O_DIRECT over a page that was dirtied meanwhile");
        return;
    }
    k.files[file].uncache(first, nr_pages);
    k.folios[id].mapping = None;
    k.folios[id].refcount -= nr_pages as u32 - 1;
    // folio_batch_release()
    swap::lru_add_drain(k);
    swap::folio_put(k, id);
}
