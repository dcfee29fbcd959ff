// SPDX-License-Identifier: GPL-2.0-only
//! `mm/memory.c`, its fifth part: pages of a driver that are mapped by their frames' numbers.

use crate::api::PAGE_SIZE;
use crate::arch::riscv::mm::init::{prot_is_young, vm_get_page_prot};
use crate::mm_types::{CacheEntry, FileId, Folio, Inode, Of, Pte, Vma, vm};
use crate::state::Kernel;

/// How many pages the driver has.
const DRIVER_PAGES: u64 = 16;

/// The driver's file. Its pages are there for as long as the machine is up, and next to each
/// other; in the page cache they are none of the kernel's.
pub fn driver_file(k: &mut Kernel<'_>) -> FileId {
    if let Some(file) = k.driver {
        return file;
    }
    let mut inode = Inode {
        pages: DRIVER_PAGES,
        of: Of::Driver,
        ..Inode::default()
    };
    for index in 0..DRIVER_PAGES {
        let id = k.folios.alloc(Folio {
            special: true,
            ..Folio::default()
        });
        inode.cache.insert(index, CacheEntry::Folio(id));
    }
    k.files.push(inode);
    let file = k.files.len() - 1;
    k.driver = Some(file);
    file
}

/// `remap_pfn_range()`: all of a new vma is mapped at once.
pub fn remap_pfn_range(k: &mut Kernel<'_>, vma: &mut Vma, file: FileId) {
    let rights = vm_get_page_prot(vma.flags);
    for page in 0..vma.pages() {
        let Some(&CacheEntry::Folio(id)) = k.files[file].cache.get(&page) else {
            continue;
        };
        let addr = vma.start + page * PAGE_SIZE;
        k.mm.pgd.pte_alloc(addr);
        k.set_pte(
            addr,
            Pte::Present {
                folio: Some(id),
                prot: rights,
                dirty: false,
                young: prot_is_young(rights),
            },
        );
    }
    vma.flags |= vm::IO | vm::PFNMAP | vm::DONTEXPAND | vm::DONTDUMP;
    // VM_SPECIAL is not locked.
    vma.flags &= !(vm::LOCKED | vm::LOCKONFAULT);
}
