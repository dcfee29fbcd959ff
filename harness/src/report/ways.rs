// SPDX-License-Identifier: GPL-2.0-only
//! The ways into `tlbflush.c`, for people and programs.

use super::line::SCHEMA;
use crate::cli::args::Format;
use crate::paths::{By, Reasons, Table};
use serde::Serialize;
use std::io::{self, Write};

/// Scenarios that people are told of for a way, at the most.
const EXAMPLES: usize = 2;

/// Prints ways.
pub struct Printer<'a, W: Write> {
    /// Where to.
    pub out: W,
    /// For whom.
    pub format: Format,
    /// All scenarios, and chains that were not understood.
    pub verbose: bool,
    /// The kernel's name.
    pub kernel: &'a str,
    /// Its release.
    pub release: &'a str,
}

/// A line for programs: a way.
#[derive(Serialize)]
struct WayLine<'a> {
    r#type: &'static str,
    schema: u32,
    kernel: &'a str,
    release: &'a str,
    functions: Vec<&'a str>,
    from: &'a By,
    unreached: Option<&'a str>,
}

impl<W: Write> Printer<'_, W> {
    /// Tells all of them.
    ///
    /// # Errors
    /// The output cannot be written to.
    pub fn tell(&mut self, table: &Table, reasons: &Reasons) -> io::Result<()> {
        match self.format {
            Format::Human => self.human(table, reasons),
            Format::Json => self.json(table, reasons),
        }
    }

    fn human(&mut self, table: &Table, reasons: &Reasons) -> io::Result<()> {
        let (all, seen) = (table.ways.len(), table.seen());
        let (kernel, release) = (self.kernel, self.release);
        writeln!(
            self.out,
            "{kernel} (Linux {release}): {all} ways into tlbflush.c, scenarios come by {seen}"
        )?;
        for (way, by) in table.ways.iter().filter(|(_, by)| !by.is_empty()) {
            writeln!(self.out, "{way}")?;
            for (origin, names) in by {
                let told = if self.verbose { names.len() } else { EXAMPLES };
                let mut some: Vec<&str> = names.iter().map(String::as_str).collect();
                some.sort_by_key(|name| (name.len(), *name));
                let some = some[..told.min(names.len())].join(", ");
                writeln!(self.out, "{:5} from {origin}: {some}", names.len())?;
            }
        }
        for (way, _) in table.ways.iter().filter(|(_, by)| by.is_empty()) {
            let why = reasons.why(way).map(|why| format!(": {why}"));
            writeln!(self.out, "{way}\n   no scenario{}", why.unwrap_or_default())?;
        }
        let broken = table.broken.len();
        if broken > 0 {
            writeln!(self.out, "{broken} chains of callers end early")?;
        }
        for chain in table.broken.iter().filter(|_| self.verbose) {
            writeln!(self.out, "  {chain}")?;
        }
        Ok(())
    }

    fn json(&mut self, table: &Table, reasons: &Reasons) -> io::Result<()> {
        for (way, by) in &table.ways {
            let line = WayLine {
                r#type: "way",
                schema: SCHEMA,
                kernel: self.kernel,
                release: self.release,
                functions: way.split(" → ").collect(),
                from: by,
                unreached: reasons.why(way).filter(|_| by.is_empty()),
            };
            writeln!(self.out, "{}", serde_json::to_string(&line)?)?;
        }
        Ok(())
    }
}
