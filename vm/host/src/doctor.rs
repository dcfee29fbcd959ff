// SPDX-License-Identifier: GPL-2.0-only
//! What is missing on this machine, each with its remedy.

use std::fmt;
use std::path::Path;
use std::process::Command;

use crate::artifacts::locate;
use crate::cache::Cache;
use crate::error::VmError;
use crate::home::{home, installed_agent, provision_command};
use crate::kernels::{KernelChoice, kernels};

/// The host's packages that `vm/provision` installs, too.
const PACKAGES: &str = include_str!("../packages.txt");

/// The oldest QEMU that can save a guest so that restoring it is fast.
const QEMU: (u32, u32) = (9, 0);

/// Free space that a first provisioning needs, in GiB: source, build, states.
const SPACE_GIB: u64 = 4;

/// The kernel that is run on unless another is asked for.
const USUAL: &str = "stable";

/// What was looked at, and how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What was looked at, and what was found.
    pub what: String,
    /// It will do.
    pub ok: bool,
    /// What to do where it will not; empty where it will.
    pub remedy: String,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.ok { "ok     " } else { "MISSING" };
        write!(f, "{mark}  {}", self.what)?;
        if self.ok {
            Ok(())
        } else {
            write!(f, "\n         remedy: {}", self.remedy)
        }
    }
}

fn good(what: impl Into<String>) -> Condition {
    Condition {
        what: what.into(),
        ok: true,
        remedy: String::new(),
    }
}

fn bad(what: impl Into<String>, remedy: impl Into<String>) -> Condition {
    Condition {
        what: what.into(),
        ok: false,
        remedy: remedy.into(),
    }
}

/// Looks at all that provisioning and running need; on a RISC-V machine, at what running
/// there (`--backend local`) needs. Changes nothing.
pub fn doctor() -> Vec<Condition> {
    if std::env::consts::ARCH == "riscv64" {
        return board();
    }
    let mut findings = vec![files(), packages(), qemu(), compiler()];
    findings.push(cargo());
    match Cache::from_env() {
        Ok(cache) => findings.push(space(cache.root())),
        Err(error) => findings.push(bad("the cache", error.to_string())),
    }
    findings.extend(provisioned());
    findings
}

/// What a board needs to have for `--backend local`.
fn board() -> Vec<Condition> {
    let release = first_line(Command::new("uname").arg("-r")).unwrap_or_default();
    let headers = format!("/lib/modules/{release}/build/Makefile");
    let there = |path: &str, what: &str, remedy: &str| match Path::new(path).exists() {
        true => good(what),
        false => bad(format!("{what}: no {path}"), remedy),
    };
    let runs = |program: &str| match first_line(Command::new(program).arg("--version")) {
        Some(text) => good(text),
        None => bad(format!("{program}: not found"), "apt-get install gcc make"),
    };
    vec![
        files(),
        match nix::unistd::Uid::effective().is_root() {
            true => good("root"),
            false => bad("not root, who alone may load a module", "run it as root"),
        },
        there(
            &headers,
            &format!("headers of Linux {release}"),
            "apt-get install linux-headers-$(uname -r)",
        ),
        runs("make"),
        runs(COMPILER),
        agent(),
        there(
            "/sys/fs/cgroup/cgroup.controllers",
            "cgroups of the second version",
            "boot with systemd.unified_cgroup_hierarchy=1, or mount cgroup2 there",
        ),
        match Path::new(crate::boards::NOTES).exists() {
            true => bad(
                format!("an earlier run was cut off: {}", crate::boards::NOTES),
                "tlbdiff doctor --restore",
            ),
            false => good("nothing left behind by an earlier run"),
        },
    ]
}

/// What kernels, module and agent are made from.
fn files() -> Condition {
    match home() {
        Ok(home) => good(format!("files: {}", home.display())),
        Err(error) => bad("files", error.to_string()),
    }
}

/// The agent where it was installed, else what builds it.
fn agent() -> Condition {
    match home().ok().and_then(|home| installed_agent(&home)) {
        Some(agent) => good(format!("agent: {}", agent.display())),
        None => cargo(),
    }
}

/// The compiler for module and agent; on a RISC-V Debian it is the machine's own.
const COMPILER: &str = "riscv64-linux-gnu-gcc";

