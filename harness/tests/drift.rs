// SPDX-License-Identifier: GPL-2.0-only
//! What changed between two releases, of what the model mirrors: their sources have to be
//! provisioned.

use reference_model::mirrored::{Mirror, fields, kernel_file, mirrors};
use reference_model::{Profile, forms};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use tlbdiff::drift::{Change, Drift, Source, drift};
use tlbdiff::reading;
use vm::{KernelChoice, c_source};

fn source(name: &str) -> Source {
    let root = vm::source(&KernelChoice::Named(name.to_owned())).expect("it is provisioned");
    Source::read(name.to_owned(), &root).expect("a source that can be read")
}

/// The fields in which two profiles differ.
fn differing(one: &Profile, other: &Profile) -> BTreeSet<&'static str> {
    let [one, other] = [one, other].map(|profile| format!("{profile:#?}"));
    let lines = one.lines().zip(other.lines());
    let differing: Vec<&str> = lines
        .filter(|(one, other)| one != other)
        .filter_map(|(line, _)| line.trim().split(':').next())
        .collect();
    let fields = fields().into_iter().map(|field| field.name);
    fields.filter(|name| differing.contains(name)).collect()
}

/// Whether a function that changed leads to a field: what mirrors it reads the field, or the
/// field's documentation names it.
fn leads_to(drift: &Drift<'_>, field: &str) -> bool {
    let fields = fields();
    let named = fields.iter().find(|other| other.name == field);
    let named = named.map(|field| &field.kernel);
    drift.mirrored.iter().any(|drifted| {
        drifted.fields().contains(field) || named.is_some_and(|names| names.contains(drifted.name))
    })
}

/// How many of the names that changed lead to none of the fields.
fn false_hints(drift: &Drift<'_>, wanted: &BTreeSet<&str>) -> usize {
    let documented: BTreeSet<&str> = fields()
        .into_iter()
        .filter(|field| wanted.contains(field.name))
        .flat_map(|field| field.kernel)
        .collect();
    let leads: BTreeSet<&str> = drift
        .mirrored
        .iter()
        .filter(|drifted| {
            let fields = drifted.fields();
            documented.contains(drifted.name) || !fields.is_disjoint(wanted)
        })
        .map(|drifted| drifted.name)
        .collect();
    drift.names().len() - leads.len()
}

#[test]
fn all_that_the_profiles_tell_apart_is_found_from_the_sources() {
    for (old, new, one, other) in [
        ("6.12", "7.2", Profile::STABLE, Profile::NEXT),
        ("7.2", "7.3", Profile::NEXT, Profile::LINUX_7_3),
    ] {
        found_from_the_sources((old, &one), (new, &other));
    }
}

fn found_from_the_sources((old, one): (&str, &Profile), (new, other): (&str, &Profile)) {
    let (old, new, mirrors): (_, _, Vec<Mirror>) = (source(old), source(new), mirrors());
    let drift = drift(&old, &new, &mirrors);
    let wanted = differing(one, other);
    assert!(wanted.len() >= 3, "{wanted:?}");
    let missed: Vec<&&str> = wanted
        .iter()
        .filter(|field| !leads_to(&drift, field))
        .collect();
    assert!(
        missed.is_empty(),
        "nothing that changed leads to {missed:?}"
    );
    // Most changes of a kernel change nothing that the model says.
    let (names, unneeded) = (drift.names().len(), false_hints(&drift, &wanted));
    let (old, new) = (&old.name, &new.name);
    println!("{old} → {new}: {names} names changed, {unneeded} of them lead to no field");
    assert!(names < drift.looked_at, "{names} of {}", drift.looked_at);
}

#[test]
fn what_the_model_says_that_it_mirrors_is_there() {
    let sources = ["6.12", "7.2", "7.3"].map(source);
    // Names in capitals can be an enum's.
    let is_lower = |name: &&str| name.chars().any(|c| c.is_ascii_lowercase());
    let named: BTreeSet<&str> = mirrors()
        .into_iter()
        .flat_map(|mirror| mirror.kernel)
        .filter(is_lower)
        .collect();
    let nowhere: Vec<&&str> = named
        .iter()
        .filter(|name| !sources.iter().any(|source| source.defines(name)))
        .collect();
    assert!(nowhere.is_empty(), "{nowhere:?}");
}

