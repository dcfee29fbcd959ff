// SPDX-License-Identifier: GPL-2.0-only
//! What actors can do, and what a step comes to: one vocabulary for scenarios, the model and
//! the agent that replays them.
//!
//! `at`, `pages` and `offset` are in pages of 4 KiB, `at` from the arena's start; numbers such
//! as `prot` are those of riscv64's uapi. Files, actors and mms are named by their index.
//!
//! Whoever tells operations apart names each of them: a new one has to be a compiler's error
//! wherever something is to be decided about it.

mod plain;
mod thp;

pub use plain::{Field, Form, On, Plain};
use serde::{Deserialize, Serialize};
pub use thp::{Allowed, PMD_ORDER, ShmemAllowed, Thp};

/// Size of a base page, in bytes.
pub const PAGE_SIZE: u64 = 4096;
/// First byte of the arena: 64 GiB, 1 GiB-aligned, far from all else of a static program.
pub const ARENA_BASE: u64 = 64 << 30;
/// Size of the arena in pages: 4 GiB.
pub const ARENA_PAGES: u64 = (4 << 30) / PAGE_SIZE;

/// Address of a page of the arena.
pub fn address(page: u64) -> u64 {
    ARENA_BASE.wrapping_add(bytes(page))
}

/// Length of so many pages, in bytes.
pub fn bytes(pages: u64) -> u64 {
    pages.wrapping_mul(PAGE_SIZE)
}

/// A number for each mm that there is in a program; the subject's is 0.
pub type MmId = usize;

/// Steps, and what they are made with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Files made before the first step.
    pub files: Vec<MemoryFile>,
    /// Who acts; the first is the subject.
    pub actors: Vec<Actor>,
    /// What they do, in order.
    pub steps: Vec<Step>,
    /// What huge pages the kernel is set to make meanwhile.
    pub thp: Thp,
    /// How many areas a process may have in the arena (vm.max_map_count, and not so many as
    /// it has elsewhere): without, as many as steps can make.
    pub max_map_count: Option<u64>,
    /// Which of the steps are begun at the same moment, in order.
    pub groups: Vec<Group>,
}

/// Steps in a row that are begun at the same moment, by actors on different harts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The first of them.
    pub first: usize,
    /// For each of them, how many turns of a loop later than at that moment it begins.
    pub delays: Vec<u32>,
}

impl Group {
    /// Which steps they are.
    pub fn steps(&self) -> std::ops::Range<usize> {
        self.first..self.first + self.delays.len()
    }
}

impl Program {
    /// A program of the subject alone.
    pub fn of_subject(files: Vec<MemoryFile>, ops: impl IntoIterator<Item = Op>) -> Program {
        let steps = ops.into_iter().map(|op| Step { by: 0, op });
        Program {
            files,
            actors: vec![Actor::SUBJECT],
            steps: steps.collect(),
            thp: Thp::default(),
            max_map_count: None,
            groups: Vec::new(),
        }
    }

    /// The number of the group that a step is one of.
    pub fn group_of(&self, step: usize) -> Option<usize> {
        let after = self.groups.partition_point(|group| group.first <= step);
        let number = after.checked_sub(1)?;
        let group = self.groups.get(number)?;
        group.steps().contains(&step).then_some(number)
    }

    /// Whether a step is the last of those that are begun with it, or is begun alone.
    pub fn ends_group(&self, step: usize) -> bool {
        let group = self.group_of(step);
        group.is_none_or(|group| self.groups[group].steps().end == step + 1)
    }

    /// How many mms there are in the end.
    pub fn mms(&self) -> usize {
        let initial = self.actors.iter().filter_map(|actor| actor.kind.mm());
        let made = self.steps.iter().filter_map(|step| step.op.made_mm());
        initial.chain(made).max().map_or(0, |last| last + 1)
    }

    /// Whether an actor has a virtual machine.
    pub fn runs_vm(&self, actor: usize) -> bool {
        let runs = |step: &Step| step.by == actor && matches!(step.op, Op::Vm { .. });
        self.steps.iter().any(runs)
    }

