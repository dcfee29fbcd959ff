// SPDX-License-Identifier: GPL-2.0-only
//! `mm/damon/vaddr.c`: what DAMON does with ranges of an address space.

use crate::api::PAGE_SIZE;
use crate::mm::madvise::do_madvise;
use crate::state::Kernel;

/// As few ranges as DAMON can be told to have at the least, and is.
const MIN_NR_REGIONS: u64 = 3;

/// `damon_va_apply_scheme()` to a range, once: kdamond runs on the agent's hart, and gives the
/// advice (`damos_madvise()`). What that comes to tells DAMON how much it has done, and nobody
/// else. To clear accessed bits, by which it knows what is accessed, tells nobody.
pub fn damon_va_apply_scheme(k: &mut Kernel<'_>, start: u64, len: u64, madv_action: i32) {
    if len == 0 {
        k.unpredicted = Some("DAMON of no pages");
        return;
    }
    let mut part = len;
    if k.profile.damon_begins_with_parts {
        // damon_apply_min_nr_regions()
        part = (len / MIN_NR_REGIONS).next_multiple_of(PAGE_SIZE);
        part = part.max(PAGE_SIZE);
    }
    let end = start + len;
    k.on_the_agents_hart(|k| {
        let mut at = start;
        while at < end {
            // What cannot be advised is not counted.
            let _ = do_madvise(k, at, part.min(end - at), madv_action);
            at += part;
        }
    });
}
