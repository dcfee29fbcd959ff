// SPDX-License-Identifier: GPL-2.0-only

use super::*;
use std::collections::BTreeSet;

/// The model's `zap` mirrors `zap()` and `limit`, in that file.
fn mirrors() -> Vec<Mirror> {
    let set = |names: &[&'static str]| names.iter().copied().collect::<BTreeSet<_>>();
    vec![Mirror {
        name: "zap",
        file: "memory.rs",
        line: 7,
        kernel: set(&["zap", "LIMIT"]),
        functions: set(&["zap"]),
        sources: BTreeSet::from(["mm/memory.c".to_owned()]),
        fields: set(&["zap_drains_lru"]),
        calls: set(&[]),
    }]
}

const OLD: &str = "#define LIMIT 64\n/* Zaps. */\nint zap(int a)\n{\n\tif (a > LIMIT)\n\t\tdrain(a, a + 1, 2);\n\treturn helper(a) + helper(a + 1);\n}\n";
const HELPER: &str = "static int helper(int a)\n{\n\treturn a;\n}\n";

/// What is told of those two: mirrored, and callees.
fn told(old: &[(&str, &str)], new: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
    let (old, new, mirrors) = (Source::made(old), Source::made(new), mirrors());
    let drift = drift(&old, &new, &mirrors);
    let mirrored = drift.mirrored.iter();
    let callees = drift.callees.iter();
    (
        mirrored
            .map(|drifted| format!("{} {:?}", drifted.name, drifted.pair.change))
            .collect(),
        callees
            .map(|callee| format!("{} {:?}", callee.name, callee.pair.change))
            .collect(),
    )
}

fn edited(moved: bool, signature: bool, body: bool) -> Change<'static> {
    Change::Edited {
        moved,
        signature,
        body,
    }
}

#[test]
fn comments_and_white_space_are_no_change() {
    let other = OLD
        .replace("Zaps.", "Zaps all.")
        .replace("\n\t\tdrain", " /* x */ drain");
    let nothing = (Vec::new(), Vec::new());
    assert_eq!(
        told(&[("mm/memory.c", OLD)], &[("mm/memory.c", &other)]),
        nothing
    );
}

#[test]
fn body_signature_and_macros_are_told_apart() {
    let change = |from: &str, to: &str| {
        let other = OLD.replace(from, to);
        told(&[("mm/memory.c", OLD)], &[("mm/memory.c", &other)]).0
    };
    let zap = |change| vec![format!("zap {change:?}")];
    assert_eq!(
        change("a > LIMIT", "a >= LIMIT"),
        zap(edited(false, false, true))
    );
    assert_eq!(
        change("zap(int a)", "zap(long a)"),
        zap(edited(false, true, false))
    );
    let limit = vec![format!("LIMIT {:?}", edited(false, false, true))];
    assert_eq!(change("LIMIT 64", "LIMIT 65"), limit);
}

#[test]
fn what_moves_is_followed() {
    let moved = told(&[("mm/memory.c", OLD)], &[("mm/zap.c", OLD)]).0;
    let both = ["LIMIT", "zap"].map(|name| format!("{name} {:?}", edited(true, false, false)));
    assert_eq!(moved, both);
    let other = OLD.replace("a > LIMIT", "a >= LIMIT");
    let moved = told(&[("mm/memory.c", OLD)], &[("mm/zap.c", &other)]).0;
    assert!(
        moved.contains(&format!("zap {:?}", edited(true, false, true))),
        "{moved:?}"
    );
}

#[test]
fn another_name_is_told_from_no_name() {
    let renamed = OLD
        .replace("zap(", "zap_range(")
        .replace("a > LIMIT", "a >= LIMIT");
    let told_of = told(&[("mm/memory.c", OLD)], &[("mm/memory.c", &renamed)]).0;
    assert_eq!(told_of, ["zap Renamed(\"zap_range\")"]);
    let other = "#define LIMIT 64\nint walk(void)\n{\n\treturn 1;\n}\n";
    let told_of = told(&[("mm/memory.c", OLD)], &[("mm/memory.c", other)]).0;
    assert_eq!(told_of, ["zap Gone"]);
    let told_of = told(&[("mm/memory.c", other)], &[("mm/memory.c", OLD)]).0;
    assert_eq!(told_of, ["zap New"]);
}

#[test]
fn what_is_called_is_looked_at_too_but_not_further() {
    let further = "int deep(void)\n{\n\treturn 1;\n}\n";
    let old = [
        ("mm/memory.c", OLD),
        ("mm/helper.c", HELPER),
        ("mm/deep.c", further),
    ];
    let helper = HELPER.replace("return a", "return deep() + a");
    let deeper = further.replace('1', "2");
    let new = [
        ("mm/memory.c", OLD),
        ("mm/helper.c", &*helper),
        ("mm/deep.c", &*deeper),
    ];
    let callees = vec![format!("helper {:?}", edited(false, false, true))];
    assert_eq!(told(&old, &new), (Vec::new(), callees));
}

#[test]
fn of_several_definitions_the_model_s_file_counts() {
    let stub = "int zap(int a)\n{\n\treturn 0;\n}\n";
    let other = stub.replace('0', "1");
    let old = [("mm/memory.c", OLD), ("mm/other.c", stub)];
    let new = [("mm/memory.c", OLD), ("mm/other.c", &*other)];
    assert_eq!(told(&old, &new).0, Vec::<String>::new());
}
