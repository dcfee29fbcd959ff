// SPDX-License-Identifier: GPL-2.0-only
//! What this machine is and has.

use crate::{files, kmsg::Kmsg, swap, tracer::Tracer};
use anyhow::{Context, Result};
use protocol::PAGE_SIZE;
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
    let isa = field(&cpuinfo, "isa").unwrap_or_default();
    let module = Tracer::open(1)?.facts();
    let log: Vec<String> = Kmsg::open(false)?
        .messages()
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    Ok(System {
        release: text(uname.release()),
        version: text(uname.version()),
        harts: harts()?,
        mmu: field(&cpuinfo, "mmu").unwrap_or_default(),
        fault_around_bytes: fault_around_bytes(),
        asid_bits: asid_bits(&log).unwrap_or(0),
        sbi_rfence: sbi_rfence(&log),
        ram_pages: ram_pages(&files::read(Path::new("/proc/meminfo"))?).unwrap_or(0),
        tracing: tracing(module),
        sparsemem: module & fact::SPARSEMEM != 0,
        features: features(&isa),
        isa,
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

/// Harts online.
///
/// # Errors
/// The kernel does not say.
pub fn harts() -> Result<u32> {
    let harts = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN)
        .context("sysconf")?
        .context("the kernel does not say how many harts are online")?;
    Ok(harts as u32)
}

/// The value of the first line `name : value`.
fn field(cpuinfo: &str, name: &str) -> Option<String> {
    cpuinfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

fn fault_around_bytes() -> u64 {
    files::read(Path::new("/sys/kernel/debug/fault_around_bytes"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(64 << 10)
}

/// `ASID allocator using 16 bits (65536 entries)`, or `ASID allocator disabled …`.
fn asid_bits(log: &[String]) -> Option<u32> {
    let line = log
        .iter()
        .find_map(|line| line.split_once("ASID allocator using "))?;
    line.1.split(' ').next()?.parse().ok()
}

/// `riscv_use_sbi_for_rfence()`: `sbi_ipi_init()` says so, unless an interrupt
/// controller (AIA's IMSIC) had brought IPIs before it.
fn sbi_rfence(log: &[String]) -> bool {
    let says = |line: &String| line.contains("providing IPIs using SBI IPI extension");
    log.iter().any(says)
}

/// `totalram_pages()`, from MemTotal.
fn ram_pages(meminfo: &str) -> Option<u64> {
    let total = field(meminfo, "MemTotal")?;
    total
        .split(' ')
        .next()?
        .parse::<u64>()
        .ok()
        .map(|kilobytes| kilobytes / 4)
}

fn features(isa: &str) -> Vec<String> {
    let mut features: Vec<String> = ["svnapot", "svinval", "svvptc"]
        .into_iter()
        .filter(|extension| isa.split('_').any(|part| part == *extension))
        .map(str::to_owned)
        .collect();
    let there = |path: &str| Path::new(path).exists();
    let kernel = [
        ("svadu", sets_accessed_bits()),
        ("swap", swap::available() && there("/proc/swaps")),
        ("thp", there("/sys/kernel/mm/transparent_hugepage")),
        ("hugetlb", there("/sys/kernel/mm/hugepages")),
        ("ksm", there("/sys/kernel/mm/ksm")),
        (
            "userfaultfd",
            there("/proc/sys/vm/unprivileged_userfaultfd"),
        ),
    ];
    features.extend(
        kernel
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
        let log = [
            "x".to_owned(),
            "ASID allocator using 16 bits (65536 entries)".to_owned(),
        ];
        assert_eq!(asid_bits(&log), Some(16));
        assert_eq!(asid_bits(&log[..1]), None);
        assert!(!sbi_rfence(&log));
        assert!(sbi_rfence(&[
            "riscv: providing IPIs using SBI IPI extension".to_owned()
        ]));
        assert_eq!(ram_pages("MemTotal:       493004 kB\n"), Some(123_251));
    }
}
