// SPDX-License-Identifier: GPL-2.0-only
//! Hand-made records through all that comes between a trace and a verdict:
//! what is kept, what is dropped, and that each comparison fails when it should.

#[path = "common/history.rs"]
mod history;

use history::{History, OTHER_PID, SUBJECT, page};
use operations::PAGE_SIZE;
use protocol::Record;
use protocol::record::{F_HUGETLB, Kind};
use reference_model::{
    Call, Effect, Entry, Prediction, Profile, Range, StepPrediction, StepResult, Unpredicted, Whose,
};
use std::path::Path;
use tlbdiff::checks::{same_steps, uncovered};
use tlbdiff::diff::{Diff, diff};
use tlbdiff::finding::Side;
use tlbdiff::observe::Observation;
use tlbdiff::parse::{ParseError, parse};
use tlbdiff::scenario::{Scenario, check};
use tlbdiff::steps::{Expected, Fences, Seen, of_prediction};
use tlbdiff::text;

/// A scenario of one step: `munmap at 4 pages 2`.
fn scenario() -> Scenario {
    check(
        Path::new("t.yaml"),
        "about: x\nsteps:\n  - munmap: { at: 4, pages: 2 }\n",
    )
    .expect("well-formed")
}

fn layer2(prediction: &Prediction, observation: &Observation) -> Diff {
    let mut seen = Seen::of(observation);
    if prediction.unpredicted.is_some() {
        seen.0.truncate(prediction.steps.len());
    }
    diff(&Expected::of_prediction(prediction), &seen)
}

fn lines(history: &History) -> String {
    let (_, observation) = history.told(&Profile::STABLE, 1);
    text::steps(&scenario(), &Seen::of(&observation).0)
}

fn layer1(history: &History) -> usize {
    history.told(&Profile::STABLE, 1).0.differences.len()
}

/// The model's side: the range is flushed and told, and was lost.
fn expectation(told: Range) -> Prediction {
    let entry = Entry::FlushTlbMmRange {
        start: page(4),
        end: page(6),
        page_size: PAGE_SIZE,
    };
    let lost = vec![Range {
        start: page(4),
        end: page(6),
    }];
    let call = Call {
        mm: Some(0),
        entry,
        effects: vec![Effect::Notify(Whose::Own, told)],
    };
    Prediction {
        steps: vec![StepPrediction {
            result: StepResult::Ok,
            calls: vec![call],
            lost: lost.into_iter().map(|lost| (0, lost)).collect(),
        }],
        unpredicted: None,
    }
}

fn usual() -> History {
    History::default()
        .begin(0)
        .flush_range(4, 6)
        .notify(4, 6)
        .end(0)
}

#[test]
fn a_call_and_what_followed_it_are_told_in_pages() {
    assert_eq!(
        lines(&usual()),
        "1. munmap at 4 pages 2: ok\n   flush_tlb_mm_range [4,6) stride 4K\n     notified [4,6)\n"
    );
    assert_eq!(layer1(&usual()), 0);
}

#[test]
fn noise_outside_the_arena_is_checked_by_layer_1_only() {
    let noise = |told: u64| {
        History::default()
            .begin(0)
            .add(Kind::FlushTlbPage, 0x1000, 0x2000, |_| ())
            .add(Kind::Notify, 0x1000, told, |_| ())
            .end(0)
    };
    assert_eq!(lines(&noise(0x2000)), "1. munmap at 4 pages 2: ok\n");
    assert_eq!(layer1(&noise(0x2000)), 0);
    assert_eq!(layer1(&noise(0x3000)), 1);
}

#[test]
fn whole_mm_calls_belong_to_the_step_they_occur_in() {
    let history = History::default()
        .add(Kind::FlushTlbMm, 0, 0, |_| ())
        .notify_everything()
        .begin(0)
        .add(Kind::FlushTlbMm, 0, 0, |_| ())
        .notify_everything()
        .end(0)
        .add(Kind::FlushTlbMm, 0, 0, |_| ())
        .notify_everything();
    assert_eq!(
        lines(&history),
        "1. munmap at 4 pages 2: ok\n   flush_tlb_mm\n     notified whole mm\n"
    );
}

