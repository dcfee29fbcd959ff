// SPDX-License-Identifier: GPL-2.0-only
//! `mm/userfaultfd.c`: pages are filled in where there are none, and moved.

use crate::api::{Entry, PAGE_SIZE};
use crate::arch::riscv::mm::init::{prot_is_young, vm_get_page_prot};
use crate::arch::riscv::mm::tlbflush::PMD_SIZE;
use crate::errno;
use crate::mm::gup::folio_maybe_dma_pinned;
use crate::mm::huge_memory::{__split_huge_pmd, is_huge_zero_pmd, split_folio};
use crate::mm::hugetlb::hstate_vma;
use crate::mm::hugetlb::userfault::{hugetlb_unshare_all_pmds, mfill_atomic_hugetlb};
use crate::mm::memory::fault::{anon_vma_of, map_new_anon_folio, vmf_anon_prepare};
use crate::mm::mmap::vma_set_page_prot;
use crate::mm::pgtable_generic::ptep_clear_flush;
use crate::mm::rmap::folio_add_file_rmap_ptes;
use crate::mm::shmem::{shmem_get_folio_noalloc, shmem_mfill_atomic_pte};
use crate::mm::swap::folio_put;
use crate::mm::vma::vma_modify_flags;
use crate::mm_types::{Content, FolioId, HugePmd, Of, Pte, Vma, prot, vm};
use crate::state::Kernel;
use operations::Storage;

/// `enum mfill_atomic_mode` (`include/linux/userfaultfd_k.h`)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// A page full of that byte.
    Copy(u8),
    /// The zero page, or a page of zeroes where memory is shared.
    Zeropage,
    /// What the page cache has.
    Continue,
}

/// `vma_can_userfault()` (`include/linux/userfaultfd_k.h`)
pub fn vma_can_userfault(k: &Kernel<'_>, vma: &Vma, flags: u64) -> bool {
    // Of shmem or of hugetlb, which have both their pages in memory.
    let usual = k.of(vma.file) == Of::Usual;
    let in_memory = vma.file.is_some() && usual && k.storage(vma.file) == Storage::Memory;
    if flags & vm::UFFD_MINOR != 0 && !in_memory {
        return false;
    }
    vma.is_anonymous() || in_memory
}

/// `userfaultfd_register_range()`
///
/// # Errors
/// EINVAL inside a page of hugetlb; ENOMEM where there may be no more areas: what was registered
/// before stays so.
pub fn userfaultfd_register_range(
    k: &mut Kernel<'_>,
    vmas: &[Vma],
    flags: u64,
    start: u64,
    end: u64,
) -> Result<(), i32> {
    for vma in vmas.iter().filter(|vma| vma.flags & flags != flags) {
        let new_flags = vma.flags & !vm::UFFD | flags;
        let (from, to) = (start.max(vma.start), end.min(vma.end));
        // vma_modify_flags_uffd()
        vma_modify_flags(k, from, to, new_flags)?;
        // uffd_disable_huge_pmd_share()
        if vma.has(vm::HUGETLB)
            && flags & vm::UFFD_MINOR != 0
            && let Some(vma) = k.mm.vma_lookup(from).cloned()
        {
            hugetlb_unshare_all_pmds(k, &vma);
        }
    }
    Ok(())
}

/// `userfaultfd_clear_vma()`, of the part of a vma that lies in a range
///
/// # Errors
/// EINVAL inside a page of hugetlb; ENOMEM where there may be no more areas.
pub fn userfaultfd_clear_vma(
    k: &mut Kernel<'_>,
    vma: &Vma,
    start: u64,
    end: u64,
) -> Result<(), i32> {
    let (from, to) = (start.max(vma.start), end.min(vma.end));
    vma_modify_flags(k, from, to, vma.flags & !vm::UFFD).map(drop)
}

