// SPDX-License-Identifier: GPL-2.0-only
//! `kernel/ptrace.c`

use crate::errno;
use crate::mm::memory::access_remote_vm;
use crate::state::Kernel;

/// `generic_ptrace_pokedata()` on the mm that is acted on.
///
/// # Errors
/// EIO where nothing can be written.
pub fn generic_ptrace_pokedata(k: &mut Kernel, addr: u64) -> Result<(), i32> {
    access_remote_vm(k, addr).map_err(|()| errno::EIO)
}
