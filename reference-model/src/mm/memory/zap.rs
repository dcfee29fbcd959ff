// SPDX-License-Identifier: GPL-2.0-only
//! `mm/memory.c`, its second part: page tables are freed, and pages are unmapped.

use crate::api::PAGE_SIZE;
use crate::arch::riscv::mm::tlbflush::{PMD_SIZE, PUD_SIZE};
use crate::include::linux::mm_inline;
use crate::mm::mmu_gather::{
    __tlb_remove_folio_pages, MmuGather, p4d_free_tlb, pmd_free_tlb, pte_free_tlb, pud_free_tlb,
    tlb_delay_rmap, tlb_end_vma, tlb_finish_mmu, tlb_flush_mmu, tlb_flush_mmu_tlbonly,
    tlb_flush_rmaps, tlb_gather_mmu, tlb_remove_tlb_entry,
};
use crate::mm::page_vma_mapped::page_vma_mapped_walk;
use crate::mm::page_writeback::folio_mark_dirty;
use crate::mm::{huge_memory, hugetlb, interval_tree, rmap, swap, swapfile};
use crate::mm_types::{FolioId, Pte, Vma, vm};
use crate::state::Kernel;

/// `PMD_MASK` (`arch/riscv/include/asm/pgtable-64.h`)
const PMD_MASK: u64 = !(PMD_SIZE - 1);
/// `PUD_MASK` (`arch/riscv/include/asm/pgtable-64.h`)
const PUD_MASK: u64 = !(PUD_SIZE - 1);

/// `struct zap_details` (`include/linux/mm.h`), as far as it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZapDetails {
    /// `even_cows`: private copies go too.
    pub even_cows: bool,
    /// `reclaim_pt`: so do page tables that are empty then.
    pub reclaim_pt: bool,
    /// `ZAP_FLAG_DROP_MARKER`: so do markers.
    pub drop_markers: bool,
}

impl ZapDetails {
    /// What unmap_vmas() asks for: all of it.
    pub const UNMAP: ZapDetails = ZapDetails {
        even_cows: true,
        reclaim_pt: false,
        drop_markers: true,
    };
    /// No details: the pages, for MADV_DONTNEED and its like.
    pub const PAGES: ZapDetails = ZapDetails {
        even_cows: true,
        reclaim_pt: false,
        drop_markers: false,
    };
}

/// `free_pmd_range()`, and `free_pte_range()` for each table in it.
fn free_pmd_range(
    k: &mut Kernel,
    tlb: &mut MmuGather,
    addr: u64,
    end: u64,
    floor: u64,
    ceiling: u64,
) {
    let tables = (addr >> 21)..=((end - 1) >> 21);
    let present: Vec<u64> =
        k.mm.pgd
            .pte_tables
            .range(tables)
            .map(|(&table, _)| table)
            .collect();
    for table in present {
        k.mm.pgd.pte_tables.remove(&table);
        pte_free_tlb(k, tlb, table << 21);
    }

    if let Some(start) = alone_in(PUD_MASK, addr, end, floor, ceiling) {
        k.mm.pgd.pmd_tables.remove(&(start >> 30));
        pmd_free_tlb(k, tlb, start);
    }
}

/// Where what an entry covers begins, if nobody else uses any of it.
fn alone_in(mask: u64, addr: u64, end: u64, floor: u64, ceiling: u64) -> Option<u64> {
    let start = addr & mask;
    let ceiling = ceiling & mask;
    (start >= floor && ceiling != 0 && end <= ceiling).then_some(start)
}

/// `free_p4d_range()` and `free_pud_range()`, of what one entry of a PUD table covers.
///
/// Four and five levels have tables there that are shared with the program itself, so
/// none of them goes. With three they are folded into the PGD: none of their entries is
/// ever empty (p4d_none), and it is told that tables of theirs went wherever an
/// entry of the PGD is not used any more, whether it was used before or not.
fn free_p4d_range(
    k: &mut Kernel,
    tlb: &mut MmuGather,
    addr: u64,
    end: u64,
    floor: u64,
    ceiling: u64,
) {
    if k.mm.pgd.pmd_tables.contains(&(addr >> 30)) {
        free_pmd_range(k, tlb, addr, end, floor, ceiling);
    }
    if k.machine.page_table_levels > 3 {
        return;
    }
    // P4D_MASK and PGDIR_MASK are PUD_MASK then.
    if let Some(start) = alone_in(PUD_MASK, addr, end, floor, ceiling) {
        pud_free_tlb(tlb, start);
        p4d_free_tlb(tlb, start);
    }
}

/// `free_pgd_range()`
fn free_pgd_range(
    k: &mut Kernel,
    tlb: &mut MmuGather,
    mut addr: u64,
    mut end: u64,
    floor: u64,
    ceiling: u64,
) {
    addr &= PMD_MASK;
    if addr < floor {
        addr += PMD_SIZE;
    }
    let ceiling = ceiling & PMD_MASK;
    if ceiling == 0 {
        return;
    }
    if end - 1 > ceiling - 1 {
        end -= PMD_SIZE;
    }
    if end == 0 || addr > end - 1 {
        return;
    }
    while addr < end {
        // pud_addr_end()
        let next = ((addr & PUD_MASK) + PUD_SIZE).min(end);
        free_p4d_range(k, tlb, addr, next, floor, ceiling);
        addr = next;
    }
}

