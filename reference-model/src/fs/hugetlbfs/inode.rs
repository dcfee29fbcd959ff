// SPDX-License-Identifier: GPL-2.0-only
//! `fs/hugetlbfs/inode.c`: files of hugetlb's pages.

use crate::api::{MemoryFile, PAGE_SIZE};
use crate::errno;
use crate::mm::hugetlb::reserve::{hugetlb_reserve_pages, hugetlb_unreserve_pages};
use crate::mm::hugetlb::{hstate_vma, unmap_hugepage_range};
use crate::mm::interval_tree::vma_interval_tree;
use crate::mm::shmem::{F_SEAL_GROW, F_SEAL_SHRINK, SEALED_AGAINST_WRITES};
use crate::mm::swap;
use crate::mm_types::{CacheEntry, FileId, Folio, Inode, Vma, vm};
use crate::state::Kernel;
use operations::HugePages;

/// `hugetlb_file_setup()`: the file of memory that has no other, of this many bytes.
pub fn hugetlb_file_setup(k: &mut Kernel<'_>, bytes: u64, size: HugePages) -> FileId {
    k.files.push(Inode {
        file: MemoryFile {
            hugetlb: Some(size),
            ..MemoryFile::default()
        },
        pages: bytes / PAGE_SIZE,
        unnamed: true,
        ..Inode::default()
    });
    k.files.len() - 1
}

/// A file that was filled through a shared mapping, before the first step: all of its pages are
/// reserved and used. They come from the actors' node, as long as it has some.
pub fn fill(k: &mut Kernel<'_>, file: FileId, size: HugePages) {
    let pages = k.files[file].pages / size.pages();
    for idx in 0..pages {
        let h = &mut k.hstates[size as usize];
        let node = u32::from(h.free_huge_pages_node[0] == 0);
        if h.free_huge_pages_node[node as usize] == 0 {
            return;
        }
        h.take_from(node);
        let id = k.folios.alloc(Folio {
            hugetlb: Some(size),
            node,
            mapping: Some((file, idx)),
            ..Folio::default()
        });
        k.files[file].cache.insert(idx, CacheEntry::Folio(id));
        k.files[file].resv_map.insert(idx);
    }
}

/// `hugetlbfs_file_mmap()`
///
/// # Errors
/// EINVAL where it begins inside a page of the file, ENOMEM where the pool is used up.
pub fn hugetlbfs_file_mmap(k: &mut Kernel<'_>, vma: &mut Vma) -> Result<(), i32> {
    vma.flags |= vm::HUGETLB | vm::DONTEXPAND;
    let size = hstate_vma(k, vma);
    if !vma.pgoff.is_multiple_of(size.pages()) {
        return Err(errno::EINVAL);
    }
    let len = vma.pgoff + vma.pages();
    hugetlb_reserve_pages(k, vma, vma.pgoff / size.pages(), len / size.pages())?;
    let file = vma.file.unwrap_or_default();
    if vma.has(vm::WRITE) {
        let pages = &mut k.files[file].pages;
        *pages = (*pages).max(len);
    }
    Ok(())
}

/// `hugetlb_vmdelete_list()`: no vma that maps the file maps its pages `[start, end)`, in base
/// pages, any more.
fn hugetlb_vmdelete_list(k: &mut Kernel<'_>, file: FileId, start: u64, end: Option<u64>) {
    let last = end.unwrap_or(u64::MAX);
    for (mm, vma) in vma_interval_tree(k, file, start, last) {
        // vma_offset_start(), vma_offset_end()
        let v_start = vma.start + start.saturating_sub(vma.pgoff) * PAGE_SIZE;
        let v_end = vma.start + last.saturating_sub(vma.pgoff).min(vma.pages()) * PAGE_SIZE;
        k.in_mm(mm, |k| unmap_hugepage_range(k, &vma, v_start, v_end, None));
    }
}

/// `remove_inode_hugepages()`, `remove_inode_single_folio()`: of pages of hugetlb
/// `[first, end)`; none for the end where the file is truncated.
fn remove_inode_hugepages(k: &mut Kernel<'_>, file: FileId, first: u64, end: Option<u64>) {
    let range = first..end.unwrap_or(u64::MAX).max(first);
    let cached = k.files[file].cache.range(range);
    let indices: Vec<u64> = cached.map(|(&index, _)| index).collect();
    let mut freed = 0;
    for &index in &indices {
        let Some(CacheEntry::Folio(id)) = k.files[file].cache.remove(&index) else {
            continue;
        };
        freed += 1;
        k.folios[id].mapping = None;
        if end.is_some() {
            hugetlb_unreserve_pages(k, file, (index, index + 1), 1);
        }
        swap::folio_put(k, id);
    }
    // folio_batch_release(), which does nothing with an empty batch.
    if freed > 0 {
        swap::lru_add_drain(k);
    }
    if end.is_none() {
        hugetlb_unreserve_pages(k, file, (first, u64::MAX), freed);
    }
}

/// `hugetlbfs_evict_inode()`
pub fn hugetlbfs_evict_inode(k: &mut Kernel<'_>, file: FileId) {
    remove_inode_hugepages(k, file, 0, None);
}

/// `hugetlbfs_setattr()` of a file's size, in bytes, `hugetlb_vmtruncate()`
///
/// # Errors
/// EINVAL inside a page, EPERM where a seal forbids it.
pub fn hugetlbfs_setattr(k: &mut Kernel<'_>, file: FileId, newsize: u64) -> Result<(), i32> {
    let inode = k.files.get(file).ok_or(errno::EINVAL)?;
    let size = inode.file.hugetlb.unwrap_or(HugePages::Mib2);
    if !newsize.is_multiple_of(size.bytes()) {
        return Err(errno::EINVAL);
    }
    let (old, new) = (inode.pages, newsize / PAGE_SIZE);
    let seals = inode.file.seals;
    if new < old && seals & F_SEAL_SHRINK != 0 || new > old && seals & F_SEAL_GROW != 0 {
        return Err(errno::EPERM);
    }
    k.files[file].pages = new;
    hugetlb_vmdelete_list(k, file, new, None);
    remove_inode_hugepages(k, file, new / size.pages(), None);
    Ok(())
}

/// `hugetlbfs_punch_hole()`, in bytes: whole pages go, of others the bytes become zeroes.
///
/// # Errors
/// EPERM where the file is sealed against writing.
pub fn hugetlbfs_punch_hole(
    k: &mut Kernel<'_>,
    file: FileId,
    offset: u64,
    len: u64,
) -> Result<(), i32> {
    let inode = k.files.get(file).ok_or(errno::EINVAL)?;
    let size = inode.file.hugetlb.unwrap_or(HugePages::Mib2);
    if inode.file.seals & SEALED_AGAINST_WRITES != 0 {
        return Err(errno::EPERM);
    }
    let hole_start = offset.next_multiple_of(size.bytes());
    let hole_end = (offset + len) & !(size.bytes() - 1);
    if hole_end > hole_start {
        let (start, end) = (hole_start / PAGE_SIZE, hole_end / PAGE_SIZE);
        hugetlb_vmdelete_list(k, file, start, Some(end));
        remove_inode_hugepages(k, file, start / size.pages(), Some(end / size.pages()));
    }
    Ok(())
}
