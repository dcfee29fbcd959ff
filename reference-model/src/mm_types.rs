// SPDX-License-Identifier: GPL-2.0-only
//! `include/linux/mm_types.h` and what else the mirrored functions share: the
//! mm, its vmas and page tables, folios, LRU lists.
//!
//! Folios are of order 0 but where a program's settings, MADV_COLLAPSE or readahead make larger ones.

use crate::api::{MemoryFile, MmId, PAGE_SIZE};
use crate::mm::mlock::Pending;
use crate::profile::Profile;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

pub use crate::folio::{Content, Folio, Folios, Large, Lru, LruList, Written};

/// Index into [`Folios`].
pub type FolioId = u32;
/// Index into [`crate::state::Kernel::files`]; anonymous shared mappings get a file of their own.
pub type FileId = usize;
/// A slot of the swap device.
pub type SwapEntry = u32;
/// Index into [`crate::state::Kernel::anon_vmas`].
pub type AnonVmaId = u32;

/// Bits of a vma's `vm_flags`, by the kernel's names and values (`include/linux/mm.h`).
pub mod vm {
    #![allow(missing_docs)]
    pub const READ: u64 = 0x1;
    pub const WRITE: u64 = 0x2;
    pub const EXEC: u64 = 0x4;
    pub const SHARED: u64 = 0x8;
    pub const MAYREAD: u64 = 0x10;
    pub const MAYWRITE: u64 = 0x20;
    pub const MAYEXEC: u64 = 0x40;
    pub const MAYSHARE: u64 = 0x80;
    pub const GROWSDOWN: u64 = 0x100;
    pub const UFFD_MISSING: u64 = 0x200;
    pub const UFFD_MINOR: u64 = 1 << 41;
    /// `__VM_UFFD_FLAGS`, without VM_UFFD_WP. A vma that has one belongs to the one userfaultfd
    /// that there is for its mm.
    pub const UFFD: u64 = UFFD_MISSING | UFFD_MINOR;
    pub const LOCKED: u64 = 0x2000;
    pub const SEQ_READ: u64 = 0x8000;
    pub const RAND_READ: u64 = 0x1_0000;
    pub const DONTCOPY: u64 = 0x2_0000;
    pub const PFNMAP: u64 = 0x400;
    pub const IO: u64 = 0x4000;
    pub const DONTEXPAND: u64 = 0x4_0000;
    /// Set once guard pages were installed; merges ignore it and keep it.
    pub const MAYBE_GUARD: u64 = 0x800;
    /// MLOCK_ONFAULT of mlock2(2).
    pub const LOCKONFAULT: u64 = 0x8_0000;
    pub const ACCOUNT: u64 = 0x10_0000;
    pub const NORESERVE: u64 = 0x20_0000;
    pub const HUGETLB: u64 = 0x40_0000;
    pub const WIPEONFORK: u64 = 0x200_0000;
    pub const DONTDUMP: u64 = 0x400_0000;
    pub const HUGEPAGE: u64 = 0x2000_0000;
    pub const NOHUGEPAGE: u64 = 0x4000_0000;
    pub const MERGEABLE: u64 = 0x8000_0000;
    pub const SEALED: u64 = 1 << 63;
    pub const ACCESS_FLAGS: u64 = READ | WRITE | EXEC;
}

/// Hardware rights in a PTE.
pub mod prot {
    /// `_PAGE_READ`
    pub const R: u8 = 1;
    /// `_PAGE_WRITE`
    pub const W: u8 = 2;
    /// `_PAGE_EXEC`
    pub const X: u8 = 4;
}

/// `HPAGE_PMD_NR`: pages of a huge page.
pub const HPAGE_PMD_NR: usize = 512;

/// A PMD that maps a huge page (pmd_trans_huge), or an entry above it that maps one of hugetlb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HugePmd {
    /// The huge page.
    pub folio: FolioId,
    /// Rights of the hardware: bits of [`prot`].
    pub prot: u8,
    /// `pmd_dirty()`
    pub dirty: bool,
    /// `pmd_young()`
    pub young: bool,
}

