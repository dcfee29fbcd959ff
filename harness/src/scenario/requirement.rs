// SPDX-License-Identifier: GPL-2.0-only
//! What a scenario needs of the machine that it runs on.

use super::names;
use std::fmt;
use vm::guest::MEMORY_FOR_GIB_PAGES;

/// One thing that it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// A feature of [`names::FEATURES`].
    Feature(String),
    /// `kernel>=6.12`
    KernelFrom(Version),
    /// `kernel<7.2`
    KernelBefore(Version),
    /// A kernel's option, built in or as a module: `CONFIG_KSM`.
    Config(String),
}

/// What a machine has.
pub struct Has<'a> {
    /// Names of features.
    pub features: &'a [String],
    /// `uname -r`
    pub release: &'a str,
    /// Text of the kernel's configuration, if it can be had at all.
    pub config: &'a mut dyn FnMut() -> Option<String>,
}

/// The first two numbers of a kernel's release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u32, u32);

impl Version {
    /// Of a text like `6.12` or `6.12.107+deb13-riscv64`.
    pub fn parse(text: &str) -> Option<Version> {
        let (major, rest) = text.split_once('.')?;
        let end = rest.find(|c: char| !c.is_ascii_digit());
        let minor = &rest[..end.unwrap_or(rest.len())];
        Some(Version(major.parse().ok()?, minor.parse().ok()?))
    }
}

impl Requirement {
    /// Huge pages, which settings for them need.
    pub fn thp() -> Requirement {
        Requirement::Feature("thp".to_owned())
    }

    /// Whether a kernel lacks it that has all which guests usually have: a release, or an
    /// extension that a guest's harts have where it is asked for, or in no QEMU yet, or what is
    /// configured in `stock` alone.
    pub fn is_special(&self) -> bool {
        match self {
            Requirement::KernelFrom(_) | Requirement::KernelBefore(_) => true,
            Requirement::Feature(name) => {
                matches!(name.as_str(), "svnapot" | "uffd-wp" | "lru-gen" | "uprobes")
            }
            Requirement::Config(_) => false,
        }
    }

    /// As a scenario says it; none where it says something else.
    pub fn parse(text: &str) -> Option<Requirement> {
        let option = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        if let Some(name) = text.strip_prefix("CONFIG_") {
            let good = !name.is_empty() && name.chars().all(option);
            return good.then(|| Requirement::Config(text.to_owned()));
        }
        if let Some(version) = text.strip_prefix("kernel>=") {
            return exactly(version).map(Requirement::KernelFrom);
        }
        if let Some(version) = text.strip_prefix("kernel<") {
            return exactly(version).map(Requirement::KernelBefore);
        }
        names::number(names::FEATURES, text).map(|()| Requirement::Feature(text.to_owned()))
    }

    /// Why a machine does not do; none where it does.
    pub fn lacks(&self, has: &mut Has<'_>) -> Option<String> {
        let version = Version::parse(has.release);
        match self {
            Requirement::Feature(name) if has.features.contains(name) => None,
            Requirement::KernelFrom(from) if version >= Some(*from) => None,
            Requirement::KernelBefore(end) if version.is_some_and(|it| it < *end) => None,
            // A guest has one where it is asked for.
            Requirement::Feature(name) if name == "iommu" => {
                Some("the machine lacks `iommu`: a guest has one with --secondary iommu".to_owned())
            }
            // To clear them takes seconds.
            Requirement::Feature(name) if name == "hugetlb-1g" => Some(format!(
                "the machine lacks `{name}`: a guest has it with --memory {MEMORY_FOR_GIB_PAGES}"
            )),
            Requirement::Feature(name) => Some(format!("the machine lacks `{name}`")),
            Requirement::KernelFrom(_) | Requirement::KernelBefore(_) => {
                Some(format!("it wants {self}, and this is {}", has.release))
            }
            Requirement::Config(name) => match (has.config)() {
                Some(config) if is_set(&config, name) => None,
                Some(_) => Some(format!("the kernel is built without {name}")),
                None => Some(format!(
                    "it wants {name}, and the kernel's configuration cannot be read"
                )),
            },
        }
    }
}

fn exactly(text: &str) -> Option<Version> {
    Version::parse(text).filter(|version| version.to_string() == text)
}

/// Whether an option is `y` or `m` in a configuration.
fn is_set(config: &str, name: &str) -> bool {
    let mut lines = config.lines().filter_map(|line| line.split_once('='));
    lines.any(|(option, value)| option == name && matches!(value, "y" | "m"))
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Requirement::Feature(name) | Requirement::Config(name) => f.write_str(name),
            Requirement::KernelFrom(version) => write!(f, "kernel>={version}"),
            Requirement::KernelBefore(version) => write!(f, "kernel<{version}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Has, Requirement};

    fn lacks(text: &str, release: &str, config: Option<&str>) -> Option<String> {
        let requirement = Requirement::parse(text).expect("a requirement");
        assert_eq!(requirement.to_string(), text);
        requirement.lacks(&mut Has {
            features: &["sv48".to_owned()],
            release,
            config: &mut || config.map(str::to_owned),
        })
    }

    #[test]
    fn what_is_there_is_enough_and_what_is_not_is_named() {
        assert_eq!(lacks("sv48", "6.12.1", None), None);
        assert_eq!(
            lacks("sv57", "6.12.1", None).as_deref(),
            Some("the machine lacks `sv57`")
        );
        assert_eq!(lacks("kernel>=6.12", "6.12.107+deb13-riscv64", None), None);
        assert_eq!(lacks("kernel>=6.12", "7.0-rc1", None), None);
        assert!(lacks("kernel>=6.12", "6.6.4", None).is_some());
        assert!(lacks("kernel>=6.12", "unheard-of", None).is_some());
        assert_eq!(lacks("kernel<7.2", "6.12.107", None), None);
        assert_eq!(
            lacks("kernel<7.2", "7.2.12", None).as_deref(),
            Some("it wants kernel<7.2, and this is 7.2.12")
        );
    }

    #[test]
    fn options_are_looked_up_in_the_configuration() {
        let config = Some("# CONFIG_A is not set\nCONFIG_B=m\nCONFIG_C=y\nCONFIG_D=3\n");
        for there in ["CONFIG_B", "CONFIG_C"] {
            assert_eq!(lacks(there, "6.12.1", config), None);
        }
        for missing in ["CONFIG_A", "CONFIG_D", "CONFIG_E"] {
            let why = lacks(missing, "6.12.1", config).expect("missing");
            assert!(why.ends_with(missing), "{why}");
        }
        let why = lacks("CONFIG_C", "6.12.1", None).expect("unknown");
        assert!(why.contains("cannot be read"), "{why}");
    }

    #[test]
    fn other_words_are_no_requirements() {
        for wrong in [
            "swop",
            "kernel>=6",
            "kernel>6.12",
            "kernel>=6.12.3",
            "CONFIG_",
            "CONFIG_a",
        ] {
            assert_eq!(Requirement::parse(wrong), None, "{wrong}");
        }
    }
}
