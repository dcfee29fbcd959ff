// SPDX-License-Identifier: GPL-2.0-only
//! `mm/mmu_gather.c`, with the headers that go with it: what is unmapped is collected, notified in
//! one flush, and freed after it.

use crate::api::{Entry, PAGE_SIZE};
use crate::arch::riscv::mm::tlbflush::{PMD_SIZE, PUD_SIZE};
use crate::mm::swap_state;
use crate::mm_types::FolioId;
use crate::state::Kernel;

/// `MMU_GATHER_BUNDLE` (`include/asm-generic/tlb.h`): pages in the gather itself.
const MMU_GATHER_BUNDLE: usize = 8;
/// `MAX_GATHER_BATCH` (`include/asm-generic/tlb.h`): pointers after the head of a batch in one
/// page.
const MAX_GATHER_BATCH: usize = (4096 - 16) / 8;
/// `MAX_GATHER_BATCH_COUNT` (`include/asm-generic/tlb.h`)
const MAX_GATHER_BATCH_COUNT: usize = 10_000 / MAX_GATHER_BATCH;
/// `MAX_TABLE_BATCH` (`include/asm-generic/tlb.h`): pointers after the head of
/// `struct mmu_table_batch`.
const MAX_TABLE_BATCH: usize = (4096 - 24) / 8;

/// `struct mmu_gather` (`include/asm-generic/tlb.h`)
#[derive(Clone, Debug)]
pub struct MmuGather {
    start: u64,
    end: u64,
    freed_tables: bool,
    cleared_ptes: bool,
    cleared_pmds: bool,
    cleared_puds: bool,
    cleared_p4ds: bool,
    unshared_tables: bool,
    delayed_rmap: bool,
    /// Pages to free, in the order they came: folios, and how many references to each.
    pages: Vec<(FolioId, u32)>,
    /// Entries used in the batch that is being filled, tables freed by IPI included.
    nr: usize,
    /// Batches allocated; none while the gather's own are being filled.
    active: usize,
    batch_count: usize,
    /// Page tables waiting in the table batch.
    tables: usize,
}

/// `tlb_gather_mmu()`
pub fn tlb_gather_mmu(k: &mut Kernel) -> MmuGather {
    // inc_tlb_flush_pending()
    k.mm.tlb_flush_pending += 1;
    MmuGather {
        start: u64::MAX,
        end: 0,
        freed_tables: false,
        cleared_ptes: false,
        cleared_pmds: false,
        cleared_puds: false,
        cleared_p4ds: false,
        unshared_tables: false,
        delayed_rmap: false,
        pages: Vec::new(),
        nr: 0,
        active: 0,
        batch_count: 0,
        tables: 0,
    }
}

/// `__tlb_adjust_range()` (`include/asm-generic/tlb.h`)
fn __tlb_adjust_range(tlb: &mut MmuGather, address: u64, range_size: u64) {
    tlb.start = tlb.start.min(address);
    tlb.end = tlb.end.max(address.saturating_add(range_size));
}

/// `__tlb_reset_range()` (`include/asm-generic/tlb.h`)
fn __tlb_reset_range(tlb: &mut MmuGather) {
    tlb.start = u64::MAX;
    tlb.end = 0;
    tlb.freed_tables = false;
    tlb.cleared_ptes = false;
    tlb.cleared_pmds = false;
    tlb.cleared_puds = false;
    tlb.cleared_p4ds = false;
    tlb.unshared_tables = false;
}

/// `tlb_flush_pte_range()` and `tlb_remove_tlb_entry()` (`include/asm-generic/tlb.h`) of one page.
pub fn tlb_remove_tlb_entry(tlb: &mut MmuGather, address: u64) {
    __tlb_adjust_range(tlb, address, PAGE_SIZE);
    tlb.cleared_ptes = true;
}

/// `tlb_flush_pmd_range()` (`include/asm-generic/tlb.h`), for one huge page
pub fn tlb_flush_pmd_range(tlb: &mut MmuGather, address: u64) {
    __tlb_adjust_range(tlb, address, PMD_SIZE);
    tlb.cleared_pmds = true;
}

/// `tlb_remove_pmd_tlb_entry()` (`include/asm-generic/tlb.h`)
pub fn tlb_remove_pmd_tlb_entry(tlb: &mut MmuGather, address: u64) {
    tlb_flush_pmd_range(tlb, address);
}

