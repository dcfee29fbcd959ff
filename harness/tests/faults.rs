// SPDX-License-Identifier: GPL-2.0-only
//! What can break while a scenario runs, through the binary: each has its own
//! outcome and exit code, the next scenario runs on a new guest, and no process
//! and no file stays behind.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use vm::KernelChoice;

/// Nothing here takes longer on any machine, a guest that has to be booted included.
const LIMIT: Duration = Duration::from_secs(180);

const SHORT: &str = "about: x\nsteps:\n  - mmap: { at: 0, pages: 16 }\n  \
                     - touch: { at: 0, pages: 16, access: write }\n  - munmap: { at: 4, pages: 2 }\n";

/// Steps that take the guest many seconds.
fn long() -> String {
    let step =
        "  - mmap: { at: 0, pages: 40000 }\n  - touch: { at: 0, pages: 40000, access: write }\n";
    format!("about: x\nsteps:\n{}", step.repeat(100))
}

/// A folder with scenarios, and a run of the binary in it.
struct Trial {
    folder: TempDir,
    begin: Instant,
}

impl Trial {
    fn new(scenarios: &[(&str, &str)]) -> Trial {
        static GUEST_SAVED: OnceLock<()> = OnceLock::new();
        GUEST_SAVED.get_or_init(|| {
            let trial = Trial::with(&[("a.yaml", SHORT)]);
            let output = trial.end(trial.start(&["a.yaml"]));
            assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        });
        Trial::with(scenarios)
    }

