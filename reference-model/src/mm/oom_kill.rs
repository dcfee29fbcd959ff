// SPDX-License-Identifier: GPL-2.0-only
//! `mm/oom_kill.c`: a killed process's memory is given back by others.

use crate::api::MmId;
use crate::kernel::exit::do_exit;
use crate::kernel::sched::core::context_switch;
use crate::mm::memory::zap::{ZapDetails, unmap_single_vma};
use crate::mm::mmu_gather::{tlb_finish_mmu, tlb_gather_mmu};
use crate::mm_types::{Vma, vm};
use crate::state::Kernel;

/// `process_mrelease()` of a process that was killed just before, and then its end. It has not
/// run meanwhile: that is so only where all that it has wait for the caller's hart.
pub fn process_mrelease(k: &mut Kernel<'_>, victim: usize) {
    let Some(mm) = mm_that_waits(
        k,
        victim,
        "whether a process ends before its memory is given back",
    ) else {
        return;
    };
    k.in_mm(mm, __oom_reap_task_mm);
    ends(k, victim);
}

/// `oom_reap_task_mm()` of a process that was killed for want of memory, and then its end. The OOM
/// reaper runs on the agent's hart, after two seconds: until then only who waits for the hart of
/// the killer is still there.
pub fn oom_reap_task_mm(k: &mut Kernel<'_>, victim: usize) {
    let Some(mm) = mm_that_waits(
        k,
        victim,
        "whether a process ends before the OOM reaper comes",
    ) else {
        return;
    };
    k.on_the_agents_hart(|k| k.in_mm(mm, __oom_reap_task_mm));
    ends(k, victim);
}

/// The mm of a process that was killed and waits for this hart; else why nothing is predicted.
fn mm_that_waits(k: &mut Kernel<'_>, victim: usize, otherwise: &'static str) -> Option<MmId> {
    let mm = k.tasks.get(victim).and_then(|task| task.mm);
    let waits = mm.filter(|mm| waits_for_this_hart(k, *mm));
    if waits.is_none() {
        k.unpredicted = Some(match mm {
            Some(_) => otherwise,
            None => "a process that is gone",
        });
    }
    waits
}

/// The caller sleeps, and who was killed gets to run.
fn ends(k: &mut Kernel<'_>, victim: usize) {
    let caller = k.current;
    context_switch(k, victim);
    do_exit(k);
    context_switch(k, caller);
}

/// Whether nobody with this mm can run before the caller sleeps.
fn waits_for_this_hart(k: &Kernel<'_>, mm: MmId) -> bool {
    let hart = k.hart();
    let mut its = k.tasks.iter().filter(|task| task.mm == Some(mm));
    its.all(|task| task.hart == hart)
}

/// `__oom_reap_task_mm()`: what is private goes, area by area, each with a gather of its own.
fn __oom_reap_task_mm(k: &mut Kernel<'_>) {
    let mut vmas: Vec<Vma> = k.mm.vmas.values().cloned().collect();
    if k.profile.oom_reaps_from_the_end {
        vmas.reverse();
    }
    // Of what is mapped of a device or of hugetlb nothing goes.
    let spared = |vma: &Vma| vma.has(vm::HUGETLB | vm::SHARED);
    for vma in vmas.iter().filter(|vma| !spared(vma)) {
        let mut tlb = tlb_gather_mmu(k);
        // unmap_page_range(), later zap_vma_for_reaping()
        unmap_single_vma(k, &mut tlb, vma, vma.start, vma.end, ZapDetails::PAGES);
        tlb_finish_mmu(k, tlb);
    }
}
