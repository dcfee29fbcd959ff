// SPDX-License-Identifier: GPL-2.0-only
//! What the kernel should do: `arch/riscv/mm/tlbflush.c` function by function,
//! under a model of the parts of the mm core that call it.
//!
//! Pure: no I/O, no clock, no YAML, no QEMU, no unsafe. Addresses are the
//! kernel's: bytes, absolute, ranges half-open, `u64::MAX` for `ULONG_MAX`.
//! The path of a file is that of the kernel's file that it mirrors. The tables of what is
//! mirrored, and how faithfully, are in the README beside.

pub mod api;
mod arch {
    pub mod riscv {
        pub mod mm {
            pub mod context;
            pub mod fault;
            pub mod hugetlbpage;
            pub mod init;
            pub mod pgtable;
            pub mod tlbflush;
        }
    }
}
#[cfg(test)]
mod consistency;
mod errno;
mod folio;
pub mod forms;
mod fs {
    pub mod drop_caches;
    pub mod exec;
    pub mod file_table;
    pub mod ext4 {
        pub mod extents;
        pub mod inode;
    }
    pub mod hugetlbfs {
        pub mod inode;
    }
    pub mod open;
    pub mod proc {
        pub mod base;
        pub mod task_mmu;
    }
    pub mod read_write;
    pub mod splice;
    pub mod sync;
    pub mod userfaultfd;
    pub mod xfs {
        pub mod xfs_bmap_util;
        pub mod xfs_file;
        pub mod xfs_iops;
    }
}
mod include {
    pub mod linux {
        pub mod mm_inline;
    }
}
mod kernel {
    pub mod cpu;
    pub mod exit;
    pub mod fork;
    pub mod ptrace;
    pub mod sched {
        pub mod core;
    }
}
mod io_uring {
    pub mod memmap;
}
mod iommu;
pub mod mirrored;
mod mm {
    pub mod damon {
        pub mod vaddr;
    }
    pub mod filemap;
    pub mod gup;
    pub mod huge_memory;
    pub mod hugetlb;
    pub mod interval_tree;
    pub mod khugepaged;
    pub mod ksm;
    pub mod madvise;
    pub mod memcontrol;
    pub mod memfd;
    pub mod memory;
    pub mod mempolicy;
    pub mod migrate;
    pub mod mlock;
    pub mod mmap;
    pub mod mmu_gather;
    pub mod mprotect;
    pub mod mremap;
    pub mod mseal;
    pub mod msync;
    pub mod oom_kill;
    pub mod page_alloc;
    pub mod page_io;
    pub mod page_vma_mapped;
    #[path = "page-writeback.rs"]
    pub mod page_writeback;
    pub mod pagewalk;
    #[path = "pgtable-generic.rs"]
    pub mod pgtable_generic;
    pub mod process_vm_access;
    pub mod readahead;
    pub mod rmap;
    pub mod secretmem;
    pub mod shmem;
    pub mod shrinker;
    pub mod swap;
    pub mod swap_slots;
    pub mod swap_state;
    pub mod swapfile;
    pub mod truncate;
    pub mod userfaultfd;
    pub mod util;
    pub mod vma;
    pub mod vmscan;
    pub mod workingset;
}
pub mod mm_types;
mod orders;
mod plain;
mod predict;
mod profile;
mod state;

pub use api::*;
pub use arch::riscv::mm::tlbflush;
pub use orders::{Moment, Order, predict_orders};
pub use predict::{predict, predict_tables};
pub use profile::Profile;
