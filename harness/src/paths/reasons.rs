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
    /// Why no scenario comes by a way: by functions that are in it, one after the other.
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
        let has = |part: &str| format!(" → {way} → ").contains(&format!(" → {part} → "));
        let said = self.unreached.iter().filter(|(part, _)| has(part));
        // What says the most of it is meant.
        let said = said.max_by_key(|(part, _)| part.len());
        said.map(|(_, why)| why.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_of_all_ways_that_go_there() {
        let text = "through = []\n[unreached]\n\"b\" = \"short\"\n\"b → c\" = \"long\"\n";
        let reasons: Reasons = toml::from_str(text).expect("well-formed");
        assert_eq!(reasons.why("a → b → c"), Some("long"));
        assert_eq!(reasons.why("b → d"), Some("short"));
        assert_eq!(reasons.why("ab → cd"), None);
        assert!(Reasons::own().is_ok());
    }
}
