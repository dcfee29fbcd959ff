// SPDX-License-Identifier: GPL-2.0-only
//! What can be wrong with a board, and go wrong on one, through the binary and a program
//! in ssh's place: each has its own words, outcome and exit code, and takes a bounded time.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SCENARIO: &str = "about: x\nsteps:\n  - mmap: { at: 0, pages: 16 }\n  \
                        - touch: { at: 0, pages: 16, access: write }\n  - munmap: { at: 4, pages: 2 }\n";

/// In ssh's place. What it is asked to run is its last argument.
const SSH: &str = r#"#!/bin/sh
for script; do :; done
gone() { echo "ssh: connect to host board port 22: $1" >&2; exit 255; }
case "$*" in *root@gone*) gone 'No route to host' ;; esac
case "$FAULT" in
unreachable) gone 'Connection refused' ;;
unlike) exec sh -c "$script" ;;
panicked) [ -e "$STATE/panicked" ] && gone 'Connection timed out' ;;
esac
case "$script" in
uname*)
	uid=0 boot=1
	[ "$FAULT" = user ] && uid=1000
	[ -e "$STATE/rebooted" ] && boot=2
	printf '%s\n' Linux riscv64 6.12.107-fake '#1 SMP' someone $uid $boot ;;
mktemp*) echo "$STATE/folder" ;;
'cat >'*)
	[ "$FAULT" = full ] && { echo 'cat: write error: No space left on device' >&2; exit 1; }
	cat >/dev/null ;;
'test -e'*) [ "$FAULT" = headers ] || echo there ;;
make*)
	[ "$FAULT" = compiler ] && { echo 'make: gcc: No such file or directory'; exit 2; }
	[ "$FAULT" = full-later ] && { echo 'as: No space left on device'; exit 2; }
	: ;;
cat*) echo module ;;
exec*)
	case "$FAULT" in
	refused) echo 'tlbdiff-agent: the kernel refused tlbdiff.ko' >&2; exit 1 ;;
	chatty) echo 'Last login: yesterday from far away, and some more of that' ;;
	rebooted) touch "$STATE/rebooted" ;;
	esac
	exec "$AGENT" "$FAULT" ;;
esac
"#;

/// What takes longer waits for ever. The longest, 31 s of an agent's silence twice on a
/// machine that is busy with the other tests, takes a fifth of it.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs scenarios (or other arguments) on a board with that fault: the exit code, and what is said.
fn run(fault: &str, scenarios: &[&str]) -> (Option<i32>, String) {
    let folder = TempDir::new().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    for name in ["a.yaml", "b.yaml"] {
        fs::write(folder.path().join(name), SCENARIO).expect("a file");
    }
    fs::create_dir(path("bin")).expect("a folder");
    fs::write(path("bin/ssh"), SSH).expect("a file");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(path("bin/ssh"), executable).expect("a program");
    link_cache(&path("cache"));
    let agent = agent();
    let begin = Instant::now();
    let search = format!(
        "{}:{}",
        path("bin").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let output = Command::new(env!("CARGO_BIN_EXE_tlbdiff"))
        .args(["--backend", "ssh:root@board:2222", "--timeout", "1"])
        .args(scenarios)
        .current_dir(folder.path())
        .env("PATH", search)
        .env("FAULT", fault)
        .env("STATE", folder.path())
        .env("AGENT", agent)
        .env("TLBDIFF_CACHE", path("cache"))
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .expect("tlbdiff runs");
    assert!(begin.elapsed() < LIMIT, "{fault}: {:?}", begin.elapsed());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    (output.status.code(), said)
}

/// All that was provisioned, but no module for the board.
fn link_cache(cache: &Path) {
    let home = std::env::var("HOME").unwrap_or_default();
    let real = std::env::var("TLBDIFF_CACHE").map(PathBuf::from);
    let real = real.unwrap_or_else(|_| match std::env::var("XDG_CACHE_HOME") {
        Ok(xdg) => Path::new(&xdg).join("tlbdiff"),
        Err(_) => Path::new(&home).join(".cache/tlbdiff"),
    });
    fs::create_dir(cache).expect("a folder");
    for entry in fs::read_dir(real).expect("provisioned kernels").flatten() {
        if entry.file_name() != "board-modules" {
            symlink(entry.path(), cache.join(entry.file_name())).expect("a link");
        }
    }
}

/// Cargo builds examples before tests, unless it was told which test to run.
fn agent() -> PathBuf {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "--package", "tlbdiff"])
            .args(["--example", "fake_agent"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.expect("cargo runs").success());
    });
    let tlbdiff = Path::new(env!("CARGO_BIN_EXE_tlbdiff"));
    tlbdiff.with_file_name("examples").join("fake_agent")
}

#[track_caller]
fn expect(fault: &str, code: i32, words: &[&str]) {
    expect_of(&["a.yaml", "b.yaml"], fault, code, words);
}

#[track_caller]
fn expect_of(scenarios: &[&str], fault: &str, code: i32, words: &[&str]) {
    let (exit, said) = run(fault, scenarios);
    assert_eq!(exit, Some(code), "{fault}: {said}");
    for word in words {
        assert!(said.contains(word), "{fault}: no `{word}` in {said}");
    }
}

#[test]
fn a_board_that_cannot_be_used_is_told_as_what_it_is() {
    let reached = "Connection refused";
    expect(
        "unreachable",
        69,
        &["ssh:root@board:2222", reached, "by hand"],
    );
    let other = format!(
        "this is not RISC-V Linux but Linux on {}",
        std::env::consts::ARCH
    );
    expect("unlike", 69, &[&other]);
    expect(
        "user",
        69,
        &["someone may not load a module", "ssh:root@HOST"],
    );
    expect(
        "headers",
        69,
        &["no headers", "6.12.107-fake", "linux-headers-"],
    );
    expect("full", 69, &["No space left on device", "make room"]);
    expect("full-later", 69, &["no room on the board", "make room"]);
    expect("compiler", 69, &["does not build", "gcc: No such file"]);
    expect("refused", 69, &["the kernel refused tlbdiff.ko"]);
    expect("chatty", 69, &["makes no sense"]);
    expect("old", 69, &["protocol version"]);
}

#[test]
fn what_befalls_a_board_in_a_run_is_told_and_the_run_goes_on() {
    let (a, b) = ("could not run    a.yaml", "could not run    b.yaml");
    let there = "the board is there";
    expect(
        "dropped",
        69,
        &[a, b, "connection to the board was lost", there],
    );
    expect("refusing", 69, &[a, b, "cannot reset zram"]);
    let (a, b) = ("kernel crashed   a.yaml", "kernel crashed   b.yaml");
    expect(
        "stuck",
        1,
        &[a, b, "the kernel hangs: step 1", "unmap_page_range"],
    );
    expect("tainted", 1, &[a, b, "tainted itself: 0x200"]);
    expect("rebooted", 1, &[a, "the board rebooted", "serial console"]);
}

#[test]
fn the_run_goes_on_without_a_board_that_is_not_there() {
    let scenarios = ["--backend", "ssh:root@gone", "a.yaml", "b.yaml"];
    let (a, b) = ("kernel crashed   a.yaml", "kernel crashed   b.yaml");
    let gone = "ssh:root@gone cannot be reached";
    expect_of(&scenarios, "tainted", 1, &[a, b, gone, "No route to host"]);
}

#[test]
fn an_agent_that_falls_silent_is_not_waited_for_for_ever() {
    let silent = "the agent on the board is silent: waited 31s";
    expect_of(
        &["a.yaml"],
        "silent",
        69,
        &["could not run    a.yaml", silent],
    );
}