    /// Whether a step is about an actor's userfaultfd, or one of its process.
    pub fn uses_uffd(&self, actor: usize) -> bool {
        let mut steps = self.steps.iter();
        let its = |by: usize| {
            let kind = self.actors.get(by).map(|actor| actor.kind);
            by == actor || kind == Some(ActorKind::Thread { of: actor })
        };
        steps.any(|step| step.op.is_uffd() && its(step.by))
    }

    /// How many bytes a copy by userfaultfd takes at once, at the most.
    pub fn uffd_copies(&self) -> u64 {
        let copies = |step: &Step| match step.op {
            Op::UffdCopy { hugetlb, .. } => hugetlb.map_or(PAGE_SIZE, HugePages::bytes),
            _ => 0,
        };
        self.steps.iter().map(copies).max().unwrap_or(0)
    }

    /// From which node to which one the first step that migrates a process does so. The agent moves
    /// what the actors have outside the arena that way beforehand.
    pub fn migrates(&self) -> Option<(u32, u32)> {
        self.steps.iter().find_map(|step| match step.op {
            Op::MigratePages { from, to, .. } => Some((from, to)),
            _ => None,
        })
    }

    /// Whether a step moves memory of others, too.
    pub fn moves_memory(&self) -> bool {
        let moves = |op: &Op| matches!(op, Op::Compact | Op::MigratePages { .. });
        self.steps.iter().any(|step| moves(&step.op))
    }

    /// The sizes of hugetlb's pages that it has to do with: each has a pool.
    pub fn huge_pages(&self) -> Vec<HugePages> {
        let of_step = |step: &Step| match step.op {
            Op::Mmap { flags, .. } => HugePages::of_flags(flags),
            _ => None,
        };
        let files = self.files.iter().filter_map(|file| file.hugetlb);
        let mut sizes: Vec<HugePages> =
            files.chain(self.steps.iter().filter_map(of_step)).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// Whether a step is one of those.
    pub fn does(&self, plain: &[Plain]) -> bool {
        let is = |step: &Step| matches!(step.op, Op::Plain { what, .. } if plain.contains(&what));
        self.steps.iter().any(is)
    }

    /// Whether a step reclaims memory.
    pub fn reclaims(&self) -> bool {
        self.steps
            .iter()
            .any(|step| step.op.course() == Course::Reclaims)
    }
}

/// A process or thread that performs steps. Between its steps it sleeps, but for [`Op::Run`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// What it is.
    pub kind: ActorKind,
    /// Hart that it is pinned to: by the scenario's numbers, of which the subject's is 0, or
    /// by Linux's where it is for the agent.
    pub hart: u32,
}

impl Actor {
    /// The one actor of a program that has no other.
    pub const SUBJECT: Actor = Actor {
        kind: ActorKind::Process { mm: 0 },
        hart: 0,
    };
}

/// What an actor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActorKind {
    /// A process of its own, there before the first step, with this mm.
    Process {
        /// Its mm.
        mm: MmId,
    },
    /// A thread of another actor's process, there before the first step.
    Thread {
        /// That actor.
        of: usize,
    },
    /// Made by an [`Op::Fork`]. It runs for the first time on its parent's hart, and then
    /// moves to its own.
    Fork,
}

impl ActorKind {
    /// The mm that it brings with it before the first step.
    pub fn mm(self) -> Option<MmId> {
        match self {
            ActorKind::Process { mm } => Some(mm),
            ActorKind::Thread { .. } | ActorKind::Fork => None,
        }
    }
}

/// One step: who does what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Which actor.
    pub by: usize,
    /// What.
    pub op: Op,
}

