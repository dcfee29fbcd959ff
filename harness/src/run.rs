// SPDX-License-Identifier: GPL-2.0-only
//! A run over many scenarios: workers judge them, one place tells of them, in order.

use crate::backend::Backend;
use crate::event::{Event, Reporter, Start, Summary};
use crate::judge::{Judge, Runs};
use crate::scenario::Scenario;
use crate::verdict::Verdict;
use chrono::Utc;
use operations::Plain;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Instant;

/// What workers, and the keeper of signals, say to the one who tells.
#[derive(Debug)]
pub enum Message {
    /// Something to be told at once.
    Event(Event),
    /// A scenario, by its index, has its verdict.
    Judged(usize, Box<Verdict>),
    /// A worker has nothing left to do.
    Done,
    /// Ctrl-C.
    Interrupted,
}

/// Why and whether no further scenario is begun.
#[derive(Debug, Default)]
pub struct Stop {
    stopped: AtomicBool,
    why: Mutex<Option<String>>,
}

impl Stop {
    /// Begin no further scenario.
    pub fn stop(&self, why: &str) {
        let mut held = self
            .why
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        held.get_or_insert_with(|| why.to_owned());
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// Whether no further scenario is begun.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    fn why(&self) -> Option<String> {
        self.why
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone()
    }
}

/// Makes a worker's own backend.
pub type MakeBackend = dyn Fn(Sender<Message>, Arc<Stop>) -> Box<dyn Backend> + Send + Sync;

/// A run to be.
pub struct Run {
    /// What to run, in the order of telling.
    pub scenarios: Vec<Arc<Scenario>>,
    /// What they are judged by.
    pub judge: Judge,
    /// What they are run on.
    pub backend: Arc<MakeBackend>,
    /// How many at once.
    pub jobs: usize,
    /// Run them in an order that this number says, not in the order of telling: where each
    /// is repeated, once all have been run as often.
    pub shuffle: Option<u64>,
    /// How the run is announced.
    pub start: Start,
}

impl Run {
    /// Runs all scenarios. `messages` may also bring Ctrl-C.
    ///
    /// # Errors
    /// What is found cannot be told.
    pub fn run(
        self,
        (sender, messages): (&Sender<Message>, &Receiver<Message>),
        reporter: &mut dyn Reporter,
    ) -> io::Result<Summary> {
        let begin = Instant::now();
        let total = self.scenarios.len();
        let start = Start {
            began: Utc::now(),
            ..self.start.clone()
        };
        reporter.tell(&Event::Started(Box::new(start)))?;
        let stop = Arc::new(Stop::default());
        let workers = self.jobs.clamp(1, total.max(1));
        self.start_workers(workers, sender, &stop)?;
        let mut teller = Teller::new(begin, reporter);
        teller.listen(messages, workers, &stop)?;
        let Teller {
            mut summary,
            reporter,
            ..
        } = teller;
        summary.not_run = total - summary.counts.values().sum::<usize>();
        summary.stopped = stop.why();
        summary.elapsed = begin.elapsed();
        reporter.tell(&Event::Finished(summary.clone()))?;
        Ok(summary)
    }

    fn start_workers(
        self,
        workers: usize,
        sender: &Sender<Message>,
        stop: &Arc<Stop>,
    ) -> io::Result<()> {
        // With one guest alone all go in order.
        let waits = |scenario: &Arc<Scenario>| workers > 1 && scenario.program.does(Plain::WAITS);
        let waits: Vec<bool> = self.scenarios.iter().map(waits).collect();
        let plan = Arc::new(Plan::new(&waits, self.judge.repeat, self.shuffle));
        let run = Arc::new(self);
        for number in 0..workers {
            let (run, plan) = (Arc::clone(&run), Arc::clone(&plan));
            let (sender, stop) = (sender.clone(), Arc::clone(stop));
            let name = format!("worker {number}");
            thread::Builder::new().name(name).spawn(move || {
                run.work((&plan, number == 0), &sender, &stop);
                // Nobody listens any more after Ctrl-C.
                let _ = sender.send(Message::Done);
            })?;
        }
        Ok(())
    }

    fn work(&self, (plan, waits_first): (&Plan, bool), sender: &Sender<Message>, stop: &Arc<Stop>) {
        let mut backend = (self.backend)(sender.clone(), Arc::clone(stop));
        while !stop.is_stopped() && backend.usable() {
            let Some(place) = plan.next(waits_first) else {
                return;
            };
            let verdict = self
                .judge
                .judge_once(&self.scenarios[place], backend.as_mut());
            let Some(verdict) = plan.runs(place).add(verdict, self.judge.repeat) else {
                continue;
            };
            let judged = Message::Judged(place, Box::new(verdict));
            if sender.send(judged).is_err() {
                return;
            }
        }
    }
}

/// What is run when: places of scenarios, each as often as it is repeated.
///
/// Those that wait for a clock come last, but for one worker, which takes them first: what it
/// leaves of the processors meanwhile the others use.
struct Plan {
    work: Queue,
    waiting: Queue,
    runs: Vec<Mutex<Runs>>,
}

