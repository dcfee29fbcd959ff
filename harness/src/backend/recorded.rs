// SPDX-License-Identifier: GPL-2.0-only
//! Accepted snapshots in place of a kernel: no QEMU, and fast.

use super::{Backend, Observed, Subject};
use crate::callers::Callers;
use crate::finding::Finding;
use crate::layer1::Layer1;
use crate::parse::parse;
use crate::scenario::{Requirement, Scenario};
use crate::snapshot::{Set, Snapshot, SnapshotPath};
use reference_model::Machine;

/// What was accepted earlier, of which kernel.
#[derive(Clone, Debug)]
pub struct Recorded(pub Set);

impl Backend for Recorded {
    fn prepare(&mut self, scenario: &Scenario) -> Result<Subject, Finding> {
        let info = snapshot_of(scenario, &self.0)?.header.info;
        let machine = Machine {
            swap: scenario.needs_swap(),
            ..info.machine.machine()
        };
        Ok(Subject {
            machine,
            kernel: info.kernel,
        })
    }

    fn observe(&mut self, scenario: &Scenario, layer1: Layer1<'_>) -> Result<Observed, Finding> {
        let snapshot = snapshot_of(scenario, &self.0)?;
        let observation = parse(scenario, snapshot.text.trim_end()).map_err(|why| {
            Finding::could_not_run(format!(
                "its snapshot is of no use: {why}; run it on a kernel and accept what it does"
            ))
        })?;
        Ok(Observed {
            observation,
            traced: false,
            callers: Callers::default(),
            layer1: layer1.finish(),
            device: None,
            iommu: None,
            complaints: Vec::new(),
        })
    }
}

fn snapshot_of(scenario: &Scenario, set: &Set) -> Result<Snapshot, Finding> {
    if scenario.varies {
        return Err(Finding::skipped(
            "it says that Linux is free in what steps do here: nothing of it is kept",
        ));
    }
    let place = SnapshotPath::of(&scenario.path, set).ok_or_else(|| {
        Finding::could_not_run(
            "it is in no folder `scenarios`, so no snapshot is kept for it; run it with --backend guest",
        )
    })?;
    match place.read() {
        Ok(Some(snapshot)) => Ok(snapshot),
        // Whether that kernel lacks it, nothing here can tell.
        Ok(None) if scenario.requires.iter().any(Requirement::is_special) => Err(Finding::skipped(
            "no snapshot of this kernel is kept of it, which may lack what it requires",
        )),
        Ok(None) => Err(Finding::no_snapshot()),
        Err(error) => Err(Finding::could_not_run(format!(
            "its snapshot cannot be read: {error}"
        ))),
    }
}
