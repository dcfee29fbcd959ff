// SPDX-License-Identifier: GPL-2.0-only
//! RISC-V machines that were not made for this: the one that we run on, and others over
//! SSH. They bring their own kernel, and are to be as before when we are gone.
//!
//! [`Board::start`] brings agent and module, [`Board::run`] has the agent replay
//! programs, dropping it has the agent put everything back. What a killed run leaves
//! behind undoes [`restore`].

mod error;
mod event;
mod pipes;
mod place;
mod setup;
mod wait;

pub use error::BoardError;
pub use event::BoardEvent;
pub use place::Place;
pub use setup::restore;

use crate::conversation::{self, Broken, End, Greeting, Meanwhile, Stop};
use crate::provision;
use pipes::Pipes;
use protocol::message::{Report, Sabotage, System};
use protocol::workload::{Ran, Workload};
use protocol::{Record, Request, Run};
use setup::{AGENT, Facts, Folder};
use std::time::{Duration, Instant};

/// Where the agent notes what it has to undo (vm/agent/src/undo.rs).
pub(crate) const NOTES: &str = "/run/tlbdiff/undo";

/// From the agent's start to its first answer: it makes the machine still first.
const FIRST_ANSWER: Duration = Duration::from_secs(120);
/// How much longer than a program's own time its agent may be silent.
const GRACE: Duration = Duration::from_secs(30);
/// For putting everything back.
const GOODBYE: Duration = Duration::from_secs(60);
/// How long a board that was lost is asked what has become of it.
const RETURN: Duration = Duration::from_secs(300);
/// Between two such questions.
const PAUSE: Duration = Duration::from_secs(5);

/// `uname -r` of a board.
///
/// # Errors
/// It cannot be reached, or is no RISC-V Linux.
pub fn release(place: &Place) -> Result<String, BoardError> {
    setup::facts(place).map(|facts| facts.release)
}

/// A board whose agent has answered. Dropping it has everything put back there.
pub struct Board {
    // In this order: the agent ends before its files go.
    pipes: Pipes,
    folder: Option<Folder>,
    place: Place,
    facts: Facts,
    system: System,
    programs: u64,
    spent: Option<String>,
}

impl Board {
    /// Brings what is needed, and starts the agent.
    ///
    /// # Errors
    /// Whatever is missing there, or goes wrong on the way.
    pub fn start(place: &Place, events: &mut dyn FnMut(BoardEvent)) -> Result<Board, BoardError> {
        let began = Instant::now();
        events(BoardEvent::Connecting {
            place: place.to_string(),
        });
        let facts = setup::facts(place)?;
        facts.check_rights()?;
        let agent = provision::agent_program()?;
        let folder = Folder::make(place)?;
        folder.bring(&agent, AGENT)?;
        let module = setup::bring_module(&folder, &facts, events)?;
        let script = format!("exec {} board {module}", folder.file(AGENT));
        let pipes = Pipes::start(place.command(&script));
        let pipes = pipes.map_err(|error| place.no_program(error))?;
        let mut board = Board {
            pipes,
            folder: Some(folder),
            place: place.clone(),
            facts,
            system: System::default(),
            programs: 0,
            spent: None,
        };
        board.system = board.greet()?;
        events(BoardEvent::Ready {
            place: place.to_string(),
            release: board.system.release.clone(),
            tracing: board.system.tracing.clone(),
            took: began.elapsed(),
        });
        Ok(board)
    }

    fn greet(&mut self) -> Result<System, BoardError> {
        match conversation::greet(&mut self.pipes, Instant::now() + FIRST_ANSWER) {
            Ok(Greeting::System(system)) => Ok(system),
            Ok(Greeting::Mismatch { host, agent }) => Err(BoardError::Mismatch { host, agent }),
            Ok(Greeting::Failed(why)) => Err(BoardError::AgentFailed { why }),
            Err(Broken::Stopped(Stop::Died)) => Err(BoardError::AgentEnded {
                said: self.pipes.said(),
            }),
            Err(broken) => Err(self.explain(broken, "it was made still", FIRST_ANSWER)),
        }
    }

    /// What the agent found out about the board.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Text of its kernel's configuration; none where it keeps that nowhere.
    pub fn config(&self) -> Option<String> {
        setup::config(&self.place, &self.facts)
    }

    /// Whether it can run another program; after some errors it cannot.
    pub fn usable(&self) -> bool {
        self.spent.is_none()
    }

    /// Has the agent replay a program with fresh actors, for at most `timeout`.
    ///
    /// # Errors
    /// Of [`crate::guest::Fault::Kernel`] if the board rebooted or a step hangs, else
    /// where the program could not be run.
    pub fn run(
        &mut self,
        run: &Run,
        timeout: Duration,
        on_record: &mut dyn FnMut(Record),
    ) -> Result<Report, BoardError> {
        self.check()?;
        self.programs += 1;
        let silence = timeout + GRACE;
        let end = conversation::run(
            &mut self.pipes,
            self.programs,
            run,
            (timeout, silence),
            on_record,
        );
        self.ended(end, ("a program was replayed", silence), |end| match end {
            End::Done(report) => Some(report),
            _ => None,
        })
    }

