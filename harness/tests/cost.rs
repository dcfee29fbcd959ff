// SPDX-License-Identifier: GPL-2.0-only
//! What notifications cost, on the guest: the same each time, more with more subscribers,
//! and nothing where nobody is notified.

mod common;

use common::root;
use serde_json::Value;
use std::process::Command;
use tempfile::TempDir;

fn tlbdiff(folder: &TempDir, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tlbdiff"))
        .args(arguments)
        .current_dir(root())
        .env("STATE_DIRECTORY", folder.path())
        .output()
        .expect("tlbdiff runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn costs_are_the_same_each_time_and_grow_with_subscribers() {
    let folder = TempDir::new().expect("a folder");
    let count = || {
        let arguments = [
            "cost",
            "--format",
            "json",
            "scenarios/munmap/middle.yaml",
            "scenarios/mprotect",
            "--filter",
            "mi",
        ];
        let (code, out, err) = tlbdiff(&folder, &arguments);
        assert_eq!(code, Some(0), "{out}{err}");
        out
    };
    let (once, again) = (count(), count());
    // What is printed: a step's own cost differs by some instructions from boot to boot.
    let of_operations = |out: &str| -> Vec<String> {
        let lines = out.lines().filter(|line| line.contains("operation_cost"));
        let figures = lines.map(|line| {
            let cost: Value = serde_json::from_str(line).expect("JSON");
            let figure = |name: &str| cost[name].as_f64().expect("a number");
            let (first, further) = (figure("first"), figure("further"));
            format!("{} {first:.0} {further:.0}", cost["operation"])
        });
        figures.collect()
    };
    assert_eq!(of_operations(&once).len(), 2);
    // Seldom, one boot's calls cost an instruction more each: the least of two boots counts.
    let least = |one: &str| -> Vec<String> {
        let both = of_operations(one).into_iter().zip(of_operations(&count()));
        both.map(|(one, other)| one.min(other)).collect()
    };
    assert_eq!(least(&once), least(&again));
    let middle = once.lines().find(|line| line.contains("munmap/middle"));
    let middle: Value = serde_json::from_str(middle.expect("its line")).expect("JSON");
    let step = |place: usize| -> Vec<u64> {
        let counts = &middle["steps"][place]["instructions"];
        serde_json::from_value(counts.clone()).expect("numbers")
    };
    // mmap notifies nobody: subscribers make no difference but that of an allocator's mood.
    let (mmap, munmap) = (step(0), step(2));
    assert_eq!(middle["steps"][0]["notifications"], 0);
    assert_eq!(middle["steps"][2]["notifications"], 1);
    assert_eq!(middle["steps"][2]["pages"], 2);
    assert_eq!(middle["steps"][2]["needless"], 0);
    assert!(
        munmap.windows(2).all(|pair| pair[0] < pair[1]),
        "{munmap:?}"
    );
    let each = (munmap[3] - munmap[2]) / 12;
    assert!((1..1000).contains(&each), "{munmap:?}");
    assert!(mmap.iter().all(|count| *count > 0), "{mmap:?}");

    let (code, out, _) = tlbdiff(&folder, &["history", "--costs"]);
    assert_eq!(code, Some(0));
    // Each of the four boots is a run.
    let runs = 4;
    assert_eq!(out.matches("munmap").count(), runs, "{out}");
}

#[test]
fn what_cannot_be_counted_is_told() {
    let folder = TempDir::new().expect("a folder");
    let file = "scenarios/munmap/middle.yaml";
    let (code, _, err) = tlbdiff(&folder, &["cost", "--backend", "recorded", file]);
    assert_eq!(code, Some(2), "{err}");
    let (code, _, err) = tlbdiff(&folder, &["cost", "--kernel", "stabel", file]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("stable"), "{err}");
    // It is told before anything is run.
    let together = "scenarios/together/munmap-and-touch.yaml";
    let (code, _, err) = tlbdiff(&folder, &["cost", together]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("begun together"), "{err}");
    // Swap it has, and no such option.
    let scenario = folder.path().join("x.yaml");
    let text = std::fs::read_to_string(root().join(file)).expect("a scenario");
    std::fs::write(&scenario, format!("requires: [CONFIG_NO_SUCH]\n{text}")).expect("a file");
    let (code, out, err) = tlbdiff(&folder, &["cost", &scenario.display().to_string()]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(err.matches("skipped").count(), 1, "{err}");
    assert!(out.contains("no step notified"), "{out}{err}");
}
