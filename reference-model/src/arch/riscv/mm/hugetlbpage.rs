// SPDX-License-Identifier: GPL-2.0-only
//! `arch/riscv/mm/hugetlbpage.c`: entries that map pages of hugetlb. One of 2 MiB is a PMD; one
//! of 1 GiB is an entry of a PUD table; one of 64 KiB is sixteen PTEs that say the same but for
//! their accessed and dirty bits (Svnapot).

use crate::api::{Entry, PAGE_SIZE};
use crate::arch::riscv::mm::pgtable::{pte_accessible, ptep_set_access_flags};
use crate::mm::hugetlb::share::{huge_pmd_share, want_pmd_share};
use crate::mm_types::{HugePmd, Pte, Vma, prot};
use crate::state::Kernel;
use operations::HugePages;

/// The addresses of the entries that map one page.
fn entries(addr: u64, size: HugePages) -> impl Iterator<Item = u64> {
    let step = match size {
        HugePages::Kib64 => PAGE_SIZE,
        HugePages::Mib2 | HugePages::Gib1 => size.bytes(),
    };
    (addr..addr + size.bytes()).step_by(step as usize)
}

/// `huge_ptep_get()`: accessed and dirty if one of its entries is.
pub fn huge_ptep_get(k: &Kernel<'_>, addr: u64, size: HugePages) -> Pte {
    entries(addr, size).fold(k.pte(addr), |all, entry| all.with_bits_of(k.pte(entry)))
}

/// `huge_pte_alloc()`
pub fn huge_pte_alloc(k: &mut Kernel<'_>, vma: &Vma, addr: u64, size: HugePages) {
    match size {
        HugePages::Kib64 => {
            k.mm.pgd.pte_alloc(addr);
        }
        HugePages::Mib2 => {
            if want_pmd_share(vma, addr) && !k.mm.pgd.pmd_tables.contains(&(addr >> 30)) {
                huge_pmd_share(k, vma, addr);
            }
            k.mm.pgd.pmd_tables.insert(addr >> 30);
        }
        // An entry of a PUD table, which is always there.
        HugePages::Gib1 => {}
    }
}

/// `huge_pte_offset()`: whether there is a table in which the entry would be.
pub fn huge_pte_offset(k: &Kernel<'_>, addr: u64, size: HugePages) -> bool {
    match size {
        HugePages::Kib64 => k.mm.pgd.pte_tables.contains_key(&(addr >> 21)),
        HugePages::Mib2 => k.mm.pgd.pmd_tables.contains(&(addr >> 30)),
        HugePages::Gib1 => true,
    }
}

/// All entries of a page are set to the same.
fn set_all(k: &mut Kernel<'_>, addr: u64, size: HugePages, pte: Pte) {
    let leaf = match pte {
        Pte::Present {
            folio: Some(folio),
            prot,
            dirty,
            young,
        } => Some(HugePmd {
            folio,
            prot,
            dirty,
            young,
        }),
        _ => None,
    };
    match size {
        HugePages::Kib64 => {
            for entry in entries(addr, size) {
                k.set_pte(entry, pte);
            }
        }
        HugePages::Mib2 => k.set_pmd(addr, leaf),
        HugePages::Gib1 => k.set_pud(addr, leaf),
    }
}

/// `get_clear_contig_flush()`: the page goes, and what is there is flushed.
fn get_clear_contig_flush(k: &mut Kernel<'_>, addr: u64, size: HugePages) -> Pte {
    let orig_pte = huge_ptep_get(k, addr, size);
    set_all(k, addr, size, Pte::None);
    if orig_pte != Pte::None {
        flush_range(k, addr, size);
    }
    orig_pte
}

/// A range is flushed, as of a vma that is none of hugetlb's (TLB_FLUSH_VMA).
fn flush_range(k: &mut Kernel<'_>, addr: u64, size: HugePages) {
    k.enter(Entry::FlushTlbRange {
        start: addr,
        end: addr + size.bytes(),
        huge_page_size: None,
    });
}

/// `set_huge_pte_at()`: entries of Svnapot are cleared and flushed before, whatever was there
/// (`clear_flush()`).
pub fn set_huge_pte_at(k: &mut Kernel<'_>, addr: u64, size: HugePages, pte: Pte) {
    if size == HugePages::Kib64 && matches!(pte, Pte::Present { .. }) {
        set_all(k, addr, size, Pte::None);
        flush_range(k, addr, size);
    }
    set_all(k, addr, size, pte);
}

/// `huge_ptep_set_access_flags()`
pub fn huge_ptep_set_access_flags(k: &mut Kernel<'_>, addr: u64, size: HugePages, pte: Pte) {
    if size != HugePages::Kib64 {
        ptep_set_access_flags(k, addr, pte);
        return;
    }
    let orig_pte = get_clear_contig_flush(k, addr, size);
    set_all(k, addr, size, pte.with_bits_of(orig_pte));
}

/// `huge_ptep_get_and_clear()`
pub fn huge_ptep_get_and_clear(k: &mut Kernel<'_>, addr: u64, size: HugePages) -> Pte {
    let orig_pte = huge_ptep_get(k, addr, size);
    set_all(k, addr, size, Pte::None);
    orig_pte
}

/// `huge_ptep_set_wrprotect()`
pub fn huge_ptep_set_wrprotect(k: &mut Kernel<'_>, addr: u64, size: HugePages) {
    let old = match size {
        HugePages::Kib64 => get_clear_contig_flush(k, addr, size),
        HugePages::Mib2 | HugePages::Gib1 => k.pte(addr),
    };
    set_all(k, addr, size, huge_pte_wrprotect(old));
}

/// `huge_pte_wrprotect()` (`include/asm-generic/hugetlb.h`)
pub fn huge_pte_wrprotect(mut pte: Pte) -> Pte {
    if let Pte::Present { prot: rights, .. } = &mut pte {
        *rights &= !prot::W;
    }
    pte
}

/// `huge_ptep_clear_flush()`: of a page that is not Svnapot's it flushes one small page.
pub fn huge_ptep_clear_flush(k: &mut Kernel<'_>, addr: u64, size: HugePages) {
    if size == HugePages::Kib64 {
        get_clear_contig_flush(k, addr, size);
        return;
    }
    let pte = huge_ptep_get(k, addr, size);
    set_all(k, addr, size, Pte::None);
    if k.profile.hugetlb_copy_flushes_page {
        k.enter(Entry::FlushTlbRange {
            start: addr,
            end: addr + size.bytes(),
            huge_page_size: Some(size.bytes()),
        });
    } else if pte_accessible(k, pte) {
        // ptep_clear_flush()
        k.enter(Entry::FlushTlbPage { addr });
    }
}
