// SPDX-License-Identifier: GPL-2.0-only
//! What scenarios are called in results: the same each time they are run.

use super::checked::Scenario;
use std::collections::HashMap;
use std::path::Path;

/// The path below the folder `scenarios`, else the file's name; without its ending.
pub fn of(path: &Path) -> String {
    let words = words(path);
    let below = words.iter().rposition(|word| word == "scenarios");
    let first = below.map_or(words.len().saturating_sub(1), |at| at + 1);
    words[first.min(words.len())..].join("/")
}

/// Those of the same name are called by as much of their paths as tells them apart.
pub fn tell_apart(scenarios: &mut [Scenario]) {
    let mut same: HashMap<String, Vec<usize>> = HashMap::new();
    for (place, scenario) in scenarios.iter().enumerate() {
        same.entry(scenario.name.clone()).or_default().push(place);
    }
    for places in same.into_values().filter(|places| places.len() > 1) {
        let paths: Vec<Vec<String>> = places
            .iter()
            .map(|place| words(&scenarios[*place].path))
            .collect();
        for (place, name) in places.into_iter().zip(longer(&paths)) {
            scenarios[place].name = name;
        }
    }
}

/// The shortest ends of paths that are all different. The same file twice stays the same.
fn longer(paths: &[Vec<String>]) -> Vec<String> {
    let longest = paths.iter().map(Vec::len).max().unwrap_or(0);
    let ends = |length: usize| {
        let ends = paths.iter().map(move |words| {
            let first = words.len().saturating_sub(length);
            words[first..].join("/")
        });
        ends.collect::<Vec<String>>()
    };
    let different = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort_unstable();
        names.windows(2).all(|pair| pair[0] != pair[1])
    };
    (1..=longest)
        .map(ends)
        .find(|names| different(names))
        .unwrap_or_else(|| ends(longest))
}

fn words(path: &Path) -> Vec<String> {
    let stem = path.with_extension("");
    let words = stem.components().map(|word| word.as_os_str());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_is_below_scenarios() {
        for (path, name) in [
            ("scenarios/munmap/middle.yaml", "munmap/middle"),
            ("/a/scenarios/x.yaml", "x"),
            ("mine/y.yaml", "y"),
            ("./y.yml", "y"),
        ] {
            assert_eq!(of(Path::new(path)), name);
        }
    }

    #[test]
    fn files_of_the_same_name_are_told_apart() {
        let split = |paths: &[&str]| {
            let words: Vec<_> = paths.iter().map(|path| words(Path::new(path))).collect();
            longer(&words)
        };
        assert_eq!(split(&["a/x.yaml", "b/x.yaml"]), ["a/x", "b/x"]);
        assert_eq!(split(&["x.yaml", "b/x.yaml"]), ["x", "b/x"]);
        assert_eq!(
            split(&["1/m/x.yaml", "2/m/x.yaml", "2/n/x.yaml"]),
            ["1/m/x", "2/m/x", "2/n/x"]
        );
        assert_eq!(split(&["x.yaml", "x.yaml"]), ["x", "x"]);
    }
}
