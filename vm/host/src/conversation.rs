// SPDX-License-Identifier: GPL-2.0-only
//! What is said to the agent, and what its answers mean.

use protocol::{
    PROTOCOL_VERSION, Record, Reply, Request, Run,
    frame::{self, FrameError},
    message::{Report, System},
    workload::{Ran, Workload},
};
use std::{
    io::{Read, Write},
    time::{Duration, Instant},
};

/// What ended a wait before its time, or with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Who is spoken to is gone.
    Died,
    /// The console shows that the kernel is broken.
    Broken,
    /// The time is over.
    TimedOut,
}

/// Where an agent is spoken to.
pub(crate) trait Peer {
    /// Its channel, for a while.
    type Talk<'a>: Read + Write
    where
        Self: 'a;

    /// The channel, which ends its waits at a deadline.
    fn talk_until(&mut self, deadline: Instant) -> Self::Talk<'_>;

    /// What ended a wait on it, if something did.
    fn stopped(talk: &Self::Talk<'_>) -> Option<Stop>;
}

/// Why a message did not get through, or was not understood.
pub(crate) enum Broken {
    /// The wait for it ended.
    Stopped(Stop),
    /// It makes no sense.
    Nonsense(String),
}

/// The answer to a greeting.
pub(crate) enum Greeting {
    /// What machine it is.
    System(System),
    /// The agent speaks another version of the protocol.
    Mismatch {
        /// The host's.
        host: u32,
        /// The agent's.
        agent: u32,
    },
    /// The agent cannot serve.
    Failed(String),
}

/// What comes before the end of an answer.
pub enum Meanwhile {
    /// A record of the trace.
    Record(Record),
    /// A command says something.
    Said(Vec<u8>),
}

/// How much of a file goes into one request, in bytes.
const PIECE: usize = 256 << 10;

/// What ends the answer to a request.
pub(crate) enum End {
    /// A program has been replayed.
    Done(Report),
    /// A command has ended.
    Ran(Ran),
    /// A piece of a file is there.
    Put,
    /// It could not be done.
    Failed(String),
    /// A step does not return.
    Stuck {
        /// Which.
        step: u64,
        /// In the agent's words.
        why: String,
    },
}

/// Sends a request.
pub(crate) fn send<P: Peer>(
    peer: &mut P,
    request: &Request,
    deadline: Instant,
) -> Result<(), Broken> {
    let mut talk = peer.talk_until(deadline);
    let result = frame::send(&mut talk, request);
    result.map_err(|error| broken(P::stopped(&talk), error))
}

fn receive<P: Peer>(peer: &mut P, deadline: Instant) -> Result<Reply, Broken> {
    let mut talk = peer.talk_until(deadline);
    let result = frame::receive(&mut talk);
    result.map_err(|error| broken(P::stopped(&talk), error))
}

fn broken(stop: Option<Stop>, error: FrameError) -> Broken {
    match stop {
        Some(stop) => Broken::Stopped(stop),
        None => Broken::Nonsense(error.to_string()),
    }
}

/// Greets the agent; the answer says what machine it runs on.
pub(crate) fn greet<P: Peer>(peer: &mut P, deadline: Instant) -> Result<Greeting, Broken> {
    let host = PROTOCOL_VERSION;
    send(peer, &Request::Hello { version: host }, deadline)?;
    match receive(peer, deadline)? {
        Reply::Ready { version, system } if version == host => Ok(Greeting::System(system)),
        Reply::Ready { version: agent, .. } => Ok(Greeting::Mismatch { host, agent }),
        Reply::Failed { why, .. } => Ok(Greeting::Failed(why)),
        other => Err(unexpected("the greeting", &other)),
    }
}

/// Has the agent replay a program, the `id`-th, with fresh actors.
///
/// The agent gives up after `timeout`; here it may be silent for `silence`, which is
/// longer, anew after each of its messages.
pub(crate) fn run<P: Peer>(
    peer: &mut P,
    id: u64,
    run: &Run,
    (timeout, silence): (Duration, Duration),
    on_record: &mut dyn FnMut(Record),
) -> Result<End, Broken> {
    let deadline = || Instant::now() + silence;
    let request = Request::Run {
        id,
        run: Box::new(run.clone()),
        timeout_ms: timeout.as_millis().try_into().unwrap_or(u64::MAX),
    };
    send(peer, &request, deadline())?;
    answer(peer, id, deadline, &mut |meanwhile| match meanwhile {
        Meanwhile::Record(record) => on_record(record),
        Meanwhile::Said(_) => {}
    })
}

/// Puts a file where commands find it.
pub(crate) fn put<P: Peer>(
    peer: &mut P,
    id: u64,
    (name, bytes): (&str, &[u8]),
    silence: Duration,
) -> Result<End, Broken> {
    let deadline = || Instant::now() + silence;
    let mut pieces = bytes.chunks(PIECE);
    let mut piece = pieces.next().unwrap_or_default();
    let mut first = true;
    loop {
        let request = Request::Put {
            id,
            name: name.to_owned(),
            first,
            bytes: piece.to_vec(),
        };
        send(peer, &request, deadline())?;
        let end = answer(peer, id, deadline, &mut |_| {})?;
        first = false;
        match (end, pieces.next()) {
            (End::Put, Some(next)) => piece = next,
            (end, _) => return Ok(end),
        }
    }
}

/// Has the agent run a command, as [`run`] does a program.
pub(crate) fn observe<P: Peer>(
    peer: &mut P,
    id: u64,
    workload: &Workload,
    (timeout, silence): (Duration, Duration),
    on: &mut dyn FnMut(Meanwhile),
) -> Result<End, Broken> {
    let deadline = || Instant::now() + silence;
    let request = Request::Observe {
        id,
        workload: workload.clone(),
        timeout_ms: timeout.as_millis().try_into().unwrap_or(u64::MAX),
    };
    send(peer, &request, deadline())?;
    answer(peer, id, deadline, on)
}

/// Receives the answer to a request; records are handed on as they come.
///
/// `deadline` gives the end of the time that the agent may be silent, anew
/// after each of its messages.
pub(crate) fn answer<P: Peer>(
    peer: &mut P,
    expected: u64,
    deadline: impl Fn() -> Instant,
    on: &mut dyn FnMut(Meanwhile),
) -> Result<End, Broken> {
    loop {
        let reply = receive(peer, deadline())?;
        let id = match &reply {
            Reply::Trace { id, .. }
            | Reply::Done { id, .. }
            | Reply::Failed { id, .. }
            | Reply::Put { id }
            | Reply::Said { id, .. }
            | Reply::Ran { id, .. }
            | Reply::Stuck { id, .. } => *id,
            Reply::Ready { .. } => return Err(unexpected("a program", &reply)),
        };
        if id != expected {
            let why = format!("an answer to request {id}, in answer to {expected}");
            return Err(Broken::Nonsense(why));
        }
        match reply {
            Reply::Trace { records, .. } => hand_on(&records, on)?,
            Reply::Said { bytes, .. } => on(Meanwhile::Said(bytes)),
            Reply::Put { .. } => return Ok(End::Put),
            Reply::Ran { ran, .. } => return Ok(End::Ran(ran)),
            Reply::Done { report, .. } => return Ok(End::Done(report)),
            Reply::Failed { why, .. } => return Ok(End::Failed(why)),
            Reply::Stuck { step, why, .. } => return Ok(End::Stuck { step, why }),
            Reply::Ready { .. } => unreachable!("has no id"),
        }
    }
}

fn hand_on(records: &[u8], on: &mut dyn FnMut(Meanwhile)) -> Result<(), Broken> {
    for bytes in records.chunks(Record::SIZE) {
        let record = Record::from_bytes(bytes).map_err(|e| Broken::Nonsense(e.to_string()))?;
        on(Meanwhile::Record(record));
    }
    Ok(())
}

fn unexpected(request: &str, reply: &Reply) -> Broken {
    let kind = match reply {
        Reply::Ready { .. } => "a greeting",
        Reply::Trace { .. } => "a trace",
        Reply::Put { .. } => "a file's end",
        Reply::Said { .. } | Reply::Ran { .. } => "a command's answer",
        Reply::Done { .. } | Reply::Failed { .. } | Reply::Stuck { .. } => "a program's end",
    };
    nonsense(kind, request)
}

/// An answer that belongs to another request.
pub(crate) fn nonsense(kind: &str, request: &str) -> Broken {
    Broken::Nonsense(format!("{kind} in answer to {request}"))
}
