// SPDX-License-Identifier: GPL-2.0-only
//! `fs/xfs/xfs_bmap_util.c`: blocks of a file are given up and moved. Blocks are as large as
//! pages, and so none is zeroed in part.

use crate::mm::filemap::filemap_write_and_wait_range;
use crate::mm::truncate::truncate_pagecache_range;
use crate::mm_types::FileId;
use crate::state::Kernel;

/// `xfs_flush_unmap_range()`, of pages `[first, end)`
fn xfs_flush_unmap_range(k: &mut Kernel<'_>, file: FileId, first: u64, end: u64) {
    filemap_write_and_wait_range(k, file, first, end);
    truncate_pagecache_range(k, file, first, end);
}

/// `xfs_free_file_space()`, of pages `[first, end)`
pub fn xfs_free_file_space(k: &mut Kernel<'_>, file: FileId, first: u64, end: u64) {
    xfs_flush_unmap_range(k, file, first, end);
    k.files[file].zero_blocks(first, end);
}

/// `xfs_prepare_shift()`: all from the page before on.
fn xfs_prepare_shift(k: &mut Kernel<'_>, file: FileId, first: u64) {
    let first = first.saturating_sub(1);
    let end = first + k.files[file].pages;
    xfs_flush_unmap_range(k, file, first, end);
}

/// `xfs_collapse_file_space()`
pub fn xfs_collapse_file_space(k: &mut Kernel<'_>, file: FileId, (first, end): (u64, u64)) {
    xfs_free_file_space(k, file, first, end);
    xfs_prepare_shift(k, file, first);
}

/// `xfs_insert_file_space()`
pub fn xfs_insert_file_space(k: &mut Kernel<'_>, file: FileId, first: u64) {
    xfs_prepare_shift(k, file, first);
}
