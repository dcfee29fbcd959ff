// SPDX-License-Identifier: GPL-2.0-only
//! For programs: one JSON object a line. `harness/JSON.md` documents it; a
//! change of meaning changes [`SCHEMA`].

use super::lines::{extent, traced_mm};
use super::test;
use super::{Event, Reporter, Rerun, Start, Summary};
use crate::diff::{Diff, Side, Uncovered};
use crate::history::changes::{Changes, Kind};
use crate::layer1::Layer1Difference;
use crate::observe::{ObservedCall, ObservedStep};
use crate::outcome::Outcome;
use crate::reading::Hint;
use crate::scenario::{Scenario, describe::describe};
use crate::text;
use crate::verdict::{Finding, Verdict};
use chrono::SecondsFormat;
use reference_model::{
    Call, Effect, Fence, MmId, Prediction, Profile, Range, StepPrediction, Unpredicted, Whose,
};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::path::Path;

/// Version of the schema, in every line.
pub const SCHEMA: u32 = 2;

/// Prints for programs.
pub struct Json<W: Write> {
    out: W,
    lines: Lines,
}

impl<W: Write> Json<W> {
    /// Prints to `out`.
    pub fn new(out: W) -> Json<W> {
        let lines = Lines::default();
        Json { out, lines }
    }
}

impl<W: Write> Reporter for Json<W> {
    fn tell(&mut self, event: &Event) -> io::Result<()> {
        let Some(line) = self.lines.of(event) else {
            return Ok(());
        };
        writeln!(self.out, "{line}")?;
        self.out.flush()
    }
}

/// Makes the lines: those that are printed, and those that the history keeps.
#[derive(Default)]
pub struct Lines {
    rerun: Rerun,
    kernel: String,
}

impl Lines {
    /// What is said of an event, if anything.
    pub fn of(&mut self, event: &Event) -> Option<Value> {
        match event {
            Event::Started(start) => {
                self.rerun = start.rerun.clone();
                self.kernel.clone_from(&start.kernel);
                Some(started(start))
            }
            Event::Judged(verdict) => Some(scenario(verdict, &self.kernel, &self.rerun)),
            Event::Finished(summary) => Some(finished(summary, &self.kernel)),
            Event::Changed(changes) => Some(changed(changes)),
            Event::Note(note) => Some(json!({ "type": "note", "schema": SCHEMA, "note": note })),
            Event::AllFinished(_) | Event::Invalid(_) | Event::Progress(_) => None,
        }
    }
}

fn started(start: &Start) -> Value {
    json!({
        "type": "start",
        "schema": SCHEMA,
        "run": start.id,
        "began": start.began.to_rfc3339_opts(SecondsFormat::Millis, true),
        "board": start.board,
        "line": start.line,
        "scenarios": start.scenarios,
        "backend": start.backend,
        "kernel": start.kernel,
        "model_profile": start.profile,
    })
}

fn finished(summary: &Summary, kernel: &str) -> Value {
    let counts = Outcome::ALL.iter().map(|outcome| {
        (
            outcome.key(),
            Value::from(summary.counts.get(outcome).copied().unwrap_or(0)),
        )
    });
    json!({
        "type": "summary",
        "schema": SCHEMA,
        "kernel": kernel,
        "outcomes": counts.collect::<serde_json::Map<_, _>>(),
        "not_run": summary.not_run,
        "stopped": summary.stopped,
        "interrupted": summary.interrupted,
        "layer1_checked": summary.checked,
        "elapsed_ms": summary.elapsed.as_millis() as u64,
        "first_verdict_ms": summary.first_verdict.map(|time| time.as_millis() as u64),
        "exit_code": summary.exit_code(),
    })
}

fn changed(changes: &Changes) -> Value {
    let list = |kind: Kind| {
        let changes = changes.of(kind).map(|change| {
            json!({
                "name": change.name,
                "from": change.from.map(Outcome::key),
                "to": change.to.key(),
                "why": change.why,
            })
        });
        Value::from(changes.collect::<Vec<_>>())
    };
    let mut value = json!({
        "type": "changes",
        "schema": SCHEMA,
        "board": changes.board,
        "line": changes.line,
        "since": changes.since.map(|since| since.to_rfc3339_opts(SecondsFormat::Millis, true)),
        "still_failing": changes.still,
        "slower": changes.slower.iter().map(|slower| json!({
            "name": slower.name,
            "usual_ms": slower.usual_ms,
            "elapsed_ms": slower.elapsed_ms,
        })).collect::<Vec<_>>(),
    });
    for kind in Kind::ALL {
        value[kind.key()] = list(kind);
    }
    value
}

