// SPDX-License-Identifier: GPL-2.0-only
//! Whether what followed each call into `tlbflush.c` is what its model does, with the arguments
//! that were really passed, on whatever mm.

use super::case::{Case, Check};
use crate::finding::{Block, Finding};
use crate::layer1::Layer1Difference;
use crate::outcome::Outcome;
use reference_model::tlbflush::worker;
use reference_model::{Effect, Fence};

pub(super) const CHECK: Check = Check {
    name: "layer1",
    predicts: false,
    judge,
};

fn judge(case: &Case<'_>) -> Option<Vec<Finding>> {
    let layer1 = &case.observed.layer1;
    if !case.observed.traced {
        return None;
    }
    let Some(first) = layer1.differences.first() else {
        return Some(Vec::new());
    };
    let why = format!(
        "layer 1 differs: {} of {} calls into tlbflush.c notified or fenced (+) other than the model of that file (-)",
        layer1.differences.len(),
        layer1.checked
    );
    let finding = Finding::new(CHECK.name, Outcome::Differs, why)
        .because(Some(format!("layer 1: {}", cause(first))))
        .with(Block::Calls(layer1.differences.clone()));
    Some(vec![finding])
}

/// Which function of the file, and what it does otherwise.
fn cause(difference: &Layer1Difference) -> String {
    let Some(entry) = &difference.entry else {
        return format!("{} that follows no call", difference.record.kind.name());
    };
    let function = worker(entry);
    let count = |effects: &[Effect], is: fn(&Effect) -> bool| {
        effects.iter().filter(|effect| is(effect)).count()
    };
    let notified = |effect: &Effect| matches!(effect, Effect::Notify(..));
    let fenced = |effect: &Effect| matches!(effect, Effect::Fence(Fence::Sbi { .. }));
    let (expected, followed) = (&difference.expected, &difference.followed);
    for (what, is) in [
        ("notification", notified as fn(&Effect) -> bool),
        ("remote fence", fenced),
    ] {
        match count(expected, is).cmp(&count(followed, is)) {
            std::cmp::Ordering::Greater => return format!("{function}() without its {what}"),
            std::cmp::Ordering::Less => return format!("{function}() with a {what} too many"),
            std::cmp::Ordering::Equal => {}
        }
        let of = |effects: &[Effect]| -> Vec<Effect> {
            effects
                .iter()
                .filter(|effect| is(effect))
                .cloned()
                .collect()
        };
        if of(expected) != of(followed) {
            return format!("{function}() with another {what}");
        }
    }
    format!("{function}() in another order")
}
