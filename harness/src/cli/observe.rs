// SPDX-License-Identifier: GPL-2.0-only
//! `observe`.

use super::args::{Format, ObserveArgs};
use super::commands::listen;
use super::config::{make_own_ready_of, profile};
use super::failure::Failure;
use super::place::{Broken, On, Target, targets};
use super::suite;
use crate::backend::agent::machine;
use crate::backend::kernel_log;
use crate::checks::device::outcome_of;
use crate::judge::online;
use crate::layer1::Layer1;
use crate::outcome::{EXIT_INTERRUPTED, Outcome};
use crate::run::Message;
use crate::workload::device::Device;
use crate::workload::file::{FileError, Header, Reader, Writer};
use crate::workload::reduce;
use crate::workload::report::{self, Observed};
use crate::workload::watch::{Watch, Watched};
use protocol::message::System;
use protocol::record::Record;
use protocol::workload::{Exit, Ran, Workload};
use reference_model::{Profile, tlbflush};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;
use vm::Meanwhile;

/// Records that the trace buffer holds: what one call into the kernel adds has room in a quarter.
const BUFFER: u32 = 262_144;

/// Runs a command on kernels, and checks its trace.
pub fn observe(args: &ObserveArgs) -> Result<u8, Failure> {
    // clap requires nothing of what conflicts with what is there, as a suite with a command.
    let kept = [&args.kept_as.board, &args.kept_as.line];
    let keeps = args.history.is_some() || args.no_history || kept.iter().any(|name| name.is_some());
    if keeps && args.suite.is_empty() {
        let message =
            "--history, --no-history, --board and --line are for the results of a --suite";
        return Err(Failure::Usage(message.to_owned()));
    }
    if let Some(path) = &args.replay {
        return replay(args, path);
    }
    if !args.suite.is_empty() || args.filter.is_some() {
        return suite::suites(args);
    }
    if args.command.is_empty() {
        let message = "a command is wanted, behind `--`; or --suite NAME, or --replay FILE";
        return Err(Failure::Usage(message.to_owned()));
    }
    if args.ops.is_some() != args.command.iter().any(|word| word.contains(OPS)) {
        let message = "--ops N gives a number for `{ops}` in the command: both are wanted, or none";
        return Err(Failure::Usage(message.to_owned()));
    }
    make_own_ready_of(&args.kernel)?;
    let pushed = pushed(args)?;
    let targets = targets(args)?;
    if args.record.is_some() && targets.len() > 1 {
        let message = "--record takes the trace of one kernel";
        return Err(Failure::Usage(message.to_owned()));
    }
    let theirs = args.clone();
    let run = move || {
        let mut targets = targets.into_iter();
        targets.try_fold(Outcome::Agree, |worst, target| {
            Ok(worst.max(one(&theirs, target, &pushed)?))
        })
    };
    let interrupted = || {
        args.record.as_deref().map(Writer::forget);
    };
    until_interrupted(run, interrupted)
}

/// Runs something to its end, or until Ctrl-C.
pub(super) fn until_interrupted(
    run: impl FnOnce() -> Result<Outcome, Failure> + Send + 'static,
    interrupted: impl FnOnce(),
) -> Result<u8, Failure> {
    let (sender, heard) = listen()?;
    let (done, ended) = channel();
    thread::Builder::new()
        .name("command".to_owned())
        .spawn(move || {
            let _ended = Ended(sender);
            // Who was interrupted waits for nothing.
            let _ = done.send(run());
        })?;
    if matches!(heard.recv(), Ok(Message::Interrupted)) {
        // The guest ends with this process.
        interrupted();
        return Ok(EXIT_INTERRUPTED);
    }
    let outcome = ended
        .recv()
        .map_err(|_| Failure::Cannot("the thread that runs the command is gone".to_owned()))??;
    Ok(outcome.exit_code())
}

/// Says so when the thread that runs the command is over, be it by a panic.
struct Ended(Sender<Message>);

impl Drop for Ended {
    fn drop(&mut self) {
        // Nobody listens any more after Ctrl-C.
        let _ = self.0.send(Message::Done);
    }
}

