// SPDX-License-Identifier: GPL-2.0-only
//! `mm/ksm.c`, its trees: what was merged, and what may be in this scan.

use crate::mm::ksm::{ItemId, Place, StableNode, StableNodeId};
use crate::mm::swap::folio_put;
use crate::mm_types::{AnonVmaId, Content, FolioId, Pte};
use crate::state::Kernel;
use std::collections::VecDeque;

/// `ksm_max_page_sharing`
const MAX_PAGE_SHARING: usize = 256;

/// `is_page_sharing_candidate()`
fn is_page_sharing_candidate(k: &Kernel<'_>, node: StableNodeId) -> bool {
    (1..MAX_PAGE_SHARING).contains(&hlist_len(k, node))
}

/// `rmap_hlist_len`
fn hlist_len(k: &Kernel<'_>, node: StableNodeId) -> usize {
    let node = k.ksm.stable_nodes.get(&node);
    node.map_or(0, |node| node.hlist.len())
}

/// `ksm_get_folio()`: the node's folio, without a reference. A node of which it is gone goes.
pub fn ksm_get_folio(k: &mut Kernel<'_>, node: StableNodeId) -> Option<FolioId> {
    let id = k.ksm.stable_nodes.get(&node)?.folio;
    if k.folios[id].stable_node == Some(node) {
        return Some(id);
    }
    remove_node_from_stable_tree(k, node);
    None
}

/// `remove_node_from_stable_tree()`
fn remove_node_from_stable_tree(k: &mut Kernel<'_>, node: StableNodeId) {
    let Some(removed) = k.ksm.stable_nodes.remove(&node) else {
        return;
    };
    for item in removed.hlist {
        leave_stable_tree(k, item);
    }
    if let Some(chain) = k.ksm.stable_tree.get_mut(&removed.content) {
        chain.retain(|other| *other != node);
        if chain.is_empty() {
            k.ksm.stable_tree.remove(&removed.content);
        }
    }
}

/// An item is in no tree any more.
fn leave_stable_tree(k: &mut Kernel<'_>, item: ItemId) {
    let forgets = k.profile.ksm_forgets_checksums;
    if let Some(item) = k.ksm.item(item) {
        item.place = Place::Nowhere;
        if forgets {
            item.oldchecksum = None;
        }
    }
}

/// `remove_rmap_item_from_tree()`
pub fn remove_rmap_item_from_tree(k: &mut Kernel<'_>, id: ItemId) {
    let Some(item) = k.ksm.item(id).copied() else {
        return;
    };
    match item.place {
        Place::Nowhere => {}
        Place::Stable { node, .. } => {
            if ksm_get_folio(k, node).is_none() {
                return;
            }
            if let Some(node) = k.ksm.stable_nodes.get_mut(&node) {
                node.hlist.retain(|other| *other != id);
            }
            leave_stable_tree(k, id);
        }
        Place::Unstable { seqnr } => {
            if seqnr == k.ksm.seqnr {
                k.ksm.unstable_tree.retain(|_, other| *other != id);
            }
            if let Some(item) = k.ksm.item(id) {
                item.place = Place::Nowhere;
            }
        }
    }
}

/// `remove_all_stable_nodes()`, by `remove_stable_node()`: what is mapped somewhere yet stays.
pub fn remove_all_stable_nodes(k: &mut Kernel<'_>) {
    let nodes: Vec<StableNodeId> = k.ksm.stable_nodes.keys().copied().collect();
    for node in nodes {
        let Some(id) = ksm_get_folio(k, node) else {
            continue;
        };
        if k.folios[id].mapcount == 0 {
            k.folios[id].stable_node = None;
            remove_node_from_stable_tree(k, node);
        }
    }
}

