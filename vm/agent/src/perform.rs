// SPDX-License-Identifier: GPL-2.0-only
//! The operations themselves. Nothing here allocates.

use crate::handed::Handed;
use crate::{file_io, iommu, ksm, kvm, nodes, plain, system_file, touch, uffd};
use operations::{Extent, MOST_RANGES, Op, PAGE_SIZE, StepResult, address, bytes};
use std::os::fd::RawFd;

/// What an operation acts on beside its own process.
#[derive(Clone, Copy)]
pub enum Target {
    /// Nothing.
    Own,
    /// A process, by its number; no descriptor where it is gone.
    Process(Option<RawFd>, i32),
    /// An mm, as records name it.
    Mm(u64),
}

impl Target {
    /// The process that is acted on; the caller's where no other is named.
    pub fn pid(self) -> i32 {
        match self {
            Target::Process(_, pid) => pid,
            // SAFETY: only answers.
            Target::Own | Target::Mm(_) => unsafe { libc::getpid() },
        }
    }
}

/// The operation itself.
pub fn perform(op: &Op, handed: &Handed, target: Target) -> StepResult {
    // SAFETY: all addresses lie in the arena, where nothing of this program does.
    unsafe {
        match *op {
            Op::Mmap {
                at,
                pages,
                prot,
                flags,
                file,
                offset,
            } => call(libc::syscall(
                libc::SYS_mmap,
                address(at),
                bytes(pages),
                prot,
                flags,
                file_of(handed, file),
                bytes(offset),
            )),
            Op::Munmap { at, pages } => {
                call(libc::syscall(libc::SYS_munmap, address(at), bytes(pages)))
            }
            Op::Mprotect { at, pages, prot } => call(libc::syscall(
                libc::SYS_mprotect,
                address(at),
                bytes(pages),
                prot,
            )),
            Op::Madvise { at, pages, advice } => call(libc::syscall(
                libc::SYS_madvise,
                address(at),
                bytes(pages),
                advice,
            )),
            Op::Ftruncate { file, pages } => call(libc::syscall(
                libc::SYS_ftruncate,
                file_of(handed, Some(file)),
                bytes(pages),
            )),
            Op::PunchHole {
                file,
                offset,
                pages,
            } => call(libc::syscall(
                libc::SYS_fallocate,
                file_of(handed, Some(file)),
                libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
                bytes(offset),
                bytes(pages),
            )),
            Op::ProcessMadvise {
                ref ranges, advice, ..
            } => match target {
                Target::Process(Some(pidfd), _) => process_madvise(pidfd, ranges, advice),
                // Nobody is there any more.
                _ => StepResult::Errno(libc::ESRCH),
            },
            Op::Device {
                at,
                pages,
                write,
                value,
                ..
            } => match target {
                Target::Mm(mm) => iommu::access(handed.iommu, mm, (at, pages), write, value),
                _ => StepResult::Errno(libc::ESRCH),
            },
            Op::Mremap {
                at,
                pages,
                to,
                new_pages,
                keep,
            } => {
                let flags = [
                    (to.is_some(), libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED),
                    (keep, libc::MREMAP_DONTUNMAP),
                ];
                let flags = flags.iter().filter(|flag| flag.0);
                call(libc::syscall(
                    libc::SYS_mremap,
                    address(at),
                    bytes(pages),
                    bytes(new_pages),
                    flags.fold(0, |all, flag| all | flag.1),
                    address(to.unwrap_or(at)),
                ))
            }
            Op::Ksm {
                zero_pages,
                unmerge,
            } => {
                if unmerge {
                    ksm::unmerge()
                } else {
                    ksm::merge(zero_pages)
                }
            }
            Op::MovePages {
                at,
                pages,
                node,
                all,
                ..
            } => nodes::move_pages(target.pid(), (at, pages), node, all),
            Op::Mbind {
                at,
                pages,
                policy,
                nodes,
                flags,
            } => nodes::mbind((at, pages), policy, nodes, flags),
            Op::MigratePages { from, to, .. } => nodes::migrate_pages(target.pid(), from, to),
            Op::Compact => match system_file::write(c"/proc/sys/vm/compact_memory", b"1") {
                Ok(()) => StepResult::Ok,
                Err(errno) => StepResult::Errno(errno),
            },
            Op::Vm {
                at,
                pages,
                write,
                value,
            } => {
                let written = write.then(|| value.unwrap_or(iommu::WRITTEN));
                kvm::access((at, pages), written, value.filter(|_| !write))
            }
            Op::Msync { at, pages, flags } => call(libc::syscall(
                libc::SYS_msync,
                address(at),
                bytes(pages),
                flags,
            )),
            Op::Fsync { file } => call(libc::syscall(libc::SYS_fsync, file_of(handed, Some(file)))),
            Op::SyncFileRange {
                file,
                offset,
                pages,
            } => call(libc::syscall(
                libc::SYS_sync_file_range,
                file_of(handed, Some(file)),
                bytes(offset),
                bytes(pages),
                libc::SYNC_FILE_RANGE_WAIT_BEFORE
                    | libc::SYNC_FILE_RANGE_WRITE
                    | libc::SYNC_FILE_RANGE_WAIT_AFTER,
            )),
            Op::Fallocate {
                file,
                mode,
                offset,
                pages,
            } => call(libc::syscall(
                libc::SYS_fallocate,
                file_of(handed, Some(file)),
                mode,
                bytes(offset),
                bytes(pages),
            )),
            Op::Pwrite {
                file,
                offset,
                pages,
                value,
                direct,
            } => {
                let value = value.unwrap_or(iommu::WRITTEN);
                let fd = file_of(handed, Some(file));
                file_io::write(fd, (offset, pages), value, direct)
            }
            Op::Pread {
                file,
                offset,
                pages,
            } => file_io::read(file_of(handed, Some(file)), (offset, pages)),
            Op::DropCaches { what } => {
                let text = [b'0' + (what & 3)];
                match system_file::write(c"/proc/sys/vm/drop_caches", &text) {
                    Ok(()) => StepResult::Ok,
                    Err(errno) => StepResult::Errno(errno),
                }
            }
            Op::UffdRegister { at, pages, mode } => uffd::register(at, pages, mode),
            Op::UffdUnregister { at, pages } => uffd::unregister(at, pages),
            Op::UffdCopy {
                at,
                pages,
                value,
                hugetlb,
            } => uffd::copy((at, pages), value.unwrap_or(iommu::WRITTEN), hugetlb),
            Op::UffdZeropage { at, pages } => uffd::zeropage(at, pages),
            Op::UffdContinue { at, pages } => uffd::go_on(at, pages),
            Op::UffdMove {
                at,
                pages,
                to,
                holes,
            } => uffd::move_pages((at, pages), to, holes),
            Op::UffdWriteprotect { at, pages, protect } => uffd::write_protect(at, pages, protect),
            Op::Plain { what, ref on } => plain::perform(what, on, handed, target),
            // What an actor does with itself is actor.rs' business.
            Op::Run | Op::Fork { .. } | Op::Exit | Op::Exec { .. } => StepResult::Ok,
            Op::Touch {
                at,
                pages,
                every,
                write,
                value,
            } => touch_pages((at, pages), every, write, value),
            Op::Reclaim { pages } => {
                let mut text = [0; 20];
                let text = decimal(bytes(pages), &mut text);
                call(libc::syscall(
                    libc::SYS_pwrite64,
                    handed.reclaim,
                    text.as_ptr(),
                    text.len(),
                    0,
                ))
            }
        }
    }
}

