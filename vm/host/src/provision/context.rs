// SPDX-License-Identifier: GPL-2.0-only
//! A kernel being provisioned: what all stages go by.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use super::apt::{Apt, Architectures};
use super::stage::Stage;
use crate::cache::{Cache, Lock};
use crate::error::VmError;
use crate::kernels::KernelChoice;

/// One kernel being provisioned.
pub(super) struct Provision {
    pub(super) cache: Cache,
    pub(super) checkout: PathBuf,
    /// The kernel, as people call it.
    pub(super) kernel: String,
    /// The kernel's name in the cache.
    pub(super) slug: String,
    pub(super) update: bool,
    pub(super) stages: usize,
    apts: BTreeMap<(String, Architectures), Rc<Apt>>,
    _lock: Lock,
}

impl Provision {
    pub(super) fn begin(
        cache: Cache,
        checkout: PathBuf,
        kernel: &KernelChoice,
        slug: String,
        update: bool,
    ) -> Result<Provision, VmError> {
        let lock = cache.lock(|who| eprintln!("{who} is provisioning; waiting for it to end"))?;
        let kernel = kernel.to_string();
        let apts = BTreeMap::new();
        Ok(Provision {
            cache,
            checkout,
            kernel,
            slug,
            update,
            stages: 0,
            apts,
            _lock: lock,
        })
    }

    /// A stage that has something to do.
    pub(super) fn stage(&mut self, name: &'static str) -> Result<Stage, VmError> {
        if self.stages == 0 {
            eprintln!(
                "{}: provisioning into {}",
                self.kernel,
                self.cache.root().display()
            );
        }
        self.stages += 1;
        Stage::begin(&self.cache, &self.slug, name)
    }

    /// The private apt of a suite, whose index is fetched once.
    pub(super) fn apt(
        &mut self,
        suite: &str,
        architectures: Architectures,
        stage: &mut Stage,
    ) -> Result<Rc<Apt>, VmError> {
        let key = (suite.to_owned(), architectures);
        if let Some(apt) = self.apts.get(&key) {
            return Ok(Rc::clone(apt));
        }
        let apt = Rc::new(Apt::open(&self.cache, suite, architectures, stage)?);
        self.apts.insert(key, Rc::clone(&apt));
        Ok(apt)
    }
}
