// SPDX-License-Identifier: GPL-2.0-only
//! What a run can come to, and the exit codes.

use serde::{Deserialize, Serialize};

/// Model, kernel and snapshot say the same (or the scenario was skipped, and counted).
pub const EXIT_AGREE: u8 = 0;
/// Something was found: a difference, an unsafe step, a changed snapshot, a crash.
pub const EXIT_FOUND: u8 = 1;
/// The command line or a scenario is wrong.
pub const EXIT_INVALID: u8 = 2;
/// Kernel and model disagree, and the model was not read for the kernel's release: nothing else
/// was found.
pub const EXIT_MODEL_NOT_READ: u8 = 3;
/// Nothing was found, but not everything could be run.
pub const EXIT_COULD_NOT_RUN: u8 = 69;
/// Interrupted by Ctrl-C.
pub const EXIT_INTERRUPTED: u8 = 130;

/// What a scenario came to. The later, the worse: the worst of a run decides its exit code.
///
/// What was found stays found if some other scenario could not be run, so
/// findings are worse than that.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(into = "String", try_from = "String")]
pub enum Outcome {
    /// Model, kernel and snapshot say the same.
    #[default]
    Agree,
    /// Kernel or machine lack what the scenario requires.
    Skipped,
    /// A kernel that is known to be wrong there is wrong in the known way.
    Known,
    /// No QEMU, boot failed, agent silent, records lost: says nothing about the kernel.
    CouldNotRun,
    /// Kernel and model disagree on what steps do, and the model was not read for the kernel's
    /// release.
    ModelNotRead,
    /// There is no accepted snapshot.
    SnapshotNew,
    /// The kernel disagrees with the accepted snapshot.
    SnapshotChanged,
    /// A kernel that was known to be wrong there is not any more.
    NotReproduced,
    /// Kernel and model disagree.
    Differs,
    /// Repeated, it did not come to the same: what else was found was so in some runs only,
    /// or differently in each.
    Varies,
    /// A device's access is refused for good: it was not notified of a right that came.
    Stuck,
    /// Only a device that caches parts of larger pages reaches what it must not.
    UnsafeByPieces,
    /// A device reaches what it must not. Or pages lost their mapping, rights or frames, in
    /// steps in which the kernel did what the model expects, and secondary MMUs were not
    /// notified before the step ended.
    Unsafe,
    /// The program that replays the steps died of its own memory.
    ProgramCorrupted,
    /// Oops, panic, splat or hang in a step.
    KernelCrashed,
}

impl From<Outcome> for String {
    fn from(outcome: Outcome) -> String {
        outcome.key()
    }
}

impl TryFrom<String> for Outcome {
    type Error = String;

    fn try_from(key: String) -> Result<Outcome, String> {
        Outcome::from_key(&key).ok_or_else(|| format!("no outcome is called `{key}`"))
    }
}

impl Outcome {
    /// All of them, the worst last.
    pub const ALL: [Outcome; 15] = [
        Outcome::Agree,
        Outcome::Skipped,
        Outcome::Known,
        Outcome::CouldNotRun,
        Outcome::ModelNotRead,
        Outcome::SnapshotNew,
        Outcome::SnapshotChanged,
        Outcome::NotReproduced,
        Outcome::Differs,
        Outcome::Varies,
        Outcome::Stuck,
        Outcome::UnsafeByPieces,
        Outcome::Unsafe,
        Outcome::ProgramCorrupted,
        Outcome::KernelCrashed,
    ];

    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Agree => "agree",
            Outcome::Skipped => "skipped",
            Outcome::Known => "known",
            Outcome::NotReproduced => "not reproduced",
            Outcome::CouldNotRun => "could not run",
            Outcome::ModelNotRead => "model not read",
            Outcome::SnapshotNew => "snapshot new",
            Outcome::SnapshotChanged => "snapshot changed",
            Outcome::Varies => "varies",
            Outcome::Differs => "differs",
            Outcome::Stuck => "stuck",
            Outcome::UnsafeByPieces => "unsafe by pieces",
            Outcome::Unsafe => "unsafe",
            Outcome::ProgramCorrupted => "program corrupted",
            Outcome::KernelCrashed => "kernel crashed",
        }
    }

    /// As programs read it.
    pub fn key(self) -> String {
        self.name().replace(' ', "_")
    }

    /// Of that key.
    pub fn from_key(key: &str) -> Option<Outcome> {
        // As it was called until schema 3.
        let key = if key == "finding_gone" {
            "not_reproduced"
        } else {
            key
        };
        Outcome::ALL
            .into_iter()
            .find(|outcome| outcome.key() == key)
    }

    /// What the process ends with.
    pub fn exit_code(self) -> u8 {
        match Status::of(self) {
            Status::Pass | Status::Skip | Status::Xfail => EXIT_AGREE,
            Status::Error => EXIT_COULD_NOT_RUN,
            Status::Fail | Status::Flaky if self == Outcome::ModelNotRead => EXIT_MODEL_NOT_READ,
            Status::Fail | Status::Flaky => EXIT_FOUND,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written_also_by_an_earlier_version() {
        for outcome in Outcome::ALL {
            assert_eq!(Outcome::from_key(&outcome.key()), Some(outcome));
        }
        let earlier = Outcome::from_key("finding_gone");
        assert_eq!(earlier, Some(Outcome::NotReproduced));
        assert_eq!(Outcome::from_key("fine"), None);
    }

    #[test]
    fn the_list_is_in_order_of_severity() {
        assert!(Outcome::ALL.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(Outcome::Unsafe > Outcome::Differs);
    }

    #[test]
    fn what_was_found_outlives_what_could_not_be_run() {
        let worst = Outcome::Differs.max(Outcome::CouldNotRun);
        assert_eq!(worst.exit_code(), EXIT_FOUND);
        let worst = Outcome::ModelNotRead.max(Outcome::CouldNotRun);
        assert_eq!(worst.exit_code(), EXIT_MODEL_NOT_READ);
    }
}

/// What became of a scenario, in the words that test frameworks share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// All agree.
    Pass,
    /// Something was found.
    Fail,
    /// Not every run gave the same. Neither a pass nor a plain failure.
    Flaky,
    /// Something was found that is known.
    Xfail,
    /// What it requires is missing.
    Skip,
    /// It says nothing about the kernel: it could not be run.
    Error,
}

impl Status {
    /// Of an outcome.
    pub fn of(outcome: Outcome) -> Status {
        match outcome {
            Outcome::Agree => Status::Pass,
            Outcome::Skipped => Status::Skip,
            Outcome::Known => Status::Xfail,
            Outcome::CouldNotRun => Status::Error,
            Outcome::Varies => Status::Flaky,
            Outcome::ModelNotRead
            | Outcome::SnapshotNew
            | Outcome::SnapshotChanged
            | Outcome::NotReproduced
            | Outcome::Differs
            | Outcome::Stuck
            | Outcome::UnsafeByPieces
            | Outcome::Unsafe
            | Outcome::ProgramCorrupted
            | Outcome::KernelCrashed => Status::Fail,
        }
    }
}
