// SPDX-License-Identifier: GPL-2.0-only
//! `mm/mmap.c`: mmap(2), and how an mm ends.

use crate::api::{Call, Entry, PAGE_SIZE};
use crate::arch::riscv::mm::init::vm_get_page_prot;
use crate::errno;
use crate::fs::file_table;
use crate::fs::hugetlbfs::inode as hugetlbfs;
use crate::mm::khugepaged::khugepaged_enter_new_vma;
use crate::mm::memfd::memfd_check_seals_mmap;
use crate::mm::memory::fault::vmf_anon_prepare;
use crate::mm::memory::pfn::remap_pfn_range;
use crate::mm::memory::zap::{ZapDetails, free_pgtables, unmap_single_vma};
use crate::mm::mlock::VM_LOCKED_MASK;
use crate::mm::mmu_gather::{tlb_finish_mmu, tlb_gather_mmu};
use crate::mm::rmap::anon_vma::unlink_anon_vmas;
use crate::mm::shmem::{F_SEAL_WRITE, shmem_zero_setup};
use crate::mm::util::vm_enough_memory;
use crate::mm::vma::vma_wants_writenotify;
use crate::mm::vma::{
    CEILING, FLOOR, do_vmi_munmap, i_mmap_seq, put_files, unmap_region, vma_merge,
    vms_clean_up_area, vms_gather_munmap_vmas,
};
use crate::mm::{gup, hugetlb, swap};
use crate::mm_types::{FileId, Of, Resv, Vma, vm};
use crate::state::Kernel;
use operations::{MAP_DROPPABLE, MAP_HUGETLB};

/// `TASK_SIZE` (`arch/riscv/include/asm/pgtable.h`) of the smallest MMU mode, Sv39.
pub const TASK_SIZE: u64 = 1 << 38;

/// `MAX_LFS_FILESIZE` (`include/linux/fs.h`)
const MAX_LFS_FILESIZE: u64 = i64::MAX as u64;

// PROT_* and MAP_* of include/uapi/asm-generic/mman-common.h and mman.h.
const PROT_READ: i32 = 1;
const PROT_WRITE: i32 = 2;
const PROT_EXEC: i32 = 4;
const MAP_TYPE: i32 = 0xf;
const MAP_SHARED: i32 = 1;
const MAP_PRIVATE: i32 = 2;
const MAP_GROWSDOWN: i32 = 0x100;
const MAP_LOCKED: i32 = 0x2000;
const MAP_NORESERVE: i32 = 0x4000;
const MAP_POPULATE: i32 = 0x8000;
const MAP_NONBLOCK: i32 = 0x1_0000;
const MAP_FIXED_NOREPLACE: i32 = 0x10_0000;

/// Arguments of mmap(2), with the file looked up.
#[derive(Clone, Copy, Debug)]
pub struct MmapArgs {
    /// Address; fixed, for scenarios know no other.
    pub addr: u64,
    /// Length in bytes.
    pub len: u64,
    /// Bits of `PROT_*`.
    pub prot: i32,
    /// Bits of `MAP_*`.
    pub flags: i32,
    /// Which file.
    pub file: Option<FileId>,
    /// Offset in bytes.
    pub offset: u64,
}

/// `calc_vm_prot_bits()` (`include/linux/mman.h`)
pub fn calc_vm_prot_bits(k: &Kernel, prot: i32) -> u64 {
    let bit = |from: i32, to: u64| if prot & from != 0 { to } else { 0 };
    // arch_calc_vm_prot_bits()
    let write = if k.profile.write_implies_read {
        vm::READ | vm::WRITE
    } else {
        vm::WRITE
    };
    bit(PROT_READ, vm::READ) | bit(PROT_WRITE, write) | bit(PROT_EXEC, vm::EXEC)
}

/// `PAGE_ALIGN()` (`include/linux/mm.h`); none where it overflows.
pub fn page_align(len: u64) -> Option<u64> {
    len.checked_add(PAGE_SIZE - 1)
        .map(|len| len & !(PAGE_SIZE - 1))
}

/// `find_vma_intersection()`: the first vma of a range.
pub fn find_vma_intersection<'k>(k: &'k Kernel<'_>, start: u64, end: u64) -> Option<&'k Vma> {
    k.mm.find_vma(start).filter(|vma| vma.start < end)
}

