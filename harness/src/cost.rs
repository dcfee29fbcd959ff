// SPDX-License-Identifier: GPL-2.0-only
//! What a notification costs: the same steps with more and more subscribers that do
//! nothing. `harness/COST.md` says what is counted, and what that does not say.

use crate::backend::Backend;
use crate::device::Notified;
use crate::finding::Finding;
use crate::layer1::Layer1;
use crate::scenario::Scenario;
use crate::scenario::describe::operation;
use operations::Course;
use protocol::message::{Count, Report};
use std::collections::BTreeMap;

/// How many subscribers there are, each time.
pub const SUBSCRIBERS: [u32; 4] = [0, 1, 4, 16];

/// In what costs are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// Instructions of the hart.
    Instructions,
    /// Cycles of the hart.
    Cycles,
    /// Nanoseconds by the kernel's clock: the machine does not tell the others.
    Nanoseconds,
}

impl Unit {
    /// As people and programs read it.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Instructions => "instructions",
            Unit::Cycles => "cycles",
            Unit::Nanoseconds => "nanoseconds",
        }
    }
}

/// A step, the least of all rounds with each number of subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepCost {
    /// Its index in the scenario, from 0.
    pub step: usize,
    /// Its kind.
    pub operation: String,
    /// How often secondary MMUs were notified.
    pub notifications: u64,
    /// Which pages that was, and how many had nothing to lose; none where that is not known.
    pub notified: Option<Notified>,
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

/// At most so many times as many rounds as are asked for.
const PATIENCE: u32 = 5;

/// Counts a scenario; gives nothing where `go_on`, asked before each run, says no.
///
/// # Errors
/// It cannot be run there, and why.
pub fn measure(
    scenario: &Scenario,
    notified: Option<&[Notified]>,
    backend: &mut dyn Backend,
    rounds: u32,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<ScenarioCost>, Finding> {
    backend.prepare(scenario)?;
    let mut steps: Vec<StepCost> = countable(scenario).collect();
    // Where something got cheaper not long ago it may still do so.
    let (mut round, mut cheaper) = (0, 0);
    while round < rounds || (round - cheaper < rounds && round < PATIENCE * rounds) {
        for place in order(round as usize) {
            if !go_on() {
                return Ok(None);
            }
            let report = backend.count(scenario, SUBSCRIBERS[place])?;
            check_whole(scenario, &report)?;
            for step in &mut steps {
                let count = report.step_counts[step.step];
                if step.take(place, count, round == 0) && step.notifications > 0 {
                    cheaper = round;
                }
            }
        }
        round += 1;
    }
    for step in &mut steps {
        step.notified = notified.and_then(|steps| steps.get(step.step).copied());
    }
    let name = scenario.name.clone();
    Ok(Some(ScenarioCost { name, steps }))
}

/// Which pages each step of a scenario notifies, by a trace: what is counted is not traced. None
/// where the facts for it do not come.
///
/// # Errors
/// It cannot be run there, and why.
pub fn notified(
    scenario: &Scenario,
    backend: &mut dyn Backend,
) -> Result<Option<Vec<Notified>>, Finding> {
    backend.prepare(scenario)?;
    let layer1 = Layer1::new(&|_, _| Vec::new(), u64::MAX);
    let device = backend.observe(scenario, layer1)?.device;
    let steps = 0..scenario.program.steps.len();
    Ok(device.map(|device| steps.map(|step| device.notified_in(step)).collect()))
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
    let (done, all) = (report.step_counts.len(), scenario.program.steps.len());
    if done == all {
        return Ok(());
    }
    let why = format!("the subject ended after {done} of {all} steps");
    Err(Finding::could_not_run(why))
}

fn countable(scenario: &Scenario) -> impl Iterator<Item = StepCost> {
    let elsewhere =
        |course: Course| matches!(course, Course::Exec { .. } | Course::Exit | Course::Run);
    let steps = scenario.program.steps.iter().enumerate();
    steps
        .filter(move |(_, step)| !elsewhere(step.op.course()))
        .map(|(step, written)| StepCost {
            step,
            operation: operation(scenario, &written.op),
            notifications: 0,
            notified: None,
            counts: Default::default(),
        })
}

impl StepCost {
    /// Another count, of so many subscribers by their index; whether it is the first. Says
    /// whether it is the least.
    fn take(&mut self, place: usize, count: Count, first: bool) -> bool {
        let least = &mut self.counts[place];
        let cheaper = first || best_of(count) < best_of(*least);
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
        cheaper
    }
}

/// What an operation's notifications cost: medians over all steps of its kind that notify,
/// for a few of them may be dear, or count differently from boot to boot.
#[derive(Clone, Debug, PartialEq)]
pub struct OperationCost {
    /// Its kind.
    pub operation: String,
    /// How many steps that is.
    pub steps: usize,
    /// How often secondary MMUs were notified in them.
    pub notifications: u64,
    /// Which pages that was, and how many had nothing to lose.
    pub notified: Notified,
    /// In what the rest is given.
    pub unit: Unit,
    /// What a step costs that nobody is notified of.
    pub step: f64,
    /// What a notification costs more with one subscriber than with none.
    pub first: f64,
    /// What it costs more with each further one.
    pub further: f64,
    /// One subscriber's share of what a step costs with it.
    pub share: f64,
}

/// By unit and operation, those that notify.
pub fn by_operation(scenarios: &[ScenarioCost]) -> Vec<OperationCost> {
    let steps = || scenarios.iter().flat_map(|scenario| &scenario.steps);
    let mut kinds: BTreeMap<&str, Vec<&StepCost>> = BTreeMap::new();
    for step in steps().filter(|step| step.notifications > 0) {
        kinds.entry(&step.operation).or_default().push(step);
    }
    let units = units(steps()).into_iter();
    units
        .flat_map(|unit| {
            let kinds = kinds.iter();
            kinds.map(move |(operation, steps)| OperationCost::of(operation, steps, unit))
        })
        .collect()
}

/// What the machine counts. Under `-icount` a cycle is an instruction, and says nothing more.
fn units<'a>(steps: impl Iterator<Item = &'a StepCost> + Clone) -> Vec<Unit> {
    let counts = || steps.clone().flat_map(|step| &step.counts);
    let mut units = Vec::new();
    if counts().any(|count| count.instructions > 0) {
        units.push(Unit::Instructions);
    }
    let differs = |count: &Count| {
        count.cycles.abs_diff(count.instructions) > count.cycles.max(count.instructions) / 100
    };
    if counts().any(|count| count.cycles > 0 && differs(count)) {
        units.push(Unit::Cycles);
    }
    if units.is_empty() {
        units.push(Unit::Nanoseconds);
    }
    units
}

