// SPDX-License-Identifier: GPL-2.0-only
//! A verdict as other test frameworks know results: a name, a status, and a text.

use super::human;
use super::{Rerun, Start};
use crate::outcome::Outcome;
use crate::text;
use crate::verdict::{Finding, Verdict};
use chrono::{DateTime, TimeDelta, Utc};
use std::time::Duration;

/// What became of a scenario, in the words that test frameworks share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// All agree.
    Pass,
    /// Something was found.
    Fail,
    /// Not every run gave the same. Neither a pass nor a plain failure.
    Flaky,
    /// Something was found that is known.
    Xfail,
    /// What it requires is missing.
    Skip,
    /// It says nothing about the kernel: it could not be run.
    Error,
}

impl Status {
    /// Of an outcome.
    pub fn of(outcome: Outcome) -> Status {
        match outcome {
            Outcome::Agree => Status::Pass,
            Outcome::Skipped => Status::Skip,
            Outcome::Known => Status::Xfail,
            Outcome::CouldNotRun => Status::Error,
            Outcome::Varies => Status::Flaky,
            Outcome::ModelNotRead
            | Outcome::SnapshotNew
            | Outcome::SnapshotChanged
            | Outcome::FindingGone
            | Outcome::Differs
            | Outcome::Unsafe
            | Outcome::ProgramCorrupted
            | Outcome::KernelCrashed => Status::Fail,
        }
    }
}

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
        let worst = worst(verdict);
        let elapsed = TimeDelta::from_std(verdict.elapsed).unwrap_or_default();
        let counts = verdict.findings.iter().find_map(|finding| match finding {
            Finding::Varies { counts, .. } => Some(counts.clone()),
            _ => None,
        });
        Test {
            name: verdict.scenario.name.clone(),
            about: verdict.scenario.about.clone(),
            status,
            outcome: outcome.name(),
            why: worst.map(why).unwrap_or_default(),
            text: match status {
                Status::Pass => verdict
                    .unpredicted()
                    .map(text::unpredicted)
                    .unwrap_or_default(),
                _ => human::page(verdict, rerun),
            },
            counts: counts.unwrap_or_default(),
            page: worst.and_then(page),
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

fn worst(verdict: &Verdict) -> Option<&Finding> {
    let outcome = verdict.outcome();
    let mut findings = verdict.findings.iter();
    findings.find(|finding| finding.outcome() == outcome)
}

/// Why a verdict is what it is, in a line; empty where all agree.
pub fn why_of(verdict: &Verdict) -> String {
    worst(verdict).map(why).unwrap_or_default()
}

/// The scenarios of a run that have no result, with the reason.
pub fn not_come_to(start: &Start, told: usize, stopped: Option<&str>) -> Vec<Test> {
    let why = stopped.unwrap_or("the run ended before it");
    let left = start.names.iter().skip(told);
    left.map(|name| Test::missing(name, why)).collect()
}

/// Why it is what it is, in a line.
pub fn why(finding: &Finding) -> String {
    match finding {
        Finding::Layer1(_) => "tlbflush.c did something else than its model".to_owned(),
        Finding::Layer2(diff) | Finding::NotRead { diff, .. } => {
            let steps: Vec<String> = diff
                .steps
                .iter()
                .map(|step| (step.step + 1).to_string())
                .collect();
            let not_read = match finding {
                Finding::NotRead { .. } => ", but the model was not read for this release",
                _ => "",
            };
            format!(
                "kernel and model tell different ranges in step {}{not_read}",
                steps.join(", ")
            )
        }
        Finding::Supposed { .. } => {
            "secondary MMUs may not have been told of what was lost".to_owned()
        }
        Finding::Unsafe(_) => "secondary MMUs were not told of what was lost".to_owned(),
        Finding::SnapshotChanged { .. } => "not as in the accepted snapshot".to_owned(),
        Finding::SnapshotNew { .. } => "there is no accepted snapshot".to_owned(),
        Finding::Varies { counts, .. } => {
            let counts: Vec<String> = counts.iter().map(u32::to_string).collect();
            format!("results vary: {} times", counts.join(", "))
        }
        Finding::KernelCrashed { what, .. } | Finding::ProgramCorrupted { what, .. } => {
            what.clone()
        }
        Finding::CouldNotRun { why } | Finding::Skipped { why } => first_line(why),
        Finding::Known { page, .. } => format!("known: {}", page.display()),
        Finding::Gone { page } => format!("not wrong any more: {}", page.display()),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn page(finding: &Finding) -> Option<String> {
    match finding {
        Finding::Known { page, .. } => Some(page.display().to_string()),
        _ => None,
    }
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
