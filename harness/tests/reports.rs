// SPDX-License-Identifier: GPL-2.0-only
//! What people read when something is found, whole.

#[path = "common/history.rs"]
mod history;

use history::{History, page};
use operations::PAGE_SIZE;
use protocol::record::Kind;
use reference_model::{
    Call, Effect, Entry, Machine, Prediction, Profile, Range, StepPrediction, StepResult, Whose,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tlbdiff::backend::{Observed, Subject};
use tlbdiff::checks::{self, Case};
use tlbdiff::event::{Event, Reporter, Rerun, Summary};
use tlbdiff::finding::Finding;
use tlbdiff::outcome::Outcome;
use tlbdiff::reading::Reading;
use tlbdiff::report::human::Human;
use tlbdiff::report::style::Style;
use tlbdiff::scenario::check;
use tlbdiff::verdict::Verdict;

const STEP: &str = "about: x\nsteps:\n  - munmap: { at: 4, pages: 2 }\n";

fn told(events: &[Event], colour: bool) -> String {
    let command = ["tlbdiff", "run"].map(str::to_owned).to_vec();
    let style = Style {
        colour,
        verbose: true,
        rerun: Rerun { command },
        ..Style::default()
    };
    let mut out = Vec::new();
    let mut human = Human::new(&mut out, style);
    for event in events {
        human.tell(event).expect("memory");
    }
    drop(human);
    String::from_utf8(out).expect("text")
}

/// A verdict on one step, `munmap at 4 pages 2`, that the model expects to tell of both pages.
fn verdict(history: &History) -> Verdict {
    let scenario = Arc::new(check(Path::new("a b.yaml"), STEP).expect("well-formed"));
    let (layer1, observation) = history.told(&Profile::STABLE, 1);
    let pages = Range {
        start: page(4),
        end: page(6),
    };
    let entry = Entry::FlushTlbMmRange {
        start: page(4),
        end: page(6),
        page_size: PAGE_SIZE,
    };
    let calls = vec![Call {
        mm: Some(0),
        entry,
        effects: vec![Effect::Notify(Whose::Own, pages)],
    }];
    let step = StepPrediction {
        result: StepResult::Ok,
        calls,
        lost: vec![(0, pages)],
    };
    let prediction = Prediction {
        steps: vec![step],
        unpredicted: None,
    };
    let observed = Observed {
        observation,
        traced: true,
        callers: tlbdiff::callers::Callers::default(),
        layer1,
        device: None,
        iommu: None,
        complaints: Vec::new(),
    };
    let subject = Subject {
        machine: Machine::default(),
        kernel: "6.12.1".to_owned(),
    };
    let mut verdict = Verdict::new(&scenario);
    (verdict.findings, verdict.checks) = checks::judge(
        &Case {
            scenario: &scenario,
            subject: &subject,
            kernel: "stable",
            profile: &Profile::STABLE,
            reading: &Reading::Read,
            prediction: Some(&prediction),
            tables: None,
            observed: &observed,
            snapshots: None,
        },
        &checks::Chosen::default(),
    );
    verdict.checked = observed.layer1.checked;
    verdict.prediction = Some(prediction);
    verdict.observation = Some(observed.observation);
    verdict
}

fn judged(history: &History) -> Event {
    Event::Judged(Box::new(verdict(history)))
}

#[test]
fn a_notification_that_is_too_short() {
    let history = History::default()
        .begin(0)
        .add(Kind::RangeStart, page(4), page(6), |_| ())
        .flush_range(4, 6)
        .notify(4, 5)
        .add(Kind::RangeEnd, page(4), page(6), |_| ())
        .end(0);
    insta::assert_snapshot!(told(&[judged(&history)], false), @"
    unsafe           a b.yaml
      layer 1 differs: 1 of 1 calls into tlbflush.c notified or fenced (+) other than the model of that file (-)
        #2 flush_tlb_mm_range [4,6) stride 4K  (step 1. munmap at 4 pages 2)
          mm 7 cpumask 0x1 asid 3 on hart 0 by pid 100
          - notified [4,6)
          + notified [4,5)
      layer 2 differs, maybe only because layer 1 does
      step 1, a b.yaml:3:
          - munmap: { at: 4, pages: 2 }
                  2 4 6
          model   ··██··
          kernel  ··█···
        - what the model expects, + what the kernel did
          1. munmap at 4 pages 2: ok
             flush_tlb_mm_range [4,6) stride 4K
        -      notified [4,6)
        +      notified [4,5)
        the calls of the kernel, by their number in the trace:
          #1 invalidate_range_start [4,6) (unmap)
          #2 flush_tlb_mm_range [4,6) stride 4K: notified [4,5)
          #4 invalidate_range_end [4,6) (unmap)
      unsafe: secondary MMUs were not notified of what was lost
        pages [5,6) lost their mapping, a right or their frame in step 1. munmap at 4 pages 2, and secondary MMUs were not notified by the kernel
      run just this: tlbdiff run 'a b.yaml'
    ");
}

#[test]
fn a_call_more_than_expected() {
    let history = History::default()
        .begin(0)
        .flush_range(4, 6)
        .notify(4, 6)
        .add(Kind::FlushTlbMm, 0, 0, |_| ())
        .notify_everything()
        .end(0);
    insta::assert_snapshot!(told(&[judged(&history)], false), @"
    differs          a b.yaml
      layer 2 differs, layer 1 agrees: the mm core, or the model of it
      step 1, a b.yaml:3:
          - munmap: { at: 4, pages: 2 }
                  2 4 6
          model   ··██··
          kernel  ██████  whole mm
        - what the model expects, + what the kernel did
          1. munmap at 4 pages 2: ok
             flush_tlb_mm_range [4,6) stride 4K
               notified [4,6)
        +    flush_tlb_mm
        +      notified whole mm
        the calls of the kernel, by their number in the trace:
          #1 flush_tlb_mm_range [4,6) stride 4K: notified [4,6)
          #3 flush_tlb_mm: notified whole mm
      run just this: tlbdiff run 'a b.yaml'
    ");
}

#[test]
fn a_crash_and_the_summary() {
    let mut verdict = verdict(
        &History::default()
            .begin(0)
            .flush_range(4, 6)
            .notify(4, 6)
            .end(0),
    );
    let log = vec![
        "WARNING: CPU: 0 PID: 1".to_owned(),
        "epc : flush_tlb_mm".to_owned(),
    ];
    verdict.findings = vec![Finding::kernel_crashed("the kernel complained", log)];
    let summary = Summary {
        counts: [(verdict.outcome(), 1)].into(),
        not_run: 3,
        stopped: Some("no guest can be started".to_owned()),
        interrupted: false,
        checked: 12,
        elapsed: Duration::from_millis(1500),
        first_verdict: Some(Duration::from_millis(250)),
    };
    let events = [Event::Judged(Box::new(verdict)), Event::Finished(summary)];
    insta::assert_snapshot!(told(&events, false), @"
    kernel crashed   a b.yaml
      the kernel complained
        | WARNING: CPU: 0 PID: 1
        | epc : flush_tlb_mm
      run just this: tlbdiff run 'a b.yaml'

    stopped: no guest can be started
    1 kernel crashed, 3 not run; 12 calls into tlbflush.c checked; 1.50 s, the first verdict after 0.25 s
    ");
}

#[test]
fn colours_are_used_where_wanted_and_nothing_else_changes() {
    let history = History::default()
        .begin(0)
        .flush_range(4, 6)
        .notify(4, 5)
        .end(0);
    let (plain, coloured) = (
        told(&[judged(&history)], false),
        told(&[judged(&history)], true),
    );
    assert!(!plain.contains('\x1b'));
    let mut without = coloured.clone();
    for code in [
        "\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m",
    ] {
        without = without.replace(code, "");
    }
    assert_ne!(coloured, plain);
    assert_eq!(without, plain);
}

/// One broken function fails hundreds of scenarios: it is told once, by the smallest of them.
#[test]
fn failures_of_one_cause_are_told_once() {
    let short = History::default()
        .begin(0)
        .flush_range(4, 6)
        .notify(4, 5)
        .end(0);
    let silent = History::default().begin(0).flush_range(4, 6).end(0);
    let named = |history: &History, name: &str, steps: usize| {
        let mut verdict = verdict(history);
        let scenario = Arc::make_mut(&mut verdict.scenario);
        scenario.name = name.to_owned();
        scenario.path = format!("{name}.yaml").into();
        let step = scenario.program.steps[0].clone();
        scenario.program.steps.resize(steps, step);
        Event::Judged(Box::new(verdict))
    };
    let mut events: Vec<Event> = (0..20)
        .map(|number| named(&short, &format!("a/{number}"), 2))
        .collect();
    events.insert(9, named(&short, "a/smallest", 1));
    events.push(named(&silent, "b/other", 1));
    events.push(Event::Finished(Summary {
        counts: [(Outcome::Unsafe, 22)].into(),
        ..Summary::default()
    }));
    let mut out = Vec::new();
    let style = Style {
        quiet: true,
        ..Style::default()
    };
    let mut human = Human::new(&mut out, style);
    for event in &events {
        human.tell(event).expect("memory");
    }
    drop(human);
    let told = String::from_utf8(out).expect("text");
    let one = "21 with one cause, unsafe at the worst: layer 1: __flush_tlb_range() with another notification\n\
               unsafe           a/smallest.yaml\n";
    assert!(told.starts_with(one), "{told}");
    let others = "  the others: a/0, a/1, a/2, a/3, a/4, a/5, a/6, a/7, a/8, a/9, a/10, a/11 and 8 \
                  more (--verbose prints all of each)\n";
    assert!(told.contains(others), "{told}");
    // The only one of its cause is told as ever.
    assert!(told.contains("\nunsafe           b/other.yaml\n"), "{told}");
    assert_eq!(told.matches("layer 1 differs").count(), 2, "{told}");
    assert!(told.lines().count() < 60, "{told}");
}
