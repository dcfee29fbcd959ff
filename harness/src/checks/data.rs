// SPDX-License-Identifier: GPL-2.0-only
//! Whether bytes are read where and as they were written: the plainest harm that a translation
//! can do that should be gone. Where a real IOMMU was looked into, its check says more of them.

use super::case::{Case, Check};
use crate::finding::{Block, Finding};
use crate::outcome::Outcome;
use crate::scenario::describe::describe;
use crate::steps::is_access;
use crate::text;
use operations::Op;
use reference_model::StepResult;

pub(super) const CHECK: Check = Check {
    name: "data",
    predicts: false,
    judge,
};

fn judge(case: &Case<'_>) -> Option<Vec<Finding>> {
    let mut steps = case.scenario.program.steps.iter();
    if is_of_a_device(case) || !steps.any(|step| reads(&step.op)) {
        return None;
    }
    let steps = case.scenario.program.steps.iter();
    let steps = steps.zip(&case.observed.observation.steps).enumerate();
    let of = |wanted: fn(StepResult) -> bool| -> Vec<String> {
        let wrong = steps
            .clone()
            .filter(|(_, (step, seen))| reads(&step.op) && wanted(seen.result));
        let told = wrong.map(|(number, (step, seen))| {
            let described = describe(case.scenario, step);
            let result = text::result(seen.result);
            format!("step {}. {described}: {result}", number + 1)
        });
        told.collect()
    };
    let others = of(|result| matches!(result, StepResult::Saw { .. }));
    let refused = of(|result| {
        !matches!(
            result,
            StepResult::Ok | StepResult::Saw { .. } | StepResult::Unborn
        )
    });
    let findings = [
        (
            Outcome::Unsafe,
            "unsafe: other bytes are read than were written there",
            others,
        ),
        (
            Outcome::Differs,
            "what is to be read there cannot be read",
            refused,
        ),
    ];
    let findings = findings.into_iter().filter(|(_, _, text)| !text.is_empty());
    let finding =
        |(outcome, why, text)| Finding::new(CHECK.name, outcome, why).with(Block::Text(text));
    Some(findings.map(finding).collect())
}

/// Whether a device reads and writes there, whose check says more of it.
fn is_of_a_device(case: &Case<'_>) -> bool {
    let mut steps = case.scenario.program.steps.iter();
    case.observed.iommu.is_some() || steps.any(|step| is_access(&step.op))
}

/// Whether a step says which byte it is to read.
fn reads(op: &Op) -> bool {
    match *op {
        Op::Touch { write, value, .. } | Op::Vm { write, value, .. } => !write && value.is_some(),
        _ => false,
    }
}
