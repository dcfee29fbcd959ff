// SPDX-License-Identifier: GPL-2.0-only
//! `fs/xfs/xfs_iops.c`: a file gets shorter or longer. Blocks are as large as pages, and what is
//! behind the end is a hole, or blocks that hold nothing yet: there is nothing to zero.

use crate::errno;
use crate::mm::truncate::truncate_pagecache;
use crate::mm_types::FileId;
use crate::state::Kernel;

/// `xfs_setattr_size()`, in pages
///
/// # Errors
/// EINVAL where there is no such file.
pub fn xfs_setattr_size(k: &mut Kernel<'_>, file: FileId, new: u64) -> Result<(), i32> {
    let inode = k.files.get_mut(file).ok_or(errno::EINVAL)?;
    // truncate_setsize()
    inode.pages = new;
    truncate_pagecache(k, file, new);
    k.files[file].zero_blocks(new, u64::MAX);
    Ok(())
}
