// SPDX-License-Identifier: GPL-2.0-only
//! `kernel/sched/core.c`: who runs, and so whose mm a hart has loaded.

use crate::arch::riscv::mm::context::switch_mm;
use crate::state::Kernel;

/// `context_switch()`: an actor runs. Its hart loads its mm, which is the one that is
/// acted on from now on. An idle hart keeps the mm that it had.
pub fn context_switch(k: &mut Kernel<'_>, task: usize) {
    k.current = task;
    switch_mm(k);
    if let Some(mm) = k.tasks.get(task).and_then(|task| task.mm) {
        k.act_on(mm);
    }
}
