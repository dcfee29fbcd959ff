// SPDX-License-Identifier: GPL-2.0-only
//! Whether repeated runs came to the same.

use crate::diff::diff;
use crate::finding::{Block, Finding, Sides};
use crate::outcome::Outcome;
use crate::steps::{Expected, Seen, Step};
use crate::verdict::Verdict;

/// The check's name.
pub const NAME: &str = "variation";

/// The different results of repeated runs, and how often each came.
#[derive(Debug, Default)]
pub struct Results {
    seen: Vec<(Vec<Step>, u32)>,
}

impl Results {
    /// One run more.
    pub fn count(&mut self, verdict: &Verdict) {
        let Some(observation) = &verdict.observation else {
            return;
        };
        if verdict.scenario.varies {
            return;
        }
        let Seen(steps) = Seen::of(observation);
        match self.seen.iter_mut().find(|seen| seen.0 == steps) {
            Some(seen) => seen.1 += 1,
            None => self.seen.push((steps, 1)),
        }
    }

    /// What to say of them, if they are not all the same.
    pub fn variation(mut self) -> Option<Finding> {
        self.seen.sort_by_key(|seen| std::cmp::Reverse(seen.1));
        let counts: Vec<u32> = self.seen.iter().map(|seen| seen.1).collect();
        let mut seen = self.seen.into_iter();
        let ((first, _), (second, _)) = (seen.next()?, seen.next()?);
        let words: Vec<String> = counts.iter().map(u32::to_string).collect();
        let why = format!(
            "the result varies: {} times (most frequent against next)",
            words.join(", ")
        );
        let block = Block::Steps {
            sides: Sides::MostNext,
            diff: diff(&Expected(first), &Seen(second)),
            hints: Vec::new(),
        };
        let finding = Finding::new(NAME, Outcome::Varies, why)
            .with(block)
            .with(Block::Counts(counts));
        Some(finding)
    }
}
