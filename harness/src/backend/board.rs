// SPDX-License-Identifier: GPL-2.0-only
//! RISC-V boards, and the machine that this program runs on: each worker has one.

use super::agent::{Warnings, observe, subject, too_few_harts};
use super::guest::sabotage_of;
use super::{Backend, Observed, Subject};
use crate::cli::args::SabotageName;
use crate::convert::to_run;
use crate::event::Event;
use crate::finding::Finding;
use crate::layer1::Layer1;
use crate::run::{Message, Stop};
use crate::scenario::Scenario;
use protocol::Record;
use protocol::Tracing;
use protocol::message::Report;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vm::boards::{Board, BoardError, BoardEvent, Place};
use vm::guest::Fault;

/// How boards are used.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Longest that one scenario may take.
    pub timeout: Duration,
    /// What to break before the first scenario.
    pub sabotage: Option<SabotageName>,
    /// Records that the trace buffer holds; 0 for the module's default.
    pub buffer_records: u32,
    /// Devices load translations in steps, too.
    pub eager: bool,
}

/// So many starts of a board in a row may fail before it is given up.
const FAILED_STARTS: u32 = 2;

/// Boards that no worker has taken yet, and how many have not been given up.
#[derive(Debug)]
pub struct Boards {
    free: Mutex<Vec<Place>>,
    alive: AtomicUsize,
}

impl Boards {
    /// All of these.
    pub fn new(mut places: Vec<Place>) -> Boards {
        places.reverse();
        Boards {
            alive: AtomicUsize::new(places.len()),
            free: Mutex::new(places),
        }
    }

    fn take(&self) -> Option<Place> {
        let mut free = self
            .free
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        free.pop()
    }
}

/// Runs scenarios on one board, on which the agent is started when it is first needed.
pub struct BoardBackend {
    settings: Settings,
    sender: Sender<Message>,
    stop: Arc<Stop>,
    boards: Arc<Boards>,
    place: Option<Place>,
    board: Option<Board>,
    failed_starts: u32,
    given_up: bool,
}

impl BoardBackend {
    /// On one of the boards that are free.
    pub fn new(
        settings: Settings,
        boards: Arc<Boards>,
        sender: Sender<Message>,
        stop: Arc<Stop>,
    ) -> BoardBackend {
        let place = boards.take();
        BoardBackend {
            settings,
            sender,
            stop,
            given_up: place.is_none(),
            boards,
            place,
            board: None,
            failed_starts: 0,
        }
    }

    /// The board, with a running agent.
    fn board(&mut self) -> Result<&mut Board, Finding> {
        // One that cannot be used any more is put in order before it is tried again.
        if self.board.as_ref().is_some_and(|board| !board.usable()) {
            self.board = None;
        }
        let board = match self.board.take() {
            Some(board) => board,
            None => self.start().map_err(|error| self.start_failed(&error))?,
        };
        self.failed_starts = 0;
        Ok(self.board.insert(board))
    }

    fn start(&mut self) -> Result<Board, BoardError> {
        let Some(place) = &self.place else {
            return Err(BoardError::Spent {
                why: "there is none left".to_owned(),
            });
        };
        let sender = self.sender.clone();
        // Nobody listens any more after Ctrl-C.
        let mut tell = |event| drop(sender.send(Message::Event(told(event))));
        let mut board = Board::start(place, &mut tell)?;
        if let Some(sabotage) = self.settings.sabotage.take() {
            board.sabotage(sabotage_of(sabotage))?;
        }
        Ok(board)
    }

    fn start_failed(&mut self, error: &BoardError) -> Finding {
        self.failed_starts += 1;
        if error.is_lasting() || self.failed_starts >= FAILED_STARTS {
            self.given_up = true;
            if self.boards.alive.fetch_sub(1, Ordering::SeqCst) == 1 {
                self.stop.stop(&format!("no board is left: {error}"));
            }
        }
        finding(error)
    }

    fn run(
        &mut self,
        scenario: &Scenario,
        tracing: Tracing,
        take: &mut dyn FnMut(Record),
    ) -> Result<Report, Finding> {
        let timeout = self.settings.timeout;
        let board = self.board()?;
        let (has, needs) = (board.system().harts, scenario.harts());
        let Some(run) = to_run(scenario, has, tracing) else {
            let why = too_few_harts(has, needs, None);
            return Err(Finding::skipped(why));
        };
        let result = board.run(&run, timeout, take);
        result.map_err(|error| finding(&error))
    }
}

impl Backend for BoardBackend {
    fn prepare(&mut self, scenario: &Scenario) -> Result<Subject, Finding> {
        let board = self.board()?;
        let system = board.system();
        // One of them is the agent's, which must not change what harts have loaded.
        let (has, needs) = (system.harts, scenario.harts() + 1);
        if has < needs {
            let why = format!("the board has {has} of {needs} harts, the agent's included");
            return Err(Finding::skipped(why));
        }
        subject(scenario, system, &mut || board.config())
    }

    fn observe(&mut self, scenario: &Scenario, layer1: Layer1<'_>) -> Result<Observed, Finding> {
        let system = self.board()?.system().clone();
        let tracing = Tracing {
            eager: self.settings.eager,
            ..Tracing::full(self.settings.buffer_records)
        };
        observe(
            scenario,
            &system,
            Warnings::OfAnything,
            tracing,
            None,
            &layer1,
            &mut |tracing, take| self.run(scenario, tracing, take),
        )
    }

    fn count(&mut self, scenario: &Scenario, subscribers: u32) -> Result<Report, Finding> {
        self.run(scenario, Tracing::count(subscribers), &mut drop)
    }

    fn usable(&self) -> bool {
        !self.given_up
    }
}

fn finding(error: &BoardError) -> Finding {
    match error.fault() {
        Fault::Kernel => {
            Finding::kernel_crashed(error.to_string(), vec![error.advice().to_owned()])
        }
        Fault::Run => Finding::could_not_run(format!("{error}\n{}", error.advice())),
    }
}

fn told(event: BoardEvent) -> Event {
    match event {
        BoardEvent::Connecting { place } => Event::Progress(format!("asking {place} what it is")),
        BoardEvent::BuildingModule => {
            Event::Progress("building the tracing module on the board".to_owned())
        }
        BoardEvent::Ready {
            place,
            release,
            tracing,
            took,
        } => Event::Note(format!(
            "{place} runs {release}, functions are hooked by {tracing}; ready after {:.1} s",
            took.as_secs_f32()
        )),
    }
}
