// SPDX-License-Identifier: GPL-2.0-only
//! userfaultfd: one descriptor of a process, made before the first step. A fault that it is
//! asked about is answered with SIGBUS, so that a touch ends and says so; a step resolves it.
//! But where a step answers, whoever has the fault waits for that. Nothing here allocates.

use anyhow::{Context, Result};
use nix::errno::Errno;
use operations::{ARENA_BASE, HugePages, PAGE_SIZE, Plain, Program, StepResult, address, bytes};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering::SeqCst};

/// This process's descriptor, which its threads and forked children have, too.
static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);

/// What pages of hugetlb are copied from.
static SOURCE: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());

/// include/uapi/linux/userfaultfd.h
mod uapi {
    pub const API: u64 = 0xaa;
    pub const FEATURE_PAGEFAULT_FLAG_WP: u64 = 1;
    pub const FEATURE_EVENT_FORK: u64 = 1 << 1;
    pub const FEATURE_EVENT_REMAP: u64 = 1 << 2;
    pub const FEATURE_EVENT_REMOVE: u64 = 1 << 3;
    pub const FEATURE_EVENT_UNMAP: u64 = 1 << 6;
    pub const FEATURE_WP_UNPOPULATED: u64 = 1 << 13;
    pub const FEATURE_WP_ASYNC: u64 = 1 << 15;
    pub const EVENT_PAGEFAULT: u8 = 0x12;
    pub const EVENT_FORK: u8 = 0x13;
    pub const FEATURE_MISSING_SHMEM: u64 = 1 << 5;
    pub const FEATURE_SIGBUS: u64 = 1 << 7;
    pub const FEATURE_MINOR_SHMEM: u64 = 1 << 10;
    pub const FEATURE_MOVE: u64 = 1 << 16;
    pub const MOVE_MODE_ALLOW_SRC_HOLES: u64 = 1 << 1;
    pub const WRITEPROTECT_MODE_WP: u64 = 1;

    /// `_IOR(0xaa, number, T)`
    pub const fn ior<T>(number: u64) -> u64 {
        request::<T>(2, number)
    }

    /// `_IOWR(0xaa, number, T)`
    pub const fn iowr<T>(number: u64) -> u64 {
        request::<T>(3, number)
    }

    const fn request<T>(direction: u64, number: u64) -> u64 {
        direction << 30 | (size_of::<T>() as u64) << 16 | 0xaa << 8 | number
    }

    #[repr(C)]
    pub struct Api {
        pub api: u64,
        pub features: u64,
        pub ioctls: u64,
    }

    #[repr(C)]
    pub struct Range {
        pub start: u64,
        pub len: u64,
    }

    #[repr(C)]
    pub struct Register {
        pub range: Range,
        pub mode: u64,
        pub ioctls: u64,
    }

    /// `struct uffdio_copy` and `struct uffdio_move`
    #[repr(C)]
    pub struct Copy {
        pub dst: u64,
        pub src: u64,
        pub len: u64,
        pub mode: u64,
        pub done: i64,
    }

    /// `struct uffdio_zeropage` and `struct uffdio_continue`
    #[repr(C)]
    pub struct Fill {
        pub range: Range,
        pub mode: u64,
        pub done: i64,
    }

    /// `struct uffd_msg`: of its union, what `pagefault` and `fork` have.
    #[repr(C)]
    #[derive(Default)]
    pub struct Message {
        pub event: u8,
        pub reserved: [u8; 7],
        /// `pagefault.flags`; of `fork`, the child's descriptor.
        pub first: u64,
        /// `pagefault.address`
        pub address: u64,
        pub third: u64,
    }

    #[repr(C)]
    pub struct Writeprotect {
        pub range: Range,
        pub mode: u64,
    }
}

use uapi::{Copy, Fill, Message, Range, Register, Writeprotect};

/// How long a fault or an event may let itself be waited for, in milliseconds.
const PATIENCE: i32 = 5000;

