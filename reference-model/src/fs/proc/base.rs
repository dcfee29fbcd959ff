// SPDX-License-Identifier: GPL-2.0-only
//! `fs/proc/base.c`: `/proc/PID/mem`.

use crate::errno;
use crate::mm::memory::access_remote_vm;
use crate::mm_types::{Written, vm};
use crate::state::Kernel;

/// `mem_rw()` of one byte on the mm that is acted on. Whether it writes what its owner may not
/// is configured, and asked of `proc_mem_foll_force()`: the model does not know.
///
/// # Errors
/// EIO where nothing can be written.
pub fn mem_write(k: &mut Kernel, addr: u64, byte: u8) -> Result<(), i32> {
    if k.mm.vma_lookup(addr).is_some_and(|vma| !vma.has(vm::WRITE)) {
        k.unpredicted = Some("whether /proc/PID/mem goes by rights");
        return Ok(());
    }
    access_remote_vm(k, addr, Written::Byte(byte)).map_err(|()| errno::EIO)
}
