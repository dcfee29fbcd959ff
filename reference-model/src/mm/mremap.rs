// SPDX-License-Identifier: GPL-2.0-only
//! `mm/mremap.c`: areas grow, shrink and move, and their page tables with them.
//!
//! Two releases of it: 6.12's, which unmaps where an area goes before it looks at that area,
//! and 7.2's, which looks first and moves several areas in one call. What moves page
//! tables is the same in both. Absent: the locks of the rmap (`need_rmap_locks`), for nobody
//! walks it meanwhile; failures for want of memory; events of userfaultfd.

use crate::api::{Entry, PAGE_SIZE};
use crate::arch::riscv::mm::tlbflush::{PMD_SIZE, PUD_SIZE};
use crate::errno;
use crate::fs::userfaultfd::mremap_userfaultfd_prep;
use crate::mm::huge_memory::{__split_huge_pmd, move_huge_pmd};
use crate::mm::hugetlb::reserve::clear_vma_resv_huge_pages;
use crate::mm::hugetlb::{hstate_vma, hugetlb_vm_op_split, move_hugetlb_page_tables};
use crate::mm::mlock::VM_LOCKED_MASK;
use crate::mm::mmap::{TASK_SIZE, find_vma_intersection, page_align};
use crate::mm::mseal::can_modify_vma;
use crate::mm::rmap::anon_vma::unlink_anon_vmas;
use crate::mm::util::vm_enough_memory;
use crate::mm::vma::{copy_vma, do_vmi_munmap, has_all_areas, split_vma, vma_merge_extend};
use crate::mm::{gup, ksm, rmap};
use crate::mm_types::{Pte, Vma, vm};
use crate::state::Kernel;

/// `struct vma_remap_struct`, and the arguments of 6.12's functions.
#[derive(Clone, Copy, Debug)]
pub struct Remap {
    /// `addr`
    pub addr: u64,
    /// `old_len`
    pub old_len: u64,
    /// `new_len`
    pub new_len: u64,
    /// `new_addr`, with MREMAP_MAYMOVE and MREMAP_FIXED.
    pub new_addr: Option<u64>,
    /// MREMAP_DONTUNMAP
    pub dontunmap: bool,
}

/// `struct pagetable_move_control`
struct PagetableMoveControl {
    /// The area that pages are moved from.
    old: Vma,
    /// The one that they are moved to.
    new: Vma,
    old_addr: u64,
    old_end: u64,
    new_addr: u64,
    len_in: u64,
}

/// mremap(2), whose function is called so since it was rewritten.
///
/// # Errors
/// As mremap(2), in the kernel's order.
pub fn do_mremap(k: &mut Kernel, remap: Remap) -> Result<(), i32> {
    let remap = Remap {
        old_len: page_align(remap.old_len).ok_or(errno::EINVAL)?,
        new_len: page_align(remap.new_len).ok_or(errno::EINVAL)?,
        ..remap
    };
    check_mremap_params(&remap)?;
    // check_map_count_against_split_early()
    let early = k.profile.mremap_counts_splits;
    if early && !__check_map_count_against_split(k, remap.dontunmap, true) {
        return Err(errno::ENOMEM);
    }
    if k.profile.remaps_several_areas {
        remap_checked_first(k, remap)
    } else {
        remap_unmapped_first(k, remap)
    }
}

/// `__check_map_count_against_split()`: the area's copy, and what is left on both sides of it, of
/// what is cut off and of what is mapped where it goes.
fn __check_map_count_against_split(k: &Kernel, pre_split: bool, before_unmaps: bool) -> bool {
    let more = 2 + 2 * u64::from(before_unmaps) + u64::from(pre_split);
    let count = k.mm.vmas.len() as u64 + more;
    k.max_map_count.is_none_or(|limit| count <= limit)
}

/// `check_mremap_params()`, the part that 6.12 has in its system call.
fn check_mremap_params(remap: &Remap) -> Result<(), i32> {
    let resized = remap.old_len != remap.new_len;
    // MREMAP_DONTUNMAP wants MREMAP_MAYMOVE.
    let kept_where_it_is = remap.dontunmap && (remap.new_addr.is_none() || resized);
    if remap.new_len == 0 || !remap.addr.is_multiple_of(PAGE_SIZE) || kept_where_it_is {
        return Err(errno::EINVAL);
    }
    Ok(())
}

