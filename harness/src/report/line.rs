// SPDX-License-Identifier: GPL-2.0-only
//! The lines of `--format json`, which `harness/JSON.md` documents: one type for the writer and
//! for all readers. A change of meaning changes [`SCHEMA`].

mod earlier;

use crate::outcome::Outcome;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Version of the schema, in every line.
pub const SCHEMA: u32 = 4;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    /// A run begins.
    Start(Start),
    /// A scenario has its verdict.
    Scenario(Box<Scenario>),
    /// A run has ended.
    Summary(Summary),
    /// What a run changed.
    Changes(Changes),
    /// Something that the user should know.
    Note {
        /// What.
        note: String,
    },
    /// What the model expects, for `predict`.
    Prediction(Prediction),
    /// What two kernels do differently, for `compare`.
    Comparison(Comparison),
    /// What all comparisons came to.
    ComparisonSummary(ComparisonSummary),
    /// Of a later version, or of no run.
    #[serde(other)]
    Other,
}

/// A line as it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Versioned {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What it says.
    #[serde(flatten)]
    pub line: Line,
}

/// A run begins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The run's own name.
    pub run: String,
    /// When, by RFC 3339.
    pub began: String,
    /// On which machine.
    pub board: String,
    /// In which line of kernels.
    pub line: String,
    /// How many are to be run.
    pub scenarios: u64,
    /// `guest`, `board` or `recorded`.
    pub backend: String,
    /// The real secondary MMU, and its policy, or null.
    pub secondary: Option<String>,
    /// Which kernel.
    pub kernel: String,
    /// The model's kernel.
    pub model_profile: String,
}

/// A scenario and its verdict.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scenario {
    /// The file.
    pub scenario: String,
    /// The scenario's name.
    pub name: String,
    /// Its own words.
    pub about: String,
    /// Which kernel.
    pub kernel: String,
    /// Whose each mm is.
    pub mms: Vec<String>,
    /// What it came to.
    pub outcome: Outcome,
    /// Why, in a line.
    pub why: String,
    /// What it has in common with other failures, or null where nothing failed.
    pub cause: Option<String>,
    /// The checks that it was judged by.
    pub checks: Vec<String>,
    /// What was found.
    pub findings: Vec<Finding>,
    /// How often it was run.
    pub runs: u32,
    /// How long that took.
    pub elapsed_ms: u64,
    /// Calls into `tlbflush.c` that layer 1 checked.
    pub layer1_checked: u64,
    /// From where on nothing is predicted.
    pub unpredicted: Option<Unpredicted>,
    /// In which order steps were done that were begun together, and how often.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub together: Vec<Together>,
    /// Who called `tlbflush.c`: lists of places in the kernel, each from the caller outwards.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub callers: Vec<Vec<String>>,
    /// The steps, with both sides.
    pub steps: Vec<Step>,
    /// The command that runs it again.
    pub rerun: String,
}

/// Steps that were begun together, in all rounds and runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Together {
    /// The line of the scenario that the first of them is in.
    pub line: usize,
    /// How often each order was seen: what came first.
    pub orders: BTreeMap<String, usize>,
}

/// Where the model stops to speak.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Unpredicted {
    /// The first step, from 1.
    pub step: usize,
    /// Why.
    pub why: String,
}

/// One thing that was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// By which check.
    pub check: String,
    /// What it makes of the scenario.
    pub outcome: Outcome,
    /// Why, in a line.
    pub why: String,
    /// What it has in common with others, or null.
    pub cause: Option<String>,
    /// What there is to be seen of it.
    pub blocks: Vec<Block>,
}

