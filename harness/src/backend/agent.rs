// SPDX-License-Identifier: GPL-2.0-only
//! What all backends have in common that have an agent replay programs.

use super::{Observed, Subject};
use crate::layer1::Layer1;
use crate::observe::Observer;
use crate::scenario::{Has, Scenario};
use crate::trace::Calls;
use crate::verdict::Finding;
use nix::sys::signal::Signal;
use protocol::Record;
use protocol::message::{Report, System};
use reference_model::Machine;

/// Has a program replayed; records are handed on as they come.
pub(super) type Replay<'a> = dyn FnMut(&mut dyn FnMut(Record)) -> Result<Report, Finding> + 'a;

/// What it means that the kernel prints warnings while a program is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Warnings {
    /// That it has complained of what the program did.
    OfTheProgram,
    /// Nothing, unless it taints itself too: a board has drivers that warn of things of
    /// their own.
    OfAnything,
}

/// What a scenario runs on, if it can run there.
///
/// # Errors
/// It has to be skipped, and why.
pub(super) fn subject(
    scenario: &Scenario,
    system: &System,
    config: &mut dyn FnMut() -> Option<String>,
) -> Result<Subject, Finding> {
    let skipped = |why: String| Err(Finding::Skipped { why });
    let asids = system.asids;
    if !asids && scenario.actors.len() > 1 && system.harts <= scenario.harts() {
        return skipped(
            "without ASIDs it needs a hart more, for what else runs on a hart \
             takes it out of the masks of mms"
                .to_owned(),
        );
    }
    let missing = scenario.missing(&mut Has {
        features: &system.features,
        release: &system.release,
        config,
    });
    if !missing.is_empty() {
        return skipped(missing.join("; "));
    }
    Ok(Subject {
        machine: machine(system, scenario),
        kernel: system.release.clone(),
    })
}

/// One replay, observed.
///
/// # Errors
/// There is no whole trace, and why.
pub(super) fn observe(
    scenario: &Scenario,
    harts: u32,
    warnings: Warnings,
    mut layer1: Layer1<'_>,
    replay: &mut Replay<'_>,
) -> Result<Observed, Finding> {
    let mut calls = Calls::default();
    let mut observer = Observer::default();
    let mut taken = 0;
    let mut in_order = true;
    let report = replay(&mut |record| {
        in_order &= record.seq == taken;
        taken += 1;
        calls.push(record, &mut |traced| {
            layer1.push(&traced);
            observer.push(&traced);
        });
    })?;
    calls.finish(&mut |traced| {
        layer1.push(&traced);
        observer.push(&traced);
    });
    check_program(scenario, &report)?;
    check_whole(scenario, &report, taken, in_order)?;
    Ok(Observed {
        observation: observer.finish(&report, harts),
        layer1: layer1.finish(),
        findings: complaint(&report, warnings).into_iter().collect(),
    })
}

/// What ends a program whose memory is not what it has written there: it jumps or reads
/// astray, or finds that out by itself. Touches that the steps ask for end nobody.
const OF_ITS_MEMORY: [Signal; 5] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGABRT,
    Signal::SIGTRAP,
];

/// The program is the same whatever the kernel, and so it is the kernel that is told of where
/// it dies so: while it is made ready, in a step, or right after a fork. A kernel that has
/// tainted itself meanwhile has crashed, and has killed whoever was in it.
fn check_program(scenario: &Scenario, report: &Report) -> Result<(), Finding> {
    let signal = report.killed_by.map(Signal::try_from);
    let Some(Ok(signal)) = signal.filter(|signal| signal.is_ok_and(is_of_its_memory)) else {
        return Ok(());
    };
    if let Some(crash) = complaint(report, Warnings::OfAnything) {
        return Err(crash);
    }
    let (done, all) = (report.steps.len(), scenario.steps.len());
    Err(Finding::ProgramCorrupted {
        what: format!(
            "the program that replays the steps was killed by {signal} after {done} of {all} steps"
        ),
        log: report.kernel_warnings.clone(),
    })
}

fn is_of_its_memory(signal: Signal) -> bool {
    OF_ITS_MEMORY.contains(&signal)
}

