// SPDX-License-Identifier: GPL-2.0-only
//! A trace in a file: what it is of in one line of JSON, and behind it, compressed by gzip, its
//! records and how the command ended. harness/OBSERVE.md says it byte by byte.

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use protocol::message::System;
use protocol::record::{Record, RecordError};
use protocol::workload::Ran;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What the line says of the format.
const FORMAT: &str = "tlbdiff-trace";
/// Changes when what lies in a file does.
const VERSION: u32 = 1;
/// Records that are written together.
const BLOCK: usize = 4096;
/// How long the line may be, in bytes.
const LINE: u64 = 1 << 20;

/// What a trace is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// `tlbdiff-trace`
    format: String,
    /// Of the format.
    version: u32,
    /// The kernel, as reports name it.
    pub kernel: String,
    /// The model's profile.
    pub profile: String,
    /// The command.
    pub command: Vec<String>,
    /// Page tables were looked at.
    #[serde(default)]
    pub device: bool,
    /// The machine.
    pub system: System,
}

impl Header {
    /// Of this version; with `device`, page tables are looked at.
    pub fn new(
        kernel: String,
        profile: String,
        (command, device): (Vec<String>, bool),
        system: System,
    ) -> Header {
        Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            kernel,
            profile,
            command,
            device,
            system,
        }
    }
}

/// Why a file is no trace.
#[derive(Debug, Error)]
pub enum FileError {
    /// It cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is something else.
    #[error("{0}: it holds no trace of `tlbdiff observe --record`")]
    Other(PathBuf),
    /// A later tlbdiff wrote it.
    #[error("{path}: it is of version {version}, and this is tlbdiff for version {VERSION}")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// It ends too early, or is damaged.
    #[error("{path}: it is damaged, or was not written to its end: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// Writes a trace. The file is there once it is whole.
pub struct Writer {
    path: PathBuf,
    out: GzEncoder<BufWriter<File>>,
    block: Vec<u8>,
    partial: Partial,
}

/// The file until it is whole, beside it; gone when dropped.
struct Partial(PathBuf);

impl Partial {
    fn of(path: &Path) -> Partial {
        let mut name = path.as_os_str().to_owned();
        name.push(".partial");
        Partial(name.into())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Writer {
    /// Begins a file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn new(path: &Path, header: &Header) -> Result<Writer, FileError> {
        let failed = |error| FileError::Io {
            path: path.to_owned(),
            error,
        };
        let partial = Partial::of(path);
        let mut out = BufWriter::new(File::create(&partial.0).map_err(failed)?);
        let line = serde_json::to_string(header).map_err(|error| failed(error.into()))?;
        writeln!(out, "{line}").map_err(failed)?;
        Ok(Writer {
            path: path.to_owned(),
            out: GzEncoder::new(out, Compression::fast()),
            block: Vec::with_capacity(BLOCK * Record::SIZE),
            partial,
        })
    }

    /// Removes what was written so far, where there is no time to end it.
    pub fn forget(path: &Path) {
        drop(Partial::of(path));
    }

    /// Writes a record.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn push(&mut self, record: &Record) -> Result<(), FileError> {
        self.block.extend_from_slice(&record.to_bytes());
        if self.block.len() < BLOCK * Record::SIZE {
            return Ok(());
        }
        self.flush().map_err(|error| self.failed(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        let records = u32::try_from(self.block.len() / Record::SIZE).map_err(io::Error::other)?;
        if records > 0 {
            self.out.write_all(&records.to_le_bytes())?;
            self.out.write_all(&self.block)?;
            self.block.clear();
        }
        Ok(())
    }

    /// The trace has ended, and the command so.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(self, ran: &Ran) -> Result<(), FileError> {
        let path = self.path.clone();
        self.end(ran).map_err(|error| FileError::Io { path, error })
    }

    fn end(mut self, ran: &Ran) -> io::Result<()> {
        self.flush()?;
        self.out.write_all(&0u32.to_le_bytes())?;
        serde_json::to_writer(&mut self.out, ran)?;
        self.out.finish()?.flush()?;
        fs::rename(&self.partial.0, &self.path)
    }

    fn failed(&self, error: io::Error) -> FileError {
        FileError::Io {
            path: self.path.clone(),
            error,
        }
    }
}

/// Reads a trace.
pub struct Reader {
    path: PathBuf,
    /// What it is of.
    pub header: Header,
    input: BufReader<GzDecoder<BufReader<File>>>,
}

impl Reader {
    /// Opens a file.
    ///
    /// # Errors
    /// It cannot be read, or holds something else.
    pub fn open(path: &Path) -> Result<Reader, FileError> {
        let failed = |error| FileError::Io {
            path: path.to_owned(),
            error,
        };
        let mut file = BufReader::new(File::open(path).map_err(failed)?);
        let mut line = Vec::new();
        let read = file.by_ref().take(LINE).read_until(b'\n', &mut line);
        read.map_err(failed)?;
        let header = header(path, &line)?;
        Ok(Reader {
            path: path.to_owned(),
            header,
            input: BufReader::with_capacity(BLOCK * Record::SIZE, GzDecoder::new(file)),
        })
    }

