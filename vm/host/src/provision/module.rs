// SPDX-License-Identifier: GPL-2.0-only
//! The tracing module for one kernel, and the one that drives an IOMMU.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::context::Provision;
use super::kbuild::Kbuild;
use super::stage::Stage;
use crate::error::VmError;
use crate::keys::{Keys, module, module_sources};

/// The tracing module's file, here and in the guest.
pub(super) const NAME: &str = "tlbdiff.ko";

/// The file of the one that drives an IOMMU, which is made for kernels with PCI.
pub(super) const IOMMU: &str = "tlbdiff-iommu.ko";

/// Builds the modules unless their key is in the cache; gives their folder. What was compiled in a
/// folder that is kept is not compiled again: a tree's kernel is another one after every edit,
/// and its module seldom.
pub(super) fn ensure(
    provision: &mut Provision,
    kbuild: &Kbuild<'_>,
    keys: &Keys,
    kept: Option<&Path>,
) -> Result<PathBuf, VmError> {
    let key = &keys.module;
    if let Some(dir) = provision.cache.finished("modules", key) {
        return Ok(dir);
    }
    let mut stage = provision.stage("module")?;
    let partial = provision.cache.begin("modules", key)?;
    stage.doing("building vm/module");
    // Built from a copy, so that the checkout stays clean.
    let folder = kept.map_or_else(|| partial.path().join("build"), Path::to_owned);
    stage.show_as(&folder, "vm/module");
    let built = build(provision, kbuild, keys, &folder, &mut stage).and_then(|()| {
        keep(&folder, partial.path())
            .map_err(|error| stage.fail(format!("kbuild made no {NAME}: {error}")))
    });
    // What modpost has warned of once it would not warn of again.
    if built.is_err() || kept.is_none() {
        fs::remove_dir_all(&folder).map_err(VmError::io("remove", &folder))?;
    }
    built?;
    let dir = partial.finish()?;
    stage.done(NAME);
    Ok(dir)
}

fn keep(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from.join(NAME), to.join(NAME))?;
    match fs::copy(from.join(IOMMU), to.join(IOMMU)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        copied => copied.map(drop),
    }
}

fn build(
    provision: &Provision,
    kbuild: &Kbuild<'_>,
    keys: &Keys,
    folder: &Path,
    stage: &mut Stage,
) -> Result<(), VmError> {
    fs::create_dir_all(folder).map_err(VmError::io("create", folder))?;
    let sources = provision.checkout.join("vm/module");
    for source in module_sources(&provision.checkout)? {
        let to = folder.join(source.strip_prefix(&sources).unwrap_or(&source));
        let parent = to.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(VmError::io("create", parent))?;
        copy_if_other(&source, &to)?;
    }
    if module(&provision.checkout, &keys.kernel)? != keys.module {
        return Err(stage.fail("vm/module was edited just now: run ./vm/provision again"));
    }
    kbuild.make(
        &[
            &format!("M={}", folder.display()),
            "W=1",
            "KCFLAGS=-Werror",
            "modules",
        ],
        stage,
    )?;
    refuse_warnings(stage)
}

/// One that is the same keeps its time, by which make knows it.
fn copy_if_other(from: &Path, to: &Path) -> Result<(), VmError> {
    let bytes = fs::read(from).map_err(VmError::io("read", from))?;
    if fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    fs::write(to, bytes).map_err(VmError::io("write", to))
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
