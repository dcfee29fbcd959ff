// SPDX-License-Identifier: GPL-2.0-only
//! The mm core as histories; `common` explains how to read them.

mod common;

use common::*;
use reference_model::{Actor, ActorKind, Extent, Machine, MemoryFile, Op, Profile, Program, Step};

const EXEC: i32 = 4;
const NONE: i32 = 0;
const LOCKED: i32 = 0x2000;
const NOREPLACE: i32 = 0x10_0000;

const EPERM: &str = "!1";
const ESRCH: &str = "!3";
const EBADF: &str = "!9";
const ENOMEM: &str = "!12";
const EACCES: &str = "!13";
const EFAULT: &str = "!14";
const EEXIST: &str = "!17";
const EINVAL: &str = "!22";

const REMOVE: i32 = 9;
const DONTFORK: i32 = 10;
const WIPEONFORK: i32 = 18;
const POPULATE_READ: i32 = 22;
const POPULATE_WRITE: i32 = 23;
const GUARD_INSTALL: i32 = 102;
const GUARD_REMOVE: i32 = 103;

/// Unmapping notifies of what was mapped; when the last page goes, its page table
/// goes too, and the whole mm is notified.
#[test]
fn a_hole_then_the_rest() {
    check(&[
        (map(0, 16), ""),
        (write(0, 16), ""),
        (unmap(15, 1), "range 15-16"),
        (unmap(4, 2), "range 4-6"),
        (unmap(0, 15), "range 0-4 range 6-15 mm"),
    ]);
}

#[test]
fn what_was_never_touched_is_nothing_to_tell_of() {
    check(&[(map(0, 16), ""), (unmap(0, 16), "")]);
}

/// From the first to the last page that was there, whatever lies between.
#[test]
fn sparse_pages_are_one_range() {
    check(&[
        (map(0, 512), ""),
        (write(3, 1), ""),
        (write(100, 1), ""),
        (unmap(0, 512), "range 3-101 mm"),
    ]);
}

#[test]
fn dontneed_and_free_have_nothing_to_do_twice() {
    check(&[
        (map(0, 16), ""),
        (write(0, 16), ""),
        (advise(2, 4, DONTNEED), "range 2-6"),
        (advise(2, 4, DONTNEED), ""),
        (advise(8, 2, FREE), "range 8-10"),
        (advise(8, 2, FREE), ""),
    ]);
}

/// Reclaim leaves a flush pending; the next that could be hurt by a stale entry pays.
#[test]
fn a_pending_batch_is_paid_by_whoever_comes_next() {
    check(&[
        (map(0, 16), ""),
        (write(0, 16), ""),
        (advise(10, 3, PAGEOUT), "+10..13 each"),
        (advise(0, 16, COLD), "pending range 0-16"),
        (advise(10, 1, PAGEOUT), ""),
        (protect(0, 16, READ), "range 0-16"),
    ]);
}

/// Rights given back are notified like rights taken.
#[test]
fn mprotect_tells_both_ways() {
    check(&[
        (map(0, 4), ""),
        (write(0, 4), ""),
        (protect(0, 4, READ), "range 0-4"),
        (protect(0, 4, READ), ""),
        (protect(0, 4, READ | WRITE), "range 0-4"),
        (protect(0, 4, NONE), "range 0-4"),
        (read(0, 1), "!11@0"),
        (protect(0, 4, READ | WRITE), "range 0-4"),
    ]);
}

/// A second mapping of the same place is an unmapping first. Between two parts of
/// what was one area, the new area joins them again.
#[test]
fn mapping_over_replaces() {
    check(&[
        (map(0, 8), ""),
        (write(0, 8), ""),
        (map(2, 2), "range 2-4"),
        (read(2, 1), ""),
        (map(0, 8), "range 0-8 mm"),
    ]);
}

/// A hole in a file is a hole in its mapping, but not in private copies.
#[test]
fn removing_spares_private_copies() {
    let files = vec![file(8, true)];
    check_with(
        Machine::default(),
        files,
        &[
            (map_with(0, 8, SHARED, Some(0)), ""),
            (map_with(16, 8, PRIVATE, Some(0)), ""),
            (write(0, 8), ""),
            (write(16, 2), ""),
            (read(18, 1), ""),
            (advise(0, 4, REMOVE), "range 0-4 range 18-20"),
            (advise(0, 4, REMOVE), ""),
        ],
    );
}

