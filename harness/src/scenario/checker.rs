// SPDX-License-Identifier: GPL-2.0-only
//! What all parts of checking have in common: places in the text, numbers and names.

use super::errors::{InputError, did_you_mean};
use super::expression::{self, Variables};
use super::file::Count;
use super::names::{self, Table};
use serde_saphyr::{Location, Spanned};
use std::cell::RefCell;
use std::path::Path;

pub(super) struct Checker<'a> {
    pub path: &'a Path,
    pub text: &'a str,
    pub lines: Vec<&'a str>,
    /// The rounds of the `repeat`s that are being checked, the innermost last.
    pub rounds: RefCell<Variables>,
}

pub(super) type Checked<T> = Result<T, InputError>;

impl Checker<'_> {
    pub(super) fn error(&self, at: Location, message: impl Into<String>) -> InputError {
        let lines = self.text.lines().count();
        // Where the text ends too early, the parser points behind its last line.
        let at = match (at.line() as usize, at.column() as usize) {
            (line, _) if line > lines => (
                lines,
                self.text
                    .lines()
                    .last()
                    .map_or(0, |last| last.chars().count())
                    + 1,
            ),
            place => place,
        };
        InputError::at(self.path, self.text, at, self.in_this_round(message.into()))
    }

    /// A text, and in which rounds of `repeat` it is so: it may be otherwise in others.
    pub(super) fn in_this_round(&self, message: String) -> String {
        let rounds = self.rounds.borrow();
        if rounds.is_empty() {
            return message;
        }
        let named = rounds
            .iter()
            .map(|(name, round)| format!("${name} is {round}"));
        format!(
            "{message}, where {}",
            named.collect::<Vec<_>>().join(" and ")
        )
    }

    /// Names of files and actors stand in texts between blanks and colons.
    pub(super) fn good_name(&self, name: &str, at: Location) -> Checked<()> {
        let good = |letter: char| letter.is_alphanumeric() || matches!(letter, '-' | '_' | '.');
        if !name.is_empty() && name.chars().all(good) {
            return Ok(());
        }
        let message = format!("{name:?} is no name: it takes letters, digits, `-`, `_` and `.`");
        Err(self.error(at, message))
    }

    pub(super) fn at_most(&self, count: &Spanned<Count>, limit: u64, whose: &str) -> Checked<u64> {
        let number = self.count(count)?;
        if number > limit {
            let message = format!("{number} is too large: {whose} {limit} pages");
            return Err(self.error(count.referenced, message));
        }
        Ok(number)
    }

    pub(super) fn count(&self, count: &Spanned<Count>) -> Checked<u64> {
        self.number(count, "a whole number of pages")
    }

    /// What a number, or an expression, comes to here.
    pub(super) fn number(&self, count: &Spanned<Count>, expected: &str) -> Checked<u64> {
        match &count.value {
            Count::Pages(number) => Ok(*number),
            Count::Expression(text) => expression::evaluate(text, &self.rounds.borrow())
                .map_err(|why| self.error(count.referenced, format!("`{text}`: {why}"))),
            Count::Wrong(what) => {
                let message = format!("expected {expected}, found {what}");
                Err(self.error(count.referenced, message))
            }
        }
    }

    pub(super) fn named<N: Copy>(
        &self,
        what: &str,
        table: Table<N>,
        name: &Spanned<String>,
    ) -> Checked<N> {
        self.look_up(what, table, &name.value, name.referenced)
    }

    pub(super) fn look_up<N: Copy>(
        &self,
        what: &str,
        table: Table<N>,
        name: &str,
        at: Location,
    ) -> Checked<N> {
        names::number(table, name).ok_or_else(|| {
            let known: Vec<&str> = table.iter().map(|entry| entry.0).collect();
            let message = format!(
                "unknown {what} `{name}`, expected one of {}",
                known.join(", ")
            );
            self.error(at, message)
                .with_hint(did_you_mean(name, known.into_iter()))
        })
    }
}
