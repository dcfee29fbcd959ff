// SPDX-License-Identifier: GPL-2.0-only
//! For people: a line for each scenario, and all about those that do not agree.

use super::drawing::{Row, draw};
use super::lines::{call_in_a_line, context_in_a_line, extent, traced_mm};
use super::{Event, Reporter, Rerun, Start, Summary};
use crate::compare::{Class, Comparison};
use crate::diff::{Diff, Side, StepDiff, Uncovered, model_told};
use crate::layer1::{Layer1Difference, Layer1Verdict};
use crate::outcome::Outcome;
use crate::reading::Hint;
use crate::text;
use crate::verdict::{Finding, Verdict};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reference_model::{Effect, MmId, Range};
use similar::{ChangeTag, TextDiff};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// Most differing calls of layer 1, lines of a log, and steps, that are shown of one scenario.
const SHOWN: usize = 8;

/// How it is printed.
#[derive(Clone, Debug, Default)]
pub struct Style {
    /// With colours.
    pub colour: bool,
    /// With a progress bar.
    pub bar: bool,
    /// Without a line for each scenario that agrees.
    pub quiet: bool,
    /// The command to run one scenario again.
    pub rerun: Rerun,
}

/// All about a verdict, without colours.
pub fn page(verdict: &Verdict, rerun: &Rerun) -> String {
    let style = Style {
        rerun: rerun.clone(),
        ..Style::default()
    };
    let page = Page {
        style: &style,
        text: String::new(),
    };
    page.verdict(verdict)
}

/// Prints for people.
pub struct Human<W: Write> {
    out: W,
    style: Style,
    bar: ProgressBar,
    several: bool,
}

impl<W: Write> Human<W> {
    /// Prints to `out`, a progress bar to the terminal.
    pub fn new(out: W, style: Style) -> Human<W> {
        let target = if style.bar {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        Human {
            out,
            style,
            several: false,
            bar: ProgressBar::with_draw_target(None, target),
        }
    }

    fn print(&mut self, text: &str) -> io::Result<()> {
        let Human { out, bar, .. } = self;
        bar.suspend(|| out.write_all(text.as_bytes()).and_then(|()| out.flush()))
    }

    fn started(&mut self, start: &Start) -> io::Result<()> {
        self.style.rerun = start.rerun.clone();
        self.several = start.several;
        if start.several {
            let line = format!(
                "kernel {}, model profile {}:\n",
                start.kernel, start.profile
            );
            self.print(&line)?;
        }
        self.bar.reset();
        self.bar.set_length(start.scenarios as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {elapsed} {msg}") {
            self.bar.set_style(style);
        }
        if self.style.bar {
            self.bar.enable_steady_tick(Duration::from_millis(200));
        }
        Ok(())
    }

    fn judged(&mut self, verdict: &Verdict) -> io::Result<()> {
        self.bar.set_message(String::new());
        self.bar.inc(1);
        if verdict.outcome() == Outcome::Agree && self.style.quiet {
            return Ok(());
        }
        let text = Page {
            style: &self.style,
            text: String::new(),
        }
        .verdict(verdict);
        self.print(&text)
    }

    fn finished(&mut self, summary: &Summary) -> io::Result<()> {
        self.bar.finish_and_clear();
        let text = Page {
            style: &self.style,
            text: String::new(),
        }
        .summary("", summary);
        self.print(&text)?;
        if self.several {
            self.print("\n")?;
        }
        Ok(())
    }

    /// One line for each kernel.
    fn all_finished(&mut self, summaries: &[(String, Summary)]) -> io::Result<()> {
        let width = summaries.iter().map(|(kernel, _)| kernel.len()).max();
        let width = width.unwrap_or(0);
        for (kernel, summary) in summaries {
            let page = Page {
                style: &self.style,
                text: String::new(),
            };
            let text = page.summary(&format!("{kernel:width$}  "), summary);
            self.print(&text)?;
        }
        Ok(())
    }
}

impl<W: Write> Reporter for Human<W> {
    fn tell(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Started(start) => self.started(start),
            Event::AllFinished(summaries) => self.all_finished(summaries),
            Event::Changed(changes) => write!(self.out, "{changes}"),
            // As errors, on standard error.
            Event::Invalid(_) => Ok(()),
            Event::Progress(what) => {
                self.bar.set_message(what.clone());
                Ok(())
            }
            Event::Note(note) => {
                let note = format!("note: {note}\n");
                self.bar.suspend(|| io::stderr().write_all(note.as_bytes()))
            }
            Event::Judged(verdict) => self.judged(verdict),
            Event::Finished(summary) => self.finished(summary),
        }
    }
}

#[derive(Clone, Copy)]
enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
    Bold = 1,
    Dim = 2,
}

