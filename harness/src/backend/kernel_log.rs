// SPDX-License-Identifier: GPL-2.0-only
//! What the kernel's own messages mean that came while a program was replayed: a
//! complaint of the kernel about itself, a notice, or a sign that memory ran out.
//!
//! A notice is here with the function that prints it, and may be printed by a kernel
//! that is well. A message that is not known is a complaint.

use operations::{Plain, Program};

/// What a message's beginning looks like: these parts, in this order.
type Pattern = &'static [&'static str];

/// A kind of message that is no complaint: how it looks, and which function prints it when.
type Known = (Pattern, &'static str);

/// What a program may legally bring about, or a host that is busy.
const NOTICES: &[Known] = &[
    (
        &[
            "__vm_enough_memory: pid: ",
            " not enough memory for the allocation",
        ],
        "__vm_enough_memory(), mm/util.c: mmap, mprotect or fork are refused with ENOMEM",
    ),
    (
        &["__vm_enough_memory: ", " callbacks suppressed"],
        "___ratelimit(), lib/ratelimit.c: the same, more often than it is told",
    ),
    (
        &[": VmData ", " exceed data ulimit "],
        "may_expand_vm(), mm/mmap.c, mm/vma.c: mmap is refused for RLIMIT_DATA",
    ),
    (
        &["attempted to duplicate a private mapping with mremap.  This is not supported."],
        "vma_to_resize(), check_prep_vma(), mm/mremap.c: of no pages, refused with EINVAL",
    ),
    (
        &["PID ", " killed due to inadequate hugepage pool"],
        "hugetlb_no_page(), mm/hugetlb.c: who reserved a page has taken it from a child",
    ),
    (
        &["hrtimer: interrupt took "],
        "hrtimer_interrupt(), kernel/time/hrtimer.c: a hart stood still for a while",
    ),
    (
        &["workqueue: ", " hogged CPU for "],
        "wq_cpu_intensive_report(), kernel/workqueue.c: a hart was slow, or stood still",
    ),
    (
        &["sched: RT throttling activated"],
        "sched_rt_runtime_exceeded(), kernel/sched/rt.c: an actor had its hart for long",
    ),
    (
        &["mmap: ", " uses deprecated remap_file_pages() syscall."],
        "remap_file_pages(), mm/mmap.c: once, whoever is the first",
    ),
    (
        &["HART", " isn't stopped; status "],
        "sbi_cpu_is_stopped(), arch/riscv/kernel/cpu_ops_sbi.c: the firmware is still about it",
    ),
    (
        &["CPU", ": failed to start"],
        "__cpu_up(), arch/riscv/kernel/smpboot.c: the same, and it is tried again",
    ),
    (
        &["CPU", " may not have stopped"],
        "arch_cpuhp_cleanup_dead_cpu(), arch/riscv/kernel/cpu-hotplug.c: says the same again",
    ),
    (
        &["CPU", ": off"],
        "arch_cpuhp_cleanup_dead_cpu(), arch/riscv/kernel/cpu-hotplug.c: a step has asked for it",
    ),
    (
        &["kvm [", "Failed to find VMA for hva "],
        "kvm_riscv_gstage_map(), arch/riscv/kvm/mmu.c: a machine's memory is not mapped",
    ),
    (
        &["kvm [", "VCPU exit error "],
        "kvm_riscv_vcpu_exit(), arch/riscv/kvm/vcpu_exit.c: KVM_RUN fails with it",
    ),
    (
        &["kvm [", "SEPC=0x"],
        "kvm_riscv_vcpu_exit(), arch/riscv/kvm/vcpu_exit.c: where it was",
    ),
    (
        &["kvm [", "SCAUSE=0x"],
        "kvm_riscv_vcpu_exit(), arch/riscv/kvm/vcpu_exit.c: for what",
    ),
];

/// The same, followed by where it was (`dump_stack()`).
const NOTICES_WITH_STACK: &[Known] = &[(
    &["GUP no longer grows the stack in "],
    "gup_vma_lookup(), mm/gup.c: once an hour, of an access below a stack",
)];

/// What `dump_stack()` prints, lib/dump_stack.c and arch/riscv/kernel/stacktrace.c.
const STACK: &[Pattern] = &[
    &["CPU: ", " Comm: "],
    &["Tainted: "],
    &["Hardware name: "],
    &["Call Trace:"],
    &["[<", ">] "],
];

/// Memory has run out. What follows such a line, until another kind of message comes,
/// belongs to it: what was free, who had what, how it was asked for.
const MEMORY: &[Known] = &[
    (&[" invoked oom-killer: "], "dump_header(), mm/oom_kill.c"),
    (
        &["ut of memory: Killed process "],
        "__oom_kill_process(), mm/oom_kill.c, of the machine or of a cgroup",
    ),
    (
        &["Out of memory and no killable processes"],
        "out_of_memory(), mm/oom_kill.c",
    ),
    (
        &["Huh VM_FAULT_OOM leaked out to the #PF handler"],
        "pagefault_out_of_memory(), mm/oom_kill.c",
    ),
    (
        &["page allocation failure: order:"],
        "__alloc_pages_slowpath() by warn_alloc(), mm/page_alloc.c",
    ),
    (
        &["page allocation stall"],
        "__alloc_pages_slowpath(), mm/page_alloc.c",
    ),
    (
        &["vmalloc error: size "],
        "__vmalloc_area_node() by warn_alloc(), mm/vmalloc.c",
    ),
    (
        &["SLUB: Unable to allocate memory on "],
        "slab_out_of_memory(), mm/slub.c",
    ),
    (
        &["Error allocating memory for compressed page"],
        "zram_write_page(), drivers/block/zram/zram_drv.c: swap takes memory, too",
    ),
    (
        &["Write-error on swap-device "],
        "__end_swap_bio_write(), mm/page_io.c: zram had no memory for the page",
    ),
    (
        &["workqueue: Failed to create a worker"],
        "create_worker(), kernel/workqueue.c",
    ),
];

/// The same of a cgroup, whose limit only a step sets: where one does, these are no sign of the
/// machine's memory, which has signs of its own, too, when it runs out.
const MEMORY_OF_A_CGROUP: &[Known] = &[
    (&[" invoked oom-killer: "], "dump_header(), mm/oom_kill.c"),
    (
        &["Memory cgroup out of memory: Killed process "],
        "__oom_kill_process(), mm/oom_kill.c",
    ),
    (
        &["Out of memory and no killable processes"],
        "out_of_memory(), mm/oom_kill.c: all but one are spared",
    ),
];

/// A page that has to leave memory which goes, and does not at once: it is tried again. What
/// follows such a line tells of the page.
const STAYS: &[Known] = &[
    (
        &["migrating pfn ", " failed ret:"],
        "do_migrate_range(), mm/memory_hotplug.c",
    ),
    (
        &["failed to isolate pfn "],
        "do_migrate_range(), mm/memory_hotplug.c",
    ),
    (
        &["page: refcount:", " mapcount:"],
        "dump_page(), mm/debug.c, also where has_unmovable_pages() has found it",
    ),
];

/// What a program's steps ask for, and the kernel tells of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Its cgroup runs out of memory.
    pub limits: bool,
    /// Memory goes offline, or to a driver.
    pub offline: bool,
}

