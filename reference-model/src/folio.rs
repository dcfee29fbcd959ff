// SPDX-License-Identifier: GPL-2.0-only
//! `struct folio`, and the lists that folios are linked into.

use crate::api::PAGE_SIZE;
use crate::mm::ksm::StableNodeId;
use crate::mm_types::{AnonVmaId, FileId, FolioId, SwapEntry, pte_index};
use operations::HugePages;

/// Which list a folio's LRU membership is on (`enum lru_list`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lru {
    /// LRU_INACTIVE_ANON
    InactiveAnon = 0,
    /// LRU_ACTIVE_ANON
    ActiveAnon = 1,
    /// LRU_INACTIVE_FILE
    InactiveFile = 2,
    /// LRU_ACTIVE_FILE
    ActiveFile = 3,
    /// LRU_UNEVICTABLE
    Unevictable = 4,
}

/// What of a page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Its first byte.
    Byte(u8),
    /// Each byte of its first word.
    Word(u8),
    /// Each of its bytes.
    Page(u8),
}

/// What a page holds: steps write its first byte, its first word, or all of it. The order is
/// that of memcmp().
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Content {
    first: u8,
    word: u8,
    rest: u8,
}

impl Content {
    /// Of a page that is new.
    pub const ZEROES: Content = Content::of(0);

    /// The same byte all over.
    pub const fn of(byte: u8) -> Content {
        Content {
            first: byte,
            word: byte,
            rest: byte,
        }
    }

    /// Nothing but zeroes.
    pub fn is_zeroes(self) -> bool {
        self == Content::ZEROES
    }

    fn write(&mut self, written: Written) {
        match written {
            Written::Byte(byte) => self.first = byte,
            Written::Word(byte) => (self.first, self.word) = (byte, byte),
            Written::Page(byte) => *self = Content::of(byte),
        }
    }
}

/// What is known of a large folio's pages one by one.
#[derive(Clone, Debug)]
pub struct Large {
    /// `_entire_mapcount`: PMDs that map all of it.
    pub entire_mapcount: u32,
    /// `_mapcount` of each page: PTEs that map it.
    pub mapcounts: Vec<u32>,
    /// `PageAnonExclusive()` of each; the first one's stands for all of a PMD.
    pub anon_exclusive: Vec<bool>,
    /// What each of them holds.
    pub contents: Vec<Content>,
    /// Of a file on a disk, which of them writeback is to write (`struct iomap_folio_state`, or
    /// `buffer_dirty()`).
    pub dirty: Vec<bool>,
    /// `folio_test_partially_mapped()`
    pub partially_mapped: bool,
}

impl Large {
    /// Of a folio of that order which nobody maps, and which holds zeroes.
    pub fn unmapped(order: u32) -> Large {
        Large {
            entire_mapcount: 0,
            mapcounts: vec![0; 1 << order],
            anon_exclusive: vec![false; 1 << order],
            contents: vec![Content::ZEROES; 1 << order],
            dirty: vec![false; 1 << order],
            partially_mapped: false,
        }
    }

    /// Of a folio that nobody maps, by what its pages hold.
    pub fn holding(contents: &[Content]) -> Large {
        Large {
            contents: contents.to_vec(),
            ..Large::unmapped(contents.len().ilog2())
        }
    }

    /// Which of its pages an address is of. A large folio lies at a multiple of its size in
    /// every mm.
    pub fn page(&self, addr: u64) -> usize {
        pte_index(addr) % self.mapcounts.len()
    }
}

