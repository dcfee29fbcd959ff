// SPDX-License-Identifier: GPL-2.0-only
//! `mm/vma.c`: splitting, merging and unmapping vmas.

use crate::api::PAGE_SIZE;
use crate::errno;
use crate::fs::file_table;
use crate::fs::userfaultfd::userfaultfd_unmap_prep;
use crate::mm::khugepaged::khugepaged_enter_vma;
use crate::mm::memory::zap::{ZapDetails, free_pgtables, unmap_single_vma};
use crate::mm::mmap::{TASK_SIZE, page_align};
use crate::mm::mmu_gather::{tlb_finish_mmu, tlb_gather_mmu};
use crate::mm::rmap::anon_vma::{anon_vma_clone, unlink_anon_vmas};
use crate::mm::{huge_memory, hugetlb, mseal, swap};
use crate::mm_types::{AnonVmaId, Mempolicy, Vma, vm};
use crate::state::Kernel;
use operations::Storage;

/// Where the program's own mappings end and begin again around the arena: far
/// enough (over 1 GiB) to keep no table of the arena, near enough to keep the PUD table.
pub const FLOOR: u64 = PAGE_SIZE;
pub const CEILING: u64 = (1 << 38) - PAGE_SIZE;

/// Whether an mm has as many areas as vm.max_map_count allows, or more: what is told apart
/// with `sysctl_max_map_count`. The limit is of those in the arena, for all others the agent
/// adds to it.
pub fn has_all_areas(k: &Kernel, less: u64) -> bool {
    let limit = k.max_map_count.map(|limit| limit.saturating_sub(less));
    limit.is_some_and(|limit| k.mm.vmas.len() as u64 >= limit)
}

/// `split_vma()`: only where there may be one more.
///
/// # Errors
/// ENOMEM where there may not; as [`__split_vma`].
pub fn split_vma(k: &mut Kernel, addr: u64) -> Result<(), i32> {
    let inside = |vma: &Vma| vma.start < addr;
    if k.mm.vma_lookup(addr).is_some_and(inside) && has_all_areas(k, 0) {
        return Err(errno::ENOMEM);
    }
    __split_vma(k, addr)
}

/// `__split_vma()`: at an address inside a vma; elsewhere nothing happens.
///
/// # Errors
/// EINVAL inside a page of hugetlb.
fn __split_vma(k: &mut Kernel, addr: u64) -> Result<(), i32> {
    let Some((&start, vma)) = k.mm.vmas.range(..addr).next_back() else {
        return Ok(());
    };
    if vma.end <= addr {
        return Ok(());
    }
    let lower = vma.clone();
    hugetlb::hugetlb_vm_op_split(k, &lower, addr)?;
    huge_memory::split_huge_pmd_if_needed(k, &lower, addr);
    hugetlb::hugetlb_split(k, &lower, addr);
    let Some(vma) = k.mm.vmas.get_mut(&start) else {
        return Ok(());
    };
    vma.end = addr;
    let mut upper = Vma {
        start: addr,
        pgoff: lower.pgoff + (addr - start) / PAGE_SIZE,
        anon_pgoff: lower.anon_pgoff + (addr - start) / PAGE_SIZE,
        anon_vma_chain: Default::default(),
        ..lower.clone()
    };
    anon_vma_clone(k, &mut upper, &lower);
    upper.seq = i_mmap_seq(k, &upper);
    k.mm.vmas.insert(addr, upper);
    // vma_complete(): the one that was shortened goes back after the new one.
    refresh_seq(k, start);
    Ok(())
}

/// A vma's place in time in its file's `i_mmap`.
pub fn i_mmap_seq(k: &mut Kernel, vma: &Vma) -> u64 {
    if vma.file.is_none() {
        return 0;
    }
    k.next_seq()
}

/// The vma at `start` was taken out of its interval trees and put back.
fn refresh_seq(k: &mut Kernel, start: u64) {
    let Some(vma) = k.mm.vmas.get(&start).cloned() else {
        return;
    };
    let seq = i_mmap_seq(k, &vma);
    let anon_seq = k.next_seq();
    if let Some(vma) = k.mm.vmas.get_mut(&start) {
        vma.seq = seq;
        vma.anon_seq = anon_seq;
    }
}

/// `is_mergeable_vma()`, and what else of `can_vma_merge_left()` is the same on both sides
fn is_mergeable_vma(vma: &Vma, other: &Vma) -> bool {
    (vma.flags ^ other.flags) & !vm::MAYBE_GUARD == 0
        && vma.file == other.file
        && vma.policy == other.policy
}

