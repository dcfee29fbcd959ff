// SPDX-License-Identifier: GPL-2.0-only
//! Results of earlier runs, kept in an SQLite database: what changed since, and what a
//! scenario came to over time and kernels.
//!
//! Results come in as the lines that `--format json` prints, whether from a run that is
//! going on ([`recorder`]) or from a file ([`import`]), so there is one way in.

pub mod changes;
pub mod costs;
mod html;
pub mod import;
pub mod line;
pub mod recorder;
pub mod show;
pub mod store;

pub use html::page;
pub use store::Store;

use std::ffi::OsString;
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

/// Where results are kept if nothing else is said: in the folder of a service's state, else
/// in that of the user's.
pub fn default_path(variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let folder = |name: &str| variable(name).filter(|value| !value.is_empty());
    // systemd gives several, with colons between them.
    let service = folder("STATE_DIRECTORY").and_then(|folders| {
        let first = folders.to_string_lossy().split(':').next()?.to_owned();
        Some(PathBuf::from(first))
    });
    let user = || {
        let state = folder("XDG_STATE_HOME").map(PathBuf::from).or_else(|| {
            let home = folder("HOME").map(PathBuf::from);
            home.map(|home| home.join(".local/state"))
        });
        state.unwrap_or_default().join("tlbdiff")
    };
    service.unwrap_or_else(user).join("history.sqlite")
}

#[cfg(test)]
mod tests {
    use super::default_path;
    use std::path::Path;

    #[test]
    fn a_service_has_its_own_history() {
        let path = |variables: &[(&str, &str)]| {
            default_path(|name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| value.into())
            })
        };
        let service = [
            ("STATE_DIRECTORY", "/var/lib/tlbdiff:/x"),
            ("HOME", "/root"),
        ];
        assert_eq!(path(&service), Path::new("/var/lib/tlbdiff/history.sqlite"));
        let user = [("HOME", "/h"), ("XDG_STATE_HOME", "")];
        assert_eq!(
            path(&user),
            Path::new("/h/.local/state/tlbdiff/history.sqlite")
        );
        let xdg = [("HOME", "/h"), ("XDG_STATE_HOME", "/s")];
        assert_eq!(path(&xdg), Path::new("/s/tlbdiff/history.sqlite"));
    }
}
