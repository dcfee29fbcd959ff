// SPDX-License-Identifier: GPL-2.0-only
//! `fs/userfaultfd.c`: the requests of a userfaultfd, and its events. A process has one at the most,
//! with UFFD_FEATURE_SIGBUS where no step answers faults, and with UFFD_FEATURE_EVENT_* where one
//! reads events.

use crate::api::{MmId, Op, PAGE_SIZE, Program, Step};
use crate::errno;
use crate::mm::hugetlb::hugetlb_vm_op_split;
use crate::mm::userfaultfd::{
    Fill, mfill_atomic, move_pages, userfaultfd_clear_vma, userfaultfd_register_range,
    userfaultfd_release_all, vma_can_userfault,
};
use crate::mm_types::{UffdEvents, Vma, vm};
use crate::state::Kernel;
use operations::Plain;

/// `UFFDIO_REGISTER_MODE_MISSING` (`include/uapi/linux/userfaultfd.h`)
const UFFDIO_REGISTER_MODE_MISSING: u64 = 1;
/// `UFFDIO_REGISTER_MODE_WP`
const UFFDIO_REGISTER_MODE_WP: u64 = 2;
/// `UFFDIO_REGISTER_MODE_MINOR`
const UFFDIO_REGISTER_MODE_MINOR: u64 = 4;

