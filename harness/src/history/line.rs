// SPDX-License-Identifier: GPL-2.0-only
//! The lines of `--format json` (`harness/JSON.md`), as far as they are kept.

use crate::outcome::Outcome;
use crate::report::json::SCHEMA;
use chrono::{DateTime, Utc};
use serde::Deserialize;
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
    Summary(Summary),
    /// Anything else.
    Other,
}

/// A run begins.
#[derive(Clone, Debug, Deserialize)]
pub struct Start {
    /// The run's own name.
    pub run: String,
    began: String,
    /// On which machine.
    pub board: String,
    /// In which line of kernels.
    pub line: String,
    /// Which kernel.
    pub kernel: String,
    /// The model's kernel.
    pub model_profile: String,
    /// `guest`, `board` or `recorded`.
    pub backend: String,
    /// How many are to be run.
    pub scenarios: u64,
    /// When, in milliseconds since 1970.
    #[serde(skip)]
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

/// The run has ended.
#[derive(Clone, Debug, Deserialize)]
pub struct Summary {
    /// How long it took.
    pub elapsed_ms: u64,
    /// Why it ended early, if it did.
    pub stopped: Option<String>,
    /// Ctrl-C ended it.
    pub interrupted: bool,
}

#[derive(Deserialize)]
struct Result_ {
    name: String,
    outcome: String,
    why: String,
    elapsed_ms: u64,
}

impl Line {
    /// What a line says.
    ///
    /// # Errors
    /// It is no such line; why, for people.
    pub fn new(value: &Value) -> Result<Line, String> {
        let schema = value["schema"].as_u64().ok_or(
            "no line of `tlbdiff run --format json`: it has no `schema`; export the run again",
        )?;
        if schema != u64::from(SCHEMA) {
            return Err(format!(
                "its schema is {schema}, and {SCHEMA} is known: another version of tlbdiff wrote it"
            ));
        }
        let said = |error: serde_json::Error| {
            format!("{error}: it was not written by this version's `--format json`")
        };
        match value["type"].as_str() {
            Some("start") => {
                let mut start = Start::deserialize(value).map_err(said)?;
                let began = DateTime::parse_from_rfc3339(&start.began)
                    .map_err(|error| format!("`began`: {error}"))?;
                start.began_ms = began.timestamp_millis();
                Ok(Line::Start(start))
            }
            Some("scenario") => {
                let result = Result_::deserialize(value).map_err(said)?;
                let outcome = Outcome::from_key(&result.outcome)
                    .ok_or_else(|| format!("no outcome is called `{}`", result.outcome))?;
                let details = (outcome != Outcome::Agree).then(|| Details::new(value));
                Ok(Line::Scenario(Box::new(Scenario {
                    name: result.name,
                    outcome,
                    why: result.why,
                    elapsed_ms: result.elapsed_ms,
                    details,
                })))
            }
            Some("summary") => Summary::deserialize(value).map(Line::Summary).map_err(said),
            _ => Ok(Line::Other),
        }
    }
}

impl Details {
    fn new(line: &Value) -> Details {
        let mut line = line.clone();
        forget(&mut line, &OCCASION);
        let text = line.to_string();
        // A log has times in it; the first one of a crash is kept.
        forget(&mut line, &["log"]);
        let hash = Sha256::digest(line.to_string()).to_vec();
        Details { text, hash }
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
    use serde_json::json;

    fn scenario(outcome: &str, seq: u32) -> Value {
        json!({
            "type": "scenario", "schema": SCHEMA, "name": "munmap/middle", "outcome": outcome,
            "why": "", "elapsed_ms": seq, "steps": [{ "kernel": { "calls": [{ "seq": seq }] } }],
        })
    }

    fn details(value: &Value) -> Option<Details> {
        match Line::new(value) {
            Ok(Line::Scenario(scenario)) => scenario.details,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_same_failure_has_the_same_details() {
        let (one, other) = (
            details(&scenario("differs", 1)),
            details(&scenario("differs", 2)),
        );
        assert!(one.is_some());
        assert_eq!(one, other);
        assert_ne!(one, details(&scenario("unsafe", 1)));
        assert_eq!(details(&scenario("agree", 1)), None);
    }

    #[test]
    fn what_is_no_such_line_is_told() {
        let wrong = |value: Value| Line::new(&value).expect_err("wrong");
        assert!(wrong(json!({})).contains("schema"));
        assert!(wrong(json!({ "schema": 99 })).contains("99"));
        assert!(wrong(scenario("fine", 1)).contains("`fine`"));
        assert!(wrong(json!({ "schema": SCHEMA, "type": "start" })).contains("run"));
        let other = json!({ "schema": SCHEMA, "type": "note", "note": "x" });
        assert!(matches!(Line::new(&other), Ok(Line::Other)));
    }
}
