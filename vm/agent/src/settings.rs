// SPDX-License-Identifier: GPL-2.0-only
//! Everything that scans or moves memory by itself is switched off.

use anyhow::{Context, Result};
use std::{fs, path::Path};

/// Path and value. Those that this kernel does not have are passed over.
const STILL: &[(&str, &str)] = &[
    ("/proc/sys/kernel/randomize_va_space", "0"),
    ("/proc/sys/kernel/panic_on_oops", "1"),
    ("/proc/sys/kernel/numa_balancing", "0"),
    ("/proc/sys/kernel/sysrq", "1"),
    ("/proc/sys/vm/compaction_proactiveness", "0"),
    ("/proc/sys/vm/watermark_boost_factor", "0"),
    ("/proc/sys/vm/swappiness", "60"),
    ("/proc/sys/vm/page-cluster", "3"),
    ("/proc/sys/vm/overcommit_memory", "0"),
    ("/sys/kernel/mm/transparent_hugepage/enabled", "never"),
    ("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "never"),
    ("/sys/kernel/mm/transparent_hugepage/khugepaged/defrag", "0"),
    ("/sys/kernel/mm/ksm/run", "0"),
    ("/sys/kernel/mm/lru_gen/enabled", "0"),
];

/// Writes them all.
///
/// # Errors
/// A setting is there and refuses its value.
pub fn make_still() -> Result<()> {
    for (path, value) in STILL {
        if Path::new(path).exists() {
            fs::write(path, value).with_context(|| format!("cannot write {value} to {path}"))?;
        }
    }
    Ok(())
}
