// SPDX-License-Identifier: GPL-2.0-only
//! What changed between two kernels of what the model mirrors, for people and programs.

use super::line::SCHEMA;
use super::style;
use crate::cli::args::Format;
use crate::drift::{Callee, Change, Definition, Drift, Drifted, Pair, Source, changed_lines};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write};
use vm::c_source::DefinitionKind;

/// Prints what changed.
pub struct Drifts<W: Write> {
    /// Where to.
    pub out: W,
    /// For whom.
    pub format: Format,
    /// Without the changed lines.
    pub brief: bool,
    /// With colours.
    pub colour: bool,
}

impl<W: Write> Drifts<W> {
    /// Tells all of it.
    ///
    /// # Errors
    /// The output cannot be written to.
    pub fn tell(&mut self, drift: &Drift<'_>, sources: [&Source; 2]) -> io::Result<()> {
        match self.format {
            Format::Human => self.human(drift, sources),
            Format::Json => self.json(drift, sources),
        }
    }

    fn human(&mut self, drift: &Drift<'_>, [old, new]: [&Source; 2]) -> io::Result<()> {
        for drifted in &drift.mirrored {
            writeln!(self.out, "{}", head(drifted.name, &drifted.pair))?;
            for mirror in &drifted.mirrors {
                let (name, file, line) = (mirror.name, mirror.file, mirror.line);
                let mirrored = format!("mirrored by {name} (reference-model/src/{file}:{line})");
                writeln!(self.out, "  {mirrored}{}", told_apart(&mirror.fields))?;
            }
            let callees = drift.callees.iter();
            let called = callees.filter(|callee| callee.callers.contains(drifted.name));
            // One that `#if` chooses from others is told once.
            let called: BTreeSet<String> = called.map(short).collect();
            if !called.is_empty() {
                let called: Vec<&str> = called.iter().map(String::as_str).collect();
                writeln!(self.out, "  calls, not mirrored: {}", called.join(", "))?;
            }
            self.diff(&drifted.pair)?;
        }
        let unchanged = alone(drift);
        if !unchanged.is_empty() {
            writeln!(self.out, "Called by what did not change, and not mirrored:")?;
        }
        for callee in unchanged {
            let callers: Vec<&str> = callee.callers.iter().copied().collect();
            let head = head(callee.name, &callee.pair);
            writeln!(self.out, "  {head}; called by {}", callers.join(", "))?;
        }
        writeln!(self.out, "{}", sum(drift, [old, new]))
    }

    /// The lines that changed.
    fn diff(&mut self, pair: &Pair<'_>) -> io::Result<()> {
        if self.brief {
            return Ok(());
        }
        for line in changed_lines(pair) {
            let look = match line.chars().next() {
                Some('-') if self.colour => style::RED,
                Some('+') if self.colour => style::GREEN,
                _ => anstyle::Style::new(),
            };
            writeln!(self.out, "    {look}{line}{look:#}")?;
        }
        Ok(())
    }

    fn json(&mut self, drift: &Drift<'_>, [old, new]: [&Source; 2]) -> io::Result<()> {
        let mirrored = drift.mirrored.iter().map(Line::of_mirrored);
        let callees = drift.callees.iter().map(Line::of_callee);
        let end = Line::Drift {
            schema: SCHEMA,
            old: &old.name,
            new: &new.name,
            looked_at: drift.looked_at,
            mirrored: drift.mirrored.len(),
            callees: drift.callees.len(),
            exit_code: drift.exit_code(),
        };
        for line in mirrored.chain(callees).chain([end]) {
            let mut text = serde_json::to_string(&line)?;
            text.push('\n');
            self.out.write_all(text.as_bytes())?;
        }
        Ok(())
    }
}

/// What is called by what changed in nothing else.
fn alone<'d, 'a>(drift: &'d Drift<'a>) -> Vec<&'d Callee<'a>> {
    let changed: BTreeSet<&str> = drift.mirrored.iter().map(|drifted| drifted.name).collect();
    let callees = drift.callees.iter();
    callees
        .filter(|callee| callee.callers.is_disjoint(&changed))
        .collect()
}

/// A name, and what happened to it.
fn short(callee: &Callee<'_>) -> String {
    let what = match callee.pair.change {
        Change::Gone => "gone".to_owned(),
        Change::New => "new".to_owned(),
        Change::Renamed(to) => format!("gone, see {to}()"),
        change @ Change::Edited { .. } => {
            let from = callee.pair.old.as_ref().map_or("", |old| old.file);
            words(change, from)
        }
    };
    format!("{} ({what})", callee.name)
}

/// A name, where it is, and what happened to it.
fn head(name: &str, pair: &Pair<'_>) -> String {
    let of_old = |text: &str| at(pair.old.as_ref(), name, text);
    match pair.change {
        Change::Gone => of_old("has gone"),
        Change::New => at(pair.new.as_ref(), name, "is new"),
        Change::Renamed(to) => {
            let place = pair.new.as_ref().map_or("", |new| new.file);
            of_old(&format!("has gone; {to}() of {place} is much like it"))
        }
        Change::Edited { .. } => {
            let moved = pair.old.as_ref().map_or("", |old| old.file);
            let what = words(pair.change, moved);
            at(pair.new.as_ref(), name, &what)
        }
    }
}