/// `ksys_mmap_pgoff()`: memory of hugetlb always has a file, and a length of whole pages.
///
/// # Errors
/// As mmap(2).
pub fn ksys_mmap_pgoff(k: &mut Kernel, args: &MmapArgs) -> Result<(), i32> {
    let wanted = args.flags & MAP_HUGETLB != 0;
    let of_file = args
        .file
        .map(|file| k.files.get(file).and_then(|inode| inode.file.hugetlb));
    let mut args = *args;
    match of_file {
        None | Some(None) if !wanted => return vm_mmap_pgoff(k, &args),
        Some(None) => return Err(errno::EINVAL),
        Some(Some(size)) => args.len = args.len.next_multiple_of(size.bytes()),
        None => {
            let size = hugetlb::hstate_sizelog(k, args.flags).ok_or(errno::EINVAL)?;
            args.len = args.len.next_multiple_of(size.bytes());
            args.file = Some(hugetlbfs::hugetlb_file_setup(k, args.len, size));
        }
    }
    if !k.profile.hugetlb_gathers {
        k.unpredicted = Some("hugetlb before it had mmu_gathers of its own");
    }
    let result = vm_mmap_pgoff(k, &args);
    if let Some(file) = args.file {
        file_table::fput(k, file);
    }
    result
}

/// `vm_mmap_pgoff()` (`mm/util.c`)
fn vm_mmap_pgoff(k: &mut Kernel, args: &MmapArgs) -> Result<(), i32> {
    let mut replaced = Vec::new();
    let result = do_mmap(k, args, &mut replaced);
    if let Ok(true) = result {
        let len = page_align(args.len).unwrap_or_default();
        gup::mm_populate(k, args.addr, len);
    }
    put_files(k, &replaced);
    result.map(drop)
}

/// `do_mmap()`: whether the new mapping is to be populated, and what it took the place of.
///
/// # Errors
/// As mmap(2), in the kernel's order.
fn do_mmap(k: &mut Kernel, args: &MmapArgs, replaced: &mut Vec<Vma>) -> Result<bool, i32> {
    let MmapArgs {
        addr, flags, file, ..
    } = *args;
    if args.len == 0 {
        return Err(errno::EINVAL);
    }
    let len = page_align(args.len).ok_or(errno::ENOMEM)?;
    let mut pgoff = args.offset / PAGE_SIZE;
    pgoff.checked_add(len / PAGE_SIZE).ok_or(errno::EOVERFLOW)?;
    // One more is mapped than there may be.
    if k.max_map_count
        .is_some_and(|limit| k.mm.vmas.len() as u64 > limit)
    {
        return Err(errno::ENOMEM);
    }
    // __get_unmapped_area() with MAP_FIXED
    if let Some(size) = file.and_then(|file| k.files.get(file)?.file.hugetlb)
        && !(addr | len).is_multiple_of(size.bytes())
    {
        // hugetlb_get_unmapped_area()
        return Err(errno::EINVAL);
    }
    if len > TASK_SIZE || addr > TASK_SIZE - len {
        return Err(errno::ENOMEM);
    }
    if !addr.is_multiple_of(PAGE_SIZE) {
        return Err(errno::EINVAL);
    }
    if flags & MAP_FIXED_NOREPLACE != 0
        && k.mm
            .find_vma(addr)
            .is_some_and(|vma| vma.start < addr + len)
    {
        return Err(errno::EEXIST);
    }
    let mut vm_flags =
        calc_vm_prot_bits(k, args.prot) | k.mm.def_flags | vm::MAYREAD | vm::MAYWRITE | vm::MAYEXEC;
    // calc_vm_flag_bits()
    if flags & MAP_LOCKED != 0 {
        vm_flags |= vm::LOCKED;
    }
    if flags & MAP_GROWSDOWN != 0 {
        vm_flags |= vm::GROWSDOWN;
    }
    match file {
        Some(file) => vm_flags = file_flags(k, file, args, vm_flags)?,
        None => match flags & MAP_TYPE {
            MAP_SHARED if vm_flags & vm::GROWSDOWN != 0 => return Err(errno::EINVAL),
            MAP_SHARED => {
                pgoff = 0;
                vm_flags |= vm::SHARED | vm::MAYSHARE;
            }
            MAP_PRIVATE => pgoff = addr / PAGE_SIZE,
            MAP_DROPPABLE => {
                k.unpredicted = Some("MAP_DROPPABLE");
                return Ok(false);
            }
            _ => return Err(errno::EINVAL),
        },
    }
    if flags & MAP_NORESERVE != 0 {
        vm_flags |= vm::NORESERVE;
    }
    mmap_region(k, file, (addr, len), vm_flags, pgoff, replaced)?;
    Ok(vm_flags & vm::LOCKED != 0 || flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE)
}