fn scenario(verdict: &Verdict, kernel: &str, rerun: &Rerun) -> Value {
    json!({
        "type": "scenario",
        "schema": SCHEMA,
        "scenario": verdict.scenario.path.display().to_string(),
        "name": verdict.scenario.name,
        "about": verdict.scenario.about,
        "kernel": kernel,
        "mms": verdict.scenario.mms,
        "outcome": verdict.outcome().key(),
        "why": test::why_of(verdict),
        "findings": verdict.findings.iter().map(finding).collect::<Vec<_>>(),
        "runs": verdict.runs,
        "elapsed_ms": verdict.elapsed.as_millis() as u64,
        "layer1_checked": verdict.checked,
        "unpredicted": verdict.unpredicted().map(unpredicted),
        "steps": (0..verdict.scenario.steps.len()).map(|step| self::step(verdict, step)).collect::<Vec<_>>(),
        "rerun": rerun.line(verdict),
    })
}

/// What the model expects of a scenario, for `predict`.
pub fn prediction(scenario: &Scenario, profile: &Profile, prediction: &Prediction) -> Value {
    let steps = scenario
        .steps
        .iter()
        .zip(&prediction.steps)
        .enumerate()
        .map(|(index, (written, step))| {
            json!({
                "step": index + 1,
                "line": written.line,
                "source": written.source,
                "operation": describe(scenario, written),
                "model": predicted(scenario, step),
            })
        });
    json!({
        "type": "prediction",
        "schema": SCHEMA,
        "scenario": scenario.path.display().to_string(),
        "about": scenario.about,
        "model_profile": profile.name,
        "unpredicted": prediction.unpredicted.map(unpredicted),
        "steps": steps.collect::<Vec<_>>(),
    })
}

fn unpredicted(unpredicted: Unpredicted) -> Value {
    json!({ "step": unpredicted.step + 1, "why": unpredicted.why })
}

fn step(verdict: &Verdict, index: usize) -> Value {
    let written = &verdict.scenario.steps[index];
    let model = verdict
        .prediction
        .as_ref()
        .and_then(|prediction| prediction.steps.get(index));
    let kernel = verdict
        .observation
        .as_ref()
        .and_then(|observation| observation.steps.get(index));
    json!({
        "step": index + 1,
        "line": written.line,
        "source": written.source,
        "operation": describe(&verdict.scenario, written),
        "pages": extent(&written.op).map(|(start, end)| [start, end]),
        "model": model.map(|step| predicted(&verdict.scenario, step)),
        "kernel": kernel.map(|step| observed(&verdict.scenario, step)),
    })
}

fn predicted(scenario: &Scenario, step: &StepPrediction) -> Value {
    let name = |mm| text::mm_name(scenario, mm);
    json!({
        "result": text::result(step.result),
        "calls": step.calls.iter().map(|call: &Call| json!({
            "mm": call.mm,
            "call": text::entry(call.entry),
            "effects": effects(&call.effects, Value::from(call.mm), &name),
        })).collect::<Vec<_>>(),
        "lost": step.lost.iter().map(|(mm, lost)| json!({
            "mm": mm,
            "range": range(lost),
        })).collect::<Vec<_>>(),
    })
}

fn observed(scenario: &Scenario, step: &ObservedStep) -> Value {
    let name = |mm| text::mm_name(scenario, mm);
    let call = |call: &ObservedCall| {
        json!({
            "seq": call.seq,
            "mm": call.mm,
            "call": call.entry.map(text::entry),
            "effects": effects(&call.effects, Value::from(call.mm), &name),
        })
    };
    let context = step.context.iter().map(|event| {
        json!({
            "seq": event.seq,
            "mm": event.mm,
            "call": if event.start { "invalidate_range_start" } else { "invalidate_range_end" },
            "range": range(&event.range),
            "event": event.event,
        })
    });
    json!({
        "result": text::result(step.result),
        "calls": step.calls.iter().map(call).collect::<Vec<_>>(),
        "context": context.collect::<Vec<_>>(),
    })
}

/// A range in words of pages, and in bytes: as text, since JSON's numbers end at 2^53.
fn range(range: &Range) -> Value {
    json!({
        "pages": text::range(*range),
        "start": format!("{:#x}", range.start),
        "end": format!("{:#x}", range.end),
    })
}

