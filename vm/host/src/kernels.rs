// SPDX-License-Identifier: GPL-2.0-only
//! The kernels by name, as `vm/kernels.toml` lists them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::VmError;

/// Which kernel to run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelChoice {
    /// One that `vm/kernels.toml` names.
    Named(String),
    /// A developer's own source tree.
    Tree(PathBuf),
}

impl fmt::Display for KernelChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KernelChoice::Named(name) => f.write_str(name),
            KernelChoice::Tree(path) => write!(f, "tree:{}", path.display()),
        }
    }
}

/// What is told of a kernel to someone who chooses one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelInfo {
    /// Its name, as `--kernel` takes it.
    pub name: String,
    /// What it is, in a sentence.
    pub about: String,
}

/// Every kernel that `vm/kernels.toml` names.
pub fn kernels() -> Result<Vec<KernelInfo>, VmError> {
    let named = read(&vm_dir())?;
    Ok(named
        .into_iter()
        .map(|(name, spec)| KernelInfo {
            name,
            about: spec.about,
        })
        .collect())
}

/// One table of `kernels.toml`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct KernelSpec {
    pub(crate) about: String,
    pub(crate) package: String,
    pub(crate) suite: String,
    pub(crate) config: Vec<PathBuf>,
    pub(crate) profile: String,
}

/// The checkout's `vm` folder.
pub(crate) fn vm_dir() -> PathBuf {
    let host = Path::new(env!("CARGO_MANIFEST_DIR"));
    host.parent().unwrap_or(host).to_owned()
}

/// The kernel of that name in `vm_dir`'s `kernels.toml`.
pub(crate) fn by_name(vm_dir: &Path, name: &str) -> Result<KernelSpec, VmError> {
    let mut named = read(vm_dir)?;
    if let Some(spec) = named.remove(name) {
        return Ok(spec);
    }
    let known: Vec<String> = named.into_keys().collect();
    let nearest = nearest(name, &known);
    Err(VmError::UnknownKernel {
        name: name.to_owned(),
        known,
        nearest,
    })
}

/// The text of configuration fragments, in order.
pub(crate) fn fragments(vm_dir: &Path, config: &[PathBuf]) -> Result<String, VmError> {
    let mut text = String::new();
    for fragment in config {
        let path = vm_dir.join(fragment);
        text += &std::fs::read_to_string(&path).map_err(VmError::io("read", &path))?;
        text.push('\n');
    }
    Ok(text)
}

fn read(vm_dir: &Path) -> Result<BTreeMap<String, KernelSpec>, VmError> {
    let path = vm_dir.join("kernels.toml");
    let text = std::fs::read_to_string(&path).map_err(VmError::io("read", &path))?;
    parse(&text).map_err(|message| VmError::Kernels { path, message })
}

fn parse(text: &str) -> Result<BTreeMap<String, KernelSpec>, String> {
    let named: BTreeMap<String, KernelSpec> =
        toml::from_str(text).map_err(|error| error.to_string())?;
    for (name, spec) in &named {
        check(name, spec).map_err(|why| format!("[{name}]: {why}"))?;
    }
    Ok(named)
}

/// Names end up in paths and in apt's sources: what looks like anything else
/// than a name is refused.
fn check(name: &str, spec: &KernelSpec) -> Result<(), String> {
    let fields = [
        ("the name", name),
        ("package", &spec.package),
        ("suite", &spec.suite),
    ];
    for (field, value) in fields {
        if !is_name(value) {
            return Err(format!("{field} is `{value}`, which is not a name"));
        }
    }
    if spec.config.is_empty() {
        return Err("config names no fragment".to_owned());
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(plain) && text.chars().all(|c| plain(c) || "+.-_".contains(c))
}

fn nearest(name: &str, known: &[String]) -> Option<String> {
    let close = |other: &&String| strsim::damerau_levenshtein(name, other) <= name.len().max(3) / 2;
    known
        .iter()
        .filter(close)
        .min_by_key(|other| strsim::damerau_levenshtein(name, other))
        .cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[stable]
about = "one"
package = "linux-source-6.12"
suite = "trixie"
config = ["kernels/base.config"]
profile = "stable"
"#;

    #[test]
    fn a_table_is_a_kernel() {
        let named = parse(GOOD).unwrap();
        assert_eq!(named["stable"].package, "linux-source-6.12");
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let message = parse(&format!("{GOOD}sweet = 1\n")).unwrap_err();
        assert!(message.contains("sweet"), "{message}");
        assert!(message.contains("line 8"), "{message}");
    }

    #[test]
    fn a_missing_key_is_an_error_that_names_it() {
        let message = parse(&GOOD.replace("suite", "#")).unwrap_err();
        assert!(message.contains("suite"), "{message}");
    }

    #[test]
    fn what_would_end_in_a_path_has_to_be_a_name() {
        for bad in ["../x", "a b", "", "Trixie", "-o"] {
            let message = parse(&GOOD.replace("trixie", bad)).unwrap_err();
            assert!(message.contains("suite is"), "{message}");
        }
    }

    #[test]
    fn no_fragment_is_an_error() {
        let message = parse(&GOOD.replace("\"kernels/base.config\"", "")).unwrap_err();
        assert!(message.contains("config names no fragment"), "{message}");
    }

    #[test]
    fn an_unknown_kernel_is_told_the_known_ones_and_the_nearest() {
        let error = by_name(&vm_dir(), "stabel").unwrap_err().to_string();
        assert!(error.contains("did you mean `stable`?"), "{error}");
        let error = by_name(&vm_dir(), "zzzzzzzzzzzz").unwrap_err().to_string();
        assert!(
            error.contains("known: ") && !error.contains("did you mean"),
            "{error}"
        );
    }

    #[test]
    fn every_listed_kernel_names_fragments_that_exist() {
        for (name, spec) in read(&vm_dir()).unwrap() {
            for fragment in &spec.config {
                assert!(
                    vm_dir().join(fragment).is_file(),
                    "{name}: {}",
                    fragment.display()
                );
            }
        }
    }
}