/// `struct folio` (`include/linux/mm_types.h`)
#[derive(Clone, Debug, Default)]
pub struct Folio {
    /// `folio_pfn()`, of a memory in which no frame is used again: by it a page is known to
    /// be another one. See [`Folios::alloc`].
    pub pfn: u64,
    /// `folio_nid()`, by the scenario's numbers.
    pub node: u32,
    /// `_refcount`: mappings, caches, per-CPU batches and isolation hold one each.
    pub refcount: u32,
    /// `_pincount` of a large folio; a pin of a small one is so many references.
    pub pincount: u32,
    /// `folio_mapcount()`: how many PTEs and PMDs map some or all of it.
    pub mapcount: u32,
    /// `folio_test_large()`
    pub large: Option<Box<Large>>,
    /// `folio_test_hugetlb()`, and of which pool it is.
    pub hugetlb: Option<HugePages>,
    /// `folio_test_hugetlb_restore_reserve()`
    pub restore_reserve: bool,
    /// What it holds (see [`Large::contents`] for a large one).
    pub content: Content,
    /// `folio_test_anon()`
    pub anon: bool,
    /// For anonymous folios: their anon_vma (`folio->mapping`).
    pub anon_vma: AnonVmaId,
    /// `folio_test_ksm()`: nobody may write to it.
    pub ksm: bool,
    /// Not yet `folio_test_uptodate()`: fallocate(2) has made it, and nobody has looked since.
    pub fallocated: bool,
    /// A driver's page, mapped by its frame's number: `vm_normal_page()` is none for it, and so
    /// nobody counts who maps it.
    pub special: bool,
    /// `folio_stable_node()`
    pub stable_node: Option<StableNodeId>,
    /// For anonymous folios: `folio->index`.
    pub index: u64,
    /// For file folios: file and index in its page cache.
    pub mapping: Option<(FileId, u64)>,
    /// `folio_test_swapbacked()`
    pub swapbacked: bool,
    /// `folio_test_dirty()`
    pub dirty: bool,
    /// `folio_test_active()`
    pub active: bool,
    /// `folio_test_referenced()`
    pub referenced: bool,
    /// `folio_test_workingset()`
    pub workingset: bool,
    /// `folio_test_unevictable()`
    pub unevictable: bool,
    /// `folio_test_mlocked()`
    pub mlocked: bool,
    /// `mlock_count`: locked areas that map it, as far as they are known.
    pub mlock_count: u32,
    /// `folio_test_reclaim()`
    pub reclaim: bool,
    /// `PageAnonExclusive()`, of a small folio.
    pub anon_exclusive: bool,
    /// `folio_test_lru()`: it is on an LRU list (not isolated, not in the lru_add batch).
    pub lru: bool,
    /// `folio_test_swapcache()`, and its slot.
    pub swap: Option<SwapEntry>,
    /// Charged to the actors' cgroup (made by a step); else to another.
    pub charged: bool,
    /// Neighbours on its LRU list (see [`LruList`]).
    pub prev: Option<FolioId>,
    /// See `prev`.
    pub next: Option<FolioId>,
}

impl Folio {
    /// `folio_nr_pages()`
    pub fn nr_pages(&self) -> u64 {
        match (self.hugetlb, &self.large) {
            (Some(size), _) => size.pages(),
            (None, Some(large)) => large.mapcounts.len() as u64,
            (None, None) => 1,
        }
    }

    /// `folio_order()`
    pub fn order(&self) -> u32 {
        self.nr_pages().trailing_zeros()
    }

    /// Which of its pages an address is of.
    pub fn page(&self, addr: u64) -> usize {
        self.large.as_ref().map_or(0, |large| large.page(addr))
    }

    /// `PageAnonExclusive()` of the page at an address.
    pub fn page_anon_exclusive(&self, addr: u64) -> bool {
        match &self.large {
            Some(large) if large.entire_mapcount > 0 => large.anon_exclusive[0],
            Some(large) => large.anon_exclusive[large.page(addr)],
            None => self.anon_exclusive,
        }
    }

    /// `SetPageAnonExclusive()`, `ClearPageAnonExclusive()`
    pub fn set_page_anon_exclusive(&mut self, addr: u64, exclusive: bool) {
        let page = self.page(addr);
        match &mut self.large {
            Some(large) => large.anon_exclusive[page] = exclusive,
            None => self.anon_exclusive = exclusive,
        }
    }

    /// What the page at an address holds.
    pub fn page_content(&self, addr: u64) -> Content {
        match &self.large {
            Some(large) => large.contents[large.page(addr)],
            None => self.content,
        }
    }

    /// What the page of that number holds.
    pub fn nth_page_content(&self, nth: usize) -> Content {
        match &self.large {
            Some(large) => large.contents.get(nth).copied().unwrap_or_default(),
            None => self.content,
        }
    }

    /// All of it is dirty, or clean.
    pub fn set_dirty(&mut self, dirty: bool) {
        self.dirty = dirty;
        if let Some(large) = &mut self.large {
            large.dirty.fill(dirty);
        }
    }

    /// The folio becomes dirty, for the page at an address is.
    pub fn set_page_dirty(&mut self, addr: u64) {
        let page = self.page(addr);
        self.dirty = true;
        if let Some(large) = &mut self.large {
            large.dirty[page] = true;
        }
    }

    /// One more PTE, of another mm, maps the page at an address (`folio_try_dup_anon_rmap_pte()`).
    pub fn dup_rmap_pte(&mut self, addr: u64) {
        self.mapcount += 1;
        let page = self.page(addr);
        if let Some(large) = &mut self.large {
            large.mapcounts[page] += 1;
        }
        self.set_page_anon_exclusive(addr, false);
    }

