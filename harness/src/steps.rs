// SPDX-License-Identifier: GPL-2.0-only
//! The one form in which both sides are compared: what each step came to, and what it did that
//! a trace can show.
//!
//! An ASID is 0 here, for which number an address space has depends on what ran before; layer 1
//! has the real one. Local fences and IPIs are left out where two sides are compared: no probe
//! sees them.

use crate::observe::{Observation, ObservedStep};
use crate::scenario::Scenario;
use crate::trace::without_asid;
use operations::Op;
use reference_model::{Call, Effect, Entry, Fence, MmId, Prediction, StepPrediction, StepResult};

/// What a step came to and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it came to.
    pub result: StepResult,
    /// Its entries into `tlbflush.c`, in order.
    pub calls: Vec<StepCall>,
}

/// An entry into `tlbflush.c`, and what followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepCall {
    /// The mm that it is about; none for `arch_tlbbatch_flush`, and for one that is none of the
    /// scenario's.
    pub mm: Option<MmId>,
    /// What was called; none where a notification followed no entry.
    pub entry: Option<Entry>,
    /// Notifications and fences.
    pub effects: Vec<Effect>,
}

/// What the model, an accepted snapshot or the first of two kernels says. A type of its own, so
/// that it cannot be swapped with [`Seen`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected(pub Vec<Step>);

/// What a kernel was seen to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(pub Vec<Step>);

/// Which fences of a prediction are of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fences {
    /// Those that a trace shows.
    Observable,
    /// All of them, for people.
    All,
}

impl Expected {
    /// By the model.
    pub fn of_prediction(prediction: &Prediction) -> Expected {
        Expected(of_prediction(prediction, Fences::Observable))
    }

    /// By what was seen before: an accepted snapshot, another kernel, another run.
    pub fn of_observation(observation: &Observation) -> Expected {
        Expected(of_observation(observation))
    }
}

impl Seen {
    /// By a kernel.
    pub fn of(observation: &Observation) -> Seen {
        Seen(of_observation(observation))
    }
}

/// What accesses by a device come to, and what bytes are read where a device writes, is judged by
/// itself (`checks/iommu.rs`), by the same expectation: it is the secondary MMU's doing as well
/// as the kernel's.
pub fn without_accesses(steps: &mut [Step], scenario: &Scenario) {
    let programmed = &scenario.program.steps;
    if !programmed.iter().any(|step| is_access(&step.op)) {
        return;
    }
    for (step, of) in steps.iter_mut().zip(programmed) {
        if is_access(&of.op) || matches!(step.result, StepResult::Saw { .. }) {
            step.result = StepResult::Ok;
        }
    }
}

/// What steps that were begun together call is in no order: it is judged by layer 1 and by what
/// devices could reach.
pub fn without_order(steps: &mut [Step], scenario: &Scenario) {
    for group in &scenario.program.groups {
        let of_group = steps.get_mut(group.steps()).into_iter().flatten();
        of_group.for_each(|step| step.calls.clear());
    }
}

/// Whether a device does it.
pub fn is_access(op: &Op) -> bool {
    matches!(op, Op::Device { .. })
}

/// What the model expects of each step.
pub fn of_prediction(prediction: &Prediction, fences: Fences) -> Vec<Step> {
    let step = |step: &StepPrediction| Step {
        result: step.result,
        calls: step
            .calls
            .iter()
            .map(|call| predicted(call, fences))
            .collect(),
    };
    prediction.steps.iter().map(step).collect()
}

fn predicted(call: &Call, fences: Fences) -> StepCall {
    let shows = |effect: &&Effect| match effect {
        Effect::Notify(..) | Effect::Fence(Fence::Sbi { .. }) => true,
        Effect::Fence(_) => fences == Fences::All,
    };
    let effects = call.effects.iter().filter(shows).cloned();
    StepCall {
        mm: call.mm,
        entry: Some(call.entry),
        effects: effects.map(without_asid).collect(),
    }
}

fn of_observation(observation: &Observation) -> Vec<Step> {
    observation.steps.iter().map(seen).collect()
}

fn seen(step: &ObservedStep) -> Step {
    let calls = step.calls.iter().map(|call| StepCall {
        mm: call.mm,
        entry: call.entry,
        effects: call.effects.clone(),
    });
    Step {
        result: step.result,
        calls: calls.collect(),
    }
}
