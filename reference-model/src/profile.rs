// SPDX-License-Identifier: GPL-2.0-only
//! Which kernel: what differs between those that the model speaks for, as data.

/// What differs between kernels, as data. One constant for each known kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name, as `--model-profile` takes it.
    pub name: &'static str,
    /// `__flush_tlb_range()` and `arch_tlbbatch_add_pending()` notify secondary MMUs (commit
    /// d9be2b9b6049).
    pub notifies_secondary: bool,
    /// `__flush_tlb_range()` notifies secondary MMUs where the cpumask is empty, too: the
    /// fix of scenarios/findings/empty-cpumask.md.
    pub tells_with_empty_cpumask: bool,
    /// `ptep_set_access_flags()` flushes what it changed without Svvptc, too, and
    /// `pmdp_set_access_flags()` flushes all of the huge page: the fix of
    /// scenarios/findings/upgrade-in-place.md.
    pub upgrades_flush: bool,
    /// `arch_tlbbatch_add_pending()` is given a range and not a page ("mm: support
    /// tlbbatch flush for a range of PTEs").
    pub batch_pending_takes_range: bool,
    /// `flush_tlb_batched_pending()` goes by `arch_flush_tlb_batched_pending()`; later
    /// it calls `flush_tlb_mm()` itself ("mm: remove arch_flush_tlb_batched_pending()
    /// arch helper").
    pub batched_pending_in_arch: bool,
    /// MADV_DONTNEED frees the PTE tables that it emptied, in `zap_pte_range()` ("mm: pgtable:
    /// reclaim empty PTE page in madvise(MADV_DONTNEED)"; CONFIG_PT_RECLAIM).
    pub dontneed_frees_page_tables: bool,
    /// Whatever zaps pages or frees gathered ones first drains the running hart's LRU
    /// batches (`lru_add_drain()` in `zap_page_range_single()`, `vms_clear_ptes()`,
    /// `exit_mmap()` and `free_pages_and_swap_cache()`).
    pub zap_drains_lru: bool,
    /// `do_swap_page()` always goes through the swap cache, drains the LRU batches for
    /// each write, and takes the folio out of the cache once it is mapped (`swapin_sync()`).
    pub swapin_always_cached: bool,
    /// A read fault maps a dirty page of a shared writable mapping dirty (`set_pte_range()`).
    pub read_fault_maps_dirty: bool,
    /// MADV_DONTNEED and MADV_FREE have one mmu_gather for all vmas, and not one each in
    /// `madvise_free_single_vma()` and `madvise_dontneed_single_vma()` ("mm/madvise: batch
    /// tlb flushes for MADV_FREE" and "… for MADV_DONTNEED[_LOCKED]").
    pub madvise_one_gather: bool,
    /// `page_cache_ra_order()` makes folios of the window's own order, which is 0 where a fault
    /// begins one, and sets no mark where the window reaches the end of the file; before, folios of
    /// xfs were two orders larger ("mm/readahead: store folio order in struct file_ra_state").
    pub readahead_keeps_order: bool,
    /// How much is read ahead of a disk that says nothing of its best size is twice what it takes
    /// at once (`blk_apply_bdi_limits()`; "block: set read-ahead size to the maximum I/O size for rotational
    /// devices").
    pub readahead_goes_by_largest_io: bool,
    /// Files on ext4 have large folios, too, and a write gets one of its own size (`ext4_da_write_begin()`;
    /// "ext4: enable large folio for regular file").
    pub ext4_has_large_folios: bool,
    /// What is read of shared memory by calls is taken folio by folio: `shmem_file_read_iter()` looks
    /// whether it begins with a folio, and not with a page ("mm: shmem: improve the tmpfs large
    /// folio read performance").
    pub reads_shmem_by_folios: bool,
    /// `wp_can_reuse_anon_folio()` first looks whether a folio has no more references than
    /// can be dropped (of an LRU batch, of the swap cache); before, whether it has three at
    /// the most.
    pub reuse_counts_references: bool,
    /// UFFDIO_MOVE moves pages in a row and flushes once for them: `move_present_ptes()` in place
    /// of `move_present_pte()` ("userfaultfd: opportunistic TLB-flush batching for present pages
    /// in MOVE").
    pub uffd_moves_in_batches: bool,
    /// After the end of a file UFFDIO_COPY finds no memory and UFFDIO_CONTINUE no page
    /// (`shmem_mfill_folio_alloc()`, `mfill_atomic_pte_continue()`).
    pub uffd_asks_file_first: bool,
    /// UFFDIO_COPY of hugetlb whose pool is used up says EEXIST and not ENOMEM: what
    /// `hugetlb_mfill_atomic_pte()` finds is the table that was made for it just before.
    pub uffd_empty_pool_exists: bool,
    /// MADV_GUARD_INSTALL and MADV_GUARD_REMOVE: `madvise_guard_install()`,
    /// `madvise_guard_remove()` ("mm: madvise: implement lightweight guard page mechanism").
    pub guard_pages: bool,
    /// A vma with an anon_vma merges into one that has none: `is_mergeable_anon_vma()`
    /// ("mm/vma: fix incorrectly disallowed anonymous VMA merges").
    pub merge_faulted_into_unfaulted: bool,
    /// A lazily freed folio that has further references is swap-backed again in
    /// `try_to_unmap_one()`; later only a dirty one ("mm: set folio swapbacked iff folios are
    /// dirty in try_to_unmap_one").
    pub lazyfree_extra_ref_makes_swapbacked: bool,
    /// `lru_note_cost()` lets costs decay even where it adds none.
    pub note_cost_decays_on_zero: bool,
    /// The costs of reclaim are what `prepare_scan_control()` makes of counters, in place of
    /// what `lru_note_cost()` noted (`struct lru_cost`).
    pub costs_are_counted: bool,
    /// Page tables are freed by RCU on all machines, and not by what
    /// `riscv_tlb_remove_ptdesc()` asks ("riscv: pgtable: unconditionally
    /// use tlb_remove_ptdesc()").
    pub tables_always_by_rcu: bool,
    /// PROT_WRITE makes an area readable as well, for only VM_WRITE means a shadow
    /// stack (`arch_calc_vm_prot_bits()` of asm/mman.h).
    pub write_implies_read: bool,
    /// `process_madvise()` looks for the mm before the advice, and takes any advice for
    /// the caller's own.
    pub process_madvise_any_for_self: bool,
    /// MADV_COLLAPSE of less than an aligned huge page is done at once, instead of
    /// refused after a drain of all harts' LRU batches (`madvise_collapse()`).
    pub collapse_of_nothing_is_done: bool,
    /// MADV_COLLAPSE leaves alone what has no writable page (SCAN_PAGE_RO of
    /// `hpage_collapse_scan_pmd()`).
    pub collapse_wants_a_writable_page: bool,
    /// MADV_COLLAPSE passes over a PMD that is none, instead of ending there: what
    /// `madvise_collapse()` does of `find_pmd_or_thp_or_none()` (SCAN_PMD_NONE, later part of
    /// SCAN_NO_PTE_TABLE).
    pub collapse_passes_over_none: bool,
    /// `madvise_cold_or_pageout_pte_range()` makes a young huge PMD old by
    /// `pmdp_invalidate()`, and not by `pmdp_test_and_clear_young()`.
    pub cold_invalidates_pmd: bool,
    /// Reclaim discards a clean lazyfree huge page by its PMD, without splitting that
    /// (`unmap_huge_pmd_locked()`).
    pub discards_lazyfree_pmd: bool,
    /// One that was written to again, or that somebody holds, stays as it is, in
    /// `__discard_anon_folio_pmd_locked()` and `try_to_unmap_one()` ("mm: set folio swapbacked
    /// iff folios are dirty in try_to_unmap_one"); else it is split.
    pub keeps_lazyfree_pmd: bool,
    /// Reclaim notifies of the PTEs of a lazyfree huge page, and of those of a file's large folio,
    /// in one range: `try_to_unmap_one()` ("mm: support batched unmap for lazyfree large folios
    /// during reclamation").
    pub unmaps_lazyfree_in_batches: bool,
    /// A huge page of a file that a young PMD mapped is marked as accessed where that is
    /// zapped (`zap_huge_pmd_folio()`).
    pub zapped_pmd_is_accessed: bool,
    /// A large folio of a file that a locked area maps as a whole is locked, too:
    /// `__folio_add_file_rmap()`.
    pub locks_large_file_folios: bool,
    /// A write to one page of a huge page that no other mm maps reuses it, though it is not
    /// marked as exclusive (`__wp_can_reuse_large_anon_folio()`).
    pub reuses_large_anon: bool,
    /// Whether several mms map a huge page is known and not guessed by its first page
    /// (`folio_maybe_mapped_shared()` in place of `folio_likely_mapped_shared()`).
    pub knows_which_mms_map: bool,
    /// The pages of a huge page that is split go to their list from the second to the last
    /// (`__folio_freeze_and_split_unmapped()`), and not the other way round.
    pub splits_ascending: bool,
    /// A large folio of a file that is truncated in part is split by halves, down to where the
    /// part begins and ends, and not to single pages: `folio_split()` in
    /// `truncate_inode_partial_folio()`.
    pub splits_files_by_halves: bool,
    /// A fault maps all of a large folio of any file, where it lies in the area and in a page
    /// table: `finish_fault()`, `filemap_map_folio_range()`; before, of shared anonymous memory
    /// alone, and not around a fault.
    pub maps_large_folios_of_files: bool,
    /// A large folio of shared memory can be split to others than single pages:
    /// `split_huge_page_to_list_to_order()`, later `folio_check_splittable()`.
    pub splits_shmem_to_any_order: bool,
    /// For `within_size` of `shmem_enabled` it is enough that a page of any size would end within
    /// the file (`shmem_huge_global_enabled()`).
    pub within_size_of_any_order: bool,
    /// khugepaged is told of a new area of a file before that has its vm_ops, so that it is not
    /// known for `vma_is_anon_shmem()`, and settings of sizes are not asked:
    /// `__mmap_new_vma()`, before `set_vma_user_defined_fields()`.
    pub vm_ops_come_last: bool,
    /// A large page of shared memory comes back from swap as one (`shmem_swap_alloc_folio()`).
    pub swaps_large_shmem_in: bool,
    /// MADV_COLLAPSE takes files of disks whose page cache has large folios: `file_thp_enabled()`
    /// without CONFIG_READ_ONLY_THP_FOR_FS.
    pub collapses_files_of_disks: bool,
    /// A mapping of a file that has, or had, guard pages keeps its page tables where the file's
    /// pages become a huge one (`file_backed_vma_is_retractable()`).
    pub guards_keep_page_tables: bool,
    /// A huge page that is locked is not split for holding little (`deferred_split_scan()`).
    pub leaves_underused_locked: bool,
    /// `deferred_split_scan()` that split nothing ends the shrinker's turn where the queue
    /// is empty then (SHRINK_STOP), and all of it stays to be done; later it is where
    /// nothing was in the queue, a `list_lru` since then (`deferred_split_lru`).
    pub emptied_split_queue_stops: bool,
    /// A write to the huge zero page brings a huge page, and not a small one after a split
    /// (`do_huge_zero_wp_pmd()`).
    pub copies_huge_zero_page: bool,
    /// khugepaged runs wherever any size is allowed, and makes folios of all of them
    /// (`hugepage_enabled()`, `mthp_collapse()`); pages that are lazily freed and clean it leaves
    /// (SCAN_PAGE_LAZYFREE).
    pub khugepaged_makes_all_sizes: bool,
    /// Slots of single pages go through caches of 64 that each CPU has: `folio_alloc_swap()`
    /// and `free_swap_slot()` of `mm/swap_slots.c`, until "mm, swap: remove swap slot cache".
    pub swap_slots_cache: bool,
    /// A cluster of swap is taken off its list to be looked at, and each that has slots left
    /// goes to the fragmented ones; for single pages those with free slots come before those
    /// that are free (`isolate_lock_cluster()`, `relocate_cluster()`).
    pub isolates_swap_clusters: bool,
    /// mremap(2) looks at an area before it unmaps where that goes (`check_prep_vma()`), and
    /// with MREMAP_FIXED moves all areas of a range, in `remap_move()` ("mm/mremap: permit
    /// mremap() move of multiple VMAs").
    pub remaps_several_areas: bool,
    /// MADV_DOFORK is refused of all VM_SPECIAL areas, as hugetlb's are, and not of VM_IO alone
    /// (`madvise_vma_behavior()`).
    pub dofork_refuses_special: bool,
    /// PROT_NONE is told from what is present without NUMA balancing, too, for userfaultfd
    /// protects by it (CONFIG_ARCH_HAS_PTE_PROTNONE; `copy_huge_pmd()` asks `userfaultfd_rwp()`
    /// since then): `gup_fast_pte_range()` leaves it to faults.
    pub protnone_is_known: bool,
    /// Before anything else, and whatever is asked for, mremap(2) looks whether all splits that may
    /// come of it leave no more areas than vm.max_map_count, and again before an area moves
    /// (`__check_map_count_against_split()`, called by
    /// `check_map_count_against_split_early()`); before, `mremap_to()` and `move_vma()` kept away
    /// from the limit.
    pub mremap_counts_splits: bool,
    /// Private mappings of files have an offset of their own for anonymous pages, which
    /// follow one another where such areas are to merge (`needs_adjacent_anon_pgoff()`).
    pub anon_pgoff: bool,
    /// What KSM knew of a page's contents before it was merged it has forgotten once it is parted:
    /// `remove_rmap_item_from_tree()` sets `linear_page_index` to 0, which is where the checksum
    /// was ("ksm: Optimize rmap_walk_ksm by passing a suitable address range").
    pub ksm_forgets_checksums: bool,
    /// hugetlb flushes by mmu_gathers: `hugetlb_change_protection()`, `hugetlb_unshare_pmds()`
    /// ("mm/hugetlb: fix excessive IPI broadcasts when unsharing PMD tables using mmu_gather").
    pub hugetlb_gathers: bool,
    /// Who has reserved a page takes it from children at their own addresses, in
    /// `unmap_ref_private()`; before, at its own, where those have nothing that have moved it
    /// (scenarios/findings/hugetlb-moved-in-child.md).
    pub takes_private_pages_where_they_are: bool,
    /// `free_pgtables()` takes each vma of hugetlb by itself (`hugetlb_free_pgd_range()`).
    pub frees_hugetlb_tables_apart: bool,
    /// `huge_ptep_clear_flush()` flushes all of a page, as scenarios/findings/hugetlb-copy.md
    /// suggests.
    pub hugetlb_copy_flushes_page: bool,
    /// `tlb_flush()` flushes the mm where tables were unshared, as
    /// scenarios/findings/unshared-page-table.md suggests.
    pub unshared_tables_flush_mm: bool,
    /// A killed process's memory is given back from its last area to its first
    /// (`__oom_reap_task_mm()`).
    pub oom_reaps_from_the_end: bool,
    /// DAMON begins with as many ranges as it is to have at the least: `kdamond_fn()` calls
    /// `damon_apply_min_nr_regions()`.
    pub damon_begins_with_parts: bool,
    /// `move_normal_pmd()` and `move_normal_pud()` flush the whole mm, as
    /// scenarios/findings/moved-page-table.md suggests.
    pub moved_tables_flush_mm: bool,
}

