// SPDX-License-Identifier: GPL-2.0-only
//! Provisions kernels. `vm/provision` runs this once the host's packages are
//! there.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use tlbdiff_vm::provision::Wishes;
use tlbdiff_vm::{EVERY, KernelChoice, VmError, doctor, in_order, kernels, locate, provision};

const USAGE: &str = "\
usage: ./vm/provision [KERNEL...] [--kernel-tree DIR] [--config FILE]
                      [--kernel-image FILE --kernel-build DIR]
                      [--update] [--check] [--list]

Builds all that is needed to run scenarios on a kernel: its image, the tracing
module, the guest's agent. What is built already is not built again.

  KERNEL             a kernel of vm/kernels.toml by its name or its series, or
                     `all`; without any: `stable`. A variant's base is
                     provisioned before it
  --kernel-tree DIR  your own kernel source, riscv, 6.12 or later; it is built
                     outside of DIR, and run again after every edit. With LLVM=1,
                     LLVM=-19 or LLVM=/path/to/bin/ in the environment it is built
                     with clang, as kbuild has it
  --config FILE      lay this fragment (as vm/kernels/debug.config) over the
                     configuration of trees; may be given several times. FILE is
                     part of what is built until it is provisioned without it
  --kernel-image FILE --kernel-build DIR
                     a kernel that you configured and built, with its modules: its
                     arch/riscv/boot/Image, and the directory that it was built
                     in. Nothing is built but the tracing module, with the compiler
                     that built DIR (LLVM or CROSS_COMPILE say where, if need be);
                     nothing is written to DIR. Run again after each build
  --update           look for newer versions of Debian's packages
  --check            tell what is missing on this machine, change nothing
  --list             list the kernels, each with its state

Everything goes to ${TLBDIFF_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tlbdiff}.
";

