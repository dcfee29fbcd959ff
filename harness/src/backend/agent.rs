// SPDX-License-Identifier: GPL-2.0-only
//! What all backends have in common that have an agent replay programs.

use super::kernel_log::{self, Asked, Meaning};
use super::{Observed, Subject};
use crate::callers::Callers;
use crate::device::Watch;
use crate::finding::Finding;
use crate::iommu::Setting;
use crate::layer1::Layer1;
use crate::observe::Observer;
use crate::outcome::Outcome;
use crate::scenario::{Has, Scenario};
use crate::trace::Calls;
use nix::sys::signal::Signal;
use operations::Plain;
use protocol::message::{Report, System};
use protocol::record::DEFAULT_RECORDS;
use protocol::{Record, Tracing};
use reference_model::Machine;

/// Has a program replayed; records are handed on as they come.
type ReplayOnce<'a> = dyn FnMut(&mut dyn FnMut(Record)) -> Result<Report, Finding> + 'a;

/// The same with a buffer of a given size.
pub(super) type Replay<'a> =
    dyn FnMut(Tracing, &mut dyn FnMut(Record)) -> Result<Report, Finding> + 'a;

/// What it means that the kernel prints warnings while a program is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Warnings {
    /// That it has complained of what the program did.
    OfTheProgram,
    /// Nothing, unless it taints itself too: a board has drivers that warn of things of
    /// their own.
    OfAnything,
}

/// Records that it holds at the most.
const MAX_RECORDS: u32 = 1048576;

/// Memory that a program's actors and its trace take besides what its steps name, in pages.
const OWN_PAGES: u64 = 4096;

/// The most harts of which masks tell, in a record of the trace.
const MOST_HARTS: u32 = 64;

/// What a scenario runs on, if it can run there.
///
/// # Errors
/// It has to be skipped, and why.
pub(super) fn subject(
    scenario: &Scenario,
    system: &System,
    config: &mut dyn FnMut() -> Option<String>,
) -> Result<Subject, Finding> {
    let skipped = |why: String| Err(Finding::skipped(why));
    let (has, needs) = (system.harts, scenario.harts());
    if has < needs {
        return skipped(too_few_harts(has, needs, config().as_deref()));
    }
    if has > MOST_HARTS {
        return skipped(format!(
            "the machine has {has} harts online, and the trace's masks have room for {MOST_HARTS}"
        ));
    }
    let filled = filled_pages(scenario);
    if filled > 0 && filled + OWN_PAGES > system.free_pages {
        return skipped(format!(
            "it needs {} MiB of memory for its files, and the machine has {} MiB to give: \
             a guest gets more by --memory",
            mib(filled + OWN_PAGES),
            system.free_pages / PAGES_OF_A_MIB
        ));
    }
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
        machine: machine(system, scenario.needs_swap()),
        kernel: system.release.clone(),
    })
}

/// Why there are too few harts, as far as that is known.
pub(super) fn too_few_harts(has: u32, needs: u32, config: Option<&str>) -> String {
    let limit = config.and_then(nr_cpus).filter(|limit| *limit <= has);
    match limit {
        Some(limit) => format!(
            "it needs {needs} harts, and the kernel uses {limit} at the most: it is built with \
             CONFIG_NR_CPUS={limit}"
        ),
        None => format!("it needs {needs} harts, and the machine has {has} online"),
    }
}

/// The most harts that a kernel of that configuration uses.
pub(super) fn nr_cpus(config: &str) -> Option<u32> {
    let mut lines = config.lines();
    lines.find_map(|line| line.strip_prefix("CONFIG_NR_CPUS=")?.parse().ok())
}

const PAGES_OF_A_MIB: u64 = (1 << 20) / operations::PAGE_SIZE;

/// Whole MiB in which so many pages have room.
fn mib(pages: u64) -> u64 {
    pages.div_ceil(PAGES_OF_A_MIB)
}

/// Pages of files that are written before the first step.
fn filled_pages(scenario: &Scenario) -> u64 {
    let filled = scenario.program.files.iter().filter(|file| file.filled);
    filled.map(|file| file.pages).sum()
}

