// SPDX-License-Identifier: GPL-2.0-only
//! From a scenario to its verdict: the whole way of the data, top to bottom.

use crate::backend::{Backend, Observed, Subject};
use crate::convert::to_model;
use crate::diff::{self, Diff, Side, Uncovered, diff, diff_texts};
use crate::layer1::Layer1;
use crate::observe::Observation;
use crate::reading::{Hint, Reading};
use crate::scenario::Scenario;
use crate::snapshot::{Header, Info, MachineInfo, Place, Set, Snapshot};
use crate::text::{self, StepText, Text};
use crate::verdict::{Finding, Verdict};
use reference_model::{Machine, Prediction, Profile, predict, tlbflush};
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// What a scenario is judged by.
#[derive(Clone, Debug)]
pub struct Judge {
    /// The model's kernel.
    pub profile: &'static Profile,
    /// Whether that was read for the kernel's release.
    pub reading: Reading,
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
        self.expect_known(&mut verdict);
        self.accuse_no_other_release(&mut verdict);
        verdict.elapsed = begin.elapsed();
        verdict
    }

    /// Where the kernel is known to be wrong, being so is what is expected of it.
    fn expect_known(&self, verdict: &mut Verdict) {
        let Some(finding) = &verdict.scenario.finding else {
            return;
        };
        if !finding.kernels.contains(&self.kernel) || verdict.observation.is_none() {
            return;
        }
        let page = finding.page.clone();
        let kernels = |uncovered: &Uncovered| uncovered.side == Side::Kernel;
        for found in &mut verdict.findings {
            if let Finding::Unsafe(uncovered) = found
                && uncovered.iter().any(kernels)
            {
                let uncovered = std::mem::take(uncovered);
                *found = Finding::Known { page, uncovered };
                return;
            }
        }
        // What may not have been told may be what is known, and where nothing is predicted
        // nothing can be said.
        let supposed = |finding: &Finding| matches!(finding, Finding::Supposed { .. });
        if verdict.unpredicted().is_none() && !verdict.findings.iter().any(supposed) {
            verdict.findings.push(Finding::Gone { page });
        }
    }

    /// What a model that was not read for a release says of the steps is no accusation.
    fn accuse_no_other_release(&self, verdict: &mut Verdict) {
        if matches!(self.reading, Reading::Read) {
            return;
        }
        let scenario = Arc::clone(&verdict.scenario);
        for finding in &mut verdict.findings {
            match finding {
                Finding::Layer2(diff) => {
                    let diff = std::mem::take(diff);
                    let hints = self.hints(&scenario, &diff);
                    *finding = Finding::NotRead { diff, hints };
                }
                Finding::Unsafe(uncovered) | Finding::Supposed { uncovered, .. } => {
                    let uncovered = std::mem::take(uncovered);
                    let read = false;
                    *finding = Finding::Supposed { uncovered, read };
                }
                _ => {}
            }
        }
    }

    fn hints(&self, scenario: &Scenario, diff: &Diff) -> Vec<Hint> {
        let program = to_model(scenario);
        let steps = diff.steps.iter().map(|step| program.steps.get(step.step));
        steps
            .map(|step| step.and_then(|step| self.reading.hint(&step.op)))
            .map(Option::unwrap_or_default)
            .collect()
    }

    /// The pipeline.
    fn run(
        &self,
        scenario: &Scenario,
        backend: &mut dyn Backend,
        verdict: &mut Verdict,
    ) -> Result<(), Finding> {
        let subject = backend.prepare(scenario)?;
        let prediction =
            verdict
                .prediction
                .insert(predict(self.profile, &subject.machine, &to_model(scenario)));
        let replay = |entry: &_, context: &_| {
            tlbflush::replay(self.profile, &subject.machine, entry, context)
        };
        let layer1 = Layer1::new(&replay, online(&subject.machine));
        let Observed {
            observation,
            layer1,
            findings,
        } = backend.observe(scenario, layer1)?;
        verdict.checked = layer1.checked;
        verdict.findings.extend(findings);
        if !layer1.differences.is_empty() {
            verdict.findings.push(Finding::Layer1(layer1));
        }
        let diff = diff(scenario, prediction, &observation);
        if !diff.steps.is_empty() {
            verdict.findings.push(Finding::Layer2(diff));
        }
        let uncovered = diff::uncovered(prediction, &observation, self.sides());
        let same = diff::same_steps(prediction, &observation);
        verdict.findings.extend(accusation(uncovered, same));
        if let Some(set) = &self.snapshots {
            verdict
                .findings
                .extend(compare_snapshot(scenario, set, &subject, &observation)?);
        }
        verdict.observation = Some(observation);
        Ok(())
    }

    /// A kernel without the patch promises secondary MMUs nothing: there is no promise to break.
    fn sides(&self) -> &'static [Side] {
        if self.profile.notifies_secondary {
            &[Side::Model, Side::Kernel]
        } else {
            &[]
        }
    }
}

