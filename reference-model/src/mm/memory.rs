// SPDX-License-Identifier: GPL-2.0-only
//! `mm/memory.c`, in parts.

pub mod copy;
pub mod fault;
pub mod swap;
pub mod zap;