    fn with(scenarios: &[(&str, &str)]) -> Trial {
        let folder = TempDir::new().expect("a folder");
        for (name, content) in scenarios {
            fs::write(folder.path().join(name), content).expect("a file");
        }
        fs::create_dir(folder.path().join("tmp")).expect("a folder");
        Trial {
            folder,
            begin: Instant::now(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tlbdiff"));
        command.args(arguments).current_dir(self.folder.path());
        command
            .env("TMPDIR", self.folder.path().join("tmp"))
            .env("NO_COLOR", "1");
        // Inherited by QEMU, so that it is known for this trial's.
        command.env("TLBDIFF_TRIAL", self.folder.path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().expect("tlbdiff runs")
    }

    /// Waits for its end, and looks for what it left behind.
    fn end(&self, child: Child) -> Output {
        let output = child.wait_with_output().expect("an end");
        assert!(
            self.begin.elapsed() < LIMIT,
            "it took {:?}",
            self.begin.elapsed()
        );
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.processes().is_empty() && Instant::now() < deadline {
            sleep(Duration::from_millis(10));
        }
        assert_eq!(self.processes(), [], "left behind\n{}", said(&output));
        let left: Vec<_> = fs::read_dir(self.folder.path().join("tmp"))
            .expect("a folder")
            .collect();
        assert!(left.is_empty(), "{left:?}");
        output
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.end(self.start(arguments));
        (output.status.code(), said(&output))
    }

    /// Processes started by this trial's runs, other than tlbdiff itself.
    fn processes(&self) -> Vec<Pid> {
        let mark = format!("TLBDIFF_TRIAL={}", self.folder.path().display());
        let numbers = fs::read_dir("/proc")
            .expect("/proc")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let is_ours = |number: &i32| {
            let environment = fs::read(format!("/proc/{number}/environ")).unwrap_or_default();
            let name = fs::read_to_string(format!("/proc/{number}/comm")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|entry| entry == mark.as_bytes())
                && name.trim() != "tlbdiff"
        };
        numbers.filter(is_ours).map(Pid::from_raw).collect()
    }

    /// The guest's process, once it is well in the middle of a scenario.
    fn guest(&self) -> Pid {
        while self.begin.elapsed() < LIMIT {
            if let Some(&guest) = self.processes().first() {
                sleep(Duration::from_secs(3));
                return guest;
            }
            sleep(Duration::from_millis(10));
        }
        panic!("no guest was started");
    }
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

fn has_lines(said: &str, beginnings: &[&str]) {
    for beginning in beginnings {
        assert!(
            said.lines().any(|line| line.starts_with(beginning)),
            "no line `{beginning}…`:\n{said}"
        );
    }
}

#[test]
fn qemu_killed_in_mid_scenario() {
    let trial = Trial::new(&[("a.yaml", &long()), ("b.yaml", SHORT)]);
    let child = trial.start(&["a.yaml", "b.yaml"]);
    kill(trial.guest(), Signal::SIGKILL).expect("it is there");
    let output = trial.end(child);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(69), "{said}");
    has_lines(
        &said,
        &[
            "could not run    a.yaml",
            "  QEMU died",
            "agree            b.yaml",
        ],
    );
}

#[test]
fn the_kernel_panics() {
    let trial = Trial::new(&[("a.yaml", SHORT), ("b.yaml", SHORT)]);
    let (code, said) = trial.run(&["--sabotage", "panic", "a.yaml", "b.yaml"]);
    assert_eq!(code, Some(1), "{said}");
    has_lines(
        &said,
        &["kernel crashed   a.yaml", "agree            b.yaml"],
    );
    assert!(said.contains("Kernel panic"), "{said}");
}

#[test]
fn the_agent_hangs() {
    let trial = Trial::new(&[("a.yaml", SHORT), ("b.yaml", SHORT)]);
    let (code, said) = trial.run(&["--sabotage", "hang", "--timeout", "2", "a.yaml", "b.yaml"]);
    assert_eq!(code, Some(69), "{said}");
    has_lines(
        &said,
        &[
            "could not run    a.yaml",
            "  the agent is silent",
            "agree            b.yaml",
        ],
    );
}

#[test]
fn the_agent_dies() {
    let trial = Trial::new(&[("a.yaml", SHORT), ("b.yaml", SHORT)]);
    let (code, said) = trial.run(&["--sabotage", "die", "a.yaml", "b.yaml"]);
    assert_eq!(code, Some(69), "{said}");
    has_lines(
        &said,
        &[
            "could not run    a.yaml",
            "  the agent died",
            "agree            b.yaml",
        ],
    );
}

#[test]
fn the_subject_is_killed() {
    let trial = Trial::new(&[("a.yaml", SHORT), ("b.yaml", SHORT)]);
    let (code, said) = trial.run(&["--sabotage", "kill-subject", "a.yaml", "b.yaml"]);
    assert_eq!(code, Some(69), "{said}");
    has_lines(
        &said,
        &[
            "could not run    a.yaml",
            "  the subject was killed by signal 9 after 1 of 3 steps",
            "agree            b.yaml",
        ],
    );
}

#[test]
fn a_scenario_takes_too_long() {
    let trial = Trial::new(&[("a.yaml", &long()), ("b.yaml", SHORT)]);
    let (code, said) = trial.run(&["--timeout", "1", "a.yaml", "b.yaml"]);
    assert_eq!(code, Some(69), "{said}");
    has_lines(
        &said,
        &["could not run    a.yaml", "agree            b.yaml"],
    );
}

#[test]
fn the_trace_buffer_overflows() {
    let trial = Trial::new(&[("a.yaml", SHORT)]);
    let (code, said) = trial.run(&["--buffer-records", "4", "a.yaml"]);
    assert_eq!(code, Some(69), "{said}");
    has_lines(
        &said,
        &[
            "could not run    a.yaml",
            "  the trace buffer was too small: ",
        ],
    );
}

#[test]
fn a_scenario_asks_for_more_memory_than_there_is() {
    let written = "about: x\nsteps:\n  - mmap: { at: 0, pages: 110000 }\n  \
                   - touch: { at: 0, pages: 110000, access: write }\n";
    let file = "about: x\nfiles:\n  f: { pages: 200000, filled: true }\nsteps:\n  \
                - mmap: { at: 0, pages: 4, file: f }\n";
    // With swap nobody is killed: the kernel makes room by itself.
    let copied = "about: x\nrequires: [swap]\nfiles:\n  f: { pages: 53000 }\nsteps:\n  \
                  - mmap: { at: 0, pages: 53000, file: f }\n  \
                  - touch: { at: 0, pages: 53000, access: write }\n";
    let trial = Trial::new(&[
        ("a.yaml", written),
        ("b.yaml", file),
        ("c.yaml", SHORT),
        ("d.yaml", copied),
    ]);
    let (code, said) = trial.run(&["--verbose", "a.yaml", "b.yaml", "c.yaml", "d.yaml"]);
    assert_eq!(code, Some(69), "{said}");
    has_lines(
        &said,
        &[
            "could not run    a.yaml",
            "  the machine's memory of ",
            "  give the guest more with --memory MIB",
            "skipped          b.yaml",
            "  it needs 798 MiB of memory for its files",
            "agree            c.yaml",
            "could not run    d.yaml",
            "    | the kernel looked for pages to free, ",
        ],
    );
}

#[test]
fn a_scenario_asks_for_more_harts_than_the_kernel_uses() {
    let scenario = |hart: u32| {
        format!(
            "about: x\nactors:\n  t: {{ kind: thread, of: subject, hart: {hart} }}\nsteps:\n  \
             - mmap: {{ at: 0, pages: 4 }}\n  - touch: {{ at: 0, pages: 4, access: write, by: t }}\n  \
             - munmap: {{ at: 0, pages: 4 }}\n"
        )
    };
    let trial = Trial::new(&[("a.yaml", &scenario(8)), ("b.yaml", &scenario(7))]);
    let (code, said) = trial.run(&["a.yaml", "b.yaml"]);
    assert_eq!(code, Some(0), "{said}");
    has_lines(
        &said,
        &[
            "skipped          a.yaml",
            "  it needs 9 harts, and the kernel uses 8 at the most: it is built with CONFIG_NR_CPUS=8",
            "agree            b.yaml",
        ],
    );
}

#[test]
fn no_qemu_in_path() {
    let trial = Trial::new(&[("a.yaml", SHORT), ("b.yaml", SHORT), ("c.yaml", SHORT)]);
    let mut command = trial.command(&["a.yaml", "b.yaml", "c.yaml"]);
    let output = trial.end(
        command
            .env("PATH", "/nonexistent")
            .spawn()
            .expect("tlbdiff runs"),
    );
    let said = said(&output);
    assert_eq!(output.status.code(), Some(69), "{said}");
    has_lines(
        &said,
        &[
            "could not run    a.yaml",
            "  there is no `qemu-system-riscv64` in PATH",
            "  run ./vm/provision",
        ],
    );
    assert!(said.contains("2 not run"), "nothing else is tried:\n{said}");
}

/// An initramfs whose tracing module is none: a second archive behind the real one replaces the file.
fn with_wrong_module(to: &Path) {
    let artifacts = vm::locate(&KernelChoice::Named("stable".to_owned())).expect("provisioned");
    let mut bytes = fs::read(artifacts.initramfs).expect("the initramfs");
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    for (name, mode, content) in [
        ("tlbdiff.ko", 0o10_0644, "no module"),
        ("TRAILER!!!", 0, ""),
    ] {
        let begin = bytes.len();
        let fields = [
            1,
            mode,
            0,
            0,
            1,
            0,
            content.len(),
            0,
            0,
            0,
            0,
            name.len() + 1,
            0,
        ];
        bytes.extend(b"070701");
        fields
            .iter()
            .for_each(|field| write!(bytes, "{field:08X}").expect("memory"));
        bytes.extend(name.as_bytes());
        bytes.push(0);
        bytes.resize(begin + (bytes.len() - begin).next_multiple_of(4), 0);
        bytes.extend(content.as_bytes());
        bytes.resize(begin + (bytes.len() - begin).next_multiple_of(4), 0);
    }
    fs::write(to, bytes).expect("a file");
}

#[test]
fn the_module_is_refused() {
    let trial = Trial::new(&[("a.yaml", SHORT)]);
    with_wrong_module(&trial.folder.path().join("initramfs"));
    let (code, said) = trial.run(&["--initramfs", "initramfs", "a.yaml"]);
    assert_eq!(code, Some(69), "{said}");
    has_lines(&said, &["could not run    a.yaml"]);
    assert!(said.contains("tlbdiff.ko"), "it says which module:\n{said}");
}

#[test]
fn control_c() {
    let trial = Trial::new(&[("a.yaml", SHORT), ("b.yaml", &long()), ("c.yaml", SHORT)]);
    let child = trial.start(&["a.yaml", "b.yaml", "c.yaml"]);
    trial.guest();
    let begin = Instant::now();
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("it is there");
    let output = trial.end(child);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
    has_lines(
        &said,
        &[
            "agree            a.yaml",
            "stopped: interrupted",
            "1 agree, 2 not run",
        ],
    );
}

#[test]
fn a_file_in_the_way_of_a_proposal() {
    let trial = Trial::with(&[]);
    let scenarios = trial.folder.path().join("scenarios");
    fs::create_dir(&scenarios).expect("a folder");
    fs::write(scenarios.join("a.yaml"), SHORT).expect("a file");
    let snapshots: PathBuf = trial.folder.path().join("snapshots");
    fs::write(&snapshots, "a file, no folder").expect("a file");
    let (code, said) = trial.run(&["scenarios"]);
    assert_eq!(code, Some(69), "{said}");
    has_lines(
        &said,
        &["could not run    scenarios/a.yaml", "  its snapshot: "],
    );
}
