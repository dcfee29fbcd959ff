// SPDX-License-Identifier: GPL-2.0-only
//! Small edits of a kernel's source, each in a function that it names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::c_source;
use crate::error::VmError;
use crate::near::nearest;

/// One edit, as `kernels.toml` has it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edit {
    /// The file, from the source's root.
    pub(crate) file: PathBuf,
    /// The function that the edit is in.
    pub(crate) function: String,
    /// What is there exactly once; white space matches any white space.
    pub(crate) replace: String,
    /// What stands there instead.
    pub(crate) with: String,
    /// Its place in `kernels.toml`, for people.
    #[serde(skip)]
    pub(crate) origin: String,
}

impl Edit {
    /// What is wrong with it whatever the source is.
    pub(crate) fn check(&self) -> Result<(), String> {
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        if self.file.as_os_str().is_empty() || !self.file.components().all(plain) {
            return Err(format!(
                "file is `{}`, which is no path below the source",
                self.file.display()
            ));
        }
        if self.function.trim().is_empty() {
            return Err("function is empty".to_owned());
        }
        if self.replace.trim().is_empty() {
            return Err("replace is empty".to_owned());
        }
        if self.replace.trim() == self.with.trim() {
            return Err("with is what replace is, so nothing would change".to_owned());
        }
        Ok(())
    }

    /// Where it is, for people.
    pub(crate) fn place(&self) -> String {
        format!("{}: {}()", self.file.display(), self.function)
    }

    /// The file's text after it.
    fn apply(&self, text: &str) -> Result<String, Misfit> {
        let functions = c_source::definitions(text, &self.function);
        if functions.is_empty() {
            return Err(self.no_function(text));
        }
        let found: Vec<Range<usize>> = functions
            .iter()
            .flat_map(|function| occurrences(text, function.clone(), &self.replace))
            .collect();
        let [place] = &found[..] else {
            return Err(self.not_once(text, &functions, &found));
        };
        Ok(format!(
            "{}{}{}",
            &text[..place.start],
            self.with.trim(),
            &text[place.end..]
        ))
    }

    fn no_function(&self, text: &str) -> Misfit {
        let known: Vec<String> = c_source::names(text)
            .into_iter()
            .map(str::to_owned)
            .collect();
        let near = nearest(&self.function, &known)
            .map(|name| format!(" (did you mean {name}()?)"))
            .unwrap_or_default();
        Misfit {
            why: format!("it defines no {}(){near}", self.function),
            shown: format!("\n  the functions there: {}", known.join(", ")),
        }
    }

    fn not_once(&self, text: &str, functions: &[Range<usize>], found: &[Range<usize>]) -> Misfit {
        let count = match found.len() {
            0 => "not there".to_owned(),
            count => {
                let lines: Vec<String> = found
                    .iter()
                    .map(|place| line_of(text, place.start).to_string())
                    .collect();
                format!("there {count} times (lines {})", lines.join(", "))
            }
        };
        let wanted: String = self
            .replace
            .trim()
            .lines()
            .map(|line| format!("\n    | {line}"))
            .collect();
        let shown: String = functions
            .iter()
            .map(|function| numbered(text, function))
            .collect();
        Misfit {
            why: format!(
                "in {}() the text to replace is {count}; it has to be there once",
                self.function
            ),
            shown: format!("\n  to replace:{wanted}\n  the function there:{shown}"),
        }
    }
}

/// Why an edit does not fit, and the source around it.
#[derive(Debug)]
struct Misfit {
    why: String,
    shown: String,
}

/// What keys know edits by.
pub(crate) fn text(edits: &[Edit]) -> String {
    let mut all = String::new();
    for edit in edits {
        let (file, function) = (&edit.file, &edit.function);
        let (replace, with) = (edit.replace.trim(), edit.with.trim());
        // Writing to a string cannot fail.
        let _ = writeln!(all, "{file:?} {function:?} {replace:?} {with:?}");
    }
    all
}

/// The new text of every file that a kernel's edits change, applied in order.
pub(crate) fn apply(
    kernel: &str,
    edits: &[Edit],
    source: &Path,
) -> Result<BTreeMap<PathBuf, String>, VmError> {
    let mut files: BTreeMap<PathBuf, String> = BTreeMap::new();
    for edit in edits {
        let misfit = |misfit: Misfit| VmError::Edit {
            kernel: kernel.to_owned(),
            edit: edit.origin.clone(),
            file: source.join(&edit.file),
            why: misfit.why,
            shown: misfit.shown,
        };
        let text = match files.get(&edit.file) {
            Some(text) => text.clone(),
            None => read(&source.join(&edit.file)).map_err(misfit)?,
        };
        files.insert(edit.file.clone(), edit.apply(&text).map_err(misfit)?);
    }
    Ok(files)
}

fn read(path: &Path) -> Result<String, Misfit> {
    let beside = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names.join(", ")
    };
    fs::read_to_string(path).map_err(|error| Misfit {
        why: error.to_string(),
        shown: path
            .parent()
            .map(|folder| format!("\n  the files there: {}", beside(folder)))
            .unwrap_or_default(),
    })
}