#[test]
fn mmap_refusals() {
    let sealed = MemoryFile {
        seals: 0x8,
        ..file(4, false)
    };
    let read_only = MemoryFile {
        read_only: true,
        ..file(4, false)
    };
    check_with(
        Machine::default(),
        vec![sealed, read_only],
        &[
            (map(0, 0), EINVAL),
            (map(0, 4), ""),
            (map_with(3, 4, PRIVATE | NOREPLACE, None), EEXIST),
            (map_with(8, 4, SHARED, Some(0)), EPERM),
            (map_with(8, 4, SHARED, Some(1)), EACCES),
            (map_with(8, 4, PRIVATE, Some(1)), ""),
            (map(0, 1 << 30), ENOMEM),
        ],
    );
}

#[test]
fn munmap_mprotect_and_madvise_refusals() {
    let files = vec![MemoryFile {
        read_only: true,
        ..file(4, false)
    }];
    check_with(
        Machine::default(),
        files,
        &[
            (unmap(0, 0), EINVAL),
            (unmap(0, 4), ""),
            (map(0, 4), ""),
            (protect(0, 8, READ), ENOMEM),
            (protect(0, 4, 0x40), EINVAL),
            (advise(0, 8, DONTNEED), ENOMEM),
            (advise(0, 4, 77), EINVAL),
            (advise(0, 4, REMOVE), EINVAL),
            (map_with(8, 4, SHARED, Some(0)).read_only(), ""),
            (protect(8, 4, READ | WRITE), EACCES),
            (advise(8, 4, REMOVE), EACCES),
            (advise(8, 4, FREE), EINVAL),
            (map_with(16, 4, PRIVATE | LOCKED, None), ""),
            (advise(16, 4, DONTNEED), EINVAL),
            (advise(16, 4, COLD), EINVAL),
            (protect(0, 4, NONE), ""),
            (advise(0, 4, POPULATE_READ), EINVAL),
            (protect(0, 4, READ | EXEC), ""),
            (advise(0, 4, POPULATE_WRITE), EINVAL),
            (advise(0, 4, POPULATE_READ), ""),
        ],
    );
}

/// Behind the end of its file a page is a SIGBUS, to populate it an EFAULT.
#[test]
fn behind_the_end_of_a_file() {
    check_with(
        Machine::default(),
        vec![file(2, true)],
        &[
            (map_with(0, 4, SHARED, Some(0)), ""),
            (read(0, 4), "!7@2"),
            (advise(0, 4, POPULATE_READ), EFAULT),
        ],
    );
}

trait ReadOnly {
    fn read_only(self) -> Self;
}

impl ReadOnly for Op {
    fn read_only(mut self) -> Op {
        if let Op::Mmap { prot, .. } = &mut self {
            *prot = READ;
        }
        self
    }
}

// ---- several processes and threads ----

const SUBJECT: usize = 0;
const OTHER: usize = 1;

/// The subject, and one more actor on a hart of its own.
fn with(kind: ActorKind) -> Vec<Actor> {
    vec![Actor::SUBJECT, Actor { kind, hart: 1 }]
}

/// Plays who does what; the other actor's mm, if it has one of its own, is 1.
fn check_actors(kind: ActorKind, files: Vec<MemoryFile>, history: &[(usize, Op, &str)]) {
    let steps = history.iter().map(|(by, op, _)| Step {
        by: *by,
        op: op.clone(),
    });
    let program = Program {
        files,
        actors: with(kind),
        steps: steps.collect(),
        thp: Default::default(),
        max_map_count: None,
        groups: Vec::new(),
    };
    let lines: Vec<&str> = history.iter().map(|(_, _, line)| *line).collect();
    check_program(&Profile::STABLE, &Machine::default(), &program, &lines);
}

fn fork() -> Op {
    Op::Fork {
        child: OTHER,
        mm: 1,
    }
}

/// `dup_mmap()` flushes the parent whole; then who writes first copies, and who
/// writes last has the page to itself (and only Svvptc flushes it).
#[test]
fn after_a_fork_the_first_writer_copies() {
    check_actors(
        ActorKind::Fork,
        vec![],
        &[
            (SUBJECT, map(0, 4), ""),
            (SUBJECT, write(0, 4), ""),
            (SUBJECT, fork(), "0:mm"),
            (OTHER, write(0, 2), "1:page 0 1:page 1"),
            (SUBJECT, write(0, 3), "0:page 0 0:page 1 0:page 2"),
            (OTHER, read(0, 4), ""),
            (OTHER, Op::Exit, "1:release"),
            (SUBJECT, write(3, 1), "0:page 3"),
            (SUBJECT, unmap(0, 4), "0:range 0-4 0:mm"),
        ],
    );
}

/// Even where nothing is shared or write-protected.
#[test]
fn a_fork_of_nothing_flushes_too() {
    check_actors(
        ActorKind::Fork,
        vec![],
        &[(SUBJECT, fork(), "0:mm"), (OTHER, Op::Exit, "1:release")],
    );
}