fn at(definition: Option<&Definition<'_>>, name: &str, what: &str) -> String {
    let Some(Definition {
        file, line, kind, ..
    }) = definition
    else {
        return format!("{name}: {what}");
    };
    let parentheses = if *kind == DefinitionKind::Function {
        "()"
    } else {
        ""
    };
    format!("{file}:{line}: {name}{parentheses}: {what}")
}

/// In what it changed.
fn words(change: Change<'_>, from: &str) -> String {
    let Change::Edited {
        moved,
        signature,
        body,
    } = change
    else {
        return String::new();
    };
    let mut words = Vec::new();
    if moved {
        words.push(format!("moved from {from}"));
    }
    match (signature, body) {
        (true, true) => words.push("signature and body changed".to_owned()),
        (true, false) => words.push("signature changed".to_owned()),
        (false, true) => words.push("changed".to_owned()),
        (false, false) => {}
    }
    words.join(", ")
}

fn told_apart(fields: &BTreeSet<&str>) -> String {
    if fields.is_empty() {
        return String::new();
    }
    let fields: Vec<&str> = fields.iter().copied().collect();
    format!("; releases are told apart there by {}", fields.join(", "))
}

/// The last line.
fn sum(drift: &Drift<'_>, [old, new]: [&Source; 2]) -> String {
    let count = |which: fn(&Change<'_>) -> bool| {
        let changes = drift.mirrored.iter().map(|drifted| drifted.pair.change);
        changes.filter(which).count()
    };
    let counts = [
        (
            count(|change| matches!(change, Change::Edited { body: true, .. })),
            "changed",
        ),
        (
            count(|change| {
                matches!(
                    change,
                    Change::Edited {
                        signature: true,
                        ..
                    }
                )
            }),
            "with another signature",
        ),
        (
            count(|change| matches!(change, Change::Edited { moved: true, .. })),
            "moved",
        ),
        (
            count(|change| matches!(change, Change::Renamed(_))),
            "renamed",
        ),
        (count(|change| matches!(change, Change::Gone)), "gone"),
        (count(|change| matches!(change, Change::New)), "new"),
    ];
    let mut text = format!(
        "{} → {}: of {} names that the model mirrors {} are not what they were",
        old.name,
        new.name,
        drift.looked_at,
        drift.names().len()
    );
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    for (number, (count, what)) in counts.enumerate() {
        let before = if number == 0 { ": " } else { ", " };
        let _ = write!(text, "{before}{count} {what}");
    }
    let _ = write!(text, "; so are {} that they call", drift.callees.len());
    text
}

/// One line of JSON.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    Mirrored {
        schema: u32,
        name: &'a str,
        #[serde(flatten)]
        pair: PairLine<'a>,
        mirrors: Vec<MirrorLine<'a>>,
        diff: Vec<String>,
    },
    Callee {
        schema: u32,
        name: &'a str,
        #[serde(flatten)]
        pair: PairLine<'a>,
        callers: &'a BTreeSet<&'a str>,
        diff: Vec<String>,
    },
    Drift {
        schema: u32,
        old: &'a str,
        new: &'a str,
        looked_at: usize,
        mirrored: usize,
        callees: usize,
        exit_code: u8,
    },
}

#[derive(Serialize)]
struct PairLine<'a> {
    changes: Vec<&'static str>,
    renamed_to: Option<&'a str>,
    old: Option<PlaceLine<'a>>,
    new: Option<PlaceLine<'a>>,
}

#[derive(Serialize)]
struct PlaceLine<'a> {
    file: &'a str,
    line: usize,
}

#[derive(Serialize)]
struct MirrorLine<'a> {
    name: &'a str,
    file: String,
    line: usize,
    fields: &'a BTreeSet<&'static str>,
}

impl<'a> Line<'a> {
    fn of_mirrored(drifted: &'a Drifted<'a>) -> Line<'a> {
        let mirrors = drifted.mirrors.iter().map(|mirror| MirrorLine {
            name: mirror.name,
            file: format!("reference-model/src/{}", mirror.file),
            line: mirror.line,
            fields: &mirror.fields,
        });
        Line::Mirrored {
            schema: SCHEMA,
            name: drifted.name,
            pair: PairLine::of(&drifted.pair),
            mirrors: mirrors.collect(),
            diff: changed_lines(&drifted.pair),
        }
    }

    fn of_callee(callee: &'a Callee<'a>) -> Line<'a> {
        Line::Callee {
            schema: SCHEMA,
            name: callee.name,
            pair: PairLine::of(&callee.pair),
            callers: &callee.callers,
            diff: changed_lines(&callee.pair),
        }
    }
}

impl<'a> PairLine<'a> {
    fn of(pair: &'a Pair<'a>) -> PairLine<'a> {
        let place = |definition: &Option<Definition<'a>>| {
            definition.as_ref().map(|definition| PlaceLine {
                file: definition.file,
                line: definition.line,
            })
        };
        let (changes, renamed_to) = match pair.change {
            Change::Gone => (vec!["gone"], None),
            Change::New => (vec!["new"], None),
            Change::Renamed(to) => (vec!["renamed"], Some(to)),
            Change::Edited {
                moved,
                signature,
                body,
            } => {
                let words = [(moved, "moved"), (signature, "signature"), (body, "body")];
                let changes = words.iter().filter(|(is, _)| *is);
                (changes.map(|(_, word)| *word).collect(), None)
            }
        };
        PairLine {
            changes,
            renamed_to,
            old: place(&pair.old),
            new: place(&pair.new),
        }
    }
}
