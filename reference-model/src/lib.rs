// SPDX-License-Identifier: GPL-2.0-only
//! What the kernel should do: `arch/riscv/mm/tlbflush.c` function by function,
//! under a model of the parts of the mm core that call it.
//!
//! Pure: no I/O, no clock, no YAML, no QEMU, no unsafe. Addresses are the
//! kernel's: bytes, absolute, ranges half-open, `u64::MAX` for `ULONG_MAX`.
//! The table of what is mirrored, and how faithfully, is in the README beside.

mod anon_vma;
pub mod api;
#[cfg(test)]
mod consistency;
mod errno;
mod exit;
mod folio;
mod fork;
pub mod forms;
mod gup;
mod huge_memory;
mod kernel;
mod khugepaged;
mod madvise;
mod madvise_pageout;
mod memcontrol;
mod memory;
mod memory_swap;
mod memory_zap;
pub mod mirrored;
pub mod mm_types;
mod mmap;
mod mmu_gather;
mod mprotect;
mod predict;
mod profile;
mod rmap;
mod sched;
mod shmem;
mod shrinker;
mod swap;
mod swap_state;
mod swapfile;
pub mod tlbflush;
mod vma;
mod vmscan;
mod workingset;

pub use api::*;
pub use predict::predict;
pub use profile::Profile;
