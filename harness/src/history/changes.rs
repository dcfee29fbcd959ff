// SPDX-License-Identifier: GPL-2.0-only
//! What a run changed against those before it on the same board and kernel line.

use crate::outcome::{Outcome, Status};
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// As many earlier runs are needed before anything is called slower, and as many are looked at.
const RUNS_FOR_TIMES: usize = 3;
/// Slower than usual is this many times as slow,
const SLOWER_TIMES: u64 = 2;
/// and by this much: less is the machine's mood.
const SLOWER_BY_MS: u64 = 1000;
/// Most lines about what is slower.
const SHOWN: usize = 10;

/// What came of a scenario in earlier runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// The last outcome.
    pub last: Option<Outcome>,
    /// The last that says something of the kernel: neither skipped nor could not run.
    pub conclusive: Option<Outcome>,
    /// How long it took when it agreed, in milliseconds, the last one first.
    pub took_ms: Vec<u64>,
}

impl Past {
    /// Adds a result that is older than all that were added before.
    pub fn add_older(&mut self, outcome: Outcome, elapsed_ms: u64) {
        self.last.get_or_insert(outcome);
        if says_something(outcome) {
            self.conclusive.get_or_insert(outcome);
        }
        if outcome == Outcome::Agree && self.took_ms.len() < RUNS_FOR_TIMES {
            self.took_ms.push(elapsed_ms);
        }
    }

    /// What is usual, if that can be said.
    fn usual_ms(&self) -> Option<u64> {
        let mut took = self.took_ms.clone();
        took.sort_unstable();
        (took.len() == RUNS_FOR_TIMES).then(|| took[took.len() / 2])
    }
}

/// All that is known of earlier runs on a board and a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pasts {
    /// When the last of them began.
    pub since: Option<DateTime<Utc>>,
    /// By the scenario's name.
    pub scenarios: BTreeMap<String, Past>,
    /// What their failures had in common.
    pub causes: BTreeSet<String>,
}

/// One result of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The scenario's name.
    pub name: String,
    /// What it came to.
    pub outcome: Outcome,
    /// Why, in a line.
    pub why: String,
    /// What it has in common with other failures.
    pub cause: Option<String>,
    /// How long it took.
    pub elapsed_ms: u64,
}

/// How a scenario's outcome changed. The first two are what got worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It fails, and did not, or fails worse than it did.
    Failing,
    /// It varies, and did not.
    Varying,
    /// It failed or varied, and agrees.
    Fixed,
    /// It was run the last time, and could not be or was skipped.
    NotRun,
    /// There was none of that name, and it agrees.
    New,
}

impl ChangeKind {
    /// All of them, in the order of telling.
    pub const ALL: [ChangeKind; 5] = [
        ChangeKind::Failing,
        ChangeKind::Varying,
        ChangeKind::Fixed,
        ChangeKind::NotRun,
        ChangeKind::New,
    ];

    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            ChangeKind::Failing => "newly failing",
            ChangeKind::Varying => "newly varying",
            ChangeKind::Fixed => "fixed",
            ChangeKind::NotRun => "not run any more",
            ChangeKind::New => "new",
        }
    }

    /// As programs read it.
    pub fn key(self) -> &'static str {
        match self {
            ChangeKind::Failing => "newly_failing",
            ChangeKind::Varying => "newly_varying",
            ChangeKind::Fixed => "fixed",
            ChangeKind::NotRun => "not_run_any_more",
            ChangeKind::New => "new",
        }
    }
}

/// A scenario whose outcome changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// How.
    pub kind: ChangeKind,
    /// The scenario's name.
    pub name: String,
    /// What it came to before, where there is a before.
    pub from: Option<Outcome>,
    /// What it comes to now.
    pub to: Outcome,
    /// Why, in a line.
    pub why: String,
}

/// A scenario that took longer than usual.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slower {
    /// The scenario's name.
    pub name: String,
    /// The median of the last ones.
    pub usual_ms: u64,
    /// How long it took now.
    pub elapsed_ms: u64,
}

/// What a run changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// On which machine.
    pub board: String,
    /// In which line of kernels.
    pub line: String,
    /// When the run before it began; none for the first.
    pub since: Option<DateTime<Utc>>,
    /// Scenarios whose outcome changed.
    pub changes: Vec<Change>,
    /// Causes of failures that no earlier run had, with how many scenarios fail by each.
    pub new_causes: Vec<(String, usize)>,
    /// Scenarios that fail or vary as they did before.
    pub still: usize,
    /// Scenarios that took longer than usual.
    pub slower: Vec<Slower>,
}

impl Changes {
    /// Of a run, against all that was before it.
    pub fn new(board: &str, line: &str, pasts: &Pasts, entries: &[Entry]) -> Changes {
        let mut changes = Changes {
            board: board.to_owned(),
            line: line.to_owned(),
            since: pasts.since,
            ..Changes::default()
        };
        let unknown = Past::default();
        for entry in entries {
            let past = pasts.scenarios.get(&entry.name).unwrap_or(&unknown);
            changes.add(past, entry);
        }
        changes.new_causes = new_causes(&pasts.causes, entries);
        changes
    }

