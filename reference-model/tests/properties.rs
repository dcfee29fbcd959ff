// SPDX-License-Identifier: GPL-2.0-only
//! What holds for every program, however odd: tried with thousands of random ones.

use proptest::prelude::*;
use reference_model::{
    Effect, Machine, MemoryFile, Op, PAGE_SIZE, Profile, Program, Range, StepPrediction, Storage,
    address, predict,
};

/// 32 pages below a boundary of 1 GiB (and so of 2 MiB): programs play around it.
const BASE: u64 = (1 << 18) - 32;
const PAGES: u64 = 64;
const MAP_SHARED: i32 = 0x1;
const MAP_PRIVATE: i32 = 0x2;
const MAP_FIXED: i32 = 0x10;
const MAP_ANONYMOUS: i32 = 0x20;
const DONTNEED: i32 = 4;
const REMOVE: i32 = 9;

/// A range of pages: the first, and how many.
fn area() -> impl Strategy<Value = (u64, u64)> {
    (0..PAGES, 0..PAGES / 2).prop_map(|(at, pages)| (BASE + at, pages.min(PAGES - at)))
}

fn mmap() -> impl Strategy<Value = Op> {
    let extra = prop_oneof![
        Just(0),
        Just(0x2000),
        Just(0x4000),
        Just(0x8000),
        Just(0x10_0000)
    ];
    let file = prop_oneof![Just(None), (0..4usize).prop_map(Some)];
    (area(), 0..8i32, any::<bool>(), extra, file, 0..8u64).prop_map(
        |((at, pages), prot, shared, extra, file, offset)| {
            let kind = if shared { MAP_SHARED } else { MAP_PRIVATE };
            let anonymous = if file.is_none() { MAP_ANONYMOUS } else { 0 };
            let flags = kind | MAP_FIXED | anonymous | extra;
            Op::Mmap {
                at,
                pages,
                prot,
                flags,
                file,
                offset,
            }
        },
    )
}

