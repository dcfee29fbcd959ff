// SPDX-License-Identifier: GPL-2.0-only
//! `fs/ext4/extents.c`: blocks of a file are got, zeroed, taken out and put in. Blocks are as
//! large as pages.

use crate::errno;
use crate::fs::ext4::inode::ext4_punch_hole;
use crate::fs::open::{
    FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE,
    FALLOC_FL_ZERO_RANGE,
};
use crate::mm::filemap::filemap_write_and_wait_range;
use crate::mm::truncate::{truncate_pagecache, truncate_pagecache_range};
use crate::mm_types::FileId;
use crate::state::Kernel;

/// `ext4_fallocate()`, of whole pages `[first, end)`. To get blocks (`ext4_do_fallocate()`)
/// changes nothing of the page cache.
///
/// # Errors
/// EINVAL for a part to be taken out, or put in, that does not lie within the file.
pub fn ext4_fallocate(
    k: &mut Kernel<'_>,
    file: FileId,
    mode: i32,
    (first, end): (u64, u64),
) -> Result<(), i32> {
    match mode & !FALLOC_FL_KEEP_SIZE {
        FALLOC_FL_PUNCH_HOLE => return ext4_punch_hole(k, file, first, end),
        FALLOC_FL_COLLAPSE_RANGE => return ext4_collapse_range(k, file, (first, end)),
        FALLOC_FL_INSERT_RANGE => return ext4_insert_range(k, file, (first, end)),
        // ext4_zero_range(), by ext4_truncate_page_cache_block_range()
        FALLOC_FL_ZERO_RANGE => {
            truncate_pagecache_range(k, file, first, end);
            k.files[file].zero_blocks(first, end);
        }
        _ => {}
    }
    if mode & FALLOC_FL_KEEP_SIZE == 0 {
        let inode = &mut k.files[file];
        inode.pages = inode.pages.max(end);
    }
    Ok(())
}

/// `ext4_collapse_range()`. What is to be written goes by the last byte, and so the first page
/// of what is taken out is written, too.
fn ext4_collapse_range(
    k: &mut Kernel<'_>,
    file: FileId,
    (first, end): (u64, u64),
) -> Result<(), i32> {
    if end >= k.files[file].pages {
        return Err(errno::EINVAL);
    }
    filemap_write_and_wait_range(k, file, first, first + 1);
    filemap_write_and_wait_range(k, file, end, u64::MAX);
    truncate_pagecache(k, file, first);
    k.files[file].take_blocks_out(first, end);
    Ok(())
}

/// `ext4_insert_range()`
fn ext4_insert_range(
    k: &mut Kernel<'_>,
    file: FileId,
    (first, end): (u64, u64),
) -> Result<(), i32> {
    if first >= k.files[file].pages {
        return Err(errno::EINVAL);
    }
    filemap_write_and_wait_range(k, file, first, u64::MAX);
    truncate_pagecache(k, file, first);
    k.files[file].put_blocks_in(first, end);
    Ok(())
}
