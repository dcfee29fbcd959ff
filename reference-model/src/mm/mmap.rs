// SPDX-License-Identifier: GPL-2.0-only
//! `mm/mmap.c`: the calls mmap(2) and munmap(2).

use crate::api::PAGE_SIZE;
use crate::errno;
use crate::mm::{gup, shmem, vma};
use crate::mm_types::{FileId, Vma, vm};
use crate::state::Kernel;

/// `TASK_SIZE` of the smallest MMU mode (Sv39).
pub const TASK_SIZE: u64 = 1 << 38;

/// The largest file, in bytes (include/linux/fs.h).
const MAX_LFS_FILESIZE: u64 = i64::MAX as u64;

const PROT_READ: i32 = 1;
const PROT_WRITE: i32 = 2;
const PROT_EXEC: i32 = 4;
const MAP_TYPE: i32 = 0xf;
const MAP_SHARED: i32 = 1;
const MAP_PRIVATE: i32 = 2;
const MAP_LOCKED: i32 = 0x2000;
const MAP_NORESERVE: i32 = 0x4000;
const MAP_POPULATE: i32 = 0x8000;
const MAP_NONBLOCK: i32 = 0x1_0000;
const MAP_FIXED_NOREPLACE: i32 = 0x10_0000;

/// Arguments of mmap(2) after `fget()`.
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

/// `calc_vm_prot_bits()` of include/linux/mman.h
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

/// `PAGE_ALIGN()`; none where it overflows.
pub fn page_align(len: u64) -> Option<u64> {
    len.checked_add(PAGE_SIZE - 1)
        .map(|len| len & !(PAGE_SIZE - 1))
}

/// `do_mmap()`, and the `mm_populate()` of `vm_mmap_pgoff()`
///
/// # Errors
/// As mmap(2), in the kernel's order.
pub fn do_mmap(k: &mut Kernel, args: &MmapArgs) -> Result<(), i32> {
    let MmapArgs {
        addr, flags, file, ..
    } = *args;
    if args.len == 0 {
        return Err(errno::EINVAL);
    }
    let len = page_align(args.len).ok_or(errno::ENOMEM)?;
    let mut pgoff = args.offset / PAGE_SIZE;
    pgoff.checked_add(len / PAGE_SIZE).ok_or(errno::EOVERFLOW)?;
    // __get_unmapped_area() with MAP_FIXED
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
    let mut vm_flags = calc_vm_prot_bits(k, args.prot) | vm::MAYREAD | vm::MAYWRITE | vm::MAYEXEC;
    if flags & MAP_LOCKED != 0 {
        vm_flags |= vm::LOCKED;
    }
    match file {
        Some(file) => vm_flags = file_flags(k, file, args, vm_flags)?,
        None => match flags & MAP_TYPE {
            MAP_SHARED => {
                pgoff = 0;
                vm_flags |= vm::SHARED | vm::MAYSHARE;
            }
            MAP_PRIVATE => pgoff = addr / PAGE_SIZE,
            _ => return Err(errno::EINVAL),
        },
    }
    if flags & MAP_NORESERVE != 0 {
        vm_flags |= vm::NORESERVE;
    }
    vma::mmap_region(k, file, addr, len, vm_flags, pgoff)?;
    if vm_flags & vm::LOCKED != 0 || flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE {
        gup::mm_populate(k, addr, len);
    }
    Ok(())
}

/// The part of `do_mmap()` for files, and `memfd_check_seals_mmap()` of mm/memfd.c
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
    // check_write_seal()
    if inode.file.seals & shmem::SEALED_AGAINST_WRITES != 0 && flags & vm::SHARED != 0 {
        if flags & vm::WRITE != 0 {
            return Err(errno::EPERM);
        }
        flags &= !vm::MAYWRITE;
    }
    Ok(flags)
}

/// `do_vmi_munmap()` of mm/vma.c
///
/// # Errors
/// EINVAL for an empty, unaligned or impossible range.
pub fn do_munmap(k: &mut Kernel, start: u64, len: u64) -> Result<(), i32> {
    if !start.is_multiple_of(PAGE_SIZE) || start > TASK_SIZE || len > TASK_SIZE - start {
        return Err(errno::EINVAL);
    }
    let end = start + page_align(len).ok_or(errno::EINVAL)?;
    if end == start {
        return Err(errno::EINVAL);
    }
    vma::unmap_vmas_in(k, start, end);
    Ok(())
}

/// `vma_is_accessible()`
pub fn vma_is_accessible(vma: &Vma) -> bool {
    vma.has(vm::ACCESS_FLAGS)
}
