// SPDX-License-Identifier: GPL-2.0-only
//! What this machine is and has.

use crate::{
    cma, damon, disks, files, harts, hugetlb, iommu, kvm, lru_gen, memory_block, nodes, notes,
    swap, tracer::Tracer, uffd, uprobe,
};
use anyhow::{Context, Result};
use operations::{PAGE_SIZE, Storage};
use protocol::message::System;
use protocol::record::fact;
use std::path::Path;

/// Asks the kernel.
///
/// # Errors
/// A fact that every machine has cannot be read.
pub fn facts() -> Result<System> {
    let uname = nix::sys::utsname::uname().context("uname")?;
    let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
    let cpuinfo = files::read(Path::new("/proc/cpuinfo"))?;
    let module = Tracer::open(1)?.facts();
    let mmu = field(&cpuinfo, "mmu").unwrap_or_default();
    let meminfo = files::read(Path::new("/proc/meminfo"))?;
    let pages =
        |name: &str| pages(&meminfo, name).with_context(|| format!("/proc/meminfo has no {name}"));
    Ok(System {
        release: text(uname.release()),
        harts: harts::online()?,
        fault_around_bytes: fault_around_bytes()?,
        asids: module & fact::ASIDS != 0,
        sbi_rfence: module & fact::SBI_RFENCE != 0,
        // `totalram_pages()`
        ram_pages: pages("MemTotal")?,
        free_pages: pages("MemAvailable")?,
        tracing: tracing(module),
        sparsemem: module & fact::SPARSEMEM != 0,
        features: features(&cpuinfo, &mmu, module),
        mmu,
    })
}

/// The ways in which the module has hooked functions.
fn tracing(facts: u32) -> String {
    let ways = [(fact::KPROBES, "kprobes"), (fact::FTRACE, "ftrace")];
    let used = ways.iter().filter(|(way, _)| facts & way != 0);
    used.map(|(_, name)| *name)
        .collect::<Vec<_>>()
        .join(" and ")
}