/// `stable_node_dup()`: of nodes that hold the same, the one that can be shared. After a while
/// (`ksm_stable_node_chains_prune_millisecs`) it is the one that is shared most, and which of
/// the two it is the model does not know.
fn stable_node_dup(k: &mut Kernel<'_>, content: Content, prune: bool) -> Option<StableNodeId> {
    let chain = k.ksm.stable_tree.get(&content).cloned()?;
    let nodes: Vec<StableNodeId> = chain
        .into_iter()
        .filter(|node| ksm_get_folio(k, *node).is_some())
        .collect();
    let mut candidates = nodes.iter().copied();
    let candidates = candidates
        .by_ref()
        .filter(|node| is_page_sharing_candidate(k, *node));
    let candidates: Vec<StableNodeId> = candidates.collect();
    let found = *candidates.first().or(nodes.first())?;
    let longer = |node: &StableNodeId| hlist_len(k, *node) > hlist_len(k, found);
    if prune && candidates.iter().any(longer) {
        k.unpredicted = Some("which of several merged pages is shared");
    }
    let room = hlist_len(k, found) + 1 < MAX_PAGE_SHARING && hlist_len(k, found) > 0;
    if room && let Some(chain) = k.ksm.stable_tree.get_mut(&content) {
        chain.retain(|node| *node != found);
        chain.insert(0, found);
    }
    Some(found)
}

/// `stable_tree_search()`: the merged page that holds the same, with a reference.
pub fn stable_tree_search(k: &mut Kernel<'_>, id: FolioId) -> Option<FolioId> {
    if k.folios[id].stable_node.is_some() {
        // ksm page forked
        k.folio_get(id);
        return Some(id);
    }
    let content = k.folios[id].content;
    // chain_prune()
    let node = stable_node_dup(k, content, true)?;
    if !is_page_sharing_candidate(k, node) {
        return None;
    }
    let found = ksm_get_folio(k, node)?;
    k.folio_get(found);
    Some(found)
}

/// `stable_tree_insert()`, and `stable_node_chain_add_dup()` where there is one that holds the same
pub fn stable_tree_insert(k: &mut Kernel<'_>, id: FolioId) -> StableNodeId {
    let content = k.folios[id].content;
    // chain()
    stable_node_dup(k, content, false);
    k.ksm.last_stable_node += 1;
    let node = k.ksm.last_stable_node;
    k.ksm.stable_nodes.insert(
        node,
        StableNode {
            folio: id,
            content,
            hlist: VecDeque::new(),
        },
    );
    k.ksm
        .stable_tree
        .entry(content)
        .or_default()
        .insert(0, node);
    k.folios[id].stable_node = Some(node);
    node
}

/// `stable_tree_append()`
pub fn stable_tree_append(k: &mut Kernel<'_>, id: ItemId, node: StableNodeId, anon_vma: AnonVmaId) {
    if let Some(item) = k.ksm.item(id) {
        item.place = Place::Stable { node, anon_vma };
    }
    if let Some(node) = k.ksm.stable_nodes.get_mut(&node) {
        node.hlist.push_front(id);
    }
}

/// `get_mergeable_page()`: what is mapped there now, with a reference.
fn get_mergeable_page(k: &mut Kernel<'_>, (mm, address): ItemId) -> Option<FolioId> {
    k.in_mm(mm, |k| {
        super::find_mergeable_vma(k, address)?;
        let Pte::Present { folio, .. } = k.pte(address) else {
            return None;
        };
        let id = folio.filter(|id| k.folios[*id].anon)?;
        k.folio_get(id);
        Some(id)
    })
}

/// `unstable_tree_search_insert()`: the item of a page that is the same, and that page with a
/// reference; where there is none, this one is in the tree from now on.
pub fn unstable_tree_search_insert(
    k: &mut Kernel<'_>,
    item: ItemId,
    id: FolioId,
) -> Option<(ItemId, FolioId)> {
    let content = k.folios[id].content;
    if let Some(&tree_item) = k.ksm.unstable_tree.get(&content) {
        let tree_page = get_mergeable_page(k, tree_item)?;
        if tree_page == id {
            // Don't substitute a ksm page for a forked page.
            folio_put(k, tree_page);
            return None;
        }
        return Some((tree_item, tree_page));
    }
    k.ksm.unstable_tree.insert(content, item);
    let seqnr = k.ksm.seqnr;
    if let Some(item) = k.ksm.item(item) {
        item.place = Place::Unstable { seqnr };
    }
    None
}
