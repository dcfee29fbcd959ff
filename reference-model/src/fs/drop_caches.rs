// SPDX-License-Identifier: GPL-2.0-only
//! `fs/drop_caches.c`: what nobody uses of page cache and slabs is given up.

use crate::mm::swap::lru_add_drain_all;
use crate::mm::truncate::mapping_try_invalidate;
use crate::mm_types::Of;
use crate::state::Kernel;
use operations::Storage;

/// A bit of what is dropped: the page cache.
const PAGECACHE: u8 = 1;
/// The other: slabs.
const SLABS: u8 = 2;

/// `drop_caches_sysctl_handler()`
pub fn drop_caches_sysctl_handler(k: &mut Kernel<'_>, what: u8) {
    if what & PAGECACHE != 0 {
        lru_add_drain_all(k);
        drop_pagecache_sb(k);
    }
    // drop_slab(): shrinkers are called until little is found, by whomever. Those that there
    // are for what is looked at here split large folios, and give up shadow entries.
    let shadows = k.swap.slots.values().any(|slot| slot.shadow.is_some());
    let of_files = k.files.iter().any(|inode| !inode.shadows.is_empty());
    let queued = !k.deferred_split_queue.is_empty() || k.nr_deferred > 0;
    if what & SLABS != 0 && (shadows || of_files || queued) {
        k.unpredicted = Some("how often slabs are shrunk");
    }
}

/// `drop_pagecache_sb()` of all file systems: of each the newest inode first. Those of hugetlbfs
/// keep what they have.
fn drop_pagecache_sb(k: &mut Kernel<'_>) {
    let on = |k: &Kernel<'_>, on: Storage| k.files.iter().any(|inode| inode.file.on == on);
    if on(k, Storage::Ext4) && on(k, Storage::Xfs) {
        k.unpredicted = Some("which of two disks was mounted first");
    }
    for storage in [Storage::Memory, Storage::Ext4, Storage::Xfs] {
        for file in (0..k.files.len()).rev() {
            let inode = &k.files[file];
            let usual = inode.of == Of::Usual && inode.file.hugetlb.is_none();
            if usual && inode.file.on == storage {
                mapping_try_invalidate(k, file);
            }
        }
    }
}
