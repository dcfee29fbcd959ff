// SPDX-License-Identifier: GPL-2.0-only
//! ksmd at work for as long as a step takes. Nothing here allocates.

use crate::system_file::{number, write};
use operations::StepResult;
use std::ffi::CStr;
use std::thread::sleep;
use std::time::{Duration, Instant};

const RUN: &CStr = c"/sys/kernel/mm/ksm/run";
const ZERO_PAGES: &CStr = c"/sys/kernel/mm/ksm/use_zero_pages";
const FULL_SCANS: &CStr = c"/sys/kernel/mm/ksm/full_scans";

/// A page is merged in the second scan in which it has not changed; one may be under way.
const SCANS: u64 = 4;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(10);

/// Whole scans of all that is mergeable, and ksmd stands still again.
pub fn merge(zero_pages: bool) -> StepResult {
    let zero: &[u8] = if zero_pages { b"1" } else { b"0" };
    let merged = write(ZERO_PAGES, zero).and_then(|()| scan());
    let stopped = write(RUN, b"0").and_then(|()| write(ZERO_PAGES, b"0"));
    result(merged.and(stopped))
}

/// All that was merged is parted again, in all processes, by whoever asks for it.
pub fn unmerge() -> StepResult {
    let parted = write(RUN, b"2");
    let stopped = write(RUN, b"0");
    result(parted.and(stopped))
}

fn result(done: Result<(), i32>) -> StepResult {
    match done {
        Ok(()) => StepResult::Ok,
        Err(errno) => StepResult::Errno(errno),
    }
}

fn scan() -> Result<(), i32> {
    let (before, begin) = (number(FULL_SCANS)?, Instant::now());
    write(RUN, b"1")?;
    while number(FULL_SCANS)? < before + SCANS {
        if begin.elapsed() > PATIENCE {
            return Err(libc::ETIMEDOUT);
        }
        sleep(LOOK);
    }
    Ok(())
}
