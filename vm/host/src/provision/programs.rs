// SPDX-License-Identifier: GPL-2.0-only
//! Makes the disk with programs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::apt::Architectures;
use super::context::Provision;
use super::stage::{BUILD_LIMIT, Stage};
use crate::error::VmError;
use crate::programs::{MAKE, MIB, PACKAGES, SUITE, UNWANTED, file, key};

/// Makes it unless it is there, or a newer one is wanted.
pub(super) fn ensure(provision: &mut Provision, update: bool) -> Result<(), VmError> {
    let key = key();
    if !update && provision.cache.finished("programs", &key).is_some() {
        return Ok(());
    }
    let mut stage = provision.stage("programs")?;
    let apt = provision.apt(SUITE, Architectures::Guest, &mut stage)?;
    let partial = provision.cache.begin("programs", &key)?;
    let (debs, root) = (partial.path().join("debs"), partial.path().join("root"));
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
    let disk = partial.path().join(file());
    let made = File::create(&disk).and_then(|file| file.set_len(MIB << 20));
    made.map_err(VmError::io("write", &disk))?;
    stage.doing("making the disk");
    stage.run(&mut make(&root, &disk), BUILD_LIMIT)?;
    for folder in [debs, root] {
        fs::remove_dir_all(&folder).map_err(VmError::io("remove", &folder))?;
    }
    partial.finish()?;
    stage.done(&format!("Debian {SUITE}'s"));
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