/// The value of the first line `name : value`.
fn field(cpuinfo: &str, name: &str) -> Option<String> {
    cpuinfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

fn fault_around_bytes() -> Result<u64> {
    let text = files::read(Path::new("/sys/kernel/debug/fault_around_bytes"))?;
    text.trim().parse().context("fault_around_bytes")
}

/// A line of /proc/meminfo, which is in kilobytes.
fn pages(meminfo: &str, name: &str) -> Option<u64> {
    let value = field(meminfo, name)?;
    value
        .split(' ')
        .next()?
        .parse::<u64>()
        .ok()
        .map(|kilobytes| kilobytes / 4)
}

/// Pages that reclaim of the whole machine has looked at, by kswapd or directly. Reclaim of
/// a cgroup and MADV_PAGEOUT are not among them (shrink_inactive_list() of mm/vmscan.c).
///
/// # Errors
/// /proc/vmstat cannot be read.
pub fn scanned() -> Result<u64> {
    Ok(sum_of_scanned(&files::read(Path::new("/proc/vmstat"))?))
}

fn sum_of_scanned(vmstat: &str) -> u64 {
    let values = vmstat.lines().filter_map(|line| {
        let (name, value) = line.split_once(' ')?;
        let counts = ["pgscan_kswapd", "pgscan_direct"].contains(&name);
        value.parse::<u64>().ok().filter(|_| counts)
    });
    values.sum()
}

/// Whether all harts have an extension, as far as this kernel knows it.
fn all_have(cpuinfo: &str, extension: &str) -> bool {
    let lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let mut isas = lines
        .filter(|(key, _)| key.trim() == "isa")
        .map(|(_, isa)| isa);
    isas.all(|isa| isa.trim().split('_').any(|part| part == extension))
}

fn features(cpuinfo: &str, mmu: &str, module: u32) -> Vec<String> {
    let mut features = vec![mmu.to_owned()];
    let svadu = sets_accessed_bits();
    let there = |path: &str| Path::new(path).exists();
    let known = [
        ("svadu", svadu),
        ("svade", !svadu),
        ("svnapot", module & fact::SVNAPOT != 0),
        ("svinval", all_have(cpuinfo, "svinval")),
        ("svvptc", all_have(cpuinfo, "svvptc")),
        ("asids", module & fact::ASIDS != 0),
        ("sbi-rfence", module & fact::SBI_RFENCE != 0),
        ("swap", swap::available() && there("/proc/swaps")),
        ("thp", there("/sys/kernel/mm/transparent_hugepage")),
        ("hugetlb", there("/sys/kernel/mm/hugepages")),
        ("hugetlb-1g", hugetlb::has_gib_pages()),
        ("ksm", there("/sys/kernel/mm/ksm")),
        ("iommu", iommu::is_there()),
        ("ext4", disks::is_there(Storage::Ext4)),
        ("xfs", disks::is_there(Storage::Xfs)),
        ("kvm", kvm::is_there()),
        (
            "hart-hotplug",
            !notes::is_kept() && there("/sys/devices/system/cpu/cpu1/online"),
        ),
        (
            "memory-hotplug",
            !notes::is_kept() && memory_block::are_movable(),
        ),
        ("cma", !notes::is_kept() && cma::is_there()),
        // Others' memory is not to go for it.
        ("kswapd", !notes::is_kept()),
        ("lru-gen", !notes::is_kept() && lru_gen::is_there()),
        ("damon", damon::is_there()),
        ("uprobes", uprobe::is_there()),
        ("userfaultfd", uffd::is_there()),
        ("uffd-wp", uffd::can_protect()),
        ("numa", nodes::are_two()),
    ];
    features.extend(
        known
            .iter()
            .filter(|(_, there)| *there)
            .map(|(name, _)| (*name).to_owned()),
    );
    features
}

/// Whether harts set accessed and dirty bits themselves (Svadu) or leave that
/// to a fault (Svade). The firmware decides, and not every kernel knows the
/// names, so it is tried: reading a page that was just aged faults, or not.
fn sets_accessed_bits() -> bool {
    const MADV_COLD: i32 = 20;
    let length = PAGE_SIZE as usize;
    let (rights, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a new page that nobody else knows of, used while it is mapped.
    unsafe {
        let at = libc::mmap(std::ptr::null_mut(), length, rights, flags, -1, 0);
        if at == libc::MAP_FAILED {
            return true;
        }
        let byte = at.cast::<u8>();
        byte.write_volatile(1);
        libc::madvise(at, length, MADV_COLD);
        let before = minor_faults();
        byte.read_volatile();
        let after = minor_faults();
        libc::munmap(at, length);
        before == after
    }
}

/// Faults of this process that needed no I/O.
fn minor_faults() -> i64 {
    // SAFETY: all-zero is a valid rusage, and the call fills it.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage.ru_minflt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_from_the_kernels_texts() {
        let cpuinfo = "processor\t: 0\nisa\t\t: rv64imafdch_svadu_svvptc\nmmu\t\t: sv57\n";
        assert_eq!(field(cpuinfo, "mmu").as_deref(), Some("sv57"));
        assert_eq!(field(cpuinfo, "uarch"), None);
        assert_eq!(
            pages("MemTotal:       493004 kB\n", "MemTotal"),
            Some(123_251)
        );
    }

    #[test]
    fn what_reclaim_of_the_machine_looked_at_is_added_up() {
        let vmstat =
            "pgscan_kswapd 40\npgscan_direct 2\npgscan_direct_throttle 9\npgscan_anon 50\n";
        assert_eq!(sum_of_scanned(vmstat), 42);
    }

    #[test]
    fn an_extension_that_one_hart_lacks_is_not_there() {
        let unlike = "isa\t: rv64im_svinval_svvptc\nmmu\t: sv39\nisa\t: rv64im_svvptc\n";
        assert!(all_have(unlike, "svvptc"));
        assert!(!all_have(unlike, "svinval"));
    }
}
