// SPDX-License-Identifier: GPL-2.0-only
//! `cost`.

use super::args::{BackendName, CostArgs, Format};
use super::commands::{backend, listen};
use super::config::{
    BackendConfig, artifacts, board, choices, line, line_of, make_own_ready, no_secondary,
    scenarios, settings,
};
use super::failure::Failure;
use super::history::database;
use crate::backend::Backend;
use crate::backend::board::{self as boards, Boards};
use crate::cost::{OperationCost, ScenarioCost, by_operation, measure, notified};
use crate::event::Event;
use crate::finding::Finding;
use crate::history::costs::Occasion;
use crate::history::{HistoryError, Store};
use crate::outcome::{EXIT_AGREE, EXIT_COULD_NOT_RUN, EXIT_FOUND, EXIT_INTERRUPTED, Outcome};
use crate::report::costs;
use crate::run::{Message, Stop};
use crate::scenario::Scenario;
use chrono::Utc;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;
use vm::KernelChoice;

/// What is counted on.
struct Target {
    /// Its name, as it is told.
    kernel: String,
    line: String,
    from: BackendConfig,
}

/// Counts scenarios on kernels.
pub fn cost(args: &CostArgs) -> Result<u8, Failure> {
    make_own_ready(&args.kernel, &args.selection)?;
    let (sender, heard) = listen()?;
    let scenarios = one_after_the_other(scenarios(&args.selection)?)?;
    let targets = targets(args)?;
    let mut keeper = Keeper::new(args)?;
    let mut code = EXIT_AGREE;
    for target in targets {
        let began_ms = Utc::now().timestamp_millis();
        let stop = Arc::new(Stop::default());
        let backend = backend(&target.from)(sender.clone(), Arc::clone(&stop));
        let counter = Counter {
            args,
            kernel: &target.kernel,
            backend,
            stop,
            heard: &heard,
        };
        let counted = counter.count(&scenarios)?;
        let costs = by_operation(&counted.costs);
        tell(args.format, &target.kernel, &costs)?;
        keeper.keep(target, began_ms, &costs);
        if counted.interrupted {
            return Ok(EXIT_INTERRUPTED);
        }
        code = worse(code, counted.worst.exit_code());
    }
    Ok(worse(code, keeper.code))
}

/// Those whose steps are begun one after the other. What several harts do at once is counted in
/// no step: others are told and left out, and where they are all that was named it is an error.
fn one_after_the_other(scenarios: Vec<Arc<Scenario>>) -> Result<Vec<Arc<Scenario>>, Failure> {
    const WHY: &str = "it has steps that are begun together, and what they cost cannot be counted";
    let (together, rest): (Vec<_>, Vec<_>) = scenarios
        .into_iter()
        .partition(|scenario| !scenario.program.groups.is_empty());
    let told = |scenario: &Arc<Scenario>| format!("{}: {WHY}", scenario.path.display());
    let together: Vec<String> = together.iter().map(told).collect();
    if rest.is_empty() {
        return Err(Failure::Usage(together.join("\n")));
    }
    for one in together {
        eprintln!("{} {one}", Outcome::Skipped.name());
    }
    Ok(rest)
}

/// What was found outlives what could not be run.
fn worse(one: u8, other: u8) -> u8 {
    match (one, other) {
        (EXIT_AGREE, other) => other,
        (EXIT_FOUND, _) | (_, EXIT_FOUND) => EXIT_FOUND,
        (one, _) => one,
    }
}

/// Keeps what was counted, if that is wanted. What cannot be kept is told all the same.
struct Keeper<'a> {
    args: &'a CostArgs,
    store: Option<Store>,
    code: u8,
}

