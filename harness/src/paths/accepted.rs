// SPDX-License-Identifier: GPL-2.0-only
//! The accepted table of a kernel: snapshots/paths/KERNEL.toml.

use super::table::THREAD;
use super::{By, Table, Way};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// For each origin, a scenario.
type Examples = BTreeMap<String, String>;

/// What was accepted: each way with scenarios that come by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// The kernel's release.
    pub release: String,
    /// What it was built with. Another inlines other functions.
    pub compiler: String,
    /// Each way, with a scenario for each origin; none where no scenario comes by.
    pub ways: BTreeMap<Way, Examples>,
}

/// What an accepted table says that does not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outdated {
    /// Ways, each with an origin from which no scenario comes by any more, and one that did.
    pub lost: Vec<(Way, String, String)>,
    /// Ways that it has not at all, each with an origin and a scenario that comes by. One that
    /// it has without a scenario may have come to one.
    pub new: Vec<(Way, String, String)>,
}

impl Outdated {
    /// Whether all holds.
    pub fn is_none(&self) -> bool {
        self.lost.is_empty() && self.new.is_empty()
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (way, origin, name) in &self.lost {
            let _ = writeln!(
                text,
                "no scenario comes any more by {way} from {origin}: {name} did"
            );
        }
        for (way, origin, name) in &self.new {
            let _ = writeln!(
                text,
                "the table does not have {way} from {origin}: {name} comes by"
            );
        }
        text
    }
}

impl Accepted {
    /// The file of a kernel, in a checkout.
    pub fn path(root: &Path, kernel: &str) -> PathBuf {
        root.join("snapshots/paths").join(format!("{kernel}.toml"))
    }

    /// Reads it; none where none was accepted.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(path: &Path) -> io::Result<Option<Accepted>> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let told = |error| io::Error::other(format!("{}: {error}", path.display()));
        toml::from_str(&text).map(Some).map_err(told)
    }

    /// What does not hold of it, where all scenarios were run. Where another compiler has built
    /// the kernel, ways that only one of the two has are its doing. What threads of the kernel's
    /// own do within a step depends on when they run, and is not demanded.
    pub fn outdated(&self, table: &Table, compiler: &str) -> Outdated {
        let same = self.compiler == compiler;
        let nothing = By::new();
        let mut outdated = Outdated::default();
        for (way, examples) in &self.ways {
            let seen = table.ways.get(way);
            let examples = examples.iter().filter(|_| same || seen.is_some());
            for (origin, name) in examples.filter(|(origin, _)| !origin.starts_with(THREAD)) {
                if !seen.unwrap_or(&nothing).contains_key(origin) {
                    let lost = (way.clone(), origin.clone(), name.clone());
                    outdated.lost.push(lost);
                }
            }
        }
        let ways = table.ways.iter().filter(|_| same);
        for (way, by) in ways.filter(|(way, _)| !self.ways.contains_key(*way)) {
            for (origin, names) in by {
                let name = names.first().cloned().unwrap_or_default();
                outdated.new.push((way.clone(), origin.clone(), name));
            }
        }
        outdated
    }

    /// The table to be accepted. Scenarios that were named before stay, where they still come
    /// by, or were not run and are `there`.
    pub fn next(
        before: Option<&Accepted>,
        table: &Table,
        (release, compiler): (String, String),
        ran: &dyn Fn(&str) -> bool,
        there: &dyn Fn(&str) -> bool,
    ) -> Accepted {
        let nothing = Examples::new();
        let ways = table.ways.iter().map(|(way, by)| {
            let named = before.and_then(|before| before.ways.get(way));
            let named = named.unwrap_or(&nothing);
            let stays = |origin: &str, name: &str| {
                let seen = by.get(origin).is_some_and(|seen| seen.contains(name));
                seen || (!ran(name) && there(name))
            };
            // Those that do the least tell the most; their names are short.
            let shortest = |seen: &BTreeSet<String>| {
                let name = seen.iter().min_by_key(|name| name.len());
                name.cloned().unwrap_or_default()
            };
            let mut examples: Examples = by
                .iter()
                .map(|(origin, seen)| (origin.clone(), shortest(seen)))
                .collect();
            for (origin, name) in named.iter().filter(|(origin, name)| stays(origin, name)) {
                examples.insert(origin.clone(), name.clone());
            }
            (way.clone(), examples)
        });
        Accepted {
            release,
            compiler,
            ways: ways.collect(),
        }
    }

    /// As it is kept.
    pub fn text(&self, kernel: &str) -> String {
        let mut text = format!(
            "# SPDX-License-Identifier: GPL-2.0-only\n#\n\
             # The ways into tlbflush.c that `{kernel}` has: for each origin from which scenarios were\n\
             # seen to come by, one of them. Written by\n\
             # tlbdiff list --paths --accept --kernel {kernel} scenarios/\n\n\
             release = {:?}\ncompiler = {:?}\n\n[ways]\n",
            self.release, self.compiler
        );
        for (way, by) in &self.ways {
            let by = by
                .iter()
                .map(|(origin, name)| format!(" {origin:?} = {name:?}"));
            let by: Vec<String> = by.collect();
            let _ = writeln!(text, "{way:?} = {{{} }}", by.join(","));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of ways, each with who comes by from `munmap`.
    fn table(ways: &[(&str, &[&str])]) -> Table {
        let ways = ways.iter().map(|(way, names)| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let by = BTreeMap::from([("munmap".to_owned(), names)]);
            let by = by
                .into_iter()
                .filter(|(_, names): &(_, BTreeSet<String>)| !names.is_empty());
            ((*way).to_owned(), by.collect())
        });
        Table {
            ways: ways.collect(),
            ..Table::default()
        }
    }

    fn accept(before: Option<&Accepted>, table: &Table) -> Accepted {
        let built = ("6.12".to_owned(), "gcc".to_owned());
        Accepted::next(before, table, built, &|_| true, &|_| true)
    }

    #[test]
    fn a_way_that_lost_its_scenario_and_one_that_is_new_are_told() {
        let accepted = accept(None, &table(&[("a → f", &["x"]), ("b → f", &[])]));
        let same = accepted.outdated(&table(&[("a → f", &["y"]), ("b → f", &[])]), "gcc");
        assert_eq!(same, Outdated::default());
        let now = table(&[("a → f", &[]), ("b → f", &["y"]), ("c → f", &["x"])]);
        let outdated = accepted.outdated(&now, "gcc");
        assert_eq!(
            outdated.text(),
            "no scenario comes any more by a → f from munmap: x did\n\
             the table does not have c → f from munmap: x comes by\n"
        );
        // Another compiler may have inlined a, and not c.
        let other = accepted.outdated(&table(&[("c → f", &["x"])]), "clang");
        assert!(other.is_none(), "{other:?}");
        assert_eq!(accepted.outdated(&now, "clang").lost.len(), 1);
    }

    #[test]
    fn a_scenario_that_was_named_stays_as_long_as_it_comes_by() {
        let named = |accepted: &Accepted| accepted.ways["a → f"]["munmap"].clone();
        let first = accept(None, &table(&[("a → f", &["long/name", "c"])]));
        assert_eq!(named(&first), "c");
        let next = accept(Some(&first), &table(&[("a → f", &["a", "c"])]));
        assert_eq!(named(&next), "c");
        let next = accept(Some(&first), &table(&[("a → f", &["a"])]));
        assert_eq!(named(&next), "a");
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let accepted = accept(None, &table(&[("a → f", &["x"]), ("b → f", &[])]));
        let read: Accepted = toml::from_str(&accepted.text("stable")).expect("well-formed");
        assert_eq!(read, accepted);
    }
}
