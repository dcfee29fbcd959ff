// SPDX-License-Identifier: GPL-2.0-only
//! What notifications cost, over time and kernels.

use super::error::HistoryError;
use super::line::time;
use super::show::{Choice, aligned};
use super::store::Store;
use crate::cost::OperationCost;
use rusqlite::{TransactionBehavior, params};

/// Where and when something was counted.
#[derive(Clone, Debug)]
pub struct Occasion {
    /// In milliseconds since 1970.
    pub began_ms: i64,
    /// On which machine.
    pub board: String,
    /// In which line of kernels.
    pub line: String,
    /// On which kernel.
    pub kernel: String,
}

impl Store {
    /// Keeps what was counted, all or nothing of it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep_costs(
        &mut self,
        occasion: &Occasion,
        costs: &[OperationCost],
    ) -> Result<(), HistoryError> {
        let said = self.saying();
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(&said)?;
        for cost in costs {
            let values = params![
                occasion.began_ms,
                occasion.board,
                occasion.line,
                occasion.kernel,
                cost.operation,
                cost.steps,
                cost.notifications,
                cost.unit.name(),
                cost.step,
                cost.first,
                cost.further,
                cost.share
            ];
            transaction
                .prepare_cached(
                    "INSERT INTO costs (began, board, line, kernel, operation, steps,
                        notifications, unit, step, first, further, share)
                    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
                )
                .and_then(|mut insert| insert.execute(values))
                .map_err(&said)?;
        }
        transaction.commit().map_err(&said)
    }
}

/// A table of what notifications cost.
///
/// # Errors
/// It cannot be read.
pub fn costs(store: &Store, choice: &Choice) -> Result<String, HistoryError> {
    let rows = rows(store, choice).map_err(store.saying())?;
    Ok(aligned(&rows))
}

fn rows(store: &Store, choice: &Choice) -> rusqlite::Result<Vec<[String; 9]>> {
    let head = [
        "began (UTC)",
        "board",
        "line",
        "kernel",
        "operation",
        "notified",
        "first",
        "further",
        "share",
    ];
    let mut table = vec![head.map(str::to_owned)];
    let mut query = store.connection.prepare(
        "SELECT began, board, line, kernel, operation, notifications, unit, first, further, share
        FROM (
            SELECT *, dense_rank() OVER (PARTITION BY board, line ORDER BY began DESC) AS place
            FROM costs
            WHERE board = coalesce(?1, board) AND line = coalesce(?2, line))
        WHERE place <= ?3 ORDER BY operation, board, line, unit, began, id",
    )?;
    let mut found = query.query(params![choice.board, choice.line, choice.last])?;
    while let Some(row) = found.next()? {
        let unit: String = row.get(6)?;
        let figure = |place: usize| row.get::<_, f64>(place);
        table.push([
            time(row.get(0)?).format("%Y-%m-%d %H:%M").to_string(),
            row.get(1)?,
            row.get(2)?,
            row.get(3)?,
            row.get(4)?,
            row.get::<_, u64>(5)?.to_string(),
            format!("{:.0}", figure(7)?),
            format!("{:.0} {unit}", figure(8)?),
            format!("{:.1}%", figure(9)? * 100.0),
        ]);
    }
    Ok(table)
}
