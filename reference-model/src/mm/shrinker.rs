// SPDX-License-Identifier: GPL-2.0-only
//! `mm/shrinker.c`: how much each shrinker is to scan.

use crate::mm::huge_memory::deferred_split_scan;
use crate::state::Kernel;

/// `DEFAULT_SEEKS` (`include/linux/shrinker.h`), which `deferred_split_shrinker` has.
const DEFAULT_SEEKS: u64 = 2;
/// `SHRINK_BATCH`
const SHRINK_BATCH: u64 = 128;

/// `shrink_slab()` and `do_shrink_slab()`, of the one shrinker that frees pages which
/// scenarios map: `deferred_split_shrinker`. What it splits counts for nothing reclaimed.
pub fn shrink_slab(k: &mut Kernel<'_>, priority: i32) {
    // deferred_split_count()
    let freeable = k.deferred_split_queue.len() as u64;
    if freeable == 0 {
        return;
    }
    let nr = k.nr_deferred;
    let delta = (freeable >> priority) * 4 / DEFAULT_SEEKS;
    let mut total_scan = ((nr >> priority) + delta).min(2 * freeable);
    let mut scanned = 0;
    // Less than a batch is only scanned where it is all that there is.
    while total_scan >= SHRINK_BATCH || total_scan >= freeable {
        let nr_to_scan = SHRINK_BATCH.min(total_scan);
        if deferred_split_scan(k, nr_to_scan).is_none() {
            break;
        }
        total_scan -= nr_to_scan;
        scanned += nr_to_scan;
    }
    // What was not done is done later, in addition.
    k.nr_deferred = (nr + delta).saturating_sub(scanned).min(2 * freeable);
}