/// A replay, observed. Where the trace buffer was too small, and nobody has said how large
/// it should be, it is replayed again with a larger one.
///
/// # Errors
/// There is no whole trace, and why.
pub(super) fn observe(
    scenario: &Scenario,
    system: &System,
    warnings: Warnings,
    tracing: Tracing,
    iommu: Option<&Setting>,
    layer1: &Layer1<'_>,
    replay: &mut Replay<'_>,
) -> Result<Observed, Finding> {
    let mut records = match tracing.buffer_records {
        0 => DEFAULT_RECORDS,
        said => said,
    };
    let mut tracing = tracing;
    loop {
        let mut lost = 0;
        let mut replay = |take: &mut dyn FnMut(Record)| {
            let report = replay(tracing, take)?;
            lost = report.lost;
            Ok(report)
        };
        let layer1 = layer1.afresh();
        let observed = observe_once(scenario, system, warnings, iommu, layer1, &mut replay);
        if lost == 0 || tracing.keeps_all || records >= MAX_RECORDS {
            return observed;
        }
        records = (4 * records).min(MAX_RECORDS);
        tracing.buffer_records = records;
    }
}

/// One replay, observed.
fn observe_once(
    scenario: &Scenario,
    system: &System,
    warnings: Warnings,
    iommu: Option<&Setting>,
    mut layer1: Layer1<'_>,
    replay: &mut ReplayOnce<'_>,
) -> Result<Observed, Finding> {
    let mut calls = Calls::default();
    let mut observer = Observer::default();
    let mut device = Watch::default();
    let mut callers = Callers::default();
    let mut taken = 0;
    let mut in_order = true;
    let report = replay(&mut |record| {
        in_order &= record.seq == taken;
        taken += 1;
        if device.push(&record) || callers.push(&record) {
            return;
        }
        calls.push(record, &mut |traced| {
            layer1.push(&traced);
            observer.push(&traced);
            callers.note(&traced);
        });
    })?;
    calls.finish(&mut |traced| {
        layer1.push(&traced);
        observer.push(&traced);
        callers.note(&traced);
    });
    let asked = Asked::by(&scenario.program);
    let said = kernel_log::meaning(&report.kernel_warnings, asked);
    let complaint = complaint(&report, &said, warnings);
    let whole = memory_sufficed(scenario, system, &report, &said, warnings)
        .and_then(|()| check_program(scenario, &report, &said))
        .and_then(|()| check_whole(scenario, &report, taken, in_order));
    match whole {
        Ok(()) => {}
        Err(finding) if finding.outcome == Outcome::ProgramCorrupted => return Err(finding),
        // A kernel that complains is worse than a program that was cut short.
        Err(finding) => return Err(complaint.unwrap_or(finding)),
    }
    let iommu = iommu.map(|setting| device.iommu(&report, setting));
    let iommu = iommu
        .transpose()
        .map_err(|why| Finding::could_not_run(format!("{why}: this says nothing of the kernel")))
        .map_err(|finding| complaint.clone().unwrap_or(finding))?;
    Ok(Observed {
        observation: observer.finish(&report, system.harts),
        traced: true,
        callers,
        layer1: layer1.finish(),
        device: device.finish(&report),
        iommu,
        complaints: complaint.into_iter().collect(),
    })
}

