// SPDX-License-Identifier: GPL-2.0-only
//! `fs/open.c`: the calls that change the size of a file, or punch holes into it.

use crate::api::PAGE_SIZE;
use crate::errno;
use crate::mm::shmem::{shmem_fallocate, shmem_setattr};
use crate::mm_types::FileId;
use crate::state::Kernel;

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
    shmem_setattr(k, file, len.div_ceil(PAGE_SIZE))
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
    let first = offset.div_ceil(PAGE_SIZE);
    shmem_fallocate(k, file, first, ((offset + len) / PAGE_SIZE).max(first))
}
