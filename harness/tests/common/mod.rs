// SPDX-License-Identifier: GPL-2.0-only
//! What several tests need.
#![allow(dead_code, reason = "each test uses a part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use tlbdiff::backend::recorded::Recorded;
use tlbdiff::event::{Event, Reporter, Start, Summary};
use tlbdiff::judge::Judge;
use tlbdiff::outcome::Outcome;
use tlbdiff::report::human::Human;
use tlbdiff::report::style::Style;
use tlbdiff::run::{MakeBackend, Run, messages};
use tlbdiff::scenario::{Scenario, find};
use tlbdiff::snapshot::Set;
use tlbdiff::verdict::Verdict;

/// The checkout.
pub fn root() -> PathBuf {
    let harness = Path::new(env!("CARGO_MANIFEST_DIR"));
    harness.parent().unwrap_or(harness).to_owned()
}

/// Every scenario of the checkout.
pub fn all_scenarios() -> Vec<Arc<Scenario>> {
    let (scenarios, errors) = find::load(&[root().join("scenarios")], None);
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
    scenarios.into_iter().map(Arc::new).collect()
}

struct Seeing<'a, W: std::io::Write> {
    human: Human<W>,
    see: &'a mut dyn FnMut(&Verdict),
}

impl<W: std::io::Write> Reporter for Seeing<'_, W> {
    fn tell(&mut self, event: &Event) -> std::io::Result<()> {
        if let Event::Judged(verdict) = event {
            (self.see)(verdict);
        }
        self.human.tell(event)
    }
}

/// Judges scenarios and gives the summary, with what people would read.
pub fn judge(
    scenarios: Vec<Arc<Scenario>>,
    judge: Judge,
    backend: Arc<MakeBackend>,
) -> (Summary, String) {
    judge_and_see(scenarios, judge, backend, &mut |_| {})
}

/// The same, with each verdict shown.
pub fn judge_and_see(
    scenarios: Vec<Arc<Scenario>>,
    judge: Judge,
    backend: Arc<MakeBackend>,
    see: &mut dyn FnMut(&Verdict),
) -> (Summary, String) {
    let start = Start {
        scenarios: scenarios.len(),
        runs: 1,
        backend: "test",
        kernel: "test".to_owned(),
        profile: judge.profile.name,
        ..Start::default()
    };
    let style = Style {
        quiet: true,
        ..Style::default()
    };
    let mut text = Vec::new();
    let human = Human::new(&mut text, style);
    let mut reporter = Seeing { human, see };
    let run = Run {
        scenarios,
        judge,
        backend,
        jobs: 2,
        shuffle: None,
        start,
    };
    let (sender, receiver) = messages();
    let summary = run
        .run((&sender, &receiver), &mut reporter)
        .expect("nothing can go wrong in memory");
    drop(reporter);
    (summary, String::from_utf8(text).expect("text"))
}

/// The scenarios in which a kernel does wrong what findings document.
#[derive(Default)]
pub struct Known(Vec<String>);

impl Known {
    pub fn add(&mut self, verdict: &Verdict) {
        if verdict.outcome() == Outcome::Known {
            self.0.push(verdict.scenario.name.clone());
        }
    }

    /// A line for each, by their names.
    pub fn text(mut self) -> String {
        self.0.sort();
        self.0.join("\n")
    }
}

/// Accepted snapshots in place of a kernel.
pub fn recorded() -> Arc<MakeBackend> {
    recorded_of(Set::Stable)
}

/// Those of a kernel.
pub fn recorded_of(set: Set) -> Arc<MakeBackend> {
    Arc::new(move |_, _| Box::new(Recorded(set.clone())))
}

/// All of them came to this.
pub fn all(summary: &Summary, outcome: Outcome) -> bool {
    summary.not_run == 0 && summary.counts.keys().all(|came_to| *came_to == outcome)
}
