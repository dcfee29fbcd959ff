// SPDX-License-Identifier: GPL-2.0-only
//! Running the kernel's own build system.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::options::{Options, holds, wanted_lines};
use super::stage::{BUILD_LIMIT, Stage};
use super::toolchain::Toolchain;
use super::view;
use crate::error::VmError;

/// A source tree and the directory it is built in.
pub(super) struct Kbuild<'a> {
    /// Never written to.
    pub(super) source: &'a Path,
    /// For `O=`, where it is not the source itself.
    pub(super) build: PathBuf,
    /// What compiles it.
    pub(super) toolchain: Toolchain,
}

impl<'a> Kbuild<'a> {
    /// Of a view and the build directory in it.
    pub(super) fn of_view(view: &'a Path, toolchain: Toolchain) -> Kbuild<'a> {
        Kbuild {
            source: view,
            build: view.join(view::BUILD),
            toolchain,
        }
    }

    /// Makes targets; what is built does not depend on when, where or by whom.
    pub(super) fn make(&self, arguments: &[&str], stage: &mut Stage) -> Result<(), VmError> {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let mut make = Command::new("make");
        make.arg("-C")
            .arg(self.source)
            .arg(format!("-j{jobs}"))
            .args(self.output())
            .arg("ARCH=riscv")
            .args(self.toolchain.arguments())
            .args(arguments)
            .env("LC_ALL", "C")
            .env("KBUILD_BUILD_TIMESTAMP", "Thu Jan 1 00:00:00 UTC 1970")
            .env("KBUILD_BUILD_USER", "tlbdiff")
            .env("KBUILD_BUILD_HOST", "localhost")
            .env("KBUILD_BUILD_VERSION", "1");
        alone(&mut make);
        stage.run(&mut make, BUILD_LIMIT)
    }

    /// Where what is built goes.
    fn output(&self) -> Option<String> {
        (self.build != self.source).then(|| format!("O={}", self.build.display()))
    }

    /// Configures: `tinyconfig` with the fragments laid over it. What the source does not
    /// have of them and can go without is told.
    pub(super) fn configure(
        &self,
        fragments: &str,
        options: &Options,
        stage: &mut Stage,
    ) -> Result<(), VmError> {
        self.make(&["tinyconfig"], stage)?;
        let path = self.build.join(".config");
        let tiny = fs::read_to_string(&path).map_err(VmError::io("read", &path))?;
        // Of two lines for one option the last one counts.
        fs::write(&path, tiny + fragments).map_err(VmError::io("write", &path))?;
        self.make(&["olddefconfig"], stage)?;
        let config = fs::read_to_string(&path).map_err(VmError::io("read", &path))?;
        let lost = options.sort(&lost_lines(fragments, &config), &config);
        for missing in &lost.missing {
            stage.note(&format!("goes without {missing}"));
        }
        if lost.needed.is_empty() {
            return Ok(());
        }
        let needed = lost.needed_lines();
        Err(stage.fail(format!(
            "these lines of the configuration are needed, and have no effect on this source (an \
             unmet dependency, or an option that is gone or has another name; \
             vm/kernels/options.toml lists what can be gone without):{needed}"
        )))
    }

    /// What the kernel calls itself.
    pub(super) fn release(&self) -> Result<String, VmError> {
        release(&self.build)
    }

    /// The built image.
    pub(super) fn image(&self) -> PathBuf {
        image(&self.build)
    }
}

/// A make above this one would share its job slots and flags. Compilers are told by arguments,
/// or not at all.
pub(super) fn alone(make: &mut Command) {
    for name in [
        "MAKEFLAGS",
        "MAKELEVEL",
        "MFLAGS",
        "KBUILD_OUTPUT",
        "KCFLAGS",
        "LLVM",
        "LLVM_IAS",
    ] {
        make.env_remove(name);
    }
}

/// Where a build directory has its image.
pub(crate) fn image(build: &Path) -> PathBuf {
    build.join("arch/riscv/boot/Image")
}

/// Where a build directory says what its kernel calls itself.
pub(crate) const RELEASE: &str = "include/config/kernel.release";

/// What the kernel in a build directory calls itself.
pub(crate) fn release(build: &Path) -> Result<String, VmError> {
    let path = build.join(RELEASE);
    let text = fs::read_to_string(&path).map_err(VmError::io("read", &path))?;
    Ok(text.trim().to_owned())
}

/// The fragments' lines that a configuration does not fulfil.
fn lost_lines<'a>(fragments: &'a str, config: &str) -> Vec<&'a str> {
    let mut lines = wanted_lines(fragments);
    lines.retain(|line| !holds(line, config));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_effect_are_named() {
        let config = "CONFIG_SMP=y\nCONFIG_NR_CPUS=64\n# CONFIG_VT is not set\nCONFIG_FTRACE=y\n";
        let fragment = "# words\nCONFIG_SMP=y\nCONFIG_NR_CPUS=8\nCONFIG_VT=n\nCONFIG_FTRACE=n\nCONFIG_GONE=n\nCONFIG_KVM=y\n";
        assert_eq!(
            lost_lines(fragment, config),
            ["CONFIG_NR_CPUS=8", "CONFIG_FTRACE=n", "CONFIG_KVM=y"]
        );
    }

    #[test]
    fn a_later_fragment_has_the_last_word() {
        let fragments = "CONFIG_A=n\nCONFIG_B=y\nCONFIG_A=y\n";
        assert_eq!(lost_lines(fragments, "CONFIG_A=y\n"), ["CONFIG_B=y"]);
    }
}
