// SPDX-License-Identifier: GPL-2.0-only
//! `mm/filemap.c`: the page cache, faults in it, and its way to the disk.

pub mod xarray;

use crate::api::PAGE_SIZE;
use crate::errno;
use crate::fs::ext4::inode::ext4_do_writepages;
use crate::mm::filemap::xarray::Xas;
use crate::mm::huge_memory::do_set_pmd;
use crate::mm::memory::fault::{Attempt, lies_as_a_whole, set_pte_range};
use crate::mm::readahead::{
    mapping_large_folio_support, page_cache_async_ra, page_cache_ra_order, page_cache_sync_ra,
    ra_pages, read_pages,
};
use crate::mm::swap;
use crate::mm::swap::folio_add_lru;
use crate::mm::swapfile::PMD_ORDER;
use crate::mm::truncate::invalidate_inode_pages2_range;
use crate::mm::workingset::workingset_refault;
use crate::mm_types::{
    CacheEntry, Content, FileId, Folio, FolioId, HPAGE_PMD_NR, Large, Pte, Vma, Written, vm,
};
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
    if any_in_flight(k, file, start_pgoff, end_pgoff) {
        // next_uptodate_folio()
        k.unpredicted = Some("which pages have come from the disk already");
        return false;
    }
    let cached = cached_folios(k, file, start_pgoff, end_pgoff);
    let Some(&(_, first)) = cached.first() else {
        return false;
    };
    if !may_map_whole(k, file, first) {
        // Only filemap_map_pmd() has a new page table installed.
        if !k.mm.pgd.pte_tables.contains_key(&(address >> 21)) {
            return false;
        }
    } else if filemap_map_pmd(k, vma, address, first) {
        return true;
    }
    let mut mapped = false;
    for (start, end, id) in ranges_to_map(k, (vma, file), &cached) {
        mapped |= map_none_ptes(k, vma, address, (start, end), id);
    }
    mapped
}

