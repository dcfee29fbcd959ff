// SPDX-License-Identifier: GPL-2.0-only
//! For programs: from events to the lines of [`super::line`].

use super::groups::{Groups, cause};
use super::line::{self, Line};
use super::lines::traced_mm;
use super::page::is_to_be_looked_at;
use super::test;
use crate::compare::{Class, Compared, Comparison};
use crate::device::{Foreseen, Reached};
use crate::diff::Diff;
use crate::event::{Event, Reporter, Rerun, Start, Summary};
use crate::finding::{Block, Finding, Side, Sides, Uncovered};
use crate::history::changes::{ChangeKind, Changes};
use crate::layer1::Layer1Difference;
use crate::observe::{ObservedCall, ObservedStep, RangeEvent};
use crate::outcome::Outcome;
use crate::reading::Hint;
use crate::scenario::{Scenario, Written, describe::describe};
use crate::text;
use crate::verdict::Verdict;
use chrono::SecondsFormat;
use reference_model::{
    Call, Effect, Fence, MmId, Prediction, Profile, Range, StepPrediction, Unpredicted, Whose,
};
use secondary_mmu::{Kept, Reading};
use std::collections::BTreeSet;
use std::io::{self, Write};

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
        writeln!(self.out, "{}", line.to_json()?)?;
        self.out.flush()
    }
}

/// Makes the lines: those that are printed, and those that the history keeps.
#[derive(Default)]
pub struct Lines {
    rerun: Rerun,
    kernel: String,
    groups: Groups,
}

impl Lines {
    /// What is said of an event, if anything.
    pub fn of(&mut self, event: &Event) -> Option<Line> {
        match event {
            Event::Started(start) => {
                self.rerun = start.rerun.clone();
                self.kernel.clone_from(&start.kernel);
                self.groups = Groups::default();
                Some(Line::Start(started(start)))
            }
            Event::Judged(verdict) => {
                if is_to_be_looked_at(verdict.outcome()) {
                    self.groups.add(verdict);
                }
                let line = scenario(verdict, &self.kernel, &self.rerun);
                Some(Line::Scenario(Box::new(line)))
            }
            Event::Finished(summary) => {
                let groups = std::mem::take(&mut self.groups);
                Some(Line::Summary(finished(summary, &self.kernel, groups)))
            }
            Event::Changed(changes) => Some(Line::Changes(changed(changes))),
            Event::Note(note) => Some(Line::Note { note: note.clone() }),
            Event::AllFinished(_) | Event::Invalid(_) | Event::Progress(_) => None,
        }
    }
}

fn started(start: &Start) -> line::Start {
    line::Start {
        run: start.id.clone(),
        began: start.began.to_rfc3339_opts(SecondsFormat::Millis, true),
        board: start.board.clone(),
        line: start.line.clone(),
        scenarios: start.scenarios as u64,
        backend: start.backend.to_owned(),
        secondary: start.secondary.clone(),
        kernel: start.kernel.clone(),
        model_profile: start.profile.to_owned(),
    }
}

fn finished(summary: &Summary, kernel: &str, groups: Groups) -> line::Summary {
    let count = |outcome: &Outcome| summary.counts.get(outcome).copied().unwrap_or(0);
    let outcomes = Outcome::ALL.iter();
    let causes = groups.into_sorted().into_iter().map(|group| line::Cause {
        cause: group.cause,
        outcome: group.outcome,
        smallest: group.smallest.scenario.name.clone(),
        scenarios: group.names,
    });
    line::Summary {
        kernel: kernel.to_owned(),
        outcomes: outcomes
            .map(|outcome| (outcome.key(), count(outcome)))
            .collect(),
        causes: causes.collect(),
        not_run: summary.not_run,
        stopped: summary.stopped.clone(),
        interrupted: summary.interrupted,
        layer1_checked: summary.checked,
        elapsed_ms: summary.elapsed.as_millis() as u64,
        first_verdict_ms: summary.first_verdict.map(|time| time.as_millis() as u64),
        exit_code: summary.exit_code(),
    }
}

fn changed(changes: &Changes) -> line::Changes {
    let of = |kind: ChangeKind| -> Vec<line::Change> {
        let changes = changes.of(kind).map(|change| line::Change {
            name: change.name.clone(),
            from: change.from,
            to: change.to,
            why: change.why.clone(),
        });
        changes.collect()
    };
    let slower = changes.slower.iter().map(|slower| line::Slower {
        name: slower.name.clone(),
        usual_ms: slower.usual_ms,
        elapsed_ms: slower.elapsed_ms,
    });
    let new_causes = changes.new_causes.iter();
    let new_causes = new_causes.map(|(cause, scenarios)| line::NewCause {
        cause: cause.clone(),
        scenarios: *scenarios,
    });
    let since = changes.since;
    let kinds = ChangeKind::ALL.into_iter();
    line::Changes {
        board: changes.board.clone(),
        line: changes.line.clone(),
        since: since.map(|since| since.to_rfc3339_opts(SecondsFormat::Millis, true)),
        new_causes: new_causes.collect(),
        still_failing: changes.still,
        slower: slower.collect(),
        kinds: kinds
            .map(|kind| (kind.key().to_owned(), of(kind)))
            .collect(),
    }
}

