// SPDX-License-Identifier: GPL-2.0-only
//! What the kernel did, a line each.

use crate::observe::{ObservedCall, RangeEvent};
use crate::scenario::Scenario;
use crate::text;
use reference_model::MmId;

pub(super) fn call_in_a_line(scenario: &Scenario, call: &ObservedCall) -> String {
    let entry = text::call(scenario, call.mm, call.entry);
    let name = |mm| text::mm_name(scenario, mm);
    let effects = call.effects.iter();
    let effects: Vec<String> = effects.map(|effect| text::effect(effect, &name)).collect();
    match effects.is_empty() {
        true => format!("{entry}: no notification"),
        false => format!("{entry}: {}", effects.join(", ")),
    }
}

/// What an mm is called by the trace's own numbers.
pub(super) fn traced_mm(mm: Option<MmId>) -> String {
    mm.map_or_else(|| text::ANOTHER_MM.to_owned(), |mm| format!("mm {mm}"))
}

/// `enum mmu_notifier_event`.
const EVENTS: [&str; 8] = [
    "unmap",
    "clear",
    "protection vma",
    "protection page",
    "soft dirty",
    "release",
    "migrate",
    "exclusive",
];

pub(super) fn context_in_a_line(scenario: &Scenario, event: &RangeEvent) -> String {
    let name = if event.start {
        "invalidate_range_start"
    } else {
        "invalidate_range_end"
    };
    let why = usize::try_from(event.event)
        .ok()
        .and_then(|number| EVENTS.get(number));
    let why = why.map_or_else(|| format!("event {}", event.event), |why| (*why).to_owned());
    let whose = text::whose(scenario, Some(event.mm));
    format!("{whose}{name} {} ({why})", text::range(event.range))
}
