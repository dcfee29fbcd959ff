// SPDX-License-Identifier: GPL-2.0-only
//! What a workload came to, for people and for programs (harness/OBSERVE.md).

use super::device::{Counts, Fault, Reachable};
use super::tally::Tally;
use super::watch::{Violation, Watched};
use crate::callers::{Caller, Callers};
use crate::outcome::Outcome;
use crate::text;
use protocol::workload::{Exit, Ran};
use reference_model::{Effect, Fence, Range, Whose};
use secondary_mmu::{Kept, Reading};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Of what is told to programs.
const SCHEMA: u32 = 1;
/// So many callers are told.
const CALLERS: usize = 10;
/// So many functions of a chain are told.
const FUNCTIONS: usize = 8;

/// A workload, and what came of it.
pub struct Observed<'a> {
    /// As it was called.
    pub command: &'a [String],
    /// The kernel.
    pub kernel: &'a str,
    /// The model's profile.
    pub profile: &'a str,
    /// How the command ended.
    pub ran: &'a Ran,
    /// What its trace came to.
    pub watched: &'a Watched,
    /// What all that is.
    pub outcome: Outcome,
    /// What the kernel complains of, or why this says nothing.
    pub why: Vec<String>,
}

impl Observed<'_> {
    /// Calls that differ, and what a device reached.
    pub fn violations(&self) -> u64 {
        let Watched {
            violations,
            others,
            reachable,
            ..
        } = self.watched;
        let calls = violations.iter().map(|violation| violation.times);
        let faults = reachable.iter().flat_map(|device| &device.faults);
        let further = reachable.iter().map(|device| device.counts.others);
        let reached = faults.map(|fault| fault.times).chain(further);
        calls.chain(reached).sum::<u64>() + others
    }
}

/// How many a second.
pub fn rate(number: u64, nanoseconds: u64) -> u64 {
    let per = u128::from(number) * 1_000_000_000 / u128::from(nanoseconds.max(1));
    u64::try_from(per).unwrap_or(u64::MAX)
}

fn exit(exit: Exit) -> String {
    match exit {
        Exit::Code(0) => "it ended well".to_owned(),
        Exit::Code(code) => format!("it ended with code {code}"),
        Exit::Signal(signal) => format!("it was ended by signal {signal}"),
        Exit::TimedOut => "it took too long and was killed".to_owned(),
    }
}

/// For people.
pub fn human(observed: &Observed<'_>) -> String {
    let (ran, watched, tally) = (observed.ran, observed.watched, &observed.watched.tally);
    let mut text = String::new();
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    line(format!(
        "{:<16} {}",
        observed.outcome.name(),
        observed.command.join(" ")
    ));
    let seconds = ran.took_ns as f64 / 1e9;
    line(format!(
        "  {}, {}; {} after {seconds:.1} s",
        observed.kernel,
        counted(watched.followed, "address space", "address spaces"),
        exit(ran.exit),
    ));
    line(format!(
        "  {} records, {} a second; {} calls into tlbflush.c checked, {} notifications, {} fences",
        watched.taken,
        rate(watched.taken, ran.took_ns),
        watched.checked,
        tally.notified,
        tally.fences
    ));
    if let Some(Reachable { counts, .. }) = &watched.reachable {
        line(looked(counts));
    }
    for why in &observed.why {
        line(format!("  {why}"));
    }
    for fault in watched.reachable.iter().flat_map(|device| &device.faults) {
        line(reached(fault));
    }
    for violation in &watched.violations {
        line(told(violation));
    }
    if watched.others > 0 {
        line(format!(
            "  and {} calls that differ otherwise",
            watched.others
        ));
    }
    text.push_str(&tables(tally, &watched.callers));
    text
}

fn looked(counts: &Counts) -> String {
    let Counts {
        looks,
        judged,
        loaded,
        others,
    } = counts;
    let beyond = match others {
        0 => String::new(),
        others => format!("; {others} wrong for further causes"),
    };
    format!(
        "  a device loaded {loaded} leaf entries; page tables looked at {looks} times, {judged} of \
         them compared with what it has{beyond}"
    )
}

