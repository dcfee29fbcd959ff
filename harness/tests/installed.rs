// SPDX-License-Identifier: GPL-2.0-only
//! The program away from its checkout, and what is installed with it.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn tlbdiff(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir("/")
        .env_remove("TLBDIFF_HOME");
    command
}

fn own() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tlbdiff"))
}

fn said(output: &Output) -> String {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(said).expect("text")
}

/// A checkout, as far as doctor looks.
fn home(folder: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for folders in ["vm/module", "vm/kernels"] {
        fs::create_dir_all(folder.join(folders)).expect("a folder");
    }
    for file in ["vm/kernels.toml", "vm/module/Kbuild"] {
        fs::copy(root.join(file), folder.join(file)).expect("a copy");
    }
}

#[test]
fn from_any_folder_it_finds_its_files() {
    let output = tlbdiff(own(), &["doctor"]).output().expect("tlbdiff runs");
    let said = said(&output);
    assert!(said.contains("ok       files: "), "{said}");
}

#[test]
fn what_is_installed_beside_it_is_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("bin/tlbdiff");
    fs::create_dir(folder.path().join("bin")).expect("a folder");
    fs::copy(own(), &program).expect("a copy");
    home(&folder.path().join("share/tlbdiff"));
    let output = tlbdiff(&program, &["doctor"]).output().expect("it runs");
    let said = said(&output);
    let files = folder.path().join("share/tlbdiff");
    assert!(
        said.contains(&format!("files: {}", files.display())),
        "{said}"
    );
}

#[test]
fn without_its_files_it_says_where_it_looked_and_what_to_do() {
    for arguments in [
        &["provision", "--list"][..],
        &["doctor"],
        &["compare", "--kernels", "stable,next"],
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let scenario =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/munmap/middle.yaml");
        let mut command = tlbdiff(own(), arguments);
        if arguments[0] == "compare" {
            command.arg(scenario);
        }
        let output = command
            .env("TLBDIFF_HOME", folder.path())
            .output()
            .expect("tlbdiff runs");
        let said = said(&output);
        assert_eq!(output.status.code(), Some(69), "{arguments:?}: {said}");
        let looked = format!("no vm/kernels.toml in {}", folder.path().display());
        assert!(said.contains(&looked), "{arguments:?}: {said}");
        assert!(said.contains("set TLBDIFF_HOME"), "{arguments:?}: {said}");
    }
}

#[test]
fn every_manual_page_is_formatted_without_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("man1");
    let written = tlbdiff(own(), &["man"]).arg(&dir).output();
    assert!(written.expect("tlbdiff runs").status.success());
    let pages: Vec<_> = fs::read_dir(&dir)
        .expect("pages")
        .map(|entry| entry.expect("a page").path())
        .collect();
    for command in ["", "-run", "-nightly", "-doctor", "-completions"] {
        assert!(pages.contains(&dir.join(format!("tlbdiff{command}.1"))));
    }
    for page in pages {
        let formatted = Command::new("man")
            .args(["--warnings", "--local-file", "--encoding=UTF-8"])
            .arg(&page)
            .env("LC_ALL", "C.UTF-8")
            .env("MANWIDTH", "80")
            .output()
            .expect("man-db");
        let warnings = String::from_utf8_lossy(&formatted.stderr);
        assert!(formatted.status.success(), "{}: {warnings}", page.display());
        assert_eq!(warnings, "", "{}", page.display());
        assert!(!formatted.stdout.is_empty(), "{}", page.display());
    }
}

#[test]
fn a_package_has_all_that_a_run_needs() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let made = Command::new(root.join("dist/deb"))
        .args(["--program", env!("CARGO_BIN_EXE_tlbdiff"), "--output"])
        .arg(folder.path())
        // A program with all its symbols takes long to compress.
        .env("DPKG_DEB_COMPRESSOR_TYPE", "none")
        .output()
        .expect("dist/deb runs");
    assert!(made.status.success(), "{}", said(&made));
    let package = fs::read_dir(folder.path()).expect("a folder").next();
    let package = package.expect("a package").expect("a package").path();
    let unpacked = folder.path().join("unpacked");
    let status = Command::new("dpkg-deb")
        .arg("-x")
        .args([&package, &unpacked])
        .status();
    assert!(status.expect("dpkg-deb runs").success());

    let output = tlbdiff(&unpacked.join("usr/bin/tlbdiff"), &["run", "--quiet"])
        .args(["--backend", "recorded"])
        .arg(unpacked.join("usr/share/tlbdiff/scenarios/munmap"))
        .output()
        .expect("it runs");
    let said = said(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let unit = unpacked.join("usr/lib/systemd/system/tlbdiff-nightly.service");
    let unit = fs::read_to_string(unit).expect("a unit");
    assert!(
        unit.contains("ExecStart=/usr/bin/tlbdiff nightly"),
        "{unit}"
    );
}

#[test]
fn pages_that_cannot_be_written_are_told() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let written = tlbdiff(own(), &["man"]).arg(file.path()).output();
    let written = written.expect("tlbdiff runs");
    assert_eq!(written.status.code(), Some(69));
    assert!(said(&written).contains(&file.path().display().to_string()));
}

#[test]
fn bash_takes_the_completions_and_knows_the_commands() {
    let script = tlbdiff(own(), &["completions", "bash"]).output();
    let script = script.expect("tlbdiff runs").stdout;
    assert!(accepted(&["-n"], &script).is_empty());
    let ask = b"\nCOMP_WORDS=(tlbdiff nig); COMP_CWORD=1; _tlbdiff tlbdiff nig tlbdiff; echo ${COMPREPLY[@]}\n";
    let all = [&script[..], ask].concat();
    assert_eq!(accepted(&[], &all), "nightly\n");
}

/// What bash prints of a script.
#[track_caller]
fn accepted(arguments: &[&str], script: &[u8]) -> String {
    let mut bash = Command::new("bash")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("bash");
    let mut stdin = bash.stdin.take().expect("a pipe");
    stdin.write_all(script).expect("bash reads");
    drop(stdin);
    let output = bash.wait_with_output().expect("bash ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn other_shells_have_theirs() {
    for shell in ["zsh", "fish"] {
        let output = tlbdiff(own(), &["completions", shell]).output();
        let output = output.expect("tlbdiff runs");
        assert!(output.status.success());
        assert!(said(&output).contains("nightly"), "{shell}");
    }
}
