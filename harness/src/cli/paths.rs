// SPDX-License-Identifier: GPL-2.0-only
//! The ways into `tlbflush.c` that scenarios come by, measured.

use super::args::ListArgs;
use super::commands::{Heard, backend, listen, worst};
use super::config::{
    BackendConfig, artifacts, choices, make_own_ready, profile_of, scenarios, settings, style,
};
use super::failure::Failure;
use crate::checks::Chosen;
use crate::event::{Event, Reporter, Start, Summary};
use crate::judge::Judge;
use crate::outcome::EXIT_AGREE;
use crate::paths::{Accepted, Reasons, Table, Ways};
use crate::reading::Reading;
use crate::report::human::Human;
use crate::report::style::Style;
use crate::report::ways::Printer;
use crate::run::Run;
use crate::scenario::Scenario;
use reference_model::Profile;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use vm::{Artifacts, KernelChoice};

/// Runs scenarios and prints by which ways they come into `tlbflush.c`.
pub fn paths(args: &ListArgs) -> Result<u8, Failure> {
    make_own_ready(&args.kernel, &args.selection)?;
    let heard = listen()?;
    let scenarios = scenarios(&args.selection)?;
    let reasons = Reasons::own().map_err(Failure::Cannot)?;
    let mut code = EXIT_AGREE;
    for choice in choices(&args.kernel)? {
        let measured = measure(args, &choice, &scenarios, &reasons, &heard)?;
        code = code.max(worst(&[(String::new(), measured.summary.clone())]));
        let mut printer = Printer {
            out: io::stdout().lock(),
            format: args.format,
            verbose: args.verbose,
            kernel: &measured.artifacts.kernel,
            release: &measured.artifacts.release,
        };
        printer.tell(&measured.table, &reasons)?;
        if args.accept && !measured.summary.interrupted {
            accept(&measured)?;
        }
        if measured.summary.interrupted {
            break;
        }
    }
    Ok(code)
}

/// What came of running scenarios on a kernel.
struct Measured {
    artifacts: Artifacts,
    table: Table,
    /// The scenarios that came to their end: of others nothing is known.
    ran: BTreeSet<String>,
    /// Those of which the next run may come by otherwise.
    vary: BTreeSet<String>,
    summary: Summary,
}

fn measure(
    args: &ListArgs,
    choice: &KernelChoice,
    scenarios: &[Arc<Scenario>],
    reasons: &Reasons,
    (sender, receiver): &Heard,
) -> Result<Measured, Failure> {
    let artifacts = artifacts(choice)?;
    let ways = Ways::of(&artifacts, reasons);
    let ways = ways.map_err(|error| Failure::Cannot(format!("{choice}: {error}")))?;
    let profile = profile_of(choice, &artifacts).unwrap_or(&Profile::STABLE);
    let mut settings = settings(&args.guest, artifacts.clone());
    let acted_on = scenarios.iter().map(|scenario| scenario.harts()).max();
    settings.acted_on = acted_on.unwrap_or(0);
    let run = Run {
        scenarios: scenarios.to_vec(),
        judge: Judge {
            checks: Chosen::of(&["layer1".to_owned()]),
            profile,
            reading: Reading::Read,
            repeat: 1,
            snapshots: None,
            kernel: artifacts.kernel.clone(),
        },
        backend: backend(&BackendConfig::Guest(Box::new(settings))),
        jobs: usize::from(args.jobs),
        shuffle: None,
        start: Start {
            scenarios: scenarios.len(),
            runs: 1,
            backend: "guest",
            kernel: artifacts.kernel.clone(),
            profile: profile.name,
            ..Start::default()
        },
    };
    let mut watcher = Watcher::new(&ways);
    let summary = run.run((sender, receiver), &mut watcher)?;
    let Watcher {
        table, ran, vary, ..
    } = watcher;
    Ok(Measured {
        artifacts,
        table,
        ran,
        vary,
        summary,
    })
}

/// Takes callers from verdicts; what failed is told on standard error, where progress is.
struct Watcher<'a> {
    ways: &'a Ways,
    table: Table,
    ran: BTreeSet<String>,
    vary: BTreeSet<String>,
    human: Human<io::Stderr>,
}

impl<'a> Watcher<'a> {
    fn new(ways: &'a Ways) -> Watcher<'a> {
        let style = Style {
            quiet: true,
            ..style()
        };
        Watcher {
            table: ways.table(),
            ran: BTreeSet::new(),
            vary: BTreeSet::new(),
            ways,
            human: Human::new(io::stderr(), style),
        }
    }
}

impl Reporter for Watcher<'_> {
    fn tell(&mut self, event: &Event) -> io::Result<()> {
        if let Event::Judged(verdict) = event {
            let name = &verdict.scenario.name;
            self.table.add(self.ways, name, &verdict.callers);
            if verdict.observation.is_some() {
                self.ran.insert(name.clone());
            }
            if verdict.scenario.varies {
                self.vary.insert(name.clone());
            }
        }
        self.human.tell(event)
    }
}

fn accept(measured: &Measured) -> Result<(), Failure> {
    let root = vm::home::home().map_err(|error| Failure::Cannot(error.to_string()))?;
    let Measured {
        artifacts, table, ..
    } = measured;
    let path = Accepted::path(&root, &artifacts.kernel);
    let cannot = |error: io::Error| Failure::Cannot(format!("{}: {error}", path.display()));
    let before = Accepted::read(&path).map_err(cannot)?;
    let built = (artifacts.release.clone(), artifacts.compiler());
    let next = Accepted::next(
        before.as_ref(),
        &table.without(&measured.vary),
        built,
        &|name| measured.ran.contains(name),
        &|name| is_there(&root, name),
    );
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(cannot)?;
    }
    fs::write(&path, next.text(&artifacts.kernel)).map_err(cannot)?;
    eprintln!("accepted: {}", path.display());
    Ok(())
}

fn is_there(root: &Path, name: &str) -> bool {
    root.join("scenarios").join(format!("{name}.yaml")).exists()
}
