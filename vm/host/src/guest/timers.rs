// SPDX-License-Identifier: GPL-2.0-only
//! Sets the timers of a restored guest going again.
//!
//! QEMU before 10.2 saves the time of each hart's next timer interrupt (the
//! CSR `stimecmp`), but not the host timer behind it: in a restored guest no
//! timer interrupt ever comes. It answers what wakes it otherwise, and so
//! seems well, but its clock does not tick, and whatever waits for a time or
//! for an RCU grace period waits for ever.
//!
//! Writing the CSR arms the host timer. QEMU's debugger interface can do that
//! while the guest is still stopped, with the value that is there already, so
//! that the guest cannot tell that anything happened.

use super::{
    GuestError,
    machine::{Channel, QemuMachine},
    qmp::Qmp,
};
use crate::conversation::Stop;
use serde_json::json;
use std::{
    io::{self, Read, Write},
    time::Instant,
};

/// The CSR that holds the time of a hart's next timer interrupt.
const STIMECMP: u64 = 0x14d;
/// A CSR that every hart has, to find where QEMU begins to number them.
const SSTATUS: u64 = 0x100;
/// How much of a file the debugger interface gives at a time, in bytes.
const PIECE: usize = 0xffb;
/// Its list of registers is not longer than this.
const LONGEST_LIST: usize = 1 << 20;

/// Arms the timer of every hart of a stopped guest.
pub(super) fn rearm(
    machine: &mut QemuMachine,
    qmp: &mut Qmp,
    harts: u32,
    deadline: Instant,
) -> Result<(), GuestError> {
    monitor(machine, qmp, "gdbserver chardev:gdb", deadline)?;
    let mut debugger = Debugger { machine, deadline };
    let stimecmp = debugger.first_csr()? + STIMECMP;
    for hart in 1..=harts {
        debugger.expect(&format!("Hg{hart:x}"), "OK")?;
        let next = debugger.ask(&format!("p{stimecmp:x}"))?;
        // Errors are shorter than a register's 16 digits.
        if next.len() != 16 {
            return Err(failed(&format!("hart {} has no stimecmp", hart - 1)));
        }
        debugger.expect(&format!("P{stimecmp:x}={next}"), "OK")?;
    }
    monitor(machine, qmp, "gdbserver none", deadline)
}

fn monitor(
    machine: &mut QemuMachine,
    qmp: &mut Qmp,
    line: &str,
    deadline: Instant,
) -> Result<(), GuestError> {
    let command = json!({ "command-line": line });
    qmp.execute(machine, "human-monitor-command", command, deadline)?;
    Ok(())
}

fn failed(why: &str) -> GuestError {
    GuestError::Qmp {
        why: format!("the restored guest's timers cannot be set going: {why}"),
    }
}

/// The remote protocol of gdb, as much of it as is needed.
struct Debugger<'a> {
    machine: &'a mut QemuMachine,
    deadline: Instant,
}

impl Debugger<'_> {
    /// The debugger's number of CSR 0.
    fn first_csr(&mut self) -> Result<u64, GuestError> {
        let mut list = String::new();
        loop {
            let at = list.len();
            let question = format!("qXfer:features:read:riscv-csr.xml:{at:x},{PIECE:x}");
            let answer = self.ask(&question)?;
            // `m` and a piece, or `l` and the last piece.
            let mut rest = answer.chars();
            let kind = rest.next();
            list.push_str(rest.as_str());
            match kind {
                Some('l') => break,
                Some('m') if list.len() > at && list.len() < LONGEST_LIST => {}
                _ => return Err(failed("no list of registers")),
            }
        }
        let sstatus = register_number(&list, "sstatus");
        let first = sstatus.and_then(|number| number.checked_sub(SSTATUS));
        first.ok_or_else(|| failed("sstatus is not among its registers"))
    }

    fn expect(&mut self, question: &str, expected: &str) -> Result<(), GuestError> {
        let answer = self.ask(question)?;
        if answer == expected {
            Ok(())
        } else {
            Err(failed(&format!("`{answer}` in answer to `{question}`")))
        }
    }

    fn ask(&mut self, question: &str) -> Result<String, GuestError> {
        let mut talk = self.machine.talk(Channel::Debugger, self.deadline);
        let answer = talk
            .write_all(packet(question).as_bytes())
            .and_then(|()| read_packet(&mut talk));
        let stop = talk.stop;
        answer.map_err(|error| match stop {
            Some(stop) => self.ended(stop),
            None => failed(&error.to_string()),
        })
    }

    fn ended(&mut self, stop: Stop) -> GuestError {
        let during = "QEMU's debugger interface";
        let late = |_: &mut QemuMachine| failed("no answer in time");
        self.machine.explain(stop, during, late)
    }
}

