// SPDX-License-Identifier: GPL-2.0-only
//! The ways into `tlbflush.c`: which there are in a kernel, by the instructions of its image,
//! and which of them scenarios were seen to come by, by the callers that their traces tell.
//!
//! A way begins at a function that decides to flush, goes through helpers whose only business
//! that is (`ptep_clear_flush`, `tlb_finish_mmu`, …), and ends at a function of `tlbflush.c`.
//! Functions are those that the compiler left: what it inlined belongs to who calls it.

mod accepted;
mod reasons;
mod table;

pub use accepted::{Accepted, Outdated};
pub use reasons::Reasons;
pub use table::{By, Table, Way, Ways};

/// Functions of `tlbflush.c` that are about memory of processes, and that secondary MMUs may be
/// notified by.
pub const ENTRIES: &[&str] = &[
    "arch_flush_tlb_batched_pending",
    "arch_tlbbatch_add_pending",
    "arch_tlbbatch_flush",
    "flush_pmd_tlb_range",
    "flush_pud_tlb_range",
    "flush_tlb_mm",
    "flush_tlb_mm_range",
    "flush_tlb_page",
    "flush_tlb_range",
];
