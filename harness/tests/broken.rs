// SPDX-License-Identifier: GPL-2.0-only
//! Kernels that are broken on purpose, and what each check says of them. Provisions them, which
//! takes some seconds each, the first time.

mod common;

use common::root;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use vm::KernelChoice;
use vm::provision::{Wishes, provision};

/// A broken kernel, a scenario that shows it, and what is found.
struct Broken {
    kernel: &'static str,
    scenario: &'static str,
    /// Whether layer 1, layer 2 and page tables differ.
    model: [bool; 3],
    /// What the device check says.
    device: &'static [&'static str],
}

const TABLE: &[Broken] = &[
    Broken {
        kernel: "broken-empty-range",
        scenario: "munmap/across-1-gib",
        model: [true, true, false],
        device: &["freed", "stale"],
    },
    // Every range is right, and comes too late.
    Broken {
        kernel: "broken-free-first",
        scenario: "munmap/across-1-gib",
        model: [false, false, false],
        device: &["freed"],
    },
    Broken {
        kernel: "broken-table-at-once",
        scenario: "munmap/after-dontneed-frees-page-table",
        model: [false, false, false],
        device: &["walk"],
    },
    Broken {
        kernel: "broken-freed-tables",
        scenario: "munmap/after-dontneed-frees-page-table",
        model: [false, true, false],
        device: &["walk"],
    },
    Broken {
        kernel: "broken-fork",
        scenario: "fork/across-page-tables",
        model: [false, true, false],
        device: &["right"],
    },
    Broken {
        kernel: "broken-cow",
        scenario: "munmap/private-file-partly-copied",
        model: [false, true, false],
        device: &["stale"],
    },
    Broken {
        kernel: "broken-migrate",
        scenario: "migration/pages-to-the-other-node",
        model: [false, true, false],
        device: &["freed", "stale"],
    },
    Broken {
        kernel: "broken-ksm",
        scenario: "ksm/two-pages",
        model: [false, true, false],
        device: &["right"],
    },
    // A copy and a reuse of a page are flushed alike with Svvptc.
    Broken {
        kernel: "broken-reuse",
        scenario: "exit/then-the-parent-writes",
        model: [false, false, true],
        device: &[],
    },
    Broken {
        kernel: "broken-mprotect",
        scenario: "munmap/area-split-by-rights",
        model: [false, true, false],
        device: &["right"],
    },
    Broken {
        kernel: "broken-lazyfree",
        scenario: "munmap/lazyfree-pages",
        model: [false, true, false],
        device: &["dirty"],
    },
    Broken {
        kernel: "broken-move-ptes",
        scenario: "mremap/written-pages-move",
        model: [false, true, false],
        device: &["stale"],
    },
    // That the moved table is referred to is so on a kernel that is well, too.
    Broken {
        kernel: "broken-move-normal-pmd",
        scenario: "mremap/page-table-moves",
        model: [false, true, false],
        device: &["stale", "walk"],
    },
    Broken {
        kernel: "broken-mkclean",
        scenario: "writeback/fsync-after-writes",
        model: [false, true, false],
        device: &["right"],
    },
    Broken {
        kernel: "broken-uffd-move",
        scenario: "userfaultfd/move-several-pages",
        model: [false, true, false],
        device: &["stale"],
    },
    // No right is taken where there are no soft-dirty bits: the model alone misses the flush.
    Broken {
        kernel: "broken-clear-refs",
        scenario: "clear-refs/soft-dirty-flushes-all",
        model: [false, true, false],
        device: &[],
    },
    // No harm for a secondary MMU: arch_tlbbatch_add_pending() notifies as soon as a page is
    // unmapped. It is harts that may use what was freed, and no trace shows their fences.
    Broken {
        kernel: "broken-reclaim-first",
        scenario: "reclaim/then-pageout",
        model: [false, false, false],
        device: &[],
    },
    Broken {
        kernel: "broken-hugetlb-wp",
        scenario: "hugetlb/fork-parent-writes",
        model: [false, true, false],
        device: &["stale"],
    },
];

/// What was found, by the name of the check: of the device check its kinds, of others their
/// outcome.
fn found(
    kernel: &str,
    scenario: &str,
    checks: &str,
    more: &[&str],
) -> BTreeMap<String, BTreeSet<String>> {
    let path = root()
        .join("scenarios")
        .join(scenario)
        .with_extension("yaml");
    let output = Command::new(env!("CARGO_BIN_EXE_tlbdiff"))
        .args([
            "run", "--format", "json", "--kernel", kernel, "--checks", checks,
        ])
        .args(more)
        .arg(&path)
        .output()
        .expect("it can be started");
    let out = String::from_utf8(output.stdout).expect("text");
    let lines = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let mut lines = lines.filter(|line| line["type"] == "scenario");
    let line = lines.next();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = line.unwrap_or_else(|| panic!("{kernel}: {said}"));
    let words = |value: &Value| value.as_str().expect("text").to_owned();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for finding in line["findings"].as_array().expect("a list") {
        let of_check = found.entry(words(&finding["check"])).or_default();
        let blocks = finding["blocks"].as_array().into_iter().flatten();
        let reached = blocks.flat_map(|block| block["reached"].as_array().into_iter().flatten());
        let kinds: Vec<String> = reached.map(|one| words(&one["kind"])).collect();
        match kinds.is_empty() {
            true => of_check.extend([words(&finding["outcome"])]),
            false => of_check.extend(kinds),
        }
    }
    found
}