fn scenario(verdict: &Verdict, kernel: &str, rerun: &Rerun) -> line::Scenario {
    let scenario = &verdict.scenario;
    let steps = 0..scenario.written.len();
    let fails = is_to_be_looked_at(verdict.outcome());
    let chains = chains(verdict);
    line::Scenario {
        scenario: scenario.path.display().to_string(),
        name: scenario.name.clone(),
        about: scenario.about.clone(),
        kernel: kernel.to_owned(),
        mms: scenario.mms.clone(),
        outcome: verdict.outcome(),
        why: test::why_of(verdict),
        cause: fails.then(|| cause(verdict)),
        checks: verdict
            .checks
            .iter()
            .map(|name| (*name).to_owned())
            .collect(),
        findings: verdict
            .findings
            .iter()
            .map(|found| finding(scenario, found))
            .collect(),
        runs: verdict.runs,
        elapsed_ms: verdict.elapsed.as_millis() as u64,
        layer1_checked: verdict.checked,
        unpredicted: verdict.unpredicted().map(unpredicted),
        together: verdict
            .orders
            .iter()
            .map(|(line, orders)| line::Together {
                line: *line,
                orders: orders.clone(),
            })
            .collect(),
        callers: chains
            .iter()
            .map(|chain| callers(verdict, *chain))
            .collect(),
        steps: steps.map(|index| step(verdict, index, &chains)).collect(),
        rerun: rerun.line(verdict),
    }
}

/// What the model expects of a scenario, for `predict`.
pub fn prediction(
    scenario: &Scenario,
    profile: &Profile,
    prediction: &Prediction,
    foreseen: Option<&Foreseen>,
) -> Line {
    let steps = prediction.steps.iter().enumerate();
    let steps = steps.map(|(index, step)| line::Step {
        model: Some(predicted(scenario, step)),
        ..named(scenario, index)
    });
    Line::Prediction(line::Prediction {
        scenario: scenario.path.display().to_string(),
        about: scenario.about.clone(),
        model_profile: profile.name.to_owned(),
        unpredicted: prediction.unpredicted.map(unpredicted),
        steps: steps.collect(),
        device: foreseen.map(|all| self::foreseen(scenario, all)),
    })
}

fn foreseen(scenario: &Scenario, foreseen: &Foreseen) -> line::Foreseen {
    let steps = foreseen.held.iter().enumerate();
    let held = steps.flat_map(|(step, held)| held.iter().map(move |one| (step, one)));
    let held = held.map(|(step, held)| line::Held {
        step: step + 1,
        mm: held.mm,
        range: range(&held.range),
        rights: held.rights.to_string(),
        dirty: held.dirty,
        leaf_pages: held.of,
    });
    let all = foreseen.reached.iter();
    line::Foreseen {
        held: held.collect(),
        reached: all.map(|one| reached(scenario, one)).collect(),
    }
}

/// What two kernels do differently, for `compare`.
pub(super) fn comparison(told: &Comparison, names: &[String; 2]) -> Line {
    let scenario = &told.scenario;
    let findings = told.findings.iter().map(|(side, found)| line::FindingOf {
        kernel: names[*side].clone(),
        finding: finding(scenario, found),
    });
    Line::Comparison(line::Comparison {
        scenario: scenario.path.display().to_string(),
        about: scenario.about.clone(),
        kernels: names.to_vec(),
        class: told.class.key(),
        steps: changes(scenario, &told.diff),
        findings: findings.collect(),
        notified: told.notified.map(|one| {
            one.map(|one| line::Notified {
                pages: one.pages,
                needless: one.needless,
                whole: one.whole,
                whole_needless: one.whole_needless,
            })
        }),
    })
}

/// What all comparisons came to.
pub(super) fn compared(compared: &Compared, names: &[String; 2]) -> Line {
    let count = |class: &Class| compared.counts.get(class).copied().unwrap_or(0);
    let classes = Class::ALL.iter();
    Line::ComparisonSummary(line::ComparisonSummary {
        kernels: names.to_vec(),
        classes: classes.map(|class| (class.key(), count(class))).collect(),
        not_run: compared.not_run,
        interrupted: compared.interrupted,
        exit_code: compared.exit_code(),
    })
}

