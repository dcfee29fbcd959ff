// SPDX-License-Identifier: GPL-2.0-only
//! `mm/shmem.c`: the page cache of memfds, and of what backs shared anonymous memory.

use crate::api::MemoryFile;
use crate::errno;
use crate::fs::hugetlbfs::inode as hugetlbfs;
use crate::mm::memory::zap::{ZapDetails, unmap_mapping_range};
use crate::mm::page_io::swap_writepage;
use crate::mm::swap::folio_put;
use crate::mm::swap_slots::folio_alloc_swap;
use crate::mm::swap_state::{add_to_swap_cache, delete_from_swap_cache, read_swap_cache_async};
use crate::mm::swapfile::{swap_free, swap_shmem_alloc};
use crate::mm::userfaultfd::mfill_atomic_install_pte;
use crate::mm::util::vm_enough_memory;
use crate::mm::{swap, swapfile};
use crate::mm_types::{CacheEntry, FileId, Folio, FolioId, Inode, Lru, Pte, Vma, vm};
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
        for index in 0..filled {
            let id = k.folios.alloc(Folio {
                mapping: Some((k.files.len(), index)),
                swapbacked: in_memory,
                dirty: in_memory,
                referenced: in_memory,
                lru: true,
                ..Folio::default()
            });
            let list = if in_memory {
                Lru::InactiveAnon
            } else {
                Lru::InactiveFile
            };
            k.other_lruvec.lists[list as usize].add(&mut k.folios, id);
            inode.cache.insert(index, CacheEntry::Folio(id));
        }
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
        Some(CacheEntry::Folio(id)) => id,
        Some(CacheEntry::Swap(_)) => return shmem_swapin_folio(k, file, index),
        None => shmem_alloc_and_add_folio(k, file, index),
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
            k.folio_get(id);
            Ok(id)
        }
        Some(CacheEntry::Swap(_)) => shmem_swapin_folio(k, file, index).ok_or(errno::EFAULT),
        None => Err(errno::EFAULT),
    }
}

/// `shmem_mfill_atomic_pte()`: a new page of the file, mapped by a userfaultfd.
///
/// # Errors
/// EFAULT after the end of the file (later ENOMEM), EEXIST where there is a page.
pub fn shmem_mfill_atomic_pte(k: &mut Kernel, vma: &Vma, addr: u64, data: bool) -> Result<(), i32> {
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
    let id = shmem_alloc_and_add_folio(k, file, index);
    k.folios[id].data = data;
    k.folio_get(id);
    mfill_atomic_install_pte(k, vma, addr, id)
}

/// `shmem_alloc_and_add_folio()`: the page cache holds the folio's first reference.
fn shmem_alloc_and_add_folio(k: &mut Kernel, file: FileId, index: u64) -> FolioId {
    if k.thp.makes_any_of_shmem() {
        k.unpredicted = Some("huge pages of shared memory");
    }
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

/// `shmem_swapin_folio()`: the file's page is swapped out, and comes back into
/// its page cache, through the swap cache, where it does not stay. With a
/// reference for the caller; None where the page is not swapped out.
fn shmem_swapin_folio(k: &mut Kernel<'_>, file: usize, index: u64) -> Option<FolioId> {
    let Some(&CacheEntry::Swap(entry)) = k.files.get(file)?.cache.get(&index) else {
        return None;
    };
    let id = read_swap_cache_async(k, entry, 0)?;
    // shmem_add_to_page_cache()
    k.folio_get(id);
    k.folios[id].mapping = Some((file, index));
    k.files[file].cache.insert(index, CacheEntry::Folio(id));
    delete_from_swap_cache(k, id);
    k.folios[id].dirty = true;
    swap_free(k, entry);
    Some(id)
}

/// `shmem_fallocate()` with FALLOC_FL_PUNCH_HOLE, of whole pages `[first, end)`.
///
/// # Errors
/// EPERM where the file is sealed against writing.
pub fn shmem_fallocate(k: &mut Kernel, file: FileId, first: u64, end: u64) -> Result<(), i32> {
    let Some(inode) = k.files.get(file) else {
        return Err(errno::EINVAL);
    };
    if inode.file.seals & SEALED_AGAINST_WRITES != 0 {
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
fn shmem_undo_range(k: &mut Kernel, file: FileId, first: u64, end: u64) {
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

/// `shmem_evict_inode()`: the inode's last user is gone.
pub fn shmem_evict_inode(k: &mut Kernel, file: FileId) {
    shmem_undo_range(k, file, 0, u64::MAX);
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
/// where there is no slot for it (AOP_WRITEPAGE_ACTIVATE).
pub fn shmem_writepage(k: &mut Kernel<'_>, id: FolioId, file: usize, index: u64) -> bool {
    // Without swap the folio is dirtied again: it never stopped to be.
    let Some(entry) = folio_alloc_swap(k, id) else {
        return false;
    };
    k.folios[id].dirty = false;
    add_to_swap_cache(k, id, entry);
    swap_shmem_alloc(k, entry);
    // shmem_delete_from_page_cache()
    k.files[file].cache.insert(index, CacheEntry::Swap(entry));
    k.folios[id].mapping = None;
    folio_put(k, id);
    swap_writepage(k, id);
    true
}
