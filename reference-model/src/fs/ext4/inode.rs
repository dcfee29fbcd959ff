// SPDX-License-Identifier: GPL-2.0-only
//! `fs/ext4/inode.c`: files on a disk get shorter, get holes, and are written back. Blocks are
//! as large as pages.

use crate::errno;
use crate::mm::page_writeback::folio_clear_dirty_for_io;
use crate::mm::shmem::huge::entries;
use crate::mm::swap::folio_rotate_reclaimable;
use crate::mm::truncate::{truncate_pagecache, truncate_pagecache_range};
use crate::mm_types::{CacheEntry, Content, FileId, FolioId};
use crate::state::Kernel;

/// `ext4_setattr()` of a file's size, in pages.
///
/// # Errors
/// EINVAL where there is no such file.
pub fn ext4_setattr(k: &mut Kernel<'_>, file: FileId, new: u64) -> Result<(), i32> {
    let inode = k.files.get_mut(file).ok_or(errno::EINVAL)?;
    // i_size_write(); pagecache_isize_extended() has nothing to do with such blocks.
    inode.pages = new;
    inode.zero_blocks(new, u64::MAX);
    truncate_pagecache(k, file, new);
    Ok(())
}

/// `ext4_punch_hole()`, of whole pages `[first, end)`.
///
/// # Errors
/// EINVAL where there is no such file.
pub fn ext4_punch_hole(k: &mut Kernel<'_>, file: FileId, first: u64, end: u64) -> Result<(), i32> {
    let pages = k.files.get(file).ok_or(errno::EINVAL)?.pages;
    if first < pages {
        // ext4_truncate_page_cache_block_range()
        truncate_pagecache_range(k, file, first, end.min(pages));
        k.files[file].zero_blocks(first, end);
    }
    Ok(())
}

/// `ext4_do_writepages()` with `mpage_prepare_extent_to_map()`: dirty folios of a range of
/// pages in ascending order.
pub fn ext4_do_writepages(k: &mut Kernel<'_>, file: FileId, first: u64, end: u64) {
    let (mut written, mut ended) = (Vec::new(), Vec::new());
    for id in dirty_folios(k, file, first, end) {
        // mpage_submit_folio()
        folio_clear_dirty_for_io(k, id);
        written.extend(held(k, file, id));
        k.folios[id].set_dirty(false);
        ended.push(id);
    }
    let blocks = k.files.get(file).map(|inode| &inode.blocks);
    let new = |(at, _): &(u64, Content)| blocks.is_some_and(|blocks| !blocks.contains_key(at));
    let anew = written.iter().any(new);
    for id in ended {
        folio_end_writeback(k, id, anew);
    }
    if let Some(inode) = k.files.get_mut(file) {
        inode.write_blocks(written);
    }
}

/// `folio_end_writeback()` (`mm/filemap.c`), on the hart that has begun it; of blocks that are new
/// (`anew`) some worker does it, wherever it is.
fn folio_end_writeback(k: &mut Kernel<'_>, id: FolioId, anew: bool) {
    if std::mem::take(&mut k.folios[id].reclaim) {
        folio_rotate_reclaimable(k, id);
        if anew {
            k.unpredicted = Some("on which hart what is new on a disk has been written");
        }
    }
}

/// What each page of a folio holds that is to be written, up to the file's end.
fn held(k: &Kernel<'_>, file: FileId, id: FolioId) -> Vec<(u64, Content)> {
    let folio = &k.folios[id];
    let first = folio.mapping.map_or(0, |at| at.1);
    let end = k.files[file].pages.min(first + folio.nr_pages());
    let dirty = |nth: usize| folio.large.as_ref().is_none_or(|large| large.dirty[nth]);
    let pages = (first..end).zip(0..).filter(|(_, nth)| dirty(*nth));
    pages
        .map(|(index, nth)| (index, folio.nth_page_content(nth)))
        .collect()
}

/// The folios of a range that PAGECACHE_TAG_DIRTY is set for.
fn dirty_folios(k: &Kernel<'_>, file: FileId, first: u64, end: u64) -> Vec<FolioId> {
    if file >= k.files.len() {
        return Vec::new();
    }
    let folios = entries(k, file, first, end).into_iter();
    let folios = folios.filter_map(|(at, _)| match k.files[file].cache.get(&at) {
        Some(CacheEntry::Folio(id)) => Some(*id),
        _ => None,
    });
    folios.filter(|id| k.folios[*id].dirty).collect()
}
