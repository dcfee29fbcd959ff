// SPDX-License-Identifier: GPL-2.0-only
//! What is said to the agent, and what its answers mean.

use super::{
    GuestError,
    machine::{Channel, Machine, Stop},
};
use protocol::{
    PROTOCOL_VERSION, Record, Reply, Request,
    frame::{self, FrameError},
    message::{Report, System},
};
use std::time::Instant;

/// Why a message did not get through, or was not understood.
pub(super) enum Broken {
    /// The wait for it ended.
    Stopped(Stop),
    /// It makes no sense.
    Nonsense(String),
}

/// What ends the answer to a program.
pub(super) enum End {
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
pub(super) fn send(
    machine: &mut Machine,
    request: &Request,
    deadline: Instant,
) -> Result<(), Broken> {
    let mut talk = machine.talk(Channel::Agent, deadline);
    let result = frame::send(&mut talk, request);
    result.map_err(|error| broken(talk.stop, error))
}

fn receive(machine: &mut Machine, deadline: Instant) -> Result<Reply, Broken> {
    let mut talk = machine.talk(Channel::Agent, deadline);
    let result = frame::receive(&mut talk);
    result.map_err(|error| broken(talk.stop, error))
}

fn broken(stop: Option<Stop>, error: FrameError) -> Broken {
    match stop {
        Some(stop) => Broken::Stopped(stop),
        None => Broken::Nonsense(error.to_string()),
    }
}

/// Greets the agent; the answer says what machine it runs on.
///
/// # Errors
/// [`GuestError::Mismatch`] inside `Ok(Err(_))`: that is an answer, too.
pub(super) fn greet(
    machine: &mut Machine,
    deadline: Instant,
) -> Result<Result<System, GuestError>, Broken> {
    let host = PROTOCOL_VERSION;
    send(machine, &Request::Hello { version: host }, deadline)?;
    match receive(machine, deadline)? {
        Reply::Ready { version, system } if version == host => Ok(Ok(system)),
        Reply::Ready { version: agent, .. } => Ok(Err(GuestError::Mismatch { host, agent })),
        Reply::Failed { why, .. } => {
            let console = machine.console.excerpt();
            Ok(Err(GuestError::AgentFailed { why, console }))
        }
        other => Err(unexpected("the greeting", &other)),
    }
}

/// Receives the answer to a program; records are handed on as they come.
///
/// `deadline` gives the end of the time that the agent may be silent, anew
/// after each of its messages.
pub(super) fn answer(
    machine: &mut Machine,
    expected: u64,
    deadline: impl Fn() -> Instant,
    on_record: &mut dyn FnMut(Record),
) -> Result<End, Broken> {
    loop {
        let reply = receive(machine, deadline())?;
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