/// `userfaultfd_release_all()`: nothing in an mm is registered any more.
pub fn userfaultfd_release_all(k: &mut Kernel<'_>) {
    let vmas = k.mm.vmas.values().filter(|vma| vma.has(vm::UFFD));
    for vma in vmas.cloned().collect::<Vec<_>>() {
        // Of whole areas: nothing has to be split for it.
        let _ = userfaultfd_clear_vma(k, &vma, vma.start, vma.end);
    }
}

/// `find_vma_and_prepare_anon()`
fn find_vma_and_prepare_anon(k: &mut Kernel<'_>, addr: u64) -> Result<Vma, i32> {
    let vma = k.mm.vma_lookup(addr).cloned().ok_or(errno::ENOENT)?;
    if !vma.has(vm::SHARED) {
        vmf_anon_prepare(k, &vma);
    }
    Ok(vma)
}

/// `mfill_atomic()`: how much of the range was filled.
///
/// # Errors
/// Why nothing of it could be.
pub fn mfill_atomic(k: &mut Kernel<'_>, start: u64, len: u64, fill: Fill) -> Result<u64, i32> {
    let end = start + len;
    let vma = find_vma_and_prepare_anon(k, start)?;
    // validate_dst_vma()
    if end > vma.end || !vma.has(vm::UFFD) {
        return Err(errno::ENOENT);
    }
    if vma.has(vm::HUGETLB) {
        let size = hstate_vma(k, &vma);
        return mfill_atomic_hugetlb(k, &vma, (start, len), size, fill);
    }
    if fill == Fill::Continue && vma.is_anonymous() {
        return Err(errno::EINVAL);
    }
    for addr in (start..end).step_by(PAGE_SIZE as usize) {
        if let Err(error) = mfill_atomic_pte(k, &vma, addr, fill) {
            return if addr > start {
                Ok(addr - start)
            } else {
                Err(error)
            };
        }
    }
    Ok(len)
}

/// `mfill_atomic_pte()`, with what `mfill_atomic()` does for it
fn mfill_atomic_pte(k: &mut Kernel<'_>, vma: &Vma, addr: u64, fill: Fill) -> Result<(), i32> {
    if k.mm.pgd.huge_pmd(addr).is_some() {
        return Err(errno::EEXIST);
    }
    k.mm.pgd.pte_alloc(addr);
    match fill {
        Fill::Continue => mfill_atomic_pte_continue(k, vma, addr),
        Fill::Copy(value) if vma.has(vm::SHARED) => {
            shmem_mfill_atomic_pte(k, vma, addr, Content::of(value))
        }
        Fill::Zeropage if vma.has(vm::SHARED) => {
            shmem_mfill_atomic_pte(k, vma, addr, Content::ZEROES)
        }
        Fill::Copy(value) => mfill_atomic_pte_copy(k, vma, addr, Content::of(value)),
        Fill::Zeropage => mfill_atomic_pte_zeropage(k, vma, addr),
    }
}

/// `mfill_file_over_size()`
fn mfill_file_over_size(k: &Kernel<'_>, vma: &Vma, addr: u64) -> bool {
    let inode = vma.file.and_then(|file| k.files.get(file));
    inode.is_some_and(|inode| vma.linear_page_index(addr) >= inode.pages)
}

/// What `mfill_atomic_install_pte()` asks of the place.
///
/// # Errors
/// EFAULT after the end of the file, EEXIST where something is mapped.
fn can_install(k: &Kernel<'_>, vma: &Vma, addr: u64) -> Result<(), i32> {
    if mfill_file_over_size(k, vma, addr) {
        return Err(errno::EFAULT);
    }
    match k.pte(addr) {
        Pte::None => Ok(()),
        _ => Err(errno::EEXIST),
    }
}

