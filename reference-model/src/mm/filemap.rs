// SPDX-License-Identifier: GPL-2.0-only
//! `mm/filemap.c`: the page cache, faults in it, and its way to the disk.

use crate::api::PAGE_SIZE;
use crate::errno;
use crate::fs::ext4::inode::ext4_do_writepages;
use crate::mm::huge_memory::do_set_pmd;
use crate::mm::memory::fault::{lies_as_a_whole, set_pte_range};
use crate::mm::swap;
use crate::mm::truncate::invalidate_inode_pages2_range;
use crate::mm_types::{CacheEntry, Content, FileId, FolioId, Pte, Vma, Written};
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
    let cached = cached_folios(k, file, start_pgoff, end_pgoff);
    if let Some(&(_, id)) = cached.first()
        && filemap_map_pmd(k, vma, address, id)
    {
        return true;
    }
    let mut mapped = false;
    for (start, end, id) in ranges_to_map(k, vma, &cached) {
        mapped |= map_none_ptes(k, vma, address, (start, end), id);
    }
    mapped
}

/// `filemap_map_pmd()`
fn filemap_map_pmd(k: &mut Kernel, vma: &Vma, address: u64, id: FolioId) -> bool {
    let none = k.mm.pgd.pmds(address, address + PAGE_SIZE).is_empty();
    if !none || !do_set_pmd(k, vma, address, id, false) {
        return false;
    }
    k.folio_get(id);
    true
}

/// Which addresses are looked at for each folio: all of a large one where
/// `filemap_map_folio_range()` says so.
fn ranges_to_map(k: &Kernel, vma: &Vma, cached: &[(u64, FolioId)]) -> Vec<(u64, u64, FolioId)> {
    let mut ranges: Vec<(u64, u64, FolioId)> = Vec::new();
    for &(index, id) in cached {
        let addr = vma.start + (index - vma.pgoff) * PAGE_SIZE;
        if let Some(last) = ranges.last_mut().filter(|last| last.2 == id) {
            last.1 = last.1.max(addr + PAGE_SIZE);
            continue;
        }
        let whole = lies_as_a_whole(k, vma, id, addr);
        let whole = whole.filter(|_| k.profile.maps_large_folios_of_files);
        let (start, end) = whole.unwrap_or((addr, addr + PAGE_SIZE));
        ranges.push((start, end, id));
    }
    ranges
}

/// The loop of `filemap_map_folio_range()`: maps what is none, as many pages in a row as there
/// are; whether the one that is asked for is among them.
fn map_none_ptes(
    k: &mut Kernel,
    vma: &Vma,
    address: u64,
    (start, end): (u64, u64),
    id: FolioId,
) -> bool {
    let mut mapped = false;
    let mut addr = start;
    while addr < end {
        let rest = (addr..end).step_by(PAGE_SIZE as usize);
        let none = rest.take_while(|addr| k.pte(*addr) == Pte::None).count() as u64;
        let none_end = addr + none * PAGE_SIZE;
        if none > 0 {
            k.folios[id].refcount += none as u32;
            set_pte_range(k, vma, id, (addr, none_end), false);
            mapped |= (addr..none_end).contains(&address);
        }
        addr = none_end + PAGE_SIZE;
    }
    mapped
}

/// `next_uptodate_folio()`: folios in the page cache within `[first, last]` and within the file,
/// but for those that wait to be reclaimed, for that bit is PG_readahead's, too.
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
    let ready = |&(_, id): &(u64, FolioId)| !k.folios[id].fallocated && !k.folios[id].reclaim;
    let folios = inode.cache.range(first..end).filter_map(folio);
    folios.filter(ready).collect()
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
    if k.folios[id].reclaim {
        // do_async_mmap_readahead() takes the bit for PG_readahead.
        k.unpredicted = Some("pages that wait to be reclaimed");
    }
    k.folio_get(id);
    Some(id)
}

/// `filemap_read()` of a page within the file. Pages are used where it does not go on in one.
pub fn filemap_read(k: &mut Kernel, file: FileId, index: u64) {
    let Some(CacheEntry::Folio(id)) = k.files[file].cache.get(&index).copied() else {
        // page_cache_sync_ra()
        k.unpredicted = Some("pages that are read from a disk");
        return;
    };
    if k.folios[id].reclaim {
        // filemap_readahead() takes the bit for PG_readahead.
        k.unpredicted = Some("pages that wait to be reclaimed");
    }
    // pos_same_folio()
    let first = k.folios[id].mapping.map_or(0, |at| at.1);
    let folio = first..first + k.folios[id].nr_pages();
    let before = k.files[file].prev_pos.replace(index);
    if !before.is_some_and(|before| folio.contains(&before)) {
        swap::folio_mark_accessed(k, id);
    }
}

/// `kiocb_invalidate_pages()`, and `kiocb_invalidate_post_direct_write()`, of a page that is to be
/// written past the page cache.
fn kiocb_invalidate_pages(k: &mut Kernel, file: FileId, index: u64) {
    filemap_write_and_wait_range(k, file, index, index + 1);
    invalidate_inode_pages2_range(k, file, index);
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

/// `generic_perform_write()`, a call for each page, of one byte all over: what is in the page cache of a file on a
/// disk becomes dirty.
///
/// # Errors
/// EBADF where the file is not open for writing.
pub fn generic_perform_write(
    k: &mut Kernel,
    file: FileId,
    pages: Range<u64>,
    (value, direct): (u8, bool),
) -> Result<(), i32> {
    let inode = k.files.get(file).ok_or(errno::EBADF)?;
    if direct {
        write_past_cache(k, file, pages, value);
        return Ok(());
    }
    if inode.file.read_only && !pages.is_empty() {
        return Err(errno::EBADF);
    }
    let on_disk = k.storage(Some(file)) != Storage::Memory;
    for index in pages {
        let cached = k.files[file].cache.get(&index).copied();
        match cached.filter(|_| on_disk && index < k.files[file].pages) {
            Some(CacheEntry::Folio(id)) => {
                k.folios[id].dirty = true;
                k.folios[id].write_page(0, Written::Page(value));
            }
            Some(CacheEntry::Swap(_)) | None => {
                k.unpredicted = Some("files that get pages by calls");
            }
        }
    }
    Ok(())
}

/// `iomap_dio_rw()` (`fs/iomap/direct-io.c`) of a file on a disk, by a descriptor of its own: a call
/// for each page.
fn write_past_cache(k: &mut Kernel, file: FileId, pages: Range<u64>, value: u8) {
    for index in pages {
        if k.storage(Some(file)) == Storage::Memory || index >= k.files[file].pages {
            k.unpredicted = Some("O_DIRECT where there is no disk, or no page");
            return;
        }
        kiocb_invalidate_pages(k, file, index);
        k.files[file].blocks.insert(index, Content::of(value));
    }
}