#[test]
fn each_check_says_of_broken_kernels_what_it_can_know() {
    for broken in TABLE {
        let Broken {
            kernel, scenario, ..
        } = broken;
        let choice = KernelChoice::Named((*kernel).to_owned());
        provision(&choice, &Wishes::default()).unwrap_or_else(|error| panic!("{kernel}: {error}"));
        let all = found(kernel, scenario, "layer1,layer2,tables,device", &[]);
        let says = |check: &str| all.get(check).cloned().unwrap_or_default();
        let checks = ["layer1", "layer2", "tables"];
        for (check, differs) in checks.into_iter().zip(broken.model) {
            let expected = differs.then(|| "differs".to_owned());
            let expected: BTreeSet<String> = expected.into_iter().collect();
            assert_eq!(says(check), expected, "{kernel}: {check}");
        }
        let device = broken.device.iter().map(|kind| (*kind).to_owned());
        let device: BTreeSet<String> = device.collect();
        assert_eq!(says("device"), device, "{kernel}");
        // Without any model.
        let alone = found(kernel, scenario, "device", &[]);
        assert_eq!(
            alone.get("device").cloned().unwrap_or_default(),
            device,
            "{kernel}"
        );
        assert!(
            alone.keys().all(|check| check == "device"),
            "{kernel}: {alone:?}"
        );
    }
}

/// The page is mapped and copied within one step.
#[test]
fn what_comes_and_goes_within_a_step_is_found_where_devices_load_in_it() {
    let choice = KernelChoice::Named("broken-cow".to_owned());
    provision(&choice, &Wishes::default()).unwrap_or_else(|error| panic!("{error}"));
    let found = |more: &[&str]| {
        let scenario = "mprotect/locked-area-made-writable";
        let all = found("broken-cow", scenario, "device", more);
        all.get("device").cloned().unwrap_or_default()
    };
    assert_eq!(found(&[]), BTreeSet::new());
    assert_eq!(found(&["--eager"]), BTreeSet::from(["stale".to_owned()]));
}

/// In each step alone reclaim and mprotect notify as they should: it takes both at once.
#[test]
fn what_only_a_race_shows_is_found_where_steps_begin_together() {
    let kernel = "broken-pending-batch";
    let choice = KernelChoice::Named(kernel.to_owned());
    provision(&choice, &Wishes::default()).unwrap_or_else(|error| panic!("{error}"));
    let device = |scenario: &str, more: &[&str]| {
        let all = found(kernel, scenario, "device", more);
        all.get("device").cloned().unwrap_or_default()
    };
    assert_eq!(
        device("process_madvise/pageout-paid-by-mprotect", &[]),
        BTreeSet::new()
    );
    // Some of its rounds show it.
    let raced = device("together/protnone-and-reclaim", &["--repeat", "20"]);
    assert_eq!(raced, BTreeSet::from(["freed".to_owned()]));
}

/// Pages that are written and freed, forked and copied, protected, freed lazily and moved, and page
/// tables that are freed.
const PROGRAM: &str = "\
import mmap, os
flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
def area(pages):
    made = mmap.mmap(-1, pages * 4096, flags=flags)
    for page in range(pages):
        made[page * 4096] = 1
    return made
above, moves, lazy = area(16), area(16), area(64)
lazy.madvise(mmap.MADV_FREE)
if os.fork() == 0:
    above[0] = 2
    os._exit(0)
os.wait()
above[4096] = 3
moves.resize(64 * 4096)
moves[0] = 4
moves.close()
above.close()
tables = mmap.mmap(-1, 6 << 20, flags=flags)
tables.madvise(mmap.MADV_NOHUGEPAGE)
tables[3 << 20] = 1
tables.close()
";

/// A kernel, and kinds of what a device reaches there; others may come with them.
const BY_PROGRAMS: &[(&str, &[&str])] = &[
    ("stable", &[]),
    ("broken-free-first", &["freed"]),
    ("broken-table-at-once", &["walk"]),
    ("broken-fork", &["right"]),
    ("broken-cow", &["stale"]),
    ("broken-mprotect", &["right"]),
    ("broken-lazyfree", &["dirty"]),
    ("broken-move-ptes", &["stale"]),
];

#[test]
fn a_program_that_nobody_described_shows_what_a_device_reaches() {
    for (kernel, kinds) in BY_PROGRAMS {
        let choice = KernelChoice::Named((*kernel).to_owned());
        provision(&choice, &Wishes::default()).unwrap_or_else(|error| panic!("{kernel}: {error}"));
        let output = Command::new(env!("CARGO_BIN_EXE_tlbdiff"))
            .args(["observe", "--programs", "--quiet", "--format", "json"])
            .args(["--kernel", kernel, "--", "python3", "-c", PROGRAM])
            .output()
            .expect("it can be started");
        let out = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        let told: Value =
            serde_json::from_str(&out).unwrap_or_else(|_| panic!("{kernel}: {out}{said}"));
        assert_eq!(told["exit_code"], 0, "{kernel}: {out}");
        let device = &told["device"];
        let reached = device["reached"].as_array().expect("a list");
        let found: BTreeSet<&str> = reached
            .iter()
            .filter_map(|one| one["kind"].as_str())
            .collect();
        let compared = device["looks_compared"].as_u64().unwrap_or_default();
        assert!(compared > 20, "{kernel}: {device}");
        match kinds {
            [] => assert_eq!(
                (&told["outcome"], found),
                (&"agree".into(), BTreeSet::new())
            ),
            kinds => {
                assert_eq!(told["outcome"], "unsafe", "{kernel}: {out}");
                let all = kinds.iter().all(|kind| found.contains(kind));
                assert!(all, "{kernel}: {found:?}");
            }
        }
    }
}
