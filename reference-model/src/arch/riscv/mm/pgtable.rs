// SPDX-License-Identifier: GPL-2.0-only
//! `arch/riscv/mm/pgtable.c`, and of `arch/riscv/include/asm/pgtable.h` what goes with it.

use crate::api::Entry;
use crate::arch::riscv::mm::tlbflush::PMD_SIZE;
use crate::mm::huge_memory::haddr;
use crate::mm_types::{HugePmd, Pte};
use crate::state::Kernel;

/// `ptep_set_access_flags()`: with Svvptc a changed
/// entry is flushed through tlbflush.c; without, by the caller's
/// `update_mmu_cache()`, which is a local fence that notifies nobody. A huge PMD is
/// changed by the same function.
pub fn ptep_set_access_flags(k: &mut Kernel, addr: u64, entry: Pte) -> bool {
    let changed = k.pte(addr) != entry;
    if changed {
        set_leaf(k, addr, entry);
    }
    if changed && (k.machine.svvptc || k.profile.upgrades_flush) {
        k.enter(Entry::FlushTlbPage { addr });
    }
    changed || !k.machine.svvptc
}

/// A leaf of whatever level changes its bits: a PTE, a huge PMD, or an entry above that.
pub fn set_leaf(k: &mut Kernel, addr: u64, leaf: Pte) {
    let Pte::Present {
        prot, dirty, young, ..
    } = leaf
    else {
        k.set_pte(addr, leaf);
        return;
    };
    let changed = |entry: HugePmd| HugePmd {
        prot,
        dirty,
        young,
        ..entry
    };
    if let Some(pud) = k.mm.pgd.huge_pud(addr) {
        k.set_pud(addr, Some(changed(pud)));
    } else if let Some(pmd) = k.mm.pgd.huge_pmd(addr) {
        k.set_pmd(addr, Some(changed(pmd)));
    } else {
        k.set_pte(addr, leaf);
    }
}

/// `pmdp_set_access_flags()` (`arch/riscv/include/asm/pgtable.h`): as of a PTE, down
/// to the flush of one small page.
pub fn pmdp_set_access_flags(k: &mut Kernel<'_>, addr: u64, entry: HugePmd) {
    let addr = haddr(addr);
    if !k.profile.upgrades_flush {
        ptep_set_access_flags(k, addr, entry.leaf());
        return;
    }
    if k.pte(addr) != entry.leaf() {
        set_leaf(k, addr, entry.leaf());
        k.enter(Entry::FlushPmdTlbRange {
            start: addr,
            end: addr + PMD_SIZE,
        });
    }
}

/// `ptep_test_and_clear_young()`
pub fn ptep_test_and_clear_young(k: &mut Kernel<'_>, address: u64, mut pte: Pte) -> bool {
    if let Pte::Present { young, .. } = &mut pte
        && std::mem::take(young)
    {
        k.set_pte(address, pte);
        return true;
    }
    false
}

/// `pte_accessible()` (`arch/riscv/include/asm/pgtable.h`): no TLB holds a
/// PROT_NONE page, unless the flush after mprotect may still be on its way.
pub fn pte_accessible(k: &Kernel<'_>, pte: Pte) -> bool {
    match pte {
        Pte::Present { prot: 0, .. } => k.mm.tlb_flush_pending > 0,
        Pte::Present { .. } => true,
        Pte::None | Pte::Swap { .. } | Pte::Guard => false,
    }
}
