// SPDX-License-Identifier: GPL-2.0-only
//! A program played step by step: system calls in, predictions out.

use crate::api::{
    Actor, ActorKind, Machine, Op, Prediction, Program, Step, StepPrediction, StepResult, Tables,
    Unpredicted, address, bytes,
};
use crate::arch::riscv::mm::fault::access;
use crate::errno;
use crate::fs::{drop_caches, exec, open, read_write, sync, userfaultfd};
use crate::iommu;
use crate::kernel::sched::core::context_switch;
use crate::kernel::{exit, fork};
use crate::mm::memory::fault::Fault;
use crate::mm::mmap::{MmapArgs, ksys_mmap_pgoff};
use crate::mm::vma::do_vmi_munmap;
use crate::mm::{
    filemap, hugetlb, ksm, madvise, memcontrol, mempolicy, migrate, mprotect, mremap, msync, shmem,
    swap, swapfile,
};
use crate::mm_types::{Mm, Swap, Task};
use crate::plain;
use crate::profile::Profile;
use crate::state::Kernel;
use operations::{Course, HugePages, Plain};

/// The byte that is written where a step does not say which.
pub(crate) const WRITTEN: u8 = 1;

const SIGBUS: i32 = 7;
const SIGSEGV: i32 = 11;

/// What a program does to a fresh subject on this kernel and machine.
pub fn predict(profile: &Profile, machine: &Machine, program: &Program) -> Prediction {
    predict_and(profile, machine, program, &mut |_| ())
}

/// The same, with what page tables hold after each step that is predicted.
pub fn predict_tables(
    profile: &Profile,
    machine: &Machine,
    program: &Program,
) -> (Prediction, Tables) {
    let mut tables = Tables::new();
    let mut look = |kernel: &Kernel<'_>| tables.push(kernel.page_tables());
    let prediction = predict_and(profile, machine, program, &mut look);
    (prediction, tables)
}

fn predict_and(
    profile: &Profile,
    machine: &Machine,
    program: &Program,
    after: &mut dyn FnMut(&Kernel<'_>),
) -> Prediction {
    let mut kernel = boot(profile, machine, program);
    let mut prediction = Prediction::default();
    for (number, one) in program.steps.iter().enumerate() {
        let predicted = step(&mut kernel, one);
        if program.ends_group(number) {
            userfaultfd::all_events_are_read(&mut kernel, program, number);
        }
        // What the step came to until then is no more than the beginning of it.
        if let Some(why) = kernel.unpredicted {
            prediction.unpredicted = Some(Unpredicted { step: number, why });
            break;
        }
        prediction.steps.push(predicted);
        after(&kernel);
    }
    prediction
}

/// The kernel as fresh actors find it, about to make the first step.
pub(crate) fn boot<'a>(
    profile: &'a Profile,
    machine: &'a Machine,
    program: &Program,
) -> Kernel<'a> {
    let tasks = (0..program.actors.len()).map(|actor| task(actor, program));
    let tasks: Vec<Task> = tasks.collect();
    let mms = tasks.iter().filter_map(|task| task.mm).max().unwrap_or(0) + 1;
    let mut kernel = Kernel {
        profile,
        machine,
        mm: Mm::default(),
        mm_id: 0,
        mms: vec![Mm::default(); mms],
        tasks,
        current: 0,
        active_mm: Vec::new(),
        anon_vmas: Vec::new(),
        last_seq: 0,
        files: Vec::new(),
        hstates: hugetlb::hstates(machine, program),
        resv_maps: Vec::new(),
        last_shared_table: 0,
        folios: Default::default(),
        lruvec: Default::default(),
        other_lruvec: Default::default(),
        deferred_split_queue: Vec::new(),
        nr_deferred: 0,
        fbatches: Vec::new(),
        tlb_ubc: Default::default(),
        drained_after_steps: program.actors.len() > 1 && program.reclaims(),
        swap: Swap {
            on: machine.swap,
            ..Swap::default()
        },
        thp: program.thp.clone(),
        max_map_count: program.max_map_count,
        huge_zero_folio: None,
        migrates: program.migrates(),
        ksm: Default::default(),
        uffd_events: program.does(&[Plain::UffdEvents]),
        held: Vec::new(),
        driver: None,
        calls: Vec::new(),
        touched: Vec::new(),
        refaults_unknown: false,
        unpredicted: None,
    };
    if kernel.swap.on {
        swapfile::swapon(&mut kernel.swap);
    }
    shmem::make_files(&mut kernel, &program.files);
    for task in first_runs(&program.actors) {
        context_switch(&mut kernel, task);
    }
    kernel
}

