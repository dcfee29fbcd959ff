// SPDX-License-Identifier: GPL-2.0-only
//! `mm/ksm.c`: pages that are the same become one, which nobody may write.
//!
//! Trees go by what pages hold: nothing that a tree has of this scan changes during it, so that
//! a search finds what it would find in the kernel's, whatever their shapes are. Checksums are
//! taken for exact. Absent: `merge_across_nodes` of 0, the advisor, `smart_scan` and
//! PR_SET_MEMORY_MERGE, which scenarios do not have; memory that goes offline. Where a page of a
//! large folio is looked at the model stops speaking.

pub mod merge;
pub mod scan;
pub mod tree;

use crate::api::{MmId, PAGE_SIZE};
use crate::errno::ETIMEDOUT;
use crate::mm::interval_tree::{Mapping, interval_tree};
use crate::mm::memory::fault::{anon_vma_of, do_wp_page};
use crate::mm_types::{AnonVmaId, Content, Folio, FolioId, Pte, Vma, vm};
use crate::state::Kernel;
use std::collections::{BTreeMap, VecDeque};

/// Index into [`Ksm::stable_nodes`].
pub type StableNodeId = u32;

/// How many scans the guest's agent waits for, at the least.
const SCANS: u32 = 4;

/// What `mm/ksm.c` keeps. Between steps the cursor (`ksm_scan`) is at the head of the list, for
/// ksmd is stopped between two scans of all.
#[derive(Clone, Debug, Default)]
pub struct Ksm {
    /// `ksm_mm_head`, first to last.
    pub mm_slots: Vec<KsmMmSlot>,
    /// All nodes of the stable tree.
    pub stable_nodes: BTreeMap<StableNodeId, StableNode>,
    /// `root_stable_tree`: what is the same is a chain, in its order.
    pub stable_tree: BTreeMap<Content, Vec<StableNodeId>>,
    /// The last number given to a node.
    pub last_stable_node: StableNodeId,
    /// `root_unstable_tree`
    pub unstable_tree: BTreeMap<Content, ItemId>,
    /// `ksm_scan.seqnr`
    pub seqnr: u64,
    /// `ksm_use_zero_pages`
    pub use_zero_pages: bool,
}

/// `struct ksm_mm_slot`
#[derive(Clone, Debug)]
pub struct KsmMmSlot {
    /// `slot.mm`
    pub mm: MmId,
    /// `rmap_list`, by address.
    pub rmap_list: BTreeMap<u64, RmapItem>,
}

/// Which item it is: its mm and its address.
pub type ItemId = (MmId, u64);

/// `struct ksm_rmap_item`
#[derive(Clone, Copy, Debug, Default)]
pub struct RmapItem {
    /// `oldchecksum`
    pub oldchecksum: Option<Content>,
    /// In which tree it is.
    pub place: Place,
}

/// In which tree an item is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// In none.
    #[default]
    Nowhere,
    /// UNSTABLE_FLAG, since the scan of that number.
    Unstable {
        /// `ksm_scan.seqnr` then.
        seqnr: u64,
    },
    /// STABLE_FLAG
    Stable {
        /// `head`
        node: StableNodeId,
        /// `anon_vma`
        anon_vma: AnonVmaId,
    },
}

/// `struct ksm_stable_node`
#[derive(Clone, Debug)]
pub struct StableNode {
    /// `kpfn`: what it was once, for the folio may be gone.
    pub folio: FolioId,
    /// What it holds.
    pub content: Content,
    /// `hlist`, newest first.
    pub hlist: VecDeque<ItemId>,
}

impl Ksm {
    /// An item, which may be gone.
    pub fn item(&mut self, (mm, address): ItemId) -> Option<&mut RmapItem> {
        let mut slots = self.mm_slots.iter_mut();
        slots
            .find(|slot| slot.mm == mm)?
            .rmap_list
            .get_mut(&address)
    }
}

/// `is_ksm_zero_pte()` (`include/linux/ksm.h`)
pub fn is_ksm_zero_pte(pte: Pte) -> bool {
    matches!(
        pte,
        Pte::Present {
            folio: None,
            dirty: true,
            ..
        }
    )
}

/// `break_ksm()` of all in a range, which `unmerge_ksm_pages()` goes over in 6.12: merged pages
/// are copied by faults that do not write (FAULT_FLAG_UNSHARE).
pub fn break_ksm(k: &mut Kernel<'_>, vma: &Vma, start: u64, end: u64) {
    for addr in present(k, start, end) {
        let pte = k.pte(addr);
        let merged = match pte {
            Pte::Present {
                folio: Some(id), ..
            } => k.folios[id].ksm,
            _ => is_ksm_zero_pte(pte),
        };
        if merged {
            do_wp_page(k, vma, addr, true);
        }
    }
}

