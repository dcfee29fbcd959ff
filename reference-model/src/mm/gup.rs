// SPDX-License-Identifier: GPL-2.0-only
//! `mm/gup.c`, as far as memory is populated by it.

use crate::api::PAGE_SIZE;
use crate::errno;
use crate::mm::memory::fault::{do_wp_page, handle_mm_fault};
use crate::mm::{huge_memory, swap};
use crate::mm_types::{FolioId, HugePmd, Pte, Vma, prot, vm};
use crate::state::Kernel;

/// What of `gup_flags` is used.
#[derive(Clone, Copy, Debug)]
pub struct GupFlags {
    /// `FOLL_WRITE`
    pub write: bool,
    /// `FOLL_FORCE`
    pub force: bool,
    /// `FOLL_PIN`
    pub pin: bool,
}

/// `vma_is_accessible()` (`include/linux/mm.h`)
fn vma_is_accessible(vma: &Vma) -> bool {
    vma.has(vm::ACCESS_FLAGS)
}

/// `__mm_populate()`; errors are ignored.
pub fn mm_populate(k: &mut Kernel, start: u64, len: u64) {
    let end = start + len;
    let mut nstart = start;
    while let Some(vma) = k.mm.find_vma(nstart).filter(|vma| vma.start < end).cloned() {
        let nend = end.min(vma.end);
        // An error skips the rest of the vma.
        let _ = populate_vma_page_range(k, &vma, nstart.max(vma.start), nend);
        nstart = nend;
        if nstart >= end {
            break;
        }
    }
}

/// `__mm_populate()` without `ignore_errors`.
///
/// # Errors
/// As [`populate_vma_page_range`], which has done what comes before.
pub fn mm_populate_all(k: &mut Kernel, start: u64, len: u64) -> Result<(), i32> {
    let end = start + len;
    let mut nstart = start;
    while let Some(vma) = k.mm.find_vma(nstart).filter(|vma| vma.start < end).cloned() {
        let nend = end.min(vma.end);
        populate_vma_page_range(k, &vma, nstart.max(vma.start), nend)?;
        nstart = nend;
        if nstart >= end {
            break;
        }
    }
    Ok(())
}

/// `populate_vma_page_range()`
///
/// # Errors
/// EFAULT where the vma has no rights, or a page cannot be had.
pub fn populate_vma_page_range(k: &mut Kernel, vma: &Vma, start: u64, end: u64) -> Result<(), i32> {
    if vma.has(vm::LOCKONFAULT) {
        return Ok(());
    }
    if !vma_is_accessible(vma) {
        return Err(errno::EFAULT);
    }
    let write = vma.flags & (vm::WRITE | vm::SHARED) == vm::WRITE;
    let result = get_user_pages(
        k,
        vma,
        start,
        end,
        GupFlags {
            write,
            force: !write,
            pin: false,
        },
    );
    swap::lru_add_drain(k);
    result
}

/// `faultin_page_range()`, until the whole range is there or an error comes.
///
/// # Errors
/// ENOMEM over a hole, EINVAL for want of rights, EFAULT where a page cannot be had.
pub fn faultin_page_range(k: &mut Kernel, start: u64, end: u64, write: bool) -> Result<(), i32> {
    let flags = GupFlags {
        write,
        force: false,
        pin: false,
    };
    let mut start = start;
    while start < end {
        let vma = k.mm.vma_lookup(start).cloned();
        let result = match vma {
            None => Err(errno::ENOMEM),
            Some(vma) if check_vma_flags(&vma, flags).is_err() => Err(errno::EINVAL),
            Some(vma) => {
                let from = std::mem::replace(&mut start, end.min(vma.end));
                get_user_pages(k, &vma, from, start, flags)
            }
        };
        if let Err(error) = result {
            swap::lru_add_drain(k);
            return Err(error);
        }
    }
    swap::lru_add_drain(k);
    Ok(())
}

/// `get_user_pages_remote()` and `pin_user_pages_remote()` of one page: its folio, or none for
/// the zero page.
///
/// # Errors
/// EFAULT where it cannot be had.
pub fn get_user_pages_remote(
    k: &mut Kernel,
    addr: u64,
    gup: GupFlags,
) -> Result<Option<FolioId>, i32> {
    let vma = k.mm.vma_lookup(addr).cloned().ok_or(errno::EFAULT)?;
    get_user_pages(k, &vma, addr, addr + PAGE_SIZE, gup)?;
    Ok(match k.pte(addr) {
        Pte::Present { folio, .. } => folio,
        Pte::None | Pte::Swap { .. } | Pte::Guard => None,
    })
}

