// SPDX-License-Identifier: GPL-2.0-only
//! For people: a line for each scenario, and when all are judged those that do not agree, by
//! what they have in common.

use super::groups::{Group, Groups};
use super::page::{Page, is_to_be_looked_at};
use super::style::{self, Style};
use crate::compare::{Class, Comparison};
use crate::device::Notified;
use crate::event::{Event, Reporter, Start, Summary};
use crate::outcome::Outcome;
use crate::verdict::Verdict;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

/// Most failures of one cause whose names are told.
const NAMED: usize = 12;

/// Prints for people.
pub struct Human<W: Write> {
    out: W,
    style: Style,
    bar: ProgressBar,
    several: bool,
    /// All about each failure is told as it comes.
    at_once: bool,
    groups: Groups,
    /// How many scenarios came to what a page documents, by that.
    known: BTreeMap<String, usize>,
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
            at_once: style.verbose,
            style,
            several: false,
            bar: ProgressBar::with_draw_target(None, target),
            groups: Groups::default(),
            known: BTreeMap::new(),
        }
    }

    fn print(&mut self, text: &str) -> io::Result<()> {
        let Human { out, bar, .. } = self;
        bar.suspend(|| out.write_all(text.as_bytes()).and_then(|()| out.flush()))
    }

    fn started(&mut self, start: &Start) -> io::Result<()> {
        self.style.rerun = start.rerun.clone();
        self.several = start.several;
        // Of a single one there is nothing to be put together.
        self.at_once = self.style.verbose || start.scenarios == 1;
        self.groups = Groups::default();
        if start.several {
            let line = format!(
                "kernel {}, model profile {}:\n",
                start.kernel, start.profile
            );
            self.print(&line)?;
        }
        if let Some(secondary) = &start.secondary {
            self.print(&format!("with a real secondary MMU: {secondary}\n"))?;
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
        let outcome = verdict.outcome();
        let fails = is_to_be_looked_at(outcome);
        if fails {
            self.groups.add(verdict);
        }
        let known = outcome == Outcome::Known;
        if known {
            let why = verdict.worst().map(|finding| finding.why.clone());
            *self.known.entry(why.unwrap_or_default()).or_default() += 1;
        }
        // All about it is said at the end, with those of the same cause, or on its page.
        let later = (fails || known) && !self.at_once;
        if self.style.quiet && (outcome == Outcome::Agree || later) {
            return Ok(());
        }
        let mut page = Page::new(&self.style);
        let text = match later {
            true => {
                page.head(verdict);
                page.finish()
            }
            false => page.verdict(verdict),
        };
        self.print(&text)
    }

    fn finished(&mut self, summary: &Summary) -> io::Result<()> {
        self.bar.finish_and_clear();
        let mut text = String::new();
        for group in std::mem::take(&mut self.groups).into_sorted() {
            text.push_str(&of_group(&self.style, &group, self.at_once));
        }
        for (why, count) in std::mem::take(&mut self.known) {
            if !self.at_once {
                let _ = writeln!(text, "{count} {why}");
            }
        }
        text.push_str(&of_summary(&self.style, "", summary));
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
            let head = format!("{kernel:width$}  ");
            self.print(&of_summary(&self.style, &head, summary))?;
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

/// Failures of one cause: what it is, the smallest of them whole, unless all are told, and the
/// others by name.
fn of_group(style: &Style, group: &Group, told: bool) -> String {
    let mut page = Page::new(style);
    let mut text = String::new();
    let count = group.names.len();
    if count > 1 {
        let worst = page.coloured(style::of_outcome(group.outcome), group.outcome.name());
        let what = format!(
            "{count} with one cause, {worst} at the worst: {}",
            group.cause
        );
        page.line(what);
    }
    text.push_str(&page.finish());
    if !told {
        let smallest = Page::new(style).verdict(&group.smallest);
        text.push_str(&match count {
            1 => smallest,
            _ => smallest.trim_end().to_owned() + "\n",
        });
    }
    if count > 1 {
        text.push_str(&others(style, group));
    }
    text
}

fn others(style: &Style, group: &Group) -> String {
    let own = &group.smallest.scenario.name;
    let others: Vec<&str> = group
        .names
        .iter()
        .filter(|name| *name != own)
        .map(String::as_str)
        .collect();
    let named = others[..others.len().min(NAMED)].join(", ");
    let more = match others.len().saturating_sub(NAMED) {
        0 => String::new(),
        more if style.verbose => format!(" and {more} more"),
        more => format!(" and {more} more (--verbose prints all of each)"),
    };
    format!("  the others: {named}{more}\n\n")
}

fn of_summary(style: &Style, head: &str, summary: &Summary) -> String {
    let mut page = Page::new(style);
    let mut told: Vec<String> = Vec::new();
    for (&outcome, &count) in summary.counts.iter().filter(|count| *count.1 > 0) {
        told.push(page.coloured(
            style::of_outcome(outcome),
            &format!("{count} {}", outcome.name()),
        ));
    }
    if summary.not_run > 0 {
        told.push(page.coloured(style::YELLOW, &format!("{} not run", summary.not_run)));
    }
    if let Some(why) = &summary.stopped {
        page.lines("", format!("stopped: {why}").lines());
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
    page.line(format!("{head}{line}"));
    page.finish()
}

/// What two kernels do differently, for people.
pub(super) fn comparison(style: &Style, names: &[String; 2], comparison: &Comparison) -> String {
    let class = comparison.class;
    let colour = match class {
        Class::Same => style::GREEN,
        Class::Calls | Class::CouldNotRun => style::YELLOW,
        Class::Notifications => style::RED,
    };
    let scenario = &comparison.scenario;
    let mut page = Page::new(style);
    let name = page.coloured(colour, &format!("{:<21}", class.name()));
    page.line(format!("{name} {}", scenario.path.display()));
    let [one, other] = names;
    if !comparison.diff.steps.is_empty() {
        let minus = page.coloured(style::RED, "-");
        let plus = page.coloured(style::GREEN, "+");
        page.line(format!("  {minus} {one}, {plus} {other}"));
    }
    page.steps_of_kernels(scenario, &comparison.diff);
    if let [Some(before), Some(after)] = comparison.notified
        && (before.needless, before.whole_needless) != (after.needless, after.whole_needless)
    {
        page.line(format!(
            "  notified with nothing to lose: {} → {}",
            needless(&before),
            needless(&after)
        ));
    }
    let verdict = Verdict::new(scenario);
    for (side, finding) in &comparison.findings {
        page.line(format!("  on {}:", names[*side]));
        page.finding(&verdict, finding);
    }
    if class != Class::Same {
        let line = page.coloured(style::BOLD, &style.rerun.line(&verdict));
        page.line(format!("  compare just this: {line}"));
        page.line("");
    }
    page.finish()
}

fn needless(notified: &Notified) -> String {
    format!(
        "{} of {} pages, and {} of {} times the whole mm",
        notified.needless, notified.pages, notified.whole_needless, notified.whole
    )
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