impl<'a> Keeper<'a> {
    fn new(args: &'a CostArgs) -> Result<Keeper<'a>, Failure> {
        let mut keeper = Keeper {
            args,
            store: None,
            code: EXIT_AGREE,
        };
        if args.no_history {
            return Ok(keeper);
        }
        match Store::open(&database(args.history.as_ref())) {
            Ok(opened) => {
                if let Some(note) = opened.note {
                    eprintln!("note: {note}");
                }
                keeper.store = Some(opened.store);
            }
            Err(error @ HistoryError::Newer { .. }) => return Err(error.into()),
            Err(error) => keeper.is_not_kept(&error),
        }
        Ok(keeper)
    }

    fn is_not_kept(&mut self, error: &HistoryError) {
        eprintln!("note: what is counted is not kept: {error}");
        self.store = None;
        self.code = EXIT_COULD_NOT_RUN;
    }

    fn keep(&mut self, target: Target, began_ms: i64, costs: &[OperationCost]) {
        let backends: Vec<BackendName> = self.args.backend.iter().cloned().collect();
        let occasion = Occasion {
            began_ms,
            board: board(&self.args.kept_as, &backends, self.args.guest.unusual()),
            line: self.args.kept_as.line.clone().unwrap_or(target.line),
            kernel: target.kernel,
        };
        let kept = self
            .store
            .as_mut()
            .map(|store| store.keep_costs(&occasion, costs));
        if let Some(Err(error)) = kept {
            self.is_not_kept(&error);
        }
    }
}

fn targets(args: &CostArgs) -> Result<Vec<Target>, Failure> {
    if args.guest.secondary.is_some() {
        return Err(no_secondary(
            "what is counted is what subscribers cost that do nothing",
        ));
    }
    let name = args.backend.clone().unwrap_or(BackendName::Guest);
    if let Some(place) = name.place(args.ssh_config.as_deref()) {
        let release = vm::boards::release(&place)
            .map_err(|error| Failure::Cannot(format!("{error}; {}", error.advice())))?;
        let settings = boards::Settings {
            timeout: Duration::from_secs(args.guest.timeout),
            sabotage: None,
            buffer_records: 0,
            eager: false,
        };
        return Ok(vec![Target {
            line: line_of(&release),
            kernel: release,
            from: BackendConfig::Boards(settings, Arc::new(Boards::new(vec![place]))),
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
        Ok(Target {
            kernel,
            line,
            from: BackendConfig::Guest(Box::new(settings)),
        })
    };
    choices(&args.kernel)?.into_iter().map(guest).collect()
}

/// Counts scenarios on a target.
struct Counter<'a> {
    args: &'a CostArgs,
    kernel: &'a str,
    backend: Box<dyn Backend>,
    stop: Arc<Stop>,
    heard: &'a Receiver<Message>,
}

/// What that came to.
struct Counted {
    costs: Vec<ScenarioCost>,
    worst: Outcome,
    interrupted: bool,
}

impl Counted {
    /// A scenario cannot be counted: told, and no more done about it.
    fn cannot(&mut self, scenario: &Scenario, finding: &Finding) {
        let (path, outcome) = (scenario.path.display(), finding.outcome);
        eprintln!("{} {path}: {}", outcome.name(), finding.why);
        self.worst = self.worst.max(outcome);
    }
}

impl Counter<'_> {
    fn count(mut self, scenarios: &[Arc<Scenario>]) -> Result<Counted, Failure> {
        let mut counted = Counted {
            costs: Vec::new(),
            worst: Outcome::Agree,
            interrupted: false,
        };
        // All of them first: what counts is another guest than what traces.
        let mut known = Vec::new();
        for scenario in scenarios {
            counted.interrupted |= listen_to(self.heard);
            if counted.interrupted {
                return Ok(counted);
            }
            match notified(scenario, self.backend.as_mut()) {
                Ok(notified) => known.push((scenario, notified)),
                Err(finding) => counted.cannot(scenario, &finding),
            }
        }
        for (index, (scenario, notified)) in known.iter().enumerate() {
            if self.stop.is_stopped() || !self.backend.usable() {
                let left = known.len() - index;
                eprintln!(
                    "{}: it cannot be run on any more; {left} not counted",
                    self.kernel
                );
                counted.worst = counted.worst.max(Outcome::CouldNotRun);
                break;
            }
            let interrupted = &mut counted.interrupted;
            let heard = self.heard;
            let mut go_on = || {
                *interrupted |= listen_to(heard);
                !*interrupted
            };
            let rounds = self.args.rounds;
            let notified = notified.as_deref();
            match measure(
                scenario,
                notified,
                self.backend.as_mut(),
                rounds,
                &mut go_on,
            ) {
                Ok(Some(cost)) => {
                    tell_scenario(self.args.format, self.kernel, &cost)?;
                    counted.costs.push(cost);
                }
                Ok(None) => break,
                Err(finding) => counted.cannot(scenario, &finding),
            }
        }
        // What was said of the last one.
        counted.interrupted |= listen_to(self.heard);
        Ok(counted)
    }
}

/// Passes on what is to be told; says whether there was Ctrl-C.
fn listen_to(heard: &Receiver<Message>) -> bool {
    let mut interrupted = false;
    for message in heard.try_iter() {
        match message {
            Message::Interrupted => interrupted = true,
            Message::Event(Event::Note(note)) => eprintln!("note: {note}"),
            _ => {}
        }
    }
    interrupted
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
