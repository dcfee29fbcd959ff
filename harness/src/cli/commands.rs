// SPDX-License-Identifier: GPL-2.0-only
//! What each command does. Each gives the exit code.

use super::args::{
    BackendName, CheckArgs, CompareArgs, DoctorArgs, Format, KernelArgs, ListArgs, PredictArgs,
    ProvisionArgs, RunArgs,
};
use super::config::{
    BackendConfig, KernelRun, RunConfig, artifacts, choices, compare_again, make_own_ready,
    make_own_ready_for, profile, profile_of, scenarios, settings, style,
};
use super::failure::Failure;
use super::interrupt;
use crate::backend::Backend;
use crate::backend::board::BoardBackend;
use crate::backend::guest::GuestBackend;
use crate::backend::recorded::Recorded;
use crate::compare::{self, Comparison, Side};
use crate::event::{Event, Reporter, Start, Summary};
use crate::foreseen::foresee;
use crate::judge::{Judge, expect_tables};
use crate::outcome::{EXIT_AGREE, EXIT_COULD_NOT_RUN, EXIT_INTERRUPTED, Outcome};
use crate::report::compares::Compares;
use crate::report::json;
use crate::report::kcidb::Origin;
use crate::report::outputs::Outputs;
use crate::report::style::Style;
use crate::run::{MakeBackend, Message, Run, messages};
use crate::scenario::Scenario;
use crate::steps::{self, Fences};
use crate::text;
use chrono::Utc;
use reference_model::{Machine, Profile};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use vm::KernelChoice;

/// Runs scenarios on kernels and on the model, and compares.
pub fn run(args: RunArgs) -> Result<u8, Failure> {
    make_own_ready_for(&args)?;
    let heard = listen()?;
    let mut outputs = outputs(&args)?;
    Ok(worst(&run_telling(args, &heard, &mut outputs)?))
}

/// What a run listens to, Ctrl-C as well. To be called before any other thread is started.
pub fn listen() -> Result<Heard, Failure> {
    let (sender, receiver) = messages();
    interrupt::listen(sender.clone())?;
    Ok((sender, receiver))
}

/// The two ends of what a run listens to.
pub type Heard = (Sender<Message>, Receiver<Message>);

/// Runs scenarios on kernels, and gives what each kernel's run came to.
pub fn run_telling(
    args: RunArgs,
    (sender, receiver): &Heard,
    reporter: &mut dyn Reporter,
) -> Result<Vec<(String, Summary)>, Failure> {
    let config = match RunConfig::new(args) {
        Err(Failure::Input(errors)) => {
            let files = errors
                .iter()
                .map(|error| (error.path.clone(), error.to_string()));
            reporter.tell(&Event::Invalid(files.collect()))?;
            reporter.end()?;
            return Err(Failure::Input(errors));
        }
        config => config?,
    };
    for note in &config.notes {
        reporter.tell(&Event::Note(note.clone()))?;
    }
    let mut summaries = Vec::new();
    for kernel in &config.kernels {
        let (name, summary) = match kernel {
            Ok(kernel) => {
                let run = one_run(&config, kernel);
                let summary = run.run((sender, receiver), reporter)?;
                (kernel.start.kernel.clone(), summary)
            }
            Err(missing) => {
                let summary = not_run(&config, &missing.why);
                let start = Start {
                    began: Utc::now(),
                    ..missing.start.clone()
                };
                reporter.tell(&Event::Started(Box::new(start)))?;
                reporter.tell(&Event::Finished(summary.clone()))?;
                (missing.start.kernel.clone(), summary)
            }
        };
        let interrupted = summary.interrupted;
        summaries.push((name, summary));
        if interrupted {
            break;
        }
    }
    if config.kernels.len() > 1 {
        reporter.tell(&Event::AllFinished(summaries.clone()))?;
    }
    reporter.end()?;
    Ok(summaries)
}

/// All that a run is told to.
pub fn outputs(args: &RunArgs) -> Result<Outputs, Failure> {
    let style = Style {
        quiet: args.quiet,
        verbose: args.verbose,
        ..style()
    };
    let files: Vec<_> = args
        .output
        .iter()
        .map(|output| (output.0, output.1.clone()))
        .collect();
    let origin = Origin {
        origin: args.kcidb_origin.clone(),
        build: args.kcidb_build.clone(),
    };
    Ok(Outputs::new(args.format, &style, &files, &origin)?)
}

