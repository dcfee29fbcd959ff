// SPDX-License-Identifier: GPL-2.0-only
//! JUnit XML, one test suite for each kernel. Written whole, at the end.

use super::test::Test;
use super::tests::TestFormat;
use crate::event::{Start, Summary};
use crate::outcome::Status;
use chrono::Utc;
use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};
use std::io::{self, Write};

/// Writes JUnit XML.
pub struct Junit<W: Write> {
    out: W,
    report: Report,
    suite: TestSuite,
}

impl<W: Write> Junit<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Junit<W> {
        Junit {
            out,
            report: Report::new("tlbdiff"),
            suite: TestSuite::new(""),
        }
    }
}

impl<W: Write> TestFormat for Junit<W> {
    fn began(&mut self, start: &Start) -> io::Result<()> {
        self.suite = TestSuite::new(format!("tlbdiff.{}", start.kernel));
        self.suite.set_timestamp(Utc::now());
        for (name, value) in [
            ("backend", start.backend),
            ("secondary", start.secondary.as_deref().unwrap_or("none")),
            ("kernel", start.kernel.as_str()),
            ("model_profile", start.profile),
        ] {
            self.suite.add_property(Property::new(name, value));
        }
        Ok(())
    }

    fn result(&mut self, _: &Start, test: &Test) -> io::Result<()> {
        self.suite.add_test_case(case(test));
        Ok(())
    }

    fn ended(&mut self, _: &Start, summary: &Summary, missing: &[Test]) -> io::Result<()> {
        self.suite.add_test_cases(missing.iter().map(case));
        self.suite.set_time(summary.elapsed);
        let suite = std::mem::replace(&mut self.suite, TestSuite::new(""));
        self.report.add_test_suite(suite);
        Ok(())
    }

    fn invalid(&mut self, files: &[Test]) -> io::Result<()> {
        let mut suite = TestSuite::new("tlbdiff");
        suite.add_test_cases(files.iter().map(case));
        self.report.add_test_suite(suite);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.report
            .serialize(&mut self.out)
            .map_err(io::Error::other)?;
        self.out.flush()
    }
}

/// Without the characters that XML 1.0 cannot have; the library leaves some of them in.
fn xml(text: &str) -> String {
    let allowed = |c: char| match c {
        '\t' | '\n' | '\r' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        c => c >= ' ',
    };
    text.chars().filter(|c| allowed(*c)).collect()
}

fn case(test: &Test) -> TestCase {
    let (class, own) = test.name.rsplit_once('/').unwrap_or(("", &test.name));
    let class = class.replace('/', ".");
    let mut case = TestCase::new(xml(own), status(test));
    case.set_classname(match class.is_empty() {
        true => "tlbdiff".to_owned(),
        false => xml(&format!("tlbdiff.{class}")),
    });
    case.set_time(test.elapsed);
    if test.status == Status::Pass && !test.text.is_empty() {
        case.set_system_out(xml(&test.text));
    }
    case
}

fn status(test: &Test) -> TestCaseStatus {
    let kind = match test.status {
        Status::Pass => return TestCaseStatus::success(),
        Status::Skip | Status::Xfail => {
            let mut skipped = TestCaseStatus::skipped();
            skipped.set_message(xml(&test.why));
            // As pytest writes it.
            skipped.set_type(match test.status {
                Status::Xfail => "xfail",
                _ => "skip",
            });
            return skipped;
        }
        Status::Error => NonSuccessKind::Error,
        Status::Fail | Status::Flaky => NonSuccessKind::Failure,
    };
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(xml(&test.why));
    status.set_type(match test.status {
        Status::Flaky => "flaky",
        _ => test.outcome,
    });
    status.set_description(xml(&test.text));
    status
}
