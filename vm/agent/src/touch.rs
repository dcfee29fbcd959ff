// SPDX-License-Identifier: GPL-2.0-only
//! One access to one byte, which may be answered with a signal.

use anyhow::{Context, Result};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering::SeqCst};

thread_local! {
    // Of each thread, for several may touch at once. Nothing is made when it is first used.
    static TOUCHING: AtomicBool = const { AtomicBool::new(false) };
    static SIGNAL: AtomicI32 = const { AtomicI32::new(0) };
}

/// Size of the signal handler's own stack, in bytes: a frame with all registers, those of
/// the vector extension too, and the little that the handler needs.
const STACK: usize = 16 << 10;
/// The end of the one of the thread that installed the handlers.
static STACK_END: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());

/// About the middle of a signal's frame, from the stack's end, in bytes.
const FRAME: usize = 1024;

/// From now on a touch that is answered with SIGSEGV or SIGBUS returns.
///
/// # Errors
/// The kernel refuses the handlers.
pub fn install() -> Result<()> {
    STACK_END.store(install_stack()?, SeqCst);
    let action = SigAction::new(
        SigHandler::SigAction(handle),
        SaFlags::SA_ONSTACK | SaFlags::SA_SIGINFO,
        SigSet::empty(),
    );
    for signal in [Signal::SIGSEGV, Signal::SIGBUS] {
        // SAFETY: the handler only stores to atomics and to its own context.
        unsafe { sigaction(signal, &action) }.context("sigaction")?;
    }
    Ok(())
}

/// The calling thread's own stack for the handlers, and its end.
///
/// # Errors
/// The kernel refuses it.
pub fn install_stack() -> Result<*mut u8> {
    let stack = Box::leak(vec![1u8; STACK].into_boxed_slice());
    let end = stack.as_mut_ptr_range().end;
    let stack = libc::stack_t {
        ss_sp: stack.as_mut_ptr().cast(),
        ss_flags: 0,
        ss_size: STACK,
    };
    // SAFETY: the stack is never freed.
    nix::errno::Errno::result(unsafe { libc::sigaltstack(&stack, std::ptr::null_mut()) })
        .context("sigaltstack")
        .map(|_| end)
}

/// Writes to what a touch will write to, and to where a signal's frame would be.
pub fn populate() {
    let end = STACK_END.load(SeqCst);
    if !end.is_null() {
        // SAFETY: within the stack, on which nobody is.
        unsafe { end.sub(FRAME).write_volatile(0) };
    }
    populate_thread();
}

/// Writes to what a touch of the calling thread will write to.
pub fn populate_thread() {
    TOUCHING.with(|touching| touching.store(false, SeqCst));
    SIGNAL.with(|noted| noted.store(0, SeqCst));
}

/// Notes the signal and goes on behind the access. A fault anywhere else is
/// the subject's own fault, and ends it.
extern "C" fn handle(signal: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    if !TOUCHING.with(|touching| touching.load(SeqCst)) {
        // SAFETY: restores the default action, which ends this process when
        // the access is made again.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    }
    SIGNAL.with(|noted| noted.store(signal, SeqCst));
    skip_access(context);
}

/// The access is one instruction of four bytes.
#[cfg(target_arch = "riscv64")]
fn skip_access(context: *mut libc::c_void) {
    const REG_PC: usize = 0;
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: the kernel gives the handler a valid context.
    unsafe { (*context).uc_mcontext.__gregs[REG_PC] += 4 };
}

/// Elsewhere (the host's own tests) nothing is skipped: the process ends.
#[cfg(not(target_arch = "riscv64"))]
fn skip_access(_: *mut libc::c_void) {
    // SAFETY: ends the process, from a signal handler too.
    unsafe { libc::_exit(1) };
}

/// Reads the byte at an address, or writes one there.
///
/// # Errors
/// The signal that came instead.
pub fn touch(addr: u64, write: Option<u8>) -> Result<u8, i32> {
    SIGNAL.with(|noted| noted.store(0, SeqCst));
    TOUCHING.with(|touching| touching.store(true, SeqCst));
    let read = access(addr, write);
    TOUCHING.with(|touching| touching.store(false, SeqCst));
    match SIGNAL.with(|noted| noted.load(SeqCst)) {
        0 => Ok(read),
        signal => Err(signal),
    }
}

#[cfg(target_arch = "riscv64")]
#[inline(never)]
fn access(addr: u64, write: Option<u8>) -> u8 {
    let mut value = u64::from(write.unwrap_or_default());
    // SAFETY: the address lies in the arena, where nothing of this program
    // does; a fault is skipped by the handler. norvc keeps the access at four bytes.
    unsafe {
        if write.is_some() {
            std::arch::asm!(".option push", ".option norvc", "sb {v}, 0({a})", ".option pop",
                a = in(reg) addr, v = in(reg) value, options(nostack));
        } else {
            std::arch::asm!(".option push", ".option norvc", "lb {v}, 0({a})", ".option pop",
                a = in(reg) addr, v = inout(reg) value, options(nostack));
        }
    }
    value as u8
}

#[cfg(not(target_arch = "riscv64"))]
#[inline(never)]
fn access(addr: u64, write: Option<u8>) -> u8 {
    let byte = addr as *mut u8;
    // SAFETY: the address lies in the arena; a fault ends the process.
    unsafe {
        match write {
            Some(value) => byte.write_volatile(value),
            None => return byte.read_volatile(),
        }
    }
    0
}