fn one_run(config: &RunConfig, kernel: &KernelRun) -> Run {
    Run {
        judge: Judge {
            checks: config.checks.clone(),
            profile: kernel.profile,
            reading: kernel.reading.clone(),
            repeat: config.repeat,
            snapshots: kernel.snapshots.clone(),
            kernel: kernel.kernel.clone(),
        },
        backend: backend(&kernel.from),
        scenarios: config.scenarios.clone(),
        jobs: config.jobs,
        shuffle: config.shuffle,
        start: kernel.start.clone(),
    }
}

fn not_run(config: &RunConfig, why: &str) -> Summary {
    Summary {
        not_run: config.scenarios.len(),
        stopped: Some(why.to_owned()),
        ..Summary::default()
    }
}

/// What the worst of them ends the process with.
pub fn worst(summaries: &[(String, Summary)]) -> u8 {
    if summaries.iter().any(|(_, summary)| summary.interrupted) {
        return EXIT_INTERRUPTED;
    }
    let worst = summaries.iter().map(|(_, summary)| summary.worst()).max();
    worst.map_or(EXIT_AGREE, Outcome::exit_code)
}

/// Makes what a worker runs scenarios on.
pub fn backend(from: &BackendConfig) -> Arc<MakeBackend> {
    match from.clone() {
        BackendConfig::Guest(settings) => Arc::new(move |sender, stop| -> Box<dyn Backend> {
            Box::new(GuestBackend::new((*settings).clone(), sender, stop))
        }),
        BackendConfig::Boards(settings, boards) => {
            Arc::new(move |sender, stop| -> Box<dyn Backend> {
                let boards = Arc::clone(&boards);
                Box::new(BoardBackend::new(settings.clone(), boards, sender, stop))
            })
        }
        BackendConfig::Recorded(set) => Arc::new(move |_, _| Box::new(Recorded(set.clone()))),
    }
}

/// Says what two kernels do differently.
pub fn compare(args: &CompareArgs) -> Result<u8, Failure> {
    let kernels = KernelArgs {
        kernel: args.kernels.clone(),
        kernel_tree: args.kernel_tree.clone(),
        own_image: args.own_image.clone(),
    };
    if choices(&kernels)?.len() == 2 {
        make_own_ready(&kernels, &args.selection)?;
    }
    let (sender, interrupted) = messages();
    interrupt::listen(sender)?;
    let scenarios = scenarios(&args.selection)?;
    let choices = choices(&kernels)?;
    let [one, other] = &choices[..] else {
        let message = "compare wants two kernels: --kernels A,B, or two of --kernel-tree and --kernel-image, or one of each";
        return Err(Failure::Usage(message.to_owned()));
    };
    let side = |choice: &KernelChoice| -> Result<(String, Side), Failure> {
        let artifacts = artifacts(choice)?;
        let name = artifacts.kernel.clone();
        let profile = profile_of(choice, &artifacts).unwrap_or(&Profile::STABLE);
        let from = BackendConfig::Guest(Box::new(settings(&args.guest, artifacts)));
        let backend = backend(&from);
        Ok((name, Side { profile, backend }))
    };
    let ((one_name, one), (other_name, other)) = (side(one)?, side(other)?);
    let mut printer = Compares {
        out: io::stdout(),
        names: [one_name, other_name],
        format: args.format,
        quiet: args.quiet,
        style: Style {
            rerun: compare_again(&choices, &args.guest),
            ..style()
        },
    };
    let mut tell = |comparison: &Comparison| printer.tell(comparison);
    let compared = compare::compare(&scenarios, [one, other], &interrupted, &mut tell)?;
    printer.finish(&compared)?;
    Ok(compared.exit_code())
}

