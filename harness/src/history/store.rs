// SPDX-License-Identifier: GPL-2.0-only
//! The database. Every result is committed by itself, so that whatever ends a run leaves
//! all that was told of before; the journal is SQLite's ordinary one, for a write-ahead
//! log can be read neither over NFS, which boards boot from, nor on a read-only disk.

use super::changes::{Past, Pasts};
use super::error::HistoryError;
use super::line::{Details, Line, Scenario, Start, time};
use crate::outcome::Outcome;
use crate::report::line::Summary;
use chrono::Utc;
use nix::fcntl::{Flock, FlockArg};
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Each brings the tables from the version of its place to the next.
const MIGRATIONS: [&str; 3] = [
    include_str!("tables.sql"),
    include_str!("tables-2.sql"),
    include_str!("tables-3.sql"),
];

/// Another run may be writing.
const BUSY: Duration = Duration::from_secs(30);

/// Runs that are looked at for what was before.
const PAST_RUNS: i64 = 60;

/// Kept results.
#[derive(Debug)]
pub struct Store {
    pub(super) connection: Connection,
    path: PathBuf,
}

/// How far a stream of lines has been taken.
#[derive(Debug, Default)]
pub struct Stream {
    run: Option<i64>,
    seen: HashMap<String, u32>,
}

/// What opening came to.
#[derive(Debug)]
pub struct Opened {
    /// The database.
    pub store: Store,
    /// What the user should know.
    pub note: Option<String>,
}

