// SPDX-License-Identifier: GPL-2.0-only
//! `kernel/exit.c`, `exec_mmap()` of `fs/exec.c` and `exit_mmap()` of `mm/mmap.c`:
//! how an mm ends.

use crate::api::{Call, Entry, MmId};
use crate::arch::riscv::mm::context;
use crate::mm::{swap, vma};
use crate::mm_types::{Mm, Vma};
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
fn leave(k: &mut Kernel<'_>, mm: MmId) {
    for task in k.tasks.iter_mut().filter(|task| task.mm == Some(mm)) {
        task.mm = None;
    }
}

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
    k.tasks[k.current].mm = Some(mm);
    context::run(k, k.current);
    mmput(k, old);
    // As after a fork, see there.
    swap::lru_add_drain(k);
}

/// `mmput()`: the last user's brings `exit_mmap()`.
fn mmput(k: &mut Kernel<'_>, mm: MmId) {
    if k.tasks.iter().all(|task| task.mm != Some(mm)) {
        k.in_mm(mm, exit_mmap);
    }
}

/// `exit_mmap()`: secondary MMUs drop all of the mm (`mmu_notifier_release()`)
/// before anything of it is unmapped.
fn exit_mmap(k: &mut Kernel<'_>) {
    k.calls.push(Call {
        mm: Some(k.mm_id),
        entry: Entry::Release,
        effects: Vec::new(),
    });
    exit_unseen(k);
}

/// The same of an mm that nobody watches.
pub fn exit_unseen(k: &mut Kernel<'_>) {
    k.mm.released = true;
    let vmas: Vec<Vma> = std::mem::take(&mut k.mm.vmas).into_values().collect();
    vma::exit_vmas(k, &vmas);
}
