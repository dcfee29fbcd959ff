// SPDX-License-Identifier: GPL-2.0-only
//! What compiles a kernel: GCC with its binutils, or clang with LLVM's, as `LLVM=` of
//! Documentation/kbuild/llvm.rst chooses.

use std::path::Path;
use std::process::Command;

use super::options;
use crate::error::VmError;

/// What Debian's cross compilers are called by.
pub(super) const CROSS_COMPILE: &str = "riscv64-linux-gnu-";

/// What of LLVM builds a kernel, and would else be missed in the middle of it.
const LLVM_TOOLS: &[&str] = &[
    "clang",
    "ld.lld",
    "llvm-ar",
    "llvm-nm",
    "llvm-objcopy",
    "llvm-strip",
];

/// A compiler that was found, and how kbuild is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Toolchain {
    cross_compile: String,
    /// The compiler, where its name is not what kbuild makes of the others.
    cc: Option<String>,
    /// The value of LLVM=, if it is that.
    llvm: Option<String>,
    /// What the compiler says that it is.
    version: String,
}

impl Toolchain {
    /// The GCC that named kernels are built with.
    pub(super) fn gcc() -> Result<Toolchain, VmError> {
        let program = format!("{CROSS_COMPILE}gcc");
        let version = run(&program).map_err(VmError::io("run", Path::new(&program)))?;
        Ok(Toolchain {
            cross_compile: CROSS_COMPILE.to_owned(),
            cc: None,
            llvm: None,
            version,
        })
    }

    /// LLVM's, by the value of LLVM=.
    pub(super) fn llvm(value: &str) -> Result<Toolchain, VmError> {
        let missing = LLVM_TOOLS
            .iter()
            .map(|tool| llvm_program(value, tool))
            .find(|program| run(program).is_err());
        if let Some(program) = missing {
            let suffix = value.strip_prefix('-').map(|n| format!("-{n}"));
            let suffix = suffix.unwrap_or_default();
            return Err(VmError::Compiler {
                why: format!("LLVM={value} asks for clang, and {program} cannot be run"),
                remedy: format!(
                    "apt-get install clang{suffix} lld{suffix} llvm{suffix}; or LLVM=-N for \
                     clang-N, LLVM=/path/to/bin/, or no LLVM at all, for GCC"
                ),
            });
        }
        let clang = llvm_program(value, "clang");
        Ok(Toolchain {
            cross_compile: CROSS_COMPILE.to_owned(),
            cc: None,
            llvm: Some(value.to_owned()),
            version: run(&clang).map_err(VmError::io("run", Path::new(&clang)))?,
        })
    }

    /// What the environment asks for: LLVM's or, where it says nothing, GCC.
    pub(super) fn asked(llvm: Option<&str>) -> Result<Toolchain, VmError> {
        llvm.map_or_else(Toolchain::gcc, Toolchain::llvm)
    }

    /// What a kernel of this configuration was built with.
    pub(super) fn of_config(config: &str, hints: &Hints) -> Result<Toolchain, VmError> {
        let built_with = options::value(config, "CONFIG_CC_VERSION_TEXT").unwrap_or_default();
        let built_with = built_with.trim_matches('"');
        let clang = options::value(config, "CONFIG_CC_IS_CLANG").is_some();
        let candidates = candidates(built_with, clang, hints);
        let same = |candidate: &Candidate| {
            let version = run(&candidate.compiler()).ok()?;
            (version == built_with).then(|| candidate.toolchain(version))
        };
        if let Some(found) = candidates.iter().find_map(same) {
            // The rest of LLVM has to be there as well.
            return match &found.llvm {
                Some(value) => Toolchain::llvm(value),
                None => Ok(found),
            };
        }
        let looked: Vec<String> = candidates.iter().map(Candidate::compiler).collect();
        let variable = if clang { "LLVM" } else { "CROSS_COMPILE" };
        Err(VmError::Compiler {
            why: format!(
                "the kernel was built with `{built_with}`, and none of these is that: {}",
                looked.join(", ")
            ),
            remedy: format!(
                "put it into PATH, or say where it is by {variable}=, or build the kernel \
                 again with one that is here"
            ),
        })
    }

