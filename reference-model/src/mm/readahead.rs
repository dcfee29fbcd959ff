// SPDX-License-Identifier: GPL-2.0-only
//! `mm/readahead.c`: pages of a file are read from a disk, with those around them.
//!
//! Pages are on their way until somebody waits for them, and all that is one request to the disk
//! arrives at once. There is always memory for large folios.

use crate::api::PAGE_SIZE;
use crate::mm::filemap::{filemap_add_folio, page_cache_next_miss, page_cache_prev_miss};
use crate::mm::swapfile::PMD_ORDER;
use crate::mm_types::{FileId, FolioId};
use crate::state::Kernel;
use operations::Storage;
use std::ops::Range;

/// `VM_READAHEAD_PAGES` (`include/linux/mm.h`)
const VM_READAHEAD_PAGES: u64 = 32;

/// `BLK_DEF_MAX_SECTORS_CAP` (`block/blk.h`), in pages: what is read at once.
const MAX_PAGES_AT_ONCE: u64 = (4 << 20) / PAGE_SIZE;

/// `ra_pages` of the disks, which say nothing of their best size, as `blk_apply_bdi_limits()`
/// (`block/blk-settings.c`) has it.
pub fn ra_pages(k: &Kernel<'_>) -> u64 {
    match k.profile.readahead_goes_by_largest_io {
        true => 2 * MAX_PAGES_AT_ONCE,
        false => VM_READAHEAD_PAGES,
    }
}

/// `mapping_large_folio_support()` (`include/linux/pagemap.h`)
pub fn mapping_large_folio_support(k: &Kernel<'_>, file: FileId) -> bool {
    k.storage(Some(file)) == Storage::Xfs || k.profile.ext4_has_large_folios
}

/// `mapping_max_folio_order()` (`include/linux/pagemap.h`), of files that have large folios.
const MAX_FOLIO_ORDER: u32 = PMD_ORDER;

/// `read_pages()` of folios in a row: what lies in a row on the disk is one request, be there holes
/// between in the file, as far as one takes so many pieces; of what is beyond nothing is known.
/// Where nothing is there is nothing to wait for.
pub fn read_pages(k: &mut Kernel<'_>, file: FileId, added: &[FolioId]) {
    let inode = &mut k.files[file];
    inode.last_request += 1;
    let (mut pieces, mut last) = (0, None);
    for &id in added {
        let first = k.folios[id].mapping.map_or(0, |at| at.1);
        let pages = first..first + k.folios[id].nr_pages();
        for index in pages {
            let Some(number) = inode.blocks.get(&index).map(|block| block.number) else {
                continue;
            };
            let in_a_row = last.is_some_and(|(_, last)| last + 1 == number);
            pieces += u64::from(last.is_none_or(|(of, _)| of != id));
            if !in_a_row || pieces > AT_ONCE {
                pieces = 1;
                inode.last_request += 1;
            }
            last = Some((id, number));
            inode.in_flight.insert(index, inode.last_request);
        }
    }
}

/// `page_cache_ra_unbounded()`: what is missing of a range is read. The page at `mark` gets
/// PG_readahead if it is among those.
fn page_cache_ra_unbounded(k: &mut Kernel<'_>, file: FileId, range: Range<u64>, mark: Option<u64>) {
    let mut added = Vec::new();
    for index in range {
        if k.files[file].cache.contains_key(&index) {
            read_pages(k, file, &std::mem::take(&mut added));
        } else {
            added.push(add_marked_folio(k, file, (index, 0), mark));
        }
    }
    read_pages(k, file, &added);
}

/// A new folio of an order, with PG_readahead if it is the one at `mark`.
fn add_marked_folio(
    k: &mut Kernel<'_>,
    file: FileId,
    (index, order): (u64, u32),
    mark: Option<u64>,
) -> FolioId {
    let id = filemap_add_folio(k, file, (index, order));
    // PG_reclaim's bit
    k.folios[id].reclaim = mark == Some(index);
    id
}

/// `do_page_cache_ra()`
fn do_page_cache_ra(
    k: &mut Kernel<'_>,
    file: FileId,
    index: u64,
    (nr_to_read, lookahead_size): (u64, u64),
) {
    let pages = k.files[file].pages;
    if index >= pages {
        return;
    }
    let (mut end, mut lookahead_size) = (index + nr_to_read, lookahead_size);
    if end >= pages {
        end = pages;
        if k.profile.readahead_keeps_order {
            lookahead_size = 0;
        }
    }
    page_cache_ra_unbounded(k, file, index..end, end.checked_sub(lookahead_size));
}

/// The pages in a row that are one request to a disk wherever they lie in memory: a segment each, of
/// which QEMU's virtio-blk takes two fewer than its queue has places (256), as its driver
/// (`drivers/block/virtio_blk.c`) reads it. `BIO_MAX_VECS` and `io_pages` are more.
const AT_ONCE: u64 = 254;

/// `force_page_cache_ra()`
pub fn force_page_cache_ra(k: &mut Kernel<'_>, file: FileId, index: u64, nr_to_read: u64) {
    if nr_to_read > AT_ONCE {
        k.unpredicted = Some("how much is read at once of a disk");
        return;
    }
    do_page_cache_ra(k, file, index, (nr_to_read, 0));
}

