// SPDX-License-Identifier: GPL-2.0-only
//! Builds a developer's own tree: outside of it, and only what an edit needs.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::context::Provision;
use super::kbuild::{self, Kbuild};
use super::options::Options;
use super::stage::{QUERY_LIMIT, Stage};
use super::toolchain::Toolchain;
use super::wishes::Wishes;
use crate::cache::images;
use crate::error::VmError;
use crate::keys::Key;
use crate::tree::Tree;

/// An edit is linked three times before its first verdict, and each of these takes a third less
/// where there is nothing to relax. What the code does is the same.
const C_FLAGS: &str = "KCFLAGS=-mno-relax";
const AS_FLAGS: &str = "KAFLAGS=-mno-relax";

/// The kernel does not ask git how it is called, and so no commit compiles what has its release
/// in it. What git calls it is told besides.
const LOCAL_VERSION: &str = "LOCALVERSION=";

/// What building a tree gave.
pub(super) struct Built<'a> {
    /// Where it was built, and with what.
    pub(super) kbuild: Kbuild<'a>,
    /// What keys know the image by.
    pub(super) image: String,
    /// What git calls the source, where it is git's.
    pub(super) described: Option<String>,
}

/// Builds the tree: kbuild alone knows what an edit touches, so it always runs.
pub(super) fn build<'a>(
    provision: &mut Provision,
    tree: &'a Tree,
    fragments: &str,
    wishes: &Wishes,
) -> Result<Built<'a>, VmError> {
    tree.check_clean()?;
    let toolchain = Toolchain::asked(wishes.llvm.as_deref())?;
    let mut stage = provision.stage("kernel")?;
    let build = provision
        .cache
        .dir(format!("trees/{}/build", tree.slug()))?;
    let kbuild = Kbuild {
        source: tree.path(),
        build,
        toolchain,
    };
    let options = Options::read(&provision.checkout)?;
    configure(&kbuild, fragments, &options, &mut stage)?;
    stage.doing(format!("building {}", tree.path().display()));
    let options = [LOCAL_VERSION, C_FLAGS, AS_FLAGS];
    kbuild.make(&[&["Image", "modules"], &options[..]].concat(), &mut stage)?;
    let path = kbuild.image();
    let bytes = fs::read(&path).map_err(VmError::io("read", &path))?;
    let described = describe(tree.path(), &mut stage);
    let release = kbuild.release()?;
    let name = described
        .as_ref()
        .map(|name| format!(" ({name})"))
        .unwrap_or_default();
    let with = wishes
        .config
        .iter()
        .map(|file| format!(", with {}", file.display()));
    stage.done(&format!(
        "Linux {release}{name}, by {}{}",
        kbuild.toolchain.version(),
        with.collect::<String>()
    ));
    Ok(Built {
        image: Key::new("image").field(bytes).finish(),
        kbuild,
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
    let key = config_key(fragments, &kbuild.toolchain);
    if fs::read_to_string(&stamp).is_ok_and(|was| was == key) {
        return Ok(());
    }
    stage.doing("configuring");
    kbuild.configure(fragments, options, stage)?;
    fs::write(&stamp, key).map_err(VmError::io("write", &stamp))
}

/// What configuring depends on: options depend on what the compiler can do.
fn config_key(fragments: &str, toolchain: &Toolchain) -> String {
    let mut key = Key::new("config").field(fragments);
    for argument in toolchain.arguments() {
        key = key.field(argument);
    }
    key.field(toolchain.version()).finish()
}

/// Keeps what a guest needs under the image's key, so that a later build does
/// not change a kernel under a guest that was saved with it.
pub(super) fn keep(
    provision: &Provision,
    tree: &Tree,
    build: &Path,
    key: &str,
) -> Result<(), VmError> {
    let kind = images(&tree.slug());
    if provision.cache.finished(&kind, key).is_some() {
        return Ok(());
    }
    let partial = provision.cache.begin(&kind, key)?;
    let files = [
        &kbuild::image(Path::new("")),
        Path::new("vmlinux"),
        Path::new(kbuild::RELEASE),
        Path::new(".config"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_compiler_or_fragment_is_another_configuration() {
        let gcc = Toolchain::for_tests(None, "gcc 12");
        let was = config_key("CONFIG_A=y", &gcc);
        assert_eq!(was, config_key("CONFIG_A=y", &gcc));
        for (fragments, toolchain) in [
            ("CONFIG_B=y", gcc.clone()),
            ("CONFIG_A=y", Toolchain::for_tests(None, "gcc 14")),
            ("CONFIG_A=y", Toolchain::for_tests(Some("1"), "gcc 12")),
        ] {
            assert_ne!(was, config_key(fragments, &toolchain));
        }
    }
}
