// SPDX-License-Identifier: GPL-2.0-only
//! Histories, each a line of facts, and what holds for any facts.

use super::*;
use proptest::prelude::*;

const MM: Mm = 1;
const RW: Rights = Rights::R.and(Rights::W);

fn leaf(page: u64, pages: u64, frame: u64) -> Leaf {
    Leaf {
        page,
        pages,
        frame,
        rights: RW,
        dirty: true,
    }
}

fn tables(leaves: &[Leaf]) -> PageTables {
    let table = |pages: u64, frame: u64| Table {
        page: 0,
        pages,
        frame,
    };
    PageTables {
        leaves: leaves.to_vec(),
        tables: vec![table(512, 9001), table(512 * 512, 9000)],
    }
}

/// A secondary MMU that has cached 4 pages from page 4 on, in frames from 100 on.
fn with_four_pages() -> SecondaryMmu {
    let mut mmu = SecondaryMmu::default();
    mmu.begin(0);
    let leaves: Vec<Leaf> = (0..4).map(|n| leaf(4 + n, 1, 100 + n)).collect();
    mmu.walked(MM, &tables(&leaves));
    mmu.begin(1);
    mmu
}

fn bytes(page: u64) -> u64 {
    page * 4096
}

/// `kind [first,end) by` of each verdict.
fn said(mmu: SecondaryMmu) -> Vec<String> {
    let verdicts = mmu.into_verdicts();
    let say = |verdict: &Verdict| {
        let by = match verdict.reading {
            Reading::ByLeaf => "",
            Reading::ByPiece => " by piece",
        };
        let (kind, pages) = (verdict.kind.name(), &verdict.pages);
        format!("{kind} [{},{}){by}", pages.start, pages.end)
    };
    verdicts.iter().map(say).collect()
}

#[test]
fn what_is_notified_before_it_is_freed_is_no_harm() {
    let mut mmu = with_four_pages();
    mmu.notify(MM, bytes(4), bytes(8));
    mmu.freed(100, 4);
    mmu.walked(MM, &tables(&[]));
    assert_eq!(said(mmu), [""; 0]);
}

#[test]
fn what_is_freed_before_it_is_notified_is_freed_although_the_range_is_right() {
    let mut mmu = with_four_pages();
    mmu.freed(100, 4);
    mmu.notify(MM, bytes(4), bytes(8));
    mmu.walked(MM, &tables(&[]));
    assert_eq!(said(mmu), ["freed [4,8)"]);
}

#[test]
fn what_was_not_notified_is_stale_once() {
    let mut mmu = with_four_pages();
    mmu.notify(MM, bytes(4), bytes(7));
    mmu.walked(MM, &tables(&[]));
    mmu.begin(2);
    mmu.walked(MM, &tables(&[]));
    let verdicts = mmu.into_verdicts();
    assert_eq!(verdicts.len(), 1, "{verdicts:?}");
    let Verdict {
        kind,
        pages,
        frame,
        since,
        step,
        near,
        ..
    } = verdicts[0].clone();
    assert_eq!((kind, pages, frame), (Kind::Stale, 7..8, 103));
    assert_eq!((since, step), (0, 1));
    // It is the last one, and touches nothing of it.
    let notified = Near {
        step: 1,
        start: bytes(4),
        end: bytes(7),
    };
    assert_eq!(near, Some(notified));
}

#[test]
fn a_replaced_frame_is_stale_and_a_reused_one_is_not() {
    let mut mmu = with_four_pages();
    let mut leaves: Vec<Leaf> = (0..4).map(|n| leaf(4 + n, 1, 100 + n)).collect();
    leaves[1].frame = 200;
    mmu.walked(MM, &tables(&leaves));
    assert_eq!(said(mmu), ["stale [5,6)"]);
}

#[test]
fn rights_that_went_and_rights_that_came() {
    for (before, after, verdict) in [
        (RW, Rights::R, Some("right [4,5)")),
        (Rights::R, RW, Some("narrow [4,5)")),
        (RW, RW, None),
    ] {
        let mut mmu = SecondaryMmu::default();
        let of = |rights| Leaf {
            rights,
            ..leaf(4, 1, 100)
        };
        mmu.walked(MM, &tables(&[of(before)]));
        mmu.begin(1);
        mmu.walked(MM, &tables(&[of(after)]));
        assert_eq!(said(mmu).first().map(String::as_str), verdict);
    }
}