/// Bad command line.
const INVALID: u8 = 2;
/// Something is missing or broke; no kernel was made.
const COULD_NOT: u8 = 69;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args_os().skip(1)) {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("provision: {why}\n\n{USAGE}");
            return ExitCode::from(INVALID);
        }
    };
    let done = match arguments.task {
        Task::Help => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        Task::Check => return check(),
        Task::List => list().map(|()| ExitCode::SUCCESS),
        Task::Provision => provision_all(&arguments),
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
    let kernels = in_order(&arguments.kernels)?;
    let everything = arguments
        .kernels
        .contains(&KernelChoice::Named(EVERY.to_owned()));
    let mut failed = Vec::new();
    let mut code = ExitCode::SUCCESS;
    for kernel in &kernels {
        if let Err(error) = provision::provision(kernel, &arguments.wishes) {
            eprintln!("provision: {error}");
            if everything && matches!(error, VmError::SourceGone { .. }) {
                continue;
            }
            failed.push(kernel.to_string());
            code = ExitCode::from(exit_code(&error));
        }
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

#[derive(Debug, PartialEq)]
enum Task {
    Provision,
    Check,
    List,
    Help,
}

#[derive(Debug)]
struct Arguments {
    task: Task,
    kernels: Vec<KernelChoice>,
    wishes: Wishes,
}

impl Arguments {
    fn parse(given: impl Iterator<Item = OsString>) -> Result<Arguments, String> {
        let mut parsed = Arguments {
            task: Task::Provision,
            kernels: Vec::new(),
            wishes: Wishes::of_environment(),
        };
        // An image whose build directory has not been named yet.
        let mut image = None;
        let mut given = given.flat_map(split);
        while let Some(argument) = given.next() {
            let mut path = |what: &str| {
                let path = given.next().map(PathBuf::from);
                path.ok_or(format!("{} wants {what}", argument.to_string_lossy()))
            };
            match argument.to_str() {
                Some("--kernel-tree") => {
                    let tree = path("a folder")?;
                    parsed.kernels.push(KernelChoice::Tree(tree));
                }
                Some("--kernel-image") => {
                    if image.replace(path("a file")?).is_some() {
                        return Err(NO_BUILD.to_owned());
                    }
                }
                Some("--kernel-build") => {
                    let build = path("a folder")?;
                    let image = image
                        .take()
                        .ok_or("--kernel-build wants --kernel-image before it")?;
                    parsed.kernels.push(KernelChoice::Image { image, build });
                }
                Some("--config") => parsed.wishes.config.push(path("a file")?),
                Some("--update") => parsed.wishes.update = true,
                Some("--check") => parsed.task = Task::Check,
                Some("--list") => parsed.task = Task::List,
                Some("--help" | "-h") => parsed.task = Task::Help,
                Some(text) if !text.starts_with('-') => {
                    parsed.kernels.push(KernelChoice::Named(text.to_owned()));
                }
                _ => return Err(format!("unknown option {}", argument.to_string_lossy())),
            }
        }
        if image.is_some() {
            return Err(NO_BUILD.to_owned());
        }
        let is_tree = |kernel: &KernelChoice| matches!(kernel, KernelChoice::Tree(_));
        if !parsed.wishes.config.is_empty() && !parsed.kernels.iter().any(is_tree) {
            return Err("--config goes with --kernel-tree: what a kernel by name is configured with is in vm/kernels.toml".to_owned());
        }
        if parsed.kernels.is_empty() {
            parsed
                .kernels
                .push(KernelChoice::Named("stable".to_owned()));
        }
        Ok(parsed)
    }
}

const NO_BUILD: &str = "--kernel-image wants --kernel-build DIR after it";

/// The options that name a file or a folder.
const WITH_PATH: &[&str] = &[
    "--config",
    "--kernel-build",
    "--kernel-image",
    "--kernel-tree",
];

/// `--option=value` is `--option value`.
fn split(argument: OsString) -> Vec<OsString> {
    let parts = argument
        .to_str()
        .and_then(|text| text.split_once('='))
        .filter(|(option, _)| WITH_PATH.contains(option));
    match parts {
        Some((option, value)) => vec![option.into(), value.into()],
        None => vec![argument],
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

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(line.split_whitespace().map(Into::into))
    }

    #[test]
    fn without_a_name_it_is_the_stable_kernel() {
        let arguments = parse("--update").unwrap();
        assert_eq!(
            arguments.kernels,
            [KernelChoice::Named("stable".to_owned())]
        );
        assert!(arguments.wishes.update);
    }

    #[test]
    fn names_and_trees_are_taken_in_order() {
        let arguments = parse("stable --kernel-tree /a --kernel-tree=/b").unwrap();
        let tree = |path: &str| KernelChoice::Tree(PathBuf::from(path));
        let stable = KernelChoice::Named("stable".to_owned());
        assert_eq!(arguments.kernels, [stable, tree("/a"), tree("/b")]);
    }

    #[test]
    fn an_image_goes_with_the_build_directory_behind_it() {
        let line = "--kernel-image /i --kernel-build /b --kernel-image=/j --kernel-build=/c";
        let image = |image: &str, build: &str| KernelChoice::Image {
            image: image.into(),
            build: build.into(),
        };
        assert_eq!(
            parse(line).unwrap().kernels,
            [image("/i", "/b"), image("/j", "/c")]
        );
        for bad in [
            "--kernel-image /i",
            "--kernel-build /b",
            "--kernel-image /i --kernel-image /j --kernel-build /b",
        ] {
            assert!(parse(bad).unwrap_err().contains("wants --kernel-"), "{bad}");
        }
    }

    #[test]
    fn fragments_are_of_trees() {
        let arguments = parse("--kernel-tree /a --config /x --config=/y").unwrap();
        assert_eq!(arguments.wishes.config, [PathBuf::from("/x"), "/y".into()]);
        for bad in ["--config /x", "stable --config /x"] {
            assert!(parse(bad).unwrap_err().contains("goes with --kernel-tree"));
        }
        assert!(
            parse("--kernel-tree /a --config")
                .unwrap_err()
                .contains("wants a file")
        );
    }

    #[test]
    fn what_it_does_not_know_it_refuses() {
        assert!(parse("--updat").unwrap_err().contains("--updat"));
        assert!(
            parse("--kernel-tree")
                .unwrap_err()
                .contains("wants a folder")
        );
    }
}
