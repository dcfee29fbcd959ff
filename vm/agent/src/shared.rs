// SPDX-License-Identifier: GPL-2.0-only
//! The memory that the agent and all actors of a program share: whose turn it
//! is, who they are, and what their steps came to.

use crate::futex;
use crate::region::Region;
use operations::{ActorKind, Course, Program, StepResult};
use protocol::message::Count;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// Finished steps plus one; 0 before the first step may begin.
const TURN: usize = 0;
/// Actors that are ready.
const READY: usize = 1;
/// Length of what an actor that gave up had to say, and its bytes.
const SAID: usize = 2;
const SAID_WORDS: usize = 32;
/// The actor that is called to its end, plus one.
const ENDS: usize = SAID + 1 + SAID_WORDS;
/// The first mm's number.
const FIRST: usize = 8 + SAID_WORDS;
/// Words of each step: kind of result, its number, page, nanoseconds, and what was counted.
const STEP_WORDS: usize = 8;

/// Stands for the thread id of an actor whose fork was refused.
const UNBORN: u64 = u64::MAX;

/// The shared words.
#[derive(Clone, Copy)]
pub struct Shared {
    words: &'static [AtomicU64],
    mms: usize,
    actors: usize,
    steps: usize,
}

impl Shared {
    /// How many there are for a program.
    pub fn size(program: &Program) -> usize {
        let steps = program.steps.len() * STEP_WORDS;
        FIRST + program.mms() + 2 * program.actors.len() + steps + program.groups.len()
    }

    /// The words of the program that was begun last.
    pub fn of(region: &Region, program: &Program) -> Shared {
        Shared {
            words: region.words(),
            mms: program.mms(),
            actors: program.actors.len(),
            steps: program.steps.len(),
        }
    }

    /// Finished steps; none before the first may begin.
    pub fn finished(&self) -> Option<usize> {
        let turn = self.words[TURN].load(SeqCst);
        turn.checked_sub(1).map(|finished| finished as usize)
    }

    /// So many steps are finished. Only whose turn it is now is woken, for whoever
    /// wakes has its hart load its mm.
    pub fn finish(&self, program: &Program, steps: usize) {
        self.words[TURN].store(steps as u64 + 1, SeqCst);
        // Alone, nobody waits.
        if self.actors == 1 {
            return;
        }
        let group = program.group_of(steps);
        let next = group.map_or(steps..steps + 1, |group| program.groups[group].steps());
        for step in next.filter_map(|step| program.steps.get(step)) {
            self.call(step.by);
        }
    }

    /// One of a group is ready for it, or is through with its step.
    pub fn arrive(&self, group: usize) {
        let word = &self.words[self.group_word(group)];
        word.fetch_add(1, SeqCst);
        futex::wake(word);
    }

    /// The same for the beginning, until so many arrivals are counted; in user mode, so that all
    /// go on at the same moment.
    pub fn meet(&self, group: usize, arrivals: usize) {
        let word = &self.words[self.group_word(group)];
        word.fetch_add(1, SeqCst);
        while word.load(SeqCst) < arrivals as u64 {
            std::hint::spin_loop();
        }
    }

    /// Sleeps until so many have arrived.
    pub fn sleep_until_arrived(&self, group: usize, arrivals: usize) {
        let word = &self.words[self.group_word(group)];
        loop {
            let arrived = word.load(SeqCst);
            if arrived >= arrivals as u64 {
                return;
            }
            futex::wait(word, arrived, None);
        }
    }

    /// The steps of a group that are done: their actors are there.
    pub fn doing(&self, program: &Program, group: usize) -> usize {
        let there = |step: &usize| self.is_born(program.steps[*step].by);
        program.groups[group].steps().filter(there).count()
    }

    /// The word that counts a group's arrivals: who is ready for it, begins, and is through.
    fn group_word(&self, group: usize) -> usize {
        FIRST + self.mms + 2 * self.actors + self.steps * STEP_WORDS + group
    }

    /// Calls an actor to its end.
    pub fn call_to_end(&self, actor: usize) {
        self.words[ENDS].store(actor as u64 + 1, SeqCst);
        self.call(actor);
    }

    /// Who is there when all steps are done.
    pub fn living(&self, program: &Program) -> Vec<bool> {
        let there = |kind: ActorKind| kind != ActorKind::Fork;
        let mut living: Vec<bool> = program.actors.iter().map(|a| there(a.kind)).collect();
        for step in &program.steps {
            if !living[step.by] {
                continue;
            }
            match step.op.course() {
                Course::Fork { child, .. } => {
                    living[child] = self.tid(child).load(SeqCst) != UNBORN;
                }
                Course::Exit => {
                    living[step.by] = false;
                    end_threads(program, step.by, &mut living);
                }
                Course::Ends(of) => {
                    living[of] = false;
                    end_threads(program, of, &mut living);
                }
                Course::Exec { .. } => end_threads(program, step.by, &mut living),
                Course::Returns
                | Course::Reclaims
                | Course::ActsOn(_)
                | Course::OfDevice(_)
                | Course::Run => {}
            }
        }
        living
    }

