// SPDX-License-Identifier: GPL-2.0-only
//! All about one scenario, for people: a line for each finding, and its blocks.

use super::drawing::{Row, draw};
use super::lines::{call_in_a_line, context_in_a_line, traced_mm};
use super::style::{self, Style};
use crate::checks::model_told;
use crate::device::Reached;
use crate::diff::{Diff, StepDiff};
use crate::event::Rerun;
use crate::finding::{Block, Finding, Side, Sides, Uncovered};
use crate::layer1::Layer1Difference;
use crate::outcome::Outcome;
use crate::reading::Hint;
use crate::scenario::Scenario;
use crate::steps::Step;
use crate::text;
use crate::together;
use crate::verdict::Verdict;
use reference_model::{Effect, MmId, Range};
use similar::{ChangeTag, TextDiff};

/// Most calls, steps and ranges that are shown of one scenario; of logs four times as many lines.
const SHOWN: usize = 8;

/// All about a verdict, without colours.
pub fn page(verdict: &Verdict, rerun: &Rerun) -> String {
    let style = Style {
        rerun: rerun.clone(),
        ..Style::default()
    };
    Page::new(&style).verdict(verdict)
}

/// Text being written about one thing.
pub(super) struct Page<'a> {
    style: &'a Style,
    text: String,
}

impl<'a> Page<'a> {
    pub(super) fn new(style: &'a Style) -> Page<'a> {
        Page {
            style,
            text: String::new(),
        }
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    pub(super) fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref().trim_end());
        self.text.push('\n');
    }

