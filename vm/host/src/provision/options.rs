// SPDX-License-Identifier: GPL-2.0-only
//! What a configuration can go without, as `vm/kernels/options.toml` lists it: kernels
//! gain, lose and rename options, and not each is needed to run scenarios. Of a kernel that
//! somebody else configured it says what is needed, too.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::error::VmError;

/// The list, below the checkout's `vm`.
const LIST: &str = "kernels/options.toml";

/// What is known of an option.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    stands_for: Option<String>,
    without: Option<String>,
    harmless: Option<String>,
    elsewhere: Option<Elsewhere>,
    why: String,
}

/// What an option is to a kernel that was configured elsewhere.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Elsewhere {
    Needed,
    Never,
    Any,
}

/// The options that are not always needed, by name.
#[derive(Clone, Debug)]
pub(super) struct Options(BTreeMap<String, Entry>);

/// What came of the lines of a configuration that had no effect.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// Without these nothing can be run.
    pub(super) needed: Vec<String>,
    /// These are told, with what it means.
    pub(super) missing: Vec<String>,
}

impl Lost {
    /// What is needed, each on a line of its own behind a line break.
    pub(super) fn needed_lines(&self) -> String {
        let lines = self.needed.iter();
        lines.map(|line| format!("\n  {line}")).collect()
    }
}

impl Options {
    /// Reads the list of a checkout.
    pub(super) fn read(checkout: &Path) -> Result<Options, VmError> {
        let path = checkout.join("vm").join(LIST);
        let text = fs::read_to_string(&path).map_err(VmError::io("read", &path))?;
        Options::parse(&text).map_err(|message| VmError::Kernels { path, message })
    }

    fn parse(text: &str) -> Result<Options, String> {
        let entries: BTreeMap<String, Entry> =
            toml::from_str(text).map_err(|error| error.to_string())?;
        let says_one_thing = |entry: &Entry| {
            let said = [
                entry.stands_for.is_some(),
                entry.without.is_some(),
                entry.harmless.is_some(),
                entry.elsewhere.is_some(),
            ];
            said.iter().filter(|said| **said).count() == 1
        };
        match entries.iter().find(|(_, entry)| !says_one_thing(entry)) {
            Some((name, _)) => Err(format!(
                "{name}: one of `stands_for`, `without`, `harmless` and `elsewhere`"
            )),
            None => Ok(Options(entries)),
        }
    }

    /// Sorts lines of fragments that a configuration does not fulfil.
    pub(super) fn sort(&self, lines: &[&str], config: &str) -> Lost {
        let mut lost = Lost::default();
        for line in lines {
            match self.0.get(name_of(line)) {
                Some(Entry {
                    without: Some(without),
                    ..
                }) => lost.missing.push(format!("{line}: {without}")),
                Some(Entry {
                    harmless: Some(harmless),
                    ..
                }) => lost.missing.push(format!("{line}: no harm: {harmless}")),
                Some(Entry {
                    stands_for: Some(other),
                    ..
                }) if value(config, other).is_some() => {}
                _ => lost.needed.push((*line).to_owned()),
            }
        }
        lost
    }

    /// What the configuration of a kernel that was configured elsewhere lacks of the
    /// fragments' lines. What does no harm is not told: nobody asked that kernel for it.
    pub(super) fn lacks(&self, fragments: &str, config: &str) -> Lost {
        let mut lost = Lost::default();
        for line in wanted_lines(fragments) {
            let name = name_of(line);
            if holds(line, config) {
                continue;
            }
            let is = said(config, name);
            match self.0.get(name) {
                Some(Entry {
                    without: Some(without),
                    ..
                }) => lost.missing.push(format!("{line} ({is}): {without}")),
                Some(Entry {
                    harmless: Some(_), ..
                }) => {}
                Some(Entry {
                    stands_for: Some(other),
                    ..
                }) if value(config, other) == Some("y") => {}
                Some(Entry {
                    elsewhere: Some(Elsewhere::Any),
                    ..
                }) => {}
                Some(Entry { why, .. }) => lost.needed.push(format!("{line} ({is}): {why}")),
                None => lost.needed.push(format!("{line} ({is})")),
            }
        }
        let never = |entry: &Entry| entry.elsewhere == Some(Elsewhere::Never);
        for (name, Entry { why, .. }) in self.0.iter().filter(|(_, entry)| never(entry)) {
            if value(config, name).is_some() {
                let is = said(config, name);
                lost.needed.push(format!("{name}=n ({is}): {why}"));
            }
        }
        lost
    }
}

fn name_of(line: &str) -> &str {
    line.split_once('=').map_or(line, |(name, _)| name)
}

/// What a configuration sets an option to, where it does.
pub(super) fn value<'a>(config: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = config.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

/// Whether a configuration fulfils a line of a fragment.
pub(super) fn holds(line: &str, config: &str) -> bool {
    match line.split_once('=') {
        Some((name, "n")) => value(config, name).is_none(),
        Some((name, wanted)) => value(config, name) == Some(wanted),
        None => true,
    }
}

/// How an option is, for people.
fn said(config: &str, name: &str) -> String {
    match value(config, name) {
        None => "it is not set".to_owned(),
        Some("m") => "it is =m, and no module but tlbdiff's is loaded".to_owned(),
        Some(value) => format!("it is ={value}"),
    }
}

