// SPDX-License-Identifier: GPL-2.0-only
//! `mm/truncate.c`: the page cache of files on a disk loses pages.

use crate::mm::memory::zap::{ZapDetails, unmap_mapping_range};
use crate::mm::swap;
use crate::mm_types::{CacheEntry, FileId};
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
fn truncate_inode_pages_range(k: &mut Kernel<'_>, file: FileId, first: u64, end: u64) {
    let Some(inode) = k.files.get_mut(file) else {
        return;
    };
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
