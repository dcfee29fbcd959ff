// SPDX-License-Identifier: GPL-2.0-only
//! What is known of page tables. Pages and frames are of 4 KiB, by their numbers.

use std::ops::Range;

/// A number for each mm, by whoever tells the facts.
pub type Mm = u64;

/// The range, in bytes, that stands for all of an address space: 0 to `ULONG_MAX`.
pub const WHOLE_MM: (u64, u64) = (0, u64::MAX);

/// Bytes of a page.
pub(crate) const PAGE_SIZE: u64 = 4096;

/// What a translation allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rights(u8);

impl Rights {
    /// Reading.
    pub const R: Rights = Rights(1);
    /// Writing.
    pub const W: Rights = Rights(2);
    /// Executing.
    pub const X: Rights = Rights(4);
    /// From user mode.
    pub const U: Rights = Rights(8);

    /// Both together.
    pub const fn and(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }

    /// These without those.
    pub const fn without(self, other: Rights) -> Rights {
        Rights(self.0 & !other.0)
    }

    /// None at all.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl std::fmt::Display for Rights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = [
            (Rights::R, 'r'),
            (Rights::W, 'w'),
            (Rights::X, 'x'),
            (Rights::U, 'u'),
        ];
        for (right, name) in names {
            if !Rights(self.0 & right.0).is_none() {
                write!(f, "{name}")?;
            }
        }
        Ok(())
    }
}

/// A leaf entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// First page.
    pub page: u64,
    /// Pages that it translates: 1, 16 (Svnapot), 512, …
    pub pages: u64,
    /// First frame.
    pub frame: u64,
    /// What it allows.
    pub rights: Rights,
    /// Its D bit.
    pub dirty: bool,
}

/// An entry that refers to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// First page that is translated by it.
    pub page: u64,
    /// How many are.
    pub pages: u64,
    /// The table's frame.
    pub frame: u64,
}

/// All that page tables hold of the pages that are looked at, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageTables {
    /// Leaf entries that are valid.
    pub leaves: Vec<Leaf>,
    /// Entries that refer to tables, of all levels.
    pub tables: Vec<Table>,
}

impl PageTables {
    /// The leaf that translates a page.
    pub fn leaf_of(&self, page: u64) -> Option<&Leaf> {
        let after = self.leaves.partition_point(|leaf| leaf.page <= page);
        let leaf = self.leaves.get(after.checked_sub(1)?)?;
        (page < leaf.page + leaf.pages).then_some(leaf)
    }
}

/// The part of an address space that page tables are compared in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which pages.
    pub pages: Range<u64>,
    /// But for these, of which something else may have been true a moment before.
    pub apart: Vec<Range<u64>>,
    /// What was cached before this step.
    pub before: usize,
    /// An entry that refers to a table is wrong, too, where there is none any more; and not only
    /// where there is another one.
    pub tables: bool,
}

impl Part {
    /// All of it.
    pub const ALL: Part = Part {
        pages: 0..u64::MAX,
        apart: Vec::new(),
        before: usize::MAX,
        tables: true,
    };

    pub(crate) fn has(&self, page: u64) -> bool {
        !self.apart.iter().any(|apart| apart.contains(&page))
    }
}
