// SPDX-License-Identifier: GPL-2.0-only
//! Pages that something holds on to until the process ends. Nothing here allocates.

use crate::perform::call;
use operations::StepResult;

/// `io_uring_register(2)`'s IORING_REGISTER_BUFFERS (include/uapi/linux/io_uring.h)
const IORING_REGISTER_BUFFERS: u32 = 0;
/// Size of `struct io_uring_params`, in words.
const PARAMS: usize = 30;

/// Pages go into a pipe that nobody reads; it is closed with the process.
pub fn vmsplice(at: u64, length: u64) -> StepResult {
    let mut pipe = [0; 2];
    let pages = iovec(at, length);
    // SAFETY: two descriptors; the pages are the arena's, and are only read from.
    unsafe {
        if libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) < 0 {
            return call(-1);
        }
        call(libc::syscall(libc::SYS_vmsplice, pipe[1], &pages, 1, 0))
    }
}

/// Pages are pinned as a buffer that an io_uring could write to; it is closed with the process.
pub fn register_buffers(at: u64, length: u64) -> StepResult {
    let mut params = [0u32; PARAMS];
    let pages = iovec(at, length);
    // SAFETY: params is as large as the kernel wants it; the pages are the arena's.
    unsafe {
        let ring = libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr());
        if ring < 0 {
            return call(ring);
        }
        let how = IORING_REGISTER_BUFFERS;
        call(libc::syscall(
            libc::SYS_io_uring_register,
            ring,
            how,
            &pages,
            1,
        ))
    }
}

fn iovec(at: u64, length: u64) -> libc::iovec {
    libc::iovec {
        iov_base: at as *mut libc::c_void,
        iov_len: length as usize,
    }
}
