// SPDX-License-Identifier: GPL-2.0-only
//! Names that were probably meant.

/// The known name that was probably meant.
pub(crate) fn nearest(name: &str, known: &[String]) -> Option<String> {
    let close = |other: &&String| strsim::damerau_levenshtein(name, other) <= name.len().max(3) / 2;
    known
        .iter()
        .filter(close)
        .min_by_key(|other| strsim::damerau_levenshtein(name, other))
        .cloned()
}
