// SPDX-License-Identifier: GPL-2.0-only
//! JUnit XML, one test suite for each kernel. Written whole, at the end.

use super::test::{Test, not_come_to};
use crate::event::{Event, Reporter, Start, Summary};
use crate::outcome::Status;
use crate::scenario::naming;
use chrono::Utc;
use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};
use std::io::{self, Write};

/// Writes JUnit XML.
pub struct Junit<W: Write> {
    out: W,
    report: Report,
    start: Option<Start>,
    suite: TestSuite,
    told: usize,
}

impl<W: Write> Junit<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Junit<W> {
        Junit {
            out,
            report: Report::new("tlbdiff"),
            start: None,
            suite: TestSuite::new(""),
            told: 0,
        }
    }

    fn started(&mut self, start: &Start) {
        self.told = 0;
        self.suite = TestSuite::new(format!("tlbdiff.{}", start.kernel));
        self.suite.set_timestamp(Utc::now());
        for (name, value) in [
            ("backend", start.backend),
            ("kernel", start.kernel.as_str()),
            ("model_profile", start.profile),
        ] {
            self.suite.add_property(Property::new(name, value));
        }
        self.start = Some(start.clone());
    }

    fn finished(&mut self, summary: &Summary) {
        let Some(start) = self.start.take() else {
            return;
        };
        for test in not_come_to(&start, self.told, summary.stopped.as_deref()) {
            self.suite.add_test_case(case(&test));
        }
        self.suite.set_time(summary.elapsed);
        let suite = std::mem::replace(&mut self.suite, TestSuite::new(""));
        self.report.add_test_suite(suite);
    }
}

impl<W: Write> Reporter for Junit<W> {
    fn tell(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Started(start) => self.started(start),
            Event::Judged(verdict) => {
                self.told += 1;
                let rerun = self.start.as_ref().map(|start| start.rerun.clone());
                let test = Test::of(verdict, &rerun.unwrap_or_default());
                self.suite.add_test_case(case(&test));
            }
            Event::Finished(summary) => self.finished(summary),
            Event::Invalid(files) => {
                let mut suite = TestSuite::new("tlbdiff");
                for (path, why) in files {
                    suite.add_test_case(case(&Test::missing(&naming::of(path), why)));
                }
                self.report.add_test_suite(suite);
            }
            Event::Note(_) | Event::Progress(_) | Event::AllFinished(_) | Event::Changed(_) => {}
        }
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
