// SPDX-License-Identifier: GPL-2.0-only
//! What a notification costs: the same steps with more and more subscribers that do
//! nothing. `harness/COST.md` says what is counted, and what that does not say.

use crate::backend::Backend;
use crate::report::test::name;
use crate::scenario::Scenario;
use crate::scenario::describe::operation;
use crate::verdict::Finding;
use protocol::message::{Count, Report};
use protocol::program::Op;
use std::collections::BTreeMap;

/// How many subscribers there are, each time.
pub const SUBSCRIBERS: [u32; 4] = [0, 1, 4, 16];

/// In what costs are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// Instructions of the hart.
    Instructions,
    /// Nanoseconds by the kernel's clock: the machine does not tell the other.
    Nanoseconds,
}

impl Unit {
    /// As people and programs read it.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Instructions => "instructions",
            Unit::Nanoseconds => "nanoseconds",
        }
    }

    /// The same where there is little room.
    pub fn short(self) -> &'static str {
        match self {
            Unit::Instructions => "insns",
            Unit::Nanoseconds => "ns",
        }
    }
}

/// A step, the least of all rounds with each number of subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepCost {
    /// Its place in the scenario, from 0.
    pub step: usize,
    /// Its kind.
    pub operation: String,
    /// How often secondary MMUs were told.
    pub notifications: u64,
    /// What was counted, in the order of [`SUBSCRIBERS`].
    pub counts: [Count; SUBSCRIBERS.len()],
}

/// A scenario's steps, but for those that end in another process than they began in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioCost {
    /// The scenario's name.
    pub name: String,
    /// Its steps.
    pub steps: Vec<StepCost>,
}

/// Counts a scenario.
///
/// # Errors
/// It cannot be run there, and why.
pub fn measure(
    scenario: &Scenario,
    backend: &mut dyn Backend,
    rounds: u32,
) -> Result<ScenarioCost, Finding> {
    backend.prepare(scenario)?;
    let mut steps: Vec<StepCost> = countable(scenario).collect();
    for round in 0..rounds {
        for place in order(round as usize) {
            let report = backend.count(scenario, SUBSCRIBERS[place])?;
            check_whole(scenario, &report)?;
            for step in &mut steps {
                step.take(place, report.step_counts[step.step], round == 0);
            }
        }
    }
    Ok(ScenarioCost {
        name: name(&scenario.path),
        steps,
    })
}

/// In which order numbers of subscribers take their turns. What one run leaves in the
/// allocators' caches is what the next one finds, so none comes behind the same each time.
fn order(round: usize) -> [usize; SUBSCRIBERS.len()] {
    let many = SUBSCRIBERS.len();
    // Odd, so that each has its turn.
    let stride = 1 + round / many * 2;
    std::array::from_fn(|turn| (turn * stride + round) % many)
}

fn check_whole(scenario: &Scenario, report: &Report) -> Result<(), Finding> {
    let (done, all) = (report.step_counts.len(), scenario.steps.len());
    if done == all {
        return Ok(());
    }
    let why = format!("the subject ended after {done} of {all} steps");
    Err(Finding::CouldNotRun { why })
}

fn countable(scenario: &Scenario) -> impl Iterator<Item = StepCost> {
    let elsewhere = |op: &Op| matches!(op, Op::Exec { .. } | Op::Exit | Op::Run);
    let steps = scenario.steps.iter().enumerate();
    steps
        .filter(move |(_, step)| !elsewhere(&step.op))
        .map(|(step, written)| StepCost {
            step,
            operation: operation(scenario, &written.op),
            notifications: 0,
            counts: Default::default(),
        })
}

impl StepCost {
    /// Another count, of so many subscribers by their place; whether it is the first.
    fn take(&mut self, place: usize, count: Count, first: bool) {
        let least = &mut self.counts[place];
        *least = match first {
            true => count,
            false => Count {
                cycles: least.cycles.min(count.cycles),
                instructions: least.instructions.min(count.instructions),
                nanoseconds: least.nanoseconds.min(count.nanoseconds),
                calls: least.calls.min(count.calls),
            },
        };
        // A single subscriber is called once for each.
        self.notifications = self.counts[1].calls;
    }
}

/// What an operation's notifications cost, over all steps of its kind that notify.
#[derive(Clone, Debug, PartialEq)]
pub struct OperationCost {
    /// Its kind.
    pub operation: String,
    /// How many steps that is.
    pub steps: usize,
    /// How often secondary MMUs were told in them.
    pub notifications: u64,
    /// In what the rest is given.
    pub unit: Unit,
    /// What all of them cost, in the order of [`SUBSCRIBERS`].
    pub costs: [u64; SUBSCRIBERS.len()],
    /// What a notification costs more with one subscriber than with none.
    pub first: f64,
    /// What it costs more with each further one.
    pub further: f64,
    /// The first subscriber's share of what the steps cost with it.
    pub share: f64,
}