impl Asked {
    /// What a program asks for.
    pub(super) fn by(program: &Program) -> Asked {
        Asked {
            limits: program.does(&[Plain::OomKill, Plain::MemoryMax]),
            offline: program.does(&[Plain::MemoryUnplug, Plain::CmaAlloc]),
        }
    }
}

/// What is a complaint also among the lines of which memory's end has many.
const COMPLAINTS: &[Pattern] = &[
    &["cut here"],
    &["WARNING: "],
    &["BUG: "],
    &["BUG "],
    &["Oops"],
    &["Unable to handle kernel"],
    &["UBSAN: "],
    &["KASAN: "],
    &["INFO: task "],
    &["INFO: rcu", " stall"],
    &["list_", " corruption"],
    &["refcount_t: "],
    &["Bad "],
    &["bad: "],
];

/// What a log comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Meaning {
    /// What the kernel has to complain of, whole.
    pub complaints: Vec<String>,
    /// The first sign that memory ran out.
    pub memory: Option<String>,
}

/// Whether the kernel complains of itself, whatever a program did.
pub(crate) fn complains(log: &[String]) -> bool {
    let complaint = |line: &String| COMPLAINTS.iter().any(|pattern| fits(pattern, line));
    log.iter().any(complaint)
}

/// Sorts warnings and worse.
pub(super) fn meaning(log: &[String], asked: Asked) -> Meaning {
    let mut meaning = Meaning::default();
    // What it is about has more lines.
    let mut goes_on = false;
    let mut stack = false;
    let known = |kinds: &[Known], line: &str| kinds.iter().any(|known| fits(known.0, line));
    for line in log {
        stack = known(NOTICES_WITH_STACK, line)
            || stack && STACK.iter().any(|pattern| fits(pattern, line));
        if stack {
            continue;
        }
        if COMPLAINTS.iter().any(|pattern| fits(pattern, line)) {
            goes_on = false;
        } else if asked.limits && known(MEMORY_OF_A_CGROUP, line)
            || asked.offline && known(STAYS, line)
        {
            goes_on = true;
        } else if known(MEMORY, line) {
            goes_on = true;
            meaning.memory.get_or_insert_with(|| line.clone());
        } else if known(NOTICES, line) {
            continue;
        }
        if !goes_on {
            meaning.complaints.push(line.clone());
        }
    }
    meaning
}

