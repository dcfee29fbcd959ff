// SPDX-License-Identifier: GPL-2.0-only
//! Temporary.
use super::{Backend, Observed, Subject};
use crate::cli::args::SabotageName;
use crate::layer1::Layer1;
use crate::run::{Message, Stop};
use crate::scenario::Scenario;
use crate::verdict::Finding;
use std::sync::{Arc, mpsc::Sender};
use std::time::Duration;
use vm::Artifacts;

/// How guests are made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The kernel.
    pub artifacts: Artifacts,
    /// Harts.
    pub harts: u32,
    /// Memory.
    pub memory_mib: u32,
    /// Longest that one scenario may take.
    pub timeout: Duration,
    /// Restore a saved guest where there is one.
    pub restore: bool,
    /// What to break.
    pub sabotage: Option<SabotageName>,
    /// Records that the trace buffer holds.
    pub buffer_records: u32,
}

/// A guest.
pub struct GuestBackend;
impl GuestBackend {
    /// None started yet.
    pub fn new(_settings: Settings, _sender: Sender<Message>, _stop: Arc<Stop>) -> GuestBackend {
        GuestBackend
    }
}
impl Backend for GuestBackend {
    fn prepare(&mut self, _: &Scenario) -> Result<Subject, Finding> {
        Err(Finding::CouldNotRun {
            why: "temporary".into(),
        })
    }
    fn observe(&mut self, _: &Scenario, _: Layer1<'_>) -> Result<Observed, Finding> {
        Err(Finding::CouldNotRun {
            why: "temporary".into(),
        })
    }
}
