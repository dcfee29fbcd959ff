// SPDX-License-Identifier: GPL-2.0-only
//! What can be wrong with kept results.

use std::path::PathBuf;
use thiserror::Error;

/// What can be wrong with kept results.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// A later version of this program wrote it.
    #[error(
        "{path}: a newer tlbdiff has written it (version {found} of its tables, known is {known}); \
         use that one, or name another file with --history"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// The version of its tables.
        found: i64,
        /// The last that is known here.
        known: i64,
    },
    /// It cannot be read or written.
    #[error("{path}: {source}")]
    Database {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A file cannot be read, made or moved.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// There is no database.
    #[error("{0}: no results are kept there; `tlbdiff nightly` and `history --import` do that")]
    None(PathBuf),
    /// A line that is to be imported makes no sense.
    #[error("{path}, line {line}: {why}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
}
