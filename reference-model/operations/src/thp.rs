// SPDX-License-Identifier: GPL-2.0-only
//! What huge pages the kernel is set to make: /sys/kernel/mm/transparent_hugepage.

use serde::{Deserialize, Serialize};

/// Order of a page of 2 MiB, which a PMD maps.
pub const PMD_ORDER: u32 = 9;

/// The settings of a program. By default nothing but MADV_COLLAPSE makes a large page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thp {
    /// `enabled`: what sizes come to that inherit.
    pub enabled: Allowed,
    /// `hugepages-*kB/enabled`: by order, no order twice; one that is not named is never made.
    pub sizes: Vec<(u32, Allowed)>,
    /// `shmem_enabled`
    pub shmem: ShmemAllowed,
    /// `hugepages-*kB/shmem_enabled`, as `sizes`.
    pub shmem_sizes: Vec<(u32, ShmemAllowed)>,
    /// `use_zero_page`: what is read first is mapped to a huge page of zeroes.
    pub use_zero_page: bool,
    /// `khugepaged/max_ptes_none`
    pub max_ptes_none: u32,
    /// `khugepaged/max_ptes_swap`
    pub max_ptes_swap: u32,
    /// `khugepaged/max_ptes_shared`
    pub max_ptes_shared: u32,
}

impl Thp {
    /// What a size of anonymous memory is set to.
    pub fn size(&self, order: u32) -> Allowed {
        let named = self.sizes.iter().find(|(of, _)| *of == order);
        named.map_or(Allowed::Never, |(_, allowed)| *allowed)
    }

    /// Whether there is memory of which khugepaged would make something.
    pub fn makes_any(&self) -> bool {
        let made = |(_, allowed): &(u32, Allowed)| match allowed {
            Allowed::Always | Allowed::Madvise => true,
            Allowed::Inherit => self.enabled != Allowed::Never,
            Allowed::Never => false,
        };
        self.sizes.iter().any(made) || self.makes_any_of_shmem()
    }

    /// Whether shmem may have large pages.
    pub fn makes_any_of_shmem(&self) -> bool {
        let made = |(_, allowed): &(u32, ShmemAllowed)| *allowed != ShmemAllowed::Never;
        self.shmem != ShmemAllowed::Never || self.shmem_sizes.iter().any(made)
    }

    /// The same of shmem.
    pub fn shmem_size(&self, order: u32) -> ShmemAllowed {
        let named = self.shmem_sizes.iter().find(|(of, _)| *of == order);
        named.map_or(ShmemAllowed::Never, |(_, allowed)| *allowed)
    }
}

impl Default for Thp {
    fn default() -> Thp {
        Thp {
            enabled: Allowed::Never,
            sizes: Vec::new(),
            shmem: ShmemAllowed::Never,
            shmem_sizes: Vec::new(),
            use_zero_page: true,
            max_ptes_none: 511,
            max_ptes_swap: 64,
            max_ptes_shared: 256,
        }
    }
}

/// Where anonymous memory may have large pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Allowed {
    /// `never`
    Never,
    /// `madvise`: after MADV_HUGEPAGE.
    Madvise,
    /// `always`
    Always,
    /// `inherit`, of a size: where `enabled` says.
    Inherit,
}

impl Allowed {
    /// As sysfs has it.
    pub fn word(self) -> &'static str {
        match self {
            Allowed::Never => "never",
            Allowed::Madvise => "madvise",
            Allowed::Always => "always",
            Allowed::Inherit => "inherit",
        }
    }
}

/// Where shmem may have large pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShmemAllowed {
    /// `never`
    Never,
    /// `always`
    Always,
    /// `within_size`: where the file reaches to the page's end.
    WithinSize,
    /// `advise`: after MADV_HUGEPAGE.
    Advise,
    /// `inherit`, of a size: where `shmem_enabled` says.
    Inherit,
}

impl ShmemAllowed {
    /// As sysfs has it.
    pub fn word(self) -> &'static str {
        match self {
            ShmemAllowed::Never => "never",
            ShmemAllowed::Always => "always",
            ShmemAllowed::WithinSize => "within_size",
            ShmemAllowed::Advise => "advise",
            ShmemAllowed::Inherit => "inherit",
        }
    }
}