/// A file made before the first step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryFile {
    /// Its size in pages.
    pub pages: u64,
    /// All pages are in the page cache, written, beforehand.
    pub filled: bool,
    /// Mapped through a descriptor opened read-only.
    pub read_only: bool,
    /// Bits of `F_SEAL_*`, set after filling.
    pub seals: u32,
    /// Where it is kept.
    pub on: Storage,
    /// Of hugetlb's pages of this size (`MFD_HUGETLB`).
    pub hugetlb: Option<HugePages>,
}

/// What keeps a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Storage {
    /// Memory alone (`memfd_create(2)`).
    #[default]
    Memory,
    /// ext4 on a disk. What is filled is clean, and in the page cache.
    Ext4,
    /// xfs on a disk, likewise.
    Xfs,
}

impl Storage {
    /// The file system's name.
    pub fn name(self) -> &'static str {
        match self {
            Storage::Memory => "memory",
            Storage::Ext4 => "ext4",
            Storage::Xfs => "xfs",
        }
    }
}

/// A size of hugetlb's pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HugePages {
    /// 64 KiB, where harts have Svnapot.
    Kib64,
    /// 2 MiB.
    Mib2,
    /// 1 GiB.
    Gib1,
}

impl HugePages {
    /// The base-two logarithm of its size in bytes: what flags of mmap(2) and memfd_create(2)
    /// say from bit 26 on (include/uapi/asm-generic/hugetlb_encode.h).
    pub fn shift(self) -> u32 {
        match self {
            HugePages::Kib64 => 16,
            HugePages::Mib2 => 21,
            HugePages::Gib1 => 30,
        }
    }

    /// Its size in bytes.
    pub fn bytes(self) -> u64 {
        1 << self.shift()
    }

    /// Its size in base pages.
    pub fn pages(self) -> u64 {
        self.bytes() / PAGE_SIZE
    }

    /// How many of them there are in the pool when the first step begins. Of 1 GiB there are
    /// none, but where the machine has them from its boot on (`hugetlb-1g`).
    pub fn pool(self) -> u64 {
        match self {
            HugePages::Kib64 | HugePages::Mib2 => 16,
            HugePages::Gib1 => 2,
        }
    }

    /// What flags of mmap(2) ask for it.
    pub fn flags(self) -> i32 {
        MAP_HUGETLB | (self.shift() as i32) << MAP_HUGE_SHIFT
    }

