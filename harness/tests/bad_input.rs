// SPDX-License-Identifier: GPL-2.0-only
//! Wrong scenarios and wrong command lines, through the binary: exit code 2,
//! and a message that says where, shows the line, and names what was meant.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn tlbdiff(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tlbdiff"));
    command
        .args(arguments)
        .current_dir(folder)
        .env_remove("CARGO")
        .env("NO_COLOR", "1");
    command.output().expect("tlbdiff runs")
}

/// What `tlbdiff check` says of a file with that content.
fn refusal(content: &[u8]) -> String {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("bad.yaml"), content).expect("a file");
    let output = tlbdiff(&["check", "bad.yaml"], folder.path());
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty());
    said
}

/// A wrong file, and what has to be said of it, line by line, as far as it is given.
struct Case {
    name: &'static str,
    content: &'static str,
    said: &'static [&'static str],
}

const HEAD: &str = "about: x\nsteps:\n  - mmap: { at: 0, pages: 16 }\n";

/// `content` comes after [`HEAD`], so that its first line is line 4.
const AFTER_A_GOOD_STEP: &[Case] = &[
    Case {
        name: "unknown operation",
        content: "  - munmapp: { at: 0, pages: 3 }\n",
        said: &[
            "bad.yaml:4:5: unknown variant `munmapp`, expected one of mmap, touch, device, vm, munmap, mprotect, madvise, reclaim",
            "  4 |   - munmapp: { at: 0, pages: 3 }",
            "    |     ^",
            "  help: did you mean `munmap`?",
        ],
    },
    Case {
        name: "unknown field",
        content: "  - munmap: { at: 0, pges: 3 }\n",
        said: &[
            "bad.yaml:4:22: unknown field `pges`, expected one of at, pages",
            "  4 |   - munmap: { at: 0, pges: 3 }",
            "    |                      ^",
            "  help: did you mean `pages`?",
        ],
    },
    Case {
        name: "missing field",
        content: "  - munmap: { at: 0 }\n",
        said: &[
            "bad.yaml:4:15: missing field `pages`",
            "  4 |   - munmap: { at: 0 }",
            "    |               ^",
        ],
    },
    Case {
        name: "wrong type of a number",
        content: "  - munmap: { at: zero, pages: 1 }\n",
        said: &["bad.yaml:4:19: expected a whole number of pages, found `zero`"],
    },
    Case {
        name: "a negative number",
        content: "  - munmap: { at: -1, pages: 1 }\n",
        said: &["bad.yaml:4:19: expected a whole number of pages, found `-1`"],
    },
    Case {
        name: "a fraction",
        content: "  - munmap: { at: 1.5, pages: 1 }\n",
        said: &["bad.yaml:4:19: expected a whole number of pages, found `1.5`"],
    },
    Case {
        name: "a list for a number",
        content: "  - munmap: { at: [1], pages: 1 }\n",
        said: &["bad.yaml:4:19: expected a whole number of pages, found a list"],
    },
    Case {
        name: "wrong type of a flag",
        content: "  - mmap: { at: 1, pages: 1, shared: maybe }\n",
        said: &["bad.yaml:4:38: invalid boolean"],
    },
    Case {
        name: "wrong type of a step",
        content: "  - munmap: 5\n",
        said: &["bad.yaml:4:13: expected mapping start"],
    },
    Case {
        name: "duplicate key",
        content: "  - munmap: { at: 1, pages: 1, at: 2 }\n",
        said: &["bad.yaml:4:32: duplicate mapping key: at"],
    },
    Case {
        name: "duplicate key at the top",
        content: "about: y\n",
        said: &["bad.yaml:4:1: duplicate mapping key: about"],
    },
    Case {
        name: "an expression outside of repeat",
        content: "  - munmap: { at: $i, pages: 1 }\n",
        said: &[
            "bad.yaml:4:19: `$i`: `$i` stands for a round of `repeat`, and this is in none",
            "  4 |   - munmap: { at: $i, pages: 1 }",
        ],
    },
    Case {
        name: "an expression that comes to less than nothing in some round",
        content: "  - repeat:\n      times: 4\n      steps:\n        - munmap: { at: 2 - $i, pages: 1 }\n",
        said: &[
            "bad.yaml:7:25: `2 - $i`: it comes to -1, where $i is 3",
            "  7 |         - munmap: { at: 2 - $i, pages: 1 }",
        ],
    },
    Case {
        name: "an expression that leaves the arena in some round",
        content: "  - repeat:\n      times: 4\n      steps:\n        - munmap: { at: 1048574, pages: $i }\n",
        said: &[
            "bad.yaml:7:41: 3 pages from page 1048574 reach outside the arena, which has 1048576, where $i is 3",
        ],
    },
    Case {
        name: "an expression that is none",
        content: "  - repeat:\n      times: 4\n      steps:\n        - munmap: { at: \"$i / 2\", pages: 1 }\n",
        said: &["bad.yaml:7:25: `$i / 2`: `/` is not expected there"],
    },
    Case {
        name: "no round of repeat",
        content: "  - repeat: { times: 0, steps: [exec] }\n",
        said: &["bad.yaml:4:22: `times` is at least 1"],
    },
    Case {
        name: "repeat without steps",
        content: "  - repeat: { times: 2, steps: [] }\n",
        said: &["bad.yaml:4:32: `steps` has no step"],
    },
    Case {
        name: "an unknown operation in repeat",
        content: "  - repeat:\n      times: 2\n      steps:\n        - munmapp: { at: 0, pages: 1 }\n",
        said: &["bad.yaml:7:11: unknown variant `munmapp`"],
    },
    Case {
        name: "an actor that is gone in the second round",
        content: "  - repeat: { times: 2, steps: [exit] }\n",
        said: &["bad.yaml:4:33: `subject` has exited, where $i is 1"],
    },
    Case {
        name: "a vector and a range",
        content: "  - process_madvise: { of: subject, at: 0, pages: 1, ranges: [], advice: cold }\n",
        said: &["bad.yaml:4:28: `process_madvise` takes either `at` and `pages`, or `ranges`"],
    },
    Case {
        name: "an empty vector",
        content: "  - process_madvise: { of: subject, ranges: [], advice: cold }\n",
        said: &["bad.yaml:4:45: `ranges` has 1 to 64 of them, not 0"],
    },
    Case {
        name: "two operations in one step",
        content: "  - munmap: { at: 1, pages: 1 }\n    mmap: { at: 0, pages: 1 }\n",
        said: &[
            "bad.yaml:5:5: a step is one operation, and another one begins with `-`",
            "  5 |     mmap: { at: 0, pages: 1 }",
        ],
    },
    Case {
        name: "an operation without its fields",
        content: "  - munmap\n  - munmap: { at: 0, pages: 1 }\n",
        said: &["bad.yaml:4:5: `munmap` has no fields, they follow it: `munmap: { … }`"],
    },
    Case {
        name: "an unknown operation without fields",
        content: "  - exce\n  - munmap: { at: 0, pages: 1 }\n",
        said: &[
            "bad.yaml:4:5: unknown variant `exce`, expected one of mmap, touch",
            "  4 |   - exce",
            "    |     ^",
            "  help: did you mean `exec`?",
        ],
    },
    Case {
        name: "a name where there are fields",
        content: "  - exec: subject\n",
        said: &["bad.yaml:4:11: "],
    },
    Case {
        name: "a number in quotes",
        content: "  - munmap: { at: \"0\", pages: 1 }\n",
        said: &[
            "bad.yaml:4:19: expected a whole number of pages, found the text \"0\": a number has no quotes",
        ],
    },
    Case {
        name: "a word in quotes",
        content: "  - munmap: { at: \"-1\", pages: 1 }\n",
        said: &["bad.yaml:4:19: expected a whole number of pages, found `-1`"],
    },
    Case {
        name: "a number with an exponent",
        content: "  - munmap: { at: 1e3, pages: 1 }\n",
        said: &["bad.yaml:4:19: expected a whole number of pages, found `1e3`"],
    },
    Case {
        name: "a step that is a number",
        content: "  - 5\n",
        said: &["bad.yaml:4:5: invalid type: integer `5`, expected an operation with its fields"],
    },
    Case {
        name: "a step without operation",
        content: "  -\n  - munmap: { at: 1, pages: 1 }\n",
        said: &["bad.yaml:4:4: "],
    },
    Case {
        name: "pages outside the arena",
        content: "  - munmap: { at: 1048570, pages: 7 }\n",
        said: &[
            "bad.yaml:4:35: 7 pages from page 1048570 reach outside the arena, which has 1048576",
            "  4 |   - munmap: { at: 1048570, pages: 7 }",
            "    |                                   ^",
        ],
    },
    Case {
        name: "numbers that overflow when added",
        content: "  - munmap: { at: 1, pages: 18446744073709551615 }\n",
        said: &["bad.yaml:4:29: 18446744073709551615 pages from page 1 reach outside the arena"],
    },
    Case {
        name: "a number of more than 64 bits",
        content: "  - munmap: { at: 99999999999999999999999, pages: 1 }\n",
        said: &[
            "bad.yaml:4:19: expected a whole number of pages, found a number of more than 64 bits",
        ],
    },
    Case {
        name: "unknown access",
        content: "  - touch: { at: 0, pages: 1, access: wirte }\n",
        said: &[
            "bad.yaml:4:39: unknown variant `wirte`, expected one of read, write",
            "  4 |   - touch: { at: 0, pages: 1, access: wirte }",
            "    |                                       ^",
            "  help: did you mean `write`?",
        ],
    },
    Case {
        name: "touching every zeroth page",
        content: "  - touch: { at: 0, pages: 1, access: read, every: 0 }\n",
        said: &["bad.yaml:4:52: `every` is at least 1"],
    },
    Case {
        name: "unknown protection",
        content: "  - mprotect: { at: 0, pages: 1, prot: wr }\n",
        said: &[
            "bad.yaml:4:40: unknown protection `wr`, expected one of none, r, w, x, rw, rx, wx, rwx",
        ],
    },
    Case {
        name: "unknown advice",
        content: "  - madvise: { at: 0, pages: 1, advice: dontnead }\n",
        said: &[
            "bad.yaml:4:41: unknown advice `dontnead`, expected one of normal",
            "  4 |   - madvise: { at: 0, pages: 1, advice: dontnead }",
            "    |                                         ^",
            "  help: did you mean `dontneed`?",
        ],
    },
    Case {
        name: "unknown file",
        content: "  - mmap: { at: 0, pages: 1, file: a }\n",
        said: &["bad.yaml:4:36: no file `a` under `files`"],
    },
    Case {
        name: "an offset without a file",
        content: "  - mmap: { at: 0, pages: 1, offset: 1 }\n",
        said: &["bad.yaml:4:38: `offset` means nothing without `file`"],
    },
    Case {
        name: "a tab",
        content: "\t- munmap: { at: 1, pages: 1 }\n",
        said: &["bad.yaml:4:", "  4 | →- munmap: { at: 1, pages: 1 }"],
    },
    Case {
        name: "a bracket that is not closed",
        content: "  - munmap: { at: 1, pages: 1 \n",
        said: &["bad.yaml:4:13: "],
    },
    Case {
        name: "two documents",
        content: "---\nabout: z\n",
        said: &["bad.yaml:5:1: "],
    },
];

