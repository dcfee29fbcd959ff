// SPDX-License-Identifier: GPL-2.0-only
//! `fs/file_table.c`: who has a file open.

use crate::mm::shmem::shmem_evict_inode;
use crate::mm_types::FileId;
use crate::state::Kernel;

/// `fput()` of a vma's file: what backs shared anonymous memory goes with its last vma. A
/// memfd has its descriptor.
pub fn fput(k: &mut Kernel, file: FileId) {
    let unnamed = k.files.get(file).is_some_and(|inode| inode.unnamed);
    let mut mms = (0..k.mms.len()).map(|mm| k.mm(mm));
    if unnamed && mms.all(|mm| mm.vmas.values().all(|vma| vma.file != Some(file))) {
        shmem_evict_inode(k, file);
    }
}