/// `check_vma_flags()`
fn check_vma_flags(vma: &Vma, gup: GupFlags) -> Result<(), i32> {
    let refused = if gup.write {
        // is_cow_mapping()
        let cow = vma.flags & (vm::SHARED | vm::MAYWRITE) == vm::MAYWRITE;
        let allowed = vma.has(vm::WRITE) || gup.force && cow;
        !allowed
    } else {
        let allowed = vma.has(vm::READ) || gup.force && vma.has(vm::MAYREAD);
        !allowed
    };
    if refused { Err(errno::EFAULT) } else { Ok(()) }
}

/// `__get_user_pages()` with FOLL_TOUCH, within one vma
fn get_user_pages(
    k: &mut Kernel,
    vma: &Vma,
    start: u64,
    end: u64,
    gup: GupFlags,
) -> Result<(), i32> {
    check_vma_flags(vma, gup)?;
    for addr in (start..end).step_by(PAGE_SIZE as usize) {
        // One fault maps the page as it is wanted, if need be from swap or as a copy, and so
        // the second look finds it. The bound only keeps the model from hanging.
        for _ in 0..8 {
            if follow_page_mask(k, vma, addr, gup) {
                break;
            }
            if must_unshare(k, vma, addr, gup) {
                // FAULT_FLAG_UNSHARE
                do_wp_page(k, vma, addr, true);
                continue;
            }
            handle_mm_fault(k, vma, addr, gup.write).map_err(|_| errno::EFAULT)?;
        }
    }
    Ok(())
}

/// `follow_page_mask()`
fn follow_page_mask(k: &mut Kernel, vma: &Vma, addr: u64, gup: GupFlags) -> bool {
    match k.mm.pgd.huge_pmd(addr) {
        Some(_) if gup.pin || gup.force && gup.write => {
            k.unpredicted = Some("a huge page that is pinned or written by force");
            true
        }
        Some(pmd) => follow_trans_huge_pmd(k, addr, pmd, gup),
        None => follow_page_pte(k, vma, addr, gup),
    }
}

/// `follow_huge_pmd()`: as of a PTE. The kernel looks at a huge page once, and goes on after
/// its end; what is touched already does not change when it is looked at again.
fn follow_trans_huge_pmd(k: &mut Kernel, addr: u64, pmd: HugePmd, gup: GupFlags) -> bool {
    if gup.write && pmd.prot & prot::W == 0 {
        return false;
    }
    huge_memory::touch_pmd(k, addr, pmd, gup.write);
    true
}

/// `follow_page_pte()`: true where the page is there as wanted; touches it then.
fn follow_page_pte(k: &mut Kernel, vma: &Vma, addr: u64, gup: GupFlags) -> bool {
    let Pte::Present {
        folio,
        prot: rights,
        dirty,
        ..
    } = k.pte(addr)
    else {
        return false;
    };
    if gup.write && rights & prot::W == 0 && !can_follow_forced(k, vma, addr, gup) {
        return false;
    }
    if must_unshare(k, vma, addr, gup) {
        return false;
    }
    if let Some(id) = folio {
        if gup.write && !dirty {
            k.folios[id].dirty = true;
        }
        // Those of hugetlb are on no list.
        if k.folios[id].hugetlb.is_none() {
            swap::folio_mark_accessed(k, id);
        }
    }
    true
}

/// The part of `can_follow_write_pte()` (later `can_follow_write_common()`) that is about
/// FOLL_FORCE: a copy of one's own may be written in an area that may not.
fn can_follow_forced(k: &Kernel, vma: &Vma, addr: u64, gup: GupFlags) -> bool {
    let copies = !vma.has(vm::SHARED | vm::MAYSHARE) && vma.has(vm::MAYWRITE);
    gup.force && copies && !vma.has(vm::WRITE) && is_exclusive(k, addr)
}

/// `gup_must_unshare()` (`mm/internal.h`): a page that is pinned for reading and may be
/// another's too is copied first.
fn must_unshare(k: &Kernel, vma: &Vma, addr: u64, gup: GupFlags) -> bool {
    let Pte::Present {
        folio: Some(id),
        prot: rights,
        ..
    } = k.pte(addr)
    else {
        return false;
    };
    let shared = vma.has(vm::SHARED | vm::MAYSHARE);
    let read_only = rights & prot::W == 0;
    let anon = k.folios[id].anon;
    gup.pin && !gup.write && read_only && !shared && anon && !is_exclusive(k, addr)
}

/// `PageAnonExclusive()` (`include/linux/page-flags.h`) of the page that is mapped there.
fn is_exclusive(k: &Kernel, addr: u64) -> bool {
    match k.pte(addr) {
        Pte::Present {
            folio: Some(id), ..
        } => k.folios[id].anon && k.folios[id].page_anon_exclusive(addr),
        _ => false,
    }
}
