// SPDX-License-Identifier: GPL-2.0-only
//! Provisions kernels. `vm/provision` runs this once the host's packages are
//! there.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use tlbdiff_vm::provision::Wishes;
use tlbdiff_vm::{EVERY, KernelChoice, VmError, doctor, in_order, kernels, locate, provision};

/// Builds all that is needed to run scenarios on a kernel: its image, the tracing module, the
/// guest's agent. What is built already is not built again.
#[derive(Debug, Parser)]
#[command(name = "provision", override_usage = USAGE, after_help = CACHE)]
struct Arguments {
    /// A kernel of vm/kernels.toml by its name or its series, or `all`; without any: `stable`.
    /// A variant's base is provisioned before it
    kernel: Vec<String>,
    /// Your own kernel source, riscv, 6.12 or later; it is built outside of DIR, and run again
    /// after every edit. With LLVM=1, LLVM=-19 or LLVM=/path/to/bin/ in the environment it is
    /// built with clang, as kbuild has it
    #[arg(long, value_name = "DIR")]
    kernel_tree: Vec<PathBuf>,
    /// Lay this fragment (as vm/kernels/debug.config) over the configuration of trees; may be
    /// given several times. FILE is part of what is built until it is provisioned without it
    #[arg(long, value_name = "FILE", requires = "kernel_tree")]
    config: Vec<PathBuf>,
    /// A kernel that you configured and built, with its modules: its arch/riscv/boot/Image.
    /// Nothing is built but the tracing module, with the compiler that built it (LLVM or
    /// CROSS_COMPILE say where, if need be). Run again after each build
    #[arg(long, value_name = "FILE", requires = "kernel_build")]
    kernel_image: Vec<PathBuf>,
    /// The directory that it was built in; nothing is written there
    #[arg(long, value_name = "DIR", requires = "kernel_image")]
    kernel_build: Vec<PathBuf>,
    /// Also make the disk for `tlbdiff observe --programs` and `--suite`: everyday programs, and
    /// the mm selftests of `stable`, which is provisioned as well
    #[arg(long)]
    programs: bool,
    /// Look for newer versions of Debian's packages
    #[arg(long)]
    update: bool,
    /// Say what is missing on this machine, change nothing
    #[arg(long)]
    check: bool,
    /// List the kernels, each with its state
    #[arg(long)]
    list: bool,
}

const USAGE: &str = "./vm/provision [KERNEL]... [--kernel-tree DIR] [--config FILE]
       ./vm/provision --kernel-image FILE --kernel-build DIR";

const CACHE: &str = "Everything goes to ${TLBDIFF_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tlbdiff}.";

impl Arguments {
    /// All kernels that are asked for.
    fn kernels(&self) -> Vec<KernelChoice> {
        if self.kernel_image.len() != self.kernel_build.len() {
            let message = "each --kernel-image wants its --kernel-build";
            Arguments::command()
                .error(ErrorKind::WrongNumberOfValues, message)
                .exit();
        }
        let named = self.kernel.iter().cloned().map(KernelChoice::Named);
        let trees = self.kernel_tree.iter().cloned().map(KernelChoice::Tree);
        let images = self
            .kernel_image
            .iter()
            .cloned()
            .zip(self.kernel_build.iter().cloned());
        let images = images.map(|(image, build)| KernelChoice::Image { image, build });
        let mut all: Vec<KernelChoice> = named.chain(trees).chain(images).collect();
        let stable = KernelChoice::Named("stable".to_owned());
        let every = KernelChoice::Named(EVERY.to_owned());
        let wanted = all.is_empty() || self.programs && !all.contains(&every);
        if wanted && !all.contains(&stable) {
            all.push(stable);
        }
        all
    }
}

/// Bad command line.
const INVALID: u8 = 2;
/// Something is missing or broke; no kernel was made.
const COULD_NOT: u8 = 69;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match (arguments.check, arguments.list) {
        (true, _) => return check(),
        (false, true) => list().map(|()| ExitCode::SUCCESS),
        (false, false) => provision_all(&arguments),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("provision: {error}");
            ExitCode::from(exit_code(&error))
        }
    }
}

