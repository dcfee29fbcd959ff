// SPDX-License-Identifier: GPL-2.0-only
//! `kernel/fork.c`, and `copy_page_range()` of `mm/memory.c`: a second mm with
//! the same pages, write-protected in both where they are private.

use crate::api::{Entry, MmId, PAGE_SIZE};
use crate::arch::riscv::mm::context;
use crate::errno;
use crate::kernel::exit;
use crate::mm::huge_memory::copy_huge_pmd;
use crate::mm::rmap::anon_vma::anon_vma_fork;
use crate::mm::vma::vm_enough_memory;
use crate::mm::{swap, swapfile};
use crate::mm_types::{FileId, Mm, PageTables, Pte, PteTable, Vma, prot, pte_index, vm};
use crate::state::Kernel;

/// `fork(2)`: `current`'s mm is copied for another task. The child runs at once,
/// on its parent's hart, and then on its own (`arch/riscv/mm/context.c` notes both).
///
/// # Errors
/// ENOMEM where the memory cannot be promised twice.
pub fn kernel_clone(k: &mut Kernel<'_>, child: usize, mm: MmId) -> Result<(), i32> {
    let parent = k.current;
    if k.mms.len() <= mm {
        k.mms.resize_with(mm + 1, Mm::default);
    }
    dup_mmap(k, mm)?;
    let Some(hart) = k.tasks.get(child).map(|task| task.hart) else {
        return Ok(());
    };
    k.tasks[child].mm = Some(mm);
    k.tasks[child].born = true;
    k.tasks[child].hart = k.hart();
    context::run(k, child);
    k.tasks[child].hart = hart;
    context::run(k, child);
    // What both fault in until the child is ready is no part of the step, and the
    // guest's agent sees to it that it shares no batch with the steps' pages.
    swap::lru_add_drain(k);
    context::run(k, parent);
    swap::lru_add_drain(k);
    Ok(())
}

/// `dup_mm()` and `dup_mmap()`
fn dup_mmap(k: &mut Kernel<'_>, child: MmId) -> Result<(), i32> {
    let mut mm = Mm {
        // dup_mm() copies the whole struct; what mm_init() leaves alone stays.
        tlb_flush_pending_gen: k.mm.tlb_flush_pending_gen,
        tlb_flush_flushed_gen: k.mm.tlb_flush_flushed_gen,
        ..Mm::default()
    };
    let vmas: Vec<Vma> = k.mm.vmas.values().cloned().collect();
    let mut result = Ok(());
    for mpnt in &vmas {
        if mpnt.has(vm::DONTCOPY) {
            continue;
        }
        if mpnt.has(vm::ACCOUNT) && !vm_enough_memory(k, mpnt.pages()) {
            result = Err(errno::ENOMEM);
            break;
        }
        let mut tmp = mpnt.clone();
        let wiped = tmp.has(vm::WIPEONFORK);
        if wiped {
            tmp.anon_vma = None;
            tmp.anon_vma_chain = Default::default();
        } else {
            anon_vma_fork(k, &mut tmp, mpnt);
        }
        tmp.flags &= !vm::LOCKED;
        if let Some(file) = tmp.file {
            tmp.seq = vma_interval_tree_insert_after(k, file, mpnt);
        }
        if !wiped {
            copy_page_range(k, &mut mm.pgd, mpnt);
        }
        mm.vmas.insert(tmp.start, tmp);
    }
    k.mms[child] = mm;
    k.enter(Entry::FlushTlbMm);
    if result.is_err() {
        // dup_mm() puts what was copied so far.
        k.in_mm(child, exit::exit_unseen);
    }
    result
}

/// `vma_interval_tree_insert_after()` (`mm/interval_tree.c`): a place in the order
/// right behind `prev`.
fn vma_interval_tree_insert_after(k: &Kernel<'_>, file: FileId, prev: &Vma) -> u64 {
    let mms = (0..k.mms.len()).map(|mm| k.mm(mm));
    let same = mms
        .flat_map(|mm| mm.vmas.values())
        .filter(|vma| vma.file == Some(file) && vma.pgoff == prev.pgoff && vma.seq > prev.seq);
    let next = same.map(|vma| vma.seq).min();
    match next {
        Some(next) => prev.seq + (next - prev.seq) / 2,
        None => prev.seq + 1,
    }
}

/// `vma_needs_copy()`: what a fault would fill in just as well is left to it.
fn vma_needs_copy(src: &Vma) -> bool {
    src.anon_vma.is_some() || src.has(vm::MAYBE_GUARD)
}

/// `copy_page_range()` down to `copy_pmd_range()`: the mm that is acted on is the source.
fn copy_page_range(k: &mut Kernel<'_>, dst: &mut PageTables, src: &Vma) {
    if !vma_needs_copy(src) {
        return;
    }
    let last = src.end - 1;
    let pmd_tables = k.mm.pgd.pmd_tables.range((src.start >> 30)..=(last >> 30));
    dst.pmd_tables.extend(pmd_tables);
    for (start, end, huge) in k.mm.pgd.pmds(src.start, src.end) {
        if huge {
            copy_huge_pmd(k, dst, start);
        } else {
            copy_pte_range(k, dst.pte_alloc(start), src, start, end);
        }
    }
}

/// `copy_pte_range()`
fn copy_pte_range(k: &mut Kernel<'_>, dst: &mut PteTable, src: &Vma, start: u64, end: u64) {
    for addr in (start..end).step_by(PAGE_SIZE as usize) {
        dst[pte_index(addr)] = match k.pte(addr) {
            Pte::None => continue,
            Pte::Swap { entry, .. } => {
                // copy_nonpresent_pte()
                swapfile::swap_duplicate(k, entry);
                let shared = Pte::Swap {
                    entry,
                    exclusive: false,
                };
                k.set_pte(addr, shared);
                shared
            }
            Pte::Guard => Pte::Guard,
            pte @ Pte::Present { .. } => copy_present_pte(k, src, addr, pte),
        };
    }
}

/// `copy_present_ptes()`, of one PTE: what the child's is.
fn copy_present_pte(k: &mut Kernel<'_>, src: &Vma, addr: u64, pte: Pte) -> Pte {
    let Pte::Present {
        folio,
        prot: mut rights,
        mut dirty,
        young,
    } = pte
    else {
        return pte;
    };
    if let Some(id) = folio {
        k.folio_get(id);
        // folio_try_dup_anon_rmap_pte(), folio_dup_file_rmap_pte()
        k.folios[id].dup_rmap_pte(addr);
    }
    // is_cow_mapping()
    let cow = src.flags & (vm::SHARED | vm::MAYWRITE) == vm::MAYWRITE;
    if cow && rights & prot::W != 0 {
        rights &= !prot::W;
        let wrprotected = Pte::Present {
            folio,
            prot: rights,
            dirty,
            young,
        };
        k.set_pte(addr, wrprotected);
    }
    if src.has(vm::SHARED) {
        dirty = false;
    }
    Pte::Present {
        folio,
        prot: rights,
        dirty,
        young: false,
    }
}
