// SPDX-License-Identifier: GPL-2.0-only
//! What is asked of `/proc/PID/pagemap`. Nothing here allocates.

use crate::system_file;
use operations::StepResult;

/// `PAGE_IS_WRITTEN` of include/uapi/linux/fs.h
const PAGE_IS_WRITTEN: u64 = 1 << 1;

/// `struct pm_scan_arg`
#[repr(C)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `_IOWR('f', 16, struct pm_scan_arg)`
const PAGEMAP_SCAN: u64 = 3 << 30 | (size_of::<ScanArg>() as u64) << 16 | (b'f' as u64) << 8 | 16;

/// Looks for pages that were written, and says nothing of which they are.
pub fn scan(pid: i32, (start, end): (u64, u64), flags: u64) -> StepResult {
    let mut arg = ScanArg {
        size: size_of::<ScanArg>() as u64,
        flags,
        start,
        end,
        walk_end: 0,
        vec: 0,
        vec_len: 0,
        max_pages: 0,
        category_inverted: 0,
        category_mask: PAGE_IS_WRITTEN,
        category_anyof_mask: 0,
        return_mask: PAGE_IS_WRITTEN,
    };
    let path = system_file::of_process(pid, b"pagemap");
    let scanned = system_file::with(path.as_c_str(), libc::O_RDONLY, |fd| {
        // SAFETY: the structure is the request's.
        let found = unsafe { libc::ioctl(fd, PAGEMAP_SCAN as libc::Ioctl, &raw mut arg) };
        found as isize
    });
    match scanned {
        Ok(_) => StepResult::Ok,
        Err(errno) => StepResult::Errno(errno),
    }
}
