// SPDX-License-Identifier: GPL-2.0-only
//! Reclaim as histories: steps on the left, on the right what each of them
//! calls in `tlbflush.c`, pages counted from the arena's start.
//!
//! `+4` is `arch_tlbbatch_add_pending` of page 4, `flush` `arch_tlbbatch_flush`,
//! `pending` `arch_flush_tlb_batched_pending`, `range 2-6` `flush_tlb_mm_range`
//! of `[2,6)`, `mm` `flush_tlb_mm`, `page 3` `flush_tlb_page`, `!11` an errno.
//! `+4..7 each` stands for `+4 flush +5 flush +6 flush`, `+4..7` for `+4 +5 +6`.

use reference_model::{Entry, Machine, MemoryFile, Op, Profile, Program, StepResult, predict};

const ARENA: u64 = 64 << 30;
const PAGE: u64 = 4096;

const READ: i32 = 1;
const WRITE: i32 = 2;
const PRIVATE: i32 = 0x02;
const SHARED: i32 = 0x01;
const FIXED: i32 = 0x10;
const ANONYMOUS: i32 = 0x20;

const SEQUENTIAL: i32 = 2;
const FREE: i32 = 8;
const WILLNEED: i32 = 3;
const DONTNEED: i32 = 4;
const COLD: i32 = 20;
const PAGEOUT: i32 = 21;

fn map_with(at: u64, pages: u64, flags: i32, file: Option<usize>) -> Op {
    let (addr, len) = (ARENA + at * PAGE, pages * PAGE);
    let anonymous = if file.is_none() { ANONYMOUS } else { 0 };
    let flags = flags | FIXED | anonymous;
    let prot = READ | WRITE;
    Op::Mmap {
        addr,
        len,
        prot,
        flags,
        file,
        offset: 0,
    }
}

fn map(at: u64, pages: u64) -> Op {
    map_with(at, pages, PRIVATE, None)
}

fn share(at: u64, pages: u64) -> Op {
    map_with(at, pages, SHARED, None)
}

fn touch(at: u64, pages: u64, write: bool) -> Op {
    let (addr, len) = (ARENA + at * PAGE, pages * PAGE);
    Op::Touch {
        addr,
        len,
        every: 1,
        write,
    }
}

fn write(at: u64, pages: u64) -> Op {
    touch(at, pages, true)
}

fn read(at: u64, pages: u64) -> Op {
    touch(at, pages, false)
}

fn advise(at: u64, pages: u64, advice: i32) -> Op {
    let (addr, len) = (ARENA + at * PAGE, pages * PAGE);
    Op::Madvise { addr, len, advice }
}

fn protect(at: u64, pages: u64, prot: i32) -> Op {
    let (addr, len) = (ARENA + at * PAGE, pages * PAGE);
    Op::Mprotect { addr, len, prot }
}

fn unmap(at: u64, pages: u64) -> Op {
    let (addr, len) = (ARENA + at * PAGE, pages * PAGE);
    Op::Munmap { addr, len }
}

fn reclaim(pages: u64) -> Op {
    Op::Reclaim {
        bytes: pages * PAGE,
    }
}

/// One call, in pages.
fn name(entry: Entry) -> String {
    let page = |addr: u64| addr.wrapping_sub(ARENA) / PAGE;
    match entry {
        Entry::ArchTlbbatchAddPending { uaddr } => format!("+{}", page(uaddr)),
        Entry::ArchTlbbatchFlush => "flush".into(),
        Entry::ArchFlushTlbBatchedPending => "pending".into(),
        Entry::FlushTlbMm => "mm".into(),
        Entry::FlushTlbMmRange { start, end, .. } => format!("range {}-{}", page(start), page(end)),
        Entry::FlushTlbPage { addr } => format!("page {}", page(addr)),
        Entry::FlushTlbRange { start, end, .. } => format!("vma {}-{}", page(start), page(end)),
        other => format!("{other:?}"),
    }
}

/// The page of a word `+4`.
fn pending_page(word: Option<&String>) -> Option<u64> {
    word?.strip_prefix('+')?.parse().ok()
}

/// How many pages from `at` on follow each other, `stride` words apart.
fn run(words: &[String], at: usize, first: u64, stride: usize) -> usize {
    let follows = |n: &usize| {
        let at = at + n * stride;
        pending_page(words.get(at)) == Some(first + *n as u64)
            && (stride == 1 || words.get(at + 1).is_some_and(|word| word == "flush"))
    };
    (0..).take_while(follows).count()
}

/// The words of a step, with runs of pages drawn together.
fn text(words: &[String]) -> String {
    let mut text = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let Some(first) = pending_page(words.get(at)) else {
            text.push(words[at].clone());
            at += 1;
            continue;
        };
        let (together, each) = (run(words, at, first, 1), run(words, at, first, 2));
        let (pages, stride, suffix) = if together == 1 && each > 1 {
            (each, 2, " each")
        } else {
            (together, 1, "")
        };
        let last = first + pages as u64;
        text.push(match pages {
            1 => words[at].clone(),
            _ => format!("+{first}..{last}{suffix}"),
        });
        at += pages * stride;
    }
    text.join(" ")
}

