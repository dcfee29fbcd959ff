// SPDX-License-Identifier: GPL-2.0-only
//! `fs/open.c`: the calls that change the size of a file, or punch holes into it.

use crate::api::PAGE_SIZE;
use crate::errno;
use crate::fs::ext4::extents::ext4_fallocate;
use crate::fs::ext4::inode::ext4_setattr;
use crate::fs::hugetlbfs::inode::{hugetlbfs_punch_hole, hugetlbfs_setattr};
use crate::fs::xfs::xfs_file::xfs_file_fallocate;
use crate::fs::xfs::xfs_iops::xfs_setattr_size;
use crate::mm::shmem::{shmem_fallocate, shmem_setattr};
use crate::mm_types::{FileId, Of};
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
        Storage::Xfs => xfs_setattr_size(k, file, pages),
    }
}

/// `FALLOC_FL_KEEP_SIZE` (`include/uapi/linux/falloc.h`): the file does not get longer.
pub const FALLOC_FL_KEEP_SIZE: i32 = 0x1;
/// `FALLOC_FL_PUNCH_HOLE`
pub const FALLOC_FL_PUNCH_HOLE: i32 = 0x2;
/// `FALLOC_FL_COLLAPSE_RANGE`
pub const FALLOC_FL_COLLAPSE_RANGE: i32 = 0x8;
/// `FALLOC_FL_ZERO_RANGE`
pub const FALLOC_FL_ZERO_RANGE: i32 = 0x10;
/// `FALLOC_FL_INSERT_RANGE`
pub const FALLOC_FL_INSERT_RANGE: i32 = 0x20;

/// `vfs_fallocate()`. `offset` and `len` are in bytes.
///
/// # Errors
/// EINVAL for nothing, EBADF for a descriptor that is not open for writing, EFBIG after the end
/// of the largest file, EOPNOTSUPP or ENODEV for a file that has no such call, EPERM where a
/// seal forbids it.
pub fn vfs_fallocate(
    k: &mut Kernel,
    file: FileId,
    mode: i32,
    (offset, len): (u64, u64),
) -> Result<(), i32> {
    let inode = k.files.get(file).ok_or(errno::EINVAL)?;
    if len == 0 || offset > i64::MAX as u64 || len > i64::MAX as u64 {
        return Err(errno::EINVAL);
    }
    if inode.file.read_only {
        return Err(errno::EBADF);
    }
    if inode.of == Of::Driver {
        return Err(errno::ENODEV);
    }
    if offset + len > i64::MAX as u64 {
        return Err(errno::EFBIG);
    }
    if inode.of == Of::Secret {
        return Err(errno::EOPNOTSUPP);
    }
    if inode.file.hugetlb.is_some() {
        if mode & FALLOC_FL_PUNCH_HOLE == 0 {
            k.unpredicted = Some("fallocate(2) of hugetlb, but for holes");
        }
        return hugetlbfs_punch_hole(k, file, offset, len);
    }
    let first = offset.div_ceil(PAGE_SIZE);
    let end = ((offset + len) / PAGE_SIZE).max(first);
    match k.storage(Some(file)) {
        Storage::Memory => shmem_fallocate(k, file, mode, (first, end)),
        Storage::Ext4 => ext4_fallocate(k, file, mode, (first, end)),
        Storage::Xfs => xfs_file_fallocate(k, file, mode, (first, end)),
    }
}
