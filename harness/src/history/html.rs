// SPDX-License-Identifier: GPL-2.0-only
//! All that is kept as one page, which needs nothing but itself: the matrix of scenarios
//! and runs, and behind each failure the arena, step by step.

mod arena;

use super::error::HistoryError;
use super::line::time;
use super::show::{Choice, Run};
use super::store::{Store, outcome};
use crate::outcome::Outcome;
use crate::outcome::Status;
use crate::report::line::{self, Line};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use std::collections::{BTreeMap, BTreeSet, HashMap};

const STYLE: &str = include_str!("page.css");

/// A result.
struct Cell {
    outcome: Outcome,
    details: Option<i64>,
}

/// The runs on a board and a line.
struct Matrix {
    board: String,
    line: String,
    runs: Vec<Run>,
    /// By scenario, and by the run's number in the database.
    rows: BTreeMap<String, HashMap<i64, Cell>>,
}

/// What was found once or more often.
struct Found {
    id: i64,
    scenario: String,
    outcome: Outcome,
    why: String,
    /// The places of its runs.
    times: usize,
    first: i64,
    last: i64,
    text: String,
}

/// The page of the runs that are meant.
///
/// # Errors
/// They cannot be read.
pub fn page(store: &Store, choice: &Choice) -> Result<String, HistoryError> {
    let matrices = matrices(store, choice)?;
    let shown: BTreeSet<i64> = matrices
        .iter()
        .flat_map(|matrix| matrix.rows.values())
        .flat_map(HashMap::values)
        .filter_map(|cell| cell.details)
        .collect();
    let found = found(store, &shown).map_err(store.saying())?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "tlbdiff: history" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "tlbdiff: what RISC-V kernels notified secondary MMUs of" }
                (legend())
                @for matrix in &matrices { (self::matrix(matrix)) }
                @if !found.is_empty() { h2 { "What was found" } }
                @for found in &found { (details(found)) }
            }
        }
    };
    Ok(page.into_string())
}

fn matrices(store: &Store, choice: &Choice) -> Result<Vec<Matrix>, HistoryError> {
    let mut matrices: Vec<Matrix> = Vec::new();
    for run in store.runs(choice)? {
        let rows = cells(store, run.id).map_err(store.saying())?;
        let place = matrices
            .iter()
            .position(|matrix| matrix.board == run.board && matrix.line == run.line);
        let place = place.unwrap_or_else(|| {
            matrices.push(Matrix {
                board: run.board.clone(),
                line: run.line.clone(),
                runs: Vec::new(),
                rows: BTreeMap::new(),
            });
            matrices.len() - 1
        });
        let matrix = &mut matrices[place];
        for (scenario, cell) in rows {
            matrix
                .rows
                .entry(scenario)
                .or_default()
                .insert(run.id, cell);
        }
        matrix.runs.push(run);
    }
    Ok(matrices)
}

fn cells(store: &Store, run: i64) -> rusqlite::Result<Vec<(String, Cell)>> {
    let mut query = store.connection.prepare_cached(
        "SELECT scenarios.name, outcome, details FROM results
        JOIN scenarios ON scenarios.id = results.scenario WHERE run = ?1",
    )?;
    let cells = query.query_map([run], |row| {
        let outcome = outcome(row.get_ref(1)?.as_str()?);
        let details = row.get(2)?;
        Ok((row.get(0)?, Cell { outcome, details }))
    })?;
    cells.collect()
}

fn found(store: &Store, shown: &BTreeSet<i64>) -> rusqlite::Result<Vec<Found>> {
    let mut query = store.connection.prepare(
        "SELECT details.id, scenarios.name, outcome, why, count(*), min(runs.began),
            max(runs.began), details.text
        FROM results JOIN details ON details.id = results.details
        JOIN scenarios ON scenarios.id = results.scenario JOIN runs ON runs.id = results.run
        GROUP BY details.id ORDER BY scenarios.name, min(runs.began)",
    )?;
    let found = query.query_map([], |row| {
        Ok(Found {
            id: row.get(0)?,
            scenario: row.get(1)?,
            outcome: outcome(row.get_ref(2)?.as_str()?),
            why: row.get(3)?,
            times: row.get(4)?,
            first: row.get(5)?,
            last: row.get(6)?,
            text: row.get(7)?,
        })
    })?;
    let found = found.collect::<rusqlite::Result<Vec<Found>>>()?;
    Ok(found
        .into_iter()
        .filter(|found| shown.contains(&found.id))
        .collect())
}

fn class(outcome: Outcome) -> &'static str {
    match Status::of(outcome) {
        Status::Pass => "a",
        Status::Xfail => "k",
        Status::Skip => "s",
        Status::Error => "e",
        Status::Flaky => "v",
        Status::Fail => "f",
    }
}

/// A sign for who cannot tell the colours apart.
fn sign(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Agree => "",
        Outcome::Skipped => "–",
        Outcome::Known => "k",
        Outcome::CouldNotRun => "?",
        Outcome::ModelNotRead => "m",
        Outcome::SnapshotNew => "n",
        Outcome::SnapshotChanged => "s",
        Outcome::Varies => "~",
        Outcome::NotReproduced => "g",
        Outcome::Differs => "D",
        Outcome::Stuck => "s",
        Outcome::UnsafeByPieces => "P",
        Outcome::Unsafe => "U",
        Outcome::ProgramCorrupted => "C",
        Outcome::KernelCrashed => "X",
    }
}