/// `free_pgtables()`: `vmas` are the detached ones, in order.
pub fn free_pgtables(k: &mut Kernel, tlb: &mut MmuGather, vmas: &[Vma], floor: u64, ceiling: u64) {
    let mut vmas = vmas.iter().peekable();
    while let Some(vma) = vmas.next() {
        let addr = vma.start;
        let mut end = vma.end;
        let apart = |vma: &Vma| vma.has(vm::HUGETLB) && k.profile.frees_hugetlb_tables_apart;
        // Gather nearby vmas into one call down.
        let near = |next: &&Vma, end: u64| next.start <= end + PMD_SIZE && !apart(next);
        while !apart(vma)
            && let Some(next) = vmas.next_if(|next| near(next, end))
        {
            end = next.end;
        }
        let ceiling = vmas.peek().map_or(ceiling, |next| next.start);
        free_pgd_range(k, tlb, addr, end, floor, ceiling);
    }
}

/// `zap_present_ptes()` and `zap_present_folio_ptes()`: of one page, or of all that
/// follow in a huge one. How many pages, and whether the gather is full.
fn zap_present_ptes(
    k: &mut Kernel,
    tlb: &mut MmuGather,
    vma: &Vma,
    (addr, end): (u64, u64),
    details: ZapDetails,
    force_flush: &mut bool,
) -> (u64, bool) {
    let Pte::Present { folio, .. } = k.pte(addr) else {
        return (1, false);
    };
    // vm_normal_page()
    let Some(id) = folio.filter(|id| !k.folios[*id].special) else {
        k.set_pte(addr, Pte::None);
        tlb_remove_tlb_entry(tlb, addr);
        return (1, false);
    };
    let anon = k.folios[id].anon;
    if !details.even_cows && anon {
        return (1, false);
    }
    let nr = if k.folios[id].large.is_some() {
        folio_pte_batch(k, id, addr, end)
    } else {
        1
    };
    let batch_end = addr + nr * PAGE_SIZE;
    // get_and_clear_full_ptes()
    let mut ptent = k.pte(addr);
    for addr in (addr..batch_end).step_by(PAGE_SIZE as usize) {
        ptent = ptent.with_bits_of(k.pte(addr));
        k.set_pte(addr, Pte::None);
    }
    let mut delay_rmap = false;
    if let Pte::Present { dirty, young, .. } = ptent
        && !anon
    {
        if dirty {
            folio_mark_dirty(k, id);
            tlb_delay_rmap(tlb);
            delay_rmap = true;
            *force_flush = true;
        }
        if young && mm_inline::vma_has_recency(vma) {
            swap::folio_mark_accessed(k, id);
        }
    }
    for addr in (addr..batch_end).step_by(PAGE_SIZE as usize) {
        tlb_remove_tlb_entry(tlb, addr);
    }
    rmap::folio_remove_rmap_ptes(k, id, (addr, batch_end), vma.flags);
    let full = __tlb_remove_folio_pages(tlb, id, nr as u32, delay_rmap);
    *force_flush |= full;
    (nr, full)
}

/// `swap_pte_batch()` (`mm/internal.h`): how many entries from `addr` on name one slot
/// after the other, of the same cgroup.
pub fn swap_pte_batch(k: &Kernel, addr: u64, end: u64) -> u32 {
    let cgroup = |entry| k.swap.slots.get(&entry).is_some_and(|slot| slot.charged);
    let Pte::Swap { entry, exclusive } = k.pte(addr) else {
        return 1;
    };
    let max_nr = ((end - addr) / PAGE_SIZE) as u32;
    let mut nr = 1;
    while nr < max_nr {
        let expected = Pte::Swap {
            entry: entry + nr,
            exclusive,
        };
        let next = k.pte(addr + u64::from(nr) * PAGE_SIZE);
        if next != expected || cgroup(entry + nr) != cgroup(entry) {
            break;
        }
        nr += 1;
    }
    nr
}

/// `folio_pte_batch()` (`mm/internal.h`): how many PTEs in a row, up to `end`, map the pages
/// of a huge page that follow one another. What may differ among them is for the callers here
/// never more than the accessed and dirty bits and the right to write, which are ignored.
pub fn folio_pte_batch(k: &Kernel<'_>, id: FolioId, addr: u64, end: u64) -> u64 {
    let maps = |addr: &u64| page_vma_mapped_walk(k, id, *addr).is_some();
    let pages = (addr..end).step_by(PAGE_SIZE as usize);
    pages.take_while(maps).count() as u64
}

