// SPDX-License-Identifier: GPL-2.0-only
//! `mm/hugetlb.c`, its part on faults.

use crate::arch::riscv::mm::hugetlbpage::{
    huge_pte_alloc, huge_ptep_clear_flush, huge_ptep_get, huge_ptep_set_access_flags,
    set_huge_pte_at,
};
use crate::arch::riscv::mm::init::vm_get_page_prot;
use crate::mm::hugetlb::reserve::{alloc_hugetlb_folio, vma_hugecache_offset};
use crate::mm::hugetlb::{hstate_vma, unmap_hugepage_range};
use crate::mm::interval_tree::vma_interval_tree;
use crate::mm::memory::fault::{Fault, anon_vma_of, handle_userfault, vmf_anon_prepare};
use crate::mm::swap::folio_put;
use crate::mm_types::{CacheEntry, FileId, FolioId, Pte, Vma, prot, vm};
use crate::state::Kernel;
use operations::{HugePages, PAGE_SIZE};

/// `hugetlb_fault()`
pub fn hugetlb_fault(
    k: &mut Kernel<'_>,
    vma: &Vma,
    address: u64,
    write: bool,
) -> Result<(), Fault> {
    let size = hstate_vma(k, vma);
    let address = address & !(size.bytes() - 1);
    huge_pte_alloc(k, vma, address, size);
    let Pte::Present {
        folio,
        prot: rights,
        dirty,
        ..
    } = huge_ptep_get(k, address, size)
    else {
        return hugetlb_no_page(k, vma, (address, size), write);
    };
    if write && rights & prot::W == 0 {
        return hugetlb_wp(k, vma, address, size);
    }
    let entry = Pte::Present {
        folio,
        prot: rights,
        dirty: dirty || write,
        young: true,
    };
    huge_ptep_set_access_flags(k, address, size, entry);
    Ok(())
}

/// `make_huge_pte()`
pub fn make_huge_pte(vma: &Vma, id: FolioId, writable: bool) -> Pte {
    let rights = vm_get_page_prot(vma.flags);
    Pte::Present {
        folio: Some(id),
        prot: match writable {
            true => rights | prot::W,
            false => rights & !prot::W,
        },
        dirty: writable,
        young: true,
    }
}

/// `set_huge_ptep_writable()`, later `set_huge_ptep_maybe_writable()`
fn set_huge_ptep_writable(k: &mut Kernel<'_>, address: u64, size: HugePages) {
    let mut entry = huge_ptep_get(k, address, size);
    if let Pte::Present {
        prot: rights,
        dirty,
        ..
    } = &mut entry
    {
        *rights |= prot::W;
        *dirty = true;
    }
    huge_ptep_set_access_flags(k, address, size, entry);
}

/// The page of the file, with a reference, where it is there (filemap_lock_hugetlb_folio).
pub fn cached(k: &mut Kernel<'_>, vma: &Vma, idx: u64) -> Option<FolioId> {
    let cache = &k.files.get(vma.file?)?.cache;
    let CacheEntry::Folio(id) = cache.get(&idx).copied()? else {
        return None;
    };
    k.folio_get(id);
    Some(id)
}

/// `hugetlb_add_to_page_cache()`
pub fn hugetlb_add_to_page_cache(k: &mut Kernel<'_>, id: FolioId, file: FileId, idx: u64) {
    k.folio_get(id);
    k.folios[id].mapping = Some((file, idx));
    k.folios[id].restore_reserve = false;
    k.files[file].cache.insert(idx, CacheEntry::Folio(id));
}

/// The part of `hugetlb_no_page()` for a page that the file has not
fn new_page(k: &mut Kernel<'_>, vma: &Vma, address: u64, idx: u64) -> Result<FolioId, Fault> {
    let file = vma.file.ok_or(Fault::Sigbus)?;
    let size = hstate_vma(k, vma);
    if idx >= k.files[file].pages / size.pages() {
        return Err(Fault::Sigbus);
    }
    // userfaultfd_missing(), hugetlb_handle_userfault()
    if vma.has(vm::UFFD_MISSING) {
        return Err(handle_userfault());
    }
    let shared = vma.has(vm::MAYSHARE);
    if !shared {
        vmf_anon_prepare(k, vma);
    }
    let id = alloc_hugetlb_folio(k, vma, address, false).ok_or(Fault::Sigbus)?;
    if shared {
        hugetlb_add_to_page_cache(k, id, file, idx);
    } else {
        hugetlb_add_new_anon_rmap(k, id, vma, address);
    }
    Ok(id)
}

