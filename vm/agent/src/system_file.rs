// SPDX-License-Identifier: GPL-2.0-only
//! Files of procfs and sysfs, written and read in a step: nothing here allocates.

use crate::perform::decimal;
use std::ffi::CStr;

/// Writes a short text.
///
/// # Errors
/// The errno.
pub fn write(path: &CStr, text: &[u8]) -> Result<(), i32> {
    with(path, libc::O_WRONLY, |fd| {
        // SAFETY: writes from a valid buffer.
        unsafe { libc::write(fd, text.as_ptr().cast(), text.len()) }
    })
    .map(drop)
}

/// Reads as much as there is room for, and says how much.
///
/// # Errors
/// The errno.
pub fn read(path: &CStr, text: &mut [u8]) -> Result<usize, i32> {
    with(path, libc::O_RDONLY, |fd| {
        // SAFETY: reads into a valid buffer.
        unsafe { libc::read(fd, text.as_mut_ptr().cast(), text.len()) }
    })
}

/// Reads a number.
///
/// # Errors
/// The errno; EINVAL where there is no number.
pub fn number(path: &CStr) -> Result<u64, i32> {
    let mut text = [0u8; 32];
    let length = read(path, &mut text)?;
    let text = std::str::from_utf8(&text[..length]).map_err(|_| libc::EINVAL)?;
    text.trim().parse().map_err(|_| libc::EINVAL)
}

/// The path of a file with a number in it.
pub struct Numbered {
    text: [u8; 64],
}

impl Numbered {
    /// The path.
    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.text).unwrap_or_default()
    }
}

/// `/proc/PID/NAME`; of a name that fits.
pub fn of_process(pid: i32, name: &[u8]) -> Numbered {
    numbered(b"/proc/", pid.unsigned_abs(), &[b"/", name])
}

/// The switch of a hart.
pub fn of_hart(hart: u32) -> Numbered {
    numbered(b"/sys/devices/system/cpu/cpu", hart, &[b"/online"])
}

/// The state of a block of memory.
pub fn of_memory_block(block: u32) -> Numbered {
    numbered(b"/sys/devices/system/memory/memory", block, &[b"/state"])
}

fn numbered(before: &[u8], number: u32, after: &[&[u8]]) -> Numbered {
    let mut digits = [0; 20];
    let number = decimal(number.into(), &mut digits);
    let mut file = Numbered { text: [0; 64] };
    // The last byte stays 0.
    let mut room = file.text[..63].iter_mut();
    let parts = [before, number].into_iter().chain(after.iter().copied());
    for byte in parts.flatten() {
        if let Some(place) = room.next() {
            *place = *byte;
        }
    }
    file
}

/// Opens a file, and does something with it of which below 0 is a failure.
///
/// # Errors
/// The errno.
pub fn with(path: &CStr, flags: i32, what: impl FnOnce(i32) -> isize) -> Result<usize, i32> {
    // SAFETY: the thread's errno.
    let errno = || unsafe { *libc::__errno_location() };
    // SAFETY: the path is a text that ends in 0.
    let fd = unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(errno());
    }
    let done = what(fd);
    let result = usize::try_from(done).map_err(|_| errno());
    // SAFETY: was opened here.
    unsafe { libc::close(fd) };
    result
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_files_of_a_process_have_paths() {
        let path = super::of_process(4711, b"clear_refs");
        assert_eq!(path.as_c_str(), c"/proc/4711/clear_refs");
    }
}