/// Plays the steps and compares each with its line.
fn check_with(machine: Machine, files: Vec<MemoryFile>, history: &[(Op, &str)]) {
    let ops = history.iter().map(|(op, _)| op.clone());
    let prediction = predict(&Profile::STABLE, &machine, &Program::of_subject(files, ops));
    for (nr, (step, (op, expect))) in prediction.steps.iter().zip(history).enumerate() {
        let mut calls: Vec<String> = step.calls.iter().map(|call| name(call.entry)).collect();
        if let StepResult::Errno(errno) = step.result {
            calls.push(format!("!{errno}"));
        }
        assert_eq!(text(&calls), *expect, "step {nr}: {op:?}");
    }
}

fn check(history: &[(Op, &str)]) {
    check_with(Machine::default(), Vec::new(), history);
}

fn without_swap() -> Machine {
    Machine {
        swap: false,
        ..Machine::default()
    }
}

fn file(pages: u64, filled: bool) -> MemoryFile {
    MemoryFile {
        pages,
        filled,
        ..MemoryFile::default()
    }
}

/// Each page is dirty in its PTE, so its flush cannot wait for the next one's.
#[test]
fn pageout_flushes_each_dirty_page_before_it_is_written() {
    check(&[
        (map(0, 16), ""),
        (write(0, 16), ""),
        (advise(10, 3, PAGEOUT), "+10..13 each"),
        (advise(10, 3, PAGEOUT), "pending"),
        (advise(10, 3, PAGEOUT), ""),
    ]);
}

/// Read back, pages are clean in their PTEs: they are written again, but no
/// store can race with that, so one flush behind 31 pages is enough.
#[test]
fn pageout_of_pages_that_were_only_read_flushes_once_for_31() {
    check(&[
        (map(0, 40), ""),
        (write(0, 40), ""),
        (advise(0, 40, PAGEOUT), "+0..40 each"),
        (read(0, 40), ""),
        (advise(0, 40, PAGEOUT), "pending +0..31 flush +31..40 flush"),
    ]);
}

/// One dirty page among clean ones flushes those before it too.
#[test]
fn pageout_flushes_what_is_pending_with_the_first_dirty_page() {
    check(&[
        (map(0, 8), ""),
        (write(0, 8), ""),
        (advise(0, 8, PAGEOUT), "+0..8 each"),
        (read(0, 8), ""),
        (write(5, 1), ""),
        (advise(0, 8, PAGEOUT), "pending +0..6 flush +6..8 flush"),
    ]);
}

/// Read ahead into the swap cache and mapped from there, pages need no second
/// write: the slot still has their content.
#[test]
fn pageout_from_the_swap_cache() {
    check(&[
        (map(0, 4), ""),
        (write(0, 4), ""),
        (advise(0, 4, PAGEOUT), "+0..4 each"),
        (advise(0, 4, WILLNEED), ""),
        (read(0, 4), ""),
        (advise(0, 4, PAGEOUT), "pending +0..4 flush"),
        (read(0, 4), ""),
        (unmap(0, 4), "pending range 0-4 mm"),
    ]);
}

/// The zero page is nobody's to page out, and what is not there neither.
#[test]
fn pageout_of_untouched_and_zero_pages() {
    check(&[
        (map(0, 8), ""),
        (advise(0, 8, PAGEOUT), ""),
        (read(0, 8), ""),
        (advise(0, 8, PAGEOUT), ""),
        (unmap(0, 8), "range 0-8 mm"),
    ]);
}

/// Each PTE table is a batch of its own.
#[test]
fn pageout_reclaims_table_by_table() {
    check(&[
        (map(510, 4), ""),
        (write(510, 4), ""),
        (
            advise(510, 4, PAGEOUT),
            "+510..512 each pending +512..514 each",
        ),
        (read(510, 4), ""),
        (
            advise(510, 4, PAGEOUT),
            "pending +510..512 flush pending +512..514 flush",
        ),
    ]);
}

/// Without swap there is no place for private pages, so they are not even
/// unmapped. Of shared ones that is found out later, by the file's writepage.
#[test]
fn pageout_without_swap() {
    check_with(
        without_swap(),
        Vec::new(),
        &[
            (map(0, 4), ""),
            (share(8, 4), ""),
            (write(0, 4), ""),
            (write(8, 4), ""),
            (advise(0, 4, PAGEOUT), ""),
            (advise(8, 4, PAGEOUT), "+8..12 each"),
            (read(8, 4), ""),
            (advise(8, 4, PAGEOUT), "pending +8..12 flush"),
        ],
    );
}

/// A shared page that was never written is as good as a hole.
#[test]
fn pageout_discards_shared_pages_that_were_never_written() {
    check_with(
        without_swap(),
        Vec::new(),
        &[
            (share(0, 4), ""),
            (read(0, 4), ""),
            (advise(0, 4, PAGEOUT), "+0..4 flush"),
            (read(0, 4), ""),
        ],
    );
}

