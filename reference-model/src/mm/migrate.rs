// SPDX-License-Identifier: GPL-2.0-only
//! `mm/migrate.c`: folios go to other frames, and migration entries stand in page tables
//! meanwhile. Here a folio stays what it is and gets other frames: all that refers to it comes
//! back to it.

use crate::api::{MmId, PAGE_SIZE, StepResult};
use crate::arch::riscv::mm::hugetlbpage::set_huge_pte_at;
use crate::arch::riscv::mm::init::{prot_is_young, vm_get_page_prot};
use crate::errno;
use crate::mm::huge_memory::{
    deferred_split_folio, folio_likely_mapped_shared, is_huge_zero_pmd,
    split_huge_page_to_list_to_order,
};
use crate::mm::hugetlb::reserve::alloc_hugetlb_folio_nodemask;
use crate::mm::mlock::{mlock_drain, mlock_folio};
use crate::mm::rmap::{MigrationEntry, try_to_migrate, try_to_unmap_flush};
use crate::mm::swap::{folio_add_lru, folio_put, lru_add_drain, lru_add_drain_all};
use crate::mm::vmscan::folio_isolate_lru;
use crate::mm_types::{FolioId, HPAGE_PMD_NR, HugePmd, Of, Pte, prot, vm};
use crate::state::Kernel;
use operations::HugePages;

/// `NR_MAX_BATCHED_MIGRATION`
const NR_MAX_BATCHED_MIGRATION: u64 = HPAGE_PMD_NR as u64;

/// `remove_migration_pte()`, and `remove_migration_pmd()` of `mm/huge_memory.c`: the page is
/// mapped again, where it is now.
fn remove_migration_pte(k: &mut Kernel<'_>, id: FolioId, entry: MigrationEntry) {
    let Pte::Present {
        prot: rights,
        dirty,
        young,
        ..
    } = entry.pteval
    else {
        return;
    };
    let keeps_ad = k.machine.migration_keeps_ad;
    let page_prot = vm_get_page_prot(entry.vma_flags);
    let folio = &mut k.folios[id];
    folio.refcount += 1;
    folio.mapcount += 1;
    let rights = page_prot | rights & prot::W;
    let dirty = keeps_ad && dirty && folio.dirty;
    let young = keeps_ad && young && prot_is_young(page_prot);
    if let Some(large) = &mut folio.large {
        if entry.huge {
            large.entire_mapcount += 1;
        } else {
            let page = large.page(entry.addr);
            large.mapcounts[page] += 1;
        }
    }
    if folio.anon {
        folio.set_page_anon_exclusive(entry.addr, entry.exclusive);
    }
    k.in_mm(entry.mm, |k| {
        let pte = Pte::Present {
            folio: Some(id),
            prot: rights,
            dirty,
            young,
        };
        if let Some(size) = k.folios[id].hugetlb {
            set_huge_pte_at(k, entry.addr, size, pte);
        } else if entry.huge {
            let pmd = HugePmd {
                folio: id,
                prot: rights,
                dirty,
                young,
            };
            k.set_pmd(entry.addr, Some(pmd));
        } else {
            k.set_pte(entry.addr, pte);
        }
    });
    // mlock_vma_folio()
    if entry.vma_flags & vm::LOCKED != 0 {
        mlock_folio(k, id);
        let hart = k.hart() as usize;
        mlock_drain(k, hart);
    }
}

/// `folio_expected_ref_count()` (`include/linux/mm.h`): what refers to a folio that nobody maps, its
/// caller included.
fn folio_expected_refs(k: &Kernel<'_>, id: FolioId) -> u32 {
    let folio = &k.folios[id];
    let cached = match folio.mapping {
        Some((file, index)) => {
            let cache = k.files.get(file).map(|file| &file.cache);
            let entry = cache.and_then(|cache| cache.get(&index));
            entry == Some(&crate::mm_types::CacheEntry::Folio(id))
        }
        None => false,
    };
    let cached = cached || folio.swap.is_some();
    1 + u32::from(cached) * folio.nr_pages() as u32
}

/// `migrate_folio_unmap()`: the entries that stand for its mappings; none where nobody had it
/// any more, and it is freed.
fn migrate_folio_unmap(k: &mut Kernel<'_>, id: FolioId) -> Option<Vec<MigrationEntry>> {
    if k.folios[id].refcount == 1 {
        k.folios[id].active = false;
        k.folios[id].unevictable = false;
        folio_put(k, id);
        return None;
    }
    if k.of(k.folios[id].mapping.map(|at| at.0)) != Of::Usual {
        // secretmem_migrate_folio()
        k.unpredicted = Some("migration of secret memory");
    }
    Some(if k.folios[id].mapcount > 0 {
        try_to_migrate(k, id)
    } else {
        Vec::new()
    })
}

