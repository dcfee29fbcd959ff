// SPDX-License-Identifier: GPL-2.0-only
//! Writes an initramfs: a cpio archive in the "newc" form, as the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst` has it. By
//! hand, because device nodes then need neither root nor a helper.

const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const CHARACTER: u32 = 0o020_000;

/// An archive being written.
#[derive(Default)]
pub(super) struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
}

impl Cpio {
    /// Adds a directory.
    pub(super) fn directory(&mut self, name: &str) {
        self.entry(name, DIRECTORY | 0o755, (0, 0), &[]);
    }

    /// Adds a file with its permissions.
    pub(super) fn file(&mut self, name: &str, permissions: u32, content: &[u8]) {
        self.entry(name, REGULAR | permissions, (0, 0), content);
    }

    /// Adds a character device by its major and minor number.
    pub(super) fn character_device(&mut self, name: &str, major: u32, minor: u32) {
        self.entry(name, CHARACTER | 0o600, (major, minor), &[]);
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entries = 0;
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        let size = u32::try_from(content.len()).expect("an initramfs's file is far below 4 GiB");
        let name_size = u32::try_from(name.len() + 1).expect("names here are short");
        let links = if mode & DIRECTORY != 0 { 2 } else { 1 };
        let inode = self.entries;
        self.entries += 1;
        // inode, mode, uid, gid, links, mtime, size, device (2), special file's
        // device (2), name's size, checksum: the time is fixed, so that the
        // same files make the same archive.
        let fields = [
            inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn sample() -> Vec<u8> {
        let mut cpio = Cpio::default();
        cpio.directory("dev");
        cpio.character_device("dev/console", 5, 1);
        cpio.file("init", 0o755, b"#!/bin/true\n");
        cpio.file("odd", 0o644, b"12345");
        cpio.finish()
    }

    #[test]
    fn an_entry_is_a_header_a_name_and_a_content_each_padded() {
        let mut cpio = Cpio::default();
        cpio.file("a", 0o644, b"xyz");
        let bytes = cpio.finish();
        let header = "070701\
                      00000000000081A400000000000000000000000100000000\
                      00000003000000000000000000000000000000000000000200000000";
        assert_eq!(&bytes[..110], header.as_bytes());
        assert_eq!(&bytes[110..116], b"a\0xyz\0");
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(&bytes[116..122], b"070701");
    }

    #[test]
    fn the_system_s_cpio_reads_it() {
        let mut cpio = match Command::new("cpio")
            .args(["-itv", "--quiet", "--numeric-uid-gid"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
        {
            Ok(child) => child,
            // The one tool that can disagree is not here.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => panic!("{error}"),
        };
        cpio.stdin.take().unwrap().write_all(&sample()).unwrap();
        let output = cpio.wait_with_output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert_eq!((lines[0][0], lines[0].last()), ("drwxr-xr-x", Some(&"dev")));
        assert_eq!(
            (lines[1][0], lines[1][4], lines[1][5]),
            ("crw-------", "5,", "1")
        );
        assert_eq!((lines[2][0], lines[2][4]), ("-rwxr-xr-x", "12"));
        assert_eq!((lines[3][0], lines[3][4]), ("-rw-r--r--", "5"));
    }
}
