// SPDX-License-Identifier: GPL-2.0-only
//! Keeps the results of a run that is going on. It is told of everything before anybody
//! else, so that what was printed is kept.

use super::changes::{Changes, Entry, Pasts};
use super::error::HistoryError;
use super::line::Line;
use super::store::{Store, Stream};
use crate::event::{Event, Reporter};
use crate::report::json::Lines;
use crate::report::line::Line as Told;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Keeps results.
pub struct Recorder {
    path: PathBuf,
    keeper: Keeper,
    /// What another place has to be given if this one fails: all of this run, and in a file
    /// of those before it.
    given: Vec<Told>,
    lines: Lines,
    pasts: Pasts,
    board: String,
    line: String,
    entries: Vec<Entry>,
    changes: Vec<Changes>,
    notes: Vec<String>,
}

/// Where results go.
enum Keeper {
    /// To the database.
    Store { store: Store, place: Stream },
    /// To a file, since the database cannot be written.
    File { file: File, path: PathBuf },
    /// Nowhere.
    None,
}

impl Recorder {
    /// Keeps them in that database. Where it cannot be written, they go to a file, which
    /// can be imported.
    ///
    /// # Errors
    /// A newer version of this program wrote it.
    pub fn new(path: &Path) -> Result<Recorder, HistoryError> {
        let mut recorder = Recorder {
            path: path.to_owned(),
            keeper: Keeper::None,
            given: Vec::new(),
            lines: Lines::default(),
            pasts: Pasts::default(),
            board: String::new(),
            line: String::new(),
            entries: Vec::new(),
            changes: Vec::new(),
            notes: Vec::new(),
        };
        match Store::open(path) {
            Ok(opened) => {
                recorder.notes.extend(opened.note);
                recorder.keeper = Keeper::Store {
                    store: opened.store,
                    place: Stream::default(),
                };
            }
            Err(error @ HistoryError::Newer { .. }) => return Err(error),
            Err(error) => recorder.use_file(&error, None),
        }
        Ok(recorder)
    }

    /// Forgets all but the last runs of each board and line.
    pub fn forget(&mut self, keep: u32) {
        if let Keeper::Store { store, .. } = &mut self.keeper
            && let Err(error) = store.forget(keep)
        {
            self.notes
                .push(format!("old results are still kept: {error}"));
        }
    }

    /// What each run changed.
    pub fn changes(&self) -> &[Changes] {
        &self.changes
    }

    /// Whether all is in the database.
    pub fn is_whole(&self) -> bool {
        matches!(self.keeper, Keeper::Store { .. })
    }

    /// What the user should know, once.
    pub fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    fn take(&mut self, event: &Event) {
        if let Some(told) = self.lines.of(event) {
            self.take_line(told);
        }
    }

    /// Keeps a line of `--format json`: of a run that has begun with another.
    pub fn take_line(&mut self, told: Told) {
        let line = match Line::new(&told) {
            Ok(line) => line,
            Err(why) => {
                self.notes.push(format!("a result is not kept: {why}"));
                return;
            }
        };
        match &line {
            Line::Start(start) => {
                let started = &start.told;
                (self.board, self.line) = (started.board.clone(), started.line.clone());
                self.entries.clear();
                self.pasts = self.look_back();
            }
            Line::Scenario(scenario) => self.entries.push(Entry {
                name: scenario.name.clone(),
                outcome: scenario.outcome,
                why: scenario.why.clone(),
                cause: scenario.cause.clone(),
                elapsed_ms: scenario.elapsed_ms,
            }),
            Line::Summary(_) => {
                let changes = Changes::new(&self.board, &self.line, &self.pasts, &self.entries);
                self.changes.push(changes);
            }
            Line::Other => return,
        }
        self.keep(&line, told);
    }

    /// Before anything of this run is kept.
    fn look_back(&mut self) -> Pasts {
        let pasts = match &self.keeper {
            Keeper::Store { store, .. } => store.pasts(&self.board, &self.line),
            _ => Store::read(&self.path).and_then(|store| store.pasts(&self.board, &self.line)),
        };
        pasts.unwrap_or_else(|error| {
            let note = format!("nothing can be said of earlier runs: {error}");
            self.notes.push(note);
            Pasts::default()
        })
    }

    fn keep(&mut self, line: &Line, told: Told) {
        if matches!((&self.keeper, line), (Keeper::Store { .. }, Line::Start(_))) {
            self.given.clear();
        }
        let kept = match &mut self.keeper {
            Keeper::Store { store, place } => store.take(place, [line]).map(|_| ()),
            Keeper::File { file, path } => {
                write(file, &told).map_err(|source| HistoryError::File {
                    path: path.clone(),
                    source,
                })
            }
            Keeper::None => return,
        };
        self.given.push(told);
        if let Err(error) = kept {
            let full = match &self.keeper {
                Keeper::File { path, .. } => Some(path.clone()),
                _ => None,
            };
            self.use_file(&error, full.as_deref());
        }
    }

    /// From here on into a file: beside the database, or where there is room, which is not
    /// where that other file is.
    fn use_file(&mut self, error: &HistoryError, full: Option<&Path>) {
        self.keeper = Keeper::None;
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let candidates = [folder.to_owned(), std::env::temp_dir(), "/dev/shm".into()];
        let not_full = |folder: &&PathBuf| full.is_none_or(|full| full.parent() != Some(folder));
        for folder in candidates.iter().filter(not_full) {
            if let Ok((file, path)) = file_in(folder, &self.given) {
                if let Some(full) = full {
                    // All that is in it is in the other one.
                    let _ = fs::remove_file(full);
                }
                self.notes.push(format!(
                    "{error}; results go to {0}: `tlbdiff history --import {0}` brings them back",
                    path.display()
                ));
                self.keeper = Keeper::File { file, path };
                return;
            }
        }
        let so_far = full.map_or_else(String::new, |full| {
            format!("; those up to here are in {}", full.display())
        });
        self.notes
            .push(format!("results are not kept any more: {error}{so_far}"));
    }
}

fn file_in(folder: &Path, lines: &[Told]) -> io::Result<(File, PathBuf)> {
    let (mut file, path) = tempfile::Builder::new()
        .prefix("tlbdiff-results-")
        .suffix(".jsonl")
        .tempfile_in(folder)?
        .keep()?;
    for line in lines {
        if let Err(error) = write(&mut file, line) {
            // A part of them would be taken for all.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
    }
    Ok((file, path))
}

fn write(file: &mut File, line: &Told) -> io::Result<()> {
    writeln!(file, "{}", line.to_json()?)?;
    file.sync_data()
}

/// Tells the recorder first, then whoever prints.
pub struct Recording<'a> {
    /// Who keeps.
    pub recorder: &'a mut Recorder,
    /// Who prints.
    pub outputs: &'a mut dyn Reporter,
}

impl Reporter for Recording<'_> {
    fn tell(&mut self, event: &Event) -> io::Result<()> {
        self.recorder.take(event);
        for note in self.recorder.notes() {
            self.outputs.tell(&Event::Note(note))?;
        }
        self.outputs.tell(event)?;
        match (event, self.recorder.changes.last()) {
            (Event::Finished(_), Some(changes)) => self
                .outputs
                .tell(&Event::Changed(Box::new(changes.clone()))),
            _ => Ok(()),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        self.outputs.end()
    }
}
