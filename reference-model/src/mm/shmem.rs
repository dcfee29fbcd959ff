// SPDX-License-Identifier: GPL-2.0-only
//! `mm/shmem.c`: the page cache of memfds, and of what backs shared anonymous memory.

pub mod huge;

use crate::api::{MemoryFile, ShmemAllowed};
use crate::errno;
use crate::fs::hugetlbfs::inode as hugetlbfs;
use crate::fs::open::{FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE};
use crate::mm::huge_memory::split_huge_page_to_list_to_order;
use crate::mm::memory::zap::{ZapDetails, unmap_mapping_range};
use crate::mm::page_io::swap_writepage;
use crate::mm::swap;
use crate::mm::swap_slots::folio_alloc_swap;
use crate::mm::swap_state::{
    add_to_swap_cache, delete_from_swap_cache, folio_ref_sub, read_swap_cache_async,
};
use crate::mm::swapfile::{PMD_ORDER, swap_free_nr, swap_shmem_alloc};
use crate::mm::userfaultfd::mfill_atomic_install_pte;
use crate::mm::util::vm_enough_memory;
use crate::mm_types::{
    CacheEntry, Content, FileId, Folio, FolioId, Inode, Large, Lru, Pte, Vma, vm,
};
use crate::state::Kernel;
use operations::Storage;

/// `F_SEAL_SHRINK` (`include/uapi/linux/fcntl.h`)
pub const F_SEAL_SHRINK: u32 = 0x2;
/// `F_SEAL_GROW`
pub const F_SEAL_GROW: u32 = 0x4;
/// `F_SEAL_WRITE`
pub const F_SEAL_WRITE: u32 = 0x8;
/// `F_SEAL_FUTURE_WRITE`
const F_SEAL_FUTURE_WRITE: u32 = 0x10;

/// Seals that forbid to write to a file from now on (is_write_sealed).
pub const SEALED_AGAINST_WRITES: u32 = F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;

/// What a filled file is full of.
const FILLED: Content = Content::of(0x5a);

/// The inodes of a program's files. Those that are filled were written by
/// another task beforehand: their pages are on the LRU, dirty and referenced
/// (shmem_get_folio_gfp() with SGP_WRITE), charged to another cgroup. Those of a file on a disk
/// are clean: they were written back.
pub fn make_files(k: &mut Kernel, files: &[MemoryFile]) {
    for file in files {
        let mut inode = Inode {
            file: file.clone(),
            pages: file.pages,
            ..Inode::default()
        };
        if let Some(size) = file.hugetlb {
            k.files.push(inode);
            if file.filled {
                hugetlbfs::fill(k, k.files.len() - 1, size);
            }
            continue;
        }
        let in_memory = file.on == Storage::Memory;
        let filled = if file.filled { file.pages } else { 0 };
        let mut on_disk = Vec::new();
        for index in 0..filled {
            let id = k.folios.alloc(Folio {
                mapping: Some((k.files.len(), index)),
                swapbacked: in_memory,
                dirty: in_memory,
                referenced: in_memory,
                lru: true,
                content: FILLED,
                ..Folio::default()
            });
            let list = if in_memory {
                Lru::InactiveAnon
            } else {
                Lru::InactiveFile
            };
            k.other_lruvec.lists[list as usize].add(&mut k.folios, id);
            inode.cache.insert(index, CacheEntry::Folio(id));
            if !in_memory {
                on_disk.push((index, FILLED));
            }
        }
        inode.write_blocks(on_disk);
        k.files.push(inode);
    }
}

