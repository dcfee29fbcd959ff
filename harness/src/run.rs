// SPDX-License-Identifier: GPL-2.0-only
//! A run over many scenarios: workers judge them, one place tells of them, in order.

use crate::backend::Backend;
use crate::judge::Judge;
use crate::report::{Event, Reporter, Start, Summary};
use crate::scenario::Scenario;
use crate::verdict::Verdict;
use chrono::Utc;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

/// What workers, and the keeper of signals, say to the one who tells.
#[derive(Debug)]
pub enum Message {
    /// Something to be told at once.
    Event(Event),
    /// A scenario, by its place, has its verdict.
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
        reporter.tell(&Event::Started(start))?;
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
        let next = Arc::new(AtomicUsize::new(0));
        let run = Arc::new(self);
        for number in 0..workers {
            let (run, next) = (Arc::clone(&run), Arc::clone(&next));
            let (sender, stop) = (sender.clone(), Arc::clone(stop));
            let name = format!("worker {number}");
            thread::Builder::new().name(name).spawn(move || {
                run.work(&next, &sender, &stop);
                // Nobody listens any more after Ctrl-C.
                let _ = sender.send(Message::Done);
            })?;
        }
        Ok(())
    }

    fn work(&self, next: &AtomicUsize, sender: &Sender<Message>, stop: &Arc<Stop>) {
        let mut backend = (self.backend)(sender.clone(), Arc::clone(stop));
        while !stop.is_stopped() && backend.usable() {
            let place = next.fetch_add(1, Ordering::SeqCst);
            let Some(scenario) = self.scenarios.get(place) else {
                return;
            };
            let verdict = Box::new(self.judge.judge(scenario, backend.as_mut()));
            if sender.send(Message::Judged(place, verdict)).is_err() {
                return;
            }
        }
    }
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
