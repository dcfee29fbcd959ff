// SPDX-License-Identifier: GPL-2.0-only
//! `mm/hugetlb.c`, its part on the pool: pages are reserved when memory is mapped, and taken when
//! it is touched.

use crate::errno;
use crate::mm::hugetlb::hstate_vma;
use crate::mm::mempolicy::policy_node;
use crate::mm_types::{Folio, FolioId, Resv, Vma, vm};
use crate::state::Kernel;
use operations::{HugePages, MPOL_BIND};
use std::collections::BTreeSet;

/// `vma_hugecache_offset()`: in pages of hugetlb from the start of the file.
pub fn vma_hugecache_offset(k: &Kernel<'_>, vma: &Vma, addr: u64) -> u64 {
    let size = hstate_vma(k, vma);
    (addr - vma.start) / size.bytes() + vma.pgoff / size.pages()
}

/// `region_count()`
pub fn region_count(map: &BTreeSet<u64>, from: u64, to: u64) -> u64 {
    map.range(from..to.max(from)).count() as u64
}

/// `vma_resv_map()`
fn vma_resv_map<'k>(k: &'k mut Kernel<'_>, vma: &Vma) -> Option<&'k mut BTreeSet<u64>> {
    if vma.has(vm::MAYSHARE) {
        // inode_resv_map()
        return Some(&mut k.files.get_mut(vma.file?)?.resv_map);
    }
    k.resv_maps.get_mut(vma.resv.map?)
}

/// `vma_needs_reservation()`: of a shared mapping the map has what is reserved, of a private
/// one what is not any more.
pub fn vma_needs_reservation(k: &mut Kernel<'_>, vma: &Vma, addr: u64) -> bool {
    let idx = vma_hugecache_offset(k, vma, addr);
    let shared = vma.has(vm::MAYSHARE);
    vma_resv_map(k, vma).is_none_or(|map| map.contains(&idx) != shared)
}

/// `vma_commit_reservation()`
fn vma_commit_reservation(k: &mut Kernel<'_>, vma: &Vma, addr: u64) {
    let idx = vma_hugecache_offset(k, vma, addr);
    if let Some(map) = vma_resv_map(k, vma) {
        map.insert(idx);
    }
}

/// `vma_add_reservation()`, of a private mapping
pub fn vma_add_reservation(k: &mut Kernel<'_>, vma: &Vma, addr: u64) {
    let idx = vma_hugecache_offset(k, vma, addr);
    if let Some(map) = vma_resv_map(k, vma) {
        map.remove(&idx);
    }
}

/// `clear_vma_resv_huge_pages()`, later of `fixup_hugetlb_reservations()`: once an area has moved, the
/// old one has no reservation any more, be it all of it or a part that has moved.
pub fn clear_vma_resv_huge_pages(k: &mut Kernel<'_>, addr: u64) {
    let start = k.mm.vma_lookup(addr).map(|vma| vma.start);
    if let Some(vma) = start.and_then(|start| k.mm.vmas.get_mut(&start)) {
        vma.resv = Resv::default();
    }
}

/// `hugetlb_acct_memory()`, `gather_surplus_pages()`, `return_unused_surplus_pages()`
///
/// # Errors
/// ENOMEM where the pool has not so many pages that nobody has reserved.
pub fn hugetlb_acct_memory(k: &mut Kernel<'_>, size: HugePages, delta: i64) -> Result<(), i32> {
    let h = &mut k.hstates[size as usize];
    let reserved = h.resv_huge_pages.saturating_add_signed(delta);
    if delta > 0 && reserved > h.free_huge_pages {
        return Err(errno::ENOMEM);
    }
    h.resv_huge_pages = reserved;
    Ok(())
}

/// `hugetlb_reserve_pages()`, of pages `[from, to)` of a file for a new vma
///
/// # Errors
/// ENOMEM where the pool is used up.
pub fn hugetlb_reserve_pages(
    k: &mut Kernel<'_>,
    vma: &mut Vma,
    from: u64,
    to: u64,
) -> Result<(), i32> {
    if vma.has(vm::NORESERVE) {
        return Ok(());
    }
    let size = hstate_vma(k, vma);
    let file = vma.file.unwrap_or_default();
    if !vma.has(vm::MAYSHARE) {
        hugetlb_acct_memory(k, size, (to - from) as i64)?;
        vma.resv.map = Some(k.resv_maps.len());
        k.resv_maps.push(BTreeSet::new());
        return Ok(());
    }
    // region_chg(), region_add()
    let reserved = region_count(&k.files[file].resv_map, from, to);
    hugetlb_acct_memory(k, size, (to - from - reserved) as i64)?;
    k.files[file].resv_map.extend(from..to);
    Ok(())
}

