// SPDX-License-Identifier: GPL-2.0-only
//! Steps of which a few lines make many: each round of a `repeat` is checked like steps that
//! are written out, and gives steps of its own.

use super::actors::Cast;
use super::checked::Rounds;
use super::checker::{Checked, Checker};
use super::file::{self, Repeat, Together};
use operations::{Course, Group, MemoryFile, Op, Step};
use serde_saphyr::{Location, Spanned};

/// The most steps, with those of each round: each may make two areas more, of which a process
/// has 65530 at the most (`vm.max_map_count`), its own included.
const MOST_STEPS: usize = 32_000;

/// The most turns of a loop that a step waits: some milliseconds of an emulated hart.
const MOST_DELAY: u64 = 1_000_000;

/// How a round is called where nothing is said.
const VARIABLE: &str = "i";

/// What steps are made of, and those that have been made.
pub(super) struct Unrolled<'a> {
    pub files: &'a [(String, MemoryFile)],
    pub cast: &'a mut Cast,
    pub steps: Vec<Step>,
    pub written: Vec<super::Written>,
    pub rounds: Vec<Rounds>,
    pub groups: Vec<Group>,
}

impl Checker<'_> {
    /// Steps as they are written, one after the other.
    pub(super) fn steps(
        &self,
        steps: &[Spanned<file::Written>],
        made: &mut Unrolled<'_>,
    ) -> Checked<()> {
        for step in steps {
            match &step.value.0 {
                file::Step::Repeat(repeat) => self.repeat(repeat, step.referenced, made)?,
                file::Step::Together(together) => {
                    self.together(together, step.referenced, made)?;
                }
                _ => self.one_more(step, made)?,
            }
        }
        Ok(())
    }

    fn one_more(&self, step: &Spanned<file::Written>, made: &mut Unrolled<'_>) -> Checked<()> {
        if made.steps.len() == MOST_STEPS {
            let message = format!("too many steps: a scenario has at most {MOST_STEPS}");
            return Err(self.error(step.referenced, message));
        }
        let (step, written) = self.step(step.clone(), made.files, made.cast)?;
        made.steps.push(step);
        made.written.push(written);
        Ok(())
    }

    fn repeat(&self, repeat: &Repeat, place: Location, made: &mut Unrolled<'_>) -> Checked<()> {
        let times = self.number(&repeat.times, "how often")?;
        if times == 0 {
            return Err(self.error(repeat.times.referenced, "`times` is at least 1"));
        }
        if repeat.steps.value.is_empty() {
            return Err(self.error(repeat.steps.referenced, "`steps` has no step"));
        }
        let name = self.variable(repeat, place)?;
        let first = made.steps.len();
        let innermost = !repeat.steps.value.iter().any(is_repeat);
        for round in 0..times {
            self.rounds.borrow_mut().push((name.clone(), round));
            self.steps(&repeat.steps.value, made)?;
            self.rounds.borrow_mut().pop();
        }
        let steps = (made.steps.len() - first) / times as usize;
        made.rounds.extend(innermost.then_some(Rounds {
            first,
            steps,
            times: times as usize,
        }));
        Ok(())
    }

    /// Steps that are begun at the same moment: each by another actor, on another hart.
    fn together(
        &self,
        together: &Together,
        place: Location,
        made: &mut Unrolled<'_>,
    ) -> Checked<()> {
        if together.steps.len() < 2 {
            return Err(self.error(place, "`together` has two steps at least"));
        }
        let first = made.steps.len();
        for step in &together.steps {
            if matches!(
                step.value.0,
                file::Step::Repeat(_) | file::Step::Together(_)
            ) {
                let message = "`together` takes operations alone: `repeat` is around it";
                return Err(self.error(step.referenced, message));
            }
            self.one_more(step, made)?;
            let (before, last) = made.steps[first..].split_at(made.steps.len() - 1 - first);
            self.can_be_together(before, &last[0], step.referenced, made.cast)?;
        }
        let exits = |step: &Step| step.op.course() == Course::Exit;
        if made.steps[first..].iter().all(exits) {
            return Err(self.error(place, "somebody has to be left when the others have exited"));
        }
        let most = match &together.delay {
            Some(delay) => self.delay(delay)?,
            None => 0,
        };
        // The same whenever the scenario is run, and others in each round.
        let mut chance = fastrand::Rng::with_seed(first as u64);
        let delays = together.steps.iter().map(|_| chance.u32(0..=most as u32));
        made.groups.push(Group {
            first,
            delays: delays.collect(),
        });
        Ok(())
    }

    fn delay(&self, delay: &Spanned<file::Count>) -> Checked<u64> {
        let turns = self.number(delay, "a number of turns")?;
        if turns > MOST_DELAY {
            let message = format!("{turns} is too long a delay: it has {MOST_DELAY} turns at most");
            return Err(self.error(delay.referenced, message));
        }
        Ok(turns)
    }

    /// Whether a step can begin at the same moment as others.
    fn can_be_together(
        &self,
        others: &[Step],
        step: &Step,
        place: Location,
        cast: &Cast,
    ) -> Checked<()> {
        let hart = |step: &Step| cast.actors[step.by].hart;
        let name = |step: &Step| &cast.names[step.by];
        if let Some(other) = others.iter().find(|other| hart(other) == hart(step)) {
            let message = format!(
                "`{}` and `{}` are on hart {}: whoever acts together is on harts of their own",
                name(other),
                name(step),
                hart(step)
            );
            return Err(self.error(place, message));
        }
        let apart = match step.op.course() {
            Course::Exec { .. } => Some("exec"),
            Course::Run => Some("run"),
            Course::OfDevice(_) => Some("device"),
            Course::Ends(_) => Some("killing another process"),
            Course::Returns if matches!(step.op, Op::Vm { .. }) => Some("vm"),
            Course::Returns
            | Course::Reclaims
            | Course::ActsOn(_)
            | Course::Fork { .. }
            | Course::Exit => None,
        };
        match apart {
            Some(what) => Err(self.error(place, format!("`{what}` is begun by nobody else"))),
            None => Ok(()),
        }
    }

    /// How a round is called: otherwise than those around it.
    fn variable(&self, repeat: &Repeat, place: Location) -> Checked<String> {
        let (name, place) = match &repeat.variable {
            Some(name) => (name.value.clone(), name.referenced),
            None => (VARIABLE.to_owned(), place),
        };
        let good = |letter: char| letter.is_alphanumeric() || letter == '_';
        if name.is_empty() || !name.chars().all(good) {
            let message =
                format!("{name:?} is no name of a round: it takes letters, digits and `_`");
            return Err(self.error(place, message));
        }
        let taken = self.rounds.borrow().iter().any(|known| known.0 == name);
        if taken {
            let message = format!("`${name}` is a round of the `repeat` around this one");
            let hint = "say `as: j`, and `$j` for this one's".to_owned();
            return Err(self.error(place, message).with_hint(Some(hint)));
        }
        Ok(name)
    }
}