/// The part of `do_mmap()` for files.
fn file_flags(k: &Kernel, file: FileId, args: &MmapArgs, mut flags: u64) -> Result<u64, i32> {
    let inode = k.files.get(file).ok_or(errno::EINVAL)?;
    // file_mmap_ok(): shmem's s_maxbytes is MAX_LFS_FILESIZE.
    let last = (MAX_LFS_FILESIZE - page_align(args.len).unwrap_or(0)) / PAGE_SIZE;
    if args.offset / PAGE_SIZE > last {
        return Err(errno::EOVERFLOW);
    }
    match args.flags & MAP_TYPE {
        MAP_SHARED => {
            if args.prot & PROT_WRITE != 0 && inode.file.read_only {
                return Err(errno::EACCES);
            }
            flags |= vm::SHARED | vm::MAYSHARE;
            if inode.file.read_only {
                flags &= !(vm::MAYWRITE | vm::SHARED);
            }
        }
        MAP_PRIVATE => {}
        _ => return Err(errno::EINVAL),
    }
    // path_noexec()
    if inode.of == Of::Secret {
        flags &= !vm::MAYEXEC;
    }
    memfd_check_seals_mmap(inode, flags)
}

/// `mmap_region()`: `flags` are vm_flags.
///
/// # Errors
/// EPERM for a file sealed against writing, ENOMEM where the memory cannot be promised, EINVAL
/// where a page of hugetlb would have to be split, or for a part of one.
fn mmap_region(
    k: &mut Kernel,
    file: Option<FileId>,
    (addr, len): (u64, u64),
    mut flags: u64,
    pgoff: u64,
    replaced: &mut Vec<Vma>,
) -> Result<(), i32> {
    let end = addr + len;
    let pglen = len / PAGE_SIZE;
    // mapping_map_writable(): F_SEAL_WRITE denies all writable mappings.
    if let Some(file) = file
        && flags & (vm::SHARED | vm::MAYWRITE) == vm::SHARED | vm::MAYWRITE
        && k.files[file].file.seals & F_SEAL_WRITE != 0
    {
        return Err(errno::EPERM);
    }
    vms_gather_munmap_vmas(k, addr, end)?;
    // accountable_mapping()
    let hugetlb = file.is_some_and(|file| k.files[file].file.hugetlb.is_some());
    if !hugetlb && flags & (vm::NORESERVE | vm::SHARED | vm::WRITE) == vm::WRITE {
        let accounted = accounted_pages(k, addr, end);
        if !vm_enough_memory(k, pglen.saturating_sub(accounted)) {
            return Err(errno::ENOMEM);
        }
        flags |= vm::ACCOUNT;
    }
    // What was there goes before anything else is decided.
    *replaced = vms_clean_up_area(k, addr, end);
    let mapped = file;
    let file = match file {
        None if flags & vm::SHARED != 0 => Some(shmem_zero_setup(k, pglen, flags)?),
        file => file,
    };
    let mut vma = Vma {
        start: addr,
        end,
        flags,
        pgoff,
        anon_pgoff: addr / PAGE_SIZE,
        file,
        anon_vma: None,
        anon_vma_chain: Default::default(),
        policy: None,
        anon_seq: 0,
        seq: 0,
        resv: Resv::default(),
    };
    if hugetlb && let Err(error) = hugetlbfs::hugetlbfs_file_mmap(k, &mut vma) {
        unmap_region(k, &vma);
        return Err(error);
    }
    if let Some(file) = file {
        match k.of(Some(file)) {
            Of::Usual => {}
            // secretmem_mmap()
            Of::Secret => vma.flags |= vm::DONTDUMP,
            Of::Driver => remap_pfn_range(k, &mut vma, file),
        }
    }
    let locked = vma.has(vm::LOCKED);
    vma.seq = i_mmap_seq(k, &vma);
    k.mm.vmas.insert(addr, vma.clone());
    let merged = vma_merge(k, addr);
    if merged == addr && k.mm.vmas.get(&addr).is_some_and(|made| made.end == end) {
        khugepaged_enter_new_vma(k, &vma, mapped);
    }
    if locked {
        lock_new_vma(k, merged, pglen);
    }
    Ok(())
}

