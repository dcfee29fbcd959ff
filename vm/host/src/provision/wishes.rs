// SPDX-License-Identifier: GPL-2.0-only
//! What is asked for beside a kernel.

use std::path::PathBuf;

/// What is asked for beside a kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Newer packages are looked for.
    pub update: bool,
    /// The value of LLVM=, by which kbuild is told to use clang. A kernel by name is built
    /// with GCC all the same.
    pub llvm: Option<String>,
    /// The value of CROSS_COMPILE=, by which the compiler of an own image may be found.
    pub cross_compile: Option<String>,
    /// Fragments that are laid over the configuration of own trees; absolute paths.
    pub config: Vec<PathBuf>,
}

impl Wishes {
    /// What the environment says, as kbuild reads it.
    pub fn of_environment() -> Wishes {
        Wishes {
            llvm: variable("LLVM"),
            cross_compile: variable("CROSS_COMPILE"),
            ..Wishes::default()
        }
    }
}

/// A variable of the environment, where it says something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