impl HugePmd {
    /// The same as an entry of the last level: what an access finds.
    pub fn leaf(self) -> Pte {
        Pte::Present {
            folio: Some(self.folio),
            prot: self.prot,
            dirty: self.dirty,
            young: self.young,
        }
    }
}

/// A page-table entry of the last level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pte {
    /// `pte_none()`
    #[default]
    None,
    /// `pte_present()`, PROT_NONE included (then `prot` is 0).
    Present {
        /// What it maps; none is the zero page.
        folio: Option<FolioId>,
        /// Rights of the hardware: bits of [`prot`].
        prot: u8,
        /// `pte_dirty()`
        dirty: bool,
        /// `pte_young()`
        young: bool,
    },
    /// A swap entry.
    Swap {
        /// Its slot.
        entry: SwapEntry,
        /// `pte_swp_exclusive()`
        exclusive: bool,
    },
    /// `is_guard_pte_marker()`, of MADV_GUARD_INSTALL.
    Guard,
}

impl Pte {
    /// The same, dirty and young if another one is (`get_and_clear_ptes()`).
    pub fn with_bits_of(self, other: Pte) -> Pte {
        match (self, other) {
            (
                Pte::Present {
                    folio,
                    prot,
                    dirty,
                    young,
                },
                Pte::Present {
                    dirty: also_dirty,
                    young: also_young,
                    ..
                },
            ) => Pte::Present {
                folio,
                prot,
                dirty: dirty || also_dirty,
                young: young || also_young,
            },
            _ => self,
        }
    }

    /// Whether it maps that folio.
    pub fn maps(&self, id: FolioId) -> bool {
        matches!(self, Pte::Present { folio: Some(mapped), .. } if *mapped == id)
    }

    /// Rights that an access has; none where it would fault for want of a mapping.
    pub fn rights(&self) -> u8 {
        match self {
            Pte::Present { prot, .. } => *prot,
            _ => 0,
        }
    }
}

/// A table of 512 PTEs: 2 MiB of address space.
pub type PteTable = [Pte; 512];

/// The page tables below the PUD level. A PMD table covers 1 GiB, a PTE table
/// 2 MiB. PUD tables and above are shared with the program itself, and stay.
#[derive(Clone, Debug, Default)]
pub struct PageTables {
    /// PTE tables by address >> 21.
    pub pte_tables: BTreeMap<u64, Box<PteTable>>,
    /// PMDs that map a huge page, by address >> 21. The PTE table that is deposited
    /// with each is taken for none: it is empty, and freed without a gather.
    pub huge_pmds: BTreeMap<u64, HugePmd>,
    /// Entries of a PUD table that map a page of hugetlb of 1 GiB, by address >> 30.
    pub huge_puds: BTreeMap<u64, HugePmd>,
    /// PMD tables by address >> 30.
    pub pmd_tables: BTreeSet<u64>,
    /// Those of them that were shared by `huge_pmd_share()`: each has a number, by which others
    /// have the same one. What it holds is kept in each place, and changed in all of them.
    pub shared_pmds: BTreeMap<u64, u32>,
}

impl PageTables {
    /// What a walk for an address finds, be it a PTE or a huge PMD; [`Pte::None`]
    /// where there is neither.
    pub fn pte(&self, addr: u64) -> Pte {
        match self.pte_tables.get(&(addr >> 21)) {
            Some(table) => table[pte_index(addr)],
            None => {
                let leaf = self.huge_pmd(addr).or_else(|| self.huge_pud(addr));
                leaf.map_or(Pte::None, HugePmd::leaf)
            }
        }
    }

    /// The entry of a PUD table for an address, where it maps a page of hugetlb.
    pub fn huge_pud(&self, addr: u64) -> Option<HugePmd> {
        self.huge_puds.get(&(addr >> 30)).copied()
    }