/// What is not copied, or wiped, the child has never seen.
#[test]
fn dontfork_and_wipeonfork() {
    check_actors(
        ActorKind::Fork,
        vec![],
        &[
            (SUBJECT, map(0, 4), ""),
            (SUBJECT, map(8, 4), ""),
            (SUBJECT, write(0, 12), "!11@4"),
            (SUBJECT, write(8, 4), ""),
            (SUBJECT, advise(0, 4, DONTFORK), ""),
            (SUBJECT, advise(8, 4, WIPEONFORK), ""),
            (SUBJECT, fork(), "0:mm"),
            (OTHER, read(0, 1), "!11@0"),
            (OTHER, write(8, 1), ""),
            (OTHER, unmap(8, 4), "1:range 8-9 1:mm"),
            (SUBJECT, write(8, 4), ""),
        ],
    );
}

/// `tlb_flush_batched` is copied with the rest of the mm.
#[test]
fn a_pending_batch_is_inherited() {
    check_actors(
        ActorKind::Fork,
        vec![],
        &[
            (SUBJECT, map(0, 4), ""),
            (SUBJECT, write(0, 4), ""),
            (SUBJECT, advise(0, 1, PAGEOUT), "0:+0 flush"),
            (SUBJECT, fork(), "0:mm"),
            (OTHER, advise(0, 4, DONTNEED), "1:pending 1:range 1-4"),
            (SUBJECT, advise(0, 4, DONTNEED), "0:pending 0:range 1-4"),
        ],
    );
}

/// A truncation reaches all mms that map the file, in the order of `i_mmap`.
#[test]
fn truncation_reaches_a_sleeper() {
    let truncate = |pages: u64| Op::Ftruncate { file: 0, pages };
    let shared = || map_with(0, 8, SHARED, Some(0));
    let read_only = MemoryFile {
        read_only: true,
        ..file(1, false)
    };
    let sealed = MemoryFile {
        seals: 0x2 | 0x4,
        ..file(1, false)
    };
    check_actors(
        ActorKind::Process { mm: 1 },
        vec![file(8, true), read_only, sealed],
        &[
            (SUBJECT, shared(), ""),
            (SUBJECT, write(0, 8), ""),
            (OTHER, shared(), ""),
            (OTHER, write(2, 4), ""),
            (OTHER, truncate(4), "0:range 4-8 1:range 4-6"),
            (OTHER, truncate(4), ""),
            (OTHER, truncate(8), ""),
            (SUBJECT, read(4, 1), ""),
            (SUBJECT, Op::Ftruncate { file: 1, pages: 0 }, EINVAL),
            (SUBJECT, Op::Ftruncate { file: 2, pages: 0 }, EPERM),
            (SUBJECT, Op::Ftruncate { file: 2, pages: 2 }, EPERM),
            (
                OTHER,
                Op::PunchHole {
                    file: 0,
                    offset: 0,
                    pages: 3,
                },
                "0:range 0-3 1:range 2-3",
            ),
            (
                OTHER,
                Op::PunchHole {
                    file: 0,
                    offset: 0,
                    pages: 0,
                },
                EINVAL,
            ),
            (
                OTHER,
                Op::PunchHole {
                    file: 1,
                    offset: 0,
                    pages: 1,
                },
                EBADF,
            ),
        ],
    );
}

#[test]
fn process_madvise_on_a_sleeping_and_on_a_dead_process() {
    let advise_other = |advice: i32| Op::ProcessMadvise {
        of: OTHER,
        ranges: vec![Extent { at: 0, pages: 2 }],
        advice,
    };
    check_actors(
        ActorKind::Process { mm: 1 },
        vec![],
        &[
            (OTHER, map(0, 4), ""),
            (OTHER, write(0, 4), ""),
            // Still in the batch of the other's hart, no page is on a list yet.
            (SUBJECT, advise_other(PAGEOUT), ""),
            (OTHER, advise(3, 1, COLD), "1:range 3-4"),
            (SUBJECT, advise_other(COLD), "1:range 0-2"),
            (SUBJECT, advise_other(PAGEOUT), "1:+0 flush 1:+1 flush"),
            (SUBJECT, advise_other(DONTNEED), EINVAL),
            (OTHER, Op::Exit, "1:release"),
            (SUBJECT, advise_other(COLD), ESRCH),
        ],
    );
}

/// One of two threads ends: the mm stays. The process ends: it goes.
#[test]
fn the_last_user_releases_the_mm() {
    check_actors(
        ActorKind::Thread { of: 0 },
        vec![],
        &[
            (SUBJECT, map(0, 4), ""),
            (OTHER, write(0, 4), ""),
            (OTHER, Op::Exit, ""),
            (SUBJECT, unmap(0, 2), "0:range 0-2"),
            (SUBJECT, Op::Exit, "0:release"),
        ],
    );
}

