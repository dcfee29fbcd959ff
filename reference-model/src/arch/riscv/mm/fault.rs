// SPDX-License-Identifier: GPL-2.0-only
//! `arch/riscv/mm/fault.c`, and the accesses that come to it.

use crate::api::PAGE_SIZE;
use crate::arch::riscv::mm::pgtable::set_leaf;
use crate::mm::memory::fault::{Fault, Retry, handle_mm_fault};
use crate::mm::memory::lock_mm_and_find_vma;
use crate::mm_types::{Pte, Written, prot, vm};
use crate::state::Kernel;

/// An access from user mode, which writes a byte or reads one: what the hardware does, and
/// `handle_page_fault()` where it cannot.
pub fn access(k: &mut Kernel, addr: u64, byte: Option<u8>) -> Result<(), Fault> {
    let addr = addr & !(PAGE_SIZE - 1);
    let write = byte.is_some();
    let need = if write { prot::W } else { prot::R };
    // Every fault makes progress: missing → present → writable → accessed and dirty.
    for _ in 0..8 {
        if let Pte::Present {
            folio,
            prot: rights,
            dirty,
            young,
        } = k.pte(addr)
            && rights & need != 0
        {
            let current = young && (dirty || !write);
            if !current && k.machine.svadu {
                let pte = Pte::Present {
                    folio,
                    prot: rights,
                    dirty: dirty || write,
                    young: true,
                };
                set_leaf(k, addr, pte);
            }
            if current || k.machine.svadu {
                if let (Some(id), Some(byte)) = (folio, byte) {
                    k.folios[id].write_page(addr, Written::Byte(byte));
                }
                return Ok(());
            }
        }
        handle_page_fault(k, addr, write)?;
    }
    Err(Fault::Sigsegv)
}

/// `handle_page_fault()` and `access_error()`
fn handle_page_fault(k: &mut Kernel, addr: u64, write: bool) -> Result<(), Fault> {
    let Some(vma) = lock_mm_and_find_vma(k, addr) else {
        return Err(Fault::Sigsegv);
    };
    // Write implies read.
    let need = if write {
        vm::WRITE
    } else {
        vm::READ | vm::WRITE
    };
    if !vma.has(need) {
        return Err(Fault::Sigsegv);
    }
    handle_mm_fault(k, &vma, addr, write, Retry::Tried)
}
