// SPDX-License-Identifier: GPL-2.0-only
//! Builds a developer's own tree: outside of it, and only what an edit needs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Provision;
use super::kbuild::{self, CROSS_COMPILE, Kbuild};
use super::options::Options;
use super::stage::{QUERY_LIMIT, Stage};
use crate::error::VmError;
use crate::keys::Key;
use crate::tree::Tree;

/// What building a tree gave.
pub(super) struct Built {
    /// Its build directory.
    pub(super) build: PathBuf,
    /// What keys know the image by.
    pub(super) image: String,
    /// What git calls the source, where it is git's.
    pub(super) described: Option<String>,
}

/// Builds the tree: kbuild alone knows what an edit touches, so it always runs.
pub(super) fn build(
    provision: &mut Provision,
    tree: &Tree,
    fragments: &str,
) -> Result<Built, VmError> {
    tree.check_clean()?;
    let mut stage = provision.stage("kernel")?;
    let build = provision
        .cache
        .dir(format!("trees/{}/build", tree.slug()))?;
    let kbuild = Kbuild {
        source: tree.path(),
        build: build.clone(),
    };
    let options = Options::read(&provision.checkout)?;
    configure(&kbuild, fragments, &options, &mut stage)?;
    stage.doing(format!("building {}", tree.path().display()));
    kbuild.make(&["Image", "modules"], &mut stage)?;
    let path = kbuild.image();
    let bytes = fs::read(&path).map_err(VmError::io("read", &path))?;
    let described = describe(tree.path(), &mut stage);
    let release = kbuild.release()?;
    let name = described
        .as_ref()
        .map(|name| format!(" ({name})"))
        .unwrap_or_default();
    stage.done(&format!("Linux {release}{name}"));
    Ok(Built {
        image: Key::new("image").field(bytes).finish(),
        build,
        described,
    })
}

/// Configuring anew would rebuild everything: done only when it differs.
fn configure(
    kbuild: &Kbuild<'_>,
    fragments: &str,
    options: &Options,
    stage: &mut Stage,
) -> Result<(), VmError> {
    let stamp = kbuild.build.join(".tlbdiff-config");
    let key = Key::new("config")
        .field(fragments)
        .field(CROSS_COMPILE)
        .finish();
    if fs::read_to_string(&stamp).is_ok_and(|was| was == key) {
        return Ok(());
    }
    stage.doing("configuring");
    kbuild.configure(fragments, options, stage)?;
    fs::write(&stamp, key).map_err(VmError::io("write", &stamp))
}

/// Keeps what a guest needs under the image's key, so that a later build does
/// not change a kernel under a guest that was saved with it.
pub(super) fn keep(
    provision: &Provision,
    tree: &Tree,
    build: &Path,
    key: &str,
) -> Result<(), VmError> {
    let kind = format!("trees/{}/images", tree.slug());
    if provision.cache.finished(&kind, key).is_some() {
        return Ok(());
    }
    let partial = provision.cache.begin(&kind, key)?;
    let files = [
        &kbuild::image(Path::new("")),
        Path::new("vmlinux"),
        &kbuild::release_file(Path::new("")),
    ];
    for file in files {
        let to = partial.path().join(file);
        let folder = to.parent().unwrap_or(partial.path());
        fs::create_dir_all(folder).map_err(VmError::io("create", folder))?;
        fs::copy(build.join(file), &to).map_err(VmError::io("copy", &to))?;
    }
    partial.finish()?;
    Ok(())
}

/// A name for people: no git, no name.
fn describe(tree: &Path, stage: &mut Stage) -> Option<String> {
    if !tree.join(".git").exists() {
        return None;
    }
    let mut git = Command::new("git");
    git.arg("-C")
        .arg(tree)
        .args(["describe", "--always", "--tags", "--dirty"]);
    stage
        .output(&mut git, QUERY_LIMIT)
        .ok()
        .map(|text| text.trim().to_owned())
}
