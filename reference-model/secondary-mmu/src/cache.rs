// SPDX-License-Identifier: GPL-2.0-only
//! What is cached of one mm.

use crate::facts::{Leaf, Mm, PAGE_SIZE, PageTables, Part, Rights};
use crate::verdict::{Kept, Kind, Near, Reading, Verdict, contradiction};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Range;

/// So many notifications are remembered, for verdicts to name one.
const REMEMBERED: usize = 64;

/// Where a frame is referred to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// In the translation of this page.
    Page(u64),
    /// As a table, by how many pages that translates, and the first of them.
    Table(u64, u64),
}

/// References to frames, of all mms, and how many there are at each place: what refers to a frame
/// that is given back is found without a search.
#[derive(Debug, Default)]
pub(crate) struct References(BTreeMap<(u64, Mm, Place), u32>);

impl References {
    fn add(&mut self, frame: u64, mm: Mm, place: Place) {
        *self.0.entry((frame, mm, place)).or_default() += 1;
    }

    fn remove(&mut self, frame: u64, mm: Mm, place: Place) {
        if let Entry::Occupied(mut count) = self.0.entry((frame, mm, place)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// Where frames are referred to, place by place.
    pub(crate) fn of(&self, frames: &Range<u64>) -> BTreeSet<(Mm, Place)> {
        let first = (frames.start, Mm::MIN, Place::Page(0));
        let last = (frames.end, Mm::MIN, Place::Page(0));
        let found = self.0.range(first..last);
        found.map(|((_, mm, place), _)| (*mm, *place)).collect()
    }
}

/// The translation of one page. Of a larger leaf there is one for each page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    frame: u64,
    rights: Rights,
    dirty: bool,
    /// The leaf: its first page, and how many.
    leaf: (u64, u64),
    since: usize,
    /// Whether devices that drop whole leaves still have it; those that keep pieces do.
    by_leaf: bool,
    by_piece: bool,
    /// Kinds of verdicts that it was named in.
    named: u8,
}

impl Piece {
    fn reading(&self) -> Reading {
        match self.by_leaf {
            true => Reading::ByLeaf,
            false => Reading::ByPiece,
        }
    }

    fn kept(&self) -> Kept {
        Kept::Leaf {
            rights: self.rights,
            dirty: self.dirty,
            of: self.leaf.1,
        }
    }

    /// In which way it contradicts what the page tables hold; the worst of them.
    fn contradicts(&self, page: u64, now: &PageTables) -> Option<Kind> {
        let held = Leaf {
            page,
            pages: 1,
            frame: self.frame,
            rights: self.rights,
            dirty: self.dirty,
        };
        contradiction(&held, now)
    }
}

/// A reference to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Walk {
    frame: u64,
    since: usize,
    named: bool,
}

/// What is cached of one mm.
#[derive(Debug)]
pub(crate) struct Cache {
    mm: Mm,
    /// By page. A page may have several, of times at which the page tables held something
    /// else: a cache that has one of them answers by it.
    pieces: BTreeMap<u64, Vec<Piece>>,
    /// By how many pages they translate, and the first of them.
    tables: BTreeMap<(u64, u64), Vec<Walk>>,
    /// The largest leaf that was ever cached.
    largest: u64,
    /// The last notifications, the newest last.
    notified: VecDeque<Near>,
}

impl Cache {
    /// Nothing yet.
    pub(crate) fn of(mm: Mm) -> Cache {
        Cache {
            mm,
            pieces: BTreeMap::new(),
            tables: BTreeMap::new(),
            largest: 0,
            notified: VecDeque::new(),
        }
    }

    /// Drops all.
    pub(crate) fn clear(&mut self, references: &mut References) {
        for (page, pieces) in std::mem::take(&mut self.pieces) {
            for piece in pieces {
                references.remove(piece.frame, self.mm, Place::Page(page));
            }
        }
        for ((pages, first), walks) in std::mem::take(&mut self.tables) {
            for walk in walks {
                references.remove(walk.frame, self.mm, Place::Table(pages, first));
            }
        }
    }

