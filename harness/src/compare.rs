// SPDX-License-Identifier: GPL-2.0-only
//! Two kernels against each other: what each notifies secondary MMUs of in the same
//! scenarios. The model of the mm core is not asked; layer 1 is checked for each.

use crate::backend::Backend;
use crate::checks::{self, Case, Chosen};
use crate::device::{Device, Notified};
use crate::diff::{Diff, diff};
use crate::finding::Finding;
use crate::judge::online;
use crate::layer1::Layer1;
use crate::observe::Observation;
use crate::outcome::{EXIT_AGREE, EXIT_COULD_NOT_RUN, EXIT_FOUND, EXIT_INTERRUPTED};
use crate::reading::Reading;
use crate::run::{MakeBackend, Message, Stop, messages};
use crate::scenario::Scenario;
use crate::steps::{Expected, Seen};
use reference_model::{Profile, tlbflush};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::{io, thread};

/// How two kernels differ in a scenario. The later, the more it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Calls, notifications and results are the same.
    Same,
    /// The calls differ, but the same is notified, in the same order.
    Calls,
    /// The notifications differ, or what a step comes to.
    Notifications,
    /// One of the kernels could not be observed.
    CouldNotRun,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 4] = [
        Class::Same,
        Class::Calls,
        Class::Notifications,
        Class::CouldNotRun,
    ];

    /// As programs read it.
    pub fn key(self) -> String {
        self.name().replace(' ', "_")
    }

    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Class::Same => "same",
            Class::Calls => "calls differ",
            Class::Notifications => "notifications differ",
            Class::CouldNotRun => "could not run",
        }
    }
}

/// What came of one scenario.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Which.
    pub scenario: Arc<Scenario>,
    /// How the kernels differ.
    pub class: Class,
    /// The steps on which they do.
    pub diff: Diff,
    /// What was found on either of them besides: by its index, 0 or 1.
    pub findings: Vec<(usize, Finding)>,
    /// What each notified, where it is known how much of it had nothing to lose.
    pub notified: [Option<Notified>; 2],
}

/// A kernel to be compared.
#[derive(Clone)]
pub struct Side {
    /// The model's profile, for layer 1.
    pub profile: &'static Profile,
    /// What it is run on.
    pub backend: Arc<MakeBackend>,
}

/// What all came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// How many scenarios came to what.
    pub counts: BTreeMap<Class, usize>,
    /// Scenarios that were not come to: a kernel could not be run any more.
    pub not_run: usize,
    /// Ctrl-C ended it.
    pub interrupted: bool,
}

impl Compared {
    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        let any = |class: Class| self.counts.get(&class).is_some_and(|count| *count > 0);
        match () {
            () if self.interrupted => EXIT_INTERRUPTED,
            () if any(Class::Notifications) => EXIT_FOUND,
            () if any(Class::CouldNotRun) || self.not_run > 0 => EXIT_COULD_NOT_RUN,
            () => EXIT_AGREE,
        }
    }
}

/// What a kernel did, and what the checks found that need no model of the mm core; or why it
/// could not be observed.
type Looked = Result<(Observation, Vec<Finding>, Option<Notified>), Finding>;

/// Compares two kernels in all scenarios, and tells of each in their order.
/// `interrupted` is asked for Ctrl-C.
///
/// # Errors
/// What is found cannot be told, or a thread cannot be started.
pub fn compare(
    scenarios: &[Arc<Scenario>],
    sides: [Side; 2],
    interrupted: &Receiver<Message>,
    tell: &mut dyn FnMut(&Comparison) -> io::Result<()>,
) -> io::Result<Compared> {
    let [one, other] = sides;
    let (one, other) = (observe(scenarios, one)?, observe(scenarios, other)?);
    let mut compared = Compared::default();
    for scenario in scenarios {
        let (Ok(one), Ok(other)) = (one.recv(), other.recv()) else {
            break;
        };
        if matches!(interrupted.try_recv(), Ok(Message::Interrupted)) {
            compared.interrupted = true;
            break;
        }
        let comparison = judge(scenario, one, other);
        *compared.counts.entry(comparison.class).or_default() += 1;
        tell(&comparison)?;
    }
    compared.not_run = scenarios.len() - compared.counts.values().sum::<usize>();
    Ok(compared)
}

/// Observes a kernel in all scenarios, one after the other, beside the caller.
fn observe(scenarios: &[Arc<Scenario>], side: Side) -> io::Result<Receiver<Looked>> {
    let (sender, seen) = channel();
    let scenarios = scenarios.to_vec();
    thread::Builder::new()
        .name(format!("kernel of profile {}", side.profile.name))
        .spawn(move || observe_all(&scenarios, &side, &sender))?;
    Ok(seen)
}