/// The part of `check_mremap_params()` that 6.12 has in `mremap_to()`: after a look at whether
/// anything is mapped there.
fn check_new_addr(remap: &Remap, new_addr: u64) -> Result<(), i32> {
    let Remap {
        addr,
        old_len,
        new_len,
        ..
    } = *remap;
    // vrm_overlaps()
    let overlaps = addr + old_len > new_addr && new_addr + new_len > addr;
    let fits = new_len <= TASK_SIZE && new_addr <= TASK_SIZE - new_len;
    if !fits || !new_addr.is_multiple_of(PAGE_SIZE) || overlaps {
        return Err(errno::EINVAL);
    }
    Ok(())
}

/// `align_hugetlb()`, which 6.12 has in its system call: whole pages of hugetlb, and no more than
/// there were. Without a new address the old one is the system call's.
fn align_hugetlb(k: &Kernel, remap: Remap) -> Result<Remap, i32> {
    let vma = k.mm.vma_lookup(remap.addr).ok_or(errno::EFAULT)?;
    if !vma.has(vm::HUGETLB) {
        return Ok(remap);
    }
    let size = hstate_vma(k, vma).bytes();
    let whole = |len: u64| len.checked_next_multiple_of(size).ok_or(errno::EINVAL);
    let (old_len, new_len) = (whole(remap.old_len)?, whole(remap.new_len)?);
    let new_addr = remap.new_addr.unwrap_or(remap.addr);
    let aligned = remap.addr.is_multiple_of(size) && new_addr.is_multiple_of(size);
    if !aligned || new_len > old_len {
        return Err(errno::EINVAL);
    }
    Ok(Remap {
        old_len,
        new_len,
        ..remap
    })
}

/// mremap(2) until it was rewritten: where the area goes is unmapped, and what it is to lose, before
/// anything says that it cannot be moved.
fn remap_unmapped_first(k: &mut Kernel, remap: Remap) -> Result<(), i32> {
    may_change(k, remap.addr)?;
    let remap = align_hugetlb(k, remap)?;
    let Remap {
        addr,
        old_len,
        new_len,
        new_addr,
        ..
    } = remap;
    let Some(new_addr) = new_addr else {
        return mremap_at(k, remap);
    };
    check_new_addr(&remap, new_addr)?;
    // With what is unmapped both areas may be split in three.
    if has_all_areas(k, 3 + 2) {
        return Err(errno::ENOMEM);
    }
    do_vmi_munmap(k, new_addr, new_len)?;
    let mut move_len = old_len;
    if old_len > new_len {
        do_vmi_munmap(k, addr + new_len, old_len - new_len)?;
        move_len = new_len;
    }
    let remap = Remap {
        old_len: move_len,
        ..remap
    };
    vma_to_resize(k, &remap)?;
    let locked = move_vma(k, &remap, new_addr)?;
    if locked && new_len > old_len {
        gup::mm_populate(k, new_addr + old_len, new_len - old_len);
    }
    Ok(())
}

/// What 7.2 has in place of it, once the parameters are checked.
fn remap_checked_first(k: &mut Kernel, remap: Remap) -> Result<(), i32> {
    if let Some(new_addr) = remap.new_addr {
        check_new_addr(&remap, new_addr)?;
    }
    match remap.new_addr {
        // vrm_move_only()
        Some(new_addr) if remap.old_len == remap.new_len => remap_move(k, remap, new_addr),
        Some(new_addr) => {
            let remap = check_prep_vma(k, remap)?;
            mremap_to(k, remap, new_addr)
        }
        None => {
            may_change(k, remap.addr)?;
            let remap = align_hugetlb(k, remap)?;
            mremap_at(k, remap)
        }
    }
}

/// Whether there is an area, and it is not sealed.
fn may_change(k: &Kernel, addr: u64) -> Result<(), i32> {
    let vma = k.mm.vma_lookup(addr).ok_or(errno::EFAULT)?;
    if can_modify_vma(vma) {
        Ok(())
    } else {
        Err(errno::EPERM)
    }
}

