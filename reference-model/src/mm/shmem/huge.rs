// SPDX-License-Identifier: GPL-2.0-only
//! `mm/shmem.c`, a part: large folios of shared memory.

use crate::api::ShmemAllowed;
use crate::mm::huge_memory::thp_vma_suitable_order;
use crate::mm::swap;
use crate::mm::swapfile::{PMD_ORDER, free_swap_and_cache_nr};
use crate::mm::truncate::truncate_inode_partial_folio;
use crate::mm_types::{CacheEntry, FileId, FolioId, Vma, vm};
use crate::state::Kernel;

/// The smallest order of large folios of files: `THP_ORDERS_ALL_FILE_DEFAULT`
/// (`include/linux/huge_mm.h`).
const SMALLEST_LARGE: u32 = 1;

/// `shmem_huge_global_enabled()`: the largest order that `shmem_enabled` allows, with all below it.
/// Within the file's size is for it, from 7.2 on, what a page of any size would be.
fn shmem_huge_global_enabled(k: &Kernel<'_>, vma: &Vma, file: FileId, index: u64) -> Option<u32> {
    let smallest = match k.profile.within_size_of_any_order {
        true => SMALLEST_LARGE,
        false => PMD_ORDER,
    };
    let mut descending = (smallest..=PMD_ORDER).rev();
    let within_size = descending.find(|order| is_within_size(k, file, index, *order));
    let advised = vma.has(vm::HUGEPAGE).then_some(PMD_ORDER);
    match k.thp.shmem {
        ShmemAllowed::Always => Some(PMD_ORDER),
        ShmemAllowed::WithinSize => within_size.or(advised),
        ShmemAllowed::Advise => advised,
        ShmemAllowed::Never | ShmemAllowed::Inherit => None,
    }
}

/// `shmem_allowable_huge_orders()` of an area that has no vm_ops yet: whether it is 2 MiB, too.
pub fn shmem_allows_pmd_of_new_vma(k: &Kernel<'_>, vma: &Vma, file: FileId) -> bool {
    // vma_thp_disabled()
    !vma.has(vm::NOHUGEPAGE)
        && shmem_huge_global_enabled(k, vma, file, vma.pgoff) == Some(PMD_ORDER)
}

/// `shmem_get_orders_within_size()`: the file reaches to the end of the folio.
fn is_within_size(k: &Kernel<'_>, file: FileId, index: u64, order: u32) -> bool {
    let end = (index + 1).next_multiple_of(1 << order);
    k.files.get(file).is_some_and(|inode| inode.pages >= end)
}

/// `shmem_allowable_huge_orders()` of settings, in ascending order. What is within the file's
/// size is asked of the largest size first, and of smaller ones then.
pub fn shmem_allowable_huge_orders(
    k: &Kernel<'_>,
    vma: &Vma,
    file: FileId,
    index: u64,
) -> Vec<u32> {
    // vma_thp_disabled()
    if vma.has(vm::NOHUGEPAGE) {
        return Vec::new();
    }
    let inherited = shmem_huge_global_enabled(k, vma, file, index).is_some();
    let within_size = |order: u32| is_within_size(k, file, index, order);
    let allowed = |order: &u32| match k.thp.shmem_size(*order) {
        ShmemAllowed::Never => false,
        ShmemAllowed::Always => true,
        ShmemAllowed::WithinSize => within_size(*order),
        ShmemAllowed::Advise => vma.has(vm::HUGEPAGE),
        ShmemAllowed::Inherit => inherited,
    };
    (SMALLEST_LARGE..=PMD_ORDER).filter(allowed).collect()
}

/// `shmem_suitable_orders()`: the largest folio that lies in the vma, and that the page cache
/// has room for; 0 for a single page. There is always memory for it.
pub fn order_at_fault(k: &Kernel<'_>, vma: &Vma, file: FileId, index: u64) -> u32 {
    let addr = vma.start + (index - vma.pgoff) * crate::api::PAGE_SIZE;
    let empty = |order: u32| {
        let first = index & !((1 << order) - 1);
        let cached = k.files[file].cache.range(first..first + (1 << order));
        cached.count() == 0
    };
    let orders = shmem_allowable_huge_orders(k, vma, file, index);
    let fits = |order: &u32| thp_vma_suitable_order(vma, addr, *order) && empty(*order);
    orders.into_iter().rev().find(fits).unwrap_or(0)
}

