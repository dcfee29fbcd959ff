// SPDX-License-Identifier: GPL-2.0-only
//! `mm/msync.c`: mapped files are written back.

use crate::api::PAGE_SIZE;
use crate::errno;
use crate::fs::sync::vfs_fsync_range;
use crate::mm::mmap::page_align;
use crate::mm_types::vm;
use crate::state::Kernel;

/// `MS_ASYNC` (`include/uapi/asm-generic/mman-common.h`)
const MS_ASYNC: i32 = 1;
/// `MS_INVALIDATE`
const MS_INVALIDATE: i32 = 2;
/// `MS_SYNC`
const MS_SYNC: i32 = 4;

/// `msync(2)`
///
/// # Errors
/// EINVAL for flags that do not go together, ENOMEM where something is not mapped, once all
/// else is written, EBUSY where locked memory is to be invalidated.
pub fn msync(k: &mut Kernel<'_>, start: u64, len: u64, flags: i32) -> Result<(), i32> {
    let known = MS_ASYNC | MS_INVALIDATE | MS_SYNC;
    let both = MS_ASYNC | MS_SYNC;
    if flags & !known != 0 || !start.is_multiple_of(PAGE_SIZE) || flags & both == both {
        return Err(errno::EINVAL);
    }
    let end = page_align(len).and_then(|len| start.checked_add(len));
    let end = end.ok_or(errno::ENOMEM)?;
    let (mut start, mut unmapped_error) = (start, Ok(()));
    while start < end {
        let Some(vma) = k.mm.find_vma(start).cloned() else {
            return Err(errno::ENOMEM);
        };
        if start < vma.start {
            if flags == MS_ASYNC || vma.start >= end {
                return Err(errno::ENOMEM);
            }
            start = vma.start;
            unmapped_error = Err(errno::ENOMEM);
        }
        if flags & MS_INVALIDATE != 0 && vma.has(vm::LOCKED) {
            return Err(errno::EBUSY);
        }
        let (first, last) = (
            vma.linear_page_index(start),
            vma.linear_page_index(end.min(vma.end)),
        );
        start = vma.end;
        if let Some(file) = vma
            .file
            .filter(|_| flags & MS_SYNC != 0 && vma.has(vm::SHARED))
        {
            vfs_fsync_range(k, file, first, last)?;
        }
    }
    unmapped_error
}
