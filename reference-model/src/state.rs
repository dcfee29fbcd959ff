// SPDX-License-Identifier: GPL-2.0-only
//! Everything that the mirrored functions read and write.

use crate::api::{Call, Entry, Leaf, Machine, MmId, PAGE_SIZE, PageTables, Range, Thp};
use crate::arch::riscv::mm::tlbflush;
use crate::arch::riscv::mm::tlbflush::{Context, PMD_SIZE, PUD_SIZE};
use crate::mm::ksm::Ksm;
use crate::mm_types::{
    AnonVma, CpuFbatches, FileId, FolioId, Folios, HPAGE_PMD_NR, Hstate, HugePmd, Inode, Lruvec,
    Mm, Of, Pte, Swap, Task, TlbflushUnmapBatch, prot, pte_index,
};
use crate::profile::Profile;
use operations::{HugePages, Storage};
use std::collections::BTreeSet;

/// The room that [`Kernel::next_seq`] leaves between two insertions, for what
/// fork inserts right after another.
const SEQ_STEP: u64 = 1 << 32;

/// The state of the kernel. One mm is acted on at a time: what the kernel's
/// functions find by `vma->vm_mm` is [`Kernel::mm`] here, and [`Kernel::in_mm`]
/// makes another one that.
#[derive(Clone, Debug)]
pub struct Kernel<'a> {
    /// Which kernel.
    pub profile: &'a Profile,
    /// Which machine.
    pub machine: &'a Machine,
    /// The mm that is acted on.
    pub mm: Mm,
    /// Which one that is.
    pub mm_id: MmId,
    /// All mms; in the place of the one that is acted on there is nothing.
    pub mms: Vec<Mm>,
    /// The actors.
    pub tasks: Vec<Task>,
    /// `current`: whose step it is.
    pub current: usize,
    /// `active_mm` of whatever runs on each hart.
    pub active_mm: Vec<Option<MmId>>,
    /// All anon_vmas.
    pub anon_vmas: Vec<AnonVma>,
    /// The last number given by [`Kernel::next_seq`].
    pub last_seq: u64,
    /// Inodes of shmem and of hugetlbfs.
    pub files: Vec<Inode>,
    /// `hstates`, by [`operations::HugePages`].
    pub hstates: [Hstate; 3],
    /// `struct resv_map` of private vmas of hugetlb: pages of which the reservation is used up.
    pub resv_maps: Vec<BTreeSet<u64>>,
    /// The last number given in [`crate::mm_types::PageTables::shared_pmds`].
    pub last_shared_table: u32,
    /// All folios.
    pub folios: Folios,
    /// LRU lists of the actors' cgroup.
    pub lruvec: Lruvec,
    /// LRU lists of all others (files filled beforehand).
    pub other_lruvec: Lruvec,
    /// `deferred_split_queue` of the actors' cgroup, oldest first.
    pub deferred_split_queue: Vec<FolioId>,
    /// `nr_deferred` of `deferred_split_shrinker` in the actors' cgroup.
    pub nr_deferred: u64,
    /// Each hart's batches.
    pub fbatches: Vec<CpuFbatches>,
    /// `current->tlb_ubc`
    pub tlb_ubc: TlbflushUnmapBatch,
    /// The guest's agent drains the LRU batches of a hart after each of its steps: where
    /// several actors reclaim, for `lru_add_drain_all()` takes the harts in no order.
    pub drained_after_steps: bool,
    /// Swap.
    pub swap: Swap,
    /// /sys/kernel/mm/transparent_hugepage
    pub thp: Thp,
    /// How many areas an mm may have in the arena: vm.max_map_count without all others.
    pub max_map_count: Option<u64>,
    /// `huge_zero_folio`, once it is there. It is referred to by mms, not by mappings.
    pub huge_zero_folio: Option<FolioId>,
    /// Between which nodes a step may migrate a process: none of what its program has for itself is
    /// at the first one. None once a process was copied or has executed another program.
    pub migrates: Option<(u32, u32)>,
    /// Pages that are merged.
    pub ksm: Ksm,
    /// Userfaultfds have UFFD_FEATURE_EVENT_FORK, …_REMAP, …_REMOVE and …_UNMAP: a step reads events.
    pub uffd_events: bool,
    /// What pipes and io_urings refer to.
    pub held: Vec<Held>,
    /// The driver's file, once somebody has mapped it.
    pub driver: Option<FileId>,
    /// Entries into `tlbflush.c` in this step.
    pub calls: Vec<Call>,
    /// Pages of which a step may have taken something.
    pub touched: Vec<Touched>,
    /// A page came back of which is not known whether it is active since: that goes by how many
    /// active pages of files the whole machine has.
    pub refaults_unknown: bool,
    /// Something happened that the model does not know, and what: nothing that it says
    /// from there on is of any worth.
    pub unpredicted: Option<&'static str>,
}

