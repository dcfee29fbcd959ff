// SPDX-License-Identifier: GPL-2.0-only
//! `mm/pgtable-generic.c`: what of PMDs no architecture does its own way.

use crate::api::Entry;
use crate::arch::riscv::mm::tlbflush::PMD_SIZE;
use crate::state::Kernel;

/// `pmdp_invalidate()` and `pmdp_huge_clear_flush()`: the flush after the
/// PMD was taken away.
pub fn flush_pmd(k: &mut Kernel<'_>, haddr: u64) {
    k.enter(Entry::FlushPmdTlbRange {
        start: haddr,
        end: haddr + PMD_SIZE,
    });
}