    /// What flags of mmap(2) ask for, if it is one of these.
    pub fn of_flags(flags: i32) -> Option<HugePages> {
        if flags & MAP_HUGETLB == 0 {
            return None;
        }
        let shift = flags >> MAP_HUGE_SHIFT & MAP_HUGE_MASK;
        [HugePages::Kib64, HugePages::Mib2, HugePages::Gib1]
            .into_iter()
            .find(|size| size.shift() as i32 == shift)
    }
}

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// `mmap(2)`.
    Mmap {
        /// First page.
        at: u64,
        /// Length.
        pages: u64,
        /// Bits of `PROT_*`.
        prot: i32,
        /// Bits of `MAP_*`, whole (MAP_FIXED included).
        flags: i32,
        /// Which file; anonymous memory without.
        file: Option<usize>,
        /// Offset in the file.
        offset: u64,
    },
    /// `munmap(2)`.
    Munmap {
        /// First page.
        at: u64,
        /// Length.
        pages: u64,
    },
    /// `mprotect(2)`.
    Mprotect {
        /// First page.
        at: u64,
        /// Length.
        pages: u64,
        /// Bits of `PROT_*`.
        prot: i32,
    },
    /// `madvise(2)`.
    Madvise {
        /// First page.
        at: u64,
        /// Length.
        pages: u64,
        /// `MADV_*`.
        advice: i32,
    },
    /// One byte of each `every`th page is read or written, in ascending order; stops at the
    /// first signal.
    Touch {
        /// First page.
        at: u64,
        /// Length.
        pages: u64,
        /// Distance between touched pages, at least 1.
        every: u64,
        /// Write instead of read.
        write: bool,
        /// The byte that is written (1 if nothing is said), or that is to be read.
        value: Option<u8>,
    },
    /// The first byte of each page is read or written by a device that shares an mm's page
    /// tables, in ascending order; stops at the first that is refused.
    Device {
        /// That mm.
        mm: MmId,
        /// First page.
        at: u64,
        /// Length.
        pages: u64,
        /// Write instead of read.
        write: bool,
        /// The byte that is written (1 if nothing is said), or that is to be read.
        value: Option<u8>,
    },
    /// The first byte of each page is read or written by a virtual machine of the actor's, whose
    /// memory is the arena (KVM: a second stage of page tables); stops at the first that is
    /// refused.
    Vm {
        /// First page.
        at: u64,
        /// Length.
        pages: u64,
        /// Write instead of read.
        write: bool,
        /// The byte that is written (1 if nothing is said), or that is to be read.
        value: Option<u8>,
    },
    /// `memory.reclaim` of the actors' cgroup, to which nothing was charged before the first
    /// step.
    Reclaim {
        /// How many pages are asked for.
        pages: u64,
    },
    /// `fork(2)`: an actor of the kind [`ActorKind::Fork`] comes to life.
    Fork {
        /// That actor.
        child: usize,
        /// Its mm.
        mm: MmId,
    },
    /// `exit_group(2)` of a process, `exit(2)` of a thread. The step ends when it is gone.
    Exit,
    /// `execve(2)` of the replaying program itself: the actor goes on with a new mm.
    Exec {
        /// That mm.
        mm: MmId,
    },
    /// Runs in user mode, touching nothing, until its next step.
    Run,
    /// `ftruncate(2)`.
    Ftruncate {
        /// Which file.
        file: usize,
        /// The new size.
        pages: u64,
    },
    /// `fallocate(2)` with `FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE`.
    PunchHole {
        /// Which file.
        file: usize,
        /// First page in the file.
        offset: u64,
        /// Length.
        pages: u64,
    },
    /// `mremap(2)`.
    Mremap {
        /// First page.
        at: u64,
        /// Length.
        pages: u64,
        /// Where it goes (MREMAP_MAYMOVE | MREMAP_FIXED); without, it stays.
        to: Option<u64>,
        /// Its new length.
        new_pages: u64,
        /// What was there stays mapped, and empty (MREMAP_DONTUNMAP).
        keep: bool,
    },
    /// ksmd scans all that is mergeable, so often that what is the same is merged.
    Ksm {
        /// Pages of zeroes are given up for the zero page (`use_zero_pages`).
        zero_pages: bool,
        /// Instead of that, all that was merged is parted again (`run` is 2).
        unmerge: bool,
    },
    /// All of memory is compacted (`/proc/sys/vm/compact_memory`): pages migrate.
    Compact,
    /// `msync(2)`.
    Msync {
        /// First page.
        at: u64,
        /// Length.
        pages: u64,
        /// Bits of `MS_*`.
        flags: i32,
    },
    /// `fsync(2)`.
    Fsync {
        /// Which file.
        file: usize,
    },
    /// `sync_file_range(2)` that begins to write and waits for it.
    SyncFileRange {
        /// Which file.
        file: usize,
        /// First page in the file.
        offset: u64,
        /// Length.
        pages: u64,
    },
    /// `fallocate(2)` in another way than [`Op::PunchHole`].
    Fallocate {
        /// Which file.
        file: usize,
        /// Bits of `FALLOC_FL_*`.
        mode: i32,
        /// First page in the file.
        offset: u64,
        /// Length.
        pages: u64,
    },
    /// `pwrite(2)` of each page.
    Pwrite {
        /// Which file.
        file: usize,
        /// First page in the file.
        offset: u64,
        /// Length.
        pages: u64,
        /// The byte that is written all over (1 if nothing is said).
        value: Option<u8>,
        /// Past the page cache (O_DIRECT).
        direct: bool,
    },
    /// `pread(2)` of each page.
    Pread {
        /// Which file.
        file: usize,
        /// First page in the file.
        offset: u64,
        /// Length.
        pages: u64,
    },
    /// Caches of the whole machine are dropped (`/proc/sys/vm/drop_caches`).
    DropCaches {
        /// Which: 1, the page cache; 2, what can be had of slabs; 3, both.
        what: u8,
    },
    /// `UFFDIO_REGISTER` with the userfaultfd of the actor's process: a fault that it is asked
    /// about is answered with SIGBUS.
    UffdRegister {
        /// First page.
        at: u64,
        /// Length.
        pages: u64,
        /// Bits of `UFFDIO_REGISTER_MODE_*`.
        mode: u64,
    },
    /// `UFFDIO_UNREGISTER`
    UffdUnregister {
        /// First page.
        at: u64,
        /// Length.
        pages: u64,
    },
    /// `UFFDIO_COPY` of each page.
    UffdCopy {
        /// First page.
        at: u64,
        /// Length.
        pages: u64,
        /// The byte that pages are full of (1 if nothing is said).
        value: Option<u8>,
        /// Pages of hugetlb, of that size, and not small ones.
        hugetlb: Option<HugePages>,
    },
    /// `UFFDIO_ZEROPAGE`
    UffdZeropage {
        /// First page.
        at: u64,
        /// Length.
        pages: u64,
    },
    /// `UFFDIO_CONTINUE`
    UffdContinue {
        /// First page.
        at: u64,
        /// Length.
        pages: u64,
    },
    /// `UFFDIO_MOVE`
    UffdMove {
        /// First page.
        at: u64,
        /// Length.
        pages: u64,
        /// The first page's new place.
        to: u64,
        /// What is not there need not be moved (UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES).
        holes: bool,
    },
    /// `UFFDIO_WRITEPROTECT`
    UffdWriteprotect {
        /// First page.
        at: u64,
        /// Length.
        pages: u64,
        /// The right is taken; else it is given back.
        protect: bool,
    },
    /// `move_pages(2)` of pages in a row.
    MovePages {
        /// The actor whose process's pages they are.
        of: usize,
        /// First page.
        at: u64,
        /// Length.
        pages: u64,
        /// Which node they go to.
        node: u32,
        /// Those too that other processes map (MPOL_MF_MOVE_ALL).
        all: bool,
    },
    /// `mbind(2)`.
    Mbind {
        /// First page.
        at: u64,
        /// Length.
        pages: u64,
        /// `MPOL_*`.
        policy: i32,
        /// The policy's nodes, a bit for each.
        nodes: u64,
        /// Bits of `MPOL_MF_*`.
        flags: u32,
    },
    /// `migrate_pages(2)`.
    MigratePages {
        /// The actor whose process's pages they are.
        of: usize,
        /// The node that they leave.
        from: u32,
        /// The node that they go to.
        to: u32,
    },
    /// `process_madvise(2)`.
    ProcessMadvise {
        /// The actor on whose process it acts.
        of: usize,
        /// On what of it: a vector, [`MOST_RANGES`] at the most.
        ranges: Vec<Extent>,
        /// `MADV_*`.
        advice: i32,
    },
    /// One that is told by its name and a few fields.
    Plain {
        /// Which.
        what: Plain,
        /// On what.
        on: On,
    },
}

