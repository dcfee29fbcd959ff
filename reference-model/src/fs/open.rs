// SPDX-License-Identifier: GPL-2.0-only
//! `fs/open.c`: the calls that change the size of a file, or punch holes into it.

use crate::api::PAGE_SIZE;
use crate::errno;
use crate::fs::ext4::inode::{ext4_punch_hole, ext4_setattr};
use crate::fs::hugetlbfs::inode::{hugetlbfs_punch_hole, hugetlbfs_setattr};
use crate::mm::shmem::{shmem_fallocate, shmem_setattr};
use crate::mm_types::FileId;
use crate::state::Kernel;
use operations::Storage;

/// `do_sys_ftruncate()`. `len` is in bytes.
///
/// # Errors
/// EINVAL for a descriptor that is not open for writing or an impossible size, EPERM
/// where a seal forbids it.
pub fn do_sys_ftruncate(k: &mut Kernel, file: FileId, len: u64) -> Result<(), i32> {
    let inode = k.files.get(file).ok_or(errno::EINVAL)?;
    if len > i64::MAX as u64 || inode.file.read_only {
        return Err(errno::EINVAL);
    }
    if inode.file.hugetlb.is_some() {
        return hugetlbfs_setattr(k, file, len);
    }
    let pages = len.div_ceil(PAGE_SIZE);
    match k.storage(Some(file)) {
        Storage::Memory => shmem_setattr(k, file, pages),
        Storage::Ext4 => ext4_setattr(k, file, pages),
        Storage::Xfs => {
            k.unpredicted = Some("truncation on xfs");
            Ok(())
        }
    }
}

/// `vfs_fallocate()` with FALLOC_FL_PUNCH_HOLE. `offset` and `len` are in bytes.
///
/// # Errors
/// EINVAL for nothing to punch, EBADF for a descriptor that is not open for writing,
/// EFBIG after the end of the largest file, EPERM where a seal forbids it.
pub fn vfs_fallocate(k: &mut Kernel, file: FileId, offset: u64, len: u64) -> Result<(), i32> {
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
    if inode.file.hugetlb.is_some() {
        return hugetlbfs_punch_hole(k, file, offset, len);
    }
    let first = offset.div_ceil(PAGE_SIZE);
    let end = ((offset + len) / PAGE_SIZE).max(first);
    match k.storage(Some(file)) {
        Storage::Memory => shmem_fallocate(k, file, first, end),
        Storage::Ext4 => ext4_punch_hole(k, file, first, end),
        Storage::Xfs => {
            k.unpredicted = Some("holes on xfs");
            Ok(())
        }
    }
}
