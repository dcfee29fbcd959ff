// SPDX-License-Identifier: GPL-2.0-only
//! Workloads by name, in suites (harness/workloads.toml).

use crate::scenario::names::nearest;
use serde::Deserialize;
use std::collections::BTreeMap;
use thiserror::Error;

const TEXT: &str = include_str!("../../workloads.toml");
/// Stands for every suite.
pub const EVERY: &str = "all";
/// What a workload ends with that could not be made ready. The shell has the next two for
/// programs that cannot be run, and are not there.
const NOT_READY: i32 = 125;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Workloads {
    suite: BTreeMap<String, Suite>,
    left_out: BTreeMap<String, String>,
}

/// A group of workloads.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Suite {
    folder: Option<String>,
    workload: Vec<Entry>,
}

/// A workload, as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    command: Vec<String>,
    before: Option<String>,
    timeout: u64,
    memory: Option<u32>,
    harts: Option<u32>,
    #[serde(default)]
    nodes: bool,
}

/// A workload to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The suite that it is of.
    pub suite: String,
    /// Its name in there.
    pub name: String,
    /// What is run, with what makes it ready.
    pub command: Vec<String>,
    /// Longest that it may take, in seconds.
    pub timeout: u64,
    /// Memory that it needs, in MiB.
    pub memory: Option<u32>,
    /// Harts that it needs.
    pub harts: Option<u32>,
    /// It needs two nodes.
    pub nodes: bool,
}

/// What of the names or of the file is wrong.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SuiteError {
    /// There is none of that name.
    #[error("no suite is called `{name}`; there are {known}{}", hint(.nearest.as_deref()))]
    Unknown {
        /// That name.
        name: String,
        /// Those that there are.
        known: String,
        /// The nearest of them.
        nearest: Option<String>,
    },
    /// The filter leaves nothing.
    #[error("no workload of {suites} has `{filter}` in its name; there are {names}")]
    Nothing {
        /// The suites.
        suites: String,
        /// The filter.
        filter: String,
        /// The names that there are.
        names: String,
    },
    /// The file is wrong.
    #[error("harness/workloads.toml: {0}")]
    File(String),
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

impl Workloads {
    /// Those that tlbdiff comes with.
    ///
    /// # Errors
    /// The file is wrong.
    pub fn known() -> Result<Workloads, SuiteError> {
        Workloads::parse(TEXT)
    }

    fn parse(text: &str) -> Result<Workloads, SuiteError> {
        let error = |error: toml::de::Error| SuiteError::File(error.to_string());
        let workloads: Workloads = toml::from_str(text).map_err(error)?;
        workloads.check().map_err(SuiteError::File)?;
        Ok(workloads)
    }

    /// What the types allow and cannot be.
    fn check(&self) -> Result<(), String> {
        if self.suite.contains_key(EVERY) {
            return Err(format!("`{EVERY}` stands for every suite"));
        }
        for (suite, Suite { workload, .. }) in &self.suite {
            for (index, entry) in workload.iter().enumerate() {
                let place = format!("{suite}/{}", entry.name);
                let again = workload[..index].iter().any(|one| one.name == entry.name);
                let why = match entry {
                    _ if again => "is there twice",
                    Entry { command, .. } if command.is_empty() => "has no command",
                    Entry { timeout: 0, .. } => "has no time",
                    Entry {
                        nodes: true,
                        harts: Some(1),
                        ..
                    } => "has one hart for two nodes",
                    _ => continue,
                };
                return Err(format!("{place} {why}"));
            }
        }
        Ok(())
    }

    /// Those of these suites whose name contains a text, in the file's order.
    ///
    /// # Errors
    /// A suite is unknown, or nothing is left.
    pub fn of(&self, suites: &[String], filter: Option<&str>) -> Result<Vec<Named>, SuiteError> {
        let every = suites.iter().any(|name| name == EVERY);
        let known = || self.suite.keys().map(String::as_str);
        let unknown = |name: &&String| *name != EVERY && !self.suite.contains_key(*name);
        if let Some(name) = suites.iter().find(unknown) {
            return Err(SuiteError::Unknown {
                name: name.clone(),
                known: known().chain([EVERY]).collect::<Vec<_>>().join(", "),
                nearest: nearest(name, known()).map(str::to_owned),
            });
        }
        let wanted = self.suite.iter();
        let wanted = wanted.filter(|(name, _)| every || suites.contains(name));
        let all: Vec<Named> = wanted.flat_map(|(name, suite)| suite.named(name)).collect();
        let filter = filter.unwrap_or_default();
        let is_meant = |named: &&Named| named.place().contains(filter);
        let left: Vec<Named> = all.iter().filter(is_meant).cloned().collect();
        if left.is_empty() {
            return Err(SuiteError::Nothing {
                suites: suites.join(", "),
                filter: filter.to_owned(),
                names: all.iter().map(Named::place).collect::<Vec<_>>().join(", "),
            });
        }
        Ok(left)
    }

    /// Programs that are on the disk and in no suite, with the reason.
    pub fn left_out(&self) -> &BTreeMap<String, String> {
        &self.left_out
    }
}

