// SPDX-License-Identifier: GPL-2.0-only
//! QEMU's IOMMU as the secondary MMU: what it finds on right and on broken kernels, under each
//! policy, and where it is known to deviate. Provisions kernels, which takes some seconds each,
//! the first time.

mod common;

use common::root;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::{Command, Output};
use vm::KernelChoice;
use vm::provision::{Wishes, provision};

fn tlbdiff(options: &[&str], scenario: &str) -> Output {
    let path = root().join("scenarios").join(scenario);
    Command::new(env!("CARGO_BIN_EXE_tlbdiff"))
        .args(["run", "--secondary", "iommu"])
        .args(options)
        .arg(&path)
        .output()
        .expect("it can be started")
}

/// What it printed for people, and its exit code.
fn told(options: &[&str], scenario: &str) -> (String, i32) {
    let output = tlbdiff(options, scenario);
    let text = String::from_utf8(output.stdout).expect("text");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (text + &said, output.status.code().expect("it ended"))
}

fn lines(options: &[&str], scenario: &str) -> Vec<Value> {
    let options: Vec<&str> = ["--format", "json"]
        .iter()
        .chain(options)
        .copied()
        .collect();
    let output = tlbdiff(&options, scenario);
    let out = String::from_utf8(output.stdout).expect("text");
    let lines = out.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// The kinds of what the check `iommu` found, alone.
fn kinds(kernel: &str, scenario: &str) -> BTreeSet<String> {
    let lines = lines(&["--kernel", kernel, "--checks", "iommu"], scenario);
    let line = lines.iter().find(|line| line["type"] == "scenario");
    let line = line.unwrap_or_else(|| panic!("{kernel}: nothing was run"));
    let findings = line["findings"].as_array().into_iter().flatten();
    let blocks = findings.flat_map(|finding| finding["blocks"].as_array().into_iter().flatten());
    let reached = blocks.flat_map(|block| block["reached"].as_array().into_iter().flatten());
    reached
        .map(|one| one["kind"].as_str().expect("text").to_owned())
        .collect()
}

fn make(kernel: &str) {
    let choice = KernelChoice::Named(kernel.to_owned());
    provision(&choice, &Wishes::default()).unwrap_or_else(|error| panic!("{kernel}: {error}"));
}

const CORRUPTION: &str = "device/munmap-frames-go-to-another-process.yaml";

#[test]
fn a_device_corrupts_another_process_where_nothing_is_notified_and_only_there() {
    let (text, code) = told(&[], CORRUPTION);
    assert_eq!(code, 0, "{text}");
    make("prepatch");
    let unpatched = ["--kernel", "prepatch"];
    // The control: a kernel that notifies, and nobody who listens.
    let deaf = ["--policy", "none"];
    for options in [unpatched, deaf] {
        let (text, code) = told(&options, CORRUPTION);
        assert_eq!(code, 1, "{text}");
        for words in ["which is page", "of other by now", "saw 66 at page"] {
            assert!(text.contains(words), "no `{words}` in:\n{text}");
        }
    }
}

#[test]
fn it_finds_by_itself_what_broken_kernels_leave_to_devices() {
    for (kernel, scenario, expected) in [
        ("broken-empty-range", "munmap/across-1-gib", "stale"),
        ("broken-cow", "munmap/private-file-partly-copied", "stale"),
        ("broken-fork", "fork/across-page-tables", "right"),
        ("broken-mprotect", "munmap/area-split-by-rights", "right"),
        ("broken-lazyfree", "munmap/lazyfree-pages", "dirty"),
    ] {
        make(kernel);
        let scenario = format!("{scenario}.yaml");
        let found = kinds(kernel, &scenario);
        assert_eq!(found, BTreeSet::from([expected.to_owned()]), "{kernel}");
        assert_eq!(kinds("stable", &scenario), BTreeSet::new(), "{scenario}");
    }
}

/// Confirms the deviation of vm/iommu-deviations.toml: a command with an address drops one
/// piece of a huge page. Where a command is given for each page, all are dropped.
#[test]
fn pieces() {
    const HUGE: &str = "device/huge-unmapped-whole.yaml";
    let (text, code) = told(&["--policy", "exact"], HUGE);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("known: QEMU ") && text.contains("in pieces of 4 KiB"),
        "{text}"
    );
    assert!(text.contains("pages [513,1024) are mapped"), "{text}");
    let (text, code) = told(&[], HUGE);
    assert_eq!(code, 0, "{text}");
}

