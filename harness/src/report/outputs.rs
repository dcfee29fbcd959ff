// SPDX-License-Identifier: GPL-2.0-only
//! Several reporters at once, some of them into files.

use super::human::{Human, Style};
use super::json::Json;
use super::junit::Junit;
use super::kcidb::{Kcidb, Origin};
use super::ktap::Ktap;
use super::lava::Lava;
use super::{Event, Reporter};
use crate::cli::args::RunFormat;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Tells all of them the same.
pub struct Outputs {
    reporters: Vec<Box<dyn Reporter>>,
    files: Vec<(NamedTempFile, PathBuf)>,
}

impl Outputs {
    /// One to standard output, and any number into files, which are there when all is told.
    ///
    /// # Errors
    /// A file cannot be made.
    pub fn new(
        format: RunFormat,
        style: &Style,
        files: &[(RunFormat, PathBuf)],
        origin: &Origin,
    ) -> io::Result<Outputs> {
        let mut outputs = Outputs {
            reporters: vec![reporter(format, io::stdout(), style.clone(), origin)],
            files: Vec::new(),
        };
        for (format, path) in files {
            let file = beside(path).map_err(|error| named(path, &error))?;
            // A file is no terminal.
            let style = Style {
                colour: false,
                bar: false,
                ..style.clone()
            };
            let out = BufWriter::new(file.reopen()?);
            outputs
                .reporters
                .push(reporter(*format, out, style, origin));
            outputs.files.push((file, path.clone()));
        }
        Ok(outputs)
    }
}

impl Reporter for Outputs {
    fn tell(&mut self, event: &Event) -> io::Result<()> {
        self.reporters
            .iter_mut()
            .try_for_each(|reporter| reporter.tell(event))
    }

    fn end(&mut self) -> io::Result<()> {
        for reporter in &mut self.reporters {
            reporter.end()?;
        }
        for (file, path) in self.files.drain(..) {
            file.persist(&path)
                .map_err(|error| named(&path, &error.error))?;
        }
        Ok(())
    }
}

fn reporter(
    format: RunFormat,
    out: impl Write + 'static,
    style: Style,
    origin: &Origin,
) -> Box<dyn Reporter> {
    match format {
        RunFormat::Human => Box::new(Human::new(out, style)),
        RunFormat::Json => Box::new(Json::new(out)),
        RunFormat::Ktap => Box::new(Ktap::new(out)),
        RunFormat::Junit => Box::new(Junit::new(out)),
        RunFormat::Kcidb => Box::new(Kcidb::new(out, origin)),
        RunFormat::Lava => Box::new(Lava::new(out)),
    }
}

/// A file in the same folder, to be renamed; with the rights of any new file.
pub fn beside(path: &Path) -> io::Result<NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    tempfile::Builder::new()
        .prefix(".tlbdiff-")
        .permissions(std::fs::Permissions::from_mode(0o666))
        .tempfile_in(folder.unwrap_or(Path::new(".")))
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