/// MADV_PAGEOUT leaves alone what is mapped twice; reclaim does not, and finds
/// the mappings by the vma's first page in the file, then by age. (Used through
/// two vmas, the pages would be activated; one that is read in sequence does not count.)
#[test]
fn shared_pages_mapped_twice() {
    check_with(
        Machine::default(),
        vec![file(4, false)],
        &[
            (map_with(64, 4, SHARED, Some(0)), ""),
            (map_with(0, 4, SHARED, Some(0)), ""),
            (advise(64, 4, SEQUENTIAL), ""),
            (write(64, 4), ""),
            (write(0, 4), ""),
            (advise(0, 4, PAGEOUT), ""),
            (
                reclaim(4),
                "+64 +0 flush +65 +1 flush +66 +2 flush +67 +3 flush",
            ),
        ],
    );
}

/// No TLB can hold a page without rights, so reclaim has nothing to tell of
/// it; but within MADV_PAGEOUT's own mmu_gather the kernel cannot be sure.
#[test]
fn pages_without_rights() {
    check(&[
        (map(0, 4), ""),
        (write(0, 4), ""),
        (protect(0, 4, 0), "range 0-4"),
        (reclaim(4), ""),
        (map(8, 4), ""),
        (write(8, 4), ""),
        (protect(8, 4, 0), "range 8-12"),
        (advise(8, 4, PAGEOUT), "+8..12 each"),
    ]);
}

#[test]
fn locked_pages_are_refused() {
    let locked = 0x2000;
    check(&[
        (map_with(0, 4, PRIVATE | locked, None), ""),
        (advise(0, 4, PAGEOUT), "!22"),
        (advise(0, 4, COLD), "!22"),
        (reclaim(4), "!11"),
    ]);
}

/// MADV_COLD tells of young pages only, and first makes up for reclaim's flush.
#[test]
fn cold_pages() {
    check(&[
        (map(0, 16), ""),
        (write(0, 16), ""),
        (advise(10, 3, PAGEOUT), "+10..13 each"),
        (advise(0, 16, COLD), "pending range 0-16"),
        (advise(0, 16, COLD), ""),
        (read(3, 1), ""),
        (advise(0, 16, COLD), "range 3-4"),
    ]);
}

/// Lazily freed pages go without swap and without a write between them; those
/// that were written again are told, but stay, and belong to swap again.
#[test]
fn lazyfree_pages() {
    check(&[
        (map(0, 8), ""),
        (write(0, 8), ""),
        (advise(0, 4, FREE), "range 0-4"),
        (advise(0, 4, FREE), ""),
        (write(2, 1), ""),
        (advise(0, 4, PAGEOUT), "+0..4 flush"),
        (advise(0, 8, DONTNEED), "pending range 2-8"),
    ]);
}

/// Swapped-out pages need not come back to be freed.
#[test]
fn lazyfree_of_swapped_pages() {
    check(&[
        (map(0, 8), ""),
        (write(0, 8), ""),
        (advise(0, 4, PAGEOUT), "+0..4 each"),
        (advise(0, 8, FREE), "pending range 4-8"),
        (unmap(0, 8), "range 4-8 mm"),
    ]);
}

/// Fewer than 31 pages wait in a per-CPU batch, where reclaim finds none of
/// them until its last attempt. Then the first pages that it looks at are young
/// and go once around the list, and the pass that frees anything frees all.
#[test]
fn reclaim_takes_more_than_it_was_asked_for() {
    check(&[
        (map(0, 16), ""),
        (write(0, 16), ""),
        (reclaim(8), "+0..16 each"),
        (reclaim(1), "!11"),
    ]);
}

#[test]
fn reclaim_of_nothing() {
    check(&[
        (map(0, 16), ""),
        (reclaim(0), ""),
        (reclaim(1), "!11"),
        (read(0, 16), ""),
        (reclaim(1), "!11"),
    ]);
}

/// Lazily freed pages are on the file list, which is all that is looked at
/// where there is no swap.
#[test]
fn reclaim_without_swap() {
    check_with(
        without_swap(),
        Vec::new(),
        &[
            (map(0, 64), ""),
            (write(0, 64), ""),
            (advise(16, 8, FREE), "range 16-24"),
            (reclaim(8), "+16..18 each +18..21 flush +21..24 flush"),
            (reclaim(8), "!11"),
        ],
    );
}

/// A page that reclaim has seen once without its young bit, and that was used
/// again since, is kept; the pass that needs 32 pages looks at all the others.
#[test]
fn reclaim_spares_pages_in_use() {
    check(&[
        (map(0, 64), ""),
        (write(0, 64), ""),
        (reclaim(8), "+0..11 each"),
        (read(20, 4), ""),
        (reclaim(32), "+11..20 each +24..64 each"),
    ]);
}

/// Only the process's own copies are charged to its cgroup.
#[test]
fn reclaim_of_private_copies() {
    check_with(
        Machine::default(),
        vec![file(8, true)],
        &[
            (map_with(0, 8, PRIVATE, Some(0)), ""),
            (read(0, 8), ""),
            (write(2, 2), "page 2 page 3"),
            (reclaim(8), "+2..4 each !11"),
        ],
    );
}
