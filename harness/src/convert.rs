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

/// Linux's number of a scenario's hart on a machine with so many harts: they count
/// down, for hart 0 is the agent's. Also the other way round.
pub fn hart(harts: u32, hart: u32) -> u32 {
    harts.saturating_sub(1).saturating_sub(hart)
}

/// For the agent, on a machine with so many harts.
pub fn to_program(scenario: &Scenario, harts: u32, tracing: Tracing) -> Program {
    Program {
        files: scenario.files.iter().map(|file| file.1.clone()).collect(),
        swap: scenario.needs_swap(),
        actors: scenario
            .actors
            .iter()
            .map(|actor| Actor {
                kind: actor.kind,
                hart: hart(harts, actor.hart),
            })
            .collect(),
        steps: scenario
            .steps
            .iter()
            .map(|step| Step {
                by: step.by,
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
    let actor = |actor: &crate::scenario::Actor| model::Actor {
        kind: match actor.kind {
            ActorKind::Process { mm } => model::ActorKind::Process { mm },
            ActorKind::Thread { of } => model::ActorKind::Thread { of },
            ActorKind::Fork => model::ActorKind::Fork,
        },
        hart: actor.hart,
    };
    let step = |step: &crate::scenario::Step| model::Step {
        by: step.by,
        op: to_model_op(&step.op),
    };
    model::Program {
        files: scenario.files.iter().map(|named| file(&named.1)).collect(),
        actors: scenario.actors.iter().map(actor).collect(),
        steps: scenario.steps.iter().map(step).collect(),
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
