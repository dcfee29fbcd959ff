// SPDX-License-Identifier: GPL-2.0-only
//! Operations that are told by a name and some of a few fields that many have in common. A
//! new one is a name here with its fields, how the agent does it, and what the model says of it.

use crate::{Course, Pages};
use serde::{Deserialize, Serialize};

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Plain {
    /// A number is written to `/proc/PID/clear_refs`.
    ClearRefs,
    /// `process_vm_writev(2)` of the first byte of each page.
    ProcessVmWritev,
    /// `process_vm_readv(2)` of it.
    ProcessVmReadv,
    /// It is written through `/proc/PID/mem`.
    MemWrite,
    /// The first word is written by `PTRACE_POKEDATA`, whatever the rights are.
    PtracePoke,
    /// `remap_file_pages(2)`.
    RemapFilePages,
    /// `mseal(2)`.
    Mseal,
    /// `brk(2)`, of a heap that begins in the arena: from one length to another.
    Brk,
    /// `vfork(2)`: a child that shares the mm writes the first byte of each page, and ends.
    Vfork,
    /// A hart goes offline (`/sys/devices/system/cpu/cpuN/online`).
    HartOffline,
    /// It comes online again.
    HartOnline,
    /// `swapoff(2)` of the program's swap: all that is in it comes back.
    Swapoff,
    /// `process_mrelease(2)` of a process that is killed for it: the OOM reaper's work.
    ProcessMrelease,
    /// `vmsplice(2)` into a pipe that nobody reads: pages are referred to until the actor ends.
    Vmsplice,
    /// Pages become an io_uring's registered buffer: they are pinned until the actor ends.
    RegisterBuffers,
    /// `memory.max` of the actors' cgroup.
    MemoryMax,
    /// `memory.high` of it.
    MemoryHigh,
    /// `mlock(2)`.
    Mlock,
    /// `mlock2(2)` with MLOCK_ONFAULT.
    Mlock2,
    /// `munlock(2)`.
    Munlock,
    /// `mlockall(2)` with these bits of `MCL_*`.
    Mlockall,
    /// `munlockall(2)`.
    Munlockall,
    /// `memfd_secret(2)`, mapped.
    SecretMmap,
    /// Pages of a driver's are mapped, by their frames' numbers (VM_PFNMAP).
    DriverMmap,
    /// The driver takes some of them back, from all who have them mapped.
    DriverZap,
    /// khugepaged goes over all processes once.
    Khugepaged,
    /// A range is written to debugfs' `split_huge_pages`, with the order that is to be left.
    SplitHugePages,
    /// `PAGEMAP_SCAN` of `/proc/PID/pagemap`, for pages that were written, with these flags
    /// (`PM_SCAN_*`).
    PagemapScan,
    /// A fault of another's is answered for each page, by `UFFDIO_COPY`.
    UffdAnswer,
    /// By `UFFDIO_ZEROPAGE`.
    UffdAnswerZeropage,
    /// By `UFFDIO_CONTINUE`.
    UffdAnswerContinue,
    /// By `UFFDIO_WAKE`, which brings nothing, and when it is asked again by `UFFDIO_COPY`.
    UffdAnswerWake,
    /// What else a userfaultfd tells of is read: so many events.
    UffdEvents,
    /// The actors' cgroup runs out of memory, and of all actors it is this one whose process has
    /// to go. It does not get to run: the OOM reaper gives its memory back.
    OomKill,
    /// DAMON finds that a range is not accessed, and pages it out (`DAMOS_PAGEOUT`), once.
    DamonPageout,
    /// The same, and its pages become the first to be reclaimed (`DAMOS_COLD`).
    DamonCold,
    /// Watermarks rise until kswapd has so many pages more to free, and fall again.
    Kswapd,
    /// The block of memory that has the page's frame goes offline.
    MemoryUnplug,
    /// As much as can be of the memory that a driver may take in one piece (CMA) is taken, and
    /// given back.
    CmaAlloc,
    /// `/sys/kernel/mm/lru_gen/enabled`: these bits of `LRU_GEN_*`.
    LruGen,
    /// The actors' cgroup gets a new youngest generation.
    LruGenAge,
    /// So many pages of its oldest generations are reclaimed.
    LruGenEvict,
    /// A breakpoint in a file, wherever a process has it mapped to be executed.
    Uprobe,
    /// It goes again.
    UprobeRemove,
}

/// A field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// An actor on whose process it acts.
    Of,
    /// A first page.
    At,
    /// A length.
    Pages,
    /// A length that there is afterwards.
    NewPages,
    /// An offset in a file, in pages.
    Offset,
    /// A number.
    Value,
    /// A hart's number.
    Hart,
    /// A file.
    File,
}

impl Field {
    /// All of them.
    pub const ALL: &'static [Field] = &[
        Field::Of,
        Field::At,
        Field::Pages,
        Field::NewPages,
        Field::Offset,
        Field::Value,
        Field::Hart,
        Field::File,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Field::Of => "of",
            Field::At => "at",
            Field::Pages => "pages",
            Field::NewPages => "new_pages",
            Field::Offset => "offset",
            Field::Value => "value",
            Field::Hart => "hart",
            Field::File => "file",
        }
    }
}

