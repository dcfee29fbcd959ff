// SPDX-License-Identifier: GPL-2.0-only
//! Whether the steps did what the model of the mm core expects: their results, their calls into
//! `tlbflush.c` with the arguments, and what followed.

use super::case::{Case, Check};
use crate::convert::to_model;
use crate::diff::{Diff, StepDiff, diff};
use crate::finding::{Block, Finding, Sides};
use crate::outcome::Outcome;
use crate::reading::Hint;
use crate::scenario::describe::operation;
use crate::steps::{Expected, Seen, StepCall, without_accesses, without_order};
use crate::text;

pub(super) const CHECK: Check = Check {
    name: "layer2",
    predicts: true,
    judge,
};

fn judge(case: &Case<'_>) -> Option<Vec<Finding>> {
    let prediction = case.prediction?;
    let mut expected = Expected::of_prediction(prediction);
    let mut seen = Seen::of(&case.observed.observation);
    if prediction.unpredicted.is_some() {
        seen.0.truncate(expected.0.len());
    }
    without_accesses(&mut expected.0, case.scenario);
    without_accesses(&mut seen.0, case.scenario);
    without_order(&mut expected.0, case.scenario);
    without_order(&mut seen.0, case.scenario);
    let diff = diff(&expected, &seen);
    if diff.steps.is_empty() {
        return Some(Vec::new());
    }
    let layer1 = &case.observed.layer1;
    let whose = match layer1.checked {
        0 => "layer 2 differs (layer 1 had no call into tlbflush.c to check)",
        _ if !layer1.differences.is_empty() => "layer 2 differs, maybe only because layer 1 does",
        _ => "layer 2 differs, layer 1 agrees: the mm core, or the model of it",
    };
    let hints = hints(case, &diff);
    let cause = diff.steps.first().map(|step| cause(case, step));
    let finding = match case.reading.releases() {
        None => Finding::new(CHECK.name, Outcome::Differs, whose),
        Some([release, nearest]) => {
            let not_read = format!(
                "the model was not read for Linux {release} but for {nearest}: what changed since may be right"
            );
            Finding::new(CHECK.name, Outcome::ModelNotRead, whose)
                .with(Block::Text(vec![not_read]))
        }
    }
    .because(cause);
    let sides = Sides::ModelKernel;
    Some(vec![finding.with(Block::Steps { sides, diff, hints })])
}

/// What may explain each step, where the model was not read for the release.
fn hints(case: &Case<'_>, diff: &Diff) -> Vec<Hint> {
    let program = to_model(case.scenario);
    let steps = diff.steps.iter();
    steps
        .filter_map(|step| program.steps.get(step.step))
        .filter_map(|step| case.reading.hint(&step.op))
        .collect()
}

/// The first call of a step that differs, and how.
fn cause(case: &Case<'_>, differs: &StepDiff) -> String {
    let step = case.scenario.program.steps.get(differs.step);
    let operation = step.map_or_else(
        || "no such step".to_owned(),
        |step| operation(case.scenario, &step.op),
    );
    let (Some(expected), Some(seen)) = (&differs.expected, &differs.seen) else {
        return format!("layer 2: {operation}: a step is missing");
    };
    let same = |(one, other): &(&StepCall, &StepCall)| one == other;
    let pairs = expected.calls.iter().zip(&seen.calls);
    let first = pairs.take_while(same).count();
    let function = |call: &StepCall| {
        let call = call
            .entry
            .map_or_else(|| text::NO_CALL.to_owned(), text::entry);
        call.split(' ').next().unwrap_or_default().to_owned()
    };
    let what = match (expected.calls.get(first), seen.calls.get(first)) {
        (None, None) => format!(
            "{} in place of {}",
            result(seen.result),
            result(expected.result)
        ),
        (Some(missing), None) => format!("no {}()", function(missing)),
        (None, Some(extra)) => format!("{}() too many", function(extra)),
        // Whatever the step: it is after the call that they part.
        (Some(one), Some(other)) if one.entry == other.entry && one.mm == other.mm => {
            let function = function(other);
            return format!("layer 2: other notifications or fences after {function}()");
        }
        (Some(one), Some(other)) if function(one) == function(other) => {
            format!("{}() with other arguments", function(other))
        }
        (Some(one), Some(other)) => {
            format!("{}() in place of {}()", function(other), function(one))
        }
    };
    format!("layer 2: {operation}: {what}")
}

/// A result without the page, which is the scenario's.
fn result(result: reference_model::StepResult) -> String {
    let text = text::result(result);
    text.split(" at ").next().unwrap_or_default().to_owned()
}