    #[cfg(test)]
    pub(super) fn for_tests(llvm: Option<&str>, version: &str) -> Toolchain {
        Toolchain {
            cross_compile: CROSS_COMPILE.to_owned(),
            cc: None,
            llvm: llvm.map(str::to_owned),
            version: version.to_owned(),
        }
    }

    /// For make.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![format!("CROSS_COMPILE={}", self.cross_compile)];
        arguments.extend(self.cc.iter().map(|program| format!("CC={program}")));
        arguments.extend(self.llvm.iter().map(|value| format!("LLVM={value}")));
        arguments
    }

    /// What the compiler says that it is.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// The value of LLVM=, if it is LLVM's.
    pub(super) fn llvm_value(&self) -> Option<&str> {
        self.llvm.as_deref()
    }
}

/// What the environment says of compilers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hints {
    pub(super) llvm: Option<String>,
    pub(super) cross_compile: Option<String>,
}

/// A compiler that may be the one that is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Candidate {
    /// By the value of LLVM=.
    Llvm(String),
    /// By the value of CROSS_COMPILE=, and what follows it: `gcc`, or `gcc-14`.
    Gcc(String, String),
}

impl Candidate {
    fn compiler(&self) -> String {
        match self {
            Candidate::Llvm(value) => llvm_program(value, "clang"),
            Candidate::Gcc(prefix, name) => format!("{prefix}{name}"),
        }
    }

    fn toolchain(&self, version: String) -> Toolchain {
        let (cross_compile, llvm, cc) = match self {
            Candidate::Llvm(value) => (CROSS_COMPILE, Some(value.clone()), None),
            Candidate::Gcc(prefix, name) => {
                let cc = Some(self.compiler()).filter(|_| name != "gcc");
                (prefix.as_str(), None, cc)
            }
        };
        Toolchain {
            cross_compile: cross_compile.to_owned(),
            cc,
            llvm,
            version,
        }
    }
}

/// Where a compiler that calls itself so may be found, the likeliest first. GCC says by
/// which name it was called, clang does not.
fn candidates(version: &str, clang: bool, hints: &Hints) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    let mut add = |candidate: Candidate| {
        if !found.contains(&candidate) {
            found.push(candidate);
        }
    };
    if clang {
        let major = version
            .split_once("version ")
            .and_then(|(_, rest)| rest.split('.').next());
        let suffix = major.map(|major| format!("-{major}"));
        let values = [hints.llvm.clone(), suffix, Some("1".to_owned())];
        values
            .into_iter()
            .flatten()
            .for_each(|value| add(Candidate::Llvm(value)));
    } else {
        let called = version.split(' ').next().unwrap_or_default();
        let (prefix, name) = called.split_at(called.rfind("gcc").unwrap_or(called.len()));
        let own = Some(prefix.to_owned()).filter(|_| !name.is_empty());
        let name = own.as_ref().map_or("gcc", |_| name);
        let prefixes = [
            hints.cross_compile.clone(),
            own,
            Some(CROSS_COMPILE.to_owned()),
        ];
        prefixes
            .into_iter()
            .flatten()
            .for_each(|prefix| add(Candidate::Gcc(prefix, name.to_owned())));
    }
    found
}

/// How kbuild calls a program of LLVM's for a value of LLVM=.
fn llvm_program(value: &str, tool: &str) -> String {
    if value.ends_with('/') {
        format!("{value}{tool}")
    } else if value.starts_with('-') {
        format!("{tool}{value}")
    } else {
        tool.to_owned()
    }
}

