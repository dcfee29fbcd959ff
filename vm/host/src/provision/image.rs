// SPDX-License-Identifier: GPL-2.0-only
//! A named kernel: its image, and the build directory that modules need.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::context::Provision;
use super::kbuild::Kbuild;
use super::options::Options;
use super::source::Source;
use super::stage::{BUILD_LIMIT, Stage};
use super::toolchain::Toolchain;
use super::view;
use crate::edits;
use crate::error::VmError;
use crate::kernels::Overlay;

/// The kernel whose object files a variant begins with.
pub(super) struct Root {
    /// Its view.
    pub(super) view: PathBuf,
    /// Its configuration.
    pub(super) fragments: String,
}

/// Builds the kernel unless its key is in the cache; gives its view.
pub(super) fn ensure(
    provision: &mut Provision,
    source: &Source,
    root: Option<&Root>,
    overlay: &Overlay,
    toolchain: &Toolchain,
    key: &str,
) -> Result<PathBuf, VmError> {
    if let Some(dir) = provision.cache.finished("builds", key) {
        return Ok(dir);
    }
    let options = Options::read(&provision.checkout)?;
    let edited = edits::apply(&provision.kernel, &overlay.edits, &source.dir)?;
    let mut stage = provision.stage("kernel")?;
    let partial = provision.cache.begin("builds", key)?;
    view::make(&source.dir, &edited, partial.path())?;
    let kbuild = Kbuild::of_view(partial.path(), toolchain.clone());
    match root {
        Some(root) => {
            stage.doing(format!("building {} with other edits", source.id));
            copy(&root.view, partial.path(), &mut stage)?;
            if root.fragments != overlay.fragments {
                kbuild.configure(&overlay.fragments, &options, &mut stage)?;
            }
        }
        None => {
            stage.doing("configuring");
            kbuild.configure(&overlay.fragments, &options, &mut stage)?;
            stage.doing(format!("building {}", source.id));
        }
    }
    // `modules` too, though there are none: it makes Module.symvers, which the
    // tracing module is checked against.
    kbuild.make(&["Image", "modules"], &mut stage)?;
    view::check(&provision.kernel, &source.dir, &edited, partial.path())?;
    if root.is_some() {
        view::trim(partial.path())?;
    }
    let release = kbuild.release()?;
    let dir = partial.finish()?;
    stage.done(&format!("Linux {release}"));
    Ok(dir)
}

/// Times are copied, too: make goes by them. Object files that were shared by
/// hard links would not be safe: kbuild writes some files where they are.
fn copy(from: &Path, to: &Path, stage: &mut Stage) -> Result<(), VmError> {
    let mut cp = Command::new("cp");
    cp.args(["--archive", "--reflink=auto"])
        .arg(from.join(view::BUILD))
        .arg(to);
    stage.run(&mut cp, BUILD_LIMIT)
}
