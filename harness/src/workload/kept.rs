// SPDX-License-Identifier: GPL-2.0-only
//! A suite's results as the history keeps them: a run, and each workload as what scenarios are in
//! other runs.

use super::report::{Observed, human};
use super::{reduce::causes, suite::Named};
use crate::outcome::Outcome;
use crate::report::line::{Block, Finding, Line, Scenario, Start, Summary};
use chrono::{SecondsFormat, Utc};
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// Behind the name of a line of kernels: scenarios are a line of their own.
pub const LINE: &str = "workloads";
/// By which check, where what was found is told in words.
const CHECK: &str = "observe";

/// Where and on what a suite is run.
#[derive(Clone, Debug)]
pub struct About<'a> {
    /// On which machine.
    pub board: &'a str,
    /// In which line of kernels.
    pub line: &'a str,
    /// `guest` or `board`.
    pub backend: &'a str,
    /// Which kernel.
    pub kernel: &'a str,
    /// The model's profile.
    pub profile: &'a str,
    /// How many workloads.
    pub workloads: usize,
}

/// A run begins.
pub fn start(about: &About<'_>) -> Line {
    Line::Start(Start {
        run: Uuid::now_v7().to_string(),
        began: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
        board: about.board.to_owned(),
        line: about.line.to_owned(),
        scenarios: about.workloads as u64,
        backend: about.backend.to_owned(),
        secondary: None,
        kernel: about.kernel.to_owned(),
        model_profile: about.profile.to_owned(),
    })
}

/// A workload that was run.
pub fn result(named: &Named, observed: &Observed<'_>) -> Scenario {
    let found = causes(observed.watched);
    let why = match (&observed.why[..], found.first()) {
        ([], Some(cause)) => cause.clone(),
        (why, _) => why.join("; "),
    };
    let text = human(observed);
    Scenario {
        elapsed_ms: observed.ran.took_ns / 1_000_000,
        layer1_checked: observed.watched.checked,
        cause: found.into_iter().next(),
        ..scenario(named, observed.kernel, (observed.outcome, &why), &text)
    }
}

/// A workload that came to no end.
pub fn broken(named: &Named, kernel: &str, outcome: Outcome, why: &str) -> Scenario {
    scenario(named, kernel, (outcome, why), why)
}

fn scenario(named: &Named, kernel: &str, (outcome, why): (Outcome, &str), text: &str) -> Scenario {
    let finding = Finding {
        check: CHECK.to_owned(),
        outcome,
        why: why.to_owned(),
        cause: None,
        blocks: vec![Block::Text {
            lines: text.lines().map(str::to_owned).collect(),
        }],
    };
    let findings = match outcome {
        Outcome::Agree => Vec::new(),
        _ => vec![finding],
    };
    Scenario {
        name: named.place(),
        about: named.command.join(" "),
        kernel: kernel.to_owned(),
        outcome,
        why: why.to_owned(),
        checks: vec![CHECK.to_owned()],
        findings,
        runs: 1,
        rerun: format!(
            "tlbdiff observe --suite {} --filter {}",
            named.suite,
            named.place()
        ),
        ..Scenario::default()
    }
}

/// The run has ended.
pub fn summary(
    kernel: &str,
    outcomes: &BTreeMap<Outcome, u64>,
    entries: u64,
    took: Duration,
) -> Line {
    let worst = outcomes.keys().next_back().copied().unwrap_or_default();
    let named = outcomes
        .iter()
        .map(|(outcome, number)| (outcome.key().to_owned(), *number as usize));
    Line::Summary(Summary {
        kernel: kernel.to_owned(),
        outcomes: named.collect(),
        layer1_checked: entries,
        elapsed_ms: took.as_millis() as u64,
        exit_code: worst.exit_code(),
        ..Summary::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::recorder::Recorder;
    use crate::history::store::Store;

    fn named() -> Named {
        Named {
            suite: "stress".to_owned(),
            name: "fork".to_owned(),
            command: vec!["stress-ng".to_owned(), "--fork".to_owned(), "1".to_owned()],
            timeout: 1,
            memory: None,
            harts: None,
            nodes: false,
        }
    }

    #[test]
    fn a_suite_is_kept_and_compared_with_the_last_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("history.sqlite");
        let about = About {
            board: "guest",
            line: "stable workloads",
            backend: "guest",
            kernel: "stable (6.12)",
            profile: "stable",
            workloads: 1,
        };
        let mut changes = Vec::new();
        for outcome in [Outcome::Agree, Outcome::KernelCrashed] {
            let mut recorder = Recorder::new(&path).expect("a recorder");
            recorder.take_line(start(&about));
            let result = broken(&named(), about.kernel, outcome, "the kernel oopsed");
            recorder.take_line(Line::Scenario(Box::new(result)));
            let outcomes = BTreeMap::from([(outcome, 1)]);
            recorder.take_line(summary(about.kernel, &outcomes, 7, Duration::from_secs(1)));
            assert_eq!(recorder.notes(), Vec::<String>::new());
            changes.extend(recorder.changes().iter().map(ToString::to_string));
        }
        let [first, second] = &changes[..] else {
            panic!("{changes:?}");
        };
        assert!(
            first.contains("no earlier run of stable workloads"),
            "{first}"
        );
        assert!(second.contains("newly failing"), "{second}");
        assert!(second.contains("stress/fork"), "{second}");
        assert!(Store::read(&path).is_ok());
    }
}
