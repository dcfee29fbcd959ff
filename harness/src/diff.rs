// SPDX-License-Identifier: GPL-2.0-only
//! The steps on which two sides disagree. Pure.

use crate::steps::{Expected, Seen, Step};

/// The steps on which two sides disagree; empty where they agree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// In order.
    pub steps: Vec<StepDiff>,
}

/// A step on which two sides disagree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepDiff {
    /// Its index, from 0.
    pub step: usize,
    /// What is expected; none where there is no such step.
    pub expected: Option<Step>,
    /// What was seen; none where there is no such step.
    pub seen: Option<Step>,
}

/// Compares what is expected with what was seen: results, calls with their arguments,
/// notifications, in order.
pub fn diff(expected: &Expected, seen: &Seen) -> Diff {
    let (Expected(expected), Seen(seen)) = (expected, seen);
    let steps = (0..expected.len().max(seen.len())).filter_map(|step| {
        let (expected, seen) = (expected.get(step), seen.get(step));
        (expected != seen).then(|| StepDiff {
            step,
            expected: expected.cloned(),
            seen: seen.cloned(),
        })
    });
    Diff {
        steps: steps.collect(),
    }
}