fn is_repeat(step: &Spanned<file::Written>) -> bool {
    matches!(step.value.0, file::Step::Repeat(_))
}

#[cfg(test)]
mod tests {
    use crate::scenario::{Scenario, check};
    use operations::Op;
    use std::path::Path;

    fn made(steps: &str) -> Result<Scenario, String> {
        let text = format!("about: x\nsteps:\n{steps}");
        check(Path::new("t.yaml"), &text).map_err(|error| error.to_string())
    }

    fn places(scenario: &Scenario) -> Vec<(u64, u64)> {
        let ops = scenario.program.steps.iter().map(|step| &step.op);
        ops.map(|op| match *op {
            Op::Munmap { at, pages } => (at, pages),
            ref other => panic!("{other:?}"),
        })
        .collect()
    }

    #[test]
    fn each_round_gives_steps_with_numbers_of_its_own() {
        let steps = "  - munmap: { at: 9, pages: 1 }\n  - repeat:\n      times: 3\n      steps:\n        - munmap: { at: $i, pages: 1 }\n        - munmap: { at: \"($i + 1) * 10\", pages: $i }\n";
        let scenario = made(steps).expect("a good scenario");
        let expected = [(9, 1), (0, 1), (10, 0), (1, 1), (20, 1), (2, 1), (30, 2)];
        assert_eq!(places(&scenario), expected);
        let rounds = &scenario.rounds[0];
        assert_eq!((rounds.first, rounds.steps, rounds.times), (1, 2, 3));
        assert_eq!(scenario.written[6].line, 8);
        assert_eq!(scenario.written.len(), 7);
    }