impl Suite {
    fn named(&self, suite: &str) -> Vec<Named> {
        let named = |entry: &Entry| Named {
            suite: suite.to_owned(),
            name: entry.name.clone(),
            command: ready(self.folder.as_deref(), entry),
            timeout: entry.timeout,
            memory: entry.memory,
            harts: entry.harts,
            nodes: entry.nodes,
        };
        self.workload.iter().map(named).collect()
    }
}

/// The command, behind what makes it ready: by the shell, if there is anything.
fn ready(folder: Option<&str>, entry: &Entry) -> Vec<String> {
    let folder = folder.map(|folder| format!("cd {folder}"));
    let steps: Vec<String> = folder.into_iter().chain(entry.before.clone()).collect();
    if steps.is_empty() {
        return entry.command.clone();
    }
    let script = format!(
        "{{ {}; }} || exit {NOT_READY}\nexec \"$@\"",
        steps.join(" && ")
    );
    let shell = ["sh", "-c", &script, "sh"].map(str::to_owned);
    shell.into_iter().chain(entry.command.clone()).collect()
}

impl Named {
    /// Suite and name.
    pub fn place(&self) -> String {
        format!("{}/{}", self.suite, self.name)
    }

    /// Why a workload that ended with this code was not run at all, if it was not.
    pub fn not_begun(code: i32) -> Option<&'static str> {
        match code {
            NOT_READY => Some("it could not be made ready (`before` in harness/workloads.toml)"),
            126 => Some("its program cannot be run"),
            127 => Some("its program is not there"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(suites: &[&str], filter: Option<&str>) -> Result<Vec<String>, SuiteError> {
        let suites: Vec<String> = suites.iter().map(|name| (*name).to_owned()).collect();
        let of = Workloads::known()?.of(&suites, filter)?;
        Ok(of.iter().map(Named::place).collect())
    }

    #[test]
    fn the_file_is_right_and_has_three_suites() {
        let all = names(&["all"], None).unwrap();
        for suite in ["mm-selftests", "stress", "everyday"] {
            let own = names(&[suite], None).unwrap();
            assert!(own.len() > 4, "{suite}: {own:?}");
            assert!(own.iter().all(|place| all.contains(place)), "{suite}");
            assert_eq!(names(&[suite, suite], None).unwrap(), own);
        }
    }

    #[test]
    fn a_program_is_run_or_left_out() {
        let workloads = Workloads::known().unwrap();
        for workload in &workloads.suite["mm-selftests"].workload {
            let program = workload.command[0].trim_start_matches("./");
            assert!(!workloads.left_out().contains_key(program), "{program}");
        }
    }

    #[test]
    fn names_and_filters_that_find_nothing_say_what_there_is() {
        let error = names(&["stres"], None).unwrap_err().to_string();
        assert!(error.contains("`stres`; there are everyday, "), "{error}");
        assert!(error.ends_with("all; did you mean `stress`?"), "{error}");
        let error = names(&["stress"], Some("xyzzy")).unwrap_err().to_string();
        assert!(
            error.contains("`xyzzy`") && error.contains("stress/"),
            "{error}"
        );
        let some = names(&["all"], Some("stress/")).unwrap();
        assert_eq!(some, names(&["stress"], None).unwrap());
    }

    const MEMORY: &str = "[left-out]\n[suite.a]\nfolder = '/x'\n[[suite.a.workload]]\n\
                          name = 'm'\ncommand = ['./m', '1 2']\ntimeout = 9\n";

    #[test]
    fn what_makes_a_workload_ready_comes_first_and_arguments_stay_whole() {
        let of = |text: &str| Workloads::parse(text).unwrap().of(&["a".to_owned()], None);
        let one = of(MEMORY).unwrap().remove(0);
        let script = "{ cd /x; } || exit 125\nexec \"$@\"";
        assert_eq!(one.command, ["sh", "-c", script, "sh", "./m", "1 2"]);
        let plain = of(&MEMORY.replace("folder = '/x'\n", ""))
            .unwrap()
            .remove(0);
        assert_eq!(plain.command, ["./m", "1 2"]);
        let both = of(&format!("{MEMORY}before = 'mount x'\n"))
            .unwrap()
            .remove(0);
        assert!(both.command[2].starts_with("{ cd /x && mount x; } ||"));
        assert!(Named::not_begun(125).is_some() && Named::not_begun(1).is_none());
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_place() {
        let refused = |text: &str| Workloads::parse(text).unwrap_err().to_string();
        let unknown = refused(&format!("{MEMORY}timeuot = 3\n"));
        assert!(
            unknown.contains("timeuot") && unknown.contains("line 8"),
            "{unknown}"
        );
        let no_time = refused(&MEMORY.replace("timeout = 9", "timeout = 0"));
        assert!(no_time.ends_with("a/m has no time"), "{no_time}");
        let twice = MEMORY.to_owned() + &MEMORY[MEMORY.find("[[").unwrap()..];
        assert!(refused(&twice).ends_with("a/m is there twice"));
        let nothing = refused(&MEMORY.replace("['./m', '1 2']", "[]"));
        assert!(nothing.ends_with("a/m has no command"), "{nothing}");
    }
}
