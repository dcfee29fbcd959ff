// SPDX-License-Identifier: GPL-2.0-only
//! Pages go from one node of memory to another. Nothing here allocates.

use crate::perform::call;
use anyhow::{Result, ensure};
use operations::{
    MOVED_PAGES, MPOL_DEFAULT, MPOL_MF_MOVE, MPOL_MF_MOVE_ALL, MPOL_PREFERRED, PAGE_SIZE,
    StepResult, address, bytes,
};

/// Bits in a mask of nodes, and one more: the kernel takes one off.
const MAX_NODE: u64 = 65;

/// No errno, and no node.
const UNTOUCHED: i32 = i32::MIN;

/// `move_pages(2)` of pages in a row.
pub fn move_pages(pid: i32, (at, pages): (u64, u64), node: u32, all: bool) -> StepResult {
    // On the stack, which is there: what else there is would be faulted in.
    let mut addresses = [0u64; MOVED_PAGES as usize];
    let node = linux(node);
    let nodes = [node as i32; MOVED_PAGES as usize];
    let mut status = [UNTOUCHED; MOVED_PAGES as usize];
    let pages = pages.min(MOVED_PAGES);
    for (place, addr) in addresses.iter_mut().enumerate() {
        *addr = address(at) + place as u64 * PAGE_SIZE;
    }
    let flags = if all { MPOL_MF_MOVE_ALL } else { MPOL_MF_MOVE };
    // SAFETY: the arrays are as long as is said, and outlive the call.
    let left = unsafe {
        libc::syscall(
            libc::SYS_move_pages,
            pid,
            pages,
            addresses.as_ptr(),
            nodes.as_ptr(),
            status.as_mut_ptr(),
            flags,
        )
    };
    if left != 0 {
        return migrated(left);
    }
    let moved = |status: &i32| *status == node as i32;
    let refused = status[..pages as usize].iter().position(|it| !moved(it));
    refused.map_or(StepResult::Ok, |place| StepResult::Refused {
        errno: -status[place],
        page: at + place as u64,
    })
}

/// `migrate_pages(2)` from one node to another.
pub fn migrate_pages(pid: i32, from: u32, to: u32) -> StepResult {
    let (from, to) = (mask(linux(from)), mask(linux(to)));
    // SAFETY: masks of one word each.
    migrated(unsafe { libc::syscall(libc::SYS_migrate_pages, pid, MAX_NODE, &from, &to) })
}

/// What this process has moves from one node to the other, before it has anything in the arena: a
/// step that migrates it finds the arena's pages alone. That leaves a flush behind, which is made
/// here, too, by unmapping a page.
///
/// # Errors
/// The kernel has no memory.
pub fn make_way(from: u32, to: u32) -> Result<()> {
    // What cannot move stays, and steps say so.
    migrate_pages(0, from, to);
    let length = PAGE_SIZE as usize;
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    // SAFETY: a new page that nobody else knows of.
    let unmapped = unsafe {
        let at = libc::mmap(std::ptr::null_mut(), length, rights, flags, -1, 0);
        at != libc::MAP_FAILED && libc::munmap(at, length) == 0
    };
    ensure!(unmapped, "cannot map a page and unmap it again");
    Ok(())
}

/// `mbind(2)`
pub fn mbind((at, pages): (u64, u64), policy: i32, nodes: u64, flags: u32) -> StepResult {
    // The first two bits as Linux has them.
    let nodes = match (home(), nodes & 3) {
        (1, 1 | 2) => nodes ^ 3,
        _ => nodes,
    };
    let mask = if nodes == 0 {
        std::ptr::null()
    } else {
        &raw const nodes
    };
    // SAFETY: the range lies in the arena, and the mask has one word.
    call(unsafe {
        libc::syscall(
            libc::SYS_mbind,
            address(at),
            bytes(pages),
            policy,
            mask,
            if nodes == 0 { 0 } else { MAX_NODE },
            flags,
        )
    })
}

fn mask(node: u32) -> u64 {
    1u64.checked_shl(node).unwrap_or(0)
}

/// What a call comes to that gives back how many pages did not move.
fn migrated(left: libc::c_long) -> StepResult {
    match u64::try_from(left) {
        Ok(0) => StepResult::Ok,
        Ok(pages) => StepResult::Left { pages },
        Err(_) => call(left),
    }
}

/// Linux's number of a node: a scenario's first node is the one that the actors' harts are at,
/// and the second one the other. There is no third.
fn linux(node: u32) -> u32 {
    if node > 1 { node } else { home() ^ node }
}

/// The node that the running hart is at.
fn home() -> u32 {
    let mut node = 0u32;
    let nobody = std::ptr::null_mut::<u32>();
    // SAFETY: writes one number.
    unsafe { libc::syscall(libc::SYS_getcpu, nobody, &raw mut node, nobody) };
    node
}

/// Whether there are two nodes with memory, and all harts but the agent's are at one of them:
/// then pages begin there, whoever faults them in.
pub fn are_two() -> bool {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let two = ["0-1", "0,1"].contains(&read("/sys/devices/system/node/has_memory").trim());
    two && (0..2).any(|node| {
        let harts = read(&format!("/sys/devices/system/node/node{node}/cpulist"));
        let online = read("/sys/devices/system/cpu/online");
        harts == online || is_rest(&harts, &online)
    })
}

/// Whether `1-3` is all of `0-3` but the first, or `1` of `0-1`.
fn is_rest(harts: &str, online: &str) -> bool {
    let last = |text: &str| text.trim().rsplit('-').next().map(str::to_owned);
    let (first, dashes) = (harts.trim().split('-').next(), online.matches('-').count());
    first == Some("1")
        && !harts.contains(',')
        && dashes == 1
        && !online.contains(',')
        && online.starts_with("0-")
        && last(harts) == last(online)
}

/// Memory that the agent fills for the actors comes from their node, for as long as this lives.
pub struct AtTheActors;

impl AtTheActors {
    /// Where there are nodes.
    pub fn prefer() -> AtTheActors {
        // The agent's hart may be at the other one.
        let own = std::fs::read_to_string("/sys/devices/system/node/node1/cpulist");
        if own.is_ok_and(|harts| !harts.trim().is_empty() && are_two()) {
            set_mempolicy(MPOL_PREFERRED, 2);
        }
        AtTheActors
    }
}

impl Drop for AtTheActors {
    fn drop(&mut self) {
        set_mempolicy(MPOL_DEFAULT, 0);
    }
}

/// Only moves where memory comes from: a kernel that refuses it has no nodes.
fn set_mempolicy(policy: i32, nodes: u64) {
    let (mask, max) = if nodes == 0 {
        (std::ptr::null(), 0)
    } else {
        (&raw const nodes, MAX_NODE)
    };
    // SAFETY: a mask of one word.
    unsafe { libc::syscall(libc::SYS_set_mempolicy, policy, mask, max) };
}

#[cfg(test)]
mod tests {
    use super::is_rest;

    #[test]
    fn the_rest_of_the_harts_is_all_but_the_first() {
        assert!(is_rest("1-3\n", "0-3\n"));
        assert!(is_rest("1\n", "0-1\n"));
        assert!(!is_rest("2-3\n", "0-3\n"));
        assert!(!is_rest("1-2\n", "0-3\n"));
        assert!(!is_rest("1,3\n", "0-3\n"));
    }
}
