// SPDX-License-Identifier: GPL-2.0-only
//! What the kernel itself complained of during the steps.

use super::case::{Case, Check};
use crate::finding::Finding;

pub(super) const CHECK: Check = Check {
    name: "kernel",
    predicts: false,
    judge,
};

fn judge(case: &Case<'_>) -> Option<Vec<Finding>> {
    let complaints = case.observed.complaints.iter().cloned();
    case.observed.traced.then(|| {
        complaints
            .map(|finding| Finding {
                check: CHECK.name,
                ..finding
            })
            .collect()
    })
}
