// SPDX-License-Identifier: GPL-2.0-only
//! `kernel/exit.c`: an actor ends.

use crate::api::MmId;
use crate::kernel::fork::mmput;
use crate::state::Kernel;

/// `do_exit()` of a thread, `do_group_exit()` of a process.
pub fn do_exit(k: &mut Kernel<'_>) {
    let Some(mm) = k.tasks.get(k.current).and_then(|task| task.mm) else {
        return;
    };
    if k.tasks[k.current].thread {
        k.tasks[k.current].mm = None;
    } else {
        leave(k, mm);
    }
    mmput(k, mm);
}

/// All of the process that has this mm are gone from it.
pub fn leave(k: &mut Kernel<'_>, mm: MmId) {
    for task in k.tasks.iter_mut().filter(|task| task.mm == Some(mm)) {
        task.mm = None;
    }
}
