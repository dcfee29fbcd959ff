// SPDX-License-Identifier: GPL-2.0-only
//! All that a process has is faulted in before the steps, so that nothing of it
//! faults during one.

use crate::{files, touch};
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use operations::{ARENA_BASE, ARENA_PAGES, PAGE_SIZE};
use std::hint::black_box;
use std::path::Path;

/// Faults in all that this process has, and checks that the arena is empty.
///
/// # Errors
/// Something lies in the arena.
pub fn populate() -> Result<()> {
    deepen_stack();
    for area in areas()? {
        if area.in_arena() {
            bail!(
                "the arena is not empty: {:x}-{:x} is mapped there",
                area.start,
                area.end
            );
        }
        area.populate()?;
    }
    Ok(())
}

/// What a process that a zygote forked writes to in a step: its stack, and what touches and
/// the C library note. All else it shares with the zygote and only reads: with each page
/// that it copied its hart's TLB would be emptied.
pub fn populate_forked() {
    deepen_stack();
    touch::populate();
    // SAFETY: the thread's own errno.
    unsafe { libc::__errno_location().write_volatile(0) };
}

/// Maps all of the program's text, which a fork leaves out: what is mapped later, by a wait that took
/// longer than others, would be where it is not expected to be.
///
/// # Errors
/// The kernel refuses it.
pub fn populate_text() -> Result<()> {
    let areas = areas()?;
    let mut text = areas.iter().filter(|area| !area.write && !area.in_arena());
    text.try_for_each(Area::populate)
}

/// Copies all of the program's data and heap that is still its zygote's as well.
///
/// # Errors
/// The kernel refuses it.
pub fn populate_heap() -> Result<()> {
    let areas = areas()?;
    let mut own = areas.iter().filter(|area| area.heap || area.is_data());
    own.try_for_each(Area::populate)
}

/// Copies all that can be written and is still its parent's as well: stacks of other threads of
/// the parent's, too, which they would have to copy in a step of theirs.
///
/// # Errors
/// The kernel refuses it.
pub fn populate_writable() -> Result<()> {
    let areas = areas()?;
    let mut own = areas.iter().filter(|area| area.write && !area.in_arena());
    own.try_for_each(Area::populate)
}

fn areas() -> Result<Vec<Area>> {
    let maps = files::read(Path::new("/proc/self/maps"))?;
    Ok(maps.lines().filter_map(Area::parse).collect())
}

/// So deep a stack is enough for every step, in bytes.
const STACK: usize = 64 << 10;

/// Makes the calling thread's stack as deep as the steps may need it.
#[inline(never)]
pub fn deepen_stack() {
    let mut deep = [0u8; STACK];
    for page in deep.chunks_mut(PAGE_SIZE as usize) {
        page[0] = black_box(1);
    }
    black_box(&deep);
}

unsafe extern "C" {
    /// Where the program's data ends; the linker says it.
    #[link_name = "end"]
    static DATA_END: u8;
}

/// A line of /proc/self/maps.
#[derive(Debug, PartialEq, Eq)]
struct Area {
    start: u64,
    end: u64,
    read: bool,
    write: bool,
    private: bool,
    heap: bool,
}

impl Area {
    fn parse(line: &str) -> Option<Area> {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let rights = words.next()?;
        // The kernel's own pages, which cannot be read everywhere.
        let special = line.ends_with("[vvar]") || line.ends_with("[vdso]");
        Some(Area {
            start: u64::from_str_radix(start, 16).ok()?,
            end: u64::from_str_radix(end, 16).ok()?,
            read: rights.starts_with('r') && !special,
            write: rights[1..].starts_with('w'),
            private: rights.ends_with('p'),
            heap: line.ends_with("[heap]"),
        })
    }

    fn is_data(&self) -> bool {
        let behind = (&raw const DATA_END as u64).next_multiple_of(PAGE_SIZE);
        self.write && self.private && self.end <= behind
    }

    fn in_arena(&self) -> bool {
        self.start < ARENA_BASE + ARENA_PAGES * PAGE_SIZE && self.end > ARENA_BASE
    }

    /// Faults in all of it; of what is private and can be written, copies of its own. What
    /// is shared with other processes is theirs too, and has been there before.
    fn populate(&self) -> Result<()> {
        if !self.read || !self.private {
            return Ok(());
        }
        let (at, length) = (self.start as *mut libc::c_void, self.end - self.start);
        let advice = if self.write {
            libc::MADV_POPULATE_WRITE
        } else {
            libc::MADV_POPULATE_READ
        };
        // SAFETY: what lies in the area stays as it is.
        let advised = unsafe { libc::madvise(at, length as usize, advice) };
        Errno::result(advised)
            .map(drop)
            .with_context(|| format!("cannot populate {:x}-{:x}", self.start, self.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_lines_have_ranges_and_rights() {
        let line = "00010000-00078000 rw-p 00000000 00:02 5 /init";
        let area = Area {
            start: 0x10000,
            end: 0x78000,
            read: true,
            write: true,
            private: true,
            heap: false,
        };
        assert_eq!(Area::parse(line), Some(area));
        let vvar = "3ff7ffc000-3ff7ffe000 r--p 00000000 00:00 0 [vvar]";
        assert!(Area::parse(vvar).is_some_and(|area| !area.read));
        assert_eq!(Area::parse("nonsense"), None);
    }

    #[test]
    fn what_reaches_into_the_arena_is_in_it() {
        let arena = |start: u64, end: u64| {
            let line = format!("{start:x}-{end:x} rw-p 0 0:0 0");
            Area::parse(&line).is_some_and(|area| area.in_arena())
        };
        assert!(!arena(ARENA_BASE - PAGE_SIZE, ARENA_BASE));
        assert!(arena(ARENA_BASE - PAGE_SIZE, ARENA_BASE + PAGE_SIZE));
        assert!(!arena(ARENA_BASE + ARENA_PAGES * PAGE_SIZE, u64::MAX));
    }
}
