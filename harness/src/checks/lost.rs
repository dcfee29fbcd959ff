// SPDX-License-Identifier: GPL-2.0-only
//! Which pages lost their mapping, a right or their frame in a step, by the model, and which of
//! them secondary MMUs were not notified of: what several checks judge by.

use super::case::Case;
use crate::finding::{Side, Uncovered};
use crate::observe::{Observation, ObservedCall, ObservedStep, told};
use crate::scenario::{KnownFinding, Scenario};
use crate::steps::is_access;
use operations::{PAGE_SIZE, Step};
use reference_model::{Entry, MmId, Prediction, Range, StepPrediction, StepResult};

/// Pages that were lost and of which secondary MMUs were not notified.
pub(super) struct Lost {
    /// In steps up to which the kernel did what the model expects.
    pub(super) certain: Vec<Uncovered>,
    /// After that.
    pub(super) supposed: Vec<Uncovered>,
}

/// None where nothing is predicted.
pub(super) fn lost(case: &Case<'_>) -> Option<Lost> {
    let prediction = case.prediction?;
    // A kernel without the patch promises nothing: there is no promise to break.
    let sides: &[Side] = match case.profile.notifies_secondary {
        true => &[Side::Model, Side::Kernel],
        false => &[],
    };
    let observation = &case.observed.observation;
    let same = same_steps(case.scenario, prediction, observation);
    // Which of the steps that were begun together took what is not known.
    let alone = |lost: &Uncovered| case.scenario.program.group_of(lost.step).is_none();
    let uncovered = uncovered(prediction, observation, sides).into_iter();
    let uncovered = uncovered.filter(alone);
    let (certain, supposed) = uncovered.partition(|lost| lost.step < same);
    Some(Lost { certain, supposed })
}

/// How many steps, from the first on, both sides did the same in: what they came to, and
/// which functions of `tlbflush.c` they called, with which arguments. What followed these
/// calls is not looked at.
pub fn same_steps(
    scenario: &Scenario,
    prediction: &Prediction,
    observation: &Observation,
) -> usize {
    let steps = prediction.steps.iter().zip(&observation.steps);
    let steps = steps.zip(&scenario.program.steps);
    let same = |(number, ((predicted, observed), step)): &(usize, Both<'_>)| {
        let access = is_access(&step.op) || matches!(observed.result, StepResult::Saw { .. });
        let expected = predicted.calls.iter().map(|call| (call.mm, call.entry));
        let made = observed.calls.iter().filter_map(called);
        // Calls of steps that were begun together come in no order.
        let together = scenario.program.group_of(*number).is_some();
        let same = access || predicted.result == observed.result;
        same && (together || expected.eq(made))
    };
    steps.enumerate().take_while(same).count()
}

/// A step by both sides, and the step itself.
type Both<'a> = ((&'a StepPrediction, &'a ObservedStep), &'a Step);

/// A call, where it is one into `tlbflush.c` for the scenario's mms.
pub fn called(call: &ObservedCall) -> Option<(Option<MmId>, Entry)> {
    let entry = call.entry?;
    let ours = call.mm.is_some() || entry == Entry::ArchTlbbatchFlush;
    ours.then_some((call.mm, entry))
}

/// What the model expects secondary MMUs to be notified of in a step, of which mm.
pub fn model_told(step: &StepPrediction) -> Vec<(Option<MmId>, Range)> {
    let calls = step.calls.iter();
    calls
        .flat_map(|call| told(call.mm, Some(call.entry), &call.effects))
        .collect()
}

/// All pages that lost something, not notified by the sides given.
pub fn uncovered(
    prediction: &Prediction,
    observation: &Observation,
    sides: &[Side],
) -> Vec<Uncovered> {
    let mut found = Vec::new();
    let steps = prediction.steps.iter().enumerate();
    for (step, predicted) in steps.take(observation.steps.len()) {
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

/// What is known of this kernel in this scenario.
pub(super) fn documented<'a>(case: &Case<'a>) -> Option<&'a KnownFinding> {
    let finding = case.scenario.finding.as_ref()?;
    let of_it = finding.kernels.iter().any(|kernel| kernel == case.kernel);
    of_it.then_some(finding)
}

/// Whether the kernel is wrong as is known of it.
pub(super) fn is_met(case: &Case<'_>, certain: &[Uncovered]) -> bool {
    let by_kernel = |lost: &Uncovered| lost.side == Side::Kernel;
    documented(case).is_some() && certain.iter().any(by_kernel)
}