    /// Puts a file where commands find it.
    ///
    /// # Errors
    /// It could not be put there.
    pub fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), BoardError> {
        self.check()?;
        self.programs += 1;
        let end = conversation::put(&mut self.pipes, self.programs, (name, bytes), GRACE);
        self.ended(end, ("a file was put there", GRACE), |end| {
            matches!(end, End::Put).then_some(())
        })
    }

    /// Has the agent run a command, for at most `timeout`; the trace, and what it says, are
    /// handed on as they come.
    ///
    /// # Errors
    /// As of [`Board::run`].
    pub fn observe(
        &mut self,
        workload: &Workload,
        timeout: Duration,
        on: &mut dyn FnMut(Meanwhile),
    ) -> Result<Ran, BoardError> {
        self.check()?;
        self.programs += 1;
        let silence = timeout + GRACE;
        let end = conversation::observe(
            &mut self.pipes,
            self.programs,
            workload,
            (timeout, silence),
            on,
        );
        self.ended(end, ("a command ran", silence), |end| match end {
            End::Ran(ran) => Some(ran),
            _ => None,
        })
    }

    /// What a request came to, of which the end is to be of one kind.
    fn ended<T>(
        &mut self,
        end: Result<End, Broken>,
        (during, limit): (&'static str, Duration),
        wanted: impl Fn(End) -> Option<T>,
    ) -> Result<T, BoardError> {
        let result = match end {
            Ok(End::Failed(why)) => Err(BoardError::AgentFailed { why }),
            Ok(End::Stuck { step, why }) => Err(BoardError::KernelHung {
                why: format!("step {step} does not return: {why}"),
            }),
            Ok(end) => wanted(end).ok_or_else(|| {
                let broken = conversation::nonsense("another answer", during);
                self.explain(broken, during, limit)
            }),
            Err(broken) => Err(self.explain(broken, during, limit)),
        };
        self.note(result)
    }

    /// Breaks something on purpose, for tests.
    ///
    /// # Errors
    /// The request could not be sent.
    pub fn sabotage(&mut self, sabotage: Sabotage) -> Result<(), BoardError> {
        self.check()?;
        let request = Request::Sabotage(sabotage);
        let sent = conversation::send(&mut self.pipes, &request, Instant::now() + GRACE);
        let result = sent.map_err(|broken| self.explain(broken, "a request was taken", GRACE));
        self.note(result)
    }

    fn check(&self) -> Result<(), BoardError> {
        match &self.spent {
            Some(why) => Err(BoardError::Spent { why: why.clone() }),
            None => Ok(()),
        }
    }

    fn note<T>(&mut self, result: Result<T, BoardError>) -> Result<T, BoardError> {
        match &result {
            Ok(_) | Err(BoardError::AgentFailed { .. } | BoardError::Spent { .. }) => {}
            Err(error) => self.spent = Some(error.to_string()),
        }
        result
    }

    fn explain(&mut self, broken: Broken, during: &'static str, after: Duration) -> BoardError {
        match broken {
            Broken::Nonsense(why) => BoardError::Protocol { why },
            Broken::Stopped(Stop::TimedOut) => match self.look_again(Duration::ZERO) {
                Some(again) if again.boot_id != self.facts.boot_id => {
                    BoardError::Rebooted { during }
                }
                Some(_) => BoardError::Silent {
                    during,
                    after,
                    said: self.pipes.said(),
                },
                None => BoardError::Lost {
                    during,
                    then: "it does not answer any more: it hangs, is off, or cut off".to_owned(),
                },
            },
            Broken::Stopped(Stop::Died | Stop::Broken) => self.lost(during),
        }
    }

    /// The agent, or the way to it, has ended.
    fn lost(&mut self, during: &'static str) -> BoardError {
        match self.look_again(RETURN) {
            Some(again) if again.boot_id != self.facts.boot_id => BoardError::Rebooted { during },
            Some(_) => BoardError::Lost {
                during,
                then: format!("the board is there; last words: {}", self.pipes.said()),
            },
            None => BoardError::Lost {
                during,
                then: format!(
                    "it has not answered for {} s: it hangs, is off, or cut off",
                    RETURN.as_secs()
                ),
            },
        }
    }

    /// What the board says of itself now, if it says something within a time.
    fn look_again(&self, patience: Duration) -> Option<Facts> {
        let end = Instant::now() + patience;
        // The old connection may be dead without knowing it.
        self.place.disconnect();
        loop {
            match setup::facts(&self.place) {
                Ok(facts) => return Some(facts),
                Err(_) if Instant::now() < end => std::thread::sleep(PAUSE),
                Err(_) => return None,
            }
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let patience = if self.usable() { GOODBYE } else { PAUSE };
        self.pipes.close(patience);
        self.folder = None;
        self.place.disconnect();
    }
}
