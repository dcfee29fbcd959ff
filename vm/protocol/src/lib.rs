// SPDX-License-Identifier: GPL-2.0-only
//! What the host and the agent say to each other, and the tracing module's records.
//!
//! Programs are [`operations`]. Records carry the kernel's own byte addresses.

pub mod frame;
pub mod message;
pub mod record;
pub mod run;
pub mod uapi;
pub mod workload;

pub use message::{Reply, Request};
pub use record::{Kind, Record};
pub use run::{Policy, Run, Tracing};

/// Changes whenever a message, an operation or the framing changes.
pub const PROTOCOL_VERSION: u32 = 18;
