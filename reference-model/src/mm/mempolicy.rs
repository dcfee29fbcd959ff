// SPDX-License-Identifier: GPL-2.0-only
//! `mm/mempolicy.c`: from which node memory comes, and pages that are not where a policy has
//! them.

use crate::api::{MmId, StepResult};
use crate::arch::riscv::mm::hugetlbpage::huge_ptep_get;
use crate::errno;
use crate::mm::huge_memory::{folio_likely_mapped_shared, is_huge_zero_pmd};
use crate::mm::hugetlb::hstate_vma;
use crate::mm::migrate::{
    find_mm_struct, folio_putback_active_hugetlb, isolate_hugetlb, migrate_pages,
};
use crate::mm::mmap::{TASK_SIZE, page_align};
use crate::mm::pagewalk::walk_page_range;
use crate::mm::swap::{lru_add_drain, lru_add_drain_all};
use crate::mm::vma::vma_modify_policy;
use crate::mm::vmscan::folio_isolate_lru;
use crate::mm::vmscan::folio_list::folio_putback_lru;
use crate::mm_types::{FolioId, Mempolicy, Pte, Vma, vm};
use crate::state::Kernel;
use operations::{
    HugePages, MPOL_BIND, MPOL_DEFAULT, MPOL_LOCAL, MPOL_MF_MOVE, MPOL_MF_MOVE_ALL, MPOL_MF_STRICT,
    MPOL_PREFERRED, PAGE_SIZE,
};

/// The node of a page without a policy: the one that all actors' harts are at.
const LOCAL_NODE: u32 = 0;

/// The node that a new page of a vma comes from: of `get_vma_policy()`, which there is always
/// room on.
pub fn policy_node(policy: Option<Mempolicy>) -> u32 {
    match policy {
        Some(policy) if policy.mode == MPOL_BIND || policy.mode == MPOL_PREFERRED => {
            policy.nodes.trailing_zeros()
        }
        _ => LOCAL_NODE,
    }
}

/// `mpol_new()`
fn mpol_new(mode: i32, nodes: u64) -> Result<Option<Mempolicy>, i32> {
    match (mode, nodes) {
        (MPOL_DEFAULT, 0) => Ok(None),
        (MPOL_LOCAL | MPOL_PREFERRED, 0) => Ok(Some(Mempolicy {
            mode: MPOL_LOCAL,
            nodes: 0,
        })),
        (MPOL_DEFAULT | MPOL_LOCAL, _) | (_, 0) => Err(errno::EINVAL),
        (MPOL_BIND | MPOL_PREFERRED, nodes) => Ok(Some(Mempolicy { mode, nodes })),
        _ => Err(errno::EINVAL),
    }
}

/// `mpol_set_nodemask()`: only nodes that have memory count.
fn mpol_set_nodemask(k: &Kernel<'_>, policy: Mempolicy) -> Result<Mempolicy, i32> {
    if policy.mode == MPOL_LOCAL {
        return Ok(policy);
    }
    let there = (1u64.checked_shl(k.machine.nodes).unwrap_or(0)).wrapping_sub(1);
    let nodes = policy.nodes & there;
    if nodes == 0 {
        return Err(errno::EINVAL);
    }
    Ok(Mempolicy { nodes, ..policy })
}

/// `struct queue_pages`
struct QueuePages {
    pagelist: Vec<FolioId>,
    flags: u32,
    nodes: u64,
    start: u64,
    end: u64,
    first: bool,
    large: Option<FolioId>,
    nr_failed: u64,
}

impl QueuePages {
    fn moves(&self) -> bool {
        self.flags & (MPOL_MF_MOVE | MPOL_MF_MOVE_ALL) != 0
    }

    /// `strictly_unmovable()`
    fn strictly_unmovable(&self) -> bool {
        self.flags & MPOL_MF_STRICT != 0 && !self.moves()
    }
}

/// `migrate_folio_add()`: false where it is off the LRU.
fn migrate_folio_add(k: &mut Kernel<'_>, id: FolioId, qp: &mut QueuePages) -> bool {
    if qp.flags & MPOL_MF_MOVE_ALL != 0 || !folio_likely_mapped_shared(k, id) {
        if !folio_isolate_lru(k, id) {
            return false;
        }
        qp.pagelist.push(id);
    }
    true
}

