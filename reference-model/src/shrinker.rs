// SPDX-License-Identifier: GPL-2.0-only
//! `mm/shrinker.c`

use crate::huge_memory::deferred_split_scan;
use crate::kernel::Kernel;

/// `shrink_slab()` and `do_shrink_slab()`, of the one shrinker that frees pages which
/// scenarios map: `deferred_split_shrinker`. What it splits counts for nothing reclaimed.
pub fn shrink_slab(k: &mut Kernel<'_>, priority: i32) {
    const DEFAULT_SEEKS: u64 = 2;
    let freeable = k.deferred_split_queue.len() as u64;
    let delta = (freeable >> priority) * 4 / DEFAULT_SEEKS;
    let total_scan = delta.min(2 * freeable);
    // Less than a batch (SHRINK_BATCH) is only scanned where it is all that there is.
    if freeable > 0 && total_scan >= freeable {
        deferred_split_scan(k, freeable as usize);
    }
}
