// SPDX-License-Identifier: GPL-2.0-only
//! `mm/rmap.c`, its first part: anon_vmas, by which an anonymous folio finds the
//! vmas that may map it.

use crate::mm::vma::find_mergeable_anon_vma;
use crate::mm_types::{AnonVma, AnonVmaId, Vma};
use crate::state::Kernel;

/// `anon_vma_alloc()`: its own root and parent unless said otherwise.
fn anon_vma_alloc(k: &mut Kernel<'_>) -> AnonVmaId {
    let id = k.anon_vmas.len() as AnonVmaId;
    k.anon_vmas.push(AnonVma {
        root: id,
        parent: id,
        num_children: 0,
        num_active_vmas: 0,
        vmas: 0,
    });
    id
}

/// `anon_vma_chain_assign()`
fn anon_vma_chain_assign(k: &mut Kernel<'_>, vma: &mut Vma, anon_vma: AnonVmaId) {
    let older = vma.anon_vma_chain.iter().copied();
    vma.anon_vma_chain = std::iter::once(anon_vma).chain(older).collect();
    vma.anon_seq = k.next_seq();
    k.anon_vmas[anon_vma as usize].vmas += 1;
}

/// `__anon_vma_prepare()`
pub fn anon_vma_prepare(k: &mut Kernel<'_>, vma: &mut Vma) {
    let anon_vma = find_mergeable_anon_vma(k, vma).unwrap_or_else(|| {
        let new = anon_vma_alloc(k);
        // self-parent link for new root
        k.anon_vmas[new as usize].num_children += 1;
        new
    });
    vma.anon_vma = Some(anon_vma);
    anon_vma_chain_assign(k, vma, anon_vma);
    k.anon_vmas[anon_vma as usize].num_active_vmas += 1;
}

/// `anon_vma_clone()`: `dst` gets into all interval trees that `src` is in. A `dst`
/// without an anon_vma (a fork's) takes one over that no vma and at most one child uses.
pub fn anon_vma_clone(k: &mut Kernel<'_>, dst: &mut Vma, src: &Vma) {
    for &anon_vma in src.anon_vma_chain.iter().rev() {
        anon_vma_chain_assign(k, dst, anon_vma);
        let of = &k.anon_vmas[anon_vma as usize];
        if dst.anon_vma.is_none()
            && src.anon_vma.is_some()
            && of.num_children < 2
            && of.num_active_vmas == 0
        {
            dst.anon_vma = Some(anon_vma);
        }
    }
    if let Some(anon_vma) = dst.anon_vma {
        k.anon_vmas[anon_vma as usize].num_active_vmas += 1;
    }
}

/// `anon_vma_fork()`: the child's vma is in all of its parent's trees, and has an
/// anon_vma of its own for what it will write.
pub fn anon_vma_fork(k: &mut Kernel<'_>, vma: &mut Vma, pvma: &Vma) {
    vma.anon_vma = None;
    vma.anon_vma_chain = Default::default();
    let Some(parent) = pvma.anon_vma else {
        return;
    };
    anon_vma_clone(k, vma, pvma);
    if vma.anon_vma.is_some() {
        return;
    }
    let new = anon_vma_alloc(k);
    let root = k.anon_vmas[parent as usize].root;
    let anon_vma = &mut k.anon_vmas[new as usize];
    anon_vma.num_active_vmas += 1;
    anon_vma.root = root;
    anon_vma.parent = parent;
    vma.anon_vma = Some(new);
    anon_vma_chain_assign(k, vma, new);
    k.anon_vmas[parent as usize].num_children += 1;
}

/// `unlink_anon_vmas()`
pub fn unlink_anon_vmas(k: &mut Kernel<'_>, vma: &Vma) {
    for &anon_vma in vma.anon_vma_chain.iter() {
        let of = &mut k.anon_vmas[anon_vma as usize];
        of.vmas -= 1;
        if of.vmas == 0 {
            let parent = of.parent;
            k.anon_vmas[parent as usize].num_children -= 1;
        }
    }
    if let Some(anon_vma) = vma.anon_vma {
        k.anon_vmas[anon_vma as usize].num_active_vmas -= 1;
    }
}