/// `migrate_folio_move()`, with `move_to_new_folio()` and `__folio_migrate_mapping()`.
fn migrate_folio_move(k: &mut Kernel<'_>, id: FolioId, entries: Vec<MigrationEntry>, node: u32) {
    if k.folios[id].refcount != folio_expected_refs(k, id) {
        k.unpredicted = Some("a page that somebody holds, and that cannot migrate");
        return;
    }
    let queued = k.deferred_split_queue.contains(&id);
    k.deferred_split_queue.retain(|&queued| queued != id);
    k.folios.move_to_new_frames(id);
    let folio = &mut k.folios[id];
    folio.node = node;
    let large = folio.large.as_mut();
    let partially_mapped = large.is_some_and(|large| std::mem::take(&mut large.partially_mapped));
    // lru_cache_disabled() keeps nothing in batches.
    folio_add_lru(k, id);
    lru_add_drain(k);
    for entry in entries {
        remove_migration_pte(k, id, entry);
    }
    if queued {
        deferred_split_folio(k, id, partially_mapped);
    }
    // migrate_folio_done()
    folio_put(k, id);
}

/// `try_split_folio()`: the small folios go to the list.
fn try_split_folio(k: &mut Kernel<'_>, id: FolioId, split_folios: &mut Vec<FolioId>) -> bool {
    let split = split_huge_page_to_list_to_order(k, id, Some(split_folios), 0);
    if split {
        split_folios.push(id);
    }
    split
}

/// `migrate_pages_batch()` of MIGRATE_ASYNC: all are unmapped, then flushed at once, then moved.
fn migrate_pages_batch(
    k: &mut Kernel<'_>,
    from: &[FolioId],
    node: u32,
    split_folios: &mut Vec<FolioId>,
) {
    let mut unmap_folios = Vec::new();
    for &id in from {
        let large = k.folios[id].large.as_deref();
        let partly = large.is_some_and(|large| large.partially_mapped);
        if partly && k.deferred_split_queue.contains(&id) && try_split_folio(k, id, split_folios) {
            continue;
        }
        if let Some(entries) = migrate_folio_unmap(k, id) {
            unmap_folios.push((id, entries));
        }
    }
    try_to_unmap_flush(k);
    for (id, entries) in unmap_folios {
        migrate_folio_move(k, id, entries, node);
    }
}

/// `unmap_and_move_huge_page()`, later `unmap_and_move_hugetlb_folio()`: each by itself, and nothing
/// is put off.
fn unmap_and_move_huge_page(k: &mut Kernel<'_>, id: FolioId, size: HugePages, node: u32) {
    if k.folios[id].refcount == 1 {
        folio_putback_active_hugetlb(k, id);
        return;
    }
    // alloc_migration_target()
    if !alloc_hugetlb_folio_nodemask(k, size, node) {
        k.unpredicted = Some("a page of hugetlb made for another node, whose pool is used up");
        return;
    }
    let mapped = k.folios[id].mapcount > 0;
    let entries = if mapped {
        try_to_migrate(k, id)
    } else {
        Vec::new()
    };
    // move_to_new_folio(): the frames that it was in are the pool's now.
    let old = std::mem::replace(&mut k.folios[id].node, node);
    k.hstates[size as usize].give_back_to(old);
    k.folios.move_to_new_frames(id);
    for entry in entries {
        remove_migration_pte(k, id, entry);
    }
    folio_putback_active_hugetlb(k, id);
}

/// `folio_putback_active_hugetlb()` (`mm/hugetlb.c`), later `folio_putback_hugetlb()`: what
/// `isolate_hugetlb()` took is given back.
pub fn folio_putback_active_hugetlb(k: &mut Kernel<'_>, id: FolioId) {
    folio_put(k, id);
}

/// `isolate_hugetlb()` (`mm/hugetlb.c`): not one that is on the list already.
pub fn isolate_hugetlb(k: &mut Kernel<'_>, id: FolioId, list: &mut Vec<FolioId>) -> bool {
    // The flag of a page that can be migrated is gone then.
    if list.contains(&id) {
        return false;
    }
    k.folio_get(id);
    list.push(id);
    true
}

/// `migrate_hugetlbs()`: they come first, in their order.
fn migrate_hugetlbs(k: &mut Kernel<'_>, from: &mut Vec<FolioId>, node: u32) {
    for &id in from.iter() {
        if let Some(size) = k.folios[id].hugetlb
            && k.unpredicted.is_none()
        {
            unmap_and_move_huge_page(k, id, size, node);
        }
    }
    from.retain(|&id| k.folios[id].hugetlb.is_none());
}

