// SPDX-License-Identifier: GPL-2.0-only
//! Sleeping on the low half of a shared word, across processes.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Sleeps until the word is woken, does not have that value, or the time is over.
/// Without a limit, who waits too long is killed by the agent.
pub fn wait(word: &AtomicU64, value: u64, limit: Option<Duration>) {
    let limit = limit.map(|limit| libc::timespec {
        tv_sec: limit.as_secs() as libc::time_t,
        tv_nsec: limit.subsec_nanos().into(),
    });
    let limit = limit
        .as_ref()
        .map_or(std::ptr::null(), |limit| limit as *const libc::timespec);
    // SAFETY: word and limit outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            value as u32,
            limit,
        );
    }
}

/// Wakes all who sleep on the word.
pub fn wake(word: &AtomicU64) {
    // SAFETY: the word outlives the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}
