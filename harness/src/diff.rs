// SPDX-License-Identifier: GPL-2.0-only
//! Layer 2: what the model expects of a scenario's steps against what a kernel did. Pure.

use crate::observe::{Observation, ObservedCall, ObservedStep, told};
use crate::scenario::Scenario;
use crate::text::{self, Fences, StepText, Text};
use protocol::PAGE_SIZE;
use reference_model::{Entry, MmId, Prediction, Range, StepPrediction};

/// The steps on which the two sides disagree; empty where they agree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// In order.
    pub steps: Vec<StepDiff>,
}

/// A step on which the two sides disagree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepDiff {
    /// Which, from 0.
    pub step: usize,
    /// What the first side says; none where it has no such step.
    pub expected: Option<StepText>,
    /// What the second side says; none where it has no such step.
    pub told: Option<StepText>,
}

/// Compares the model with a kernel: results, calls with their arguments, notifications, in
/// order. Steps that the model does not speak for are not compared.
pub fn diff(scenario: &Scenario, prediction: &Prediction, observation: &Observation) -> Diff {
    let expected = text::of_prediction(scenario, prediction, Fences::Observable);
    let mut told = text::of_observation(scenario, observation);
    if prediction.unpredicted.is_some() {
        told.steps.truncate(expected.steps.len());
    }
    diff_texts(&expected, &told)
}

/// Compares two texts step by step.
pub fn diff_texts(expected: &Text, told: &Text) -> Diff {
    let steps = (0..expected.steps.len().max(told.steps.len())).filter_map(|step| {
        let (expected, told) = (expected.steps.get(step), told.steps.get(step));
        let (expected, told) = (expected.cloned(), told.cloned());
        (expected != told).then_some(StepDiff {
            step,
            expected,
            told,
        })
    });
    Diff {
        steps: steps.collect(),
    }
}

/// How many steps, from the first on, both sides did the same in: what they came to, and
/// which functions of `tlbflush.c` they called, with which arguments. What followed these
/// calls is not looked at.
pub fn same_steps(prediction: &Prediction, observation: &Observation) -> usize {
    let steps = prediction.steps.iter().zip(&observation.steps);
    let same = |(predicted, observed): &(&StepPrediction, &ObservedStep)| {
        let expected = predicted.calls.iter().map(|call| (call.mm, call.entry));
        let made = observed.calls.iter().filter_map(called);
        predicted.result == observed.result && expected.eq(made)
    };
    steps.take_while(same).count()
}

/// A call, where it is one into `tlbflush.c` for the scenario's mms.
fn called(call: &ObservedCall) -> Option<(Option<MmId>, Entry)> {
    let entry = call.entry?;
    let ours = call.mm.is_some() || entry == Entry::ArchTlbbatchFlush;
    ours.then_some((call.mm, entry))
}

/// Which side failed to tell of pages that lost something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The model told of too little.
    Model,
    /// The kernel told of too little.
    Kernel,
}

/// Pages that lost their mapping, a right or their frame in a step, by the model, and of which
/// secondary MMUs were not told in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uncovered {
    /// Which side.
    pub side: Side,
    /// Which step, from 0.
    pub step: usize,
    /// Of which mm.
    pub mm: usize,
    /// The pages, in bytes.
    pub pages: Range,
}

/// What the model expects secondary MMUs to be told in a step, of which mm.
pub fn model_told(step: &StepPrediction) -> Vec<(Option<MmId>, Range)> {
    let calls = step.calls.iter();
    calls
        .flat_map(|call| told(call.mm, Some(call.entry), &call.effects))
        .collect()
}

/// All pages that lost something untold, on the sides given.
pub fn uncovered(
    prediction: &Prediction,
    observation: &Observation,
    sides: &[Side],
) -> Vec<Uncovered> {
    let mut found = Vec::new();
    for (step, predicted) in prediction
        .steps
        .iter()
        .enumerate()
        .take(observation.steps.len())
    {
        for &side in sides {
            let told = match side {
                Side::Model => model_told(predicted),
                Side::Kernel => observation.told(step),
            };
            for &(mm, lost) in &predicted.lost {
                let told = told.iter().filter(|(of, _)| *of == Some(mm));
                let told: Vec<Range> = told.map(|(_, range)| *range).collect();
                let missing = subtract(lost, &told).into_iter();
                found.extend(missing.map(|pages| Uncovered {
                    side,
                    step,
                    mm,
                    pages,
                }));
            }
        }
    }
    found
}

/// What is left of a range without the pages that others cover whole.
fn subtract(range: Range, covers: &[Range]) -> Vec<Range> {
    let mut left = vec![range];
    for cover in covers {
        // A notification for a part of a page does not speak for the page.
        let start = cover
            .start
            .checked_next_multiple_of(PAGE_SIZE)
            .unwrap_or(u64::MAX);
        let end = if cover.end == u64::MAX {
            cover.end
        } else {
            cover.end - cover.end % PAGE_SIZE
        };
        let cut = |piece: &Range| {
            let before = Range {
                start: piece.start,
                end: piece.end.min(start),
            };
            let after = Range {
                start: piece.start.max(end),
                end: piece.end,
            };
            match start < end {
                true => vec![before, after],
                false => vec![*piece],
            }
        };
        left = left
            .iter()
            .flat_map(cut)
            .filter(|piece| piece.start < piece.end)
            .collect();
    }
    left
}
