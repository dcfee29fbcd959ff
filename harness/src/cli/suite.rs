// SPDX-License-Identifier: GPL-2.0-only
//! `observe --suite`.

use super::args::{BackendName, Format, ObserveArgs};
use super::config::{board, make_own_ready_of};
use super::failure::Failure;
use super::history::database;
use super::observe::{judge, traced, until_interrupted, wanted};
use super::place::{Broken, On, Place, Target, targets};
use crate::history::recorder::Recorder;
use crate::outcome::Outcome;
use crate::report::line::{Line, Scenario};
use crate::workload::kept;
use crate::workload::lines::{Sum, broken_line, details, last_words, line};
use crate::workload::report::{self, Observed};
use crate::workload::suite::{Named, SuiteError, Workloads};
use crate::workload::watch::Watched;
use protocol::workload::Exit;
use serde_json::Value;
use std::io::{self, Write};
use std::time::{Duration, Instant};
use vm::Meanwhile;
use vm::guest::GuestConfig;

/// How often a guest is started until it answers: of hundreds, one may not, on a busy machine.
const STARTS: usize = 3;
/// So much of what a command says last is kept.
const SAID: usize = 4096;

/// Runs suites on kernels.
pub fn suites(args: &ObserveArgs) -> Result<u8, Failure> {
    if args.suite.is_empty() {
        let message = "--filter is for workloads of a --suite";
        return Err(Failure::Usage(message.to_owned()));
    }
    let workloads = Workloads::known().and_then(|all| all.of(&args.suite, args.filter.as_deref()));
    let workloads = workloads.map_err(|error| match error {
        SuiteError::File(_) => Failure::Cannot(error.to_string()),
        _ => Failure::Usage(format!("--suite: {error}")),
    })?;
    make_own_ready_of(&args.kernel)?;
    let in_guest = args
        .backend
        .as_ref()
        .is_none_or(|name| *name == BackendName::Guest);
    let args = ObserveArgs {
        programs: in_guest,
        ..args.clone()
    };
    let targets = targets(&args)?;
    let mut recorder = (!args.no_history)
        .then(|| Recorder::new(&database(args.history.as_ref())))
        .transpose()?;
    let run = move || {
        let mut worst = Outcome::Agree;
        for target in targets {
            worst = worst.max(on_kernel(&args, &target, &workloads, &mut recorder)?);
        }
        Ok(worst)
    };
    until_interrupted(run, || {})
}

/// All of them on one kernel.
fn on_kernel(
    args: &ObserveArgs,
    target: &Target,
    workloads: &[Named],
    recorder: &mut Option<Recorder>,
) -> Result<Outcome, Failure> {
    let began = Instant::now();
    let mut sum = Sum::default();
    let mut worst = Outcome::Agree;
    keep(recorder, begin(args, target, workloads.len()));
    for named in workloads {
        let (outcome, result) = one(args, target, named, &mut sum)?;
        keep(recorder, Line::Scenario(Box::new(result)));
        worst = worst.max(outcome);
    }
    let (outcomes, entries) = sum.came_to();
    let ended = kept::summary(&target.kernel, outcomes, entries, began.elapsed());
    keep(recorder, ended);
    if args.format == Format::Human {
        print(&sum.line(&target.kernel))?;
        let changes = recorder.iter().filter_map(|kept| kept.changes().last());
        changes
            .map(ToString::to_string)
            .try_for_each(|text| print(&text))?;
    }
    Ok(worst)
}

fn begin(args: &ObserveArgs, target: &Target, workloads: usize) -> Line {
    let backend: Vec<BackendName> = args.backend.iter().cloned().collect();
    let unusual = args.cpu.iter().map(ToString::to_string).collect();
    let line = args.kept_as.line.as_ref().unwrap_or(&target.line);
    kept::start(&kept::About {
        board: &board(&args.kept_as, &backend, unusual),
        line: &format!("{line} {}", kept::LINE),
        backend: match target.place {
            Place::Guest(_) => "guest",
            Place::Board(_) => "board",
        },
        kernel: &target.kernel,
        profile: target.profile.name,
        workloads,
    })
}

/// What cannot be kept ends nothing.
fn keep(recorder: &mut Option<Recorder>, line: Line) {
    let Some(recorder) = recorder else {
        return;
    };
    recorder.take_line(line);
    for note in recorder.notes() {
        let _ = writeln!(io::stderr(), "note: {note}");
    }
}

