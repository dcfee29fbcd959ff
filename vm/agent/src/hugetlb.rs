// SPDX-License-Identifier: GPL-2.0-only
//! hugetlb's pool, filled for a program that maps pages of it.

use crate::settings;
use anyhow::{Result, bail};
use std::path::Path;

const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

/// Pages that a program has: what its steps map has to fit.
const PAGES: &str = "16";

/// Pages in the pool; as many as before when dropped.
pub struct Pool {
    before: String,
}

impl Pool {
    /// Fills it.
    ///
    /// # Errors
    /// There is none, or not that much memory in such pieces.
    pub fn fill() -> Result<Pool> {
        let before = settings::value(Path::new(POOL))?;
        let pool = Pool { before };
        settings::set(Path::new(POOL), PAGES)?;
        let there = settings::value(Path::new(POOL))?;
        if there != PAGES {
            bail!(
                "hugetlb's pool has {there} of {PAGES} pages: the machine has not so much memory in pieces of 2 MiB"
            );
        }
        Ok(pool)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = settings::set(Path::new(POOL), &self.before);
    }
}