/// `tlb_remove_huge_tlb_entry()` (`include/asm-generic/tlb.h`): a page of hugetlb, of this many
/// bytes.
pub fn tlb_remove_huge_tlb_entry(tlb: &mut MmuGather, address: u64, size: u64) {
    __tlb_adjust_range(tlb, address, size);
    match size {
        PUD_SIZE.. => tlb.cleared_puds = true,
        PMD_SIZE.. => tlb.cleared_pmds = true,
        _ => tlb.cleared_ptes = true,
    }
}

/// `tlb_unshare_pmd_ptdesc()` (`include/asm-generic/tlb.h`): a PMD table that others have, too,
/// goes from this mm.
pub fn tlb_unshare_pmd_ptdesc(tlb: &mut MmuGather, address: u64) {
    __tlb_adjust_range(tlb, address & !(PUD_SIZE - 1), PUD_SIZE);
    tlb.cleared_pmds = true;
    tlb.unshared_tables = true;
}

/// `tlb_flush_unshared_tables()` (`include/asm-generic/tlb.h`)
pub fn tlb_flush_unshared_tables(k: &mut Kernel, tlb: &mut MmuGather) {
    if tlb.unshared_tables {
        tlb_flush_mmu_tlbonly(k, tlb);
    }
}

/// `pte_free_tlb()` (`include/asm-generic/tlb.h`): a PTE table goes.
pub fn pte_free_tlb(k: &mut Kernel, tlb: &mut MmuGather, address: u64) {
    __tlb_adjust_range(tlb, address, PAGE_SIZE);
    tlb.cleared_pmds = true;
    tlb.freed_tables = true;
    riscv_tlb_remove_ptdesc(k, tlb);
}

/// `pmd_free_tlb()` (`include/asm-generic/tlb.h`): a PMD table goes.
pub fn pmd_free_tlb(k: &mut Kernel, tlb: &mut MmuGather, address: u64) {
    __tlb_adjust_range(tlb, address, PAGE_SIZE);
    tlb.cleared_puds = true;
    tlb.freed_tables = true;
    riscv_tlb_remove_ptdesc(k, tlb);
}

/// `pud_free_tlb()` (`include/asm-generic/tlb.h`) where PUD tables are folded: there is none
/// to free.
pub fn pud_free_tlb(tlb: &mut MmuGather, address: u64) {
    __tlb_adjust_range(tlb, address, PAGE_SIZE);
    tlb.cleared_p4ds = true;
    tlb.freed_tables = true;
}

/// `p4d_free_tlb()` (`include/asm-generic/tlb.h`) where P4D tables are folded
pub fn p4d_free_tlb(tlb: &mut MmuGather, address: u64) {
    __tlb_adjust_range(tlb, address, PAGE_SIZE);
    tlb.freed_tables = true;
}

/// `riscv_tlb_remove_ptdesc()` (`arch/riscv/include/asm/pgalloc.h`): where fences go by SBI,
/// tables are freed by RCU; else with the pages.
fn riscv_tlb_remove_ptdesc(k: &mut Kernel, tlb: &mut MmuGather) {
    if k.machine.sbi_rfence || k.profile.tables_always_by_rcu {
        tlb_remove_table(k, tlb);
    } else if batch_add(tlb, 1) {
        tlb_flush_mmu(k, tlb);
    }
}

/// `tlb_remove_table()`; a full batch flushes at once (`tlb_table_invalidate()`).
fn tlb_remove_table(k: &mut Kernel, tlb: &mut MmuGather) {
    tlb.tables += 1;
    if tlb.tables == MAX_TABLE_BATCH {
        tlb_flush_mmu_tlbonly(k, tlb);
        tlb.tables = 0;
    }
}

/// `__tlb_remove_folio_pages()`: some pages of a folio; true where the gather is full
/// and has to be flushed.
pub fn __tlb_remove_folio_pages(
    tlb: &mut MmuGather,
    folio: FolioId,
    nr_pages: u32,
    delay_rmap: bool,
) -> bool {
    tlb.delayed_rmap |= delay_rmap;
    tlb.pages.push((folio, nr_pages));
    // ENCODED_PAGE_BIT_NR_PAGES_NEXT: more than one takes two entries.
    batch_add(tlb, if nr_pages > 1 { 2 } else { 1 })
}

/// `tlb_remove_page_size()` (`include/asm-generic/tlb.h`), `__tlb_remove_page_size()`: a huge
/// page that a PMD mapped.
pub fn tlb_remove_page_size(tlb: &mut MmuGather, folio: FolioId) -> bool {
    __tlb_remove_folio_pages(tlb, folio, 1, false)
}

