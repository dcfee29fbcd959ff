// SPDX-License-Identifier: GPL-2.0-only
//! Steps that are begun at the same moment: what may come of them, by each order in which the
//! kernel may have done them. Who has seen what came of it says which orders agree with that;
//! nothing else of it reaches the model.
//!
//! A touch is taken apart into its pages, and so is advice that the kernel carries out page by
//! page: what falls between them is an order too. Where all orders are known so, what came must
//! be one of them (`Order::all_known`). Of other steps the kernel may do a part, then a part of
//! another: where none of the orders came of them the model says that it does not know, and it
//! does not accuse on what follows.

use crate::api::{
    Call, Machine, MmId, Op, PageTables, Prediction, Program, Range, Step, StepPrediction,
    StepResult, Tables, Unpredicted,
};
use crate::fs::userfaultfd::all_events_are_read;
use crate::mm::madvise::advice;
use crate::predict::{boot, step};
use crate::profile::Profile;
use crate::state::Kernel;
use operations::Plain;

/// The most orders that are looked at.
const MOST_ORDERS: usize = 80;
/// The most ways that are followed: what differs between them shows later, if at all.
const MOST_WAYS: usize = 8;
/// The most pages by which a step is taken apart.
const MOST_PARTS: u64 = 6;

/// What came of a step, or of several that were begun together.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// The first of them.
    pub first: usize,
    /// What each came to.
    pub steps: &'a [StepPrediction],
    /// What page tables hold after them.
    pub tables: &'a [(MmId, PageTables)],
}

/// What was seen to come of steps that were begun together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The first of them.
    pub first: usize,
    /// The steps in the order in which they were done, as far as it is known: none where several
    /// orders come to the same, or none was seen.
    pub steps: Option<Vec<usize>>,
    /// One of the orders is what was seen.
    pub agrees: bool,
    /// No other order is possible than those that were looked at.
    pub all_known: bool,
}

/// One of the ways in which all may have gone so far.
#[derive(Clone)]
struct Way<'a, S> {
    kernel: Kernel<'a>,
    prediction: Prediction,
    tables: Tables,
    seen: S,
}

