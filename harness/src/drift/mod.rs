// SPDX-License-Identifier: GPL-2.0-only
//! What changed between two kernels of what the model mirrors: the work list of whoever brings
//! the model to a new release.
//!
//! What is mirrored the model's own comments say ([`reference_model::mirrored`]). Comments and
//! white space of the kernel do not count.

mod lines;
mod pairs;
mod source;

pub use lines::changed_lines;
pub use pairs::{Change, Pair};

use pairs::Newcomers;
pub use source::{Definition, Source};

use crate::outcome::{EXIT_AGREE, Outcome};
use reference_model::mirrored::Mirror;
use std::collections::{BTreeMap, BTreeSet};
use vm::c_source::{self, DefinitionKind};

/// What changed, and what the model has of it.
#[derive(Debug)]
pub struct Drift<'a> {
    /// What the model mirrors and what changed, by file and line of the later source.
    pub mirrored: Vec<Drifted<'a>>,
    /// What changed and is called by what the model mirrors, which mirrors nothing of it.
    pub callees: Vec<Callee<'a>>,
    /// How many names that the model mirrors one of the sources defines.
    pub looked_at: usize,
}

/// A name that the model mirrors.
#[derive(Debug)]
pub struct Drifted<'a> {
    /// The kernel's name.
    pub name: &'a str,
    /// What changed.
    pub pair: Pair<'a>,
    /// What of the model mirrors it.
    pub mirrors: Vec<&'a Mirror>,
}

impl<'a> Drift<'a> {
    /// The mirrored names that are not what they were.
    pub fn names(&self) -> BTreeSet<&'a str> {
        self.mirrored.iter().map(|drifted| drifted.name).collect()
    }

    /// Leaves out all but these names, mirrored or called.
    pub fn keep(&mut self, names: &[String]) {
        let wanted = |name: &str| names.iter().any(|wanted| wanted == name);
        self.mirrored.retain(|drifted| wanted(drifted.name));
        self.callees.retain(|callee| wanted(callee.name));
    }

    /// What the process ends with: something was found, or nothing.
    pub fn exit_code(&self) -> u8 {
        if self.mirrored.is_empty() && self.callees.is_empty() {
            return EXIT_AGREE;
        }
        Outcome::Differs.exit_code()
    }
}

impl<'a> Drifted<'a> {
    /// The fields of the profile that what mirrors it reads.
    pub fn fields(&self) -> BTreeSet<&'a str> {
        let fields = self.mirrors.iter().flat_map(|mirror| &mirror.fields);
        fields.copied().collect()
    }
}

/// A name that the model does not mirror.
#[derive(Debug)]
pub struct Callee<'a> {
    /// The kernel's name.
    pub name: &'a str,
    /// What changed.
    pub pair: Pair<'a>,
    /// Which mirrored functions call it.
    pub callers: BTreeSet<&'a str>,
}

/// Says what changed between two sources.
pub fn drift<'a>(old: &'a Source, new: &'a Source, mirrors: &'a [Mirror]) -> Drift<'a> {
    let mut by_name: BTreeMap<&str, Vec<&Mirror>> = BTreeMap::new();
    for mirror in mirrors {
        for name in &mirror.kernel {
            by_name.entry(name).or_default().push(mirror);
        }
    }
    by_name.retain(|name, _| old.defines(name) || new.defines(name));
    let newcomers = Newcomers::of(old, new);
    let mut drift = Drift {
        mirrored: Vec::new(),
        callees: Vec::new(),
        looked_at: by_name.len(),
    };
    for (name, mirrors) in &by_name {
        let [before, after] = [old, new].map(|source| meant(source, name, mirrors));
        let changed = pairs::changed(&newcomers, before, after);
        drift
            .mirrored
            .extend(changed.into_iter().map(|pair| Drifted {
                name,
                pair,
                mirrors: mirrors.clone(),
            }));
    }
    drift.callees = callees([old, new], &newcomers, &by_name);
    drift.mirrored.sort_by_key(|drifted| drifted.pair.place());
    drift.callees.sort_by_key(|callee| callee.pair.place());
    drift
}

/// The definitions of a name that the model means: where some are in files that it says it is
/// from, these.
fn meant<'a>(source: &'a Source, name: &str, mirrors: &[&Mirror]) -> Vec<Definition<'a>> {
    let all = source.definitions(name);
    let is_meant = |definition: &Definition<'_>| {
        let mut mirrors = mirrors.iter();
        mirrors.any(|mirror| mirror.sources.contains(definition.file))
    };
    if all.iter().any(is_meant) {
        return all.into_iter().filter(is_meant).collect();
    }
    all
}

fn callees<'a>(
    sources: [&'a Source; 2],
    newcomers: &Newcomers<'a>,
    by_name: &BTreeMap<&'a str, Vec<&'a Mirror>>,
) -> Vec<Callee<'a>> {
    let mut callers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (caller, mirrors) in by_name {
        for source in sources {
            for definition in meant(source, caller, mirrors) {
                let called = c_source::calls(definition.text).into_iter();
                let others = called.filter(|name| !by_name.contains_key(name));
                others.for_each(|name| {
                    callers.entry(name).or_default().insert(caller);
                });
            }
        }
    }
    let mut callees = Vec::new();
    for (name, callers) in callers {
        let is_called = |definition: &Definition<'_>| definition.kind != DefinitionKind::Type;
        let [before, after] = sources.map(|source| {
            let all = source.definitions(name).into_iter();
            all.filter(is_called).collect::<Vec<_>>()
        });
        let changed = pairs::changed(newcomers, before, after).into_iter();
        // What is called does the same, wherever it is.
        for pair in changed.filter(|pair| !pair.only_moved()) {
            callees.push(Callee {
                name,
                pair,
                callers: callers.clone(),
            });
        }
    }
    callees
}

#[cfg(test)]
mod tests;
