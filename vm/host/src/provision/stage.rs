// SPDX-License-Identifier: GPL-2.0-only
//! A stage of provisioning: what is shown of it, its log, and the programs it
//! runs. Whatever fails names the log.

use std::fs::{self, File, OpenOptions};
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cache::Cache;
use crate::error::VmError;

/// For what asks the network.
pub(super) const DOWNLOAD_LIMIT: Duration = Duration::from_secs(30 * 60);
/// For what compiles.
pub(super) const BUILD_LIMIT: Duration = Duration::from_secs(2 * 60 * 60);
/// For what answers a question.
pub(super) const QUERY_LIMIT: Duration = Duration::from_secs(30);

/// How many of a failing log's last lines an error shows.
const TAIL_LINES: usize = 15;

/// Columns of a progress line: what every terminal has.
const COLUMNS: usize = 79;

/// A stage that has begun.
pub(super) struct Stage {
    name: &'static str,
    log: PathBuf,
    doing: String,
    begun: Instant,
    terminal: bool,
    /// A path in the log, and what an error says in its stead.
    shown_as: Option<(String, &'static str)>,
}

impl Stage {
    /// Begins a stage for a kernel, with an empty log.
    pub(super) fn begin(cache: &Cache, kernel: &str, name: &'static str) -> Result<Stage, VmError> {
        let log = cache.dir("logs")?.join(format!("{kernel}-{name}.log"));
        File::create(&log).map_err(VmError::io("create", &log))?;
        let terminal = std::io::stderr().is_terminal();
        Ok(Stage {
            name,
            log,
            doing: String::new(),
            begun: Instant::now(),
            terminal,
            shown_as: None,
        })
    }

    /// Tells what is being done from here on.
    pub(super) fn doing(&mut self, doing: impl Into<String>) {
        self.doing = doing.into();
        if self.terminal {
            self.draw();
        } else {
            eprintln!("  {:<10} {} ...", self.name, self.doing);
        }
    }

    /// Tells something beside that.
    pub(super) fn note(&self, what: &str) {
        let clear = if self.terminal { "\r\x1b[2K" } else { "" };
        eprintln!("{clear}  {:<10} {what}", self.name);
    }

    /// Lets errors name the file that someone edits, where a copy of it is
    /// what was compiled.
    pub(super) fn show_as(&mut self, copy: &Path, original: &'static str) {
        self.shown_as = Some((copy.display().to_string(), original));
    }

    /// Ends the stage, telling what it made.
    pub(super) fn done(self, made: &str) {
        let seconds = self.begun.elapsed().as_secs_f64();
        let clear = if self.terminal { "\r\x1b[2K" } else { "" };
        eprintln!("{clear}  {:<10} {made}, {seconds:.1} s", self.name);
    }

    /// The error that this stage ends with.
    pub(super) fn fail(&self, what: impl Into<String>) -> VmError {
        if self.terminal {
            eprint!("\r\x1b[2K");
        }
        let shown = |text: String| match &self.shown_as {
            Some((copy, original)) => text.replace(copy, original),
            None => text,
        };
        VmError::Stage {
            stage: self.name,
            what: shown(what.into()),
            log: self.log.clone(),
            tail: shown(tail(&self.log).unwrap_or_default()),
        }
    }

    /// Runs a program to its end, everything it says into the log.
    pub(super) fn run(&mut self, command: &mut Command, limit: Duration) -> Result<(), VmError> {
        let log = self.open_log(command)?;
        let stdout = log.try_clone().map_err(VmError::io("open", &self.log))?;
        self.wait(command.stdout(stdout).stderr(log), limit)
    }

    /// Runs a program to its end and gives what it printed; its complaints go
    /// into the log.
    pub(super) fn output(
        &mut self,
        command: &mut Command,
        limit: Duration,
    ) -> Result<String, VmError> {
        let log = self.open_log(command)?;
        let path = self.log.with_extension("out");
        let stdout = File::create(&path).map_err(VmError::io("create", &path))?;
        self.wait(command.stdout(stdout).stderr(log), limit)?;
        let text = fs::read(&path).map_err(VmError::io("read", &path))?;
        fs::remove_file(&path).map_err(VmError::io("remove", &path))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The whole log so far.
    pub(super) fn log_text(&self) -> Result<String, VmError> {
        let bytes = fs::read(&self.log).map_err(VmError::io("read", &self.log))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn open_log(&self, command: &Command) -> Result<File, VmError> {
        let open = OpenOptions::new().append(true).open(&self.log);
        let mut log = open.map_err(VmError::io("open", &self.log))?;
        writeln!(log, "+ {command:?}").map_err(VmError::io("write", &self.log))?;
        Ok(log)
    }

    fn wait(&mut self, command: &mut Command, limit: Duration) -> Result<(), VmError> {
        let program = program_name(command);
        command.stdin(Stdio::null());
        die_with_parent(command);
        let mut child = command
            .spawn()
            .map_err(|error| self.fail(format!("cannot run {program}: {error}")))?;
        let begun = Instant::now();
        let mut pause = Duration::from_millis(1);
        // What ends soon is not drawn at all.
        let mut drawn = Duration::from_millis(200);
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(self.fail(failure(&program, status))),
                Ok(None) if begun.elapsed() < limit => {}
                Ok(None) => {
                    end(&mut child);
                    let minutes = limit.as_secs() / 60;
                    return Err(
                        self.fail(format!("{program} did not end within {minutes} minutes"))
                    );
                }
                Err(error) => return Err(self.fail(format!("cannot wait for {program}: {error}"))),
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(16));
            if self.terminal && begun.elapsed() > drawn + Duration::from_millis(100) {
                drawn = begun.elapsed();
                self.draw();
            }
        }
    }

