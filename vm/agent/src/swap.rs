// SPDX-License-Identifier: GPL-2.0-only
//! A fresh, empty swap device on zram for each program that needs one.

use anyhow::{Context, Result};
use nix::errno::Errno;
use protocol::PAGE_SIZE;
use std::ffi::CStr;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

/// Size of the device in bytes; zram takes memory only for what is in it.
pub const SIZE: u64 = 256 << 20;

const DEVICE: &CStr = c"/dev/zram0";
const DEVICE_PATH: &str = "/dev/zram0";
const SYSFS: &str = "/sys/block/zram0";

/// Whether the kernel has the device.
pub fn available() -> bool {
    fs::metadata(SYSFS).is_ok()
}

/// Swap fresh and on, or off.
///
/// # Errors
/// The device is missing, or refuses a step.
pub fn set(on: bool) -> Result<()> {
    off()?;
    if !on {
        return Ok(());
    }
    fs::write(format!("{SYSFS}/reset"), "1").context("cannot reset zram0")?;
    fs::write(format!("{SYSFS}/disksize"), SIZE.to_string()).context("cannot size zram0")?;
    let device = OpenOptions::new()
        .write(true)
        .open(DEVICE_PATH)
        .context("cannot open zram0")?;
    device
        .write_all_at(&header(), 0)
        .context("cannot write the swap header")?;
    device
        .sync_all()
        .context("cannot write the swap header through")?;
    drop(device);
    // SAFETY: the path is a valid C string; swapon touches no memory of ours.
    Errno::result(unsafe { libc::swapon(DEVICE.as_ptr(), 0) }).context("swapon")?;
    Ok(())
}

fn off() -> Result<()> {
    // SAFETY: as above.
    match Errno::result(unsafe { libc::swapoff(DEVICE.as_ptr()) }) {
        // It was not on, or there is none.
        Ok(_) | Err(Errno::EINVAL | Errno::ENOENT | Errno::ENXIO) => Ok(()),
        Err(errno) => Err(errno).context("swapoff"),
    }
}

/// `union swap_header` of include/linux/swap.h: the first page of the device.
fn header() -> Vec<u8> {
    let mut page = vec![0; PAGE_SIZE as usize];
    let last_page = (SIZE / PAGE_SIZE - 1) as u32;
    page[1024..1028].copy_from_slice(&1u32.to_le_bytes());
    page[1028..1032].copy_from_slice(&last_page.to_le_bytes());
    page[4086..4096].copy_from_slice(b"SWAPSPACE2");
    page
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_header_names_its_version_and_last_page_and_ends_in_the_magic() {
        let page = super::header();
        assert_eq!(page.len(), 4096);
        assert_eq!(page[1024..1032], [1, 0, 0, 0, 0xff, 0xff, 0, 0]);
        assert!(page.ends_with(b"SWAPSPACE2"));
    }
}
