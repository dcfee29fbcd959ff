// SPDX-License-Identifier: GPL-2.0-only
//! A child that shares its parent's mm, as vfork(2) makes one. Nothing here allocates.

use crate::touch;
use operations::{ARENA_BASE, PAGE_SIZE, StepResult};
use std::ffi::c_void;

/// Size of the child's stack, in bytes; on the parent's, which is deep enough.
const STACK: usize = 8 << 10;

/// What the child does, and what came of it.
struct Child<I> {
    pages: I,
    byte: u8,
    result: StepResult,
}

/// The child writes the first byte of each page, up to the first signal, and ends; the parent
/// sleeps as long.
pub fn write<I: Iterator<Item = u64>>(pages: I, byte: u8) -> StepResult {
    let mut stack = [0u128; STACK / size_of::<u128>()];
    let mut child = Child {
        pages,
        byte,
        result: StepResult::Ok,
    };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let top: *mut c_void = stack.as_mut_ptr_range().end.cast();
    // SAFETY: the parent sleeps until the child, which is on a stack of its own, has ended.
    let pid = unsafe { libc::clone(live::<I>, top, flags, (&raw mut child).cast()) };
    if pid < 0 {
        // SAFETY: the thread's errno.
        return StepResult::Errno(unsafe { *libc::__errno_location() });
    }
    let mut status = 0;
    // SAFETY: status is a valid int.
    unsafe { libc::waitpid(pid, &mut status, libc::__WALL) };
    child.result
}

extern "C" fn live<I: Iterator<Item = u64>>(child: *mut c_void) -> i32 {
    // SAFETY: the parent's, which sleeps.
    let child = unsafe { &mut *child.cast::<Child<I>>() };
    for addr in child.pages.by_ref() {
        if let Err(signal) = touch::touch(addr, Some(child.byte)) {
            let page = (addr - ARENA_BASE) / PAGE_SIZE;
            child.result = StepResult::Signal { signal, page };
            break;
        }
    }
    0
}
