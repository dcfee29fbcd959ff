// SPDX-License-Identifier: GPL-2.0-only
//! What is wrong with a scenario, where, and how to put it right.

use super::names::nearest;
use operations::Plain;
use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is wrong with one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputError {
    /// The file, as named on the command line.
    pub path: PathBuf,
    /// Line and column, from 1; none where the file as a whole is wrong.
    pub at: Option<(usize, usize)>,
    /// What is wrong.
    pub message: String,
    /// The line itself.
    pub line: Option<String>,
    /// How to put it right.
    pub hint: Option<String>,
}

impl InputError {
    /// The file as a whole is wrong.
    pub fn whole(path: &Path, message: impl Into<String>) -> InputError {
        let message = message.into();
        InputError {
            path: path.to_owned(),
            at: None,
            message,
            line: None,
            hint: None,
        }
    }

    /// Something at a place of its text is wrong.
    pub fn at(
        path: &Path,
        text: &str,
        at: (usize, usize),
        message: impl Into<String>,
    ) -> InputError {
        let message = message.into();
        let line =
            at.0.checked_sub(1)
                .and_then(|index| text.lines().nth(index));
        let hint = hint_of(&message);
        InputError {
            path: path.to_owned(),
            at: Some(at),
            message,
            line: line.map(str::to_owned),
            hint,
        }
    }

    /// Adds how to put it right.
    pub fn with_hint(mut self, hint: Option<String>) -> InputError {
        self.hint = hint.or(self.hint);
        self
    }
}

/// "did you mean" for a wrong name among known ones.
pub fn did_you_mean<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    nearest(wrong, names).map(|name| format!("did you mean `{name}`?"))
}

/// For serde's "unknown field `pges`, expected one of at, pages" and its like.
fn hint_of(message: &str) -> Option<String> {
    let rest = message
        .strip_prefix("unknown field `")
        .or(message.strip_prefix("unknown variant `"))?;
    let (wrong, expected) = rest.split_once('`')?;
    let names = expected
        .trim_start_matches(", expected ")
        .trim_start_matches("one of ");
    let names = names
        .split([',', ' ', '`'])
        .filter(|name| !name.is_empty() && *name != "or");
    // Operations that are read apart are missing among those that serde expects.
    let of_operations = expected.contains("munmap");
    let plain = Plain::ALL.iter().map(|plain| plain.form().name);
    did_you_mean(wrong, names.chain(plain.filter(|_| of_operations)))
}

/// Longest part of a line that is shown, in characters.
const SHOWN: usize = 160;

impl fmt::Display for InputError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.path.display())?;
        if let Some((line, column)) = self.at {
            write!(out, ":{line}:{column}")?;
        }
        write!(out, ": {}", self.message)?;
        if let (Some(text), Some((line, column))) = (&self.line, self.at) {
            let number = line.to_string();
            let skipped = column.saturating_sub(SHOWN / 2);
            let shown: String = text
                .chars()
                .skip(skipped)
                .take(SHOWN)
                .map(visible)
                .collect();
            let before = " ".repeat(column.saturating_sub(1 + skipped));
            write!(out, "\n  {number} | {shown}")?;
            write!(out, "\n  {} | {before}^", " ".repeat(number.len()))?;
        }
        if let Some(hint) = &self.hint {
            write!(out, "\n  help: {hint}")?;
        }
        Ok(())
    }
}

/// A tab would put the caret in a wrong place.
fn visible(character: char) -> char {
    if character == '\t' {
        '→'
    } else if character.is_control() {
        '�'
    } else {
        character
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_the_line_and_the_nearest_name_are_shown() {
        let error = InputError::at(
            Path::new("a.yaml"),
            "x: 1\n  - munmapp: {}\n",
            (2, 5),
            "unknown variant `munmapp`, expected one of mmap, munmap",
        );
        assert_eq!(
            error.to_string(),
            "a.yaml:2:5: unknown variant `munmapp`, expected one of mmap, munmap\n  \
             2 |   - munmapp: {}\n    |     ^\n  help: did you mean `munmap`?"
        );
    }

    #[test]
    fn tabs_and_long_lines_keep_the_caret_under_its_place() {
        let line = format!("{}\tb", "a".repeat(300));
        let shown = InputError::at(Path::new("a"), &line, (1, 301), "tab").to_string();
        let lines: Vec<&str> = shown.lines().collect();
        let caret = lines[2].chars().position(|c| c == '^').expect("a caret");
        assert_eq!(lines[1].chars().nth(caret), Some('→'));
    }
}