/// What was lost is known from the model. It speaks for the kernel as long as that did the
/// same, step by step; behind that it is a hint, and no kernel is accused on its word.
fn accusation(uncovered: Vec<Uncovered>, same: usize) -> Vec<Finding> {
    let (known, supposed): (Vec<Uncovered>, Vec<Uncovered>) =
        uncovered.into_iter().partition(|lost| lost.step < same);
    let mut findings = Vec::new();
    if !known.is_empty() {
        findings.push(Finding::Unsafe(known));
    }
    if !supposed.is_empty() {
        findings.push(Finding::Supposed {
            uncovered: supposed,
            read: true,
        });
    }
    findings
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
    let worse = if other.outcome() > one.outcome() {
        other
    } else {
        one
    };
    Verdict {
        runs,
        checked,
        elapsed,
        ..worse
    }
}

/// The different results of repeated runs, and how often each came.
#[derive(Default)]
struct Results {
    seen: Vec<(Text, u32)>,
}

impl Results {
    fn count(&mut self, verdict: &Verdict) {
        let Some(observation) = &verdict.observation else {
            return;
        };
        let text = text::of_observation(&verdict.scenario, observation);
        match self.seen.iter_mut().find(|seen| seen.0 == text) {
            Some(seen) => seen.1 += 1,
            None => self.seen.push((text, 1)),
        }
    }

    fn variation(mut self) -> Option<Finding> {
        self.seen.sort_by_key(|seen| std::cmp::Reverse(seen.1));
        let [first, second, ..] = &self.seen[..] else {
            return None;
        };
        let diff = diff_texts(&first.0, &second.0);
        Some(Finding::Varies {
            counts: self.seen.iter().map(|seen| seen.1).collect(),
            diff,
        })
    }
}

/// Compares with the accepted snapshot; what differs is proposed beside it.
fn compare_snapshot(
    scenario: &Scenario,
    set: &Set,
    subject: &Subject,
    observation: &Observation,
) -> Result<Option<Finding>, Finding> {
    let Some(place) = Place::of(&scenario.path, set) else {
        return Ok(None);
    };
    let failed = |error: io::Error| Finding::CouldNotRun {
        why: format!("its snapshot: {error}"),
    };
    let told = text::of_observation(scenario, observation);
    let accepted = place.read().map_err(failed)?;
    // A snapshot speaks of machines like its own; without one, of the usual.
    let machine = accepted
        .as_ref()
        .map_or_else(MachineInfo::default, |accepted| {
            accepted.header.info.machine.clone()
        });
    if !machine.is_like(&MachineInfo::from(&subject.machine)) {
        return Ok(None);
    }
    if accepted
        .as_ref()
        .is_some_and(|accepted| accepted.says(&told.to_string()))
    {
        place.withdraw().map_err(failed)?;
        return Ok(None);
    }
    place
        .propose(&snapshot(scenario, subject, &place, &told))
        .map_err(failed)?;
    let pending = Some(place.pending());
    Ok(Some(match accepted {
        Some(accepted) => {
            let diff = diff_texts(&as_text(&accepted.text), &told);
            Finding::SnapshotChanged { diff, pending }
        }
        None => Finding::SnapshotNew { pending },
    }))
}

fn snapshot(scenario: &Scenario, subject: &Subject, place: &Place, told: &Text) -> Snapshot {
    let info = Info {
        scenario: place.scenario.clone(),
        kernel: subject.kernel.clone(),
        machine: MachineInfo::from(&subject.machine),
    };
    let header = Header {
        source: file!().to_owned(),
        description: scenario.about.clone(),
        info,
        input_file: place.scenario.clone(),
    };
    Snapshot {
        header,
        text: told.to_string(),
    }
}

/// Accepted text step by step, whatever steps it is of.
fn as_text(accepted: &str) -> Text {
    let mut text = Text::default();
    for line in accepted.trim_end().lines() {
        match text.steps.last_mut() {
            Some(step) if line.starts_with(' ') => step.lines.push(line.to_owned()),
            _ => text.steps.push(StepText {
                head: line.to_owned(),
                lines: Vec::new(),
            }),
        }
    }
    text
}

/// What the model expects of a scenario, without any kernel.
pub fn expect(profile: &Profile, machine: &Machine, scenario: &Scenario) -> Prediction {
    predict(profile, machine, &to_model(scenario))
}