/// `is_mergeable_anon_vma()`: whether `vma` fits its neighbour `target`.
/// list_is_singular() of an empty chain is false, and so 6.12 does not merge a vma
/// that has an anon_vma into one that has none.
fn is_mergeable_anon_vma(k: &Kernel, vma: &Vma, target: &Vma) -> bool {
    match (vma.anon_vma, target.anon_vma) {
        (Some(_), None) if k.profile.merge_faulted_into_unfaulted => {
            // vma_is_fork_child()
            vma.anon_vma_chain.len() <= 1
        }
        (None, _) | (_, None) => {
            target.anon_vma_chain.len() == 1 || vma.anon_vma == target.anon_vma
        }
        (one, other) => one == other,
    }
}

/// What joins two neighbours of a vma asks of them: `is_mergeable_anon_vma()`
/// without a vma, later `are_anon_vmas_compatible()`.
fn anon_vmas_compatible(prev: &Vma, next: &Vma) -> bool {
    prev.anon_vma.is_none() || next.anon_vma.is_none() || prev.anon_vma == next.anon_vma
}

/// Whether the offsets of one vma go on where those of another end: of pages, and, where
/// `needs_adjacent_anon_pgoff()` says so, of anonymous pages.
fn follows(k: &Kernel, prev: &Vma, next: &Vma) -> bool {
    let pages = prev.pages();
    // vma_flags_is_cow_mapping()
    let cow = next.flags & (vm::SHARED | vm::MAYWRITE) == vm::MAYWRITE;
    let needs_adjacent_anon_pgoff = k.profile.anon_pgoff && !next.is_anonymous() && cow;
    prev.end == next.start
        && prev.pgoff + pages == next.pgoff
        && (!needs_adjacent_anon_pgoff || prev.anon_pgoff + pages == next.anon_pgoff)
}

/// `can_vma_merge_left()` and `can_vma_merge_right()`: those of the neighbours that fit.
fn mergeable(
    k: &Kernel,
    vma: &Vma,
    prev: Option<&Vma>,
    next: Option<&Vma>,
) -> (Option<Vma>, Option<Vma>) {
    let fits = |near: &&Vma| is_mergeable_vma(near, vma) && is_mergeable_anon_vma(k, vma, near);
    let prev = prev.filter(fits).filter(|prev| follows(k, prev, vma));
    let next = next.filter(fits).filter(|next| {
        follows(k, vma, next) && prev.is_none_or(|prev| anon_vmas_compatible(prev, next))
    });
    (prev.cloned(), next.cloned())
}

/// The merging half of `vma_modify()`, and `vma_merge_new_range()` of a new mapping: joins
/// `vma` (already in the tree, flags set) with the neighbours that fit. The start of
/// the vma that it is part of then.
pub fn vma_merge(k: &mut Kernel, start: u64) -> u64 {
    let Some(vma) = k.mm.vmas.get(&start).cloned() else {
        return start;
    };
    // VM_SPECIAL: those of hugetlb stay apart.
    if vma.has(vm::DONTEXPAND) {
        return start;
    }
    let prev = k.mm.vmas.range(..start).next_back().map(|(_, prev)| prev);
    let next = k.mm.vmas.get(&vma.end);
    match mergeable(k, &vma, prev, next) {
        (None, None) => start,
        (prev, next) => vma_expand(k, vma, prev, next, None),
    }
}