    /// One line that the next one overwrites.
    fn draw(&self) {
        let seconds = self.begun.elapsed().as_secs();
        let last = tail_text(&self.log).unwrap_or_default();
        let last = last.lines().last().unwrap_or_default().trim();
        let line = format!("  {:<10} {} ... {seconds} s  {last}", self.name, self.doing);
        let line: String = line
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(COLUMNS)
            .collect();
        eprint!("\r\x1b[2K{line}");
    }
}

fn program_name(command: &Command) -> String {
    Path::new(command.get_program())
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn failure(program: &str, status: ExitStatus) -> String {
    format!("{program} failed ({status})")
}

/// A compiler must not go on when whoever watches it was killed.
fn die_with_parent(command: &mut Command) {
    let set = || {
        // SAFETY: prctl with PR_SET_PDEATHSIG reads its arguments alone; it is
        // async-signal-safe, as what runs between fork and exec has to be.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: `set` calls one async-signal-safe function and allocates nothing.
    unsafe {
        command.pre_exec(set);
    }
}

/// Asks a child to end, and five seconds later does not ask.
fn end(child: &mut Child) {
    let pid = Pid::from_raw(child.id().cast_signed());
    // It may have ended by itself just now; then there is nothing to do.
    let _ = kill(pid, Signal::SIGTERM);
    for _ in 0..50 {
        if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// What a log says went wrong, indented, with a line break before each line: from a compiler's
/// first error on, which make buries under what it says itself; else the last lines.
fn tail(log: &Path) -> std::io::Result<String> {
    let text = fs::read(log)?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let error = lines.iter().position(|line| line.contains(": error: "));
    let from = error.unwrap_or(lines.len().saturating_sub(TAIL_LINES));
    Ok(lines[from..]
        .iter()
        .take(TAIL_LINES)
        .map(|line| format!("\n  | {line}"))
        .collect())
}

fn tail_text(log: &Path) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(root: &Path) -> Stage {
        Stage::begin(&Cache::at(root), "test", "stage").unwrap()
    }

    #[test]
    fn a_compiler_s_first_error_is_shown_wherever_it_is() {
        let root = tempfile::tempdir().unwrap();
        let mut stage = stage(root.path());
        let script = "for i in $(seq 99); do echo before $i; done; \
                      word=error; echo mm/a.c:1:2: $word: no; \
                      for i in $(seq 99); do echo after $i; done; exit 1";
        let error = stage.run(&mut shell(script), Duration::from_secs(9));
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("| mm/a.c:1:2: error: no\n  | after 1\n"),
            "{error}"
        );
        assert!(
            !error.contains("before 99") && !error.contains("after 99"),
            "{error}"
        );
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failure_names_the_log_and_shows_its_end() {
        let root = tempfile::tempdir().unwrap();
        let error = stage(root.path())
            .run(
                &mut shell("echo early; seq 20; echo broken >&2; exit 3"),
                QUERY_LIMIT,
            )
            .unwrap_err()
            .to_string();
        assert!(error.contains("sh failed (exit status: 3)"), "{error}");
        assert!(error.contains("logs/test-stage.log"), "{error}");
        assert!(error.ends_with("  | broken"), "{error}");
        assert!(!error.contains("| early"), "{error}");
    }

    #[test]
    fn what_does_not_end_is_ended() {
        let root = tempfile::tempdir().unwrap();
        let begun = Instant::now();
        let error = stage(root.path()).run(&mut shell("exec sleep 60"), Duration::from_millis(50));
        assert!(error.unwrap_err().to_string().contains("did not end"));
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn output_is_what_was_printed_alone() {
        let root = tempfile::tempdir().unwrap();
        let mut stage = stage(root.path());
        let text = stage
            .output(&mut shell("echo out; echo err >&2"), QUERY_LIMIT)
            .unwrap();
        assert_eq!(text, "out\n");
        assert!(stage.log_text().unwrap().ends_with("err\n"));
    }
}
