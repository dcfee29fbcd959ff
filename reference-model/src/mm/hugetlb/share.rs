// SPDX-License-Identifier: GPL-2.0-only
//! `mm/hugetlb.c`, its part on page tables that mms share: one of 1 GiB, of a file that all of
//! them map there.

pub use crate::arch::riscv::mm::tlbflush::PUD_SIZE;
use crate::mm::interval_tree::vma_interval_tree;
use crate::mm::mmu_gather::{
    MmuGather, tlb_finish_mmu, tlb_flush_unshared_tables, tlb_gather_mmu, tlb_unshare_pmd_ptdesc,
};
use crate::mm_types::{HugePmd, Vma, vm};
use crate::state::Kernel;
use operations::HugePages;

/// Where what an entry of a PUD table covers begins.
pub fn pud_start(addr: u64) -> u64 {
    addr & !(PUD_SIZE - 1)
}

/// `want_pmd_share()`
pub fn want_pmd_share(vma: &Vma, addr: u64) -> bool {
    // uffd_disable_huge_pmd_share()
    if vma.has(vm::UFFD_MINOR) {
        return false;
    }
    let start = pud_start(addr);
    vma.has(vm::MAYSHARE) && vma.start <= start && start + PUD_SIZE <= vma.end
}

/// `page_table_shareable()`: where the other vma has the page.
fn page_table_shareable(svma: &Vma, vma: &Vma, addr: u64, idx: u64) -> Option<u64> {
    let saddr = ((idx - svma.pgoff) << 12) + svma.start;
    let same_flags = (vma.flags ^ svma.flags) & !vm::LOCKED == 0;
    // pmd_index()
    let same_index = (addr ^ saddr) & (PUD_SIZE - 1) >> 21 << 21 == 0;
    let sbase = pud_start(saddr);
    let inside = svma.start <= sbase && sbase + PUD_SIZE <= svma.end;
    (same_flags && same_index && inside).then_some(saddr)
}

/// `huge_pmd_share()`: the table that somebody else has for these pages, if there is one.
pub fn huge_pmd_share(k: &mut Kernel<'_>, vma: &Vma, addr: u64) {
    let Some(file) = vma.file else {
        return;
    };
    let idx = vma.linear_page_index(addr);
    let mappings = vma_interval_tree(k, file, idx, idx + 1);
    let own = (k.mm_id, vma.start);
    let mut others = mappings
        .into_iter()
        .filter(|(mm, svma)| (*mm, svma.start) != own);
    let found = others.find_map(|(mm, svma)| {
        let saddr = page_table_shareable(&svma, vma, addr, idx)?;
        let there = k.mm(mm).pgd.pmd_tables.contains(&(saddr >> 30));
        there.then_some((mm, saddr >> 30))
    });
    let Some((mm, gib)) = found else {
        return;
    };
    let table = match k.mm(mm).pgd.shared_pmds.get(&gib) {
        Some(&table) => table,
        None => {
            k.last_shared_table += 1;
            let table = k.last_shared_table;
            k.mm_mut(mm).pgd.shared_pmds.insert(gib, table);
            table
        }
    };
    let pmds = k.mm(mm).pgd.huge_pmds.range(gib << 9..(gib + 1) << 9);
    let pmds: Vec<(u64, HugePmd)> = pmds.map(|(&at, &pmd)| (at - (gib << 9), pmd)).collect();
    let here = addr >> 30;
    let pgd = &mut k.mm.pgd;
    pgd.shared_pmds.insert(here, table);
    pgd.pmd_tables.insert(here);
    let pmds = pmds.into_iter();
    pgd.huge_pmds
        .extend(pmds.map(|(at, pmd)| ((here << 9) + at, pmd)));
}

/// `huge_pmd_unshare()`, `__huge_pmd_unshare()`: a table that others have, too, goes from this
/// mm, with all that it maps. False where nobody else has it.
pub fn huge_pmd_unshare(
    k: &mut Kernel<'_>,
    tlb: &mut MmuGather,
    size: HugePages,
    addr: u64,
) -> bool {
    // ptdesc_pmd_is_shared()
    if size != HugePages::Mib2 || k.sharers(addr).len() < 2 {
        return false;
    }
    let gib = addr >> 30;
    // pud_clear()
    k.mm.pgd.shared_pmds.remove(&gib);
    k.mm.pgd.pmd_tables.remove(&gib);
    let range = gib << 9..(gib + 1) << 9;
    let gone: Vec<u64> = k.mm.pgd.huge_pmds.range(range).map(|(&at, _)| at).collect();
    for at in gone {
        k.set_pmd(at << 21, None);
    }
    tlb_unshare_pmd_ptdesc(tlb, addr);
    true
}

/// `hugetlb_unshare_pmds()`
pub fn hugetlb_unshare_pmds(k: &mut Kernel<'_>, vma: &Vma, start: u64, end: u64) {
    if !vma.has(vm::MAYSHARE) || start >= end {
        return;
    }
    let size = super::hstate_vma(k, vma);
    let mut tlb = tlb_gather_mmu(k);
    for address in (start..end).step_by(PUD_SIZE as usize) {
        huge_pmd_unshare(k, &mut tlb, size, address);
    }
    // huge_pmd_unshare_flush()
    tlb_flush_unshared_tables(k, &mut tlb);
    tlb_finish_mmu(k, tlb);
}
