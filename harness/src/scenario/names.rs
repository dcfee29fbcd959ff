// SPDX-License-Identifier: GPL-2.0-only
//! Names in scenarios and the numbers that they stand for on riscv64, whose
//! uapi headers are the generic ones, as the libc crate's are on every common host.

use libc::c_int;
use operations::{
    Allowed, HugePages, MPOL_BIND, MPOL_DEFAULT, MPOL_LOCAL, MPOL_PREFERRED, PMD_ORDER,
    ShmemAllowed, Storage,
};

/// Names with their numbers, in the order in which they are told.
pub type Table<N> = &'static [(&'static str, N)];

/// Rights of a mapping.
pub const PROTS: Table<c_int> = &[
    ("none", libc::PROT_NONE),
    ("r", libc::PROT_READ),
    ("w", libc::PROT_WRITE),
    ("x", libc::PROT_EXEC),
    ("rw", libc::PROT_READ | libc::PROT_WRITE),
    ("rx", libc::PROT_READ | libc::PROT_EXEC),
    ("wx", libc::PROT_WRITE | libc::PROT_EXEC),
    ("rwx", libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC),
];

/// Rights of a mapping of which nothing is said.
pub const DEFAULT_PROT: c_int = libc::PROT_READ | libc::PROT_WRITE;

/// Advice for `madvise(2)`.
pub const ADVICE: Table<c_int> = &[
    ("normal", libc::MADV_NORMAL),
    ("random", libc::MADV_RANDOM),
    ("sequential", libc::MADV_SEQUENTIAL),
    ("willneed", libc::MADV_WILLNEED),
    ("dontneed", libc::MADV_DONTNEED),
    ("free", libc::MADV_FREE),
    ("remove", libc::MADV_REMOVE),
    ("dontfork", libc::MADV_DONTFORK),
    ("dofork", libc::MADV_DOFORK),
    ("mergeable", libc::MADV_MERGEABLE),
    ("unmergeable", libc::MADV_UNMERGEABLE),
    ("hugepage", libc::MADV_HUGEPAGE),
    ("nohugepage", libc::MADV_NOHUGEPAGE),
    ("dontdump", libc::MADV_DONTDUMP),
    ("dodump", libc::MADV_DODUMP),
    ("wipeonfork", libc::MADV_WIPEONFORK),
    ("keeponfork", libc::MADV_KEEPONFORK),
    ("cold", libc::MADV_COLD),
    ("pageout", libc::MADV_PAGEOUT),
    ("populate_read", libc::MADV_POPULATE_READ),
    ("populate_write", libc::MADV_POPULATE_WRITE),
    ("dontneed_locked", libc::MADV_DONTNEED_LOCKED),
    ("collapse", libc::MADV_COLLAPSE),
    // Of 6.13 and later.
    ("guard_install", 102),
    ("guard_remove", 103),
];

/// Seals of a memory file.
pub const SEALS: Table<c_int> = &[
    ("seal", libc::F_SEAL_SEAL),
    ("shrink", libc::F_SEAL_SHRINK),
    ("grow", libc::F_SEAL_GROW),
    ("write", libc::F_SEAL_WRITE),
    ("future_write", libc::F_SEAL_FUTURE_WRITE),
];

/// Faults that a userfaultfd is asked about: bits of `UFFDIO_REGISTER_MODE_*`.
pub const UFFD_MODES: Table<u64> = &[("missing", 1), ("wp", 2), ("minor", 4)];

/// Ways of `msync(2)`.
pub const MSYNC: Table<c_int> = &[
    ("sync", libc::MS_SYNC),
    ("async", libc::MS_ASYNC),
    ("invalidate", libc::MS_INVALIDATE),
];

/// Ways of `fallocate(2)`, but for holes.
pub const FALLOCATE: Table<c_int> = &[
    ("allocate", 0),
    ("keep_size", libc::FALLOC_FL_KEEP_SIZE),
    ("collapse_range", libc::FALLOC_FL_COLLAPSE_RANGE),
    ("zero_range", libc::FALLOC_FL_ZERO_RANGE),
    ("insert_range", libc::FALLOC_FL_INSERT_RANGE),
];

/// Caches that can be dropped.
pub const CACHES: Table<c_int> = &[("pagecache", 1), ("slab", 2), ("all", 3)];