/// `get_init_ra_size()`
fn get_init_ra_size(size: u64, max: u64) -> u64 {
    match size.next_power_of_two() {
        size if size <= max / 32 => size * 4,
        size if size <= max / 4 => size * 2,
        _ => max,
    }
}

/// `get_next_ra_size()`
fn get_next_ra_size(size: u64, max: u64) -> u64 {
    match size {
        size if size < max / 16 => 4 * size,
        size if size <= max / 2 => 2 * size,
        _ => max,
    }
}

/// `page_cache_ra_order()`, from a page on, of as many as the window that the file has;
/// `new_order` counts where the window keeps none.
pub fn page_cache_ra_order(k: &mut Kernel<'_>, file: FileId, start: u64, new_order: u32) {
    let (ra, keeps) = (k.files[file].ra, k.profile.readahead_keeps_order);
    if !mapping_large_folio_support(k, file) || !keeps && ra.size < 4 {
        k.files[file].ra.order = 0;
        do_page_cache_ra(k, file, start, (ra.size, ra.async_size));
        return;
    }
    let new_order = if keeps { ra.order } else { new_order + 2 };
    let new_order = new_order.min(MAX_FOLIO_ORDER).min(ra.size.max(1).ilog2());
    k.files[file].ra.order = new_order;
    let end = start + ra.size;
    let marked = !keeps || end < k.files[file].pages;
    let mark = marked.then(|| end.wrapping_sub(ra.async_size));
    let (index, all) = add_large_folios(k, file, start..end, (new_order, mark));
    if !all {
        let rest = if keeps { end - index } else { ra.size };
        do_page_cache_ra(k, file, index, (rest, ra.async_size));
    }
}

/// The loop of `page_cache_ra_order()`, and `ra_alloc_folio()`: where it ends, and whether it comes
/// to the end of the window, and not to a page that is there.
fn add_large_folios(
    k: &mut Kernel<'_>,
    file: FileId,
    window: Range<u64>,
    (new_order, mark): (u32, Option<u64>),
) -> (u64, bool) {
    let end = window.end.min(k.files[file].pages);
    let (mut index, mut added, mut all) = (window.start, Vec::new(), true);
    while index < end {
        let mut order = new_order.min(index.trailing_zeros());
        while order > 0 && index + (1 << order) > end {
            order -= 1;
        }
        let folio = index..index + (1 << order);
        if k.files[file].cache.range(folio).next().is_some() {
            all = false;
            break;
        }
        let mark = mark.map(|mark| mark & !((1 << order) - 1));
        added.push(add_marked_folio(k, file, (index, order), mark));
        index += 1 << order;
    }
    read_pages(k, file, &added);
    (index, all)
}

/// `page_cache_sync_ra()`: a page is missing.
pub fn page_cache_sync_ra(k: &mut Kernel<'_>, file: FileId, index: u64, req_count: u64) {
    let max_pages = ra_pages(k);
    let inode = &k.files[file];
    // Where read(2) ended, which is the page behind the one that it was in last.
    let follows = |page: u64| index == page + 1 || index == page + 2;
    if index == 0 || inode.prev_pos.is_some_and(follows) {
        let size = get_init_ra_size(req_count, max_pages);
        let ra = &mut k.files[file].ra;
        (ra.start, ra.size) = (index, size);
        ra.async_size = match size > req_count {
            true => size - req_count,
            false => size / 2,
        };
    } else {
        let miss = page_cache_prev_miss(k, file, index - 1, max_pages);
        let mut contig_count = index.wrapping_sub(miss).wrapping_sub(1);
        if contig_count <= req_count {
            do_page_cache_ra(k, file, index, (req_count, 0));
            return;
        }
        if miss == u64::MAX {
            contig_count *= 2;
        }
        let ra = &mut k.files[file].ra;
        ra.start = index;
        ra.size = (contig_count + req_count).min(max_pages);
        ra.async_size = 1;
    }
    k.files[file].ra.order = 0;
    page_cache_ra_order(k, file, index, 0);
}

/// `page_cache_async_ra()`: a page with PG_readahead was reached.
pub fn page_cache_async_ra(
    k: &mut Kernel<'_>,
    file: FileId,
    (index, id): (u64, FolioId),
    req_count: u64,
) {
    k.folios[id].reclaim = false;
    let max_pages = ra_pages(k);
    let nr_pages = k.folios[id].nr_pages();
    let inode = &k.files[file];
    let mut ra = inode.ra;
    let expected = (ra.start + ra.size).saturating_sub(ra.async_size);
    if index == expected - expected % nr_pages {
        ra.start += ra.size;
        ra.size = ra.size.max(get_next_ra_size(ra.size, max_pages));
    } else {
        let start = page_cache_next_miss(k, file, index + 1, max_pages);
        if start - index > max_pages {
            return;
        }
        ra.start = start;
        ra.size = get_next_ra_size(start - index + req_count, max_pages);
    }
    if k.profile.readahead_keeps_order {
        ra.order += 2;
        let align = 1 << ra.order.min(max_pages.trailing_zeros());
        let end = ra.start + ra.size;
        let aligned_end = end - end % align;
        if aligned_end > ra.start {
            ra.size = aligned_end - ra.start;
        }
    }
    ra.async_size = ra.size;
    k.files[file].ra = ra;
    page_cache_ra_order(k, file, ra.start, nr_pages.ilog2());
}
