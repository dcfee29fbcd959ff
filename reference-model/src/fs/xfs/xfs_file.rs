// SPDX-License-Identifier: GPL-2.0-only
//! `fs/xfs/xfs_file.c`: blocks of a file are got, zeroed, given up, taken out and put in.

use crate::errno;
use crate::fs::open::{
    FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE,
    FALLOC_FL_ZERO_RANGE,
};
use crate::fs::xfs::xfs_bmap_util::{
    xfs_collapse_file_space, xfs_free_file_space, xfs_insert_file_space,
};
use crate::fs::xfs::xfs_iops::xfs_setattr_size;
use crate::mm_types::FileId;
use crate::state::Kernel;

/// `xfs_file_fallocate()`, later `__xfs_file_fallocate()`, of whole pages `[first, end)`. To get
/// blocks (`xfs_falloc_allocate_range()`) changes nothing of the page cache.
///
/// # Errors
/// EINVAL for a part to be taken out, or put in, that does not lie within the file.
pub fn xfs_file_fallocate(
    k: &mut Kernel<'_>,
    file: FileId,
    mode: i32,
    (first, end): (u64, u64),
) -> Result<(), i32> {
    match mode & !FALLOC_FL_KEEP_SIZE {
        FALLOC_FL_PUNCH_HOLE => xfs_free_file_space(k, file, first, end),
        FALLOC_FL_COLLAPSE_RANGE => return xfs_falloc_collapse_range(k, file, (first, end)),
        FALLOC_FL_INSERT_RANGE => return xfs_falloc_insert_range(k, file, (first, end)),
        // xfs_falloc_zero_range()
        FALLOC_FL_ZERO_RANGE => xfs_free_file_space(k, file, first, end),
        _ => {}
    }
    // xfs_falloc_newsize()
    if mode & FALLOC_FL_KEEP_SIZE == 0 && end > k.files[file].pages {
        return xfs_setattr_size(k, file, end);
    }
    Ok(())
}

/// `xfs_falloc_collapse_range()`
fn xfs_falloc_collapse_range(
    k: &mut Kernel<'_>,
    file: FileId,
    (first, end): (u64, u64),
) -> Result<(), i32> {
    let old = k.files[file].pages;
    if end >= old {
        return Err(errno::EINVAL);
    }
    xfs_collapse_file_space(k, file, (first, end));
    k.files[file].take_blocks_out(first, end);
    // xfs_falloc_setsize()
    xfs_setattr_size(k, file, old - (end - first))
}

/// `xfs_falloc_insert_range()`
fn xfs_falloc_insert_range(
    k: &mut Kernel<'_>,
    file: FileId,
    (first, end): (u64, u64),
) -> Result<(), i32> {
    let old = k.files[file].pages;
    if first >= old {
        return Err(errno::EINVAL);
    }
    // xfs_falloc_setsize()
    xfs_setattr_size(k, file, old + (end - first))?;
    xfs_insert_file_space(k, file, first);
    k.files[file].pages = old;
    k.files[file].put_blocks_in(first, end);
    Ok(())
}
