// SPDX-License-Identifier: GPL-2.0-only
//! Steps of which a few lines make many: each round of a `repeat` is checked like steps that
//! are written out, and gives steps of its own.

use super::actors::Cast;
use super::checked::Rounds;
use super::checker::{Checked, Checker};
use super::file::{self, Repeat};
use operations::{MemoryFile, Step};
use serde_saphyr::{Location, Spanned};

/// The most steps, with those of each round: each may make two areas more, of which a process
/// has 65530 at the most (`vm.max_map_count`), its own included.
const MOST_STEPS: usize = 32_000;

/// How a round is called where nothing is said.
const VARIABLE: &str = "i";

/// What steps are made of, and those that have been made.
pub(super) struct Unrolled<'a> {
    pub files: &'a [(String, MemoryFile)],
    pub cast: &'a mut Cast,
    pub steps: Vec<Step>,
    pub written: Vec<super::Written>,
    pub rounds: Vec<Rounds>,
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
