// SPDX-License-Identifier: GPL-2.0-only
//! /dev/tlbdiff: the agent's side of vm/module/tlbdiff_uapi.h.

use anyhow::{Context, Result, bail};
use operations::{ARENA_PAGES, address};
use protocol::message::Count;
use protocol::record::Record;
use protocol::uapi::{
    ABI_VERSION, Counted, Hello, Mark, Status, WATCH_EAGER, WATCH_RUNNING, Walk, Watch, Zap,
};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsRawFd, RawFd};

mod ioctl {
    use protocol::uapi::{self, Counted, Hello, Mark, Status, Walk, Watch, Zap};
    nix::ioctl_readwrite_bad!(hello, uapi::IOC_HELLO, Hello);
    nix::ioctl_none_bad!(attach, uapi::IOC_ATTACH);
    nix::ioctl_none_bad!(start, uapi::IOC_START);
    nix::ioctl_none_bad!(stop, uapi::IOC_STOP);
    nix::ioctl_write_ptr_bad!(mark, uapi::IOC_MARK, Mark);
    nix::ioctl_read_bad!(status, uapi::IOC_STATUS, Status);
    nix::ioctl_none_bad!(flush_stats, uapi::IOC_FLUSH_STATS);
    nix::ioctl_write_ptr_bad!(subscribe, uapi::IOC_SUBSCRIBE, u32);
    nix::ioctl_readwrite_bad!(count, uapi::IOC_COUNT, Counted);
    nix::ioctl_none_bad!(detach, uapi::IOC_DETACH);
    nix::ioctl_write_ptr_bad!(watch, uapi::IOC_WATCH, Watch);
    nix::ioctl_write_ptr_bad!(zap, uapi::IOC_ZAP, Zap);
    nix::ioctl_none_bad!(follow, uapi::IOC_FOLLOW);
    nix::ioctl_readwrite_bad!(walk, uapi::IOC_WALK, Walk);
}

/// The open trace; closing it undoes all.
pub struct Tracer {
    file: File,
    facts: u32,
}

impl Tracer {
    /// Opens it and checks that both sides speak the same version.
    ///
    /// # Errors
    /// The device is missing or busy, or of another version.
    pub fn open(buffer_records: u32) -> Result<Tracer> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/tlbdiff")
            .context("cannot open /dev/tlbdiff")?;
        let mut hello = Hello {
            abi_version: ABI_VERSION,
            record_size: Record::SIZE as u32,
            buffer_records,
            facts: 0,
        };
        // SAFETY: hello is a valid struct tlbdiff_hello.
        let greeted = unsafe { ioctl::hello(file.as_raw_fd(), &mut hello) };
        if hello.abi_version != ABI_VERSION || hello.record_size != Record::SIZE as u32 {
            bail!(
                "the tracing module speaks version {} with records of {} bytes, the agent version {ABI_VERSION} with {} bytes",
                hello.abi_version,
                hello.record_size,
                Record::SIZE
            );
        }
        greeted.context("the tracing module refused HELLO")?;
        let facts = hello.facts;
        Ok(Tracer { file, facts })
    }

    /// From now on it is recorded what page tables hold of the arena after each step;
    /// eagerly, also of each range before something is taken from it.
    ///
    /// # Errors
    /// The device refuses it.
    pub fn watch_arena(&self, eager: bool) -> Result<()> {
        let watch = Watch {
            flags: if eager { WATCH_EAGER } else { 0 },
            start: address(0),
            end: address(ARENA_PAGES),
        };
        self.watch(&watch)
    }

    /// From now on it is recorded what page tables hold while programs run: of each range, before
    /// something is taken from it, and after the call that did; and with each
    /// [`walk()`](Tracer::walk).
    ///
    /// # Errors
    /// The device refuses it.
    pub fn watch_running(&self) -> Result<()> {
        self.watch(&Watch {
            flags: WATCH_EAGER | WATCH_RUNNING,
            start: 0,
            end: u64::MAX,
        })
    }

    fn watch(&self, watch: &Watch) -> Result<()> {
        // SAFETY: watch is a valid struct tlbdiff_watch.
        unsafe { ioctl::watch(self.fd(), watch) }
            .map(drop)
            .context("WATCH")
    }

    /// The next part of what the mms hold that are followed. Begins behind `walk`, which it moves
    /// on; false when all have been looked at.
    ///
    /// # Errors
    /// The device refuses it.
    pub fn walk(&self, walk: &mut Walk) -> Result<bool> {
        // SAFETY: walk is a valid struct tlbdiff_walk.
        unsafe { ioctl::walk(self.fd(), walk) }.context("WALK")?;
        Ok(walk.mm != 0)
    }

    /// What the module says of itself and of its kernel: bits of [`protocol::record::fact`].
    pub fn facts(&self) -> u32 {
        self.facts
    }

    /// The descriptor that the subject inherits.
    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Appends whole records that are waiting; false when there are none.
    ///
    /// # Errors
    /// The device refuses the read.
    pub fn read(&mut self, records: &mut Vec<u8>) -> Result<bool> {
        let mut chunk = [0; Record::SIZE * 256];
        let length = self
            .file
            .read(&mut chunk)
            .context("cannot read the trace")?;
        records.extend_from_slice(&chunk[..length]);
        Ok(length != 0)
    }

    /// Counts.
    ///
    /// # Errors
    /// The device refuses the question.
    pub fn status(&self) -> Result<Status> {
        status(self.fd())
    }
}