/// The end of `mmap_region()`, later `__mmap_complete()`, of a vma with VM_LOCKED: what
/// `vma_supports_mlock()` passes over is not locked, though it is populated (`do_mmap()`).
fn lock_new_vma(k: &mut Kernel, at: u64, pages: u64) {
    match k.mm.vmas.get_mut(&at) {
        Some(vma) if vma.has(vm::HUGETLB | vm::DONTEXPAND | vm::PFNMAP) => {
            vma.flags &= !VM_LOCKED_MASK;
        }
        _ => k.mm.locked_vm += pages,
    }
}

/// `vms->nr_accounted` of what the range would replace.
fn accounted_pages(k: &Kernel, start: u64, end: u64) -> u64 {
    let before = k.mm.vmas.range(..start).next_back();
    let inside = k.mm.vmas.range(start..end);
    before
        .into_iter()
        .chain(inside)
        .filter(|(_, vma)| vma.has(vm::ACCOUNT) && vma.end > start)
        .map(|(_, vma)| (vma.end.min(end) - vma.start.max(start)) / PAGE_SIZE)
        .sum()
}

/// `remap_file_pages()`: what is mapped of a file is mapped anew, from elsewhere in it.
///
/// # Errors
/// EINVAL where no shared mapping with the same rights is there all along, and as mmap(2).
pub fn remap_file_pages(k: &mut Kernel, start: u64, size: u64, pgoff: u64) -> Result<(), i32> {
    if size == 0 {
        return Err(errno::EINVAL);
    }
    let vma = k.mm.vma_lookup(start).cloned().ok_or(errno::EINVAL)?;
    if !vma.has(vm::SHARED) {
        return Err(errno::EINVAL);
    }
    let mut covered = vma.end;
    while covered < start + size {
        let next = k.mm.vmas.get(&covered);
        let same = |next: &&Vma| next.file == vma.file && next.flags == vma.flags;
        covered = next.filter(same).ok_or(errno::EINVAL)?.end;
    }
    let bit = |has: u64, prot: i32| if vma.has(has) { prot } else { 0 };
    let prot = bit(vm::READ, PROT_READ) | bit(vm::WRITE, PROT_WRITE) | bit(vm::EXEC, PROT_EXEC);
    // do_mmap() without a list for a userfaultfd: of what goes nobody is told.
    let told = k.mm.uffd_events;
    let result = vm_mmap_pgoff(
        k,
        &MmapArgs {
            addr: start,
            len: size,
            prot,
            flags: MAP_SHARED | MAP_POPULATE | bit(vm::LOCKED, MAP_LOCKED),
            file: vma.file,
            offset: pgoff * PAGE_SIZE,
        },
    );
    k.mm.uffd_events = told;
    result
}

/// mmap(2) of a file that scenarios do not name: shared, to be read and written.
///
/// # Errors
/// As mmap(2).
pub fn mmap_shared(k: &mut Kernel, file: FileId, (addr, len): (u64, u64)) -> Result<(), i32> {
    let result = vm_mmap_pgoff(
        k,
        &MmapArgs {
            addr,
            len,
            prot: PROT_READ | PROT_WRITE,
            flags: MAP_SHARED,
            file: Some(file),
            offset: 0,
        },
    );
    file_table::fput(k, file);
    result
}

