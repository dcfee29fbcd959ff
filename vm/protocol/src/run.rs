// SPDX-License-Identifier: GPL-2.0-only
//! A program as the agent replays it: with all that is to be decided about it decided.

use operations::Program;
use serde::{Deserialize, Serialize};

/// A program, and how it is replayed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The steps. Harts are by Linux's numbers.
    pub program: Program,
    /// Whether the steps need swap (the agent then gives a fresh, empty swap device).
    pub swap: bool,
    /// What is recorded of them.
    pub tracing: Tracing,
    /// A device behind the machine's IOMMU shares the actors' mms, and notifications become
    /// commands so.
    pub iommu: Option<Policy>,
}

/// What notifications become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// A command for each page of a range, for all of the mm above 512 of them.
    Leaf,
    /// A command for each leaf of which something was loaded.
    Exact,
    /// A command for all of the mm.
    All,
    /// No command.
    None,
}

impl Policy {
    /// All of them.
    pub const ALL: [Policy; 4] = [Policy::Leaf, Policy::Exact, Policy::All, Policy::None];

    /// As the module takes it.
    pub fn name(self) -> &'static str {
        match self {
            Policy::Leaf => "leaf",
            Policy::Exact => "exact",
            Policy::All => "all",
            Policy::None => "none",
        }
    }
}

impl Run {
    /// Whether what steps cost is counted.
    pub fn counts(&self) -> bool {
        self.tracing.subscribers.is_some()
    }
}

/// What is recorded while steps are replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracing {
    /// Trace at all; else the steps only run (for measuring the tracer's cost).
    pub on: bool,
    /// Count what each step costs with so many subscribers, instead of tracing it.
    pub subscribers: Option<u32>,
    /// Records that the trace buffer holds; 0 for the module's default.
    pub buffer_records: u32,
    /// Record what page tables hold after each step, and which of their frames are given back.
    pub tables: bool,
    /// Also what they hold of each range before something is taken from it, in a step.
    pub eager: bool,
    /// The buffer is not emptied while the steps run, and never replaced by a larger one: for
    /// trying what overflows.
    pub keeps_all: bool,
}

impl Tracing {
    /// All that there is to see. A size that is said is for trying what overflows.
    pub fn full(buffer_records: u32) -> Tracing {
        Tracing {
            on: true,
            tables: true,
            buffer_records,
            keeps_all: buffer_records != 0,
            ..Tracing::default()
        }
    }

    /// Nothing, but what steps cost.
    pub fn count(subscribers: u32) -> Tracing {
        Tracing {
            subscribers: Some(subscribers),
            ..Tracing::default()
        }
    }
}