/// The most ranges of a vector.
pub const MOST_RANGES: usize = 64;

/// One range of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// First page.
    pub at: u64,
    /// Length.
    pub pages: u64,
}

/// Pages of the arena that a step names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pages {
    /// First page.
    pub start: u64,
    /// First page after them.
    pub end: u64,
}

impl Op {
    /// The pages of the arena that it names, in the order of its arguments: none for what is
    /// about a file, a whole mm or an actor.
    pub fn pages(&self) -> Vec<Pages> {
        match *self {
            Op::Mmap { at, pages, .. }
            | Op::Munmap { at, pages }
            | Op::Mprotect { at, pages, .. }
            | Op::Madvise { at, pages, .. }
            | Op::Msync { at, pages, .. }
            | Op::UffdRegister { at, pages, .. }
            | Op::UffdUnregister { at, pages }
            | Op::UffdCopy { at, pages, .. }
            | Op::UffdZeropage { at, pages }
            | Op::UffdContinue { at, pages }
            | Op::UffdWriteprotect { at, pages, .. }
            | Op::MovePages { at, pages, .. }
            | Op::Mbind { at, pages, .. }
            | Op::Touch { at, pages, .. }
            | Op::Device { at, pages, .. }
            | Op::Vm { at, pages, .. } => vec![Pages {
                start: at,
                end: at.saturating_add(pages),
            }],
            Op::UffdMove { at, pages, to, .. } => {
                let range = |start: u64| Pages {
                    start,
                    end: start.saturating_add(pages),
                };
                vec![range(at), range(to)]
            }
            Op::ProcessMadvise { ref ranges, .. } => {
                let pages = |range: &Extent| Pages {
                    start: range.at,
                    end: range.at.saturating_add(range.pages),
                };
                ranges.iter().map(pages).collect()
            }
            Op::Mremap {
                at,
                pages,
                to,
                new_pages,
                ..
            } => {
                let range = |start: u64, pages: u64| Pages {
                    start,
                    end: start.saturating_add(pages),
                };
                let to = to.unwrap_or(at);
                vec![range(at, pages), range(to, new_pages)]
            }
            Op::Plain { what, on } => on.named_pages(what),
            Op::Reclaim { .. }
            | Op::Fork { .. }
            | Op::Exit
            | Op::Exec { .. }
            | Op::Run
            | Op::Fsync { .. }
            | Op::SyncFileRange { .. }
            | Op::Fallocate { .. }
            | Op::Pwrite { .. }
            | Op::Pread { .. }
            | Op::DropCaches { .. }
            | Op::Ksm { .. }
            | Op::Compact
            | Op::MigratePages { .. }
            | Op::Ftruncate { .. }
            | Op::PunchHole { .. } => Vec::new(),
        }
    }