/// `hugetlb_add_new_anon_rmap()` (`mm/rmap.c`), without the mapping itself
pub fn hugetlb_add_new_anon_rmap(k: &mut Kernel<'_>, id: FolioId, vma: &Vma, address: u64) {
    let anon_vma = anon_vma_of(k, vma);
    let index = vma.linear_anon_page_index(k.profile, address);
    let folio = &mut k.folios[id];
    folio.anon = true;
    folio.anon_vma = anon_vma;
    folio.index = index;
    folio.anon_exclusive = true;
    folio.restore_reserve = false;
}

/// `hugetlb_no_page()`
fn hugetlb_no_page(
    k: &mut Kernel<'_>,
    vma: &Vma,
    (address, size): (u64, HugePages),
    write: bool,
) -> Result<(), Fault> {
    if vma.resv.unmapped {
        return Err(Fault::Sigbus);
    }
    let idx = vma_hugecache_offset(k, vma, address);
    let id = match cached(k, vma, idx) {
        // userfaultfd_minor()
        Some(id) if vma.has(vm::UFFD_MINOR) => {
            folio_put(k, id);
            return Err(handle_userfault());
        }
        Some(id) => id,
        None => new_page(k, vma, address, idx)?,
    };
    k.folios[id].mapcount += 1;
    let writable = vma.has(vm::WRITE) && vma.has(vm::SHARED);
    set_huge_pte_at(k, address, size, make_huge_pte(vma, id, writable));
    if write && !vma.has(vm::SHARED) {
        return hugetlb_wp(k, vma, address, size);
    }
    Ok(())
}

/// `hugetlb_wp()`
fn hugetlb_wp(k: &mut Kernel<'_>, vma: &Vma, address: u64, size: HugePages) -> Result<(), Fault> {
    if vma.has(vm::MAYSHARE) {
        set_huge_ptep_writable(k, address, size);
        return Ok(());
    }
    let Pte::Present {
        folio: Some(old), ..
    } = huge_ptep_get(k, address, size)
    else {
        return Ok(());
    };
    // Children lose the page at the most once, so that twice is enough.
    for _ in 0..2 {
        let anon = k.folios[old].anon;
        if k.folios[old].mapcount == 1 && anon {
            // folio_move_anon_rmap()
            k.folios[old].anon_vma = anon_vma_of(k, vma);
            k.folios[old].anon_exclusive = true;
            set_huge_ptep_writable(k, address, size);
            return Ok(());
        }
        let cow_from_owner = vma.resv.map.is_some() && anon;
        if let Some(new) = alloc_hugetlb_folio(k, vma, address, cow_from_owner) {
            break_cow(k, vma, (address, size), old, new);
            return Ok(());
        }
        if !cow_from_owner {
            break;
        }
        unmap_ref_private(k, vma, old, address);
    }
    if vma.resv.map.is_some() && k.folios[old].anon {
        k.unpredicted = Some("a write to hugetlb that tries again for ever");
    }
    Err(Fault::Sigbus)
}

/// The end of `hugetlb_wp()`: the new page takes the old one's place.
fn break_cow(
    k: &mut Kernel<'_>,
    vma: &Vma,
    (address, size): (u64, HugePages),
    old: FolioId,
    new: FolioId,
) {
    vmf_anon_prepare(k, vma);
    huge_ptep_clear_flush(k, address, size);
    // hugetlb_remove_rmap()
    k.folios[old].mapcount = k.folios[old].mapcount.saturating_sub(1);
    hugetlb_add_new_anon_rmap(k, new, vma, address);
    k.folios[new].mapcount = 1;
    set_huge_pte_at(k, address, size, make_huge_pte(vma, new, true));
    folio_put(k, old);
}

/// `unmap_ref_private()`: who has reserved a page gets it, and takes it from its children, where
/// they have it, or where it has it itself.
fn unmap_ref_private(k: &mut Kernel<'_>, vma: &Vma, page: FolioId, address: u64) {
    let Some(file) = vma.file else {
        return;
    };
    let size = hstate_vma(k, vma).bytes();
    let pgoff = vma.linear_page_index(address);
    let own = (k.mm_id, vma.start);
    for (mm, iter_vma) in vma_interval_tree(k, file, pgoff, pgoff + 1) {
        let owner = iter_vma.resv.map.is_some();
        if (mm, iter_vma.start) == own || iter_vma.has(vm::MAYSHARE) || owner {
            continue;
        }
        let address = match k.profile.takes_private_pages_where_they_are {
            true => iter_vma.start + (pgoff - iter_vma.pgoff) * PAGE_SIZE,
            false => address,
        };
        k.in_mm(mm, |k| {
            unmap_hugepage_range(k, &iter_vma, address, address + size, Some(page));
        });
    }
}
