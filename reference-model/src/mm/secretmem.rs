// SPDX-License-Identifier: GPL-2.0-only
//! `mm/secretmem.c`: memory that the kernel itself does not reach by its own map. The map's
//! changes are flushed of no mm.

use crate::mm::swap::folio_add_lru;
use crate::mm_types::{CacheEntry, FileId, Folio, FolioId, Inode, Of, Vma};
use crate::state::Kernel;

/// RLIMIT_MEMLOCK as the kernel has it at first, in pages (MLOCK_LIMIT).
const MLOCK_LIMIT: usize = 2048;

/// `vma_is_secretmem()`
pub fn vma_is_secretmem(k: &Kernel<'_>, vma: &Vma) -> bool {
    k.of(vma.file) == Of::Secret
}

/// `secretmem_file_create()`, of a file that only vmas will hold open.
pub fn secretmem_file_create(k: &mut Kernel<'_>, pages: u64) -> FileId {
    k.files.push(Inode {
        pages,
        unnamed: true,
        of: Of::Secret,
        ..Inode::default()
    });
    k.files.len() - 1
}

/// `secretmem_fault()`: the page with a reference, or none after the end of the file.
pub fn secretmem_fault(k: &mut Kernel<'_>, file: FileId, index: u64) -> Option<FolioId> {
    if index >= k.files[file].pages {
        return None;
    }
    let cached = k.files[file].cache.get(&index).copied();
    if let Some(CacheEntry::Folio(id)) = cached {
        k.folio_get(id);
        return Some(id);
    }
    let secret = k.files.iter().filter(|inode| inode.of == Of::Secret);
    if secret.map(|inode| inode.cache.len()).sum::<usize>() >= MLOCK_LIMIT {
        // secretmem_account_folio()
        k.unpredicted = Some("more secret memory than RLIMIT_MEMLOCK");
        return None;
    }
    // filemap_add_folio()
    let id = k.folios.alloc(Folio {
        mapping: Some((file, index)),
        charged: true,
        ..Folio::default()
    });
    folio_add_lru(k, id);
    k.files[file].cache_folio(index, 1, id);
    k.folio_get(id);
    Some(id)
}