/// One kernel that fails does not keep the others from being made. Where all are asked for,
/// one whose source Debian has no more is no failure.
fn provision_all(arguments: &Arguments) -> Result<ExitCode, VmError> {
    let asked = arguments.kernels();
    let wishes = Wishes {
        update: arguments.update,
        config: arguments.config.clone(),
        ..Wishes::of_environment()
    };
    let kernels = in_order(&asked)?;
    let everything = asked.contains(&KernelChoice::Named(EVERY.to_owned()));
    let mut failed = Vec::new();
    let mut code = ExitCode::SUCCESS;
    for kernel in &kernels {
        if let Err(error) = provision::provision(kernel, &wishes) {
            eprintln!("provision: {error}");
            if everything && matches!(error, VmError::SourceGone { .. }) {
                continue;
            }
            failed.push(kernel.to_string());
            code = ExitCode::from(exit_code(&error));
        }
    }
    if arguments.programs {
        provision::programs(arguments.update)?;
    }
    if kernels.len() > 1 && !failed.is_empty() {
        let (not_made, all) = (failed.len(), kernels.len());
        let names = failed.join(", ");
        eprintln!("provision: {not_made} of {all} kernels were not made: {names}");
    }
    Ok(code)
}

fn exit_code(error: &VmError) -> u8 {
    match error {
        VmError::Kernels { .. }
        | VmError::UnknownKernel { .. }
        | VmError::BadTree { .. }
        | VmError::Edit { .. }
        | VmError::EditUnused { .. } => INVALID,
        _ => COULD_NOT,
    }
}

fn list() -> Result<(), VmError> {
    for kernel in kernels()? {
        let series = kernel.series.filter(|_| kernel.base.is_none());
        let from = match (kernel.base, series) {
            (Some(base), _) => format!(" from {base}"),
            (None, Some(series)) if series != kernel.name => format!(" or {series}"),
            _ => String::new(),
        };
        println!("{}{from}: {}", kernel.name, kernel.about);
        println!("  {}", state(kernel.name));
    }
    Ok(())
}

/// How a kernel of that name is.
fn state(name: String) -> String {
    match locate(&KernelChoice::Named(name)) {
        Ok(artifacts) => {
            let edits = artifacts
                .edits
                .iter()
                .map(|edit| format!("\n  edited: {edit}"));
            let on = artifacts.board.to_string();
            let on = if on.is_empty() {
                on
            } else {
                format!("\n  run on: {on}")
            };
            format!(
                "Linux {} is up to date; model profile {}{}{on}",
                artifacts.release,
                artifacts.profile.unwrap_or_default(),
                edits.collect::<String>()
            )
        }
        Err(VmError::NotProvisioned { why, remedy, .. }) => format!("{why}: {remedy}"),
        Err(error) => error.to_string(),
    }
}

fn check() -> ExitCode {
    let findings = doctor::doctor();
    for finding in &findings {
        println!("{finding}");
    }
    if findings.iter().all(|finding| finding.ok) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(COULD_NOT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        let words = line.split_whitespace();
        Arguments::try_parse_from(std::iter::once("provision").chain(words))
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn without_a_name_it_is_the_stable_kernel() {
        let arguments = parse("--update").unwrap();
        let stable = KernelChoice::Named("stable".to_owned());
        assert_eq!(arguments.kernels(), [stable]);
        assert!(arguments.update);
    }

    #[test]
    fn all_that_is_asked_for_is_made() {
        let line = "stable --kernel-tree /a --kernel-tree=/b --kernel-image /i --kernel-build /c";
        let tree = |path: &str| KernelChoice::Tree(PathBuf::from(path));
        let stable = KernelChoice::Named("stable".to_owned());
        let image = KernelChoice::Image {
            image: "/i".into(),
            build: "/c".into(),
        };
        let kernels = parse(line).unwrap().kernels();
        assert_eq!(kernels, [stable, tree("/a"), tree("/b"), image]);
    }

    #[test]
    fn with_programs_comes_the_kernel_whose_tests_they_are() {
        let kernels = |line| {
            let kernels = parse(line).unwrap().kernels();
            kernels.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(kernels("--programs"), ["stable"]);
        assert_eq!(kernels("--programs next"), ["next", "stable"]);
        assert_eq!(kernels("--programs stable next"), ["stable", "next"]);
        assert_eq!(kernels("--programs all"), ["all"]);
    }

    #[test]
    fn images_go_with_build_directories_and_fragments_with_trees() {
        for bad in [
            "--kernel-image /i",
            "--kernel-build /b",
            "--config /x",
            "stable --config /x",
        ] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::MissingRequiredArgument, "{bad}");
        }
        let arguments = parse("--kernel-tree /a --config /x --config=/y").unwrap();
        assert_eq!(arguments.config, [PathBuf::from("/x"), "/y".into()]);
        assert!(
            parse("--updat")
                .unwrap_err()
                .to_string()
                .contains("--update")
        );
    }
}
