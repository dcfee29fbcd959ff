// SPDX-License-Identifier: GPL-2.0-only
//! The tracing module, for one kernel.

use std::fs;
use std::path::PathBuf;

use super::Provision;
use super::kbuild::Kbuild;
use super::stage::Stage;
use crate::error::VmError;
use crate::keys::{Keys, module, module_sources};

/// The module's file, here and in the guest.
pub(super) const NAME: &str = "tlbdiff.ko";

/// Builds the module unless its key is in the cache; gives its file.
pub(super) fn ensure(
    provision: &mut Provision,
    kbuild: &Kbuild<'_>,
    keys: &Keys,
) -> Result<PathBuf, VmError> {
    let key = &keys.module;
    if let Some(dir) = provision.cache.finished("modules", key) {
        return Ok(dir.join(NAME));
    }
    let mut stage = provision.stage("module")?;
    let partial = provision.cache.begin("modules", key)?;
    stage.doing("building vm/module");
    // Built from a copy, so that the checkout stays clean.
    let copy = partial.path().join("build");
    fs::create_dir(&copy).map_err(VmError::io("create", &copy))?;
    stage.show_as(&copy, "vm/module");
    let sources = provision.checkout.join("vm/module");
    for source in module_sources(&provision.checkout)? {
        let to = copy.join(source.strip_prefix(&sources).unwrap_or(&source));
        let folder = to.parent().unwrap_or(&copy);
        fs::create_dir_all(folder).map_err(VmError::io("create", folder))?;
        fs::copy(&source, &to).map_err(VmError::io("copy", &source))?;
    }
    if module(&provision.checkout, &keys.kernel)? != *key {
        return Err(stage.fail("vm/module was edited just now: run ./vm/provision again"));
    }
    kbuild.make(
        &[
            &format!("M={}", copy.display()),
            "W=1",
            "KCFLAGS=-Werror",
            "modules",
        ],
        &mut stage,
    )?;
    refuse_warnings(&stage)?;
    fs::rename(copy.join(NAME), partial.path().join(NAME))
        .map_err(|error| stage.fail(format!("kbuild made no {NAME}: {error}")))?;
    fs::remove_dir_all(&copy).map_err(VmError::io("remove", &copy))?;
    let dir = partial.finish()?;
    stage.done(NAME);
    Ok(dir.join(NAME))
}

/// -Werror covers the compiler; modpost only warns.
fn refuse_warnings(stage: &Stage) -> Result<(), VmError> {
    let log = stage.log_text()?;
    match log
        .lines()
        .find(|line| line.contains("WARNING:") || line.contains("warning:"))
    {
        Some(line) => Err(stage.fail(format!("a warning: {line}"))),
        None => Ok(()),
    }
}
