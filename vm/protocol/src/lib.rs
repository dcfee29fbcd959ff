// SPDX-License-Identifier: GPL-2.0-only
//! What the host and the agent say to each other, and the tracing module's records.
//!
//! Addresses in programs are in pages of 4 KiB from the start of the arena.
//! Records carry the kernel's own byte addresses.

pub mod frame;
pub mod message;
pub mod program;
pub mod record;
pub mod uapi;

pub use message::{Reply, Request};
pub use program::{Op, Program};
pub use record::{Kind, Record};

/// Changes whenever a message, an operation or the framing changes.
pub const PROTOCOL_VERSION: u32 = 9;

/// Size of a page, in bytes.
pub const PAGE_SIZE: u64 = 4096;
/// First byte of the arena: 64 GiB, 1 GiB-aligned, far from all else of a static program.
pub const ARENA_BASE: u64 = 64 << 30;
/// Size of the arena in pages: 4 GiB.
pub const ARENA_PAGES: u64 = (4 << 30) / PAGE_SIZE;