impl Store {
    /// Opens it for writing, and makes it where there is none. One that is damaged is put
    /// aside, and a new one begun.
    ///
    /// # Errors
    /// It cannot be written, or is of a newer version.
    pub fn open(path: &Path) -> Result<Opened, HistoryError> {
        let file = |source| HistoryError::File {
            path: path.to_owned(),
            source,
        };
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder {
            fs::create_dir_all(folder).map_err(file)?;
        }
        // Two that begin at once must not both put it aside.
        let lock = beside(path, "lock");
        let lock = File::options()
            .append(true)
            .create(true)
            .open(lock)
            .map_err(file)?;
        let _lock =
            Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| file(errno.into()))?;
        match Store::open_whole(path) {
            Err(error) if is_damage(&error) => {
                let aside = put_aside(path).map_err(file)?;
                let note = format!(
                    "{} is damaged ({error}); it was put aside as {}, and a new history begun: \
                     `sqlite3 FILE .recover` may get its results back",
                    path.display(),
                    aside.display()
                );
                let store = Store::open_whole(path)?;
                Ok(Opened {
                    store,
                    note: Some(note),
                })
            }
            store => Ok(Opened {
                store: store?,
                note: None,
            }),
        }
    }

    /// Opens what is there, for reading.
    ///
    /// # Errors
    /// There is none, it is damaged, or of another version.
    pub fn read(path: &Path) -> Result<Store, HistoryError> {
        if !path.exists() {
            return Err(HistoryError::None(path.to_owned()));
        }
        let connect = |flags| {
            let store = Store::connect(path, flags)?;
            let version = store.version()?;
            Ok((store, version))
        };
        let (store, version) = match connect(OpenFlags::SQLITE_OPEN_READ_ONLY) {
            // What a killed run was writing has to be taken back first.
            Err(error) if was_cut_off(&error) => connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?,
            read => read?,
        };
        if version == 0 {
            return Err(HistoryError::None(path.to_owned()));
        }
        store.check_version(version)?;
        if version < MIGRATIONS.len() as i64 {
            // Only one that can write it brings it up.
            return Store::open(path).map(|opened| opened.store);
        }
        Ok(store)
    }

    fn open_whole(path: &Path) -> Result<Store, HistoryError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let mut store = Store::connect(path, flags)?;
        let version = store.version()?;
        store.check_version(version)?;
        if version == 0 {
            let pragma = store
                .connection
                .pragma_update(None, "auto_vacuum", "INCREMENTAL");
            pragma.map_err(store.saying())?;
        }
        store.migrate(version)?;
        store.check()?;
        Ok(store)
    }

    fn connect(path: &Path, flags: OpenFlags) -> Result<Store, HistoryError> {
        let said = |source| HistoryError::Database {
            path: path.to_owned(),
            source,
        };
        let connection = Connection::open_with_flags(path, flags).map_err(said)?;
        connection.busy_timeout(BUSY).map_err(said)?;
        connection
            .pragma_update(None, "foreign_keys", true)
            .map_err(said)?;
        // Power that fails takes nothing away either.
        connection
            .pragma_update(None, "synchronous", "FULL")
            .map_err(said)?;
        Ok(Store {
            connection,
            path: path.to_owned(),
        })
    }

    fn version(&self) -> Result<i64, HistoryError> {
        let query = self
            .connection
            .pragma_query_value(None, "user_version", |row| row.get(0));
        query.map_err(self.saying())
    }

    fn check_version(&self, found: i64) -> Result<(), HistoryError> {
        let known = MIGRATIONS.len() as i64;
        if found > known {
            return Err(HistoryError::Newer {
                path: self.path.clone(),
                found,
                known,
            });
        }
        Ok(())
    }

    /// Writes in any case, to find out whether that can be done.
    fn migrate(&mut self, from: i64) -> Result<(), HistoryError> {
        let said = self.saying();
        let steps = MIGRATIONS.iter().skip(usize::try_from(from).unwrap_or(0));
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(&said)?;
        for step in steps {
            transaction.execute_batch(step).map_err(&said)?;
        }
        let known = MIGRATIONS.len() as i64;
        transaction
            .pragma_update(None, "user_version", known)
            .map_err(&said)?;
        transaction.commit().map_err(&said)
    }

    fn check(&self) -> Result<(), HistoryError> {
        let query = self
            .connection
            .pragma_query_value(None, "quick_check", |row| row.get(0));
        let found: String = query.map_err(self.saying())?;
        if found == "ok" {
            return Ok(());
        }
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        Err(self.saying()(rusqlite::Error::SqliteFailure(
            code,
            Some(found),
        )))
    }

    pub(super) fn saying(&self) -> impl Fn(rusqlite::Error) -> HistoryError + use<> {
        let path = self.path.clone();
        move |source| HistoryError::Database {
            path: path.clone(),
            source,
        }
    }

    /// Keeps lines, all or none of them. Gives how many results are new.
    ///
    /// # Errors
    /// They cannot be written; then none is.
    pub fn take<'a>(
        &mut self,
        place: &mut Stream,
        lines: impl IntoIterator<Item = &'a Line>,
    ) -> Result<usize, HistoryError> {
        let said = self.saying();
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(&said)?;
        let mut new = 0;
        for line in lines {
            new += take(&transaction, place, line).map_err(&said)?;
        }
        transaction.commit().map_err(&said)?;
        Ok(new)
    }

    /// What was before, on a board and a line.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn pasts(&self, board: &str, line: &str) -> Result<Pasts, HistoryError> {
        self.query_pasts(board, line).map_err(self.saying())
    }

    fn query_pasts(&self, board: &str, line: &str) -> rusqlite::Result<Pasts> {
        let mut pasts = Pasts::default();
        let mut query = self.connection.prepare(
            "WITH past AS (
                SELECT id, began FROM runs WHERE board = ?1 AND line = ?2
                ORDER BY began DESC, id DESC LIMIT ?3)
            SELECT past.began, scenarios.name, results.outcome, results.elapsed_ms, results.cause
            FROM past JOIN results ON results.run = past.id
            JOIN scenarios ON scenarios.id = results.scenario
            ORDER BY past.began DESC, past.id DESC",
        )?;
        let mut rows = query.query(params![board, line, PAST_RUNS])?;
        while let Some(row) = rows.next()? {
            pasts.since.get_or_insert(time(row.get(0)?));
            let past: &mut Past = pasts.scenarios.entry(row.get(1)?).or_default();
            past.add_older(outcome(row.get_ref(2)?.as_str()?), row.get(3)?);
            pasts.causes.extend(row.get::<_, Option<String>>(4)?);
        }
        Ok(pasts)
    }

    /// Forgets all but the last runs of each board and line.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn forget(&mut self, keep: u32) -> Result<usize, HistoryError> {
        let said = self.saying();
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(&said)?;
        let forgotten = transaction
            .execute(
                "DELETE FROM runs WHERE id IN (
                    SELECT id FROM (
                        SELECT id, row_number() OVER (
                            PARTITION BY board, line ORDER BY began DESC, id DESC) AS place
                        FROM runs)
                    WHERE place > ?1)",
                params![keep],
            )
            .map_err(&said)?;
        if forgotten > 0 {
            transaction
                .execute_batch(
                    "DELETE FROM details WHERE id NOT IN
                        (SELECT details FROM results WHERE details IS NOT NULL);
                    DELETE FROM scenarios WHERE id NOT IN (SELECT scenario FROM results);",
                )
                .map_err(&said)?;
        }
        transaction.commit().map_err(&said)?;
        if forgotten > 0 {
            self.shrink().map_err(&said)?;
        }
        Ok(forgotten)
    }

    /// Gives pages back that are free: one at each step.
    fn shrink(&self) -> rusqlite::Result<()> {
        let mut pragma = self.connection.prepare("PRAGMA incremental_vacuum")?;
        let mut steps = pragma.query([])?;
        while steps.next()?.is_some() {}
        Ok(())
    }
}