/// Makes the descriptor that a program wants, and room for what it copies at once.
///
/// # Errors
/// The kernel refuses it.
pub fn prepare(program: &Program) -> Result<()> {
    let copies = program.uffd_copies();
    if copies > PAGE_SIZE {
        SOURCE.store(room(copies)?, SeqCst);
    }
    let mut features = uapi::FEATURE_MISSING_SHMEM | uapi::FEATURE_MINOR_SHMEM | uapi::FEATURE_MOVE;
    if !program.does(Plain::ANSWERS) {
        features |= uapi::FEATURE_SIGBUS;
    }
    if program.does(&[Plain::UffdEvents]) {
        features |= uapi::FEATURE_EVENT_FORK
            | uapi::FEATURE_EVENT_REMAP
            | uapi::FEATURE_EVENT_REMOVE
            | uapi::FEATURE_EVENT_UNMAP;
    }
    if program.does(&[Plain::PagemapScan]) && can_protect() {
        features |=
            uapi::FEATURE_PAGEFAULT_FLAG_WP | uapi::FEATURE_WP_UNPOPULATED | uapi::FEATURE_WP_ASYNC;
    }
    let fd = open(features).context("userfaultfd")?;
    DESCRIPTOR.store(fd, SeqCst);
    Ok(())
}

