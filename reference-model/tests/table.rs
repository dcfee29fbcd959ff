// SPDX-License-Identifier: GPL-2.0-only
//! The README's tables against the code: they name the functions that the model mirrors, each
//! in the row of its file, and no others.

use reference_model::mirrored::mirrors;
use std::collections::{BTreeMap, BTreeSet};

/// Names by the model's files.
type Names<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// What stands in backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The functions of the tables' second column, by the file in the first.
fn named(readme: &str) -> Names<'_> {
    let mut named = Names::new();
    for row in readme.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = row.split('|').skip(1);
        let (files, functions) = (cells.next(), cells.next());
        for file in files.into_iter().flat_map(quoted) {
            let functions = functions.into_iter().flat_map(quoted);
            named.entry(file).or_default().extend(functions);
        }
    }
    named
}

/// The functions that the documentation of a file's items names.
fn documented() -> Names<'static> {
    let mut documented = Names::new();
    for mirror in mirrors()
        .into_iter()
        .filter(|one| !one.functions.is_empty())
    {
        let functions = documented.entry(mirror.file).or_default();
        functions.extend(mirror.functions);
    }
    documented
}

/// What is to be done to a README.
fn edits(readme: &str) -> Vec<String> {
    let (named, documented) = (named(readme), documented());
    let none = BTreeSet::new();
    let files: BTreeSet<&str> = named.keys().chain(documented.keys()).copied().collect();
    let mut edits = Vec::new();
    for file in files {
        let in_table = named.get(file).unwrap_or(&none);
        let in_code = documented.get(file).unwrap_or(&none);
        for name in in_code.difference(in_table) {
            edits.push(format!("add `{name}` to the row of `{file}`"));
        }
        for name in in_table.difference(in_code) {
            edits.push(format!(
                "take `{name}` out of the row of `{file}`: nothing there says that it mirrors it"
            ));
        }
        if in_code.is_empty() {
            edits.push(format!(
                "take the row of `{file}` out: no such file mirrors anything"
            ));
        }
    }
    edits
}

const README: &str = include_str!("../README.md");

#[test]
fn the_readme_names_what_is_mirrored_and_nothing_else() {
    let edits = edits(README);
    assert!(edits.is_empty(), "in the README:\n{}", edits.join("\n"));
}

#[test]
fn a_name_that_is_missing_or_stale_is_told_with_its_row() {
    let missing = README.replace("`zap_pte_range`, ", "");
    assert_eq!(
        edits(&missing),
        ["add `zap_pte_range` to the row of `mm/memory/zap.rs`"]
    );
    let stale = README.replace("`zap_pte_range`", "`zap_pte_range`, `zap_pfn_range`");
    let [edit] = &edits(&stale)[..] else {
        panic!("not one: {:?}", edits(&stale));
    };
    assert!(edit.starts_with("take `zap_pfn_range` out of the row of `mm/memory/zap.rs`"));
    // A function that moved has to move in the tables, too.
    let moved = README.replace("| `mm/mlock.rs` |", "| `mm/swap.rs` |");
    let told = edits(&moved);
    assert!(told.contains(&"add `mlock_folio` to the row of `mm/mlock.rs`".to_owned()));
    let lost = README.replace("| `mm/util.rs` |", "| `mm/utility.rs` |");
    let told = edits(&lost).join("\n");
    assert!(
        told.contains("take the row of `mm/utility.rs` out"),
        "{told}"
    );
}