/// Does something in the mm that the running task's userfaultfd is for.
///
/// # Errors
/// EBADF where it has none, or what is done comes to.
fn with_ctx<R>(
    k: &mut Kernel<'_>,
    what: impl FnOnce(&mut Kernel<'_>, MmId) -> Result<R, i32>,
) -> Result<R, i32> {
    let uffd = k.tasks.get(k.current).and_then(|task| task.uffd);
    let mm = uffd.ok_or(errno::EBADF)?;
    k.in_mm(mm, |k| what(k, mm))
}

/// `validate_range()`
fn validate_range(start: u64, len: u64) -> Result<(), i32> {
    let aligned = start.is_multiple_of(PAGE_SIZE) && len.is_multiple_of(PAGE_SIZE);
    let good = aligned && len > 0 && start.checked_add(len).is_some();
    if good { Ok(()) } else { Err(errno::EINVAL) }
}

/// The vmas of a range, in order.
fn vmas_of(k: &Kernel<'_>, start: u64, end: u64) -> Vec<Vma> {
    let vmas = k.mm.vmas.values();
    let inside = vmas.filter(|vma| vma.start < end && vma.end > start);
    inside.cloned().collect()
}

/// Whether no page of hugetlb would have to be split there.
fn is_whole(k: &Kernel<'_>, vma: &Vma, addr: u64) -> bool {
    hugetlb_vm_op_split(k, vma, addr).is_ok()
}

/// The part of `userfaultfd_register()` and `userfaultfd_unregister()` that looks at the first vma
///
/// # Errors
/// EINVAL where there is none, or inside a page of hugetlb.
fn begins_with_a_page(k: &Kernel<'_>, vmas: &[Vma], at: u64) -> Result<(), i32> {
    match vmas.first() {
        Some(first) if is_whole(k, first, at) => Ok(()),
        _ => Err(errno::EINVAL),
    }
}

/// `userfaultfd_register()`
///
/// # Errors
/// EINVAL for a mode or memory that cannot be registered, EPERM where the file may not be
/// written, ENOMEM where the mm is gone or may have no more areas.
pub fn userfaultfd_register(k: &mut Kernel<'_>, at: u64, len: u64, mode: u64) -> Result<(), i32> {
    with_ctx(k, |k, _| {
        let known = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR;
        if mode & UFFDIO_REGISTER_MODE_WP != 0 {
            k.unpredicted = Some("write protection by userfaultfd");
            return Ok(());
        }
        if mode == 0 || mode & !known != 0 {
            return Err(errno::EINVAL);
        }
        let missing = (mode & UFFDIO_REGISTER_MODE_MISSING != 0, vm::UFFD_MISSING);
        let minor = (mode & UFFDIO_REGISTER_MODE_MINOR != 0, vm::UFFD_MINOR);
        let flags = [missing, minor].into_iter().filter(|flag| flag.0);
        let flags = flags.fold(0, |all, flag| all | flag.1);
        validate_range(at, len)?;
        if k.mm.released {
            return Err(errno::ENOMEM);
        }
        let vmas = vmas_of(k, at, at + len);
        begins_with_a_page(k, &vmas, at)?;
        for vma in &vmas {
            if !vma_can_userfault(k, vma, flags) {
                return Err(errno::EINVAL);
            }
            if !vma.has(vm::MAYWRITE) {
                return Err(errno::EPERM);
            }
            let ends_inside = at + len <= vma.end && !is_whole(k, vma, at + len);
            if ends_inside {
                return Err(errno::EINVAL);
            }
        }
        userfaultfd_register_range(k, &vmas, flags, at, at + len)
    })
}

/// `userfaultfd_unregister()`
///
/// # Errors
/// EINVAL for memory that could not have been registered, ENOMEM where the mm is gone or may have
/// no more areas.
pub fn userfaultfd_unregister(k: &mut Kernel<'_>, at: u64, len: u64) -> Result<(), i32> {
    with_ctx(k, |k, _| {
        validate_range(at, len)?;
        if k.mm.released {
            return Err(errno::ENOMEM);
        }
        let vmas = vmas_of(k, at, at + len);
        begins_with_a_page(k, &vmas, at)?;
        let could = |vma: &Vma| vma_can_userfault(k, vma, vma.flags);
        if !vmas.iter().all(could) {
            return Err(errno::EINVAL);
        }
        for vma in vmas.iter().filter(|vma| vma.has(vm::UFFD)) {
            userfaultfd_clear_vma(k, vma, at, at + len)?;
        }
        Ok(())
    })
}

/// `userfaultfd_copy()` of one page after the other, each of that size
///
/// # Errors
/// As [`userfaultfd_fill`].
pub fn userfaultfd_copy(
    k: &mut Kernel<'_>,
    (at, len): (u64, u64),
    size: u64,
    value: u8,
) -> Result<(), i32> {
    let end = at.saturating_add(len);
    let mut pages = (at..end).step_by(size as usize);
    pages.try_for_each(|page| userfaultfd_fill(k, page, size, Fill::Copy(value)))
}

/// `userfaultfd_zeropage()`
///
/// # Errors
/// As [`userfaultfd_fill`].
pub fn userfaultfd_zeropage(k: &mut Kernel<'_>, at: u64, len: u64) -> Result<(), i32> {
    userfaultfd_fill(k, at, len, Fill::Zeropage)
}

/// `userfaultfd_continue()`
///
/// # Errors
/// As [`userfaultfd_fill`].
pub fn userfaultfd_continue(k: &mut Kernel<'_>, at: u64, len: u64) -> Result<(), i32> {
    userfaultfd_fill(k, at, len, Fill::Continue)
}

/// What the three have in common.
///
/// # Errors
/// EAGAIN where only a part could be filled, else why nothing could; ESRCH where the mm is
/// gone.
fn userfaultfd_fill(k: &mut Kernel<'_>, at: u64, len: u64, fill: Fill) -> Result<(), i32> {
    with_ctx(k, |k, _| {
        validate_range(at, len)?;
        if k.mm.released {
            return Err(errno::ESRCH);
        }
        whole(mfill_atomic(k, at, len, fill)?, len)
    })
}

/// `userfaultfd_move()`
///
/// # Errors
/// As for filling; EINVAL where it is not the running task's own memory.
pub fn userfaultfd_move(
    k: &mut Kernel<'_>,
    (src, dst): (u64, u64),
    len: u64,
    holes: bool,
) -> Result<(), i32> {
    let own = k.tasks.get(k.current).and_then(|task| task.mm);
    with_ctx(k, |k, mm| {
        if own != Some(mm) {
            return Err(errno::EINVAL);
        }
        validate_range(dst, len)?;
        validate_range(src, len)?;
        whole(move_pages(k, (src, dst), len, holes)?, len)
    })
}

fn whole(done: u64, len: u64) -> Result<(), i32> {
    if done == len {
        Ok(())
    } else {
        Err(errno::EAGAIN)
    }
}

/// `userfaultfd_event_wait_completion()`: the mm's userfaultfd tells of something, and who did it
/// waits until that is read. In between others may act; here all that it tells of is a count, for
/// what is read changes nothing by itself.
fn userfaultfd_event_wait_completion(k: &mut Kernel<'_>) {
    if k.uffd_events {
        k.mm.uffd_events.told += 1;
    }
}

/// `userfaultfd_ctx_read()` of so many events
///
/// # Errors
/// ETIMEDOUT where there is no userfaultfd that could tell of something.
pub fn userfaultfd_ctx_read(k: &mut Kernel<'_>, number: u64) -> Result<(), i32> {
    let read = with_ctx(k, |k, _| {
        k.mm.uffd_events.read += number;
        Ok(())
    });
    read.map_err(|_| errno::ETIMEDOUT)
}

/// When the last of steps that were begun together is done, all that was told is read, and no more
/// than that was waited for.
pub fn all_events_are_read(k: &mut Kernel<'_>, program: &Program, step: usize) {
    let group = program.group_of(step);
    let steps = group.map_or(step..step + 1, |group| program.groups[group].steps());
    let steps = program.steps.get(steps).unwrap_or_default();
    let answers = |step: &Step| match step.op {
        Op::Plain { what, .. } => Plain::ANSWERS.contains(&what),
        _ => false,
    };
    for mm in 0..k.mms.len() {
        let UffdEvents { told, read } = std::mem::take(&mut k.mm_mut(mm).uffd_events);
        if told > read {
            k.unpredicted = Some("an event of a userfaultfd that nobody reads");
        } else if told < read {
            k.unpredicted = Some("an event of a userfaultfd that never comes");
        } else if told > 0 && steps.iter().any(answers) {
            k.unpredicted = Some("faults and events of a userfaultfd at once");
        }
    }
}

/// `userfaultfd_remove()`: it is told before anything goes, without the mmap lock. Then the area is
/// looked up anew, and is as it was where nobody has changed it.
pub fn userfaultfd_remove(k: &mut Kernel<'_>, vma: &Vma) {
    if vma.has(vm::UFFD) {
        userfaultfd_event_wait_completion(k);
    }
}

/// `userfaultfd_unmap_prep()` of the vmas of a range, for which one event is enough. It is told when
/// they are gone (`userfaultfd_unmap_complete()`), and where they could not go, too.
pub fn userfaultfd_unmap_prep(k: &mut Kernel<'_>, start: u64, end: u64) {
    let mut gone = k.mm.vmas.range(start..end.max(start));
    if gone.any(|(_, vma)| vma.has(vm::UFFD)) {
        userfaultfd_event_wait_completion(k);
    }
}

/// `mremap_userfaultfd_prep()`: the new area, with what it has merged with, stays registered, which is
/// told when all is done (`mremap_userfaultfd_complete()`); without UFFD_FEATURE_EVENT_REMAP it is
/// asked about no more.
pub fn mremap_userfaultfd_prep(k: &mut Kernel<'_>, new_addr: u64) {
    let start = k.mm.vma_lookup(new_addr).map(|vma| vma.start);
    let events = k.uffd_events;
    let Some(vma) = start.and_then(|start| k.mm.vmas.get_mut(&start)) else {
        return;
    };
    match events {
        true if vma.has(vm::UFFD) => userfaultfd_event_wait_completion(k),
        true => {}
        // userfaultfd_reset_ctx()
        false => vma.flags &= !vm::UFFD,
    }
}

/// `dup_userfaultfd()`: the child's area has a userfaultfd of its own, or none without
/// UFFD_FEATURE_EVENT_FORK.
pub fn dup_userfaultfd(k: &Kernel<'_>, vma: &mut Vma) {
    if !k.uffd_events {
        // userfaultfd_reset_ctx()
        vma.flags &= !vm::UFFD;
    }
}

/// `dup_userfaultfd_complete()`: one event for all areas of a child. Who reads it closes the
/// descriptor that it brings.
pub fn dup_userfaultfd_complete(k: &mut Kernel<'_>, child: MmId) {
    let areas = k.mm(child).vmas.values();
    if areas.into_iter().any(|vma| vma.has(vm::UFFD)) {
        userfaultfd_event_wait_completion(k);
        k.in_mm(child, userfaultfd_release_all);
    }
}
