// SPDX-License-Identifier: GPL-2.0-only
//! What goes in, in the words of [`operations`], and what comes out.

pub use operations::{
    Actor, ActorKind, Allowed, Extent, MemoryFile, MmId, Op, PAGE_SIZE, Program, ShmemAllowed,
    Step, StepResult, Storage, Thp, address, bytes,
};

/// A half-open range of bytes; `end` may be `u64::MAX`, the kernel's `ULONG_MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// First byte after it.
    pub end: u64,
}

/// What differs between machines that run the same kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Harts online.
    pub harts: u32,
    /// Levels of page tables: 3, 4 or 5 (sv39, sv48, sv57).
    pub page_table_levels: u32,
    /// Harts have address-space identifiers.
    pub asids: bool,
    /// Harts have Svnapot.
    pub svnapot: bool,
    /// Harts set accessed and dirty bits themselves (Svadu); else they fault (Svade).
    pub svadu: bool,
    /// Harts have Svvptc: changed PTEs are flushed lazily, through tlbflush.c.
    pub svvptc: bool,
    /// Remote fences go by SBI; else by IPI (`riscv_use_sbi_for_rfence()`).
    pub sbi_rfence: bool,
    /// Migration entries keep accessed and dirty bits (`migration_entry_supports_ad()`):
    /// they have room for them where CONFIG_SPARSEMEM says how wide a page frame number
    /// is, and with CONFIG_FLATMEM they have not.
    pub migration_keeps_ad: bool,
    /// debugfs `fault_around_bytes`.
    pub fault_around_bytes: u64,
    /// A swap device, empty, is on.
    pub swap: bool,
    /// Nodes of memory. The actors' harts are all at the first, by the scenario's numbers, and
    /// pages begin there.
    pub nodes: u32,
    /// Two pages of hugetlb of 1 GiB were reserved when it was booted.
    pub gib_pages: bool,
    /// Pages begin in memory that can go offline (`ZONE_MOVABLE`).
    pub movable_memory: bool,
    /// `totalram_pages()`: what a mapping may promise at the most, with swap.
    pub ram_pages: u64,
    /// `total_swap_pages` where swap is on.
    pub swap_pages: u64,
}

impl Default for Machine {
    /// The guest: QEMU's virt board with two harts.
    fn default() -> Machine {
        Machine {
            harts: 2,
            page_table_levels: 5,
            asids: true,
            svnapot: false,
            svadu: true,
            svvptc: true,
            sbi_rfence: true,
            migration_keeps_ad: true,
            fault_around_bytes: 64 << 10,
            swap: true,
            nodes: 1,
            gib_pages: false,
            movable_memory: false,
            ram_pages: 120_000,
            swap_pages: (256 << 20) / PAGE_SIZE - 1,
        }
    }
}

/// An entry into `tlbflush.c`, with its arguments as the kernel passes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// `flush_tlb_all()`.
    FlushTlbAll,
    /// `flush_tlb_mm(mm)`.
    FlushTlbMm,
    /// `flush_tlb_mm_range(mm, start, end, page_size)`.
    FlushTlbMmRange {
        /// First byte.
        start: u64,
        /// End.
        end: u64,
        /// In bytes.
        page_size: u64,
    },
    /// `flush_tlb_page(vma, addr)`.
    FlushTlbPage {
        /// As passed.
        addr: u64,
    },
    /// `flush_tlb_range(vma, start, end)`.
    FlushTlbRange {
        /// First byte.
        start: u64,
        /// End.
        end: u64,
        /// `huge_page_size()` of a hugetlb vma, none otherwise.
        huge_page_size: Option<u64>,
    },
    /// `flush_pmd_tlb_range(vma, start, end)`.
    FlushPmdTlbRange {
        /// First byte.
        start: u64,
        /// End.
        end: u64,
    },
    /// `flush_pud_tlb_range(vma, start, end)`.
    FlushPudTlbRange {
        /// First byte.
        start: u64,
        /// End.
        end: u64,
    },
    /// `flush_tlb_kernel_range(start, end)`.
    FlushTlbKernelRange {
        /// First byte.
        start: u64,
        /// End.
        end: u64,
    },
    /// `arch_tlbbatch_add_pending(batch, mm, uaddr)`.
    ArchTlbbatchAddPending {
        /// As passed.
        uaddr: u64,
    },
    /// `arch_tlbbatch_add_pending(batch, mm, start, end)`, its later form.
    ArchTlbbatchAddPendingRange {
        /// First byte.
        start: u64,
        /// End.
        end: u64,
    },
    /// `arch_tlbbatch_flush(batch)`.
    ArchTlbbatchFlush,
    /// `arch_flush_tlb_batched_pending(mm)`.
    ArchFlushTlbBatchedPending,
    /// No entry into the file, but the end of all: `mmu_notifier_release(mm)`. The mm
    /// goes, secondary MMUs drop all of it, and of what follows they are not notified.
    Release,
}

