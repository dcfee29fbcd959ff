// SPDX-License-Identifier: GPL-2.0-only
//! `kernel/cpu.c`: a hart goes offline. What it takes to come online again changes no mm.

use crate::mm::page_alloc::page_alloc_cpu_dead;
use crate::state::Kernel;

/// `cpu_down()`, as far as mms and LRU lists are concerned.
pub fn cpu_down(k: &mut Kernel<'_>, hart: u32) {
    clear_tasks_mm_cpumask(k, hart);
    page_alloc_cpu_dead(k, hart);
}

/// `clear_tasks_mm_cpumask()`, which `arch_cpuhp_cleanup_dead_cpu()`
/// (`arch/riscv/kernel/cpu-hotplug.c`) calls: no mm of a process that there is has the hart in
/// its mask any more. The hart itself has left its mm before, by `idle_task_exit()`
/// (`kernel/sched/core.c`).
fn clear_tasks_mm_cpumask(k: &mut Kernel<'_>, hart: u32) {
    let bit = 1u64.checked_shl(hart).unwrap_or(0);
    if let Some(active) = k.active_mm.get_mut(hart as usize) {
        // init_mm is loaded, which is nobody's.
        let left = active.take();
        if let Some(left) = left.filter(|_| !k.machine.asids) {
            k.mm_mut(left).cpumask &= !bit;
        }
    }
    let mms: Vec<_> = k.tasks.iter().filter_map(|task| task.mm).collect();
    for mm in mms {
        k.mm_mut(mm).cpumask &= !bit;
    }
}