/// Adds them up by operation, those that notify.
pub fn by_operation(scenarios: &[ScenarioCost]) -> Vec<OperationCost> {
    let steps = || scenarios.iter().flat_map(|scenario| &scenario.steps);
    let counted = steps().any(|step| step.counts[0].instructions > 0);
    let unit = match counted {
        true => Unit::Instructions,
        false => Unit::Nanoseconds,
    };
    let mut kinds: BTreeMap<&str, Vec<&StepCost>> = BTreeMap::new();
    for step in steps().filter(|step| step.notifications > 0) {
        kinds.entry(&step.operation).or_default().push(step);
    }
    let costs = kinds.into_iter();
    costs
        .map(|(operation, steps)| OperationCost::of(operation, &steps, unit))
        .collect()
}

impl OperationCost {
    fn of(operation: &str, steps: &[&StepCost], unit: Unit) -> OperationCost {
        let notifications: u64 = steps.iter().map(|step| step.notifications).sum();
        let costs: [u64; SUBSCRIBERS.len()] = std::array::from_fn(|place| {
            let counts = steps.iter().map(|step| step.counts[place]);
            counts.map(|count| in_unit(count, unit)).sum::<u64>()
        });
        OperationCost::new(
            operation.to_owned(),
            steps.len(),
            notifications,
            unit,
            costs,
        )
    }

    /// Of what all steps cost, in the order of [`SUBSCRIBERS`].
    pub fn new(
        operation: String,
        steps: usize,
        notifications: u64,
        unit: Unit,
        costs: [u64; SUBSCRIBERS.len()],
    ) -> OperationCost {
        let [none, one, .., most] = costs;
        let each = notifications.max(1) as f64;
        let more = |from: u64, to: u64| to as f64 - from as f64;
        let further = f64::from(SUBSCRIBERS[3] - SUBSCRIBERS[1]);
        OperationCost {
            operation,
            steps,
            notifications,
            unit,
            costs,
            first: more(none, one) / each,
            further: more(one, most) / each / further,
            share: more(none, one) / one.max(1) as f64,
        }
    }
}

fn in_unit(count: Count, unit: Unit) -> u64 {
    match unit {
        Unit::Instructions => count.instructions,
        Unit::Nanoseconds => count.nanoseconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(operation: &str, notifications: u64, instructions: [u64; 4]) -> StepCost {
        StepCost {
            step: 0,
            operation: operation.to_owned(),
            notifications,
            counts: instructions.map(|instructions| Count {
                instructions,
                nanoseconds: 7,
                ..Count::default()
            }),
        }
    }

    #[test]
    fn costs_are_of_a_notification() {
        let scenario = ScenarioCost {
            name: "a".to_owned(),
            steps: vec![
                step("munmap", 1, [1000, 1100, 1130, 1250]),
                step("munmap", 2, [1000, 1200, 1260, 1500]),
                step("mmap", 0, [500, 500, 500, 500]),
            ],
        };
        let costs = by_operation(&[scenario]);
        assert_eq!(costs.len(), 1);
        let munmap = &costs[0];
        assert_eq!((munmap.steps, munmap.notifications), (2, 3));
        assert_eq!(munmap.unit, Unit::Instructions);
        assert_eq!(munmap.costs, [2000, 2300, 2390, 2750]);
        assert!((munmap.first - 100.0).abs() < 1e-9);
        assert!((munmap.further - 10.0).abs() < 1e-9);
        assert!((munmap.share - 300.0 / 2300.0).abs() < 1e-9);
    }

    #[test]
    fn without_counters_it_is_time() {
        let steps = vec![step("munmap", 1, [0; 4])];
        let name = "a".to_owned();
        let costs = by_operation(&[ScenarioCost { name, steps }]);
        assert_eq!(costs[0].unit, Unit::Nanoseconds);
        assert_eq!(costs[0].costs, [7; 4]);
    }

    #[test]
    fn each_number_of_subscribers_has_its_turn() {
        for round in 0..20 {
            let mut order = order(round);
            order.sort_unstable();
            assert_eq!(order, [0, 1, 2, 3]);
        }
        assert_ne!(order(0), order(1));
        assert_ne!(order(0), order(4));
    }

    #[test]
    fn the_least_of_all_rounds_counts() {
        let mut cost = step("munmap", 0, [0; 4]);
        let count = |instructions, calls| Count {
            instructions,
            calls,
            ..Count::default()
        };
        cost.take(1, count(900, 2), true);
        cost.take(1, count(700, 2), false);
        cost.take(1, count(800, 2), false);
        assert_eq!(cost.counts[1].instructions, 700);
        assert_eq!(cost.notifications, 2);
    }
}