    /// The PMD for an address, where it maps a huge page.
    pub fn huge_pmd(&self, addr: u64) -> Option<HugePmd> {
        self.huge_pmds.get(&(addr >> 21)).copied()
    }

    /// The PMDs of `[start, end)` that are not none, in ascending order: where each
    /// one's part begins and ends, and whether it maps a huge page.
    pub fn pmds(&self, start: u64, end: u64) -> Vec<(u64, u64, bool)> {
        if start >= end {
            return Vec::new();
        }
        let range = (start >> 21)..=((end - 1) >> 21);
        let tables = self.pte_tables.range(range.clone());
        let mut pmds: Vec<(u64, bool)> = tables.map(|(&pmd, _)| (pmd, false)).collect();
        if !self.huge_pmds.is_empty() {
            pmds.extend(self.huge_pmds.range(range).map(|(&pmd, _)| (pmd, true)));
            pmds.sort_unstable();
        }
        let part =
            |(pmd, huge): (u64, bool)| (start.max(pmd << 21), end.min((pmd + 1) << 21), huge);
        pmds.into_iter().map(part).collect()
    }

    /// `pte_alloc()`: sees to it that the tables for an address exist.
    pub fn pte_alloc(&mut self, addr: u64) -> &mut PteTable {
        self.pmd_tables.insert(addr >> 30);
        self.pte_tables
            .entry(addr >> 21)
            .or_insert_with(|| Box::new([Pte::None; 512]))
    }
}

/// `pte_index()`
pub fn pte_index(addr: u64) -> usize {
    ((addr >> 12) & 511) as usize
}

/// `struct mempolicy` (`include/linux/mempolicy.h`)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mempolicy {
    /// `MPOL_*`
    pub mode: i32,
    /// A bit for each node.
    pub nodes: u64,
}

/// `struct vm_area_struct` (`include/linux/mm_types.h`)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vma {
    /// `vm_start`
    pub start: u64,
    /// `vm_end`
    pub end: u64,
    /// `vm_flags`
    pub flags: u64,
    /// `vm_pgoff`
    pub pgoff: u64,
    /// `vma_start_anon_pgoff()` (`include/linux/mm.h`): by which private copies of a file's
    /// pages are found, where the kernel has it.
    pub anon_pgoff: u64,
    /// `vm_file`
    pub file: Option<FileId>,
    /// `anon_vma`
    pub anon_vma: Option<AnonVmaId>,
    /// `anon_vma_chain`, newest first: all anon_vmas that its pages may belong to.
    pub anon_vma_chain: Rc<[AnonVmaId]>,
    /// `vm_policy`
    pub policy: Option<Mempolicy>,
    /// When it was last put into the interval trees of its anon_vmas (from
    /// [`crate::state::Kernel::next_seq`]): they visit vmas by `pgoff`, then in this order.
    pub anon_seq: u64,
    /// The same for its file's `i_mmap`. 0 for anonymous vmas.
    pub seq: u64,
    /// `vm_private_data` of a private vma of hugetlb.
    pub resv: Resv,
}

/// What a private vma of hugetlb knows of reserved pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resv {
    /// Its `struct resv_map`, an index into [`crate::state::Kernel::resv_maps`]: it is the one
    /// that mmap(2) made, or a part of it (HPAGE_RESV_OWNER).
    pub map: Option<usize>,
    /// HPAGE_RESV_UNMAPPED: the owner has taken a page of it.
    pub unmapped: bool,
}

/// `struct hstate` (`include/linux/hugetlb.h`): a pool of hugetlb, without surplus pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hstate {
    /// `free_huge_pages`
    pub free_huge_pages: u64,
    /// `free_huge_pages_node`
    pub free_huge_pages_node: [u64; 2],
    /// `resv_huge_pages`
    pub resv_huge_pages: u64,
}

impl Inode {
    /// A folio takes its places in the page cache.
    pub fn cache_folio(&mut self, index: u64, nr_pages: u64, id: FolioId) {
        for index in index..index + nr_pages {
            self.cache.insert(index, CacheEntry::Folio(id));
        }
    }