/// `mfill_atomic_install_pte()` of a page that is in a file's page cache, whose reference
/// becomes the mapping's.
///
/// # Errors
/// As [`can_install`].
pub fn mfill_atomic_install_pte(
    k: &mut Kernel<'_>,
    vma: &Vma,
    addr: u64,
    id: FolioId,
) -> Result<(), i32> {
    can_install(k, vma, addr)?;
    folio_add_file_rmap_ptes(k, id, (addr, addr + PAGE_SIZE), vma.flags);
    let writable = vma.has(vm::WRITE) && vma.has(vm::SHARED);
    let page_prot = vma_set_page_prot(k, vma);
    let rights = page_prot | if writable { prot::W } else { 0 };
    k.set_pte(
        addr,
        Pte::Present {
            folio: Some(id),
            prot: rights,
            dirty: true,
            young: prot_is_young(page_prot),
        },
    );
    Ok(())
}

/// `mfill_atomic_pte_copy()`
fn mfill_atomic_pte_copy(
    k: &mut Kernel<'_>,
    vma: &Vma,
    addr: u64,
    content: Content,
) -> Result<(), i32> {
    can_install(k, vma, addr)?;
    map_new_anon_folio(k, vma, addr, true, content);
    Ok(())
}

/// `mfill_atomic_pte_zeropage()`
fn mfill_atomic_pte_zeropage(k: &mut Kernel<'_>, vma: &Vma, addr: u64) -> Result<(), i32> {
    can_install(k, vma, addr)?;
    set_zero_pte(k, vma, addr);
    Ok(())
}

fn set_zero_pte(k: &mut Kernel<'_>, vma: &Vma, addr: u64) {
    let rights = vm_get_page_prot(vma.flags);
    k.set_pte(
        addr,
        Pte::Present {
            folio: None,
            prot: rights,
            dirty: false,
            young: prot_is_young(rights),
        },
    );
}

/// `mfill_atomic_pte_continue()`
fn mfill_atomic_pte_continue(k: &mut Kernel<'_>, vma: &Vma, addr: u64) -> Result<(), i32> {
    let index = vma.linear_page_index(addr);
    let file = vma.file.ok_or(errno::EFAULT)?;
    let id = shmem_get_folio_noalloc(k, file, index)?;
    let installed = mfill_atomic_install_pte(k, vma, addr, id);
    if installed.is_err() {
        folio_put(k, id);
    }
    installed
}

