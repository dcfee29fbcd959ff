// SPDX-License-Identifier: GPL-2.0-only
//! Where `observe` runs a command: in guests, or on a board.

use super::args::{BackendName, ObserveArgs};
use super::config::{artifacts, choices, line, line_of, profile, profile_of};
use super::failure::Failure;
use crate::outcome::Outcome;
use protocol::message::System;
use protocol::workload::{Ran, Workload};
use reference_model::Profile;
use std::time::Duration;
use vm::boards::Board;
use vm::guest::{Fault, Guest, GuestConfig};
use vm::{KernelChoice, Meanwhile};

/// What the command runs on.
pub(super) enum On {
    Guest(Guest),
    Board(Board),
}

/// A failure of the machine.
pub(super) struct Broken {
    pub(super) why: String,
    /// It is the kernel's.
    kernel: bool,
}

/// Where a command is to run.
pub(super) struct Target {
    pub(super) kernel: String,
    /// The line of kernels that it is of, in the history.
    pub(super) line: String,
    pub(super) profile: &'static Profile,
    pub(super) place: Place,
}

/// A guest to be started, or a board.
pub(super) enum Place {
    Guest(Box<GuestConfig>),
    Board(vm::boards::Place),
}

/// The kernels that a command is to run on.
///
/// # Errors
/// There is no such kernel, board, profile or disk.
pub(super) fn targets(args: &ObserveArgs) -> Result<Vec<Target>, Failure> {
    let name = args.backend.clone().unwrap_or(BackendName::Guest);
    let named = args.model_profile.as_deref().map(profile).transpose()?;
    if let Some(place) = name.place(args.ssh_config.as_deref()) {
        let release = vm::boards::release(&place)
            .map_err(|error| Failure::Cannot(format!("{error}; {}", error.advice())))?;
        return Ok(vec![Target {
            profile: named.unwrap_or(Profile::of_release(&release).0),
            line: line_of(&release),
            kernel: release,
            place: Place::Board(place),
        }]);
    }
    if name == BackendName::Recorded {
        let message = "--backend: snapshots run no command; it is `guest`, `local` or `ssh:…`";
        return Err(Failure::Usage(message.to_owned()));
    }
    let programs = args.programs.then(vm::programs::disk).transpose();
    let programs = programs.map_err(|error| Failure::Cannot(error.to_string()))?;
    let guest = |choice: KernelChoice| {
        let artifacts = artifacts(&choice)?;
        let usual = GuestConfig::new(artifacts.clone());
        let cpu = args.cpu.clone().unwrap_or_default().of(&usual.cpu);
        Ok(Target {
            kernel: format!("{} ({})", artifacts.kernel, artifacts.release),
            line: line(&choice, &artifacts),
            profile: named
                .or_else(|| profile_of(&choice, &artifacts))
                .unwrap_or(&Profile::STABLE),
            place: Place::Guest(Box::new(GuestConfig {
                programs: programs.clone(),
                harts: args.harts,
                memory_mib: args.memory,
                cpu,
                snapshot: !args.boot,
                ..usual
            })),
        })
    };
    choices(&args.kernel)?.into_iter().map(guest).collect()
}

impl Broken {
    pub(super) fn outcome(&self) -> Outcome {
        match self.kernel {
            true => Outcome::KernelCrashed,
            false => Outcome::CouldNotRun,
        }
    }
}

impl On {
    pub(super) fn start(place: &Place) -> Result<On, Broken> {
        match place {
            Place::Guest(config) => {
                let guest = Guest::start(config, &mut |_| {});
                guest.map(On::Guest).map_err(|error| of_guest(&error))
            }
            Place::Board(place) => {
                let board = Board::start(place, &mut |_| {});
                board.map(On::Board).map_err(|error| of_board(&error))
            }
        }
    }

    pub(super) fn system(&self) -> &System {
        match self {
            On::Guest(guest) => guest.system(),
            On::Board(board) => board.system(),
        }
    }

    pub(super) fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), Broken> {
        match self {
            On::Guest(guest) => guest.put(name, bytes).map_err(|error| of_guest(&error)),
            On::Board(board) => board.put(name, bytes).map_err(|error| of_board(&error)),
        }
    }

    pub(super) fn observe(
        &mut self,
        workload: &Workload,
        timeout: Duration,
        on: &mut dyn FnMut(Meanwhile),
    ) -> Result<Ran, Broken> {
        match self {
            On::Guest(guest) => guest
                .observe(workload, timeout, on)
                .map_err(|error| of_guest(&error)),
            On::Board(board) => board
                .observe(workload, timeout, on)
                .map_err(|error| of_board(&error)),
        }
    }
}

fn of_guest(error: &vm::guest::GuestError) -> Broken {
    Broken {
        why: error.to_string(),
        kernel: error.fault() == Fault::Kernel,
    }
}

fn of_board(error: &vm::boards::BoardError) -> Broken {
    Broken {
        why: error.to_string(),
        kernel: error.fault() == Fault::Kernel,
    }
}
