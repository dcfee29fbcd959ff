// SPDX-License-Identifier: GPL-2.0-only
//! `mm/memory.c`, in parts: it is too long for one file.

pub mod copy;
pub mod fault;
pub mod swap;
pub mod zap;