/// `queue_folios_pte_range()`, with `queue_folios_pmd()` and `queue_folio_required()`
fn queue_folios_pte_range(
    k: &mut Kernel<'_>,
    (addr, end, huge): (u64, u64, bool),
    qp: &mut QueuePages,
) -> Result<(), i32> {
    let step = if huge { end - addr } else { PAGE_SIZE };
    for addr in (addr..end).step_by(step.max(PAGE_SIZE) as usize) {
        if huge
            && k.mm
                .pgd
                .huge_pmd(addr)
                .is_some_and(|pmd| is_huge_zero_pmd(k, pmd))
        {
            continue;
        }
        let Pte::Present {
            folio: Some(id), ..
        } = k.pte(addr)
        else {
            continue;
        };
        if qp.nodes & 1 << k.folios[id].node != 0 {
            continue;
        }
        if !huge && k.folios[id].large.is_some() {
            if qp.large == Some(id) {
                continue;
            }
            qp.large = Some(id);
        }
        if !qp.moves() || !migrate_folio_add(k, id, qp) {
            qp.nr_failed += 1;
            if qp.strictly_unmovable() {
                break;
            }
        }
    }
    if qp.nr_failed > 0 && qp.strictly_unmovable() {
        return Err(errno::EIO);
    }
    Ok(())
}

/// `queue_folios_hugetlb()` of each page of hugetlb of a vma that the range comes by
fn queue_folios_hugetlb(k: &mut Kernel<'_>, vma: &Vma, qp: &mut QueuePages) -> Result<(), i32> {
    let size = hstate_vma(k, vma);
    let start = vma.start.max(qp.start) & !(size.bytes() - 1);
    for addr in (start..vma.end.min(qp.end)).step_by(size.bytes() as usize) {
        let Pte::Present {
            folio: Some(id), ..
        } = huge_ptep_get(k, addr, size)
        else {
            continue;
        };
        // queue_folio_required()
        if qp.nodes & 1 << k.folios[id].node != 0 {
            continue;
        }
        let all = qp.flags & MPOL_MF_MOVE_ALL != 0;
        if !qp.moves() {
            qp.nr_failed += 1;
        } else if all || !folio_likely_mapped_shared(k, id) && !hugetlb_pmd_shared(k, size, addr) {
            let isolated = isolate_hugetlb(k, id, &mut qp.pagelist);
            qp.nr_failed += u64::from(!isolated);
        }
        if qp.nr_failed > 0 && qp.strictly_unmovable() {
            return Err(errno::EIO);
        }
    }
    Ok(())
}

/// `hugetlb_pmd_shared()` (`include/linux/hugetlb.h`)
fn hugetlb_pmd_shared(k: &Kernel<'_>, size: HugePages, addr: u64) -> bool {
    size == HugePages::Mib2 && k.sharers(addr).len() > 1
}

/// `queue_pages_test_walk()`: whether the vma's pages are looked at.
fn queue_pages_test_walk(
    k: &Kernel<'_>,
    vma: &Vma,
    discontig_ok: bool,
    qp: &mut QueuePages,
) -> Result<bool, i32> {
    if !std::mem::replace(&mut qp.first, true) && !discontig_ok && qp.start < vma.start {
        return Err(errno::EFAULT);
    }
    let next = k.mm.find_vma(vma.end);
    let followed = next.is_some_and(|next| vma.end >= next.start);
    if !discontig_ok && vma.end < qp.end && !followed {
        return Err(errno::EFAULT);
    }
    Ok(qp.flags & MPOL_MF_STRICT != 0 || qp.moves())
}

/// `queue_pages_range()`
fn queue_pages_range(
    k: &mut Kernel<'_>,
    discontig_ok: bool,
    qp: &mut QueuePages,
) -> Result<(), i32> {
    let mut addr = qp.start;
    while let Some(vma) =
        k.mm.find_vma(addr)
            .cloned()
            .filter(|vma| vma.start < qp.end)
    {
        addr = vma.end;
        if !queue_pages_test_walk(k, &vma, discontig_ok, qp)? {
            continue;
        }
        if vma.has(vm::HUGETLB) {
            queue_folios_hugetlb(k, &vma, qp)?;
            continue;
        }
        for pmd in walk_page_range(k, vma.start.max(qp.start), vma.end.min(qp.end)) {
            queue_folios_pte_range(k, pmd, qp)?;
        }
    }
    if !qp.first {
        return Err(errno::EFAULT);
    }
    Ok(())
}