/// The first line of what a program says of its version.
fn run(program: &str) -> std::io::Result<String> {
    let output = Command::new(program)
        .arg("--version")
        .env("LC_ALL", "C")
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// Programs of those names, each of which says a version, for LLVM=/that/folder/.
    fn programs(names: &[&str], version: &str) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs::write(&path, format!("#!/bin/sh\necho '{version}'\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let value = format!("{}/", folder.path().display());
        (folder, value)
    }

    #[test]
    fn llvm_s_value_is_understood_as_kbuild_does() {
        assert_eq!(llvm_program("1", "clang"), "clang");
        assert_eq!(llvm_program("-19", "ld.lld"), "ld.lld-19");
        assert_eq!(llvm_program("/opt/bin/", "clang"), "/opt/bin/clang");
        // With no slash at its end it is no folder.
        assert_eq!(llvm_program("/opt/bin", "clang"), "clang");
    }

    #[test]
    fn a_program_that_is_missing_is_named_with_the_remedy() {
        let (_folder, value) = programs(LLVM_TOOLS, "clang version 19.1.7");
        let found = Toolchain::llvm(&value).unwrap();
        assert_eq!(found.version(), "clang version 19.1.7");
        assert_eq!(found.arguments()[1], format!("LLVM={value}"));
        let (_folder, value) = programs(&["clang"], "clang version 19.1.7");
        let error = Toolchain::llvm(&value).unwrap_err().to_string();
        assert!(
            error.contains(&format!("{value}ld.lld cannot be run")),
            "{error}"
        );
        let error = Toolchain::llvm("-987").unwrap_err().to_string();
        assert!(error.contains("clang-987 cannot be run"), "{error}");
        assert!(
            error.contains("install clang-987 lld-987 llvm-987"),
            "{error}"
        );
    }

    #[test]
    fn a_kernel_s_compiler_is_known_by_its_configuration() {
        let (_folder, value) = programs(LLVM_TOOLS, "Own clang version 19.1.7 (x)");
        let hints = Hints {
            llvm: Some(value.clone()),
            cross_compile: None,
        };
        let config =
            "CONFIG_CC_VERSION_TEXT=\"Own clang version 19.1.7 (x)\"\nCONFIG_CC_IS_CLANG=y\n";
        let found = Toolchain::of_config(config, &hints).unwrap();
        assert_eq!(found.llvm_value(), Some(value.as_str()));
        let other = config.replace("(x)", "(y)");
        let error = Toolchain::of_config(&other, &hints)
            .unwrap_err()
            .to_string();
        assert!(error.contains("clang version 19.1.7 (y)"), "{error}");
        assert!(
            error.contains(&format!("{value}clang, clang-19, clang")),
            "{error}"
        );
    }

    #[test]
    fn a_gcc_of_another_name_is_found_by_it() {
        let (_folder, value) = programs(&["own-gcc"], "own-gcc (Own) 14.2.0");
        let hints = Hints {
            cross_compile: Some(format!("{value}own-")),
            llvm: Some("1".to_owned()),
        };
        let config = "CONFIG_CC_VERSION_TEXT=\"own-gcc (Own) 14.2.0\"\nCONFIG_CC_IS_GCC=y\n";
        let found = Toolchain::of_config(config, &hints).unwrap();
        assert_eq!(found.arguments(), [format!("CROSS_COMPILE={value}own-")]);
        let looked = candidates(
            "riscv64-unknown-linux-gnu-gcc (x) 1",
            false,
            &Hints::default(),
        );
        let gcc = |prefix: &str, name: &str| Candidate::Gcc(prefix.to_owned(), name.to_owned());
        let unknown = "riscv64-unknown-linux-gnu-";
        assert_eq!(looked, [gcc(unknown, "gcc"), gcc(CROSS_COMPILE, "gcc")]);
        let looked = candidates(
            "riscv64-linux-gnu-gcc-14 (x) 14.2.0",
            false,
            &Hints::default(),
        );
        assert_eq!(looked, [gcc(CROSS_COMPILE, "gcc-14")]);
        let looked = candidates("cc (x) 14.2.0", false, &Hints::default());
        assert_eq!(looked, [gcc(CROSS_COMPILE, "gcc")]);
        let numbered = gcc("own-", "gcc-14").toolchain(String::new());
        assert_eq!(
            numbered.arguments(),
            ["CROSS_COMPILE=own-", "CC=own-gcc-14"]
        );
    }
}