/// exec ends the old mm, and the new one has nothing of it.
#[test]
fn exec_begins_anew() {
    check_actors(
        ActorKind::Process { mm: 1 },
        vec![],
        &[
            (OTHER, map(0, 4), ""),
            (OTHER, write(0, 4), ""),
            (OTHER, Op::Exec { mm: 2 }, "1:release"),
            (OTHER, read(0, 1), "!11@0"),
            (OTHER, map(0, 4), ""),
            (OTHER, write(0, 4), ""),
            (OTHER, unmap(0, 4), "2:range 0-4 2:mm"),
        ],
    );
}

// ---- three levels of page tables ----

/// `free_pud_range()` of folded tables: an entry of the PGD that nobody uses any more is
/// told to have had some, even where nothing was ever mapped there.
#[test]
fn folded_tables_are_never_found_empty() {
    let gib = 1 << 18;
    let history = |everything: &'static str| {
        vec![
            (map(0, 16), ""),
            (unmap(0, 16), everything),
            (map(0, 8), ""),
            (map(16, 8), ""),
            // The other one is in the same GiB.
            (unmap(0, 8), ""),
            (map(gib, 8), ""),
            (unmap(gib, 8), everything),
            (unmap(0, 4 * gib), everything),
            (unmap(0, 4 * gib), ""),
        ]
    };
    for (page_table_levels, everything) in [(3, "mm"), (4, ""), (5, "")] {
        let machine = Machine {
            page_table_levels,
            ..Machine::default()
        };
        check_with(machine, Vec::new(), &history(everything));
    }
}

// ---- 7.2 ----

fn check_next(history: &[(Op, &str)]) {
    let program = Program::of_subject(vec![], history.iter().map(|(op, _)| op.clone()));
    let lines: Vec<&str> = history.iter().map(|(_, line)| *line).collect();
    check_program(&Profile::NEXT, &Machine::default(), &program, &lines);
}

/// A PTE table that MADV_DONTNEED covers whole is freed, even an empty one.
#[test]
fn next_dontneed_frees_page_tables() {
    check_next(&[
        (map(0, 1024), ""),
        (write(0, 1), ""),
        (advise(0, 511, DONTNEED), "range 0-1"),
        (advise(0, 512, DONTNEED), "mm"),
        (advise(0, 512, DONTNEED), ""),
        (write(513, 1), ""),
        (advise(0, 1024, DONTNEED), "mm"),
    ]);
}

#[test]
fn next_pending_batches_are_flushed_without_the_arch() {
    check_next(&[
        (map(0, 4), ""),
        (write(0, 4), ""),
        (advise(0, 2, PAGEOUT), "+0..2 each"),
        (advise(0, 4, DONTNEED), "mm range 2-4"),
    ]);
}

/// Guard pages: what is mapped goes, the markers outlast MADV_DONTNEED.
#[test]
fn next_guard_pages() {
    check_next(&[
        (map(0, 8), ""),
        (write(2, 2), ""),
        (advise(0, 4, GUARD_INSTALL), "range 2-4"),
        (read(0, 1), "!11@0"),
        (advise(0, 4, DONTNEED), ""),
        (advise(0, 1, POPULATE_READ), EFAULT),
        (read(3, 1), "!11@3"),
        (advise(0, 4, GUARD_REMOVE), ""),
        (read(3, 1), ""),
    ]);
    check(&[(map(0, 8), ""), (advise(0, 4, GUARD_INSTALL), EINVAL)]);
}

/// `unmap_mapping_pages()` sets no zap_flags: guard pages outlive a file that is cut or
/// punched below them, and in each process.
#[test]
fn next_guard_pages_outlive_truncation() {
    let file = || vec![file(4, true)];
    let truncate = |pages: u64| Op::Ftruncate { file: 0, pages };
    let punch = Op::PunchHole {
        file: 0,
        offset: 0,
        pages: 4,
    };
    let history = [
        (map_with(0, 4, SHARED, Some(0)), ""),
        (advise(1, 1, GUARD_INSTALL), ""),
        (punch, ""),
        (read(1, 1), "!11@1"),
        (truncate(0), ""),
        (read(1, 1), "!11@1"),
        (read(2, 1), "!7@2"),
    ];
    let program = Program::of_subject(file(), history.iter().map(|(op, _)| op.clone()));
    let lines: Vec<&str> = history.iter().map(|(_, line)| *line).collect();
    check_program(&Profile::NEXT, &Machine::default(), &program, &lines);
}