/// Files on their own.
const WHOLE: &[Case] = &[
    Case {
        name: "empty",
        content: "",
        said: &[
            "bad.yaml: the file is empty",
            "  help: a scenario has `about:` and `steps:`",
        ],
    },
    Case {
        name: "blank",
        content: "\n  \n",
        said: &["bad.yaml: the file is empty"],
    },
    Case {
        name: "a comment only",
        content: "# nothing\n",
        said: &["bad.yaml:1:"],
    },
    Case {
        name: "not a map",
        content: "- 1\n",
        said: &["bad.yaml:1:1: "],
    },
    Case {
        name: "no steps",
        content: "about: x\n",
        said: &["bad.yaml:1:1: missing field `steps`"],
    },
    Case {
        name: "an empty list of steps",
        content: "about: x\nsteps: []\n",
        said: &["bad.yaml:2:8: `steps` has no step"],
    },
    Case {
        name: "steps that are no list",
        content: "about: x\nsteps: 5\n",
        said: &["bad.yaml:2:8: "],
    },
    Case {
        name: "an about that says nothing",
        content: "about: ' '\nsteps:\n  - reclaim: { pages: 1 }\n",
        said: &["bad.yaml:1:8: `about` says nothing"],
    },
    Case {
        name: "an unknown feature",
        content: "about: x\nrequires: [swop]\nsteps:\n  - reclaim: { pages: 1 }\n",
        said: &[
            "bad.yaml:2:12: unknown feature `swop`, expected one of swap, thp, hugetlb, hugetlb-1g, ksm, iommu, kvm",
            "  2 | requires: [swop]",
            "    |            ^",
            "  help: did you mean `swap`?",
        ],
    },
    Case {
        name: "an unknown field at the top",
        content: "about: x\nrequire: [swap]\nsteps:\n  - reclaim: { pages: 1 }\n",
        said: &[
            "bad.yaml:2:1: unknown field `require`",
            "  2 | require: [swap]",
            "    | ^",
            "  help: did you mean `requires`?",
        ],
    },
    Case {
        name: "an unknown seal",
        content: "about: x\nfiles:\n  a: { pages: 1, seals: [grwo] }\nsteps:\n  - reclaim: { pages: 1 }\n",
        said: &["bad.yaml:3:26: unknown seal `grwo`"],
    },
    Case {
        name: "the same file twice",
        content: "about: x\nfiles:\n  a: { pages: 1 }\n  a: { pages: 1 }\nsteps:\n  - reclaim: { pages: 1 }\n",
        said: &["bad.yaml:4:3: duplicate mapping key: a"],
    },
    Case {
        name: "an actor of an unknown kind",
        content: "about: x\nactors:\n  a: { kind: forked }\nsteps:\n  - exit: { by: a }\n",
        said: &["bad.yaml:3:14: unknown variant `forked`, expected one of process, thread, fork"],
    },
    Case {
        name: "a hart that no machine has",
        content: "about: x\nactors:\n  p: { kind: process, hart: 63 }\nsteps:\n  - exit: { by: p }\n",
        said: &["bad.yaml:3:29: there is no hart 63: they are numbered up to 62"],
    },
    Case {
        name: "a hart in quotes",
        content: "about: x\nactors:\n  p: { kind: process, hart: \"1\" }\nsteps:\n  - exit: { by: p }\n",
        said: &["bad.yaml:3:29: expected the number of a hart, found the text \"1\""],
    },
    Case {
        name: "an actor whose name ends in a colon",
        content: "about: x\nactors:\n  \"p: q\": { kind: process }\nsteps:\n  - exit: { by: \"p: q\" }\n",
        said: &["bad.yaml:3:11: \"p: q\" is no name: it takes letters, digits, `-`, `_` and `.`"],
    },
    Case {
        name: "a file whose name has two lines",
        content: "about: x\nfiles:\n  \"a\\nb\": { pages: 1 }\nsteps:\n  - exit\n",
        said: &["bad.yaml:3:11: \"a\\nb\" is no name"],
    },
    Case {
        name: "an actor called subject",
        content: "about: x\nactors:\n  subject: { kind: process }\nsteps:\n  - exit: {}\n",
        said: &["bad.yaml:3:12: `subject` is there in every scenario"],
    },
    Case {
        name: "a thread of nobody",
        content: "about: x\nactors:\n  a: { kind: thread }\nsteps:\n  - exit: { by: a }\n",
        said: &["bad.yaml:3:6: a thread says `of:`, whose it is"],
    },
    Case {
        name: "a thread of a forked child",
        content: "about: x\nactors:\n  c: { kind: fork }\n  a: { kind: thread, of: c }\nsteps:\n  - exit: { by: a }\n",
        said: &["bad.yaml:4:26: a thread is of the subject or of an actor of the kind `process`"],
    },
    Case {
        name: "an unknown actor",
        content: "about: x\nactors:\n  child: { kind: fork }\nsteps:\n  - fork: { child: chlid }\n",
        said: &[
            "bad.yaml:5:20: no actor `chlid` under `actors`",
            "  5 |   - fork: { child: chlid }",
            "    |                    ^",
            "  help: did you mean `child`?",
        ],
    },
    Case {
        name: "a step before its actor is forked",
        content: "about: x\nactors:\n  c: { kind: fork }\nsteps:\n  - run: { by: c }\n  - fork: { child: c }\n",
        said: &["bad.yaml:5:16: `c` has not been forked yet"],
    },
    Case {
        name: "a child that is forked twice",
        content: "about: x\nactors:\n  c: { kind: fork }\nsteps:\n  - fork: { child: c }\n  - fork: { child: c }\n",
        said: &["bad.yaml:6:20: `c` was forked before"],
    },
    Case {
        name: "a step of the dead",
        content: "about: x\nactors:\n  p: { kind: process }\nsteps:\n  - exit: { by: p }\n  - exec: { by: p }\n",
        said: &["bad.yaml:6:17: `p` has exited"],
    },
    Case {
        name: "a hart that somebody runs on",
        content: "about: x\nactors:\n  p: { kind: process }\nsteps:\n  - run: { by: p }\n  - exit: {}\n",
        said: &["bad.yaml:6:5: `p` runs on hart 0 and gives it to nobody"],
    },
    Case {
        name: "a child on a hart that somebody runs on",
        content: "about: x\nactors:\n  p: { kind: process, hart: 1 }\n  c: { kind: fork, hart: 1 }\nsteps:\n  - run: { by: p }\n  - fork: { child: c }\n",
        said: &[
            "bad.yaml:7:5: `p` runs on hart 1 and gives it to nobody, but `c` would have to come to life there",
        ],
    },
    Case {
        name: "an exit of a thread's process on whose hart somebody runs",
        content: "about: x\nactors:\n  p: { kind: process, hart: 1 }\n  t: { kind: thread, of: subject, hart: 1 }\nsteps:\n  - run: { by: t }\n  - reclaim: { pages: 1, by: t }\n  - run: { by: p }\n  - exit: {}\n",
        said: &[
            "bad.yaml:9:5: `p` runs on hart 1 and gives it to nobody, but `t` would have to die there",
        ],
    },
    Case {
        name: "an exec of a thread's process on whose hart somebody runs",
        content: "about: x\nactors:\n  p: { kind: process, hart: 1 }\n  t: { kind: thread, of: subject, hart: 1 }\nsteps:\n  - reclaim: { pages: 1, by: t }\n  - run: { by: p }\n  - exec: {}\n",
        said: &[
            "bad.yaml:8:5: `p` runs on hart 1 and gives it to nobody, but `t` would have to die there",
        ],
    },
    Case {
        name: "advice to who has not been forked",
        content: "about: x\nactors:\n  c: { kind: fork }\nsteps:\n  - process_madvise: { of: c, at: 0, pages: 1, advice: cold }\n  - fork: { child: c }\n",
        said: &["bad.yaml:5:28: `c` has not been forked yet"],
    },
    Case {
        name: "an actor that does nothing",
        content: "about: x\nactors:\n  p: { kind: process }\nsteps:\n  - exit: {}\n",
        said: &["bad.yaml:3:6: `p` does nothing"],
    },
    Case {
        name: "a finding without its page",
        content: "about: x\nfinding: { page: none.md, kernels: [noasid] }\nsteps:\n  - exit: {}\n",
        said: &["bad.yaml:2:18: there is no page none.md beside the scenario"],
    },
    Case {
        name: "a list that holds itself",
        content: "about: x\nsteps: &a [*a]\n",
        said: &["bad.yaml:2:12: "],
    },
];

