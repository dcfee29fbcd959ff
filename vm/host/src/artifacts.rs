// SPDX-License-Identifier: GPL-2.0-only
//! Finds what provisioning made.

use std::path::PathBuf;

use crate::error::VmError;
use crate::kernels::{self, KernelChoice, vm_dir};

/// A kernel ready to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifacts {
    /// What it was asked for by: a name, or `tree:` and a path.
    pub kernel: String,
    /// The reference model's profile that speaks for it.
    pub profile: String,
    /// What was built, as the kernel itself says it: `6.12.107`.
    pub release: String,
    /// For QEMU's `-kernel`.
    pub image: PathBuf,
    /// For QEMU's `-initrd`: the agent as `/init`, the tracing module as
    /// `/tlbdiff.ko`.
    pub initramfs: PathBuf,
    /// With symbols, for a debugger.
    pub vmlinux: Option<PathBuf>,
    /// Changes whenever image or initramfs do.
    pub key: String,
    /// A folder of this key alone, where saved guest states may be kept. It
    /// need not exist yet; provisioning removes those of keys long unused.
    pub cache: PathBuf,
}

/// Finds a provisioned kernel: takes milliseconds, builds nothing.
pub fn locate(kernel: &KernelChoice) -> Result<Artifacts, VmError> {
    if let KernelChoice::Named(name) = kernel {
        kernels::by_name(&vm_dir(), name)?;
    }
    Err(VmError::NotProvisioned {
        kernel: kernel.to_string(),
        why: "not provisioned".to_owned(),
        remedy: "./vm/provision".to_owned(),
    })
}