#[test]
fn others_memory_is_none_of_the_scenarios_business() {
    let other = |record: &mut Record| (record.mm, record.pid) = (9, OTHER_PID);
    let history = History::default()
        .begin(0)
        .add(Kind::FlushTlbMm, 0, 0, other)
        .add(Kind::Notify, 0, u64::MAX, other)
        .add(Kind::TlbbatchFlush, 0, 0, |record| {
            (record.mm, record.pid) = (0, OTHER_PID)
        })
        .add(Kind::TlbbatchFlush, 0, 0, |record| record.mm = 0)
        .end(0);
    assert_eq!(
        lines(&history),
        "1. munmap at 4 pages 2: ok\n   arch_tlbbatch_flush\n"
    );
    assert_eq!(layer1(&history), 0);
}

#[test]
fn what_others_do_to_the_subjects_mm_counts() {
    let history = History::default()
        .begin(0)
        .add(Kind::TlbbatchAddPending, page(4), 0, |record| {
            record.pid = OTHER_PID
        })
        .add(Kind::Notify, page(4), page(5), |record| {
            record.pid = OTHER_PID
        })
        .end(0);
    assert_eq!(
        lines(&history),
        "1. munmap at 4 pages 2: ok\n   arch_tlbbatch_add_pending 4\n     notified [4,5)\n"
    );
}

#[test]
fn effects_go_to_the_entry_of_their_own_task() {
    let other = |record: &mut Record| {
        (record.mm, record.pid) = (9, OTHER_PID);
        (record.hart, record.cpumask) = (1, 2);
    };
    let history = History::default()
        .begin(0)
        .flush_range(4, 6)
        .add(Kind::FlushTlbPage, 0x5000, 0x6000, other)
        .notify(4, 6)
        .add(Kind::Notify, 0x5000, 0x6000, other)
        .end(0);
    assert_eq!(layer1(&history), 0);
    assert!(lines(&history).ends_with("     notified [4,6)\n"));
}

#[test]
fn a_batched_flush_is_one_call_whether_or_not_its_inner_entry_is_seen() {
    let batched = |inner: bool| {
        let history = History::default()
            .begin(0)
            .add(Kind::TlbBatchedPending, 0, 0, |_| ());
        let history = if inner {
            history.add(Kind::FlushTlbMm, 0, 0, |_| ())
        } else {
            history
        };
        history.notify_everything().end(0)
    };
    assert_eq!(lines(&batched(true)), lines(&batched(false)));
    assert_eq!(
        lines(&batched(true)),
        "1. munmap at 4 pages 2: ok\n   arch_flush_tlb_batched_pending\n     notified whole mm\n"
    );
    assert_eq!((layer1(&batched(true)), layer1(&batched(false))), (0, 0));
}

#[test]
fn layer_1_misses_a_notification() {
    assert_eq!(
        layer1(&History::default().begin(0).flush_range(4, 6).end(0)),
        1
    );
}

#[test]
fn layer_1_sees_one_too_many_one_too_short_and_one_by_no_call() {
    let history = || History::default().begin(0).flush_range(4, 6);
    assert_eq!(layer1(&history().notify(4, 6).notify(4, 6).end(0)), 1);
    assert_eq!(layer1(&history().notify(4, 5).end(0)), 1);
    assert_eq!(layer1(&History::default().begin(0).notify(4, 6).end(0)), 1);
}

#[test]
fn layer_1_expects_no_notification_where_none_can_be_seen() {
    let unattached = |record: &mut Record| (record.mm, record.flags) = (9, 0);
    let history = History::default()
        .begin(0)
        .add(Kind::FlushTlbMm, 0, 0, unattached)
        .end(0);
    assert_eq!(layer1(&history), 0);
}

