// SPDX-License-Identifier: GPL-2.0-only
//! What is said by hand of the ways: scenarios/paths.toml.

use serde::Deserialize;
use std::collections::BTreeMap;

const TEXT: &str = include_str!("../../../scenarios/paths.toml");

/// What is said by hand of the ways into `tlbflush.c`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reasons {
    /// Functions that a way goes through, and does not begin at.
    pub through: Vec<String>,
    /// Why no scenario comes by a way: by the function that it begins at, or all of it.
    pub unreached: BTreeMap<String, String>,
}

impl Reasons {
    /// As the program was built with.
    ///
    /// # Errors
    /// The file is wrong, and how.
    pub fn own() -> Result<Reasons, String> {
        toml::from_str(TEXT).map_err(|error| format!("scenarios/paths.toml: {error}"))
    }

    /// Why a way is not come by, if that is said.
    pub fn why(&self, way: &str) -> Option<&str> {
        let begin = way.split(" → ").next().unwrap_or(way);
        let said = self.unreached.get(way);
        said.or_else(|| self.unreached.get(begin))
            .map(String::as_str)
    }
}
