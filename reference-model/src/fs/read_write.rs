// SPDX-License-Identifier: GPL-2.0-only
//! `fs/read_write.c`: a file is read by calls.

use crate::errno;
use crate::mm::filemap::filemap_read;
use crate::mm::shmem::shmem_file_read_iter;
use crate::mm_types::FileId;
use crate::state::Kernel;
use operations::Storage;
use std::ops::Range;

/// `ksys_pread64()`, a call for each page. Behind the end of the file there is nothing to read.
///
/// # Errors
/// EBADF where there is no such file.
pub fn ksys_pread64(k: &mut Kernel<'_>, file: FileId, pages: Range<u64>) -> Result<(), i32> {
    let inode = k.files.get(file).ok_or(errno::EBADF)?;
    if inode.file.hugetlb.is_some() {
        k.unpredicted = Some("hugetlb that is read by calls");
    }
    let end = pages.end.min(inode.pages);
    for index in pages.start..end {
        match k.storage(Some(file)) {
            Storage::Memory => shmem_file_read_iter(k, file, index),
            Storage::Ext4 | Storage::Xfs => filemap_read(k, file, index),
        }
    }
    Ok(())
}
