// SPDX-License-Identifier: GPL-2.0-only
//! What operations that are told by their name and a few fields begin with.

use crate::api::{PAGE_SIZE, StepResult, address, bytes};
use crate::arch::riscv::mm::fault::access;
use crate::errno;
use crate::fs::proc::{base, task_mmu};
use crate::fs::{splice, userfaultfd};
use crate::io_uring::memmap;
use crate::kernel::sched::core::context_switch;
use crate::kernel::{cpu, ptrace};
use crate::mm::damon::vaddr;
use crate::mm::madvise::advice;
use crate::mm::memory::fault::Fault;
use crate::mm::memory::pfn::driver_file;
use crate::mm::memory::zap::{ZapDetails, unmap_mapping_range};
use crate::mm::secretmem::secretmem_file_create;
use crate::mm::swapfile::unuse;
use crate::mm::{
    huge_memory, khugepaged, memcontrol, mlock, mmap, mseal, oom_kill, process_vm_access,
};
use crate::predict::WRITTEN;
use crate::state::Kernel;
use operations::{On, Plain};

const SIGBUS: i32 = 7;
const SIGSEGV: i32 = 11;

/// What such a step comes to.
///
/// # Errors
/// The errno.
pub fn perform(k: &mut Kernel, what: Plain, on: &On) -> Result<StepResult, i32> {
    let (at, len) = (address(on.at), bytes(on.pages));
    let byte = on.value.unwrap_or(u64::from(WRITTEN)) as u8;
    match what {
        Plain::ClearRefs => on_mm(k, on, |k| {
            task_mmu::clear_refs_write(k, on.value.unwrap_or_default())
        })?,
        Plain::ProcessVmWritev => each_page(k, on, |k, addr| {
            process_vm_access::process_vm_rw_single_vec(k, addr, Some(byte))
        })?,
        Plain::ProcessVmReadv => each_page(k, on, |k, addr| {
            process_vm_access::process_vm_rw_single_vec(k, addr, None)
        })?,
        Plain::MemWrite => each_page(k, on, |k, addr| base::mem_write(k, addr, byte))?,
        Plain::PtracePoke => {
            let (tracer, stopped) = (k.current, on.of.unwrap_or(k.current));
            ptrace::ptrace_attach(k, stopped)?;
            // The process runs to stop, and again when it may go on.
            context_switch(k, stopped);
            context_switch(k, tracer);
            let result = each_page(k, on, |k, addr| {
                ptrace::generic_ptrace_pokedata(k, addr, byte)
            });
            context_switch(k, stopped);
            context_switch(k, tracer);
            result?;
        }
        Plain::RemapFilePages => mmap::remap_file_pages(k, at, len, on.offset)?,
        Plain::Mlock => mlock::do_mlock(k, at, len, false)?,
        Plain::Mlock2 => mlock::do_mlock(k, at, len, true)?,
        Plain::Munlock => mlock::munlock(k, at, len)?,
        Plain::Mlockall => mlock::mlockall(k, on.value.unwrap_or_default())?,
        Plain::Munlockall => mlock::munlockall(k),
        Plain::Mseal => mseal::do_mseal(k, at, len)?,
        Plain::Brk => mmap::brk(k, at + len, at + bytes(on.new_pages))?,
        Plain::Vfork => return Ok(write_each(k, on, byte)),
        Plain::HartOffline => cpu::cpu_down(k, on.hart),
        Plain::HartOnline => {}
        Plain::Swapoff => unuse::swapoff(k)?,
        Plain::ProcessMrelease => oom_kill::process_mrelease(k, on.of.unwrap_or_default()),
        Plain::Vmsplice => splice::vmsplice_to_pipe(k, at, on.pages)?,
        Plain::RegisterBuffers => memmap::io_pin_pages(k, at, on.pages)?,
        Plain::SecretMmap => {
            let file = secretmem_file_create(k, on.pages);
            mmap::mmap_shared(k, file, (at, len))?;
        }
        Plain::DriverMmap => {
            let file = driver_file(k);
            mmap::mmap_shared(k, file, (at, len))?;
        }
        // The tracing module calls unmap_mapping_range(), private copies included.
        Plain::DriverZap => {
            let file = driver_file(k);
            let (first, end) = (on.offset, on.offset + on.pages);
            unmap_mapping_range(k, file, first, end, ZapDetails::PAGES);
        }
        Plain::MemoryMax | Plain::MemoryHigh => k.unpredicted = Some("limits of memory"),
        Plain::PagemapScan => on_mm(k, on, |k| {
            task_mmu::do_pagemap_scan(k, (at, at + len), on.value.unwrap_or(1))
        })?,
        // Whoever waits for the answer finds what it brought. Where that is no order of steps that
        // are begun together, the one who faults is told as answered with SIGBUS, which nobody sees.
        Plain::UffdAnswer | Plain::UffdAnswerWake => {
            let value = on.value.unwrap_or(1) as u8;
            userfaultfd::userfaultfd_copy(k, (at, len), PAGE_SIZE, value)?;
        }
        Plain::UffdAnswerZeropage => userfaultfd::userfaultfd_zeropage(k, at, len)?,
        Plain::UffdAnswerContinue => userfaultfd::userfaultfd_continue(k, at, len)?,
        Plain::UffdEvents => userfaultfd::userfaultfd_ctx_read(k, on.value.unwrap_or(1))?,
        Plain::OomKill => memcontrol::memory_max_write(k, on.of.unwrap_or_default()),
        Plain::DamonPageout => on_mm(k, on, |k| {
            vaddr::damon_va_apply_scheme(k, at, len, advice::PAGEOUT);
            Ok(())
        })?,
        // It flushes of what was accessed, and to sample a page makes it old.
        Plain::DamonCold => k.unpredicted = Some("which pages DAMON samples"),
        Plain::Kswapd => k.unpredicted = Some("kswapd"),
        Plain::MemoryUnplug => k.unpredicted = Some("memory that goes offline"),
        Plain::CmaAlloc => k.unpredicted = Some("which pages are in memory that a driver takes"),
        Plain::LruGen | Plain::LruGenAge | Plain::LruGenEvict => {
            k.unpredicted = Some("the multi-gen LRU");
        }
        Plain::Uprobe | Plain::UprobeRemove => k.unpredicted = Some("uprobes"),
        Plain::Khugepaged => khugepaged::khugepaged_do_scan(k)?,
        Plain::SplitHugePages => on_mm(k, on, |k| {
            huge_memory::split_huge_pages_pid(k, (at, at + len), on.value.unwrap_or_default())
        })?,
    }
    Ok(StepResult::Ok)
}

