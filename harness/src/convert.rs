// SPDX-License-Identifier: GPL-2.0-only
//! A scenario for either side: bytes for the model, pages for the agent.

use crate::scenario::Scenario;
use protocol::program::{Op, Program};
use protocol::{ARENA_BASE, PAGE_SIZE};
use reference_model as model;

/// How the agent replays the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracing {
    /// Trace at all; else the steps only run.
    pub on: bool,
    /// Records that the trace buffer holds; 0 for the module's default.
    pub buffer_records: u32,
}

/// For the agent.
pub fn to_program(scenario: &Scenario, tracing: Tracing) -> Program {
    Program {
        files: scenario.files.iter().map(|file| file.1.clone()).collect(),
        swap: scenario.needs_swap(),
        steps: scenario.steps.iter().map(|step| step.op.clone()).collect(),
        trace: tracing.on,
        buffer_records: tracing.buffer_records,
    }
}

/// For the model.
pub fn to_model(scenario: &Scenario) -> model::Program {
    let file = |file: &protocol::program::MemoryFile| model::MemoryFile {
        pages: file.pages,
        filled: file.filled,
        read_only: file.read_only,
        seals: file.seals,
    };
    model::Program {
        files: scenario.files.iter().map(|named| file(&named.1)).collect(),
        steps: scenario
            .steps
            .iter()
            .map(|step| to_model_op(&step.op))
            .collect(),
    }
}

/// Address of a page of the arena.
pub fn address(page: u64) -> u64 {
    ARENA_BASE + page * PAGE_SIZE
}

fn to_model_op(op: &Op) -> model::Op {
    let bytes = |pages: u64| pages * PAGE_SIZE;
    match *op {
        Op::Mmap {
            at,
            pages,
            prot,
            flags,
            file,
            offset,
        } => model::Op::Mmap {
            addr: address(at),
            len: bytes(pages),
            prot,
            flags,
            file,
            offset: bytes(offset),
        },
        Op::Munmap { at, pages } => model::Op::Munmap {
            addr: address(at),
            len: bytes(pages),
        },
        Op::Mprotect { at, pages, prot } => model::Op::Mprotect {
            addr: address(at),
            len: bytes(pages),
            prot,
        },
        Op::Madvise { at, pages, advice } => model::Op::Madvise {
            addr: address(at),
            len: bytes(pages),
            advice,
        },
        Op::Touch {
            at,
            pages,
            every,
            write,
        } => model::Op::Touch {
            addr: address(at),
            len: bytes(pages),
            every,
            write,
        },
        Op::Reclaim { pages } => model::Op::Reclaim {
            bytes: bytes(pages),
        },
    }
}
