// SPDX-License-Identifier: GPL-2.0-only
//! DAMON, for one pass over a range of a process: its sysfs interface, with one kdamond. Nothing
//! here allocates, but for what is done before and after a program.

use crate::settings::Changed;
use crate::{harts, system_file};
use anyhow::Result;
use operations::StepResult;
use std::ffi::CStr;
use std::io::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Where kdamonds are made.
const NUMBER: &str = "/sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds";
/// Ours, the first one.
const KDAMOND: &str = "/sys/kernel/mm/damon/admin/kdamonds/0/";

/// How long a sample takes, in microseconds: so long one may wait to be answered.
const SAMPLE: u64 = 20_000;
/// And an aggregation, after each of which the scheme is applied: time enough to bring kdamond to
/// its hart before the first one, and to end it before the second.
const AGGREGATION: u64 = 400_000;
/// How long the pass may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(10);
/// How long it may be busy with what it was told before.
const BUSY: Duration = Duration::from_secs(2);

/// What is done with the range.
#[derive(Clone, Copy)]
pub enum Action {
    Pageout,
    Cold,
}

/// Whether there is one that nobody uses.
pub fn is_there() -> bool {
    let number = std::fs::read_to_string(NUMBER);
    number.is_ok_and(|number| number.trim() == "0")
}

/// A program uses it: when dropped, nothing of that is left.
pub struct Used {
    _number: Changed,
}

impl Used {
    /// Before the program.
    ///
    /// # Errors
    /// It cannot be noted what was there.
    pub fn soon() -> Result<Used> {
        Ok(Used {
            _number: Changed::soon(NUMBER)?,
        })
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        // Before the number goes back. A step that has ended has done it itself.
        let _ = set("state", b"off");
    }
}

/// A step: kdamond looks at a range of a process, finds at the first aggregation that it is not
/// accessed, and does this with it; then it ends.
pub fn pass(pid: i32, range: (u64, u64), action: Action) -> StepResult {
    let done = set_up(pid, range, action)
        .and_then(|()| begin())
        .and_then(|()| await_pass());
    let _ = set("state", b"off");
    let gone = number(b"0");
    match done.and(gone) {
        Ok(()) => StepResult::Ok,
        Err(errno) => StepResult::Errno(errno),
    }
}

fn set_up(pid: i32, (start, end): (u64, u64), action: Action) -> Result<(), i32> {
    number(b"1")?;
    set("contexts/nr_contexts", b"1")?;
    // The ranges of an address space that are said, and not those that DAMON chooses.
    of_context("operations", b"fvaddr")?;
    value("monitoring_attrs/intervals/aggr_us", AGGREGATION)?;
    value("monitoring_attrs/intervals/update_us", AGGREGATION)?;
    value("monitoring_attrs/intervals/sample_us", SAMPLE)?;
    // Later kernels begin with so many parts of the range; fewer it cannot be told to have.
    of_context("monitoring_attrs/nr_regions/min", b"3")?;
    of_context("targets/nr_targets", b"1")?;
    value("targets/0/pid_target", pid.unsigned_abs().into())?;
    of_context("targets/0/regions/nr_regions", b"1")?;
    value("targets/0/regions/0/start", start)?;
    value("targets/0/regions/0/end", end)?;
    of_context("schemes/nr_schemes", b"1")?;
    let name: &[u8] = match action {
        Action::Pageout => b"pageout",
        Action::Cold => b"cold",
    };
    of_context("schemes/0/action", name)?;
    value("schemes/0/access_pattern/sz/max", end - start)?;
    value("schemes/0/access_pattern/nr_accesses/max", u32::MAX.into())?;
    // An aggregation makes a range older by one: the first one finds what is no older, and all
    // others do not.
    value("schemes/0/access_pattern/age/max", 1)
}

/// From now on it runs, where subjects do not.
fn begin() -> Result<(), i32> {
    set("state", b"on")?;
    let mut path = [0; 128];
    let pid = system_file::number(c_path(&mut path, &[KDAMOND, "pid"])?)?;
    harts::keep_kernel_thread(pid as i32);
    Ok(())
}

/// Until the scheme was tried on the range.
fn await_pass() -> Result<(), i32> {
    let begin = Instant::now();
    loop {
        set("state", b"update_schemes_stats")?;
        let mut path = [0; 128];
        let tried = [KDAMOND, "contexts/0/schemes/0/stats/nr_tried"];
        if system_file::number(c_path(&mut path, &tried)?)? > 0 {
            return Ok(());
        }
        if begin.elapsed() > PATIENCE {
            return Err(libc::ETIMEDOUT);
        }
        sleep(LOOK);
    }
}

fn number(text: &[u8]) -> Result<(), i32> {
    write(&[NUMBER], text)
}

/// A file of kdamond's.
fn set(name: &str, text: &[u8]) -> Result<(), i32> {
    write(&[KDAMOND, name], text)
}

/// A file of its one context.
fn of_context(name: &str, text: &[u8]) -> Result<(), i32> {
    write(&[KDAMOND, "contexts/0/", name], text)
}

/// Whoever finds the interface's lock taken is told EBUSY, as by kdamond at work.
fn write(parts: &[&str], text: &[u8]) -> Result<(), i32> {
    let mut path = [0; 128];
    let path = c_path(&mut path, parts)?;
    let begin = Instant::now();
    loop {
        match system_file::write(path, text) {
            Err(libc::EBUSY) if begin.elapsed() < BUSY => sleep(LOOK),
            done => return done,
        }
    }
}

/// A number in one of those.
fn value(name: &str, value: u64) -> Result<(), i32> {
    let mut digits = [0; 20];
    of_context(name, crate::perform::decimal(value, &mut digits))
}

/// Parts of a path, one after the other, as C has it.
fn c_path<'a>(room: &'a mut [u8; 128], parts: &[&str]) -> Result<&'a CStr, i32> {
    let mut rest = &mut room[..];
    for part in parts {
        let written = rest.write_all(part.as_bytes());
        written.map_err(|_| libc::ENAMETOOLONG)?;
    }
    CStr::from_bytes_until_nul(room).map_err(|_| libc::ENAMETOOLONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_put_together_where_they_have_room() {
        let mut room = [0; 128];
        assert_eq!(c_path(&mut room, &["/a/", "b"]), Ok(c"/a/b"));
        let mut room = [0; 128];
        let long = "x".repeat(128);
        assert_eq!(c_path(&mut room, &[&long]), Err(libc::ENAMETOOLONG));
    }
}
