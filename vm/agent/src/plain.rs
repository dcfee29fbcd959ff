// SPDX-License-Identifier: GPL-2.0-only
//! Operations that are told by their name and a few fields. Nothing here allocates.

use crate::perform::{Target, call, decimal};
use crate::{outside, system_file, vfork};
use operations::{On, Plain, StepResult, address, bytes};

/// The byte that is written where nothing is said.
const WRITTEN: u64 = 1;

/// `mseal(2)` (include/uapi/asm-generic/unistd.h)
const SYS_MSEAL: libc::c_long = 462;

/// The operation itself.
pub fn perform(what: Plain, on: &On, target: Target) -> StepResult {
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
            Plain::Vfork => vfork::write(pages_of(on), byte),
        }
    }
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