/// The files that the command wants.
fn pushed(args: &ObserveArgs) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let read = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        let usage = || Failure::Usage(format!("--push: {} has no name", path.display()));
        let bytes = fs::read(path).map_err(|error| {
            Failure::Usage(format!("--push: cannot read {}: {error}", path.display()))
        })?;
        Ok((name.ok_or_else(usage)?.to_owned(), bytes))
    };
    args.push.iter().map(read).collect()
}

/// What a command came to.
struct Came {
    header: Header,
    ran: Ran,
    watched: Watched,
}

/// One kernel.
fn one(
    args: &ObserveArgs,
    target: Target,
    pushed: &[(String, Vec<u8>)],
) -> Result<Outcome, Failure> {
    let came = match run(args, &target, pushed, args.ops)? {
        Ok(came) => came,
        Err(broken) => return tell_broken(args, &target.kernel, &broken),
    };
    let Came {
        header,
        ran,
        watched,
    } = match args.ops.filter(|_| args.reduce) {
        Some(ops) => reduced(args, (&target, pushed), came, ops)?,
        None => came,
    };
    tell(args.format, &header, &ran, &watched)
}

/// The same with fewer operations, as long as something of what was found is found.
fn reduced(
    args: &ObserveArgs,
    (target, pushed): (&Target, &[(String, Vec<u8>)]),
    first: Came,
    ops: u64,
) -> Result<Came, Failure> {
    let found = |came: &Came| match judge(&came.ran, &came.watched).0 {
        Outcome::CouldNotRun => BTreeSet::new(),
        _ => reduce::causes(&came.watched),
    };
    let wanted = found(&first);
    let mut least = first;
    if wanted.is_empty() {
        return Ok(least);
    }
    reduce::smallest(ops, |ops| -> Result<bool, Failure> {
        // What was found is told, whatever becomes of a smaller run.
        let came = run(args, target, pushed, Some(ops))
            .ok()
            .and_then(Result::ok);
        let came = came.filter(|came| !found(came).is_disjoint(&wanted));
        let what = if came.is_some() { "found" } else { "not found" };
        if !args.quiet {
            eprintln!("with {ops} operations: {what}");
        }
        Ok(came.map(|came| least = came).is_some())
    })?;
    Ok(least)
}

/// Runs it once.
fn run(
    args: &ObserveArgs,
    target: &Target,
    pushed: &[(String, Vec<u8>)],
    ops: Option<u64>,
) -> Result<Result<Came, Broken>, Failure> {
    let mut on = On::start(&target.place).map_err(|broken| Failure::Cannot(broken.why))?;
    let command = with_ops(&args.command, ops);
    let (workload, header) = wanted(args, target, &command, on.system());
    let mut writer = args
        .record
        .as_deref()
        .map(|path| Writer::new(path, &header))
        .transpose()
        .map_err(cannot)?;
    let mut unwritten: Option<FileError> = None;
    let mut keep = |record: &Record| {
        if let Some(Err(error)) = writer.as_mut().map(|writer| writer.push(record)) {
            unwritten.get_or_insert(error);
        }
    };
    let timeout = Duration::from_secs(args.timeout);
    let quiet = args.quiet;
    let mut put = || {
        pushed
            .iter()
            .try_for_each(|(name, bytes)| on.put(name, bytes))
    };
    let (ran, watched) = match put() {
        Err(broken) => (Err(broken), Watched::default()),
        Ok(()) => traced(
            &mut on,
            target,
            (&workload, &header, timeout),
            &mut |heard| {
                match heard {
                    Meanwhile::Record(record) => keep(record),
                    Meanwhile::Said(_) if quiet => {}
                    // What cannot be shown is of no use to anybody.
                    Meanwhile::Said(bytes) => drop(io::stderr().write_all(bytes)),
                }
            },
        ),
    };
    let ran = match ran {
        Ok(ran) => ran,
        Err(broken) => return Ok(Err(broken)),
    };
    if let Some(error) = unwritten {
        return Err(cannot(error));
    }
    if let Some(writer) = writer {
        writer.finish(&ran).map_err(cannot)?;
    }
    Ok(Ok(Came {
        header,
        ran,
        watched,
    }))
}

