// SPDX-License-Identifier: GPL-2.0-only
//! `mm/shmem.c`: the page cache behind memfds and shared anonymous memory.

use crate::api::PAGE_SIZE;
use crate::errno;
use crate::mm::memory::swap as memory_swap;
use crate::mm::memory::zap::{ZapDetails, unmap_mapping_range};
use crate::mm::{swap, swapfile};
use crate::mm_types::{CacheEntry, FileId, Folio, FolioId, Inode, Lru};
use crate::state::Kernel;

/// F_SEAL_WRITE | F_SEAL_FUTURE_WRITE
pub const SEALED_AGAINST_WRITES: u32 = 0x8 | 0x10;

/// The inodes of a program's files. Those that are filled were written by
/// another task beforehand: their pages are on the LRU, dirty and referenced
/// (`shmem_get_folio_gfp()` with SGP_WRITE), charged to another cgroup.
pub fn make_files(k: &mut Kernel, files: &[crate::api::MemoryFile]) {
    for file in files {
        let mut inode = Inode {
            file: file.clone(),
            pages: file.pages,
            ..Inode::default()
        };
        let filled = if file.filled { file.pages } else { 0 };
        for index in 0..filled {
            let id = k.folios.alloc(Folio {
                mapping: Some((k.files.len(), index)),
                swapbacked: true,
                dirty: true,
                referenced: true,
                lru: true,
                ..Folio::default()
            });
            k.other_lruvec.lists[Lru::InactiveAnon as usize].add(&mut k.folios, id);
            inode.cache.insert(index, CacheEntry::Folio(id));
        }
        k.files.push(inode);
    }
}

/// `shmem_fault()`: the page with a reference, or none behind the end of the file.
pub fn shmem_fault(k: &mut Kernel, file: FileId, index: u64) -> Option<FolioId> {
    let inode = k.files.get(file)?;
    if index >= inode.pages {
        return None;
    }
    let id = match inode.cache.get(&index).copied() {
        Some(CacheEntry::Folio(id)) => id,
        Some(CacheEntry::Swap(_)) => return memory_swap::shmem_swapin_folio(k, file, index),
        None => shmem_alloc_and_add_folio(k, file, index),
    };
    k.folio_get(id);
    Some(id)
}

/// `shmem_alloc_and_add_folio()`: the page cache holds the folio's first reference.
fn shmem_alloc_and_add_folio(k: &mut Kernel, file: FileId, index: u64) -> FolioId {
    let id = k.folios.alloc(Folio {
        mapping: Some((file, index)),
        swapbacked: true,
        charged: true,
        ..Folio::default()
    });
    swap::folio_add_lru(k, id);
    k.files[file].cache.insert(index, CacheEntry::Folio(id));
    id
}

/// Folios in the page cache within `[first, last]` and within the file.
pub fn cached_folios(k: &Kernel, file: FileId, first: u64, last: u64) -> Vec<(u64, FolioId)> {
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

/// `shmem_fallocate()` with FALLOC_FL_PUNCH_HOLE, of whole pages `[first, end)`.
///
/// # Errors
/// EPERM where the file is sealed against writing.
pub fn punch_hole(k: &mut Kernel, file: FileId, first: u64, end: u64) -> Result<(), i32> {
    let Some(inode) = k.files.get(file) else {
        return Err(errno::EINVAL);
    };
    if inode.file.seals & SEALED_AGAINST_WRITES != 0 {
        return Err(errno::EPERM);
    }
    // unmap_mapping_pages() sets no zap_flags: guard pages outlive what they are before.
    let spared = ZapDetails {
        even_cows: false,
        ..ZapDetails::PAGES
    };
    unmap_mapping_range(k, file, first, end, spared);
    shmem_truncate_range(k, file, first, end);
    Ok(())
}

/// F_SEAL_SHRINK and F_SEAL_GROW
const F_SEAL_SHRINK: u32 = 0x2;
const F_SEAL_GROW: u32 = 0x4;

/// `ftruncate(2)`: `do_sys_ftruncate()` of fs/open.c and `shmem_setattr()`. `len` in bytes.
///
/// # Errors
/// EINVAL for a descriptor that is not open for writing or an impossible size, EPERM
/// where a seal forbids it.
pub fn ftruncate(k: &mut Kernel, file: FileId, len: u64) -> Result<(), i32> {
    let inode = k.files.get(file).ok_or(errno::EINVAL)?;
    if len > i64::MAX as u64 || inode.file.read_only {
        return Err(errno::EINVAL);
    }
    let (old, new) = (inode.pages, len.div_ceil(PAGE_SIZE));
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
        shmem_truncate_range(k, file, new, u64::MAX);
    }
    if old > new {
        unmap_mapping_range(k, file, new, u64::MAX, all);
    }
    Ok(())
}

/// `fallocate(2)` with FALLOC_FL_PUNCH_HOLE: `vfs_fallocate()` of fs/open.c. In bytes.
///
/// # Errors
/// EINVAL for nothing to punch, EBADF for a descriptor that is not open for writing,
/// EFBIG behind the largest file, EPERM where a seal forbids it.
pub fn fallocate(k: &mut Kernel, file: FileId, offset: u64, len: u64) -> Result<(), i32> {
    let inode = k.files.get(file).ok_or(errno::EINVAL)?;
    if len == 0 || offset > i64::MAX as u64 || len > i64::MAX as u64 {
        return Err(errno::EINVAL);
    }
    if inode.file.read_only {
        return Err(errno::EBADF);
    }
    if offset + len > i64::MAX as u64 {
        return Err(errno::EFBIG);
    }
    let first = offset.div_ceil(PAGE_SIZE);
    punch_hole(k, file, first, ((offset + len) / PAGE_SIZE).max(first))
}

/// `shmem_undo_range()`
fn shmem_truncate_range(k: &mut Kernel, file: FileId, first: u64, end: u64) {
    let indices: Vec<u64> = k.files[file]
        .cache
        .range(first..end.max(first))
        .map(|(&index, _)| index)
        .collect();
    let mut removed = false;
    for index in indices {
        match k.files[file].cache.remove(&index) {
            Some(CacheEntry::Folio(id)) => {
                removed = true;
                k.folios[id].mapping = None;
                k.folios[id].dirty = false;
                swap::folio_put(k, id);
            }
            Some(CacheEntry::Swap(entry)) => swapfile::free_swap_and_cache(k, entry),
            None => {}
        }
    }
    // folio_batch_release(), which does nothing with an empty batch.
    if removed {
        swap::lru_add_drain(k);
    }
}

/// `fput()` of a vma's file, down to `shmem_evict_inode()`: what is behind
/// shared anonymous memory goes with its last vma. A memfd has its descriptor.
pub fn fput(k: &mut Kernel, file: FileId) {
    let unnamed = k.files.get(file).is_some_and(|inode| inode.unnamed);
    let mut mms = (0..k.mms.len()).map(|mm| k.mm(mm));
    if unnamed && mms.all(|mm| mm.vmas.values().all(|vma| vma.file != Some(file))) {
        shmem_truncate_range(k, file, 0, u64::MAX);
    }
}
