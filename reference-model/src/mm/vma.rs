// SPDX-License-Identifier: GPL-2.0-only
//! `mm/vma.c`: splitting, merging and unmapping vmas.

use crate::api::PAGE_SIZE;
use crate::errno;
use crate::fs::file_table;
use crate::mm::memory::zap::{ZapDetails, free_pgtables, unmap_single_vma};
use crate::mm::mmap::{TASK_SIZE, page_align};
use crate::mm::mmu_gather::{tlb_finish_mmu, tlb_gather_mmu};
use crate::mm::rmap::anon_vma::{anon_vma_clone, unlink_anon_vmas};
use crate::mm::{huge_memory, mseal, swap};
use crate::mm_types::{AnonVmaId, FileId, Vma, vm};
use crate::state::Kernel;

/// Where the program's own mappings end and begin again around the arena: far
/// enough (over 1 GiB) to keep no table of the arena, near enough to keep the PUD table.
pub const FLOOR: u64 = PAGE_SIZE;
pub const CEILING: u64 = (1 << 38) - PAGE_SIZE;

/// `__split_vma()`: at an address inside a vma; elsewhere nothing happens.
fn split_vma(k: &mut Kernel, addr: u64) {
    let Some((&start, vma)) = k.mm.vmas.range(..addr).next_back() else {
        return;
    };
    if vma.end <= addr {
        return;
    }
    let lower = vma.clone();
    huge_memory::split_huge_pmd_if_needed(k, &lower, addr);
    let Some(vma) = k.mm.vmas.get_mut(&start) else {
        return;
    };
    vma.end = addr;
    let mut upper = Vma {
        start: addr,
        pgoff: lower.pgoff + (addr - start) / PAGE_SIZE,
        anon_vma_chain: Default::default(),
        ..lower.clone()
    };
    anon_vma_clone(k, &mut upper, &lower);
    upper.seq = i_mmap_seq(k, &upper);
    k.mm.vmas.insert(addr, upper);
    // vma_complete(): the one that was shortened goes back after the new one.
    refresh_seq(k, start);
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

/// `is_mergeable_vma()`
fn is_mergeable_vma(vma: &Vma, flags: u64, file: Option<FileId>) -> bool {
    (vma.flags ^ flags) & !vm::MAYBE_GUARD == 0 && vma.file == file
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

/// `vma_merge_new_range()` and the merging half of `vma_modify()`: joins `vma`
/// (already in the tree, flags set) with the neighbours that fit. The start of
/// the vma that it is part of then.
pub fn vma_merge(k: &mut Kernel, start: u64) -> u64 {
    let Some(vma) = k.mm.vmas.get(&start).cloned() else {
        return start;
    };
    let prev = k.mm.vmas.range(..start).next_back().map(|(_, prev)| prev);
    // can_vma_merge_left()
    let prev = prev.filter(|prev| {
        prev.end == start
            && is_mergeable_vma(prev, vma.flags, vma.file)
            && is_mergeable_anon_vma(k, &vma, prev)
            && prev.pgoff + (prev.end - prev.start) / PAGE_SIZE == vma.pgoff
    });
    let pglen = (vma.end - vma.start) / PAGE_SIZE;
    // can_vma_merge_right()
    let next = k.mm.vmas.get(&vma.end).filter(|next| {
        is_mergeable_vma(next, vma.flags, vma.file)
            && is_mergeable_anon_vma(k, &vma, next)
            && next.pgoff == vma.pgoff + pglen
            && prev.is_none_or(|prev| anon_vmas_compatible(prev, next))
    });
    if prev.is_none() && next.is_none() {
        return start;
    }
    let mut merged = Vma {
        start: prev.map_or(vma.start, |prev| prev.start),
        pgoff: prev.map_or(vma.pgoff, |prev| prev.pgoff),
        end: next.map_or(vma.end, |next| next.end),
        anon_vma: None,
        anon_vma_chain: Default::default(),
        flags: [prev, next]
            .into_iter()
            .flatten()
            .fold(vma.flags, |flags, near| {
                flags | near.flags & vm::MAYBE_GUARD
            }),
        ..vma
    };
    let gone: Vec<u64> =
        k.mm.vmas
            .range(merged.start..merged.end)
            .map(|(&at, _)| at)
            .collect();
    for part in gone
        .iter()
        .filter_map(|at| k.mm.vmas.remove(at))
        .collect::<Vec<_>>()
    {
        // dup_anon_vma(): the first that has one gives its own to all.
        if merged.anon_vma.is_none() {
            merged.anon_vma = part.anon_vma;
            merged.anon_vma_chain = part.anon_vma_chain;
        } else {
            unlink_anon_vmas(k, &part);
        }
    }
    let at = merged.start;
    k.mm.vmas.insert(at, merged);
    refresh_seq(k, at);
    at
}

/// `anon_vma_compatible()`: whether one vma could follow the other in one.
fn anon_vma_compatible(a: &Vma, b: &Vma) -> bool {
    a.end == b.start
        && a.file == b.file
        && (a.flags ^ b.flags) & !vm::ACCESS_FLAGS == 0
        && b.pgoff == a.pgoff + (b.start - a.start) / PAGE_SIZE
}

/// `reusable_anon_vma()`: `old`'s, which is one of the two.
fn reusable_anon_vma(old: &Vma, a: &Vma, b: &Vma) -> Option<AnonVmaId> {
    let singular = old.anon_vma_chain.len() == 1;
    old.anon_vma
        .filter(|_| singular && anon_vma_compatible(a, b))
}

/// `find_mergeable_anon_vma()`
pub fn find_mergeable_anon_vma(k: &Kernel, vma: &Vma) -> Option<AnonVmaId> {
    let next = k.mm.vmas.get(&vma.end);
    let prev = k.mm.vmas.range(..vma.start).next_back();
    next.and_then(|next| reusable_anon_vma(next, vma, next))
        .or_else(|| prev.and_then(|(_, prev)| reusable_anon_vma(prev, prev, vma)))
}

/// `vma_modify_flags()`: the part `[start, end)` of one vma gets new flags, by
/// splitting and merging. The vma that it is part of then.
pub fn vma_modify_flags(k: &mut Kernel, start: u64, end: u64, flags: u64) -> Option<Vma> {
    split_vma(k, start);
    split_vma(k, end);
    k.mm.vmas.get_mut(&start)?.flags = flags;
    let at = vma_merge(k, start);
    k.mm.vmas.get(&at).cloned()
}

/// The part of `vms_gather_munmap_vmas()` that refuses what is sealed. What begins in the
/// middle of an area has been split there before a later one is found to be sealed.
///
/// # Errors
/// EPERM where a vma of the range is sealed.
pub fn seals_allow_munmap(k: &mut Kernel, start: u64, end: u64) -> Result<(), i32> {
    let first = k.mm.vma_lookup(start).cloned();
    if first.is_some_and(|vma| !mseal::can_modify_vma(&vma)) {
        return Err(errno::EPERM);
    }
    let mut inside = k.mm.vmas.range(start..end).map(|(_, vma)| vma);
    if inside.all(mseal::can_modify_vma) {
        return Ok(());
    }
    split_vma(k, start);
    Err(errno::EPERM)
}

/// `vms_gather_munmap_vmas()` and `vms_clear_ptes()`: takes all vmas of the
/// range out and what they map with them. How many pages were accounted.
pub fn unmap_vmas_in(k: &mut Kernel, start: u64, end: u64) -> u64 {
    split_vma(k, start);
    split_vma(k, end);
    let gone: Vec<u64> = k.mm.vmas.range(start..end).map(|(&at, _)| at).collect();
    let vmas: Vec<Vma> = gone.iter().filter_map(|at| k.mm.vmas.remove(at)).collect();
    if vmas.is_empty() {
        return 0;
    }
    let floor =
        k.mm.vmas
            .range(..start)
            .next_back()
            .map_or(FLOOR, |(_, prev)| prev.end);
    let ceiling =
        k.mm.vmas
            .range(end..)
            .next()
            .map_or(CEILING, |(&next, _)| next);

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
    free_pgtables(k, &mut tlb, &vmas, floor, ceiling);
    tlb_finish_mmu(k, tlb);
    // remove_vma(), whose fput() is done when the system call returns.
    for file in vmas.iter().filter_map(|vma| vma.file) {
        file_table::fput(k, file);
    }

    let pages = |vma: &Vma| (vma.end - vma.start) / PAGE_SIZE;
    k.mm.locked_vm -= vmas
        .iter()
        .filter(|vma| vma.has(vm::LOCKED))
        .map(pages)
        .sum::<u64>();
    vmas.iter()
        .filter(|vma| vma.has(vm::ACCOUNT))
        .map(pages)
        .sum()
}

/// `do_vmi_munmap()`
///
/// # Errors
/// EINVAL for an empty, unaligned or impossible range.
pub fn do_vmi_munmap(k: &mut Kernel, start: u64, len: u64) -> Result<(), i32> {
    if !start.is_multiple_of(PAGE_SIZE) || start > TASK_SIZE || len > TASK_SIZE - start {
        return Err(errno::EINVAL);
    }
    let end = start + page_align(len).ok_or(errno::EINVAL)?;
    if end == start {
        return Err(errno::EINVAL);
    }
    seals_allow_munmap(k, start, end)?;
    unmap_vmas_in(k, start, end);
    Ok(())
}
