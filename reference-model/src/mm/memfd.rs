// SPDX-License-Identifier: GPL-2.0-only
//! `mm/memfd.c`: what a seal says to a new mapping.

use crate::errno;
use crate::mm::shmem::SEALED_AGAINST_WRITES;
use crate::mm_types::{Inode, vm};

/// `memfd_check_seals_mmap()` and `check_write_seal()`: the vm_flags of a mapping of the file.
///
/// # Errors
/// EPERM where a shared mapping would be writable, and the file is sealed against that.
pub fn memfd_check_seals_mmap(inode: &Inode, vm_flags: u64) -> Result<u64, i32> {
    let sealed = inode.file.seals & SEALED_AGAINST_WRITES != 0;
    if !sealed || vm_flags & vm::SHARED == 0 {
        return Ok(vm_flags);
    }
    if vm_flags & vm::WRITE != 0 {
        return Err(errno::EPERM);
    }
    Ok(vm_flags & !vm::MAYWRITE)
}
