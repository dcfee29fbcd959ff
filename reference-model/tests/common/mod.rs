// SPDX-License-Identifier: GPL-2.0-only
//! Histories: steps on the left, on the right what each of them calls in
//! `tlbflush.c`, pages counted from the arena's start.
//!
//! `+4` is `arch_tlbbatch_add_pending` of page 4, `flush` `arch_tlbbatch_flush`,
//! `pending` `arch_flush_tlb_batched_pending`, `range 2-6` `flush_tlb_mm_range`
//! of `[2,6)`, `mm` `flush_tlb_mm`, `page 3` `flush_tlb_page`, `!11` an errno,
//! `!11@3` a signal at page 3, `pmd 0-512` `flush_pmd_tlb_range` of `[0,512)`.
//! `+4..7 each` stands for `+4 flush +5 flush +6 flush`, `+4..7` for `+4 +5 +6`.
#![allow(dead_code, reason = "each test file uses its part")]

use reference_model::{
    Entry, Machine, MemoryFile, Op, Profile, Program, StepPrediction, StepResult, predict,
};

pub const ARENA: u64 = 64 << 30;
pub const PAGE: u64 = 4096;

pub const READ: i32 = 1;
pub const WRITE: i32 = 2;
pub const PRIVATE: i32 = 0x02;
pub const SHARED: i32 = 0x01;
pub const FIXED: i32 = 0x10;
pub const ANONYMOUS: i32 = 0x20;

pub const SEQUENTIAL: i32 = 2;
pub const FREE: i32 = 8;
pub const WILLNEED: i32 = 3;
pub const DONTNEED: i32 = 4;
pub const COLD: i32 = 20;
pub const PAGEOUT: i32 = 21;

pub fn map_with(at: u64, pages: u64, flags: i32, file: Option<usize>) -> Op {
    let anonymous = if file.is_none() { ANONYMOUS } else { 0 };
    let flags = flags | FIXED | anonymous;
    let prot = READ | WRITE;
    Op::Mmap {
        at,
        pages,
        prot,
        flags,
        file,
        offset: 0,
    }
}

pub fn map(at: u64, pages: u64) -> Op {
    map_with(at, pages, PRIVATE, None)
}

pub fn share(at: u64, pages: u64) -> Op {
    map_with(at, pages, SHARED, None)
}

pub fn touch(at: u64, pages: u64, write: bool) -> Op {
    Op::Touch {
        at,
        pages,
        every: 1,
        write,
        value: None,
    }
}

pub fn write(at: u64, pages: u64) -> Op {
    touch(at, pages, true)
}

pub fn read(at: u64, pages: u64) -> Op {
    touch(at, pages, false)
}

pub fn advise(at: u64, pages: u64, advice: i32) -> Op {
    Op::Madvise { at, pages, advice }
}

pub fn protect(at: u64, pages: u64, prot: i32) -> Op {
    Op::Mprotect { at, pages, prot }
}

pub fn unmap(at: u64, pages: u64) -> Op {
    Op::Munmap { at, pages }
}

pub fn reclaim(pages: u64) -> Op {
    Op::Reclaim { pages }
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
        Entry::ArchTlbbatchAddPendingRange { start, .. } => format!("+{}", page(start)),
        Entry::Release => "release".into(),
        Entry::FlushPmdTlbRange { start, end } => format!("pmd {}-{}", page(start), page(end)),
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

/// Plays the subject's steps and compares each with its line.
pub fn check_with(machine: Machine, files: Vec<MemoryFile>, history: &[(Op, &str)]) {
    let ops = history.iter().map(|(op, _)| op.clone());
    let program = Program::of_subject(files, ops);
    let lines: Vec<&str> = history.iter().map(|(_, line)| *line).collect();
    check_program(&Profile::STABLE, &machine, &program, &lines);
}

/// Plays a program and compares each step with its line. Where there are several
/// mms, each call but the batch's flush is headed by its mm's number.
/// What a step calls and what it comes to, each call with its mm where there are `several`.
pub fn words(step: &StepPrediction, several: bool) -> String {
    let mut calls: Vec<String> = step
        .calls
        .iter()
        .map(|call| match call.mm.filter(|_| several) {
            Some(mm) => format!("{mm}:{}", name(call.entry)),
            None => name(call.entry),
        })
        .collect();
    if let StepResult::Errno(errno) = step.result {
        calls.push(format!("!{errno}"));
    }
    if let StepResult::Signal { signal, page } = step.result {
        calls.push(format!("!{signal}@{page}"));
    }
    text(&calls)
}

pub fn check_program(profile: &Profile, machine: &Machine, program: &Program, lines: &[&str]) {
    let several = program.actors.len() > 1;
    let prediction = predict(profile, machine, program);
    assert_eq!(prediction.steps.len(), lines.len());
    for (nr, (step, expect)) in prediction.steps.iter().zip(lines).enumerate() {
        let step = words(step, several);
        assert_eq!(step, *expect, "step {nr}: {:?}", program.steps[nr]);
    }
}

pub fn check(history: &[(Op, &str)]) {
    check_with(Machine::default(), Vec::new(), history);
}

pub fn without_swap() -> Machine {
    Machine {
        swap: false,
        ..Machine::default()
    }
}

pub fn file(pages: u64, filled: bool) -> MemoryFile {
    MemoryFile {
        pages,
        filled,
        ..MemoryFile::default()
    }
}