fn take(connection: &Connection, place: &mut Stream, line: &Line) -> rusqlite::Result<usize> {
    match (line, place.run) {
        (Line::Start(start), _) => {
            *place = Stream {
                run: Some(take_start(connection, start)?),
                seen: HashMap::new(),
            };
            Ok(0)
        }
        (Line::Scenario(scenario), Some(run)) => {
            // Files of the same name, from different folders.
            let times = place.seen.entry(scenario.name.clone()).or_default();
            *times += 1;
            let name = match *times {
                1 => scenario.name.clone(),
                times => format!("{} ({times})", scenario.name),
            };
            take_result(connection, run, &name, scenario)
        }
        (Line::Summary(summary), Some(run)) => take_summary(connection, run, summary).map(|()| 0),
        (Line::Scenario(_) | Line::Summary(_) | Line::Other, _) => Ok(0),
    }
}

fn take_start(connection: &Connection, start: &Start) -> rusqlite::Result<i64> {
    let told = &start.told;
    connection
        .prepare_cached(
            "INSERT INTO runs (uuid, began, board, line, kernel, profile, backend, scenarios)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (uuid) DO NOTHING",
        )?
        .execute(params![
            told.run,
            start.began_ms,
            told.board,
            told.line,
            told.kernel,
            told.model_profile,
            told.backend,
            told.scenarios,
        ])?;
    connection
        .prepare_cached("SELECT id FROM runs WHERE uuid = ?1")?
        .query_row([&told.run], |row| row.get(0))
}

fn take_result(
    connection: &Connection,
    run: i64,
    name: &str,
    scenario: &Scenario,
) -> rusqlite::Result<usize> {
    connection
        .prepare_cached("INSERT INTO scenarios (name) VALUES (?1) ON CONFLICT DO NOTHING")?
        .execute([name])?;
    let id: i64 = connection
        .prepare_cached("SELECT id FROM scenarios WHERE name = ?1")?
        .query_row([name], |row| row.get(0))?;
    let details = scenario.details.as_ref();
    let details = details
        .map(|details| take_details(connection, details))
        .transpose()?;
    connection
        .prepare_cached(
            "INSERT INTO results (run, scenario, outcome, why, elapsed_ms, details, cause)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            run,
            id,
            scenario.outcome.key(),
            scenario.why,
            scenario.elapsed_ms,
            details,
            scenario.cause
        ])
}

fn take_details(connection: &Connection, details: &Details) -> rusqlite::Result<i64> {
    let known = connection
        .prepare_cached("SELECT id FROM details WHERE hash = ?1")?
        .query_row([&details.hash], |row| row.get(0))
        .optional()?;
    if let Some(id) = known {
        return Ok(id);
    }
    connection
        .prepare_cached("INSERT INTO details (hash, text) VALUES (?1, ?2)")?
        .insert(params![details.hash, details.text])
}

fn take_summary(connection: &Connection, run: i64, summary: &Summary) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE runs SET elapsed_ms = ?2, stopped = ?3, interrupted = ?4 WHERE id = ?1",
        )?
        .execute(params![
            run,
            summary.elapsed_ms,
            summary.stopped,
            summary.interrupted
        ])
        .map(|_| ())
}

/// An outcome as it was written; later ones than are known are refused with their tables.
pub(super) fn outcome(key: &str) -> Outcome {
    Outcome::from_key(key).unwrap_or(Outcome::CouldNotRun)
}

/// What runs came to.
pub(super) type Counts = BTreeMap<Outcome, usize>;

fn is_damage(error: &HistoryError) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error {
        HistoryError::Database { source, .. } => source
            .sqlite_error_code()
            .is_some_and(|code| matches!(code, DatabaseCorrupt | NotADatabase)),
        _ => false,
    }
}

/// A transaction was begun, and its writer is gone.
fn was_cut_off(error: &HistoryError) -> bool {
    match error {
        HistoryError::Database { source, .. } => source
            .sqlite_error()
            .is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_READONLY_ROLLBACK),
        _ => false,
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// With its journal, without which it would be worth less.
fn put_aside(path: &Path) -> std::io::Result<PathBuf> {
    let now = Utc::now().format("%Y%m%dT%H%M%S%3f");
    let aside = beside(path, &format!("damaged-{now}"));
    fs::rename(path, &aside)?;
    let journal = |path: &Path| {
        let mut name = path.as_os_str().to_owned();
        name.push("-journal");
        PathBuf::from(name)
    };
    if journal(path).exists() {
        fs::rename(journal(path), journal(&aside))?;
    }
    Ok(aside)
}
