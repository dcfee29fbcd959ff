// SPDX-License-Identifier: GPL-2.0-only
//! Commands under the tracer, on the guest: what is followed, judged, kept and told. The agent's
//! own program is the one that every guest has.

mod common;

use common::root;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use tempfile::TempDir;

fn observe(arguments: &[&str]) -> (Option<i32>, String, String) {
    tlbdiff(&[&["observe"], arguments].concat())
}

fn tlbdiff(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tlbdiff"))
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("tlbdiff runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn json(out: &str) -> Value {
    serde_json::from_str(out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

#[test]
fn a_command_is_followed_and_its_trace_judged_again() {
    let folder = TempDir::new().expect("a folder");
    let trace = folder.path().join("trace");
    let trace = trace.to_str().expect("UTF-8");
    let arguments = ["--format", "json", "--record", trace, "--", "/init"];
    let (code, out, err) = observe(&arguments);
    assert_eq!(code, Some(0), "{out}{err}");
    // What it says comes through, and how it ended decides nothing.
    assert!(err.contains("started by tlbdiff, not by hand"), "{err}");
    let told = json(&out);
    assert_eq!(told["outcome"], "agree");
    assert_eq!(told["exit_code"], 2);
    assert_eq!(told["address_spaces"], 1);
    assert_eq!((&told["lost"], &told["unfollowed"]), (&0.into(), &0.into()));
    // The old mm goes, the new one's stack is moved, and it goes at the end.
    assert!(told["entries"]["flush_tlb_mm"].as_u64() >= Some(2), "{out}");
    assert!(out.contains("exit_mmap"), "{out}");
    assert!(told["notified"].as_u64() > Some(0), "{out}");

    let (code, again, err) = observe(&["--format", "json", "--replay", trace]);
    assert_eq!((code, json(&again)), (Some(0), told), "{err}");
    let left: Vec<_> = fs::read_dir(folder.path()).expect("a folder").collect();
    assert_eq!(left.len(), 1, "{left:?}");

    let mut bytes = fs::read(trace).expect("a file");
    bytes.truncate(bytes.len() - 20);
    fs::write(trace, bytes).expect("a file");
    let (code, _, err) = observe(&["--replay", trace]);
    assert_eq!(code, Some(69), "{err}");
    assert!(err.contains("it is damaged, or was not written"), "{err}");
}

#[test]
fn programs_of_debian_are_followed_through_forks_and_execs() {
    let script =
        "for i in 1 2 3; do (true | cat); done; uname -m; exec sqlite3 :memory: 'select 6*7'";
    let (code, out, err) = observe(&["--programs", "--format", "json", "--", "sh", "-c", script]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(err, "riscv64\n42\n");
    let told = json(&out);
    // sh and its first two names; for each turn a subshell, its two halves and cat; uname.
    assert!(told["address_spaces"].as_u64() >= Some(12), "{out}");
    assert_eq!((&told["lost"], &told["unfollowed"]), (&0.into(), &0.into()));

    // All that it says comes, also what is still in the pipe at its end.
    let (code, out, err) = observe(&["--programs", "--", "seq", "12000"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(err.ends_with("\n12000\n"), "{}", err.len());
}

#[test]
fn a_kernel_that_notifies_nobody_is_found() {
    let arguments = ["--kernel", "prepatch", "--model-profile", "stable"];
    let (code, out, err) = observe(&[&arguments[..], &["--quiet", "--", "/init"]].concat());
    assert_eq!(code, Some(1), "{out}{err}");
    // A device that is told of nothing reaches what is gone, too.
    assert!(out.starts_with("unsafe"), "{out}");
    assert!(out.contains("- notified "), "{out}");
    assert!(!out.contains("+ notified "), "{out}");
    assert!(err.is_empty(), "{err}");
}

/// What both programs begin with: a page table's worth of memory is M, one's above it G.
const TABLES: &str = "\
import ctypes, os, time
libc = ctypes.CDLL(None)
word = ctypes.c_size_t
libc.mmap.restype = libc.mremap.restype = word
M, G, at = 2 << 20, 1 << 30, 64 << 30
RW, PRIVATE, SHARED, ANONYMOUS, FIXED, NORESERVE = 3, 2, 1, 0x20, 0x10, 0x4000
NOHUGEPAGE = 15
def map(start, length, flags, fd=-1):
    assert libc.mmap(word(start), word(length), RW, flags | FIXED, fd, word(0)) == start
def small_pages(start, length):
    map(start, length, PRIVATE | ANONYMOUS)
    libc.madvise(word(start), word(length), NOHUGEPAGE)
    ctypes.memset(start, 1, length)
";

/// A page table moves, and there is another one at its old place.
const MOVED: &str = "
small_pages(at, 4 * M)
time.sleep(0.5)
new = at + 64 * M
assert libc.mremap(word(at + M), word(M), word(M), 3, word(new)) == new
small_pages(at + M, M)
time.sleep(1)
";

/// A page table of hugetlb is shared by two processes, then by one, then by none.
const UNSHARED: &str = "
open('/proc/sys/vm/nr_hugepages', 'w').write('8')
fd = libc.memfd_create(b'a', 4)
os.ftruncate(fd, G)
def shared():
    map(at, G, SHARED | NORESERVE, fd)
    ctypes.memset(at, 1, 1)
shared()
child = os.fork()
if child == 0:
    libc.munmap(word(at), word(G))
    shared()
    time.sleep(0.5)
    libc.munmap(word(at), word(G))
    time.sleep(3)
    os._exit(0)
time.sleep(2)
libc.munmap(word(at), word(G))
os.waitpid(child, 0)
";

#[test]
fn what_pages_document_is_known() {
    for (program, page) in [
        (MOVED, "scenarios/findings/moved-page-table.md"),
        (UNSHARED, "scenarios/findings/unshared-page-table.md"),
    ] {
        let program = format!("{TABLES}{program}");
        let (code, out, err) = observe(&[
            "--programs",
            "--format",
            "json",
            "--",
            "python3",
            "-c",
            &program,
        ]);
        let told = json(&out);
        assert_eq!(told["exit_code"], 0, "{out}{err}");
        assert_eq!(
            (code, &told["outcome"]),
            (Some(0), &"known".into()),
            "{out}{err}"
        );
        let reached = told["device"]["reached"].as_array().expect("a list");
        let pages: Vec<_> = reached.iter().map(|one| one["page"].as_str()).collect();
        assert_eq!(pages, [Some(page)], "{out}");
        assert_eq!(reached[0]["kind"], "walk", "{out}");
    }
}

/// A program of one instruction, `j .`: an ELF header, one segment, and that.
fn for_ever() -> Vec<u8> {
    const AT: u64 = 0x10000;
    const SIZE: u64 = 64 + 56 + 4;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    let words = |file: &mut Vec<u8>, words: &[u64]| {
        words
            .iter()
            .for_each(|word| file.extend_from_slice(&word.to_le_bytes()));
    };
    // ET_EXEC, EM_RISCV, version 1
    file.extend_from_slice(&[2, 0, 243, 0, 1, 0, 0, 0]);
    words(&mut file, &[AT + SIZE - 4, 64, 0]);
    // No flags, sizes of this header and the next, one of those, no sections.
    file.extend_from_slice(&[0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    // PT_LOAD, to be read and executed.
    file.extend_from_slice(&[1, 0, 0, 0, 5, 0, 0, 0]);
    words(&mut file, &[0, AT, AT, SIZE, SIZE, 0x1000]);
    file.extend_from_slice(&0x6fu32.to_le_bytes());
    file
}

#[test]
fn what_cannot_run_says_nothing_of_the_kernel() {
    let (code, out, err) = observe(&["--", "nothing-of-that-name"]);
    assert_eq!(code, Some(69), "{out}{err}");
    assert!(out.contains("cannot run `nothing-of-that-name`"), "{out}");

    let folder = TempDir::new().expect("a folder");
    let program = folder.path().join("for-ever");
    fs::write(&program, for_ever()).expect("a file");
    let program = program.to_str().expect("UTF-8");
    let (code, out, err) = observe(&["--timeout", "2", "--push", program, "--", "for-ever"]);
    assert_eq!(code, Some(69), "{out}{err}");
    assert!(out.contains("the command did not end in time"), "{out}");

    let (code, _, err) = observe(&[]);
    assert_eq!(code, Some(2), "{err}");
}

#[test]
fn a_suite_is_a_line_for_each_workload_and_one_for_the_kernel() {
    let folder = TempDir::new().expect("a folder");
    let history = folder.path().join("history.sqlite");
    let history = history.to_str().expect("a name");
    let suite = ["--suite", "everyday", "--filter", "/gcc"];
    let (code, out, err) = observe(&[&suite[..], &["--history", history]].concat());
    assert_eq!(code, Some(0), "{out}{err}");
    let (out, changes) = out.split_once("\n\n").expect("what changed");
    assert_eq!(
        changes,
        "no earlier run of stable workloads on guest to compare with\n"
    );
    let (code, kept, _) = tlbdiff(&["history", "--history", history, "everyday/gcc"]);
    assert_eq!(code, Some(0), "{kept}");
    assert!(
        kept.contains("stable workloads") && kept.contains("agree"),
        "{kept}"
    );
    let lines: Vec<Vec<&str>> = out
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    let [workload, kernel] = &lines[..] else {
        panic!("{out}{err}");
    };
    assert_eq!(workload[..2], ["agree", "everyday/gcc"]);
    assert!(workload[2].parse::<u64>().expect("a number") > 20, "{out}");
    assert_eq!(workload[3..6], ["entries", "0", "violations"]);
    assert_eq!(kernel[0], "stable");
    assert!(out.contains(": 1 agree; "), "{out}");
    assert!(err.is_empty(), "{err}");

    let arguments = ["--suite", "mm-selftests", "--filter", "/mremap_dontunmap"];
    let others = ["--format", "json", "--no-history"];
    let (code, out, err) = observe(&[&arguments[..], &others].concat());
    assert_eq!(code, Some(0), "{out}{err}");
    let told = json(&out);
    assert_eq!(
        (&told["suite"], &told["type"]),
        (&"mm-selftests".into(), &"observed".into())
    );
    assert_eq!(
        (&told["workload"], &told["exit_code"]),
        (&"mremap_dontunmap".into(), &0.into())
    );
    assert!(told["entries"].to_string().contains("flush_tlb_"), "{out}");
}

#[test]
fn a_suite_that_is_none_is_told_before_anything_runs() {
    let (code, out, err) = observe(&["--suite", "stres"]);
    assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
    assert!(err.contains("no suite is called `stres`"), "{err}");
    assert!(err.contains("did you mean `stress`?"), "{err}");
    for arguments in [
        &["--suite", "stress", "--filter", "no-such-stressor"][..],
        &["--suite", "stress", "--replay", "file"],
        &["--suite", "stress", "--", "true"],
        &["--board", "mine", "--", "true"],
        &["--no-history", "--", "true"],
        &["--history", "file", "--replay", "file"],
        &["--filter", "x", "--", "true"],
    ] {
        let (code, out, err) = observe(arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
    }
}

/// What is in the folder of the kernel's tests is a workload, or left out with a reason.
#[test]
fn no_selftest_is_forgotten() {
    let text = fs::read_to_string(root().join("harness/workloads.toml")).expect("a file");
    let file: toml::Table = text.parse().expect("TOML");
    let workloads = file["suite"]["mm-selftests"]["workload"].as_array();
    let run = workloads.into_iter().flatten().flat_map(|workload| {
        let command = workload["command"].as_array().into_iter().flatten();
        command.filter_map(|word| word.as_str()?.strip_prefix("./").map(str::to_owned))
    });
    let left_out = file["left-out"]
        .as_table()
        .expect("a table")
        .keys()
        .cloned();
    let named: BTreeSet<String> = run.chain(left_out).collect();
    let (code, out, err) = observe(&["--programs", "--", "ls", "/usr/lib/mm-selftests"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let there: BTreeSet<String> = err.lines().map(str::to_owned).collect();
    assert_eq!(there, named);
}
