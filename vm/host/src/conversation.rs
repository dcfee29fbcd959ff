// SPDX-License-Identifier: GPL-2.0-only
//! What is said to the agent, and what its answers mean.

use protocol::{
    PROTOCOL_VERSION, Record, Reply, Request, Run,
    frame::{self, FrameError},
    message::{Report, System},
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

/// What ends the answer to a program.
pub(crate) enum End {
    /// It has been replayed.
    Done(Report),
    /// It could not be replayed.
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
    answer(peer, id, deadline, on_record)
}

/// Receives the answer to a program; records are handed on as they come.
///
/// `deadline` gives the end of the time that the agent may be silent, anew
/// after each of its messages.
pub(crate) fn answer<P: Peer>(
    peer: &mut P,
    expected: u64,
    deadline: impl Fn() -> Instant,
    on_record: &mut dyn FnMut(Record),
) -> Result<End, Broken> {
    loop {
        let reply = receive(peer, deadline())?;
        let id = match &reply {
            Reply::Trace { id, .. }
            | Reply::Done { id, .. }
            | Reply::Failed { id, .. }
            | Reply::Stuck { id, .. } => *id,
            Reply::Ready { .. } => return Err(unexpected("a program", &reply)),
        };
        if id != expected {
            let why = format!("an answer to program {id}, while it replays {expected}");
            return Err(Broken::Nonsense(why));
        }
        match reply {
            Reply::Trace { records, .. } => hand_on(&records, on_record)?,
            Reply::Done { report, .. } => return Ok(End::Done(report)),
            Reply::Failed { why, .. } => return Ok(End::Failed(why)),
            Reply::Stuck { step, why, .. } => return Ok(End::Stuck { step, why }),
            Reply::Ready { .. } => unreachable!("has no id"),
        }
    }
}

fn hand_on(records: &[u8], on_record: &mut dyn FnMut(Record)) -> Result<(), Broken> {
    for bytes in records.chunks(Record::SIZE) {
        let record = Record::from_bytes(bytes).map_err(|e| Broken::Nonsense(e.to_string()))?;
        on_record(record);
    }
    Ok(())
}

fn unexpected(request: &str, reply: &Reply) -> Broken {
    let kind = match reply {
        Reply::Ready { .. } => "a greeting",
        Reply::Trace { .. } => "a trace",
        Reply::Done { .. } | Reply::Failed { .. } | Reply::Stuck { .. } => "a program's end",
    };
    Broken::Nonsense(format!("{kind} in answer to {request}"))
}