/// `remap_move()`: all areas of the range move, as far from each other as they are.
fn remap_move(k: &mut Kernel, remap: Remap, new_addr: u64) -> Result<(), i32> {
    let (start, end) = (remap.addr, remap.addr + remap.old_len);
    let (mut at, mut target_addr) = (start, new_addr);
    let mut last_end = None;
    while let Some(vma) = k.mm.find_vma(at).filter(|vma| vma.start < end).cloned() {
        if last_end.is_none() && start < vma.start {
            return Err(errno::EFAULT);
        }
        let addr = vma.start.max(start);
        let len = end.min(vma.end) - addr;
        let target = target_addr + last_end.map_or(0, |last_end| vma.start - last_end);
        let one = Remap {
            addr,
            old_len: len,
            new_len: len,
            new_addr: Some(target),
            ..remap
        };
        if !vma_multi_allowed(&vma) && (last_end.is_some() || vma.end < end) {
            return Err(errno::EFAULT);
        }
        let one = check_prep_vma(k, one)?;
        mremap_to(k, one, target)?;
        target_addr = target + one.new_len;
        (at, last_end) = (vma.end, Some(vma.end));
    }
    last_end.map(|_| ()).ok_or(errno::EFAULT)
}

/// `vma_multi_allowed()`, of the kinds of files that there are
fn vma_multi_allowed(vma: &Vma) -> bool {
    // userfaultfd_armed()
    !vma.has(vm::UFFD)
}

/// `check_prep_vma()`, of what is to be moved or to grow
fn check_prep_vma(k: &Kernel, remap: Remap) -> Result<Remap, i32> {
    may_change(k, remap.addr)?;
    let remap = align_hugetlb(k, remap)?;
    // A shrinking remap may cross areas: what is cut off is unmapped.
    let old_len = remap.old_len.min(remap.new_len);
    vma_to_resize(k, &Remap { old_len, ..remap })?;
    Ok(remap)
}

/// `vma_to_resize()`
fn vma_to_resize(k: &Kernel, remap: &Remap) -> Result<(), i32> {
    let Remap {
        addr,
        old_len,
        new_len,
        ..
    } = *remap;
    let vma = k.mm.vma_lookup(addr).ok_or(errno::EFAULT)?;
    // Only a shared mapping can be duplicated.
    if old_len == 0 && !vma.has(vm::SHARED | vm::MAYSHARE) {
        return Err(errno::EINVAL);
    }
    if remap.dontunmap && vma.has(vm::DONTEXPAND) {
        return Err(errno::EINVAL);
    }
    if old_len > vma.end - addr {
        return Err(errno::EFAULT);
    }
    if new_len == old_len {
        return Ok(());
    }
    let pgoff = vma.linear_page_index(addr);
    if pgoff.checked_add(new_len / PAGE_SIZE).is_none() {
        return Err(errno::EINVAL);
    }
    if vma.has(vm::DONTEXPAND) {
        return Err(errno::EFAULT);
    }
    // mlock_future_ok(): the actors may lock what they like.
    Ok(())
}

/// `mremap_to()`, of 7.2
fn mremap_to(k: &mut Kernel, remap: Remap, new_addr: u64) -> Result<(), i32> {
    let Remap {
        addr,
        old_len,
        new_len,
        ..
    } = remap;
    do_vmi_munmap(k, new_addr, new_len)?;
    let mut move_len = old_len;
    if old_len > new_len {
        // shrink_vma()
        do_vmi_munmap(k, addr + new_len, old_len - new_len)?;
        move_len = new_len;
    }
    if k.mm.vma_lookup(addr).is_none() {
        return Err(errno::EFAULT);
    }
    let remap = Remap {
        old_len: move_len,
        ..remap
    };
    let locked = move_vma(k, &remap, new_addr)?;
    // `populate_expand`
    if locked && new_len > old_len {
        gup::mm_populate(k, new_addr + old_len, new_len - old_len);
    }
    Ok(())
}

/// `mremap_at()`: shrinks or grows where it is.
fn mremap_at(k: &mut Kernel, remap: Remap) -> Result<(), i32> {
    let Remap {
        addr,
        old_len,
        new_len,
        ..
    } = remap;
    if old_len == new_len {
        return Ok(());
    }
    if old_len > new_len {
        return do_vmi_munmap(k, addr + new_len, old_len - new_len);
    }
    vma_to_resize(k, &remap)?;
    expand_vma(k, remap)
}