/// `shmem_fault()` and `shmem_get_folio_gfp()`: the page with a reference, or none after the end of the file.
pub fn shmem_fault(k: &mut Kernel, vma: &Vma, file: FileId, index: u64) -> Option<FolioId> {
    let inode = k.files.get(file)?;
    if index >= inode.pages {
        return None;
    }
    let cached = inode.cache.get(&index).copied();
    let asked = if cached.is_some() {
        vm::UFFD_MINOR
    } else {
        vm::UFFD_MISSING
    };
    if vma.has(asked) {
        // handle_userfault()
        return None;
    }
    let id = match cached {
        Some(CacheEntry::Folio(id)) => {
            k.folios[id].fallocated = false;
            id
        }
        Some(CacheEntry::Swap(_)) => {
            // userfaultfd_armed()
            return shmem_swapin_folio(k, file, index, !vma.has(vm::UFFD));
        }
        None => {
            let order = huge::order_at_fault(k, vma, file, index);
            shmem_alloc_and_add_folio(k, file, index, order)
        }
    };
    k.folio_get(id);
    Some(id)
}

/// `shmem_get_folio()` with SGP_NOALLOC: what the page cache has, with a reference.
///
/// # Errors
/// EFAULT where it has nothing, EINVAL after the end of the file (later EFAULT).
pub fn shmem_get_folio_noalloc(k: &mut Kernel, file: FileId, index: u64) -> Result<FolioId, i32> {
    let inode = k.files.get(file).ok_or(errno::EFAULT)?;
    if index >= inode.pages {
        return Err(if k.profile.uffd_asks_file_first {
            errno::EFAULT
        } else {
            errno::EINVAL
        });
    }
    match inode.cache.get(&index).copied() {
        Some(CacheEntry::Folio(id)) => {
            k.folios[id].fallocated = false;
            k.folio_get(id);
            Ok(id)
        }
        Some(CacheEntry::Swap(_)) => shmem_swapin_folio(k, file, index, true).ok_or(errno::EFAULT),
        None => Err(errno::EFAULT),
    }
}

/// `shmem_mfill_atomic_pte()`: a new page of the file, mapped by a userfaultfd.
///
/// # Errors
/// EFAULT after the end of the file (later ENOMEM), EEXIST where there is a page.
pub fn shmem_mfill_atomic_pte(
    k: &mut Kernel,
    vma: &Vma,
    addr: u64,
    content: Content,
) -> Result<(), i32> {
    let file = vma.file.ok_or(errno::EINVAL)?;
    let index = vma.linear_page_index(addr);
    let inode = k.files.get(file).ok_or(errno::EINVAL)?;
    if index >= inode.pages {
        return Err(if k.profile.uffd_asks_file_first {
            errno::ENOMEM
        } else {
            errno::EFAULT
        });
    }
    if inode.cache.contains_key(&index) || k.pte(addr) != Pte::None {
        return Err(errno::EEXIST);
    }
    let id = shmem_alloc_and_add_folio(k, file, index, 0);
    k.folios[id].content = content;
    k.folio_get(id);
    mfill_atomic_install_pte(k, vma, addr, id)
}

/// `shmem_alloc_and_add_folio()`: a folio of that order, in which the page is. The page cache
/// holds the first references.
fn shmem_alloc_and_add_folio(k: &mut Kernel, file: FileId, index: u64, order: u32) -> FolioId {
    let first = index & !((1 << order) - 1);
    let id = k.folios.alloc(Folio {
        mapping: Some((file, first)),
        swapbacked: true,
        charged: true,
        large: (order > 0).then(|| Box::new(Large::unmapped(order))),
        ..Folio::default()
    });
    k.folios[id].refcount = 1 << order;
    swap::folio_add_lru(k, id);
    let inode = &mut k.files[file];
    inode.cache_folio(first, 1 << order, id);
    inode.has_huge_page_behind_end |= inode.pages < first + (1 << order);
    id
}

