// SPDX-License-Identifier: GPL-2.0-only
//! `fs/sync.c`: files are written back because somebody asks for it.

use crate::api::PAGE_SIZE;
use crate::errno;
use crate::mm::filemap::filemap_write_and_wait_range;
use crate::mm_types::FileId;
use crate::state::Kernel;

/// `do_fsync()`
///
/// # Errors
/// EBADF where there is no such file.
pub fn do_fsync(k: &mut Kernel<'_>, file: FileId) -> Result<(), i32> {
    vfs_fsync_range(k, file, 0, u64::MAX)
}

/// `vfs_fsync_range()`, of pages `[first, end)`. The journal's commit finds no page to write
/// that is not written yet.
///
/// # Errors
/// EBADF where there is no such file.
pub fn vfs_fsync_range(k: &mut Kernel<'_>, file: FileId, first: u64, end: u64) -> Result<(), i32> {
    if file >= k.files.len() {
        return Err(errno::EBADF);
    }
    filemap_write_and_wait_range(k, file, first, end);
    Ok(())
}

/// `sync_file_range()` with all its flags. `offset` and `nbytes` are in bytes.
///
/// # Errors
/// EBADF where there is no such file, EINVAL for an impossible range.
pub fn sync_file_range(
    k: &mut Kernel<'_>,
    file: FileId,
    offset: u64,
    nbytes: u64,
) -> Result<(), i32> {
    if file >= k.files.len() {
        return Err(errno::EBADF);
    }
    let end = offset.checked_add(nbytes).ok_or(errno::EINVAL)?;
    if offset > i64::MAX as u64 || end > i64::MAX as u64 {
        return Err(errno::EINVAL);
    }
    let end = if nbytes == 0 {
        u64::MAX
    } else {
        end.div_ceil(PAGE_SIZE)
    };
    filemap_write_and_wait_range(k, file, offset / PAGE_SIZE, end);
    Ok(())
}
