// SPDX-License-Identifier: GPL-2.0-only
//! Which pages a step takes: mappings, rights, and frames that others take the place of.

mod common;

use common::*;
use reference_model::{Machine, MemoryFile, Op, Profile, Program, predict};

const COLLAPSE: i32 = 25;

/// The pages that the last of the subject's steps takes, on both kernels.
fn lost(files: &[MemoryFile], ops: &[Op]) -> Vec<(u64, u64)> {
    let program = Program::of_subject(files.to_vec(), ops.iter().cloned());
    let of = |profile| {
        let prediction = predict(profile, &Machine::default(), &program);
        let last = prediction.steps.last().expect("a step");
        let page = |addr: u64| (addr - ARENA) / PAGE;
        let ranges = last.lost.iter().map(|(_, range)| range);
        ranges
            .map(|range| (page(range.start), page(range.end)))
            .collect::<Vec<_>>()
    };
    let (stable, next) = (of(&Profile::STABLE), of(&Profile::NEXT));
    assert_eq!(stable, next);
    stable
}

#[test]
fn the_zero_page_is_replaced_by_what_is_written() {
    let history = [map(0, 4), read(0, 4), write(1, 2)];
    assert_eq!(lost(&[], &history), [(1, 3)]);
    let again = [map(0, 4), write(0, 4), write(1, 2)];
    assert_eq!(lost(&[], &again), []);
}

#[test]
fn a_files_page_is_replaced_by_the_private_copy() {
    let map = map_with(0, 4, PRIVATE, Some(0));
    let history = [map, read(0, 4), write(2, 1)];
    assert_eq!(lost(&[file(4, true)], &history), [(2, 3)]);
}

#[test]
fn collapse_replaces_every_page_that_was_there() {
    let history = [map(0, 1024), write(0, 512), advise(0, 512, COLLAPSE)];
    assert_eq!(lost(&[], &history), [(0, 512)]);
    let sparse = [
        map(0, 1024),
        write(0, 3),
        write(9, 1),
        advise(0, 512, COLLAPSE),
    ];
    assert_eq!(lost(&[], &sparse), [(0, 3), (9, 10)]);
}

/// The PTEs of a huge page, and the small folios that it is split into, have its frames.
#[test]
fn splitting_a_huge_page_takes_nothing() {
    let huge = || vec![map(0, 1024), write(0, 512), advise(0, 512, COLLAPSE)];
    let mut history = huge();
    history.push(protect(10, 5, READ | WRITE));
    assert_eq!(lost(&[], &history), []);
    let mut history = huge();
    history.push(unmap(10, 5));
    assert_eq!(lost(&[], &history), [(10, 15)]);
    let mut history = huge();
    history.push(advise(10, 5, FREE));
    assert_eq!(lost(&[], &history), [], "the whole folio is split");
}

/// What comes where nothing was, or what nobody could reach, takes nothing.
#[test]
fn a_page_that_was_not_there_is_not_lost() {
    assert_eq!(lost(&[], &[map(0, 4), write(0, 4)]), []);
    let out = [map(0, 4), write(0, 4), advise(0, 4, PAGEOUT), read(0, 4)];
    assert_eq!(lost(&[], &out), []);
    assert_eq!(lost(&[], &out[..3]), [(0, 4)]);
}