    /// Drops leaf entries of a range, in bytes.
    pub(crate) fn drop_range(&mut self, start: u64, end: u64, references: &mut References) {
        if start >= end {
            return;
        }
        // A leaf that reaches into the range may begin before it, and end after it.
        let margin = self.largest.max(1);
        let first = (start / PAGE_SIZE).saturating_sub(margin);
        let last = end.div_ceil(PAGE_SIZE).saturating_add(margin);
        let mut emptied = Vec::new();
        for (page, pieces) in self.pieces.range_mut(first..last) {
            let bytes = |page: u64| page.saturating_mul(PAGE_SIZE);
            let wholly = start <= bytes(*page) && bytes(*page + 1) <= end;
            pieces.retain_mut(|piece| {
                let (leaf, pages) = piece.leaf;
                let touched = start < bytes(leaf + pages) && bytes(leaf) < end;
                piece.by_leaf &= !touched;
                piece.by_piece &= !wholly;
                let stays = piece.by_leaf || piece.by_piece;
                if !stays {
                    references.remove(piece.frame, self.mm, Place::Page(*page));
                }
                stays
            });
            if pieces.is_empty() {
                emptied.push(*page);
            }
        }
        for page in emptied {
            self.pieces.remove(&page);
        }
    }

    /// Remembers a notification.
    pub(crate) fn note(&mut self, notification: Near) {
        if self.notified.len() == REMEMBERED {
            self.notified.pop_front();
        }
        self.notified.push_back(notification);
    }

    /// The last notification that came near pages: that touches them, or else the last one.
    fn near(notified: &VecDeque<Near>, pages: &Range<u64>) -> Option<Near> {
        let bytes = |page: u64| page.saturating_mul(PAGE_SIZE);
        let touches = |near: &&Near| near.start < bytes(pages.end) && bytes(pages.start) < near.end;
        let newest = || notified.iter().rev();
        newest().find(touches).or_else(|| newest().next()).copied()
    }

    /// Frames were given back to which something refers at that place.
    pub(crate) fn freed(
        &mut self,
        place: Place,
        frames: &Range<u64>,
        step: usize,
        verdicts: &mut Vec<Verdict>,
    ) {
        let (mm, notified) = (self.mm, &self.notified);
        match place {
            Place::Page(page) => {
                for piece in self.pieces.get_mut(&page).into_iter().flatten() {
                    if frames.contains(&piece.frame) && piece.named & Kind::Freed.bit() == 0 {
                        verdicts.push(of_piece(mm, page, piece, Kind::Freed, step, notified));
                    }
                }
            }
            Place::Table(pages, first) => {
                for walk in self.tables.get_mut(&(pages, first)).into_iter().flatten() {
                    if frames.contains(&walk.frame) && !walk.named {
                        verdicts.push(of_walk(mm, first..first + pages, walk, step, notified));
                    }
                }
            }
        }
    }

    /// Compares what is cached with what the page tables hold now.
    pub(crate) fn compare(
        &mut self,
        now: &PageTables,
        part: &Part,
        step: usize,
        verdicts: &mut Vec<Verdict>,
    ) {
        let (mm, notified) = (self.mm, &self.notified);
        let pages = self.pieces.range_mut(part.pages.clone());
        for (page, pieces) in pages.filter(|(page, _)| part.has(**page)) {
            for piece in pieces.iter_mut().filter(|piece| piece.since < part.before) {
                let Some(kind) = piece.contradicts(*page, now) else {
                    continue;
                };
                if piece.named & kind.bit() != 0 {
                    continue;
                }
                verdicts.push(of_piece(mm, *page, piece, kind, step, notified));
            }
        }
        let there: HashMap<(u64, u64), u64> = now
            .tables
            .iter()
            .map(|table| ((table.pages, table.page), table.frame))
            .collect();
        for (key, walks) in &mut self.tables {
            let frame = there.get(key);
            if frame.is_none() && !part.tables {
                continue;
            }
            for walk in walks.iter_mut().filter(|walk| walk.since < part.before) {
                if frame != Some(&walk.frame) && !walk.named {
                    let range = key.1..key.1 + key.0;
                    verdicts.push(of_walk(mm, range, walk, step, notified));
                }
            }
        }
    }