/// `shmem_swapin_folio()`: the file's page is swapped out, and comes back into
/// its page cache, through the swap cache, where it does not stay. With a
/// reference for the caller; None where the page is not swapped out.
fn shmem_swapin_folio(
    k: &mut Kernel<'_>,
    file: usize,
    index: u64,
    may_be_large: bool,
) -> Option<FolioId> {
    let &CacheEntry::Swap(entry) = k.files.get(file)?.cache.get(&index)? else {
        return None;
    };
    let (first, order) = huge::large_entry(k, file, index);
    let cached = k
        .swap
        .slots
        .get(&entry)
        .is_some_and(|slot| slot.cache.is_some());
    let whole = may_be_large && k.profile.swaps_large_shmem_in && order > 0;
    let id = if whole && !cached {
        let CacheEntry::Swap(entry) = *k.files.get(file)?.cache.get(&first)? else {
            return None;
        };
        read_swap_cache_async(k, entry, order)?
    } else {
        read_swap_cache_async(k, entry, 0)?
    };
    let nr_pages = k.folios[id].nr_pages();
    if nr_pages < 1 << order {
        huge::shmem_split_large_entry(k, file, index);
    }
    let first = index & !(nr_pages - 1);
    let entry = k.folios[id].swap?;
    // shmem_add_to_page_cache()
    k.files[file].large_swap.remove(&first);
    k.folios[id].refcount += nr_pages as u32;
    k.folios[id].mapping = Some((file, first));
    k.files[file].cache_folio(first, nr_pages, id);
    if k.profile.swaps_large_shmem_in {
        swap_free_nr(k, entry, nr_pages as u32);
    }
    delete_from_swap_cache(k, id);
    k.folios[id].dirty = true;
    if !k.profile.swaps_large_shmem_in {
        swap_free_nr(k, entry, nr_pages as u32);
    }
    Some(id)
}

/// `shmem_fallocate()`, of whole pages `[first, end)`
///
/// # Errors
/// EPERM where a seal forbids it, EOPNOTSUPP for what moves or zeroes pages.
pub fn shmem_fallocate(
    k: &mut Kernel,
    file: FileId,
    mode: i32,
    (first, end): (u64, u64),
) -> Result<(), i32> {
    let seals = k.files.get(file).ok_or(errno::EINVAL)?.file.seals;
    if mode & !(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE) != 0 {
        return Err(errno::EOPNOTSUPP);
    }
    if mode & FALLOC_FL_PUNCH_HOLE == 0 {
        let grows = seals & F_SEAL_GROW != 0 && end > k.files[file].pages;
        if grows {
            return Err(errno::EPERM);
        }
        shmem_fallocate_range(k, file, (first, end));
        if mode & FALLOC_FL_KEEP_SIZE == 0 {
            let inode = &mut k.files[file];
            inode.pages = inode.pages.max(end);
        }
        return Ok(());
    }
    if seals & SEALED_AGAINST_WRITES != 0 {
        return Err(errno::EPERM);
    }
    // unmap_mapping_pages() sets no zap_flags: guard pages stay.
    let spared = ZapDetails {
        even_cows: false,
        ..ZapDetails::PAGES
    };
    unmap_mapping_range(k, file, first, end, spared);
    shmem_undo_range(k, file, first, end);
    Ok(())
}

/// The part of `shmem_fallocate()` that gets pages: what is not there is made, and not looked at;
/// all is dirty, so that reclaim writes it.
fn shmem_fallocate_range(k: &mut Kernel, file: FileId, (first, end): (u64, u64)) {
    if (0..=PMD_ORDER).any(|order| k.thp.shmem_size(order) != ShmemAllowed::Never) {
        k.unpredicted = Some("large folios that fallocate(2) makes");
        return;
    }
    let mut index = first;
    while index < end {
        // shmem_get_folio() with SGP_FALLOC
        let id = match k.files[file].cache.get(&index).copied() {
            Some(CacheEntry::Folio(id)) => {
                k.folios[id].fallocated = false;
                id
            }
            Some(CacheEntry::Swap(_)) => match shmem_swapin_folio(k, file, index, true) {
                Some(id) => {
                    swap::folio_put(k, id);
                    id
                }
                None => return,
            },
            None => {
                let id = shmem_alloc_and_add_folio(k, file, index, 0);
                k.folios[id].fallocated = true;
                id
            }
        };
        k.folios[id].dirty = true;
        index = (index + 1).next_multiple_of(k.folios[id].nr_pages());
    }
}