/// One of them.
fn one(
    args: &ObserveArgs,
    target: &Target,
    named: &Named,
    sum: &mut Sum,
) -> Result<(Outcome, Scenario), Failure> {
    let mut said = Vec::new();
    let timeout = Duration::from_secs(named.timeout);
    let started = start(&place(&target.place, named));
    let (ran, watched) = match started {
        Err(broken) => (Err(broken), Watched::default()),
        Ok(mut on) => {
            let (workload, header) = wanted(args, target, &named.command, on.system());
            let about = (&workload, &header, timeout);
            traced(&mut on, target, about, &mut |heard| {
                if let Meanwhile::Said(bytes) = heard {
                    keep_last(&mut said, bytes);
                }
            })
        }
    };
    let ran = match ran {
        Ok(ran) => ran,
        Err(broken) => {
            let outcome = broken.outcome();
            sum.add_outcome(outcome);
            let value = report::broken(&named.command, &target.kernel, outcome, &broken.why);
            let text = broken_line(named, outcome, &broken.why) + &last_words(&said);
            tell(args.format, (&text, value), named)?;
            let result = kept::broken(named, &target.kernel, outcome, &broken.why);
            return Ok((outcome, result));
        }
    };
    let (outcome, why) = with_its_end(judge(&ran, &watched), ran.exit);
    let observed = Observed {
        command: &named.command,
        kernel: &target.kernel,
        profile: target.profile.name,
        ran: &ran,
        watched: &watched,
        outcome,
        why,
    };
    sum.add(&observed);
    let mut text = line(named, &observed);
    if outcome != Outcome::Agree {
        text += &details(&observed, &said);
    }
    tell(args.format, (&text, report::json(&observed)), named)?;
    Ok((outcome, kept::result(named, &observed)))
}

/// What never began says nothing, whatever the shell around it has done.
fn with_its_end((outcome, mut why): (Outcome, Vec<String>), exit: Exit) -> (Outcome, Vec<String>) {
    let Exit::Code(code) = exit else {
        return (outcome, why);
    };
    let Some(not_begun) = Named::not_begun(code) else {
        return (outcome, why);
    };
    why.push(not_begun.to_owned());
    (outcome.max(Outcome::CouldNotRun), why)
}

/// Where a workload runs: with all that it needs.
fn place(usual: &Place, named: &Named) -> Place {
    match usual {
        Place::Board(place) => Place::Board(place.clone()),
        Place::Guest(config) => Place::Guest(Box::new(GuestConfig {
            memory_mib: config.memory_mib.max(named.memory.unwrap_or_default()),
            harts: config.harts.max(named.harts.unwrap_or_default()),
            nodes: named.nodes,
            ..*config.clone()
        })),
    }
}

fn start(place: &Place) -> Result<On, Broken> {
    let mut started = On::start(place);
    for _ in 1..STARTS {
        if started.is_ok() {
            break;
        }
        started = On::start(place);
    }
    started
}

fn keep_last(said: &mut Vec<u8>, bytes: &[u8]) {
    said.extend_from_slice(bytes);
    said.drain(..said.len().saturating_sub(SAID));
}

fn tell(format: Format, (text, mut value): (&str, Value), named: &Named) -> Result<(), Failure> {
    match format {
        Format::Human => print(text),
        Format::Json => {
            value["suite"] = named.suite.clone().into();
            value["workload"] = named.name.clone().into();
            print(&format!("{value}\n"))
        }
    }
}

/// At once: the next takes its time.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_began_is_no_agreement() {
        let end = |outcome, code| with_its_end((outcome, Vec::new()), Exit::Code(code));
        assert_eq!(end(Outcome::Agree, 4), (Outcome::Agree, Vec::new()));
        let (outcome, why) = end(Outcome::Agree, 125);
        assert_eq!((outcome, why.len()), (Outcome::CouldNotRun, 1));
        assert_eq!(end(Outcome::KernelCrashed, 127).0, Outcome::KernelCrashed);
    }

    #[test]
    fn the_last_words_are_kept() {
        let mut said = vec![b'a'; SAID];
        keep_last(&mut said, b"end");
        assert_eq!((said.len(), &said[SAID - 3..]), (SAID, &b"end"[..]));
    }
}
