// SPDX-License-Identifier: GPL-2.0-only
//! What a check found: its outcome, a sentence why, and blocks that can be printed. Who prints
//! knows the blocks and none of the checks.

use crate::device::Reached;
use crate::diff::Diff;
use crate::layer1::Layer1Difference;
use crate::outcome::Outcome;
use crate::reading::Hint;
use crate::steps::Seen;
use reference_model::{MmId, Range};
use std::path::PathBuf;

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which check found it, by its name; `run` where it could not be run.
    pub check: &'static str,
    /// What it makes of the scenario.
    pub outcome: Outcome,
    /// Why, in a line.
    pub why: String,
    /// What the failures of one cause have in common: the first call that differs, and how.
    pub cause: Option<String>,
    /// What there is to be seen of it.
    pub blocks: Vec<Block>,
}

/// Something to be printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// Lines of text.
    Text(Vec<String>),
    /// Lines of a kernel's log.
    Log(Vec<String>),
    /// Calls after which something else followed than the model of `tlbflush.c` does.
    Calls(Vec<Layer1Difference>),
    /// Steps on which two sides disagree.
    Steps {
        /// Which sides.
        sides: Sides,
        /// The steps.
        diff: Diff,
        /// What may explain them, one for each step, or none.
        hints: Vec<Hint>,
    },
    /// Pages of which secondary MMUs were not notified.
    Ranges(Vec<Uncovered>),
    /// What a device could reach that it must not.
    Reached(Vec<Reached>),
    /// What was seen, all of it.
    Seen(Seen),
    /// How often each result came, the most frequent first.
    Counts(Vec<u32>),
    /// The page that documents it.
    Page(PathBuf),
    /// What is proposed as a snapshot.
    Proposed(PathBuf),
}

/// What is expected, and by whom it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sides {
    /// The model, and the kernel.
    ModelKernel,
    /// The accepted snapshot, and the kernel.
    SnapshotKernel,
    /// The most frequent result, and the next.
    MostNext,
}

/// Which side failed to notify of pages that lost something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The model.
    Model,
    /// The kernel.
    Kernel,
}

/// Pages that lost their mapping, a right or their frame in a step, by the model, and of which
/// secondary MMUs were not notified in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uncovered {
    /// Which side.
    pub side: Side,
    /// Which step, from 0.
    pub step: usize,
    /// Of which mm.
    pub mm: MmId,
    /// The pages, in bytes.
    pub pages: Range,
}

/// Whoever could not be run was found by no check.
const RUN: &str = "run";

impl Finding {
    /// Without blocks.
    pub fn new(check: &'static str, outcome: Outcome, why: impl Into<String>) -> Finding {
        Finding {
            check,
            outcome,
            why: why.into(),
            cause: None,
            blocks: Vec::new(),
        }
    }

    /// With one block more.
    pub fn with(mut self, block: Block) -> Finding {
        self.blocks.push(block);
        self
    }

    /// With what it has in common with others.
    pub fn because(mut self, cause: Option<String>) -> Finding {
        self.cause = cause;
        self
    }

    /// No statement about the kernel could be had: why, and what to do, in lines.
    pub fn could_not_run(why: impl AsRef<str>) -> Finding {
        Finding::lines(Outcome::CouldNotRun, why.as_ref())
    }

    /// Something that the scenario requires is missing: what, in lines.
    pub fn skipped(why: impl AsRef<str>) -> Finding {
        Finding::lines(Outcome::Skipped, why.as_ref())
    }

    /// There is no accepted snapshot where one was asked for.
    pub fn no_snapshot() -> Finding {
        Finding::new(RUN, Outcome::SnapshotNew, "there is no accepted snapshot").with(Block::Text(
            vec!["run it on a kernel to get one: --backend guest".to_owned()],
        ))
    }

    /// Oops, panic, splat or hang: what, and what the kernel said about it.
    pub fn kernel_crashed(what: impl Into<String>, log: Vec<String>) -> Finding {
        Finding::new(RUN, Outcome::KernelCrashed, what).with(Block::Log(log))
    }

    /// The program that replays the steps died of its own memory, which the kernel keeps.
    pub fn program_corrupted(what: impl Into<String>, log: Vec<String>) -> Finding {
        let same = "it is the same program on every kernel: where it dies on others too, the \
                    fault is its own";
        Finding::new(RUN, Outcome::ProgramCorrupted, what)
            .with(Block::Text(vec![same.to_owned()]))
            .with(Block::Log(log))
    }

    fn lines(outcome: Outcome, why: &str) -> Finding {
        let mut lines = why.lines();
        let finding = Finding::new(RUN, outcome, lines.next().unwrap_or_default());
        let rest: Vec<String> = lines.map(str::to_owned).collect();
        match rest.is_empty() {
            true => finding,
            false => finding.with(Block::Text(rest)),
        }
    }

    /// All its text, in lines.
    pub fn text(&self) -> String {
        let lines = self.blocks.iter().flat_map(|block| match block {
            Block::Text(lines) | Block::Log(lines) => lines.as_slice(),
            _ => &[],
        });
        let mut text = self.why.clone();
        for line in lines {
            text.push('\n');
            text.push_str(line);
        }
        text
    }

    /// The page that documents it, if one does.
    pub fn page(&self) -> Option<&PathBuf> {
        self.blocks.iter().find_map(|block| match block {
            Block::Page(page) => Some(page),
            _ => None,
        })
    }

    /// How often each result came, if they vary.
    pub fn counts(&self) -> Option<&[u32]> {
        self.blocks.iter().find_map(|block| match block {
            Block::Counts(counts) => Some(counts.as_slice()),
            _ => None,
        })
    }
}