/// `$`, the text, `#` and two digits of checksum.
fn packet(text: &str) -> String {
    let sum = text.bytes().fold(0_u8, u8::wrapping_add);
    format!("${text}#{sum:02x}")
}

/// Reads one packet and acknowledges it. Nothing follows it before the next
/// question. The channel loses nothing, so the checksum is not looked at.
fn read_packet(channel: &mut (impl Read + Write)) -> io::Result<String> {
    let mut read = Vec::new();
    let mut chunk = [0; 4096];
    while read.len() <= 2 * PIECE {
        let n = channel.read(&mut chunk)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read.extend_from_slice(&chunk[..n]);
        if let Some(text) = whole_packet(&read) {
            let text = String::from_utf8_lossy(text).into_owned();
            channel.write_all(b"+")?;
            return Ok(text);
        }
    }
    Err(io::Error::other("an answer that never ends"))
}

/// The text of the packet in what was read, once it is whole. Acknowledgements
/// come before it.
fn whole_packet(read: &[u8]) -> Option<&[u8]> {
    let begin = read.iter().position(|&byte| byte == b'$')? + 1;
    let length = read[begin..].iter().position(|&byte| byte == b'#')?;
    let end = begin + length;
    (read.len() >= end + 3).then(|| &read[begin..end])
}

/// The number of a register in the debugger's list of them.
fn register_number(list: &str, name: &str) -> Option<u64> {
    let (_, rest) = list.split_once(&format!("name=\"{name}\""))?;
    let (element, _) = rest.split_once('>')?;
    let (_, number) = element.split_once("regnum=\"")?;
    number.split_once('"')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::net::UnixStream, thread};

    #[test]
    fn packets_have_their_checksum() {
        assert_eq!(packet("Hg1"), "$Hg1#e0");
        assert_eq!(packet(""), "$#00");
    }

    #[test]
    fn packets_are_read_and_acknowledged() {
        let (mut host, mut qemu) = UnixStream::pair().unwrap();
        qemu.write_all(b"++$OK#9a").unwrap();
        assert_eq!(read_packet(&mut host).unwrap(), "OK");
        let mut acknowledged = [0];
        qemu.read_exact(&mut acknowledged).unwrap();
        assert_eq!(&acknowledged, b"+");
        qemu.write_all(b"+$E1").unwrap();
        drop(qemu);
        assert!(read_packet(&mut host).is_err());
    }

    #[test]
    fn packets_come_in_pieces() {
        for whole in ["$#", "$OK#9", "+", ""] {
            assert_eq!(whole_packet(whole.as_bytes()), None, "{whole}");
        }
        assert_eq!(whole_packet(b"+$OK#9a"), Some(&b"OK"[..]));
        assert_eq!(whole_packet(b"$#00"), Some(&b""[..]));
    }

    #[test]
    fn an_endless_packet_is_an_error() {
        let (mut host, mut qemu) = UnixStream::pair().unwrap();
        let talker = thread::spawn(move || while qemu.write_all(b"$$$$").is_ok() {});
        assert!(read_packet(&mut host).is_err());
        drop(host);
        talker.join().unwrap();
    }

    #[test]
    fn registers_are_found_by_name() {
        let list = r#"<feature><reg name="frm" bitsize="64" regnum="68" type="int"/>
            <reg name="vsstatus" regnum="1"/><reg name="sstatus" bitsize="64" regnum="322"/>"#;
        assert_eq!(register_number(list, "sstatus"), Some(322));
        assert_eq!(register_number(list, "frm"), Some(68));
        assert_eq!(register_number(list, "stimecmp"), None);
    }
}