    pub(super) fn lines<'b>(&mut self, indent: &str, lines: impl IntoIterator<Item = &'b str>) {
        for line in lines {
            self.line(format!("{indent}{line}"));
        }
    }

    pub(super) fn coloured(&self, look: anstyle::Style, text: &str) -> String {
        match self.style.colour {
            true => format!("{look}{text}{look:#}"),
            false => text.to_owned(),
        }
    }

    /// The outcome, and where the scenario is.
    pub(super) fn head(&mut self, verdict: &Verdict) {
        let outcome = verdict.outcome();
        let name = self.coloured(
            style::of_outcome(outcome),
            &format!("{:<16}", outcome.name()),
        );
        self.line(format!("{name} {}", verdict.scenario.path.display()));
        if let Some(unpredicted) = verdict.unpredicted() {
            self.line(format!("  {}", text::unpredicted(unpredicted)));
        }
        for line in together::lines(&verdict.orders) {
            self.line(format!("  {line}"));
        }
    }

    /// All of it.
    pub(super) fn verdict(mut self, verdict: &Verdict) -> String {
        self.head(verdict);
        for finding in &verdict.findings {
            self.finding(verdict, finding);
        }
        if is_to_be_looked_at(verdict.outcome()) {
            let rerun = self.style.rerun.line(verdict);
            self.line(format!(
                "  run just this: {}",
                self.coloured(style::BOLD, &rerun)
            ));
            self.line("");
        }
        self.text
    }

    pub(super) fn finding(&mut self, verdict: &Verdict, finding: &Finding) {
        self.line(format!("  {}", finding.why));
        for block in &finding.blocks {
            self.block(verdict, block);
        }
    }

    fn block(&mut self, verdict: &Verdict, block: &Block) {
        match block {
            Block::Text(lines) => self.lines("  ", lines.iter().map(String::as_str)),
            Block::Log(log) => self.log(log),
            Block::Calls(calls) => {
                for difference in calls.iter().take(SHOWN) {
                    self.call(verdict, difference);
                }
                self.more(calls.len(), "calls");
            }
            Block::Steps { sides, diff, hints } => self.steps(verdict, *sides, diff, hints),
            Block::Ranges(ranges) => self.ranges(verdict, ranges),
            Block::Reached(all) => {
                for one in all.iter().take(SHOWN) {
                    self.line(format!("    {}", text::reached(&verdict.scenario, one)));
                }
                self.more(all.len(), "of them");
                if let Some(one) = all.first() {
                    self.device(verdict, one.step, one.mm, all);
                }
            }
            Block::Seen(seen) => {
                let text = text::steps(&verdict.scenario, &seen.0);
                self.lines("    + ", text.lines());
            }
            // What the sentence says already.
            Block::Counts(_) | Block::Page(_) => {}
            Block::Proposed(pending) => self.line(format!(
                "  proposed: {} (accept it with `cargo insta review`)",
                pending.display()
            )),
        }
    }

    fn log(&mut self, log: &[String]) {
        let skipped = log.len().saturating_sub(4 * SHOWN);
        self.lines("    | ", log.iter().take(4 * SHOWN).map(String::as_str));
        if skipped > 0 {
            self.line(format!("    | … {skipped} more lines"));
        }
    }

    fn call(&mut self, verdict: &Verdict, difference: &Layer1Difference) {
        let record = &difference.record;
        let call = difference.entry.map_or_else(
            || format!("{} (by no call)", record.kind.name()),
            text::entry,
        );
        let step = difference.step.map_or_else(
            || "between steps".to_owned(),
            |step| format!("step {}", text::title(&verdict.scenario, step)),
        );
        self.line(format!("    #{} {call}  ({step})", record.seq));
        self.line(self.coloured(
            style::DIM,
            &format!(
                "      mm {} cpumask {:#x} asid {} on hart {} by pid {}",
                record.mm, record.cpumask, record.asid, record.hart, record.pid
            ),
        ));
        let words = |effects: &[Effect]| -> Vec<String> {
            let words = effects
                .iter()
                .map(|effect| text::effect(effect, &traced_mm));
            words.collect()
        };
        self.changes(
            "      ",
            &words(&difference.expected),
            &words(&difference.followed),
        );
    }

    pub(super) fn more(&mut self, all: usize, what: &str) {
        if all > SHOWN {
            self.line(format!("    … {} more {what}", all - SHOWN));
        }
    }

    fn steps(&mut self, verdict: &Verdict, sides: Sides, diff: &Diff, hints: &[Hint]) {
        for (number, step) in diff.steps.iter().take(SHOWN).enumerate() {
            match sides {
                Sides::ModelKernel => self.step(verdict, step),
                Sides::SnapshotKernel | Sides::MostNext => {
                    self.step_changes(&verdict.scenario, step);
                }
            }
            if let Some(hint) = hints.get(number) {
                self.hint(hint);
            }
        }
        self.more(diff.steps.len(), "steps");
    }

    /// Steps on which two kernels differ.
    pub(super) fn steps_of_kernels(&mut self, scenario: &Scenario, diff: &Diff) {
        for step in diff.steps.iter().take(SHOWN) {
            if let Some(written) = scenario.written.get(step.step) {
                let at = format!("{}:{}", scenario.path.display(), written.line);
                self.line(format!("  step {}, {at}:", step.step + 1));
            }
            self.step_changes(scenario, step);
        }
        self.more(diff.steps.len(), "steps");
    }

    fn step(&mut self, verdict: &Verdict, step: &StepDiff) {
        let scenario = &verdict.scenario;
        if let Some(written) = scenario.written.get(step.step) {
            let at = format!("{}:{}", scenario.path.display(), written.line);
            self.line(format!("  step {}, {at}:", step.step + 1));
            self.line(format!(
                "      {}",
                self.coloured(style::BOLD, &written.source)
            ));
        }
        self.drawing(verdict, step.step);
        self.line(format!(
            "    {} what the model expects, {} what the kernel did",
            self.coloured(style::RED, "-"),
            self.coloured(style::GREEN, "+")
        ));
        self.step_changes(scenario, step);
        self.calls_after(verdict, step.step);
    }

    /// What may explain that the model is wrong.
    fn hint(&mut self, hint: &Hint) {
        let nearest = &hint.releases[1];
        let more = match hint.more {
            0 => String::new(),
            more => format!(" and {more} more (tlbdiff drift lists them all)"),
        };
        let functions = hint.functions.join(", ");
        let line = match &hint.why_not {
            Some(why) => format!("what changed since {nearest} is not known: {why}"),
            None if hint.functions.is_empty() => {
                format!("nothing that this step comes to in the model changed since {nearest}")
            }
            None => {
                format!("changed since {nearest} in what this step comes to: {functions}{more}")
            }
        };
        self.line(format!("    {line}"));
    }

    fn drawing(&mut self, verdict: &Verdict, step: usize) {
        let scenario = &verdict.scenario;
        let predicted = verdict
            .prediction
            .as_ref()
            .and_then(|prediction| prediction.steps.get(step));
        let model = predicted.map(model_told).unwrap_or_default();
        let kernel = verdict
            .observation
            .as_ref()
            .map(|observation| observation.told(step))
            .unwrap_or_default();
        let named = scenario.program.steps.get(step);
        let named = named.map(|step| step.op.pages()).unwrap_or_default();
        for mm in 0..scenario.mms.len() {
            let of = |told: &[(Option<MmId>, Range)]| -> Vec<Range> {
                let told = told.iter().filter(|(of, _)| *of == Some(mm));
                told.map(|(_, range)| *range).collect()
            };
            let (model, kernel) = (of(&model), of(&kernel));
            if let Some(owner) = scenario.owner(mm) {
                if model.is_empty() && kernel.is_empty() {
                    continue;
                }
                self.line(format!("      {owner}:"));
            }
            let rows = [
                Row {
                    name: "model",
                    told: model,
                },
                Row {
                    name: "kernel",
                    told: kernel,
                },
            ];
            for line in draw(&named, &rows) {
                self.line(format!("      {line}"));
            }
        }
    }

    /// What the kernel notified in a step, and what a device could reach after it all the same.
    fn device(&mut self, verdict: &Verdict, step: usize, mm: MmId, all: &[Reached]) {
        let notified = verdict.observation.as_ref();
        let notified = notified.map(|observation| observation.told(step));
        let of_mm = |told: Vec<(Option<MmId>, Range)>| -> Vec<Range> {
            let told = told.into_iter().filter(|(of, _)| *of == Some(mm));
            told.map(|(_, range)| range).collect()
        };
        let reached = all.iter().filter(|one| (one.step, one.mm) == (step, mm));
        let rows = [
            Row {
                name: "kernel",
                told: notified.map(of_mm).unwrap_or_default(),
            },
            Row {
                name: "device",
                told: reached.map(|one| one.range).collect(),
            },
        ];
        let named = verdict.scenario.program.steps.get(step);
        let named = named.map(|step| step.op.pages()).unwrap_or_default();
        for line in draw(&named, &rows) {
            self.line(format!("      {line}"));
        }
    }

    fn step_changes(&mut self, scenario: &Scenario, differs: &StepDiff) {
        let lines = |side: &Option<Step>| -> Vec<String> {
            side.as_ref()
                .map(|step| text::step(scenario, differs.step, step))
                .unwrap_or_default()
        };
        self.changes("    ", &lines(&differs.expected), &lines(&differs.seen));
    }

    fn changes(&mut self, indent: &str, expected: &[String], seen: &[String]) {
        let (expected, seen): (Vec<&str>, Vec<&str>) = (
            expected.iter().map(String::as_str).collect(),
            seen.iter().map(String::as_str).collect(),
        );
        for change in TextDiff::from_slices(&expected, &seen).iter_all_changes() {
            let line = change.value();
            self.line(match change.tag() {
                ChangeTag::Equal => format!("{indent}  {line}"),
                ChangeTag::Delete => self.coloured(style::RED, &format!("{indent}- {line}")),
                ChangeTag::Insert => self.coloured(style::GREEN, &format!("{indent}+ {line}")),
            });
        }
    }

    fn calls_after(&mut self, verdict: &Verdict, step: usize) {
        let Some(step) = verdict
            .observation
            .as_ref()
            .and_then(|observation| observation.steps.get(step))
        else {
            return;
        };
        let mut calls: Vec<(u64, String)> = step
            .calls
            .iter()
            .map(|call| (call.seq, call_in_a_line(&verdict.scenario, call)))
            .collect();
        calls.extend(
            step.context
                .iter()
                .map(|event| (event.seq, context_in_a_line(&verdict.scenario, event))),
        );
        // Where only the accepted text was kept there is nothing more to tell.
        calls.retain(|(seq, _)| *seq != 0);
        if calls.is_empty() {
            return;
        }
        calls.sort();
        self.line("    the calls of the kernel, by their number in the trace:");
        for (seq, line) in calls.iter().take(4 * SHOWN) {
            self.line(format!("      #{seq} {line}"));
        }
        if calls.len() > 4 * SHOWN {
            self.line(format!("      … {} more", calls.len() - 4 * SHOWN));
        }
    }

    fn ranges(&mut self, verdict: &Verdict, uncovered: &[Uncovered]) {
        for lost in uncovered.iter().take(SHOWN) {
            let side = match lost.side {
                Side::Model => "by the model",
                Side::Kernel => "by the kernel",
            };
            let step = text::title(&verdict.scenario, lost.step);
            self.line(format!(
                "    {}pages {} lost their mapping, a right or their frame in step {step}, and secondary MMUs were not notified {side}",
                text::whose(&verdict.scenario, Some(lost.mm)),
                text::range(lost.pages)
            ));
        }
        self.more(uncovered.len(), "ranges");
    }
}

/// Whether somebody has to look at it.
pub(super) fn is_to_be_looked_at(outcome: Outcome) -> bool {
    !matches!(outcome, Outcome::Agree | Outcome::Skipped | Outcome::Known)
}