/// `vma_expand()`: the neighbours, and what there is between them, become one vma. The
/// anon_vma is that of the first that has one, or else of what is copied
/// (`dup_anon_vma()`).
fn vma_expand(
    k: &mut Kernel,
    vma: Vma,
    prev: Option<Vma>,
    next: Option<Vma>,
    copied_from: Option<&Vma>,
) -> u64 {
    let sticky = [&prev, &next].into_iter().flatten();
    let sticky = sticky.fold(0, |flags, near| flags | near.flags & vm::MAYBE_GUARD);
    let first = prev.as_ref().unwrap_or(&vma);
    let mut merged = Vma {
        start: first.start,
        pgoff: first.pgoff,
        anon_pgoff: first.anon_pgoff,
        end: next.map_or(vma.end, |next| next.end),
        anon_vma: None,
        anon_vma_chain: Default::default(),
        flags: vma.flags | sticky,
        ..vma
    };
    let gone = k.mm.vmas.range(merged.start..merged.end);
    let gone: Vec<u64> = gone.map(|(&at, _)| at).collect();
    let parts: Vec<Vma> = gone.iter().filter_map(|at| k.mm.vmas.remove(at)).collect();
    for part in parts {
        if merged.anon_vma.is_none() {
            merged.anon_vma = part.anon_vma;
            merged.anon_vma_chain = part.anon_vma_chain;
        } else {
            unlink_anon_vmas(k, &part);
        }
    }
    if let Some(src) = copied_from.filter(|_| merged.anon_vma.is_none()) {
        merged.anon_vma = src.anon_vma;
        anon_vma_clone(k, &mut merged, src);
    }
    let at = merged.start;
    k.mm.vmas.insert(at, merged.clone());
    refresh_seq(k, at);
    khugepaged_enter_vma(k, &merged);
    at
}

/// `vma_merge_extend()`: a vma goes on behind its end, up to the next one if that fits.
pub fn vma_merge_extend(k: &mut Kernel, vma: &Vma, delta: u64) {
    // What is new has no part in the history of forks that is_mergeable_anon_vma() looks at.
    let new = Vma {
        start: vma.end,
        end: vma.end + delta,
        pgoff: vma.pgoff + vma.pages(),
        anon_pgoff: vma.anon_pgoff + vma.pages(),
        anon_vma_chain: Default::default(),
        ..vma.clone()
    };
    let next = k.mm.vmas.get(&new.end);
    let (_, next) = mergeable(k, &new, Some(vma), next);
    vma_expand(k, new, Some(vma.clone()), next, None);
}

/// `copy_vma()`: an area like `vma`, or like what it has from the first address of `at` on,
/// at the second, where nothing is; merged with its neighbours by `vma_merge_copied_range()`.
/// One that has no anonymous pages yet takes its offset from its place, and may
/// even merge with the old one, unless that is kept.
pub fn copy_vma(k: &mut Kernel, vma: &Vma, (from, addr): (u64, u64), len: u64, keep_source: bool) {
    let offset = (from - vma.start) / PAGE_SIZE;
    let faulted_in = vma.anon_vma.is_some();
    let unfaulted_anon = vma.is_anonymous() && !faulted_in;
    let here = addr / PAGE_SIZE;
    let mut new = Vma {
        start: addr,
        end: addr + len,
        pgoff: if unfaulted_anon {
            here
        } else {
            vma.pgoff + offset
        },
        anon_pgoff: if faulted_in {
            vma.anon_pgoff + offset
        } else {
            here
        },
        ..vma.clone()
    };
    let other = |near: &&Vma| !(unfaulted_anon && keep_source && near.start == vma.start);
    let prev = k.mm.vmas.range(..addr).next_back().map(|(_, prev)| prev);
    let next = k.mm.vmas.range(addr..).next().map(|(_, next)| next);
    let (prev, next) = mergeable(k, &new, prev.filter(other), next.filter(other));
    if prev.is_some() || next.is_some() {
        vma_expand(k, new, prev, next, Some(vma));
        return;
    }
    new.anon_vma_chain = Default::default();
    anon_vma_clone(k, &mut new, vma);
    new.seq = i_mmap_seq(k, &new);
    k.mm.vmas.insert(addr, new);
}

/// `anon_vma_compatible()`: whether one vma could follow the other in one.
fn anon_vma_compatible(k: &Kernel, a: &Vma, b: &Vma) -> bool {
    a.end == b.start
        && a.file == b.file
        && a.policy == b.policy
        && (a.flags ^ b.flags) & !vm::ACCESS_FLAGS == 0
        && b.pgoff == a.pgoff + a.pages()
        && b.start_anon_pgoff(k.profile) == a.start_anon_pgoff(k.profile) + a.pages()
}

/// `reusable_anon_vma()`: `old`'s, which is one of the two.
fn reusable_anon_vma(k: &Kernel, old: &Vma, a: &Vma, b: &Vma) -> Option<AnonVmaId> {
    let singular = old.anon_vma_chain.len() == 1;
    old.anon_vma
        .filter(|_| singular && anon_vma_compatible(k, a, b))
}

