// SPDX-License-Identifier: GPL-2.0-only
//! Finds scenario files under the paths of the command line, and reads them.

use super::check::check;
use super::checked::Scenario;
use super::errors::InputError;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// No scenario that a person or a program writes is longer, in bytes.
const MAX_SIZE: u64 = 1 << 20;

/// All scenarios under these paths whose path holds `filter`, in order of path,
/// and all that is wrong with any of them.
pub fn load(paths: &[PathBuf], filter: Option<&str>) -> (Vec<Scenario>, Vec<InputError>) {
    let mut files = Vec::new();
    let mut errors = Vec::new();
    for path in paths {
        match files_under(path) {
            Ok(found) => files.extend(found),
            Err(error) => errors.push(error),
        }
    }
    let mut scenarios = Vec::new();
    for path in files.iter().filter(|path| matches(path, filter)) {
        match load_one(path) {
            Ok(scenario) => scenarios.push(scenario),
            Err(error) => errors.push(error),
        }
    }
    (scenarios, errors)
}

fn matches(path: &Path, filter: Option<&str>) -> bool {
    filter.is_none_or(|filter| path.to_string_lossy().contains(filter))
}

fn files_under(path: &Path) -> Result<Vec<PathBuf>, InputError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    collect(path, &mut found)
        .map_err(|error| InputError::whole(path, format!("cannot be read: {error}")))?;
    if found.is_empty() {
        return Err(InputError::whole(
            path,
            "no scenario (*.yaml) in this directory or below it",
        ));
    }
    found.sort();
    Ok(found)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        // Links to folders are not followed: they can lead in a circle.
        if entry.file_type()?.is_dir() {
            collect(&path, found)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml")
        {
            found.push(path);
        }
    }
    Ok(())
}

/// Reads and checks one file.
///
/// # Errors
/// It cannot be read, or what is written in it is wrong.
pub fn load_one(path: &Path) -> Result<Scenario, InputError> {
    let bytes = read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => InputError::whole(path, "no such file or directory"),
        _ => InputError::whole(path, format!("cannot be read: {error}")),
    })?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(InputError::whole(
            path,
            format!("larger than {} KiB: not a scenario", MAX_SIZE >> 10),
        ));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => check(path, text),
        Err(error) => Err(not_utf8(path, &bytes, error.valid_up_to())),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_SIZE + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn not_utf8(path: &Path, bytes: &[u8], good: usize) -> InputError {
    let text = String::from_utf8_lossy(bytes);
    let before = String::from_utf8_lossy(&bytes[..good]);
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .map_or(0, |last| last.chars().count())
        + 1;
    InputError::at(
        path,
        &text,
        (line, column),
        format!("byte 0x{:02x} is not UTF-8", bytes[good]),
    )
}