impl OperationCost {
    fn of(operation: &str, steps: &[&StepCost], unit: Unit) -> OperationCost {
        let of_steps = |figure: &dyn Fn(&StepCost) -> f64| {
            median(steps.iter().map(|step| figure(step)).collect())
        };
        let first = of_steps(&|step| step.first(unit));
        let further = of_steps(&|step| step.further(unit));
        let told = |step: &StepCost| step.notifications as f64 * first;
        let alone = |step: &StepCost| step.cost(0, unit);
        OperationCost {
            operation: operation.to_owned(),
            steps: steps.len(),
            notifications: steps.iter().map(|step| step.notifications).sum(),
            notified: steps
                .iter()
                .filter_map(|step| step.notified)
                .fold(Notified::default(), Notified::and),
            unit,
            step: of_steps(&alone),
            first,
            further,
            share: of_steps(&|step| told(step) / (alone(step) + told(step)).max(1.0)),
        }
    }
}

impl StepCost {
    /// With so many subscribers, by their index.
    fn cost(&self, place: usize, unit: Unit) -> f64 {
        in_unit(self.counts[place], unit) as f64
    }

    fn first(&self, unit: Unit) -> f64 {
        (self.cost(1, unit) - self.cost(0, unit)) / self.notifications as f64
    }

    fn further(&self, unit: Unit) -> f64 {
        let more = f64::from(SUBSCRIBERS[3] - SUBSCRIBERS[1]);
        (self.cost(3, unit) - self.cost(1, unit)) / self.notifications as f64 / more
    }
}

/// The best that the machine counts.
fn best_of(count: Count) -> u64 {
    let counted = [count.instructions, count.cycles, count.nanoseconds];
    counted.into_iter().find(|count| *count > 0).unwrap_or(0)
}

/// The lower one of two in the middle; there is at least one.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures[(figures.len() - 1) / 2]
}

fn in_unit(count: Count, unit: Unit) -> u64 {
    match unit {
        Unit::Instructions => count.instructions,
        Unit::Cycles => count.cycles,
        Unit::Nanoseconds => count.nanoseconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(operation: &str, notifications: u64, instructions: [u64; 4]) -> StepCost {
        StepCost {
            step: 0,
            notified: None,
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
                // One that is out of line.
                step("munmap", 1, [9000, 9000, 9000, 9000]),
                step("mmap", 0, [500, 500, 500, 500]),
            ],
        };
        let costs = by_operation(&[scenario]);
        assert_eq!(costs.len(), 1);
        let munmap = &costs[0];
        assert_eq!((munmap.steps, munmap.notifications), (3, 4));
        assert_eq!(munmap.unit, Unit::Instructions);
        let near = |one: f64, other: f64| (one - other).abs() < 1e-9;
        assert!(near(munmap.step, 1000.0) && near(munmap.first, 100.0));
        assert!(near(munmap.further, 10.0) && near(munmap.share, 100.0 / 1100.0));
    }

    #[test]
    fn cycles_are_told_where_they_are_not_instructions() {
        let mut of_a_board = step("munmap", 1, [1000, 1100, 1130, 1250]);
        for count in &mut of_a_board.counts {
            count.cycles = 3 * count.instructions;
        }
        let mut counted = of_a_board.clone();
        for count in &mut counted.counts {
            count.cycles = count.instructions + 1;
        }
        let units = |step: StepCost| {
            let name = "a".to_owned();
            let costs = by_operation(&[ScenarioCost {
                name,
                steps: vec![step],
            }]);
            costs
                .iter()
                .map(|cost| (cost.unit, cost.first))
                .collect::<Vec<_>>()
        };
        let (instructions, cycles) = ((Unit::Instructions, 100.0), (Unit::Cycles, 300.0));
        assert_eq!(units(of_a_board), [instructions, cycles]);
        assert_eq!(units(counted), [instructions]);
    }

    #[test]
    fn without_counters_it_is_time() {
        let steps = vec![step("munmap", 1, [0; 4])];
        let name = "a".to_owned();
        let costs = by_operation(&[ScenarioCost { name, steps }]);
        assert_eq!(costs[0].unit, Unit::Nanoseconds);
        assert!((costs[0].step - 7.0).abs() < 1e-9);
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