/// What stands for a number of operations in a command.
const OPS: &str = "{ops}";

fn with_ops(command: &[String], ops: Option<u64>) -> Vec<String> {
    let ops = ops.map(|ops| ops.to_string());
    let with = |word: &String| match &ops {
        Some(ops) => word.replace(OPS, ops),
        None => word.clone(),
    };
    command.iter().map(with).collect()
}

/// A command as an agent is told of it, and what is known of its trace before.
pub(super) fn wanted(
    args: &ObserveArgs,
    target: &Target,
    command: &[String],
    system: &System,
) -> (Workload, Header) {
    let workload = Workload {
        command: command.to_vec(),
        programs: args.programs,
        traced: !args.no_trace,
        device: !args.no_device && !args.no_trace,
        buffer_records: BUFFER,
    };
    let header = Header::new(
        target.kernel.clone(),
        target.profile.name.to_owned(),
        (command.to_vec(), workload.device),
        system.clone(),
    );
    (workload, header)
}

/// Runs a command and watches its trace.
pub(super) fn traced(
    on: &mut On,
    target: &Target,
    (workload, header, timeout): (&Workload, &Header, Duration),
    hear: &mut dyn FnMut(&Meanwhile),
) -> (Result<Ran, Broken>, Watched) {
    watched(target.profile, header, &mut |take| {
        on.observe(workload, timeout, &mut |meanwhile| {
            hear(&meanwhile);
            if let Meanwhile::Record(record) = meanwhile {
                take(record);
            }
        })
    })
}

/// Checks what was recorded.
fn replay(args: &ObserveArgs, path: &Path) -> Result<u8, Failure> {
    let reader = Reader::open(path).map_err(cannot)?;
    let mut header = reader.header.clone();
    header.device &= !args.no_device;
    let named = args.model_profile.as_deref().map(profile).transpose()?;
    let profile = named.or_else(|| Profile::by_name(&header.profile));
    let profile = profile.ok_or_else(|| {
        let name = &header.profile;
        Failure::Cannot(format!("{}: there is no profile `{name}`", path.display()))
    })?;
    let mut reader = Some(reader);
    let (ran, watched) = watched(profile, &header, &mut |take| {
        reader.take().map(|reader| reader.read(take)).transpose()
    });
    let ran = ran.map_err(cannot)?;
    let ran = ran.ok_or_else(|| Failure::Cannot("nothing was read".to_owned()))?;
    Ok(tell(args.format, &header, &ran, &watched)?.exit_code())
}

fn cannot(error: FileError) -> Failure {
    Failure::Cannot(error.to_string())
}

/// Takes the records of a trace.
type Take<'a> = dyn FnMut(Record) + 'a;

