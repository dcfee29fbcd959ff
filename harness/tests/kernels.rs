// SPDX-License-Identifier: GPL-2.0-only
//! What depends on which kernel it is: known findings, promises, and snapshots.

mod common;

use common::{judge, root};
use reference_model::{Machine, Profile};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;
use tlbdiff::backend::{Backend, Observed, Subject};
use tlbdiff::checks::Chosen;
use tlbdiff::cli::args::Format;
use tlbdiff::compare::{Class, Compared, Side, compare};
use tlbdiff::finding::Finding;
use tlbdiff::judge::{Judge, expect};
use tlbdiff::layer1::Layer1;
use tlbdiff::outcome::Outcome;
use tlbdiff::parse::parse;
use tlbdiff::reading::{Nearest, Reading};
use tlbdiff::report::compares::Compares;
use tlbdiff::report::style::Style;
use tlbdiff::run::{MakeBackend, Stop, messages};
use tlbdiff::scenario::{Scenario, check};
use tlbdiff::snapshot::{Set, SnapshotPath};
use tlbdiff::steps::{Fences, of_prediction};
use tlbdiff::text;

/// A kernel that does what the model of a profile does, on a machine with ASIDs or without.
#[derive(Clone, Copy)]
struct As {
    profile: &'static Profile,
    asids: bool,
}

impl As {
    fn machine(self) -> Machine {
        Machine {
            asids: self.asids,
            ..Machine::default()
        }
    }

    fn backend(self) -> Arc<MakeBackend> {
        Arc::new(move |_, _| Box::new(self))
    }
}

impl Backend for As {
    fn prepare(&mut self, _: &Scenario) -> Result<Subject, Finding> {
        Ok(Subject {
            machine: self.machine(),
            kernel: "6.12.1".to_owned(),
        })
    }

    fn observe(&mut self, scenario: &Scenario, layer1: Layer1<'_>) -> Result<Observed, Finding> {
        let prediction = expect(self.profile, &self.machine(), scenario);
        let steps = of_prediction(&prediction, Fences::Observable);
        let text = text::steps(scenario, &steps);
        Ok(Observed {
            observation: parse(scenario, text.trim_end()).expect("what is printed is read"),
            traced: false,
            callers: tlbdiff::callers::Callers::default(),
            layer1: layer1.finish(),
            device: None,
            iommu: None,
            complaints: vec![],
        })
    }
}

const STABLE: As = As {
    profile: &Profile::STABLE,
    asids: true,
};
const PREPATCH: As = As {
    profile: &Profile::PREPATCH,
    asids: true,
};
const NOASID: As = As {
    profile: &Profile::NOASID,
    asids: false,
};
const FIXED: As = As {
    profile: &Profile::FIXED,
    asids: false,
};

fn scenario(path: &str) -> Arc<Scenario> {
    let path = root().join("scenarios").join(path);
    let text = fs::read_to_string(&path).expect("a scenario");
    Arc::new(check(&path, &text).expect("well-formed"))
}

/// Of the scenario of a known finding, which names kernel `noasid`.
fn of_finding(kernel: &str, profile: &'static Profile, does: As) -> (Outcome, String) {
    let by = Judge {
        checks: Chosen::default(),
        profile,
        reading: Reading::Read,
        repeat: 2,
        snapshots: None,
        kernel: kernel.to_owned(),
    };
    let scenario = scenario("findings/empty-cpumask-remove.yaml");
    let (summary, told) = judge(vec![scenario], by, does.backend());
    (summary.worst(), told)
}

#[test]
fn a_kernel_that_is_wrong_as_is_known_is_no_failure() {
    let (outcome, told) = of_finding("noasid", &Profile::NOASID, NOASID);
    assert_eq!(outcome, Outcome::Known, "{told}");
    assert_eq!(outcome.exit_code(), 0);
    assert!(told.contains("empty-cpumask.md"), "{told}");
}

#[test]
fn any_other_kernel_that_does_so_is_unsafe() {
    for kernel in ["stable", "noasid-fixed", "tree:/src/linux"] {
        let (outcome, told) = of_finding(kernel, &Profile::NOASID, NOASID);
        assert_eq!(outcome, Outcome::Unsafe, "{kernel}: {told}");
    }
}

