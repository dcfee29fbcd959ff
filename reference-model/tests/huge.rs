// SPDX-License-Identifier: GPL-2.0-only
//! Huge pages as histories; `common` explains how to read them.

mod common;

use common::*;
use operations::Storage;
use reference_model::{
    Actor, ActorKind, Allowed, Machine, MemoryFile, Op, Profile, Program, Step, Thp, predict,
};

const COLLAPSE: i32 = 25;
const DONTDUMP: i32 = 16;

fn collapse() -> Op {
    advise(0, 512, COLLAPSE)
}

/// The history of a subject that has made a huge page of pages 0 to 511.
fn check_huge(profile: &Profile, history: &[(Op, &str)]) {
    let before = [(map(0, 1024), ""), (write(0, 512), ""), (collapse(), "mm")];
    let all: Vec<_> = before.iter().chain(history).collect();
    let program = Program::of_subject(vec![], all.iter().map(|(op, _)| op.clone()));
    let lines: Vec<&str> = all.iter().map(|(_, line)| *line).collect();
    check_program(profile, &Machine::default(), &program, &lines);
}

fn check_both(history: &[(Op, &str)]) {
    for profile in [&Profile::STABLE, &Profile::NEXT] {
        check_huge(profile, history);
    }
}

/// `zap_huge_pmd()`: one entry of 2 MiB. The deposited page table is freed by itself, so
/// that only what is left of the page tables brings the whole mm.
#[test]
fn whole() {
    check_both(&[
        (advise(0, 512, DONTNEED), "range 0-512"),
        (advise(0, 512, DONTNEED), ""),
    ]);
    check_both(&[(unmap(0, 1024), "range 0-512 mm")]);
}

/// `__split_huge_pmd()` notifies of all of the huge page before its part is dealt with.
#[test]
fn in_part() {
    check_both(&[
        (advise(100, 10, DONTNEED), "pmd 0-512 range 100-110"),
        (advise(200, 10, DONTNEED), "range 200-210"),
    ]);
    check_both(&[(unmap(100, 10), "pmd 0-512 range 100-110")]);
    check_both(&[(advise(100, 10, DONTDUMP), "pmd 0-512")]);
    check_both(&[(protect(0, 100, READ), "pmd 0-512 range 0-100")]);
}

/// `change_huge_pmd()`: the PMD is invalidated, and flushed once more by the gather.
#[test]
fn protection() {
    check_both(&[
        (protect(0, 512, READ), "pmd 0-512 range 0-512"),
        (protect(0, 512, READ | WRITE), "pmd 0-512 range 0-512"),
        (write(7, 1), ""),
    ]);
}

#[test]
fn aging() {
    check_huge(
        &Profile::STABLE,
        &[
            (advise(0, 512, COLD), "range 0-512"),
            (advise(0, 512, COLD), ""),
        ],
    );
    let invalidated = "pmd 0-512 range 0-512";
    check_huge(&Profile::NEXT, &[(advise(0, 512, COLD), invalidated)]);
}

/// MADV_COLD of a part makes small pages of a huge one. Where PTEs map it, migration
/// entries take their place and each is notified; the entries forget what was young.
#[test]
fn made_small() {
    // What was accessed stays so, through migration entries.
    check_both(&[(advise(0, 100, COLD), "pmd 0-512 range 0-100")]);
    for (profile, pending) in [(&Profile::STABLE, "pending"), (&Profile::NEXT, "mm")] {
        let made_small = format!("+0..512 flush {pending} range 0-10 range 10-15 range 15-100");
        let history = [
            (advise(10, 5, DONTDUMP), "pmd 0-512"),
            (advise(0, 100, COLD), &made_small),
            (write(0, 1), ""),
            (advise(0, 100, COLD), "range 0-1"),
        ];
        check_huge(profile, &history);
    }
}

