// SPDX-License-Identifier: GPL-2.0-only
//! Everything that gets a program run on a real kernel and a raw trace back.
//!
//! This crate knows nothing of scenarios, of the model, or of what anyone
//! expects of the kernel.

pub mod artifacts;
pub mod boards;
pub mod c_source;
mod cache;
pub mod call_sites;
mod conversation;
mod disks;
pub mod doctor;
mod edits;
pub mod error;
pub mod guest;
pub mod home;
pub mod kernels;
mod keys;
mod manifest;
mod near;
mod own_image;
pub mod programs;
pub mod provision;
mod tree;

pub use artifacts::{Artifacts, locate, source};
pub use conversation::Meanwhile;
pub use error::VmError;
pub use kernels::{
    EVERY, GuestBoard, KernelChoice, KernelInfo, every, in_order, kernel_name, kernels,
};