fn unpredicted(unpredicted: Unpredicted) -> line::Unpredicted {
    line::Unpredicted {
        step: unpredicted.step + 1,
        why: unpredicted.why.to_owned(),
    }
}

fn named(scenario: &Scenario, index: usize) -> line::Step {
    let (step, written) = match scenario.step(index) {
        Some((step, written)) => (Some(step), written.clone()),
        None => (None, Written::default()),
    };
    let pages = step.map(|step| step.op.pages()).unwrap_or_default();
    line::Step {
        step: index + 1,
        line: written.line,
        source: written.source,
        operation: step.map_or_else(String::new, |step| describe(scenario, step)),
        pages: pages.iter().map(|it| [it.start, it.end]).collect(),
        ..line::Step::default()
    }
}

fn step(verdict: &Verdict, index: usize, chains: &[u64]) -> line::Step {
    let scenario = &verdict.scenario;
    let model = verdict.prediction.as_ref();
    let model = model.and_then(|prediction| prediction.steps.get(index));
    let kernel = verdict.observation.as_ref();
    let kernel = kernel.and_then(|observation| observation.steps.get(index));
    line::Step {
        model: model.map(|step| predicted(scenario, step)),
        kernel: kernel.map(|step| observed(scenario, step, chains)),
        ..named(scenario, index)
    }
}

fn predicted(scenario: &Scenario, step: &StepPrediction) -> line::ModelStep {
    let name = |mm| text::mm_name(scenario, mm);
    let call = |call: &Call| line::Call {
        seq: None,
        mm: call.mm,
        call: Some(text::entry(call.entry)),
        callers: None,
        effects: effects(&call.effects, of_mm(call.mm), &name),
    };
    let lost = step.lost.iter().map(|(mm, lost)| line::Lost {
        mm: *mm,
        range: range(lost),
    });
    line::ModelStep {
        result: text::result(step.result),
        calls: step.calls.iter().map(call).collect(),
        lost: lost.collect(),
    }
}

fn callers(verdict: &Verdict, chain: u64) -> Vec<String> {
    let chain = verdict.callers.chain(chain);
    chain.iter().map(ToString::to_string).collect()
}

/// Who called in an observation: the numbers of chains, each once, in order.
fn chains(verdict: &Verdict) -> Vec<u64> {
    let steps = verdict.observation.iter().flat_map(|seen| &seen.steps);
    let calls = steps.flat_map(|step| &step.calls);
    let chains = calls.map(|call| call.chain).filter(|chain| *chain != 0);
    let chains: BTreeSet<u64> = chains.collect();
    chains.into_iter().collect()
}

fn observed(scenario: &Scenario, step: &ObservedStep, chains: &[u64]) -> line::KernelStep {
    let name = |mm| text::mm_name(scenario, mm);
    let call = |call: &ObservedCall| line::Call {
        seq: Some(call.seq),
        mm: call.mm,
        call: call.entry.map(text::entry),
        callers: chains.binary_search(&call.chain).ok(),
        effects: effects(&call.effects, of_mm(call.mm), &name),
    };
    let context = |event: &RangeEvent| line::Context {
        seq: event.seq,
        mm: event.mm,
        call: match event.start {
            true => "invalidate_range_start".to_owned(),
            false => "invalidate_range_end".to_owned(),
        },
        range: range(&event.range),
        event: event.event,
    };
    line::KernelStep {
        result: text::result(step.result),
        calls: step.calls.iter().map(call).collect(),
        context: step.context.iter().map(context).collect(),
    }
}

fn of_mm(mm: Option<MmId>) -> Option<u64> {
    mm.map(|mm| mm as u64)
}

fn range(range: &Range) -> line::Range {
    line::Range {
        pages: text::range(*range),
        start: format!("{:#x}", range.start),
        end: format!("{:#x}", range.end),
    }
}

/// Effects of a call about an mm; `name` says what another one is called.
fn effects(
    effects: &[Effect],
    mm: Option<u64>,
    name: &dyn Fn(Option<MmId>) -> String,
) -> Vec<line::Effect> {
    let effects = effects.iter();
    effects
        .map(|effect| self::effect(effect, mm, name))
        .collect()
}

