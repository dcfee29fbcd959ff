// SPDX-License-Identifier: GPL-2.0-only
//! What a device is answered that shares an mm's page tables, by the rules of the RISC-V IOMMU
//! ("Process to translate an IOVA" of its specification, without hardware updates of A and D).
//! No code of the kernel runs for it, and it changes nothing but what pages hold.

use crate::api::{MmId, StepResult, address};
use crate::mm_types::{FolioId, Pte, Written, prot};
use crate::state::Kernel;

/// Causes of faults.
const READ_PAGE_FAULT: u32 = 13;
const WRITE_PAGE_FAULT: u32 = 15;
const DDT_ENTRY_NOT_VALID: u32 = 258;

/// Accesses of pages in ascending order, up to the first that is refused.
pub fn access(k: &mut Kernel, mm: MmId, at: u64, pages: u64, byte: Option<u8>) -> StepResult {
    let write = byte.is_some();
    let cause = match (k.mm(mm).released, write) {
        (true, _) => DDT_ENTRY_NOT_VALID,
        (false, true) => WRITE_PAGE_FAULT,
        (false, false) => READ_PAGE_FAULT,
    };
    for page in at..at.saturating_add(pages) {
        let addr = address(page);
        let Some(folio) = may(k, mm, addr, write) else {
            return StepResult::Fault { cause, page };
        };
        if let (Some(id), Some(byte)) = (folio, byte) {
            k.folios[id].write_page(addr, Written::Byte(byte));
        }
    }
    StepResult::Ok
}

/// What is there, where the device may.
fn may(k: &Kernel, mm: MmId, addr: u64, write: bool) -> Option<Option<FolioId>> {
    let mm = k.mm(mm);
    let Pte::Present {
        folio,
        prot: rights,
        dirty,
        young,
    } = mm.pgd.pte(addr)
    else {
        return None;
    };
    let right = if write { prot::W } else { prot::R };
    let may = !mm.released && young && rights & right != 0 && (dirty || !write);
    may.then_some(folio)
}