/// A right that came is not notified without Svvptc: the device's write is dropped, and nobody
/// is told.
#[test]
fn a_device_stays_stuck_as_the_findings_say() {
    const UPGRADE: &str = "device/fork-child-exits-then-upgrade.yaml";
    let (text, code) = told(&["--cpu", "no-svvptc"], UPGRADE);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("+ lost at page 0"), "{text}");
    assert!(text.contains("findings/upgrade-in-place.md"), "{text}");
    let (text, code) = told(&[], UPGRADE);
    assert_eq!(code, 0, "{text}");
    assert!(!text.contains("lost"), "{text}");
}

#[test]
fn results_say_which_secondary_mmu_there_was() {
    let lines = lines(&["--policy", "all"], "munmap/across-1-gib.yaml");
    assert_eq!(lines[0]["secondary"], "iommu all");
    assert_eq!(lines[1]["outcome"], "agree");
    let checks = lines[1]["checks"].as_array().expect("a list");
    assert!(checks.contains(&Value::from("iommu")), "{checks:?}");
}

#[test]
fn without_it_accesses_are_skipped_and_boards_have_none() {
    let path = root().join("scenarios").join(CORRUPTION);
    let run = |options: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tlbdiff"));
        let output = command.args(options).arg(&path).output();
        let output = output.expect("it can be started");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (text + &said, output.status.code())
    };
    let (text, code) = run(&[]);
    assert!(text.contains("the machine lacks `iommu`"), "{text}");
    assert_eq!(code, Some(0), "{text}");
    let (text, code) = run(&["--secondary", "iommu", "--backend", "recorded"]);
    assert!(text.contains("--secondary"), "{text}");
    assert_eq!(code, Some(2), "{text}");
}

/// Linux's own driver has the IOMMU.
#[test]
fn it_leaves_an_iommu_to_the_driver_that_has_it() {
    make("next-iommu");
    let (text, code) = told(&["--kernel", "next-iommu"], "device/munmap-then-write.yaml");
    assert_eq!(code, 69, "{text}");
    assert!(
        text.contains("a driver of the kernel has the IOMMU"),
        "{text}"
    );
}

/// KVM's second stage is no business of notifications of TLBs, and wrong in the same way where
/// KVM does not do as it is told.
#[test]
fn a_virtual_machine_is_a_secondary_mmu_too() {
    make("broken-kvm");
    let run = |kernel: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_tlbdiff"))
            .args(["run", "--kernel", kernel])
            .arg(root().join("scenarios/vm/copy-after-fork.yaml"))
            .output()
            .expect("it can be started");
        let text = String::from_utf8(output.stdout).expect("text");
        (text, output.status.code())
    };
    let (text, code) = run("stable");
    assert_eq!(code, Some(0), "{text}");
    let (text, code) = run("broken-kvm");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("read 7 by child: saw 8 at page 0"), "{text}");
}

/// Nothing is waited for for ever, and no kernel is accused.
#[test]
fn a_command_queue_that_stops_says_nothing_of_the_kernel() {
    let (text, code) = told(&["--sabotage", "stop-iommu"], "munmap/across-1-gib.yaml");
    assert_eq!(code, 69, "{text}");
    assert!(
        text.contains("the IOMMU's command queue stopped: cqcsr (0x"),
        "{text}"
    );
}