    pub(super) fn add(&mut self, past: &Past, entry: &Entry) {
        match kind(past, entry.outcome) {
            Some(kind) => self.changes.push(Change {
                kind,
                name: entry.name.clone(),
                from: past.last.and(match kind {
                    ChangeKind::NotRun => past.last,
                    _ => past.conclusive,
                }),
                to: entry.outcome,
                why: entry.why.clone(),
            }),
            None if fails(entry.outcome) || entry.outcome == Outcome::Varies => self.still += 1,
            None => {}
        }
        let usual = past.usual_ms().filter(|_| entry.outcome == Outcome::Agree);
        if let Some(usual_ms) = usual
            && entry.elapsed_ms > usual_ms * SLOWER_TIMES
            && entry.elapsed_ms > usual_ms + SLOWER_BY_MS
        {
            self.slower.push(Slower {
                name: entry.name.clone(),
                usual_ms,
                elapsed_ms: entry.elapsed_ms,
            });
        }
    }

    /// Those of a kind.
    pub fn of(&self, kind: ChangeKind) -> impl Iterator<Item = &Change> {
        self.changes
            .iter()
            .filter(move |change| change.kind == kind)
    }

    /// Whether something got worse.
    pub fn worse(&self) -> bool {
        self.of(ChangeKind::Failing).next().is_some()
            || self.of(ChangeKind::Varying).next().is_some()
    }
}

/// Causes that are not among those known, the most frequent first.
fn new_causes(known: &BTreeSet<String>, entries: &[Entry]) -> Vec<(String, usize)> {
    let mut causes: BTreeMap<&str, usize> = BTreeMap::new();
    let now = entries.iter().filter_map(|entry| entry.cause.as_deref());
    for cause in now.filter(|cause| !known.contains(*cause)) {
        *causes.entry(cause).or_default() += 1;
    }
    let causes = causes
        .into_iter()
        .map(|(cause, count)| (cause.to_owned(), count));
    let mut causes: Vec<(String, usize)> = causes.collect();
    causes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    causes
}

fn says_something(outcome: Outcome) -> bool {
    !matches!(outcome, Outcome::Skipped | Outcome::CouldNotRun)
}

fn fails(outcome: Outcome) -> bool {
    Status::of(outcome) == Status::Fail
}

fn kind(past: &Past, now: Outcome) -> Option<ChangeKind> {
    let before = past.conclusive;
    let failed = before.is_some_and(fails);
    match Status::of(now) {
        Status::Fail if !failed || before < Some(now) => Some(ChangeKind::Failing),
        Status::Flaky if before != Some(Outcome::Varies) => Some(ChangeKind::Varying),
        Status::Pass | Status::Xfail if failed || before == Some(Outcome::Varies) => {
            Some(ChangeKind::Fixed)
        }
        Status::Skip | Status::Error if past.last.is_some_and(says_something) => {
            Some(ChangeKind::NotRun)
        }
        _ if past.last.is_none() => Some(ChangeKind::New),
        _ => None,
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Changes { board, line, .. } = self;
        match self.since {
            None => writeln!(f, "\nno earlier run of {line} on {board} to compare with")?,
            Some(since) => {
                let since = since.format("%Y-%m-%d %H:%M UTC");
                writeln!(
                    f,
                    "\n{line} on {board}, against earlier runs (the last of {since}):"
                )?;
            }
        }
        let first = self.since.is_none();
        for kind in ChangeKind::ALL {
            // On the first run all of them are.
            if !(first && kind == ChangeKind::New) {
                self.list(f, kind)?;
            }
        }
        for (cause, count) in self.new_causes.iter().filter(|_| !first).take(SHOWN) {
            writeln!(f, "  {:<17} {cause} ({count} scenarios)", "new cause")?;
        }
        for slower in self.slower.iter().take(SHOWN) {
            let seconds = |ms: u64| ms as f64 / 1000.0;
            let (usual, now) = (seconds(slower.usual_ms), seconds(slower.elapsed_ms));
            writeln!(
                f,
                "  slower            {}: {now:.1} s, usually {usual:.1} s",
                slower.name
            )?;
        }
        if self.slower.len() > SHOWN {
            writeln!(
                f,
                "  slower            and {} more",
                self.slower.len() - SHOWN
            )?;
        }
        match (
            self.still,
            self.changes.is_empty() && self.slower.is_empty(),
        ) {
            (0, true) if first => Ok(()),
            (0, true) => writeln!(f, "  nothing changed"),
            (0, false) => Ok(()),
            (still, _) => writeln!(f, "  {still} fail or vary as before"),
        }
    }
}

