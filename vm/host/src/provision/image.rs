// SPDX-License-Identifier: GPL-2.0-only
//! A named kernel: its image, and the build directory that modules need.

use std::path::PathBuf;

use super::Provision;
use super::kbuild::Kbuild;
use super::source::Source;
use crate::error::VmError;

/// Builds the kernel unless its key is in the cache; gives the build directory.
pub(super) fn ensure(
    provision: &mut Provision,
    source: &Source,
    fragments: &str,
    key: &str,
) -> Result<PathBuf, VmError> {
    if let Some(dir) = provision.cache.finished("builds", key) {
        return Ok(dir);
    }
    let mut stage = provision.stage("kernel")?;
    let partial = provision.cache.begin("builds", key)?;
    let kbuild = Kbuild {
        source: &source.dir,
        build: partial.path(),
    };
    stage.doing("configuring");
    kbuild.configure(fragments, &mut stage)?;
    stage.doing(format!("building {}", source.id));
    // `modules` too, though there are none: it makes Module.symvers, which the
    // tracing module is checked against.
    kbuild.make(&["Image", "modules"], &mut stage)?;
    let release = kbuild.release()?;
    let dir = partial.finish()?;
    stage.done(&format!("Linux {release}"));
    Ok(dir)
}
