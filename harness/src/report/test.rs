// SPDX-License-Identifier: GPL-2.0-only
//! A verdict as other test frameworks know results: a name, a status, and a text.

use super::page;
use crate::event::Rerun;
use crate::finding::Finding;
use crate::outcome::{Outcome, Status};
use crate::text;
use crate::verdict::Verdict;
use chrono::{DateTime, TimeDelta, Utc};
use std::time::Duration;

/// One result.
#[derive(Clone, Debug)]
pub struct Test {
    /// `munmap/middle`
    pub name: String,
    /// The scenario's own words.
    pub about: String,
    /// What became of it.
    pub status: Status,
    /// The outcome's name.
    pub outcome: &'static str,
    /// Why, in a line; empty where it passed.
    pub why: String,
    /// All about it, as people read it; where it passed, only what was not predicted.
    pub text: String,
    /// How often each result came, where they vary.
    pub counts: Vec<u32>,
    /// The page that tells of what is known.
    pub page: Option<String>,
    /// How long it took.
    pub elapsed: Duration,
    /// When it began.
    pub began: DateTime<Utc>,
}

impl Test {
    /// Of a verdict that was just reached.
    pub fn of(verdict: &Verdict, rerun: &Rerun) -> Test {
        let outcome = verdict.outcome();
        let status = Status::of(outcome);
        let elapsed = TimeDelta::from_std(verdict.elapsed).unwrap_or_default();
        let counts = verdict.findings.iter().find_map(Finding::counts);
        // What is known is known by its page.
        let known = verdict.worst().filter(|_| status == Status::Xfail);
        let page = known.and_then(Finding::page);
        Test {
            name: verdict.scenario.name.clone(),
            about: verdict.scenario.about.clone(),
            status,
            outcome: outcome.name(),
            why: why_of(verdict),
            text: match status {
                Status::Pass => verdict
                    .unpredicted()
                    .map(text::unpredicted)
                    .unwrap_or_default(),
                _ => page::page(verdict, rerun),
            },
            counts: counts.unwrap_or_default().to_vec(),
            page: page.map(|page| page.display().to_string()),
            elapsed: verdict.elapsed,
            began: Utc::now() - elapsed,
        }
    }

    /// Of a scenario that was not come to.
    pub fn missing(name: &str, why: &str) -> Test {
        Test {
            name: name.to_owned(),
            about: String::new(),
            status: Status::Error,
            outcome: Outcome::CouldNotRun.name(),
            why: why.to_owned(),
            text: String::new(),
            counts: Vec::new(),
            page: None,
            elapsed: Duration::ZERO,
            began: Utc::now(),
        }
    }

    /// The name in words of letters, digits, `_` and `-`, with dots between them.
    pub fn dotted(&self) -> String {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let dotted = self.name.replace('/', ".");
        dotted
            .chars()
            .map(|c| if allowed(c) { c } else { '_' })
            .collect()
    }
}

/// Why a verdict is what it is, in a line; empty where all agree.
pub fn why_of(verdict: &Verdict) -> String {
    verdict
        .worst()
        .map(|finding| finding.why.clone())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_names_have_no_odd_characters() {
        let odd = Test::missing("a b/c#d", "x");
        assert_eq!(odd.dotted(), "a_b.c_d");
    }

    #[test]
    fn only_what_agrees_passes() {
        for outcome in Outcome::ALL {
            assert_eq!(
                Status::of(outcome) == Status::Pass,
                outcome == Outcome::Agree
            );
        }
        assert_eq!(Status::of(Outcome::CouldNotRun), Status::Error);
        assert_eq!(Status::of(Outcome::Varies), Status::Flaky);
    }
}