/// `expand_vma()` and `expand_vma_in_place()`, without MREMAP_MAYMOVE
fn expand_vma(k: &mut Kernel, remap: Remap) -> Result<(), i32> {
    let delta = remap.new_len - remap.old_len;
    let vma = k.mm.vma_lookup(remap.addr).ok_or(errno::EFAULT)?.clone();
    if vma.end - remap.addr != remap.old_len || !vma_expandable(k, &vma, delta) {
        return Err(errno::ENOMEM);
    }
    let pages = delta / PAGE_SIZE;
    if vma.has(vm::ACCOUNT) && !vm_enough_memory(k, pages) {
        return Err(errno::ENOMEM);
    }
    vma_merge_extend(k, &vma, delta);
    if vma.has(vm::LOCKED) {
        k.mm.locked_vm += pages;
        gup::mm_populate(k, remap.addr + remap.old_len, delta);
    }
    Ok(())
}

/// `vma_expandable()`
fn vma_expandable(k: &Kernel, vma: &Vma, delta: u64) -> bool {
    let end = vma.end.saturating_add(delta);
    find_vma_intersection(k, vma.end, end).is_none() && end <= TASK_SIZE
}

/// `move_vma()`: whether what is there now is locked.
fn move_vma(k: &mut Kernel, remap: &Remap, new_addr: u64) -> Result<bool, i32> {
    let Remap {
        addr,
        old_len,
        new_len,
        dontunmap,
        ..
    } = *remap;
    let vma = k.mm.vma_lookup(addr).ok_or(errno::EFAULT)?;
    let (account, locked) = (vma.has(vm::ACCOUNT), vma.has(vm::LOCKED));
    let vma = vma.clone();
    let room = match k.profile.mremap_counts_splits {
        // check_map_count_against_split(), needs_pre_split()
        true => __check_map_count_against_split(k, dontunmap && locked, false),
        false => !has_all_areas(k, 3),
    };
    if !room {
        return Err(errno::ENOMEM);
    }
    // What the area says of being split.
    hugetlb_vm_op_split(k, &vma, addr)?;
    hugetlb_vm_op_split(k, &vma, addr + old_len)?;
    // ksm_madvise() of MADV_UNMERGEABLE, of which the flags are not taken: what was merged would
    // turn up where it moves to.
    ksm::madvise_unmergeable(k, &vma, addr, addr + old_len);
    if dontunmap && locked {
        split_vma(k, addr)?;
        split_vma(k, addr + old_len)?;
    }
    // vrm_calc_charge()
    let to_account = if dontunmap {
        new_len
    } else {
        new_len - old_len
    };
    if account && !vm_enough_memory(k, to_account / PAGE_SIZE) {
        return Err(errno::ENOMEM);
    }
    copy_vma_and_data(k, remap, new_addr);
    if dontunmap {
        dontunmap_complete(k, addr, addr + old_len);
        return Ok(false);
    }
    if locked {
        k.mm.locked_vm += new_len / PAGE_SIZE;
    }
    // unmap_source_vma(): VM_ACCOUNT is on what stays as before. Of nothing, where a mapping
    // is duplicated, it is refused.
    let _ = do_vmi_munmap(k, addr, old_len);
    Ok(locked)
}

/// `copy_vma_and_data()`
fn copy_vma_and_data(k: &mut Kernel, remap: &Remap, new_addr: u64) {
    let Some(vma) = k.mm.vma_lookup(remap.addr).cloned() else {
        return;
    };
    copy_vma(
        k,
        &vma,
        (remap.addr, new_addr),
        remap.new_len,
        remap.dontunmap,
    );
    // Both as they are after merges, in which the old one may have become a part of the new one.
    let old = k.mm.vma_lookup(remap.addr).cloned();
    let new = k.mm.vma_lookup(new_addr).cloned();
    if let (Some(old), Some(new)) = (old, new) {
        let mut pmc = PagetableMoveControl {
            old,
            new,
            old_addr: remap.addr,
            old_end: remap.addr + remap.old_len,
            new_addr,
            len_in: remap.old_len,
        };
        move_page_tables(k, &mut pmc);
    }
    mremap_userfaultfd_prep(k, new_addr);
    clear_vma_resv_huge_pages(k, remap.addr);
}