/// `migrate_pages()` of MIGRATE_SYNC, whose first attempt is `migrate_pages_sync()`'s of
/// MIGRATE_ASYNC. Nothing is left for the second here.
pub fn migrate_pages(k: &mut Kernel<'_>, mut from: Vec<FolioId>, node: u32) {
    migrate_hugetlbs(k, &mut from, node);
    while !from.is_empty() {
        let (mut nr_pages, mut batch) = (0, 0);
        while batch < from.len() && nr_pages < NR_MAX_BATCHED_MIGRATION {
            nr_pages += k.folios[from[batch]].nr_pages();
            batch += 1;
        }
        let rest = from.split_off(batch);
        let mut split_folios = Vec::new();
        migrate_pages_batch(k, &from, node, &mut split_folios);
        if !split_folios.is_empty() {
            migrate_pages_batch(k, &split_folios, node, &mut Vec::new());
        }
        from = rest;
    }
}

/// `__add_folio_for_migration()`: whether it is queued now; not where it is on the node already.
fn __add_folio_for_migration(
    k: &mut Kernel<'_>,
    id: FolioId,
    node: u32,
    pagelist: &mut Vec<FolioId>,
    migrate_all: bool,
) -> Result<bool, i32> {
    if k.folios[id].node == node {
        return Ok(false);
    }
    if folio_likely_mapped_shared(k, id) && !migrate_all {
        return Err(errno::EACCES);
    }
    if k.folios[id].hugetlb.is_some() {
        return match isolate_hugetlb(k, id, pagelist) {
            true => Ok(true),
            false => Err(errno::EBUSY),
        };
    }
    if !folio_isolate_lru(k, id) {
        return Err(errno::EBUSY);
    }
    pagelist.push(id);
    Ok(true)
}

/// `add_folio_for_migration()`
fn add_folio_for_migration(
    k: &mut Kernel<'_>,
    addr: u64,
    node: u32,
    pagelist: &mut Vec<FolioId>,
    migrate_all: bool,
) -> Result<bool, i32> {
    let vma = k.mm.vma_lookup(addr).ok_or(errno::EFAULT)?;
    // vma_migratable()
    if vma.has(vm::IO | vm::PFNMAP) {
        return Err(errno::EFAULT);
    }
    if let Some(pmd) = k.mm.pgd.huge_pmd(addr)
        && is_huge_zero_pmd(k, pmd)
    {
        return Err(errno::EFAULT);
    }
    match k.pte(addr) {
        Pte::Present {
            folio: Some(id), ..
        } => __add_folio_for_migration(k, id, node, pagelist, migrate_all),
        // is_zero_folio()
        Pte::Present { folio: None, .. } => Err(errno::EFAULT),
        _ => Err(errno::ENOENT),
    }
}

/// `do_pages_move()`: what is queued moves as soon as a page is not. The first page that has
/// another status than the node, and why.
fn do_pages_move(
    k: &mut Kernel<'_>,
    mm: MmId,
    (start, nr_pages): (u64, u64),
    node: u32,
    migrate_all: bool,
) -> Result<StepResult, i32> {
    // lru_cache_disable()
    lru_add_drain_all(k);
    if nr_pages > 0 && node >= k.machine.nodes {
        return Err(errno::ENODEV);
    }
    let (mut pagelist, mut refused) = (Vec::new(), None);
    for page in 0..nr_pages {
        let addr = start + page * PAGE_SIZE;
        let added = k.in_mm(mm, |k| {
            add_folio_for_migration(k, addr, node, &mut pagelist, migrate_all)
        });
        if added == Ok(true) {
            continue;
        }
        if let Err(errno) = added {
            refused = refused.or(Some((errno, page)));
        }
        // move_pages_and_store_status()
        migrate_pages(k, std::mem::take(&mut pagelist), node);
    }
    migrate_pages(k, pagelist, node);
    Ok(
        refused.map_or(StepResult::Ok, |(errno, page)| StepResult::Refused {
            errno,
            page,
        }),
    )
}

/// `find_mm_struct()`: whose mm it is that an actor's process has.
pub fn find_mm_struct(k: &Kernel<'_>, of: usize) -> Result<MmId, i32> {
    let task = k.tasks.get(of).filter(|task| task.born);
    let task = task.ok_or(errno::ESRCH)?;
    // Who was forked is not waited for, and is a zombie then.
    task.mm.ok_or(if task.forked {
        errno::EINVAL
    } else {
        errno::ESRCH
    })
}

/// `kernel_move_pages()`, of pages in a row.
///
/// # Errors
/// ESRCH and EINVAL where the process has exited, ENODEV where there is no such node.
pub fn kernel_move_pages(
    k: &mut Kernel<'_>,
    of: usize,
    pages: (u64, u64),
    node: u32,
    migrate_all: bool,
) -> Result<StepResult, i32> {
    let mm = find_mm_struct(k, of)?;
    do_pages_move(k, mm, pages, node, migrate_all)
}
