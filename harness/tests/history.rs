// SPDX-License-Identifier: GPL-2.0-only
//! Kept results: what changed is named, and nothing that was told is lost. Accepted
//! snapshots stand for kernels here, and another model's profile for one that changed.

mod common;

use common::root;
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A folder with a database to be.
struct Place {
    folder: TempDir,
}

/// What a command came to.
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Place {
    fn new() -> Place {
        let folder = TempDir::new().expect("a folder");
        Place { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn database(&self) -> PathBuf {
        self.path("history.sqlite")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tlbdiff"));
        command
            .args(arguments)
            .current_dir(root())
            .env("STATE_DIRECTORY", self.folder.path())
            .env("TMPDIR", self.folder.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Done {
        done(&mut self.command(arguments))
    }

    fn nightly(&self, more: &[&str]) -> Done {
        self.run(&[&NIGHTLY, more].concat())
    }

    fn names(&self) -> BTreeSet<String> {
        names_in(&self.database())
    }
}

const NIGHTLY: [&str; 4] = ["nightly", "--backend", "recorded", "scenarios/munmap"];
const BROKEN: [&str; 2] = ["--model-profile", "prepatch"];

fn done(command: &mut Command) -> Done {
    let output = command.output().expect("tlbdiff runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Done {
        code: output.status.code(),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

impl Done {
    #[track_caller]
    fn expect(&self, code: i32, words: &[&str]) {
        let said = format!("{}{}", self.out, self.err);
        assert_eq!(self.code, Some(code), "{said}");
        for word in words {
            assert!(said.contains(word), "no `{word}` in {said}");
        }
    }
}

/// The scenarios of the last run, in a database that is whole.
fn names_in(database: &Path) -> BTreeSet<String> {
    let connection = Connection::open(database).expect("a database");
    let check = connection.pragma_query_value(None, "integrity_check", |row| row.get(0));
    assert_eq!(check, Ok("ok".to_owned()));
    let mut query = connection
        .prepare(
            "SELECT name FROM results JOIN scenarios ON scenarios.id = scenario
            WHERE run = (SELECT max(id) FROM runs)",
        )
        .expect("tables");
    let names = query.query_map([], |row| row.get(0)).expect("rows");
    names.collect::<Result<_, _>>().expect("names")
}

#[test]
fn what_got_worse_and_what_was_fixed_is_named() {
    let place = Place::new();
    place
        .nightly(&[])
        .expect(0, &["no earlier run of stable on recorded", "63 agree"]);
    let worse = "newly failing     munmap/middle (agree → differs)";
    place.nightly(&BROKEN).expect(1, &[worse]);
    // As bad as before is not worse, unless one wants to hear of it.
    let still = place.nightly(&BROKEN);
    still.expect(0, &["fail or vary as before"]);
    assert!(!still.out.contains("newly"), "{}", still.out);
    place
        .nightly(&[&BROKEN[..], &["--strict"]].concat())
        .expect(1, &[]);
    place
        .nightly(&[])
        .expect(0, &["fixed             munmap/middle (differs → agree)"]);
    place.nightly(&[]).expect(0, &["nothing changed"]);
    // Another board has its own past.
    place
        .nightly(&["--board", "b"])
        .expect(0, &["no earlier run of stable on b"]);
    place
        .nightly(&["--line", "l"])
        .expect(0, &["no earlier run of l on recorded"]);
    let json = place.nightly(&[&BROKEN[..], &["--format", "json"]].concat());
    json.expect(
        1,
        &[
            "\"type\":\"changes\"",
            "\"newly_failing\":[{\"name\":\"munmap/",
            "\"from\":\"agree\",\"to\":\"differs\"",
        ],
    );
    place
        .run(&["history"])
        .expect(0, &["60 differs", "63 agree"]);
    let file = "scenarios/munmap/middle.yaml";
    place
        .run(&["history", file, "--board", "b"])
        .expect(0, &["munmap/middle: 1 results"]);
    place
        .run(&["history", "munmap/midle"])
        .expect(2, &["did you mean `munmap/middle`"]);
}

#[test]
fn what_was_told_is_kept_whenever_the_run_is_killed() {
    let place = Place::new();
    for lines in [0, 1, 2, 5, 20, 40, 62] {
        let mut run = place
            .command(&[&NIGHTLY[..], &BROKEN, &["--format", "json"]].concat())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tlbdiff runs");
        let out = run.stdout.take().expect("a pipe");
        let mut told = BufReader::new(out).lines().map_while(Result::ok);
        let mut kept: Vec<String> = told.by_ref().take(lines + 1).collect();
        run.kill().expect("it is there, or was");
        run.wait().expect("it ends");
        kept.extend(told);
        let told: BTreeSet<String> = kept.iter().filter_map(|line| name_of(line)).collect();
        assert!(told.len() >= lines.min(1), "{kept:?}");
        assert!(
            place.names().is_superset(&told),
            "killed after {lines} lines"
        );
    }
    place
        .run(&["history"])
        .expect(0, &["it did not end, or goes on"]);
    place.nightly(&[]).expect(0, &["63 agree"]);
}

fn name_of(line: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    value["name"].as_str().map(str::to_owned)
}

#[test]
fn two_runs_at_once_are_both_kept() {
    let place = Place::new();
    let runs: Vec<_> = (0..3)
        .map(|_| {
            place
                .command(&NIGHTLY)
                .stdout(Stdio::null())
                .spawn()
                .expect("tlbdiff runs")
        })
        .collect();
    for mut run in runs {
        assert!(run.wait().expect("it ends").success());
    }
    let runs = place.run(&["history"]).out;
    assert_eq!(runs.matches("63 agree").count(), 3, "{runs}");
}

#[test]
fn a_damaged_database_is_put_aside() {
    let place = Place::new();
    place.nightly(&[]).expect(0, &[]);
    let mut bytes = fs::read(place.database()).expect("a database");
    // The page of some table.
    bytes[4096 * 3..4096 * 5].fill(0x5a);
    fs::write(place.database(), &bytes).expect("damaged");
    place
        .nightly(&[])
        .expect(0, &["is damaged", ".damaged-", "no earlier run"]);
    assert_eq!(place.names().len(), 63);
    fs::write(
        place.database(),
        "this is no database, and longer than the header of one is",
    )
    .expect("damaged");
    place
        .run(&["history"])
        .expect(69, &["file is not a database"]);
    place.nightly(&[]).expect(0, &["is damaged"]);
    let aside = fs::read_dir(place.folder.path())
        .expect("a folder")
        .flatten();
    let aside = aside.filter(|entry| entry.file_name().to_string_lossy().contains("damaged-"));
    assert_eq!(aside.count(), 2);
}

#[test]
fn a_newer_database_is_left_alone() {
    let place = Place::new();
    place.nightly(&[]).expect(0, &[]);
    let connection = Connection::open(place.database()).expect("a database");
    connection
        .pragma_update(None, "user_version", 99)
        .expect("written");
    drop(connection);
    let before = fs::read(place.database()).expect("a database");
    place
        .nightly(&[])
        .expect(69, &["a newer tlbdiff has written it"]);
    place
        .run(&["history"])
        .expect(69, &["a newer tlbdiff has written it"]);
    assert_eq!(fs::read(place.database()).expect("a database"), before);
}

/// The file with results that a run speaks of.
fn results_file(place: &Place) -> PathBuf {
    let mut files = fs::read_dir(place.folder.path())
        .expect("a folder")
        .flatten();
    let file = files.find(|entry| entry.file_name().to_string_lossy().ends_with(".jsonl"));
    file.expect("a file of results").path()
}

#[test]
fn where_the_database_cannot_be_written_results_go_to_a_file() {
    let place = Place::new();
    // Nobody makes files there.
    let done = place.nightly(&["--history", "/proc/self/history.sqlite"]);
    done.expect(69, &["results go to", "history --import", "63 agree"]);
    let file = results_file(&place).display().to_string();
    place
        .run(&["history", "--import", &file])
        .expect(0, &["63 results of 1 runs, 63 of them new"]);
    assert_eq!(place.names().len(), 63);
}

#[test]
fn a_full_disk_loses_nothing() {
    let place = Place::new();
    place.nightly(&[]).expect(0, &[]);
    // No file may grow over so many blocks of 512 bytes, and the database does.
    let script = "trap '' XFSZ; ulimit -f 200; exec \"$@\"";
    let mut full = Command::new("sh");
    full.args(["-c", script, "sh", env!("CARGO_BIN_EXE_tlbdiff")])
        .args(NIGHTLY)
        .args(BROKEN)
        .args(["--filter", "page-table", "--verbose"])
        .current_dir(root())
        .env("STATE_DIRECTORY", place.folder.path());
    let done = done(&mut full);
    done.expect(1, &["results go to", "newly failing"]);
    let told = done
        .out
        .lines()
        .filter(|line| line.starts_with("differs"))
        .count();
    let file = results_file(&place).display().to_string();
    place.run(&["history", "--import", &file]).expect(0, &[]);
    assert_eq!(place.names().len(), told);
    assert!(told > 0);
}

#[test]
fn results_of_partitions_are_merged() {
    let place = Place::new();
    let mut files = Vec::new();
    for part in ["hash:1/2", "hash:2/2"] {
        let done = place.run(&[
            "run",
            "--backend",
            "recorded",
            "--format",
            "json",
            "--partition",
            part,
            "--board",
            "b",
            "scenarios/munmap",
        ]);
        done.expect(0, &[]);
        let file = place.path(&part.replace(['/', ':'], "-"));
        fs::write(&file, &done.out).expect("a file");
        files.push(file.display().to_string());
    }
    let import = ["history", "--import", &files[0], &files[1]];
    place.run(&import).expect(0, &["results of 1 runs"]);
    place.run(&import).expect(0, &["0 of them new"]);
    let connection = Connection::open(place.database()).expect("a database");
    let count = connection.query_row("SELECT count(*) FROM results", [], |row| row.get(0));
    assert_eq!(count, Ok(63));
    // Each is compared with its own past, whichever run that was in.
    let worse = "newly failing     munmap/middle (agree → differs)";
    place
        .nightly(&[&BROKEN[..], &["--board", "b"]].concat())
        .expect(1, &[worse]);

    let text = fs::read_to_string(&files[0]).expect("a file");
    fs::write(&files[0], &text[..text.len() - 20]).expect("a file");
    place
        .run(&["history", "--import", &files[0]])
        .expect(0, &["in the middle of a line"]);
    fs::write(&files[0], "{}\n").expect("a file");
    place
        .run(&["history", "--import", &files[0]])
        .expect(2, &["line 1", "schema"]);
    place
        .run(&["history", "--import", "/nowhere"])
        .expect(69, &["/nowhere"]);
}

#[test]
fn old_runs_are_forgotten() {
    let place = Place::new();
    place.nightly(&BROKEN).expect(1, &[]);
    let grown = fs::metadata(place.database()).expect("a database").len();
    for _ in 0..2 {
        place.nightly(&["--keep", "2"]).expect(0, &[]);
    }
    let runs = place.run(&["history"]).out;
    assert_eq!(runs.lines().count(), 3, "{runs}");
    assert!(!runs.contains("differs"));
    assert!(fs::metadata(place.database()).expect("a database").len() < grown / 2);
}

#[test]
fn the_page_needs_nothing_but_itself() {
    let place = Place::new();
    let html = place.path("page.html").display().to_string();
    place
        .run(&["history", "--html", &html])
        .expect(69, &["no results are kept there"]);
    place.nightly(&[]).expect(0, &[]);
    place.nightly(&BROKEN).expect(1, &[]);
    place
        .run(&["history", "--html", &html])
        .expect(0, &["page.html written"]);
    let page = fs::read_to_string(&html).expect("a page");
    for part in [
        "munmap/middle",
        "<svg",
        "class=\"kernel\"",
        "class=\"lost\"",
        "light-dark(",
    ] {
        assert!(page.contains(part), "no {part}");
    }
    for outside in [
        "http:", "https:", "src=", "<script", "<link", "@import", "url(",
    ] {
        assert!(!page.contains(outside), "{outside}");
    }
    // Every cell that leads somewhere leads to what is there.
    for link in page.split("href=\"#").skip(1) {
        let id = link.split('"').next().unwrap_or_default();
        assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
    }
}

#[test]
fn a_writer_that_was_killed_keeps_nobody_from_reading() {
    let place = Place::new();
    place.nightly(&[]).expect(0, &[]);
    let writer = Connection::open(place.database()).expect("a database");
    writer
        .execute_batch(
            "PRAGMA cache_size = 1; BEGIN IMMEDIATE; UPDATE results SET why = hex(zeroblob(900));",
        )
        .expect("a transaction that does not fit into the cache");
    // What is on the disk right now is what a killed writer leaves.
    let cut = place.path("cut.sqlite");
    fs::copy(place.database(), &cut).expect("a copy");
    fs::copy(place.path("history.sqlite-journal"), journal(&cut)).expect("a journal");
    drop(writer);
    let cut = cut.display().to_string();
    place
        .run(&["history", "--history", &cut])
        .expect(0, &["63 agree"]);
}

fn journal(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-journal");
    name.into()
}

#[test]
fn an_output_that_cannot_be_written_is_left_out() {
    let place = Place::new();
    let file = format!("junit={}", place.path("a.xml").display());
    let full = fs::File::options().write(true).open("/dev/full");
    let mut command = place.command(&[&NIGHTLY[..], &["--output", &file]].concat());
    let status = command
        .stdout(full.expect("/dev/full"))
        .stderr(Stdio::null())
        .status();
    assert_eq!(status.expect("tlbdiff runs").code(), Some(69));
    assert_eq!(place.names().len(), 63);
    let written = fs::read_to_string(place.path("a.xml")).expect("the other output");
    assert!(written.contains("tests=\"63\""), "{written}");
}

#[test]
fn files_of_one_name_are_told_apart_whatever_they_are_called() {
    let place = Place::new();
    let middle = root().join("scenarios/munmap/middle.yaml");
    let odd = OsStr::from_bytes(b"m\xff.yaml");
    for file in [Path::new("a/x.yaml"), "b/x.yaml".as_ref(), odd.as_ref()] {
        let file = place.folder.path().join(file);
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        fs::copy(&middle, file).expect("a copy");
    }
    let mut command = place.command(&["run", "--backend", "recorded", "--format", "json"]);
    let done = done(command.arg(place.folder.path()));
    let names: Vec<String> = done.out.lines().filter_map(name_of).collect();
    assert_eq!(names, ["a/x", "b/x", "m\u{fffd}"], "{}", done.err);
}

#[test]
fn a_kernel_that_cannot_be_had_is_an_error_in_every_report() {
    let place = Place::new();
    let file = format!("junit={}", place.path("a.xml").display());
    let arguments = ["run", "--kernel", "stable", "--kernel", "stock", "--output"];
    let mut command = place.command(&arguments);
    command.args([&file, "scenarios/munmap/middle.yaml"]);
    // An empty cache: nothing is provisioned.
    let done = done(command.env("TLBDIFF_CACHE", place.folder.path()));
    done.expect(69, &["not provisioned"]);
    let written = fs::read_to_string(place.path("a.xml")).expect("a report");
    assert!(
        written.contains("tests=\"2\" failures=\"0\" errors=\"2\""),
        "{written}"
    );
}