    fn call(&self, actor: usize) {
        let call = &self.words[self.call_word(actor)];
        call.fetch_add(1, SeqCst);
        futex::wake(call);
    }

    /// An actor sleeps until it is called to its end.
    pub fn sleep_until_end(&self, actor: usize) {
        // Alone, nobody is called.
        if self.actors == 1 {
            return;
        }
        let call = &self.words[self.call_word(actor)];
        loop {
            let called = call.load(SeqCst);
            if self.words[ENDS].load(SeqCst) == actor as u64 + 1 {
                return;
            }
            futex::wait(call, called, None);
        }
    }

    /// An actor sleeps until so many steps are finished.
    pub fn sleep_until(&self, actor: usize, steps: usize) {
        let call = &self.words[self.call_word(actor)];
        loop {
            let called = call.load(SeqCst);
            if self.words[TURN].load(SeqCst) > steps as u64 {
                return;
            }
            futex::wait(call, called, None);
        }
    }

    /// The word by which an actor is called.
    fn call_word(&self, actor: usize) -> usize {
        FIRST + self.mms + self.actors + actor
    }

    /// The same in user mode, without a system call.
    pub fn spin_until(&self, steps: usize) {
        while self.words[TURN].load(SeqCst) <= steps as u64 {
            std::hint::spin_loop();
        }
    }

    /// One more actor is ready.
    pub fn ready(&self) {
        self.words[READY].fetch_add(1, SeqCst);
        futex::wake(&self.words[READY]);
    }

    /// How many actors are.
    pub fn count_ready(&self) -> usize {
        self.words[READY].load(SeqCst) as usize
    }

    /// Sleeps until somebody more than those is ready, or the time is over.
    pub fn await_ready(&self, actors: usize, limit: Duration) {
        futex::wait(&self.words[READY], actors as u64, Some(limit));
    }

    /// Sleeps until that many actors are ready.
    pub fn sleep_until_ready(&self, actors: usize) {
        loop {
            let ready = self.words[READY].load(SeqCst);
            if ready as usize >= actors {
                return;
            }
            futex::wait(&self.words[READY], ready, None);
        }
    }

    /// Why an actor gives up. One that comes later is not heard.
    pub fn give_up(&self, why: &str) {
        let said = &self.words[SAID + 1..][..SAID_WORDS];
        let length = why.len().min(SAID_WORDS * 8);
        let bytes = &why.as_bytes()[..length];
        if self.words[SAID].load(SeqCst) > 0 {
            return;
        }
        for (word, bytes) in said.iter().zip(bytes.chunks(8)) {
            let mut value = [0; 8];
            value[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_le_bytes(value), SeqCst);
        }
        self.words[SAID].store(length as u64, SeqCst);
    }

    /// See [`Shared::give_up`].
    pub fn gave_up(&self) -> Option<String> {
        let length = self.words[SAID].load(SeqCst) as usize;
        let said = self.words[SAID + 1..][..SAID_WORDS].iter();
        let bytes: Vec<u8> = said
            .flat_map(|word| word.load(SeqCst).to_le_bytes())
            .collect();
        (length > 0)
            .then(|| String::from_utf8_lossy(&bytes[..length.min(bytes.len())]).into_owned())
    }

    /// The word that tells how records name an mm.
    pub fn mm(&self, mm: usize) -> &AtomicU64 {
        &self.words[FIRST + mm]
    }

    /// The word that tells an actor's thread id.
    pub fn tid(&self, actor: usize) -> &AtomicU64 {
        &self.words[FIRST + self.mms + actor]
    }

    /// All mms, as records name them; 0 for one that was not made.
    pub fn mms(&self) -> Vec<u64> {
        (0..self.mms).map(|mm| self.mm(mm).load(SeqCst)).collect()
    }

    /// All actors' thread ids; 0 for one that was not made.
    pub fn tids(&self) -> Vec<i32> {
        let tids = (0..self.actors).map(|actor| match self.tid(actor).load(SeqCst) {
            UNBORN => 0,
            tid => tid as i32,
        });
        tids.collect()
    }

    /// An actor's fork was refused.
    pub fn never_born(&self, actor: usize) {
        self.tid(actor).store(UNBORN, SeqCst);
    }

    /// The first step, from one on, whose actor is there. Those before it will be done by
    /// nobody, and that is what they come to.
    pub fn pass_over_unborn(&self, program: &Program, from: usize) -> usize {
        for (number, step) in program.steps.iter().enumerate().skip(from) {
            if self.tid(step.by).load(SeqCst) != UNBORN {
                return number;
            }
            if let Course::Fork { child, .. } = step.op.course() {
                self.never_born(child);
            }
            self.store(number, StepResult::Unborn, 0);
        }
        program.steps.len().max(from)
    }

    /// Whether an actor is there, or was: its fork was not refused.
    pub fn is_born(&self, actor: usize) -> bool {
        self.tid(actor).load(SeqCst) != UNBORN
    }

