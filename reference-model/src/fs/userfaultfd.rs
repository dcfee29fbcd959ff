// SPDX-License-Identifier: GPL-2.0-only
//! `fs/userfaultfd.c`: the requests of a userfaultfd. A process has one at the most, and with
//! UFFD_FEATURE_SIGBUS: nobody ever waits.

use crate::api::{MmId, PAGE_SIZE};
use crate::errno;
use crate::mm::hugetlb::hugetlb_vm_op_split;
use crate::mm::userfaultfd::{
    Fill, mfill_atomic, move_pages, userfaultfd_clear_vma, userfaultfd_register_range,
    vma_can_userfault,
};
use crate::mm_types::{Vma, vm};
use crate::state::Kernel;

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
