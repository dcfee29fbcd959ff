// SPDX-License-Identifier: GPL-2.0-only
//! `mm/pagewalk.c`: from one page table to the next.

use crate::state::Kernel;

/// `walk_page_range()` down to `walk_pmd_range()`: the parts of `[start, end)`
/// that have a PMD, in ascending order, and whether it maps a huge page.
pub fn walk_page_range(k: &Kernel<'_>, start: u64, end: u64) -> Vec<(u64, u64, bool)> {
    k.mm.pgd.pmds(start, end)
}