impl Changes {
    fn list(&self, f: &mut fmt::Formatter<'_>, kind: ChangeKind) -> fmt::Result {
        for change in self.of(kind) {
            let (label, name, to) = (kind.name(), &change.name, change.to.name());
            let why = match change.why.as_str() {
                "" => String::new(),
                why => format!(": {why}"),
            };
            match change.from {
                Some(from) => writeln!(f, "  {label:<17} {name} ({} → {to}){why}", from.name())?,
                None => writeln!(f, "  {label:<17} {name} ({to}){why}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(newest_first: &[(Outcome, u64)]) -> Past {
        let mut past = Past::default();
        for (outcome, elapsed) in newest_first {
            past.add_older(*outcome, *elapsed);
        }
        past
    }

    fn kind_of(before: &[Outcome], now: Outcome) -> Option<ChangeKind> {
        let before: Vec<(Outcome, u64)> = before.iter().map(|outcome| (*outcome, 1)).collect();
        kind(&past(&before), now)
    }

    #[test]
    fn what_changed_is_told_by_the_last_result_that_says_something() {
        use Outcome::{Agree, CouldNotRun, Differs, Known, Skipped, Unsafe, Varies};
        assert_eq!(kind_of(&[], Agree), Some(ChangeKind::New));
        assert_eq!(kind_of(&[], Skipped), Some(ChangeKind::New));
        assert_eq!(kind_of(&[], Differs), Some(ChangeKind::Failing));
        assert_eq!(kind_of(&[Agree], Agree), None);
        assert_eq!(kind_of(&[Agree], Differs), Some(ChangeKind::Failing));
        assert_eq!(kind_of(&[Known], Differs), Some(ChangeKind::Failing));
        assert_eq!(kind_of(&[Differs], Differs), None);
        assert_eq!(kind_of(&[Differs], Unsafe), Some(ChangeKind::Failing));
        assert_eq!(kind_of(&[Unsafe], Differs), None);
        assert_eq!(kind_of(&[Unsafe], Agree), Some(ChangeKind::Fixed));
        assert_eq!(kind_of(&[Unsafe], Known), Some(ChangeKind::Fixed));
        assert_eq!(kind_of(&[Varies], Varies), None);
        assert_eq!(kind_of(&[Varies], Agree), Some(ChangeKind::Fixed));
        assert_eq!(kind_of(&[Agree], Varies), Some(ChangeKind::Varying));
        assert_eq!(kind_of(&[Varies], Differs), Some(ChangeKind::Failing));
        assert_eq!(kind_of(&[Agree], CouldNotRun), Some(ChangeKind::NotRun));
        assert_eq!(kind_of(&[CouldNotRun, Agree], CouldNotRun), None);
        // A night without a machine neither fixes anything nor breaks it anew.
        assert_eq!(kind_of(&[CouldNotRun, Differs], Differs), None);
        assert_eq!(
            kind_of(&[CouldNotRun, Agree], Differs),
            Some(ChangeKind::Failing)
        );
        assert_eq!(kind_of(&[Skipped, Differs], Agree), Some(ChangeKind::Fixed));
    }

    #[test]
    fn a_cause_is_new_once() {
        let entry = |name: &str, cause: Option<&str>| Entry {
            name: name.to_owned(),
            outcome: Outcome::Differs,
            why: String::new(),
            cause: cause.map(str::to_owned),
            elapsed_ms: 1,
        };
        let entries = [
            entry("a", Some("x")),
            entry("b", Some("y")),
            entry("c", Some("y")),
            entry("d", Some("old")),
            entry("e", None),
        ];
        let pasts = Pasts {
            since: Some(Utc::now()),
            causes: ["old".to_owned()].into(),
            ..Pasts::default()
        };
        let changes = Changes::new("b", "l", &pasts, &entries);
        let expected = [("y".to_owned(), 2), ("x".to_owned(), 1)];
        assert_eq!(changes.new_causes, expected);
        let told = changes.to_string();
        assert!(
            told.contains("  new cause         y (2 scenarios)\n"),
            "{told}"
        );
    }

    #[test]
    fn slower_is_told_where_there_is_a_usual() {
        let entry = |elapsed_ms| Entry {
            name: "a".to_owned(),
            outcome: Outcome::Agree,
            why: String::new(),
            cause: None,
            elapsed_ms,
        };
        let slower = |before: &[(Outcome, u64)], now| {
            let mut changes = Changes::default();
            changes.add(&past(before), &entry(now));
            changes.slower.len()
        };
        let usual = [
            (Outcome::Agree, 900),
            (Outcome::Agree, 1000),
            (Outcome::Agree, 30_000),
        ];
        assert_eq!(slower(&usual, 2001), 1);
        assert_eq!(slower(&usual, 1999), 0);
        assert_eq!(slower(&usual[..2], 60_000), 0);
        let quick = [(Outcome::Agree, 10); 3];
        assert_eq!(slower(&quick, 900), 0);
    }
}
