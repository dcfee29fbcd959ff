// SPDX-License-Identifier: GPL-2.0-only
//! `mm/util.c`: whether memory may be promised.

use crate::state::Kernel;

/// `__vm_enough_memory()` with OVERCOMMIT_GUESS: only what could
/// never fit is refused.
pub fn vm_enough_memory(k: &Kernel, pages: u64) -> bool {
    pages <= k.machine.ram_pages + if k.swap.on { k.machine.swap_pages } else { 0 }
}