fn reached(fault: &Fault) -> String {
    let reading = match fault.reading {
        Reading::ByLeaf => "",
        Reading::ByPiece => " by devices that keep parts of larger pages",
    };
    let pages = format!("{:#x}-{:#x}", fault.range.start, fault.range.end);
    let mut text = format!(
        "  {}, {}: {}{reading}: {}\n",
        counted(fault.times, "time", "times"),
        counted(fault.pages, "page", "pages"),
        fault.kind.name(),
        text::wrong((fault.kind, fault.kept), &pages, fault.frame),
    );
    match &fault.by {
        Some(by) => {
            let _ = writeln!(
                text,
                "    {} of `{}` (process {}, hart {}, record {}), in {}",
                by.kind.name(),
                fault.process.as_deref().unwrap_or("?"),
                by.tgid,
                by.hart,
                by.seq,
                began(&fault.callers).unwrap_or("an unnamed call")
            );
            let _ = writeln!(text, "    {}", path(by.kind.name(), &fault.callers));
        }
        None => text.push_str("    nobody said that something would be taken there\n"),
    }
    let near = fault
        .near
        .map_or("no notification came near".to_owned(), |near| {
            let (start, end) = (near.start, near.end);
            let range = range_text(Range { start, end });
            format!(
                "the last notification near was {range}, record {}",
                near.step
            )
        });
    if let Some(page) = &fault.page {
        let _ = writeln!(text, "    known: {}", page.display());
    }
    let _ = write!(
        text,
        "    loaded by record {}, wrong by record {}; {near}",
        fault.since, fault.seq
    );
    text
}

