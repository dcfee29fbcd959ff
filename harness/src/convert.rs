// SPDX-License-Identifier: GPL-2.0-only
//! A scenario for either side.

use crate::scenario::Scenario;
use operations::{Course, Program};
use protocol::{Run, Tracing};

/// Linux's number of a scenario's hart on a machine with so many harts: they count
/// down, for hart 0 is the agent's. Also the other way round. None where there is no such.
pub fn hart(harts: u32, hart: u32) -> Option<u32> {
    harts.checked_sub(1)?.checked_sub(hart)
}

/// For the agent, on a machine with so many harts; none where these are too few.
pub fn to_run(scenario: &Scenario, harts: u32, tracing: Tracing) -> Option<Run> {
    let mut program = to_model(scenario);
    for actor in &mut program.actors {
        actor.hart = hart(harts, actor.hart)?;
    }
    for named in program
        .steps
        .iter_mut()
        .filter_map(|step| step.op.hart_mut())
    {
        *named = hart(harts, *named)?;
    }
    Some(Run {
        program,
        swap: scenario.needs_swap(),
        tracing,
        iommu: None,
    })
}

/// For the model. What is done to a thread's process is done to it, whether that thread still
/// is or not.
pub fn to_model(scenario: &Scenario) -> Program {
    let mut program = scenario.program.clone();
    for step in &mut program.steps {
        if let Course::ActsOn(actor) | Course::Ends(actor) = step.op.course() {
            step.op = step.op.clone().on(scenario.process_of(actor));
        }
    }
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::check;
    use operations::{ActorKind, Op};
    use std::path::Path;

    const TRACED: Tracing = Tracing {
        on: true,
        tables: false,
        eager: false,
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
        let program = to_run(&scenario, 4, TRACED).expect("enough harts").program;
        assert_eq!(program.mms(), 6);
        let kind = |name: &str| {
            let place = scenario.actors.iter().position(|actor| actor == name);
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
            let actors = to_run(&scenario, harts, TRACED)?.program.actors;
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
        assert_eq!(scenario.actors[of(&scenario.program.steps[1].op)], "w");
        let place = of(&to_run(&scenario, 3, TRACED)
            .expect("enough harts")
            .program
            .steps[1]
            .op);
        assert_eq!(scenario.actors[place], "p");
        let model = to_model(&scenario).steps[1].op.clone();
        assert!(matches!(model, Op::ProcessMadvise { of, .. } if of == place));
    }
}