/// Prints what the model expects.
pub fn predict(args: &PredictArgs) -> Result<u8, Failure> {
    let profile = profile(&args.model_profile)?;
    let fences = if args.fences {
        Fences::All
    } else {
        Fences::Observable
    };
    let scenarios = scenarios(&args.selection)?;
    let mut out = io::stdout().lock();
    for scenario in &scenarios {
        let (prediction, tables) = expect_tables(profile, &machine(args, scenario), scenario);
        let foreseen = args.device.then(|| foresee(&prediction, &tables));
        match args.format {
            Format::Json => {
                let line = json::prediction(scenario, profile, &prediction, foreseen.as_ref());
                writeln!(out, "{}", line.to_json().map_err(io::Error::from)?)?;
            }
            Format::Human => {
                if scenarios.len() > 1 {
                    writeln!(out, "{}:", scenario.path.display())?;
                }
                let steps = steps::of_prediction(&prediction, fences);
                write!(out, "{}", text::steps(scenario, &steps))?;
                if let Some(unpredicted) = prediction.unpredicted {
                    writeln!(out, "{}", text::unpredicted(unpredicted))?;
                }
                if let Some(foreseen) = foreseen {
                    write!(out, "{}", text::foreseen(scenario, &foreseen))?;
                }
            }
        }
    }
    Ok(EXIT_AGREE)
}

/// The usual guest, with what else harts are to have.
fn machine(args: &PredictArgs, scenario: &Scenario) -> Machine {
    let usual = Machine::default();
    let cpu = args.cpu.clone().unwrap_or_default();
    let has = |name: &str, usual: bool| cpu.extension(name).unwrap_or(usual);
    Machine {
        swap: scenario.needs_swap(),
        nodes: scenario.nodes(),
        gib_pages: scenario.gib_pages(),
        movable_memory: scenario.movable_memory() || scenario.contiguous_memory(),
        page_table_levels: cpu.page_table_levels().unwrap_or(usual.page_table_levels),
        svnapot: has("svnapot", usual.svnapot),
        svadu: has("svadu", usual.svadu),
        svvptc: has("svvptc", usual.svvptc),
        ..usual
    }
}

/// Lists scenarios.
pub fn list(args: &ListArgs) -> Result<u8, Failure> {
    let mut out = io::stdout().lock();
    for scenario in scenarios(&args.selection)? {
        writeln!(out, "{}: {}", scenario.path.display(), scenario.about)?;
    }
    Ok(EXIT_AGREE)
}

/// Checks scenarios: to come here without an error is all.
pub fn check(args: &CheckArgs) -> Result<u8, Failure> {
    let number = scenarios(&args.selection)?.len();
    let plural = if number == 1 {
        "scenario is"
    } else {
        "scenarios are"
    };
    writeln!(io::stdout(), "{number} {plural} well-formed")?;
    Ok(EXIT_AGREE)
}

/// Becomes vm/provision.
pub fn provision(args: &ProvisionArgs) -> Result<u8, Failure> {
    let home = vm::home::home().map_err(|error| Failure::Cannot(error.to_string()))?;
    let script = home.join("vm/provision");
    let error = Command::new(&script).args(&args.arguments).exec();
    Err(Failure::Cannot(format!("{}: {error}", script.display())))
}

/// Undoes what killed runs left behind on boards.
pub fn restore(args: &DoctorArgs) -> Result<u8, Failure> {
    let names = match &args.backend[..] {
        [] => vec![BackendName::Local],
        names => names.to_vec(),
    };
    let mut code = EXIT_AGREE;
    for name in names {
        let Some(place) = name.place(args.ssh_config.as_deref()) else {
            let message = format!("--backend: nothing is left behind on `{name}`");
            return Err(Failure::Usage(message));
        };
        match vm::boards::restore(&place) {
            Ok(()) => println!("{place}: as it was before"),
            Err(error) => {
                println!("{place}: {error}\n  {}", error.advice());
                code = EXIT_COULD_NOT_RUN;
            }
        }
    }
    Ok(code)
}

/// Says what is missing on this machine, each with its remedy.
pub fn doctor() -> Result<u8, Failure> {
    let mut out = io::stdout().lock();
    let findings = vm::doctor::doctor();
    for finding in &findings {
        writeln!(out, "{finding}")?;
    }
    let well = findings.iter().all(|finding| finding.ok);
    Ok(if well { EXIT_AGREE } else { EXIT_COULD_NOT_RUN })
}
