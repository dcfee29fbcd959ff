// SPDX-License-Identifier: GPL-2.0-only
//! A scenario for either side: bytes for the model, pages for the agent.

use crate::scenario::Scenario;
use protocol::program::{Actor, ActorKind, Op, Program, Step};
use protocol::{ARENA_BASE, PAGE_SIZE};
use reference_model as model;

/// How the agent replays the steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tracing {
    /// Trace at all; else the steps only run.
    pub on: bool,
    /// Count, with so many subscribers.
    pub subscribers: Option<u32>,
    /// Records that the trace buffer holds; 0 for the module's default.
    pub buffer_records: u32,
    /// The buffer is not emptied while the steps run, and never replaced by a larger one:
    /// for trying what overflows.
    pub keeps_all: bool,
}

impl Tracing {
    /// All that there is to see. A size that is said is for trying what overflows.
    pub fn full(buffer_records: u32) -> Tracing {
        Tracing {
            on: true,
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

/// Linux's number of a scenario's hart on a machine with so many harts: they count
/// down, for hart 0 is the agent's. Also the other way round. None where there is no such.
pub fn hart(harts: u32, hart: u32) -> Option<u32> {
    harts.checked_sub(1)?.checked_sub(hart)
}

/// For the agent, on a machine with so many harts; none where these are too few.
pub fn to_program(scenario: &Scenario, harts: u32, tracing: Tracing) -> Option<Program> {
    let actor = |actor: &crate::scenario::Actor| {
        Some(Actor {
            kind: actor.kind,
            hart: hart(harts, actor.hart)?,
        })
    };
    let actors: Option<Vec<Actor>> = scenario.actors.iter().map(actor).collect();
    Some(Program {
        files: scenario.files.iter().map(|file| file.1.clone()).collect(),
        swap: scenario.needs_swap(),
        actors: actors?,
        steps: scenario
            .steps
            .iter()
            .map(|step| Step {
                by: step.by,
                op: of_a_process(scenario, &step.op),
            })
            .collect(),
        trace: tracing.on,
        subscribers: tracing.subscribers,
        buffer_records: tracing.buffer_records,
        keeps_all: tracing.keeps_all,
    })
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
        op: to_model_op(&of_a_process(scenario, &step.op)),
    };
    model::Program {
        files: scenario.files.iter().map(|named| file(&named.1)).collect(),
        actors: scenario.actors.iter().map(actor).collect(),
        steps: scenario.steps.iter().map(step).collect(),
    }
}

/// What is done to a thread's process is done to it, whether that thread still is or not.
fn of_a_process(scenario: &Scenario, op: &Op) -> Op {
    let mut op = op.clone();
    if let Op::ProcessMadvise { of, .. } = &mut op {
        *of = scenario.process_of(*of);
    }
    op
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::check;
    use std::path::Path;

    const TRACED: Tracing = Tracing {
        on: true,
        subscribers: None,
        buffer_records: 0,
        keeps_all: false,
    };

    fn scenario(actors: &str, steps: &str) -> Scenario {
        let text = format!("about: x\nactors:\n{actors}steps:\n{steps}");
        check(Path::new("t.yaml"), &text).expect("a good scenario")
    }

    #[test]
    fn mms_are_numbered_processes_first_and_then_as_steps_make_them() {
        let actors =
            "  a: { kind: fork }\n  z: { kind: process, hart: 2 }\n  y: { kind: process }\n";
        let steps = "  - exec: { by: z }\n  - fork: { child: a, by: y }\n  - exec: { by: z }\n";
        let scenario = scenario(actors, steps);
        assert_eq!(scenario.mms, ["subject", "y", "z", "z'", "a", "z''"]);
        let program = to_program(&scenario, 4, TRACED).expect("enough harts");
        assert_eq!(program.mms(), 6);
        let kind = |name: &str| {
            let place = scenario.actors.iter().position(|actor| actor.name == name);
            program.actors[place.expect("an actor")].kind
        };
        assert_eq!(kind("y"), ActorKind::Process { mm: 1 });
        assert_eq!(kind("z"), ActorKind::Process { mm: 2 });
        assert_eq!(program.steps[0].op, Op::Exec { mm: 3 });
        assert!(matches!(program.steps[1].op, Op::Fork { mm: 4, .. }));
    }

    #[test]
    fn harts_count_down_on_the_machine_and_up_in_the_model() {
        let scenario = scenario(
            "  w: { kind: thread, of: subject, hart: 1 }\n",
            "  - run: { by: w }\n",
        );
        assert_eq!(scenario.harts(), 2);
        let harts = |harts: u32| {
            let actors = to_program(&scenario, harts, TRACED)?.actors;
            Some(actors.iter().map(|actor| actor.hart).collect::<Vec<_>>())
        };
        assert_eq!(harts(3), Some(vec![2, 1]));
        assert_eq!(harts(2), Some(vec![1, 0]));
        // No actor is anywhere but where the scenario says.
        assert_eq!((harts(1), harts(0)), (None, None));
        let actors = to_model(&scenario).actors;
        assert_eq!((actors[0].hart, actors[1].hart), (0, 1));
        let back = |number| hart(5, hart(5, number)?);
        assert!((0..5).all(|number| back(number) == Some(number)));
        assert_eq!((hart(5, 5), hart(0, 0)), (None, None));
    }

    #[test]
    fn advice_to_a_thread_is_to_its_process_also_when_it_is_gone() {
        let actors = "  p: { kind: process }\n  w: { kind: thread, of: p, hart: 1 }\n";
        let steps =
            "  - exit: { by: w }\n  - process_madvise: { of: w, at: 0, pages: 1, advice: cold }\n";
        let scenario = scenario(actors, steps);
        let of = |op: &Op| match *op {
            Op::ProcessMadvise { of, .. } => of,
            _ => usize::MAX,
        };
        assert_eq!(scenario.actors[of(&scenario.steps[1].op)].name, "w");
        let place = of(&to_program(&scenario, 3, TRACED)
            .expect("enough harts")
            .steps[1]
            .op);
        assert_eq!(scenario.actors[place].name, "p");
        let model = to_model(&scenario).steps[1].op.clone();
        assert!(matches!(model, model::Op::ProcessMadvise { of, .. } if of == place));
    }
}