/// `do_zap_pte_range()` from `addr` on: where it stopped, which is after the page
/// that filled the gather, or at `end`.
fn do_zap_pte_range(
    k: &mut Kernel,
    tlb: &mut MmuGather,
    vma: &Vma,
    (mut addr, end): (u64, u64),
    details: ZapDetails,
    skipped: &mut bool,
    force_flush: &mut bool,
) -> u64 {
    while addr != end {
        match k.pte(addr) {
            Pte::None => {}
            Pte::Present { .. } => {
                let rest = (addr, end);
                let (nr, full) = zap_present_ptes(k, tlb, vma, rest, details, force_flush);
                *skipped |= k.pte(addr) != Pte::None;
                addr += nr * PAGE_SIZE;
                if full {
                    return addr;
                }
                continue;
            }
            Pte::Swap { entry, .. } => {
                // Genuine swap entries, hence private anonymous pages.
                if details.even_cows {
                    let nr = swap_pte_batch(k, addr, end);
                    swapfile::free_swap_and_cache_nr(k, entry, nr);
                    let batch_end = addr + u64::from(nr) * PAGE_SIZE;
                    for addr in (addr..batch_end).step_by(PAGE_SIZE as usize) {
                        k.set_pte(addr, Pte::None);
                    }
                    addr = batch_end;
                    continue;
                }
                *skipped = true;
            }
            Pte::Guard => {
                if details.drop_markers {
                    k.set_pte(addr, Pte::None);
                } else {
                    *skipped = true;
                }
            }
        }
        addr += PAGE_SIZE;
    }
    end
}

/// `zap_pte_range()`. Where the gather is full it is flushed, and the rest follows
/// (6.12 returns for that, and `zap_pmd_range()` comes back).
fn zap_pte_range(
    k: &mut Kernel,
    tlb: &mut MmuGather,
    vma: &Vma,
    start: u64,
    end: u64,
    details: ZapDetails,
) {
    // pte_table_reclaim_possible()
    let mut can_reclaim_pt =
        k.profile.dontneed_frees_page_tables && details.reclaim_pt && end - start >= PMD_SIZE;
    let mut addr = start;
    while addr != end {
        let (mut skipped, mut force_flush) = (false, false);
        rmap::flush_tlb_batched_pending(k);
        let rest = (addr, end);
        addr = do_zap_pte_range(k, tlb, vma, rest, details, &mut skipped, &mut force_flush);
        can_reclaim_pt &= !skipped;
        if force_flush {
            tlb_flush_mmu_tlbonly(k, tlb);
            tlb_flush_rmaps(tlb);
            tlb_flush_mmu(k, tlb);
        }
    }
    if can_reclaim_pt {
        k.mm.pgd.pte_tables.remove(&(start >> 21));
        pte_free_tlb(k, tlb, start);
    }
}

/// `unmap_page_range()` down to `zap_pmd_range()`: only PMDs that are there are entered.
fn unmap_page_range(
    k: &mut Kernel,
    tlb: &mut MmuGather,
    vma: &Vma,
    start: u64,
    end: u64,
    details: ZapDetails,
) {
    for (addr, next, huge) in k.mm.pgd.pmds(start, end) {
        if huge && next - addr == PMD_SIZE {
            huge_memory::zap_huge_pmd(k, tlb, vma, addr);
            continue;
        }
        if huge {
            huge_memory::__split_huge_pmd(k, vma, addr);
        }
        // Of a file nothing is left of it.
        if k.mm.pgd.pte_tables.contains_key(&(addr >> 21)) {
            zap_pte_range(k, tlb, vma, addr, next, details);
        }
    }
    tlb_end_vma(k, tlb);
}

/// `unmap_single_vma()`
pub fn unmap_single_vma(
    k: &mut Kernel,
    tlb: &mut MmuGather,
    vma: &Vma,
    start_addr: u64,
    end_addr: u64,
    details: ZapDetails,
) {
    let start = vma.start.max(start_addr);
    let end = vma.end.min(end_addr);
    if start >= end {
        return;
    }
    if vma.has(vm::HUGETLB) {
        hugetlb::__unmap_hugepage_range(k, tlb, vma, start, end, None);
    } else {
        unmap_page_range(k, tlb, vma, start, end, details);
    }
}

/// `zap_page_range_single()`
pub fn zap_page_range_single(k: &mut Kernel, vma: &Vma, start: u64, end: u64, details: ZapDetails) {
    if k.profile.zap_drains_lru {
        swap::lru_add_drain(k);
    }
    let mut tlb = tlb_gather_mmu(k);
    unmap_single_vma(k, &mut tlb, vma, start, end, details);
    tlb_finish_mmu(k, tlb);
}

/// `unmap_mapping_range()` of a file's pages `[first, end)`, in whatever mm.
pub fn unmap_mapping_range(k: &mut Kernel, file: usize, first: u64, end: u64, details: ZapDetails) {
    for (mm, vma) in interval_tree::vma_interval_tree(k, file, first, end) {
        let zba = first.max(vma.pgoff) - vma.pgoff;
        let zea = end.min(vma.pgoff + vma.pages()) - vma.pgoff;
        let (from, to) = (vma.start + zba * PAGE_SIZE, vma.start + zea * PAGE_SIZE);
        k.in_mm(mm, |k| zap_page_range_single(k, &vma, from, to, details));
    }
}