    /// Blocks `[first, end)` hold zeroes from now on.
    pub fn zero_blocks(&mut self, first: u64, end: u64) {
        self.blocks.retain(|index, _| !(first..end).contains(index));
    }

    /// Blocks `[first, end)` are taken out of the file, and those behind move up.
    pub fn take_blocks_out(&mut self, first: u64, end: u64) {
        self.zero_blocks(first, end);
        let behind = self.blocks.split_off(&end);
        let moved = behind
            .into_iter()
            .map(|(at, held)| (at - (end - first), held));
        self.blocks.extend(moved);
        self.pages -= end - first;
    }

    /// Blocks are put in at `[first, end)`, and those behind move on.
    pub fn put_blocks_in(&mut self, first: u64, end: u64) {
        let behind = self.blocks.split_off(&first);
        let moved = behind
            .into_iter()
            .map(|(at, held)| (at + (end - first), held));
        self.blocks.extend(moved);
        self.pages += end - first;
    }

    /// Pages hold something on the disk. What was a hole gets blocks, those that are in a row
    /// of one call in a row.
    pub fn write_blocks(&mut self, written: impl IntoIterator<Item = (u64, Content)>) {
        let mut next: Option<(u64, u64)> = None;
        for (index, content) in written {
            if let Some(block) = self.blocks.get_mut(&index) {
                block.content = content;
                continue;
            }
            let number = match next {
                Some((behind, number)) if behind == index => number,
                // Nothing is known of where it is, but that it is nowhere else.
                _ => self.last_block + 2,
            };
            self.last_block = self.last_block.max(number);
            next = Some((index + 1, number + 1));
            self.blocks.insert(index, Block { number, content });
        }
    }

    /// All of a large folio leaves the page cache.
    pub fn uncache(&mut self, index: u64, nr_pages: u64) {
        for index in index..index + nr_pages {
            self.cache.remove(&index);
        }
    }
}

impl Hstate {
    /// A free page of a node is taken.
    pub fn take_from(&mut self, node: u32) {
        self.free_huge_pages -= 1;
        self.free_huge_pages_node[node as usize] -= 1;
    }

    /// A page of a node is free.
    pub fn give_back_to(&mut self, node: u32) {
        self.free_huge_pages += 1;
        self.free_huge_pages_node[node as usize] += 1;
    }
}

impl Vma {
    /// `vma_is_anonymous()`
    pub fn is_anonymous(&self) -> bool {
        self.file.is_none()
    }

    /// `vma_pages()`
    pub fn pages(&self) -> u64 {
        (self.end - self.start) / PAGE_SIZE
    }

    /// `linear_page_index()`
    pub fn linear_page_index(&self, addr: u64) -> u64 {
        self.pgoff
            .wrapping_add((addr.wrapping_sub(self.start)) / PAGE_SIZE)
    }

    /// `linear_anon_page_index()` (`include/linux/pagemap.h`): the index of an anonymous page.
    pub fn linear_anon_page_index(&self, profile: &Profile, addr: u64) -> u64 {
        self.start_anon_pgoff(profile)
            .wrapping_add((addr.wrapping_sub(self.start)) / PAGE_SIZE)
    }

    /// The index of the first anonymous page that could be here.
    pub fn start_anon_pgoff(&self, profile: &Profile) -> u64 {
        if profile.anon_pgoff && !self.is_anonymous() {
            self.anon_pgoff
        } else {
            self.pgoff
        }
    }

    /// Any of these flags.
    pub fn has(&self, flags: u64) -> bool {
        self.flags & flags != 0
    }
}

/// What a userfaultfd has told that is no fault, and how much of it was to be read, in steps that
/// were begun together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UffdEvents {
    /// Events that somebody waits for until they are read.
    pub told: u64,
    /// Events that somebody reads.
    pub read: u64,
}