/// Something that there is to be seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Block {
    /// Text.
    Text {
        /// In lines.
        lines: Vec<String>,
    },
    /// A kernel's log.
    Log {
        /// In lines.
        log: Vec<String>,
    },
    /// Calls after which something else followed.
    Calls {
        /// Which.
        calls: Vec<CallChange>,
    },
    /// Steps that differ.
    Steps {
        /// `model_kernel`, `snapshot_kernel` or `most_next`.
        sides: String,
        /// Which.
        steps: Vec<StepChange>,
        /// What may explain them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        hints: Vec<Hint>,
    },
    /// Pages of which secondary MMUs were not notified.
    Ranges {
        /// Which.
        ranges: Vec<Uncovered>,
    },
    /// What a device could reach that it must not.
    Reached {
        /// Which.
        reached: Vec<Reached>,
    },
    /// All that was seen.
    Seen {
        /// In lines.
        lines: Vec<String>,
    },
    /// How often each result came.
    Counts {
        /// The most frequent first.
        counts: Vec<u32>,
    },
    /// The page that documents it.
    Page {
        /// Where.
        page: String,
    },
    /// What is proposed as a snapshot.
    Proposed {
        /// Where.
        proposed: String,
    },
}

/// A call after which something else followed than the model of `tlbflush.c` does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CallChange {
    /// Its number in the trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The step, from 1, or null between steps.
    pub step: Option<usize>,
    /// The call, or null where something followed none.
    pub call: Option<String>,
    /// The kernel's name for the record.
    pub record: String,
    /// The trace's number of the mm.
    pub mm: u64,
    /// Harts, by Linux's numbers.
    pub cpumask: String,
    /// Its ASID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asid: Option<u64>,
    /// Where it ran.
    pub hart: u16,
    /// The task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// What the model does.
    pub expected: Vec<Effect>,
    /// What followed.
    pub followed: Vec<Effect>,
}

/// A step that differs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepChange {
    /// The step, from 1.
    pub step: usize,
    /// What is expected, in lines, or null where there is no such step.
    pub expected: Option<Vec<String>>,
    /// What was seen.
    #[serde(alias = "told")]
    pub seen: Option<Vec<String>>,
}

/// What may explain that the model is wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hint {
    /// The kernel's.
    pub release: String,
    /// The release that the model was read for.
    pub nearest: String,
    /// What changed between them and can be come to.
    pub functions: Vec<String>,
    /// How many more.
    pub more: usize,
    /// Why nothing is known of that.
    pub why_not: Option<String>,
}

/// Something that a device could reach that it must not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reached {
    /// `freed`, `walk`, `stale`, `right`, `dirty` or `narrow`.
    pub kind: String,
    /// Devices that keep parts of larger pages, alone.
    pub by_piece: bool,
    /// The step, from 1.
    pub step: usize,
    /// Of which mm.
    pub mm: usize,
    /// The pages.
    pub range: Range,
    /// The first frame, or the table's.
    pub frame: String,
    /// Since which step it was kept, from 1.
    pub since: usize,
    /// Rights that were kept: of `r`, `w`, `x` and `u`; of a table null.
    pub rights: Option<String>,
    /// The last notification of that mm that came near.
    pub near: Option<Range>,
    /// All of that in a sentence.
    pub text: String,
}

/// Pages of which secondary MMUs were not notified.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Uncovered {
    /// `model` or `kernel`.
    pub side: String,
    /// The step, from 1.
    pub step: usize,
    /// Of which mm.
    pub mm: usize,
    /// The pages.
    pub range: Range,
}

/// A range in words of pages, and in bytes: as text, since JSON's numbers end at 2^53.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// `[4,6)`, or the words for all of an mm.
    pub pages: String,
    /// First byte, in hexadecimal.
    pub start: String,
    /// End, exclusive.
    pub end: String,
}

/// A notification or a fence.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Effect {
    /// `notify`, `sbi_fence`, `ipi_fence` or `local_fence`.
    pub kind: String,
    /// As people read it.
    pub text: String,
    /// What was notified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<Range>,
    /// The mm that a notification is about; none for one that is none of the scenario's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mm: Option<u64>,
}

/// A step, with both sides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// From 1.
    pub step: usize,
    /// Line of the file.
    pub line: usize,
    /// That line.
    pub source: String,
    /// In words.
    pub operation: String,
    /// The ranges of pages that it names, each its first page and the first after it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pages: Vec<[u64; 2]>,
    /// What the model expects.
    pub model: Option<ModelStep>,
    /// What the kernel did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelStep>,
}

/// What the model expects of a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelStep {
    /// Its result.
    pub result: String,
    /// Its calls.
    pub calls: Vec<Call>,
    /// What it takes.
    pub lost: Vec<Lost>,
}

