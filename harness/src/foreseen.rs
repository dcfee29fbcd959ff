// SPDX-License-Identifier: GPL-2.0-only
//! What a secondary MMU holds after each step by the model alone: by the page tables that it
//! predicts, and by what it expects to be notified. Frames that are given back, and tables
//! above leaves, are no part of a prediction: nothing is said of them.

use crate::checks::model_told;
use crate::device::{Foreseen, Held, Reached, of_model};
use reference_model::{PageTables, Prediction, Tables};
use secondary_mmu::SecondaryMmu;

/// Plays what is predicted to a secondary MMU.
pub fn foresee(prediction: &Prediction, tables: &Tables) -> Foreseen {
    let mut mmu = SecondaryMmu::default();
    let mut held = Vec::new();
    for (number, (step, tables)) in prediction.steps.iter().zip(tables).enumerate() {
        mmu.begin(number);
        for (mm, range) in model_told(step) {
            if let Some(mm) = mm {
                mmu.notify(mm as u64, range.start, range.end);
            }
        }
        for (mm, tables) in tables {
            mmu.walked(*mm as u64, &of_model(tables));
        }
        let of_mm = |(mm, _): &(usize, PageTables)| {
            let held = mmu.held(*mm as u64).into_iter();
            let mm = *mm;
            held.filter_map(move |(pages, kept)| Held::of(mm, pages, kept))
        };
        held.push(tables.iter().flat_map(of_mm).collect());
    }
    let verdicts = mmu.into_verdicts().into_iter();
    let reached = verdicts.map(|verdict| Reached::of(verdict.mm as usize, verdict));
    Foreseen {
        held,
        reached: reached.collect(),
    }
}