/// `find_mergeable_anon_vma()`
pub fn find_mergeable_anon_vma(k: &Kernel, vma: &Vma) -> Option<AnonVmaId> {
    let next = k.mm.vmas.get(&vma.end);
    let prev = k.mm.vmas.range(..vma.start).next_back();
    next.and_then(|next| reusable_anon_vma(k, next, vma, next))
        .or_else(|| prev.and_then(|(_, prev)| reusable_anon_vma(k, prev, prev, vma)))
}

/// `vma_modify()`: the part `[start, end)` of one vma changes. Where it becomes a part of a
/// neighbour (`vma_merge_existing_range()`) there is no vma more; else it is split off. The
/// start of the vma that it is part of then.
///
/// # Errors
/// ENOMEM where there may be no more vmas, EINVAL where a page of hugetlb would have to be
/// split: what was split before it stays so.
fn vma_modify(k: &mut Kernel, start: u64, end: u64, change: impl Fn(&mut Vma)) -> Result<u64, i32> {
    let split = match merges_existing(k, start, end, &change) {
        true => __split_vma,
        false => split_vma,
    };
    split(k, start)?;
    split(k, end)?;
    if let Some(vma) = k.mm.vmas.get_mut(&start) {
        change(vma);
    }
    Ok(vma_merge(k, start))
}

/// Whether `vma_merge_existing_range()` finds a neighbour for the part of a vma that changes,
/// which has to reach to that neighbour.
fn merges_existing(k: &Kernel, start: u64, end: u64, change: impl Fn(&mut Vma)) -> bool {
    let Some(vma) = k.mm.vma_lookup(start) else {
        return false;
    };
    let (left_side, right_side) = (vma.start == start, vma.end == end);
    let offset = (start - vma.start) / PAGE_SIZE;
    let mut part = Vma {
        start,
        end,
        pgoff: vma.pgoff + offset,
        anon_pgoff: vma.anon_pgoff + offset,
        ..vma.clone()
    };
    change(&mut part);
    // VM_SPECIAL
    if part.has(vm::DONTEXPAND) {
        return false;
    }
    let prev = k.mm.vmas.range(..start).next_back().map(|(_, prev)| prev);
    let next = k.mm.vmas.get(&end);
    let near = mergeable(
        k,
        &part,
        prev.filter(|_| left_side),
        next.filter(|_| right_side),
    );
    near != (None, None)
}

/// `vma_modify_flags()`: the part `[start, end)` of one vma gets new flags. The vma that it
/// is part of then.
///
/// # Errors
/// As [`vma_modify`].
pub fn vma_modify_flags(k: &mut Kernel, start: u64, end: u64, flags: u64) -> Result<Vma, i32> {
    let at = vma_modify(k, start, end, |vma| vma.flags = flags)?;
    k.mm.vmas.get(&at).cloned().ok_or(errno::ENOMEM)
}

/// `vma_modify_policy()`, with `vma_replace_policy()` of `mm/mempolicy.c`
///
/// # Errors
/// As [`vma_modify`].
pub fn vma_modify_policy(
    k: &mut Kernel,
    start: u64,
    end: u64,
    policy: Option<Mempolicy>,
) -> Result<(), i32> {
    vma_modify(k, start, end, |vma| vma.policy = policy).map(drop)
}

/// The part of `vms_gather_munmap_vmas()` that refuses what is sealed. What begins in the
/// middle of an area has been split there before a later one is found to be sealed.
///
/// # Errors
/// EPERM where a vma of the range is sealed.
fn seals_allow_munmap(k: &mut Kernel, start: u64, end: u64) -> Result<(), i32> {
    let first = k.mm.vma_lookup(start).cloned();
    if first.is_some_and(|vma| !mseal::can_modify_vma(&vma)) {
        return Err(errno::EPERM);
    }
    let mut inside = k.mm.vmas.range(start..end).map(|(_, vma)| vma);
    let Some(sealed) = inside.find(|vma| !mseal::can_modify_vma(vma)) else {
        return Ok(());
    };
    let gathered = sealed.start;
    __split_vma(k, start)?;
    userfaultfd_unmap_prep(k, start, gathered);
    Err(errno::EPERM)
}