/// What a file can be kept on.
pub const STORAGE: Table<Storage> = &[
    ("memory", Storage::Memory),
    ("ext4", Storage::Ext4),
    ("xfs", Storage::Xfs),
];

/// Where anonymous memory may have large pages; of sizes, all of these, and else not the last.
pub const THP_ALLOWED: Table<Allowed> = &[
    ("never", Allowed::Never),
    ("madvise", Allowed::Madvise),
    ("always", Allowed::Always),
    ("inherit", Allowed::Inherit),
];

/// The same of shmem.
pub const THP_SHMEM: Table<ShmemAllowed> = &[
    ("never", ShmemAllowed::Never),
    ("always", ShmemAllowed::Always),
    ("within_size", ShmemAllowed::WithinSize),
    ("advise", ShmemAllowed::Advise),
    ("inherit", ShmemAllowed::Inherit),
];

/// Orders of folios, by their sizes.
pub const THP_SIZES: Table<u32> = &[
    ("8K", 1),
    ("16K", 2),
    ("32K", 3),
    ("64K", 4),
    ("128K", 5),
    ("256K", 6),
    ("512K", 7),
    ("1M", 8),
    ("2M", PMD_ORDER),
];

/// Policies for where memory comes from.
pub const POLICIES: Table<c_int> = &[
    ("default", MPOL_DEFAULT),
    ("preferred", MPOL_PREFERRED),
    ("bind", MPOL_BIND),
    ("local", MPOL_LOCAL),
];

/// Sizes of hugetlb's pages.
pub const HUGE_PAGES: Table<HugePages> = &[
    ("2M", HugePages::Mib2),
    ("1G", HugePages::Gib1),
    ("64K", HugePages::Kib64),
];

/// What a scenario may require of a kernel or a machine.
pub const FEATURES: Table<()> = &[
    ("swap", ()),
    ("thp", ()),
    ("hugetlb", ()),
    ("hugetlb-1g", ()),
    ("ksm", ()),
    ("iommu", ()),
    ("kvm", ()),
    ("numa", ()),
    ("hart-hotplug", ()),
    ("memory-hotplug", ()),
    ("cma", ()),
    ("kswapd", ()),
    ("lru-gen", ()),
    ("damon", ()),
    ("uprobes", ()),
    ("userfaultfd", ()),
    ("uffd-wp", ()),
    ("ext4", ()),
    ("xfs", ()),
    ("svnapot", ()),
    ("svinval", ()),
    ("svvptc", ()),
    ("svadu", ()),
    ("svade", ()),
    ("sv39", ()),
    ("sv48", ()),
    ("sv57", ()),
    ("asids", ()),
    ("sbi-rfence", ()),
];

/// The number of a name.
pub fn number<N: Copy>(table: Table<N>, name: &str) -> Option<N> {
    table
        .iter()
        .find(|entry| entry.0 == name)
        .map(|entry| entry.1)
}

/// The first name of a number.
pub fn name<N: Copy + PartialEq>(table: Table<N>, number: N) -> Option<&'static str> {
    table
        .iter()
        .find(|entry| entry.1 == number)
        .map(|entry| entry.0)
}

/// The name nearest to a wrong one, if one is near at all.
pub fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    names
        .map(|name| (strsim::damerau_levenshtein(&wrong, name), name))
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3))
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_far_ones_are_not() {
        let names = || ADVICE.iter().map(|entry| entry.0);
        assert_eq!(nearest("dontnead", names()), Some("dontneed"));
        assert_eq!(nearest("Pageout", names()), Some("pageout"));
        assert_eq!(nearest("zzzzzzzzzzzz", names()), None);
    }

    #[test]
    fn numbers_are_those_of_the_generic_uapi_headers() {
        assert_eq!(number(ADVICE, "dontneed_locked"), Some(24));
        assert_eq!(number(ADVICE, "remove"), Some(9));
        assert_eq!(number(SEALS, "future_write"), Some(0x10));
        assert_eq!(libc::MAP_FIXED_NOREPLACE, 0x10_0000);
        assert_eq!(libc::MAP_NORESERVE, 0x4000);
        assert_eq!(name(PROTS, DEFAULT_PROT), Some("rw"));
    }
}