#[test]
fn layer_1_checks_remote_fences_with_harts_and_asid() {
    let remote = |asid: u64| {
        History::default()
            .begin(0)
            .add(Kind::FlushTlbMmRange, page(4), page(6), |record| {
                (record.arg, record.cpumask) = (PAGE_SIZE, 3);
            })
            .add(Kind::SbiRfence, page(4), page(6), |record| {
                (record.arg, record.cpumask, record.asid, record.mm) = (2 * PAGE_SIZE, 3, asid, 0);
            })
            .notify(4, 6)
            .end(0)
    };
    assert_eq!(layer1(&remote(3)), 0);
    assert_eq!(layer1(&remote(4)), 1);
    assert!(lines(&remote(3)).contains("     sbi fence harts 0,1 [4,6)\n"));
    assert_eq!(
        lines(&remote(3)),
        lines(&remote(4)),
        "an ASID's number is not told"
    );
}

#[test]
fn layer_1_forgives_what_the_ends_of_the_trace_cut_off() {
    let other = |record: &mut Record| (record.pid, record.mm) = (OTHER_PID, 9);
    let cut = History::default()
        .add(Kind::Notify, 0x1000, 0x2000, other)
        .begin(0)
        .end(0)
        .add(Kind::FlushTlbPage, 0x1000, 0x2000, other);
    assert_eq!(layer1(&cut), 0);
    let wrong = cut.add(Kind::Notify, 0x1000, 0x9000, other);
    assert_eq!(layer1(&wrong), 1);
}

#[test]
fn layer_1_with_the_model_before_the_patch_differs() {
    assert_eq!(usual().told(&Profile::PREPATCH, 1).0.differences.len(), 1);
}

#[test]
fn layer_2_agrees_on_the_usual_and_differs_on_each_part() {
    let (_, observation) = usual().told(&Profile::STABLE, 1);
    let steps = |prediction: &Prediction| layer2(prediction, &observation).steps.len();
    let usual = expectation(Range {
        start: page(4),
        end: page(6),
    });
    assert_eq!(steps(&usual), 0);

    assert_eq!(
        steps(&expectation(Range {
            start: page(4),
            end: page(5)
        })),
        1
    );
    let mut other = usual.clone();
    other.steps[0].result = StepResult::Errno(22);
    assert_eq!(steps(&other), 1);
    let mut other = usual.clone();
    other.steps[0].calls[0].entry = Entry::FlushTlbRange {
        start: page(4),
        end: page(6),
        huge_page_size: None,
    };
    assert_eq!(steps(&other), 1);
    let mut other = usual.clone();
    other.steps[0].calls.push(Call {
        mm: Some(0),
        entry: Entry::FlushTlbMm,
        effects: vec![],
    });
    assert_eq!(steps(&other), 1);
    let mut other = usual.clone();
    other.steps.push(usual.steps[0].clone());
    assert_eq!(steps(&other), 1);
}

#[test]
fn layer_2_does_not_compare_local_fences() {
    let (_, observation) = usual().told(&Profile::STABLE, 1);
    let mut prediction = expectation(Range {
        start: page(4),
        end: page(6),
    });
    let fence = reference_model::Fence::LocalAll { asid: Some(1) };
    prediction.steps[0].calls[0]
        .effects
        .insert(0, Effect::Fence(fence));
    assert_eq!(layer2(&prediction, &observation).steps.len(), 0);
    let told = text::steps(&scenario(), &of_prediction(&prediction, Fences::All));
    assert!(told.contains("local fence whole mm"), "{told}");
}

