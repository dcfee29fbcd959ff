// SPDX-License-Identifier: GPL-2.0-only
//! Whether the kernel did what was accepted earlier. What differs is proposed beside it.

use super::case::{Case, Check};
use crate::diff::diff;
use crate::finding::{Block, Finding, Sides};
use crate::outcome::Outcome;
use crate::parse::parse;
use crate::snapshot::{Header, Info, MachineInfo, Snapshot, SnapshotPath};
use crate::steps::{Expected, Seen};
use crate::text;
use protocol::Policy;
use std::io;

pub(super) const CHECK: Check = Check {
    name: "snapshot",
    predicts: false,
    judge,
};

fn judge(case: &Case<'_>) -> Option<Vec<Finding>> {
    let usual = case.observed.iommu.as_ref();
    let usual = usual.is_none_or(|seen| seen.setting.policy == Policy::Leaf);
    if case.scenario.varies || !usual {
        return None;
    }
    let place = SnapshotPath::of(&case.scenario.path, case.snapshots?)?;
    match compare(case, &place) {
        Ok(finding) => finding.map(|found| found.into_iter().collect()),
        Err(error) => {
            let why = format!("its snapshot: {error}");
            Some(vec![Finding::could_not_run(why)])
        }
    }
}

/// What differs, if something does; none at all where the snapshot speaks of other machines.
fn compare(case: &Case<'_>, place: &SnapshotPath) -> io::Result<Option<Option<Finding>>> {
    let seen = Seen::of(&case.observed.observation);
    let accepted = place.read()?;
    // Without one, of the usual machine.
    let usual = || MachineInfo {
        nodes: case.scenario.nodes(),
        gib_pages: case.scenario.gib_pages(),
        ..MachineInfo::default()
    };
    let machine = accepted
        .as_ref()
        .map_or_else(usual, |accepted| accepted.header.info.machine.clone());
    if !machine.is_like(&MachineInfo::from(&case.subject.machine)) {
        return Ok(None);
    }
    let Some(accepted) = accepted else {
        return propose(case, place, seen).map(|finding| Some(Some(finding)));
    };
    let text = accepted.text.trim_end();
    match parse(case.scenario, text) {
        Ok(before) if Seen::of(&before) == seen => {
            place.withdraw()?;
            Ok(Some(None))
        }
        Ok(before) => {
            let diff = diff(&Expected::of_observation(&before), &seen);
            let finding = propose(case, place, seen)?;
            let block = Block::Steps {
                sides: Sides::SnapshotKernel,
                diff,
                hints: Vec::new(),
            };
            let mut blocks = vec![block];
            blocks.extend(finding.blocks.into_iter().filter(is_proposal));
            Ok(Some(Some(Finding {
                outcome: Outcome::SnapshotChanged,
                why: "the kernel disagrees with the accepted snapshot (- accepted, + observed)"
                    .to_owned(),
                blocks,
                ..finding
            })))
        }
        Err(why) => {
            let finding = propose(case, place, seen)?;
            Ok(Some(Some(Finding {
                outcome: Outcome::SnapshotChanged,
                why: format!("the accepted snapshot is of other steps: {why}"),
                ..finding
            })))
        }
    }
}

fn is_proposal(block: &Block) -> bool {
    matches!(block, Block::Proposed(_))
}

fn propose(case: &Case<'_>, place: &SnapshotPath, seen: Seen) -> io::Result<Finding> {
    place.propose(&snapshot(case, place, &seen))?;
    let why = "there is no accepted snapshot";
    Ok(Finding::new(CHECK.name, Outcome::SnapshotNew, why)
        .with(Block::Seen(seen))
        .with(Block::Proposed(place.pending())))
}

fn snapshot(case: &Case<'_>, place: &SnapshotPath, seen: &Seen) -> Snapshot {
    let info = Info {
        scenario: place.scenario.clone(),
        kernel: case.subject.kernel.clone(),
        machine: MachineInfo::from(&case.subject.machine),
    };
    let header = Header {
        source: file!().to_owned(),
        description: case.scenario.about.clone(),
        info,
        input_file: place.scenario.clone(),
    };
    Snapshot {
        header,
        text: text::steps(case.scenario, &seen.0),
    }
}