#[test]
fn a_page_made_clean_without_a_word_is_dirty_and_one_made_dirty_is_fine() {
    for (before, after, verdict) in [(true, false, Some("dirty [4,5)")), (false, true, None)] {
        let mut mmu = SecondaryMmu::default();
        let of = |dirty| Leaf {
            dirty,
            ..leaf(4, 1, 100)
        };
        mmu.walked(MM, &tables(&[of(before)]));
        mmu.begin(1);
        mmu.walked(MM, &tables(&[of(after)]));
        assert_eq!(said(mmu).first().map(String::as_str), verdict);
    }
}

/// A cache answers by what it has: that it could have loaded more later does not help.
#[test]
fn what_was_narrow_and_is_loaded_anew_may_still_be_answered_by_the_old() {
    let mut mmu = SecondaryMmu::default();
    let of = |rights| Leaf {
        rights,
        ..leaf(4, 1, 100)
    };
    mmu.walked(MM, &tables(&[of(Rights::R)]));
    mmu.begin(1);
    mmu.walked(MM, &tables(&[of(RW)]));
    mmu.begin(2);
    mmu.walked(MM, &tables(&[of(Rights::R)]));
    assert_eq!(said(mmu), ["narrow [4,5)", "right [4,5)"]);
}

#[test]
fn a_part_of_a_huge_page_drops_the_leaf_and_a_piece() {
    let mut mmu = SecondaryMmu::default();
    let huge = |rights| Leaf {
        rights,
        ..leaf(512, 512, 1024)
    };
    mmu.walked(MM, &tables(&[huge(Rights::R)]));
    mmu.begin(1);
    mmu.notify(MM, bytes(512), bytes(513));
    mmu.walked(MM, &tables(&[huge(RW)]));
    assert_eq!(said(mmu), ["narrow [513,1024) by piece"]);
}

#[test]
fn a_range_that_ends_within_a_page_does_not_speak_for_it_by_piece() {
    let mut mmu = with_four_pages();
    mmu.notify(MM, bytes(4), bytes(8) - 1);
    mmu.walked(MM, &tables(&[]));
    assert_eq!(said(mmu), ["stale [7,8) by piece"]);
}

#[test]
fn an_empty_or_inverted_range_drops_nothing() {
    for (start, end) in [(4, 4), (8, 4)] {
        let mut mmu = with_four_pages();
        mmu.notify(MM, bytes(start), bytes(end));
        mmu.walked(MM, &tables(&[]));
        assert_eq!(said(mmu), ["stale [4,8)"]);
    }
}

#[test]
fn a_table_is_dropped_by_the_whole_mm_and_not_by_a_range() {
    let gone = PageTables::default();
    let mut mmu = with_four_pages();
    mmu.notify(MM, 0, bytes(512 * 512));
    mmu.walked(MM, &gone);
    assert_eq!(said(mmu), ["walk [0,512)", "walk [0,262144)"]);

    let mut mmu = with_four_pages();
    mmu.notify(MM, WHOLE_MM.0, WHOLE_MM.1);
    mmu.freed(9000, 2);
    mmu.walked(MM, &gone);
    assert_eq!(said(mmu), [""; 0]);
}

#[test]
fn a_table_that_is_freed_too_early_is_walked_although_all_is_notified_later() {
    let mut mmu = with_four_pages();
    mmu.notify(MM, bytes(4), bytes(8));
    mmu.freed(9001, 1);
    mmu.notify(MM, WHOLE_MM.0, WHOLE_MM.1);
    mmu.walked(MM, &PageTables::default());
    assert_eq!(said(mmu), ["walk [0,512)"]);
}

#[test]
fn a_replaced_table_is_walked() {
    let mut mmu = with_four_pages();
    mmu.notify(MM, bytes(4), bytes(8));
    let mut now = tables(&[]);
    now.tables[0].frame = 9002;
    mmu.walked(MM, &now);
    assert_eq!(said(mmu), ["walk [0,512)"]);
}

#[test]
fn release_ends_all_and_others_go_on() {
    let mut mmu = with_four_pages();
    mmu.walked(2, &tables(&[leaf(4, 1, 100)]));
    mmu.release(MM);
    mmu.freed(100, 4);
    let verdicts = mmu.into_verdicts();
    assert_eq!(verdicts.len(), 1, "{verdicts:?}");
    assert_eq!((verdicts[0].mm, verdicts[0].kind), (2, Kind::Freed));
}

#[test]
fn a_translation_within_a_step_counts() {
    let mut mmu = with_four_pages();
    mmu.loaded(MM, &tables(&[leaf(20, 1, 300)]));
    mmu.freed(300, 1);
    assert_eq!(said(mmu), ["freed [20,21)"]);
}

