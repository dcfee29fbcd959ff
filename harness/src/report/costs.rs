// SPDX-License-Identifier: GPL-2.0-only
//! What `tlbdiff cost` prints.

use crate::cost::{OperationCost, SUBSCRIBERS, ScenarioCost, StepCost, Unit};
use crate::report::line::SCHEMA;
use protocol::message::Count;
use serde_json::{Value, json};
use std::fmt::Write;

/// Tables for people, of a kernel: one for each unit.
pub fn tables(kernel: &str, costs: &[OperationCost]) -> String {
    let mut text = String::new();
    if costs.is_empty() {
        let _ = writeln!(text, "{kernel}: no step notified secondary MMUs");
    }
    for costs in costs.chunk_by(|one, next| one.unit == next.unit) {
        let _ = writeln!(text, "{kernel}, in {}:", costs[0].unit.name());
        let _ = writeln!(
            text,
            "{:<26} {:>5} {:>8} {:>8} {:>8} {:>8} {:>9} {:>7} {:>7} {:>7}",
            "operation",
            "steps",
            "notified",
            "pages",
            "needless",
            "whole mm",
            "a step",
            "first",
            "further",
            "share"
        );
        costs.iter().for_each(|cost| row(&mut text, cost));
    }
    text
}

fn row(text: &mut String, cost: &OperationCost) {
    let _ = writeln!(
        text,
        "{:<26} {:>5} {:>8} {:>8} {:>7.0}% {:>8} {:>9} {:>7.0} {:>7.0} {:>6.1}%",
        cost.operation,
        cost.steps,
        cost.notifications,
        cost.notified.pages,
        100.0 * cost.notified.needless as f64 / cost.notified.pages.max(1) as f64,
        cost.notified.whole,
        rounded(cost.step),
        cost.first,
        cost.further,
        cost.share * 100.0
    );
}

/// To two digits: the third is not the same after each boot.
fn rounded(figure: f64) -> u64 {
    let figure = figure.round().max(0.0) as u64;
    let unit = 10_u64.pow(figure.checked_ilog10().unwrap_or(0).saturating_sub(1));
    (figure + unit / 2) / unit * unit
}

/// A line for programs, of a scenario.
pub fn scenario(kernel: &str, cost: &ScenarioCost) -> Value {
    json!({
        "type": "cost",
        "schema": SCHEMA,
        "kernel": kernel,
        "name": cost.name,
        "subscribers": SUBSCRIBERS,
        "steps": cost.steps.iter().map(step).collect::<Vec<_>>(),
    })
}

fn step(step: &StepCost) -> Value {
    let list = |field: fn(&Count) -> u64| {
        let counts: Vec<u64> = step.counts.iter().map(field).collect();
        // What does not count stands still.
        counts.iter().any(|count| *count > 0).then_some(counts)
    };
    json!({
        "step": step.step + 1,
        "operation": step.operation,
        "notifications": step.notifications,
        "pages": step.notified.map(|notified| notified.pages),
        "needless": step.notified.map(|notified| notified.needless),
        "whole": step.notified.map(|notified| notified.whole),
        "whole_needless": step.notified.map(|notified| notified.whole_needless),
        "instructions": list(|count| count.instructions),
        "cycles": list(|count| count.cycles),
        "nanoseconds": list(|count| count.nanoseconds),
    })
}

/// A line for programs, of an operation.
pub fn operation(kernel: &str, cost: &OperationCost) -> Value {
    json!({
        "type": "operation_cost",
        "schema": SCHEMA,
        "kernel": kernel,
        "operation": cost.operation,
        "steps": cost.steps,
        "notifications": cost.notifications,
        "pages": cost.notified.pages,
        "needless": cost.notified.needless,
        "whole": cost.notified.whole,
        "whole_needless": cost.notified.whole_needless,
        "unit": cost.unit.name(),
        "step": cost.step,
        "first": cost.first,
        "further": cost.further,
        "share": cost.share,
    })
}

/// What is worth saying of the unit.
pub fn note(costs: &[OperationCost]) -> Option<&'static str> {
    let timed = costs.iter().any(|cost| cost.unit == Unit::Nanoseconds);
    timed.then_some(
        "the machine's counters of cycles and instructions do not count for the kernel: \
         time by the kernel's clock is given instead",
    )
}