#[test]
fn a_lost_page_that_nobody_was_told_of_is_unsafe() {
    let both = [Side::Model, Side::Kernel];
    let prediction = expectation(Range {
        start: page(4),
        end: page(6),
    });
    let (_, good) = usual().told(&Profile::STABLE, 1);
    assert_eq!(uncovered(&prediction, &good, &both), []);

    let (_, bad) = History::default()
        .begin(0)
        .flush_range(4, 6)
        .notify(4, 5)
        .end(0)
        .told(&Profile::STABLE, 1);
    let missed = uncovered(&prediction, &bad, &both);
    assert_eq!(missed.len(), 1);
    assert_eq!(
        (missed[0].side, missed[0].pages),
        (
            Side::Kernel,
            Range {
                start: page(5),
                end: page(6)
            }
        )
    );

    let short = expectation(Range {
        start: page(5),
        end: page(6),
    });
    let missed = uncovered(&short, &good, &both);
    assert_eq!((missed.len(), missed[0].side), (1, Side::Model));
}

#[test]
fn a_page_told_in_part_only_is_unsafe_and_everything_covers_all() {
    let prediction = expectation(Range {
        start: page(4),
        end: page(6),
    });
    let told = |start: u64, end: u64| {
        let history = History::default()
            .begin(0)
            .add(Kind::FlushTlbMm, 0, 0, |_| ());
        let (_, observation) = history
            .add(Kind::Notify, start, end, |_| ())
            .end(0)
            .told(&Profile::STABLE, 1);
        uncovered(&prediction, &observation, &[Side::Kernel]).len()
    };
    assert_eq!(told(0, u64::MAX), 0);
    assert_eq!(told(page(4) + 8, page(6)), 1);
    assert_eq!(told(page(4), page(6) - 1), 1);
    assert_eq!(
        told(page(6), page(4)),
        1,
        "an inverted range tells of nothing"
    );
    assert_eq!(told(u64::MAX, u64::MAX), 1);
}

#[test]
fn being_told_in_a_later_step_is_too_late() {
    let late = History::default()
        .begin(0)
        .end(0)
        .begin(1)
        .flush_range(4, 6)
        .notify(4, 6)
        .end(1);
    let (_, observation) = late.told(&Profile::STABLE, 2);
    let mut prediction = expectation(Range {
        start: page(4),
        end: page(6),
    });
    prediction.steps.push(StepPrediction {
        result: StepResult::Ok,
        calls: vec![],
        lost: vec![],
    });
    assert_eq!(
        uncovered(&prediction, &observation, &[Side::Kernel]).len(),
        1
    );
    assert_eq!(layer2(&prediction, &observation).steps.len(), 2);
}

#[test]
fn the_text_of_an_observation_can_be_read_back() {
    let history = History::default()
        .begin(0)
        .flush_range(4, 6)
        .add(Kind::SbiRfence, page(4), page(6), |record| {
            (record.arg, record.cpumask) = (2 * PAGE_SIZE, 3)
        })
        .add(Kind::SbiRfence, 0, 0, |record| {
            (record.arg, record.asid) = (u64::MAX, u64::MAX)
        })
        .notify(4, 6)
        .notify_everything()
        .add(Kind::Notify, page(3) + 1, page(9), |_| ())
        .add(Kind::FlushTlbMm, 0, 0, |_| ())
        .add(Kind::FlushTlbPage, page(4), page(5), |_| ())
        .add(Kind::FlushTlbRange, page(4), page(6), |_| ())
        .add(Kind::FlushTlbRange, page(0), page(512), |record| {
            (record.arg, record.flags) = (2 << 20, F_HUGETLB);
        })
        .add(Kind::FlushPmdTlbRange, page(0), page(512), |_| ())
        .add(Kind::TlbbatchAddPending, page(4), 0, |_| ())
        .add(Kind::TlbbatchFlush, 0, 0, |record| record.mm = 0)
        .add(Kind::TlbBatchedPending, 0, 0, |_| ())
        .add(Kind::RangeStart, page(4), page(6), |_| ())
        .notify(4, 5)
        .end(0);
    let (_, observation) = history.told(&Profile::STABLE, 1);
    let told = text::steps(&scenario(), &Seen::of(&observation).0);
    let read = parse(&scenario(), &told).expect("its own text");
    assert_eq!(text::steps(&scenario(), &Seen::of(&read).0), told);
    let same = |observation: &Observation| -> Vec<_> {
        let calls = observation.steps.iter().flat_map(|step| step.calls.clone());
        calls.map(|call| (call.entry, call.effects)).collect()
    };
    assert_eq!(same(&read), same(&observation));
    assert_eq!(told.lines().count(), 17, "{told}");
}

