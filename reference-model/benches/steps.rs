// SPDX-License-Identifier: GPL-2.0-only
//! How many steps a second the model predicts: `cargo bench -p reference-model`.
//!
//! Each sample plays one program of small, mixed steps from a fresh subject;
//! the figure to look at is items (steps) per second, a million or more.

use divan::counter::ItemsCount;
use reference_model::{Machine, Op, Profile, Program, predict};

const PROT_RW: i32 = 3;
const MAP_PRIVATE_ANON_FIXED: i32 = 0x2 | 0x20 | 0x10;

fn main() {
    divan::main();
}

/// Rounds of map, touch, take rights, give them back, drop, unmap: 16 pages each.
fn program(rounds: u64) -> Program {
    let mut steps = Vec::new();
    for round in 0..rounds {
        let (at, pages) = (round * 16, 4);
        steps.extend([
            Op::Mmap {
                at,
                pages: 16,
                prot: PROT_RW,
                flags: MAP_PRIVATE_ANON_FIXED,
                file: None,
                offset: 0,
            },
            Op::Touch {
                at,
                pages,
                every: 1,
                write: true,
                value: None,
            },
            Op::Mprotect {
                at,
                pages: 1,
                prot: 1,
            },
            Op::Mprotect {
                at,
                pages: 1,
                prot: PROT_RW,
            },
            Op::Madvise {
                at,
                pages,
                advice: 4,
            },
            Op::Touch {
                at,
                pages: 1,
                every: 1,
                write: false,
                value: None,
            },
            Op::Munmap { at, pages: 16 },
        ]);
    }
    Program::of_subject(Vec::new(), steps)
}

#[divan::bench(args = [1, 100])]
fn mixed_steps(bencher: divan::Bencher, rounds: u64) {
    let program = program(rounds);
    let machine = Machine::default();
    bencher
        .counter(ItemsCount::new(program.steps.len()))
        .bench(|| predict(&Profile::STABLE, &machine, divan::black_box(&program)));
}
