// SPDX-License-Identifier: GPL-2.0-only
//! `kernel/ptrace.c`

use crate::errno;
use crate::mm::memory::access_remote_vm;
use crate::mm_types::Written;
use crate::state::Kernel;

/// `ptrace_attach()`: no thread traces another of its own process (`same_thread_group()`), which
/// here is one that has the same mm.
///
/// # Errors
/// EPERM.
pub fn ptrace_attach(k: &Kernel, task: usize) -> Result<(), i32> {
    let own = k.tasks.get(k.current).and_then(|task| task.mm);
    match k.tasks.get(task).and_then(|task| task.mm) {
        Some(mm) if Some(mm) == own => Err(errno::EPERM),
        _ => Ok(()),
    }
}

/// `generic_ptrace_pokedata()` of a word of the same bytes, on the mm that is acted on.
///
/// # Errors
/// EIO where nothing can be written.
pub fn generic_ptrace_pokedata(k: &mut Kernel, addr: u64, byte: u8) -> Result<(), i32> {
    access_remote_vm(k, addr, Written::Word(byte)).map_err(|()| errno::EIO)
}