    /// Caches all that the page tables hold.
    pub(crate) fn load(&mut self, now: &PageTables, step: usize, references: &mut References) {
        for leaf in &now.leaves {
            self.load_leaf(leaf, step, references);
        }
        for table in &now.tables {
            let walks = self.tables.entry((table.pages, table.page)).or_default();
            if walks.iter().all(|walk| walk.frame != table.frame) {
                references.add(table.frame, self.mm, Place::Table(table.pages, table.page));
                walks.push(Walk {
                    frame: table.frame,
                    since: step,
                    named: false,
                });
            }
        }
    }

    /// Caches a leaf, whatever else is cached of its pages.
    pub(crate) fn load_leaf(&mut self, leaf: &Leaf, step: usize, references: &mut References) {
        self.largest = self.largest.max(leaf.pages);
        for number in 0..leaf.pages {
            let new = Piece {
                frame: leaf.frame + number,
                rights: leaf.rights,
                dirty: leaf.dirty,
                leaf: (leaf.page, leaf.pages),
                since: step,
                by_leaf: true,
                by_piece: true,
                named: 0,
            };
            let pieces = self.pieces.entry(leaf.page + number).or_default();
            let same = |piece: &&mut Piece| {
                (piece.frame, piece.rights, piece.dirty, piece.leaf)
                    == (new.frame, new.rights, new.dirty, new.leaf)
            };
            match pieces.iter_mut().find(same) {
                // Loaded again by devices that had dropped it; what it was named in is over.
                Some(piece) if piece.by_leaf && piece.by_piece => {}
                Some(piece) => *piece = new,
                None => {
                    let place = Place::Page(leaf.page + number);
                    references.add(new.frame, self.mm, place);
                    pieces.push(new);
                }
            }
        }
    }

    /// Runs of pages, each with what is kept of it; of a page with several, each. In the order
    /// of their first pages.
    pub(crate) fn held(&self) -> Vec<(Range<u64>, Kept)> {
        let mut held: Vec<(Range<u64>, Kept)> = Vec::new();
        // Where in that the last run of each is.
        let mut runs = HashMap::new();
        for (page, pieces) in &self.pieces {
            for piece in pieces {
                let run = runs.entry(piece.kept()).or_insert(usize::MAX);
                match held.get_mut(*run) {
                    Some((pages, _)) if pages.end == *page => pages.end += 1,
                    // Held twice alike but for the frame.
                    Some((pages, _)) if pages.end > *page => {}
                    _ => {
                        *run = held.len();
                        held.push((*page..page + 1, piece.kept()));
                    }
                }
            }
        }
        held
    }
}

/// A page's translation is wrong; it is named so once.
fn of_piece(
    mm: Mm,
    page: u64,
    piece: &mut Piece,
    kind: Kind,
    step: usize,
    notified: &VecDeque<Near>,
) -> Verdict {
    piece.named |= kind.bit();
    let (first, of) = piece.leaf;
    Verdict {
        kind,
        reading: piece.reading(),
        mm,
        pages: page..page + 1,
        frame: piece.frame,
        kept: piece.kept(),
        since: piece.since,
        step,
        near: Cache::near(notified, &(first..first + of)),
    }
}

/// The same of a reference to a table.
fn of_walk(
    mm: Mm,
    pages: Range<u64>,
    walk: &mut Walk,
    step: usize,
    notified: &VecDeque<Near>,
) -> Verdict {
    walk.named = true;
    Verdict {
        kind: Kind::Walk,
        reading: Reading::ByLeaf,
        mm,
        frame: walk.frame,
        kept: Kept::Table {
            pages: pages.end - pages.start,
        },
        since: walk.since,
        step,
        near: Cache::near(notified, &pages),
        pages,
    }
}