/// The counts, and the caller's mm.
///
/// # Errors
/// The device refuses the question.
pub fn status(fd: RawFd) -> Result<Status> {
    let mut status = Status::default();
    // SAFETY: status is a valid struct tlbdiff_status.
    unsafe { ioctl::status(fd, &mut status) }.context("STATUS")?;
    Ok(status)
}

/// From now on the caller's mm is watched.
///
/// # Errors
/// The kernel refuses a subscription.
pub fn attach(fd: RawFd) -> Result<()> {
    // SAFETY: takes no argument.
    unsafe { ioctl::attach(fd) }.map(drop).context("ATTACH")
}

/// From now on whoever is born of those that are watched is watched, too, and who becomes another
/// program goes on being.
///
/// # Errors
/// The device refuses it.
pub fn follow(fd: RawFd) -> Result<()> {
    // SAFETY: takes no argument.
    unsafe { ioctl::follow(fd) }.map(drop).context("FOLLOW")
}

/// From now on the caller's mm is not watched any more. Allocates nothing.
///
/// # Errors
/// It was not.
pub fn detach(fd: RawFd) -> nix::Result<()> {
    // SAFETY: takes no argument.
    unsafe { ioctl::detach(fd) }.map(drop)
}

/// From now on records are made.
///
/// # Errors
/// The device refuses it.
pub fn start(fd: RawFd) -> Result<()> {
    // SAFETY: takes no argument.
    unsafe { ioctl::start(fd) }.map(drop).context("START")
}

/// No more records are made.
///
/// # Errors
/// The device refuses it.
pub fn stop(fd: RawFd) -> Result<()> {
    // SAFETY: takes no argument.
    unsafe { ioctl::stop(fd) }.map(drop).context("STOP")
}

/// Has the kernel add up the statistics of all cgroups: reclaim decides by them,
/// and without this they would be up to two seconds old, or not. Allocates nothing.
///
/// # Errors
/// The kernel's timer for it could not be hooked, or has not gone off yet.
pub fn flush_stats(fd: RawFd) -> nix::Result<()> {
    // SAFETY: takes no argument.
    unsafe { ioctl::flush_stats(fd) }.map(drop)
}

/// From now on the caller's mm has so many subscribers more, and nothing is hooked.
///
/// # Errors
/// The kernel refuses a subscription.
pub fn subscribe(fd: RawFd, subscribers: u32) -> Result<()> {
    // SAFETY: the number is only read.
    unsafe { ioctl::subscribe(fd, &subscribers) }
        .map(drop)
        .context("SUBSCRIBE")
}

/// The module takes pages of its own from all who have them mapped. Allocates nothing.
///
/// # Errors
/// It has not so many.
pub fn zap(fd: RawFd, start: u64, length: u64) -> nix::Result<()> {
    // SAFETY: a valid struct tlbdiff_zap.
    unsafe { ioctl::zap(fd, &Zap { start, length }) }.map(drop)
}

/// A step begins. Allocates nothing.
pub fn count_begin(fd: RawFd) {
    // SAFETY: a valid struct tlbdiff_count. One that fails shows as no instructions.
    let _ = unsafe { ioctl::count(fd, &mut Counted::default()) };
}

/// What was counted since then. Allocates nothing.
pub fn count_end(fd: RawFd) -> Count {
    let mut counted = Counted {
        phase: 1,
        ..Counted::default()
    };
    // SAFETY: see above.
    let _ = unsafe { ioctl::count(fd, &mut counted) };
    Count {
        cycles: counted.cycles,
        instructions: counted.instructions,
        nanoseconds: counted.nanoseconds,
        calls: counted.calls,
    }
}

/// Marks the trace. Allocates nothing.
pub fn mark(fd: RawFd, step: u64, phase: u64) {
    // SAFETY: the mark is a valid struct tlbdiff_mark. A mark that fails shows
    // as a step without records, which the host refuses.
    let _ = unsafe { ioctl::mark(fd, &Mark { step, phase }) };
}