#[test]
fn a_kernel_that_is_no_longer_wrong_is_a_failure() {
    let (outcome, told) = of_finding("noasid", &Profile::FIXED, FIXED);
    assert_eq!(outcome, Outcome::NotReproduced, "{told}");
    assert_eq!(outcome.exit_code(), 1);
    assert!(told.contains("empty-cpumask.md"), "{told}");
}

#[test]
fn a_model_that_is_still_wrong_is_told_of_with_the_page() {
    let (outcome, told) = of_finding("noasid", &Profile::NOASID, FIXED);
    assert_eq!(outcome, Outcome::Unsafe, "{told}");
    assert!(told.contains("by the model"), "{told}");
    assert!(told.contains("has to be revised"), "{told}");
}

#[test]
fn what_is_known_excuses_no_difference() {
    let (outcome, told) = of_finding("noasid", &Profile::FIXED, NOASID);
    assert_eq!(outcome, Outcome::Differs, "{told}");
}

#[test]
fn only_where_a_promise_was_made_can_it_be_broken() {
    let outcome = |profile: &'static Profile| {
        let by = Judge {
            checks: Chosen::default(),
            profile,
            reading: Reading::Read,
            repeat: 1,
            snapshots: None,
            kernel: profile.name.to_owned(),
        };
        let scenario = scenario("munmap/middle.yaml");
        judge(vec![scenario], by, PREPATCH.backend()).0.worst()
    };
    assert_eq!(outcome(&Profile::PREPATCH), Outcome::Agree);
    assert_eq!(outcome(&Profile::STABLE), Outcome::Unsafe);
}

/// What a model of 7.2 makes of a kernel that does as another profile's and is told as 7.1: which
/// was not read, and whose source is 6.12's.
fn not_read(does: As, scenario_name: &str) -> (Outcome, String) {
    let source = |name: &str| {
        let kernel = vm::KernelChoice::Named(name.to_owned());
        vm::source(&kernel).expect("it is provisioned")
    };
    let sources = Ok([source("7.2"), source("6.12")]);
    let nearest = Nearest::new("7.1.0".to_owned(), "next".to_owned(), sources);
    let by = Judge {
        checks: Chosen::default(),
        profile: &Profile::NEXT,
        reading: Reading::NotRead(Arc::new(nearest)),
        repeat: 1,
        snapshots: None,
        kernel: "tree:/somewhere".to_owned(),
    };
    let (summary, told) = judge(vec![scenario(scenario_name)], by, does.backend());
    (summary.worst(), told)
}

#[test]
fn a_model_that_was_not_read_for_a_release_says_what_may_explain_it_and_accuses_nobody() {
    let (outcome, told) = not_read(STABLE, "madvise/dontneed-across-page-tables.yaml");
    assert_eq!(outcome, Outcome::ModelNotRead, "{told}");
    assert_eq!(outcome.exit_code(), 3);
    for wanted in [
        "the model was not read for Linux 7.1.0 but for next",
        "changed since next in what this step comes to: do_madvise, ",
        "madvise_batch_tlb_flush",
    ] {
        assert!(told.contains(wanted), "no {wanted} in {told}");
    }
    // One that notifies nobody would be unsafe, if the model spoke for it.
    let (outcome, told) = not_read(PREPATCH, "munmap/middle.yaml");
    assert_eq!(outcome, Outcome::ModelNotRead, "{told}");
    assert!(told.contains("perhaps unsafe"), "{told}");
    let next = As {
        profile: &Profile::NEXT,
        asids: true,
    };
    let (outcome, told) = not_read(next, "madvise/dontneed-across-page-tables.yaml");
    assert_eq!(outcome, Outcome::Agree, "{told}");
}

/// A stable kernel that forgets what some lines of its text say.
#[derive(Clone, Copy)]
struct Forgetful(fn(&str) -> bool);

impl Backend for Forgetful {
    fn prepare(&mut self, scenario: &Scenario) -> Result<Subject, Finding> {
        { STABLE }.prepare(scenario)
    }

    fn observe(&mut self, scenario: &Scenario, layer1: Layer1<'_>) -> Result<Observed, Finding> {
        let prediction = expect(STABLE.profile, &STABLE.machine(), scenario);
        let steps = of_prediction(&prediction, Fences::Observable);
        let text = text::steps(scenario, &steps);
        let kept = text.lines().filter(|line| !self.0(line));
        let text = kept.collect::<Vec<_>>().join("\n");
        Ok(Observed {
            observation: parse(scenario, &text).expect("what is printed is read"),
            traced: false,
            callers: tlbdiff::callers::Callers::default(),
            layer1: layer1.finish(),
            device: None,
            iommu: None,
            complaints: vec![],
        })
    }
}

