// SPDX-License-Identifier: GPL-2.0-only
//! Every scenario on a real kernel, against the model and the accepted snapshots.
//!
//! A machine on which no guest can be run fails these tests: run `./vm/provision`.

mod common;

use common::{Known, all, all_scenarios, judge, judge_and_see, root};
use reference_model::Profile;
use std::sync::Arc;
use std::time::Duration;
use tlbdiff::backend::guest::{GuestBackend, Settings};
use tlbdiff::checks::Chosen;
use tlbdiff::judge::Judge;
use tlbdiff::outcome::Outcome;
use tlbdiff::paths::{Accepted, Reasons, Ways};
use tlbdiff::reading::{Nearest, Reading};
use tlbdiff::run::MakeBackend;
use tlbdiff::scenario::Scenario;
use tlbdiff::snapshot::Set;
use vm::{Artifacts, KernelChoice};

fn artifacts() -> Artifacts {
    let artifacts = vm::locate(&KernelChoice::Named("stable".to_owned()));
    artifacts.unwrap_or_else(|error| panic!("{error}"))
}

fn guest() -> Arc<MakeBackend> {
    let settings = Settings {
        artifacts: artifacts(),
        harts: None,
        acted_on: 0,
        memory_mib: 512,
        cpu: vm::guest::CpuFeatures::default(),
        timeout: Duration::from_secs(30),
        restore: true,
        sabotage: None,
        buffer_records: 0,
        eager: false,
        iommu: None,
        counted: false,
    };
    Arc::new(move |sender, stop| Box::new(GuestBackend::new(settings.clone(), sender, stop)))
}

fn below(folder: &str) -> Vec<Arc<Scenario>> {
    let folder = root().join("scenarios").join(folder);
    all_scenarios()
        .into_iter()
        .filter(|scenario| scenario.path.starts_with(&folder))
        .collect()
}

#[test]
fn kernel_model_and_snapshots_agree_on_every_scenario() {
    let by = Judge {
        checks: Chosen::default(),
        profile: &Profile::STABLE,
        reading: Reading::Read,
        repeat: 1,
        snapshots: Some(Set::Stable),
        kernel: "stable".to_owned(),
    };
    let artifacts = artifacts();
    let reasons = Reasons::own().expect("well-formed");
    let ways = Ways::of(&artifacts, &reasons).expect("an image");
    let mut table = ways.table();
    let mut known = Known::default();
    let (summary, told) = judge_and_see(all_scenarios(), by, guest(), &mut |verdict| {
        table.add(&ways, &verdict.scenario.name, &verdict.callers);
        known.add(verdict);
    });
    assert!(summary.worst() <= Outcome::Known, "{told}");
    // What findings document of stable is seen, and nowhere else.
    insta::assert_snapshot!("known", known.text());
    assert!(summary.checked > 0, "layer 1 saw nothing");
    // Each way into tlbflush.c that had a scenario has one: the same run tells.
    let path = Accepted::path(&root(), "stable");
    let accepted = Accepted::read(&path).expect("a table").expect("accepted");
    let outdated = accepted.outdated(&table, &artifacts.compiler());
    assert!(
        outdated.is_none(),
        "{}if that is right: tlbdiff list --paths --accept scenarios/",
        outdated.text()
    );
    // What is said of who called goes back to where the kernel was entered, always.
    assert!(table.broken.is_empty(), "{:#?}", table.broken);
}

#[test]
fn a_model_without_the_patch_differs_from_a_kernel_with_it() {
    let by = Judge {
        checks: Chosen::default(),
        profile: &Profile::PREPATCH,
        reading: Reading::Read,
        repeat: 1,
        snapshots: None,
        kernel: "stable".to_owned(),
    };
    let (summary, told) = judge(below("munmap"), by, guest());
    assert_eq!(summary.worst(), Outcome::Differs, "{told}");
    assert!(told.contains("layer 1 differs"), "{told}");
    assert!(told.contains("+      notified ["), "{told}");
}

/// Layer 1 goes by the form of tlbflush.c and not by the release, so that what it finds is a
/// difference; what only the model of the steps says is none.
#[test]
fn a_model_that_was_not_read_for_a_release_finds_in_layer_1_what_it_is() {
    let worst = |profile, name: &str| {
        let sources = Err("no source".to_owned());
        let nearest = Nearest::new("6.13".to_owned(), "6.12".to_owned(), sources);
        let by = Judge {
            checks: Chosen::default(),
            profile,
            reading: Reading::NotRead(Arc::new(nearest)),
            repeat: 1,
            snapshots: None,
            kernel: "stable".to_owned(),
        };
        let path = root().join("scenarios").join(name);
        let scenarios = all_scenarios().into_iter();
        let one = scenarios.filter(|scenario| scenario.path == path);
        let (summary, told) = judge(one.collect(), by, guest());
        (summary.worst(), told)
    };
    let (outcome, told) = worst(&Profile::PREPATCH, "munmap/middle.yaml");
    assert_eq!(outcome, Outcome::Differs, "{told}");
    assert!(told.contains("layer 1 differs"), "{told}");
    let name = "madvise/guard-install-unknown.yaml";
    let (outcome, told) = worst(&Profile::NEXT, name);
    assert_eq!(outcome, Outcome::ModelNotRead, "{told}");
    assert!(
        told.contains("what changed since 6.12 is not known: no source"),
        "{told}"
    );
    let (outcome, told) = worst(&Profile::STABLE, name);
    assert_eq!(outcome, Outcome::Agree, "{told}");
}

#[test]
fn results_do_not_vary() {
    let by = Judge {
        checks: Chosen::default(),
        profile: &Profile::STABLE,
        reading: Reading::Read,
        repeat: 5,
        snapshots: None,
        kernel: "stable".to_owned(),
    };
    let (summary, told) = judge(below("reclaim"), by, guest());
    assert!(all(&summary, Outcome::Agree), "{told}");
}
