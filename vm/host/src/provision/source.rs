// SPDX-License-Identifier: GPL-2.0-only
//! A kernel's source, from a Debian package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Provision;
use super::stage::{BUILD_LIMIT, Stage};
use crate::error::VmError;
use crate::kernels::KernelSpec;

/// Unpacked source.
pub(super) struct Source {
    /// `package_version`: its name in the cache, and what keys know it by.
    pub(super) id: String,
    /// The tree.
    pub(super) dir: PathBuf,
}

/// Finds the source that was used before, else any of that package, else
/// fetches the suite's newest.
pub(super) fn ensure(
    provision: &mut Provision,
    spec: &KernelSpec,
    recorded: Option<&str>,
) -> Result<Source, VmError> {
    let of_package = format!("{}_", spec.package);
    if !provision.update {
        let recorded = recorded
            .filter(|id| id.starts_with(&of_package))
            .map(str::to_owned);
        let newest = provision.cache.newest_first("sources")?;
        let known = recorded.into_iter().chain(newest);
        for id in known.filter(|id| id.starts_with(&of_package)) {
            if let Some(dir) = provision.cache.finished("sources", &id) {
                return Ok(Source { id, dir });
            }
        }
    }
    fetch(provision, spec)
}

fn fetch(provision: &mut Provision, spec: &KernelSpec) -> Result<Source, VmError> {
    let mut stage = provision.stage("source")?;
    let apt = provision.apt(&spec.suite, &mut stage)?;
    let version = apt.version(&spec.package, &mut stage)?;
    let id = format!("{}_{version}", spec.package);
    if let Some(dir) = provision.cache.finished("sources", &id) {
        stage.done(&format!("{} {version} is the newest", spec.package));
        return Ok(Source { id, dir });
    }
    let partial = provision.cache.begin("sources", &id)?;
    stage.doing(format!("fetching {} {version}, about 150 MB", spec.package));
    let debs = apt.download(
        std::slice::from_ref(&spec.package),
        partial.path(),
        &mut stage,
    )?;
    stage.doing("unpacking");
    for deb in debs {
        unpack(&deb, &spec.package, partial.path(), &mut stage)?;
    }
    let dir = partial.finish()?;
    stage.done(&format!("{} {version}", spec.package));
    Ok(Source { id, dir })
}

/// The package holds one archive, whose one folder becomes `into`.
fn unpack(deb: &Path, package: &str, into: &Path, stage: &mut Stage) -> Result<(), VmError> {
    stage.run(
        Command::new("dpkg-deb").arg("-x").arg(deb).arg(into),
        BUILD_LIMIT,
    )?;
    let archive = into.join(format!("usr/src/{package}.tar.xz"));
    if !archive.is_file() {
        return Err(stage.fail(format!("{package} holds no usr/src/{package}.tar.xz")));
    }
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--strip-components=1", "--file"])
        .arg(&archive)
        .current_dir(into);
    stage.run(&mut tar, BUILD_LIMIT)?;
    fs::remove_file(&archive).map_err(VmError::io("remove", &archive))?;
    fs::remove_file(deb).map_err(VmError::io("remove", deb))
}
