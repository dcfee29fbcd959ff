// SPDX-License-Identifier: GPL-2.0-only
//! What is told to people and programs. All reporters are fed the same events
//! and give nothing back.

pub mod compares;
pub mod costs;
mod drawing;
pub mod drifts;
pub mod groups;
pub mod human;
pub mod json;
pub mod junit;
pub mod kcidb;
pub mod ktap;
pub mod lava;
pub mod line;
mod lines;
pub mod outputs;
mod page;
pub mod style;
pub mod test;
pub mod tests;
pub mod ways;