fn check(case: &Case, content: &str) {
    let said = refusal(content.as_bytes());
    for (line, expected) in said.lines().zip(case.said) {
        assert!(
            line.starts_with(expected),
            "{}:\n{said}\nexpected {expected}",
            case.name
        );
    }
    assert!(
        said.lines().count() >= case.said.len(),
        "{}:\n{said}",
        case.name
    );
}

#[test]
fn what_is_wrong_with_a_step_is_said_where_it_stands() {
    for case in AFTER_A_GOOD_STEP {
        check(case, &format!("{HEAD}{}", case.content));
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    for case in WHOLE {
        check(case, case.content);
    }
}

#[test]
fn the_same_files_without_the_fault_are_accepted() {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("good.yaml"), HEAD).expect("a file");
    let output = tlbdiff(&["check", "good.yaml"], folder.path());
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout, b"1 scenario is well-formed\n");
}

#[test]
fn what_needs_no_field_is_complete_by_its_name() {
    let folder = TempDir::new().expect("a folder");
    let steps = ["- exec", "- exec:", "- exec: {}", "- run", "- exit"];
    let content = format!("about: x\nsteps:\n{}\n", steps.join("\n"));
    fs::write(folder.path().join("good.yaml"), content).expect("a file");
    let output = tlbdiff(&["check", "good.yaml"], folder.path());
    assert_eq!(output.stdout, b"1 scenario is well-formed\n", "{output:?}");
}

