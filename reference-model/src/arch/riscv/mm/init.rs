// SPDX-License-Identifier: GPL-2.0-only
//! `arch/riscv/mm/init.c`: which rights of the hardware a vma's flags come to.

use crate::mm_types::{prot, vm};

/// `vm_get_page_prot()` (`include/linux/mm.h`): `protection_map`.
pub fn vm_get_page_prot(flags: u64) -> u8 {
    let mut rights = 0;
    if flags & (vm::READ | vm::WRITE) != 0 {
        rights |= prot::R;
    }
    if flags & vm::EXEC != 0 {
        rights |= prot::X;
    }
    if flags & (vm::SHARED | vm::WRITE) == vm::SHARED | vm::WRITE {
        rights |= prot::W;
    }
    rights
}

/// Whether rights of `protection_map` come with `_PAGE_ACCESSED`: `_PAGE_BASE` has it, PAGE_NONE
/// has not. Where they do, `mk_pte()` makes young entries, and `pte_modify()` makes them young
/// (both of `arch/riscv/include/asm/pgtable.h`).
pub fn prot_is_young(rights: u8) -> bool {
    rights != 0
}