/// What the kernel did in a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KernelStep {
    /// Its result.
    pub result: String,
    /// Its calls.
    pub calls: Vec<Call>,
    /// `invalidate_range_start` and `_end`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub context: Vec<Context>,
}

/// A call into `tlbflush.c`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Call {
    /// Its number in the trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The mm that it is about.
    pub mm: Option<usize>,
    /// What was called, or null where a notification followed no call.
    pub call: Option<String>,
    /// Who called: the index of a list in the scenario's `callers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callers: Option<usize>,
    /// What followed.
    pub effects: Vec<Effect>,
}

/// Pages that lost something.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lost {
    /// Of which mm.
    pub mm: usize,
    /// Which.
    pub range: Range,
}

/// One of the pair of calls that surround a change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Context {
    /// Its number in the trace.
    pub seq: u64,
    /// The mm that it is about.
    pub mm: usize,
    /// Which of the two.
    pub call: String,
    /// What is about to change.
    pub range: Range,
    /// `enum mmu_notifier_event`.
    pub event: u64,
}

/// A run has ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// Which kernel.
    pub kernel: String,
    /// How many scenarios came to what.
    pub outcomes: BTreeMap<String, usize>,
    /// Failures by their cause, the worst first.
    pub causes: Vec<Cause>,
    /// How many were not come to.
    pub not_run: usize,
    /// Why the run ended early, if it did.
    pub stopped: Option<String>,
    /// Ctrl-C ended it.
    pub interrupted: bool,
    /// Calls into `tlbflush.c` that layer 1 checked.
    pub layer1_checked: u64,
    /// How long it took.
    pub elapsed_ms: u64,
    /// Until the first verdict.
    pub first_verdict_ms: Option<u64>,
    /// What the process ends with.
    pub exit_code: u8,
}

/// Failures of one cause.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    /// What they have in common: the same words each night.
    pub cause: String,
    /// The worst of them.
    pub outcome: Outcome,
    /// The one with the fewest steps.
    pub smallest: String,
    /// All of them.
    pub scenarios: Vec<String>,
}

/// What a run changed against earlier ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    /// On which machine.
    pub board: String,
    /// In which line of kernels.
    pub line: String,
    /// Since when, or null where there is nothing earlier.
    pub since: Option<String>,
    /// Causes that no earlier run had, with how many scenarios fail by each.
    #[serde(default)]
    pub new_causes: Vec<NewCause>,
    /// How many fail as before.
    pub still_failing: usize,
    /// What takes longer than usual.
    pub slower: Vec<Slower>,
    /// What changed, by the kind of change.
    #[serde(flatten)]
    pub kinds: BTreeMap<String, Vec<Change>>,
}

/// A cause that no earlier run had.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NewCause {
    /// What failures have in common.
    pub cause: String,
    /// How many.
    pub scenarios: usize,
}

/// A scenario that changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Which.
    pub name: String,
    /// What it came to before.
    pub from: Option<Outcome>,
    /// What it comes to now.
    pub to: Outcome,
    /// Why.
    pub why: String,
}

/// A scenario that takes longer than usual.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Slower {
    /// Which.
    pub name: String,
    /// How long it usually takes.
    pub usual_ms: u64,
    /// How long it took.
    pub elapsed_ms: u64,
}

/// What the model expects of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The file.
    pub scenario: String,
    /// Its own words.
    pub about: String,
    /// The model's kernel.
    pub model_profile: String,
    /// From where on nothing is predicted.
    pub unpredicted: Option<Unpredicted>,
    /// The steps.
    pub steps: Vec<Step>,
    /// Of a device, where that was asked for.
    pub device: Option<Foreseen>,
}

/// What a device holds after each step, by the model, and what of it is wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Foreseen {
    /// What it holds.
    pub held: Vec<Held>,
    /// What of that it must not hold.
    pub reached: Vec<Reached>,
}

/// Pages that a device has translations of, alike.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// After which step, from 1.
    pub step: usize,
    /// Of which mm.
    pub mm: usize,
    /// The pages.
    pub range: Range,
    /// Rights: of `r`, `w`, `x` and `u`.
    pub rights: String,
    /// They were written.
    pub dirty: bool,
    /// Base pages of each leaf.
    pub leaf_pages: u64,
}

