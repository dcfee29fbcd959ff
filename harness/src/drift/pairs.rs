// SPDX-License-Identifier: GPL-2.0-only
//! Which definition of the later source is which of the earlier one.

use super::source::{Definition, Source};
use std::collections::HashMap;
use vm::c_source::{self, DefinitionKind};

/// How much alike a function that is gone and a new one have to be to be told as the same
/// under another name: twice the words in both, by all words.
const ALIKE: f64 = 0.7;
/// A function of fewer words is like too many others.
const FEWEST_WORDS: usize = 25;

/// A definition that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair<'a> {
    /// In the earlier source.
    pub old: Option<Definition<'a>>,
    /// In the later one.
    pub new: Option<Definition<'a>>,
    /// What happened to it.
    pub change: Change<'a>,
}

/// What happened to a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// It is still there.
    Edited {
        /// In another file.
        moved: bool,
        /// With another name's parameters or result: of a function alone.
        signature: bool,
        /// It does something else, or looks like it.
        body: bool,
    },
    /// It has gone, and a new one is much like it.
    Renamed(&'a str),
    /// It has gone.
    Gone,
    /// It was not there.
    New,
}

impl<'a> Pair<'a> {
    /// It is the same, in another file.
    pub fn only_moved(&self) -> bool {
        let same_in_another_file = Change::Edited {
            moved: true,
            signature: false,
            body: false,
        };
        self.change == same_in_another_file
    }

    /// Where it is: the file, and the line at which it begins.
    pub fn place(&self) -> (&'a str, usize) {
        let shown = self.new.as_ref().or(self.old.as_ref());
        shown.map_or(("", 0), |definition| (definition.file, definition.line))
    }
}

/// Functions that only the later source has: what those that are gone can be called now.
pub(super) struct Newcomers<'a>(Vec<Newcomer<'a>>);

struct Newcomer<'a> {
    name: &'a str,
    definition: Definition<'a>,
    counts: HashMap<&'a str, usize>,
    words: usize,
}

impl<'a> Newcomers<'a> {
    pub(super) fn of(old: &'a Source, new: &'a Source) -> Newcomers<'a> {
        let newcomers = new.functions_beyond(old).map(|(name, definition)| {
            let (_, body) = split(&definition);
            Newcomer {
                name,
                counts: counted(&body),
                words: body.len(),
                definition,
            }
        });
        Newcomers(newcomers.collect())
    }

    /// The one that is most like a function.
    fn like(&self, one: &Definition<'_>) -> Option<(&'a str, Definition<'a>)> {
        let (_, body) = split(one);
        if one.kind != DefinitionKind::Function || body.len() < FEWEST_WORDS {
            return None;
        }
        let counts = counted(&body);
        let alike = self.0.iter().map(|other| {
            let likeness = alike((&counts, body.len()), (&other.counts, other.words));
            (likeness, other)
        });
        // Of two that are as like, the same each time.
        let (likeness, best) = alike.max_by(|(one, newcomer), (other, other_newcomer)| {
            one.total_cmp(other)
                .then(other_newcomer.name.cmp(newcomer.name))
        })?;
        (likeness >= ALIKE).then(|| (best.name, best.definition.clone()))
    }
}

/// The definitions of one name that are not the same in both sources.
pub(super) fn changed<'a>(
    newcomers: &Newcomers<'a>,
    mut before: Vec<Definition<'a>>,
    mut after: Vec<Definition<'a>>,
) -> Vec<Pair<'a>> {
    // What stayed is of no interest, be it in another order.
    take_pairs(&mut before, &mut after, |one, other| {
        one.file == other.file && same(one, other)
    });
    let mut pairs = Vec::new();
    let by: [fn(&Definition<'_>, &Definition<'_>) -> bool; 3] = [
        // It moved.
        same,
        |one, other| one.kind == other.kind && one.file == other.file,
        |one, other| one.kind == other.kind,
    ];
    for alike in by {
        let taken = take_pairs(&mut before, &mut after, alike);
        pairs.extend(taken.into_iter().map(|(one, other)| edited(one, other)));
    }
    pairs.extend(before.into_iter().map(|one| gone(one, newcomers)));
    pairs.extend(after.into_iter().map(|other| Pair {
        old: None,
        new: Some(other),
        change: Change::New,
    }));
    pairs
}

/// Takes out of both lists what goes together, in order.
fn take_pairs<'a>(
    before: &mut Vec<Definition<'a>>,
    after: &mut Vec<Definition<'a>>,
    alike: impl Fn(&Definition<'_>, &Definition<'_>) -> bool,
) -> Vec<(Definition<'a>, Definition<'a>)> {
    let mut taken = Vec::new();
    for one in std::mem::take(before) {
        match after.iter().position(|other| alike(&one, other)) {
            Some(place) => taken.push((one, after.remove(place))),
            None => before.push(one),
        }
    }
    taken
}

fn same(one: &Definition<'_>, other: &Definition<'_>) -> bool {
    one.text == other.text || c_source::words(one.text) == c_source::words(other.text)
}

fn edited<'a>(one: Definition<'a>, other: Definition<'a>) -> Pair<'a> {
    let moved = one.file != other.file;
    let [(signature, body), (new_signature, new_body)] =
        [&one, &other].map(|definition| split(definition));
    let change = Change::Edited {
        moved,
        signature: signature != new_signature,
        body: body != new_body,
    };
    let (old, new) = (Some(one), Some(other));
    Pair { old, new, change }
}

/// Words of a signature, and of what comes behind it. Only functions have one.
fn split<'a>(definition: &Definition<'a>) -> (Vec<&'a str>, Vec<&'a str>) {
    let mut words = c_source::words(definition.text);
    let is_brace = |word: &&str| **word == *"{";
    let brace = words.iter().position(is_brace);
    match brace.filter(|_| definition.kind == DefinitionKind::Function) {
        Some(place) => {
            let body = words.split_off(place);
            (words, body)
        }
        None => (Vec::new(), words),
    }
}

/// What has gone, or has another name now.
fn gone<'a>(one: Definition<'a>, newcomers: &Newcomers<'a>) -> Pair<'a> {
    let like = newcomers.like(&one);
    let old = Some(one);
    match like {
        Some((name, other)) => Pair {
            old,
            new: Some(other),
            change: Change::Renamed(name),
        },
        None => Pair {
            old,
            new: None,
            change: Change::Gone,
        },
    }
}

fn counted<'a>(words: &[&'a str]) -> HashMap<&'a str, usize> {
    let mut counts = HashMap::new();
    for word in words {
        *counts.entry(*word).or_default() += 1;
    }
    counts
}

/// Counts of words, and how many there are.
type Counted<'c, 'a> = (&'c HashMap<&'a str, usize>, usize);

/// Twice the words that both have, by all words of both: 1 for the same, 0 for nothing alike.
fn alike((one, words): Counted<'_, '_>, (other, other_words): Counted<'_, '_>) -> f64 {
    // Most are of quite another length, and need no look at their words.
    if 3 * words.min(other_words) < 2 * words.max(other_words) {
        return 0.0;
    }
    let common = other.iter().map(|(word, count)| {
        let mine = one.get(word).copied().unwrap_or(0);
        mine.min(*count)
    });
    2.0 * common.sum::<usize>() as f64 / (words + other_words) as f64
}
