// SPDX-License-Identifier: GPL-2.0-only
//! Failures by what they have in common: one broken function fails hundreds of scenarios, and
//! a person wants to read of it once.

use crate::outcome::Outcome;
use crate::verdict::Verdict;

/// Failures of one cause.
#[derive(Clone, Debug)]
pub struct Group {
    /// What they have in common.
    pub cause: String,
    /// The worst that they came to.
    pub outcome: Outcome,
    /// Of those that came to that the one with the fewest steps.
    pub smallest: Box<Verdict>,
    /// The names of all of them, in the order of telling.
    pub names: Vec<String>,
}

/// All failures of a run.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    groups: Vec<Group>,
}

impl Groups {
    /// One more.
    pub fn add(&mut self, verdict: &Verdict) {
        let cause = cause(verdict);
        let (outcome, name) = (verdict.outcome(), verdict.scenario.name.clone());
        match self.groups.iter_mut().find(|group| group.cause == cause) {
            Some(group) => {
                group.names.push(name);
                if outcome > group.outcome
                    || outcome == group.outcome && size(verdict) < size(&group.smallest)
                {
                    *group.smallest = verdict.clone();
                }
                group.outcome = group.outcome.max(outcome);
            }
            None => self.groups.push(Group {
                cause,
                outcome,
                smallest: Box::new(verdict.clone()),
                names: vec![name],
            }),
        }
    }

    /// The worst first, and of those the one with the most failures.
    pub fn into_sorted(mut self) -> Vec<Group> {
        self.groups.sort_by_key(|group| {
            (
                std::cmp::Reverse(group.outcome),
                std::cmp::Reverse(group.names.len()),
            )
        });
        self.groups
    }
}

/// What a failure has in common with others: the same words each night.
pub fn cause(verdict: &Verdict) -> String {
    if let Some(cause) = verdict.cause() {
        return cause.to_owned();
    }
    let why = verdict.worst().map_or("", |finding| &finding.why);
    let numberless = |c: char| if c.is_ascii_digit() { 'N' } else { c };
    let why: String = why.chars().map(numberless).collect();
    format!("{}: {why}", verdict.outcome().name())
}

/// Less is easier to read.
fn size(verdict: &Verdict) -> usize {
    verdict.scenario.program.steps.len()
}
