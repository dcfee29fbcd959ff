// SPDX-License-Identifier: GPL-2.0-only
//! What is kept, in lines for people.

use super::error::HistoryError;
use super::line::time;
use super::store::{Counts, Store, outcome};
use crate::outcome::Outcome;
use crate::scenario::names;
use rusqlite::params;
use std::collections::HashMap;
use std::fmt::Write;

/// Which runs are meant.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Those on this board.
    pub board: Option<String>,
    /// Those of this line of kernels.
    pub line: Option<String>,
    /// At most so many of each board and line, the last ones.
    pub last: u32,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its number in the database.
    pub id: i64,
    /// When it began, in milliseconds since 1970.
    pub began: i64,
    /// On which machine.
    pub board: String,
    /// In which line of kernels.
    pub line: String,
    /// On which kernel.
    pub kernel: String,
    /// The model's kernel.
    pub profile: String,
    /// How many scenarios were to be run.
    pub scenarios: usize,
    /// How long it took; none if it did not end, or goes on.
    pub elapsed_ms: Option<u64>,
    /// Why it ended early.
    pub stopped: Option<String>,
    /// What its results came to.
    pub counts: Counts,
}

impl Run {
    /// What it came to, in a few words.
    pub fn came_to(&self) -> String {
        let mut words: Vec<String> = self
            .counts
            .iter()
            .map(|(outcome, count)| format!("{count} {}", outcome.name()))
            .collect();
        let not_run = self.scenarios.saturating_sub(self.counts.values().sum());
        if not_run > 0 {
            words.push(format!("{not_run} not run"));
        }
        match (self.elapsed_ms, &self.stopped) {
            (None, _) => words.push("it did not end, or goes on".to_owned()),
            (_, Some(why)) => words.push(why.clone()),
            _ => {}
        }
        words.join(", ")
    }

    /// When it began, in UTC.
    pub fn when(&self) -> String {
        time(self.began).format("%Y-%m-%d %H:%M").to_string()
    }
}

impl Store {
    /// The runs that are meant, the first one first.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn runs(&self, choice: &Choice) -> Result<Vec<Run>, HistoryError> {
        self.query_runs(choice).map_err(self.saying())
    }

    fn query_runs(&self, choice: &Choice) -> rusqlite::Result<Vec<Run>> {
        let mut query = self.connection.prepare(
            "SELECT id, began, board, line, kernel, profile, scenarios, elapsed_ms, stopped FROM (
                SELECT *, row_number() OVER (
                    PARTITION BY board, line ORDER BY began DESC, id DESC) AS place
                FROM runs
                WHERE board = coalesce(?1, board) AND line = coalesce(?2, line))
            WHERE place <= ?3 ORDER BY began, id",
        )?;
        let runs = query.query_map(params![choice.board, choice.line, choice.last], |row| {
            Ok(Run {
                id: row.get(0)?,
                began: row.get(1)?,
                board: row.get(2)?,
                line: row.get(3)?,
                kernel: row.get(4)?,
                profile: row.get(5)?,
                scenarios: row.get(6)?,
                elapsed_ms: row.get(7)?,
                stopped: row.get(8)?,
                counts: Counts::new(),
            })
        })?;
        let mut runs = runs.collect::<rusqlite::Result<Vec<Run>>>()?;
        let mut query = self
            .connection
            .prepare("SELECT outcome, count(*) FROM results WHERE run = ?1 GROUP BY outcome")?;
        for run in &mut runs {
            let counts = query.query_map([run.id], |row| {
                Ok((outcome(row.get_ref(0)?.as_str()?), row.get(1)?))
            })?;
            run.counts = counts.collect::<rusqlite::Result<Counts>>()?;
        }
        Ok(runs)
    }

    /// The scenario of that name, or whose file has it; else the nearest name.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn scenario_named(
        &self,
        name: &str,
    ) -> Result<Result<String, Option<String>>, HistoryError> {
        let mut query = self
            .connection
            .prepare("SELECT name FROM scenarios ORDER BY name")
            .map_err(self.saying())?;
        let names = query
            .query_map([], |row| row.get(0))
            .map_err(self.saying())?;
        let names: Vec<String> = names.collect::<Result<_, _>>().map_err(self.saying())?;
        Ok(match names.iter().find(|known| *known == name) {
            Some(known) => Ok(known.clone()),
            None => Err(names::nearest(name, names.iter().map(String::as_str)).map(str::to_owned)),
        })
    }
}

/// A table of runs.
///
/// # Errors
/// They cannot be read.
pub fn runs(store: &Store, choice: &Choice) -> Result<String, HistoryError> {
    let mut table =
        vec![["began (UTC)", "board", "line", "kernel", "took", "came to"].map(str::to_owned)];
    for run in store.runs(choice)? {
        let took = run.elapsed_ms.map_or_else(String::new, seconds);
        let (when, came_to) = (run.when(), run.came_to());
        table.push([when, run.board, run.line, run.kernel, took, came_to]);
    }
    Ok(aligned(&table))
}

/// A table of a scenario's results.
///
/// # Errors
/// They cannot be read.
pub fn scenario(store: &Store, name: &str, choice: &Choice) -> Result<String, HistoryError> {
    let mut table = vec![
        [
            "began (UTC)",
            "board",
            "line",
            "kernel",
            "outcome",
            "took",
            "why",
        ]
        .map(str::to_owned),
    ];
    let runs: HashMap<i64, Run> = store
        .runs(choice)?
        .into_iter()
        .map(|run| (run.id, run))
        .collect();
    let mut told = 0;
    for result in results(store, name).map_err(store.saying())? {
        if let Some(run) = runs.get(&result.run) {
            told += 1;
            table.push([
                run.when(),
                run.board.clone(),
                run.line.clone(),
                run.kernel.clone(),
                result.outcome.name().to_owned(),
                seconds(result.elapsed_ms),
                result.why,
            ]);
        }
    }
    let mut text = format!("{name}: {told} results\n");
    text.push_str(&aligned(&table));
    Ok(text)
}

struct Result_ {
    run: i64,
    outcome: Outcome,
    elapsed_ms: u64,
    why: String,
}

fn results(store: &Store, name: &str) -> rusqlite::Result<Vec<Result_>> {
    let mut query = store.connection.prepare(
        "SELECT results.run, outcome, results.elapsed_ms, why FROM results
        JOIN scenarios ON scenarios.id = results.scenario JOIN runs ON runs.id = results.run
        WHERE scenarios.name = ?1 ORDER BY runs.began, runs.id",
    )?;
    let rows = query.query_map([name], |row| {
        Ok(Result_ {
            run: row.get(0)?,
            outcome: outcome(row.get_ref(1)?.as_str()?),
            elapsed_ms: row.get(2)?,
            why: row.get(3)?,
        })
    })?;
    rows.collect()
}

fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1000.0)
}

/// Columns below each other.
pub(super) fn aligned<const N: usize>(table: &[[String; N]]) -> String {
    let width = |column: usize| {
        let widths = table.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in table {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text
}