/// Effects of a call about an mm; `name` says what another one is called.
fn effects(effects: &[Effect], mm: Value, name: &dyn Fn(Option<MmId>) -> String) -> Vec<Value> {
    let effects = effects.iter();
    effects
        .filter_map(|effect| self::effect(effect, &mm, name))
        .collect()
}

fn effect(effect: &Effect, mm: &Value, name: &dyn Fn(Option<MmId>) -> String) -> Option<Value> {
    let kind = match effect {
        Effect::Notify(..) => "notify",
        Effect::Fence(Fence::Sbi { .. }) => "sbi_fence",
        Effect::Fence(Fence::Ipi { .. }) => "ipi_fence",
        Effect::Fence(Fence::LocalAll { .. } | Fence::LocalPages { .. }) => "local_fence",
        Effect::Enter(_) => return None,
    };
    let mut value = json!({ "kind": kind, "text": text::effect(effect, name) });
    if let Effect::Notify(whose, told) = effect {
        value["range"] = range(told);
        value["mm"] = match whose {
            Whose::Own => mm.clone(),
            Whose::Other(mm) => Value::from(*mm),
        };
    }
    Some(value)
}

pub(super) fn finding(finding: &Finding) -> Value {
    let mut value = match finding {
        Finding::Layer1(layer1) => json!({
            "layer": 1,
            "differences": layer1.differences.iter().map(layer1_difference).collect::<Vec<_>>(),
        }),
        Finding::Layer2(diff) => json!({ "layer": 2, "steps": changes(diff) }),
        Finding::Unsafe(uncovered) => json!({ "uncovered": lost(uncovered) }),
        Finding::NotRead { diff, hints } => json!({
            "layer": 2,
            "steps": changes(diff),
            "hints": hints.iter().map(hint).collect::<Vec<_>>(),
        }),
        Finding::Supposed { uncovered, .. } => json!({ "supposed": lost(uncovered) }),
        Finding::Known { page, uncovered } => {
            json!({ "uncovered": lost(uncovered), "page": page.display().to_string() })
        }
        Finding::Gone { page } => json!({ "page": page.display().to_string() }),
        Finding::SnapshotChanged { diff, pending } => {
            json!({ "steps": changes(diff), "proposed": shown(pending.as_deref()) })
        }
        Finding::SnapshotNew { pending } => json!({ "proposed": shown(pending.as_deref()) }),
        Finding::Varies { counts, diff } => json!({ "counts": counts, "steps": changes(diff) }),
        Finding::KernelCrashed { what, log } | Finding::ProgramCorrupted { what, log } => {
            json!({ "what": what, "log": log })
        }
        Finding::CouldNotRun { why } | Finding::Skipped { why } => json!({ "why": why }),
    };
    value["outcome"] = Value::from(finding.outcome().key());
    value
}

fn hint(hint: &Hint) -> Value {
    json!({
        "release": hint.releases[0],
        "nearest": hint.releases[1],
        "functions": hint.functions,
        "more": hint.more,
        "why_not": hint.why_not,
    })
}

fn lost(uncovered: &[Uncovered]) -> Vec<Value> {
    let lost = |lost: &Uncovered| {
        json!({
            "side": match lost.side { Side::Model => "model", Side::Kernel => "kernel" },
            "step": lost.step + 1,
            "mm": lost.mm,
            "range": range(&lost.pages),
        })
    };
    uncovered.iter().map(lost).collect()
}

fn shown(path: Option<&Path>) -> Option<String> {
    path.map(|path| path.display().to_string())
}

fn layer1_difference(difference: &Layer1Difference) -> Value {
    let record = &difference.record;
    json!({
        "seq": record.seq,
        "step": difference.step.map(|step| step + 1),
        "call": difference.entry.map(text::entry),
        "record": record.kind.name(),
        "mm": record.mm,
        "cpumask": format!("{:#x}", record.cpumask),
        "asid": record.asid,
        "hart": record.hart,
        "pid": record.pid,
        "expected": effects(&difference.expected, Value::from(record.mm), &traced_mm),
        "followed": effects(&difference.followed, Value::from(record.mm), &traced_mm),
    })
}

pub(super) fn changes(diff: &Diff) -> Value {
    let steps = diff.steps.iter().map(|step| {
        json!({
            "step": step.step + 1,
            "expected": step.expected.as_ref().map(text::StepText::all_lines),
            "told": step.told.as_ref().map(text::StepText::all_lines),
        })
    });
    Value::from(steps.collect::<Vec<_>>())
}