/// Whether a folio with a page of `[first, last]` may be on its way.
fn any_in_flight(k: &Kernel, file: FileId, first: u64, last: u64) -> bool {
    let first = pages_of_folio(k, file, first).start;
    let end = pages_of_folio(k, file, last).end.max(last + 1);
    k.files[file].in_flight.range(first..end).next().is_some()
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

/// What `filemap_map_pages()` and `filemap_map_folio_range()` ask of a large folio before all of it
/// is mapped: the file has a page behind it.
fn may_map_whole(k: &Kernel, file: FileId, id: FolioId) -> bool {
    let first = k.folios[id].mapping.map_or(0, |at| at.1);
    let next = first + k.folios[id].nr_pages();
    k.storage(Some(file)) == Storage::Memory || next < k.files[file].pages
}

/// Which addresses are looked at for each folio: all of a large one where
/// `filemap_map_folio_range()` says so.
fn ranges_to_map(
    k: &Kernel,
    (vma, file): (&Vma, FileId),
    cached: &[(u64, FolioId)],
) -> Vec<(u64, u64, FolioId)> {
    let mut ranges: Vec<(u64, u64, FolioId)> = Vec::new();
    for &(index, id) in cached {
        let addr = vma.start + (index - vma.pgoff) * PAGE_SIZE;
        if let Some(last) = ranges.last_mut().filter(|last| last.2 == id) {
            last.1 = last.1.max(addr + PAGE_SIZE);
            continue;
        }
        let whole = lies_as_a_whole(k, vma, id, addr);
        let may = k.profile.maps_large_folios_of_files && may_map_whole(k, file, id);
        let whole = whole.filter(|_| may);
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

/// What `filemap_fault()` comes to.
pub enum FilemapFault {
    /// The page, with a reference.
    Page(FolioId),
    /// VM_FAULT_RETRY: mmap_lock was given up to read, and all begins again.
    Retry,
    /// VM_FAULT_SIGBUS
    Sigbus,
}

/// `filemap_fault()`
pub fn filemap_fault(
    k: &mut Kernel,
    vma: &Vma,
    (file, index): (FileId, u64),
    attempt: Attempt,
) -> FilemapFault {
    if index >= k.files[file].pages {
        return FilemapFault::Sigbus;
    }
    let mut waits = match k.files[file].cache.get(&index) {
        Some(&CacheEntry::Folio(id)) => {
            attempt != Attempt::Again && do_async_mmap_readahead(k, vma, (file, index), id)
        }
        _ => {
            do_sync_mmap_readahead(k, vma, file, index);
            true
        }
    };
    if !k.files[file].cache.contains_key(&index) {
        let id = filemap_add_folio(k, file, (index, 0));
        // filemap_read_folio()
        read_pages(k, file, &[id]);
    }
    waits |= folio_lock(k, file, index);
    if waits && attempt == Attempt::First {
        return FilemapFault::Retry;
    }
    let Some(&CacheEntry::Folio(id)) = k.files[file].cache.get(&index) else {
        return FilemapFault::Sigbus;
    };
    k.folio_get(id);
    FilemapFault::Page(id)
}

/// `MMAP_LOTSAMISS`
const MMAP_LOTSAMISS: u32 = 100;

/// `do_sync_mmap_readahead()`: a page and those around it are read, or those behind it, or none, or
/// two huge pages.
fn do_sync_mmap_readahead(k: &mut Kernel, vma: &Vma, file: FileId, index: u64) {
    let later = k.profile.readahead_keeps_order;
    let huge = vma.has(vm::HUGEPAGE) && (!later || mapping_large_folio_support(k, file));
    let executed = later && vma.has(vm::EXEC);
    if !huge && vma.has(vm::RAND_READ) && !executed {
        return;
    }
    if !huge && vma.has(vm::SEQ_READ) {
        page_cache_sync_ra(k, file, index, ra_pages(k));
        return;
    }
    let counted = !later && !huge || later && !executed && !vma.has(vm::SEQ_READ);
    if counted {
        k.files[file].ra.mmap_miss += 1;
    }
    if counted && k.files[file].ra.mmap_miss > MMAP_LOTSAMISS {
        k.unpredicted = Some("readahead where most of it was in vain");
        return;
    }
    let start = match huge {
        true => huge_window(k, vma, file, index),
        false if executed => executed_window(k, vma, file, index),
        false => window_around(k, file, index),
    };
    page_cache_ra_order(k, file, start, PMD_ORDER * u32::from(huge));
}

/// Two huge pages, the second of which has PG_readahead; where the next one is to be looked for
/// (`start`) is not set.
fn huge_window(k: &mut Kernel, vma: &Vma, file: FileId, index: u64) -> u64 {
    let nr_pages = HPAGE_PMD_NR as u64;
    let ra = &mut k.files[file].ra;
    ra.size = match vma.has(vm::RAND_READ) {
        true => nr_pages,
        false => 2 * nr_pages,
    };
    ra.async_size = nr_pages;
    ra.order = PMD_ORDER;
    index & !(nr_pages - 1)
}

/// No further than the area goes; `exec_folio_order()` is 0.
fn executed_window(k: &mut Kernel, vma: &Vma, file: FileId, index: u64) -> u64 {
    let end = (index + ra_pages(k)).min(vma.pgoff + vma.pages());
    let ra = &mut k.files[file].ra;
    (ra.start, ra.size, ra.async_size, ra.order) = (index, end - index, 0, 0);
    index
}

fn window_around(k: &mut Kernel, file: FileId, index: u64) -> u64 {
    let ra_pages = ra_pages(k);
    let ra = &mut k.files[file].ra;
    ra.start = index.saturating_sub(ra_pages / 2);
    ra.size = ra_pages;
    ra.async_size = ra_pages / 4;
    ra.order = 0;
    ra.start
}

/// `do_async_mmap_readahead()`: whether mmap_lock is given up for it.
fn do_async_mmap_readahead(
    k: &mut Kernel,
    vma: &Vma,
    (file, index): (FileId, u64),
    id: FolioId,
) -> bool {
    if vma.has(vm::RAND_READ) || !k.folios[id].reclaim {
        return false;
    }
    page_cache_async_ra(k, file, (index, id), ra_pages(k));
    true
}

/// `filemap_add_folio()`, of a folio of an order, as the disk has it; the page cache has the only
/// references.
pub fn filemap_add_folio(k: &mut Kernel, file: FileId, (index, order): (u64, u32)) -> FolioId {
    let pages = index..index + (1 << order);
    let held = |at: u64| k.files[file].blocks.get(&at).map(|block| block.content);
    let contents: Vec<Content> = pages
        .clone()
        .map(|at| held(at).unwrap_or_default())
        .collect();
    let large = (order > 0).then(|| Box::new(Large::holding(&contents)));
    let id = k.folios.alloc(Folio {
        mapping: Some((file, index)),
        charged: true,
        content: contents[0],
        large,
        ..Folio::default()
    });
    k.folios[id].refcount = 1 << order;
    // __filemap_add_folio() has the last one of those that it takes the place of.
    let shadows = pages.filter_map(|at| k.files[file].shadows.remove(&at));
    if let Some(shadow) = shadows.last() {
        workingset_refault(k, id, shadow);
    }
    folio_add_lru(k, id);
    k.files[file].cache_folio(index, 1 << order, id);
    id
}

/// `folio_lock()` (`include/linux/pagemap.h`) of what has a page that may be on its way: when it is
/// there, so is all that came with it. Whether it may have been on its way.
pub fn folio_lock(k: &mut Kernel, file: FileId, index: u64) -> bool {
    let mut waits = false;
    for index in pages_of_folio(k, file, index) {
        let in_flight = &mut k.files[file].in_flight;
        if let Some(request) = in_flight.remove(&index) {
            in_flight.retain(|_, other| *other != request);
            waits = true;
        }
    }
    waits
}

/// `filemap_release_folio()`: what the file system keeps with a folio goes, unless something is to
/// be written.
pub fn filemap_release_folio(k: &mut Kernel, id: FolioId) -> bool {
    let of = k.folios[id].mapping.map(|at| at.0);
    let storage = k.storage(of);
    let folio = &mut k.folios[id];
    match storage {
        Storage::Memory => true,
        // iomap_release_folio()
        Storage::Xfs => !folio.dirty,
        // try_to_free_buffers(), after which no bit says that it is dirty
        Storage::Ext4 => {
            let large = folio.large.as_ref();
            folio.dirty &= large.is_some_and(|large| large.dirty.contains(&true));
            !folio.dirty
        }
    }
}

/// Those that are in one folio with a page.
fn pages_of_folio(k: &Kernel, file: FileId, index: u64) -> Range<u64> {
    let Some(&CacheEntry::Folio(id)) = k.files[file].cache.get(&index) else {
        return index..index;
    };
    let first = k.folios[id].mapping.map_or(index, |at| at.1);
    first..first + k.folios[id].nr_pages()
}

/// `page_cache_next_miss()`
pub fn page_cache_next_miss(k: &Kernel, file: FileId, index: u64, max_scan: u64) -> u64 {
    let mut xas = Xas::new(k, file, index);
    for _ in 0..max_scan {
        if !xas.step(1) {
            return xas.index;
        }
    }
    index + max_scan
}

/// `page_cache_prev_miss()`: `u64::MAX` where all is there from the first page on.
pub fn page_cache_prev_miss(k: &Kernel, file: FileId, index: u64, max_scan: u64) -> u64 {
    let mut xas = Xas::new(k, file, index);
    for _ in 0..max_scan {
        if !xas.step(-1) || xas.index == u64::MAX {
            break;
        }
    }
    xas.index
}

/// `filemap_read()` of a page within the file. Pages are used where it does not go on in one.
pub fn filemap_read(k: &mut Kernel, file: FileId, index: u64) {
    // filemap_get_pages()
    if !k.files[file].cache.contains_key(&index) {
        page_cache_sync_ra(k, file, index, 1);
    }
    let Some(CacheEntry::Folio(id)) = k.files[file].cache.get(&index).copied() else {
        return;
    };
    let first = k.folios[id].mapping.map_or(0, |at| at.1);
    if k.folios[id].reclaim {
        // filemap_readahead()
        page_cache_async_ra(k, file, (first, id), index + 1 - first);
    }
    // filemap_update_page()
    folio_lock(k, file, index);
    // pos_same_folio()
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
        if !on_disk || index >= k.files[file].pages {
            k.unpredicted = Some("files that get pages by calls");
            return Ok(());
        }
        let id = write_begin_get_folio(k, file, index);
        // Of a large folio only that page, as iomap_set_range_dirty() or its buffers have it.
        k.folios[id].set_page_dirty(index * PAGE_SIZE);
        k.folios[id].write_page(index * PAGE_SIZE, Written::Page(value));
    }
    Ok(())
}

/// `write_begin_get_folio()` (`include/linux/pagemap.h`), before it was there
/// `__filemap_get_folio()` with FGP_WRITEBEGIN: as all of a page is written, nothing is read for
/// it. What is new is as large as what is written (`fgf_set_order()`), and so a page.
fn write_begin_get_folio(k: &mut Kernel, file: FileId, index: u64) -> FolioId {
    if let Some(&CacheEntry::Folio(id)) = k.files[file].cache.get(&index) {
        folio_lock(k, file, index);
        return id;
    }
    // filemap_add_folio() with __GFP_WRITE is no refault.
    k.files[file].shadows.remove(&index);
    filemap_add_folio(k, file, (index, 0))
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
        k.files[file].write_blocks([(index, Content::of(value))]);
    }
}
