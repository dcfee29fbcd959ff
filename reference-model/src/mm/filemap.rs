// SPDX-License-Identifier: GPL-2.0-only
//! `mm/filemap.c`: a read fault maps what is in the page cache around it.

use crate::api::PAGE_SIZE;
use crate::mm::memory::fault::set_pte_range;
use crate::mm_types::{CacheEntry, FileId, FolioId, Pte, Vma};
use crate::state::Kernel;

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
