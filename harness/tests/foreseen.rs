// SPDX-License-Identifier: GPL-2.0-only
//! What a secondary MMU reaches by the model alone: the faults that the findings' pages
//! document, and no others. No kernel runs.

mod common;

use common::{all_scenarios, root};
use reference_model::{Machine, Profile};
use secondary_mmu::{Kind, Reading};
use std::collections::BTreeSet;
use tlbdiff::device::{Foreseen, Reached};
use tlbdiff::foreseen::foresee;
use tlbdiff::judge::expect_tables;
use tlbdiff::scenario::Scenario;

fn of(profile: &str, svvptc: bool, scenario: &Scenario) -> Foreseen {
    let machine = Machine {
        svvptc,
        swap: scenario.needs_swap(),
        ..Machine::default()
    };
    let profile = Profile::by_name(profile).expect("a profile");
    let (prediction, tables) = expect_tables(profile, &machine, scenario);
    assert_eq!(prediction.steps.len(), tables.len());
    foresee(&prediction, &tables)
}

/// What the findings' pages have fixes of their own for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    /// Pages of hugetlb, which are copied.
    Hugetlb,
    /// Harts that go offline.
    Offline,
    /// All else: rights that come in place.
    Rights,
}

fn about(scenario: &Scenario) -> About {
    if !scenario.program.huge_pages().is_empty() {
        return About::Hugetlb;
    }
    match scenario.name.starts_with("findings/offline-hart") {
        true => About::Offline,
        false => About::Rights,
    }
}

/// All that is wrong in the library, of one of these, and in which scenarios.
fn reached(what: About, profile: &str, svvptc: bool) -> (BTreeSet<String>, Vec<Reached>) {
    let (mut names, mut all) = (BTreeSet::new(), Vec::new());
    for scenario in all_scenarios() {
        if about(&scenario) != what {
            continue;
        }
        let foreseen = of(profile, svvptc, &scenario);
        if !foreseen.reached.is_empty() {
            let path = scenario.path.strip_prefix(root().join("scenarios"));
            let path = path.expect("below scenarios").with_extension("");
            names.insert(path.display().to_string());
        }
        all.extend(foreseen.reached);
    }
    (names, all)
}

#[test]
fn with_svvptc_only_huge_pages_are_upgraded_by_a_range_too_small() {
    for profile in ["stable", "next", "7.3"] {
        let (names, reached) = reached(About::Rights, profile, true);
        let expected = ["huge/fork-child-exits", "huge/fork-child-unmaps"];
        assert_eq!(names, expected.map(str::to_owned).into(), "{profile}");
        let documented =
            |one: &Reached| (one.kind, one.reading) == (Kind::Narrow, Reading::ByPiece);
        assert!(reached.iter().all(documented), "{profile}: {reached:?}");
    }
}

#[test]
fn without_it_upgrades_in_place_leave_devices_stuck() {
    for profile in ["stable", "next", "7.3"] {
        let (names, reached) = reached(About::Rights, profile, false);
        assert!(names.contains("huge/of-a-child"), "{profile}: {names:?}");
        assert!(names.len() > 30, "{profile}: {names:?}");
        let documented = |one: &Reached| one.kind == Kind::Narrow;
        assert!(reached.iter().all(documented), "{profile}: {reached:?}");
    }
}

#[test]
fn with_the_fix_nothing_is_left() {
    for svvptc in [true, false] {
        let (names, _) = reached(About::Rights, "upgrades-fixed", svvptc);
        assert_eq!(names, BTreeSet::new());
    }
}

#[test]
fn copies_of_hugetlb_are_wrong_by_pieces_until_they_are_fixed() {
    let (_, found) = reached(About::Hugetlb, "stable", true);
    assert!(found.iter().any(|one| one.kind == Kind::Stale));
    let (_, left) = reached(About::Hugetlb, "pieces-fixed", true);
    // Rights that come in place have a fix of their own.
    let of_rights = |one: &Reached| one.kind == Kind::Narrow;
    assert!(left.iter().all(of_rights), "{left:?}");
}

#[test]
fn a_hart_that_goes_offline_leaves_masks_empty_until_that_is_fixed() {
    let (names, _) = reached(About::Offline, "stable", true);
    assert_eq!(names.len(), 4, "{names:?}");
    let (names, _) = reached(About::Offline, "fixed", true);
    assert_eq!(names, BTreeSet::new());
}
