// SPDX-License-Identifier: GPL-2.0-only
//! What a kernel was last provisioned from: `current/<kernel>.json`.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cache::{Cache, list, write_whole};
use crate::error::VmError;
use crate::keys::{Facts, Keys};
use crate::own_image::Stamp;

/// The record of one kernel.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// The kernel, as people call it.
    pub(crate) kernel: String,
    /// The reference model's profile that spoke for it.
    pub(crate) profile: Option<String>,
    /// The kernel that it is made from, if it is a variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<String>,
    /// The places of its edits, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) edits: Vec<String>,
    /// What the machine contributed.
    pub(crate) facts: Facts,
    /// What was built.
    pub(crate) keys: Keys,
    /// For a developer's own tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tree: Option<TreeRecord>,
    /// For a developer's own image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<ImageRecord>,
}

/// What is known of a developer's tree as it was built.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TreeRecord {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What git called it.
    pub(crate) described: Option<String>,
    /// When the build began, in nanoseconds of the epoch: later edits are not
    /// in it.
    pub(crate) began: u64,
    /// The value of LLVM=, if LLVM built it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) llvm: Option<String>,
    /// The developer's own fragments, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) config: Vec<PathBuf>,
}

/// What is known of a developer's image.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageRecord {
    /// Its file.
    pub(crate) image: PathBuf,
    /// Where it was built.
    pub(crate) build: PathBuf,
    /// The files that it is made of, as they were.
    pub(crate) stamps: Vec<Stamp>,
}

impl Manifest {
    /// The record of a kernel, if it was ever provisioned. One that cannot be
    /// read is of an older version of this program, and as good as none.
    pub(crate) fn read(cache: &Cache, slug: &str) -> Result<Option<Manifest>, VmError> {
        let path = path(cache, slug);
        match fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(VmError::io("read", &path)(error)),
        }
    }

    /// Records, unless that is what is recorded.
    pub(crate) fn write(&self, cache: &Cache, slug: &str) -> Result<(), VmError> {
        if Manifest::read(cache, slug)?.as_ref() == Some(self) {
            return Ok(());
        }
        cache.dir("current")?;
        let path = path(cache, slug);
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| VmError::io("write", &path)(error.into()))?;
        write_whole(&path, &text)
    }

    /// Every kernel's record.
    pub(crate) fn all(cache: &Cache) -> Result<Vec<Manifest>, VmError> {
        let mut all = Vec::new();
        for entry in list(&cache.path("current"))? {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(slug) = name.strip_suffix(".json") {
                all.extend(Manifest::read(cache, slug)?);
            }
        }
        Ok(all)
    }
}

fn path(cache: &Cache, slug: &str) -> PathBuf {
    cache.path(format!("current/{slug}.json"))
}
