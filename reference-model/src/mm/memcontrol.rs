// SPDX-License-Identifier: GPL-2.0-only
//! `mm/memcontrol.c`: `memory.reclaim`, limits that nothing is left under, and when statistics
//! become visible.

use crate::api::PAGE_SIZE;
use crate::errno::EAGAIN;
use crate::mm::oom_kill::oom_reap_task_mm;
use crate::mm::swap::lru_add_drain_all;
use crate::mm::vmscan::try_to_free_mem_cgroup_pages;
use crate::mm_types::{FolioId, Lruvec, LruvecStats};
use crate::state::Kernel;

/// `MAX_RECLAIM_RETRIES` (`mm/internal.h`)
const MAX_RECLAIM_RETRIES: u32 = 16;

/// `folio_lruvec()` (`include/linux/memcontrol.h`)
pub fn folio_lruvec<'k>(k: &'k mut Kernel<'_>, id: FolioId) -> &'k mut Lruvec {
    if k.folios[id].charged {
        &mut k.lruvec
    } else {
        &mut k.other_lruvec
    }
}

/// `cgroup_rstat_flush()` (`kernel/cgroup/rstat.c`) down to `mem_cgroup_css_rstat_flush()`:
/// from now on `lruvec_page_state()` answers with what the lists are now.
///
/// Between flushes it answers with old numbers, and the kernel flushes by a
/// timer of two seconds. So that the same steps always do the same, the
/// guest's agent has the statistics flushed before each step.
pub fn cgroup_rstat_flush(k: &mut Kernel<'_>) {
    flush_lruvec(&mut k.lruvec);
    flush_lruvec(&mut k.other_lruvec);
}

/// The part of one `lruvec`.
fn flush_lruvec(lruvec: &mut Lruvec) {
    let [a, b, c, d, _] = lruvec.lists;
    lruvec.flushed = LruvecStats {
        lru: [a.len, b.len, c.len, d.len],
        workingset_activate: lruvec.workingset_activate,
        events: lruvec.events,
    };
}

/// What is not known of the pages that reclaim would look at.
fn unknown_lists(k: &Kernel<'_>) -> Option<&'static str> {
    if k.refaults_unknown {
        return Some("reclaim of pages that may be active since they came back");
    }
    let in_flight = k.files.iter().any(|inode| !inode.in_flight.is_empty());
    in_flight.then_some("reclaim of pages that are on their way from a disk")
}

/// `memory_reclaim()`: a write to the cgroup's `memory.reclaim`.
///
/// It asks for a quarter of what is missing at a time, but never for less than
/// 32 pages, and so frees more than was asked for. As long as no page of the
/// cgroup has left the per-CPU batches it finds nothing: the batches are drained
/// only before the last of its attempts.
///
/// # Errors
/// EAGAIN if the attempts after the last success freed nothing.
pub fn memory_reclaim(k: &mut Kernel<'_>, bytes: u64) -> Result<(), i32> {
    if k.folios.any_on_another_node() {
        k.unpredicted = Some("reclaim of several nodes");
        return Ok(());
    }
    if k.files.iter().any(|inode| inode.has_huge_page_behind_end) {
        // shmem_unused_huge_shrink()
        k.unpredicted = Some("reclaim of large pages that reach beyond the end of their file");
        return Ok(());
    }
    if let Some(why) = unknown_lists(k) {
        k.unpredicted = Some(why);
        return Ok(());
    }
    let nr_to_reclaim = bytes / PAGE_SIZE;
    let mut nr_retries = MAX_RECLAIM_RETRIES;
    let mut nr_reclaimed = 0;
    while nr_reclaimed < nr_to_reclaim {
        let batch_size = (nr_to_reclaim - nr_reclaimed) / 4;
        if nr_retries == 0 {
            lru_add_drain_all(k);
        }
        let reclaimed = try_to_free_mem_cgroup_pages(k, batch_size);
        if reclaimed == 0 {
            if nr_retries == 0 {
                return Err(EAGAIN);
            }
            nr_retries -= 1;
        }
        nr_reclaimed += reclaimed;
    }
    Ok(())
}

/// `memory_max_write()` of 0, where nobody but one process may be killed for that: reclaim is
/// tried, and when it comes to nothing that process goes. Then nobody is left, and the limit with
/// it.
pub fn memory_max_write(k: &mut Kernel<'_>, victim: usize) {
    if k.swap.on {
        k.unpredicted = Some("how much goes to swap before anybody is killed");
        return;
    }
    if let Some(why) = unknown_lists(k) {
        k.unpredicted = Some(why);
        return;
    }
    for _ in 0..MAX_RECLAIM_RETRIES {
        if try_to_free_mem_cgroup_pages(k, 0) > 0 {
            k.unpredicted = Some("how much is reclaimed before anybody is killed");
            return;
        }
    }
    oom_reap_task_mm(k, victim);
}
