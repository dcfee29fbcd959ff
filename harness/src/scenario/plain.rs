// SPDX-License-Identifier: GPL-2.0-only
//! Checking of operations that are told by their name and a few fields.

use super::actors::Cast;
use super::checker::{Checked, Checker};
use super::file::{Count, PlainFields};
use operations::{ARENA_PAGES, Field, On, Op, Plain};
use serde_saphyr::{Location, Spanned};

impl PlainFields {
    /// Where a field stands, if it does.
    fn place(&self, field: Field) -> Option<Location> {
        let place = |count: &Option<Spanned<Count>>| count.as_ref().map(|it| it.referenced);
        match field {
            Field::Of => self.of.as_ref().map(|it| it.referenced),
            Field::At => place(&self.at),
            Field::Pages => place(&self.pages),
            Field::NewPages => place(&self.new_pages),
            Field::Offset => place(&self.offset),
            Field::Value => place(&self.value),
            Field::Hart => place(&self.hart),
            Field::File => self.file.as_ref().map(|it| it.referenced),
        }
    }
}

impl Checker<'_> {
    pub(super) fn plain(
        &self,
        what: Plain,
        (step, file): (&PlainFields, usize),
        (by, place): (usize, Location),
        cast: &mut Cast,
    ) -> Checked<Op> {
        self.has_its_fields(what, step, place)?;
        let pages = |field: &Option<Spanned<Count>>| match field {
            Some(field) => self.at_most(field, ARENA_PAGES, "the arena has"),
            None => Ok(0),
        };
        let on = On {
            of: match &step.of {
                Some(of) => Some(self.target(of, cast)?),
                None => None,
            },
            at: pages(&step.at)?,
            pages: pages(&step.pages)?,
            new_pages: pages(&step.new_pages)?,
            offset: pages(&step.offset)?,
            value: match &step.value {
                Some(value) => Some(self.count(value)?),
                None => None,
            },
            hart: match &step.hart {
                Some(hart) => self.hart(hart)?,
                None => 0,
            },
            file,
        };
        self.harts_allow(what, &on, (by, place), cast)?;
        let longest = on.at.saturating_add(on.pages.max(on.new_pages));
        if longest > ARENA_PAGES {
            let message = format!("it reaches outside the arena, which has {ARENA_PAGES} pages");
            return Err(self.error(place, message));
        }
        Ok(Op::Plain { what, on })
    }

    /// Harts go offline and come back, and nobody has to run on one that is offline.
    fn harts_allow(
        &self,
        what: Plain,
        on: &On,
        (by, place): (usize, Location),
        cast: &mut Cast,
    ) -> Checked<()> {
        match what {
            Plain::HartOffline => self.goes_offline(on.hart, (by, place), cast),
            Plain::HartOnline if cast.offline.remove(&on.hart).is_none() => {
                Err(self.error(place, format!("hart {} is not offline", on.hart)))
            }
            // The other one has to run for it.
            Plain::PtracePoke | Plain::ProcessMrelease | Plain::OomKill => match on.of {
                Some(of) => self.is_online(of, place, cast),
                None => Ok(()),
            },
            Plain::HartOnline
            | Plain::ClearRefs
            | Plain::ProcessVmWritev
            | Plain::ProcessVmReadv
            | Plain::MemWrite
            | Plain::RemapFilePages
            | Plain::Mseal
            | Plain::Brk
            | Plain::Vfork
            | Plain::Swapoff
            | Plain::Vmsplice
            | Plain::RegisterBuffers
            | Plain::MemoryMax
            | Plain::MemoryHigh
            | Plain::Mlock
            | Plain::Mlock2
            | Plain::Munlock
            | Plain::Mlockall
            | Plain::Munlockall
            | Plain::SecretMmap
            | Plain::DriverMmap
            | Plain::DriverZap
            | Plain::Khugepaged
            | Plain::SplitHugePages
            | Plain::PagemapScan
            | Plain::UffdAnswer
            | Plain::UffdAnswerZeropage
            | Plain::UffdAnswerContinue
            | Plain::UffdAnswerWake
            | Plain::UffdEvents
            | Plain::DamonPageout
            | Plain::DamonCold
            | Plain::Kswapd
            | Plain::MemoryUnplug
            | Plain::CmaAlloc
            | Plain::LruGen
            | Plain::LruGenAge
            | Plain::LruGenEvict
            | Plain::Uprobe
            | Plain::UprobeRemove => Ok(()),
        }
    }

    fn goes_offline(
        &self,
        hart: u32,
        (by, place): (usize, Location),
        cast: &mut Cast,
    ) -> Checked<()> {
        if cast.actors[by].hart == hart {
            let message = format!("`{}` is on hart {hart} itself", cast.names[by]);
            return Err(self.error(place, message));
        }
        if !cast.actors.iter().any(|actor| actor.hart == hart) {
            return Err(self.error(place, format!("no actor is on hart {hart}")));
        }
        if let Some(runs) = cast.running_on(hart) {
            let message = format!("`{runs}` runs on hart {hart} and gives it to nobody");
            return Err(self.error(place, message));
        }
        if cast.offline.insert(hart, place).is_some() {
            return Err(self.error(place, format!("hart {hart} is offline")));
        }
        Ok(())
    }

    /// No field that it needs is missing, and it has none that it knows nothing of.
    fn has_its_fields(&self, what: Plain, step: &PlainFields, place: Location) -> Checked<()> {
        let form = what.form();
        let missing = form
            .needs
            .iter()
            .find(|field| step.place(**field).is_none());
        if let Some(field) = missing {
            let message = format!("missing field `{}`", field.name());
            return Err(self.error(place, message));
        }
        for field in Field::ALL {
            let known = form.needs.contains(field) || form.may.contains(field);
            if let (false, Some(at)) = (known, step.place(*field)) {
                let message = format!("`{}` means nothing for `{}`", field.name(), form.name);
                return Err(self.error(at, message));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::scenario::check;
    use std::path::Path;

    fn refusal(step: &str) -> String {
        let text = format!("about: x\nsteps:\n  - {step}\n");
        let refused = check(Path::new("t.yaml"), &text).map(drop);
        refused.expect_err("a bad scenario").to_string()
    }

    #[test]
    fn fields_are_the_operations_own() {
        let missing = refusal("clear_refs: { of: subject }");
        assert!(
            missing.contains("t.yaml:3:5: missing field `value`"),
            "{missing}"
        );
        let other = refusal("mseal: { at: 0, pages: 1, value: 3 }");
        assert!(
            other.contains("`value` means nothing for `mseal`"),
            "{other}"
        );
        let unknown = refusal("mseal: { at: 0, pgs: 1 }");
        assert!(unknown.contains("did you mean `pages`"), "{unknown}");
        let outside = refusal("brk: { at: 0, pages: 0, new_pages: 1048577 }");
        assert!(outside.contains("the arena has 1048576 pages"), "{outside}");
        let name = refusal("clear_ref: { value: 4 }");
        assert!(name.contains("did you mean `clear_refs`"), "{name}");
    }
}
