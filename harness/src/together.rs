// SPDX-License-Identifier: GPL-2.0-only
//! Steps that are begun at the same moment: which of the orders that the model allows agree with
//! what was seen. What is predicted for the steps after them goes on from there.
//!
//! An order agrees where each step came to what it says, and page tables hold what it says
//! afterwards. Calls and notifications come in no order; layer 1 and the device check judge them.

use crate::backend::Observed;
use crate::checks::called;
use crate::checks::tables::Compared;
use crate::convert::to_model;
use crate::observe::ObservedStep;
use crate::scenario::Scenario;
use crate::scenario::describe::describe;
use crate::steps::is_access;
use reference_model::{
    Machine, Moment, Order, Prediction, Profile, StepPrediction, StepResult, Tables, predict_orders,
};
use std::collections::BTreeMap;

/// How often steps at a line of the scenario were done in which order.
pub type Orders = BTreeMap<usize, BTreeMap<String, usize>>;

/// What is predicted, by orders that agree with what was seen.
pub fn choose(
    profile: &Profile,
    machine: &Machine,
    scenario: &Scenario,
    observed: &Observed,
) -> (Prediction, Tables, Vec<Order>) {
    let walked = observed.device.as_ref().map(|device| &device.walked);
    let mut agrees = |compared: &mut Compared, moment: &Moment<'_>| {
        let seen = observed.observation.steps.iter().skip(moment.first);
        let mut pairs = moment.steps.iter().zip(seen).enumerate();
        let same = pairs.all(|(number, (expected, seen))| {
            same_step(scenario, moment.first + number, expected, seen)
        });
        let last = moment.first + moment.steps.len() - 1;
        // All are compared, for what is compared next is compared with it.
        let unborn = |step: &StepPrediction| step.result == StepResult::Unborn;
        let held = match walked {
            Some(walked) if !moment.steps.iter().all(unborn) => {
                compared.same(moment.tables, walked, last)
            }
            _ => true,
        };
        same && held
    };
    predict_orders(profile, machine, &to_model(scenario), &mut agrees)
}

fn same_step(
    scenario: &Scenario,
    number: usize,
    expected: &StepPrediction,
    seen: &ObservedStep,
) -> bool {
    let access = scenario.program.steps.get(number);
    let access = access.is_some_and(|step| is_access(&step.op));
    let free = access || matches!(seen.result, StepResult::Saw { .. });
    let together = scenario.program.group_of(number).is_some();
    let called = seen.calls.iter().filter_map(called);
    let calls = || {
        let expected = expected.calls.iter().map(|call| (call.mm, call.entry));
        expected.eq(called)
    };
    (free || expected.result == seen.result) && (together || calls())
}

/// Orders in the scenario's words, by line.
pub fn named(scenario: &Scenario, orders: &[Order]) -> Orders {
    let mut named = Orders::new();
    for order in orders {
        let line = scenario.written.get(order.first).map_or(0, |it| it.line);
        let count = named.entry(line).or_default().entry(name(scenario, order));
        *count.or_default() += 1;
    }
    named
}

fn name(scenario: &Scenario, order: &Order) -> String {
    let first = order.steps.as_ref().and_then(|steps| steps.first());
    let first = first.and_then(|step| scenario.program.steps.get(*step));
    match first {
        _ if !order.agrees && order.all_known => "in no order".to_owned(),
        _ if !order.agrees => "in parts".to_owned(),
        Some(step) => {
            let described = describe(scenario, step);
            let operation = described.split(' ').next().unwrap_or_default().to_owned();
            match step.by {
                0 => format!("{operation} first"),
                by => format!("{operation} by {} first", scenario.actors[by]),
            }
        }
        None => "either first".to_owned(),
    }
}

/// Those of two runs.
pub fn both(one: &Orders, other: &Orders) -> Orders {
    let mut both = one.clone();
    for (line, counts) in other {
        let of_line = both.entry(*line).or_default();
        for (order, count) in counts {
            *of_line.entry(order.clone()).or_default() += count;
        }
    }
    both
}

/// What was seen how often, a line for each place: `line 12: touch first 7 of 20, …`.
pub fn lines(orders: &Orders) -> Vec<String> {
    let told = orders.iter().map(|(line, counts)| {
        let all: usize = counts.values().sum();
        let mut counts: Vec<(&String, &usize)> = counts.iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let counts = counts
            .iter()
            .map(|(order, count)| format!("{count} {order}"));
        let counts: Vec<String> = counts.collect();
        format!("line {line}, {all} times at once: {}", counts.join(", "))
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_runs_are_added_up_and_the_most_frequent_is_told_first() {
        let of = |counts: &[(&str, usize)]| -> Orders {
            let counts = counts
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count));
            [(9, counts.collect())].into()
        };
        let both = both(
            &of(&[("touch first", 2), ("munmap first", 3)]),
            &of(&[("touch first", 4)]),
        );
        assert_eq!(
            lines(&both),
            ["line 9, 9 times at once: 6 touch first, 3 munmap first"]
        );
    }
}