fn effect(
    effect: &Effect,
    own: Option<u64>,
    name: &dyn Fn(Option<MmId>) -> String,
) -> line::Effect {
    let kind = match effect {
        Effect::Notify(..) => "notify",
        Effect::Fence(Fence::Sbi { .. }) => "sbi_fence",
        Effect::Fence(Fence::Ipi { .. }) => "ipi_fence",
        Effect::Fence(Fence::LocalAll { .. } | Fence::LocalPages { .. }) => "local_fence",
    };
    let (range, mm) = match effect {
        Effect::Notify(Whose::Own, told) => (Some(range(told)), own),
        Effect::Notify(Whose::Other(mm), told) => (Some(range(told)), of_mm(*mm)),
        Effect::Fence(_) => (None, None),
    };
    line::Effect {
        kind: kind.to_owned(),
        text: text::effect(effect, name),
        range,
        mm,
    }
}

fn finding(scenario: &Scenario, found: &Finding) -> line::Finding {
    line::Finding {
        check: found.check.to_owned(),
        outcome: found.outcome,
        why: found.why.clone(),
        cause: found.cause.clone(),
        blocks: found
            .blocks
            .iter()
            .map(|shown| block(scenario, shown))
            .collect(),
    }
}

fn reached(scenario: &Scenario, one: &Reached) -> line::Reached {
    let near = one.near.map(|near| Range {
        start: near.start,
        end: near.end,
    });
    line::Reached {
        kind: one.kind.name().to_owned(),
        by_piece: one.reading == Reading::ByPiece,
        step: one.step + 1,
        mm: one.mm,
        range: range(&one.range),
        frame: format!("{:#x}", one.frame),
        since: one.since + 1,
        rights: match one.kept {
            Kept::Leaf { rights, .. } => Some(rights.to_string()),
            Kept::Table { .. } => None,
        },
        near: near.map(|near| range(&near)),
        text: text::reached(scenario, one),
    }
}

fn block(scenario: &Scenario, block: &Block) -> line::Block {
    match block {
        Block::Text(lines) => line::Block::Text {
            lines: lines.clone(),
        },
        Block::Log(log) => line::Block::Log { log: log.clone() },
        Block::Calls(calls) => line::Block::Calls {
            calls: calls.iter().map(call_change).collect(),
        },
        Block::Steps { sides, diff, hints } => line::Block::Steps {
            sides: match sides {
                Sides::ModelKernel => "model_kernel",
                Sides::SnapshotKernel => "snapshot_kernel",
                Sides::MostNext => "most_next",
            }
            .to_owned(),
            steps: changes(scenario, diff),
            hints: hints.iter().map(hint).collect(),
        },
        Block::Reached(all) => line::Block::Reached {
            reached: all.iter().map(|one| reached(scenario, one)).collect(),
        },
        Block::Ranges(ranges) => line::Block::Ranges {
            ranges: ranges.iter().map(lost).collect(),
        },
        Block::Seen(seen) => line::Block::Seen {
            lines: text::steps(scenario, &seen.0)
                .lines()
                .map(str::to_owned)
                .collect(),
        },
        Block::Counts(counts) => line::Block::Counts {
            counts: counts.clone(),
        },
        Block::Page(page) => line::Block::Page {
            page: page.display().to_string(),
        },
        Block::Proposed(pending) => line::Block::Proposed {
            proposed: pending.display().to_string(),
        },
    }
}

fn hint(hint: &Hint) -> line::Hint {
    let [release, nearest] = hint.releases.clone();
    line::Hint {
        release,
        nearest,
        functions: hint.functions.clone(),
        more: hint.more,
        why_not: hint.why_not.clone(),
    }
}

fn lost(lost: &Uncovered) -> line::Uncovered {
    line::Uncovered {
        side: match lost.side {
            Side::Model => "model".to_owned(),
            Side::Kernel => "kernel".to_owned(),
        },
        step: lost.step + 1,
        mm: lost.mm,
        range: range(&lost.pages),
    }
}

fn call_change(difference: &Layer1Difference) -> line::CallChange {
    let record = &difference.record;
    let effects = |effects: &[Effect]| self::effects(effects, Some(record.mm), &traced_mm);
    line::CallChange {
        seq: Some(record.seq),
        step: difference.step.map(|step| step + 1),
        call: difference.entry.map(text::entry),
        record: record.kind.name().to_owned(),
        mm: record.mm,
        cpumask: format!("{:#x}", record.cpumask),
        asid: Some(record.asid),
        hart: record.hart,
        pid: Some(record.pid),
        expected: effects(&difference.expected),
        followed: effects(&difference.followed),
    }
}

fn changes(scenario: &Scenario, diff: &Diff) -> Vec<line::StepChange> {
    let steps = diff.steps.iter().map(|differs| {
        let lines = |side: &Option<crate::steps::Step>| {
            side.as_ref()
                .map(|step| text::step(scenario, differs.step, step))
        };
        line::StepChange {
            step: differs.step + 1,
            expected: lines(&differs.expected),
            seen: lines(&differs.seen),
        }
    });
    steps.collect()
}
