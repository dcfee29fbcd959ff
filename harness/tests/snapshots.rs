// SPDX-License-Identifier: GPL-2.0-only
//! The life of a snapshot: proposed, accepted, kept, changed, and varying results.

mod common;

use common::judge;
use reference_model::Profile;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;
use tlbdiff::backend::{Backend, Observed, Subject};
use tlbdiff::checks::Chosen;
use tlbdiff::finding::Finding;
use tlbdiff::judge::Judge;
use tlbdiff::layer1::Layer1;
use tlbdiff::outcome::Outcome;
use tlbdiff::parse::parse;
use tlbdiff::reading::Reading;
use tlbdiff::run::MakeBackend;
use tlbdiff::scenario::{Scenario, find};
use tlbdiff::snapshot::Set;
use tlbdiff::snapshot::Snapshot;

const STEPS: &str = "about: Middle.\nsteps:\n  - mmap: { at: 0, pages: 16 }\n  \
                     - touch: { at: 4, pages: 2, access: write }\n  - munmap: { at: 4, pages: 2 }\n";
const AS_EXPECTED: &str = "1. mmap at 0 pages 16: ok\n2. touch at 4 pages 2 write: ok\n\
                           3. munmap at 4 pages 2: ok\n   flush_tlb_mm_range [4,6) stride 4K\n     notified [4,6)\n";
const TOO_WIDE: &str = "1. mmap at 0 pages 16: ok\n2. touch at 4 pages 2 write: ok\n\
                        3. munmap at 4 pages 2: ok\n   flush_tlb_mm_range [4,7) stride 4K\n     notified [4,7)\n";

/// A kernel that does what is written, one text after the other, over and over.
struct Script {
    texts: &'static [&'static str],
    next: Arc<AtomicUsize>,
}

impl Backend for Script {
    fn prepare(&mut self, _: &Scenario) -> Result<Subject, Finding> {
        Ok(Subject {
            machine: reference_model::Machine::default(),
            kernel: "6.12.1".to_owned(),
        })
    }

    fn observe(&mut self, scenario: &Scenario, layer1: Layer1<'_>) -> Result<Observed, Finding> {
        let text = self.texts[self.next.fetch_add(1, Ordering::SeqCst) % self.texts.len()];
        let observation = parse(scenario, text).expect("a good script");
        Ok(Observed {
            observation,
            traced: false,
            callers: tlbdiff::callers::Callers::default(),
            layer1: layer1.finish(),
            device: None,
            iommu: None,
            complaints: vec![],
        })
    }
}

fn script(texts: &'static [&'static str]) -> Arc<MakeBackend> {
    let next = Arc::new(AtomicUsize::new(0));
    Arc::new(move |_, _| {
        Box::new(Script {
            texts,
            next: Arc::clone(&next),
        })
    })
}

struct Checkout {
    folder: TempDir,
}

impl Checkout {
    fn new() -> Checkout {
        let folder = TempDir::new().expect("a folder");
        fs::create_dir_all(folder.path().join("scenarios/munmap")).expect("a folder");
        fs::write(folder.path().join("scenarios/munmap/middle.yaml"), STEPS).expect("a file");
        Checkout { folder }
    }

    fn run(&self, texts: &'static [&'static str], repeat: u32) -> (Outcome, String) {
        let (scenarios, errors) = find::load(&[self.folder.path().join("scenarios")], None);
        assert_eq!(errors, []);
        let scenarios = scenarios.into_iter().map(Arc::new).collect();
        let by = Judge {
            checks: Chosen::default(),
            profile: &Profile::STABLE,
            reading: Reading::Read,
            repeat,
            snapshots: Some(Set::Stable),
            kernel: "stable".to_owned(),
        };
        let (summary, told) = judge(scenarios, by, script(texts));
        (summary.worst(), told)
    }

    fn accepted(&self) -> PathBuf {
        self.folder
            .path()
            .canonicalize()
            .expect("a path")
            .join("snapshots/munmap/middle.snap")
    }

    fn pending(&self) -> PathBuf {
        self.accepted().with_extension("snap.new")
    }

    /// As `cargo insta accept` does.
    fn accept(&self) {
        fs::rename(self.pending(), self.accepted()).expect("a proposal");
    }
}

