// SPDX-License-Identifier: GPL-2.0-only
//! Where observations come from.

pub(crate) mod agent;
pub mod board;
pub mod guest;
pub(crate) mod kernel_log;
pub mod recorded;

use crate::callers::Callers;
use crate::device::Device;
use crate::finding::Finding;
use crate::iommu::Seen;
use crate::layer1::{Layer1, Layer1Verdict};
use crate::observe::Observation;
use crate::scenario::Scenario;
use protocol::message::Report;
use reference_model::Machine;

/// Something that knows what a kernel does.
pub trait Backend {
    /// What the scenario would run on; asked before any of its steps.
    ///
    /// # Errors
    /// It cannot be run here, and why.
    fn prepare(&mut self, scenario: &Scenario) -> Result<Subject, Finding>;

    /// What the kernel does in the scenario. Layer 1 is checked on the way, where there is a trace.
    ///
    /// # Errors
    /// There is no observation, and why.
    fn observe(&mut self, scenario: &Scenario, layer1: Layer1<'_>) -> Result<Observed, Finding>;

    /// What each step costs with so many subscribers that do nothing, in place of a trace.
    ///
    /// # Errors
    /// It cannot be counted, and why.
    fn count(&mut self, scenario: &Scenario, subscribers: u32) -> Result<Report, Finding> {
        let _ = (scenario, subscribers);
        Err(Finding::could_not_run(
            "nothing can be counted there: it takes a kernel that runs",
        ))
    }

    /// Whether it makes sense to come with another scenario.
    fn usable(&self) -> bool {
        true
    }
}

/// What a scenario runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// What the model has to know.
    pub machine: Machine,
    /// The kernel's release.
    pub kernel: String,
}

/// What came of running a scenario once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// What the kernel did.
    pub observation: Observation,
    /// Whether there was a trace: what was recorded earlier has none.
    pub traced: bool,
    /// Who called; nobody where there was no trace.
    pub callers: Callers,
    /// What layer 1 says of every call in the trace.
    pub layer1: Layer1Verdict,
    /// What a device could reach; none where that was not looked at.
    pub device: Option<Device>,
    /// What a real IOMMU was seen to hold; none where there was none.
    pub iommu: Option<Seen>,
    /// What the kernel complained of.
    pub complaints: Vec<Finding>,
}
