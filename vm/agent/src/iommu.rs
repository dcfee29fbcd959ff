// SPDX-License-Identifier: GPL-2.0-only
//! The module that drives an IOMMU, and accesses by the device behind it.

use crate::boot;
use anyhow::{Context, Result, bail};
use operations::{StepResult, address, bytes};
use protocol::Policy;
use protocol::uapi::{DMA_EXPECT, DMA_WRITE, Dma, dma_result};
use std::fs::{File, OpenOptions};
use std::os::fd::RawFd;
use std::path::Path;

/// Its node.
const DEVICE: &str = "/dev/tlbdiff-iommu";
/// Its file, in a guest.
const MODULE: &str = "/tlbdiff-iommu.ko";
/// Where it can be seen that a machine has an IOMMU.
const NODES: &str = "/sys/firmware/devicetree/base/soc";

/// The command that is none, where that is to be tried: one of those of a step.
const STOPS_AT: u32 = 12;

/// The byte that is written where nothing is said.
pub const WRITTEN: u8 = 1;

mod ioctl {
    nix::ioctl_readwrite_bad!(dma, protocol::uapi::IOC_DMA, protocol::uapi::Dma);
}

/// Whether this machine has an IOMMU that can be driven.
pub fn is_there() -> bool {
    let nodes = std::fs::read_dir(NODES).into_iter().flatten().flatten();
    let mut names = nodes.map(|node| node.file_name());
    names.any(|name| name.to_string_lossy().starts_with("iommu@")) && Path::new(MODULE).exists()
}

/// Loads the module, once, and opens its device.
///
/// # Errors
/// The kernel refuses it; or it is there with another policy.
pub fn open(policy: Policy, stops: bool) -> Result<File> {
    if !Path::new(DEVICE).exists() {
        let illegal = if stops { STOPS_AT } else { 0 };
        let parameters = format!("policy={} illegal={illegal}", policy.name());
        let parameters = std::ffi::CString::new(parameters)?;
        boot::load_module(Path::new(MODULE), &parameters)?;
    }
    let loaded = std::fs::read_to_string("/sys/module/tlbdiff_iommu/parameters/policy")
        .context("cannot read the policy")?;
    if loaded.trim() != policy.name() {
        bail!("the IOMMU is driven by the policy {}", loaded.trim());
    }
    let device = OpenOptions::new().read(true).write(true).open(DEVICE);
    device.with_context(|| format!("cannot open {DEVICE}"))
}

/// Has the device access pages of an mm, as records name it. Allocates nothing.
pub fn access(
    fd: RawFd,
    mm: u64,
    (at, pages): (u64, u64),
    write: bool,
    value: Option<u8>,
) -> StepResult {
    let expects = !write && value.is_some();
    let flags = [(write, DMA_WRITE), (expects, DMA_EXPECT)];
    let flags = flags.iter().filter(|flag| flag.0);
    let mut dma = Dma {
        mm,
        start: address(at),
        pages,
        flags: flags.fold(0, |all, flag| all | flag.1),
        value: u32::from(value.unwrap_or(WRITTEN)),
        ..Dma::default()
    };
    // SAFETY: dma is a valid struct tlbdiff_dma.
    if let Err(error) = unsafe { ioctl::dma(fd, &mut dma) } {
        return StepResult::Errno(error as i32);
    }
    let page = dma.at.wrapping_sub(address(0)) / bytes(1);
    match dma.result {
        dma_result::OK => StepResult::Ok,
        dma_result::FAULT => StepResult::Fault {
            cause: dma.cause,
            page,
        },
        dma_result::ASTRAY => StepResult::Astray { page },
        dma_result::SAW => StepResult::Saw {
            value: dma.value as u8,
            page,
        },
        _ => StepResult::Lost { page },
    }
}
