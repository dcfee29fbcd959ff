// SPDX-License-Identifier: GPL-2.0-only
//! `mm/ksm.c`, what ksmd does in one scan of all that is mergeable.

use crate::api::MmId;
use crate::mm::ksm::merge::{
    try_to_merge_two_pages, try_to_merge_with_ksm_page, try_to_merge_with_zero_page,
};
use crate::mm::ksm::tree::{
    remove_rmap_item_from_tree, stable_tree_append, stable_tree_insert, stable_tree_search,
    unstable_tree_search_insert,
};
use crate::mm::ksm::{ItemId, Place, RmapItem, present};
use crate::mm::swap::{folio_put, lru_add_drain_all};
use crate::mm_types::{FolioId, Pte, Vma, vm};
use crate::state::Kernel;

/// `ksm_do_scan()` of all there is, for `pages_to_scan` is that large.
pub fn ksm_do_scan(k: &mut Kernel<'_>) {
    // scan_get_next_rmap_item(), which begins with the first mm.
    lru_add_drain_all(k);
    k.ksm.unstable_tree.clear();
    let mms: Vec<MmId> = k.ksm.mm_slots.iter().map(|slot| slot.mm).collect();
    for mm in mms {
        let any = k.in_mm(mm, scan_mm);
        if !any {
            // Nothing in it is mergeable any more, or it has ended.
            k.ksm.mm_slots.retain(|slot| slot.mm != mm);
            k.mm_mut(mm).mergeable = false;
        }
    }
    k.ksm.seqnr += 1;
}

/// `scan_get_next_rmap_item()`, with `ksm_next_page_pmd_entry()`, and what follows from it for each
/// page of an mm; false where no area of it is mergeable.
fn scan_mm(k: &mut Kernel<'_>) -> bool {
    let mm = k.mm_id;
    let mergeable = |vma: &&Vma| vma.has(vm::MERGEABLE);
    let vmas: Vec<Vma> = match k.mm.released {
        true => Vec::new(),
        false => k.mm.vmas.values().filter(mergeable).cloned().collect(),
    };
    let mut behind = 0;
    for vma in vmas.iter().filter(|vma| vma.anon_vma.is_some()) {
        for addr in present(k, vma.start, vma.end) {
            let Pte::Present {
                folio: Some(id), ..
            } = k.pte(addr)
            else {
                continue;
            };
            if !k.folios[id].anon {
                continue;
            }
            if k.folios[id].large.is_some() {
                k.unpredicted = Some("KSM of large folios");
                return true;
            }
            k.folio_get(id);
            get_next_rmap_item(k, (mm, addr), behind);
            behind = addr + 1;
            cmp_and_merge_page(k, (mm, addr), id);
            folio_put(k, id);
        }
    }
    remove_trailing_rmap_items(k, mm, behind);
    !vmas.is_empty()
}

/// `remove_trailing_rmap_items()`: those from an address on.
pub fn remove_trailing_rmap_items(k: &mut Kernel<'_>, mm: MmId, from: u64) {
    remove_rmap_items(k, mm, from, u64::MAX);
}

fn remove_rmap_items(k: &mut Kernel<'_>, mm: MmId, from: u64, end: u64) {
    let slot = k.ksm.mm_slots.iter().find(|slot| slot.mm == mm);
    let items: Vec<u64> = slot.map_or_else(Vec::new, |slot| {
        let items = slot.rmap_list.range(from..end.max(from));
        items.map(|(&address, _)| address).collect()
    });
    for address in items {
        remove_rmap_item_from_tree(k, (mm, address));
        let mut slots = k.ksm.mm_slots.iter_mut();
        if let Some(slot) = slots.find(|slot| slot.mm == mm) {
            slot.rmap_list.remove(&address);
        }
    }
}

/// `get_next_rmap_item()`: there is one for the address, and none any more for those before at
/// which no page was found.
fn get_next_rmap_item(k: &mut Kernel<'_>, (mm, address): ItemId, behind: u64) {
    remove_rmap_items(k, mm, behind, address);
    let mut slots = k.ksm.mm_slots.iter_mut();
    if let Some(slot) = slots.find(|slot| slot.mm == mm) {
        slot.rmap_list
            .entry(address)
            .or_insert_with(RmapItem::default);
    }
}

/// `cmp_and_merge_page()`; what `calc_checksum()` finds is what the page holds.
fn cmp_and_merge_page(k: &mut Kernel<'_>, item: ItemId, id: FolioId) {
    if let Some(stable_node) = k.folios[id].stable_node {
        let place = k.ksm.item(item).map(|item| item.place);
        if matches!(place, Some(Place::Stable { node, .. }) if node == stable_node) {
            return;
        }
    } else {
        remove_rmap_item_from_tree(k, item);
        let checksum = Some(k.folios[id].content);
        let Some(known) = k.ksm.item(item) else {
            return;
        };
        if std::mem::replace(&mut known.oldchecksum, checksum) != checksum {
            return;
        }
        if try_to_merge_with_zero_page(k, item, id) {
            return;
        }
    }
    let kpage = stable_tree_search(k, id);
    remove_rmap_item_from_tree(k, item);
    if let Some(kpage) = kpage {
        let merged = try_to_merge_with_ksm_page(k, item, id, Some(kpage));
        if let (Some(anon_vma), Some(node)) = (merged, k.folios[kpage].stable_node) {
            stable_tree_append(k, item, node, anon_vma);
        }
        folio_put(k, kpage);
        return;
    }
    let Some((tree_item, tree_page)) = unstable_tree_search_insert(k, item, id) else {
        return;
    };
    let merged = try_to_merge_two_pages(k, (item, id), (tree_item, tree_page));
    folio_put(k, tree_page);
    if let Some((anon_vma, tree_anon_vma)) = merged {
        let node = stable_tree_insert(k, id);
        stable_tree_append(k, tree_item, node, tree_anon_vma);
        stable_tree_append(k, item, node, anon_vma);
    }
}
