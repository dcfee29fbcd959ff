// SPDX-License-Identifier: GPL-2.0-only
//! The lines in which two definitions differ.

use super::pairs::Pair;
use super::source::Definition;
use similar::{Algorithm, ChangeTag, TextDiff};
use vm::c_source;

/// Lines that are shown around a change.
const CONTEXT: usize = 3;

/// Lines with `-`, `+` or a space before them. Those that differ in white space alone are the
/// same.
pub fn changed_lines(pair: &Pair<'_>) -> Vec<String> {
    let lines = |definition: Option<&Definition<'_>>| {
        definition.map_or(Vec::new(), |definition| c_source::lines(definition.text))
    };
    let (old, new) = (lines(pair.old.as_ref()), lines(pair.new.as_ref()));
    let bare = |lines: &[String]| -> Vec<String> {
        let words = lines.iter().map(|line| line.split_whitespace());
        words
            .map(|words| words.collect::<Vec<_>>().join(" "))
            .collect()
    };
    let (old_bare, new_bare) = (bare(&old), bare(&new));
    let [old_refs, new_refs] =
        [&old_bare, &new_bare].map(|lines| lines.iter().map(String::as_str).collect::<Vec<_>>());
    let diff = TextDiff::configure()
        .algorithm(Algorithm::Patience)
        .diff_slices(&old_refs, &new_refs);
    let mut shown = Vec::new();
    for (number, group) in diff.grouped_ops(CONTEXT).iter().enumerate() {
        if number > 0 {
            shown.push("…".to_owned());
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let old_line = change.old_index().map(|index| &old[index]);
            let new_line = change.new_index().map(|index| &new[index]);
            let mark = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            let line = new_line.or(old_line).map_or("", String::as_str);
            shown.push(format!("{mark}{line}"));
        }
    }
    shown
}
