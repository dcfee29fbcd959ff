// SPDX-License-Identifier: GPL-2.0-only
//! Results of earlier runs, kept in an SQLite database: what changed since, and what a
//! scenario came to over time and kernels.
//!
//! Results come in as the lines that `--format json` prints, whether from a run that is
//! going on ([`recorder`]) or from a file ([`import`]), so there is one way in.

pub mod changes;
pub mod costs;
mod error;
mod html;
pub mod import;
pub mod line;
pub mod nightly;
pub mod recorder;
pub mod show;
pub mod store;

pub use error::HistoryError;
pub use html::page;
pub use store::Store;

use std::ffi::OsString;
use std::path::PathBuf;

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