/// `shmem_file_read_iter()`, of a page within the file: what is swapped out comes back.
pub fn shmem_file_read_iter(k: &mut Kernel, file: FileId, index: u64) {
    let id = match k.files[file].cache.get(&index).copied() {
        None => return,
        Some(CacheEntry::Folio(id)) if k.folios[id].fallocated => return,
        Some(CacheEntry::Folio(id)) => {
            k.folio_get(id);
            id
        }
        Some(CacheEntry::Swap(_)) => match shmem_swapin_folio(k, file, index, true) {
            Some(id) => id,
            None => return,
        },
    };
    // By its first byte, of the page or later of the folio.
    let first = k.folios[id].mapping.map(|at| at.1) == Some(index);
    if first || !k.profile.reads_shmem_by_folios {
        swap::folio_mark_accessed(k, id);
    }
    swap::folio_put(k, id);
}

/// `shmem_setattr()` of a file's size, in pages.
///
/// # Errors
/// EPERM where a seal forbids it.
pub fn shmem_setattr(k: &mut Kernel, file: FileId, new: u64) -> Result<(), i32> {
    let inode = k.files.get(file).ok_or(errno::EINVAL)?;
    let old = inode.pages;
    if new < old && inode.file.seals & F_SEAL_SHRINK != 0
        || new > old && inode.file.seals & F_SEAL_GROW != 0
    {
        return Err(errno::EPERM);
    }
    // shmem_reacct_size() has nothing to do: memfds are made with VM_NORESERVE.
    k.files[file].pages = new;
    if new > old {
        return Ok(());
    }
    // As where a hole is punched, no zap_flags.
    let all = ZapDetails::PAGES;
    if old > new {
        unmap_mapping_range(k, file, new, u64::MAX, all);
    }
    // info->alloced
    if !k.files[file].cache.is_empty() {
        shmem_undo_range(k, file, new, u64::MAX);
    }
    if old > new {
        unmap_mapping_range(k, file, new, u64::MAX, all);
    }
    Ok(())
}

/// `shmem_undo_range()`
pub fn shmem_undo_range(k: &mut Kernel, file: FileId, first: u64, end: u64) {
    let mut removed = false;
    // find_lock_entries(): what lies in the range as a whole
    for at in huge::entries(k, file, first, end) {
        if first <= at.0 && at.0.saturating_add(at.1) <= end {
            removed |= huge::truncate_entry(k, file, at);
        }
    }
    // folio_batch_release(), which does nothing with an empty batch.
    if removed {
        swap::lru_add_drain(k);
    }
    if first < end {
        huge::truncate_partial_folios(k, file, first, end);
    }
}

/// `shmem_evict_inode()`: the inode's last user is gone.
pub fn shmem_evict_inode(k: &mut Kernel, file: FileId) {
    shmem_undo_range(k, file, 0, u64::MAX);
    k.files[file].has_huge_page_behind_end = false;
}

/// `shmem_zero_setup()`: the file that backs shared anonymous memory.
pub fn shmem_zero_setup(k: &mut Kernel, pages: u64, flags: u64) -> Result<FileId, i32> {
    // shmem_acct_size()
    if flags & vm::NORESERVE == 0 && !vm_enough_memory(k, pages) {
        return Err(errno::ENOMEM);
    }
    k.files.push(Inode {
        pages,
        unnamed: true,
        ..Inode::default()
    });
    Ok(k.files.len() - 1)
}

