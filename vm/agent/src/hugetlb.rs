// SPDX-License-Identifier: GPL-2.0-only
//! hugetlb's pools, filled for a program that has to do with pages of them, and files of them.

use crate::settings;
use anyhow::{Context, Result, bail};
use nix::sys::memfd::{MFdFlags, memfd_create};
use operations::{HugePages, MemoryFile, bytes};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

/// Pages in a pool; as many as before when dropped.
pub struct Pool {
    setting: PathBuf,
    before: String,
}

impl Pool {
    /// Fills it.
    ///
    /// # Errors
    /// There is not that much memory in such pieces.
    pub fn fill(size: HugePages) -> Result<Pool> {
        let setting = setting(size);
        let wanted = match size {
            // They cannot be made any more once the machine runs.
            HugePages::Gib1 if !has_gib_pages() => 0,
            _ => size.pool(),
        };
        let wanted = wanted.to_string();
        if !setting.exists() {
            // The kernel refuses what the program asks of it.
            let before = wanted;
            return Ok(Pool { setting, before });
        }
        let before = settings::value(&setting)?;
        let pool = Pool { setting, before };
        settings::set(&pool.setting, &wanted)?;
        let there = settings::value(&pool.setting)?;
        if there != wanted {
            bail!(
                "hugetlb's pool has {there} of {wanted} pages: the machine has not so much memory in pieces of {} KiB",
                size.bytes() >> 10
            );
        }
        Ok(pool)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = settings::set(&self.setting, &self.before);
    }
}

/// Whether there are pages of 1 GiB, reserved when the machine was booted.
pub fn has_gib_pages() -> bool {
    let there = settings::value(&setting(HugePages::Gib1));
    there.is_ok_and(|there| there == HugePages::Gib1.pool().to_string())
}

/// How many pages a pool has.
fn setting(size: HugePages) -> PathBuf {
    let kib = size.bytes() >> 10;
    let folder = format!("/sys/kernel/mm/hugepages/hugepages-{kib}kB");
    PathBuf::from(folder).join("nr_hugepages")
}

/// A file of pages of that size.
///
/// # Errors
/// The kernel refuses it.
pub fn memfd(name: &std::ffi::CStr, size: HugePages) -> Result<File> {
    let of_size = MFdFlags::from_bits_retain((size.shift()) << libc::MFD_HUGE_SHIFT);
    let flags = MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_HUGETLB | of_size;
    let fd = memfd_create(name, flags).context("memfd_create with MFD_HUGETLB")?;
    Ok(File::from(fd))
}

/// Writes all of it: by a mapping, for hugetlbfs knows no other way. What that reserves, the
/// pool has, or it is refused.
///
/// # Errors
/// The pool has not so many pages.
pub fn fill(file: &File, made: &MemoryFile, byte: u8) -> Result<()> {
    let length = bytes(made.pages) as usize;
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping that nobody else knows of, used while it is there.
    unsafe {
        let null = std::ptr::null_mut();
        let at = libc::mmap(null, length, rights, libc::MAP_SHARED, file.as_raw_fd(), 0);
        if at == libc::MAP_FAILED {
            let error = std::io::Error::last_os_error();
            bail!("cannot map a file of hugetlb's pages to fill it: {error}");
        }
        at.cast::<u8>().write_bytes(byte, length);
        libc::munmap(at, length);
    }
    Ok(())
}
