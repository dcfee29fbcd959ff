// SPDX-License-Identifier: GPL-2.0-only
//! From a scenario to its verdict: the whole way of the data, top to bottom.

use crate::backend::Backend;
use crate::checks::variation::Results;
use crate::checks::{self, Case, Chosen};
use crate::convert::to_model;
use crate::finding::Finding;
use crate::layer1::Layer1;
use crate::reading::Reading;
use crate::scenario::Scenario;
use crate::snapshot::Set;
use crate::together;
use crate::verdict::Verdict;
use reference_model::{Machine, Prediction, Profile, Tables, predict, predict_tables, tlbflush};
use std::sync::Arc;
use std::time::Instant;

/// What a scenario is judged by.
#[derive(Clone, Debug)]
pub struct Judge {
    /// The model's kernel.
    pub profile: &'static Profile,
    /// Whether that was read for the kernel's release.
    pub reading: Reading,
    /// By which checks.
    pub checks: Chosen,
    /// How often each scenario is run.
    pub repeat: u32,
    /// Which accepted snapshots observations are compared with, and proposed for
    /// where they differ; none for no comparison.
    pub snapshots: Option<Set>,
    /// The kernel's name.
    pub kernel: String,
}

impl Judge {
    /// Runs a scenario, once or repeatedly, and says what it came to.
    pub fn judge(&self, scenario: &Arc<Scenario>, backend: &mut dyn Backend) -> Verdict {
        let mut runs = Runs::default();
        loop {
            let verdict = self.judge_once(scenario, backend);
            if let Some(verdict) = runs.add(verdict, self.repeat) {
                return verdict;
            }
        }
    }

    /// Runs a scenario once.
    pub fn judge_once(&self, scenario: &Arc<Scenario>, backend: &mut dyn Backend) -> Verdict {
        let begin = Instant::now();
        let mut verdict = Verdict::new(scenario);
        if let Err(finding) = self.run(scenario, backend, &mut verdict) {
            verdict.findings.push(finding);
        }
        verdict.elapsed = begin.elapsed();
        verdict
    }

    /// The pipeline.
    fn run(
        &self,
        scenario: &Scenario,
        backend: &mut dyn Backend,
        verdict: &mut Verdict,
    ) -> Result<(), Finding> {
        let subject = backend.prepare(scenario)?;
        let mut tables = None;
        let ordered = !scenario.program.groups.is_empty();
        if self.checks.predict() && !ordered {
            let expected = expect_tables(self.profile, &subject.machine, scenario);
            verdict.prediction = Some(expected.0);
            tables = Some(expected.1);
        }
        let replay = |entry: &_, context: &_| {
            tlbflush::replay(self.profile, &subject.machine, entry, context)
        };
        let layer1 = Layer1::new(&replay, online(&subject.machine));
        let observed = backend.observe(scenario, layer1)?;
        if self.checks.predict() && ordered {
            let (prediction, held, orders) =
                together::choose(self.profile, &subject.machine, scenario, &observed);
            verdict.orders = together::named(scenario, &orders);
            verdict.prediction = Some(prediction);
            tables = Some(held);
        }
        let case = Case {
            scenario,
            subject: &subject,
            kernel: &self.kernel,
            profile: self.profile,
            reading: &self.reading,
            prediction: verdict.prediction.as_ref(),
            tables: tables.as_ref(),
            observed: &observed,
            snapshots: self.snapshots.as_ref(),
        };
        let (findings, checks) = checks::judge(&case, &self.checks);
        verdict.findings = findings;
        verdict.checks = checks;
        verdict.checked = observed.layer1.checked;
        verdict.observation = Some(observed.observation);
        verdict.callers = observed.callers;
        Ok(())
    }
}

/// `cpu_online_mask` of a machine.
pub fn online(machine: &Machine) -> u64 {
    1u64.checked_shl(machine.harts)
        .map_or(u64::MAX, |bit| bit - 1)
}

/// The runs of one scenario, until there are as many as were asked for.
#[derive(Default)]
pub struct Runs {
    worst: Option<Verdict>,
    results: Results,
    ended: bool,
}

impl Runs {
    /// One more. The verdict of all of them, if it was the last of so many: what could not
    /// be observed is not repeated.
    pub fn add(&mut self, verdict: Verdict, repeat: u32) -> Option<Verdict> {
        // Another worker was still at it.
        if self.ended {
            return None;
        }
        let observed = verdict.observation.is_some();
        self.results.count(&verdict);
        let mut verdict = match self.worst.take() {
            Some(worst) => worse(worst, verdict),
            None => verdict,
        };
        if observed && verdict.runs < repeat {
            self.worst = Some(verdict);
            return None;
        }
        self.ended = true;
        let results = std::mem::take(&mut self.results);
        verdict.findings.extend(results.variation());
        Some(verdict)
    }

    /// Whether there is nothing more to run.
    pub fn ended(&self) -> bool {
        self.ended
    }
}

/// Two runs in one: the worse of them, and that there were both.
fn worse(one: Verdict, other: Verdict) -> Verdict {
    let (runs, checked) = (one.runs + other.runs, one.checked + other.checked);
    let elapsed = one.elapsed + other.elapsed;
    let orders = together::both(&one.orders, &other.orders);
    let worse = if other.outcome() > one.outcome() {
        other
    } else {
        one
    };
    Verdict {
        runs,
        checked,
        elapsed,
        orders,
        ..worse
    }
}

/// What the model expects of a scenario, without any kernel.
pub fn expect(profile: &Profile, machine: &Machine, scenario: &Scenario) -> Prediction {
    predict(profile, machine, &to_model(scenario))
}

/// The same, with what page tables hold after each step.
pub fn expect_tables(
    profile: &Profile,
    machine: &Machine,
    scenario: &Scenario,
) -> (Prediction, Tables) {
    predict_tables(profile, machine, &to_model(scenario))
}