/// The addresses in a range at which there is something.
fn present(k: &Kernel<'_>, start: u64, end: u64) -> Vec<u64> {
    let mut addresses = Vec::new();
    for (first, behind, _) in k.mm.pgd.pmds(start, end) {
        let pages = (first..behind).step_by(PAGE_SIZE as usize);
        addresses.extend(pages.filter(|addr| matches!(k.pte(*addr), Pte::Present { .. })));
    }
    addresses
}

/// `vma_ksm_compatible()`, later `ksm_compatible()`
fn vma_ksm_compatible(vma: &Vma) -> bool {
    !vma.has(vm::SHARED | vm::MAYSHARE | vm::HUGETLB | vm::DONTEXPAND)
}

/// `find_mergeable_vma()` of the mm that is acted on
pub fn find_mergeable_vma(k: &Kernel<'_>, addr: u64) -> Option<Vma> {
    // ksm_test_exit()
    if k.mm.released {
        return None;
    }
    let vma = k.mm.vma_lookup(addr)?;
    (vma.has(vm::MERGEABLE) && vma.anon_vma.is_some()).then(|| vma.clone())
}

/// `ksm_madvise()` of MADV_MERGEABLE: what `vm_flags` are then.
pub fn madvise_mergeable(k: &mut Kernel<'_>, vma: &Vma) -> u64 {
    if vma.has(vm::MERGEABLE) || !vma_ksm_compatible(vma) {
        return vma.flags;
    }
    if !k.mm.mergeable {
        let mm = k.mm_id;
        __ksm_enter(k, mm);
    }
    vma.flags | vm::MERGEABLE
}

/// `ksm_madvise()` of MADV_UNMERGEABLE: what `vm_flags` are then.
pub fn madvise_unmergeable(k: &mut Kernel<'_>, vma: &Vma, start: u64, end: u64) -> u64 {
    if vma.has(vm::MERGEABLE) && vma.anon_vma.is_some() {
        break_ksm(k, vma, start, end);
    }
    vma.flags & !vm::MERGEABLE
}

/// `__ksm_enter()`: behind the cursor, which is the end of the list.
fn __ksm_enter(k: &mut Kernel<'_>, mm: MmId) {
    k.ksm.mm_slots.push(KsmMmSlot {
        mm,
        rmap_list: BTreeMap::new(),
    });
    k.mm_mut(mm).mergeable = true;
}

/// `ksm_fork()` (`include/linux/ksm.h`)
pub fn ksm_fork(k: &mut Kernel<'_>, child: MmId) {
    if k.mm.mergeable {
        __ksm_enter(k, child);
    }
}

/// `ksm_exit()` (`include/linux/ksm.h`) and `__ksm_exit()`: what ksmd has of the mm it gives up
/// when it comes by, which is at once.
pub fn ksm_exit(k: &mut Kernel<'_>, mm: MmId) {
    let slots = &mut k.ksm.mm_slots;
    let Some(at) = slots.iter().position(|slot| slot.mm == mm) else {
        return;
    };
    let slot = slots.remove(at);
    if !slot.rmap_list.is_empty() {
        slots.insert(0, slot);
    }
}

/// `run_store()`: what a write to /sys/kernel/mm/ksm/run comes to. Either all that was merged is
/// parted, or ksmd scans (`ksm_scan_thread()`), on the hart of the guest's agent: as often as
/// that waits for, and then until it is told to stop, which is any number of times.
///
/// # Errors
/// ETIMEDOUT where ksmd had nothing to scan any more.
pub fn run_store(k: &mut Kernel<'_>, zero_pages: bool, unmerge: bool) -> Result<(), i32> {
    if unmerge {
        unmerge_and_remove_all_rmap_items(k);
        return Ok(());
    }
    if k.ksm.mm_slots.is_empty() {
        // Of others' mms, that have ended, there may be some left.
        k.unpredicted = Some("ksmd where nothing can be merged");
        return Ok(());
    }
    let current = k.current;
    let hart = std::mem::replace(&mut k.tasks[current].hart, k.machine.harts - 1);
    k.ksm.use_zero_pages = zero_pages;
    let scanned = ksm_scan_thread(k);
    k.ksm.use_zero_pages = false;
    k.tasks[current].hart = hart;
    scanned
}

