// SPDX-License-Identifier: GPL-2.0-only
//! The Rust cross compiler for the agent: the host's own where it has the
//! target's library, else Debian 13's, unpacked into the cache.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::apt::{Architectures, debian_architecture};
use super::context::Provision;
use super::stage::{BUILD_LIMIT, QUERY_LIMIT};
use crate::cache::Partial;
use crate::error::VmError;

/// What the agent is compiled for.
pub(super) const TARGET: &str = "riscv64gc-unknown-linux-gnu";

/// The Debian suite whose compiler is used where the host's cannot serve. The
/// agent's crate and those that it depends on keep to what it understands.
const SUITE: &str = "trixie";

/// What Debian's rustc loads.
const LIBRARIES: &[&str] = &[
    "libstd-rust-1.85",
    "libllvm19",
    "libz3-4",
    "libc6",
    "libstdc++6",
    "libgcc-s1",
    "zlib1g",
    "libzstd1",
    "libxml2",
    "liblzma5",
    "libffi8",
    "libedit2",
    "libtinfo6",
    "libbsd0",
    "libmd0",
];

/// A compiler that builds for the guest.
pub(super) struct Rustc {
    /// For keys.
    pub(super) id: String,
    /// For `RUSTC`.
    pub(super) path: PathBuf,
}

/// Finds the compiler, or fetches it.
pub(super) fn ensure(provision: &mut Provision) -> Result<Rustc, VmError> {
    if let Some(rustc) = of_the_host() {
        return Ok(rustc);
    }
    if !provision.update
        && let Some(rustc) = unpacked(provision)?
    {
        return Ok(rustc);
    }
    fetch(provision)
}

/// The host's compiler, if it has the target's standard library.
fn of_the_host() -> Option<Rustc> {
    let ask = |arguments: &[&str]| {
        let output = Command::new("rustc").args(arguments).output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let libraries = ask(&["--print", "target-libdir", "--target", TARGET])?;
    let is_std = |name: &str| name.starts_with("libstd-") && name.ends_with(".rlib");
    let has_std = fs::read_dir(libraries)
        .ok()?
        .flatten()
        .any(|entry| is_std(&entry.file_name().to_string_lossy()));
    has_std.then_some(())?;
    Some(Rustc {
        id: ask(&["-vV"])?,
        path: PathBuf::from("rustc"),
    })
}

/// The newest of those in the cache.
fn unpacked(provision: &Provision) -> Result<Option<Rustc>, VmError> {
    let newest = provision.cache.newest_first("rust")?.into_iter().next();
    Ok(newest.map(|name| of_debian(provision, &name)))
}

fn of_debian(provision: &Provision, name: &str) -> Rustc {
    Rustc {
        id: format!("debian {name}"),
        path: provision.cache.path("rust").join(name).join("rustc"),
    }
}

fn fetch(provision: &mut Provision) -> Result<Rustc, VmError> {
    let mut stage = provision.stage("rust")?;
    let native = debian_architecture();
    let apt = provision.apt(SUITE, Architectures::WithGuest, &mut stage)?;
    let version = apt.version(&format!("rustc:{native}"), &mut stage)?;
    let version = version.ok_or_else(|| stage.fail(format!("{SUITE} has no rustc")))?;
    let name = format!("rustc_{version}_{native}");
    if provision.cache.finished("rust", &name).is_some() {
        stage.done(&format!("Debian's rustc {version} is the newest"));
        return Ok(of_debian(provision, &name));
    }
    let partial = provision.cache.begin("rust", &name)?;
    stage.doing(format!("fetching Debian's rustc {version}, about 140 MB"));
    let mut packages: Vec<String> = LIBRARIES
        .iter()
        .map(|library| format!("{library}:{native}"))
        .collect();
    // The host's library too: build scripts and derive macros run here.
    packages.extend([
        format!("rustc:{native}"),
        format!("libstd-rust-dev:{native}"),
        "libstd-rust-dev:riscv64".to_owned(),
    ]);
    let debs = apt.download(&packages, partial.path(), &mut stage)?;
    stage.doing("unpacking");
    for deb in debs {
        stage.run(
            Command::new("dpkg-deb")
                .arg("-x")
                .arg(&deb)
                .arg(partial.path()),
            BUILD_LIMIT,
        )?;
        fs::remove_file(&deb).map_err(VmError::io("remove", &deb))?;
    }
    write_wrapper(&partial)?;
    let mut ask = Command::new(partial.path().join("rustc"));
    ask.args(["--print", "target-libdir", "--target", TARGET]);
    let library = stage.output(&mut ask, QUERY_LIMIT)?;
    if !Path::new(library.trim()).is_dir() {
        return Err(stage.fail("the unpacked compiler does not find its own library"));
    }
    partial.finish()?;
    stage.done(&format!("Debian's rustc {version}"));
    Ok(of_debian(provision, &name))
}

/// Runs the compiler by its own loader and libraries: the host's C library
/// may be older than the one it was built for.
fn write_wrapper(partial: &Partial) -> Result<(), VmError> {
    let (loader, libraries) = match debian_architecture() {
        "arm64" => ("lib/ld-linux-aarch64.so.1", "lib/aarch64-linux-gnu"),
        _ => ("lib64/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu"),
    };
    let text = format!(
        "#!/bin/sh\nusr=\"${{0%/*}}/usr\"\nexec \"$usr/{loader}\" --library-path \"$usr/{libraries}\" \
         --argv0 rustc \"$usr/bin/rustc\" --sysroot \"$usr\" \"$@\"\n"
    );
    let path = partial.path().join("rustc");
    fs::write(&path, text).map_err(VmError::io("write", &path))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        .map_err(VmError::io("make executable", &path))
}
