// SPDX-License-Identifier: GPL-2.0-only
//! What a nightly run ends with.

use super::changes::Changes;
use crate::event::Summary;
use crate::outcome::{EXIT_AGREE, EXIT_COULD_NOT_RUN, EXIT_FOUND, EXIT_INTERRUPTED, Outcome};

/// What a nightly run ends with: that something was found only where it got worse.
pub fn exit_code(changes: &[Changes], summaries: &[(String, Summary)]) -> u8 {
    let is = |wanted: fn(&Summary) -> bool| summaries.iter().any(|(_, summary)| wanted(summary));
    if is(|summary| summary.interrupted) {
        EXIT_INTERRUPTED
    } else if changes.iter().any(Changes::worse) {
        EXIT_FOUND
    } else if is(|summary| {
        summary.not_run > 0 || summary.counts.contains_key(&Outcome::CouldNotRun)
    }) {
        EXIT_COULD_NOT_RUN
    } else {
        EXIT_AGREE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::changes::{Entry, Past};

    #[test]
    fn only_what_got_worse_is_found() {
        let summaries = |outcome| {
            let mut summary = Summary::default();
            summary.counts.insert(outcome, 1);
            [("k".to_owned(), summary)]
        };
        let now = |before: &[Outcome], outcome| {
            let mut past = Past::default();
            for outcome in before {
                past.add_older(*outcome, 1);
            }
            let mut changes = Changes::default();
            let entry = Entry {
                name: "a".to_owned(),
                outcome,
                why: String::new(),
                cause: None,
                elapsed_ms: 1,
            };
            changes.add(&past, &entry);
            exit_code(&[changes], &summaries(outcome))
        };
        assert_eq!(now(&[Outcome::Agree], Outcome::Differs), EXIT_FOUND);
        assert_eq!(now(&[Outcome::Differs], Outcome::Differs), EXIT_AGREE);
        assert_eq!(
            now(&[Outcome::Differs], Outcome::CouldNotRun),
            EXIT_COULD_NOT_RUN
        );
        assert_eq!(now(&[], Outcome::Agree), EXIT_AGREE);
    }
}