/// The packages that the host should have.
fn wanted_packages() -> impl Iterator<Item = &'static str> {
    PACKAGES
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn packages() -> Condition {
    let wanted: Vec<&str> = wanted_packages().collect();
    let query = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${db:Status-Status} ${Package}\n"])
        .args(&wanted)
        .output();
    let Ok(query) = query else {
        return bad(
            "host packages: no dpkg-query, so this is not Debian",
            format!(
                "install what your distribution calls these: {}",
                wanted.join(" ")
            ),
        );
    };
    let installed = String::from_utf8_lossy(&query.stdout).into_owned();
    let missing: Vec<&str> = wanted
        .into_iter()
        .filter(|name| {
            !installed
                .lines()
                .any(|line| line == format!("installed {name}"))
        })
        .collect();
    if missing.is_empty() {
        return good("host packages");
    }
    bad(format!("host packages: {}", missing.join(" ")), as_root())
}

/// What installs the host's packages.
fn as_root() -> String {
    let home = home().unwrap_or_default();
    format!("{} as root", provision_command(&home))
}

fn qemu() -> Condition {
    let name = "qemu-system-riscv64";
    let need = format!("{}.{} or later", QEMU.0, QEMU.1);
    let remedy = as_root();
    let Some(text) = first_line(Command::new(name).arg("--version")) else {
        return bad(format!("{name}: not found ({need} is needed)"), remedy);
    };
    match version(&text) {
        Some(version) if version >= QEMU => good(format!("{name}: {text}")),
        _ => bad(format!("{name}: {text} ({need} is needed)"), remedy),
    }
}

fn compiler() -> Condition {
    match first_line(Command::new(COMPILER).arg("--version")) {
        Some(text) => good(text),
        None => bad(format!("{COMPILER}: not found"), as_root()),
    }
}

fn cargo() -> Condition {
    match first_line(Command::new("cargo").arg("--version")) {
        Some(text) => good(text),
        None => bad("cargo: not found", "install Rust: https://rustup.rs"),
    }
}

/// The first digits-dot-digits of a text.
fn version(text: &str) -> Option<(u32, u32)> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.')
        .find_map(|word| {
            let (major, rest) = word.split_once('.')?;
            let minor = rest.split('.').next()?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        })
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command.env("LC_ALL", "C").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output
        .status
        .success()
        .then(|| text.lines().next().unwrap_or_default().to_owned())
}

fn space(cache: &Path) -> Condition {
    let existing = cache
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    let what = format!("cache: {}", cache.display());
    match nix::sys::statvfs::statvfs(existing) {
        Ok(stat) => {
            let gib = stat.blocks_available() * stat.fragment_size() / (1 << 30);
            let what = format!("{what} ({gib} GiB free)");
            if gib >= SPACE_GIB || cache.join("current").exists() {
                return good(what);
            }
            let remedy = format!("free {SPACE_GIB} GiB there, or set TLBDIFF_CACHE");
            bad(what, remedy)
        }
        Err(error) => bad(format!("{what}: {error}"), "set TLBDIFF_CACHE"),
    }
}

fn provisioned() -> Vec<Condition> {
    let kernels = match kernels() {
        Ok(kernels) => kernels,
        Err(error) => return vec![bad("vm/kernels.toml", error.to_string())],
    };
    let look = |name: String| match locate(&KernelChoice::Named(name.clone())) {
        Ok(artifacts) => good(format!("kernel {name}: Linux {}", artifacts.release)),
        // The usual kernel is all that is needed; others are there to be asked for.
        Err(VmError::NotProvisioned { why, remedy, .. }) if name != USUAL => {
            good(format!("kernel {name}: {why} ({remedy})"))
        }
        Err(VmError::NotProvisioned { why, remedy, .. }) => {
            bad(format!("kernel {name}: {why}"), remedy)
        }
        Err(error) => bad(format!("kernel {name}"), error.to_string()),
    };
    kernels
        .into_iter()
        .map(|kernel| look(kernel.name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_what_a_program_says_of_itself() {
        assert_eq!(
            version("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds)"),
            Some((10, 0))
        );
        assert_eq!(version("QEMU emulator version 7.2.17"), Some((7, 2)));
        assert_eq!(version("no version"), None);
        assert!((10, 0) >= QEMU && (7, 2) < QEMU);
    }

    #[test]
    fn the_list_of_packages_is_names_alone() {
        let names: Vec<&str> = wanted_packages().collect();
        assert!(names.contains(&"gcc-riscv64-linux-gnu"));
        assert!(names.iter().all(|name| !name.contains(char::is_whitespace)));
    }

    #[test]
    fn what_is_missing_comes_with_its_remedy() {
        let text = bad("qemu", "install it").to_string();
        assert!(
            text.contains("MISSING") && text.contains("remedy: install it"),
            "{text}"
        );
        assert!(!good("qemu").to_string().contains("remedy"));
    }

    #[test]
    fn every_finding_that_is_not_ok_has_a_remedy() {
        for finding in doctor().into_iter().chain(board()) {
            assert_eq!(finding.ok, finding.remedy.is_empty(), "{finding}");
        }
    }
}