/// `struct mm_struct` (`include/linux/mm_types.h`)
#[derive(Clone, Debug, Default)]
pub struct Mm {
    /// Vmas by their start. Only the arena's: nothing else lies within 1 GiB of it.
    pub vmas: BTreeMap<u64, Vma>,
    /// The page tables.
    pub pgd: PageTables,
    /// `tlb_flush_batched`, its pending part.
    pub tlb_flush_pending_gen: u32,
    /// `tlb_flush_batched`, its flushed part.
    pub tlb_flush_flushed_gen: u32,
    /// `mm_cpumask()`
    pub cpumask: u64,
    /// `locked_vm`, in pages.
    pub locked_vm: u64,
    /// `def_flags`: what mlockall(2) wants of areas to come.
    pub def_flags: u64,
    /// The replaying program's own areas are locked.
    pub own_areas_locked: bool,
    /// `tlb_flush_pending`: how many mmu_gathers are at work.
    pub tlb_flush_pending: u32,
    /// `MMF_VM_MERGEABLE`
    pub mergeable: bool,
    /// `MMF_VM_HUGEPAGE`
    pub known_to_khugepaged: bool,
    /// `MMF_HAS_PINNED`
    pub has_pinned: bool,
    /// Events of its userfaultfd.
    pub uffd_events: UffdEvents,
    /// `mmu_notifier_release()` is over: nobody is notified of anything any more.
    pub released: bool,
}

impl Mm {
    /// `find_vma()`: the first vma that ends after `addr`.
    pub fn find_vma(&self, addr: u64) -> Option<&Vma> {
        if let Some((_, vma)) = self.vmas.range(..=addr).next_back()
            && vma.end > addr
        {
            return Some(vma);
        }
        self.vmas.range(addr..).next().map(|(_, vma)| vma)
    }

    /// `vma_lookup()`: the vma in which `addr` lies.
    pub fn vma_lookup(&self, addr: u64) -> Option<&Vma> {
        self.find_vma(addr).filter(|vma| vma.start <= addr)
    }
}

/// `struct lruvec` (`include/linux/mmzone.h`): one for the actors' cgroup, one for all others.
#[derive(Clone, Debug, Default)]
pub struct Lruvec {
    /// By [`Lru`].
    pub lists: [LruList; 5],
    /// `anon_cost`, `file_cost`; from 7.3 on `count` of `struct lru_cost`.
    pub cost: [u64; 2],
    /// `last_rotated` and `last_io` of `struct lru_cost`.
    pub last: [LruEvents; 2],
    /// What 7.3 counts of costs since the cgroup was made.
    pub events: [LruEvents; 2],
    /// `nonresident_age`; that of `other_lruvec` is the root cgroup's.
    pub nonresident_age: u64,
    /// WORKINGSET_ACTIVATE_ANON and _FILE.
    pub workingset_activate: [u64; 2],
    /// `refaults`
    pub refaults: [u64; 2],
    /// What `lruvec_page_state()` answers: as of the last flush of cgroup statistics.
    pub flushed: LruvecStats,
}

/// `struct lruvec_stats`, as far as reclaim reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LruvecStats {
    /// Lengths of the evictable lists, by [`Lru`].
    pub lru: [u64; 4],
    /// WORKINGSET_ACTIVATE_ANON and _FILE.
    pub workingset_activate: [u64; 2],
    /// What costs are made of, anonymous and file.
    pub events: [LruEvents; 2],
}

/// What the costs of reclaim are made of from 7.3 on (`struct lru_cost`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LruEvents {
    /// PGROTATE_ANON and _FILE.
    pub rotated: u64,
    /// WORKINGSET_RESTORE_ANON and _FILE, and of anonymous pages NR_VMSCAN_WRITE.
    pub io: u64,
}