impl Profile {
    /// 6.12 with d9be2b9b6049, as Debian 13 has it.
    pub const STABLE: Profile = Profile {
        name: "stable",
        notifies_secondary: true,
        tells_with_empty_cpumask: false,
        upgrades_flush: false,
        batch_pending_takes_range: false,
        batched_pending_in_arch: true,
        dontneed_frees_page_tables: false,
        zap_drains_lru: true,
        swapin_always_cached: false,
        read_fault_maps_dirty: false,
        madvise_one_gather: false,
        readahead_keeps_order: false,
        ext4_has_large_folios: false,
        readahead_goes_by_largest_io: false,
        reads_shmem_by_folios: false,
        reuse_counts_references: false,
        uffd_moves_in_batches: false,
        uffd_asks_file_first: false,
        uffd_empty_pool_exists: false,
        guard_pages: false,
        merge_faulted_into_unfaulted: false,
        lazyfree_extra_ref_makes_swapbacked: true,
        note_cost_decays_on_zero: true,
        costs_are_counted: false,
        tables_always_by_rcu: false,
        write_implies_read: false,
        process_madvise_any_for_self: false,
        collapse_of_nothing_is_done: false,
        collapse_wants_a_writable_page: true,
        collapse_passes_over_none: false,
        cold_invalidates_pmd: false,
        discards_lazyfree_pmd: false,
        keeps_lazyfree_pmd: false,
        unmaps_lazyfree_in_batches: false,
        zapped_pmd_is_accessed: false,
        locks_large_file_folios: false,
        reuses_large_anon: false,
        knows_which_mms_map: false,
        splits_ascending: false,
        splits_files_by_halves: false,
        splits_shmem_to_any_order: false,
        maps_large_folios_of_files: false,
        within_size_of_any_order: false,
        vm_ops_come_last: false,
        swaps_large_shmem_in: false,
        collapses_files_of_disks: false,
        guards_keep_page_tables: false,
        leaves_underused_locked: false,
        emptied_split_queue_stops: true,
        copies_huge_zero_page: false,
        khugepaged_makes_all_sizes: false,
        swap_slots_cache: true,
        isolates_swap_clusters: false,
        remaps_several_areas: false,
        dofork_refuses_special: false,
        protnone_is_known: false,
        mremap_counts_splits: false,
        anon_pgoff: false,
        ksm_forgets_checksums: false,
        hugetlb_gathers: true,
        takes_private_pages_where_they_are: false,
        frees_hugetlb_tables_apart: true,
        hugetlb_copy_flushes_page: false,
        unshared_tables_flush_mm: false,
        oom_reaps_from_the_end: false,
        damon_begins_with_parts: false,
        moved_tables_flush_mm: false,
    };
    /// Debian 13's 6.12.107, before what 6.12.117 has of huge pages otherwise. In which point
    /// release between them that came is not known.
    pub const STABLE_107: Profile = Profile {
        name: "6.12.107",
        hugetlb_gathers: false,
        cold_invalidates_pmd: true,
        discards_lazyfree_pmd: true,
        ..Profile::STABLE
    };
    /// The same without d9be2b9b6049.
    pub const PREPATCH: Profile = Profile {
        name: "prepatch",
        notifies_secondary: false,
        ..Profile::STABLE
    };
    /// 7.2.
    pub const NEXT: Profile = Profile {
        name: "next",
        notifies_secondary: true,
        tells_with_empty_cpumask: false,
        upgrades_flush: false,
        batch_pending_takes_range: true,
        batched_pending_in_arch: false,
        dontneed_frees_page_tables: true,
        zap_drains_lru: false,
        swapin_always_cached: true,
        read_fault_maps_dirty: true,
        madvise_one_gather: true,
        readahead_keeps_order: true,
        ext4_has_large_folios: true,
        readahead_goes_by_largest_io: true,
        reads_shmem_by_folios: true,
        reuse_counts_references: false,
        uffd_moves_in_batches: true,
        uffd_asks_file_first: true,
        uffd_empty_pool_exists: true,
        guard_pages: true,
        merge_faulted_into_unfaulted: true,
        lazyfree_extra_ref_makes_swapbacked: false,
        note_cost_decays_on_zero: false,
        costs_are_counted: false,
        tables_always_by_rcu: true,
        write_implies_read: true,
        process_madvise_any_for_self: true,
        collapse_of_nothing_is_done: true,
        collapse_wants_a_writable_page: false,
        collapse_passes_over_none: true,
        cold_invalidates_pmd: true,
        discards_lazyfree_pmd: true,
        keeps_lazyfree_pmd: true,
        unmaps_lazyfree_in_batches: true,
        zapped_pmd_is_accessed: true,
        locks_large_file_folios: true,
        reuses_large_anon: true,
        knows_which_mms_map: true,
        splits_ascending: true,
        splits_files_by_halves: true,
        splits_shmem_to_any_order: true,
        maps_large_folios_of_files: true,
        within_size_of_any_order: true,
        vm_ops_come_last: true,
        swaps_large_shmem_in: true,
        collapses_files_of_disks: true,
        guards_keep_page_tables: true,
        leaves_underused_locked: true,
        emptied_split_queue_stops: false,
        copies_huge_zero_page: true,
        khugepaged_makes_all_sizes: true,
        swap_slots_cache: false,
        isolates_swap_clusters: true,
        remaps_several_areas: true,
        dofork_refuses_special: true,
        protnone_is_known: false,
        mremap_counts_splits: true,
        anon_pgoff: false,
        ksm_forgets_checksums: false,
        hugetlb_gathers: true,
        takes_private_pages_where_they_are: false,
        frees_hugetlb_tables_apart: false,
        hugetlb_copy_flushes_page: false,
        unshared_tables_flush_mm: false,
        oom_reaps_from_the_end: true,
        damon_begins_with_parts: true,
        moved_tables_flush_mm: false,
    };
    /// 7.3-rc7.
    pub const LINUX_7_3_RC7: Profile = Profile {
        protnone_is_known: true,
        name: "7.3-rc7",
        anon_pgoff: true,
        ksm_forgets_checksums: true,
        costs_are_counted: true,
        reuse_counts_references: true,
        ..Profile::NEXT
    };
    /// 7.3.4, which deals with huge pages as 6.12.117 does, in which point release between
    /// them is not known.
    pub const LINUX_7_3: Profile = Profile {
        name: "7.3",
        takes_private_pages_where_they_are: true,
        cold_invalidates_pmd: false,
        discards_lazyfree_pmd: false,
        ..Profile::LINUX_7_3_RC7
    };
    /// Stable where no hart has ASIDs: what differs is the machine's.
    pub const NOASID: Profile = Profile {
        name: "noasid",
        ..Profile::STABLE
    };
    /// Stable where fences go by IPI: what differs is the machine's.
    pub const NOSBI: Profile = Profile {
        name: "nosbi",
        ..Profile::STABLE
    };
    /// Stable with the fix of scenarios/findings/empty-cpumask.md.
    pub const FIXED: Profile = Profile {
        name: "fixed",
        tells_with_empty_cpumask: true,
        ..Profile::STABLE
    };
    /// Stable with the fix of scenarios/findings/upgrade-in-place.md.
    pub const UPGRADES_FIXED: Profile = Profile {
        name: "upgrades-fixed",
        upgrades_flush: true,
        ..Profile::STABLE
    };
    /// Stable with the fixes of scenarios/findings/hugetlb-copy.md, unshared-page-table.md and
    /// moved-page-table.md.
    pub const PIECES_FIXED: Profile = Profile {
        name: "pieces-fixed",
        hugetlb_copy_flushes_page: true,
        unshared_tables_flush_mm: true,
        moved_tables_flush_mm: true,
        ..Profile::STABLE
    };
    /// All of them.
    pub const ALL: &'static [Profile] = &[
        Profile::STABLE,
        Profile::STABLE_107,
        Profile::NEXT,
        Profile::LINUX_7_3_RC7,
        Profile::LINUX_7_3,
        Profile::PREPATCH,
        Profile::NOASID,
        Profile::NOSBI,
        Profile::FIXED,
        Profile::UPGRADES_FIXED,
        Profile::PIECES_FIXED,
    ];

    /// The profile that speaks for a kernel of which only `uname -r` is known, and whether
    /// it is of that very release; else it is the nearest.
    pub fn of_release(release: &str) -> (&'static Profile, bool) {
        if release.starts_with("7.3-rc7") || release.starts_with("7.3.0-rc7") {
            return (&Profile::LINUX_7_3_RC7, true);
        }
        let mut numbers = release.split(['.', '-', '+']).map(str::parse::<u32>);
        let mut number = || numbers.next().and_then(Result::ok).unwrap_or(0);
        match (number(), number(), number()) {
            (6, 12, 107) => (&Profile::STABLE_107, true),
            (6, 12, 117) => (&Profile::STABLE, true),
            (7, 2, 12..=13) => (&Profile::NEXT, true),
            (7, 3, 4) => (&Profile::LINUX_7_3, true),
            (6, 12, ..112) => (&Profile::STABLE_107, false),
            (6, 12, _) => (&Profile::STABLE, false),
            (..6, ..) | (6, ..12, _) => (&Profile::PREPATCH, false),
            // The changes that NEXT stands for came one after the other in between.
            (6, ..18, _) => (&Profile::STABLE, false),
            (6, ..) | (7, ..3, _) => (&Profile::NEXT, false),
            _ => (&Profile::LINUX_7_3, false),
        }
    }

    /// The profile that speaks for a source tree, by what is in it: `text` has a file's text, from
    /// the source's root, if there is such a file. What it speaks for may be another release's
    /// code, with which this one has these in common.
    pub fn of_source(text: &dyn Fn(&str) -> Option<String>) -> &'static Profile {
        let says = |file: &str, words: &str| text(file).is_some_and(|text| text.contains(words));
        let tlbflush = "arch/riscv/mm/tlbflush.c";
        let tells = says(tlbflush, "mmu_notifier_arch_invalidate_secondary_tlbs");
        // Of the two forms, "mm: support tlbbatch flush for a range of PTEs" made the later.
        let takes_range = text(tlbflush).is_some_and(|text| {
            let rest = text.split_once("void arch_tlbbatch_add_pending(");
            let parameters = rest.and_then(|(_, rest)| rest.split_once(')'));
            parameters.is_some_and(|(parameters, _)| parameters.contains("end"))
        });
        // try_to_unmap_one() had this for lazyfree huge pages from 6.12 on, until point
        // releases of 6.12 and 7.3 took it out.
        let discards = says("mm/rmap.c", "unmap_huge_pmd_locked");
        let counts = says("include/linux/mmzone.h", "struct lru_cost");
        match (tells, takes_range) {
            (false, _) => &Profile::PREPATCH,
            (true, false) if discards => &Profile::STABLE_107,
            (true, false) => &Profile::STABLE,
            (true, true) if counts && discards => &Profile::LINUX_7_3_RC7,
            (true, true) if counts => &Profile::LINUX_7_3,
            (true, true) => &Profile::NEXT,
        }
    }

    /// The profile of that name.
    pub fn by_name(name: &str) -> Option<&'static Profile> {
        Profile::ALL.iter().find(|profile| profile.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::Profile;

    #[test]
    fn a_source_has_a_profile() {
        let of = |files: &[(&str, &str)]| {
            let text = |wanted: &str| {
                let found = files.iter().find(|(path, _)| *path == wanted);
                found.map(|(_, text)| (*text).to_owned())
            };
            Profile::of_source(&text).name
        };
        let tlbflush = "arch/riscv/mm/tlbflush.c";
        let call = "mmu_notifier_arch_invalidate_secondary_tlbs(mm, start, end);";
        let page = format!("void arch_tlbbatch_add_pending(batch, mm, uaddr) {{ {call} }}");
        let range =
            format!("void arch_tlbbatch_add_pending(batch, mm,\n\tstart, end) {{ {call} }}");
        let discards = ("mm/rmap.c", "unmap_huge_pmd_locked()");
        let counts = ("include/linux/mmzone.h", "struct lru_cost {");
        assert_eq!(of(&[]), "prepatch");
        assert_eq!(of(&[(tlbflush, "int x;")]), "prepatch");
        assert_eq!(of(&[(tlbflush, &page)]), "stable");
        assert_eq!(of(&[(tlbflush, &page), discards]), "6.12.107");
        assert_eq!(of(&[(tlbflush, &range), discards]), "next");
        assert_eq!(of(&[(tlbflush, &range), discards, counts]), "7.3-rc7");
        assert_eq!(of(&[(tlbflush, &range), counts]), "7.3");
    }

    #[test]
    fn a_release_has_a_profile() {
        let of = |release| {
            let (profile, exact) = Profile::of_release(release);
            (profile.name, exact)
        };
        assert_eq!(of("6.12.107+deb13-riscv64"), ("6.12.107", true));
        assert_eq!(of("6.12.117"), ("stable", true));
        assert_eq!(of("6.12.120-starfive"), ("stable", false));
        assert_eq!(of("6.6.20"), ("prepatch", false));
        assert_eq!(of("7.2.12"), ("next", true));
        assert_eq!(of("7.1.3"), ("next", false));
        assert_eq!(of("7.3.4"), ("7.3", true));
        assert_eq!(of("7.3.0-rc7"), ("7.3-rc7", true));
        assert_eq!(of("7.4.0-rc1"), ("7.3", false));
        assert_eq!(of("something"), ("prepatch", false));
    }
}