/// Pages that are read first are replaced when they are written, and then unmapped.
fn forgets(what: fn(&str) -> bool) -> (Outcome, String) {
    let text = "about: x\nsteps:\n  - mmap: { at: 0, pages: 16 }\n  \
                - touch: { at: 4, pages: 2, access: read }\n  \
                - touch: { at: 4, pages: 2, access: write }\n  - munmap: { at: 4, pages: 1 }\n";
    let scenario = check(Path::new("x.yaml"), text).expect("well-formed");
    let by = Judge {
        checks: Chosen::default(),
        profile: &Profile::STABLE,
        reading: Reading::Read,
        repeat: 1,
        snapshots: None,
        kernel: "stable".to_owned(),
    };
    let backend: Arc<MakeBackend> = Arc::new(move |_, _| Box::new(Forgetful(what)));
    let (summary, told) = judge(vec![Arc::new(scenario)], by, backend);
    (summary.worst(), told)
}

#[test]
fn a_kernel_that_calls_and_does_not_tell_is_unsafe() {
    assert_eq!(forgets(|_| false).0, Outcome::Agree);
    let (outcome, told) = forgets(|line| line == "     notified [4,5)");
    assert_eq!(outcome, Outcome::Unsafe, "{told}");
    assert!(
        told.contains("  unsafe: secondary MMUs were not notified"),
        "{told}"
    );
    let step = "pages [4,5) lost their mapping, a right or their frame in step 3";
    assert!(told.contains(step), "{told}");
    assert!(!told.contains("a guess"), "{told}");
}

#[test]
fn a_kernel_that_does_something_else_differs_and_what_it_took_is_a_guess() {
    let (outcome, told) =
        forgets(|line| line.contains("_page 4") || line.contains("notified [4,5)"));
    assert_eq!(outcome, Outcome::Differs, "{told}");
    assert!(told.contains("this is a guess"), "{told}");
    assert!(
        told.contains("perhaps unsafe") && told.contains("pages [4,5) lost"),
        "{told}"
    );
}

#[test]
fn behind_a_difference_the_model_speaks_for_no_kernel() {
    // The calls of the last step are as expected, those of the step before it are not.
    let other = |line: &str| line.ends_with("flush_tlb_page 5") || line == "     notified [4,5)";
    let (outcome, told) = forgets(other);
    assert_eq!(outcome, Outcome::Differs, "{told}");
}

#[test]
fn a_findings_page_lies_beside_its_scenario() {
    let folder = TempDir::new().expect("a folder");
    for page in ["page.md", "sub/page.md"] {
        let page = folder.path().join(page);
        fs::create_dir_all(page.parent().expect("a folder")).expect("a folder");
        fs::write(page, "what is known").expect("a file");
    }
    let refused = |page: &str| {
        let text = format!(
            "about: x\nfinding: {{ page: {page}, kernels: [a] }}\nsteps:\n  - exit: {{}}\n"
        );
        check(&folder.path().join("sub/a.yaml"), &text).is_err()
    };
    assert!(!refused("page.md"));
    assert!(refused("../page.md"));
    assert!(refused("../sub/page.md"));
    assert!(refused("."));
}

#[test]
fn snapshots_are_of_kernels_by_name_and_of_no_tree() {
    assert_eq!(Set::of_kernel("stable"), Some(Set::Stable));
    assert_eq!(Set::of_kernel("next"), Some(Set::Other("next".to_owned())));
    for kernel in [
        "prepatch",
        "noasid",
        "nosbi",
        "tree:/src/linux",
        "tree:stable",
    ] {
        assert_eq!(Set::of_kernel(kernel), None, "{kernel}");
    }
}

/// A checkout with one scenario.
struct Checkout {
    folder: TempDir,
    scenario: PathBuf,
}