    /// What the replaying program, and whoever counts mms, has to know about it.
    pub fn course(&self) -> Course {
        match *self {
            Op::Fork { child, mm } => Course::Fork { child, mm },
            Op::Exec { mm } => Course::Exec { mm },
            Op::Exit => Course::Exit,
            Op::Run => Course::Run,
            Op::Reclaim { .. } => Course::Reclaims,
            Op::ProcessMadvise { of, .. }
            | Op::MovePages { of, .. }
            | Op::MigratePages { of, .. } => Course::ActsOn(of),
            Op::Device { mm, .. } => Course::OfDevice(mm),
            Op::Plain { what, on } => match on.of {
                Some(of) if what.ends_another() => Course::Ends(of),
                Some(of) => Course::ActsOn(of),
                None => what.course(),
            },
            Op::Mmap { .. }
            | Op::Munmap { .. }
            | Op::Mprotect { .. }
            | Op::Madvise { .. }
            | Op::Touch { .. }
            | Op::Vm { .. }
            | Op::Mremap { .. }
            | Op::UffdRegister { .. }
            | Op::UffdUnregister { .. }
            | Op::UffdCopy { .. }
            | Op::UffdZeropage { .. }
            | Op::UffdContinue { .. }
            | Op::UffdMove { .. }
            | Op::UffdWriteprotect { .. }
            | Op::Msync { .. }
            | Op::Fsync { .. }
            | Op::SyncFileRange { .. }
            | Op::Fallocate { .. }
            | Op::Pwrite { .. }
            | Op::Pread { .. }
            | Op::DropCaches { .. }
            | Op::Ksm { .. }
            | Op::Compact
            | Op::Mbind { .. }
            | Op::Ftruncate { .. }
            | Op::PunchHole { .. } => Course::Returns,
        }
    }

