// SPDX-License-Identifier: GPL-2.0-only
//! LAVA's test case signals, which its dispatcher reads from the job's output. Each is a
//! line; all else in the output is for people.

use super::test::Test;
use super::tests::TestFormat;
use crate::event::{Start, Summary};
use crate::outcome::Status;
use std::io::{self, Write};

/// Prints signals.
pub struct Lava<W: Write> {
    out: W,
}

impl<W: Write> Lava<W> {
    /// Prints to `out`.
    pub fn new(out: W) -> Lava<W> {
        Lava { out }
    }

    fn one(&mut self, test: &Test) -> io::Result<()> {
        // LAVA knows no expected failures, and `unknown` is what is neither.
        let result = match test.status {
            Status::Pass => "pass",
            Status::Fail | Status::Flaky => "fail",
            Status::Skip => "skip",
            Status::Xfail | Status::Error => "unknown",
        };
        for line in test.text.lines() {
            writeln!(
                self.out,
                "{}",
                line.replace("<LAVA_SIGNAL", "<_LAVA_SIGNAL")
            )?;
        }
        writeln!(
            self.out,
            "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID={} RESULT={result} UNITS=seconds MEASUREMENT={:.3}>",
            test.dotted(),
            test.elapsed.as_secs_f64(),
        )
    }
}

impl<W: Write> TestFormat for Lava<W> {
    fn began(&mut self, start: &Start) -> io::Result<()> {
        writeln!(self.out, "<LAVA_SIGNAL_TESTSET START {}>", set(start))
    }

    fn result(&mut self, _: &Start, test: &Test) -> io::Result<()> {
        self.one(test)
    }

    fn ended(&mut self, _: &Start, _: &Summary, missing: &[Test]) -> io::Result<()> {
        self.invalid(missing)?;
        writeln!(self.out, "<LAVA_SIGNAL_TESTSET STOP>")
    }

    fn invalid(&mut self, files: &[Test]) -> io::Result<()> {
        files.iter().try_for_each(|test| self.one(test))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn set(start: &Start) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let text = start.kernel.chars();
    text.map(|c| if allowed(c) { c } else { '_' }).collect()
}
