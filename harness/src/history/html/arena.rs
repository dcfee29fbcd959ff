// SPDX-License-Identifier: GPL-2.0-only
//! The steps of a scenario, each with the arena: what model and kernel notified secondary
//! MMUs, which pages were lost, and which a device could still reach.

use crate::report::line;
use maud::{Markup, html};
use operations::{ARENA_BASE, ARENA_PAGES, PAGE_SIZE};
use std::collections::BTreeSet;

/// Most steps that are drawn.
const STEPS: usize = 200;
/// The page's units.
const WIDTH: u64 = 720;
const LABELS: u64 = 150;
const LANE: u64 = 16;
const BAR: u64 = 12;
/// Room for a number on the axis.
const NUMBER: u64 = 40;
/// Pages around those that are named show what was not notified.
const AROUND: u64 = 2;

/// A range in pages of the arena, or all of an address space.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Pages(u64, u64),
    Everything,
}

/// A row of a drawing.
struct Lane {
    class: &'static str,
    label: String,
    told: Vec<Extent>,
}

/// All steps of a result.
pub(super) fn steps(line: &line::Scenario) -> Markup {
    let steps = &line.steps;
    let reached: Vec<&line::Reached> = reached(line).collect();
    html! {
        ol { @for step in steps.iter().take(STEPS) { (self::step(&line.mms, step, &reached)) } }
        @if steps.len() > STEPS { p.dim { "and " (steps.len() - STEPS) " more steps" } }
    }
}

/// What a device could reach and must not, by whichever finding.
fn reached(line: &line::Scenario) -> impl Iterator<Item = &line::Reached> {
    let blocks = line.findings.iter().flat_map(|finding| &finding.blocks);
    blocks.flat_map(|block| match block {
        line::Block::Reached { reached } => reached.as_slice(),
        _ => &[],
    })
}

fn step(mms: &[String], step: &line::Step, reached: &[&line::Reached]) -> Markup {
    let of_step = reached.iter().filter(|one| one.step == step.step);
    let reached: Vec<&line::Reached> = of_step.copied().collect();
    let lanes = lanes(mms, step, &reached);
    let named = step.pages.iter().map(|[start, end]| (*start, *end));
    html! {
        li {
            code { (step.operation) }
            @if lanes.iter().any(|lane| !lane.told.is_empty()) {
                (draw(named.collect(), &lanes))
            } @else {
                span.dim { " – no notification" }
            }
        }
    }
}

/// Both sides of each mm of which something was notified, lost, or reached.
fn lanes(mms: &[String], step: &line::Step, reached: &[&line::Reached]) -> Vec<Lane> {
    let model = step.model.as_ref();
    let kernel = step.kernel.as_ref();
    let sides = [
        ("model", told(model.map_or(&[], |step| &step.calls))),
        ("kernel", told(kernel.map_or(&[], |step| &step.calls))),
    ];
    let lost = model.map_or(&[][..], |step| &step.lost);
    let mut touched: BTreeSet<u64> = BTreeSet::new();
    for (_, told) in &sides {
        touched.extend(told.iter().filter_map(|(mm, _)| *mm));
    }
    touched.extend(lost.iter().map(|lost| lost.mm as u64));
    touched.extend(reached.iter().map(|one| one.mm as u64));
    let mut lanes = Vec::new();
    for mm in touched {
        let name = usize::try_from(mm).ok().and_then(|index| mms.get(index));
        let whose = match name {
            Some(name) if mms.len() > 1 => format!(" {name}"),
            _ => String::new(),
        };
        for (side, told) in &sides {
            let own = told.iter().filter(|(of, _)| *of == Some(mm));
            lanes.push(Lane {
                class: side,
                label: format!("{side}{whose}"),
                told: own.map(|(_, extent)| *extent).collect(),
            });
        }
        let own = lost.iter().filter(|lost| lost.mm as u64 == mm);
        let lost: Vec<Extent> = own.filter_map(|lost| extent(&lost.range)).collect();
        let own = reached.iter().filter(|one| one.mm as u64 == mm);
        let reached: Vec<Extent> = own.filter_map(|one| extent(&one.range)).collect();
        let rows = [("lost", lost), ("device", reached)].into_iter();
        let rows = rows.filter(|(_, told)| !told.is_empty());
        lanes.extend(rows.map(|(class, told)| Lane {
            class,
            label: format!("{class}{whose}"),
            told,
        }));
    }
    lanes
}

/// What a side notified, each of the mm that the notification is about. Lines that were kept
/// earlier have not said so: it is the call's then.
fn told(calls: &[line::Call]) -> Vec<(Option<u64>, Extent)> {
    let mut told = Vec::new();
    for call in calls {
        for effect in &call.effects {
            let mm = effect.mm.or(call.mm.map(|mm| mm as u64));
            let range = effect.range.as_ref().and_then(extent);
            told.extend(range.map(|extent| (mm, extent)));
        }
    }
    told
}

/// In pages of the arena, as much of it as lies there.
fn extent(range: &line::Range) -> Option<Extent> {
    let bytes = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let (start, end) = (bytes(&range.start)?, bytes(&range.end)?);
    if (start, end) == (0, u64::MAX) {
        return Some(Extent::Everything);
    }
    let start = start.saturating_sub(ARENA_BASE) / PAGE_SIZE;
    let end = end
        .saturating_sub(ARENA_BASE)
        .div_ceil(PAGE_SIZE)
        .min(ARENA_PAGES);
    (start < end).then_some(Extent::Pages(start, end))
}

/// The part of the arena that is drawn.
struct Window {
    first: u64,
    last: u64,
}

