// SPDX-License-Identifier: GPL-2.0-only
//! What is kept of the lines of `--format json` (`harness/JSON.md`).

use crate::outcome::Outcome;
use crate::report::line::{self, Line as Told};
use chrono::{DateTime, Utc};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A line that is kept.
#[derive(Clone, Debug)]
pub enum Line {
    /// A run begins.
    Start(Start),
    /// A scenario has its result.
    Scenario(Box<Scenario>),
    /// The run has ended.
    Summary(line::Summary),
    /// Anything else.
    Other,
}

/// A run begins.
#[derive(Clone, Debug)]
pub struct Start {
    /// What is said of it.
    pub told: line::Start,
    /// When, in milliseconds since 1970.
    pub began_ms: i64,
}

/// A scenario's result.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The scenario's name.
    pub name: String,
    /// What it came to.
    pub outcome: Outcome,
    /// Why, in a line.
    pub why: String,
    /// What it has in common with other failures.
    pub cause: Option<String>,
    /// How long it took.
    pub elapsed_ms: u64,
    /// All about it that is not different each time, as JSON; none where all agree.
    pub details: Option<Details>,
}

/// Text with its hash: what is found again night after night is kept once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    /// JSON.
    pub text: String,
    /// Its hash.
    pub hash: Vec<u8>,
}

impl Line {
    /// What is kept of a line.
    ///
    /// # Errors
    /// It makes no sense; why, for people.
    pub fn new(told: &Told) -> Result<Line, String> {
        Ok(match told {
            Told::Start(start) => {
                let began = DateTime::parse_from_rfc3339(&start.began)
                    .map_err(|error| format!("`began`: {error}"))?;
                Line::Start(Start {
                    told: start.clone(),
                    began_ms: began.timestamp_millis(),
                })
            }
            Told::Scenario(told) => {
                let fails = told.outcome != Outcome::Agree;
                Line::Scenario(Box::new(Scenario {
                    name: told.name.clone(),
                    outcome: told.outcome,
                    why: told.why.clone(),
                    cause: told.cause.clone(),
                    elapsed_ms: told.elapsed_ms,
                    details: fails.then(|| Details::new(told)).transpose()?,
                }))
            }
            Told::Summary(summary) => Line::Summary(summary.clone()),
            Told::Changes(_)
            | Told::Note { .. }
            | Told::Prediction(_)
            | Told::Comparison(_)
            | Told::ComparisonSummary(_)
            | Told::Other => Line::Other,
        })
    }
}

impl Details {
    fn new(told: &line::Scenario) -> Result<Details, String> {
        let line = Told::Scenario(Box::new(told.clone()));
        let mut line = line.to_value().map_err(|error| error.to_string())?;
        forget(&mut line, &OCCASION);
        let text = line.to_string();
        // A log has times in it; the first one of a crash is kept.
        forget(&mut line, &["log"]);
        let hash = Sha256::digest(line.to_string()).to_vec();
        Ok(Details { text, hash })
    }
}

/// What is different each time without saying anything.
const OCCASION: [&str; 6] = [
    "elapsed_ms",
    "layer1_checked",
    "seq",
    "asid",
    "pid",
    "context",
];

fn forget(value: &mut Value, names: &[&str]) {
    match value {
        Value::Object(fields) => {
            for name in names {
                fields.remove(*name);
            }
            let values = fields.values_mut();
            values.for_each(|value| forget(value, names));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| forget(value, names)),
        _ => {}
    }
}

/// The time of so many milliseconds since 1970.
pub fn time(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details(outcome: Outcome, seq: u64) -> Option<Details> {
        let call = line::Call {
            seq: Some(seq),
            ..line::Call::default()
        };
        let kernel = line::KernelStep {
            calls: vec![call],
            ..line::KernelStep::default()
        };
        let step = line::Step {
            kernel: Some(kernel),
            ..line::Step::default()
        };
        let told = Told::Scenario(Box::new(line::Scenario {
            outcome,
            elapsed_ms: seq,
            steps: vec![step],
            ..line::Scenario::default()
        }));
        match Line::new(&told) {
            Ok(Line::Scenario(scenario)) => scenario.details,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_same_failure_has_the_same_details() {
        let one = details(Outcome::Differs, 1);
        assert!(one.is_some());
        assert_eq!(one, details(Outcome::Differs, 2));
        assert_ne!(one, details(Outcome::Unsafe, 1));
        assert_eq!(details(Outcome::Agree, 1), None);
    }

    #[test]
    fn a_run_without_its_time_is_told() {
        let start = line::Start {
            began: "yesterday".to_owned(),
            ..line::Start::default()
        };
        let wrong = Line::new(&Told::Start(start)).expect_err("wrong");
        assert!(wrong.contains("began"), "{wrong}");
    }
}