    /// What it may make the actors' memory grow to.
    pub fn memory(&self) -> Memory {
        match *self {
            Op::Mmap { pages, .. } | Op::Ftruncate { pages, .. } => Memory::Pages(pages),
            Op::Mremap { new_pages, .. } => Memory::Pages(new_pages),
            Op::Fallocate { pages, .. } | Op::Pwrite { pages, .. } => Memory::Pages(pages),
            Op::Plain { on, .. } => Memory::Pages(on.new_pages.max(on.pages)),
            Op::Madvise { advice, .. } | Op::ProcessMadvise { advice, .. }
                if advice == MADV_COLLAPSE =>
            {
                Memory::HugePages
            }
            Op::Munmap { .. }
            | Op::Mprotect { .. }
            | Op::Madvise { .. }
            | Op::Touch { .. }
            | Op::Device { .. }
            | Op::Vm { .. }
            | Op::Reclaim { .. }
            | Op::Fork { .. }
            | Op::Exit
            | Op::Exec { .. }
            | Op::Run
            | Op::UffdRegister { .. }
            | Op::UffdUnregister { .. }
            | Op::UffdCopy { .. }
            | Op::UffdZeropage { .. }
            | Op::UffdContinue { .. }
            | Op::UffdMove { .. }
            | Op::UffdWriteprotect { .. }
            | Op::Msync { .. }
            | Op::Fsync { .. }
            | Op::SyncFileRange { .. }
            | Op::Pread { .. }
            | Op::DropCaches { .. }
            | Op::Ksm { .. }
            | Op::Compact
            | Op::MovePages { .. }
            | Op::Mbind { .. }
            | Op::MigratePages { .. }
            | Op::PunchHole { .. }
            | Op::ProcessMadvise { .. } => Memory::NoMore,
        }
    }

    /// Whether it is about a userfaultfd.
    pub fn is_uffd(&self) -> bool {
        if let Op::Plain { what, .. } = self {
            return what.is_uffd();
        }
        matches!(
            self,
            Op::UffdRegister { .. }
                | Op::UffdUnregister { .. }
                | Op::UffdCopy { .. }
                | Op::UffdZeropage { .. }
                | Op::UffdContinue { .. }
                | Op::UffdMove { .. }
                | Op::UffdWriteprotect { .. }
        )
    }

    /// The mm that it makes.
    pub fn made_mm(&self) -> Option<MmId> {
        match self.course() {
            Course::Fork { mm, .. } | Course::Exec { mm } => Some(mm),
            Course::Returns
            | Course::Reclaims
            | Course::ActsOn(_)
            | Course::Ends(_)
            | Course::OfDevice(_)
            | Course::Exit
            | Course::Run => None,
        }
    }

    /// The hart that it is about, where it is about one.
    pub fn hart_mut(&mut self) -> Option<&mut u32> {
        match self {
            Op::Plain { what, on } if what.form().needs.contains(&Field::Hart) => {
                Some(&mut on.hart)
            }
            _ => None,
        }
    }

    /// The same on another actor's process, where it acts on one.
    pub fn on(mut self, actor: usize) -> Op {
        match &mut self {
            Op::ProcessMadvise { of, .. }
            | Op::MovePages { of, .. }
            | Op::MigratePages { of, .. } => *of = actor,
            Op::Plain { on, .. } => on.of = on.of.map(|_| actor),
            _ => {}
        }
        self
    }
}

/// `MAP_HUGETLB` of include/uapi/asm-generic/mman-common.h
pub const MAP_HUGETLB: i32 = 0x4_0000;
/// `MAP_DROPPABLE` of include/uapi/linux/mman.h: a type of mapping.
pub const MAP_DROPPABLE: i32 = 8;
/// `MAP_HUGE_SHIFT` of include/uapi/linux/mman.h
const MAP_HUGE_SHIFT: i32 = 26;
/// `MAP_HUGE_MASK` of the same.
const MAP_HUGE_MASK: i32 = 0x3f;

/// `MADV_COLLAPSE` of include/uapi/asm-generic/mman-common.h
const MADV_COLLAPSE: i32 = 25;

