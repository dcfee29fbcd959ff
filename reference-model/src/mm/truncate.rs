// SPDX-License-Identifier: GPL-2.0-only
//! `mm/truncate.c`: the page cache of files on a disk loses pages.

use crate::mm::filemap::folio_lock;
use crate::mm::memory::zap::{ZapDetails, unmap_mapping_range};
use crate::mm::shmem::huge::entries;
use crate::mm::swap;
use crate::mm::swap::{PAGEVEC_SIZE, deactivate_file_folio};
use crate::mm_types::{CacheEntry, FileId, FolioId};
use crate::state::Kernel;

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
    let range = inode.cache.range(first..end.max(first));
    let indices: Vec<u64> = range.map(|(&index, _)| index).collect();
    for index in &indices {
        if let Some(CacheEntry::Folio(id)) = k.files[file].cache.remove(index) {
            k.folios[id].mapping = None;
            k.folios[id].dirty = false;
            swap::folio_put(k, id);
        }
    }
    // folio_batch_release(), which does nothing with an empty batch.
    if !indices.is_empty() {
        swap::lru_add_drain(k);
    }
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
        let batch: Vec<u64> = entries(k, file, index, u64::MAX)
            .into_iter()
            .take(PAGEVEC_SIZE)
            .map(|(first, _)| first)
            .collect();
        let Some(&last) = batch.last() else { return };
        let mut evicted = Vec::new();
        let mut any = false;
        for first in batch {
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
        index = last + 1;
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
/// maps it any more but private copies, and it leaves the page cache.
pub fn invalidate_inode_pages2_range(k: &mut Kernel<'_>, file: FileId, index: u64) {
    let Some(&CacheEntry::Folio(id)) = k.files[file].cache.get(&index) else {
        return;
    };
    let spared = ZapDetails {
        even_cows: false,
        ..ZapDetails::PAGES
    };
    folio_lock(k, file, index);
    if k.folios[id].mapcount > 0 {
        unmap_mapping_range(k, file, index, index + 1, spared);
    }
    if k.folios[id].large.is_some() {
        k.unpredicted = Some("O_DIRECT where there are large folios");
        return;
    }
    if k.folios[id].dirty {
        // invalidate_complete_folio2(), and who calls writes by way of the page cache.
        k.unpredicted = Some("O_DIRECT over a page that was dirtied meanwhile");
        return;
    }
    k.files[file].uncache(index, 1);
    k.folios[id].mapping = None;
    // folio_batch_release()
    swap::lru_add_drain(k);
    swap::folio_put(k, id);
}
