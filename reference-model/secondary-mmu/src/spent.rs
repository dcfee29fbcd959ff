// SPDX-License-Identifier: GPL-2.0-only
//! What was notified although there was nothing to lose: each such notification costs every
//! device that shares the address space.

use crate::facts::{Leaf, Mm, PAGE_SIZE, PageTables, WHOLE_MM};
use std::ops::Range;

/// What a step notified of an mm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// The step.
    pub step: usize,
    /// The mm.
    pub mm: Mm,
    /// Pages that ranges named, each as often as it was named.
    pub pages: u64,
    /// Those of them that had nothing to lose: they were not mapped when the step began, or are
    /// mapped as they were.
    pub needless: u64,
    /// How often the whole mm was notified.
    pub whole: u64,
    /// How often that was where nothing was lost, and no entry that refers to a table changed.
    pub whole_needless: u64,
}

/// What is notified of an mm, between two looks at its page tables.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    before: PageTables,
    ranges: Vec<(u64, u64)>,
}

impl Ledger {
    pub(crate) fn note(&mut self, start: u64, end: u64) {
        self.ranges.push((start, end));
    }

    /// A step has ended.
    pub(crate) fn close(&mut self, step: usize, mm: Mm, now: &PageTables) -> Option<Spent> {
        let ranges = std::mem::take(&mut self.ranges);
        let before = std::mem::replace(&mut self.before, now.clone());
        if ranges.is_empty() {
            return None;
        }
        let mut spent = Spent {
            step,
            mm,
            ..Spent::default()
        };
        let lost = lost(&before, now);
        let nothing = lost.is_empty() && before.tables == now.tables;
        for range in ranges {
            if range == WHOLE_MM {
                spent.whole += 1;
                spent.whole_needless += u64::from(nothing);
                continue;
            }
            let (start, end) = (range.0 / PAGE_SIZE, range.1.div_ceil(PAGE_SIZE));
            let pages = end.saturating_sub(start);
            let overlap =
                |lost: &Range<u64>| lost.end.min(end).saturating_sub(lost.start.max(start));
            let needed: u64 = lost.iter().map(overlap).sum();
            spent.pages += pages;
            spent.needless += pages - needed.min(pages);
        }
        Some(spent)
    }
}

/// Pages that were mapped and are not mapped so any more.
fn lost(before: &PageTables, now: &PageTables) -> Vec<Range<u64>> {
    let mut lost: Vec<Range<u64>> = Vec::new();
    for leaf in &before.leaves {
        let pages = leaf.page..leaf.page + leaf.pages;
        for page in pages {
            if now.leaf_of(page).is_some_and(|now| same(page, leaf, now)) {
                continue;
            }
            match lost.last_mut() {
                Some(last) if last.end == page => last.end += 1,
                _ => lost.push(page..page + 1),
            }
        }
    }
    lost
}

/// More rights are a change too: who has the fewer has to drop them. That a page became dirty
/// is none.
fn same(page: u64, before: &Leaf, now: &Leaf) -> bool {
    let frame = |leaf: &Leaf| leaf.frame + (page - leaf.page);
    frame(before) == frame(now)
        && before.rights == now.rights
        && (now.dirty || !before.dirty)
        && before.pages == now.pages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Rights, Table};

    fn tables(pages: &[u64], frame: u64) -> PageTables {
        let leaf = |page: &u64| Leaf {
            page: *page,
            pages: 1,
            frame: 100 + page,
            rights: Rights::R,
            dirty: false,
        };
        PageTables {
            leaves: pages.iter().map(leaf).collect(),
            tables: vec![Table {
                page: 0,
                pages: 512,
                frame,
            }],
        }
    }

    #[test]
    fn what_had_nothing_to_lose_is_counted() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.close(0, 1, &tables(&[4, 5, 6], 9)), None);
        ledger.note(4 * PAGE_SIZE, 8 * PAGE_SIZE);
        ledger.note(0, u64::MAX);
        let spent = ledger.close(1, 1, &tables(&[6], 9)).expect("notifications");
        // Page 6 stays as it was, and page 7 was not there.
        assert_eq!((spent.pages, spent.needless), (4, 2));
        assert_eq!((spent.whole, spent.whole_needless), (1, 0));
        ledger.note(0, u64::MAX);
        let spent = ledger.close(2, 1, &tables(&[6], 9)).expect("one");
        assert_eq!((spent.whole, spent.whole_needless), (1, 1));
        ledger.note(0, u64::MAX);
        let spent = ledger.close(3, 1, &tables(&[6], 10)).expect("one");
        assert_eq!((spent.whole, spent.whole_needless), (1, 0));
    }
}
