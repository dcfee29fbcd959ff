// SPDX-License-Identifier: GPL-2.0-only
//! LAVA's test case signals, which its dispatcher reads from the job's output. Each is a
//! line; all else in the output is for people.

use super::test::{Test, not_come_to};
use crate::event::{Event, Reporter, Start};
use crate::outcome::Status;
use crate::scenario::naming;
use std::io::{self, Write};

/// Prints signals.
pub struct Lava<W: Write> {
    out: W,
    start: Option<Start>,
    told: usize,
}

impl<W: Write> Lava<W> {
    /// Prints to `out`.
    pub fn new(out: W) -> Lava<W> {
        Lava {
            out,
            start: None,
            told: 0,
        }
    }

    fn result(&mut self, test: &Test) -> io::Result<()> {
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

impl<W: Write> Reporter for Lava<W> {
    fn tell(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Started(start) => {
                self.start = Some(start.clone());
                self.told = 0;
                writeln!(self.out, "<LAVA_SIGNAL_TESTSET START {}>", set(start))?;
            }
            Event::Judged(verdict) => {
                self.told += 1;
                let rerun = self.start.as_ref().map(|start| start.rerun.clone());
                self.result(&Test::of(verdict, &rerun.unwrap_or_default()))?;
            }
            Event::Finished(summary) => {
                if let Some(start) = self.start.take() {
                    for test in not_come_to(&start, self.told, summary.stopped.as_deref()) {
                        self.result(&test)?;
                    }
                    writeln!(self.out, "<LAVA_SIGNAL_TESTSET STOP>")?;
                }
            }
            Event::Invalid(files) => {
                for (path, why) in files {
                    self.result(&Test::missing(&naming::of(path), why))?;
                }
            }
            Event::Note(_) | Event::Progress(_) | Event::AllFinished(_) | Event::Changed(_) => {}
        }
        self.out.flush()
    }
}

fn set(start: &Start) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let text = start.kernel.chars();
    text.map(|c| if allowed(c) { c } else { '_' }).collect()
}