#[test]
fn results_can_be_read_back() {
    for result in [
        StepResult::Ok,
        StepResult::Errno(22),
        StepResult::Errno(12),
        StepResult::Errno(11),
        StepResult::Errno(524),
        StepResult::Unborn,
        StepResult::Signal {
            signal: 11,
            page: 5,
        },
        StepResult::Signal { signal: 7, page: 0 },
    ] {
        let text = format!("1. munmap at 4 pages 2: {}\n", text::result(result));
        assert_eq!(
            parse(&scenario(), &text).expect("its own text").steps[0].result,
            result,
            "{text}"
        );
    }
}

#[test]
fn text_of_other_steps_or_of_nobody_is_refused() {
    let refused = |text: &str| parse(&scenario(), text).expect_err("refused");
    assert!(matches!(
        refused("1. munmap at 4 pages 3: ok\n"),
        ParseError::OtherSteps { line: 1, .. }
    ));
    assert!(matches!(
        refused("1. munmap at 4 pages 2: ok\n2. munmap at 4 pages 2: ok\n"),
        ParseError::OtherSteps { line: 2, .. }
    ));
    assert!(matches!(
        refused("1. munmap at 4 pages 2: ok\n   flush_tlb\n"),
        ParseError::Line { line: 2, .. }
    ));
    assert!(matches!(
        refused("     notified [4,6)\n"),
        ParseError::Line { line: 1, .. }
    ));
    assert!(matches!(
        refused(""),
        ParseError::TooFew { told: 0, steps: 1 }
    ));
}

// ---- several mms ----

/// Another process's mm.
const CHILD: u64 = 8;

fn of_child(record: &mut Record) {
    record.mm = CHILD;
}

const FORKED: &str = "about: x\nactors:\n  child: { kind: fork }\nsteps:\n  \
    - fork: { child: child }\n  - munmap: { at: 4, pages: 2, by: child }\n";

fn forked() -> Scenario {
    check(Path::new("x.yaml"), FORKED).expect("a good scenario")
}

/// The child's pages are told of, then it ends, and what follows on that is its end.
fn child_ends() -> History {
    History::default()
        .begin(0)
        .end(0)
        .begin(1)
        .add(Kind::FlushTlbMmRange, page(4), page(6), |record| {
            (record.arg, record.mm) = (PAGE_SIZE, CHILD);
        })
        .add(Kind::Notify, page(4), page(6), of_child)
        .add(Kind::Release, 0, 0, of_child)
        .add(Kind::FlushTlbMm, 0, 0, |record| {
            (record.mm, record.flags) = (CHILD, 0);
        })
        .end(1)
}

#[test]
fn each_call_is_of_its_mm_and_none_follows_a_release() {
    let (layer1, observation) = child_ends().told_of(&Profile::STABLE, 2, &[SUBJECT, CHILD]);
    assert_eq!((layer1.checked, layer1.differences.len()), (2, 0));
    let text = text::steps(&forked(), &Seen::of(&observation).0);
    assert_eq!(
        text,
        "1. fork child: ok\n2. munmap at 4 pages 2 by child: ok\n   \
         child: flush_tlb_mm_range [4,6) stride 4K\n     notified [4,6)\n   child: release\n"
    );
    let again = parse(&forked(), &text).expect("it was printed");
    assert_eq!(text::steps(&forked(), &Seen::of(&again).0), text);
    assert_eq!(again.told(1), observation.told(1));
}

