// SPDX-License-Identifier: GPL-2.0-only
//! `mm/pgtable-generic.c`: what of page tables riscv does not do its own way.

use crate::api::Entry;
use crate::arch::riscv::mm::pgtable::pte_accessible;
use crate::arch::riscv::mm::tlbflush::PMD_SIZE;
use crate::mm_types::Pte;
use crate::state::Kernel;

/// `ptep_clear_flush()`
pub fn ptep_clear_flush(k: &mut Kernel<'_>, addr: u64) {
    let pte = k.pte(addr);
    k.set_pte(addr, Pte::None);
    if pte_accessible(k, pte) {
        k.enter(Entry::FlushTlbPage { addr });
    }
}

/// `pmdp_invalidate()` and `pmdp_huge_clear_flush()`: the flush after the
/// PMD was taken away.
pub fn flush_pmd(k: &mut Kernel<'_>, haddr: u64) {
    k.enter(Entry::FlushPmdTlbRange {
        start: haddr,
        end: haddr + PMD_SIZE,
    });
}
