// SPDX-License-Identifier: GPL-2.0-only
//! A scenario for either side: bytes for the model, pages for the agent.

use crate::scenario::Scenario;
use protocol::program::{Actor, ActorKind, Op, Program, Step};
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
pub fn to_program(scenario: &Scenario, subject_hart: u32, tracing: Tracing) -> Program {
    Program {
        files: scenario.files.iter().map(|file| file.1.clone()).collect(),
        swap: scenario.needs_swap(),
        actors: vec![Actor {
            kind: ActorKind::Process { mm: 0 },
            hart: subject_hart,
        }],
        steps: scenario
            .steps
            .iter()
            .map(|step| Step {
                by: 0,
                op: step.op.clone(),
            })
            .collect(),
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
    model::Program::of_subject(
        scenario.files.iter().map(|named| file(&named.1)).collect(),
        scenario.steps.iter().map(|step| to_model_op(&step.op)),
    )
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
        Op::Fork { child, mm } => model::Op::Fork { child, mm },
        Op::Exit => model::Op::Exit,
        Op::Exec { mm } => model::Op::Exec { mm },
        Op::Run => model::Op::Run,
        Op::Ftruncate { file, pages } => model::Op::Ftruncate {
            file,
            len: bytes(pages),
        },
        Op::PunchHole {
            file,
            offset,
            pages,
        } => model::Op::PunchHole {
            file,
            offset: bytes(offset),
            len: bytes(pages),
        },
        Op::ProcessMadvise {
            of,
            at,
            pages,
            advice,
        } => model::Op::ProcessMadvise {
            of,
            addr: address(at),
            len: bytes(pages),
            advice,
        },
    }
}