    /// The frame of the page at an address.
    pub fn page_pfn(&self, addr: u64) -> u64 {
        match self.hugetlb {
            Some(size) => self.pfn + addr / PAGE_SIZE % size.pages(),
            None => self.pfn + self.page(addr) as u64,
        }
    }

    /// The page at an address is written to.
    pub fn write_page(&mut self, addr: u64, written: Written) {
        let page = self.page(addr);
        match &mut self.large {
            Some(large) => large.contents[page].write(written),
            None => self.content.write(written),
        }
    }
}

/// All folios, by place; freed places are used again.
#[derive(Clone, Debug, Default)]
pub struct Folios {
    all: Vec<Folio>,
    free: Vec<FolioId>,
    last_pfn: u64,
}

impl Folios {
    /// `folio_alloc()`: a new folio with one reference, in frames of its own where it does
    /// not say which ones it has.
    pub fn alloc(&mut self, folio: Folio) -> FolioId {
        let pfn = match folio.pfn {
            0 => self.last_pfn + 1,
            known => known,
        };
        let folio = Folio {
            pfn,
            refcount: 1,
            ..folio
        };
        self.last_pfn = self.last_pfn.max(pfn + folio.nr_pages() - 1);
        if let Some(id) = self.free.pop() {
            self.all[id as usize] = folio;
            return id;
        }
        self.all.push(folio);
        (self.all.len() - 1) as FolioId
    }

    /// The folio is in other frames from now on, which nobody had before.
    pub fn move_to_new_frames(&mut self, id: FolioId) {
        let pfn = self.last_pfn + 1;
        self.all[id as usize].pfn = pfn;
        self.last_pfn = pfn + self.all[id as usize].nr_pages() - 1;
    }

    /// Whether pages were moved, or made, somewhere else than on the actors' node.
    pub fn any_on_another_node(&self) -> bool {
        self.all.iter().any(|folio| folio.node != 0)
    }

    /// Gives its place back. The caller has taken it off all lists.
    pub fn free(&mut self, id: FolioId) {
        let folio = &mut self.all[id as usize];
        folio.node = 0;
        folio.stable_node = None;
        self.free.push(id);
    }
}

impl std::ops::Index<FolioId> for Folios {
    type Output = Folio;
    fn index(&self, id: FolioId) -> &Folio {
        &self.all[id as usize]
    }
}

impl std::ops::IndexMut<FolioId> for Folios {
    fn index_mut(&mut self, id: FolioId) -> &mut Folio {
        &mut self.all[id as usize]
    }
}

/// A list of folios linked through themselves; `head` is the newest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LruList {
    /// Newest.
    pub head: Option<FolioId>,
    /// Oldest: where reclaim looks first.
    pub tail: Option<FolioId>,
    /// How many pages they have.
    pub len: u64,
}

impl LruList {
    /// `list_add()`: at the head.
    pub fn add(&mut self, folios: &mut Folios, id: FolioId) {
        folios[id].prev = None;
        folios[id].next = self.head;
        match self.head {
            Some(head) => folios[head].prev = Some(id),
            None => self.tail = Some(id),
        }
        self.head = Some(id);
        self.len += folios[id].nr_pages();
    }

    /// `list_add_tail()` before a folio of the list: newer than it.
    pub fn add_before(&mut self, folios: &mut Folios, id: FolioId, older: FolioId) {
        let newer = folios[older].prev.replace(id);
        folios[id].prev = newer;
        folios[id].next = Some(older);
        match newer {
            Some(newer) => folios[newer].next = Some(id),
            None => self.head = Some(id),
        }
        self.len += folios[id].nr_pages();
    }

    /// `list_add_tail()`
    pub fn add_tail(&mut self, folios: &mut Folios, id: FolioId) {
        folios[id].next = None;
        folios[id].prev = self.tail;
        match self.tail {
            Some(tail) => folios[tail].next = Some(id),
            None => self.head = Some(id),
        }
        self.tail = Some(id);
        self.len += folios[id].nr_pages();
    }

    /// `list_del()`
    pub fn del(&mut self, folios: &mut Folios, id: FolioId) {
        let (prev, next) = (folios[id].prev.take(), folios[id].next.take());
        match prev {
            Some(prev) => folios[prev].next = next,
            None => self.head = next,
        }
        match next {
            Some(next) => folios[next].prev = prev,
            None => self.tail = prev,
        }
        self.len -= folios[id].nr_pages();
    }
}
