// SPDX-License-Identifier: GPL-2.0-only
//! Whether the model was read for a kernel's release. Where it was not, it is the nearest
//! release's model that judges, and what it disagrees with may be its own fault: what changed
//! since then says where to look.

use crate::drift::{Source, changed_lines, drift};
use reference_model::mirrored::{self, mirrors};
use reference_model::{Op, forms};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use vm::c_source::{self, DefinitionKind};

/// The file of layer 1, from a source's root.
pub const TLBFLUSH: &str = "arch/riscv/mm/tlbflush.c";

/// Most functions that are told for one step.
const SHOWN: usize = 8;

/// Whether the model was read for the kernel that is judged.
#[derive(Clone, Debug, Default)]
pub enum Reading {
    /// It speaks for this release.
    #[default]
    Read,
    /// It speaks for another one.
    NotRead(Arc<Nearest>),
}

impl Reading {
    /// What the kernel calls itself and the release that the model speaks for, where these are
    /// not the same.
    pub fn releases(&self) -> Option<[&str; 2]> {
        match self {
            Reading::Read => None,
            Reading::NotRead(nearest) => Some([&nearest.release, &nearest.nearest]),
        }
    }

    /// What may explain that the model is wrong of a step; none where it speaks for it.
    pub fn hint(&self, op: &Op) -> Option<Hint> {
        match self {
            Reading::Read => None,
            Reading::NotRead(nearest) => Some(nearest.hint(op)),
        }
    }
}

/// What is known of a kernel that the model was not read for.
#[derive(Debug)]
pub struct Nearest {
    /// What the kernel calls itself.
    release: String,
    /// The nearest release, by the name of its kernel.
    nearest: String,
    /// The source of the nearest, and the kernel's own.
    sources: Result<[PathBuf; 2], String>,
    /// Found out when it is first needed.
    changed: OnceLock<Result<Changed, String>>,
}

/// Which functions of the kernel may explain that the model is wrong of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// What the kernel calls itself, and the release that the model speaks for.
    pub releases: [String; 2],
    /// Those that changed since and that the step can come to: in which a line about flushing
    /// changed, then the others, the nearest to its system call first.
    pub functions: Vec<String>,
    /// How many more.
    pub more: usize,
    /// Why nothing is known of that.
    pub why_not: Option<String>,
}

impl Nearest {
    /// Of a release and the nearest that the model was read for, with the source of the nearest
    /// and its own; or why one of them cannot be had.
    pub fn new(release: String, nearest: String, sources: Result<[PathBuf; 2], String>) -> Nearest {
        Nearest {
            release,
            nearest,
            sources,
            changed: OnceLock::new(),
        }
    }

    fn hint(&self, op: &Op) -> Hint {
        let releases = [self.release.clone(), self.nearest.clone()];
        let changed = self.changed.get_or_init(|| self.changed());
        match changed {
            Err(why) => Hint {
                releases,
                why_not: Some(why.clone()),
                ..Hint::default()
            },
            Ok(changed) => {
                let mut functions = reached(changed, mirrored::entry(op));
                let more = functions.len().saturating_sub(SHOWN);
                functions.truncate(SHOWN);
                Hint {
                    releases,
                    functions,
                    more,
                    why_not: None,
                }
            }
        }
    }

    fn changed(&self) -> Result<Changed, String> {
        let [old, new] = self.sources.as_ref().map_err(Clone::clone)?;
        let read = |path: &PathBuf| {
            Source::read(String::new(), path)
                .map_err(|error| format!("{}: {error}", path.display()))
        };
        let (old, new, mirrors) = (read(old)?, read(new)?, mirrors());
        let mut changed = Changed::default();
        for mirror in &mirrors {
            let calls = changed.calls.entry(mirror.name).or_default();
            calls.extend(&mirror.calls);
        }
        for drifted in drift(&old, &new, &mirrors).mirrored {
            if drifted.pair.only_moved() {
                continue;
            }
            let mut lines = changed_lines(&drifted.pair).into_iter();
            if lines.any(|line| line.starts_with(['-', '+']) && is_of_flushing(&line)) {
                changed.of_flushing.insert(drifted.name.to_owned());
            }
            for mirror in drifted.mirrors {
                let by_mirror = &mut changed.by_mirror;
                let kernel = by_mirror.entry(mirror.name.to_owned()).or_default();
                kernel.push(drifted.name.to_owned());
            }
        }
        Ok(changed)
    }
}

/// What changed since the nearest release.
#[derive(Debug, Default)]
struct Changed {
    /// What the model's functions call, by their names.
    calls: BTreeMap<&'static str, BTreeSet<&'static str>>,
    /// The kernel's functions, by the model's function that mirrors them.
    by_mirror: BTreeMap<String, Vec<String>>,
    /// Those in which a line changed that is about flushing.
    of_flushing: BTreeSet<String>,
}

/// Whether a line of C speaks of TLBs, of what is gathered for them, or of who is told.
fn is_of_flushing(line: &str) -> bool {
    ["tlb", "flush", "gather", "notif"]
        .iter()
        .any(|word| line.contains(word))
}

/// What changed of what a function of the model comes to: what is about flushing first, and
/// then by how many calls away it is.
fn reached(changed: &Changed, entry: &str) -> Vec<String> {
    let (mut queue, mut seen) = (VecDeque::from([entry]), BTreeSet::from([entry]));
    let mut found = Vec::new();
    while let Some(name) = queue.pop_front() {
        for kernel in changed.by_mirror.get(name).into_iter().flatten() {
            if !found.contains(kernel) {
                found.push(kernel.clone());
            }
        }
        for &next in changed.calls.get(name).into_iter().flatten() {
            if changed.calls.contains_key(next) && seen.insert(next) {
                queue.push_back(next);
            }
        }
    }
    found.sort_by_key(|name| !changed.of_flushing.contains(name));
    found
}

/// The functions that a text of C defines, with their own text.
pub fn functions(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let all = c_source::all(text).into_iter();
    all.filter(|definition| definition.kind == DefinitionKind::Function)
        .map(|definition| (definition.name, &text[definition.whole]))
}

/// The functions of a `tlbflush.c` that no release that the model was read for has as they are
/// there.
pub fn unknown_forms(text: &str) -> Vec<&str> {
    functions(text)
        .filter(|(name, text)| !forms::is_known(name, &c_source::words(text)))
        .map(|(name, _)| name)
        .collect()
}