fn legend() -> Markup {
    html! {
        p.legend {
            @for outcome in Outcome::ALL {
                span class=(class(outcome)) { (sign(outcome)) " " (outcome.name()) }
            }
        }
        p { label { input #bad type="checkbox"; " only scenarios that did not always agree" } }
    }
}

fn matrix(matrix: &Matrix) -> Markup {
    let fine = |row: &HashMap<i64, Cell>| row.values().all(|cell| cell.outcome == Outcome::Agree);
    html! {
        h2 { (matrix.line) " on " (matrix.board) }
        p.dim { (matrix.rows.len()) " scenarios, " (matrix.runs.len()) " runs; the newest is on the right" }
        div.wide { table {
            thead { tr {
                th { "scenario" }
                @for run in &matrix.runs {
                    th title=(format!("{}: {}", run.kernel, run.came_to())) { (run.when()) " " (run.kernel) }
                }
            } }
            tbody { @for (scenario, row) in &matrix.rows {
                tr.fine[fine(row)] {
                    th { (scenario) }
                    @for run in &matrix.runs { (cell(row.get(&run.id))) }
                }
            } }
        } }
    }
}

fn cell(cell: Option<&Cell>) -> Markup {
    let Some(cell) = cell else {
        return html! { td {} };
    };
    let (class, sign) = (class(cell.outcome), sign(cell.outcome));
    match cell.details {
        None => html! { td class=(class) { (sign) } },
        Some(id) => html! {
            td class=(class) title=(cell.outcome.name()) { a href=(format!("#d{id}")) { (sign) } }
        },
    }
}

fn details(found: &Found) -> Markup {
    let when = |ms| time(ms).format("%Y-%m-%d %H:%M UTC").to_string();
    // Whatever version wrote it: what cannot be read is left out.
    let line = match Line::parse(&found.text) {
        Ok(Line::Scenario(line)) => *line,
        _ => line::Scenario::default(),
    };
    html! {
        section id=(format!("d{}", found.id)) {
            h3 { (found.scenario) ": " (found.outcome.name()) }
            @if !found.why.is_empty() { p { (found.why) } }
            @if let Some(cause) = &line.cause { p.dim { (cause) } }
            p.dim {
                @if !line.about.is_empty() { (line.about) " – " }
                @match found.times {
                    1 => { "once, " (when(found.first)) }
                    times => { (times) " times, from " (when(found.first)) " to " (when(found.last)) }
                }
                @if !line.kernel.is_empty() { ", on " (line.kernel) }
            }
            @if let Some(unpredicted) = &line.unpredicted {
                p { "not predicted from step " (unpredicted.step) " on: " (unpredicted.why) }
            }
            (arena::steps(&line))
            @for finding in &line.findings { (self::finding(finding)) }
            @if !line.rerun.is_empty() { p { "run just this: " code { (line.rerun) } } }
        }
    }
}

/// What a finding says in words.
fn finding(finding: &line::Finding) -> Markup {
    html! {
        @if !finding.why.is_empty() { p { (finding.why) } }
        @for block in &finding.blocks { (self::block(block)) }
    }
}

fn block(block: &line::Block) -> Markup {
    match block {
        line::Block::Text { lines } | line::Block::Log { log: lines } => html! {
            pre { (self::lines("", lines)) }
        },
        line::Block::Seen { lines } => html! { pre { (self::lines("+ ", lines)) } },
        line::Block::Calls { calls } => html! {
            @for call in calls {
                p { "after " code { (call.call.as_deref().unwrap_or("no call")) } ":" }
                pre { (effects("- ", &call.expected)) (effects("+ ", &call.followed)) }
            }
        },
        line::Block::Steps { steps, hints, .. } => html! {
            @for change in steps {
                p { "step " (change.step) ":" }
                pre {
                    (self::lines("- ", change.expected.as_deref().unwrap_or_default()))
                    (self::lines("+ ", change.seen.as_deref().unwrap_or_default()))
                }
            }
            @for hint in hints.iter().filter(|hint| !hint.functions.is_empty()) {
                p { "changed since " (hint.nearest) ": " (hint.functions.join(", ")) }
            }
        },
        line::Block::Ranges { ranges } => html! {
            @for lost in ranges {
                p { "step " (lost.step) ": the " (lost.side) " did not notify of "
                    code { (lost.range.pages) } }
            }
        },
        line::Block::Reached { reached } => html! {
            @for one in reached { p { (one.text) } }
        },
        line::Block::Page { page } => html! { pre { (page) } },
        line::Block::Counts { .. } | line::Block::Proposed { .. } => html! {},
    }
}

fn lines(mark: &str, lines: &[String]) -> String {
    lines.iter().map(|line| format!("{mark}{line}\n")).collect()
}

fn effects(mark: &str, effects: &[line::Effect]) -> String {
    let texts = effects.iter().map(|effect| &effect.text);
    texts.map(|text| format!("{mark}{text}\n")).collect()
}