/// What `tlbflush.c` does in answer to an entry, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// `mmu_notifier_arch_invalidate_secondary_tlbs(mm, start, end)`.
    Notify(Whose, Range),
    /// A fence for the primary TLBs.
    Fence(Fence),
}

/// Whose secondary MMUs a notification reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Those of the mm that the call is about: `tlbflush.c` notifies no other.
    Own,
    /// Those of another mm, as a broken kernel may do; by the number that whoever saw it has
    /// for that mm, if it has one.
    Other(Option<MmId>),
}

/// Fences for the primary TLBs. `asid: None` is `FLUSH_TLB_NO_ASID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// `sfence.vma` on the running hart, for all addresses.
    LocalAll {
        /// Of this address space.
        asid: Option<u64>,
    },
    /// `sfence.vma` on the running hart, for `pages` addresses from `start`, `stride` apart.
    LocalPages {
        /// First address.
        start: u64,
        /// Distance in bytes.
        stride: u64,
        /// How many fences.
        pages: u64,
        /// Of this address space.
        asid: Option<u64>,
    },
    /// `sbi_remote_sfence_vma_asid(cmask, start, size, asid)`.
    Sbi {
        /// Target harts, or none for all of them (`cpu_mask == NULL`).
        harts: Option<u64>,
        /// First byte.
        start: u64,
        /// In bytes.
        size: u64,
        /// Of this address space.
        asid: Option<u64>,
    },
    /// `on_each_cpu_mask()`: each target does what the local fence would.
    Ipi {
        /// Target harts, or none for all of them.
        harts: Option<u64>,
        /// First byte.
        start: u64,
        /// In bytes.
        size: u64,
        /// In bytes.
        stride: u64,
        /// Of this address space.
        asid: Option<u64>,
    },
}

/// An entry into `tlbflush.c` and all that it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The mm that it is about; none for [`Entry::ArchTlbbatchFlush`], which has several or none.
    pub mm: Option<MmId>,
    /// What was called.
    pub entry: Entry,
    /// What it did.
    pub effects: Vec<Effect>,
}

/// What a step is predicted to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepPrediction {
    /// What it comes to.
    pub result: StepResult,
    /// Entries into `tlbflush.c` for the actors' mms, and `arch_tlbbatch_flush`, in order.
    pub calls: Vec<Call>,
    /// Maximal ranges of pages that lost their mapping, a right or their frame (another one
    /// took its place) in this step: what the notifications to that mm have to cover.
    pub lost: Vec<(MmId, Range)>,
}

/// A leaf entry that an MMU finds valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// First byte.
    pub addr: u64,
    /// Base pages that it translates.
    pub pages: u64,
    /// The model's own number of the first one's frame: the same as long as it is the same.
    pub frame: u64,
    /// `_PAGE_READ`
    pub read: bool,
    /// `_PAGE_WRITE`
    pub write: bool,
    /// `_PAGE_EXEC`
    pub exec: bool,
    /// `_PAGE_DIRTY`
    pub dirty: bool,
}

/// What the page tables of an mm hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageTables {
    /// Valid leaf entries, in ascending order.
    pub leaves: Vec<Leaf>,
    /// First bytes of what tables of the lowest level translate, in ascending order.
    pub pte_tables: Vec<u64>,
}

/// What page tables hold after each step, of each mm that there is then.
pub type Tables = Vec<Vec<(MmId, PageTables)>>;

/// What a program is predicted to do, step by step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prediction {
    /// One for each step, up to the first that is not predicted.
    pub steps: Vec<StepPrediction>,
    /// Where the model stops speaking, if it does.
    pub unpredicted: Option<Unpredicted>,
}

/// A step that the model does not speak for: neither for it nor for what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpredicted {
    /// Which step, from 0.
    pub step: usize,
    /// What happens in it that the model does not know.
    pub why: &'static str,
}