    /// Hands all records on, and says how the command ended.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn read(mut self, take: &mut dyn FnMut(Record)) -> Result<Ran, FileError> {
        let end = self.records(take);
        end.map_err(|why| FileError::Damaged {
            path: self.path,
            why,
        })
    }

    fn records(&mut self, take: &mut dyn FnMut(Record)) -> Result<Ran, String> {
        let text = |error: io::Error| error.to_string();
        loop {
            let mut count = [0; 4];
            self.input.read_exact(&mut count).map_err(text)?;
            let count = u32::from_le_bytes(count);
            if count == 0 {
                return serde_json::from_reader(&mut self.input).map_err(|error| error.to_string());
            }
            for _ in 0..count {
                let mut bytes = [0; Record::SIZE];
                self.input.read_exact(&mut bytes).map_err(text)?;
                let record = Record::from_bytes(&bytes);
                take(record.map_err(|error: RecordError| error.to_string())?);
            }
        }
    }
}

/// What the line says; a version is looked for before all that belongs to it.
fn header(path: &Path, line: &[u8]) -> Result<Header, FileError> {
    #[derive(Deserialize)]
    struct Of {
        format: String,
        version: u32,
    }
    let other = || FileError::Other(path.to_owned());
    let of: Of = serde_json::from_slice(line).map_err(|_| other())?;
    if of.format != FORMAT {
        return Err(other());
    }
    if of.version != VERSION {
        return Err(FileError::Version {
            path: path.to_owned(),
            version: of.version,
        });
    }
    serde_json::from_slice(line).map_err(|error| FileError::Damaged {
        path: path.to_owned(),
        why: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::record::Kind;
    use protocol::workload::Exit;

    fn record(seq: u64) -> Record {
        Record {
            seq,
            mm: 1 << 63 | 5,
            start: 0x1000,
            end: u64::MAX,
            arg: 3,
            cpumask: 0xf,
            asid: 9,
            pid: -1,
            tgid: 8,
            kind: Kind::Notify,
            hart: 2,
            flags: 1,
            chain: 77,
        }
    }

    fn ran() -> Ran {
        Ran {
            exit: Exit::Signal(9),
            took_ns: 5,
            recorded: 10_000,
            lost: 0,
            unfollowed: 0,
            taint_before: 0,
            taint_after: 0,
            kernel_warnings: vec!["x".to_owned()],
        }
    }

    fn write(path: &Path) {
        let command = vec!["ls".to_owned()];
        let header = Header::new(
            "k".into(),
            "stable".into(),
            (command, true),
            System::default(),
        );
        let mut writer = Writer::new(path, &header).unwrap();
        for seq in 0..10_000 {
            writer.push(&record(seq)).unwrap();
        }
        writer.finish(&ran()).unwrap();
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace");
        write(&path);
        let reader = Reader::open(&path).unwrap();
        assert_eq!(reader.header.command, ["ls"]);
        let mut seq = 0;
        let end = reader.read(&mut |read| {
            assert_eq!(read, record(seq));
            seq += 1;
        });
        assert_eq!((end.unwrap(), seq), (ran(), 10_000));
    }

    #[test]
    fn what_is_no_trace_or_not_whole_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace");
        write(&path);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let end = Reader::open(&path).unwrap().read(&mut |_| {});
        assert!(matches!(end, Err(FileError::Damaged { .. })), "{end:?}");
        std::fs::write(&path, "{\"about\": 1}\n").unwrap();
        assert!(matches!(Reader::open(&path), Err(FileError::Other(_))));
        std::fs::write(&path, "{\"format\":\"tlbdiff-trace\",\"version\":9}\n").unwrap();
        let opened = Reader::open(&path).map(|_| ());
        assert!(
            matches!(opened, Err(FileError::Version { version: 9, .. })),
            "{opened:?}"
        );
    }
}
