// SPDX-License-Identifier: GPL-2.0-only
//! `mm/interval_tree.c`: the vmas that map a part of a file, or may map an anonymous folio, in
//! the order in which a walk visits them.

use crate::api::MmId;
use crate::mm_types::{FileId, Vma};
use crate::state::Kernel;

/// A vma that may map a folio, of an mm.
pub struct Mapping {
    /// The mm.
    pub mm: MmId,
    /// The vma.
    pub vma: Vma,
}

/// All vmas, of whatever mm, that pass, in the order of an interval tree: by what `key` says
/// of the vma's first page, and of its insertion.
pub fn interval_tree(
    k: &Kernel<'_>,
    holds: impl Fn(&Vma) -> bool,
    key: impl Fn(&Vma) -> (u64, u64),
) -> Vec<Mapping> {
    let mut found = Vec::new();
    for mm in 0..k.mms.len() {
        let vmas = k.mm(mm).vmas.values().filter(|vma| holds(vma));
        found.extend(vmas.map(|vma| Mapping {
            mm,
            vma: vma.clone(),
        }));
    }
    found.sort_by_key(|found| key(&found.vma));
    found
}

/// `vma_interval_tree_foreach()` (`include/linux/mm.h`): the vmas of a file that map some of
/// `[first, end)`.
pub fn vma_interval_tree(k: &Kernel<'_>, file: FileId, first: u64, end: u64) -> Vec<(MmId, Vma)> {
    let holds = |vma: &Vma| {
        vma.file == Some(file) && vma.pgoff < end && first < vma.pgoff.saturating_add(vma.pages())
    };
    let found = interval_tree(k, holds, |vma| (vma.pgoff, vma.seq));
    found
        .into_iter()
        .map(|found| (found.mm, found.vma))
        .collect()
}

/// `vma_interval_tree_insert_after()`: a place in the order right
/// after `prev`.
pub fn vma_interval_tree_insert_after(k: &Kernel<'_>, file: FileId, prev: &Vma) -> u64 {
    let mms = (0..k.mms.len()).map(|mm| k.mm(mm));
    let same = mms
        .flat_map(|mm| mm.vmas.values())
        .filter(|vma| vma.file == Some(file) && vma.pgoff == prev.pgoff && vma.seq > prev.seq);
    let next = same.map(|vma| vma.seq).min();
    match next {
        Some(next) => prev.seq + (next - prev.seq) / 2,
        None => prev.seq + 1,
    }
}