/// `shmem_hpage_pmd_enabled()`
pub fn shmem_hpage_pmd_enabled(k: &Kernel<'_>) -> bool {
    match k.thp.shmem_size(PMD_ORDER) {
        ShmemAllowed::Inherit => k.thp.shmem != ShmemAllowed::Never,
        allowed => allowed != ShmemAllowed::Never,
    }
}

/// Whether the file's end lies within a folio.
pub fn crosses_end(k: &Kernel<'_>, id: FolioId) -> bool {
    let Some((file, index)) = k.folios[id].mapping else {
        return false;
    };
    let end = k.files[file].pages;
    end > index && end < index + k.folios[id].nr_pages()
}

/// Where the entry of swap begins that a page of the file is in, and its order
/// (`xas_get_order()` of `lib/xarray.c`).
pub fn large_entry(k: &Kernel<'_>, file: FileId, index: u64) -> (u64, u32) {
    let before = k.files[file].large_swap.range(..=index).next_back();
    match before {
        Some((&first, &order)) if index < first + (1 << order) => (first, order),
        _ => (index, 0),
    }
}

/// `shmem_split_large_entry()`: to single pages; later no further than to have the one.
pub fn shmem_split_large_entry(k: &mut Kernel<'_>, file: FileId, index: u64) {
    let (first, order) = large_entry(k, file, index);
    if order == 0 {
        return;
    }
    let swap = &mut k.files[file].large_swap;
    swap.remove(&first);
    if k.profile.swaps_large_shmem_in {
        k.unpredicted = Some("a part of what was swapped out as a large page of shared memory");
    }
}

/// What the page cache has of `[first, end)`, folios and slots: where each begins and how many
/// pages it has. Large ones may reach out of the range.
pub fn entries(k: &Kernel<'_>, file: FileId, first: u64, end: u64) -> Vec<(u64, u64)> {
    let mut entries: Vec<(u64, u64)> = Vec::new();
    for (&index, entry) in k.files[file].cache.range(first..end.max(first)) {
        if entries.last().is_some_and(|last| index < last.0 + last.1) {
            continue;
        }
        entries.push(match *entry {
            CacheEntry::Folio(id) => {
                let at = k.folios[id].mapping.map_or(index, |at| at.1);
                (at, k.folios[id].nr_pages())
            }
            CacheEntry::Swap(_) => {
                let (at, order) = large_entry(k, file, index);
                (at, 1 << order)
            }
        });
    }
    entries
}

/// `truncate_inode_folio()` (`mm/truncate.c`), or `shmem_free_swap()`: whether it was a folio.
pub fn truncate_entry(k: &mut Kernel<'_>, file: FileId, (index, nr_pages): (u64, u64)) -> bool {
    let entry = k.files[file].cache.get(&index).copied();
    k.files[file].uncache(index, nr_pages);
    match entry {
        Some(CacheEntry::Folio(id)) => {
            let folio = &mut k.folios[id];
            folio.mapping = None;
            folio.dirty = false;
            folio.refcount -= nr_pages as u32 - 1;
            swap::folio_put(k, id);
            true
        }
        Some(CacheEntry::Swap(entry)) => {
            k.files[file].large_swap.remove(&index);
            free_swap_and_cache_nr(k, entry, nr_pages as u32);
            false
        }
        None => false,
    }
}

/// The second part of `shmem_undo_range()`: what lies in `[first, end)` in part alone is split,
/// and what of it is in the range then goes.
pub fn truncate_partial_folios(k: &mut Kernel<'_>, file: FileId, first: u64, end: u64) {
    for (at, nr_pages) in entries(k, file, first, end) {
        match k.files[file].cache.get(&at).copied() {
            Some(CacheEntry::Folio(id)) => {
                truncate_inode_partial_folio(k, (file, id), (at, nr_pages), (first, end));
            }
            Some(CacheEntry::Swap(_)) => {
                k.unpredicted = Some("a part of a large page of shared memory on swap that goes");
                return;
            }
            None => {}
        }
    }
    let mut removed = false;
    for at in entries(k, file, first, end) {
        if first <= at.0 && at.0 + at.1 <= end {
            removed |= truncate_entry(k, file, at);
        }
    }
    if removed {
        swap::lru_add_drain(k);
    }
}
