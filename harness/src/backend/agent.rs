// SPDX-License-Identifier: GPL-2.0-only
//! What all backends have in common that have an agent replay programs.

use super::{Observed, Subject};
use crate::layer1::Layer1;
use crate::observe::Observer;
use crate::scenario::{Has, Scenario};
use crate::trace::Calls;
use crate::verdict::Finding;
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
    check_whole(scenario, &report, taken, in_order)?;
    Ok(Observed {
        observation: observer.finish(&report, harts),
        layer1: layer1.finish(),
        findings: complaint(&report, warnings).into_iter().collect(),
    })
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
