// SPDX-License-Identifier: GPL-2.0-only
//! A virtual machine whose memory is the arena: a secondary MMU with page tables of its own,
//! KVM's second stage. It runs three instructions at a time.

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use operations::{ARENA_BASE, ARENA_PAGES, PAGE_SIZE, StepResult, address, bytes};
use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

const DEVICE: &str = "/dev/kvm";

/// Where its program lies in its memory, and where it writes to tell that it is done: there
/// is nothing, so the write ends its run.
const PROGRAM: u64 = 0x8000_0000;
const DONE: u64 = 0x1000_0000;

/// `lb a2, 0(a0)`, `sb a2, 0(a1)`, and from [`WRITE`] on `sb a2, 0(a0)`, `sb a2, 0(a1)`.
const CODE: [u32; 4] = [0x0005_0603, 0x00c5_8023, 0x00c5_0023, 0x00c5_8023];
const READ: u64 = PROGRAM;
const WRITE: u64 = PROGRAM + 8;

/// `KVM_EXIT_MMIO` of include/uapi/linux/kvm.h, and where `struct kvm_run` has what of it.
const EXIT_MMIO: u32 = 6;
const EXIT_REASON: usize = 8;
const IMMEDIATE_EXIT: usize = 1;
const MMIO_ADDRESS: usize = 32;
const MMIO_DATA: usize = 40;

/// `KVM_REG_RISCV | KVM_REG_SIZE_U64 | KVM_REG_RISCV_CORE`, and registers by their places in
/// `struct kvm_riscv_core`.
const CORE: u64 = 0x8030_0000_0200_0000;
const PC: u64 = 0;
const A0: u64 = 10;
const A1: u64 = 11;
const A2: u64 = 12;
const MODE: u64 = 32;
/// `KVM_RISCV_MODE_S`
const SUPERVISOR: u64 = 1;

/// `struct kvm_userspace_memory_region`
#[repr(C)]
pub struct Region {
    slot: u32,
    flags: u32,
    guest: u64,
    size: u64,
    host: u64,
}

/// `struct kvm_one_reg`
#[repr(C)]
pub struct OneReg {
    id: u64,
    addr: u64,
}

mod ioctl {
    use super::{OneReg, Region};
    const KVM: u8 = 0xae;
    nix::ioctl_write_int_bad!(create_vm, nix::request_code_none!(KVM, 0x01));
    // Whose argument has to be 0.
    nix::ioctl_write_int_bad!(mmap_size, nix::request_code_none!(KVM, 0x04));
    nix::ioctl_write_int_bad!(create_vcpu, nix::request_code_none!(KVM, 0x41));
    nix::ioctl_write_ptr!(set_memory, KVM, 0x46, Region);
    nix::ioctl_write_ptr!(set_register, KVM, 0xac, OneReg);
    nix::ioctl_write_int_bad!(run, nix::request_code_none!(KVM, 0x80));
}

/// A machine with one hart.
struct Machine {
    hart: RawFd,
    /// Its `struct kvm_run`.
    state: usize,
}

/// This process's own.
static MACHINE: OnceLock<Machine> = OnceLock::new();

/// Whether there can be one.
pub fn is_there() -> bool {
    std::path::Path::new(DEVICE).exists()
}

