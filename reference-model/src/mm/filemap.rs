// SPDX-License-Identifier: GPL-2.0-only
//! `mm/filemap.c`: the page cache, faults in it, and its way to the disk.

use crate::api::PAGE_SIZE;
use crate::errno;
use crate::fs::ext4::inode::ext4_do_writepages;
use crate::mm::memory::fault::set_pte_range;
use crate::mm_types::{CacheEntry, FileId, FolioId, Pte, Vma};
use crate::state::Kernel;
use operations::Storage;
use std::ops::Range;

/// `filemap_map_pages()`
pub fn filemap_map_pages(
    k: &mut Kernel,
    vma: &Vma,
    address: u64,
    start_pgoff: u64,
    end_pgoff: u64,
) -> bool {
    let Some(file) = vma.file else { return false };
    let mut mapped = false;
    for (index, id) in cached_folios(k, file, start_pgoff, end_pgoff) {
        let addr = vma.start + (index - vma.pgoff) * PAGE_SIZE;
        if k.pte(addr) != Pte::None {
            continue;
        }
        if k.folios[id].reclaim {
            // next_uptodate_folio() passes over it: the bit is PG_readahead's, too.
            k.unpredicted = Some("pages that wait to be reclaimed");
            return false;
        }
        mapped |= addr == address;
        k.folio_get(id);
        set_pte_range(k, vma, id, addr, false);
    }
    mapped
}

/// Folios in the page cache within `[first, last]` and within the file.
fn cached_folios(k: &Kernel, file: FileId, first: u64, last: u64) -> Vec<(u64, FolioId)> {
    let Some(inode) = k.files.get(file) else {
        return Vec::new();
    };
    let end = last.saturating_add(1).min(inode.pages);
    if first >= end {
        return Vec::new();
    }
    let folio = |(&index, entry): (&u64, &CacheEntry)| match entry {
        CacheEntry::Folio(id) => Some((index, *id)),
        CacheEntry::Swap(_) => None,
    };
    inode.cache.range(first..end).filter_map(folio).collect()
}

/// `filemap_fault()`: the page with a reference, or none after the end of the file.
pub fn filemap_fault(k: &mut Kernel, file: FileId, index: u64) -> Option<FolioId> {
    let inode = k.files.get(file)?;
    if index >= inode.pages {
        return None;
    }
    let Some(CacheEntry::Folio(id)) = inode.cache.get(&index).copied() else {
        // page_cache_ra_unbounded()
        k.unpredicted = Some("pages that are read from a disk");
        return None;
    };
    k.folio_get(id);
    Some(id)
}

/// `filemap_write_and_wait_range()`, of pages `[first, end)`
pub fn filemap_write_and_wait_range(k: &mut Kernel, file: FileId, first: u64, end: u64) {
    match k.storage(Some(file)) {
        // mapping_can_writeback()
        Storage::Memory => {}
        // iomap_writepages() goes in the same order.
        Storage::Ext4 | Storage::Xfs => ext4_do_writepages(k, file, first, end),
    }
}

/// `generic_perform_write()`, a call for each page: what is in the page cache of a file on a
/// disk becomes dirty.
///
/// # Errors
/// EBADF where the file is not open for writing.
pub fn generic_perform_write(
    k: &mut Kernel,
    file: FileId,
    pages: Range<u64>,
    direct: bool,
) -> Result<(), i32> {
    let inode = k.files.get(file).ok_or(errno::EBADF)?;
    if direct {
        k.unpredicted = Some("O_DIRECT");
        return Ok(());
    }
    if inode.file.read_only && !pages.is_empty() {
        return Err(errno::EBADF);
    }
    let on_disk = k.storage(Some(file)) != Storage::Memory;
    for index in pages {
        let cached = k.files[file].cache.get(&index).copied();
        match cached.filter(|_| on_disk && index < k.files[file].pages) {
            Some(CacheEntry::Folio(id)) => k.folios[id].dirty = true,
            Some(CacheEntry::Swap(_)) | None => {
                k.unpredicted = Some("files that get pages by calls");
            }
        }
    }
    Ok(())
}