#[test]
fn telling_of_another_mm_covers_nothing_and_a_release_covers_all() {
    let (_, observation) = child_ends().told_of(&Profile::STABLE, 2, &[SUBJECT, CHILD]);
    let lost = |mm: usize, first: u64| {
        let mut prediction = expectation(Range { start: 0, end: 0 });
        prediction.steps[0].calls.clear();
        prediction.steps[0].lost.clear();
        prediction.steps.push(prediction.steps[0].clone());
        let (start, end) = (page(first), page(first + 1));
        prediction.steps[1].lost = vec![(mm, Range { start, end })];
        uncovered(&prediction, &observation, &[Side::Kernel]).len()
    };
    assert_eq!(lost(1, 4), 0);
    assert_eq!(lost(1, 9), 0, "the release tells all of it");
    assert_eq!(lost(0, 4), 1, "the subject was told nothing");
}

/// A kernel that tells another mm than the one that it was passed.
fn tells_another(passed: u64, told: u64) -> History {
    History::default()
        .begin(0)
        .end(0)
        .begin(1)
        .add(Kind::TlbbatchAddPending, page(4), 0, |record| {
            record.mm = passed;
        })
        .add(Kind::Notify, page(4), page(5), |record| record.mm = told)
        .end(1)
}

#[test]
fn telling_another_mm_than_was_passed_differs_in_both_layers() {
    let of = |told: u64| {
        let history = tells_another(CHILD, told);
        let (layer1, observation) = history.told_of(&Profile::STABLE, 2, &[SUBJECT, CHILD]);
        let text = text::steps(&forked(), &Seen::of(&observation).0);
        let again = parse(&forked(), &text).expect("it was printed");
        assert_eq!(text::steps(&forked(), &Seen::of(&again).0), text);
        assert_eq!(again.told(1), observation.told(1));
        let lines = text.lines().skip(2).map(str::to_owned);
        (layer1.differences.len(), lines.collect::<Vec<_>>())
    };
    let call = "   child: arch_tlbbatch_add_pending 4";
    assert_eq!(
        of(CHILD),
        (0, vec![call.into(), "     notified [4,5)".into()])
    );
    let subject = "     subject: notified [4,5)";
    assert_eq!(of(SUBJECT), (1, vec![call.into(), subject.into()]));
    let another = "     another mm: notified [4,5)";
    assert_eq!(of(99), (1, vec![call.into(), another.into()]));
}

#[test]
fn who_was_told_goes_by_the_notification() {
    let history = tells_another(CHILD, SUBJECT);
    let (_, observation) = history.told_of(&Profile::STABLE, 2, &[SUBJECT, CHILD]);
    let (start, end) = (page(4), page(5));
    assert_eq!(observation.told(1), [(Some(0), Range { start, end })]);
    let missed = |mm: usize| {
        let mut prediction = expectation(Range { start: 0, end: 0 });
        prediction.steps[0].calls.clear();
        prediction.steps[0].lost.clear();
        prediction.steps.push(prediction.steps[0].clone());
        prediction.steps[1].lost = vec![(mm, Range { start, end })];
        uncovered(&prediction, &observation, &[Side::Kernel]).len()
    };
    assert_eq!((missed(0), missed(1)), (0, 1));
}

#[test]
fn a_call_about_anothers_mm_that_tells_the_scenarios_is_told() {
    let history = tells_another(99, CHILD);
    let (layer1, observation) = history.told_of(&Profile::STABLE, 2, &[SUBJECT, CHILD]);
    assert_eq!(layer1.differences.len(), 1);
    let told = text::steps(&forked(), &Seen::of(&observation).0);
    let lines: Vec<&str> = told.lines().skip(2).collect();
    let call = "   another mm: arch_tlbbatch_add_pending 4";
    assert_eq!(lines, [call, "     child: notified [4,5)"]);
    let again = parse(&forked(), &told).expect("it was printed");
    assert_eq!(again.told(1), observation.told(1));
}

