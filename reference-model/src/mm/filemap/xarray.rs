// SPDX-License-Identifier: GPL-2.0-only
//! `lib/xarray.c`, as far as a walk over the page cache comes to other pages than it says that it
//! does: one that begins in the middle of a large folio stands where that begins, and goes on
//! from there, but counts from where it was to begin.

use crate::mm_types::{CacheEntry, FileId};
use crate::state::Kernel;

/// `XA_CHUNK_SHIFT` (`include/linux/xarray.h`)
const XA_CHUNK_SHIFT: u32 = 6;
/// `XA_CHUNK_SIZE` (`include/linux/xarray.h`)
const XA_CHUNK_SIZE: u64 = 1 << XA_CHUNK_SHIFT;

/// What a node of the tree has in a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// Nothing, or a shadow entry.
    None,
    /// A node below.
    Node,
    /// A folio, and where it begins.
    Folio(u64),
}

/// `struct xa_state`
pub struct Xas<'k> {
    k: &'k Kernel<'k>,
    file: FileId,
    /// `xa_index`: where it takes itself to be.
    pub index: u64,
    /// `xa_node`: where that node begins, and its shift. None before the first step.
    node: Option<(u64, u32)>,
    /// `xa_offset`
    offset: u64,
}

impl<'k> Xas<'k> {
    /// `XA_STATE()` (`include/linux/xarray.h`)
    pub fn new(k: &'k Kernel<'k>, file: FileId, index: u64) -> Xas<'k> {
        Xas {
            k,
            file,
            index,
            node: None,
            offset: 0,
        }
    }

    /// The shift of the topmost node.
    fn head_shift(&self) -> u32 {
        let inode = &self.k.files[self.file];
        let last = [
            inode.cache.keys().next_back(),
            inode.shadows.keys().next_back(),
        ];
        let last = last.into_iter().flatten().max().copied().unwrap_or(0);
        let large = match inode.cache.get(&0) {
            Some(CacheEntry::Folio(id)) if self.k.folios[*id].nr_pages() >= XA_CHUNK_SIZE => {
                XA_CHUNK_SHIFT
            }
            _ => 0,
        };
        let mut shift = large;
        while last >> shift >= XA_CHUNK_SIZE {
            shift += XA_CHUNK_SHIFT;
        }
        shift
    }

    /// `get_offset()` (`lib/xarray.c`)
    fn offset_of_index(&self, shift: u32) -> u64 {
        (self.index >> shift) % XA_CHUNK_SIZE
    }

    /// `xa_entry()` (`include/linux/xarray.h`) where it stands.
    fn entry(&self, (first, shift): (u64, u32)) -> Entry {
        let inode = &self.k.files[self.file];
        let at = first + (self.offset << shift);
        if let Some(&CacheEntry::Folio(id)) = inode.cache.get(&at) {
            let folio = &self.k.folios[id];
            if folio.order() >= shift {
                return Entry::Folio(folio.mapping.map_or(at, |at| at.1));
            }
        }
        let below = at..at + (1 << shift);
        let any = inode.cache.range(below.clone()).next().is_some()
            || inode.shadows.range(below).next().is_some();
        match shift > 0 && any {
            true => Entry::Node,
            false => Entry::None,
        }
    }

    /// `xas_load()` (`lib/xarray.c`), with `xas_descend()`
    fn load(&mut self) -> Entry {
        let mut shift = self.head_shift();
        if self.index >> shift >= XA_CHUNK_SIZE {
            return Entry::None;
        }
        loop {
            let first = self.index & !((XA_CHUNK_SIZE << shift) - 1);
            self.node = Some((first, shift));
            self.offset = self.offset_of_index(shift);
            match self.entry((first, shift)) {
                Entry::Node => shift -= XA_CHUNK_SHIFT,
                Entry::None => return Entry::None,
                Entry::Folio(start) => {
                    self.offset = (start >> shift) % XA_CHUNK_SIZE;
                    return Entry::Folio(start);
                }
            }
        }
    }

    /// `xas_next()` (`include/linux/xarray.h`), with `__xas_next()`, or `xas_prev()`, with
    /// `__xas_prev()` (`lib/xarray.c`), as `by` is 1 or -1; whether there is a folio. After the last one that is
    /// there nothing more is asked.
    pub fn step(&mut self, by: i64) -> bool {
        let Some((mut first, mut shift)) = self.node else {
            return self.load() != Entry::None;
        };
        let edge = if by > 0 { XA_CHUNK_SIZE - 1 } else { 0 };
        let inside = shift == 0 && self.offset != edge;
        self.index = self.index.wrapping_add_signed(by);
        if inside || self.offset != self.offset_of_index(shift) {
            self.offset = self.offset.wrapping_add_signed(by);
        }
        while self.offset >= XA_CHUNK_SIZE {
            if shift == self.head_shift() {
                return false;
            }
            shift += XA_CHUNK_SHIFT;
            self.offset = ((first >> shift) % XA_CHUNK_SIZE).wrapping_add_signed(by);
            first &= !((XA_CHUNK_SIZE << shift) - 1);
        }
        loop {
            self.node = Some((first, shift));
            match self.entry((first, shift)) {
                Entry::Node => {
                    first += self.offset << shift;
                    shift -= XA_CHUNK_SHIFT;
                    self.offset = self.offset_of_index(shift);
                }
                found => return found != Entry::None,
            }
        }
    }
}
