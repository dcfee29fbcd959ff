// SPDX-License-Identifier: GPL-2.0-only
//! Reclaim as histories; `common` explains how to read them.

mod common;

use common::*;
use reference_model::Machine;

/// Each page is dirty in its PTE, so its flush cannot wait for the next one's.
#[test]
fn pageout_flushes_each_dirty_page_before_it_is_written() {
    check(&[
        (map(0, 16), ""),
        (write(0, 16), ""),
        (advise(10, 3, PAGEOUT), "+10..13 each"),
        (advise(10, 3, PAGEOUT), "pending"),
        (advise(10, 3, PAGEOUT), ""),
    ]);
}

/// Read back, pages are clean in their PTEs: they are written again, but no
/// store can race with that, so one flush behind 31 pages is enough.
#[test]
fn pageout_of_pages_that_were_only_read_flushes_once_for_31() {
    check(&[
        (map(0, 40), ""),
        (write(0, 40), ""),
        (advise(0, 40, PAGEOUT), "+0..40 each"),
        (read(0, 40), ""),
        (advise(0, 40, PAGEOUT), "pending +0..31 flush +31..40 flush"),
    ]);
}

/// One dirty page among clean ones flushes those before it too.
#[test]
fn pageout_flushes_what_is_pending_with_the_first_dirty_page() {
    check(&[
        (map(0, 8), ""),
        (write(0, 8), ""),
        (advise(0, 8, PAGEOUT), "+0..8 each"),
        (read(0, 8), ""),
        (write(5, 1), ""),
        (advise(0, 8, PAGEOUT), "pending +0..6 flush +6..8 flush"),
    ]);
}

/// Read ahead into the swap cache and mapped from there, pages need no second
/// write: the slot still has their content.
#[test]
fn pageout_from_the_swap_cache() {
    check(&[
        (map(0, 4), ""),
        (write(0, 4), ""),
        (advise(0, 4, PAGEOUT), "+0..4 each"),
        (advise(0, 4, WILLNEED), ""),
        (read(0, 4), ""),
        (advise(0, 4, PAGEOUT), "pending +0..4 flush"),
        (read(0, 4), ""),
        (unmap(0, 4), "pending range 0-4 mm"),
    ]);
}

/// The zero page is nobody's to page out, and what is not there neither.
#[test]
fn pageout_of_untouched_and_zero_pages() {
    check(&[
        (map(0, 8), ""),
        (advise(0, 8, PAGEOUT), ""),
        (read(0, 8), ""),
        (advise(0, 8, PAGEOUT), ""),
        (unmap(0, 8), "range 0-8 mm"),
    ]);
}

/// Each PTE table is a batch of its own.
#[test]
fn pageout_reclaims_table_by_table() {
    check(&[
        (map(510, 4), ""),
        (write(510, 4), ""),
        (
            advise(510, 4, PAGEOUT),
            "+510..512 each pending +512..514 each",
        ),
        (read(510, 4), ""),
        (
            advise(510, 4, PAGEOUT),
            "pending +510..512 flush pending +512..514 flush",
        ),
    ]);
}

/// Without swap there is no place for private pages, so they are not even
/// unmapped. Of shared ones that is found out later, by the file's writepage.
#[test]
fn pageout_without_swap() {
    check_with(
        without_swap(),
        Vec::new(),
        &[
            (map(0, 4), ""),
            (share(8, 4), ""),
            (write(0, 4), ""),
            (write(8, 4), ""),
            (advise(0, 4, PAGEOUT), ""),
            (advise(8, 4, PAGEOUT), "+8..12 each"),
            (read(8, 4), ""),
            (advise(8, 4, PAGEOUT), "pending +8..12 flush"),
        ],
    );
}

/// A shared page that was never written is as good as a hole.
#[test]
fn pageout_discards_shared_pages_that_were_never_written() {
    check_with(
        without_swap(),
        Vec::new(),
        &[
            (share(0, 4), ""),
            (read(0, 4), ""),
            (advise(0, 4, PAGEOUT), "+0..4 flush"),
            (read(0, 4), ""),
        ],
    );
}

/// MADV_PAGEOUT leaves alone what is mapped twice; reclaim does not, and finds
/// the mappings by the vma's first page in the file, then by age. (Used through
/// two vmas, the pages would be activated; one that is read in sequence does not count.)
#[test]
fn shared_pages_mapped_twice() {
    check_with(
        Machine::default(),
        vec![file(4, false)],
        &[
            (map_with(64, 4, SHARED, Some(0)), ""),
            (map_with(0, 4, SHARED, Some(0)), ""),
            (advise(64, 4, SEQUENTIAL), ""),
            (write(64, 4), ""),
            (write(0, 4), ""),
            (advise(0, 4, PAGEOUT), ""),
            (
                reclaim(4),
                "+64 +0 flush +65 +1 flush +66 +2 flush +67 +3 flush",
            ),
        ],
    );
}