fn counted(number: u64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

fn tables(tally: &Tally, callers: &Callers) -> String {
    let mut text = String::from("  entries by function\n");
    for (function, number) in &tally.entries {
        let _ = writeln!(text, "    {number:>9}  {function}");
    }
    text.push_str("  entries by caller\n");
    for (number, path) in top(&tally.chains, callers) {
        let _ = writeln!(text, "    {number:>9}  {path}");
    }
    text.push_str("  ranges, by pages\n");
    for (pages, number) in &tally.sizes {
        let _ = writeln!(text, "    {number:>9}  from {pages}");
    }
    if tally.notified > 0 {
        let share = 100.0 * tally.notified_whole as f64 / tally.notified as f64;
        let _ = writeln!(
            text,
            "  {} of {} notifications are of all of an mm ({share:.1} %); {} pages told of beyond \
             what was asked",
            tally.notified_whole, tally.notified, tally.widened
        );
        for (number, path) in top(&tally.whole_chains, callers) {
            let _ = writeln!(text, "    {number:>9}  {path}");
        }
    }
    text
}

/// The most frequent ways, by the functions that lead there.
fn top(chains: &BTreeMap<(&'static str, u64), u64>, callers: &Callers) -> Vec<(u64, String)> {
    let mut ways: BTreeMap<String, u64> = BTreeMap::new();
    for ((function, chain), number) in chains {
        let path = path(function, &callers.chain(*chain));
        *ways.entry(path).or_default() += number;
    }
    let mut ways: Vec<(u64, String)> = ways.into_iter().map(|(path, n)| (n, path)).collect();
    ways.sort_by(|one, other| other.cmp(one));
    ways.truncate(CALLERS);
    ways
}

/// A function and who called, outwards.
fn path(function: &str, callers: &[Caller]) -> String {
    let names = callers.iter().map(|caller| match caller.function.as_str() {
        "" => format!("{:#x}", caller.address),
        name => name.to_owned(),
    });
    let names: Vec<String> = std::iter::once(function.to_owned())
        .chain(names)
        .take(FUNCTIONS)
        .collect();
    names.join(" < ")
}

/// The system call or exception that a chain began with, where it is named.
pub(super) fn began(callers: &[Caller]) -> Option<&str> {
    let mut names = callers.iter().map(|caller| caller.function.as_str());
    names.find(|name| {
        name.starts_with("__riscv_sys_")
            || name.starts_with("__riscv_compat_sys_")
            || *name == "do_page_fault"
            || *name == "handle_page_fault"
    })
}

fn told(violation: &Violation) -> String {
    let record = &violation.first.record;
    let process = violation.process.as_deref().unwrap_or("?");
    let mut text = format!(
        "  {}: {} of `{process}` (process {}, hart {}, record {}), in {}\n",
        counted(violation.times, "call differs", "calls differ"),
        record.kind.name(),
        record.tgid,
        record.hart,
        record.seq,
        began(&violation.callers).unwrap_or("an unnamed call"),
    );
    let _ = writeln!(text, "    {}", path(record.kind.name(), &violation.callers));
    if record.end != 0 {
        let _ = writeln!(text, "    asked for {:#x}-{:#x}", record.start, record.end);
    }
    for effect in &violation.first.expected {
        let _ = writeln!(text, "    - {}", effect_text(effect));
    }
    for effect in &violation.first.followed {
        let _ = writeln!(text, "    + {}", effect_text(effect));
    }
    for (seq, range) in &violation.near {
        let _ = writeln!(
            text,
            "    before, record {seq}: notified {}",
            range_text(*range)
        );
    }
    text.truncate(text.trim_end().len());
    text
}

fn range_text(range: Range) -> String {
    match range.end {
        u64::MAX => "whole mm".to_owned(),
        end => format!("{:#x}-{end:#x}", range.start),
    }
}

fn effect_text(effect: &Effect) -> String {
    match effect {
        Effect::Notify(Whose::Own, range) => format!("notified {}", range_text(*range)),
        Effect::Notify(Whose::Other(_), range) => {
            format!("notified {} of another mm", range_text(*range))
        }
        Effect::Fence(Fence::Sbi {
            harts,
            start,
            size,
            asid,
        }) => {
            let harts = harts.map_or("all harts".to_owned(), |mask| format!("harts {mask:#x}"));
            let asid = asid.map_or("no ASID".to_owned(), |asid| format!("ASID {asid}"));
            format!("fenced {harts}, {asid}, {start:#x} and {size:#x} bytes")
        }
        Effect::Fence(fence) => format!("fenced {fence:?}"),
    }
}

/// For programs: one object.
pub fn json(observed: &Observed<'_>) -> Value {
    let (ran, watched, tally) = (observed.ran, observed.watched, &observed.watched.tally);
    let (code, signal) = match ran.exit {
        Exit::Code(code) => (Some(code), None),
        Exit::Signal(signal) => (None, Some(signal)),
        Exit::TimedOut => (None, None),
    };
    json!({
        "schema": SCHEMA,
        "type": "observed",
        "command": observed.command,
        "kernel": observed.kernel,
        "model_profile": observed.profile,
        "outcome": observed.outcome.name(),
        "why": observed.why,
        "exit_code": code,
        "signal": signal,
        "timed_out": ran.exit == Exit::TimedOut,
        "elapsed_ms": ran.took_ns / 1_000_000,
        "records": watched.taken,
        "lost": ran.lost,
        "unfollowed": ran.unfollowed,
        "address_spaces": watched.followed,
        "layer1_checked": watched.checked,
        "entries": tally.entries,
        "callers": ways(&tally.chains, &watched.callers),
        "sizes": tally.sizes,
        "notified": tally.notified,
        "notified_whole": tally.notified_whole,
        "notified_whole_callers": ways(&tally.whole_chains, &watched.callers),
        "notified_beyond": tally.widened,
        "fences": tally.fences,
        "violations": watched.violations.iter().map(violation).collect::<Vec<_>>(),
        "violations_of_further_causes": watched.others,
        "device": watched.reachable.as_ref().map(device),
    })
}

fn device(reachable: &Reachable) -> Value {
    let Counts {
        looks,
        judged,
        loaded,
        others,
    } = reachable.counts;
    json!({
        "looks": looks,
        "looks_compared": judged,
        "loaded": loaded,
        "reached": reachable.faults.iter().map(fault).collect::<Vec<_>>(),
        "reached_for_further_causes": others,
    })
}

fn fault(fault: &Fault) -> Value {
    let rights = match fault.kept {
        Kept::Leaf { rights, .. } => Some(rights.to_string()),
        Kept::Table { .. } => None,
    };
    json!({
        "kind": fault.kind.name(),
        "by_piece": fault.reading == Reading::ByPiece,
        "times": fault.times,
        "pages": fault.pages,
        "mm": fault.mm,
        "start": fault.range.start,
        "end": fault.range.end,
        "frame": fault.frame,
        "rights": rights,
        "since": fault.since,
        "seq": fault.seq,
        "page": fault.page.as_ref().map(|page| page.display().to_string()),
        "by": fault.by.map(|by| by.kind.name()),
        "by_seq": fault.by.map(|by| by.seq),
        "began_with": began(&fault.callers),
        "callers": fault.callers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "process": fault.process,
        "pid": fault.by.map(|by| by.tgid),
        "near": fault.near.map(|near| {
            json!({ "seq": near.step, "start": near.start, "end": near.end })
        }),
    })
}

/// For programs: of a command that came to no end.
pub fn broken(command: &[String], kernel: &str, outcome: Outcome, why: &str) -> Value {
    json!({
        "schema": SCHEMA,
        "type": "observed",
        "command": command,
        "kernel": kernel,
        "outcome": outcome.name(),
        "why": [why],
    })
}

fn ways(chains: &BTreeMap<(&'static str, u64), u64>, callers: &Callers) -> Vec<Value> {
    let way = |(number, path): (u64, String)| json!({ "times": number, "path": path });
    top(chains, callers).into_iter().map(way).collect()
}

fn violation(violation: &Violation) -> Value {
    let record = &violation.first.record;
    let effects = |effects: &[Effect]| effects.iter().map(effect_text).collect::<Vec<_>>();
    json!({
        "times": violation.times,
        "function": record.kind.name(),
        "began_with": began(&violation.callers),
        "callers": violation.callers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "process": violation.process,
        "pid": record.tgid,
        "hart": record.hart,
        "seq": record.seq,
        "mm": record.mm,
        "start": record.start,
        "end": record.end,
        "model": effects(&violation.first.expected),
        "kernel": effects(&violation.first.followed),
        "notified_before": violation.near.iter().map(|(seq, range)| {
            json!({ "seq": seq, "start": range.start, "end": range.end })
        }).collect::<Vec<_>>(),
    })
}
