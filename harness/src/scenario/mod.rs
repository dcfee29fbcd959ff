// SPDX-License-Identifier: GPL-2.0-only
//! Scenarios: from YAML to steps that are known to be well-formed.

mod actors;
mod check;
mod checked;
mod checker;
pub mod describe;
mod errors;
mod expression;
mod file;
pub mod find;
mod map_count;
pub mod names;
pub mod naming;
mod plain;
mod repeat;
mod requirement;
mod thp;

pub use check::check;
pub use checked::{KnownFinding, Rounds, SUBJECT, Scenario, Written};
pub use errors::InputError;
pub use requirement::{Has, Requirement};