impl Checkout {
    fn new() -> Checkout {
        let folder = TempDir::new().expect("a folder");
        let scenario = folder.path().join("scenarios/munmap/middle.yaml");
        fs::create_dir_all(scenario.parent().expect("a folder")).expect("a folder");
        let text = "about: x\nsteps:\n  - mmap: { at: 0, pages: 16 }\n  \
                    - touch: { at: 4, pages: 2, access: write }\n  - munmap: { at: 4, pages: 2 }\n";
        fs::write(&scenario, text).expect("a file");
        Checkout { folder, scenario }
    }

    /// Runs a kernel of that name that does so.
    fn run(&self, kernel: &str, does: As) -> Outcome {
        let text = fs::read_to_string(&self.scenario).expect("a file");
        let scenario = check(&self.scenario, &text).expect("well-formed");
        let by = Judge {
            checks: Chosen::default(),
            profile: does.profile,
            reading: Reading::Read,
            repeat: 1,
            snapshots: Set::of_kernel(kernel),
            kernel: kernel.to_owned(),
        };
        judge(vec![Arc::new(scenario)], by, does.backend())
            .0
            .worst()
    }

    /// The files beside the accepted snapshot, in order.
    fn files(&self) -> Vec<String> {
        let folder = self.folder.path().join("snapshots/munmap");
        let names = fs::read_dir(folder).into_iter().flatten().map(|entry| {
            let name = entry.expect("an entry").file_name();
            name.into_string().expect("text")
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// As `cargo insta accept` does.
    fn accept(&self, kernel: &str) {
        let set = Set::of_kernel(kernel).expect("it has some");
        let place = SnapshotPath::of(&self.scenario, &set).expect("in scenarios/");
        fs::rename(place.pending(), &place.accepted).expect("a proposal");
    }
}

#[test]
fn next_has_a_snapshot_of_its_own_only_where_it_does_something_else() {
    let checkout = Checkout::new();
    assert_eq!(checkout.run("stable", STABLE), Outcome::SnapshotNew);
    checkout.accept("stable");
    assert_eq!(checkout.run("next", STABLE), Outcome::Agree);
    assert_eq!(checkout.files(), ["middle.snap"]);

    assert_eq!(checkout.run("next", PREPATCH), Outcome::SnapshotChanged);
    assert_eq!(checkout.files(), ["middle.snap", "middle@next.snap.new"]);
    checkout.accept("next");
    assert_eq!(checkout.run("next", PREPATCH), Outcome::Agree);
    assert_eq!(checkout.run("stable", STABLE), Outcome::Agree);
    assert_eq!(checkout.run("next", STABLE), Outcome::SnapshotChanged);
}

#[test]
fn a_kernel_without_snapshots_proposes_none() {
    let checkout = Checkout::new();
    assert_eq!(checkout.run("tree:/src/linux", STABLE), Outcome::Agree);
    assert!(checkout.files().is_empty());
}

/// Compares two kernels in a scenario that is there several times.
fn compared(times: usize, one: Arc<MakeBackend>, other: Arc<MakeBackend>) -> Compared {
    let side = |backend| Side {
        profile: &Profile::STABLE,
        backend,
    };
    let scenarios = vec![scenario("munmap/middle.yaml"); times];
    let (_sender, receiver) = messages();
    let sides = [side(one), side(other)];
    compare(&scenarios, sides, &receiver, &mut |_| Ok(())).expect("nothing is printed")
}

#[test]
fn kernels_are_compared_by_what_they_tell() {
    let same = compared(2, STABLE.backend(), STABLE.backend());
    assert_eq!((same.counts[&Class::Same], same.exit_code()), (2, 0));
    let other = compared(2, STABLE.backend(), PREPATCH.backend());
    assert_eq!(
        (other.counts[&Class::Notifications], other.exit_code()),
        (2, 1)
    );
}

/// What is printed of two kernels.
fn told(
    format: Format,
    tell: impl FnOnce(&mut Compares<&mut Vec<u8>>) -> std::io::Result<()>,
) -> String {
    let mut out = Vec::new();
    let mut compares = Compares {
        out: &mut out,
        names: ["stable", "prepatch"].map(str::to_owned),
        format,
        quiet: false,
        style: Style::default(),
    };
    tell(&mut compares).expect("memory");
    String::from_utf8(out).expect("text")
}

#[test]
fn comparisons_are_told_to_programs_as_documented() {
    let side = |does: As| Side {
        profile: does.profile,
        backend: does.backend(),
    };
    let scenarios = [scenario("munmap/middle.yaml")];
    let (_sender, receiver) = messages();
    let said = told(Format::Json, |compares| {
        let sides = [side(STABLE), side(PREPATCH)];
        let compared = compare(&scenarios, sides, &receiver, &mut |comparison| {
            let mut comparison = comparison.clone();
            let why = "so that there is a finding".to_owned();
            comparison.findings.push((1, Finding::skipped(why)));
            compares.tell(&comparison)
        })?;
        compares.finish(&compared)
    });
    let lines: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let [told, summary] = &lines[..] else {
        panic!("two lines: {said}");
    };
    assert_eq!(told["type"], "comparison");
    assert_eq!(told["class"], "notifications_differ");
    assert_eq!(told["findings"][0]["kernel"], "prepatch");
    assert_eq!(summary["classes"]["notifications_differ"], 1);
    assert_eq!(
        (&summary["not_run"], &summary["exit_code"]),
        (&0.into(), &1.into())
    );
    let document = include_str!("../JSON.md");
    let mut found = vec![told["type"].clone(), summary["type"].clone()];
    lines.iter().for_each(|line| fields(line, &mut found));
    for field in found {
        let field = field.as_str().expect("text");
        assert!(document.contains(&format!("`{field}`")), "{field}");
    }
}

fn fields(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(name, value)| {
            found.push(Value::from(name.clone()));
            fields(value, found);
        }),
        Value::Array(list) => list.iter().for_each(|value| fields(value, found)),
        _ => (),
    }
}

/// A kernel that does as another for some scenarios, and of which nothing is to be had then.
struct Ending {
    left: u32,
    stop: Arc<Stop>,
}

impl Backend for Ending {
    fn prepare(&mut self, scenario: &Scenario) -> Result<Subject, Finding> {
        { STABLE }.prepare(scenario)
    }