/// In which order actors run before the first step: each process, and after it its
/// threads, one after the other (the guest's agent waits for each). The subject, which
/// begins the steps once all are ready, runs last.
fn first_runs(actors: &[Actor]) -> Vec<usize> {
    let mut order = Vec::new();
    for (process, actor) in actors.iter().enumerate() {
        if !matches!(actor.kind, ActorKind::Process { .. }) {
            continue;
        }
        order.push(process);
        let threads = actors.iter().enumerate();
        let threads = threads.filter(|(_, actor)| actor.kind == ActorKind::Thread { of: process });
        order.extend(threads.map(|(thread, _)| thread));
    }
    if !actors.is_empty() {
        order.push(0);
    }
    order
}

/// An actor before the first step.
fn task(number: usize, program: &Program) -> Task {
    let actor = &program.actors[number];
    let leader = match actor.kind {
        ActorKind::Thread { of } => of,
        ActorKind::Process { .. } | ActorKind::Fork => number,
    };
    let mm = match actor.kind {
        ActorKind::Thread { of } => program.actors.get(of).and_then(|of| of.kind.mm()),
        ActorKind::Process { .. } | ActorKind::Fork => actor.kind.mm(),
    };
    Task {
        hart: actor.hart,
        mm,
        thread: matches!(actor.kind, ActorKind::Thread { .. }),
        forked: actor.kind == ActorKind::Fork,
        born: actor.kind != ActorKind::Fork,
        uffd: mm.filter(|_| program.uses_uffd(leader)),
    }
}

/// One step.
pub(crate) fn step(k: &mut Kernel, step: &Step) -> StepPrediction {
    if k.tasks.get(step.by).is_some_and(|task| !task.born) {
        return StepPrediction {
            result: StepResult::Unborn,
            calls: Vec::new(),
            lost: Vec::new(),
        };
    }
    memcontrol::cgroup_rstat_flush(k);
    context_switch(k, step.by);
    let result = match perform(k, &step.op) {
        Ok(result) => result,
        Err(errno) => StepResult::Errno(errno),
    };
    // The guest's agent waits until the disks are idle.
    for inode in &mut k.files {
        inode.in_flight.clear();
    }
    // Who has exited drains nothing any more.
    if k.drained_after_steps && step.op.course() != Course::Exit {
        swap::lru_add_drain(k);
    }
    StepPrediction {
        result,
        calls: std::mem::take(&mut k.calls),
        lost: k.take_lost(),
    }
}