/// `struct cpu_fbatches` of a hart: folios waiting to be moved on an LRU, 31 at
/// most in each (PAGEVEC_SIZE).
#[derive(Clone, Debug, Default)]
pub struct CpuFbatches {
    /// `lru_add`
    pub lru_add: Vec<FolioId>,
    /// `lru_deactivate_file`
    pub lru_deactivate_file: Vec<FolioId>,
    /// `lru_deactivate`
    pub lru_deactivate: Vec<FolioId>,
    /// `lru_lazyfree`
    pub lru_lazyfree: Vec<FolioId>,
    /// `lru_activate`
    pub lru_activate: Vec<FolioId>,
    /// `lru_move_tail`
    pub lru_move_tail: Vec<FolioId>,
    /// `mlock_fbatch`
    pub mlock: Vec<(FolioId, Pending)>,
}

/// `struct tlbflush_unmap_batch` of the subject's task (`current->tlb_ubc`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlbflushUnmapBatch {
    /// The cpumask of the arch's part.
    pub cpumask: u64,
    /// `flush_required`
    pub flush_required: bool,
    /// `writable`
    pub writable: bool,
}

/// What a page of a file's page cache is (`mm/shmem.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheEntry {
    /// A folio.
    Folio(FolioId),
    /// Swapped out.
    Swap(SwapEntry),
}

/// An inode and its page cache: a memfd, what backs shared anonymous memory
/// (`struct shmem_inode_info`) or hugetlb's, or a file on a disk.
#[derive(Clone, Debug, Default)]
pub struct Inode {
    /// What it was made as.
    pub file: MemoryFile,
    /// `i_size`, in pages.
    pub pages: u64,
    /// `i_pages`
    pub cache: BTreeMap<u64, CacheEntry>,
    /// Slots in a row that are one entry of `i_pages`: where that begins, and its order.
    pub large_swap: BTreeMap<u64, u32>,
    /// What a disk holds of the file: blocks that are none hold zeroes.
    pub blocks: BTreeMap<u64, Block>,
    /// The last number of a block.
    pub last_block: u64,
    /// Pages that a step reads from the disk, each with the number of a request: whether they
    /// have come already is not known.
    pub in_flight: BTreeMap<u64, u64>,
    /// The last such number.
    pub last_request: u64,
    /// Shadow entries of pages that reclaim has evicted.
    pub shadows: BTreeMap<u64, Shadow>,
    /// `f_ra` of its descriptor.
    pub ra: FileRaState,
    /// `prev_pos` of `struct file_ra_state`: the page that read(2) was in last.
    pub prev_pos: Option<u64>,
    /// It is, or was, on the list of those of which a large folio reaches beyond the file's end
    /// (`shrinklist`).
    pub has_huge_page_behind_end: bool,
    /// Made by `shmem_zero_setup()` or for MAP_HUGETLB: only vmas hold it open.
    pub unnamed: bool,
    /// Whose pages it has, where neither shmem, hugetlbfs nor a disk.
    pub of: Of,
    /// Of a file of hugetlbfs, of which `cache` goes by huge pages: its `struct resv_map`, the
    /// pages that shared mappings have reserved or used.
    pub resv_map: BTreeSet<u64>,
}

/// A block of a file on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// By these it is known which blocks lie in a row on the disk.
    pub number: u64,
    /// What it holds.
    pub content: Content,
}

/// `struct file_ra_state` (`include/linux/fs.h`)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileRaState {
    /// `start`
    pub start: u64,
    /// `size`
    pub size: u64,
    /// `async_size`
    pub async_size: u64,
    /// `order`, where there is one.
    pub order: u32,
    /// `mmap_miss`, or more.
    pub mmap_miss: u32,
}

/// What a file is that is none of shmem's, of hugetlbfs or on a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Of {
    /// It is one of those.
    #[default]
    Usual,
    /// Made by memfd_secret(2).
    Secret,
    /// A driver's, of pages that are mapped by their frames' numbers.
    Driver,
}

