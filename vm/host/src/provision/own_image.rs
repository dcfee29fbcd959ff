// SPDX-License-Identifier: GPL-2.0-only
//! A developer's own image: looked at, kept, and never built.

use std::fs;
use std::path::Path;

use super::context::Provision;
use super::kbuild;
use super::options::{Lost, Options};
use super::toolchain::{Hints, Toolchain};
use crate::cache::images;
use crate::error::VmError;
use crate::kernels::TREE_CONFIG;
use crate::keys::Key;
use crate::own_image::OwnImage;

/// What was found out of it.
pub(super) struct Looked {
    bytes: Vec<u8>,
    config: String,
    /// What keys know it by.
    pub(super) source: String,
    /// What it was built with.
    pub(super) toolchain: Toolchain,
}

/// Looks whether scenarios can be run on it, before anything is made for it.
pub(super) fn look(
    provision: &mut Provision,
    own: &OwnImage,
    hints: &Hints,
) -> Result<Looked, VmError> {
    let config = own.config()?;
    let fragment = provision.checkout.join("vm").join(TREE_CONFIG);
    let fragment = fs::read_to_string(&fragment).map_err(VmError::io("read", &fragment))?;
    let lost = Options::read(&provision.checkout)?.lacks(&fragment, &config);
    refuse(own, &lost)?;
    let bytes = own.bytes()?;
    let toolchain = Toolchain::of_config(&config, hints)?;
    let source = Key::new("own image")
        .field(&bytes)
        .field(&config)
        .field(own.symbols()?)
        .finish();
    let stage = provision.stage("kernel")?;
    for missing in &lost.missing {
        stage.note(&format!("goes without {missing}"));
    }
    if let Some(file) = own.edited() {
        stage.note(&format!(
            "{} was edited after the image was built: build it again, if that should be in it",
            own.source().path().join(file).display()
        ));
    }
    let release = kbuild::release(own.build())?;
    stage.done(&format!("Linux {release}, by {}", toolchain.version()));
    Ok(Looked {
        bytes,
        config,
        source,
        toolchain,
    })
}

fn refuse(own: &OwnImage, lost: &Lost) -> Result<(), VmError> {
    if lost.needed.is_empty() {
        return Ok(());
    }
    let needed = lost.needed_lines();
    Err(VmError::BadTree {
        path: own.build().to_owned(),
        why: format!(
            "no scenario can be run on a kernel of this configuration. These lines are needed:\
             {needed}\n  what to do: set them there (scripts/config, `make menuconfig`), and build \
             it again, image and modules"
        ),
    })
}

/// Keeps what a guest needs under the image's key, so that a later build does not change a
/// kernel under a guest that was saved with it.
pub(super) fn keep(
    provision: &Provision,
    own: &OwnImage,
    looked: &Looked,
    key: &str,
) -> Result<(), VmError> {
    let kind = images(&own.slug());
    if provision.cache.finished(&kind, key).is_some() {
        return Ok(());
    }
    let partial = provision.cache.begin(&kind, key)?;
    let release = kbuild::release(own.build())?;
    let files = [
        (kbuild::image(partial.path()), looked.bytes.as_slice()),
        (partial.path().join(kbuild::RELEASE), release.as_bytes()),
        (partial.path().join(".config"), looked.config.as_bytes()),
    ];
    for (path, bytes) in files {
        let folder = path.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(folder).map_err(VmError::io("create", folder))?;
        fs::write(&path, bytes).map_err(VmError::io("write", &path))?;
    }
    partial.finish()?;
    Ok(())
}
