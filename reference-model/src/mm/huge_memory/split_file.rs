// SPDX-License-Identifier: GPL-2.0-only
//! `mm/huge_memory.c`, a part: large folios of files are split. They are not mapped any more
//! then, and come back by faults.

use crate::include::linux::mm_inline::folio_lru_list;
use crate::mm::filemap::filemap_release_folio;
use crate::mm::huge_memory::can_split_folio;
use crate::mm::memcontrol::folio_lruvec;
use crate::mm::rmap::{TTU_BATCH_FLUSH, TTU_IGNORE_MLOCK, try_to_unmap_flush, try_to_unmap_with};
use crate::mm::swap::folio_put;
use crate::mm_types::{CacheEntry, Folio, FolioId, Large};
use crate::state::Kernel;

/// A folio that another one is split into: where it begins in that, and its order.
type Part = (usize, u32);

/// `split_huge_page_to_list_to_order()` of a file's folio, to folios of that order. The caller has
/// seen that nobody else refers to it.
pub fn split_uniformly(
    k: &mut Kernel<'_>,
    id: FolioId,
    list: Option<&mut Vec<FolioId>>,
    new_order: u32,
) {
    let nr_pages = k.folios[id].nr_pages() as usize;
    let parts = (0..nr_pages).step_by(1 << new_order);
    let parts: Vec<Part> = parts.map(|page| (page, new_order)).collect();
    split_into(k, id, &parts, list);
}

/// `folio_split()`: the half that a page is in is split, and of that again, down to that page;
/// until then all of it was split to single pages. The caller has a reference; false where
/// others have one as well, or something of it is to be written to a disk.
pub fn folio_split(k: &mut Kernel<'_>, id: FolioId, split_at: usize) -> bool {
    if !filemap_release_folio(k, id) || !can_split_folio(k, id, 1) {
        return false;
    }
    if !k.profile.splits_files_by_halves {
        split_uniformly(k, id, None, 0);
        return true;
    }
    // __split_unmapped_folio() with SPLIT_TYPE_NON_UNIFORM
    let mut parts: Vec<Part> = vec![(0, k.folios[id].order())];
    while let Some(at) = parts.iter().rposition(|part| part.0 <= split_at) {
        let (start, order) = parts[at];
        if order == 0 {
            break;
        }
        parts[at].1 = order - 1;
        parts.insert(at + 1, (start + (1 << (order - 1)), order - 1));
    }
    split_into(k, id, &parts, None);
    true
}

/// `__folio_split()` and what it calls, of a file's folio: the parts, in ascending order, the
/// first of which keeps the caller's reference.
fn split_into(
    k: &mut Kernel<'_>,
    id: FolioId,
    parts: &[Part],
    mut list: Option<&mut Vec<FolioId>>,
) {
    // unmap_folio()
    try_to_unmap_with(k, id, TTU_IGNORE_MLOCK | TTU_BATCH_FLUSH);
    try_to_unmap_flush(k);
    let Some((file, first)) = k.folios[id].mapping else {
        return;
    };
    let Some(large) = k.folios[id].large.take() else {
        return;
    };
    let nr_pages = large.contents.len();
    let head_order = parts.first().map_or(0, |part| part.1);
    shrink_head(k, id, &large, head_order);
    let head = k.folios[id].clone();
    let mut rest: Vec<Part> = parts.iter().skip(1).copied().collect();
    if !k.profile.splits_ascending {
        rest.reverse();
    }
    let mut tails = Vec::with_capacity(rest.len());
    for (page, order) in rest {
        let new = k.folios.alloc(Folio {
            pfn: head.pfn + page as u64,
            mapping: Some((file, first + page as u64)),
            mlock_count: 0,
            reclaim: false,
            prev: None,
            next: None,
            ..part_of(&large, head.clone(), page, order)
        });
        add_to_page_cache_or_drop(k, new);
        add_split_folio(k, new, id, &mut list);
        tails.push((page, new));
    }
    // The page cache's references of all pages were the head's.
    k.folios[id].refcount -= (nr_pages - (1 << head_order)) as u32;
    tails.sort_unstable();
    for (_, tail) in tails {
        folio_put(k, tail);
    }
}

/// The head keeps its place on its list, and counts for fewer pages there.
fn shrink_head(k: &mut Kernel<'_>, id: FolioId, large: &Large, order: u32) {
    let tails = large.contents.len() as u64 - (1 << order);
    if k.folios[id].lru {
        let lru = folio_lru_list(k, id) as usize;
        folio_lruvec(k, id).lists[lru].len -= tails;
    }
    let head = part_of(large, k.folios[id].clone(), 0, order);
    k.folios[id] = head;
}

/// A part of a large folio that nothing maps.
fn part_of(large: &Large, folio: Folio, page: usize, order: u32) -> Folio {
    let nr_pages = 1usize << order;
    let contents = &large.contents[page..page + nr_pages];
    let part = (order > 0).then(|| {
        let mut part = Large::unmapped(order);
        part.contents.copy_from_slice(contents);
        Box::new(part)
    });
    Folio {
        content: contents[0],
        large: part,
        mapcount: 0,
        ..folio
    }
}

/// What lies beyond the file's end leaves the page cache (`__filemap_remove_folio()` of `mm/filemap.c`).
fn add_to_page_cache_or_drop(k: &mut Kernel<'_>, id: FolioId) {
    let Some((file, index)) = k.folios[id].mapping else {
        return;
    };
    let nr_pages = k.folios[id].nr_pages();
    let inode = &mut k.files[file];
    if index < inode.pages {
        for index in index..index + nr_pages {
            inode.cache.insert(index, CacheEntry::Folio(id));
        }
        k.folios[id].refcount += nr_pages as u32;
    } else {
        inode.uncache(index, nr_pages);
        k.folios[id].mapping = None;
        k.folios[id].dirty = false;
    }
}

/// `lru_add_page_tail()`, later `lru_add_split_folio()`
fn add_split_folio(
    k: &mut Kernel<'_>,
    new: FolioId,
    head: FolioId,
    list: &mut Option<&mut Vec<FolioId>>,
) {
    match list {
        Some(list) => {
            k.folio_get(new);
            list.push(new);
            k.folios[new].lru = false;
        }
        None if k.folios[head].lru => {
            let lru = folio_lru_list(k, head) as usize;
            let lruvec = if k.folios[head].charged {
                &mut k.lruvec
            } else {
                &mut k.other_lruvec
            };
            lruvec.lists[lru].add_before(&mut k.folios, new, head);
        }
        None => {}
    }
}