/// What its fields say. Those that it has not are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct On {
    /// On whose process it acts, where not on the actor's own.
    pub of: Option<usize>,
    /// First page.
    pub at: u64,
    /// Length.
    pub pages: u64,
    /// Length afterwards.
    pub new_pages: u64,
    /// Offset in a file, in pages.
    pub offset: u64,
    /// A number, or a byte.
    pub value: Option<u64>,
    /// A hart: by the scenario's numbers, or by Linux's where it is for the agent.
    pub hart: u32,
    /// A file of the program's.
    pub file: usize,
}

/// How it is said.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// Its name in a scenario.
    pub name: &'static str,
    /// Fields that it has to have.
    pub needs: &'static [Field],
    /// Fields that it may have.
    pub may: &'static [Field],
}

impl Plain {
    /// All of them.
    pub const ALL: &'static [Plain] = &[
        Plain::ClearRefs,
        Plain::ProcessVmWritev,
        Plain::ProcessVmReadv,
        Plain::MemWrite,
        Plain::PtracePoke,
        Plain::RemapFilePages,
        Plain::Mseal,
        Plain::Brk,
        Plain::Vfork,
        Plain::HartOffline,
        Plain::HartOnline,
        Plain::Swapoff,
        Plain::ProcessMrelease,
        Plain::Vmsplice,
        Plain::RegisterBuffers,
        Plain::MemoryMax,
        Plain::MemoryHigh,
        Plain::Mlock,
        Plain::Mlock2,
        Plain::Munlock,
        Plain::Mlockall,
        Plain::Munlockall,
        Plain::SecretMmap,
        Plain::DriverMmap,
        Plain::DriverZap,
        Plain::Khugepaged,
        Plain::SplitHugePages,
        Plain::PagemapScan,
        Plain::UffdAnswer,
        Plain::UffdAnswerZeropage,
        Plain::UffdAnswerContinue,
        Plain::UffdAnswerWake,
        Plain::UffdEvents,
        Plain::OomKill,
        Plain::DamonPageout,
        Plain::DamonCold,
        Plain::Kswapd,
        Plain::MemoryUnplug,
        Plain::CmaAlloc,
        Plain::LruGen,
        Plain::LruGenAge,
        Plain::LruGenEvict,
        Plain::Uprobe,
        Plain::UprobeRemove,
    ];

    /// How it is said.
    pub fn form(self) -> Form {
        use Field::{At, File, Hart, NewPages, Of, Offset, Pages, Value};
        let form = |name, needs, may| Form { name, needs, may };
        match self {
            Plain::ClearRefs => form("clear_refs", &[Value], &[Of]),
            Plain::ProcessVmWritev => form("process_vm_writev", &[Of, At, Pages], &[Value]),
            Plain::ProcessVmReadv => form("process_vm_readv", &[Of, At, Pages], &[]),
            Plain::MemWrite => form("mem_write", &[At, Pages], &[Of, Value]),
            Plain::PtracePoke => form("ptrace_poke", &[Of, At, Pages], &[Value]),
            Plain::RemapFilePages => form("remap_file_pages", &[At, Pages, Offset], &[]),
            Plain::Mseal => form("mseal", &[At, Pages], &[]),
            Plain::Brk => form("brk", &[At, Pages, NewPages], &[]),
            Plain::Vfork => form("vfork", &[At, Pages], &[Value]),
            Plain::HartOffline => form("hart_offline", &[Hart], &[]),
            Plain::HartOnline => form("hart_online", &[Hart], &[]),
            Plain::Swapoff => form("swapoff", &[], &[]),
            Plain::ProcessMrelease => form("process_mrelease", &[Of], &[]),
            Plain::Vmsplice => form("vmsplice", &[At, Pages], &[]),
            Plain::RegisterBuffers => form("register_buffers", &[At, Pages], &[]),
            Plain::MemoryMax => form("memory_max", &[Pages], &[]),
            Plain::MemoryHigh => form("memory_high", &[Pages], &[]),
            Plain::Mlock => form("mlock", &[At, Pages], &[]),
            Plain::Mlock2 => form("mlock2", &[At, Pages], &[]),
            Plain::Munlock => form("munlock", &[At, Pages], &[]),
            Plain::Mlockall => form("mlockall", &[Value], &[]),
            Plain::Munlockall => form("munlockall", &[], &[]),
            Plain::SecretMmap => form("secret_mmap", &[At, Pages], &[]),
            Plain::DriverMmap => form("driver_mmap", &[At, Pages], &[]),
            Plain::DriverZap => form("driver_zap", &[Offset, Pages], &[]),
            Plain::Khugepaged => form("khugepaged", &[], &[]),
            Plain::SplitHugePages => form("split_huge_pages", &[At, Pages], &[Of, Value]),
            Plain::PagemapScan => form("pagemap_scan", &[At, Pages], &[Of, Value]),
            Plain::UffdAnswer => form("uffd_answer", &[At, Pages], &[Value]),
            Plain::UffdAnswerZeropage => form("uffd_answer_zeropage", &[At, Pages], &[]),
            Plain::UffdAnswerContinue => form("uffd_answer_continue", &[At, Pages], &[]),
            Plain::UffdAnswerWake => form("uffd_answer_wake", &[At, Pages], &[Value]),
            Plain::UffdEvents => form("uffd_events", &[Value], &[]),
            Plain::OomKill => form("oom_kill", &[Of], &[]),
            Plain::DamonPageout => form("damon_pageout", &[At, Pages], &[Of]),
            Plain::DamonCold => form("damon_cold", &[At, Pages], &[Of]),
            Plain::Kswapd => form("kswapd", &[Pages], &[]),
            Plain::MemoryUnplug => form("memory_unplug", &[At], &[Of]),
            Plain::CmaAlloc => form("cma_alloc", &[], &[]),
            Plain::LruGen => form("lru_gen", &[Value], &[]),
            Plain::LruGenAge => form("lru_gen_age", &[], &[]),
            Plain::LruGenEvict => form("lru_gen_evict", &[Pages], &[]),
            Plain::Uprobe => form("uprobe", &[File, Offset], &[]),
            Plain::UprobeRemove => form("uprobe_remove", &[File, Offset], &[]),
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Plain> {
        let mut all = Plain::ALL.iter().copied();
        all.find(|plain| plain.form().name == name)
    }

    /// How a step goes that has nobody else's process to act on.
    pub(crate) fn course(self) -> Course {
        match self {
            Plain::MemoryMax
            | Plain::MemoryHigh
            | Plain::Kswapd
            | Plain::LruGen
            | Plain::LruGenAge
            | Plain::LruGenEvict => Course::Reclaims,
            Plain::ClearRefs
            | Plain::ProcessVmWritev
            | Plain::ProcessVmReadv
            | Plain::MemWrite
            | Plain::PtracePoke
            | Plain::RemapFilePages
            | Plain::Mseal
            | Plain::Brk
            | Plain::Vfork
            | Plain::HartOffline
            | Plain::HartOnline
            | Plain::Swapoff
            | Plain::ProcessMrelease
            | Plain::Vmsplice
            | Plain::RegisterBuffers
            | Plain::Mlock
            | Plain::Mlock2
            | Plain::Munlock
            | Plain::Mlockall
            | Plain::Munlockall
            | Plain::SecretMmap
            | Plain::DriverMmap
            | Plain::DriverZap
            | Plain::Khugepaged
            | Plain::SplitHugePages
            | Plain::PagemapScan
            | Plain::UffdAnswer
            | Plain::UffdAnswerZeropage
            | Plain::UffdAnswerContinue
            | Plain::UffdAnswerWake
            | Plain::UffdEvents
            | Plain::OomKill
            | Plain::DamonPageout
            | Plain::DamonCold
            | Plain::MemoryUnplug
            | Plain::CmaAlloc
            | Plain::Uprobe
            | Plain::UprobeRemove => Course::Returns,
        }
    }

    /// What answers a fault that a userfaultfd is asked about: then who has it waits for that.
    pub const ANSWERS: &'static [Plain] = &[
        Plain::UffdAnswer,
        Plain::UffdAnswerZeropage,
        Plain::UffdAnswerContinue,
        Plain::UffdAnswerWake,
    ];

    /// Whether it is about a userfaultfd.
    pub(crate) fn is_uffd(self) -> bool {
        self == Plain::UffdEvents || Plain::ANSWERS.contains(&self)
    }

    /// Whether the process that it acts on has ended afterwards.
    pub(crate) fn ends_another(self) -> bool {
        matches!(self, Plain::ProcessMrelease | Plain::OomKill)
    }

    /// What takes seconds, in which little is computed: the kernel's own clocks have to run, or the
    /// guest is run no further.
    pub const WAITS: &'static [Plain] = &[
        Plain::OomKill,
        Plain::DamonPageout,
        Plain::DamonCold,
        Plain::Kswapd,
        Plain::MemoryUnplug,
        Plain::LruGen,
    ];

    /// What is done to the whole machine, and leaves it otherwise than it was, whatever is undone:
    /// a guest is then run no further, and a board is never asked for it.
    pub const SPOILS: &'static [Plain] = &[
        Plain::Kswapd,
        Plain::MemoryUnplug,
        Plain::LruGen,
        Plain::LruGenAge,
        Plain::LruGenEvict,
    ];
}

impl On {
    /// The pages of the arena that it names.
    pub(crate) fn named_pages(&self, what: Plain) -> Vec<Pages> {
        if !what.form().needs.contains(&Field::At) {
            return Vec::new();
        }
        let length = self.pages.max(self.new_pages);
        let end = self.at.saturating_add(length);
        if length == 0 {
            return Vec::new();
        }
        vec![Pages {
            start: self.at,
            end,
        }]
    }
}