/// Where a pattern's words are, in order, with nothing but white space between.
fn occurrences(text: &str, within: Range<usize>, pattern: &str) -> Vec<Range<usize>> {
    let words: Vec<&str> = pattern.split_whitespace().collect();
    let Some(first) = words.first() else {
        return Vec::new();
    };
    let haystack = &text[within.clone()];
    haystack
        .match_indices(first)
        .filter_map(|(at, _)| {
            let length = matched(&haystack[at..], &words)?;
            Some(within.start + at..within.start + at + length)
        })
        .collect()
}

/// The length of what matches these words, if the text begins with them.
fn matched(text: &str, words: &[&str]) -> Option<usize> {
    let mut rest = text;
    for (index, word) in words.iter().enumerate() {
        let trimmed = rest.trim_start();
        // The first word begins where it was found; others after some space.
        if (index == 0) != (trimmed.len() == rest.len()) {
            return None;
        }
        rest = trimmed.strip_prefix(word)?;
    }
    Some(text.len() - rest.len())
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// A part of a text with line numbers, each line after a line break.
fn numbered(text: &str, part: &Range<usize>) -> String {
    let first = line_of(text, part.start);
    text[part.clone()]
        .lines()
        .enumerate()
        .map(|(index, line)| format!("\n  {:>5}  {line}", first + index))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "mm/a.c";

    const TEXT: &str = "\
static void other(void)
{
	tell(mm, start, end);
}

void flush(struct mm *mm)
{
	if (mm)
		tell(mm, start,
		     end);
	wait();
	wait();
}
";

    fn edit(function: &str, replace: &str, with: &str) -> Edit {
        Edit {
            file: FILE.into(),
            function: function.into(),
            replace: replace.into(),
            with: with.into(),
            origin: "[[mutant.edit]] number 1".into(),
        }
    }

    fn source() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("mm")).unwrap();
        fs::write(root.path().join(FILE), TEXT).unwrap();
        root
    }

    fn applied(edits: &[Edit]) -> Result<String, String> {
        let root = source();
        let files = apply("mutant", edits, root.path());
        files
            .map(|mut files| files.remove(Path::new(FILE)).unwrap())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_function_decides_which_of_two_equal_texts_is_meant() {
        let text = applied(&[edit("other", "tell(mm, start, end);", "quiet();")]).unwrap();
        assert_eq!(text, TEXT.replace("tell(mm, start, end);", "quiet();"));
    }

    #[test]
    fn white_space_matches_white_space_and_stays_around_it() {
        let text = applied(&[edit("flush", "\ntell(mm, start, end);\n", "\n;\n")]).unwrap();
        assert!(text.contains("\tif (mm)\n\t\t;\n\twait();"), "{text}");
        // Where there is none, none is matched.
        assert!(applied(&[edit("flush", "tell (mm, start, end);", "x")]).is_err());
    }

    #[test]
    fn edits_of_one_file_are_applied_in_order() {
        let text = applied(&[
            edit("other", "start", "begin"),
            edit("other", "begin", "first"),
        ]);
        assert!(text.unwrap().contains("tell(mm, first, end);"));
    }

    #[test]
    fn a_text_that_is_gone_fails_with_the_function_and_its_lines() {
        let error = applied(&[edit("flush", "tell(mm,\n  from, to);", "")]).unwrap_err();
        for part in [
            "mutant",
            FILE,
            "in flush() the text to replace is not there",
            "\n    | tell(mm,\n    |   from, to);",
            "\n      6  void flush(struct mm *mm)\n      7  {\n",
            "\n     13  }",
            "[[mutant.edit]] number 1",
        ] {
            assert!(error.contains(part), "{part:?} is not in {error}");
        }
        assert!(!error.contains("other"), "{error}");
    }

    #[test]
    fn a_text_that_is_there_twice_fails_with_both_lines() {
        let error = applied(&[edit("flush", "wait();", "")]).unwrap_err();
        assert!(error.contains("there 2 times (lines 11, 12)"), "{error}");
    }

    #[test]
    fn a_function_that_is_gone_fails_with_those_there_are() {
        let error = applied(&[edit("flush_all", "wait();", "")]).unwrap_err();
        assert!(
            error.contains("defines no flush_all() (did you mean flush()?)"),
            "{error}"
        );
        assert!(
            error.contains("the functions there: other, flush"),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_is_gone_fails_with_those_there_are() {
        let gone = Edit {
            file: "mm/b.c".into(),
            ..edit("f", "a", "b")
        };
        let error = applied(&[gone]).unwrap_err();
        assert!(error.contains("No such file"), "{error}");
        assert!(error.contains("the files there: a.c"), "{error}");
    }

    #[test]
    fn what_could_never_fit_is_refused_at_once() {
        let file = |file: &str| Edit {
            file: file.into(),
            ..edit("f", "a", "b")
        };
        for bad in [
            file(""),
            file("../a.c"),
            file("/etc/passwd"),
            edit(" ", "a", "b"),
            edit("f", "\n", "b"),
            edit("f", "a", " a "),
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
        assert!(edit("f", "a", "").check().is_ok());
    }

    #[test]
    fn every_part_of_an_edit_is_part_of_its_key() {
        let was = text(&[edit("f", "a", "b")]);
        let others = [
            text(&[]),
            text(&[edit("g", "a", "b")]),
            text(&[edit("f", "c", "b")]),
            text(&[edit("f", "a", "c")]),
            text(&[edit("f", "a", "b"), edit("f", "b", "c")]),
        ];
        assert!(others.iter().all(|other| *other != was));
        assert_eq!(text(&[edit("f", "\n\ta\n", "b\n")]), was);
    }
}