/// Makes this process's machine. It stays as long as the process does.
///
/// # Errors
/// KVM refuses something.
pub fn prepare() -> Result<()> {
    let kvm = OpenOptions::new().read(true).write(true).open(DEVICE);
    let kvm = kvm.context("cannot open /dev/kvm")?;
    // SAFETY: takes a number, and gives a new descriptor.
    let vm = unsafe { ioctl::create_vm(kvm.as_raw_fd(), 0) }.context("KVM_CREATE_VM")?;
    // SAFETY: it is nobody else's.
    let vm = unsafe { OwnedFd::from_raw_fd(vm) };
    let program = new_page()?;
    // SAFETY: the page is writable, and longer than that.
    unsafe { program.cast::<[u32; 4]>().write(CODE) };
    let regions = [
        (0, PROGRAM, PAGE_SIZE, program as u64),
        (1, ARENA_BASE, bytes(ARENA_PAGES), ARENA_BASE),
    ];
    for (slot, guest, size, host) in regions {
        let region = Region {
            slot,
            flags: 0,
            guest,
            size,
            host,
        };
        // SAFETY: a valid structure; the memory that it names stays.
        unsafe { ioctl::set_memory(vm.as_raw_fd(), &region) }.context("KVM_SET_USER_MEMORY")?;
    }
    // SAFETY: takes a number, and gives a new descriptor.
    let hart = unsafe { ioctl::create_vcpu(vm.as_raw_fd(), 0) }.context("KVM_CREATE_VCPU")?;
    // SAFETY: takes no argument.
    let size = unsafe { ioctl::mmap_size(kvm.as_raw_fd(), 0) }.context("KVM_GET_VCPU_MMAP_SIZE")?;
    // SAFETY: a new mapping of what KVM gives there.
    let state = unsafe {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(
            std::ptr::null_mut(),
            size as usize,
            rights,
            libc::MAP_SHARED,
            hart,
            0,
        )
    };
    if state == libc::MAP_FAILED {
        bail!("cannot map a vcpu: {}", Errno::last());
    }
    // It lives as long as its hart's descriptor is open.
    let _ = vm.into_raw_fd();
    let machine = Machine {
        hart,
        state: state as usize,
    };
    machine.set(MODE, SUPERVISOR).context("KVM_SET_ONE_REG")?;
    let _ = MACHINE.set(machine);
    Ok(())
}

fn new_page() -> Result<*mut libc::c_void> {
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    // SAFETY: a new mapping.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            PAGE_SIZE as usize,
            rights,
            flags,
            -1,
            0,
        )
    };
    if at == libc::MAP_FAILED {
        bail!("no memory for a page: {}", Errno::last());
    }
    Ok(at)
}

/// Has the machine access pages of the arena, by the same addresses. Allocates nothing.
pub fn access((at, pages): (u64, u64), write: Option<u8>, expected: Option<u8>) -> StepResult {
    let Some(machine) = MACHINE.get() else {
        return StepResult::Errno(libc::ENODEV);
    };
    for page in at..at + pages {
        match machine.access(address(page), write) {
            Err(errno) => return StepResult::Errno(errno as i32),
            Ok(value) if expected.is_some_and(|it| it != value) => {
                return StepResult::Saw { value, page };
            }
            Ok(_) => {}
        }
    }
    StepResult::Ok
}

impl Machine {
    fn set(&self, register: u64, value: u64) -> nix::Result<()> {
        let one = OneReg {
            id: CORE | register,
            addr: &raw const value as u64,
        };
        // SAFETY: a valid structure, which names a value that is only read.
        unsafe { ioctl::set_register(self.hart, &one) }.map(drop)
    }

    /// The write that ended a run is done with when the next one begins: so one begins, and
    /// ends at once.
    fn complete(&self) {
        let immediate_exit = (self.state + IMMEDIATE_EXIT) as *mut u8;
        // SAFETY: struct kvm_run is mapped there. It ends by EINTR.
        unsafe {
            immediate_exit.write_volatile(1);
            let _ = ioctl::run(self.hart, 0);
            immediate_exit.write_volatile(0);
        }
    }

    /// The byte that it read, or wrote.
    fn access(&self, addr: u64, write: Option<u8>) -> nix::Result<u8> {
        let begin = if write.is_some() { WRITE } else { READ };
        let value = u64::from(write.unwrap_or_default());
        for (register, value) in [(PC, begin), (A0, addr), (A1, DONE), (A2, value)] {
            self.set(register, value)?;
        }
        // SAFETY: takes no argument.
        unsafe { ioctl::run(self.hart, 0) }?;
        // SAFETY: struct kvm_run is mapped there, and is not written to while the hart is here.
        let (reason, place, data) = unsafe {
            let state = self.state as *const u8;
            (
                state.add(EXIT_REASON).cast::<u32>().read_volatile(),
                state.add(MMIO_ADDRESS).cast::<u64>().read_volatile(),
                state.add(MMIO_DATA).read_volatile(),
            )
        };
        self.complete();
        match (reason, place) {
            (EXIT_MMIO, DONE) => Ok(data),
            // An access where no memory of the machine's is: it is none that it was told.
            _ => Err(Errno::EFAULT),
        }
    }
}
