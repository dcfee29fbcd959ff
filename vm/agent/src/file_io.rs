// SPDX-License-Identifier: GPL-2.0-only
//! Reading and writing a file by calls, a page at a time. Nothing here allocates.

use operations::{PAGE_SIZE, StepResult, bytes};
use std::ffi::CStr;
use std::io::Write;
use std::os::fd::RawFd;

/// A page of the stack, as O_DIRECT wants it.
#[repr(C, align(4096))]
struct Page([u8; PAGE_SIZE as usize]);

/// Each page is written over with a value; with `direct`, past the page cache.
pub fn write(fd: RawFd, pages: (u64, u64), value: u8, direct: bool) -> StepResult {
    let page = Page([value; PAGE_SIZE as usize]);
    let write = |fd: RawFd, offset: u64| {
        // SAFETY: writes from a valid buffer of that size.
        unsafe { libc::pwrite(fd, page.0.as_ptr().cast(), page.0.len(), offset as i64) }
    };
    if !direct {
        return each(pages, |offset| write(fd, offset));
    }
    let Ok(fd) = reopen_direct(fd) else {
        return StepResult::Errno(errno());
    };
    let result = each(pages, |offset| write(fd, offset));
    // SAFETY: was opened here.
    unsafe { libc::close(fd) };
    result
}

/// Each page is read.
pub fn read(fd: RawFd, pages: (u64, u64)) -> StepResult {
    let mut page = Page([0; PAGE_SIZE as usize]);
    each(pages, |offset| {
        // SAFETY: reads into a valid buffer of that size.
        unsafe { libc::pread(fd, page.0.as_mut_ptr().cast(), page.0.len(), offset as i64) }
    })
}

/// The first refusal ends it.
fn each((first, pages): (u64, u64), mut what: impl FnMut(u64) -> isize) -> StepResult {
    for page in first..first + pages {
        if what(bytes(page)) < 0 {
            return StepResult::Errno(errno());
        }
    }
    StepResult::Ok
}

/// The same file by another descriptor.
fn reopen_direct(fd: RawFd) -> Result<RawFd, i32> {
    let mut text = [0u8; 32];
    write!(&mut text[..], "/proc/self/fd/{fd}\0").map_err(|_| libc::EINVAL)?;
    let path = CStr::from_bytes_until_nul(&text).map_err(|_| libc::EINVAL)?;
    let flags = libc::O_RDWR | libc::O_DIRECT | libc::O_CLOEXEC;
    // SAFETY: the path is a text that ends in 0.
    let fd = unsafe { libc::open(path.as_ptr(), flags) };
    if fd < 0 { Err(errno()) } else { Ok(fd) }
}

fn errno() -> i32 {
    // SAFETY: the thread's errno.
    unsafe { *libc::__errno_location() }
}
