// SPDX-License-Identifier: GPL-2.0-only
//! `kernel/fork.c`: a second mm with the same vmas, and the end of one that nobody has.

use crate::api::{Entry, MmId};
use crate::errno;
use crate::fs::userfaultfd::{dup_userfaultfd, dup_userfaultfd_complete};
use crate::kernel::sched::core::context_switch;
use crate::mm::gup::gup_put_folio;
use crate::mm::interval_tree::vma_interval_tree_insert_after;
use crate::mm::ksm::{ksm_exit, ksm_fork};
use crate::mm::memory::copy::copy_page_range;
use crate::mm::mlock::VM_LOCKED_MASK;
use crate::mm::mmap::{exit_mmap, exit_unseen};
use crate::mm::rmap::anon_vma::anon_vma_fork;
use crate::mm::swap;
use crate::mm::util::vm_enough_memory;
use crate::mm_types::{Mm, Resv, Vma, vm};
use crate::state::{Held, Kernel};

/// `kernel_clone()` of fork(2): `current`'s mm is copied for another task. The child runs
/// at once, on its parent's hart, and then on its own: its mm may be cached on both.
///
/// # Errors
/// ENOMEM where the memory cannot be promised twice.
pub fn kernel_clone(k: &mut Kernel<'_>, child: usize, mm: MmId) -> Result<(), i32> {
    let parent = k.current;
    if k.mms.len() <= mm {
        k.mms.resize_with(mm + 1, Mm::default);
    }
    dup_mmap(k, mm)?;
    // Both copy what they write to next, wherever they run.
    k.migrates = None;
    let Some(hart) = k.tasks.get(child).map(|task| task.hart) else {
        return Ok(());
    };
    k.tasks[child].mm = Some(mm);
    k.tasks[child].born = true;
    k.tasks[child].uffd = k.tasks[parent].uffd;
    k.tasks[child].hart = k.hart();
    context_switch(k, child);
    k.tasks[child].hart = hart;
    context_switch(k, child);
    // What both fault in until the child is ready is no part of the step, and the
    // guest's agent sees to it that it shares no batch with the steps' pages.
    swap::lru_add_drain(k);
    context_switch(k, parent);
    swap::lru_add_drain(k);
    Ok(())
}

/// `dup_mm()` and `dup_mmap()`
fn dup_mmap(k: &mut Kernel<'_>, child: MmId) -> Result<(), i32> {
    let mut mm = Mm {
        // dup_mm() copies the whole struct; what mm_init() leaves alone stays.
        tlb_flush_pending_gen: k.mm.tlb_flush_pending_gen,
        tlb_flush_flushed_gen: k.mm.tlb_flush_flushed_gen,
        // khugepaged_fork()
        known_to_khugepaged: k.mm.known_to_khugepaged,
        ..Mm::default()
    };
    let vmas: Vec<Vma> = k.mm.vmas.values().cloned().collect();
    let mut result = Ok(());
    for mpnt in &vmas {
        if mpnt.has(vm::DONTCOPY) {
            continue;
        }
        if mpnt.has(vm::ACCOUNT) && !vm_enough_memory(k, mpnt.pages()) {
            result = Err(errno::ENOMEM);
            break;
        }
        let mut tmp = mpnt.clone();
        // hugetlb_dup_vma_private()
        tmp.resv = Resv::default();
        let wiped = tmp.has(vm::WIPEONFORK);
        if wiped {
            tmp.anon_vma = None;
            tmp.anon_vma_chain = Default::default();
        } else {
            anon_vma_fork(k, &mut tmp, mpnt);
        }
        tmp.flags &= !VM_LOCKED_MASK;
        dup_userfaultfd(k, &mut tmp);
        if let Some(file) = tmp.file {
            tmp.seq = vma_interval_tree_insert_after(k, file, mpnt);
        }
        if !wiped {
            copy_page_range(k, &mut mm.pgd, (&tmp, mpnt));
        }
        mm.vmas.insert(tmp.start, tmp);
    }
    k.mms[child] = mm;
    k.enter(Entry::FlushTlbMm);
    if result.is_err() {
        // dup_mm() puts what was copied so far.
        k.in_mm(child, exit_unseen);
    } else {
        dup_userfaultfd_complete(k, child);
        ksm_fork(k, child);
        copy_files(k, child);
    }
    result
}

/// `copy_files()`: the child has its parent's descriptors, too.
fn copy_files(k: &mut Kernel<'_>, child: MmId) {
    let parent = k.mm_id;
    for held in k.held.iter_mut().filter(|held| held.mms.contains(&parent)) {
        held.mms.push(child);
    }
}

/// `exit_files()` (`fs/file.c`) of a process: what its pipes refer to is let go with the last who
/// has them. An io_uring goes when a worker gets to it.
fn exit_files(k: &mut Kernel<'_>, mm: MmId) {
    let closed = |held: &mut Held| {
        held.mms.retain(|other| *other != mm);
        held.mms.is_empty()
    };
    for held in k.held.extract_if(.., closed).collect::<Vec<_>>() {
        if held.pin {
            k.unpredicted = Some("when an io_uring lets go of its pages");
        }
        gup_put_folio(k, held.folio, held.pin);
    }
}

/// `mmput()`: with its last user the mm goes.
pub fn mmput(k: &mut Kernel<'_>, mm: MmId) {
    if k.tasks.iter().all(|task| task.mm != Some(mm)) {
        ksm_exit(k, mm);
        k.in_mm(mm, exit_mmap);
        exit_files(k, mm);
    }
}
