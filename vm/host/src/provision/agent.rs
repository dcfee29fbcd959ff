// SPDX-License-Identifier: GPL-2.0-only
//! The agent: one static program for the guest.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::context::Provision;
use super::rust::{Rustc, TARGET};
use super::stage::BUILD_LIMIT;
use super::toolchain::CROSS_COMPILE;
use crate::error::VmError;
use crate::keys::{self, Facts};

/// What the caller's environment may say about its own builds, not about this.
const NOT_INHERITED: &[&str] = &[
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
];

/// Builds the agent unless its key is in the cache; gives its file.
pub(super) fn ensure(
    provision: &mut Provision,
    rustc: &Rustc,
    facts: &Facts,
    key: &str,
) -> Result<PathBuf, VmError> {
    if let Some(dir) = provision.cache.finished("agents", key) {
        return Ok(dir.join("init"));
    }
    let mut stage = provision.stage("agent")?;
    let partial = provision.cache.begin("agents", key)?;
    stage.doing("building vm/agent");
    let target_dir = provision.cache.dir("agent-target")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .current_dir(&provision.checkout)
        .args([
            "build",
            "--release",
            "--locked",
            "--package",
            "tlbdiff-agent",
            "--target",
            TARGET,
        ])
        .env("RUSTC", &rustc.path)
        .env("CARGO_TARGET_DIR", &target_dir)
        .env(
            "CARGO_TARGET_RISCV64GC_UNKNOWN_LINUX_GNU_LINKER",
            format!("{CROSS_COMPILE}gcc"),
        )
        .env(
            "CARGO_TARGET_RISCV64GC_UNKNOWN_LINUX_GNU_RUSTFLAGS",
            "-Ctarget-feature=+crt-static -Crelocation-model=static",
        )
        // The standard library's debug information alone is several megabytes,
        // and all of it would be unpacked at every boot.
        .env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo");
    for name in NOT_INHERITED {
        build.env_remove(name);
    }
    stage.run(&mut build, BUILD_LIMIT)?;
    if keys::agent(&provision.checkout, facts)? != key {
        return Err(stage.fail("the agent was edited while it was built: run ./vm/provision again"));
    }
    let built = target_dir.join(TARGET).join("release/tlbdiff-agent");
    fs::copy(&built, partial.path().join("init")).map_err(VmError::io("copy", &built))?;
    let dir = partial.finish()?;
    stage.done("static, for riscv64");
    Ok(dir.join("init"))
}