/// Memory that is there. It is shared, so that nobody who was forked has to copy it.
fn room(length: u64) -> Result<*mut u8> {
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    let null = std::ptr::null_mut();
    // SAFETY: a new mapping that nobody else knows of.
    let at = unsafe { libc::mmap(null, length as usize, rights, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        return Err(Errno::last()).context("mmap of what is copied");
    }
    Ok(at.cast())
}

/// Whether harts and kernel can mark single pages as write-protected for userfaultfd.
pub fn can_protect() -> bool {
    close(open(uapi::FEATURE_PAGEFAULT_FLAG_WP))
}

/// Whether there is userfaultfd.
pub fn is_there() -> bool {
    close(open(uapi::FEATURE_SIGBUS))
}

fn close(fd: Result<RawFd, Errno>) -> bool {
    // SAFETY: was opened just now, for a try.
    fd.is_ok_and(|fd| unsafe { libc::close(fd) } == 0)
}

fn open(features: u64) -> Result<RawFd, Errno> {
    // SAFETY: a new descriptor, or an error.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK) };
    let fd = Errno::result(fd)? as RawFd;
    let mut api = uapi::Api {
        api: uapi::API,
        features,
        ioctls: 0,
    };
    let request = uapi::iowr::<uapi::Api>(0x3f);
    // SAFETY: the structure is the request's.
    let agreed = Errno::result(unsafe { libc::ioctl(fd, request as libc::Ioctl, &raw mut api) });
    if let Err(errno) = agreed {
        // SAFETY: was opened above.
        unsafe { libc::close(fd) };
        return Err(errno);
    }
    Ok(fd)
}

/// `UFFDIO_REGISTER`
pub fn register(at: u64, pages: u64, mode: u64) -> StepResult {
    call(
        uapi::iowr::<Register>(0),
        &mut Register {
            range: range(at, pages),
            mode,
            ioctls: 0,
        },
    )
}

/// `UFFDIO_UNREGISTER`
pub fn unregister(at: u64, pages: u64) -> StepResult {
    call(uapi::ior::<Range>(1), &mut range(at, pages))
}

/// `UFFDIO_COPY` of each page, of bytes that are all the same.
pub fn copy((at, pages): (u64, u64), value: u8, size: Option<HugePages>) -> StepResult {
    let small = [value; PAGE_SIZE as usize];
    let len = size.map_or(PAGE_SIZE, HugePages::bytes);
    let large = SOURCE.load(SeqCst);
    let source = match size {
        Some(_) if !large.is_null() => {
            // SAFETY: there is room for the largest page that is copied.
            unsafe { large.write_bytes(value, len as usize) };
            large
        }
        _ => small.as_ptr(),
    };
    for page in (at..at + pages).step_by((len / PAGE_SIZE) as usize) {
        let result = call(
            uapi::iowr::<Copy>(3),
            &mut Copy {
                dst: address(page),
                src: source as u64,
                len,
                mode: 0,
                done: 0,
            },
        );
        if result != StepResult::Ok {
            return result;
        }
    }
    StepResult::Ok
}

/// `UFFDIO_ZEROPAGE`
pub fn zeropage(at: u64, pages: u64) -> StepResult {
    fill(4, at, pages)
}

/// `UFFDIO_CONTINUE`
pub fn go_on(at: u64, pages: u64) -> StepResult {
    fill(7, at, pages)
}

/// `UFFDIO_MOVE`
pub fn move_pages((at, pages): (u64, u64), to: u64, holes: bool) -> StepResult {
    call(
        uapi::iowr::<Copy>(5),
        &mut Copy {
            dst: address(to),
            src: address(at),
            len: bytes(pages),
            mode: if holes {
                uapi::MOVE_MODE_ALLOW_SRC_HOLES
            } else {
                0
            },
            done: 0,
        },
    )
}

/// `UFFDIO_WRITEPROTECT`
pub fn write_protect(at: u64, pages: u64, protect: bool) -> StepResult {
    call(
        uapi::iowr::<Writeprotect>(6),
        &mut Writeprotect {
            range: range(at, pages),
            mode: if protect {
                uapi::WRITEPROTECT_MODE_WP
            } else {
                0
            },
        },
    )
}

/// With what a fault is answered.
#[derive(Clone, std::marker::Copy)]
pub enum Answer {
    /// `UFFDIO_COPY` of this byte.
    Copy(u8),
    /// `UFFDIO_ZEROPAGE`
    Zeropage,
    /// `UFFDIO_CONTINUE`
    Continue,
    /// `UFFDIO_WAKE`, and when the same page is asked for again, `UFFDIO_COPY` of this byte.
    Wake(u8),
}

/// Waits for a fault of each page of a range, in whatever order they come, and answers them.
pub fn answer(with: Answer, at: u64, pages: u64) -> StepResult {
    for _ in 0..pages {
        let page = match fault(at, pages) {
            Ok(page) => page,
            Err(errno) => return StepResult::Errno(errno),
        };
        let result = match with {
            Answer::Copy(byte) => copy((page, 1), byte, None),
            Answer::Zeropage => zeropage(page, 1),
            Answer::Continue => go_on(page, 1),
            Answer::Wake(byte) => match wake(page).and_then(|()| fault(page, 1)) {
                Ok(page) => copy((page, 1), byte, None),
                Err(errno) => StepResult::Errno(errno),
            },
        };
        if result != StepResult::Ok {
            return result;
        }
    }
    StepResult::Ok
}

/// Reads so many events that are no faults. A forked child's descriptor is closed: nobody
/// answers for it.
pub fn events(number: u64) -> StepResult {
    for _ in 0..number {
        match read() {
            Ok(told) if told.event == uapi::EVENT_FORK => {
                // SAFETY: is this process's since it was read.
                unsafe { libc::close(told.first as RawFd) };
            }
            Ok(told) if told.event == uapi::EVENT_PAGEFAULT => {
                return StepResult::Errno(libc::EINVAL);
            }
            Ok(_) => {}
            Err(errno) => return StepResult::Errno(errno),
        }
    }
    StepResult::Ok
}

/// The page of the next fault; EINVAL where it is none of these pages, or something else is told.
fn fault(at: u64, pages: u64) -> Result<u64, i32> {
    let told = read()?;
    let page = told.address.wrapping_sub(ARENA_BASE) / PAGE_SIZE;
    match told.event == uapi::EVENT_PAGEFAULT && (at..at + pages).contains(&page) {
        true => Ok(page),
        false => Err(libc::EINVAL),
    }
}

/// The next message; ETIMEDOUT where none comes.
fn read() -> Result<Message, i32> {
    let fd = DESCRIPTOR.load(SeqCst);
    let mut waited = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let mut told = Message::default();
    let size = size_of::<Message>();
    // SAFETY: one structure is polled, and one is read into.
    unsafe {
        if libc::poll(&raw mut waited, 1, PATIENCE) == 0 {
            return Err(libc::ETIMEDOUT);
        }
        match libc::read(fd, (&raw mut told).cast(), size) {
            length if length == size as isize => Ok(told),
            _ => Err(*libc::__errno_location()),
        }
    }
}

/// `UFFDIO_WAKE`
fn wake(page: u64) -> Result<(), i32> {
    match call(uapi::ior::<Range>(2), &mut range(page, 1)) {
        StepResult::Errno(errno) => Err(errno),
        _ => Ok(()),
    }
}

fn fill(number: u64, at: u64, pages: u64) -> StepResult {
    call(
        uapi::iowr::<Fill>(number),
        &mut Fill {
            range: range(at, pages),
            mode: 0,
            done: 0,
        },
    )
}

fn range(at: u64, pages: u64) -> Range {
    Range {
        start: address(at),
        len: bytes(pages),
    }
}

fn call<T>(request: u64, argument: &mut T) -> StepResult {
    let fd = DESCRIPTOR.load(SeqCst);
    // SAFETY: the structure is the request's, and all that it names lies in the arena.
    let done = unsafe { libc::ioctl(fd, request as libc::Ioctl, &raw mut *argument) };
    match Errno::result(done) {
        Ok(_) => StepResult::Ok,
        Err(errno) => StepResult::Errno(errno as i32),
    }
}
