// SPDX-License-Identifier: GPL-2.0-only
//! A program played step by step: system calls in, predictions out.

use crate::api::{
    Machine, Op, PAGE_SIZE, Prediction, Profile, Program, StepPrediction, StepResult,
};
use crate::memory::{Fault, access};
use crate::mm_types::{Kernel, Mm, Swap};
use crate::mmap::{MmapArgs, do_mmap, do_munmap};
use crate::{errno, madvise, memcontrol, mprotect, shmem};

const SIGBUS: i32 = 7;
const SIGSEGV: i32 = 11;

/// What a program does to a fresh subject on this kernel and machine.
pub fn predict(profile: &Profile, machine: &Machine, program: &Program) -> Prediction {
    let mut kernel = boot(profile, machine, program);
    let steps = program
        .steps
        .iter()
        .map(|one| step(&mut kernel, &one.op))
        .collect();
    Prediction { steps }
}

/// The kernel as a fresh subject finds it, about to make its first step.
fn boot<'a>(profile: &'a Profile, machine: &'a Machine, program: &Program) -> Kernel<'a> {
    let cpumask = 1;
    let mut kernel = Kernel {
        profile,
        machine,
        mm: Mm {
            cpumask,
            ..Mm::default()
        },
        files: Vec::new(),
        folios: Default::default(),
        lruvec: Default::default(),
        other_lruvec: Default::default(),
        fbatches: Default::default(),
        tlb_ubc: Default::default(),
        swap: Swap {
            on: machine.swap,
            ..Swap::default()
        },
        calls: Vec::new(),
        touched: Vec::new(),
    };
    shmem::make_files(&mut kernel, &program.files);
    kernel
}

/// One step.
fn step(k: &mut Kernel, op: &Op) -> StepPrediction {
    memcontrol::cgroup_rstat_flush(k);
    let result = match perform(k, op) {
        Ok(result) => result,
        Err(errno) => StepResult::Errno(errno),
    };
    StepPrediction {
        result,
        calls: std::mem::take(&mut k.calls),
        lost: k.take_lost(),
    }
}

fn perform(k: &mut Kernel, op: &Op) -> Result<StepResult, i32> {
    match *op {
        Op::Mmap {
            addr,
            len,
            prot,
            flags,
            file,
            offset,
        } => {
            if file.is_some_and(|file| file >= k.files.len()) {
                return Err(errno::EINVAL);
            }
            do_mmap(
                k,
                &MmapArgs {
                    addr,
                    len,
                    prot,
                    flags,
                    file,
                    offset,
                },
            )?;
        }
        Op::Munmap { addr, len } => do_munmap(k, addr, len)?,
        Op::Mprotect { addr, len, prot } => mprotect::do_mprotect(k, addr, len, prot)?,
        Op::Madvise { addr, len, advice } => madvise::do_madvise(k, addr, len, advice)?,
        Op::Touch {
            addr,
            len,
            every,
            write,
        } => return Ok(touch(k, addr, len, every, write)),
        Op::Reclaim { bytes } => memcontrol::memory_reclaim(k, bytes)?,
        Op::Run => {}
        Op::Fork { .. } | Op::Exit | Op::Exec { .. } => return Err(errno::EINVAL),
        Op::Ftruncate { .. } | Op::PunchHole { .. } => return Err(errno::EINVAL),
        Op::ProcessMadvise { .. } => return Err(errno::EINVAL),
    }
    Ok(StepResult::Ok)
}

/// The subject's own accesses; the first signal ends them.
fn touch(k: &mut Kernel, addr: u64, len: u64, every: u64, write: bool) -> StepResult {
    let stride = every.max(1).saturating_mul(PAGE_SIZE);
    let end = addr.saturating_add(len);
    let mut addr = addr;
    while addr < end {
        if let Err(fault) = access(k, addr, write) {
            let signal = if fault == Fault::Sigbus {
                SIGBUS
            } else {
                SIGSEGV
            };
            return StepResult::Signal {
                signal,
                addr: addr & !(PAGE_SIZE - 1),
            };
        }
        addr = addr.saturating_add(stride);
    }
    StepResult::Ok
}