/// The part of `__tlb_remove_folio_pages_size()` that counts.
fn batch_add(tlb: &mut MmuGather, entries: usize) -> bool {
    tlb.nr += entries;
    let max = if tlb.active == 0 {
        MMU_GATHER_BUNDLE
    } else {
        MAX_GATHER_BATCH
    };
    tlb.nr >= max - 1 && !tlb_next_batch(tlb)
}

/// `tlb_next_batch()`
fn tlb_next_batch(tlb: &mut MmuGather) -> bool {
    // Limit batching if there are delayed rmaps pending.
    if tlb.delayed_rmap && tlb.active != 0 {
        return false;
    }
    if tlb.active < tlb.batch_count {
        tlb.active += 1;
        tlb.nr = 0;
        return true;
    }
    if tlb.batch_count == MAX_GATHER_BATCH_COUNT {
        return false;
    }
    tlb.batch_count += 1;
    tlb.active = tlb.batch_count;
    tlb.nr = 0;
    true
}

/// `tlb_delay_rmap()` (`include/asm-generic/tlb.h`): on SMP rmaps of dirty file pages go only
/// after the flush.
pub fn tlb_delay_rmap(tlb: &mut MmuGather) {
    tlb.delayed_rmap = true;
}

/// `tlb_flush_rmaps()`: the rmaps themselves are gone at once in the model,
/// for nobody looks at them in between.
pub fn tlb_flush_rmaps(tlb: &mut MmuGather) {
    tlb.delayed_rmap = false;
}

/// `tlb_get_unmap_size()` (`include/asm-generic/tlb.h`)
fn tlb_get_unmap_size(tlb: &MmuGather) -> u64 {
    if tlb.cleared_ptes {
        PAGE_SIZE
    } else if tlb.cleared_pmds {
        PMD_SIZE
    } else if tlb.cleared_puds {
        PUD_SIZE
    } else {
        PAGE_SIZE
    }
}

/// `tlb_flush()` (`arch/riscv/include/asm/tlb.h`)
fn tlb_flush(k: &mut Kernel, tlb: &MmuGather) {
    // A gather for all of an mm (`fullmm`) is exit_mmap()'s, of which nobody is notified.
    if tlb.freed_tables || tlb.unshared_tables && k.profile.unshared_tables_flush_mm {
        k.enter(Entry::FlushTlbMm);
    } else {
        let page_size = tlb_get_unmap_size(tlb);
        k.enter(Entry::FlushTlbMmRange {
            start: tlb.start,
            end: tlb.end,
            page_size,
        });
    }
}

/// `tlb_flush_mmu_tlbonly()` (`include/asm-generic/tlb.h`)
pub fn tlb_flush_mmu_tlbonly(k: &mut Kernel, tlb: &mut MmuGather) {
    let cleared = tlb.cleared_ptes || tlb.cleared_pmds || tlb.cleared_puds || tlb.cleared_p4ds;
    if !(tlb.freed_tables || cleared || tlb.unshared_tables) {
        return;
    }
    tlb_flush(k, tlb);
    __tlb_reset_range(tlb);
}

/// `tlb_batch_pages_flush()`
fn tlb_batch_pages_flush(k: &mut Kernel, tlb: &mut MmuGather) {
    let pages = std::mem::take(&mut tlb.pages);
    if !pages.is_empty() {
        swap_state::free_pages_and_swap_cache(k, &pages);
    }
    tlb.active = 0;
    tlb.nr = 0;
}

/// `tlb_flush_mmu()`
pub fn tlb_flush_mmu(k: &mut Kernel, tlb: &mut MmuGather) {
    tlb_flush_mmu_tlbonly(k, tlb);
    tlb.tables = 0;
    tlb_batch_pages_flush(k, tlb);
}

/// `tlb_end_vma()` (`include/asm-generic/tlb.h`): this architecture does not merge vmas
/// (CONFIG_MMU_GATHER_MERGE_VMAS).
pub fn tlb_end_vma(k: &mut Kernel, tlb: &mut MmuGather) {
    tlb_flush_mmu_tlbonly(k, tlb);
}

/// `tlb_finish_mmu()`
pub fn tlb_finish_mmu(k: &mut Kernel, mut tlb: MmuGather) {
    // mm_tlb_flush_nested(): one task acts at a time, but it may have two.
    if k.mm.tlb_flush_pending > 1 {
        __tlb_reset_range(&mut tlb);
        tlb.freed_tables = true;
    }
    tlb_flush_mmu(k, &mut tlb);
    // dec_tlb_flush_pending()
    k.mm.tlb_flush_pending = k.mm.tlb_flush_pending.saturating_sub(1);
}
