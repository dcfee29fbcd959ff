// SPDX-License-Identifier: GPL-2.0-only
//! Steps that are begun at the same moment: which orders there are, and that what follows goes
//! on from those that were seen.

use operations::{Actor, ActorKind, Group};
use reference_model::{
    Machine, Moment, Op, Order, Prediction, Profile, Program, Step, StepResult, predict_orders,
};

fn program(ops: &[(usize, Op)], groups: &[(usize, usize)]) -> Program {
    let thread = Actor {
        kind: ActorKind::Thread { of: 0 },
        hart: 1,
    };
    let group = |&(first, steps): &(usize, usize)| Group {
        first,
        delays: vec![0; steps],
    };
    let step = |(by, op): &(usize, Op)| Step {
        by: *by,
        op: op.clone(),
    };
    Program {
        actors: vec![Actor::SUBJECT, thread],
        steps: ops.iter().map(step).collect(),
        groups: groups.iter().map(group).collect(),
        ..Program::default()
    }
}

fn map(pages: u64) -> Op {
    Op::Mmap {
        at: 0,
        pages,
        prot: 3,
        flags: 0x32,
        file: None,
        offset: 0,
    }
}

fn touch(at: u64, pages: u64) -> Op {
    Op::Touch {
        at,
        pages,
        every: 1,
        write: true,
        value: None,
    }
}

/// What is predicted where that came of all moments which `seen` says.
fn predicted(program: &Program, seen: &dyn Fn(&Moment<'_>) -> bool) -> (Prediction, Vec<Order>) {
    let mut agrees = |_: &mut (), moment: &Moment<'_>| seen(moment);
    let machine = Machine::default();
    let (prediction, tables, orders) =
        predict_orders(&Profile::STABLE, &machine, program, &mut agrees);
    assert_eq!(tables.len(), prediction.steps.len());
    (prediction, orders)
}

const SIGSEGV: i32 = 11;

/// Which page the touch of step 2 was answered with a signal at.
fn signal_at(moment: &Moment<'_>) -> Option<u64> {
    match moment.steps.last().map(|step| step.result) {
        Some(StepResult::Signal { page, .. }) => Some(page),
        _ => None,
    }
}

#[test]
fn an_area_may_go_between_two_pages_of_a_touch_and_what_follows_knows() {
    let ops = [
        (0, map(3)),
        (0, Op::Munmap { at: 0, pages: 3 }),
        (1, touch(0, 3)),
        (0, touch(0, 1)),
    ];
    let program = program(&ops, &[(1, 2)]);
    for page in [None, Some(0), Some(1), Some(2)] {
        let seen = |moment: &Moment<'_>| moment.first != 1 || signal_at(moment) == page;
        let (prediction, orders) = predicted(&program, &seen);
        assert!(orders[0].agrees && orders[0].all_known, "{page:?}");
        let first = match page {
            Some(0) => [1, 2],
            _ => [2, 1],
        };
        assert_eq!(orders[0].steps, Some(first.to_vec()), "{page:?}");
        assert_eq!(prediction.unpredicted, None);
        let last = StepResult::Signal {
            signal: SIGSEGV,
            page: 0,
        };
        assert_eq!(prediction.steps[3].result, last);
    }
    // And no order has it answered behind its pages.
    let seen = |moment: &Moment<'_>| moment.first != 1 || signal_at(moment) == Some(7);
    let (prediction, orders) = predicted(&program, &seen);
    assert!(!orders[0].agrees && orders[0].all_known);
    assert_eq!(prediction.unpredicted, None, "it differs, which is told");
}

#[test]
fn where_the_kernel_may_do_parts_the_model_does_not_accuse() {
    let pageout = Op::Madvise {
        at: 0,
        pages: 2,
        advice: 21,
    };
    let ops = [
        (0, map(2)),
        (0, touch(0, 2)),
        (0, pageout),
        (1, touch(0, 1)),
        (0, touch(0, 2)),
    ];
    let program = program(&ops, &[(2, 2)]);
    let (prediction, orders) = predicted(&program, &|moment| moment.first != 2);
    assert!(!orders[0].agrees && !orders[0].all_known);
    let unpredicted = prediction.unpredicted.expect("it stops speaking");
    assert_eq!((unpredicted.step, prediction.steps.len()), (2, 2));
    // What they have left may show later, too.
    let (prediction, _) = predicted(&program, &|moment| moment.first != 4);
    assert_eq!(prediction.unpredicted.map(|it| it.step), Some(4));
}

#[test]
fn ways_that_come_to_the_same_are_all_followed_until_they_part() {
    let dontneed = |at| Op::Madvise {
        at,
        pages: 1,
        advice: 4,
    };
    let ops = [
        (0, map(2)),
        (0, dontneed(0)),
        (1, touch(0, 1)),
        (0, touch(0, 2)),
    ];
    let program = program(&ops, &[(1, 2)]);
    // All is taken for what was seen, and so no order is known.
    let (_, orders) = predicted(&program, &|_| true);
    assert_eq!((orders[0].agrees, orders[0].steps.clone()), (true, None));
    let mapped = |moment: &Moment<'_>| moment.tables[0].1.leaves.len();
    let (_, orders) = predicted(&program, &|moment| moment.first != 1 || mapped(moment) == 1);
    assert_eq!(orders[0].steps, Some(vec![1, 2]));
}

#[test]
fn steps_alone_are_as_they_are_without_groups() {
    let ops = [
        (0, map(2)),
        (0, touch(0, 2)),
        (1, Op::Munmap { at: 0, pages: 1 }),
    ];
    let program = program(&ops, &[]);
    let (prediction, orders) = predicted(&program, &|_| true);
    assert_eq!(orders, []);
    let plain = reference_model::predict(&Profile::STABLE, &Machine::default(), &program);
    assert_eq!(prediction, plain);
}
