// SPDX-License-Identifier: GPL-2.0-only
//! Several reporters at once, some of them into files.

use super::human::Human;
use super::json::Json;
use super::junit::Junit;
use super::kcidb::{Kcidb, Origin};
use super::ktap::Ktap;
use super::lava::Lava;
use super::style::Style;
use super::tests::Tests;
use crate::cli::args::RunFormat;
use crate::event::{Event, Reporter};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Tells all of them the same.
pub struct Outputs {
    outputs: Vec<Output>,
    /// One that fails does not keep the others from being told.
    patient: bool,
    failed: bool,
}

struct Output {
    reporter: Box<dyn Reporter>,
    /// What it writes to until all is told, and where that is to be.
    file: Option<(NamedTempFile, PathBuf)>,
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
        let mut outputs = vec![Output {
            reporter: reporter(format, io::stdout(), style.clone(), origin),
            file: None,
        }];
        for (format, path) in files {
            let file = beside(path).map_err(|error| named(path, &error))?;
            // A file is no terminal.
            let style = Style {
                colour: false,
                bar: false,
                ..style.clone()
            };
            let out = BufWriter::new(file.reopen()?);
            outputs.push(Output {
                reporter: reporter(*format, out, style, origin),
                file: Some((file, path.clone())),
            });
        }
        Ok(Outputs {
            outputs,
            patient: false,
            failed: false,
        })
    }

    /// One that cannot be written any more is left out, and the others go on.
    pub fn patient(mut self) -> Outputs {
        self.patient = true;
        self
    }

    /// Whether all could be written.
    pub fn is_whole(&self) -> bool {
        !self.failed
    }

    fn each(&mut self, tell: impl Fn(&mut Output) -> io::Result<()>) -> io::Result<()> {
        if !self.patient {
            return self.outputs.iter_mut().try_for_each(tell);
        }
        let before = self.outputs.len();
        self.outputs.retain_mut(|output| {
            let told = tell(output);
            if let Err(error) = &told {
                // Standard error may be where nothing can be written either.
                let _ = writeln!(io::stderr(), "note: an output is left out: {error}");
            }
            told.is_ok()
        });
        self.failed |= self.outputs.len() < before;
        Ok(())
    }
}

impl Output {
    fn end(&mut self) -> io::Result<()> {
        self.reporter.end()?;
        match self.file.take() {
            Some((file, path)) => match file.persist(&path) {
                Ok(_) => Ok(()),
                Err(error) => Err(named(&path, &error.error)),
            },
            None => Ok(()),
        }
    }
}

impl Reporter for Outputs {
    fn tell(&mut self, event: &Event) -> io::Result<()> {
        self.each(|output| output.reporter.tell(event))
    }

    fn end(&mut self) -> io::Result<()> {
        self.each(Output::end)
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
        RunFormat::Ktap => Box::new(Tests::new(Ktap::new(out))),
        RunFormat::Junit => Box::new(Tests::new(Junit::new(out))),
        RunFormat::Kcidb => Box::new(Tests::new(Kcidb::new(out, origin))),
        RunFormat::Lava => Box::new(Tests::new(Lava::new(out))),
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
