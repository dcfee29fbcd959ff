// SPDX-License-Identifier: GPL-2.0-only
//! Results from files: of partitions, of other machines, and of runs whose history could
//! not be written.

use super::error::HistoryError;
use super::line::Line;
use super::store::{Store, Stream};
use crate::report::line::Line as Told;
use std::fs;
use std::path::Path;

/// What a file brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Runs that it tells of.
    pub runs: usize,
    /// Their results.
    pub results: usize,
    /// Those that were not known yet.
    pub new: usize,
    /// The file ends in the middle of a line: whoever wrote it was killed.
    pub cut: bool,
}

/// Takes in what `tlbdiff run --format json` wrote, all of it or nothing.
///
/// # Errors
/// The file cannot be read, has a line that makes no sense, or the database cannot be written.
pub fn import(store: &mut Store, path: &Path) -> Result<Imported, HistoryError> {
    let text = fs::read_to_string(path).map_err(|source| HistoryError::File {
        path: path.to_owned(),
        source,
    })?;
    let (lines, cut) = lines(&text).map_err(|(line, why)| HistoryError::Line {
        path: path.to_owned(),
        line,
        why,
    })?;
    let is = |wanted: fn(&Line) -> bool| lines.iter().filter(|line| wanted(line)).count();
    let runs = is(|line| matches!(line, Line::Start(_)));
    let results = is(|line| matches!(line, Line::Scenario(_)));
    if runs == 0 {
        return Err(HistoryError::Line {
            path: path.to_owned(),
            line: 1,
            why: "no run begins in this file: `tlbdiff run --format json` writes such".to_owned(),
        });
    }
    let new = store.take(&mut Stream::default(), &lines)?;
    Ok(Imported {
        runs,
        results,
        new,
        cut,
    })
}

/// What the lines say, and whether the last one is cut; or which makes no sense, and why.
fn lines(text: &str) -> Result<(Vec<Line>, bool), (usize, String)> {
    let mut lines = Vec::new();
    let mut begun = false;
    for (index, written) in text.lines().enumerate() {
        let number = index + 1;
        let line = match Told::parse(written).and_then(|told| Line::new(&told)) {
            Ok(line) => line,
            Err(_) if number == text.lines().count() && !text.ends_with('\n') => {
                return Ok((lines, true));
            }
            Err(why) => return Err((number, why)),
        };
        match line {
            Line::Start(_) => begun = true,
            Line::Scenario(_) | Line::Summary(_) if !begun => {
                return Err((
                    number,
                    "it belongs to no run: no `start` before it".to_owned(),
                ));
            }
            _ => {}
        }
        lines.push(line);
    }
    Ok((lines, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_only_at_the_end() {
        let note = r#"{"schema":2,"type":"note","note":"x"}"#;
        let cut = |text: String| lines(&text).map(|(lines, cut)| (lines.len(), cut));
        assert_eq!(cut(format!("{note}\n{note}\n")), Ok((2, false)));
        assert_eq!(cut(format!("{note}\n{}", &note[..20])), Ok((1, true)));
        assert_eq!(
            cut(format!("{}\n{note}\n", &note[..20])).map_err(|wrong| wrong.0),
            Err(1)
        );
        let early =
            r#"{"schema":2,"type":"summary","elapsed_ms":1,"stopped":null,"interrupted":false}"#;
        assert!(cut(format!("{early}\n")).is_err_and(|(_, why)| why.contains("no run")));
    }
}
