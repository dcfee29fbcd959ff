// SPDX-License-Identifier: GPL-2.0-only
//! The program `tlbdiff`: scenario in, verdict out.
//!
//! Read [`judge`] first: it is the whole way of the data, top to bottom.

pub mod backend;
pub mod callers;
pub mod checks;
pub mod cli;
pub mod compare;
pub mod convert;
pub mod cost;
pub mod device;
pub mod diff;
pub mod drift;
pub mod event;
pub mod finding;
pub mod fold;
pub mod foreseen;
pub mod history;
pub mod iommu;
pub mod judge;
pub mod layer1;
pub mod observe;
pub mod outcome;
pub mod parse;
pub mod paths;
pub mod reading;
pub mod report;
pub mod run;
pub mod scenario;
pub mod snapshot;
pub mod steps;
pub mod text;
pub mod together;
pub mod trace;
pub mod verdict;
pub mod workload;
