// SPDX-License-Identifier: GPL-2.0-only
//! Known findings, through the binary and with recorded observations: wrong as
//! expected, right where it should be wrong, and wrong on another kernel.

use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

const STEPS: &str = "steps:\n  - mmap: { at: 0, pages: 16 }\n  \
    - touch: { at: 0, pages: 16, access: write }\n  - munmap: { at: 4, pages: 2 }\n";

const HEAD: &str = "1. mmap at 0 pages 16: ok\n2. touch at 0 pages 16 write: ok\n\
    3. munmap at 4 pages 2: ok\n   flush_tlb_mm_range [4,6) stride 4K\n";

/// A checkout with one scenario: wrong on `kernels`, and told `told` by stable.
fn checkout(kernels: &str, told: &str) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let write = |path: &str, text: String| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(path, text).expect("a file");
    };
    let finding = format!("finding: {{ page: a.md, kernels: [{kernels}] }}\n");
    write("scenarios/a.yaml", format!("about: x\n{finding}{STEPS}"));
    write("scenarios/a.md", "# a\n".to_owned());
    write(
        "snapshots/a.snap",
        format!("---\nsource: x\n---\n{HEAD}{told}"),
    );
    folder
}

/// Exit code and what is said.
fn run(folder: &Path) -> (Option<i32>, String) {
    let arguments = ["run", "--backend", "recorded", "scenarios/a.yaml"];
    let output = Command::new(env!("CARGO_BIN_EXE_tlbdiff"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the program runs");
    let said = String::from_utf8(output.stdout).expect("text");
    (output.status.code(), said)
}

#[test]
fn wrong_as_known_is_known_and_names_its_page() {
    // The page before the last is not told. The model is right, so it differs, too:
    // that is no part of what is known.
    let folder = checkout("stable", "     told [4,5)\n");
    let (code, said) = run(folder.path());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("known: scenarios/a.md"), "{said}");
    assert!(said.starts_with("differs"), "{said}");
    assert!(!said.contains("1 unsafe"), "{said}");
}

#[test]
fn right_where_it_should_be_wrong_is_a_failure() {
    let folder = checkout("stable", "     told [4,6)\n");
    let (code, said) = run(folder.path());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("finding gone"), "{said}");
    assert!(said.contains("revised: scenarios/a.md"), "{said}");
}

#[test]
fn on_other_kernels_a_finding_changes_nothing() {
    let right = checkout("noasid", "     told [4,6)\n");
    let (code, said) = run(right.path());
    assert_eq!(code, Some(0), "{said}");
    let wrong = checkout("noasid", "     told [4,5)\n");
    let (code, said) = run(wrong.path());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("unsafe"), "{said}");
}