/// `hugetlb_unreserve_pages()`, of pages `[start, end)` of a file, so many of which were freed
pub fn hugetlb_unreserve_pages(
    k: &mut Kernel<'_>,
    file: usize,
    (start, end): (u64, u64),
    freed: u64,
) {
    let inode = &mut k.files[file];
    // region_del()
    let chg = region_count(&inode.resv_map, start, end);
    inode.resv_map.retain(|page| !(start..end).contains(page));
    let size = inode.file.hugetlb.unwrap_or(HugePages::Mib2);
    let _ = hugetlb_acct_memory(k, size, freed as i64 - chg as i64);
}

/// `huge_node()` (`mm/mempolicy.c`), and in which order `dequeue_hugetlb_folio_nodemask()` goes by
/// it: from the node of the policy to the other one, unless that is not in it.
fn huge_node(vma: &Vma) -> [Option<u32>; 2] {
    let node = policy_node(vma.policy);
    let bound = vma.policy.filter(|policy| policy.mode == MPOL_BIND);
    let other = node ^ 1;
    let allowed = bound.is_none_or(|policy| policy.nodes & 1 << other != 0);
    [Some(node), allowed.then_some(other)]
}

/// `alloc_hugetlb_folio_nodemask()` of a page that goes to another node: whether the pool has one
/// there, which is taken.
pub fn alloc_hugetlb_folio_nodemask(k: &mut Kernel<'_>, size: HugePages, node: u32) -> bool {
    let h = &mut k.hstates[size as usize];
    let there = h.free_huge_pages > h.resv_huge_pages && h.free_huge_pages_node[node as usize] > 0;
    if there {
        h.take_from(node);
    }
    there
}

/// `alloc_hugetlb_folio()`, `dequeue_hugetlb_folio_vma()`, `vma_has_reserves()`: a page of the
/// pool, the one that is reserved or one that nobody has reserved. None where there is none.
pub fn alloc_hugetlb_folio(
    k: &mut Kernel<'_>,
    vma: &Vma,
    addr: u64,
    cow_from_owner: bool,
) -> Option<FolioId> {
    let size = hstate_vma(k, vma);
    let gbl_chg = cow_from_owner || vma_needs_reservation(k, vma, addr);
    let h = &mut k.hstates[size as usize];
    // available_huge_pages()
    let available = h.free_huge_pages.saturating_sub(h.resv_huge_pages);
    if gbl_chg && available == 0 || h.free_huge_pages == 0 {
        return None;
    }
    let nodes = huge_node(vma);
    let mut nodes = nodes.into_iter().flatten();
    let node = nodes.find(|node| h.free_huge_pages_node[*node as usize] > 0)?;
    h.take_from(node);
    if !gbl_chg {
        h.resv_huge_pages = h.resv_huge_pages.saturating_sub(1);
    }
    if !cow_from_owner {
        vma_commit_reservation(k, vma, addr);
    }
    Some(k.folios.alloc(Folio {
        hugetlb: Some(size),
        node,
        restore_reserve: !gbl_chg,
        ..Folio::default()
    }))
}

/// `restore_reserve_on_error()`, of a shared mapping: a page that was taken without a reservation
/// leaves none (`vma_del_reservation()`); of another one freeing it gives it back.
pub fn restore_reserve_on_error(k: &mut Kernel<'_>, vma: &Vma, addr: u64, id: FolioId) {
    let idx = vma_hugecache_offset(k, vma, addr);
    if !k.folios[id].restore_reserve
        && !vma_needs_reservation(k, vma, addr)
        && let Some(map) = vma_resv_map(k, vma)
    {
        map.remove(&idx);
    }
}

/// `free_huge_folio()`: back to the pool.
pub fn free_huge_folio(k: &mut Kernel<'_>, id: FolioId, size: HugePages) {
    let node = k.folios[id].node;
    let h = &mut k.hstates[size as usize];
    h.give_back_to(node);
    if k.folios[id].restore_reserve {
        h.resv_huge_pages += 1;
    }
    k.folios.free(id);
}
