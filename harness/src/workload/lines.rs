// SPDX-License-Identifier: GPL-2.0-only
//! A suite's workloads, a line for each, and what they come to together.

use super::report::{Observed, human, rate};
use super::suite::Named;
use crate::outcome::Outcome;
use protocol::workload::Exit;
use std::collections::BTreeMap;

/// So much of what a command said is shown where something is wrong.
const LINES: usize = 12;

/// A workload that was run.
pub fn line(named: &Named, observed: &Observed<'_>) -> String {
    let (ran, watched) = (observed.ran, observed.watched);
    let ended = match ran.exit {
        Exit::Code(0) => String::new(),
        Exit::Code(code) => format!("  code {code}"),
        Exit::Signal(signal) => format!("  signal {signal}"),
        Exit::TimedOut => "  too long".to_owned(),
    };
    format!(
        "{:<16} {:<42} {:>9} entries {:>5} violations {:>10} records {:>7} a second {:>8.1} s{ended}\n",
        observed.outcome.name(),
        named.place(),
        watched.checked,
        observed.violations(),
        watched.taken,
        rate(watched.taken, ran.took_ns),
        ran.took_ns as f64 / 1e9,
    )
}

/// A workload that came to no end.
pub fn broken_line(named: &Named, outcome: Outcome, why: &str) -> String {
    let why = why.replace('\n', "\n  ");
    format!("{:<16} {}\n  {why}\n", outcome.name(), named.place())
}

/// What is told of a workload that is not in agreement, with the last of what it said.
pub fn details(observed: &Observed<'_>, said: &[u8]) -> String {
    let text = human(observed);
    // Its beginning is told already.
    let told = format!(
        "{:<16} {}\n",
        observed.outcome.name(),
        observed.command.join(" ")
    );
    let text = text.strip_prefix(&told).unwrap_or(&text);
    format!("{text}{}", last_words(said))
}

/// The last lines of what a command said.
pub fn last_words(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let lines: Vec<&str> = said.lines().collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    let quoted = last.iter().map(|line| format!("    | {line}\n"));
    match last.is_empty() {
        true => String::new(),
        false => format!("  it said last\n{}", quoted.collect::<String>()),
    }
}

/// What workloads on a kernel come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    outcomes: BTreeMap<Outcome, u64>,
    entries: u64,
    violations: u64,
    records: u64,
    took_ns: u64,
}

impl Sum {
    /// Adds one that was run.
    pub fn add(&mut self, observed: &Observed<'_>) {
        self.add_outcome(observed.outcome);
        self.entries += observed.watched.checked;
        self.violations += observed.violations();
        self.records += observed.watched.taken;
        self.took_ns += observed.ran.took_ns;
    }

    /// Adds one that came to no end.
    pub fn add_outcome(&mut self, outcome: Outcome) {
        *self.outcomes.entry(outcome).or_default() += 1;
    }

    /// How many workloads came to what, and calls into tlbflush.c that were checked.
    pub fn came_to(&self) -> (&BTreeMap<Outcome, u64>, u64) {
        (&self.outcomes, self.entries)
    }

    /// In a line.
    pub fn line(&self, kernel: &str) -> String {
        let outcomes = self.outcomes.iter();
        let outcomes: Vec<String> = outcomes
            .map(|(outcome, number)| format!("{number} {}", outcome.name()))
            .collect();
        format!(
            "{kernel}: {}; {} entries, {} violations, {} records, {} a second, {:.1} s\n",
            outcomes.join(", "),
            self.entries,
            self.violations,
            self.records,
            rate(self.records, self.took_ns),
            self.took_ns as f64 / 1e9
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::watch::Watched;
    use protocol::workload::Ran;

    fn ran(exit: Exit) -> Ran {
        Ran {
            exit,
            took_ns: 2_000_000_000,
            recorded: 50,
            lost: 0,
            unfollowed: 0,
            taint_before: 0,
            taint_after: 0,
            kernel_warnings: Vec::new(),
        }
    }

    #[test]
    fn a_workload_is_a_line_and_together_they_are_one() {
        let named = Named {
            suite: "a".to_owned(),
            name: "b".to_owned(),
            command: vec!["c\nd".to_owned()],
            timeout: 1,
            memory: None,
            harts: None,
            nodes: false,
        };
        let watched = Watched {
            checked: 7,
            taken: 50,
            others: 3,
            ..Watched::default()
        };
        let ran = ran(Exit::Code(4));
        let observed = Observed {
            command: &named.command,
            kernel: "k",
            profile: "p",
            ran: &ran,
            watched: &watched,
            outcome: Outcome::Differs,
            why: Vec::new(),
        };
        let line = line(&named, &observed);
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(
            words.join(" "),
            "differs a/b 7 entries 3 violations 50 records 25 a second 2.0 s code 4"
        );
        let mut sum = Sum::default();
        sum.add(&observed);
        sum.add(&observed);
        sum.add_outcome(Outcome::CouldNotRun);
        assert_eq!(
            sum.line("k"),
            "k: 1 could not run, 2 differs; 14 entries, 6 violations, 100 records, 25 a second, \
             4.0 s\n"
        );
        let details = details(&observed, b"one\ntwo");
        assert!(details.starts_with("  k, 0 address spaces"), "{details}");
        assert!(
            details.ends_with("  it said last\n    | one\n    | two\n"),
            "{details}"
        );
    }
}