impl Window {
    fn around(spans: &[(u64, u64)]) -> Window {
        let first = spans.iter().map(|span| span.0).min().unwrap_or(0);
        let last = spans.iter().map(|span| span.1).max().unwrap_or(1);
        Window {
            first: first.saturating_sub(AROUND),
            last: (last + AROUND).min(ARENA_PAGES),
        }
    }

    /// Where a page begins; at least a unit wide is what is notified.
    fn x(&self, page: u64) -> u64 {
        let page = page.clamp(self.first, self.last) - self.first;
        LABELS + page * (WIDTH - LABELS - NUMBER) / (self.last - self.first).max(1)
    }

    fn bar(&self, extent: Extent) -> (u64, u64) {
        let (start, end) = match extent {
            Extent::Everything => (self.first, self.last),
            Extent::Pages(start, end) => (start, end),
        };
        let x = self.x(start);
        (x, (self.x(end) - x).max(1))
    }
}

fn draw(named: Vec<(u64, u64)>, lanes: &[Lane]) -> Markup {
    let told = lanes.iter().flat_map(|lane| &lane.told);
    let spans: Vec<(u64, u64)> = told
        .filter_map(|extent| match extent {
            Extent::Pages(start, end) => Some((*start, *end)),
            Extent::Everything => None,
        })
        .chain(named)
        .collect();
    let window = Window::around(&spans);
    let height = LANE * (lanes.len() as u64 + 1);
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {height}")) width=(WIDTH) height=(height) role="img" {
            @for (page, x) in axis(&window, &spans) { text.axis x=(x) y="11" { (page) } }
            @for (lane, row) in lanes.iter().zip(1..) { (self::lane(&window, lane, row)) }
        }
    }
}

fn lane(window: &Window, lane: &Lane, row: u64) -> Markup {
    let y = row * LANE;
    let (left, width) = window.bar(Extent::Everything);
    html! {
        text x="0" y=(y + BAR - 2) { (lane.label) }
        rect.lane x=(left) y=(y) width=(width) height=(BAR) {}
        @for extent in &lane.told {
            @let (x, width) = window.bar(*extent);
            rect class=(lane.class) x=(x) y=(y) width=(width) height=(BAR) {
                @match extent {
                    Extent::Everything => title { "whole mm" },
                    Extent::Pages(start, end) => title { "[" (start) "," (end) ")" },
                }
            }
        }
        @if lane.told.contains(&Extent::Everything) {
            text x=(left + width + 4) y=(y + BAR - 2) { "all" }
        }
    }
}

/// Where something begins or ends, as far as the numbers have room.
fn axis(window: &Window, spans: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let pages: BTreeSet<u64> = spans.iter().flat_map(|span| [span.0, span.1]).collect();
    let mut free = 0;
    let mut axis = Vec::new();
    for page in pages {
        let x = window.x(page);
        if x >= free {
            axis.push((page, x));
            free = x + 8 * (page.checked_ilog10().unwrap_or(0) as u64 + 1) + 4;
        }
    }
    axis
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> line::Range {
        let byte = |page: u64| format!("{:#x}", ARENA_BASE + page * PAGE_SIZE);
        line::Range {
            pages: format!("[{start},{end})"),
            start: byte(start),
            end: byte(end),
        }
    }

    fn call(range: line::Range) -> Vec<line::Call> {
        let effect = line::Effect {
            range: Some(range),
            ..line::Effect::default()
        };
        vec![line::Call {
            mm: Some(0),
            effects: vec![effect],
            ..line::Call::default()
        }]
    }

    #[test]
    fn both_sides_and_what_was_lost_are_drawn() {
        let all = line::Range {
            start: "0x0".to_owned(),
            end: "0xffffffffffffffff".to_owned(),
            ..line::Range::default()
        };
        let step = line::Step {
            operation: "munmap [4,6)".to_owned(),
            pages: vec![[4, 6]],
            model: Some(line::ModelStep {
                calls: call(range(4, 6)),
                lost: vec![line::Lost {
                    mm: 0,
                    range: range(4, 6),
                }],
                ..line::ModelStep::default()
            }),
            kernel: Some(line::KernelStep {
                calls: call(all),
                ..line::KernelStep::default()
            }),
            ..line::Step::default()
        };
        let drawn = self::step(&["subject".to_owned()], &step, &[]).into_string();
        for part in [
            "munmap [4,6)",
            "class=\"model\"",
            "[4,6)",
            "whole mm",
            "class=\"lost\"",
        ] {
            assert!(drawn.contains(part), "{part} in {drawn}");
        }
    }

    #[test]
    fn what_a_device_reaches_has_a_row_in_its_step_alone() {
        let reached = line::Reached {
            step: 2,
            range: range(3, 7),
            ..line::Reached::default()
        };
        let drawn = |number: usize| {
            let step = line::Step {
                step: number,
                ..line::Step::default()
            };
            self::step(&["subject".to_owned()], &step, &[&reached]).into_string()
        };
        let second = drawn(2);
        assert!(second.contains("class=\"device\""), "{second}");
        assert!(second.contains("[3,7)"), "{second}");
        assert!(drawn(1).contains("no notification"));
    }

    #[test]
    fn silence_is_told_in_words() {
        let step = line::Step {
            operation: "touch <a>".to_owned(),
            model: Some(line::ModelStep::default()),
            ..line::Step::default()
        };
        let drawn = self::step(&["subject".to_owned()], &step, &[]).into_string();
        assert!(drawn.contains("no notification") && !drawn.contains("<svg"));
        assert!(drawn.contains("&lt;a&gt;"));
    }
}
