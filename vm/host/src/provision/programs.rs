// SPDX-License-Identifier: GPL-2.0-only
//! Makes the disk with programs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::apt::{Apt, Architectures};
use super::context::Provision;
use super::selftests::{self, From};
use super::stage::{BUILD_LIMIT, Stage};
use super::toolchain::Toolchain;
use crate::error::VmError;
use crate::home::provision_command;
use crate::programs::{
    KERNEL, LIBRARIES, MAKE, MIB, PACKAGES, SUITE, TESTS_THERE, UNWANTED, facts, file, key,
};

/// Makes it unless it is there, or a newer one is wanted.
pub(super) fn ensure(provision: &mut Provision, update: bool) -> Result<(), VmError> {
    let no_source = || VmError::NotProvisioned {
        kernel: KERNEL.to_owned(),
        why: "its source, with the tests for the disk with programs, is not in the cache".into(),
        remedy: format!("{} --programs", provision_command(&provision.checkout)),
    };
    let facts = facts(&provision.cache)?.ok_or_else(no_source)?;
    let key = key(&facts);
    if !update && provision.cache.finished("programs", &key).is_some() {
        return Ok(());
    }
    let source = provision.cache.finished("sources", &facts.source);
    let source = source.ok_or_else(no_source)?;
    let mut stage = provision.stage("programs")?;
    let apt = provision.apt(SUITE, Architectures::Guest, &mut stage)?;
    let partial = provision.cache.begin("programs", &key)?;
    let work = |name: &str| partial.path().join(name);
    let (debs, root) = (work("debs"), work("root"));
    stage.doing(format!("fetching programs of Debian {SUITE}, about 170 MB"));
    let debs_there = apt.download_all(PACKAGES, &debs, &mut stage)?;
    stage.doing("unpacking");
    for deb in first_first(debs_there) {
        unpack(&deb, &root, &mut stage)?;
    }
    for unwanted in UNWANTED {
        let path = root.join(unwanted);
        fs::remove_dir_all(&path).map_err(VmError::io("remove", &path))?;
    }
    add_tests(&apt, &source, (&work("tests"), &root), &mut stage)?;
    let disk = work(&file());
    let made = File::create(&disk).and_then(|file| file.set_len(MIB << 20));
    made.map_err(VmError::io("write", &disk))?;
    stage.doing("making the disk");
    stage.run(&mut make(&root, &disk), BUILD_LIMIT)?;
    for folder in [debs, root, work("tests")] {
        fs::remove_dir_all(&folder).map_err(VmError::io("remove", &folder))?;
    }
    partial.finish()?;
    stage.done(&format!("Debian {SUITE}'s"));
    Ok(())
}

/// Adds the kernel's tests of its mm. What does not build of them is told, and left out.
fn add_tests(
    apt: &Apt,
    source: &Path,
    (work, root): (&Path, &Path),
    stage: &mut Stage,
) -> Result<(), VmError> {
    stage.doing(format!("building the mm selftests of {KERNEL}"));
    let (debs, libraries) = (work.join("debs"), work.join("libraries"));
    for folder in [&debs, &libraries] {
        fs::create_dir_all(folder).map_err(VmError::io("create", folder))?;
    }
    let names: Vec<String> = LIBRARIES.iter().map(|name| (*name).to_owned()).collect();
    for deb in apt.download(&names, &debs, stage)? {
        unpack(&deb, &libraries, stage)?;
    }
    let from = From {
        source,
        libraries: &libraries,
        toolchain: Toolchain::gcc()?,
    };
    for missing in selftests::build(from, work, &root.join(TESTS_THERE), stage)? {
        let (name, why) = (missing.name, missing.why);
        stage.note(&format!("goes without the mm selftest {name}: {why}"));
    }
    Ok(())
}

/// base-files has /bin and others as links, which would else be made as folders.
fn first_first(mut debs: Vec<PathBuf>) -> Vec<PathBuf> {
    let is_first = |deb: &PathBuf| {
        let name = deb.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(&format!("{}_", PACKAGES[0])))
    };
    debs.sort_by_key(|deb| !is_first(deb));
    debs
}

fn unpack(deb: &Path, root: &Path, stage: &mut Stage) -> Result<(), VmError> {
    let mut command = Command::new("dpkg-deb");
    stage.run(command.arg("-x").arg(deb).arg(root), BUILD_LIMIT)
}

fn make(root: &Path, disk: &Path) -> Command {
    let mut command = Command::new("env");
    let paths = std::env::var("PATH").unwrap_or_default();
    command.arg(format!("PATH={paths}:/usr/sbin:/sbin"));
    command.args(MAKE).arg("-d").arg(root).arg(disk);
    command
}