fn fits(pattern: Pattern, line: &str) -> bool {
    let mut rest = Some(line);
    for part in pattern {
        rest = rest
            .and_then(|rest| rest.split_once(part))
            .map(|(_, rest)| rest);
    }
    rest.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(log: &[&str]) -> Meaning {
        let log: Vec<String> = log.iter().map(|line| (*line).to_owned()).collect();
        meaning(&log, Asked::default())
    }

    const REFUSED: &str = "__vm_enough_memory: pid: 37, comm: tlbdiff-agent, bytes: 4294967296 not enough memory for the allocation";
    const OLDER: &str =
        "__vm_enough_memory: pid: 37, comm: tlbdiff-agent, not enough memory for the allocation";
    const OOM: &str = "tlbdiff-agent invoked oom-killer: gfp_mask=0x140dca(GFP_HIGHUSER_MOVABLE|__GFP_ZERO|__GFP_COMP), order=0, oom_score_adj=0";
    const SPLAT: &str = "WARNING: CPU: 1 PID: 37 at mm/rmap.c:1234 folio_remove_rmap_ptes+0x1/0x2";

    #[test]
    fn a_notice_is_no_complaint_and_an_unknown_message_is_one() {
        assert_eq!(of(&[REFUSED, OLDER, REFUSED]), Meaning::default());
        let unknown = "get_swap_device: Bad swap file entry 2000000000000001";
        for line in [
            SPLAT,
            unknown,
            "something new",
            "BUG: Bad rss-counter state",
        ] {
            assert_eq!(of(&[REFUSED, line]).complaints, [line], "{line}");
        }
        // The function that it is about decides.
        let other = "free_swap: 12 callbacks suppressed";
        assert_eq!(of(&[other]).complaints, [other]);
    }

    #[test]
    fn the_stack_of_a_notice_is_none_of_a_complaint() {
        let notice = [
            "GUP no longer grows the stack in tlbdiff-agent (37): 1000-2000 (fff)",
            "CPU: 1 UID: 0 PID: 37 Comm: tlbdiff-agent Tainted: G           O       6.12.117 #1",
            "Hardware name: riscv-virtio,qemu (DT)",
            "Call Trace:",
            "[<ffffffff80006088>] dump_backtrace+0x1c/0x24",
        ];
        assert_eq!(of(&notice), Meaning::default());
        let unknown = "get_swap_device: Bad swap file entry 2000000000000001";
        let both = of(&[&notice[..], &[unknown], &notice[1..]].concat());
        assert_eq!(both.complaints, [&[unknown][..], &notice[1..]].concat());
    }

    #[test]
    fn what_a_splat_says_is_kept_whole() {
        let splat = [
            "------------[ cut here ]------------",
            SPLAT,
            "Modules linked in:",
        ];
        assert_eq!(of(&splat).complaints, splat);
    }

    #[test]
    fn the_end_of_memory_is_told_apart_and_hides_no_complaint() {
        let dump = [
            "CPU: 1 UID: 0 PID: 37 Comm: tlbdiff-agent",
            "Call Trace:",
            "Mem-Info:",
        ];
        let log = [&[OOM][..], &dump].concat();
        let whole = of(&log);
        assert_eq!(whole.memory.as_deref(), Some(OOM));
        assert_eq!(whole.complaints, Vec::<String>::new());
        let both = of(&[&log[..], &[SPLAT, "Modules linked in:"]].concat());
        assert_eq!(both.complaints, [SPLAT, "Modules linked in:"]);
        assert_eq!(both.memory.as_deref(), Some(OOM));
    }

    #[test]
    fn what_a_step_asks_for_is_no_sign_and_the_machines_memory_still_is_one() {
        let log = |lines: &[&str]| -> Vec<String> { lines.iter().map(|it| (*it).into()).collect() };
        let limits = Asked {
            limits: true,
            offline: false,
        };
        let cgroup = "Memory cgroup out of memory: Killed process 40 (exe)";
        let asked_for = log(&[OOM, "Mem-Info:", cgroup]);
        assert_eq!(meaning(&asked_for, limits), Meaning::default());
        assert!(of(&[OOM, cgroup]).memory.is_some());
        let machine = "Out of memory: Killed process 40 (exe)";
        let both = meaning(&log(&[OOM, machine]), limits);
        assert_eq!(both.memory.as_deref(), Some(machine));
        let splat = meaning(&log(&[OOM, SPLAT]), limits);
        assert_eq!(splat.complaints, [SPLAT]);
    }

    #[test]
    fn a_page_that_stays_is_a_complaint_where_no_memory_goes() {
        let told = [
            "migrating pfn 9a1b3 failed ret:1",
            "page: refcount:3 mapcount:0 mapping:0 index:0x5 pfn:0x9a1b3",
            "raw: 0 0",
        ];
        assert_eq!(of(&told).complaints, told);
        let offline = Asked {
            limits: false,
            offline: true,
        };
        let told: Vec<String> = told.iter().map(|line| (*line).to_owned()).collect();
        assert_eq!(meaning(&told, offline), Meaning::default());
    }

    #[test]
    fn each_kind_names_the_function_that_prints_it() {
        let told = [
            NOTICES,
            NOTICES_WITH_STACK,
            MEMORY,
            MEMORY_OF_A_CGROUP,
            STAYS,
        ];
        for known in told.concat() {
            assert!(known.1.contains("()"), "{}", known.1);
            assert!(known.1.contains(".c"), "{}", known.1);
        }
    }
}