fn observe_all(scenarios: &[Arc<Scenario>], side: &Side, sender: &Sender<Looked>) {
    // What a backend says on the way is for runs.
    let (events, unheard) = messages();
    let stop = Arc::new(Stop::default());
    let mut backend = (side.backend)(events, Arc::clone(&stop));
    for scenario in scenarios {
        let seen = observe_one(scenario, side.profile, backend.as_mut());
        while unheard.try_recv().is_ok() {}
        // Nobody listens any more after Ctrl-C.
        if sender.send(seen).is_err() || stop.is_stopped() {
            return;
        }
    }
}

fn observe_one(
    scenario: &Scenario,
    profile: &'static Profile,
    backend: &mut dyn Backend,
) -> Looked {
    let subject = backend.prepare(scenario)?;
    let replay =
        |entry: &_, context: &_| tlbflush::replay(profile, &subject.machine, entry, context);
    let observed = backend.observe(scenario, Layer1::new(&replay, online(&subject.machine)))?;
    let case = Case {
        scenario,
        subject: &subject,
        kernel: "",
        profile,
        reading: &Reading::Read,
        prediction: None,
        tables: None,
        observed: &observed,
        snapshots: None,
    };
    let (findings, _) = checks::judge(&case, &Chosen::default());
    let notified = observed.device.as_ref().map(Device::notified);
    Ok((observed.observation, findings, notified))
}

/// Pure: what two observations come to.
fn judge(scenario: &Arc<Scenario>, one: Looked, other: Looked) -> Comparison {
    let mut findings = Vec::new();
    let mut observations = Vec::new();
    let mut notified = [None; 2];
    for (side, seen) in [one, other].into_iter().enumerate() {
        match seen {
            Ok((observation, found, of_it)) => {
                notified[side] = of_it;
                findings.extend(found.into_iter().map(|finding| (side, finding)));
                observations.push(observation);
            }
            Err(finding) => findings.push((side, finding)),
        }
    }
    let (class, diff) = match &observations[..] {
        [one, other] => classify(one, other),
        _ => (Class::CouldNotRun, Diff::default()),
    };
    Comparison {
        scenario: Arc::clone(scenario),
        class,
        diff,
        findings,
        notified,
    }
}

/// Pure: how two observations differ.
pub fn classify(one: &Observation, other: &Observation) -> (Class, Diff) {
    let diff = diff(&Expected::of_observation(one), &Seen::of(other));
    let told_same = one.steps.len() == other.steps.len()
        && (0..one.steps.len()).all(|step| {
            one.told(step) == other.told(step) && one.steps[step].result == other.steps[step].result
        });
    let class = match told_same {
        true if diff.steps.is_empty() => Class::Same,
        true => Class::Calls,
        false => Class::Notifications,
    };
    (class, diff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;
    use std::path::Path;

    const SCENARIO: &str =
        "about: x\nsteps:\n  - mmap: { at: 0, pages: 4 }\n  - munmap: { at: 0, pages: 4 }\n";

    fn class(one: &str, other: &str) -> Class {
        let scenario = crate::scenario::check(Path::new("x.yaml"), SCENARIO).expect("good");
        let observed = |calls: &str| {
            let text = format!("1. mmap at 0 pages 4: ok\n2. munmap at 0 pages 4: ok{calls}");
            parse(&scenario, &text).expect("an observation")
        };
        classify(&observed(one), &observed(other)).0
    }

    #[test]
    fn what_is_told_matters_more_than_how() {
        let range = "\n   flush_tlb_mm_range [0,4) stride 4K\n     notified [0,4)";
        let pages = "\n   flush_tlb_range [0,4)\n     notified [0,4)";
        let whole = "\n   flush_tlb_mm\n     notified whole mm";
        assert_eq!(class(range, range), Class::Same);
        assert_eq!(class(range, pages), Class::Calls);
        assert_eq!(class(range, whole), Class::Notifications);
        assert_eq!(class(range, ""), Class::Notifications);
    }

    #[test]
    fn the_exit_code_is_of_what_is_told() {
        let code = |counts: &[(Class, usize)]| {
            Compared {
                counts: counts.iter().copied().collect(),
                ..Compared::default()
            }
            .exit_code()
        };
        assert_eq!(code(&[(Class::Same, 3), (Class::Calls, 2)]), 0);
        assert_eq!(
            code(&[(Class::Notifications, 1), (Class::CouldNotRun, 1)]),
            1
        );
        assert_eq!(code(&[(Class::Same, 3), (Class::CouldNotRun, 1)]), 69);
    }
}
