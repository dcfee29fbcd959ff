// SPDX-License-Identifier: GPL-2.0-only
//! JSON lines, through the binary: every line is an object of the documented
//! schema, and every field of it is in the document.

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

const STEPS: &str = "about: Middle.\nsteps:\n  - mmap: { at: 0, pages: 16 }\n  \
                     - touch: { at: 4, pages: 2, access: write }\n  - munmap: { at: 4, pages: 2 }\n";
const TOO_SHORT: &str = "---\nsource: here\n---\n1. mmap at 0 pages 16: ok\n2. touch at 4 pages 2 write: ok\n\
                         3. munmap at 4 pages 2: ok\n   flush_tlb_mm_range [4,6) stride 4K\n     notified [4,5)\n";

fn checkout() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    for (path, content) in [
        ("scenarios/a.yaml", STEPS),
        ("scenarios/b.yaml", STEPS),
        ("scenarios/c.yaml", STEPS),
        ("snapshots/a.snap", &TOO_SHORT.replace("[4,5)", "[4,6)")),
        ("snapshots/b.snap", TOO_SHORT),
    ] {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, content).expect("a file");
    }
    folder
}

fn lines(folder: &Path, arguments: &[&str], exit: i32) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tlbdiff"));
    let output = command
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("tlbdiff runs");
    assert_eq!(output.status.code(), Some(exit));
    let said = String::from_utf8(output.stdout).expect("text");
    said.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn recorded(folder: &Path) -> Vec<Value> {
    lines(
        folder,
        &[
            "run",
            "--backend",
            "recorded",
            "--format",
            "json",
            "scenarios",
        ],
        1,
    )
}

#[test]
fn a_run_is_start_scenarios_and_summary() {
    let folder = checkout();
    let told = recorded(folder.path());
    let types: Vec<&str> = told
        .iter()
        .map(|line| line["type"].as_str().expect("text"))
        .collect();
    assert_eq!(
        types,
        ["start", "scenario", "scenario", "scenario", "summary"]
    );
    assert!(told.iter().all(|line| line["schema"] == 4));
    let outcomes: Vec<&Value> = told[1..4].iter().map(|line| &line["outcome"]).collect();
    assert_eq!(outcomes, ["agree", "unsafe", "snapshot_new"]);
    assert_eq!(told[4]["outcomes"]["agree"], 1);
    assert_eq!(told[4]["exit_code"], 1);
}

#[test]
fn both_sides_of_every_step_are_told_with_ranges_in_pages_and_bytes() {
    let folder = checkout();
    let told = recorded(folder.path());
    let step = &told[2]["steps"][2];
    assert_eq!(step["line"], 5);
    assert_eq!(step["operation"], "munmap at 4 pages 2");
    assert_eq!(step["model"]["result"], "ok");
    assert_eq!(step["model"]["lost"][0]["range"]["pages"], "[4,6)");
    assert_eq!(step["model"]["lost"][0]["mm"], 0);
    assert_eq!(
        step["kernel"]["calls"][0]["call"],
        "flush_tlb_mm_range [4,6) stride 4K"
    );
    let told_to = &step["kernel"]["calls"][0]["effects"][0];
    assert_eq!(told_to["kind"], "notify");
    assert_eq!(told_to["range"]["start"], "0x1000004000");
    assert_eq!(told_to["range"]["end"], "0x1000005000");
    let findings = &told[2]["findings"];
    assert_eq!(
        (&findings[0]["outcome"], &findings[0]["check"]),
        (&"differs".into(), &"layer2".into())
    );
    let changed = &findings[0]["blocks"][0]["steps"][0];
    assert_eq!(changed["expected"][2], "     notified [4,6)");
    assert_eq!(changed["seen"][2], "     notified [4,5)");
    let ranges = &findings[1]["blocks"][0]["ranges"];
    assert_eq!(ranges[0]["range"]["pages"], "[5,6)");
    assert_eq!(told[2]["checks"], serde_json::json!(["layer2", "coverage"]));
    let cause = "layer 2: other notifications or fences after flush_tlb_mm_range()";
    assert_eq!(told[2]["cause"], cause);
    assert_eq!(told[4]["causes"][0]["scenarios"][0], told[2]["name"]);
}

#[test]
fn predictions_are_told_too() {
    let folder = checkout();
    let told = lines(
        folder.path(),
        &["predict", "--format", "json", "scenarios/a.yaml"],
        0,
    );
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["type"], "prediction");
    assert_eq!(
        told[0]["steps"][2]["model"]["calls"][0]["effects"][1]["text"],
        "notified [4,6)"
    );
}

#[test]
fn what_a_device_holds_is_predicted_where_it_is_asked_for() {
    let folder = checkout();
    let predict = |more: &[&str]| {
        let args = ["predict", "--format", "json", "scenarios/a.yaml"];
        lines(folder.path(), &[&args, more].concat(), 0)[0]["device"].clone()
    };
    assert_eq!(predict(&[]), Value::Null);
    let device = predict(&["--device"]);
    // Written in step 2, unmapped in step 3.
    let after = |step: u64| {
        let held = device["held"].as_array().expect("a list").iter();
        let of_step = held.filter(|one| one["step"] == step);
        let pages = of_step.map(|one| one["range"]["pages"].clone());
        pages.collect::<Vec<Value>>()
    };
    assert_eq!(after(1), [""; 0]);
    assert_eq!(after(2), ["[4,6)"]);
    assert_eq!(after(3), [""; 0]);
    assert_eq!(device["reached"], serde_json::json!([]));
}

fn fields(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                found.push(name.clone());
                fields(value, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| fields(value, found)),
        _ => (),
    }
}

#[test]
fn every_field_is_documented() {
    let folder = checkout();
    let mut told = recorded(folder.path());
    told.extend(lines(
        folder.path(),
        &["predict", "--device", "--format", "json", "scenarios"],
        0,
    ));
    let mut found = Vec::new();
    told.iter().for_each(|line| fields(line, &mut found));
    let document = include_str!("../JSON.md");
    for field in found {
        assert!(
            document.contains(&format!("`{field}`")),
            "{field} is not in JSON.md"
        );
    }
}