/// `ksm_scan_thread()`
fn ksm_scan_thread(k: &mut Kernel<'_>) -> Result<(), i32> {
    for _ in 0..SCANS {
        // ksmd_should_run()
        if k.ksm.mm_slots.is_empty() {
            return Err(ETIMEDOUT);
        }
        scan::ksm_do_scan(k);
    }
    let calls = k.calls.len();
    if !k.ksm.mm_slots.is_empty() {
        scan::ksm_do_scan(k);
    }
    if k.calls.len() > calls {
        k.unpredicted = Some("ksmd where each scan does something");
    }
    Ok(())
}

/// `unmerge_and_remove_all_rmap_items()`
fn unmerge_and_remove_all_rmap_items(k: &mut Kernel<'_>) {
    let mms: Vec<MmId> = k.ksm.mm_slots.iter().map(|slot| slot.mm).collect();
    for mm in mms {
        k.in_mm(mm, |k| {
            // ksm_test_exit()
            if k.mm.released {
                return;
            }
            let vmas: Vec<Vma> = k.mm.vmas.values().cloned().collect();
            for vma in vmas {
                if vma.has(vm::MERGEABLE) && vma.anon_vma.is_some() {
                    break_ksm(k, &vma, vma.start, vma.end);
                }
            }
        });
        scan::remove_trailing_rmap_items(k, mm, 0);
    }
    let there = |mm: MmId| !k.mm(mm).released;
    let there: Vec<bool> = (0..k.mms.len()).map(there).collect();
    k.ksm.mm_slots.retain(|slot| there[slot.mm]);
    tree::remove_all_stable_nodes(k);
    k.ksm.seqnr = 0;
}

/// `ksm_might_need_to_copy()`: whether what comes from the swap cache cannot be mapped here, for
/// its place in its anon_vma is another. What was merged and written out is not known as merged
/// any more.
fn needs_copy(k: &Kernel<'_>, vma: &Vma, id: FolioId, addr: u64) -> bool {
    let folio = &k.folios[id];
    if folio.large.is_some() {
        return false;
    }
    if folio.ksm {
        return folio.stable_node.is_none();
    }
    let root = |anon_vma: AnonVmaId| k.anon_vmas.get(anon_vma as usize).map(|known| known.root);
    folio.anon
        && !(folio.index == vma.linear_anon_page_index(k.profile, addr)
            && root(folio.anon_vma) == root(anon_vma_of(k, vma)))
}

/// `ksm_might_need_to_copy()`: the copy, where there has to be one.
pub fn ksm_might_need_to_copy(
    k: &mut Kernel<'_>,
    vma: &Vma,
    id: FolioId,
    addr: u64,
) -> Option<FolioId> {
    if !needs_copy(k, vma, id, addr) {
        return None;
    }
    let content = k.folios[id].page_content(addr);
    Some(k.folios.alloc(Folio {
        charged: true,
        dirty: true,
        content,
        ..Folio::default()
    }))
}

/// `rmap_walk_ksm()`: where a merged page may be mapped. First by the items of the mms that were
/// scanned, then in mms that were forked from those since.
pub fn rmap_walk_ksm(k: &Kernel<'_>, id: FolioId) -> Vec<(Mapping, u64)> {
    let node = k.folios[id].stable_node;
    let Some(node) = node.and_then(|node| k.ksm.stable_nodes.get(&node)) else {
        return Vec::new();
    };
    let anon_vma_of_item = |&(mm, address): &ItemId| {
        let slot = k.ksm.mm_slots.iter().find(|slot| slot.mm == mm)?;
        match slot.rmap_list.get(&address)?.place {
            Place::Stable { anon_vma, .. } => Some((mm, address, anon_vma)),
            _ => None,
        }
    };
    let items: Vec<_> = node.hlist.iter().filter_map(anon_vma_of_item).collect();
    let mut mappings = Vec::new();
    for search_new_forks in [false, true] {
        for &(mm, address, anon_vma) in &items {
            let holds = |vma: &Vma| {
                vma.anon_vma_chain.contains(&anon_vma) && (vma.start..vma.end).contains(&address)
            };
            let key = |vma: &Vma| (vma.start_anon_pgoff(k.profile), vma.anon_seq);
            let found = interval_tree(k, holds, key).into_iter();
            let found = found.filter(|found| (found.mm == mm) != search_new_forks);
            mappings.extend(found.map(|found| (found, address)));
        }
    }
    mappings
}