/// What is done with registered memory.
fn uffd() -> impl Strategy<Value = Op> {
    prop_oneof![
        area().prop_map(|(at, pages)| Op::UffdUnregister { at, pages }),
        (area(), 0..3u8).prop_map(|((at, pages), value)| Op::UffdCopy {
            at,
            pages,
            value: Some(value),
            hugetlb: None,
        }),
        area().prop_map(|(at, pages)| Op::UffdZeropage { at, pages }),
        area().prop_map(|(at, pages)| Op::UffdContinue { at, pages }),
        (area(), 0..PAGES, any::<bool>()).prop_map(|((at, pages), to, holes)| Op::UffdMove {
            at,
            pages,
            to: BASE + to,
            holes
        }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => mmap(),
        2 => area().prop_map(|(at, pages)| Op::Munmap { at, pages }),
        2 => (area(), 0..8i32).prop_map(|((at, pages), prot)| Op::Mprotect { at, pages, prot }),
        4 => (area(), 0..27i32).prop_map(|((at, pages), advice)| Op::Madvise { at, pages, advice }),
        4 => (area(), 1..4u64, any::<bool>())
            .prop_map(|((at, pages), every, write)| Op::Touch { at, pages, every, write, value: None }),
        1 => (0..64u64).prop_map(|pages| Op::Reclaim { pages }),
        1 => (area(), 0..8i32).prop_map(|((at, pages), flags)| Op::Msync { at, pages, flags }),
        1 => (0..4usize).prop_map(|file| Op::Fsync { file }),
        1 => (area(), prop_oneof![Just(1u64), Just(4), Just(5)])
            .prop_map(|((at, pages), mode)| Op::UffdRegister { at, pages, mode }),
        1 => uffd(),
    ]
}

fn program() -> impl Strategy<Value = Program> {
    prop::collection::vec(op(), 1..24).prop_map(|ops| {
        let files = vec![
            MemoryFile {
                pages: 24,
                filled: true,
                ..MemoryFile::default()
            },
            MemoryFile {
                pages: 40,
                ..MemoryFile::default()
            },
            MemoryFile {
                pages: 8,
                filled: true,
                read_only: true,
                seals: 0x10,
                ..MemoryFile::default()
            },
            MemoryFile {
                pages: 40,
                filled: true,
                on: Storage::Ext4,
                ..MemoryFile::default()
            },
        ];
        Program::of_subject(files, ops)
    })
}

fn machine() -> impl Strategy<Value = Machine> {
    any::<[bool; 5]>().prop_map(|[svadu, svvptc, swap, sbi_rfence, svnapot]| Machine {
        svadu,
        svvptc,
        swap,
        sbi_rfence,
        svnapot,
        ..Machine::default()
    })
}

fn told(step: &StepPrediction) -> Vec<Range> {
    let effects = step.calls.iter().flat_map(|call| &call.effects);
    effects
        .filter_map(|effect| match effect {
            Effect::Notify(_, range) => Some(*range),
            _ => None,
        })
        .collect()
}

/// Where a step may notify of; none where it may be anywhere.
fn reach(op: &Op) -> Option<Range> {
    match *op {
        // Reclaim takes what it finds. A hole punched in a file is a hole in
        // all of its mappings.
        Op::Reclaim { .. } | Op::Madvise { advice: REMOVE, .. } => None,
        _ => op.pages().first().map(|pages| Range {
            start: address(pages.start),
            end: address(pages.end),
        }),
    }
}

fn is_whole_mm(range: &Range) -> bool {
    *range
        == Range {
            start: 0,
            end: u64::MAX,
        }
}

fn covers(outer: &Range, inner: &Range) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// Whether the ranges, taken together, hold all of `inner`.
fn covered(inner: &Range, told: &[Range]) -> bool {
    (inner.start..inner.end)
        .step_by(PAGE_SIZE as usize)
        .all(|addr| {
            told.iter().any(|range| {
                covers(
                    range,
                    &Range {
                        start: addr,
                        end: addr + PAGE_SIZE,
                    },
                )
            })
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_loses_its_mapping_or_a_right_is_told(program in program(), machine in machine()) {
        let prediction = predict(&Profile::STABLE, &machine, &program);
        for (number, step) in prediction.steps.iter().enumerate() {
            let told = told(step);
            for (_, lost) in &step.lost {
                prop_assert!(covered(lost, &told), "step {number}: {lost:x?} not in {told:x?}");
            }
        }
    }

    #[test]
    fn nothing_is_told_that_the_step_could_not_affect(program in program(), machine in machine()) {
        let prediction = predict(&Profile::STABLE, &machine, &program);
        for (op, step) in program.steps.iter().zip(&prediction.steps) {
            let Some(reach) = reach(&op.op) else { continue };
            for range in told(step) {
                prop_assert!(
                    is_whole_mm(&range) || covers(&reach, &range),
                    "{op:x?} told {range:x?}"
                );
            }
        }
    }

    #[test]
    fn dropping_untouched_memory_tells_no_range((at, pages) in area(), shared in any::<bool>(), unmap in any::<bool>()) {
        let kind = if shared { MAP_SHARED } else { MAP_PRIVATE };
        let flags = kind | MAP_FIXED | MAP_ANONYMOUS;
        let drop = if unmap { Op::Munmap { at, pages } } else { Op::Madvise { at, pages, advice: DONTNEED } };
        let steps = vec![Op::Mmap { at, pages, prot: 3, flags, file: None, offset: 0 }, drop];
        let prediction = predict(&Profile::STABLE, &Machine::default(), &Program::of_subject(vec![], steps));
        prop_assert!(prediction.steps.iter().all(|step| step.calls.is_empty()));
    }

    #[test]
    fn before_the_patch_the_same_calls_tell_nobody(program in program(), machine in machine()) {
        let after = predict(&Profile::STABLE, &machine, &program);
        let before = predict(&Profile::PREPATCH, &machine, &program);
        for (after, before) in after.steps.iter().zip(&before.steps) {
            prop_assert_eq!(after.result, before.result);
            prop_assert_eq!(&after.lost, &before.lost);
            prop_assert!(told(before).is_empty());
            let entries = |step: &StepPrediction| step.calls.iter().map(|call| call.entry).collect::<Vec<_>>();
            prop_assert_eq!(entries(after), entries(before));
        }
    }

    #[test]
    fn any_numbers_have_an_answer(
        (at, pages, offset) in any::<(u64, u64, u64)>(),
        (prot, flags, advice) in any::<(i32, i32, i32)>(),
        file in prop::option::of(0..4usize),
        small in 0..1u64 << 12,
    ) {
        let steps = vec![
            Op::Mmap { at, pages, prot, flags, file, offset },
            Op::Mmap { at: BASE, pages: 1, prot: 3, flags: 0x32, file: None, offset: 0 },
            Op::Madvise { at, pages, advice },
            Op::Madvise { at: BASE, pages: small, advice },
            Op::Mprotect { at, pages, prot },
            Op::Munmap { at, pages },
            Op::Touch { at, pages: small, every: pages, write: prot > 0, value: None },
        ];
        let files = vec![MemoryFile { pages: 4, filled: true, ..MemoryFile::default() }];
        let machine = Machine::default();
        let program = Program::of_subject(files, steps);
        let first = predict(&Profile::STABLE, &machine, &program);
        prop_assert_eq!(first, predict(&Profile::STABLE, &machine, &program));
    }
}
