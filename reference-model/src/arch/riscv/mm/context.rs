// SPDX-License-Identifier: GPL-2.0-only
//! `arch/riscv/mm/context.c`: which harts an mm may be cached on.

use crate::state::Kernel;

/// `switch_mm()` and `set_mm()`: the hart of `current` loads its mm. An idle hart
/// keeps what it had (lazily), so only another process's step takes an mm away.
///
/// Where harts have ASIDs, an mm's mask holds all harts that it ever ran on; where
/// they have none, a hart's bit goes with the next mm.
pub fn switch_mm(k: &mut Kernel<'_>) {
    let Some(next) = k.tasks.get(k.current).and_then(|task| task.mm) else {
        return;
    };
    let hart = k.hart();
    let Some(bit) = 1u64.checked_shl(hart) else {
        return;
    };
    let place = hart as usize;
    if k.active_mm.len() <= place {
        k.active_mm.resize(place + 1, None);
    }
    let prev = k.active_mm[place].replace(next);
    if prev == Some(next) {
        return;
    }
    k.mm_mut(next).cpumask |= bit;
    if let Some(prev) = prev.filter(|_| !k.machine.asids) {
        k.mm_mut(prev).cpumask &= !bit;
    }
}
