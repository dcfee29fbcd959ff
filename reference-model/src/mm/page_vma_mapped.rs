// SPDX-License-Identifier: GPL-2.0-only
//! `mm/page_vma_mapped.c`: from a folio and a vma to the PTEs that map it.

use crate::api::PAGE_SIZE;
use crate::mm_types::{FolioId, Pte, Vma};
use crate::state::Kernel;

/// `page_vma_mapped_walk()`: the PTE, if it is there that the folio is mapped.
pub fn page_vma_mapped_walk(k: &Kernel<'_>, id: FolioId, address: u64) -> Option<Pte> {
    let pte = k.pte(address);
    match pte {
        Pte::Present {
            folio: Some(mapped),
            ..
        } if mapped == id => Some(pte),
        _ => None,
    }
}

/// The addresses at which [`page_vma_mapped_walk`] has to look, from the first one on.
pub fn pages_of(
    k: &Kernel<'_>,
    id: FolioId,
    vma: &Vma,
    address: u64,
) -> impl Iterator<Item = u64> + use<> {
    // vma_address_end()
    let folio = &k.folios[id];
    let left = folio.nr_pages() - folio.page(address) as u64;
    let end = vma.end.min(address + left * PAGE_SIZE);
    (address..end).step_by(PAGE_SIZE as usize)
}