fn file_of(handed: &Handed, file: Option<usize>) -> RawFd {
    let fd = file.and_then(|file| handed.files.get(file));
    fd.copied().unwrap_or(-1)
}

/// A part of a vector done is a success for the kernel; how much it was is told.
fn process_madvise(pidfd: RawFd, ranges: &[Extent], advice: i32) -> StepResult {
    const NO_RANGE: libc::iovec = libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    };
    let mut vector = [NO_RANGE; MOST_RANGES];
    let mut asked = 0;
    for (range, of) in vector.iter_mut().zip(ranges) {
        range.iov_base = address(of.at) as *mut libc::c_void;
        range.iov_len = bytes(of.pages) as usize;
        asked += bytes(of.pages);
    }
    let number = ranges.len().min(MOST_RANGES);
    // SAFETY: the ranges are only named, and belong to whoever is advised.
    let done = unsafe {
        let vector = vector.as_ptr();
        libc::syscall(libc::SYS_process_madvise, pidfd, vector, number, advice, 0)
    };
    match done {
        // Of nothing, nothing is done.
        done if done >= 0 && (done as u64) < asked && done > 0 => StepResult::Part {
            pages: done as u64 / PAGE_SIZE,
        },
        done => call(done),
    }
}

/// What a system call came to.
pub fn call(result: libc::c_long) -> StepResult {
    if result == -1 {
        // SAFETY: the thread's errno.
        return StepResult::Errno(unsafe { *libc::__errno_location() });
    }
    StepResult::Ok
}

fn touch_pages((at, pages): (u64, u64), every: u64, write: bool, value: Option<u8>) -> StepResult {
    let written = write.then(|| value.unwrap_or(iommu::WRITTEN));
    let mut page = at;
    while page < at + pages {
        match touch::touch(address(page), written) {
            Err(signal) => return StepResult::Signal { signal, page },
            Ok(read) if !write && value.is_some_and(|expected| expected != read) => {
                return StepResult::Saw { value: read, page };
            }
            Ok(_) => {}
        }
        page += every.max(1);
    }
    StepResult::Ok
}

/// A number in decimal digits, without allocating.
pub fn decimal(mut number: u64, text: &mut [u8; 20]) -> &[u8] {
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &text[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_digits() {
        let mut text = [0; 20];
        assert_eq!(decimal(0, &mut text), b"0");
        assert_eq!(decimal(40_960, &mut text), b"40960");
        assert_eq!(decimal(u64::MAX, &mut text), b"18446744073709551615");
    }
}