/// Each page of a huge page goes to swap by itself; a lazyfree one is discarded by
/// its PMD, or in one range.
#[test]
fn reclaimed() {
    let all = "pmd 0-512 +0..512 flush";
    check_both(&[(advise(0, 512, PAGEOUT), all)]);
    check_huge(
        &Profile::STABLE,
        &[
            (advise(0, 512, FREE), "pmd 0-512 range 0-512"),
            (advise(0, 512, PAGEOUT), all),
        ],
    );
    check_huge(
        &Profile::NEXT,
        &[
            (advise(0, 512, FREE), "pmd 0-512 range 0-512"),
            (advise(0, 512, PAGEOUT), "pmd 0-512"),
        ],
    );
}

/// `hpage_collapse_scan_pmd()`: what can be collapsed, and what not.
#[test]
fn collapsing() {
    for (profile, read_only) in [(&Profile::STABLE, "!22"), (&Profile::NEXT, "mm")] {
        let history = [
            (map(0, 1024), ""),
            (collapse(), "!22"),
            (write(0, 1), ""),
            (collapse(), "mm"),
            (collapse(), ""),
            (write(512, 1), ""),
            (protect(512, 512, READ), "range 512-513"),
            (advise(512, 512, COLLAPSE), read_only),
        ];
        let program = Program::of_subject(vec![], history.iter().map(|(op, _)| op.clone()));
        let lines: Vec<&str> = history.iter().map(|(_, line)| *line).collect();
        check_program(profile, &Machine::default(), &program, &lines);
    }
}

/// `do_huge_pmd_wp_page()`: who is not alone with a huge page splits its PMD and copies
/// one page; who is alone again takes it back, which notifies of its first page only.
#[test]
fn written_to_after_a_fork() {
    let actor = |kind| Actor { kind, hart: 1 };
    let actors = vec![actor(ActorKind::Process { mm: 0 }), actor(ActorKind::Fork)];
    let history = [
        (0, map(0, 512), ""),
        (0, write(0, 512), ""),
        (0, collapse(), "0:mm"),
        (0, Op::Fork { child: 1, mm: 1 }, "0:mm"),
        (1, write(3, 1), "1:pmd 0-512 1:page 3"),
        (1, Op::Exit, "1:release"),
        (0, write(3, 1), "0:page 0"),
        (0, write(4, 1), ""),
    ];
    let program = Program {
        files: vec![],
        actors,
        steps: history
            .iter()
            .map(|(by, op, _)| Step {
                by: *by,
                op: op.clone(),
            })
            .collect(),
        thp: Default::default(),
        max_map_count: None,
        groups: Vec::new(),
    };
    let lines: Vec<&str> = history.iter().map(|(_, _, line)| *line).collect();
    check_program(&Profile::STABLE, &Machine::default(), &program, &lines);
}

/// `do_huge_pmd_anonymous_page()`: where an aligned 2 MiB has room, and no page table is there;
/// `do_huge_pmd_wp_page()` of the huge zero page.
#[test]
fn made_by_faults() {
    let always = Thp {
        enabled: Allowed::Always,
        sizes: vec![(9, Allowed::Inherit)],
        ..Thp::default()
    };
    let check = |profile: &Profile, thp: &Thp, history: &[(Op, &str)]| {
        let mut program = Program::of_subject(vec![], history.iter().map(|(op, _)| op.clone()));
        program.thp = thp.clone();
        let lines: Vec<&str> = history.iter().map(|(_, line)| *line).collect();
        check_program(profile, &Machine::default(), &program, &lines);
    };
    for profile in [&Profile::STABLE, &Profile::NEXT] {
        let whole = [
            (map(0, 1024), ""),
            (write(7, 1), ""),
            (advise(0, 512, DONTNEED), "range 0-512"),
        ];
        check(profile, &always, &whole);
        let beside = [
            (map(0, 1000), ""),
            (write(600, 1), ""),
            (advise(0, 1000, DONTNEED), "range 600-601"),
        ];
        check(profile, &always, &beside);
    }
    let zero = |copy: &'static str| [(map(0, 1024), ""), (read(7, 1), ""), (write(8, 1), copy)];
    check(&Profile::STABLE, &always, &zero("pmd 0-512 page 8"));
    check(&Profile::NEXT, &always, &zero("pmd 0-512"));
    let without = Thp {
        use_zero_page: false,
        ..always
    };
    check(&Profile::STABLE, &without, &zero(""));
}

