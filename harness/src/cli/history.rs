// SPDX-License-Identifier: GPL-2.0-only
//! `nightly` and `history`.

use super::args::{HistoryArgs, NightlyArgs, RunArgs};
use super::commands::{listen, outputs, run_telling, worst};
use super::config::make_own_ready_for;
use super::failure::Failure;
use crate::history::recorder::{Recorder, Recording};
use crate::history::show::{self, Choice};
use crate::history::{self, HistoryError, Store, import};
use crate::history::{costs, nightly};
use crate::outcome::{EXIT_AGREE, EXIT_COULD_NOT_RUN};
use crate::scenario::naming;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where results are kept.
pub fn database(named: Option<&PathBuf>) -> PathBuf {
    let default = || history::default_path(|name| std::env::var_os(name));
    named.cloned().unwrap_or_else(default)
}

/// Runs scenarios, keeps their results, and says what changed.
pub fn nightly(args: NightlyArgs) -> Result<u8, Failure> {
    make_own_ready_for(&args.run)?;
    let heard = listen()?;
    let mut recorder = Recorder::new(&database(args.history.as_ref()))?;
    // What agrees night after night is for the history to show.
    let run = RunArgs {
        quiet: true,
        ..args.run
    };
    // Results are kept whoever can be told of them.
    let mut outputs = outputs(&run)?.patient();
    let mut recording = Recording {
        recorder: &mut recorder,
        outputs: &mut outputs,
    };
    let summaries = run_telling(run, &heard, &mut recording)?;
    recorder.forget(args.keep);
    for note in recorder.notes() {
        // A service may have nobody to tell.
        let _ = writeln!(io::stderr(), "note: {note}");
    }
    let whole = outputs.is_whole() && recorder.is_whole();
    let code = match args.strict {
        true => worst(&summaries),
        false => nightly::exit_code(recorder.changes(), &summaries),
    };
    Ok(match whole {
        false if code == EXIT_AGREE => EXIT_COULD_NOT_RUN,
        _ => code,
    })
}

/// Shows what is kept, or takes more in.
pub fn history(args: &HistoryArgs) -> Result<u8, Failure> {
    let path = database(args.history.as_ref());
    if !args.import.is_empty() {
        return take_in(&path, &args.import);
    }
    let store = Store::read(&path)?;
    let choice = Choice {
        board: args.board.clone(),
        line: args.line.clone(),
        last: args.last,
    };
    let mut out = io::stdout().lock();
    if args.costs {
        write!(out, "{}", costs::costs(&store, &choice)?)?;
    } else if let Some(file) = &args.html {
        let page = history::page(&store, &choice)?;
        write_whole(file, &page)?;
        writeln!(out, "{} written", file.display())?;
    } else if let Some(scenario) = &args.scenario {
        let name = named(&store, scenario)?;
        write!(out, "{}", show::scenario(&store, &name, &choice)?)?;
    } else {
        write!(out, "{}", show::runs(&store, &choice)?)?;
    }
    Ok(EXIT_AGREE)
}

/// The scenario that is meant, by its file or its name.
fn named(store: &Store, scenario: &Path) -> Result<String, Failure> {
    let as_named = scenario.display().to_string();
    let nearest = match store.scenario_named(&as_named)? {
        Ok(name) => return Ok(name),
        Err(nearest) => nearest,
    };
    store
        .scenario_named(&naming::of(scenario))?
        .map_err(|of_file| {
            let hint = nearest
                .or(of_file)
                .map(|name| format!(" (did you mean `{name}`?)"));
            let hint = hint.unwrap_or_default();
            Failure::Usage(format!("no results are kept of `{as_named}`{hint}"))
        })
}

fn take_in(path: &Path, files: &[PathBuf]) -> Result<u8, Failure> {
    let opened = Store::open(path)?;
    if let Some(note) = opened.note {
        eprintln!("note: {note}");
    }
    let mut store = opened.store;
    let mut out = io::stdout().lock();
    for file in files {
        let imported = import::import(&mut store, file)?;
        let (runs, results, new) = (imported.runs, imported.results, imported.new);
        writeln!(
            out,
            "{}: {results} results of {runs} runs, {new} of them new",
            file.display()
        )?;
        if imported.cut {
            eprintln!(
                "note: {} ends in the middle of a line: whoever wrote it was killed",
                file.display()
            );
        }
    }
    Ok(EXIT_AGREE)
}

/// There is the old page or the new one, never a part.
fn write_whole(path: &Path, text: &str) -> Result<(), Failure> {
    let mut file = crate::report::outputs::beside(path)?;
    file.write_all(text.as_bytes())?;
    file.persist(path)
        .map_err(|error| Failure::Cannot(format!("{}: {}", path.display(), error.error)))?;
    Ok(())
}

impl From<HistoryError> for Failure {
    fn from(error: HistoryError) -> Failure {
        match error {
            HistoryError::Line { .. } => Failure::Usage(error.to_string()),
            error => Failure::Cannot(error.to_string()),
        }
    }
}