/// `struct swap_info_struct` of the swap device, and the swap cache.
#[derive(Clone, Debug, Default)]
pub struct Swap {
    /// Whether there is one.
    pub on: bool,
    /// How many page tables and caches refer to each slot in use (`swap_map`), and its
    /// swap-cache folio.
    pub slots: BTreeMap<SwapEntry, SwapSlot>,
    /// Which slots are taken (`swap_map`): in use, or in a hart's cache of slots.
    pub taken: Vec<bool>,
    /// `shmem_swaplist`, oldest first: files of which something was swapped out.
    pub shmem_swaplist: Vec<FileId>,
    /// How many are not (`nr_swap_pages`).
    pub nr_swap_pages: u64,
    /// `cluster_info`
    pub clusters: Vec<SwapCluster>,
    /// The clusters on each list, first to last.
    pub lists: BTreeMap<ClusterList, VecDeque<usize>>,
    /// `percpu_cluster`: by hart and order, where the next slot is looked for first.
    pub next: BTreeMap<(u32, u32), SwapEntry>,
    /// `swp_slots`: each hart's cache of slots.
    pub slots_caches: BTreeMap<u32, SwapSlotsCache>,
    /// `swap_slot_cache_active`
    pub slots_cache_active: bool,
}

/// `struct swap_cluster_info`: as many slots as a huge page has pages.
#[derive(Clone, Copy, Debug)]
pub struct SwapCluster {
    /// Slots taken.
    pub count: u32,
    /// What it was first taken for.
    pub order: u32,
    /// The list that it is on.
    pub list: ClusterList,
}

/// Lists of clusters, those of each order apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClusterList {
    /// On none, while it is looked at.
    None,
    /// `free_clusters`
    Free,
    /// `nonfull_clusters[]`
    Nonfull(u32),
    /// `frag_clusters[]`
    Frag(u32),
    /// `full_clusters`
    Full,
}

/// `struct swap_slots_cache`: taken slots of a hart that nobody uses.
#[derive(Clone, Debug, Default)]
pub struct SwapSlotsCache {
    /// Those to be given out.
    pub slots: VecDeque<SwapEntry>,
    /// Those that came back.
    pub slots_ret: Vec<SwapEntry>,
}

/// A slot in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwapSlot {
    /// References from page tables and shmem (`swap_count()`).
    pub count: u32,
    /// SWAP_HAS_CACHE, and the folio.
    pub cache: Option<FolioId>,
    /// The owner was charged to the actors' cgroup.
    pub charged: bool,
    /// The shadow entry that reclaim left in the swap cache.
    pub shadow: Option<Shadow>,
    /// What it holds.
    pub content: Content,
    /// `zeromap`: it went out with a folio that held nothing but zeroes.
    pub zero: bool,
}

/// A shadow entry, as `pack_shadow()` (`mm/workingset.c`) makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shadow {
    /// Evicted by reclaim of the actors' cgroup; else by the root's.
    pub memcg: bool,
    /// `nonresident_age` then.
    pub eviction: u64,
    /// `folio_test_workingset()` then.
    pub workingset: bool,
}

/// `struct anon_vma` (`include/linux/rmap.h`)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnonVma {
    /// `root`
    pub root: AnonVmaId,
    /// `parent`
    pub parent: AnonVmaId,
    /// `num_children`, itself included where it is a root.
    pub num_children: u32,
    /// `num_active_vmas`: vmas whose `anon_vma` it is.
    pub num_active_vmas: u32,
    /// Vmas in its interval tree.
    pub vmas: u32,
}

/// `struct task_struct` (`include/linux/sched.h`), of an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Hart that it is pinned to.
    pub hart: u32,
    /// `mm`; none before it is made and after its exit.
    pub mm: Option<MmId>,
    /// `CLONE_THREAD`: no process of its own.
    pub thread: bool,
    /// Once it has exited it stays a zombie, for its parent does not wait. Others are
    /// the agent's, which does.
    pub forked: bool,
    /// It is there, or was: not one whose fork was refused, or has not come yet.
    pub born: bool,
    /// The mm that its userfaultfd is for: its own, or the one of who forked it.
    pub uffd: Option<MmId>,
}