/// Text being written about one thing.
struct Page<'a> {
    style: &'a Style,
    text: String,
}

impl Page<'_> {
    fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref().trim_end());
        self.text.push('\n');
    }

    fn lines<'b>(&mut self, indent: &str, lines: impl IntoIterator<Item = &'b str>) {
        for line in lines {
            self.line(format!("{indent}{line}"));
        }
    }

    fn coloured(&self, colour: Colour, text: &str) -> String {
        match self.style.colour {
            true => format!("\x1b[{}m{text}\x1b[0m", colour as u8),
            false => text.to_owned(),
        }
    }

    fn verdict(mut self, verdict: &Verdict) -> String {
        let outcome = verdict.outcome();
        let name = self.coloured(colour_of(outcome), &format!("{:<16}", outcome.name()));
        self.line(format!("{name} {}", verdict.scenario.path.display()));
        if let Some(unpredicted) = verdict.unpredicted() {
            self.line(format!("  {}", text::unpredicted(unpredicted)));
        }
        for finding in &verdict.findings {
            self.finding(verdict, finding);
        }
        if !matches!(outcome, Outcome::Agree | Outcome::Skipped | Outcome::Known) {
            let rerun = self.style.rerun.line(verdict);
            self.line(format!(
                "  run just this: {}",
                self.coloured(Colour::Bold, &rerun)
            ));
            self.line("");
        }
        self.text
    }

    /// Steps on which two kernels differ, and what else was found on either.
    fn comparison(mut self, names: &[String; 2], comparison: &Comparison) -> String {
        let class = comparison.class;
        let colour = match class {
            Class::Same => Colour::Green,
            Class::Calls | Class::CouldNotRun => Colour::Yellow,
            Class::Told => Colour::Red,
        };
        let scenario = &comparison.scenario;
        let name = self.coloured(colour, &format!("{:<14}", class.name()));
        self.line(format!("{name} {}", scenario.path.display()));
        let [one, other] = names;
        if !comparison.diff.steps.is_empty() {
            let minus = self.coloured(Colour::Red, "-");
            let plus = self.coloured(Colour::Green, "+");
            self.line(format!("  {minus} {one}, {plus} {other}"));
        }
        for step in comparison.diff.steps.iter().take(SHOWN) {
            if let Some(written) = scenario.steps.get(step.step) {
                let at = format!("{}:{}", scenario.path.display(), written.line);
                self.line(format!("  step {}, {at}:", step.step + 1));
            }
            self.step_changes(step);
        }
        self.more(comparison.diff.steps.len(), "steps");
        let verdict = Verdict::new(scenario);
        for (side, finding) in &comparison.findings {
            self.line(format!("  on {}:", names[*side]));
            self.finding(&verdict, finding);
        }
        if class != Class::Same {
            let line = self.style.rerun.line(&verdict);
            let line = self.coloured(Colour::Bold, &line);
            self.line(format!("  compare just this: {line}"));
            self.line("");
        }
        self.text
    }

    fn finding(&mut self, verdict: &Verdict, finding: &Finding) {
        match finding {
            Finding::Layer1(layer1) => self.layer1(verdict, layer1),
            Finding::Layer2(diff) => self.layer2(verdict, diff, &[]),
            Finding::NotRead { diff, hints } => self.layer2(verdict, diff, hints),
            Finding::Unsafe(uncovered) => self.uncovered(verdict, uncovered, "unsafe"),
            Finding::Supposed { uncovered, read } => {
                self.line(match read {
                    true => {
                        "  the kernel did not do what the model expects, so that this is a guess:"
                    }
                    false => "  the model was not read for this release, so that this is a guess:",
                });
                self.uncovered(verdict, uncovered, "perhaps unsafe");
            }
            Finding::SnapshotChanged { diff, pending } => {
                self.snapshot_changed(diff, pending.as_deref())
            }
            Finding::SnapshotNew { pending } => self.snapshot_new(verdict, pending.as_deref()),
            Finding::Varies { counts, diff } => self.varies(counts, diff),
            Finding::KernelCrashed { what, log } => {
                self.line(format!("  {what}"));
                self.log(log);
            }
            Finding::ProgramCorrupted { what, log } => {
                self.line(format!("  {what}"));
                self.line("  it is the same program on every kernel: where it dies on others too, the fault is its own");
                self.log(log);
            }
            Finding::Known { page, uncovered } => {
                self.uncovered(verdict, uncovered, "unsafe");
                self.line(format!("  known: {}", page.display()));
            }
            Finding::Gone { page } => {
                self.line("  the kernel that was known to be wrong here told everything");
                self.line(format!("  the page has to be revised: {}", page.display()));
            }
            Finding::CouldNotRun { why } | Finding::Skipped { why } => {
                self.lines("  ", why.lines());
            }
        }
    }

    fn log(&mut self, log: &[String]) {
        let skipped = log.len().saturating_sub(4 * SHOWN);
        self.lines("    | ", log.iter().take(4 * SHOWN).map(String::as_str));
        if skipped > 0 {
            self.line(format!("    | … {skipped} more lines"));
        }
    }

    fn layer1(&mut self, verdict: &Verdict, layer1: &Layer1Verdict) {
        let head = format!(
            "  layer 1 differs: after {} of {} calls into tlbflush.c something else (+) followed than its model does (-)",
            layer1.differences.len(),
            layer1.checked
        );
        self.line(head);
        for difference in layer1.differences.iter().take(SHOWN) {
            self.layer1_difference(verdict, difference);
        }
        self.more(layer1.differences.len(), "calls");
    }

    fn layer1_difference(&mut self, verdict: &Verdict, difference: &Layer1Difference) {
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
            Colour::Dim,
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

    fn more(&mut self, all: usize, what: &str) {
        if all > SHOWN {
            self.line(format!("    … {} more {what}", all - SHOWN));
        }
    }

    fn layer2(&mut self, verdict: &Verdict, diff: &Diff, hints: &[Hint]) {
        let is_layer1 = |finding: &Finding| matches!(finding, Finding::Layer1(_));
        let whose = match verdict.checked {
            0 => "layer 2 differs (layer 1 had no call into tlbflush.c to check)",
            _ if verdict.findings.iter().any(is_layer1) => {
                "layer 2 differs, maybe only because layer 1 does"
            }
            _ => "layer 2 differs, layer 1 agrees: the mm core, or the model of it",
        };
        self.line(format!("  {whose}"));
        if let Some([release, nearest]) = hints.first().map(|hint| &hint.releases) {
            let not_read = format!(
                "  the model was not read for Linux {release} but for {nearest}: what changed \
                 since may be right"
            );
            self.line(not_read);
        }
        for (number, step) in diff.steps.iter().take(SHOWN).enumerate() {
            self.step(verdict, step);
            if let Some(hint) = hints.get(number) {
                self.hint(hint);
            }
        }
        self.more(diff.steps.len(), "steps");
    }

    /// What may explain that the model is wrong.
    fn hint(&mut self, hint: &Hint) {
        let nearest = &hint.releases[1];
        let more = match hint.more {
            0 => String::new(),
            more => format!(" and {more} more (tlbdiff drift tells them all)"),
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

    fn step(&mut self, verdict: &Verdict, step: &StepDiff) {
        let scenario = &verdict.scenario;
        if let Some(written) = scenario.steps.get(step.step) {
            let at = format!("{}:{}", scenario.path.display(), written.line);
            self.line(format!("  step {}, {at}:", step.step + 1));
            self.line(format!(
                "      {}",
                self.coloured(Colour::Bold, &written.source)
            ));
        }
        self.drawing(verdict, step.step);
        self.line(format!(
            "    {} what the model expects, {} what the kernel did",
            self.coloured(Colour::Red, "-"),
            self.coloured(Colour::Green, "+")
        ));
        self.step_changes(step);
        self.calls_behind(verdict, step.step);
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
        let named = scenario.steps.get(step).and_then(|step| extent(&step.op));
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
            for line in draw(named, &rows) {
                self.line(format!("      {line}"));
            }
        }
    }

    fn step_changes(&mut self, step: &StepDiff) {
        let lines = |side: &Option<text::StepText>| -> Vec<String> {
            side.iter()
                .flat_map(text::StepText::all_lines)
                .map(str::to_owned)
                .collect()
        };
        self.changes("    ", &lines(&step.expected), &lines(&step.told));
    }

    fn changes(&mut self, indent: &str, expected: &[String], told: &[String]) {
        let (expected, told): (Vec<&str>, Vec<&str>) = (
            expected.iter().map(String::as_str).collect(),
            told.iter().map(String::as_str).collect(),
        );
        for change in TextDiff::from_slices(&expected, &told).iter_all_changes() {
            let line = change.value();
            self.line(match change.tag() {
                ChangeTag::Equal => format!("{indent}  {line}"),
                ChangeTag::Delete => self.coloured(Colour::Red, &format!("{indent}- {line}")),
                ChangeTag::Insert => self.coloured(Colour::Green, &format!("{indent}+ {line}")),
            });
        }
    }

    fn calls_behind(&mut self, verdict: &Verdict, step: usize) {
        let Some(step) = verdict
            .observation
            .as_ref()
            .and_then(|observation| observation.steps.get(step))
        else {
            return;
        };
        let mut behind: Vec<(u64, String)> = step
            .calls
            .iter()
            .map(|call| (call.seq, call_in_a_line(&verdict.scenario, call)))
            .collect();
        behind.extend(
            step.context
                .iter()
                .map(|event| (event.seq, context_in_a_line(&verdict.scenario, event))),
        );
        // Where only the accepted text was kept there is nothing more to tell.
        behind.retain(|(seq, _)| *seq != 0);
        if behind.is_empty() {
            return;
        }
        behind.sort();
        self.line("    the kernel calls behind it, by their number in the trace:");
        for (seq, line) in behind.iter().take(4 * SHOWN) {
            self.line(format!("      #{seq} {line}"));
        }
        if behind.len() > 4 * SHOWN {
            self.line(format!("      … {} more", behind.len() - 4 * SHOWN));
        }
    }

    fn uncovered(&mut self, verdict: &Verdict, uncovered: &[Uncovered], what: &str) {
        for lost in uncovered.iter().take(SHOWN) {
            let side = match lost.side {
                Side::Model => "by the model's own telling",
                Side::Kernel => "by the kernel",
            };
            let step = text::title(&verdict.scenario, lost.step);
            self.line(format!(
                "  {what}: {}pages {} lost their mapping, a right or their frame in step {step}, and secondary MMUs were not told {side}",
                text::whose(&verdict.scenario, Some(lost.mm)),
                text::range(lost.pages)
            ));
        }
        self.more(uncovered.len(), "ranges");
    }

    fn snapshot_changed(&mut self, diff: &Diff, pending: Option<&Path>) {
        self.line(format!(
            "  the kernel disagrees with the accepted snapshot ({} accepted, {} observed)",
            self.coloured(Colour::Red, "-"),
            self.coloured(Colour::Green, "+")
        ));
        for step in diff.steps.iter().take(SHOWN) {
            self.step_changes(step);
        }
        self.more(diff.steps.len(), "steps");
        self.proposed(pending);
    }

    fn snapshot_new(&mut self, verdict: &Verdict, pending: Option<&Path>) {
        self.line("  there is no accepted snapshot");
        if let Some(observation) = &verdict.observation {
            let text = text::of_observation(&verdict.scenario, observation).to_string();
            self.lines("    + ", text.lines());
        }
        self.proposed(pending);
    }

    fn proposed(&mut self, pending: Option<&Path>) {
        match pending {
            Some(pending) => {
                self.line(format!(
                    "  proposed: {} (accept it with `cargo insta review`)",
                    pending.display()
                ));
            }
            None => self.line("  run it on a kernel to get one: --backend guest"),
        }
    }

    fn varies(&mut self, counts: &[u32], diff: &Diff) {
        let counts: Vec<String> = counts.iter().map(u32::to_string).collect();
        self.line(format!(
            "  the result varies: {} times (most frequent against next)",
            counts.join(", ")
        ));
        for step in diff.steps.iter().take(SHOWN) {
            self.step_changes(step);
        }
        self.more(diff.steps.len(), "steps");
    }

    fn summary(mut self, head: &str, summary: &Summary) -> String {
        let mut told: Vec<String> = Vec::new();
        for (&outcome, &count) in summary.counts.iter().filter(|count| *count.1 > 0) {
            told.push(self.coloured(colour_of(outcome), &format!("{count} {}", outcome.name())));
        }
        if summary.not_run > 0 {
            told.push(self.coloured(Colour::Yellow, &format!("{} not run", summary.not_run)));
        }
        if let Some(why) = &summary.stopped {
            self.lines("", format!("stopped: {why}").lines());
        }
        let mut line = if told.is_empty() {
            "nothing to run".to_owned()
        } else {
            told.join(", ")
        };
        let _ = write!(
            line,
            "; {} calls into tlbflush.c checked; {}",
            summary.checked,
            seconds(summary.elapsed)
        );
        if let Some(first) = summary.first_verdict {
            let _ = write!(line, ", the first verdict after {}", seconds(first));
        }
        self.line(format!("{head}{line}"));
        self.text
    }
}

/// What two kernels do differently, for people.
pub(super) fn comparison(style: &Style, names: &[String; 2], comparison: &Comparison) -> String {
    let page = Page {
        style,
        text: String::new(),
    };
    page.comparison(names, comparison)
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn colour_of(outcome: Outcome) -> Colour {
    match outcome {
        Outcome::Agree => Colour::Green,
        Outcome::Known
        | Outcome::Skipped
        | Outcome::CouldNotRun
        | Outcome::ModelNotRead
        | Outcome::SnapshotNew => Colour::Yellow,
        Outcome::SnapshotChanged
        | Outcome::Varies
        | Outcome::FindingGone
        | Outcome::Differs
        | Outcome::Unsafe
        | Outcome::ProgramCorrupted
        | Outcome::KernelCrashed => Colour::Red,
    }
}
