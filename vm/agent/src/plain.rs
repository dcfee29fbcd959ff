// SPDX-License-Identifier: GPL-2.0-only
//! Operations that are told by their name and a few fields. Nothing here allocates.

use crate::handed::Handed;
use crate::perform::{Target, call, decimal};
use crate::uffd::{self, Answer};
use crate::{
    cma, damon, kswapd, lru_gen, memory_block, outside, pagemap, pins, system_file, thp, tracer,
    uprobe, vfork,
};
use operations::{On, Plain, StepResult, address, bytes};
use std::os::fd::RawFd;
use std::thread::sleep;
use std::time::Duration;

/// The byte that is written where nothing is said.
const WRITTEN: u64 = 1;

/// `memfd_secret(2)` (include/uapi/asm-generic/unistd.h)
const SYS_MEMFD_SECRET: libc::c_long = 447;

/// `mseal(2)` (include/uapi/asm-generic/unistd.h)
const SYS_MSEAL: libc::c_long = 462;

/// The operation itself.
pub fn perform(what: Plain, on: &On, handed: &Handed, target: Target) -> StepResult {
    let (at, length) = (address(on.at), bytes(on.pages));
    let byte = on.value.unwrap_or(WRITTEN) as u8;
    // SAFETY: all addresses lie in the arena, where nothing of this program does.
    unsafe {
        match what {
            Plain::ClearRefs => clear_refs(target.pid(), on.value.unwrap_or_default()),
            Plain::ProcessVmWritev => {
                each_page(on, |page| outside::vm_writev(target.pid(), page, byte))
            }
            Plain::ProcessVmReadv => each_page(on, |page| outside::vm_readv(target.pid(), page)),
            Plain::MemWrite => outside::mem_write(target.pid(), pages_of(on), byte),
            Plain::PtracePoke => outside::ptrace_poke(target.pid(), pages_of(on), byte),
            Plain::RemapFilePages => {
                let call_ = libc::SYS_remap_file_pages;
                call(libc::syscall(call_, at, length, 0, on.offset, 0))
            }
            Plain::Mseal => call(libc::syscall(SYS_MSEAL, at, length, 0)),
            Plain::Brk => brk(at, at + length, at + bytes(on.new_pages)),
            Plain::Mlock => call(libc::syscall(libc::SYS_mlock, at, length)),
            Plain::Mlock2 => call(libc::syscall(
                libc::SYS_mlock2,
                at,
                length,
                libc::MLOCK_ONFAULT,
            )),
            Plain::Munlock => call(libc::syscall(libc::SYS_munlock, at, length)),
            // These are about this program's own memory as well, which no step looks at.
            Plain::Mlockall => {
                let flags = on.value.unwrap_or_default();
                call(libc::syscall(libc::SYS_mlockall, flags))
            }
            Plain::Munlockall => call(libc::syscall(libc::SYS_munlockall)),
            Plain::Vfork => vfork::write(pages_of(on), byte),
            Plain::HartOffline => hart_offline(on.hart),
            Plain::HartOnline => hart_online(on.hart),
            Plain::Swapoff => swapoff(),
            // Somebody's end is actor.rs' business.
            Plain::ProcessMrelease | Plain::OomKill => StepResult::Ok,
            Plain::Vmsplice => pins::vmsplice(at, length),
            Plain::RegisterBuffers => pins::register_buffers(at, length),
            Plain::MemoryMax => limit(handed.memory_max, length),
            Plain::MemoryHigh => limit(handed.memory_high, length),
            Plain::SecretMmap => secret_mmap(at, length),
            Plain::DriverMmap => mmap_shared(handed.tracer, at, length),
            Plain::DriverZap => match tracer::zap(handed.tracer, bytes(on.offset), length) {
                Ok(()) => StepResult::Ok,
                Err(errno) => StepResult::Errno(errno as i32),
            },
            Plain::PagemapScan => {
                pagemap::scan(target.pid(), (at, at + length), on.value.unwrap_or(1))
            }
            Plain::UffdAnswer => uffd::answer(Answer::Copy(byte), on.at, on.pages),
            Plain::UffdAnswerZeropage => uffd::answer(Answer::Zeropage, on.at, on.pages),
            Plain::UffdAnswerContinue => uffd::answer(Answer::Continue, on.at, on.pages),
            Plain::UffdAnswerWake => uffd::answer(Answer::Wake(byte), on.at, on.pages),
            Plain::DamonPageout => {
                damon::pass(target.pid(), (at, at + length), damon::Action::Pageout)
            }
            Plain::DamonCold => damon::pass(target.pid(), (at, at + length), damon::Action::Cold),
            Plain::Kswapd => kswapd::free(handed.kswapd, on.pages),
            Plain::MemoryUnplug => memory_block::offline(target.pid(), on.at),
            Plain::CmaAlloc => cma::take_and_give_back(),
            Plain::LruGen => lru_gen::enable(on.value.unwrap_or_default()),
            Plain::LruGenAge => lru_gen::age(),
            Plain::LruGenEvict => lru_gen::evict(on.pages),
            Plain::Uprobe => uprobe::set(file_of(handed, on), bytes(on.offset)),
            Plain::UprobeRemove => uprobe::remove(file_of(handed, on), bytes(on.offset)),
            Plain::UffdEvents => uffd::events(on.value.unwrap_or(1)),
            Plain::Khugepaged => thp::khugepaged(handed.khugepaged),
            Plain::SplitHugePages => thp::split(
                target.pid(),
                (at, at + length),
                on.value.unwrap_or_default(),
            ),
        }
    }
}

fn file_of(handed: &Handed, on: &On) -> RawFd {
    handed.files.get(on.file).copied().unwrap_or(-1)
}

