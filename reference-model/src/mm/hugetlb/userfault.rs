// SPDX-License-Identifier: GPL-2.0-only
//! `mm/hugetlb.c`, its part on userfaultfd: pages that somebody else fills in.

use crate::arch::riscv::mm::hugetlbpage::{huge_pte_alloc, huge_ptep_get, set_huge_pte_at};
use crate::errno;
use crate::mm::hugetlb::fault::{
    cached, hugetlb_add_new_anon_rmap, hugetlb_add_to_page_cache, make_huge_pte,
};
use crate::mm::hugetlb::reserve::{
    alloc_hugetlb_folio, restore_reserve_on_error, vma_hugecache_offset,
};
use crate::mm::hugetlb::share::{PUD_SIZE, hugetlb_unshare_pmds, pud_start};
use crate::mm::swap::folio_put;
use crate::mm::userfaultfd::Fill;
use crate::mm_types::{Content, FolioId, Pte, Vma, vm};
use crate::state::Kernel;
use operations::HugePages;

/// `hugetlb_unshare_all_pmds()`
pub fn hugetlb_unshare_all_pmds(k: &mut Kernel<'_>, vma: &Vma) {
    let start = vma.start.next_multiple_of(PUD_SIZE);
    hugetlb_unshare_pmds(k, vma, start, pud_start(vma.end));
}

/// `mfill_atomic_hugetlb()` (`mm/userfaultfd.c`): how much of the range was filled.
///
/// # Errors
/// EINVAL for a part of a page, and for zero pages, of which there are none of that size; else
/// why nothing could be filled.
pub fn mfill_atomic_hugetlb(
    k: &mut Kernel<'_>,
    vma: &Vma,
    (start, len): (u64, u64),
    size: HugePages,
    fill: Fill,
) -> Result<u64, i32> {
    let aligned = start.is_multiple_of(size.bytes()) && len.is_multiple_of(size.bytes());
    if fill == Fill::Zeropage || !aligned {
        return Err(errno::EINVAL);
    }
    for addr in (start..start + len).step_by(size.bytes() as usize) {
        huge_pte_alloc(k, vma, addr, size);
        match hugetlb_mfill_atomic_pte(k, vma, (addr, size), fill) {
            Ok(()) => {}
            Err(_) if addr > start => return Ok(addr - start),
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// `hugetlb_mfill_atomic_pte()`: of a mapping that is not shared what is in the file is mapped for
/// reading.
fn hugetlb_mfill_atomic_pte(
    k: &mut Kernel<'_>,
    vma: &Vma,
    (addr, size): (u64, HugePages),
    fill: Fill,
) -> Result<(), i32> {
    let there = huge_ptep_get(k, addr, size) != Pte::None;
    let is_continue = fill == Fill::Continue;
    if there && !is_continue {
        return Err(errno::EEXIST);
    }
    let shared = vma.has(vm::SHARED);
    let id = if is_continue {
        let idx = vma_hugecache_offset(k, vma, addr);
        cached(k, vma, idx).ok_or(errno::EFAULT)?
    } else {
        new_folio(k, vma, addr, fill)?
    };
    if there {
        folio_put(k, id);
        return Err(errno::EEXIST);
    }
    // hugetlb_add_file_rmap(), or of anonymous memory
    k.folios[id].mapcount += 1;
    let writable = vma.has(vm::WRITE) && (shared || !is_continue);
    let mut entry = make_huge_pte(vma, id, writable);
    // huge_pte_mkdirty()
    if let Pte::Present { dirty, .. } = &mut entry {
        *dirty = true;
    }
    set_huge_pte_at(k, addr, size, entry);
    Ok(())
}

/// The part of `hugetlb_mfill_atomic_pte()` for a page that is not there yet
fn new_folio(k: &mut Kernel<'_>, vma: &Vma, addr: u64, fill: Fill) -> Result<FolioId, i32> {
    let shared = vma.has(vm::SHARED);
    let idx = vma_hugecache_offset(k, vma, addr);
    // hugetlbfs_pagecache_present()
    if shared && let Some(id) = cached(k, vma, idx) {
        folio_put(k, id);
        return Err(errno::EEXIST);
    }
    let Some(id) = alloc_hugetlb_folio(k, vma, addr, false) else {
        // The table was made just now, and hugetlb_walk() finds it.
        return Err(match k.profile.uffd_empty_pool_exists {
            true => errno::EEXIST,
            false => errno::ENOMEM,
        });
    };
    if let Fill::Copy(value) = fill {
        k.folios[id].content = Content::of(value);
    }
    if !shared {
        hugetlb_add_new_anon_rmap(k, id, vma, addr);
        return Ok(id);
    }
    let file = vma.file.ok_or(errno::EFAULT)?;
    // i_size_read()
    if idx >= k.files[file].pages / k.folios[id].nr_pages() {
        restore_reserve_on_error(k, vma, addr, id);
        folio_put(k, id);
        return Err(errno::EFAULT);
    }
    hugetlb_add_to_page_cache(k, id, file, idx);
    Ok(id)
}