/// What page tables hold: up to 8 places of 4 pages each, of which each holds nothing, 4 small
/// pages, or a leaf of 4.
fn any_tables() -> impl Strategy<Value = PageTables> {
    let rights = prop_oneof![Just(Rights::R), Just(RW)];
    let place = (0..3u8, rights, any::<bool>(), 0..4u64);
    prop::collection::vec(place, 8).prop_map(|places| {
        let mut leaves = Vec::new();
        for (number, (what, rights, dirty, shift)) in places.into_iter().enumerate() {
            let first = number as u64 * 4;
            let frame = 100 + first * 8 + shift * 4;
            let pages = match what {
                0 => continue,
                1 => 1,
                _ => 4,
            };
            leaves.extend((0..4 / pages).map(|n| Leaf {
                page: first + n * pages,
                pages,
                frame: frame + n * pages,
                rights,
                dirty,
            }));
        }
        PageTables {
            leaves,
            tables: vec![Table {
                page: 0,
                pages: 512,
                frame: 9001,
            }],
        }
    })
}

/// Frames that were mapped and are not any more.
fn given_back(before: &PageTables, after: &PageTables) -> Vec<u64> {
    let frames = |tables: &PageTables| -> Vec<u64> {
        let leaves = tables.leaves.iter();
        leaves
            .flat_map(|leaf| leaf.frame..leaf.frame + leaf.pages)
            .collect()
    };
    let there = frames(after);
    let mut gone = frames(before);
    gone.retain(|frame| !there.contains(frame));
    gone
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_kernel_that_notifies_the_whole_mm_at_every_change_is_right(states in prop::collection::vec(any_tables(), 1..8)) {
        let mut mmu = SecondaryMmu::default();
        let mut before = PageTables::default();
        for (step, now) in states.iter().enumerate() {
            mmu.begin(step);
            mmu.notify(MM, WHOLE_MM.0, WHOLE_MM.1);
            for frame in given_back(&before, now) {
                mmu.freed(frame, 1);
            }
            mmu.walked(MM, now);
            before = now.clone();
        }
        prop_assert_eq!(said(mmu), [""; 0]);
    }

    /// All that changes is inside of one table, so that the leaves' own ranges are enough.
    #[test]
    fn a_kernel_that_notifies_each_old_leaf_is_right(states in prop::collection::vec(any_tables(), 1..8)) {
        let mut mmu = SecondaryMmu::default();
        let mut before = PageTables::default();
        for (step, now) in states.iter().enumerate() {
            mmu.begin(step);
            for leaf in &before.leaves {
                mmu.notify(MM, bytes(leaf.page), bytes(leaf.page + leaf.pages));
            }
            for frame in given_back(&before, now) {
                mmu.freed(frame, 1);
            }
            mmu.walked(MM, now);
            before = now.clone();
        }
        prop_assert_eq!(said(mmu), [""; 0]);
    }

    #[test]
    fn a_notification_never_adds(now in any_tables(), start in 0..32u64, pages in 0..32u64) {
        let mut mmu = SecondaryMmu::default();
        mmu.walked(MM, &now);
        let pages_held = |mmu: &SecondaryMmu| {
            let held = mmu.held(MM).into_iter();
            held.flat_map(|(pages, _)| pages).collect::<Vec<u64>>()
        };
        let before = pages_held(&mmu);
        mmu.notify(MM, bytes(start), bytes(start + pages));
        let after = pages_held(&mmu);
        prop_assert!(after.iter().all(|page| before.contains(page)));
        let inside = start..start + pages;
        prop_assert!(after.iter().all(|page| !inside.contains(page)));
    }

    /// The more is notified, the less is wrong.
    #[test]
    fn silence_is_never_better(before in any_tables(), now in any_tables(), start in 0..32u64, pages in 1..32u64) {
        let run = |notified: bool| {
            let mut mmu = SecondaryMmu::default();
            mmu.walked(MM, &before);
            mmu.begin(1);
            if notified {
                mmu.notify(MM, bytes(start), bytes(start + pages));
            }
            for frame in given_back(&before, &now) {
                mmu.freed(frame, 1);
            }
            mmu.walked(MM, &now);
            let verdicts = mmu.into_verdicts();
            verdicts.iter().flat_map(|verdict| verdict.pages.clone().map(|page| (verdict.kind, page)).collect::<Vec<_>>()).collect::<std::collections::BTreeSet<_>>()
        };
        prop_assert!(run(true).is_subset(&run(false)));
    }
}
