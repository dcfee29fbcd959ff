// SPDX-License-Identifier: GPL-2.0-only
//! `fs/exec.c`: a process takes another mm.

use crate::api::MmId;
use crate::kernel::exit::leave;
use crate::kernel::fork::mmput;
use crate::kernel::sched::core::context_switch;
use crate::mm::swap;
use crate::mm_types::Mm;
use crate::state::Kernel;

/// `exec_mmap()`, and `de_thread()` before it: the new mm is loaded before the
/// old one is put.
pub fn exec_mmap(k: &mut Kernel<'_>, mm: MmId) {
    let Some(old) = k.tasks.get(k.current).and_then(|task| task.mm) else {
        return;
    };
    if k.mms.len() <= mm {
        k.mms.resize_with(mm + 1, Mm::default);
    }
    leave(k, old);
    k.migrates = None;
    k.tasks[k.current].mm = Some(mm);
    // Its descriptor is closed by exec.
    k.tasks[k.current].uffd = None;
    context_switch(k, k.current);
    mmput(k, old);
    // As after a fork, see there.
    swap::lru_add_drain(k);
}