/// A page that a pipe or an io_uring refers to for as long as somebody has its descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Processes that have it: who made it, and those that were forked since.
    pub mms: Vec<MmId>,
    /// The page's folio.
    pub folio: FolioId,
    /// It is pinned, and not only referred to.
    pub pin: bool,
}

/// What a page was before it changed: what a secondary MMU may have of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Touched {
    mm: MmId,
    addr: u64,
    rights: u8,
    pfn: u64,
}

/// The zero page's frame.
const ZERO_PFN: u64 = 0;

impl Kernel<'_> {
    /// Does something with another mm as the one that is acted on.
    pub fn in_mm<R>(&mut self, mm: MmId, what: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.mm_id;
        self.act_on(mm);
        let result = what(self);
        self.act_on(before);
        result
    }

    /// From now on this mm is the one that is acted on.
    pub fn act_on(&mut self, mm: MmId) {
        if mm == self.mm_id || mm >= self.mms.len() {
            return;
        }
        std::mem::swap(&mut self.mm, &mut self.mms[self.mm_id]);
        std::mem::swap(&mut self.mm, &mut self.mms[mm]);
        self.mm_id = mm;
    }

    /// Does something as a thread of the kernel's does it, which runs where the agent does. What it
    /// has put off itself it flushes of no mm, and it is none of the actors.
    pub fn on_the_agents_hart<R>(&mut self, what: impl FnOnce(&mut Self) -> R) -> R {
        let (current, hart) = (self.current, self.machine.harts - 1);
        let before = std::mem::replace(&mut self.tasks[current].hart, hart);
        let result = what(self);
        self.tasks[current].hart = before;
        self.calls
            .retain(|call| call.entry != Entry::ArchTlbbatchFlush);
        result
    }

    /// What the page tables hold of all mms that are not released, as an MMU sees it.
    pub fn page_tables(&self) -> Vec<(MmId, PageTables)> {
        let there = (0..self.mms.len()).filter(|mm| !self.mm(*mm).released);
        let held = |mm: MmId| PageTables {
            leaves: self.leaves_of(mm),
            pte_tables: self
                .mm(mm)
                .pgd
                .pte_tables
                .keys()
                .map(|of| of << 21)
                .collect(),
        };
        there.map(|mm| (mm, held(mm))).collect()
    }

    fn leaves_of(&self, mm: MmId) -> Vec<Leaf> {
        let pgd = &self.mm(mm).pgd;
        let mut leaves = Vec::new();
        for (number, table) in &pgd.pte_tables {
            for (index, pte) in table.iter().enumerate() {
                let addr = (number << 21) + index as u64 * PAGE_SIZE;
                let pages = self.pages_of(*pte);
                // Of entries that are one translation, the first one speaks for all.
                if addr.is_multiple_of(pages * PAGE_SIZE) {
                    leaves.extend(self.leaf(addr, pages, *pte));
                }
            }
        }
        for (number, pmd) in &pgd.huge_pmds {
            leaves.extend(self.leaf(number << 21, HPAGE_PMD_NR as u64, pmd.leaf()));
        }
        for (number, pud) in &pgd.huge_puds {
            leaves.extend(self.leaf(number << 30, HugePages::Gib1.pages(), pud.leaf()));
        }
        leaves.sort_unstable_by_key(|leaf| leaf.addr);
        leaves
    }

    /// Of how many pages a PTE's translation is: more than one with Svnapot.
    fn pages_of(&self, pte: Pte) -> u64 {
        match pte {
            Pte::Present {
                folio: Some(id), ..
            } => self.folios[id].hugetlb.map_or(1, HugePages::pages),
            _ => 1,
        }
    }

    /// PROT_NONE is not valid to an MMU.
    fn leaf(&self, addr: u64, pages: u64, pte: Pte) -> Option<Leaf> {
        let Pte::Present {
            prot: rights,
            dirty,
            ..
        } = pte
        else {
            return None;
        };
        let has = |right: u8| rights & right != 0;
        (rights != 0).then(|| Leaf {
            addr,
            pages,
            frame: self.pfn(addr, pte),
            read: has(prot::R),
            write: has(prot::W),
            exec: has(prot::X),
            dirty,
        })
    }

    /// What keeps a file; what no file is behind is in memory.
    pub fn storage(&self, file: Option<FileId>) -> Storage {
        let inode = file.and_then(|file| self.files.get(file));
        inode.map_or(Storage::Memory, |inode| inode.file.on)
    }

    /// How often something was read from a disk.
    pub fn requests_to_disks(&self) -> u64 {
        self.files.iter().map(|inode| inode.last_request).sum()
    }

    /// An mm by its number.
    pub fn mm(&self, mm: MmId) -> &Mm {
        if mm == self.mm_id {
            &self.mm
        } else {
            &self.mms[mm]
        }
    }

    /// The same, to be changed.
    pub fn mm_mut(&mut self, mm: MmId) -> &mut Mm {
        if mm == self.mm_id {
            &mut self.mm
        } else {
            &mut self.mms[mm]
        }
    }

    /// `smp_processor_id()`
    pub fn hart(&self) -> u32 {
        self.tasks.get(self.current).map_or(0, |task| task.hart)
    }

    /// Whether a file is neither shmem's, nor of hugetlbfs, nor on a disk.
    pub fn of(&self, file: Option<FileId>) -> Of {
        let inode = file.and_then(|file| self.files.get(file));
        inode.map_or(Of::Usual, |inode| inode.of)
    }

    /// A hart's batches.
    pub fn fbatches_of(&mut self, hart: usize) -> &mut CpuFbatches {
        if self.fbatches.len() <= hart {
            self.fbatches.resize_with(hart + 1, CpuFbatches::default);
        }
        &mut self.fbatches[hart]
    }

    /// A number for the next insertion into an interval tree.
    pub fn next_seq(&mut self) -> u64 {
        self.last_seq += SEQ_STEP;
        self.last_seq
    }

    /// Enters `tlbflush.c` and notes what it does. Of an mm that was released
    /// nobody is notified any more, and its end is nothing that a scenario looks at.
    pub fn enter(&mut self, entry: Entry) {
        let batch = entry == Entry::ArchTlbbatchFlush;
        if self.mm.released && !batch {
            return;
        }
        let cpumask = if batch {
            self.tlb_ubc.cpumask
        } else {
            self.mm.cpumask
        };
        let context = Context {
            hart: self.hart(),
            cpumask,
            online: (1u64.checked_shl(self.machine.harts).unwrap_or(0)).wrapping_sub(1),
            asid: u64::from(self.machine.asids),
        };
        let effects = tlbflush::replay(self.profile, self.machine, &entry, &context);
        let mm = (!batch).then_some(self.mm_id);
        self.calls.push(Call { mm, entry, effects });
    }

    /// `set_pte()` and its kind: all changes of PTEs go through here, so that what
    /// is lost is known without walking page tables.
    pub fn set_pte(&mut self, addr: u64, pte: Pte) {
        let addr = addr & !(PAGE_SIZE - 1);
        let slot = &mut self.mm.pgd.pte_alloc(addr)[pte_index(addr)];
        let before = std::mem::replace(slot, pte);
        if self.takes(addr, before, pte) {
            self.note_change(addr, before);
        }
    }

    /// The page at an address is, or is about to be, another than this one, unless what
    /// this step does in the end undoes it.
    pub fn note_change(&mut self, addr: u64, before: Pte) {
        let (mm, rights) = (self.mm_id, before.rights());
        if rights != 0 {
            let pfn = self.pfn(addr, before);
            self.touched.push(Touched {
                mm,
                addr,
                rights,
                pfn,
            });
        }
    }

    /// Whether a page loses a right that it had, or is replaced by another one.
    fn takes(&self, addr: u64, before: Pte, after: Pte) -> bool {
        let rights = before.rights();
        let replaced = || self.pfn(addr, before) != self.pfn(addr, after);
        rights & !after.rights() != 0 || rights != 0 && replaced()
    }

    /// `pte_pfn()`, where it is present.
    fn pfn(&self, addr: u64, pte: Pte) -> u64 {
        match pte {
            Pte::Present {
                folio: Some(id), ..
            } => self.folios[id].page_pfn(addr),
            _ => ZERO_PFN,
        }
    }

    /// `set_pmd_at()` of a PMD that maps a huge page, or does no more: in all places where its
    /// table is.
    pub fn set_pmd(&mut self, addr: u64, pmd: Option<HugePmd>) {
        let in_table = addr & (PUD_SIZE - 1);
        for (mm, gib) in self.sharers(addr) {
            self.in_mm(mm, |k| k.set_own_pmd((gib << 30) + in_table, pmd));
        }
    }

    /// `set_pud_at()` of an entry that maps a page of 1 GiB, or does no more.
    pub fn set_pud(&mut self, addr: u64, pud: Option<HugePmd>) {
        let puds = &mut self.mm.pgd.huge_puds;
        let before = match pud {
            Some(pud) => puds.insert(addr >> 30, pud),
            None => puds.remove(&(addr >> 30)),
        };
        self.note_leaf(addr & !(PUD_SIZE - 1), PUD_SIZE, before, pud);
    }

    /// Which mms have the PMD table of an address, and from where on (address >> 30).
    pub fn sharers(&self, addr: u64) -> Vec<(MmId, u64)> {
        let Some(&table) = self.mm.pgd.shared_pmds.get(&(addr >> 30)) else {
            return vec![(self.mm_id, addr >> 30)];
        };
        let of_mm = |mm: MmId| {
            let places = self.mm(mm).pgd.shared_pmds.iter();
            let places = places.filter(|(_, other)| **other == table);
            places.map(move |(&gib, _)| (mm, gib)).collect::<Vec<_>>()
        };
        (0..self.mms.len()).flat_map(of_mm).collect()
    }

    fn set_own_pmd(&mut self, addr: u64, pmd: Option<HugePmd>) {
        let pmds = &mut self.mm.pgd.huge_pmds;
        let before = match pmd {
            Some(pmd) => pmds.insert(addr >> 21, pmd),
            None => pmds.remove(&(addr >> 21)),
        };
        self.note_leaf(addr & !(PMD_SIZE - 1), PMD_SIZE, before, pmd);
    }

    /// A leaf above PTEs has become another one.
    fn note_leaf(
        &mut self,
        start: u64,
        size: u64,
        before: Option<HugePmd>,
        after: Option<HugePmd>,
    ) {
        let leaf = |entry: Option<HugePmd>| entry.map_or(Pte::None, HugePmd::leaf);
        if self.takes(start, leaf(before), leaf(after)) {
            for page in (start..start + size).step_by(PAGE_SIZE as usize) {
                self.note_change(page, leaf(before));
            }
        }
    }

    /// What a walk for an address finds.
    pub fn pte(&self, addr: u64) -> Pte {
        self.mm.pgd.pte(addr)
    }

    /// Maximal ranges of pages that have fewer rights now, or another frame, than when they
    /// were noted by [`Kernel::note_change`], and empties the notes. All of an mm that
    /// was released went with the release.
    pub fn take_lost(&mut self) -> Vec<(MmId, Range)> {
        let mut touched = std::mem::take(&mut self.touched);
        touched.retain(|before| {
            let mm = self.mm(before.mm);
            let after = mm.pgd.pte(before.addr);
            let lost = before.rights & !after.rights() != 0;
            !mm.released && (lost || before.pfn != self.pfn(before.addr, after))
        });
        touched.sort_unstable();
        let mut lost: Vec<(MmId, Range)> = Vec::new();
        for Touched { mm, addr, .. } in touched {
            match lost.last_mut() {
                Some((of, last)) if *of == mm && last.end == addr => {
                    last.end = addr.wrapping_add(PAGE_SIZE);
                }
                Some((of, last)) if *of == mm && last.end > addr => {}
                _ => {
                    let end = addr.wrapping_add(PAGE_SIZE);
                    lost.push((mm, Range { start: addr, end }));
                }
            }
        }
        lost
    }

    /// `folio_get()`
    pub fn folio_get(&mut self, id: FolioId) {
        self.folios[id].refcount += 1;
    }
}
