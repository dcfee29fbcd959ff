// SPDX-License-Identifier: GPL-2.0-only
//! What a device is answered that shares an mm's page tables, by the rules of the RISC-V IOMMU
//! ("Process to translate an IOVA" of its specification, without hardware updates of A and D).
//! No code of the kernel runs for it, and it changes nothing.

use crate::api::{MmId, StepResult, address};
use crate::mm_types::{Pte, prot};
use crate::state::Kernel;

/// Causes of faults.
const READ_PAGE_FAULT: u32 = 13;
const WRITE_PAGE_FAULT: u32 = 15;
const DDT_ENTRY_NOT_VALID: u32 = 258;

/// Accesses of pages in ascending order, up to the first that is refused.
pub fn access(k: &Kernel, mm: MmId, at: u64, pages: u64, write: bool) -> StepResult {
    let cause = match (k.mm(mm).released, write) {
        (true, _) => DDT_ENTRY_NOT_VALID,
        (false, true) => WRITE_PAGE_FAULT,
        (false, false) => READ_PAGE_FAULT,
    };
    let mut all = at..at.saturating_add(pages);
    match all.find(|page| !may(k, mm, address(*page), write)) {
        Some(page) => StepResult::Fault { cause, page },
        None => StepResult::Ok,
    }
}

fn may(k: &Kernel, mm: MmId, addr: u64, write: bool) -> bool {
    let mm = k.mm(mm);
    let Pte::Present {
        prot: rights,
        dirty,
        young,
        ..
    } = mm.pgd.pte(addr)
    else {
        return false;
    };
    let right = if write { prot::W } else { prot::R };
    !mm.released && young && rights & right != 0 && (dirty || !write)
}
