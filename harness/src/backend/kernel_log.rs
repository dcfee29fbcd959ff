// SPDX-License-Identifier: GPL-2.0-only
//! What the kernel's own messages mean that came while a program was replayed: a
//! complaint of the kernel about itself, a notice, or a sign that memory ran out.
//!
//! A notice is here with the function that prints it, and may be printed by a kernel
//! that is well. A message that is not known is a complaint.

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

/// Sorts warnings and worse.
pub(super) fn meaning(log: &[String]) -> Meaning {
    let mut meaning = Meaning::default();
    let mut of_memory = false;
    for line in log {
        if COMPLAINTS.iter().any(|pattern| fits(pattern, line)) {
            of_memory = false;
        } else if MEMORY.iter().any(|known| fits(known.0, line)) {
            of_memory = true;
            meaning.memory.get_or_insert_with(|| line.clone());
        } else if NOTICES.iter().any(|known| fits(known.0, line)) {
            continue;
        }
        if !of_memory {
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
        meaning(&log)
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
    fn each_kind_names_the_function_that_prints_it() {
        for known in NOTICES.iter().chain(MEMORY) {
            assert!(known.1.contains("()"), "{}", known.1);
            assert!(known.1.contains(".c"), "{}", known.1);
        }
    }
}
