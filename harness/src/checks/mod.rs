// SPDX-License-Identifier: GPL-2.0-only
//! What is judged, as a list. Each check is a file and a line of [`CHECKS`]: a pure function
//! from a [`Case`] to what it found. Nothing else has to know of it.

pub mod case;
mod coverage;
mod data;
pub(crate) mod device;
pub(crate) mod documented;
mod iommu;
mod kernel;
mod known;
mod layer1;
mod layer2;
mod lost;
mod snapshot;
pub(crate) mod tables;
pub mod variation;

pub use case::{Case, Check};
pub use lost::{called, model_told, same_steps, uncovered};

use crate::finding::Finding;

/// All judgements of one run, in the order of telling. What varies between runs is judged when
/// all are there ([`variation`]).
pub const CHECKS: &[Check] = &[
    kernel::CHECK,
    layer1::CHECK,
    layer2::CHECK,
    coverage::CHECK,
    tables::CHECK,
    device::CHECK,
    iommu::CHECK,
    data::CHECK,
    known::CHECK,
    snapshot::CHECK,
];

/// Which checks are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen(Option<Vec<&'static str>>);

impl Chosen {
    /// Those of these names; all where none is named.
    pub fn of(names: &[String]) -> Chosen {
        let named = CHECKS.iter().map(|check| check.name);
        let named = named.filter(|name| names.iter().any(|chosen| chosen == name));
        Chosen((!names.is_empty()).then(|| named.collect()))
    }

    fn checks(&self) -> impl Iterator<Item = &'static Check> + use<'_> {
        let chosen = |check: &&Check| self.0.as_ref().is_none_or(|it| it.contains(&check.name));
        CHECKS.iter().filter(chosen)
    }

    /// Whether one of them judges by what the model expects of the steps.
    pub fn predict(&self) -> bool {
        self.checks().any(|check| check.predicts)
    }

    /// Their names; none where all are asked.
    pub fn names(&self) -> &[&'static str] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// What these checks find, and which of them had something to look at.
pub fn judge(case: &Case<'_>, chosen: &Chosen) -> (Vec<Finding>, Vec<&'static str>) {
    let (mut findings, mut names) = (Vec::new(), Vec::new());
    for check in chosen.checks() {
        if let Some(found) = (check.judge)(case) {
            findings.extend(found);
            names.push(check.name);
        }
    }
    (findings, names)
}

#[cfg(test)]
mod tests {
    use super::CHECKS;

    #[test]
    fn checks_have_names_of_their_own() {
        let mut names: Vec<&str> = CHECKS.iter().map(|check| check.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CHECKS.len());
    }
}