/// `mbind_range()` of all vmas
fn mbind_ranges(
    k: &mut Kernel<'_>,
    start: u64,
    end: u64,
    policy: Option<Mempolicy>,
) -> Result<(), i32> {
    let mut addr = start;
    while addr < end
        && let Some(vma) = k.mm.find_vma(addr).cloned()
        && vma.start < end
    {
        addr = vma.end.min(end);
        if vma.policy == policy {
            continue;
        }
        // shmem_set_policy() keeps it in the file.
        if vma.file.is_some() && !vma.has(vm::HUGETLB) {
            k.unpredicted = Some("a policy of shared memory or of a file");
            return Ok(());
        }
        vma_modify_policy(k, vma.start.max(start), addr, policy)?;
    }
    Ok(())
}

/// `migrate_to_node()`: how many pages stayed.
fn migrate_to_node(k: &mut Kernel<'_>, mm: MmId, source: u32, dest: u32) -> Result<u64, i32> {
    let mut qp = QueuePages {
        pagelist: Vec::new(),
        flags: MPOL_MF_MOVE_ALL,
        // Of that node alone: MPOL_MF_INVERT is not set.
        nodes: !(1 << source),
        start: 0,
        end: TASK_SIZE,
        first: false,
        large: None,
        nr_failed: 0,
    };
    // A process that has nothing in the arena has its own program.
    let queued = k.in_mm(mm, |k| queue_pages_range(k, true, &mut qp));
    if queued.is_err_and(|errno| errno != errno::EFAULT) {
        return Ok(qp.nr_failed);
    }
    migrate_pages(k, qp.pagelist, dest);
    Ok(qp.nr_failed)
}

/// `kernel_migrate_pages()`, `do_migrate_pages()`: of all that a process has on a node. What its
/// program has for itself is at the other one, where nothing was copied.
///
/// # Errors
/// ESRCH and EINVAL where the process has exited, EINVAL where there is no such node.
pub fn kernel_migrate_pages(
    k: &mut Kernel<'_>,
    of: usize,
    (from, to): (u32, u32),
) -> Result<StepResult, i32> {
    let mm = find_mm_struct(k, of);
    // Of what the program has at the other node something may be held.
    let made_way = from == LOCAL_NODE && k.migrates == Some((from, to));
    if from >= k.machine.nodes || mm.is_ok() && from != to && !made_way {
        k.unpredicted = Some("migrate_pages(2) of the replaying program's own memory");
        return Ok(StepResult::Ok);
    }
    if mm == Err(errno::ESRCH) {
        return Err(errno::ESRCH);
    }
    // cpuset_mems_allowed()
    if to >= k.machine.nodes {
        return Err(errno::EINVAL);
    }
    let mm = mm?;
    // lru_cache_disable()
    lru_add_drain_all(k);
    let stayed = match from == to {
        // node_remap()
        true => 0,
        false => migrate_to_node(k, mm, from, to)?,
    };
    Ok(match stayed {
        0 => StepResult::Ok,
        pages => StepResult::Left { pages },
    })
}

/// `do_mbind()`
///
/// # Errors
/// EINVAL for what is no policy, EFAULT over a hole, EIO with MPOL_MF_STRICT where a page is
/// not where it has to be.
pub fn do_mbind(
    k: &mut Kernel<'_>,
    (start, len): (u64, u64),
    mode: i32,
    nodes: u64,
    mut flags: u32,
) -> Result<(), i32> {
    if mode == MPOL_DEFAULT {
        flags &= !MPOL_MF_STRICT;
    }
    let end = page_align(len).and_then(|len| start.checked_add(len));
    let end = end.ok_or(errno::EINVAL)?;
    if end == start {
        return Ok(());
    }
    let new = mpol_new(mode, nodes)?;
    let mut qp = QueuePages {
        pagelist: Vec::new(),
        flags,
        nodes,
        start,
        end,
        first: false,
        large: None,
        nr_failed: 0,
    };
    if qp.moves() {
        // lru_cache_disable()
        lru_add_drain_all(k);
    }
    let new = new.map(|new| mpol_set_nodemask(k, new)).transpose()?;
    let queued = queue_pages_range(k, new.is_none(), &mut qp);
    if let Err(errno) = queued.and_then(|()| mbind_ranges(k, start, end, new)) {
        // putback_movable_pages()
        for id in qp.pagelist {
            if k.folios[id].hugetlb.is_some() {
                folio_putback_active_hugetlb(k, id);
                continue;
            }
            folio_putback_lru(k, id);
            lru_add_drain(k);
        }
        return Err(errno);
    }
    migrate_pages(k, qp.pagelist, policy_node(new));
    if qp.nr_failed > 0 && flags & MPOL_MF_STRICT != 0 {
        return Err(errno::EIO);
    }
    Ok(())
}