/// A trace from wherever it comes, watched.
fn watched<T, E>(
    profile: &'static Profile,
    header: &Header,
    from: &mut dyn FnMut(&mut Take<'_>) -> Result<T, E>,
) -> (Result<T, E>, Watched) {
    let machine = machine(&header.system, true);
    let replay = |entry: &_, context: &_| tlbflush::replay(profile, &machine, entry, context);
    // A kernel without the patch promises nothing: there is no promise to break.
    let device = header.device && profile.notifies_secondary;
    let device = device.then(|| Device::new(machine.svvptc));
    let mut watch = Watch::new(Layer1::new(&replay, online(&machine)), device);
    let result = from(&mut |record| watch.push(record));
    (result, watch.finish())
}

/// What was found, if it says something of the kernel.
fn found(watched: &Watched) -> Outcome {
    let reached = watched.reachable.iter().flat_map(|device| &device.faults);
    let reached = reached.map(|fault| match fault.page {
        Some(_) => Outcome::Known,
        None => outcome_of(fault.reading, fault.kind),
    });
    let differs = (!watched.violations.is_empty()).then_some(Outcome::Differs);
    reached.chain(differs).max().unwrap_or(Outcome::Agree)
}

/// What all that is, and why.
pub(super) fn judge(ran: &Ran, watched: &Watched) -> (Outcome, Vec<String>) {
    let tainted = ran.taint_after & !ran.taint_before;
    let mut why = Vec::new();
    if tainted != 0 {
        why.push(format!("the kernel tainted itself: {tainted:#x}"));
    }
    if tainted != 0 || kernel_log::complains(&ran.kernel_warnings) {
        why.extend(ran.kernel_warnings.iter().cloned());
        return (Outcome::KernelCrashed, why);
    }
    // What is missing looks like a kernel that did nothing.
    if ran.lost > 0 {
        why.push(format!("{} records were lost", ran.lost));
    }
    if !watched.in_order || watched.taken != ran.recorded {
        why.push(format!(
            "the trace has gaps: {} records were made, {} arrived",
            ran.recorded, watched.taken
        ));
    }
    let found = found(watched);
    if why.is_empty() && found > Outcome::Agree {
        return (found, why);
    }
    if ran.unfollowed > 0 {
        why.push(format!(
            "{} address spaces were not followed",
            ran.unfollowed
        ));
    }
    if ran.exit == Exit::TimedOut {
        why.push("the command did not end in time (--timeout)".to_owned());
    }
    match why.is_empty() {
        true => (Outcome::Agree, why),
        false => (Outcome::CouldNotRun, why),
    }
}

fn tell(format: Format, header: &Header, ran: &Ran, watched: &Watched) -> Result<Outcome, Failure> {
    let (outcome, why) = judge(ran, watched);
    let observed = Observed {
        command: &header.command,
        kernel: &header.kernel,
        profile: &header.profile,
        ran,
        watched,
        outcome,
        why,
    };
    let mut out = io::stdout().lock();
    match format {
        Format::Human => write!(out, "{}", report::human(&observed))?,
        Format::Json => writeln!(out, "{}", report::json(&observed))?,
    }
    Ok(outcome)
}

/// A command that came to no end.
fn tell_broken(args: &ObserveArgs, kernel: &str, broken: &Broken) -> Result<Outcome, Failure> {
    let outcome = broken.outcome();
    let mut out = io::stdout().lock();
    match args.format {
        Format::Human => writeln!(
            out,
            "{:<16} {}\n  {kernel}: {}",
            outcome.name(),
            args.command.join(" "),
            broken.why
        )?,
        Format::Json => writeln!(
            out,
            "{}",
            report::broken(&args.command, kernel, outcome, &broken.why)
        )?,
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer1::Layer1Difference;
    use crate::workload::watch::Violation;
    use protocol::record::Kind;

    fn ran(lost: u64) -> Ran {
        Ran {
            exit: Exit::Code(1),
            took_ns: 1,
            recorded: 0,
            lost,
            unfollowed: 0,
            taint_before: 0,
            taint_after: 0,
            kernel_warnings: Vec::new(),
        }
    }

    #[test]
    fn a_trace_with_losses_says_nothing_of_the_kernel() {
        let record = Record {
            seq: 0,
            mm: 1,
            start: 0,
            end: 0,
            arg: 0,
            cpumask: 1,
            asid: 1,
            pid: 2,
            tgid: 2,
            kind: Kind::FlushTlbMm,
            hart: 0,
            flags: 0,
            chain: 0,
        };
        let first = Layer1Difference {
            record,
            step: None,
            entry: None,
            expected: Vec::new(),
            followed: Vec::new(),
        };
        let watched = Watched {
            in_order: true,
            violations: vec![Violation {
                times: 1,
                first,
                process: None,
                near: Vec::new(),
                callers: Vec::new(),
            }],
            ..Watched::default()
        };
        assert_eq!(judge(&ran(0), &watched).0, Outcome::Differs);
        assert_eq!(judge(&ran(1), &watched).0, Outcome::CouldNotRun);
        let gap = Watched {
            taken: 1,
            ..watched
        };
        assert_eq!(judge(&ran(0), &gap).0, Outcome::CouldNotRun);
    }
}
