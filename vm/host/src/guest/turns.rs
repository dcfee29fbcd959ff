// SPDX-License-Identifier: GPL-2.0-only
//! How the host's scheduler deals with the threads of QEMU, of which each emulates a hart.
//!
//! A hart wakes up another one while it holds a lock that the other takes first of all: that
//! of a wait queue, or of the other's task. Where the host runs the woken thread at once, and
//! in place of the waking one, it spins for that lock until the host's next tick. So who is
//! woken waits for its turn. A hart that others have to answer, a fence for example, spins
//! for that long: so turns are short.

/// A turn, in nanoseconds. Linux before 6.12 has turns of its own.
const TURN: u64 = 300_000;

/// Has the calling process, and all that it starts, take turns. Where the system refuses
/// it, guests are slower and nothing else. Only makes system calls.
pub(super) fn take() {
    // SAFETY: no memory is involved; -1 can be an answer as well, and is as good as any.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let attr = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_BATCH as u32,
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: TURN,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: attr is a valid struct sched_attr, which is only read; 0 is the caller.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_takes_turns_and_stays_as_nice_as_it_was() {
        let of = |field: usize| {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("a process");
            let (_, fields) = stat.rsplit_once(')').expect("stat has a name");
            let number = fields.split_whitespace().nth(field - 3);
            number.and_then(|word| word.parse::<i64>().ok())
        };
        // proc(5): 19 is nice, 41 the policy.
        let look = move || (of(19), of(41));
        let thread = std::thread::spawn(move || {
            let before = look();
            super::take();
            (before, look())
        });
        let ((nice, _), after) = thread.join().expect("no panic");
        assert_eq!(after, (nice, Some(libc::SCHED_BATCH.into())));
    }
}
