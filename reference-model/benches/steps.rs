// SPDX-License-Identifier: GPL-2.0-only
//! How many steps a second the model predicts: `cargo bench -p reference-model`.
//!
//! Each sample plays one program of small, mixed steps from a fresh subject;
//! the figure to look at is items (steps) per second, a million or more.

use divan::counter::ItemsCount;
use reference_model::{Machine, Op, PAGE_SIZE, Profile, Program, predict};

const ARENA: u64 = 64 << 30;
const PROT_RW: i32 = 3;
const MAP_PRIVATE_ANON_FIXED: i32 = 0x2 | 0x20 | 0x10;

fn main() {
    divan::main();
}

/// Rounds of map, touch, take rights, give them back, drop, unmap: 16 pages each.
fn program(rounds: u64) -> Program {
    let mut steps = Vec::new();
    for round in 0..rounds {
        let addr = ARENA + round * 16 * PAGE_SIZE;
        let len = 4 * PAGE_SIZE;
        steps.extend([
            Op::Mmap {
                addr,
                len: 16 * PAGE_SIZE,
                prot: PROT_RW,
                flags: MAP_PRIVATE_ANON_FIXED,
                file: None,
                offset: 0,
            },
            Op::Touch {
                addr,
                len,
                every: 1,
                write: true,
            },
            Op::Mprotect {
                addr,
                len: PAGE_SIZE,
                prot: 1,
            },
            Op::Mprotect {
                addr,
                len: PAGE_SIZE,
                prot: PROT_RW,
            },
            Op::Madvise {
                addr,
                len,
                advice: 4,
            },
            Op::Touch {
                addr,
                len: PAGE_SIZE,
                every: 1,
                write: false,
            },
            Op::Munmap {
                addr,
                len: 16 * PAGE_SIZE,
            },
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