/// `brk()`: the heap's end moves from one address to another. A new part is what
/// `do_brk_flags()` maps: private anonymous memory like any other.
///
/// # Errors
/// ENOMEM where it stays.
pub fn brk(k: &mut Kernel, from: u64, to: u64) -> Result<(), i32> {
    if from == to {
        return Ok(());
    }
    if to < from {
        // What is not of the heap is left alone: nothing of it may begin there.
        let heap = k.mm.find_vma(to).is_some_and(|vma| vma.start < from);
        return match heap {
            true => do_vmi_munmap(k, to, from - to).map_err(|_| errno::ENOMEM),
            false => Err(errno::ENOMEM),
        };
    }
    // vm_start_gap(): only a stack keeps more than a page away.
    let next = k.mm.find_vma(from).map(|next| next.start);
    if next.is_some_and(|start| to + PAGE_SIZE > start) {
        return Err(errno::ENOMEM);
    }
    vm_mmap_pgoff(
        k,
        &MmapArgs {
            addr: from,
            len: to - from,
            prot: PROT_READ | PROT_WRITE,
            flags: MAP_PRIVATE,
            file: None,
            offset: 0,
        },
    )
}

/// `stack_guard_gap` in bytes: 256 pages.
const STACK_GUARD_GAP: u64 = 256 * PAGE_SIZE;
/// `_STK_LIM` (`include/uapi/linux/resource.h`): RLIMIT_STACK as it is at first.
const STK_LIM: u64 = 8 << 20;

/// `expand_stack()`, later `expand_stack_locked()`, by `expand_downwards()`: the vma behind a
/// hole grows down to an address, if it is one that does.
pub fn expand_downwards(k: &mut Kernel, address: u64) -> Option<Vma> {
    let address = address & !(PAGE_SIZE - 1);
    let mut vma = k.mm.find_vma(address)?.clone();
    if !vma.has(vm::GROWSDOWN) {
        return None;
    }
    let prev = k.mm.vmas.range(..vma.start).next_back();
    let near = |prev: &Vma| {
        let guarded = !prev.has(vm::GROWSDOWN) && prev.has(vm::ACCESS_FLAGS);
        guarded && address - prev.end < STACK_GUARD_GAP
    };
    if prev.is_some_and(|(_, prev)| near(prev)) {
        return None;
    }
    vmf_anon_prepare(k, &vma);
    let grow = (vma.start - address) / PAGE_SIZE;
    // acct_stack_growth()
    if vma.end - address > STK_LIM || grow > vma.pgoff || !vm_enough_memory(k, grow) {
        return None;
    }
    vma = k.mm.vmas.remove(&vma.start)?;
    vma.start = address;
    vma.pgoff -= grow;
    vma.anon_seq = k.next_seq();
    k.mm.vmas.insert(address, vma.clone());
    Some(vma)
}

/// `exit_mmap()`: secondary MMUs drop all of the mm before anything of it is unmapped.
pub fn exit_mmap(k: &mut Kernel<'_>) {
    // mmu_notifier_release()
    k.calls.push(Call {
        mm: Some(k.mm_id),
        entry: Entry::Release,
        effects: Vec::new(),
    });
    exit_unseen(k);
}

/// The same of an mm that nobody watches.
pub fn exit_unseen(k: &mut Kernel<'_>) {
    k.mm.released = true;
    let vmas: Vec<Vma> = std::mem::take(&mut k.mm.vmas).into_values().collect();
    exit_vmas(k, &vmas);
}

/// The rest of `exit_mmap()`: all vmas of an mm go. What is flushed on the way is
/// not looked at: the replaying program's own memory goes with it.
fn exit_vmas(k: &mut Kernel, vmas: &[Vma]) {
    if k.profile.zap_drains_lru {
        swap::lru_add_drain(k);
    }
    let mut tlb = tlb_gather_mmu(k);
    for vma in vmas {
        unmap_single_vma(k, &mut tlb, vma, vma.start, vma.end, ZapDetails::UNMAP);
        unlink_anon_vmas(k, vma);
    }
    free_pgtables(k, &mut tlb, vmas, FLOOR, CEILING);
    tlb_finish_mmu(k, tlb);
    for vma in vmas {
        hugetlb::hugetlb_vm_op_close(k, vma);
    }
    put_files(k, vmas);
}

/// `vm_page_prot`, as `vma_set_page_prot()` leaves it.
pub fn vma_set_page_prot(k: &Kernel, vma: &Vma) -> u8 {
    let quiet = if vma_wants_writenotify(k, vma) {
        vm::SHARED
    } else {
        0
    };
    vm_get_page_prot(vma.flags & !quiet)
}