/// What a program does, with orders as they agree with what was seen: `agrees` is asked of each
/// moment of each way, and has a state for each way.
pub fn predict_orders<S: Clone + Default>(
    profile: &Profile,
    machine: &Machine,
    program: &Program,
    agrees: &mut dyn FnMut(&mut S, &Moment<'_>) -> bool,
) -> (Prediction, Tables, Vec<Order>) {
    let mut ways = vec![Way {
        kernel: boot(profile, machine, program),
        prediction: Prediction::default(),
        tables: Tables::new(),
        seen: S::default(),
    }];
    let mut orders = Vec::new();
    // Something is not known that may show in what follows.
    let mut loose = false;
    let mut number = 0;
    while number < program.steps.len() {
        let group = program.group_of(number);
        let range = group.map_or(number..number + 1, |group| program.groups[group].steps());
        let steps = program.steps.get(range.clone()).unwrap_or_default();
        let (runs, all_known) = match group {
            Some(_) => orders_of(program, range.start, steps),
            None => (vec![vec![(number, steps[0].clone())]], true),
        };
        let mut next: Vec<(Way<'_, S>, Vec<usize>)> = Vec::new();
        let mut other = None;
        let mut unknown = None;
        for way in std::mem::take(&mut ways) {
            for (mut way, run) in copies(way, &runs) {
                let done = way.take(program, range.clone(), run);
                let Some(tables) = way.tables.last() else {
                    continue;
                };
                let moment = Moment {
                    first: range.start,
                    steps: &way.prediction.steps[range.start..],
                    tables,
                };
                unknown = unknown.or(way.kernel.unpredicted);
                match agrees(&mut way.seen, &moment) {
                    true => next.push((way, done)),
                    false => {
                        other.get_or_insert(way);
                    }
                }
            }
        }
        if group.is_some() {
            orders.push(Order {
                first: range.start,
                steps: the_one(&next),
                agrees: !next.is_empty(),
                all_known,
            });
        }
        let parted = (next.is_empty() && (loose || !all_known)).then_some(match group {
            Some(_) => "what steps at once come to where the kernel does them in parts",
            None => "what steps at once have left",
        });
        loose |= !all_known || next.len() > MOST_WAYS;
        ways = next.into_iter().map(|(way, _)| way).collect();
        ways.truncate(MOST_WAYS);
        if ways.is_empty() {
            ways.extend(other);
        }
        // A way that the model does not speak for may be the one that was gone.
        if let Some(why) = unknown.or(parted) {
            let Some(way) = ways.first_mut() else {
                break;
            };
            way.prediction.steps.truncate(range.start);
            way.tables.truncate(range.start);
            way.prediction.unpredicted = Some(Unpredicted {
                step: range.start,
                why,
            });
            break;
        }
        number = range.end;
    }
    let way = ways.into_iter().next();
    let (prediction, tables) = way
        .map(|way| (way.prediction, way.tables))
        .unwrap_or_default();
    (prediction, tables, orders)
}

/// A way for each of some runs.
fn copies<'r, 'a, S: Clone>(
    way: Way<'a, S>,
    runs: &'r [Run],
) -> impl Iterator<Item = (Way<'a, S>, &'r Run)> {
    let last = runs.len().saturating_sub(1);
    let mut way = Some(way);
    runs.iter().enumerate().filter_map(move |(number, run)| {
        let copy = match number == last {
            true => way.take(),
            false => way.clone(),
        };
        Some((copy?, run))
    })
}

/// The order that all that agree have in common.
fn the_one<S>(agree: &[(Way<'_, S>, Vec<usize>)]) -> Option<Vec<usize>> {
    let (_, first) = agree.first()?;
    let same = agree.iter().all(|(_, order)| order == first);
    same.then(|| first.clone())
}

impl<S> Way<'_, S> {
    /// Does steps, or parts of them, in an order: which steps began when.
    fn take(
        &mut self,
        program: &Program,
        steps: std::ops::Range<usize>,
        run: &[(usize, Step)],
    ) -> Vec<usize> {
        let mut came: Vec<StepPrediction> = steps.clone().map(|_| nothing()).collect();
        let mut done = Vec::new();
        let read = self.kernel.requests_to_disks();
        for (number, part) in run {
            let of_step = &mut came[number - steps.start];
            if reads_events(&part.op) {
                // It is read when it was told, whenever that is.
            } else if !done.contains(number) {
                done.push(*number);
            } else if of_step.result != StepResult::Ok {
                // A touch ends with its first signal.
                continue;
            }
            let StepPrediction {
                result,
                calls,
                lost,
            } = step(&mut self.kernel, part);
            of_step.result = result;
            of_step.calls.extend::<Vec<Call>>(calls);
            of_step.lost.extend::<Vec<(MmId, Range)>>(lost);
        }
        all_events_are_read(&mut self.kernel, program, steps.start);
        if steps.len() > 1 && self.kernel.requests_to_disks() != read {
            self.kernel.unpredicted =
                Some("pages that are read while somebody else does something");
        }
        let held = self.kernel.page_tables();
        self.tables.extend(came.iter().map(|_| held.clone()));
        self.prediction.steps.extend(came);
        done
    }
}

fn nothing() -> StepPrediction {
    StepPrediction {
        result: StepResult::Ok,
        calls: Vec::new(),
        lost: Vec::new(),
    }
}

type Run = Vec<(usize, Step)>;

/// The orders of steps that are begun together, each step taken apart as far as the kernel does
/// it in parts; and whether these are all that there are. Where they are too many, those of
/// whole steps.
fn orders_of(program: &Program, first: usize, steps: &[Step]) -> (Vec<Run>, bool) {
    let numbered = |(number, step): (usize, &Step)| (first + number, step.clone());
    let whole: Vec<Run> = steps
        .iter()
        .enumerate()
        .map(|it| vec![numbered(it)])
        .collect();
    let mut all_known = apart_from_forks(program, first, steps);
    let mut parts: Vec<Run> = Vec::new();
    let events = program.does(&[Plain::UffdEvents]);
    let one = steps.iter().filter(|step| !reads_events(&step.op)).count() <= 1;
    for (run, step) in whole.iter().zip(steps) {
        let parts_of = match &step.op {
            op if one || reads_events(op) => Some(vec![op.clone()]),
            // Each part would be an event.
            Op::Madvise { .. } if events => None,
            op => parts_of(op),
        };
        match parts_of {
            Some(ops) => {
                let part = |op| (run[0].0, Step { by: step.by, op });
                parts.push(ops.into_iter().map(part).collect());
            }
            None => {
                all_known = false;
                parts.push(run.clone());
            }
        }
    }
    match merges(&parts) {
        Some(runs) => (runs, all_known),
        None => (merges(&whole).unwrap_or_default(), false),
    }
}

/// Reading events of a userfaultfd touches no memory: who waits for that goes on then, and with
/// nobody else about does what it would have done at once.
fn reads_events(op: &Op) -> bool {
    matches!(
        op,
        Op::Plain {
            what: Plain::UffdEvents,
            ..
        }
    )
}

/// What the kernel may do something else in between of: the pages of a touch, each an access of
/// its own, and of advice that takes each page under the lock of its page table. What holds the
/// mmap lock for writing is done whole. None for what is done otherwise, or has too many parts.
fn parts_of(op: &Op) -> Option<Vec<Op>> {
    match *op {
        Op::Touch {
            at,
            pages,
            every,
            write,
            value,
        } => {
            let number = pages.div_ceil(every.max(1));
            let one = |page| Op::Touch {
                at: at + page * every,
                pages: 1,
                every: 1,
                write,
                value,
            };
            (1..=MOST_PARTS)
                .contains(&number)
                .then(|| (0..number).map(one).collect())
        }
        Op::Madvise {
            at,
            pages,
            advice: advice @ (advice::DONTNEED | advice::FREE | advice::COLD),
        } => {
            let one = |page| Op::Madvise {
                at: at + page,
                pages: 1,
                advice,
            };
            (1..=MOST_PARTS)
                .contains(&pages)
                .then(|| (0..pages).map(one).collect())
        }
        // mmap_write_lock()
        Op::Munmap { .. } | Op::Mprotect { .. } | Op::Fork { .. } => Some(vec![op.clone()]),
        // A file's size changes at once, and what is beyond it is not mapped any more.
        Op::Ftruncate { .. } => Some(vec![op.clone()]),
        _ => None,
    }
}

/// Two processes that write what they share by a fork may both copy it, each since the other
/// has it still; so may anything that looks at who else has a page.
fn apart_from_forks(program: &Program, first: usize, steps: &[Step]) -> bool {
    let forked = program.steps[..first]
        .iter()
        .any(|step| matches!(step.op, Op::Fork { .. }));
    let process = |step: &Step| match program.actors.get(step.by).map(|actor| actor.kind) {
        Some(operations::ActorKind::Thread { of }) => of,
        _ => step.by,
    };
    let one = steps.iter().all(|step| process(step) == process(&steps[0]));
    one || !forked
}

/// All ways to have sequences in one another, each in its own order; none where they are too many.
fn merges(sequences: &[Run]) -> Option<Vec<Run>> {
    if sequences.iter().all(Vec::is_empty) {
        return Some(vec![Vec::new()]);
    }
    let mut all = Vec::new();
    for (number, sequence) in sequences.iter().enumerate() {
        let Some((one, rest)) = sequence.split_first() else {
            continue;
        };
        let mut left = sequences.to_vec();
        left[number] = rest.to_vec();
        for mut merged in merges(&left)? {
            merged.insert(0, one.clone());
            all.push(merged);
            if all.len() > MOST_ORDERS {
                return None;
            }
        }
    }
    Some(all)
}
