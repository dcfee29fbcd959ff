// SPDX-License-Identifier: GPL-2.0-only
//! vm.max_map_count: what a scenario may have of it.

use super::actors::Cast;
use super::checker::{Checked, Checker};
use super::file;
use operations::{ActorKind, Course, Step};
use serde_saphyr::Spanned;

/// The replaying program needs some room for itself.
const FEWEST: u64 = 16;
/// As many as Linux allows if nothing is set (DEFAULT_MAX_MAP_COUNT), but for those of the
/// program.
const MOST: u64 = 65000;

impl Checker<'_> {
    /// The limit of areas in the arena. One number is set for all processes, and is counted from
    /// the areas that the subject has elsewhere: so there is the subject, and what is forked of
    /// it, and nobody executes another program.
    pub(super) fn max_map_count(
        &self,
        limit: &Spanned<file::Count>,
        cast: &Cast,
        steps: &[Step],
    ) -> Checked<u64> {
        let number = self.number(limit, "a number of areas")?;
        if !(FEWEST..=MOST).contains(&number) {
            let message = format!("`max_map_count` is a number from {FEWEST} to {MOST}");
            return Err(self.error(limit.referenced, message));
        }
        let other = |kind: ActorKind| matches!(kind, ActorKind::Process { .. });
        let executes = |step: &Step| matches!(step.op.course(), Course::Exec { .. });
        let others = cast.actors.iter().skip(1).any(|actor| other(actor.kind));
        if others || steps.iter().any(executes) {
            let message = "`max_map_count` is counted from the areas of the subject's program: \
                           there can be no other process but by `fork`, and no `exec`";
            return Err(self.error(limit.referenced, message));
        }
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use crate::scenario::check;
    use std::path::Path;

    fn limit(text: &str) -> Result<Option<u64>, String> {
        let checked = check(Path::new("t.yaml"), &format!("about: x\n{text}"));
        checked
            .map(|scenario| scenario.program.max_map_count)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn areas_are_counted_from_the_subjects() {
        let exits = "steps:\n  - exit\n";
        assert_eq!(limit(exits), Ok(None));
        assert_eq!(
            limit(&format!("max_map_count: 100\n{exits}")),
            Ok(Some(100))
        );
        for (wrong, told) in [
            ("max_map_count: 3\nsteps:\n  - exit\n", "from 16 to"),
            ("max_map_count: 100\nsteps:\n  - exec\n", "no other process"),
            (
                "max_map_count: 100\nactors: { b: { kind: process } }\n\
                 steps:\n  - exit: { by: b }\n",
                "no other process",
            ),
        ] {
            let error = limit(wrong).expect_err(wrong);
            assert!(error.contains(told), "{wrong}: {error}");
        }
    }
}