/// `MPOL_DEFAULT` of include/uapi/linux/mempolicy.h
pub const MPOL_DEFAULT: i32 = 0;
/// `MPOL_PREFERRED`
pub const MPOL_PREFERRED: i32 = 1;
/// `MPOL_BIND`
pub const MPOL_BIND: i32 = 2;
/// `MPOL_LOCAL`
pub const MPOL_LOCAL: i32 = 4;
/// `MPOL_MF_STRICT`: what is not where the policy has it is an error.
pub const MPOL_MF_STRICT: u32 = 1;
/// `MPOL_MF_MOVE`: pages move to where the policy has them.
pub const MPOL_MF_MOVE: u32 = 2;
/// `MPOL_MF_MOVE_ALL`: those too that other processes map.
pub const MPOL_MF_MOVE_ALL: u32 = 4;

/// The most pages that one [`Op::MovePages`] names: its arguments have to be somewhere.
pub const MOVED_PAGES: u64 = 1024;

/// By how much a step may make memory grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Not beyond what earlier steps have mapped.
    NoMore,
    /// By that many pages of an mm or a file.
    Pages(u64),
    /// By huge pages, which need room in one piece.
    HugePages,
}

/// How a step goes, as seen from its actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// A call about the actor's own memory or a file, which returns.
    Returns,
    /// A call that returns, and may have taken any memory of the actors.
    Reclaims,
    /// A call on the process of this actor, which returns.
    ActsOn(usize),
    /// The process of this actor is killed, and the step ends when it is gone.
    Ends(usize),
    /// A device is told to access this mm, and the call returns when it has.
    OfDevice(MmId),
    /// Another actor comes to life.
    Fork {
        /// Which one.
        child: usize,
        /// Its mm.
        mm: MmId,
    },
    /// The actor goes on with another mm; the other threads of its process end.
    Exec {
        /// That mm.
        mm: MmId,
    },
    /// The actor ends, and with a process its threads.
    Exit,
    /// The actor runs until its next step.
    Run,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepResult {
    /// It succeeded.
    Ok,
    /// Refused with this errno.
    Errno(i32),
    /// A touch was answered with a signal (SIGSEGV 11, SIGBUS 7) at this page of the arena.
    Signal {
        /// The signal's number.
        signal: i32,
        /// The page touched.
        page: u64,
    },
    /// A touch or a device read this byte at this page of the arena, and was to read another.
    Saw {
        /// What it read.
        value: u8,
        /// The page.
        page: u64,
    },
    /// A device's access was refused at this page, and reported so.
    Fault {
        /// The cause, as the RISC-V IOMMU numbers them: 13 for reading, 15 for writing, 258
        /// where the device is bound to no mm.
        cause: u32,
        /// The page.
        page: u64,
    },
    /// A device's access was refused at this page, and nobody was told.
    Lost {
        /// The page.
        page: u64,
    },
    /// A device's access at this page came to another frame than the page's.
    Astray {
        /// The page.
        page: u64,
    },
    /// This page was not moved to where it was to go, and why; it is the first of those.
    Refused {
        /// The errno that the page was answered with.
        errno: i32,
        /// The page.
        page: u64,
    },
    /// So many pages were to move and did not.
    Left {
        /// How many.
        pages: u64,
    },
    /// Not done: the fork that would have made its actor was refused.
    Unborn,
    /// Of a vector so many pages were done, from its beginning, and then something was refused.
    Part {
        /// How many.
        pages: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mms_are_counted_from_processes_and_from_what_steps_make() {
        let steps = [Op::Exec { mm: 3 }, Op::Run];
        let mut program = Program::of_subject(Vec::new(), steps);
        assert_eq!(program.mms(), 4);
        program.steps.clear();
        assert_eq!(program.mms(), 1);
        assert_eq!(Program::default().mms(), 0);
    }

    #[test]
    fn addresses_are_the_arenas() {
        assert_eq!(address(0), ARENA_BASE);
        assert_eq!(address(ARENA_PAGES), ARENA_BASE + bytes(ARENA_PAGES));
    }
}
