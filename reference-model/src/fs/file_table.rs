// SPDX-License-Identifier: GPL-2.0-only
//! `fs/file_table.c`: who has a file open.

use crate::fs::hugetlbfs::inode::hugetlbfs_evict_inode;
use crate::mm::shmem::shmem_evict_inode;
use crate::mm::truncate::truncate_inode_pages_range;
use crate::mm_types::{FileId, Of};
use crate::state::Kernel;

/// `fput()` of a vma's file: what backs shared anonymous memory, or hugetlb's, goes with its last vma. A
/// memfd has its descriptor.
pub fn fput(k: &mut Kernel, file: FileId) {
    let unnamed = k.files.get(file).is_some_and(|inode| inode.unnamed);
    let mut mms = (0..k.mms.len()).map(|mm| k.mm(mm));
    if unnamed && mms.all(|mm| mm.vmas.values().all(|vma| vma.file != Some(file))) {
        match k.files[file].file.hugetlb {
            None if k.files[file].of == Of::Secret => {
                truncate_inode_pages_range(k, file, 0, u64::MAX);
            }
            Some(_) => hugetlbfs_evict_inode(k, file),
            None => shmem_evict_inode(k, file),
        }
    }
}