/// A batch's flush, and flushes of the kernel's own memory, are about no mm and tell none.
#[test]
fn a_flush_without_mm_that_tells_somebody_differs() {
    for kind in [Kind::TlbbatchFlush, Kind::FlushTlbKernelRange] {
        let history = History::default()
            .begin(0)
            .add(kind, page(4), page(5), |record| record.mm = 0)
            .notify(4, 5)
            .end(0);
        assert_eq!(layer1(&history), 1, "{kind:?}");
        let (_, observation) = history.told(&Profile::STABLE, 1);
        let told = text::steps(&scenario(), &Seen::of(&observation).0);
        assert!(told.ends_with("     subject: notified [4,5)\n"), "{told}");
        let again = parse(&scenario(), &told).expect("it was printed");
        assert_eq!(again.told(0), observation.told(0));
    }
}

#[test]
fn steps_are_the_same_up_to_the_first_other_call_or_result() {
    let prediction = expectation(Range {
        start: page(4),
        end: page(6),
    });
    let same = |history: History, prediction: &Prediction| {
        same_steps(
            &scenario(),
            prediction,
            &history.told(&Profile::STABLE, 1).1,
        )
    };
    let history = || History::default().begin(0);
    assert_eq!(same(usual(), &prediction), 1);
    let silent = history().flush_range(4, 6).end(0);
    assert_eq!(
        same(silent, &prediction),
        1,
        "what followed does not matter"
    );
    let by_no_call = history().flush_range(4, 6).end(0).notify(4, 6);
    assert_eq!(same(by_no_call, &prediction), 1);
    assert_eq!(same(history().end(0), &prediction), 0);
    assert_eq!(same(history().flush_range(4, 5).end(0), &prediction), 0);
    let twice = history().flush_range(4, 6).flush_range(4, 6).end(0);
    assert_eq!(same(twice, &prediction), 0);
    let mut other = prediction.clone();
    other.steps[0].result = StepResult::Errno(22);
    assert_eq!(same(usual(), &other), 0);
    let mut other = prediction.clone();
    other.steps[0].calls[0].mm = Some(1);
    assert_eq!(same(usual(), &other), 0);
}

/// Steps that the model does not speak for are not compared; those before them are.
#[test]
fn a_prediction_that_ends_early_is_compared_up_to_there() {
    let history = |told: u64| {
        let first = History::default().begin(0).flush_range(4, 6);
        let second = first.notify(4, told).end(0).begin(1).flush_range(4, 6);
        second.notify(4, 6).end(1).told(&Profile::STABLE, 2).1
    };
    let whole = Range {
        start: page(4),
        end: page(6),
    };
    let of_one = expectation(whole);
    let short = Prediction {
        unpredicted: Some(Unpredicted { step: 1, why: "x" }),
        ..of_one.clone()
    };
    let differs = |prediction: &Prediction, told: u64| -> Vec<usize> {
        let diff = layer2(prediction, &history(told));
        diff.steps.iter().map(|step| step.step).collect()
    };
    assert_eq!(differs(&short, 6), Vec::<usize>::new());
    assert_eq!(differs(&short, 5), vec![0usize]);
    assert_eq!(differs(&of_one, 6), vec![1usize]);
}

#[test]
fn masks_are_turned_to_the_scenarios_harts() {
    // Of two harts, Linux's hart 1 is the scenario's hart 0.
    let history = History::default()
        .begin(0)
        .add(Kind::FlushTlbMm, 0, 0, |record| record.cpumask = 2)
        .add(Kind::SbiRfence, 0, 0, |record| {
            (record.arg, record.cpumask) = (u64::MAX, 2);
        })
        .notify_everything()
        .end(0);
    assert!(lines(&history).contains("     sbi fence harts 0 whole mm\n"));
}