/// `vms_gather_munmap_vmas()`: what is mapped in a range begins and ends with it.
///
/// # Errors
/// ENOMEM where what is left of one vma would be two, and there may be no more of them; EINVAL
/// where a page of hugetlb would have to be split, EPERM where a vma is sealed: what was split
/// before it stays so.
pub fn vms_gather_munmap_vmas(k: &mut Kernel, start: u64, end: u64) -> Result<(), i32> {
    // Elsewhere there may be one more for a while.
    let around = |vma: &Vma| vma.start < start && end < vma.end;
    if k.mm.vma_lookup(start).is_some_and(around) && has_all_areas(k, 0) {
        return Err(errno::ENOMEM);
    }
    seals_allow_munmap(k, start, end)?;
    __split_vma(k, start)?;
    let split = __split_vma(k, end);
    let last = k.mm.vmas.range(..end).next_back();
    let gathered = match (&split, last) {
        (Err(_), Some((&last, _))) => last,
        _ => end,
    };
    userfaultfd_unmap_prep(k, start, gathered);
    split
}

/// `vms_clear_ptes()` and `vms_clean_up_area()`: takes all vmas of the
/// range out, with their pages and page tables. Their files are the caller's to put.
pub fn vms_clean_up_area(k: &mut Kernel, start: u64, end: u64) -> Vec<Vma> {
    let gone: Vec<u64> = k.mm.vmas.range(start..end).map(|(&at, _)| at).collect();
    let vmas: Vec<Vma> = gone.iter().filter_map(|at| k.mm.vmas.remove(at)).collect();
    if vmas.is_empty() {
        return vmas;
    }
    if k.profile.zap_drains_lru {
        swap::lru_add_drain(k);
    }
    let mut tlb = tlb_gather_mmu(k);
    // unmap_vmas()
    for vma in &vmas {
        unmap_single_vma(k, &mut tlb, vma, start, end, ZapDetails::UNMAP);
    }
    for vma in &vmas {
        unlink_anon_vmas(k, vma);
    }
    let (floor, ceiling) = free_between(k, start, end);
    free_pgtables(k, &mut tlb, &vmas, floor, ceiling);
    tlb_finish_mmu(k, tlb);
    for vma in &vmas {
        hugetlb::hugetlb_vm_op_close(k, vma);
    }
    k.mm.locked_vm -= vmas
        .iter()
        .filter(|vma| vma.has(vm::LOCKED))
        .map(Vma::pages)
        .sum::<u64>();
    vmas
}

/// Where the vmas before and after a range end and begin.
fn free_between(k: &Kernel, start: u64, end: u64) -> (u64, u64) {
    let prev = k.mm.vmas.range(..start).next_back();
    let next = k.mm.vmas.range(end..).next();
    (
        prev.map_or(FLOOR, |(_, prev)| prev.end),
        next.map_or(CEILING, |(&next, _)| next),
    )
}

/// `unmap_region()` of a vma that could not be mapped: there are no pages, and only page tables
/// may go.
pub fn unmap_region(k: &mut Kernel, vma: &Vma) {
    if k.profile.zap_drains_lru {
        swap::lru_add_drain(k);
    }
    let mut tlb = tlb_gather_mmu(k);
    let (floor, ceiling) = free_between(k, vma.start, vma.end);
    free_pgtables(k, &mut tlb, std::slice::from_ref(vma), floor, ceiling);
    tlb_finish_mmu(k, tlb);
}

/// The files of vmas that are gone are put, which is done when the system call returns
/// (remove_vma).
pub fn put_files(k: &mut Kernel, vmas: &[Vma]) {
    for file in vmas.iter().filter_map(|vma| vma.file) {
        file_table::fput(k, file);
    }
}

/// `do_vmi_munmap()`
///
/// # Errors
/// EINVAL for an empty, unaligned or impossible range, or for a part of a page of hugetlb.
pub fn do_vmi_munmap(k: &mut Kernel, start: u64, len: u64) -> Result<(), i32> {
    if !start.is_multiple_of(PAGE_SIZE) || start > TASK_SIZE || len > TASK_SIZE - start {
        return Err(errno::EINVAL);
    }
    let end = start + page_align(len).ok_or(errno::EINVAL)?;
    if end == start {
        return Err(errno::EINVAL);
    }
    vms_gather_munmap_vmas(k, start, end)?;
    let vmas = vms_clean_up_area(k, start, end);
    put_files(k, &vmas);
    Ok(())
}

/// `vma_wants_writenotify()`: a file system that writes back wants to know of the first write.
pub fn vma_wants_writenotify(k: &Kernel, vma: &Vma) -> bool {
    // vma_is_shared_writable()
    let shared_writable = vm::SHARED | vm::WRITE;
    vma.flags & shared_writable == shared_writable && k.storage(vma.file) != Storage::Memory
}