/// `move_pages()`: how much of the range was moved.
///
/// # Errors
/// Why nothing of it could be.
pub fn move_pages(
    k: &mut Kernel<'_>,
    (src, dst): (u64, u64),
    len: u64,
    holes: bool,
) -> Result<u64, i32> {
    // uffd_move_lock()
    let dst_vma = find_vma_and_prepare_anon(k, dst)?;
    let src_vma = k.mm.vma_lookup(src).cloned().ok_or(errno::ENOENT)?;
    let inside = src + len <= src_vma.end && dst + len <= dst_vma.end;
    if src_vma.has(vm::SHARED) || dst_vma.has(vm::SHARED) || !inside {
        return Err(errno::EINVAL);
    }
    validate_move_areas(&src_vma, &dst_vma)?;
    let areas = Areas {
        src: src_vma,
        dst: dst_vma,
        holes,
    };
    let mut moved = 0;
    while moved < len && k.unpredicted.is_none() {
        match move_some(k, &areas, (src + moved, dst + moved), len - moved) {
            Ok(step) => moved += step,
            Err(error) if moved == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(moved)
}

/// What is moved between.
struct Areas {
    src: Vma,
    dst: Vma,
    /// UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES
    holes: bool,
}

/// `validate_move_areas()`
fn validate_move_areas(src: &Vma, dst: &Vma) -> Result<(), i32> {
    let alike = vm::ACCESS_FLAGS | vm::LOCKED;
    // vma_move_compatible()
    let good = (src.flags | dst.flags) & vm::HUGETLB == 0
        && (src.flags ^ dst.flags) & alike == 0
        && src.has(vm::WRITE)
        && dst.has(vm::UFFD)
        && src.is_anonymous()
        && dst.is_anonymous();
    if good { Ok(()) } else { Err(errno::EINVAL) }
}

/// The loop of `move_pages()`: how far it comes, which may be no step where a huge page
/// had to be split.
fn move_some(
    k: &mut Kernel<'_>,
    areas: &Areas,
    (src, dst): (u64, u64),
    len: u64,
) -> Result<u64, i32> {
    // mm_find_pmd()
    if !k.mm.pgd.pmd_tables.contains(&(src >> 30)) {
        if !areas.holes {
            return Err(errno::ENOENT);
        }
        k.mm.pgd.pmd_tables.insert(src >> 30);
    }
    k.mm.pgd.pmd_tables.insert(dst >> 30);
    if k.mm.pgd.huge_pmd(dst).is_some() {
        return Err(errno::EEXIST);
    }
    if let Some(pmd) = k.mm.pgd.huge_pmd(src) {
        let zero = is_huge_zero_pmd(k, pmd);
        let exclusive = zero || k.folios[pmd.folio].page_anon_exclusive(src);
        // move_splits_huge_pmd()
        let splits = src % PMD_SIZE != 0 || dst % PMD_SIZE != 0 || len < PMD_SIZE;
        if !exclusive {
            return Err(errno::EBUSY);
        }
        if splits || k.mm.pgd.pte_tables.contains_key(&(dst >> 21)) {
            __split_huge_pmd(k, &areas.src, src);
            return Ok(0);
        }
        move_pages_huge_pmd(k, &areas.dst, (src, dst), pmd);
        return Ok(PMD_SIZE);
    }
    if !k.mm.pgd.pte_tables.contains_key(&(src >> 21)) && !areas.holes {
        return Err(errno::ENOENT);
    }
    k.mm.pgd.pte_alloc(src);
    k.mm.pgd.pte_alloc(dst);
    move_pages_pte(k, areas, (src, dst), len)
}

/// `move_pages_huge_pmd()` (`mm/huge_memory.c`)
fn move_pages_huge_pmd(k: &mut Kernel<'_>, vma: &Vma, (src, dst): (u64, u64), pmd: HugePmd) {
    // pmdp_huge_clear_flush()
    k.set_pmd(src, None);
    k.enter(Entry::FlushPmdTlbRange {
        start: src,
        end: src + PMD_SIZE,
    });
    let page_prot = vm_get_page_prot(vma.flags);
    let zero = is_huge_zero_pmd(k, pmd);
    if !zero {
        folio_move(k, vma, dst, pmd.folio);
    }
    let moved = HugePmd {
        folio: pmd.folio,
        prot: page_prot | if zero { 0 } else { prot::W },
        dirty: !zero,
        young: prot_is_young(page_prot),
    };
    k.set_pmd(dst, Some(moved));
}

/// `folio_move_anon_rmap()` (`mm/rmap.c`), and the folio's new index.
fn folio_move(k: &mut Kernel<'_>, vma: &Vma, dst: u64, id: FolioId) {
    k.folios[id].anon_vma = anon_vma_of(k, vma);
    k.folios[id].index = vma.linear_anon_page_index(k.profile, dst);
}

/// `move_pages_pte()`, later `move_pages_ptes()`: how much it moved.
fn move_pages_pte(
    k: &mut Kernel<'_>,
    areas: &Areas,
    (src, dst): (u64, u64),
    len: u64,
) -> Result<u64, i32> {
    if k.pte(dst) != Pte::None {
        return Err(errno::EEXIST);
    }
    match k.pte(src) {
        Pte::None if areas.holes => Ok(PAGE_SIZE),
        Pte::None => Err(errno::ENOENT),
        Pte::Present { folio: None, .. } => {
            move_zeropage_pte(k, &areas.dst, src, dst);
            Ok(PAGE_SIZE)
        }
        Pte::Present {
            folio: Some(id), ..
        } => {
            if !k.folios[id].anon || !k.folios[id].page_anon_exclusive(src) {
                return Err(errno::EBUSY);
            }
            if folio_maybe_dma_pinned(&k.folios[id]) {
                return Err(errno::EBUSY);
            }
            if k.profile.uffd_moves_in_batches && k.held.iter().any(|held| held.pin) {
                k.unpredicted = Some("UFFDIO_MOVE of several pages where some are pinned");
            }
            if k.folios[id].large.is_some() {
                return split_to_move(k, id);
            }
            if k.profile.uffd_moves_in_batches {
                return Ok(move_present_ptes(k, &areas.dst, (src, dst), len));
            }
            move_present_pte(k, &areas.dst, src, dst, id);
            Ok(PAGE_SIZE)
        }
        Pte::Swap { entry, exclusive } => {
            if !exclusive {
                return Err(errno::EBUSY);
            }
            let cached = k.swap.slots.get(&entry).and_then(|slot| slot.cache);
            if let Some(id) = cached {
                if k.folios[id].large.is_some() {
                    return Err(errno::EBUSY);
                }
                folio_move(k, &areas.dst, dst, id);
            }
            // move_swap_pte()
            let pte = k.pte(src);
            k.set_pte(src, Pte::None);
            k.set_pte(dst, pte);
            Ok(PAGE_SIZE)
        }
        Pte::Guard => Err(errno::EFAULT),
    }
}

/// The part of `move_pages_pte()` that splits a large folio before it looks again.
fn split_to_move(k: &mut Kernel<'_>, id: FolioId) -> Result<u64, i32> {
    k.folio_get(id);
    if !split_folio(k, id) {
        // It is tried again until it can be split.
        k.unpredicted = Some("UFFDIO_MOVE of a huge page that cannot be split");
    }
    folio_put(k, id);
    Ok(0)
}

/// `move_zeropage_pte()`
fn move_zeropage_pte(k: &mut Kernel<'_>, dst_vma: &Vma, src: u64, dst: u64) {
    ptep_clear_flush(k, src);
    set_zero_pte(k, dst_vma, dst);
}

/// `move_present_pte()`
fn move_present_pte(k: &mut Kernel<'_>, dst_vma: &Vma, src: u64, dst: u64, id: FolioId) {
    let pte = k.pte(src);
    ptep_clear_flush(k, src);
    set_moved_pte(k, dst_vma, dst, id, pte);
}

fn set_moved_pte(k: &mut Kernel<'_>, vma: &Vma, dst: u64, id: FolioId, pte: Pte) {
    folio_move(k, vma, dst, id);
    let page_prot = vm_get_page_prot(vma.flags);
    let dirty = matches!(pte, Pte::Present { dirty: true, .. });
    k.set_pte(
        dst,
        Pte::Present {
            folio: Some(id),
            prot: page_prot | prot::W,
            dirty,
            young: prot_is_young(page_prot),
        },
    );
}

/// `move_present_ptes()` with `check_ptes_for_batched_move()`: pages in a row, and one flush.
fn move_present_ptes(k: &mut Kernel<'_>, dst_vma: &Vma, (src, dst): (u64, u64), len: u64) -> u64 {
    // pmd_addr_end()
    let rest = |addr: u64| PMD_SIZE - addr % PMD_SIZE;
    let len = len.min(rest(dst)).min(rest(src));
    let mut moved = 0;
    while moved < len {
        let pte = k.pte(src + moved);
        let Pte::Present {
            folio: Some(id), ..
        } = pte
        else {
            break;
        };
        let movable = k.folios[id].large.is_none() && k.folios[id].page_anon_exclusive(src + moved);
        if !movable || k.pte(dst + moved) != Pte::None {
            break;
        }
        k.set_pte(src + moved, Pte::None);
        set_moved_pte(k, dst_vma, dst + moved, id, pte);
        moved += PAGE_SIZE;
    }
    k.enter(Entry::FlushTlbRange {
        start: src,
        end: src + moved,
        huge_page_size: None,
    });
    moved
}
