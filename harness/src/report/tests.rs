// SPDX-License-Identifier: GPL-2.0-only
//! From events to results as test frameworks know them: one way for all of their formats.

use super::test::Test;
use crate::event::{Event, Reporter, Start, Summary};
use crate::scenario::naming;
use std::io;

/// A format of a test framework. Whatever cannot be written is an error.
#[expect(clippy::missing_errors_doc, reason = "said for all of them")]
pub trait TestFormat {
    /// A run on a kernel begins.
    fn began(&mut self, start: &Start) -> io::Result<()>;

    /// A scenario of that run has its result.
    fn result(&mut self, start: &Start, test: &Test) -> io::Result<()>;

    /// The run has ended; it did not come to these scenarios.
    fn ended(&mut self, start: &Start, summary: &Summary, missing: &[Test]) -> io::Result<()>;

    /// These files are no scenarios, and nothing is run.
    fn invalid(&mut self, files: &[Test]) -> io::Result<()>;

    /// Something that the user should know.
    fn note(&mut self, _note: &str) -> io::Result<()> {
        Ok(())
    }

    /// So much is said; it should be seen.
    fn flush(&mut self) -> io::Result<()>;

    /// All is said.
    fn end(&mut self) -> io::Result<()> {
        self.flush()
    }
}

/// Reports in such a format.
pub struct Tests<F> {
    format: F,
    start: Option<Start>,
    results: usize,
}

impl<F: TestFormat> Tests<F> {
    /// A reporter.
    pub fn new(format: F) -> Tests<F> {
        Tests {
            format,
            start: None,
            results: 0,
        }
    }
}

impl<F: TestFormat> Reporter for Tests<F> {
    fn tell(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Started(start) => {
                self.start = Some((**start).clone());
                self.results = 0;
                self.format.began(start)?;
            }
            Event::Judged(verdict) => {
                if let Some(start) = &self.start {
                    self.results += 1;
                    self.format
                        .result(start, &Test::of(verdict, &start.rerun))?;
                }
            }
            Event::Finished(summary) => {
                if let Some(start) = self.start.take() {
                    let missing = missing(&start, self.results, summary.stopped.as_deref());
                    self.format.ended(&start, summary, &missing)?;
                }
            }
            Event::Invalid(files) => {
                let files = files.iter();
                let files = files.map(|(path, why)| Test::missing(&naming::of(path), why));
                self.format.invalid(&files.collect::<Vec<_>>())?;
            }
            Event::Note(note) => self.format.note(note)?,
            Event::Progress(_) | Event::AllFinished(_) | Event::Changed(_) => {}
        }
        self.format.flush()
    }

    fn end(&mut self) -> io::Result<()> {
        self.format.end()
    }
}

/// The scenarios of a run that have no result, with the reason.
fn missing(start: &Start, results: usize, stopped: Option<&str>) -> Vec<Test> {
    let why = stopped.unwrap_or("the run ended before it");
    let left = start.names.iter().skip(results);
    left.map(|name| Test::missing(name, why)).collect()
}