    /// Of these steps, those that nobody was there to do.
    pub fn store_unborn(&self, program: &Program, steps: std::ops::Range<usize>) {
        for step in steps.filter(|step| !self.is_born(program.steps[*step].by)) {
            self.store(step, StepResult::Unborn, 0);
        }
    }

    /// What a step came to, and how long it took in ns.
    pub fn store(&self, step: usize, result: StepResult, took: u64) {
        let words = self.step(step);
        let [kind, value, page] = encode(result);
        words[0].store(kind, SeqCst);
        words[1].store(value, SeqCst);
        words[2].store(page, SeqCst);
        words[3].store(took, SeqCst);
    }

    /// See [`Shared::store`].
    pub fn load(&self, step: usize) -> (StepResult, u64) {
        let words = self.step(step);
        (decode(words), words[3].load(SeqCst))
    }

    /// What was counted in a step.
    pub fn store_count(&self, step: usize, count: Count) {
        let words = &self.step(step)[4..];
        words[0].store(count.cycles, SeqCst);
        words[1].store(count.instructions, SeqCst);
        words[2].store(count.nanoseconds, SeqCst);
        words[3].store(count.calls, SeqCst);
    }

    /// See [`Shared::store_count`].
    pub fn count(&self, step: usize) -> Count {
        let word = |place: usize| self.step(step)[4 + place].load(SeqCst);
        Count {
            cycles: word(0),
            instructions: word(1),
            nanoseconds: word(2),
            calls: word(3),
        }
    }

    fn step(&self, step: usize) -> &[AtomicU64] {
        let first = FIRST + self.mms + 2 * self.actors + step * STEP_WORDS;
        &self.words[first..first + STEP_WORDS]
    }
}

/// A process has ended, or its old mm has: so have its threads.
fn end_threads(program: &Program, leader: usize, living: &mut [bool]) {
    let thread = ActorKind::Thread { of: leader };
    for (other, actor) in program.actors.iter().enumerate() {
        living[other] &= actor.kind != thread;
    }
}

fn encode(result: StepResult) -> [u64; 3] {
    match result {
        StepResult::Ok => [0, 0, 0],
        StepResult::Errno(errno) => [1, errno as u64, 0],
        StepResult::Signal { signal, page } => [2, signal as u64, page],
        StepResult::Unborn => [3, 0, 0],
        StepResult::Saw { value, page } => [4, u64::from(value), page],
        StepResult::Fault { cause, page } => [5, u64::from(cause), page],
        StepResult::Lost { page } => [6, 0, page],
        StepResult::Astray { page } => [7, 0, page],
        StepResult::Refused { errno, page } => [8, errno as u64, page],
        StepResult::Left { pages } => [9, 0, pages],
        StepResult::Part { pages } => [10, pages, 0],
    }
}

fn decode(words: &[AtomicU64]) -> StepResult {
    let (value, page) = (words[1].load(SeqCst), words[2].load(SeqCst));
    match words[0].load(SeqCst) {
        0 => StepResult::Ok,
        1 => StepResult::Errno(value as i32),
        3 => StepResult::Unborn,
        4 => StepResult::Saw {
            value: value as u8,
            page,
        },
        5 => StepResult::Fault {
            cause: value as u32,
            page,
        },
        6 => StepResult::Lost { page },
        7 => StepResult::Astray { page },
        8 => StepResult::Refused {
            errno: value as i32,
            page,
        },
        9 => StepResult::Left { pages: page },
        10 => StepResult::Part { pages: value },
        _ => StepResult::Signal {
            signal: value as i32,
            page,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_is_kept() {
        let words: Vec<AtomicU64> = (0..FIRST).map(|_| AtomicU64::new(0)).collect();
        let shared = Shared {
            words: words.leak(),
            mms: 0,
            actors: 0,
            steps: 0,
        };
        assert_eq!(shared.gave_up(), None);
        shared.give_up("cannot join the cgroup: EBUSY");
        shared.give_up("later");
        assert_eq!(
            shared.gave_up().as_deref(),
            Some("cannot join the cgroup: EBUSY")
        );
        shared.words[SAID].store(0, SeqCst);
        shared.give_up(&"x".repeat(1000));
        assert_eq!(shared.gave_up().map(|why| why.len()), Some(SAID_WORDS * 8));
    }

    #[test]
    fn results_survive_the_shared_words() {
        for result in [
            StepResult::Ok,
            StepResult::Unborn,
            StepResult::Errno(22),
            StepResult::Signal {
                signal: 11,
                page: 7,
            },
            StepResult::Saw {
                value: 255,
                page: 7,
            },
            StepResult::Fault {
                cause: 258,
                page: 7,
            },
            StepResult::Lost { page: 7 },
            StepResult::Astray { page: 7 },
            StepResult::Refused { errno: 14, page: 7 },
            StepResult::Left { pages: 7 },
            StepResult::Part { pages: 7 },
        ] {
            let words = encode(result).map(AtomicU64::new);
            assert_eq!(decode(&words), result);
        }
    }
}
