// SPDX-License-Identifier: GPL-2.0-only
//! `mm/gup.c`: memory is populated, and pages are referred to or pinned.

use crate::api::PAGE_SIZE;
use crate::errno;
use crate::mm::memory::fault::{Retry, do_wp_page, handle_mm_fault};
use crate::mm::page_writeback::folio_mark_dirty;
use crate::mm::secretmem::vma_is_secretmem;
use crate::mm::{huge_memory, swap};
use crate::mm_types::{Folio, FolioId, HugePmd, Of, Pte, Vma, prot, vm};
use crate::state::Kernel;
use operations::Storage;

/// What of `gup_flags` is used.
#[derive(Clone, Copy, Debug)]
pub struct GupFlags {
    /// `FOLL_WRITE`
    pub write: bool,
    /// `FOLL_FORCE`
    pub force: bool,
    /// `FOLL_PIN`
    pub pin: bool,
    /// `FOLL_LONGTERM`
    pub longterm: bool,
    /// What `FOLL_UNLOCKABLE` and who calls have of a fault that gives up mmap_lock.
    pub retry: Retry,
}

/// `GUP_PIN_COUNTING_BIAS` (`include/linux/mm.h`): what a pin adds to a small folio's references.
pub const GUP_PIN_COUNTING_BIAS: u32 = 1 << 10;

/// `folio_maybe_dma_pinned()` (`include/linux/mm.h`)
pub fn folio_maybe_dma_pinned(folio: &Folio) -> bool {
    match folio.large {
        Some(_) => folio.pincount > 0,
        None => folio.refcount >= GUP_PIN_COUNTING_BIAS,
    }
}

/// `gup_fast_fallback()` on the mm of who calls: pages in a row from an address on, each with a
/// reference or a pin, as far as they can be had. None stands for the zero page, which nobody
/// counts.
///
/// # Errors
/// EFAULT where not even the first one can be had.
pub fn gup_fast_fallback(
    k: &mut Kernel,
    start: u64,
    nr_pages: u64,
    gup: GupFlags,
) -> Result<Vec<Option<FolioId>>, i32> {
    k.mm.has_pinned |= gup.pin;
    let end = start + nr_pages * PAGE_SIZE;
    let mut pages = Vec::new();
    for addr in (start..end).step_by(PAGE_SIZE as usize) {
        match gup_fast(k, addr, gup) {
            Some(page) => pages.push(page),
            None => break,
        }
    }
    let rest = start + pages.len() as u64 * PAGE_SIZE;
    for addr in (rest..end).step_by(PAGE_SIZE as usize) {
        match get_user_pages_remote(k, addr, gup) {
            Ok(page) => {
                if let Some(id) = page {
                    try_grab_folio(k, id, gup.pin);
                }
                pages.push(page);
            }
            Err(error) if pages.is_empty() => return Err(error),
            Err(_) => break,
        }
    }
    Ok(pages)
}

/// `gup_fast()` by `gup_fast_pte_range()` and `gup_fast_pmd_leaf()`, of one page: where its
/// entry says all that is wanted, the vma is not asked. The outer option is none where that is
/// not enough. Before 7.3 PROT_NONE is taken for present without NUMA balancing.
fn gup_fast(k: &mut Kernel, addr: u64, gup: GupFlags) -> Option<Option<FolioId>> {
    let Pte::Present {
        folio,
        prot: rights,
        ..
    } = k.pte(addr)
    else {
        return None;
    };
    // pte_protnone()
    if rights == 0 && k.profile.protnone_is_known {
        return None;
    }
    // pte_access_permitted()
    if gup.write && rights & prot::W == 0 {
        return None;
    }
    let Some(id) = folio else {
        return Some(None);
    };
    if k.folios[id].hugetlb.is_some() || k.huge_zero_folio == Some(id) {
        k.unpredicted = Some("references to pages of hugetlb, or to the huge zero page");
    }
    // pte_special()
    if k.folios[id].special || !gup_fast_folio_allowed(k, id, gup) {
        return None;
    }
    try_grab_folio(k, id, gup.pin);
    k.folios[id].referenced = true;
    Some(folio)
}

/// `gup_fast_folio_allowed()`: what is secret is not referred to, and files that are written back
/// are not pinned for writing and for long.
fn gup_fast_folio_allowed(k: &Kernel, id: FolioId, gup: GupFlags) -> bool {
    let file = k.folios[id].mapping.map(|at| at.0);
    // shmem_mapping()
    let in_memory = k.folios[id].anon || k.storage(file) == Storage::Memory;
    k.of(file) != Of::Secret && (!(gup.longterm && gup.write) || in_memory)
}

/// `try_grab_folio()`, and `try_grab_folio_fast()`
fn try_grab_folio(k: &mut Kernel, id: FolioId, pin: bool) {
    let folio = &mut k.folios[id];
    folio.refcount += references(folio, pin);
    folio.pincount += u32::from(pin && folio.large.is_some());
}

/// How many references one who holds a page adds to its folio.
pub fn references(folio: &Folio, pin: bool) -> u32 {
    match pin && folio.large.is_none() {
        true => GUP_PIN_COUNTING_BIAS,
        false => 1,
    }
}

/// `gup_put_folio()`
pub fn gup_put_folio(k: &mut Kernel, id: FolioId, pin: bool) {
    let folio = &mut k.folios[id];
    folio.pincount -= u32::from(pin && folio.large.is_some());
    for _ in 0..references(&k.folios[id], pin) {
        swap::folio_put(k, id);
    }
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
        if !vma.has(vm::IO | vm::PFNMAP) {
            let _ = populate_vma_page_range(k, &vma, nstart.max(vma.start), nend);
        }
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
        if !vma.has(vm::IO | vm::PFNMAP) {
            populate_vma_page_range(k, &vma, nstart.max(vma.start), nend)?;
        }
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
            longterm: false,
            retry: Retry::Anew,
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
        longterm: false,
        retry: Retry::Tried,
    };
    let mut start = start;
    while start < end {
        let vma = k.mm.vma_lookup(start).cloned();
        let result = match vma {
            None => Err(errno::ENOMEM),
            Some(vma) if check_vma_flags(k, &vma, flags).is_err() => Err(errno::EINVAL),
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
fn check_vma_flags(k: &Kernel, vma: &Vma, gup: GupFlags) -> Result<(), i32> {
    // writable_file_mapping_allowed()
    let written_back = k.storage(vma.file) != Storage::Memory && vma.has(vm::SHARED);
    if vma.has(vm::IO | vm::PFNMAP)
        || vma_is_secretmem(k, vma)
        || gup.longterm && gup.write && written_back && vma.has(vm::WRITE)
    {
        return Err(errno::EFAULT);
    }
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
    check_vma_flags(k, vma, gup)?;
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
            handle_mm_fault(k, vma, addr, gup.write, gup.retry).map_err(|_| errno::EFAULT)?;
        }
    }
    Ok(())
}

/// `follow_page_mask()`
fn follow_page_mask(k: &mut Kernel, vma: &Vma, addr: u64, gup: GupFlags) -> bool {
    match k.mm.pgd.huge_pmd(addr) {
        Some(_) if gup.pin && !gup.write || gup.force && gup.write => {
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
            folio_mark_dirty(k, id);
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
