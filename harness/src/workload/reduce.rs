// SPDX-License-Identifier: GPL-2.0-only
//! A smaller run of a command that shows the same: fewer of its operations.

use super::report::began;
use super::watch::Watched;
use crate::callers::Caller;
use secondary_mmu::Reading;
use std::collections::BTreeSet;

/// Runs at the most, beside the first.
pub const ATTEMPTS: u32 = 16;
/// So many functions tell causes apart.
const FUNCTIONS: usize = 3;

/// The smallest number of operations found that shows it, which `number` does. What is a race may
/// show with one number and not with a larger one: the search takes what it sees.
///
/// # Errors
/// Those of an attempt.
pub fn smallest<E>(number: u64, mut shows: impl FnMut(u64) -> Result<bool, E>) -> Result<u64, E> {
    let (mut without, mut with) = (0, number);
    for attempt in 0..ATTEMPTS {
        // By leaps at first: what is shown is often shown by one of the first operations.
        let step = match attempt {
            0..4 if without == 0 => with / 16,
            _ => (with - without) / 2,
        };
        let next = without + step.max(1);
        if next >= with {
            break;
        }
        match shows(next)? {
            true => with = next,
            false => without = next,
        }
    }
    Ok(with)
}

/// What was found, cause by cause, in words that are the same in each run.
pub fn causes(watched: &Watched) -> BTreeSet<String> {
    let differs = watched.violations.iter().map(|violation| {
        let function = violation.first.record.kind.name();
        cause(function, &violation.callers)
    });
    let reached = watched.reachable.iter().flat_map(|device| &device.faults);
    let reached = reached.filter(|fault| fault.page.is_none()).map(|fault| {
        let reading = match fault.reading {
            Reading::ByLeaf => "",
            Reading::ByPiece => " by piece",
        };
        cause(&format!("{}{reading}", fault.kind.name()), &fault.callers)
    });
    differs.chain(reached).collect()
}

fn cause(what: &str, callers: &[Caller]) -> String {
    let names = callers.iter().map(|caller| caller.function.as_str());
    let names: Vec<&str> = names.take(FUNCTIONS).collect();
    let began = began(callers).unwrap_or("an unnamed call");
    format!("{what}: {} in {began}", names.join(" < "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn found(number: u64, from: u64) -> (u64, u32) {
        let mut attempts = 0;
        let shows = |ops| {
            attempts += 1;
            Ok::<bool, Infallible>(ops >= from)
        };
        let Ok(least) = smallest(number, shows);
        (least, attempts)
    }

    #[test]
    fn what_shows_from_a_number_on_is_reduced_to_it() {
        for (number, from) in [
            (1000, 1),
            (1000, 700),
            (1000, 1000),
            (17, 3),
            (1, 1),
            (2, 2),
        ] {
            let (least, attempts) = found(number, from);
            assert_eq!(least, from, "{number}");
            assert!(attempts <= ATTEMPTS, "{attempts}");
        }
    }

    #[test]
    fn a_large_number_is_reduced_as_far_as_attempts_go() {
        let (least, attempts) = found(1 << 40, 3);
        assert!(
            least < 1 << 25 && attempts == ATTEMPTS,
            "{least} {attempts}"
        );
    }
}
