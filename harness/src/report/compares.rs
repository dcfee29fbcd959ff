// SPDX-License-Identifier: GPL-2.0-only
//! What two kernels do differently, for people and programs.

use super::human::comparison;
use super::json;
use super::style::Style;
use crate::cli::args::Format;
use crate::compare::{Class, Compared, Comparison};
use std::io::{self, Write};

/// Prints comparisons.
pub struct Compares<W: Write> {
    /// Where to.
    pub out: W,
    /// The kernels.
    pub names: [String; 2],
    /// For whom.
    pub format: Format,
    /// Without those that are the same.
    pub quiet: bool,
    /// How, for people.
    pub style: Style,
}

impl<W: Write> Compares<W> {
    /// Tells of one scenario.
    ///
    /// # Errors
    /// The output cannot be written to.
    pub fn tell(&mut self, told: &Comparison) -> io::Result<()> {
        if self.quiet && told.class == Class::Same {
            return Ok(());
        }
        let text = match self.format {
            Format::Human => comparison(&self.style, &self.names, told),
            Format::Json => format!("{}\n", json::comparison(told, &self.names).to_json()?),
        };
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Tells of all.
    ///
    /// # Errors
    /// The output cannot be written to.
    pub fn finish(&mut self, compared: &Compared) -> io::Result<()> {
        let count = |class: &Class| compared.counts.get(class).copied().unwrap_or(0);
        let [one, other] = &self.names;
        match self.format {
            Format::Human => {
                let counts = Class::ALL.iter().filter(|class| count(class) > 0);
                let mut counts: Vec<String> = counts
                    .map(|class| format!("{} {}", count(class), class.name()))
                    .collect();
                if compared.not_run > 0 {
                    counts.push(format!("{} not run", compared.not_run));
                }
                writeln!(self.out, "{one} and {other}: {}", counts.join(", "))
            }
            Format::Json => {
                let line = json::compared(compared, &self.names);
                writeln!(self.out, "{}", line.to_json()?)
            }
        }
    }
}