/// `dontunmap_complete()`: an area of which nothing is left is as fresh.
fn dontunmap_complete(k: &mut Kernel, start: u64, end: u64) {
    let Some(mut vma) = k.mm.vma_lookup(start).cloned() else {
        return;
    };
    vma.flags &= !VM_LOCKED_MASK;
    if vma.start == start && vma.end == end {
        unlink_anon_vmas(k, &vma);
        vma.anon_vma = None;
        vma.anon_vma_chain = Default::default();
        vma.anon_pgoff = start / PAGE_SIZE;
        if vma.is_anonymous() {
            vma.pgoff = start / PAGE_SIZE;
        }
    }
    k.mm.vmas.insert(vma.start, vma);
}

/// `get_extent()`: to the end of a table's entry, of the old and of the new address.
fn get_extent(pmc: &PagetableMoveControl, size: u64) -> u64 {
    let to_next = |addr: u64| size - addr % size;
    let left = pmc.old_end - pmc.old_addr;
    to_next(pmc.old_addr).min(left).min(to_next(pmc.new_addr))
}

/// `can_align_down()`: nothing is mapped there.
fn can_align_down(k: &Kernel, vma: &Vma, addr_to_align: u64, mask: u64) -> bool {
    vma.start == addr_to_align
        && find_vma_intersection(k, addr_to_align & mask, vma.start).is_none()
}

/// `try_realign_addr()` and `can_realign_addr()`: a move that reaches the end of a table begins
/// with its start, so that the table can be moved as a whole.
fn try_realign_addr(k: &Kernel, pmc: &mut PagetableMoveControl) {
    let mask = !(PMD_SIZE - 1);
    let (old_align, new_align) = (pmc.old_addr & !mask, pmc.new_addr & !mask);
    if pmc.len_in >= PMD_SIZE - old_align
        && old_align != 0
        && old_align == new_align
        && can_align_down(k, &pmc.old, pmc.old_addr, mask)
        && can_align_down(k, &pmc.new, pmc.new_addr, mask)
    {
        pmc.old_addr &= mask;
        pmc.new_addr &= mask;
    }
}

/// `move_page_tables()`
fn move_page_tables(k: &mut Kernel, pmc: &mut PagetableMoveControl) {
    if pmc.len_in == 0 {
        return;
    }
    if pmc.old.has(vm::HUGETLB) {
        move_hugetlb_page_tables(
            k,
            (&pmc.old, &pmc.new),
            (pmc.old_addr, pmc.new_addr),
            pmc.len_in,
        );
        return;
    }
    try_realign_addr(k, pmc);
    while pmc.old_addr < pmc.old_end {
        let extent = move_extent(k, pmc);
        pmc.old_addr += extent;
        pmc.new_addr += extent;
    }
}

/// The loop of `move_page_tables()`: how far it came.
fn move_extent(k: &mut Kernel, pmc: &PagetableMoveControl) -> u64 {
    let (old, new) = (pmc.old_addr, pmc.new_addr);
    let extent = get_extent(pmc, PUD_SIZE);
    // get_old_pud()
    if !k.mm.pgd.pmd_tables.contains(&(old >> 30)) {
        return extent;
    }
    // vma_has_uffd_without_event_remap()
    let whole_tables = k.uffd_events || !pmc.old.has(vm::UFFD) && !pmc.new.has(vm::UFFD);
    if whole_tables && extent == PUD_SIZE && move_normal_pud(k, old, new) {
        return extent;
    }
    let extent = get_extent(pmc, PMD_SIZE);
    // get_old_pmd()
    let huge = k.mm.pgd.huge_pmd(old).is_some();
    if !huge && !k.mm.pgd.pte_tables.contains_key(&(old >> 21)) {
        return extent;
    }
    // alloc_new_pmd()
    k.mm.pgd.pmd_tables.insert(new >> 30);
    if huge {
        if extent == PMD_SIZE && move_huge_pmd(k, old, new) {
            return extent;
        }
        __split_huge_pmd(k, &pmc.old, old);
    } else if whole_tables && extent == PMD_SIZE && move_normal_pmd(k, old, new) {
        return extent;
    }
    // pmd_none()
    if k.mm.pgd.pte_tables.contains_key(&(old >> 21)) {
        k.mm.pgd.pte_alloc(new);
        move_ptes(k, old, old + extent, new);
    }
    extent
}