    #[test]
    fn a_repeat_in_another_names_its_rounds_otherwise() {
        let steps = "  - repeat: { times: 2, steps: [ { repeat: { times: \"$i + 1\", as: j, steps: [ { munmap: { at: \"$i * 10 + $j\", pages: 1 } } ] } } ] }\n";
        let scenario = made(steps).expect("a good scenario");
        assert_eq!(places(&scenario), [(0, 1), (10, 1), (11, 1)]);
        assert_eq!(scenario.rounds.len(), 2);
        let same = steps.replace("as: j, ", "");
        let why = made(&same).expect_err("the same name");
        assert!(
            why.contains("`$i` is a round of the `repeat` around"),
            "{why}"
        );
    }

    const THREAD: &str = "about: x\nactors:\n  w: { kind: thread, of: subject, hart: 1 }\nsteps:\n";

    fn with_thread(steps: &str) -> Result<Scenario, String> {
        let text = format!("{THREAD}{steps}");
        check(Path::new("t.yaml"), &text).map_err(|error| error.to_string())
    }

    #[test]
    fn steps_that_begin_together_are_a_group_in_each_round() {
        let steps = "  - repeat:\n      times: 3\n      steps:\n        - mmap: { at: 0, pages: 1 }\n        - together:\n            delay: 50\n            steps:\n              - munmap: { at: 0, pages: 1 }\n              - touch: { at: 0, pages: 1, access: read, by: w }\n";
        let scenario = with_thread(steps).expect("a good scenario");
        let groups = &scenario.program.groups;
        let firsts: Vec<usize> = groups.iter().map(|group| group.first).collect();
        assert_eq!(firsts, [1, 4, 7]);
        assert!(
            groups
                .iter()
                .flat_map(|group| &group.delays)
                .all(|delay| *delay <= 50)
        );
        assert!(scenario.varies);
        let again = with_thread(steps).expect("a good scenario");
        assert_eq!(again.program, scenario.program, "the same each time");
        let of = |step| scenario.program.group_of(step);
        assert_eq!(
            [of(0), of(1), of(2), of(3), of(8)],
            [None, Some(0), Some(0), None, Some(2)]
        );
        assert!(!scenario.program.ends_group(1) && scenario.program.ends_group(2));
    }

    #[test]
    fn what_cannot_begin_together_is_refused() {
        let why = |steps: &str| {
            with_thread(&format!("  - together: [{steps}]\n")).expect_err("a bad scenario")
        };
        let touch = "{ touch: { at: 0, pages: 1, access: read, by: w } }";
        assert!(why(touch).contains("two steps at least"));
        assert!(why(&format!("{touch}, {touch}")).contains("`w` and `w` are on hart 1"));
        assert!(why(&format!("{touch}, exec")).contains("`exec` is begun by nobody else"));
        assert!(why("exit, { exit: { by: w } }").contains("`w` has exited"));
        let nested = format!("{touch}, {{ repeat: {{ times: 2, steps: [exit] }} }}");
        assert!(why(&nested).contains("operations alone"));
        let steps = format!("  - together: {{ delay: 1000001, steps: [ {touch}, exit ] }}\n");
        let why = with_thread(&steps).expect_err("a long delay");
        assert!(why.contains("too long a delay"), "{why}");
    }

    #[test]
    fn there_are_so_many_steps_and_no_more_and_a_long_loop_ends() {
        let of = |times: u64| {
            format!(
                "  - repeat: {{ times: {times}, steps: [ {{ munmap: {{ at: 0, pages: 1 }} }} ] }}\n"
            )
        };
        assert_eq!(made(&of(32_000)).expect("good").program.steps.len(), 32_000);
        let why = made(&of(u64::MAX)).expect_err("too many");
        assert!(why.contains("t.yaml:3:53: too many steps"), "{why}");
    }
}