/// No TLB can hold a page without rights, so reclaim has nothing to notify of
/// it; but within MADV_PAGEOUT's own mmu_gather the kernel cannot be sure.
#[test]
fn pages_without_rights() {
    check(&[
        (map(0, 4), ""),
        (write(0, 4), ""),
        (protect(0, 4, 0), "range 0-4"),
        (reclaim(4), ""),
        (map(8, 4), ""),
        (write(8, 4), ""),
        (protect(8, 4, 0), "range 8-12"),
        (advise(8, 4, PAGEOUT), "+8..12 each"),
    ]);
}

#[test]
fn locked_pages_are_refused() {
    let locked = 0x2000;
    check(&[
        (map_with(0, 4, PRIVATE | locked, None), ""),
        (advise(0, 4, PAGEOUT), "!22"),
        (advise(0, 4, COLD), "!22"),
        (reclaim(4), "!11"),
    ]);
}

/// MADV_COLD notifies of young pages only, and first makes up for reclaim's flush.
#[test]
fn cold_pages() {
    check(&[
        (map(0, 16), ""),
        (write(0, 16), ""),
        (advise(10, 3, PAGEOUT), "+10..13 each"),
        (advise(0, 16, COLD), "pending range 0-16"),
        (advise(0, 16, COLD), ""),
        (read(3, 1), ""),
        (advise(0, 16, COLD), "range 3-4"),
    ]);
}

/// Lazily freed pages go without swap and without a write between them; those
/// that were written again are notified, but stay, and belong to swap again.
#[test]
fn lazyfree_pages() {
    check(&[
        (map(0, 8), ""),
        (write(0, 8), ""),
        (advise(0, 4, FREE), "range 0-4"),
        (advise(0, 4, FREE), ""),
        (write(2, 1), ""),
        (advise(0, 4, PAGEOUT), "+0..4 flush"),
        (advise(0, 8, DONTNEED), "pending range 2-8"),
    ]);
}

/// Swapped-out pages need not come back to be freed.
#[test]
fn lazyfree_of_swapped_pages() {
    check(&[
        (map(0, 8), ""),
        (write(0, 8), ""),
        (advise(0, 4, PAGEOUT), "+0..4 each"),
        (advise(0, 8, FREE), "pending range 4-8"),
        (unmap(0, 8), "range 4-8 mm"),
    ]);
}

/// Fewer than 31 pages wait in a per-CPU batch, where reclaim finds none of
/// them until its last attempt. Then the first pages that it looks at are young
/// and go once around the list, and the pass that frees anything frees all.
#[test]
fn reclaim_takes_more_than_it_was_asked_for() {
    check(&[
        (map(0, 16), ""),
        (write(0, 16), ""),
        (reclaim(8), "+0..16 each"),
        (reclaim(1), "!11"),
    ]);
}

#[test]
fn reclaim_of_nothing() {
    check(&[
        (map(0, 16), ""),
        (reclaim(0), ""),
        (reclaim(1), "!11"),
        (read(0, 16), ""),
        (reclaim(1), "!11"),
    ]);
}

/// Lazily freed pages are on the file list, which is all that is looked at
/// where there is no swap.
#[test]
fn reclaim_without_swap() {
    check_with(
        without_swap(),
        Vec::new(),
        &[
            (map(0, 64), ""),
            (write(0, 64), ""),
            (advise(16, 8, FREE), "range 16-24"),
            (reclaim(8), "+16..18 each +18..21 flush +21..24 flush"),
            (reclaim(8), "!11"),
        ],
    );
}

/// A page that reclaim has seen once without its young bit, and that was used
/// again since, is kept; the pass that needs 32 pages looks at all the others.
#[test]
fn reclaim_spares_pages_in_use() {
    check(&[
        (map(0, 64), ""),
        (write(0, 64), ""),
        (reclaim(8), "+0..11 each"),
        (read(20, 4), ""),
        (reclaim(32), "+11..20 each +24..64 each"),
    ]);
}

/// Only the process's own copies are charged to its cgroup.
#[test]
fn reclaim_of_private_copies() {
    check_with(
        Machine::default(),
        vec![file(8, true)],
        &[
            (map_with(0, 8, PRIVATE, Some(0)), ""),
            (read(0, 8), ""),
            (write(2, 2), "page 2 page 3"),
            (reclaim(8), "+2..4 each !11"),
        ],
    );
}