/// `shmem_writepage()`: moves the folio from the file's page cache to the swap cache. False
/// where there is no slot for it (AOP_WRITEPAGE_ACTIVATE). A large folio for which there are not
/// enough in a row, or of which some lies beyond the end of the file, is split before; its other
/// pages go to the list.
pub fn shmem_writepage(
    k: &mut Kernel<'_>,
    id: FolioId,
    file: usize,
    folio_list: &mut Vec<FolioId>,
) -> bool {
    // Without swap the folio is dirtied again: it never stopped to be.
    if !k.swap.on {
        return false;
    }
    let large = k.folios[id].large.is_some();
    if large && huge::crosses_end(k, id) && !split_for_swap(k, id, folio_list) {
        return false;
    }
    k.folios[id].fallocated = false;
    let mut entry = folio_alloc_swap(k, id);
    if entry.is_none() && k.folios[id].large.is_some() && split_for_swap(k, id, folio_list) {
        entry = folio_alloc_swap(k, id);
    }
    let Some(entry) = entry else {
        return false;
    };
    let Some((_, index)) = k.folios[id].mapping else {
        return false;
    };
    let nr_pages = k.folios[id].nr_pages();
    if !k.swap.shmem_swaplist.contains(&file) {
        k.swap.shmem_swaplist.push(file);
    }
    k.folios[id].dirty = false;
    add_to_swap_cache(k, id, entry);
    for page in 0..nr_pages {
        swap_shmem_alloc(k, entry + page as u32);
        // shmem_delete_from_page_cache()
        let slot = CacheEntry::Swap(entry + page as u32);
        k.files[file].cache.insert(index + page, slot);
    }
    if nr_pages > 1 {
        let order = k.folios[id].order();
        k.files[file].large_swap.insert(index, order);
    }
    k.folios[id].mapping = None;
    folio_ref_sub(k, id, nr_pages as u32);
    swap_writepage(k, id);
    true
}

/// Where `shmem_writepage()` splits a folio, all pages of which are to stay dirty.
fn split_for_swap(k: &mut Kernel<'_>, id: FolioId, folio_list: &mut Vec<FolioId>) -> bool {
    k.folios[id].dirty = true;
    split_huge_page_to_list_to_order(k, id, Some(folio_list), 0)
}

/// `FOLIO_BATCH_SIZE` (`include/linux/folio_batch.h`), before `PAGEVEC_SIZE`
const FOLIO_BATCH_SIZE: usize = 31;

/// `shmem_unuse()`: what was swapped out of files comes back to them, of the file first that was
/// the last of which something was.
pub fn shmem_unuse(k: &mut Kernel<'_>) {
    let swaplist: Vec<FileId> = k.swap.shmem_swaplist.iter().rev().copied().collect();
    for file in swaplist {
        shmem_unuse_inode(k, file);
    }
}

/// `shmem_unuse_inode()`, with `shmem_unuse_swap_entries()`
fn shmem_unuse_inode(k: &mut Kernel<'_>, file: FileId) {
    let mut start = 0;
    loop {
        let indices = shmem_find_swap_entries(k, file, start);
        let Some(&last) = indices.last() else {
            return;
        };
        let mut found = false;
        for index in indices {
            // None where it came back with an earlier one, in one large page.
            if let Some(id) = shmem_swapin_folio(k, file, index, true) {
                swap::folio_put(k, id);
                found = true;
            }
        }
        if !found {
            return;
        }
        start = last;
    }
}

/// `shmem_find_swap_entries()`: where they begin, a large page's once.
fn shmem_find_swap_entries(k: &Kernel<'_>, file: FileId, start: u64) -> Vec<u64> {
    let mut indices = Vec::new();
    let mut next = start;
    let cache = k.files.get(file).map(|inode| inode.cache.range(start..));
    for (&index, entry) in cache.into_iter().flatten() {
        if index < next || !matches!(entry, CacheEntry::Swap(_)) {
            continue;
        }
        indices.push(index);
        if indices.len() == FOLIO_BATCH_SIZE {
            break;
        }
        let (first, order) = huge::large_entry(k, file, index);
        next = first + (1 << order);
    }
    indices
}
