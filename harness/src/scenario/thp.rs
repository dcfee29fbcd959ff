// SPDX-License-Identifier: GPL-2.0-only
//! Settings for huge pages: of what is not said, sizes are as distributions have them, of which
//! 2 MiB goes by what is said of all of them, and all others are never made.

use super::checker::{Checked, Checker};
use super::file;
use super::names::{self, Table};
use operations::{Allowed, PMD_ORDER, ShmemAllowed, Thp};
use serde_saphyr::{Location, Spanned};
use std::collections::BTreeMap;

/// The smallest order of anonymous folios (THP_ORDERS_ALL_ANON of include/linux/huge_mm.h).
const SMALLEST_ANON: u32 = 2;

/// The most PTEs that khugepaged may pass over.
const MOST_PTES: u64 = 511;

impl Checker<'_> {
    pub(super) fn thp(&self, thp: &file::Thp) -> Checked<Thp> {
        let known = Thp::default();
        let enabled = self.setting(thp.enabled.as_ref(), names::THP_ALLOWED, known.enabled)?;
        let shmem = self.setting(thp.shmem.as_ref(), names::THP_SHMEM, known.shmem)?;
        let mut sizes = self.sizes(&thp.sizes, names::THP_ALLOWED, SMALLEST_ANON)?;
        let mut shmem_sizes = self.sizes(&thp.shmem_sizes, names::THP_SHMEM, 1)?;
        let named = |order: u32| order == PMD_ORDER;
        if enabled != Allowed::Never && !sizes.iter().any(|size| named(size.0)) {
            sizes.push((PMD_ORDER, Allowed::Inherit));
        }
        if shmem != ShmemAllowed::Never && !shmem_sizes.iter().any(|size| named(size.0)) {
            shmem_sizes.push((PMD_ORDER, ShmemAllowed::Inherit));
        }
        let ptes = |count: Option<&Spanned<file::Count>>, known: u32| match count {
            Some(count) => {
                Ok(self.at_most(count, MOST_PTES, "khugepaged passes over at most")? as u32)
            }
            None => Ok(known),
        };
        Ok(Thp {
            enabled,
            sizes,
            shmem,
            shmem_sizes,
            use_zero_page: thp.use_zero_page.unwrap_or(known.use_zero_page),
            max_ptes_none: ptes(thp.max_ptes_none.as_ref(), known.max_ptes_none)?,
            max_ptes_swap: ptes(thp.max_ptes_swap.as_ref(), known.max_ptes_swap)?,
            max_ptes_shared: ptes(thp.max_ptes_shared.as_ref(), known.max_ptes_shared)?,
        })
    }

    /// A setting of all sizes, which has nothing to inherit.
    fn setting<N: Copy>(
        &self,
        word: Option<&Spanned<String>>,
        table: Table<N>,
        known: N,
    ) -> Checked<N> {
        let all = &table[..table.len() - 1];
        word.map_or(Ok(known), |word| self.named("setting", all, word))
    }

    fn sizes<N: Copy>(
        &self,
        sizes: &BTreeMap<String, Spanned<String>>,
        table: Table<N>,
        smallest: u32,
    ) -> Checked<Vec<(u32, N)>> {
        let size = |(size, word): (&String, &Spanned<String>)| {
            let order = self.size(size, word.referenced, smallest)?;
            Ok((order, self.named("setting", table, word)?))
        };
        sizes.iter().map(size).collect()
    }

    fn size(&self, size: &str, at: Location, smallest: u32) -> Checked<u32> {
        let first = names::THP_SIZES.partition_point(|(_, order)| *order < smallest);
        self.look_up("size", &names::THP_SIZES[first..], size, at)
    }
}

#[cfg(test)]
mod tests {
    use crate::scenario::check;
    use operations::{Allowed, ShmemAllowed, Thp};
    use std::path::Path;

    fn thp(settings: &str) -> Result<Thp, String> {
        let text = format!("about: x\nthp: {settings}\nsteps:\n  - exit\n");
        let checked = check(Path::new("t.yaml"), &text);
        checked
            .map(|scenario| scenario.program.thp)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn two_mebibytes_inherit_and_other_sizes_are_never_made() {
        let set = thp("{ enabled: madvise, sizes: { 64K: always } }").expect("good settings");
        assert_eq!(set.enabled, Allowed::Madvise);
        let sizes = [2, 4, 9].map(|order| set.size(order));
        assert_eq!(sizes, [Allowed::Never, Allowed::Always, Allowed::Inherit]);
        assert_eq!(set.shmem_size(9), ShmemAllowed::Never);
        let set = thp("{ shmem: advise, max_ptes_none: 0 }").expect("good settings");
        assert_eq!(set.shmem_size(9), ShmemAllowed::Inherit);
        assert_eq!((set.size(9), set.max_ptes_none), (Allowed::Never, 0));
        let set = thp("{ enabled: always, sizes: { 2M: never } }").expect("good settings");
        assert_eq!(set.size(9), Allowed::Never);
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        for (wrong, told) in [
            ("{ enabled: inherit }", "unknown setting `inherit`"),
            ("{ sizes: { 8K: always } }", "unknown size `8K`"),
            ("{ sizes: { 64K: advise } }", "unknown setting `advise`"),
            ("{ max_ptes_none: 512 }", "too large"),
            ("{ always: true }", "unknown field"),
        ] {
            let error = thp(wrong).expect_err(wrong);
            assert!(error.contains(told), "{wrong}: {error}");
        }
    }
}