/// `move_ptes()`
fn move_ptes(k: &mut Kernel, start: u64, end: u64, new_addr: u64) {
    rmap::flush_tlb_batched_pending(k);
    let mut force_flush = false;
    for old_addr in (start..end).step_by(PAGE_SIZE as usize) {
        let pte = k.pte(old_addr);
        if pte == Pte::None {
            continue;
        }
        force_flush |= matches!(pte, Pte::Present { .. });
        keeps_its_place(k, pte, old_addr, new_addr + (old_addr - start));
        k.set_pte(old_addr, Pte::None);
        k.set_pte(new_addr + (old_addr - start), pte);
    }
    if force_flush {
        flush_tlb_range(k, start, end);
    }
}

/// Which page of a huge page a PTE maps is known here from its address.
fn keeps_its_place(k: &mut Kernel, pte: Pte, old_addr: u64, new_addr: u64) {
    let Pte::Present {
        folio: Some(id), ..
    } = pte
    else {
        return;
    };
    let size = k.folios[id].nr_pages() * PAGE_SIZE;
    if old_addr % size != new_addr % size {
        k.unpredicted = Some("pages of a large folio that lies at no multiple of its size");
    }
}

/// `move_normal_pmd()`: a PTE table goes as a whole; false where there is one already.
fn move_normal_pmd(k: &mut Kernel, old_addr: u64, new_addr: u64) -> bool {
    let pgd = &mut k.mm.pgd;
    if pgd.pte_tables.contains_key(&(new_addr >> 21)) || pgd.huge_pmd(new_addr).is_some() {
        return false;
    }
    move_pte_table(k, old_addr, new_addr);
    flush_moved_table(k, old_addr, old_addr + PMD_SIZE);
    true
}

/// What `move_normal_pmd()` does with the table.
fn move_pte_table(k: &mut Kernel, old_addr: u64, new_addr: u64) {
    let Some(table) = k.mm.pgd.pte_tables.remove(&(old_addr >> 21)) else {
        return;
    };
    for (page, pte) in (old_addr..).step_by(PAGE_SIZE as usize).zip(table.iter()) {
        k.note_change(page, *pte);
    }
    k.mm.pgd.pte_tables.insert(new_addr >> 21, table);
}

/// `move_normal_pud()`: the same of a PMD table.
fn move_normal_pud(k: &mut Kernel, old_addr: u64, new_addr: u64) -> bool {
    if !k.mm.pgd.pmd_tables.insert(new_addr >> 30) {
        return false;
    }
    k.mm.pgd.pmd_tables.remove(&(old_addr >> 30));
    let pmds = k.mm.pgd.pmds(old_addr, old_addr + PUD_SIZE);
    for (addr, _, huge) in pmds {
        let to = new_addr + (addr - old_addr);
        if huge {
            let pmd = k.mm.pgd.huge_pmd(addr);
            k.set_pmd(addr, None);
            k.set_pmd(to, pmd);
        } else {
            move_pte_table(k, addr, to);
        }
    }
    flush_moved_table(k, old_addr, old_addr + PUD_SIZE);
    true
}

/// What `move_normal_pmd()` and `move_normal_pud()` flush.
fn flush_moved_table(k: &mut Kernel, start: u64, end: u64) {
    match k.profile.moved_tables_flush_mm {
        true => k.enter(Entry::FlushTlbMm),
        false => flush_tlb_range(k, start, end),
    }
}

/// `flush_tlb_range()` (`arch/riscv/mm/tlbflush.c`) of an area that is no hugetlb one.
fn flush_tlb_range(k: &mut Kernel, start: u64, end: u64) {
    k.enter(Entry::FlushTlbRange {
        start,
        end,
        huge_page_size: None,
    });
}