#[test]
fn each_function_of_the_model_stands_where_6_12_has_it() {
    let root = vm::source(&KernelChoice::Named("6.12".to_owned())).expect("it is provisioned");
    let source = source("6.12");
    let mut wrong = BTreeSet::new();
    for mirror in mirrors() {
        let Some(file) = kernel_file(mirror.file) else {
            continue;
        };
        if !root.join(&file).is_file() {
            wrong.insert(format!("{}: there is no {file}", mirror.file));
        }
        let names = mirror.functions.iter();
        let defined: Vec<_> = names.flat_map(|name| source.definitions(name)).collect();
        let is_here = |file: &str| mirror.sources.contains(file);
        if !defined.is_empty() && !defined.iter().any(|one| is_here(one.file)) {
            let places: BTreeSet<&str> = defined.iter().map(|one| one.file).collect();
            let Mirror {
                file, line, name, ..
            } = mirror;
            wrong.insert(format!("{file}:{line}: {name} is of {places:?}"));
        }
    }
    let wrong: Vec<String> = wrong.into_iter().collect();
    assert!(
        wrong.is_empty(),
        "move these, or name the header in their documentation:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn a_release_has_not_changed_against_itself() {
    let (old, new, mirrors) = (source("7.3"), source("7.3"), mirrors());
    let drift = drift(&old, &new, &mirrors);
    assert!(drift.mirrored.is_empty() && drift.callees.is_empty());
    assert!(drift.looked_at > 400, "{}", drift.looked_at);
}

#[test]
fn an_edit_of_a_variant_is_the_one_thing_that_changed() {
    let (old, new, mirrors) = (source("stable"), source("noasid-fixed"), mirrors());
    let drift = drift(&old, &new, &mirrors);
    let names: Vec<&str> = drift.names().into_iter().collect();
    assert_eq!(names, ["__flush_tlb_range"]);
    let change = drift.mirrored[0].pair.change;
    let edited = Change::Edited {
        moved: false,
        signature: false,
        body: true,
    };
    assert_eq!(change, edited);
}

#[test]
fn it_is_told_with_the_function_of_the_model_and_the_changed_lines() {
    let tlbdiff = |arguments: &[&str]| {
        let program = env!("CARGO_BIN_EXE_tlbdiff");
        let mut command = Command::new(program);
        let output = command.args(arguments).output().expect("it starts");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (code, told, _) = tlbdiff(&["drift", "stable", "noasid-fixed"]);
    assert_eq!(code, Some(1));
    for wanted in [
        "arch/riscv/mm/tlbflush.c:",
        "__flush_tlb_range(): changed",
        "mirrored by __flush_tlb_range (reference-model/src/arch/riscv/mm/tlbflush.rs:",
        "+\tif (cpumask_empty(cmask)) goto notify;",
        "stable → noasid-fixed: of ",
    ] {
        assert!(told.contains(wanted), "no {wanted} in {told}");
    }
    let (code, told, _) = tlbdiff(&[
        "drift",
        "stable",
        "noasid-fixed",
        "--function",
        "zap_pte_range",
    ]);
    assert_eq!((code, told.lines().count()), (Some(0), 1), "{told}");
    let (code, told, _) = tlbdiff(&["drift", "--format", "json", "stable", "noasid-fixed"]);
    let lines: Vec<serde_json::Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(code, Some(1));
    assert_eq!(lines[0]["name"], "__flush_tlb_range");
    assert_eq!(lines[0]["changes"], serde_json::json!(["body"]));
    assert_eq!(lines.last().expect("a line")["exit_code"], 1);
    let (code, _, error) = tlbdiff(&["drift", "stable", "nxt"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("no kernel is called `nxt`"), "{error}");
    let (code, _, error) = tlbdiff(&["drift", "stable", "/nowhere"]);
    assert_eq!(code, Some(2), "{error}");
}

/// The text of a kernel's tlbflush.c.
fn tlbflush(name: &str) -> String {
    let root = vm::source(&KernelChoice::Named(name.to_owned())).expect("it is provisioned");
    std::fs::read_to_string(root.join(reading::TLBFLUSH)).expect("it has one")
}

#[test]
fn the_forms_of_tlbflush_c_are_those_of_the_releases() {
    let texts = ["6.12", "prepatch", "7.2", "7.3"].map(tlbflush);
    let mut forms: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for (name, text) in texts.iter().flat_map(|text| reading::functions(text)) {
        let form = forms::form(&c_source::words(text));
        forms.entry(name).or_default().insert(form);
    }
    let mut table = String::new();
    for (name, forms) in forms {
        let forms: Vec<String> = forms.iter().map(|form| format!("{form:#018x}")).collect();
        table += &format!("    (\"{name}\", &[{}]),\n", forms.join(", "));
    }
    for text in &texts {
        let unknown = reading::unknown_forms(text);
        assert!(unknown.is_empty(), "{unknown:?}; all of them are\n{table}");
    }
    // The fix of a finding is an edit, and no release's.
    let fixed = tlbflush("noasid-fixed");
    assert_eq!(reading::unknown_forms(&fixed), ["__flush_tlb_range"]);
}
