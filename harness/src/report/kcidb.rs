// SPDX-License-Identifier: GPL-2.0-only
//! A report for KCIDB, schema 5: a checkout, a build and tests for each kernel, and for
//! what is known an issue with incidents. Written whole, at the end.

use super::test::Test;
use super::tests::TestFormat;
use crate::event::{Start, Summary};
use crate::outcome::Status;
use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::{self, Write};

/// Longest `log_excerpt` of the schema, in bytes of ours: never more characters.
const EXCERPT: usize = 16384;

/// Who reports, and of which build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// KCIDB's name of who reports; `tlbdiff` where none is given.
    pub origin: Option<String>,
    /// A build that was reported already, `ORIGIN:ID`; else one is made up.
    pub build: Option<String>,
}

/// Writes the report.
pub struct Kcidb<W: Write> {
    out: W,
    origin: String,
    build: Option<String>,
    /// What tells this report's tests from those of others.
    unique: String,
    checkouts: Vec<Value>,
    builds: Vec<Value>,
    tests: Vec<Value>,
    issues: Vec<Value>,
    incidents: Vec<Value>,
}

impl<W: Write> Kcidb<W> {
    /// Writes to `out`.
    pub fn new(out: W, origin: &Origin) -> Kcidb<W> {
        let unique = format!("{:?} {}", Utc::now(), std::process::id());
        Kcidb {
            out,
            origin: origin
                .origin
                .clone()
                .unwrap_or_else(|| "tlbdiff".to_owned()),
            build: origin.build.clone(),
            unique,
            checkouts: Vec::new(),
            builds: Vec::new(),
            tests: Vec::new(),
            issues: Vec::new(),
            incidents: Vec::new(),
        }
    }

    fn id(&self, words: &[&str]) -> String {
        let digest = Sha256::digest(words.join("\0"));
        let hex: String = digest[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{}:{hex}", self.origin)
    }

    fn build_id(&self, start: &Start) -> String {
        match &self.build {
            Some(build) => build.clone(),
            None => self.id(&["build", start.backend, &start.kernel]),
        }
    }

    fn test(&mut self, start: &Start, test: &Test) {
        let id = self.id(&[&self.unique, &start.kernel, &test.name]);
        let mut value = json!({
            "id": id,
            "build_id": self.build_id(start),
            "origin": self.origin,
            "path": format!("tlbdiff.{}", test.dotted()),
            "comment": test.about,
            "status": status(test),
            "start_time": test.began.to_rfc3339_opts(SecondsFormat::Millis, true),
            "duration": test.elapsed.as_secs_f64(),
            "environment": { "comment": format!("tlbdiff, {}", start.backend) },
            "misc": {
                "outcome": test.outcome,
                "why": test.why,
                "model_profile": start.profile,
            },
        });
        if !test.text.is_empty() {
            value["log_excerpt"] = Value::from(excerpt(&test.text));
        }
        if test.status == Status::Flaky {
            value["misc"]["flaky_counts"] = Value::from(test.counts.clone());
        }
        self.tests.push(value);
        if let Some(page) = &test.page {
            self.known(&id, page);
        }
    }

    /// What is known is an issue, and that it was met again an incident.
    fn known(&mut self, test: &str, page: &str) {
        let name = page.rsplit('/').next().unwrap_or(page);
        let issue = self.id(&["issue", name]);
        if self
            .issues
            .iter()
            .all(|known| known["id"] != issue.as_str())
        {
            self.issues.push(json!({
                "id": issue,
                "version": 1,
                "origin": self.origin,
                "comment": page,
                "culprit": { "code": true, "tool": false, "harness": false },
            }));
        }
        self.incidents.push(json!({
            "id": self.id(&["incident", test]),
            "origin": self.origin,
            "issue_id": issue,
            "issue_version": 1,
            "test_id": test,
            "present": true,
        }));
    }
}

impl<W: Write> TestFormat for Kcidb<W> {
    fn began(&mut self, start: &Start) -> io::Result<()> {
        if self.build.is_some() {
            return Ok(());
        }
        let checkout = self.id(&["checkout", &start.kernel]);
        self.checkouts.push(json!({
            "id": checkout,
            "origin": self.origin,
            "comment": start.kernel,
        }));
        self.builds.push(json!({
            "id": self.build_id(start),
            "checkout_id": checkout,
            "origin": self.origin,
            "architecture": "riscv64",
            "comment": start.kernel,
            "status": "PASS",
        }));
        Ok(())
    }

    fn result(&mut self, start: &Start, test: &Test) -> io::Result<()> {
        self.test(start, test);
        Ok(())
    }

    fn ended(&mut self, start: &Start, _: &Summary, missing: &[Test]) -> io::Result<()> {
        for test in missing {
            self.test(start, test);
        }
        Ok(())
    }

    /// They are of no build.
    fn invalid(&mut self, _: &[Test]) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        let mut report = json!({ "version": { "major": 5, "minor": 3 } });
        for (name, values) in [
            ("checkouts", &self.checkouts),
            ("builds", &self.builds),
            ("tests", &self.tests),
            ("issues", &self.issues),
            ("incidents", &self.incidents),
        ] {
            if !values.is_empty() {
                report[name] = Value::from(values.clone());
            }
        }
        serde_json::to_writer_pretty(&mut self.out, &report)?;
        writeln!(self.out)?;
        self.out.flush()
    }
}

/// A known failure fails, and its incident says that it is known.
fn status(test: &Test) -> &'static str {
    match test.status {
        Status::Pass => "PASS",
        Status::Fail | Status::Flaky | Status::Xfail => "FAIL",
        Status::Skip => "SKIP",
        // Nothing began, or something went wrong that is not the kernel's.
        Status::Error if test.text.is_empty() => "MISS",
        Status::Error => "ERROR",
    }
}

/// The end of a text, for what went wrong last is told last.
fn excerpt(text: &str) -> String {
    let text = text.replace('\0', " ");
    let first = text.len().saturating_sub(EXCERPT);
    let first = (first..=text.len()).find(|at| text.is_char_boundary(*at));
    text[first.unwrap_or(0)..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_the_end_and_no_character_is_cut() {
        let long = format!("a{}", "█".repeat(EXCERPT));
        let excerpt = excerpt(&long);
        assert!(excerpt.len() <= EXCERPT && excerpt.chars().all(|c| c == '█'));
        assert_eq!(super::excerpt("a\0b"), "a b");
    }
}
