// SPDX-License-Identifier: GPL-2.0-only
//! What the kernel should do: `arch/riscv/mm/tlbflush.c` function by function,
//! under a model of the parts of the mm core that call it.
//!
//! Pure: no I/O, no clock, no YAML, no QEMU, no unsafe. Addresses are the
//! kernel's: bytes, absolute, ranges half-open, `u64::MAX` for `ULONG_MAX`.
//! The table of what is mirrored, and how faithfully, is in the README beside.

pub mod api;
mod arch {
    pub mod riscv {
        pub mod mm {
            pub mod context;
            pub mod tlbflush;
        }
    }
}
#[cfg(test)]
mod consistency;
mod errno;
mod folio;
pub mod forms;
mod kernel {
    pub mod exit;
    pub mod fork;
}
pub mod mirrored;
mod mm {
    pub mod gup;
    pub mod huge_memory;
    pub mod khugepaged;
    pub mod madvise;
    pub mod memcontrol;
    pub mod memory;
    pub mod mmap;
    pub mod mmu_gather;
    pub mod mprotect;
    pub mod rmap;
    pub mod shmem;
    pub mod shrinker;
    pub mod swap;
    pub mod swap_state;
    pub mod swapfile;
    pub mod vma;
    pub mod vmscan;
    pub mod workingset;
}
pub mod mm_types;
mod predict;
mod profile;
mod state;

pub use api::*;
pub use arch::riscv::mm::tlbflush;
pub use predict::predict;
pub use profile::Profile;