/// A file of some head and a line for each number.
fn listed(head: &str, line: impl Fn(usize) -> String, count: usize, tail: &str) -> String {
    let lines: Vec<String> = (0..count).map(line).collect();
    format!("about: x\n{head}:\n{}\n{tail}", lines.join("\n"))
}

#[test]
fn a_scenario_has_limits_that_are_told() {
    let steps = |count| listed("steps", |_| "- exec".to_owned(), count, "");
    let files = |count| {
        let line = |number| format!("  f{number:04}: {{ pages: 1 }}");
        listed("files", line, count, "steps: [exec]\n")
    };
    let actors = |count| {
        let line = |number| format!("  p{number:04}: {{ kind: process }}");
        listed("actors", line, count, "steps: [exec]\n")
    };
    for (content, said) in [
        (
            steps(32_001),
            "bad.yaml:32003:3: too many steps: a scenario has at most 32000",
        ),
        (
            files(1001),
            "bad.yaml:1003:10: too many files: a scenario has at most 1000",
        ),
        (
            actors(501),
            "bad.yaml:503:10: too many actors: a scenario has at most 500",
        ),
    ] {
        let refused = refusal(content.as_bytes());
        assert!(refused.starts_with(said), "{refused}");
    }
    let folder = TempDir::new().expect("a folder");
    for content in [steps(32_000), files(1000)] {
        fs::write(folder.path().join("good.yaml"), content).expect("a file");
        let output = tlbdiff(&["check", "good.yaml"], folder.path());
        assert_eq!(output.stdout, b"1 scenario is well-formed\n", "{output:?}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_shown_where_they_are() {
    let said = refusal(b"about: x\nsteps: \xff\n");
    assert!(
        said.starts_with("bad.yaml:2:8: byte 0xff is not UTF-8\n  2 | steps: "),
        "{said}"
    );
}

#[test]
fn a_file_of_10_mb_is_refused_at_once() {
    let begin = Instant::now();
    let said = refusal(&b"# just a comment\n".repeat(10 << 20 >> 4));
    assert_eq!(said, "bad.yaml: larger than 1024 KiB: not a scenario\n");
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn all_wrong_files_are_told_in_one_go() {
    let folder = TempDir::new().expect("a folder");
    for name in ["a.yaml", "b.yaml"] {
        fs::write(folder.path().join(name), "about: x\n").expect("a file");
    }
    let output = tlbdiff(&["run", "--backend", "recorded", "."], folder.path());
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("a.yaml:1:1") && said.contains("b.yaml:1:1"),
        "{said}"
    );
}

/// Exit code 2, and this is said.
fn usage(arguments: &[&str], expected: &str) {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("good.yaml"), HEAD).expect("a file");
    fs::create_dir(folder.path().join("nothing")).expect("a folder");
    let output = tlbdiff(arguments, folder.path());
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    assert!(said.contains(expected), "{arguments:?}: {said}");
}

#[test]
fn what_is_wrong_with_the_command_line_is_said() {
    usage(
        &["run", "nothing"],
        "nothing: no scenario (*.yaml) in this directory",
    );
    usage(
        &["run", "no-such.yaml"],
        "no-such.yaml: no such file or directory",
    );
    usage(
        &["run", "--filter", "zzz", "good.yaml"],
        "no scenario's path contains `zzz`",
    );
    usage(
        &["run", "--kernel", "stabel", "good.yaml"],
        "did you mean `stable`?",
    );
    usage(
        &["run", "--model-profile", "prepach", "good.yaml"],
        "did you mean `prepatch`?",
    );
    usage(
        &["predict", "--model-profile", "zzzzzzz", "good.yaml"],
        "known: stable, 6.12.107, next, ",
    );
    usage(
        &["compare", "--kernels", "stable", "good.yaml"],
        "compare wants two kernels",
    );
    usage(
        &["compare", "--kernels", "stable,nxt", "good.yaml"],
        "did you mean `next`?",
    );
    usage(
        &[
            "run",
            "--backend",
            "recorded",
            "--kernel",
            "noasid",
            "good.yaml",
        ],
        "no snapshots are kept of noasid",
    );
    usage(&["run", "--backend", "recoded", "good.yaml"], "recorded");
    for place in [
        "ssh:",
        "ssh:-oProxyCommand=x",
        "ssh:a:b",
        "ssh:a b",
        "telnet:a",
    ] {
        usage(
            &["run", "--backend", place, "good.yaml"],
            "it is `guest`, `recorded`, `local` or `ssh:[USER@]HOST[:PORT]`",
        );
    }
    usage(
        &[
            "run",
            "--backend",
            "ssh:a",
            "--backend",
            "guest",
            "good.yaml",
        ],
        "boards and other backends do not go together",
    );
    usage(
        &["run", "--backend", "ssh:a", "--kernel", "next", "good.yaml"],
        "a board runs the kernel that it has",
    );
    for part in ["1/2", "hash:0/2", "hash:3/2", "hash:1", "hash:a/b"] {
        usage(&["run", "--partition", part, "good.yaml"], "hash:M/N");
    }
    usage(&["doctor", "--backend", "local"], "--restore");
    usage(
        &["doctor", "--restore", "--backend", "guest"],
        "nothing is left behind on `guest`",
    );
    usage(&["run", "--repeat", "0", "good.yaml"], "--repeat");
    usage(&["run", "--jobs", "many", "good.yaml"], "--jobs");
    usage(&["rnu", "--frobnicate"], "--frobnicate");
    usage(&["run"], "PATH");
    usage(&[], "PATH");
}

/// What would be built first takes minutes, and may need the network.
#[test]
fn a_wrong_scenario_is_told_before_an_own_tree_is_built() {
    let folder = TempDir::new().expect("a folder");
    let tree = folder.path().join("linux");
    fs::create_dir_all(tree.join("arch/riscv/mm")).expect("folders");
    fs::write(tree.join("Makefile"), "VERSION = 7\nPATCHLEVEL = 3\n").expect("a file");
    fs::write(tree.join("arch/riscv/mm/tlbflush.c"), "").expect("a file");
    fs::write(folder.path().join("bad.yaml"), "about: x\n").expect("a file");
    for command in ["run", "nightly", "compare", "cost"] {
        let arguments = [command, "--kernel-tree", "linux", "bad.yaml"];
        let output = tlbdiff(&arguments, folder.path());
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2), "{command}: {said}");
        assert!(said.contains("bad.yaml"), "{command}: {said}");
        assert!(!said.contains("building"), "{command}: {said}");
    }
}
