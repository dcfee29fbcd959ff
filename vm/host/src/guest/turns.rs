// SPDX-License-Identifier: GPL-2.0-only
//! How the host's scheduler deals with the threads of QEMU, of which each emulates a hart.
//!
//! A hart wakes up another one while it holds a lock that the other takes first of all: that
//! of a wait queue, or of the other's task. Where the host runs the woken thread at once, and
//! in place of the waking one, it spins for that lock until the host's next tick. So who is
//! woken waits for its turn, as SCHED_BATCH has it.
//!
//! But a hart that others have to answer, a fence for example, spins until its turn is over,
//! where all of the host's processors have something to do. That is the price of few fences;
//! a program that takes long may have many, and goes on without turns.

use std::{
    fs,
    time::{Duration, Instant},
};

/// A turn, in nanoseconds. Linux before 6.12 has turns of its own.
const TURN: u64 = 300_000;

/// After so long a program is one that takes long.
const PATIENCE: Duration = Duration::from_millis(100);

/// Has the calling process, and all that it starts, take turns. Only makes system calls.
pub(super) fn take() {
    schedule(0, libc::SCHED_BATCH);
}

/// Where the system refuses it, guests are slower and nothing else.
fn schedule(thread: libc::pid_t, policy: libc::c_int) {
    // SAFETY: no memory is involved; -1 can be an answer as well, and is as good as any.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, thread as libc::id_t) };
    let attr = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: policy as u32,
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: TURN,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: attr is a valid struct sched_attr, which is only read.
    unsafe { libc::syscall(libc::SYS_sched_setattr, thread, &raw const attr, 0) };
}

/// Whether the threads of one QEMU take turns.
#[derive(Debug)]
pub(super) struct Turns {
    pid: u32,
    taken: bool,
    /// Until then they do, while a program runs.
    until: Option<Instant>,
}

impl Turns {
    /// Of a process that has begun with taking them.
    pub(super) fn of(pid: u32) -> Turns {
        Turns {
            pid,
            taken: true,
            until: None,
        }
    }

    /// A program begins.
    pub(super) fn begin(&mut self) {
        self.until = Some(Instant::now() + PATIENCE);
        if !self.taken {
            self.schedule(libc::SCHED_BATCH);
            self.taken = true;
        }
    }

    /// It has ended.
    pub(super) fn end(&mut self) {
        self.until = None;
    }

    /// To be called every now and then while it runs: the time until that has to be again.
    pub(super) fn look(&mut self) -> Duration {
        let Some(until) = self.until else {
            return Duration::MAX;
        };
        let left = until.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            return left;
        }
        self.schedule(libc::SCHED_OTHER);
        (self.taken, self.until) = (false, None);
        Duration::MAX
    }

    fn schedule(&self, policy: libc::c_int) {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid));
        for thread in threads.into_iter().flatten().flatten() {
            let name = thread.file_name();
            if let Some(thread) = name.to_str().and_then(|name| name.parse().ok()) {
                schedule(thread, policy);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn sleeper() -> Child {
        Command::new("sleep").arg("100").spawn().expect("sleep")
    }

    /// Nice and policy, fields 19 and 41 of proc(5).
    fn look_at(child: &Child) -> (Option<i32>, Option<i32>) {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("a process");
        let (_, fields) = stat.rsplit_once(')').expect("stat has a name");
        let of = |field: usize| fields.split_whitespace().nth(field - 3)?.parse().ok();
        (of(19), of(41))
    }

    #[test]
    fn turns_are_given_up_by_programs_that_take_long_and_taken_by_the_next() {
        let mut child = sleeper();
        let (nice, _) = look_at(&child);
        schedule(child.id() as libc::pid_t, libc::SCHED_BATCH);
        let mut turns = Turns::of(child.id());
        turns.begin();
        assert!(turns.look() <= PATIENCE);
        assert_eq!(look_at(&child), (nice, Some(libc::SCHED_BATCH)));
        turns.until = Some(Instant::now());
        assert_eq!(turns.look(), Duration::MAX);
        assert_eq!(look_at(&child), (nice, Some(libc::SCHED_OTHER)));
        turns.begin();
        assert_eq!(look_at(&child), (nice, Some(libc::SCHED_BATCH)));
        turns.end();
        assert_eq!(turns.look(), Duration::MAX);
        assert_eq!(look_at(&child), (nice, Some(libc::SCHED_BATCH)));
        child.kill().and_then(|()| child.wait()).expect("killed");
    }
}