/// What two kernels do differently in a scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The file.
    pub scenario: String,
    /// Its own words.
    pub about: String,
    /// The kernels.
    pub kernels: Vec<String>,
    /// How they differ.
    pub class: String,
    /// Where.
    pub steps: Vec<StepChange>,
    /// What was found on either besides.
    pub findings: Vec<FindingOf>,
    /// What each notified; null where that is not known.
    pub notified: [Option<Notified>; 2],
}

/// What was notified, and how much of it had nothing to lose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Notified {
    /// Pages that ranges named.
    pub pages: u64,
    /// Those of them that had nothing to lose.
    pub needless: u64,
    /// How often the whole mm was notified.
    pub whole: u64,
    /// How often of these nothing was lost.
    pub whole_needless: u64,
}

/// What was found on one of two kernels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FindingOf {
    /// Which.
    pub kernel: String,
    /// What.
    #[serde(flatten)]
    pub finding: Finding,
}

/// What all comparisons came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ComparisonSummary {
    /// The kernels.
    pub kernels: Vec<String>,
    /// How many scenarios came to each class.
    pub classes: BTreeMap<String, usize>,
    /// How many were not come to.
    pub not_run: usize,
    /// Ctrl-C ended it.
    pub interrupted: bool,
    /// What the process ends with.
    pub exit_code: u8,
}

impl Line {
    /// As it is written.
    ///
    /// # Errors
    /// None that these types can have.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&self.versioned())
    }

    /// The same, to leave something out of.
    ///
    /// # Errors
    /// None that these types can have.
    pub fn to_value(&self) -> serde_json::Result<Value> {
        serde_json::to_value(self.versioned())
    }

    fn versioned(&self) -> Versioned {
        Versioned {
            schema: SCHEMA,
            line: self.clone(),
        }
    }

    /// What a line says, of this schema or of an earlier one.
    ///
    /// # Errors
    /// It is no such line; why, for people.
    pub fn parse(text: &str) -> Result<Line, String> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
        let schema = value["schema"].as_u64().ok_or(
            "no line of `tlbdiff run --format json`: it has no `schema`; export the run again",
        )?;
        let value = match u32::try_from(schema) {
            Ok(SCHEMA) => value,
            Ok(earlier @ 2..SCHEMA) => earlier::raised(value, earlier, SCHEMA),
            _ => {
                return Err(format!(
                    "its schema is {schema}, and up to {SCHEMA} is known: another version of tlbdiff wrote it"
                ));
            }
        };
        serde_json::from_value::<Versioned>(value)
            .map(|versioned| versioned.line)
            .map_err(|error| {
                format!("{error}: it was not written by this version's `--format json`")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let finding = Finding {
            check: "layer1".to_owned(),
            outcome: Outcome::Unsafe,
            blocks: vec![
                Block::Log {
                    log: vec!["x".to_owned()],
                },
                Block::Counts { counts: vec![3, 2] },
            ],
            ..Finding::default()
        };
        let scenario = Scenario {
            name: "munmap/middle".to_owned(),
            outcome: Outcome::Unsafe,
            findings: vec![finding],
            ..Scenario::default()
        };
        let line = Line::Scenario(Box::new(scenario));
        let text = line.to_json().expect("JSON");
        assert!(
            text.starts_with("{\"schema\":4,\"type\":\"scenario\""),
            "{text}"
        );
        assert_eq!(Line::parse(&text), Ok(line));
    }

    #[test]
    fn what_is_no_such_line_is_told() {
        let wrong = |text: &str| Line::parse(text).expect_err("wrong");
        assert!(wrong("{}").contains("schema"));
        assert!(wrong("{").contains("no JSON"));
        assert!(wrong(r#"{"schema":99,"type":"note"}"#).contains("99"));
        assert!(wrong(r#"{"schema":4,"type":"start"}"#).contains("run"));
        let fine = r#"{"schema":4,"type":"scenario","outcome":"fine"}"#;
        assert!(wrong(fine).contains("`fine`"), "{}", wrong(fine));
        let later = r#"{"schema":4,"type":"weather","sunny":true}"#;
        assert_eq!(Line::parse(later), Ok(Line::Other));
    }
}