#[test]
fn a_new_snapshot_is_proposed_and_once_accepted_agrees() {
    let checkout = Checkout::new();
    let (outcome, told) = checkout.run(&[AS_EXPECTED], 1);
    assert_eq!(outcome, Outcome::SnapshotNew);
    assert!(told.contains("cargo insta review"), "{told}");
    let proposed = Snapshot::parse(&fs::read_to_string(checkout.pending()).expect("a file"))
        .expect("a snapshot");
    assert_eq!(proposed.text.trim_end(), AS_EXPECTED.trim_end());
    assert_eq!(
        proposed.header.info.scenario,
        "scenarios/munmap/middle.yaml"
    );
    assert_eq!(proposed.header.info.kernel, "6.12.1");
    assert_eq!(proposed.header.description, "Middle.");
    checkout.accept();
    assert_eq!(checkout.run(&[AS_EXPECTED], 1).0, Outcome::Agree);
}

#[test]
fn a_changed_snapshot_is_proposed_and_the_proposal_withdrawn_when_it_agrees_again() {
    let checkout = Checkout::new();
    checkout.run(&[AS_EXPECTED], 1);
    checkout.accept();
    let (outcome, told) = checkout.run(&[TOO_WIDE], 1);
    assert_eq!(
        outcome,
        Outcome::Differs,
        "it disagrees with the model too, which is worse"
    );
    assert!(
        told.contains("disagrees with the accepted snapshot"),
        "{told}"
    );
    assert!(
        told.contains("+    flush_tlb_mm_range [4,7) stride 4K"),
        "{told}"
    );
    assert!(checkout.pending().exists());
    assert_eq!(checkout.run(&[AS_EXPECTED], 1).0, Outcome::Agree);
    assert!(!checkout.pending().exists());
}

#[test]
fn only_the_text_counts_not_where_it_came_from() {
    let checkout = Checkout::new();
    checkout.run(&[AS_EXPECTED], 1);
    checkout.accept();
    let file = fs::read_to_string(checkout.accepted()).expect("a file");
    fs::write(checkout.accepted(), file.replace("6.12.1", "6.99.9")).expect("a file");
    assert_eq!(checkout.run(&[AS_EXPECTED], 1).0, Outcome::Agree);
}

#[test]
fn a_file_that_is_no_snapshot_makes_no_verdict() {
    let checkout = Checkout::new();
    checkout.run(&[AS_EXPECTED], 1);
    fs::write(checkout.accepted(), "something else").expect("a file");
    let (outcome, told) = checkout.run(&[AS_EXPECTED], 1);
    assert_eq!(outcome, Outcome::CouldNotRun);
    assert!(
        told.contains("middle.snap: it does not begin with `---`"),
        "{told}"
    );
}

#[test]
fn a_result_that_varies_is_reported_with_counts() {
    let checkout = Checkout::new();
    checkout.run(&[AS_EXPECTED], 1);
    checkout.accept();
    assert_eq!(checkout.run(&[AS_EXPECTED], 5).0, Outcome::Agree);
    let (outcome, told) = checkout.run(&[AS_EXPECTED, AS_EXPECTED, TOO_WIDE], 6);
    assert!(told.contains("the result varies: 4, 2 times"), "{told}");
    assert!(
        told.contains("layer 2 differs"),
        "what the worse came to: {told}"
    );
    assert_eq!(outcome, Outcome::Varies, "it does not differ in every run");
}

#[test]
fn insta_reads_what_is_proposed() {
    let checkout = Checkout::new();
    checkout.run(&[AS_EXPECTED], 1);
    checkout.accept();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(checkout.accepted().parent().expect("a folder"));
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| insta::assert_snapshot!("middle", AS_EXPECTED));
}
