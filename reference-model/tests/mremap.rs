// SPDX-License-Identifier: GPL-2.0-only
//! mremap(2) as histories; `common` explains how to read them.

mod common;

use common::*;
use reference_model::{Machine, Op, Profile, Program};

const EINVAL: &str = "!22";
const EFAULT: &str = "!14";

fn remap(at: u64, pages: u64, to: Option<u64>, new_pages: u64) -> Op {
    Op::Mremap {
        at,
        pages,
        to,
        new_pages,
        keep: false,
    }
}

fn go(at: u64, pages: u64, to: u64) -> Op {
    remap(at, pages, Some(to), pages)
}

fn check_as(profile: &Profile, history: &[(Op, &str)]) {
    let ops = history.iter().map(|(op, _)| op.clone());
    let program = Program::of_subject(Vec::new(), ops);
    let lines: Vec<&str> = history.iter().map(|(_, line)| *line).collect();
    check_program(profile, &Machine::default(), &program, &lines);
}

/// All that moves is notified of, whether it was touched or not, and what moved is there.
#[test]
fn pages_move() {
    check(&[
        (map(0, 8), ""),
        (write(3, 1), ""),
        (go(2, 4, 100), "vma 2-6"),
        (unmap(100, 4), "range 101-102"),
    ]);
}

/// Where nothing is mapped there is nothing to notify of.
#[test]
fn swap_entries_move_untold() {
    check(&[
        (map(0, 4), ""),
        (write(0, 4), ""),
        (advise(0, 4, PAGEOUT), "+0..4 each"),
        (go(0, 4, 100), "pending"),
        (write(100, 4), ""),
    ]);
}

/// A table that moves as a whole is notified of as a range, and a flush that is pending stays so.
#[test]
fn a_table_moves() {
    check(&[
        (map(512, 512), ""),
        (write(600, 1), ""),
        (map(0, 4), ""),
        (write(0, 4), ""),
        (advise(0, 4, PAGEOUT), "+0..4 each"),
        (go(512, 512, 2048), "vma 512-1024"),
        (protect(2048, 512, READ), "pending range 2136-2137"),
    ]);
}

/// The move begins at the table's start where nothing else is in either table.
#[test]
fn a_table_moves_from_within() {
    check(&[
        (map(519, 505), ""),
        (write(600, 1), ""),
        (go(519, 505, 2055), "vma 512-1024"),
    ]);
    check(&[
        (map(514, 2), ""),
        (map(519, 505), ""),
        (write(600, 1), ""),
        (go(519, 505, 2055), "vma 519-1024"),
    ]);
}

/// 6.12 has unmapped the new place before it refuses.
#[test]
fn two_areas_are_refused_or_moved() {
    let history = |refused| {
        let told = if refused {
            "range 100-108 !14"
        } else {
            "range 100-104 vma 0-4 range 104-108 vma 4-8"
        };
        [
            (map(0, 4), ""),
            (map(4, 4), ""),
            (protect(4, 4, READ), ""),
            (map(100, 8), ""),
            (read(0, 8), ""),
            (write(100, 8), ""),
            (map(200, 1), ""),
            (write(200, 1), ""),
            (go(0, 8, 100), told),
        ]
    };
    check_as(&Profile::STABLE, &history(true));
    check_as(&Profile::NEXT, &history(false));
}

#[test]
fn refusals_come_in_the_kernels_order() {
    check_as(
        &Profile::STABLE,
        &[(map(0, 4), ""), (go(20, 4, 22), EFAULT)],
    );
    check_as(&Profile::NEXT, &[(map(0, 4), ""), (go(20, 4, 22), EINVAL)]);
    check(&[
        (map(0, 4), ""),
        (remap(0, 4, None, 0), EINVAL),
        (remap(0, 6, None, 8), EFAULT),
        (remap(0, 0, Some(100), 4), EINVAL),
        (remap(0, 4, None, 8), ""),
        (write(0, 8), ""),
    ]);
}