/// The addresses of the pages that it names.
pub fn pages_of(on: &On) -> impl Iterator<Item = u64> + use<> {
    let (at, pages) = (on.at, on.pages);
    (at..at + pages).map(address)
}

fn each_page(on: &On, mut what: impl FnMut(u64) -> Result<(), i32>) -> StepResult {
    let mut pages = pages_of(on);
    match pages.try_for_each(&mut what) {
        Ok(()) => StepResult::Ok,
        Err(errno) => StepResult::Errno(errno),
    }
}

/// How long firmware may take to stop a hart that Linux has let go.
const STOPS: Duration = Duration::from_millis(20);
/// How often it is tried to start it again.
const STARTS: u32 = 50;

fn hart_offline(hart: u32) -> StepResult {
    let switched = system_file::write(system_file::of_hart(hart).as_c_str(), b"0");
    sleep(STOPS);
    match switched {
        Ok(()) => StepResult::Ok,
        Err(errno) => StepResult::Errno(errno),
    }
}

/// Firmware refuses to start a hart that it has not stopped yet, with EINVAL.
fn hart_online(hart: u32) -> StepResult {
    let switch = system_file::of_hart(hart);
    let mut left = STARTS;
    loop {
        match system_file::write(switch.as_c_str(), b"1") {
            Ok(()) => return StepResult::Ok,
            Err(libc::EINVAL) if left > 0 => sleep(STOPS),
            Err(errno) => return StepResult::Errno(errno),
        }
        left -= 1;
    }
}

/// `swapoff(2)` of the device that /proc/swaps names: while a program runs there is one.
fn swapoff() -> StepResult {
    let mut text = [0u8; 256];
    let read = system_file::with(c"/proc/swaps", libc::O_RDONLY, |fd| {
        // SAFETY: reads into a buffer, and leaves its last byte.
        unsafe { libc::read(fd, text.as_mut_ptr().cast(), text.len() - 1) }
    });
    if let Err(errno) = read {
        return StepResult::Errno(errno);
    }
    // Behind the line that says what the columns are.
    let mut lines = text.split_mut(|byte| *byte == b'\n').skip(1);
    let Some(line) = lines.next() else {
        return StepResult::Errno(libc::EINVAL);
    };
    let Some(end) = line.iter().position(|byte| *byte == b' ' || *byte == b'\t') else {
        return StepResult::Errno(libc::EINVAL);
    };
    line[end] = 0;
    // SAFETY: the path ends in 0.
    call(unsafe { libc::syscall(libc::SYS_swapoff, line.as_ptr()) })
}

/// `memfd_secret(2)`, as long as it is to be mapped.
fn secret_mmap(at: u64, length: u64) -> StepResult {
    // SAFETY: a descriptor of our own, closed when it is mapped.
    unsafe {
        let fd = libc::syscall(SYS_MEMFD_SECRET, 0) as RawFd;
        if fd < 0 {
            return call(-1);
        }
        let sized = call(libc::syscall(libc::SYS_ftruncate, fd, length));
        let mapped = match sized {
            StepResult::Ok => mmap_shared(fd, at, length),
            refused => refused,
        };
        libc::close(fd);
        mapped
    }
}

fn mmap_shared(fd: RawFd, at: u64, length: u64) -> StepResult {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_FIXED;
    // SAFETY: the address lies in the arena, where nothing of this program does.
    call(unsafe { libc::syscall(libc::SYS_mmap, at, length, prot, flags, fd, 0) })
}

/// A limit of the cgroup, in bytes.
fn limit(file: RawFd, bytes: u64) -> StepResult {
    let mut text = [0; 20];
    let text = decimal(bytes, &mut text);
    // SAFETY: writes from a valid buffer.
    call(unsafe { libc::syscall(libc::SYS_pwrite64, file, text.as_ptr(), text.len(), 0) })
}

fn clear_refs(pid: i32, kind: u64) -> StepResult {
    let mut text = [0; 20];
    let path = system_file::of_process(pid, b"clear_refs");
    match system_file::write(path.as_c_str(), decimal(kind, &mut text)) {
        Ok(()) => StepResult::Ok,
        Err(errno) => StepResult::Errno(errno),
    }
}

/// `brk(2)` of a heap that begins at an address and ends at another. The heap of this program
/// is where it was: the allocator finds that it cannot grow, and maps memory instead.
fn brk(start: u64, from: u64, to: u64) -> StepResult {
    let set = |what: i32, value: u64| -> Result<(), i32> {
        // SAFETY: only says where the heap is.
        match unsafe { libc::prctl(libc::PR_SET_MM, what, value, 0, 0) } {
            0 => Ok(()),
            // SAFETY: the thread's errno.
            _ => Err(unsafe { *libc::__errno_location() }),
        }
    };
    // Its end is never to lie before its start: whichever way it moves.
    let _ = set(libc::PR_SET_MM_BRK, from);
    let there = set(libc::PR_SET_MM_START_BRK, start);
    if let Err(errno) = there.and_then(|()| set(libc::PR_SET_MM_BRK, from)) {
        return StepResult::Errno(errno);
    }
    // SAFETY: the heap lies in the arena.
    let end = unsafe { libc::syscall(libc::SYS_brk, to) };
    if end as u64 == to {
        StepResult::Ok
    } else {
        StepResult::Errno(libc::ENOMEM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use operations::PAGE_SIZE;

    #[test]
    fn pages_are_named_one_by_one() {
        let on = On {
            at: 2,
            pages: 2,
            ..On::default()
        };
        let pages: Vec<u64> = pages_of(&on).collect();
        assert_eq!(pages, [address(2), address(2) + PAGE_SIZE]);
    }
}