/// A machine without memory does what it can instead of what it should.
fn memory_sufficed(
    scenario: &Scenario,
    system: &System,
    report: &Report,
    said: &Meaning,
    warnings: Warnings,
) -> Result<(), Finding> {
    // Unless that is what was asked for.
    let scanned = report.scanned > 0 && !scenario.program.does(Plain::SPOILS);
    let short = scanned.then(|| {
        format!(
            "the kernel looked for pages to free, {} of them",
            report.scanned
        )
    });
    let signs: Vec<String> = said.memory.clone().into_iter().chain(short).collect();
    if signs.is_empty() {
        return Ok(());
    }
    // On a board others run out of memory too, which is told where it ended the program.
    let (done, all) = (report.steps.len(), scenario.program.steps.len());
    if warnings == Warnings::OfAnything && done == all {
        return Ok(());
    }
    let remedy = match warnings {
        Warnings::OfTheProgram => "give the guest more with --memory MIB",
        Warnings::OfAnything => "take a board with more",
    };
    Err(Finding::could_not_run(format!(
        "the machine's memory of {} MiB was used up after {done} of {all} steps, so this says \
         nothing about the kernel\n{remedy}, or have the scenario take less\n  | {}",
        mib(system.ram_pages),
        signs.join("\n  | ")
    )))
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
fn check_program(scenario: &Scenario, report: &Report, said: &Meaning) -> Result<(), Finding> {
    let signal = report.killed_by.map(Signal::try_from);
    let Some(Ok(signal)) = signal.filter(|signal| signal.is_ok_and(is_of_its_memory)) else {
        return Ok(());
    };
    if let Some(crash) = complaint(report, said, Warnings::OfAnything) {
        return Err(crash);
    }
    let (done, all) = (report.steps.len(), scenario.program.steps.len());
    let what = format!(
        "the program that replays the steps was killed by {signal} after {done} of {all} steps"
    );
    let log = report.kernel_warnings.clone();
    Err(Finding::program_corrupted(what, log))
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
    let cannot = |why: String| Err(Finding::could_not_run(why));
    if report.lost > 0 {
        return cannot(format!(
            "the trace buffer was too small: {} of {} records were lost\n\
             have the scenario do less, or run it when the host is less busy: --jobs 1",
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
    let (done, all) = (report.steps.len(), scenario.program.steps.len());
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
fn complaint(report: &Report, said: &Meaning, warnings: Warnings) -> Option<Finding> {
    let tainted = report.taint_after & !report.taint_before;
    let warned = warnings == Warnings::OfTheProgram && !said.complaints.is_empty();
    if !warned && tainted == 0 {
        return None;
    }
    let mut what = "the kernel complained during the steps".to_owned();
    if tainted != 0 {
        what = format!("{what} (and tainted itself: {tainted:#x})");
    }
    Some(Finding::kernel_crashed(what, said.complaints.clone()))
}

/// The machine as the model has it, with swap or without.
pub fn machine(system: &System, swap: bool) -> Machine {
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
        swap,
        nodes: 1 + u32::from(has("numa")),
        gib_pages: has("hugetlb-1g"),
        movable_memory: has("memory-hotplug") || has("cma"),
        ..Machine::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::check;
    use operations::StepResult;
    use std::path::Path;

    /// What a report of a program comes to that was killed after a step of two.
    fn killed(signal: Option<i32>, change: impl FnOnce(&mut Report)) -> Result<(), Finding> {
        let text = "about: x\nsteps:\n  - munmap: { at: 0, pages: 1 }\n  - exit: {}\n";
        let scenario = check(Path::new("t.yaml"), text).expect("well-formed");
        let mut report = Report {
            killed_by: signal,
            steps: vec![StepResult::Ok],
            ..Report::default()
        };
        change(&mut report);
        check_program(
            &scenario,
            &report,
            &kernel_log::meaning(&report.kernel_warnings, Asked::default()),
        )
    }

    #[test]
    fn a_program_that_dies_of_its_memory_is_the_kernels_doing() {
        for signal in [4, 5, 6, 7, 11] {
            let found = killed(Some(signal), |_| ());
            let found = found.expect_err("it was killed");
            assert_eq!(found.outcome, Outcome::ProgramCorrupted, "{signal}");
            assert!(found.why.ends_with("after 1 of 2 steps"), "{found:?}");
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
        let found = found.expect_err("it died");
        assert_eq!(found.outcome, Outcome::ProgramCorrupted);
        assert!(found.text().ends_with("\nepc : 0"), "{found:?}");
        let died = |report: &mut Report| report.taint_after = 0x80;
        let found = killed(Some(11), died);
        let outcome = found.map_err(|finding| finding.outcome);
        assert_eq!(outcome, Err(Outcome::KernelCrashed));
    }

    const OOM: &str = "exe invoked oom-killer: gfp_mask=0x0, order=0, oom_score_adj=1000";

    fn scenario(text: &str) -> Scenario {
        check(Path::new("t.yaml"), text).expect("a good scenario")
    }

    /// What comes of replays that report this, one after the other, and with which buffers.
    fn replays(tracing: Tracing, reports: &[Report]) -> (Result<Observed, Finding>, Vec<u32>) {
        let none = |_: &_, _: &_| Vec::new();
        let layer1 = Layer1::new(&none, 3);
        let mut buffers = Vec::new();
        let system = System {
            harts: 2,
            ..System::default()
        };
        let observed = observe(
            &scenario("about: x\nsteps: [run]\n"),
            &system,
            Warnings::OfTheProgram,
            tracing,
            None,
            &layer1,
            &mut |tracing, _| {
                buffers.push(tracing.buffer_records);
                Ok(reports[buffers.len() - 1].clone())
            },
        );
        (observed, buffers)
    }

    fn whole() -> Report {
        Report {
            steps: vec![StepResult::Ok],
            ..Report::default()
        }
    }

    fn with_loss() -> Report {
        Report { lost: 7, ..whole() }
    }

    fn why(observed: Result<Observed, Finding>) -> String {
        match observed {
            Err(finding) if finding.outcome == Outcome::CouldNotRun => finding.text(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_lost_records_is_replayed_with_a_larger_buffer() {
        let (observed, buffers) = replays(Tracing::full(0), &[with_loss(), with_loss(), whole()]);
        assert!(observed.is_ok(), "{observed:?}");
        assert_eq!(buffers, [0, 262_144, 1_048_576]);
        let (observed, buffers) =
            replays(Tracing::full(0), &[with_loss(), with_loss(), with_loss()]);
        assert!(why(observed).contains("--jobs 1"));
        assert_eq!(buffers.len(), 3);
        let (observed, buffers) = replays(Tracing::full(4), &[with_loss()]);
        assert!(why(observed).starts_with("the trace buffer was too small: 7 of 7"));
        assert_eq!(buffers, [4]);
    }

    #[test]
    fn memory_that_ran_out_is_no_crash_but_a_complaint_is() {
        let cut_short = |warnings: &[&str]| Report {
            killed_by: Some(9),
            kernel_warnings: warnings.iter().map(|line| (*line).to_owned()).collect(),
            ..Report::default()
        };
        let (observed, _) = replays(Tracing::full(0), &[cut_short(&[OOM])]);
        let why = why(observed);
        assert!(why.contains("was used up after 0 of 1 steps"), "{why}");
        assert!(why.contains("--memory"), "{why}");
        let (observed, _) = replays(
            Tracing::full(0),
            &[cut_short(&[OOM, "BUG: Bad page state"])],
        );
        let outcome = observed.map(drop).map_err(|finding| finding.outcome);
        assert_eq!(outcome, Err(Outcome::KernelCrashed));
    }

    #[test]
    fn what_does_not_fit_is_skipped_before_it_runs() {
        let refused = |text: &str, system: &System, config: Option<&str>| {
            let config = config.map(str::to_owned);
            match subject(&scenario(text), system, &mut || config.clone()) {
                Err(finding) if finding.outcome == Outcome::Skipped => Some(finding.text()),
                other => other.err().map(|finding| format!("{finding:?}")),
            }
        };
        let system = System {
            harts: 8,
            asids: true,
            free_pages: 100_000,
            ..System::default()
        };
        let on_hart = |hart: u32| {
            format!(
                "about: x\nactors:\n  p: {{ kind: process, hart: {hart} }}\nsteps:\n  - run: {{ by: p }}\n"
            )
        };
        assert_eq!(refused(&on_hart(7), &system, None), None);
        let told = refused(
            &on_hart(8),
            &system,
            Some("CONFIG_SMP=y\nCONFIG_NR_CPUS=8\n"),
        );
        assert!(told.is_some_and(|why| why.ends_with("CONFIG_NR_CPUS=8")));
        let told = refused(&on_hart(8), &system, Some("CONFIG_NR_CPUS=64\n"));
        assert_eq!(
            told.as_deref(),
            Some("it needs 9 harts, and the machine has 8 online")
        );
        let with_file = |pages: u64, filled: bool| {
            format!("about: x\nfiles:\n  f: {{ pages: {pages}, filled: {filled} }}\nsteps: [run]\n")
        };
        assert_eq!(refused(&with_file(90_000, true), &system, None), None);
        assert_eq!(refused(&with_file(200_000, false), &system, None), None);
        let told = refused(&with_file(100_000, true), &system, None);
        assert!(told.is_some_and(|why| why.contains("--memory")));
        let many = System {
            harts: 65,
            ..system
        };
        assert!(refused(&on_hart(1), &many, None).is_some());
    }
}
