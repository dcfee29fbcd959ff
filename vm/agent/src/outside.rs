// SPDX-License-Identifier: GPL-2.0-only
//! A process's memory, written and read by another. Nothing here allocates.

use crate::system_file;
use operations::StepResult;

/// One byte at an address of a process.
///
/// # Errors
/// The errno.
pub fn vm_writev(pid: i32, addr: u64, byte: u8) -> Result<(), i32> {
    moved(libc::SYS_process_vm_writev, pid, addr, byte)
}

/// One byte of it is read.
///
/// # Errors
/// The errno.
pub fn vm_readv(pid: i32, addr: u64) -> Result<(), i32> {
    moved(libc::SYS_process_vm_readv, pid, addr, 0)
}

fn moved(how: libc::c_long, pid: i32, addr: u64, mut byte: u8) -> Result<(), i32> {
    let own = iovec((&raw mut byte).cast(), 1);
    let others = iovec(addr as *mut libc::c_void, 1);
    // SAFETY: one byte of ours; the other address is another process's.
    match unsafe { libc::syscall(how, pid, &own, 1, &others, 1, 0) } {
        1 => Ok(()),
        _ => Err(errno()),
    }
}

fn iovec(base: *mut libc::c_void, length: usize) -> libc::iovec {
    libc::iovec {
        iov_base: base,
        iov_len: length,
    }
}

/// The first byte of each page, through `/proc/PID/mem`.
pub fn mem_write(pid: i32, pages: impl Iterator<Item = u64>, byte: u8) -> StepResult {
    let path = system_file::of_process(pid, b"mem");
    let written = system_file::with(path.as_c_str(), libc::O_WRONLY, |fd| {
        for addr in pages {
            // SAFETY: one byte of ours.
            match unsafe { libc::pwrite(fd, (&raw const byte).cast(), 1, addr as i64) } {
                1 => {}
                other => return other.min(0),
            }
        }
        1
    });
    match written {
        Ok(0) => StepResult::Errno(libc::ESRCH),
        Ok(_) => StepResult::Ok,
        Err(errno) => StepResult::Errno(errno),
    }
}

/// The first word of each page, by ptrace(2): the process stops for that, and goes on.
pub fn ptrace_poke(pid: i32, pages: impl Iterator<Item = u64>, byte: u8) -> StepResult {
    // SAFETY: the traced process only stops.
    if unsafe { libc::ptrace(libc::PTRACE_ATTACH, pid, 0, 0) } < 0 {
        return StepResult::Errno(errno());
    }
    let mut status = 0;
    // SAFETY: status is a valid int.
    unsafe { libc::waitpid(pid, &mut status, libc::__WALL) };
    let word = u64::from_ne_bytes([byte; 8]);
    let mut result = StepResult::Ok;
    for addr in pages {
        // SAFETY: an address of the traced process's arena.
        if unsafe { libc::ptrace(libc::PTRACE_POKEDATA, pid, addr, word) } < 0 {
            result = StepResult::Errno(errno());
            break;
        }
    }
    // SAFETY: it goes on where it was.
    unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, 0, 0) };
    result
}

fn errno() -> i32 {
    // SAFETY: the thread's errno.
    unsafe { *libc::__errno_location() }
}
