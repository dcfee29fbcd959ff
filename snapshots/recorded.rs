// SPDX-License-Identifier: GPL-2.0-only
//! The model against every accepted snapshot, without QEMU: fast, and always part of `cargo test`.
//!
//! This test stands here, and not in harness/tests, because `cargo insta`
//! looks for proposed snapshots in the folders of packages and of test files.

#[path = "../harness/tests/common/mod.rs"]
mod common;

use common::{Known, all_scenarios, judge, judge_and_see, recorded, recorded_of, root};
use reference_model::{Machine, Profile};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tlbdiff::checks::Chosen;
use tlbdiff::judge::{Judge, expect};
use tlbdiff::outcome::Outcome;
use tlbdiff::reading::Reading;
use tlbdiff::scenario::Scenario;
use tlbdiff::snapshot::{Set, Snapshot, SnapshotPath};

/// Scenarios of which a snapshot may be kept.
fn kept() -> Vec<Arc<Scenario>> {
    let mut scenarios = all_scenarios();
    scenarios.retain(|scenario| !scenario.varies);
    scenarios
}

/// What is kept of stable. Of what it may lack there need be nothing.
fn of_stable(scenario: &Scenario) -> Option<Snapshot> {
    let place = SnapshotPath::of(&scenario.path, &Set::Stable).expect("in scenarios/");
    let snapshot = place.read().expect("readable");
    assert!(
        snapshot.is_some() || scenario.requires.iter().any(|it| it.is_special()),
        "{}: nothing is accepted",
        scenario.path.display()
    );
    snapshot
}

#[test]
fn the_model_agrees_with_every_snapshot() {
    let stable = known_of(&Profile::STABLE, Set::Stable);
    insta::assert_snapshot!(stable, @"
    device/hugetlb-copied-after-fork
    findings/hugetlb-copy
    findings/offline-hart-back-online
    findings/offline-hart-ftruncate
    findings/offline-hart-punch-hole
    findings/offline-hart-written-from-outside
    hugetlb/file-hole-private-copies
    hugetlb/file-private-copy
    hugetlb/file-private-first-write
    hugetlb/file-shared-and-private
    hugetlb/file-truncated-private-copies
    hugetlb/fork-both-write
    hugetlb/fork-child-writes
    hugetlb/fork-dontfork
    hugetlb/fork-parent-writes
    hugetlb/fork-read-only-pages
    hugetlb/gib-fork-parent-writes
    hugetlb/mlock2-faults-all-the-same
    hugetlb/mremap-after-fork
    hugetlb/uffd-fork
    hugetlb/uffd-minor-private-continued
    migration/hugetlb-file-of-two-processes
    migration/hugetlb-in-a-shared-table
    migration/hugetlb-mbind-moves
    migration/hugetlb-mbind-strict-refused
    migration/hugetlb-moved-by-mremap
    migration/hugetlb-page-named-by-two-pages
    migration/hugetlb-pages
    migration/hugetlb-private-copy-of-a-file
    migration/hugetlb-read-only
    migration/hugetlb-shared-with-a-child-refused
    migration/hugetlb-there-and-back
    migration/hugetlb-under-a-running-thread
    migration/hugetlb-without-access
    migration/whole-process-hugetlb-first
    ");
    let next = known_of(&Profile::NEXT, Set::Other("next".to_owned()));
    assert_eq!(next, stable);
}

/// The scenarios in which a kernel was seen to do what findings document; in all others model and
/// snapshot agree. What the kernel lacks is skipped.
fn known_of(profile: &'static Profile, set: Set) -> String {
    let by_model = Judge {
        checks: Chosen::default(),
        profile,
        reading: Reading::Read,
        repeat: 1,
        snapshots: None,
        kernel: profile.name.to_owned(),
    };
    let mut known = Known::default();
    let (summary, told) = judge_and_see(kept(), by_model, recorded_of(set), &mut |verdict| {
        known.add(verdict)
    });
    assert!(
        summary.worst() <= Outcome::Known,
        "{}: {told}",
        profile.name
    );
    known.text()
}

#[test]
fn without_the_patch_the_model_differs_wherever_a_kernel_notified() {
    let by_model = Judge {
        checks: Chosen::default(),
        profile: &Profile::PREPATCH,
        reading: Reading::Read,
        repeat: 1,
        snapshots: None,
        kernel: "stable".to_owned(),
    };
    for scenario in kept() {
        let Some(snapshot) = of_stable(&scenario) else {
            continue;
        };
        // What the model does not speak for it cannot differ from.
        let machine = Machine {
            swap: scenario.needs_swap(),
            ..snapshot.header.info.machine.machine()
        };
        let predicted = expect(&Profile::PREPATCH, &machine, &scenario).steps;
        let notified = steps_of(&snapshot.text)
            .take(predicted.len())
            .any(|step| step.contains("     notified "));
        let path = scenario.path.clone();
        // Its page says that stable is wrong, and this model tells of another kernel.
        let documented = scenario.finding.is_some();
        let (summary, told) = judge(vec![scenario], by_model.clone(), recorded());
        let worst = summary.worst();
        let expected = match notified {
            true => worst == Outcome::Differs,
            false => worst == Outcome::Agree || documented && worst == Outcome::NotReproduced,
        };
        assert!(expected, "{}: {told}", path.display());
    }
}

/// The text of each step: its head, and lines that begin with a space.
fn steps_of(text: &str) -> impl Iterator<Item = String> + '_ {
    let mut lines = text.lines().peekable();
    std::iter::from_fn(move || {
        let mut step = lines.next()?.to_owned();
        while let Some(line) = lines.next_if(|line| line.starts_with(' ')) {
            step.push('\n');
            step.push_str(line);
        }
        Some(step)
    })
}

fn snapshot_files(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            snapshot_files(&path, found);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "snap")
        {
            found.insert(path.canonicalize().expect("a path"));
        }
    }
}

#[test]
fn every_snapshot_has_its_scenario() {
    let mut files = BTreeSet::new();
    snapshot_files(&root().join("snapshots"), &mut files);
    for scenario in all_scenarios() {
        for set in [Set::Stable, Set::Other("next".to_owned())] {
            let place = SnapshotPath::of(&scenario.path, &set).expect("in scenarios/");
            files.remove(&place.accepted);
        }
    }
    assert!(files.is_empty(), "of no scenario: {files:?}");
}

#[test]
fn snapshots_are_what_insta_takes_for_snapshots() {
    for scenario in kept() {
        let Some(snapshot) = of_stable(&scenario) else {
            continue;
        };
        let place = SnapshotPath::of(&scenario.path, &Set::Stable).expect("in scenarios/");
        assert_eq!(Snapshot::parse(&snapshot.print()).as_ref(), Ok(&snapshot));

        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(place.accepted.parent().expect("a folder"));
        settings.set_prepend_module_to_snapshot(false);
        let name = place
            .accepted
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        settings.bind(|| insta::assert_snapshot!(name, snapshot.text));
    }
}