/// Does something with the mm that the operation is about.
fn on_mm<R>(
    k: &mut Kernel,
    on: &On,
    what: impl FnOnce(&mut Kernel) -> Result<R, i32>,
) -> Result<R, i32> {
    let mm = match on.of {
        None => k.mm_id,
        Some(of) => match k.tasks.get(of) {
            Some(task) if task.born && task.mm.is_some() => task.mm.unwrap_or_default(),
            // Which errno it is depends on whether somebody has waited for it.
            _ => {
                k.unpredicted = Some("a process that is gone");
                return Err(errno::ESRCH);
            }
        },
    };
    k.in_mm(mm, what)
}

/// Does something with each page, up to the first that is refused.
fn each_page(
    k: &mut Kernel,
    on: &On,
    mut what: impl FnMut(&mut Kernel, u64) -> Result<(), i32>,
) -> Result<(), i32> {
    let mut pages = (on.at..on.at + on.pages).map(address);
    on_mm(k, on, |k| pages.try_for_each(|addr| what(k, addr)))
}

/// The child of a vfork(2) writes with its parent's mm, which its hart has already.
fn write_each(k: &mut Kernel, on: &On, byte: u8) -> StepResult {
    for page in on.at..on.at + on.pages {
        if let Err(fault) = access(k, address(page), Some(byte)) {
            let signal = if fault == Fault::Sigbus {
                SIGBUS
            } else {
                SIGSEGV
            };
            return StepResult::Signal { signal, page };
        }
    }
    StepResult::Ok
}
