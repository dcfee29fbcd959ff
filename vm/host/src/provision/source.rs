// SPDX-License-Identifier: GPL-2.0-only
//! A kernel's source, from a Debian package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use super::apt::{Apt, Architectures};
use super::context::Provision;
use super::stage::{BUILD_LIMIT, QUERY_LIMIT, Stage};
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
/// fetches the newest.
pub(super) fn ensure(
    provision: &mut Provision,
    spec: &KernelSpec,
    recorded: Option<&str>,
) -> Result<Source, VmError> {
    if !provision.update {
        let version = &spec.version;
        let recorded = recorded.filter(|id| serves(&spec.package, id) && of_version(version, id));
        let newest = provision.cache.newest_first("sources")?;
        // Which of them a package that depends on another means, apt knows.
        let newest = newest
            .into_iter()
            .filter(|id| of_package(&spec.package, id) && of_version(version, id));
        for id in recorded.map(str::to_owned).into_iter().chain(newest) {
            if let Some(dir) = provision.cache.finished("sources", &id) {
                return Ok(Source { id, dir });
            }
        }
    }
    match (fetch(provision, spec), recorded) {
        // Debian has moved on; what was fetched once goes on serving.
        (Err(error @ VmError::SourceGone { .. }), Some(id)) => {
            let dir = provision.cache.finished("sources", id);
            let dir = dir.ok_or(error)?;
            eprintln!("  source     {id} is no longer in Debian; it goes on serving");
            let id = id.to_owned();
            Ok(Source { id, dir })
        }
        (result, _) => result,
    }
}

/// Whether a source is of a package.
fn of_package(package: &str, id: &str) -> bool {
    id.strip_prefix(package)
        .is_some_and(|rest| rest.starts_with('_'))
}

/// Whether a source is of a version that begins so.
fn of_version(begins: &str, id: &str) -> bool {
    id.split_once('_')
        .is_some_and(|(_, version)| version.starts_with(begins))
}

/// Whether a source is of a package, or of one that it depends on: what is
/// called `linux-source` has no source and depends on `linux-source-7.2`.
fn serves(package: &str, id: &str) -> bool {
    of_package(package, id) || names_another(package) && id.starts_with(&format!("{package}-"))
}

/// Packages with source in them end in a version.
fn names_another(package: &str) -> bool {
    !package.ends_with(|last: char| last.is_ascii_digit())
}

/// A package with source in it, as a suite has it.
struct Found {
    apt: Rc<Apt>,
    package: String,
    version: String,
}

fn fetch(provision: &mut Provision, spec: &KernelSpec) -> Result<Source, VmError> {
    let mut stage = provision.stage("source")?;
    let Found {
        apt,
        package,
        version,
    } = find(provision, spec, &mut stage)?;
    let id = format!("{package}_{version}");
    if let Some(dir) = provision.cache.finished("sources", &id) {
        stage.done(&format!("{package} {version} is the newest"));
        return Ok(Source { id, dir });
    }
    let partial = provision.cache.begin("sources", &id)?;
    stage.doing(format!("fetching {package} {version}, about 150 MB"));
    let what = format!("{package}={version}");
    let debs = apt.download(&[what], partial.path(), &mut stage)?;
    stage.doing("unpacking");
    for deb in debs {
        unpack(&deb, &package, partial.path(), &mut stage)?;
    }
    let dir = partial.finish()?;
    stage.done(&format!("{package} {version}"));
    Ok(Source { id, dir })
}

/// Looks in the suites in their order: a series is taken from the first that has it, of what
/// moves from series to series it is the newest.
fn find(provision: &mut Provision, spec: &KernelSpec, stage: &mut Stage) -> Result<Found, VmError> {
    let mut newest: Option<Found> = None;
    for suite in &spec.suites {
        let apt = provision.apt(suite, Architectures::Native, stage)?;
        if apt.version(&spec.package, stage)?.is_none() {
            continue;
        }
        let package = with_source(provision, &apt, &spec.package, stage)?;
        let version = apt.version(&package, stage)?;
        let Some(version) = version.filter(|version| version.starts_with(&spec.version)) else {
            continue;
        };
        let found = Found {
            apt,
            package,
            version,
        };
        if spec.series.is_some() {
            return Ok(found);
        }
        newest = match newest {
            Some(other) if !is_newer(&found.version, &other.version) => Some(other),
            _ => Some(found),
        };
    }
    newest.ok_or_else(|| VmError::SourceGone {
        kernel: provision.kernel.clone(),
        package: spec.package.clone(),
        suites: spec.suites.join(", "),
    })
}

/// Debian's order of versions.
fn is_newer(version: &str, than: &str) -> bool {
    let mut ask = Command::new("dpkg");
    ask.args(["--compare-versions", version, "gt", than]);
    ask.status().is_ok_and(|status| status.success())
}

/// The package that holds the source: this one, or the one it depends on.
fn with_source(
    provision: &Provision,
    apt: &Apt,
    package: &str,
    stage: &mut Stage,
) -> Result<String, VmError> {
    if !names_another(package) {
        return Ok(package.to_owned());
    }
    // It is never finished, and so removed.
    let partial = provision.cache.begin("sources", package)?;
    let debs = apt.download(&[package.to_owned()], partial.path(), stage)?;
    let mut depends = String::new();
    for deb in debs {
        let mut ask = Command::new("dpkg-deb");
        ask.arg("--field").arg(deb).arg("Depends");
        depends += &stage.output(&mut ask, QUERY_LIMIT)?;
    }
    dependency(package, &depends).ok_or_else(|| {
        stage.fail(format!(
            "{package} depends on no {package}-VERSION, but on: {depends}"
        ))
    })
}

/// The first of a package's dependencies that is named like it.
fn dependency(package: &str, depends: &str) -> Option<String> {
    depends
        .split([',', '|', ' ', '\n'])
        .find(|word| word.starts_with(&format!("{package}-")))
        .map(str::to_owned)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_with_source_serves_for_itself_alone() {
        assert!(serves("linux-source-6.12", "linux-source-6.12_6.12.107-1"));
        assert!(!serves("linux-source-6.1", "linux-source-6.12_6.12.107-1"));
        assert!(!serves("linux-source-6", "linux-source-6-rt_1"));
    }

    #[test]
    fn a_package_that_names_another_is_served_by_what_it_named() {
        assert!(serves("linux-source", "linux-source-7.2_7.2.12-1"));
        assert!(!of_package("linux-source", "linux-source-7.2_7.2.12-1"));
    }

    #[test]
    fn a_release_and_what_came_before_it_are_told_apart() {
        let (release, before) = (
            "linux-source-7.3_7.3.4-1",
            "linux-source-7.3_7.3~rc7-1~exp1",
        );
        assert!(of_version("7.3.", release) && of_version("7.3~rc7", before));
        assert!(!of_version("7.3.", before) && !of_version("7.3~rc7", release));
        assert!(of_version("", release));
    }

    #[test]
    fn what_a_package_names_is_read_from_its_dependencies() {
        let depends = "foo, linux-source-7.2 (= 7.2.12-1), linux-source-7.1\n";
        let found = dependency("linux-source", depends);
        assert_eq!(found.as_deref(), Some("linux-source-7.2"));
        assert_eq!(dependency("linux-source", "linux-base (>= 4)\n"), None);
    }
}
