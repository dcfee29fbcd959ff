// SPDX-License-Identifier: GPL-2.0-only
//! The operations themselves. Nothing here allocates.

use crate::handed::Handed;
use crate::touch;
use operations::{Op, StepResult, address, bytes};
use std::os::fd::RawFd;

/// The operation itself.
pub fn perform(op: &Op, handed: &Handed, target: Option<RawFd>) -> StepResult {
    // SAFETY: all addresses lie in the arena, where nothing of this program does.
    unsafe {
        match *op {
            Op::Mmap {
                at,
                pages,
                prot,
                flags,
                file,
                offset,
            } => call(libc::syscall(
                libc::SYS_mmap,
                address(at),
                bytes(pages),
                prot,
                flags,
                file_of(handed, file),
                bytes(offset),
            )),
            Op::Munmap { at, pages } => {
                call(libc::syscall(libc::SYS_munmap, address(at), bytes(pages)))
            }
            Op::Mprotect { at, pages, prot } => call(libc::syscall(
                libc::SYS_mprotect,
                address(at),
                bytes(pages),
                prot,
            )),
            Op::Madvise { at, pages, advice } => call(libc::syscall(
                libc::SYS_madvise,
                address(at),
                bytes(pages),
                advice,
            )),
            Op::Ftruncate { file, pages } => call(libc::syscall(
                libc::SYS_ftruncate,
                file_of(handed, Some(file)),
                bytes(pages),
            )),
            Op::PunchHole {
                file,
                offset,
                pages,
            } => call(libc::syscall(
                libc::SYS_fallocate,
                file_of(handed, Some(file)),
                libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
                bytes(offset),
                bytes(pages),
            )),
            Op::ProcessMadvise {
                at, pages, advice, ..
            } => match target {
                Some(pidfd) => process_madvise(pidfd, at, pages, advice),
                // Nobody is there any more.
                None => StepResult::Errno(libc::ESRCH),
            },
            // What an actor does with itself is actor.rs' business.
            Op::Run | Op::Fork { .. } | Op::Exit | Op::Exec { .. } => StepResult::Ok,
            Op::Touch {
                at,
                pages,
                every,
                write,
            } => touch_pages(at, pages, every, write),
            Op::Reclaim { pages } => {
                let mut text = [0; 20];
                let text = decimal(bytes(pages), &mut text);
                call(libc::syscall(
                    libc::SYS_pwrite64,
                    handed.reclaim,
                    text.as_ptr(),
                    text.len(),
                    0,
                ))
            }
        }
    }
}

fn file_of(handed: &Handed, file: Option<usize>) -> RawFd {
    let fd = file.and_then(|file| handed.files.get(file));
    fd.copied().unwrap_or(-1)
}

/// One range; a part of it done is a success, as for the kernel.
fn process_madvise(pidfd: RawFd, at: u64, pages: u64, advice: i32) -> StepResult {
    let range = libc::iovec {
        iov_base: address(at) as *mut libc::c_void,
        iov_len: bytes(pages) as usize,
    };
    // SAFETY: the range is only named, and belongs to whoever is advised.
    call(unsafe { libc::syscall(libc::SYS_process_madvise, pidfd, &range, 1, advice, 0) })
}

fn call(result: libc::c_long) -> StepResult {
    if result == -1 {
        // SAFETY: the thread's errno.
        return StepResult::Errno(unsafe { *libc::__errno_location() });
    }
    StepResult::Ok
}

fn touch_pages(at: u64, pages: u64, every: u64, write: bool) -> StepResult {
    let mut page = at;
    while page < at + pages {
        if let Some(signal) = touch::touch(address(page), write) {
            return StepResult::Signal { signal, page };
        }
        page += every.max(1);
    }
    StepResult::Ok
}

/// A number in decimal digits, without allocating.
fn decimal(mut number: u64, text: &mut [u8; 20]) -> &[u8] {
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &text[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_digits() {
        let mut text = [0; 20];
        assert_eq!(decimal(0, &mut text), b"0");
        assert_eq!(decimal(40_960, &mut text), b"40960");
        assert_eq!(decimal(u64::MAX, &mut text), b"18446744073709551615");
    }
}