/// Places, of which one after the other is taken.
struct Queue {
    places: Vec<usize>,
    next: AtomicUsize,
}

impl Queue {
    fn new(places: Vec<usize>) -> Queue {
        Queue {
            places,
            next: AtomicUsize::new(0),
        }
    }

    fn take(&self) -> Option<usize> {
        let next = self.next.fetch_add(1, Ordering::SeqCst);
        self.places.get(next).copied()
    }
}

impl Plan {
    /// Of scenarios that wait, or not.
    fn new(waits: &[bool], repeat: u32, shuffle: Option<u64>) -> Plan {
        let order = order(waits.len(), repeat, shuffle);
        let (waiting, work) = order.into_iter().partition(|&place| waits[place]);
        Plan {
            work: Queue::new(work),
            waiting: Queue::new(waiting),
            runs: waits.iter().map(|_| Mutex::default()).collect(),
        }
    }

    /// The index of the scenario that is to be run now; none at the end.
    fn next(&self, waits_first: bool) -> Option<usize> {
        let [first, then] = match waits_first {
            true => [&self.waiting, &self.work],
            false => [&self.work, &self.waiting],
        };
        loop {
            let place = first.take().or_else(|| then.take())?;
            if !self.runs(place).ended() {
                return Some(place);
            }
        }
    }

    fn runs(&self, place: usize) -> MutexGuard<'_, Runs> {
        let runs = self.runs[place].lock();
        runs.unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Each scenario as often as it is repeated: one after the other, or in rounds, each in
/// an order of its own.
fn order(scenarios: usize, repeat: u32, shuffle: Option<u64>) -> Vec<usize> {
    let Some(seed) = shuffle else {
        let each = (0..scenarios).flat_map(|place| (0..repeat).map(move |_| place));
        return each.collect();
    };
    let mut random = fastrand::Rng::with_seed(seed);
    let rounds = (0..repeat).flat_map(|_| {
        let mut round: Vec<usize> = (0..scenarios).collect();
        random.shuffle(&mut round);
        round
    });
    rounds.collect()
}

/// Tells of verdicts in the order of the scenarios, in whatever order they come.
struct Teller<'a> {
    begin: Instant,
    reporter: &'a mut dyn Reporter,
    early: BTreeMap<usize, Box<Verdict>>,
    next: usize,
    summary: Summary,
}

impl<'a> Teller<'a> {
    fn new(begin: Instant, reporter: &'a mut dyn Reporter) -> Teller<'a> {
        Teller {
            begin,
            reporter,
            early: BTreeMap::new(),
            next: 0,
            summary: Summary::default(),
        }
    }

    fn listen(
        &mut self,
        messages: &Receiver<Message>,
        mut workers: usize,
        stop: &Stop,
    ) -> io::Result<()> {
        while workers > 0 {
            match messages.recv() {
                Ok(Message::Event(event)) => self.reporter.tell(&event)?,
                Ok(Message::Judged(place, verdict)) => {
                    self.early.insert(place, verdict);
                    self.tell_those_in_order()?;
                }
                Ok(Message::Done) => workers -= 1,
                Ok(Message::Interrupted) => {
                    // Workers are left as they are: they end with the process, and
                    // their guests with them.
                    stop.stop("interrupted");
                    self.summary.interrupted = true;
                    return Ok(());
                }
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    fn tell_those_in_order(&mut self) -> io::Result<()> {
        while let Some(verdict) = self.early.remove(&self.next) {
            self.next += 1;
            self.summary
                .first_verdict
                .get_or_insert(self.begin.elapsed());
            self.summary.checked += verdict.checked;
            *self.summary.counts.entry(verdict.outcome()).or_default() += 1;
            self.reporter.tell(&Event::Judged(verdict))?;
        }
        Ok(())
    }
}

/// The two ends of what a run listens to.
pub fn messages() -> (Sender<Message>, Receiver<Message>) {
    channel()
}

#[cfg(test)]
mod tests {
    use super::{Plan, order};

    #[test]
    fn what_is_repeated_is_run_in_a_row_unless_it_is_shuffled() {
        assert_eq!(order(3, 2, None), [0, 0, 1, 1, 2, 2]);
        let shuffled = order(50, 3, Some(7));
        for round in shuffled.chunks(50) {
            let mut places = round.to_vec();
            places.sort_unstable();
            assert!(places.into_iter().eq(0..50));
        }
        assert_ne!(shuffled[..50], shuffled[50..100]);
    }

    #[test]
    fn one_worker_begins_with_those_that_wait_and_the_others_end_with_them() {
        let plan = Plan::new(&[true, false, true, false, false], 1, None);
        let taken = [true, false, false, true, true, false].map(|first| plan.next(first));
        assert_eq!(taken, [Some(0), Some(1), Some(3), Some(2), Some(4), None]);
    }

    #[test]
    fn a_number_says_the_order() {
        assert_eq!(order(50, 2, Some(7)), order(50, 2, Some(7)));
        assert_ne!(order(50, 2, Some(7)), order(50, 2, Some(8)));
    }
}
