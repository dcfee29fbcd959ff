// SPDX-License-Identifier: GPL-2.0-only
//! What a secondary MMU holds that it must not hold.

use crate::facts::{Leaf, Mm, PageTables, Rights};
use std::ops::Range;

/// In which way it is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It has fewer rights than the page tables: an access is refused for good, for there
    /// will be no fault that makes it more, and nothing is due any more.
    Narrow,
    /// It holds D where the page tables have it clean: a write that nobody will write back.
    Dirty,
    /// It has a right that the page tables took back: writes to what is shared or clean.
    Right,
    /// At a step's end it maps another frame than the page tables do, or one where they have
    /// none: wrong data.
    Stale,
    /// It refers to a page table that was given back, or that is not there any more at a
    /// step's end: the device walks freed memory.
    Walk,
    /// It still maps a frame at the moment at which that goes back to the allocator: the
    /// device writes somebody else's memory.
    Freed,
}

impl Kind {
    /// All of them, the worst last.
    pub const ALL: [Kind; 6] = [
        Kind::Narrow,
        Kind::Dirty,
        Kind::Right,
        Kind::Stale,
        Kind::Walk,
        Kind::Freed,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Narrow => "narrow",
            Kind::Dirty => "dirty",
            Kind::Right => "right",
            Kind::Stale => "stale",
            Kind::Walk => "walk",
            Kind::Freed => "freed",
        }
    }

    pub(crate) fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// In which way the translation of a page that is held contradicts what the page tables hold;
/// the worst of them.
pub fn contradiction(held: &Leaf, now: &PageTables) -> Option<Kind> {
    let Some(leaf) = now.leaf_of(held.page) else {
        return Some(Kind::Stale);
    };
    if leaf.frame + (held.page - leaf.page) != held.frame {
        return Some(Kind::Stale);
    }
    if !held.rights.without(leaf.rights).is_none() {
        return Some(Kind::Right);
    }
    if held.dirty && !leaf.dirty {
        return Some(Kind::Dirty);
    }
    (!leaf.rights.without(held.rights).is_none()).then_some(Kind::Narrow)
}

/// Which devices it is wrong for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reading {
    /// Those that keep pieces of larger leaves, alone.
    ByPiece,
    /// All: those that drop whole leaves as well.
    ByLeaf,
}

/// What was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kept {
    /// A translation.
    Leaf {
        /// What it allows.
        rights: Rights,
        /// Its D bit.
        dirty: bool,
        /// Pages of the leaf that it is (a piece) of.
        of: u64,
    },
    /// A reference to a table, which translates so many pages.
    Table {
        /// How many.
        pages: u64,
    },
}

/// A notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Near {
    /// In which step.
    pub step: usize,
    /// First byte.
    pub start: u64,
    /// First byte after it.
    pub end: u64,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// In which way.
    pub kind: Kind,
    /// For which devices.
    pub reading: Reading,
    /// In which mm.
    pub mm: Mm,
    /// Which pages, by their numbers.
    pub pages: Range<u64>,
    /// The frame that the first of them is translated to, or the table's.
    pub frame: u64,
    /// What was kept.
    pub kept: Kept,
    /// Since which step.
    pub since: usize,
    /// In which step it became wrong.
    pub step: usize,
    /// The last notification of the mm that came near.
    pub near: Option<Near>,
}

/// Pages that follow each other, and are wrong in the same way, in one.
pub fn merged(mut verdicts: Vec<Verdict>) -> Vec<Verdict> {
    let key = |verdict: &Verdict| {
        (
            verdict.step,
            verdict.mm,
            std::cmp::Reverse((verdict.kind, verdict.reading)),
            verdict.since,
            verdict.pages.start,
        )
    };
    verdicts.sort_by_key(key);
    let mut merged: Vec<Verdict> = Vec::new();
    for verdict in verdicts {
        match merged.last_mut() {
            Some(last) if goes_on(last, &verdict) => last.pages.end = verdict.pages.end,
            _ => merged.push(verdict),
        }
    }
    merged
}

fn goes_on(last: &Verdict, next: &Verdict) -> bool {
    let same = |verdict: &Verdict| {
        let Verdict {
            kind,
            reading,
            mm,
            kept,
            since,
            step,
            ..
        } = *verdict;
        (kind, reading, mm, kept, since, step)
    };
    let leaves = matches!(next.kept, Kept::Leaf { .. });
    leaves && last.pages.end == next.pages.start && same(last) == same(next)
}