/// What a step's system call, or its accesses, come to.
fn perform(k: &mut Kernel, op: &Op) -> Result<StepResult, i32> {
    match *op {
        Op::Mmap {
            at,
            pages,
            prot,
            flags,
            file,
            offset,
        } => {
            if file.is_some_and(|file| file >= k.files.len()) {
                return Err(errno::EINVAL);
            }
            ksys_mmap_pgoff(
                k,
                &MmapArgs {
                    addr: address(at),
                    len: bytes(pages),
                    prot,
                    flags,
                    file,
                    offset: bytes(offset),
                },
            )?;
        }
        Op::Munmap { at, pages } => do_vmi_munmap(k, address(at), bytes(pages))?,
        Op::Mprotect { at, pages, prot } => {
            mprotect::do_mprotect(k, address(at), bytes(pages), prot)?;
        }
        Op::Madvise { at, pages, advice } => {
            madvise::do_madvise(k, address(at), bytes(pages), advice)?;
        }
        Op::Touch {
            at,
            pages,
            every,
            write,
            value,
        } => return Ok(touch(k, (at, pages), every, written(write, value))),
        Op::Device {
            mm,
            at,
            pages,
            write,
            value,
        } => return Ok(iommu::access(k, mm, at, pages, written(write, value))),
        Op::Reclaim { pages } => memcontrol::memory_reclaim(k, bytes(pages))?,
        Op::Run => {}
        Op::Fork { child, mm } => fork::kernel_clone(k, child, mm)?,
        Op::Exit => exit::do_exit(k),
        Op::Exec { mm } => exec::exec_mmap(k, mm),
        Op::Ftruncate { file, pages } => open::do_sys_ftruncate(k, file, bytes(pages))?,
        Op::PunchHole {
            file,
            offset,
            pages,
        } => {
            let mode = open::FALLOC_FL_PUNCH_HOLE | open::FALLOC_FL_KEEP_SIZE;
            open::vfs_fallocate(k, file, mode, (bytes(offset), bytes(pages)))?;
        }
        Op::Vm { .. } => k.unpredicted = Some("KVM"),
        Op::Mremap {
            at,
            pages,
            to,
            new_pages,
            keep,
        } => mremap::do_mremap(
            k,
            mremap::Remap {
                addr: address(at),
                old_len: bytes(pages),
                new_len: bytes(new_pages),
                new_addr: to.map(address),
                dontunmap: keep,
            },
        )?,
        Op::Msync { at, pages, flags } => msync::msync(k, address(at), bytes(pages), flags)?,
        Op::Fsync { file } => sync::do_fsync(k, file)?,
        Op::SyncFileRange {
            file,
            offset,
            pages,
        } => sync::sync_file_range(k, file, bytes(offset), bytes(pages))?,
        Op::Pwrite {
            file,
            offset,
            pages,
            direct,
            value,
        } => {
            let pages = offset..offset.saturating_add(pages);
            let how = (value.unwrap_or(WRITTEN), direct);
            filemap::generic_perform_write(k, file, pages, how)?;
        }
        Op::Fallocate {
            file,
            mode,
            offset,
            pages,
        } => open::vfs_fallocate(k, file, mode, (bytes(offset), bytes(pages)))?,
        Op::Pread {
            file,
            offset,
            pages,
        } => read_write::ksys_pread64(k, file, offset..offset.saturating_add(pages))?,
        Op::UffdRegister { at, pages, mode } => {
            userfaultfd::userfaultfd_register(k, address(at), bytes(pages), mode)?;
        }
        Op::UffdUnregister { at, pages } => {
            userfaultfd::userfaultfd_unregister(k, address(at), bytes(pages))?;
        }
        Op::UffdCopy {
            at,
            pages,
            value,
            hugetlb,
        } => {
            let size = hugetlb.map_or(bytes(1), HugePages::bytes);
            let range = (address(at), bytes(pages));
            userfaultfd::userfaultfd_copy(k, range, size, value.unwrap_or(WRITTEN))?;
        }
        Op::UffdZeropage { at, pages } => {
            userfaultfd::userfaultfd_zeropage(k, address(at), bytes(pages))?;
        }
        Op::UffdContinue { at, pages } => {
            userfaultfd::userfaultfd_continue(k, address(at), bytes(pages))?;
        }
        Op::UffdMove {
            at,
            pages,
            to,
            holes,
        } => {
            let places = (address(at), address(to));
            userfaultfd::userfaultfd_move(k, places, bytes(pages), holes)?;
        }
        Op::UffdWriteprotect { .. } => k.unpredicted = Some("write protection by userfaultfd"),
        Op::DropCaches { what } => drop_caches::drop_caches_sysctl_handler(k, what),
        Op::Plain { what, ref on } => return plain::perform(k, what, on),
        Op::Ksm {
            zero_pages,
            unmerge,
        } => ksm::run_store(k, zero_pages, unmerge)?,
        Op::Compact => k.unpredicted = Some("compaction"),
        Op::MovePages {
            of,
            at,
            pages,
            node,
            all,
        } => {
            let moved = migrate::kernel_move_pages(k, of, (address(at), pages), node, all)?;
            return Ok(match moved {
                StepResult::Refused { errno, page } => StepResult::Refused {
                    errno,
                    page: at.saturating_add(page),
                },
                other => other,
            });
        }
        Op::Mbind {
            at,
            pages,
            policy,
            nodes,
            flags,
        } => mempolicy::do_mbind(k, (address(at), bytes(pages)), policy, nodes, flags)?,
        Op::MigratePages { of, from, to } => {
            return mempolicy::kernel_migrate_pages(k, of, (from, to));
        }
        Op::ProcessMadvise {
            of,
            ref ranges,
            advice,
        } => return madvise::process_madvise(k, of, ranges, advice),
    }
    Ok(StepResult::Ok)
}

/// The byte that an access writes, if it does.
fn written(write: bool, value: Option<u8>) -> Option<u8> {
    write.then(|| value.unwrap_or(WRITTEN))
}

/// The subject's own accesses; the first signal ends them.
fn touch(k: &mut Kernel, (at, pages): (u64, u64), every: u64, byte: Option<u8>) -> StepResult {
    let end = at.saturating_add(pages);
    let mut page = at;
    while page < end {
        if let Err(fault) = access(k, address(page), byte) {
            let signal = if fault == Fault::Sigbus {
                SIGBUS
            } else {
                SIGSEGV
            };
            return StepResult::Signal { signal, page };
        }
        page = page.saturating_add(every.max(1));
    }
    StepResult::Ok
}