    fn observe(&mut self, scenario: &Scenario, layer1: Layer1<'_>) -> Result<Observed, Finding> {
        self.left -= 1;
        if self.left == 0 {
            self.stop.stop("no guest can be started");
        }
        { STABLE }.observe(scenario, layer1)
    }
}

#[test]
fn what_was_not_compared_is_not_taken_for_the_same() {
    let ending: Arc<MakeBackend> = Arc::new(|_, stop| Box::new(Ending { left: 2, stop }));
    let compared = compared(5, STABLE.backend(), ending);
    assert_eq!((compared.counts[&Class::Same], compared.not_run), (2, 3));
    assert_eq!(compared.exit_code(), 69);
    let said = told(Format::Human, |compares| compares.finish(&compared));
    assert_eq!(said, "stable and prepatch: 2 same, 3 not run\n");
}

/// The binary, where no kernel has been provisioned.
fn without_kernels(arguments: &[&str]) -> (Option<i32>, String) {
    let cache = TempDir::new().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_tlbdiff"))
        .args(arguments)
        .arg(Path::new("scenarios/munmap/middle.yaml"))
        .current_dir(root())
        .env("TLBDIFF_CACHE", cache.path())
        .output()
        .expect("tlbdiff runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).expect("text"))
}

#[test]
fn each_kernel_that_is_not_provisioned_is_told_with_its_command() {
    let (code, said) = without_kernels(&["--kernel", "stable", "--kernel", "next"]);
    assert_eq!(code, Some(69), "{said}");
    for kernel in ["stable", "next"] {
        let remedy = format!("/vm/provision {kernel}");
        assert!(said.contains(&remedy), "{kernel}:\n{said}");
    }
    let (code, every) = without_kernels(&["--kernel", "all"]);
    assert_eq!(code, Some(69), "{every}");
    for kernel in vm::every().expect("kernels.toml") {
        let remedy = format!("/vm/provision {kernel}\n");
        assert!(every.contains(&remedy), "{remedy}:\n{every}");
    }
    assert!(!every.contains("latest"), "{every}");
}

#[test]
fn a_series_is_another_name_for_its_kernel() {
    let (_, said) = without_kernels(&["--kernel", "7.2", "--kernel", "next"]);
    assert!(said.contains("/vm/provision next\n"), "{said}");
    assert!(!said.contains("7.2"), "once, and by its name: {said}");
}

#[test]
fn a_kernel_that_there_is_not_is_a_wrong_command_line() {
    let (code, said) = without_kernels(&["--kernel", "stable", "--kernel", "stabel"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("stabel"), "{said}");
}