/// What MADV_COLLAPSE comes to is decided by what lies there: where it would make a huge
/// page of a file on a disk, nothing is predicted from there on; of memory it is, and so is
/// what it refuses.
#[test]
fn collapse_of_a_file_on_a_disk_is_not_predicted() {
    let shared = |offset: u64| Op::Mmap {
        at: 0,
        pages: 512,
        prot: READ | WRITE,
        flags: SHARED | FIXED,
        file: Some(0),
        offset,
    };
    let stops_on = |profile: &Profile, on: Storage, ops: Vec<Op>| {
        let file = MemoryFile {
            pages: 1024,
            on,
            ..MemoryFile::default()
        };
        let program = Program::of_subject(vec![file], ops);
        let prediction = predict(profile, &Machine::default(), &program);
        let step = prediction.unpredicted.map(|unpredicted| unpredicted.step);
        assert_eq!(prediction.steps.len(), step.unwrap_or(program.steps.len()));
        step
    };
    let stops = |ops: Vec<Op>| stops_on(&Profile::STABLE, Storage::Memory, ops);
    let file = || vec![shared(0), collapse(), unmap(0, 1)];
    assert_eq!(stops_on(&Profile::NEXT, Storage::Ext4, file()), Some(1));
    // 6.12 refuses it.
    assert_eq!(stops_on(&Profile::STABLE, Storage::Ext4, file()), None);
    assert_eq!(stops(file()), None);
    assert_eq!(stops(vec![share(0, 512), collapse()]), None);
    // Askew, too small, or gone before: refused, or of anonymous memory.
    assert_eq!(stops(vec![shared(1), collapse()]), None);
    assert_eq!(stops(vec![share(0, 511), advise(0, 511, COLLAPSE)]), None);
    let gone = vec![shared(0), unmap(0, 512), map(0, 512), write(0, 512)];
    assert_eq!(stops([gone, vec![collapse()]].concat()), None);
    // Two areas that merge are one.
    let half = |nth: u64| Op::Mmap {
        at: nth * 256,
        pages: 256,
        prot: READ | WRITE,
        flags: SHARED | FIXED,
        file: Some(0),
        offset: nth * 256,
    };
    let halves = vec![half(0), half(1), collapse()];
    assert_eq!(stops_on(&Profile::NEXT, Storage::Xfs, halves), Some(2));
}

/// Almost all slots are taken, those of each `every`th of `pages` are given back, and a huge
/// page has one page that was written to: how it goes out.
fn out_to_full_swap(profile: &Profile, every: u64, pages: u64) -> String {
    const PAGES: u64 = 65000;
    const HUGE: u64 = 129 * 512;
    let given_back = Op::Touch {
        at: 0,
        pages,
        every,
        write: true,
        value: None,
    };
    let program = Program::of_subject(
        vec![],
        [
            map(0, PAGES),
            write(0, PAGES),
            advise(0, PAGES, PAGEOUT),
            given_back,
            map(HUGE, 512),
            write(HUGE, 1),
            advise(HUGE, 512, COLLAPSE),
            advise(HUGE, 512, PAGEOUT),
        ],
    );
    let prediction = predict(profile, &Machine::default(), &program);
    let step = prediction.steps.last().expect("steps");
    words(step, false)
}

/// Where no cluster is free the huge page is split before it is unmapped, which shows in
/// 6.12: its first page alone goes out then. Both kernels were seen to do the same.
#[test]
fn out_to_fragmented_swap() {
    let together = "pmd 66048-66560 +66048..66560 flush";
    let first = "pmd 66048-66560 +66048 flush";
    for profile in [&Profile::STABLE, &Profile::NEXT] {
        assert_eq!(out_to_full_swap(profile, 1, 1024), together);
    }
    assert_eq!(out_to_full_swap(&Profile::STABLE, 64, 65000), first);
    assert_eq!(out_to_full_swap(&Profile::NEXT, 64, 65000), together);
}