/// The fragments' lines. Of several for one option the last one counts.
pub(super) fn wanted_lines(fragments: &str) -> Vec<&str> {
    let lines: Vec<&str> = fragments.lines().map(str::trim).collect();
    let option = |at: usize| lines[at].split_once('=').map(|(name, _)| name);
    let counts = |at: &usize| {
        let later = *at + 1..lines.len();
        lines[*at].starts_with("CONFIG_")
            && !later.clone().any(|later| option(later) == option(*at))
    };
    (0..lines.len())
        .filter(counts)
        .map(|at| lines[at])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "[CONFIG_OLD]\nstands_for = \"CONFIG_NEW\"\nwhy = \"x\"\n\
                        [CONFIG_KSM]\nwithout = \"no ksm\"\nwhy = \"x\"\n\
                        [CONFIG_VT]\nharmless = \"large\"\nwhy = \"x\"\n\
                        [CONFIG_SMP]\nelsewhere = \"needed\"\nwhy = \"harts\"\n\
                        [CONFIG_NR_CPUS]\nelsewhere = \"any\"\nwhy = \"x\"\n\
                        [CONFIG_SIGNED]\nelsewhere = \"never\"\nwhy = \"it has none\"\n";

    #[test]
    fn what_is_needed_is_told_from_what_is_not() {
        let options = Options::parse(LIST).unwrap();
        let lines = [
            "CONFIG_OLD=y",
            "CONFIG_KSM=y",
            "CONFIG_VT=n",
            "CONFIG_SMP=y",
            "CONFIG_NR_CPUS=8",
        ];
        let lost = options.sort(&lines, "CONFIG_NEW=y\n");
        assert_eq!(lost.needed, ["CONFIG_SMP=y", "CONFIG_NR_CPUS=8"]);
        assert_eq!(
            lost.missing,
            ["CONFIG_KSM=y: no ksm", "CONFIG_VT=n: no harm: large"]
        );
        let lost = options.sort(&lines[..1], "CONFIG_NEWER=y\n");
        assert_eq!(lost.needed, ["CONFIG_OLD=y"]);
    }

    const FRAGMENT: &str =
        "CONFIG_OLD=y\nCONFIG_KSM=y\nCONFIG_VT=n\nCONFIG_SMP=y\nCONFIG_NR_CPUS=8\nCONFIG_OTHER=y\n";

    #[test]
    fn of_a_kernel_configured_elsewhere_our_own_choices_are_not_asked() {
        let options = Options::parse(LIST).unwrap();
        let config = "CONFIG_NEW=y\nCONFIG_KSM=y\nCONFIG_VT=y\nCONFIG_SMP=y\nCONFIG_NR_CPUS=64\nCONFIG_OTHER=y\n";
        assert_eq!(options.lacks(FRAGMENT, config), Lost::default());
    }

    #[test]
    fn what_such_a_kernel_lacks_is_told_with_the_reason() {
        let options = Options::parse(LIST).unwrap();
        let config = "CONFIG_SMP=m\nCONFIG_NEW=m\nCONFIG_SIGNED=y\n# CONFIG_KSM is not set\n";
        let lost = options.lacks(FRAGMENT, config);
        let module = "it is =m, and no module but tlbdiff's is loaded";
        assert_eq!(
            lost.needed,
            [
                "CONFIG_OLD=y (it is not set): x".to_owned(),
                format!("CONFIG_SMP=y ({module}): harts"),
                "CONFIG_OTHER=y (it is not set)".to_owned(),
                "CONFIG_SIGNED=n (it is =y): it has none".to_owned(),
            ]
        );
        assert_eq!(lost.missing, ["CONFIG_KSM=y (it is not set): no ksm"]);
    }

    #[test]
    fn an_option_is_not_taken_for_another_that_begins_like_it() {
        assert!(holds("CONFIG_VT=n", "CONFIG_VT_CONSOLE=y\n"));
        assert!(!holds("CONFIG_VT=y", "CONFIG_VT_CONSOLE=y\n"));
        assert!(!holds("CONFIG_VT=n", "CONFIG_VT=m\n"));
    }

    #[test]
    fn an_entry_says_one_thing() {
        let neither = Options::parse("[CONFIG_A]\nwhy = \"x\"\n").unwrap_err();
        assert!(neither.contains("CONFIG_A"), "{neither}");
        let both = "[CONFIG_A]\nwithout = \"x\"\nelsewhere = \"any\"\nwhy = \"x\"\n";
        assert!(Options::parse(both).is_err());
    }

    fn checkout() -> std::path::PathBuf {
        crate::home::home().unwrap()
    }

    #[test]
    fn the_list_is_of_options_that_fragments_ask_for() {
        let kernels = checkout().join("vm/kernels");
        let options = Options::read(&checkout()).unwrap();
        let fragments: String = fs::read_dir(kernels)
            .unwrap()
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|e| e == "config"))
            .map(|entry| fs::read_to_string(entry.path()).unwrap())
            .collect();
        for (name, entry) in &options.0 {
            assert!(
                entry.elsewhere == Some(Elsewhere::Never)
                    || fragments.contains(&format!("\n{name}=")),
                "{name} is asked for by no fragment"
            );
        }
    }

    #[test]
    fn of_each_line_of_the_usual_fragment_it_is_said_who_needs_it() {
        let options = Options::read(&checkout()).unwrap();
        let path = checkout().join("vm").join(crate::kernels::TREE_CONFIG);
        let fragment = fs::read_to_string(path).unwrap();
        for line in wanted_lines(&fragment) {
            let name = name_of(line);
            assert!(
                options.0.contains_key(name),
                "{name}: say in options.toml what it is to a kernel that was configured elsewhere"
            );
        }
    }
}
