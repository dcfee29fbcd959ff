// SPDX-License-Identifier: GPL-2.0-only
//! What the kernel logs while a program runs.

use anyhow::{Context, Result};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

/// KERN_WARNING: this and what is worse (smaller) is kept.
const WARNING: u32 = 4;

/// An open /dev/kmsg.
pub struct Kmsg {
    file: File,
}

impl Kmsg {
    /// From now on.
    ///
    /// # Errors
    /// /dev/kmsg cannot be opened.
    pub fn open() -> Result<Kmsg> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .context("cannot open /dev/kmsg")?;
        file.seek(SeekFrom::End(0))
            .context("cannot seek in /dev/kmsg")?;
        Ok(Kmsg { file })
    }

    /// All messages since the last call: level and text.
    fn messages(&mut self) -> Vec<(u32, String)> {
        let mut messages = Vec::new();
        let mut record = [0; 8192];
        loop {
            match self.file.read(&mut record) {
                Ok(0) => break,
                Ok(length) => messages.extend(parse(&String::from_utf8_lossy(&record[..length]))),
                // EPIPE: the oldest were overwritten, the next read goes on behind them.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(_) => break,
            }
        }
        messages
    }

    /// What was said until now is not asked for.
    pub fn skip(&mut self) {
        // An error is the beginning of what the next read is for.
        let _ = self.file.seek(SeekFrom::End(0));
    }

    /// Warnings and worse since the last call.
    pub fn warnings(&mut self) -> Vec<String> {
        let messages = self.messages().into_iter();
        messages
            .filter(|(level, _)| *level <= WARNING)
            .map(|(_, text)| text)
            .collect()
    }
}

/// `priority,sequence,time,flags;text`, then lines of key and value that begin with a space.
fn parse(record: &str) -> Option<(u32, String)> {
    let (head, text) = record.split_once(';')?;
    let priority: u32 = head.split(',').next()?.parse().ok()?;
    let text = text.lines().next().unwrap_or_default();
    Some((priority & 7, text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_record_has_a_level_and_a_text() {
        let record = "12,339,5140900,-;NET: Registered\n SUBSYSTEM=net\n";
        assert_eq!(parse(record), Some((4, "NET: Registered".to_owned())));
        assert_eq!(parse("nonsense"), None);
    }
}
