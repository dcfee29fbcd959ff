// SPDX-License-Identifier: GPL-2.0-only
//! KTAP version 1 (Documentation/dev-tools/ktap.rst), one subtest for each kernel.
//!
//! What could not be run has no result line, which readers of KTAP tell as missing: an
//! error, and not a failure of the kernel.

use super::test::Test;
use super::tests::TestFormat;
use crate::event::{Start, Summary};
use crate::outcome::Status;
use std::io::{self, Write};

/// Prints KTAP.
pub struct Ktap<W: Write> {
    out: W,
    runs: usize,
    results: usize,
    failed: bool,
}

impl<W: Write> Ktap<W> {
    /// Prints to `out`.
    pub fn new(out: W) -> Ktap<W> {
        Ktap {
            out,
            runs: 0,
            results: 0,
            failed: false,
        }
    }
}

impl<W: Write> TestFormat for Ktap<W> {
    fn began(&mut self, start: &Start) -> io::Result<()> {
        if self.runs == 0 {
            writeln!(self.out, "KTAP version 1\n1..{}", start.runs)?;
        }
        self.runs += 1;
        (self.results, self.failed) = (0, false);
        writeln!(self.out, "    KTAP version 1")?;
        writeln!(self.out, "    # Subtest: {}", suite(start))?;
        writeln!(self.out, "    1..{}", start.scenarios)
    }

    fn result(&mut self, _: &Start, test: &Test) -> io::Result<()> {
        for line in test.text.lines() {
            writeln!(self.out, "    # {}", plain(line))?;
        }
        let name = plain(&test.name).replace('#', "_");
        let why = plain(&test.why).replace('#', "_");
        let (ok, directive) = match test.status {
            Status::Pass => ("ok", String::new()),
            Status::Fail | Status::Flaky => ("not ok", String::new()),
            Status::Xfail => ("ok", format!(" # XFAIL {why}")),
            Status::Skip => ("ok", format!(" # SKIP {why}")),
            Status::Error => return writeln!(self.out, "    # {name}: {}: {why}", test.outcome),
        };
        self.failed |= ok != "ok";
        self.results += 1;
        writeln!(self.out, "    {ok} {} {name}{directive}", self.results)
    }

    /// What is missing has no line.
    fn ended(&mut self, start: &Start, summary: &Summary, _: &[Test]) -> io::Result<()> {
        if let Some(why) = &summary.stopped {
            writeln!(self.out, "# stopped: {}", plain(why))?;
        }
        // Where nothing failed and something is missing, the whole is missing.
        let ok = match self.failed {
            true => "not ok",
            false if self.results == start.scenarios => "ok",
            false => return Ok(()),
        };
        writeln!(self.out, "{ok} {} {}", self.runs, suite(start))
    }

    /// Files that are no scenarios are a run of their own, of which nothing came.
    fn invalid(&mut self, files: &[Test]) -> io::Result<()> {
        writeln!(self.out, "KTAP version 1\n1..1\n    KTAP version 1")?;
        writeln!(self.out, "    # Subtest: tlbdiff\n    1..{}", files.len())?;
        for file in files {
            let name = plain(&file.name);
            for line in file.why.lines() {
                writeln!(self.out, "    # {name}: invalid: {}", plain(line))?;
            }
        }
        writeln!(self.out, "not ok 1 tlbdiff")
    }

    fn note(&mut self, note: &str) -> io::Result<()> {
        writeln!(self.out, "# note: {}", plain(note))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A kernel's run, as one test of tests.
fn suite(start: &Start) -> String {
    let words = start.kernel.split(|c: char| c.is_whitespace() || c == '#');
    format!("tlbdiff.{}", words.collect::<Vec<_>>().join("_"))
}

/// One line without what readers of lines stumble over.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