/// A trace with gaps, or of a subject that did not come to its end, is no trace.
fn check_whole(
    scenario: &Scenario,
    report: &Report,
    taken: u64,
    in_order: bool,
) -> Result<(), Finding> {
    let cannot = |why: String| Err(Finding::CouldNotRun { why });
    if report.lost > 0 {
        return cannot(format!(
            "the trace buffer was too small: {} of {} records were lost",
            report.lost,
            report.recorded + report.lost
        ));
    }
    if !in_order || taken != report.recorded {
        return cannot(format!(
            "the trace has gaps: {} records were made, {taken} arrived",
            report.recorded
        ));
    }
    let (done, all) = (report.steps.len(), scenario.steps.len());
    if let Some(signal) = report.killed_by {
        return cannot(format!(
            "the subject was killed by signal {signal} after {done} of {all} steps"
        ));
    }
    if done != all {
        return cannot(format!("the subject ended after {done} of {all} steps"));
    }
    Ok(())
}

/// What the kernel itself had to complain of during the run.
fn complaint(report: &Report, warnings: Warnings) -> Option<Finding> {
    let tainted = report.taint_after & !report.taint_before;
    let warned = warnings == Warnings::OfTheProgram && !report.kernel_warnings.is_empty();
    if !warned && tainted == 0 {
        return None;
    }
    let mut what = "the kernel complained during the steps".to_owned();
    if tainted != 0 {
        what = format!("{what} (and tainted itself: {tainted:#x})");
    }
    Some(Finding::KernelCrashed {
        what,
        log: report.kernel_warnings.clone(),
    })
}

fn machine(system: &System, scenario: &Scenario) -> Machine {
    let has = |name: &str| system.features.iter().any(|feature| feature == name);
    Machine {
        harts: system.harts,
        ram_pages: system.ram_pages,
        page_table_levels: match system.mmu.as_str() {
            "sv39" => 3,
            "sv48" => 4,
            _ => 5,
        },
        asids: system.asids,
        sbi_rfence: system.sbi_rfence,
        migration_keeps_ad: system.sparsemem,
        svnapot: has("svnapot"),
        svadu: has("svadu"),
        svvptc: has("svvptc"),
        fault_around_bytes: system.fault_around_bytes,
        swap: scenario.needs_swap(),
        ..Machine::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::check;
    use std::path::Path;

    /// What a report of a program comes to that was killed after a step of two.
    fn killed(signal: Option<i32>, change: impl FnOnce(&mut Report)) -> Result<(), Finding> {
        let text = "about: x\nsteps:\n  - munmap: { at: 0, pages: 1 }\n  - exit: {}\n";
        let scenario = check(Path::new("t.yaml"), text).expect("well-formed");
        let mut report = Report {
            killed_by: signal,
            steps: vec![protocol::program::StepResult::Ok],
            ..Report::default()
        };
        change(&mut report);
        check_program(&scenario, &report)
    }

    #[test]
    fn a_program_that_dies_of_its_memory_is_the_kernels_doing() {
        for signal in [4, 5, 6, 7, 11] {
            let found = killed(Some(signal), |_| ());
            let Err(Finding::ProgramCorrupted { what, .. }) = found else {
                panic!("{signal}: {found:?}");
            };
            assert!(what.ends_with("after 1 of 2 steps"), "{what}");
        }
    }

    #[test]
    fn a_program_that_others_killed_or_that_lives_says_nothing_of_the_kernel() {
        for signal in [None, Some(9), Some(15), Some(2), Some(-1)] {
            assert_eq!(killed(signal, |_| ()), Ok(()), "{signal:?}");
        }
    }

    #[test]
    fn registers_that_the_kernel_prints_are_no_crash_and_a_taint_is_one() {
        let said = |report: &mut Report| report.kernel_warnings = vec!["epc : 0".to_owned()];
        let found = killed(Some(11), said);
        assert!(matches!(found, Err(Finding::ProgramCorrupted { log, .. }) if log.len() == 1));
        let died = |report: &mut Report| report.taint_after = 0x80;
        let found = killed(Some(11), died);
        assert!(matches!(found, Err(Finding::KernelCrashed { .. })));
    }
}
