// SPDX-License-Identifier: GPL-2.0-only
//! Whether bytes are read where and as they were written: the plainest harm that a translation
//! can do that should be gone. Where a real IOMMU was looked into, its check says more of them.

use super::case::{Case, Check};
use crate::finding::{Block, Finding};
use crate::outcome::Outcome;
use crate::scenario::describe::describe;
use crate::text;
use operations::Op;
use reference_model::StepResult;

pub(super) const CHECK: Check = Check {
    name: "data",
    predicts: false,
    judge,
};

/// Whether a step says which byte it is to read.
fn reads(case: &Case<'_>) -> bool {
    let mut steps = case.scenario.program.steps.iter();
    steps.any(|step| match step.op {
        Op::Touch { write, value, .. }
        | Op::Device { write, value, .. }
        | Op::Vm { write, value, .. } => !write && value.is_some(),
        _ => false,
    })
}

fn judge(case: &Case<'_>) -> Option<Vec<Finding>> {
    if case.observed.iommu.is_some() || !reads(case) {
        return None;
    }
    let steps = case.scenario.program.steps.iter();
    let steps = steps.zip(&case.observed.observation.steps).enumerate();
    let wrong = steps.filter(|(_, (_, seen))| matches!(seen.result, StepResult::Saw { .. }));
    let text: Vec<String> = wrong
        .map(|(number, (step, seen))| {
            let described = describe(case.scenario, step);
            let result = text::result(seen.result);
            format!("step {}. {described}: {result}", number + 1)
        })
        .collect();
    if text.is_empty() {
        return Some(Vec::new());
    }
    let why = "unsafe: other bytes are read than were written there";
    let finding = Finding::new(CHECK.name, Outcome::Unsafe, why);
    Some(vec![finding.with(Block::Text(text))])
}
