// SPDX-License-Identifier: GPL-2.0-only
//! `cost`.

use super::Failure;
use super::args::{BackendName, CostArgs, Format};
use super::commands::{backend, listen};
use super::config::{From, artifacts, board, choices, line, line_of, scenarios, settings};
use super::history::database;
use crate::backend::Backend;
use crate::backend::board::{self as boards, Boards};
use crate::cost::{OperationCost, ScenarioCost, by_operation, measure};
use crate::history::Store;
use crate::history::costs::Occasion;
use crate::outcome::{EXIT_AGREE, EXIT_COULD_NOT_RUN, EXIT_INTERRUPTED};
use crate::report::{Event, costs};
use crate::run::{Message, Stop};
use crate::scenario::Scenario;
use crate::verdict::Finding;
use chrono::Utc;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;
use vm::KernelChoice;

/// What is counted on.
struct Machine {
    /// Its name, as it is told.
    kernel: String,
    line: String,
    from: From,
}

/// Counts scenarios on kernels.
pub fn cost(args: &CostArgs) -> Result<u8, Failure> {
    let (sender, heard) = listen()?;
    let scenarios = scenarios(&args.selection)?;
    let mut code = EXIT_AGREE;
    for machine in machines(args)? {
        let began_ms = Utc::now().timestamp_millis();
        let stop = Arc::new(Stop::default());
        let mut backend = backend(&machine.from)(sender.clone(), stop);
        let mut counted = Vec::new();
        for scenario in &scenarios {
            match count(scenario, backend.as_mut(), args.rounds, &heard)? {
                Counted::Cost(cost) => {
                    tell_scenario(args.format, &machine.kernel, &cost)?;
                    counted.push(cost);
                }
                Counted::Not(ends_with) => code = code.max(ends_with),
                Counted::Interrupted => return Ok(EXIT_INTERRUPTED),
            }
        }
        let costs = by_operation(&counted);
        tell(args.format, &machine.kernel, &costs)?;
        if !args.no_history {
            keep(args, machine, began_ms, &costs)?;
        }
    }
    Ok(code)
}

fn keep(
    args: &CostArgs,
    machine: Machine,
    began_ms: i64,
    costs: &[OperationCost],
) -> Result<(), Failure> {
    let opened = Store::open(&database(args.history.as_ref()))?;
    if let Some(note) = opened.note {
        eprintln!("note: {note}");
    }
    let mut store = opened.store;
    let backends: Vec<BackendName> = args.backend.iter().cloned().collect();
    let occasion = Occasion {
        began_ms,
        board: board(args.board.as_ref(), &backends, args.guest.cpu.as_ref()),
        line: args.line.clone().unwrap_or(machine.line),
        kernel: machine.kernel,
    };
    Ok(store.keep_costs(&occasion, costs)?)
}

fn machines(args: &CostArgs) -> Result<Vec<Machine>, Failure> {
    let name = args.backend.clone().unwrap_or(BackendName::Guest);
    if let Some(place) = name.place(args.ssh_config.as_deref()) {
        let release = vm::boards::release(&place)
            .map_err(|error| Failure::Cannot(format!("{error}; {}", error.advice())))?;
        let settings = boards::Settings {
            timeout: Duration::from_secs(args.guest.timeout),
            sabotage: None,
            buffer_records: 0,
        };
        return Ok(vec![Machine {
            line: line_of(&release),
            kernel: release,
            from: From::Boards(settings, Arc::new(Boards::new(vec![place]))),
        }]);
    }
    if name == BackendName::Recorded {
        let message = "--backend: snapshots cost nothing; it is `guest`, `local` or `ssh:…`";
        return Err(Failure::Usage(message.to_owned()));
    }
    let guest = |choice: KernelChoice| {
        let artifacts = artifacts(&choice)?;
        let kernel = format!("{} ({})", artifacts.kernel, artifacts.release);
        let line = line(&choice, &artifacts);
        let mut settings = settings(&args.guest, artifacts);
        settings.counted = true;
        Ok(Machine {
            kernel,
            line,
            from: From::Guest(Box::new(settings)),
        })
    };
    choices(&args.kernel)?.into_iter().map(guest).collect()
}

enum Counted {
    Cost(ScenarioCost),
    /// And what that ends the process with.
    Not(u8),
    Interrupted,
}

fn count(
    scenario: &Scenario,
    backend: &mut dyn Backend,
    rounds: u32,
    heard: &Receiver<Message>,
) -> Result<Counted, Failure> {
    let measured = measure(scenario, backend, rounds);
    for message in heard.try_iter() {
        match message {
            Message::Interrupted => return Ok(Counted::Interrupted),
            Message::Event(Event::Note(note)) => eprintln!("note: {note}"),
            _ => {}
        }
    }
    let path = scenario.path.display();
    Ok(match measured {
        Ok(cost) => Counted::Cost(cost),
        Err(Finding::Skipped { why }) => {
            eprintln!("skipped {path}: {why}");
            Counted::Not(EXIT_AGREE)
        }
        Err(Finding::CouldNotRun { why }) => {
            eprintln!("could not run {path}: {why}");
            Counted::Not(EXIT_COULD_NOT_RUN)
        }
        Err(other) => {
            eprintln!(
                "{} {path}: {}",
                other.outcome().name(),
                crate::report::test::why(&other)
            );
            Counted::Not(EXIT_COULD_NOT_RUN)
        }
    })
}

fn tell_scenario(format: Format, kernel: &str, cost: &ScenarioCost) -> io::Result<()> {
    match format {
        Format::Human => Ok(()),
        Format::Json => writeln!(io::stdout(), "{}", costs::scenario(kernel, cost)),
    }
}

fn tell(format: Format, kernel: &str, operations: &[OperationCost]) -> io::Result<()> {
    if let Some(note) = costs::note(operations) {
        eprintln!("note: {note}");
    }
    let mut out = io::stdout().lock();
    match format {
        Format::Human => write!(out, "{}", costs::tables(kernel, operations)),
        Format::Json => operations
            .iter()
            .try_for_each(|cost| writeln!(out, "{}", costs::operation(kernel, cost))),
    }
}
