// SPDX-License-Identifier: GPL-2.0-only
//! Which functions of the kernel the model mirrors, by what the model's own source says.
//!
//! A doc comment names them in backticks, functions with their parentheses, and so does a
//! comment in a function, there without backticks. No other list has to be kept in step.

use crate::Op;
use operations::Plain;
use std::collections::BTreeSet;

/// The model's files, with those that mirror files of the kernel at their paths, as 6.12 has
/// them. A test sees to it that none is missing.
const SOURCES: &[(&str, &str)] = &[
    (
        "arch/riscv/mm/context.rs",
        include_str!("arch/riscv/mm/context.rs"),
    ),
    (
        "arch/riscv/mm/fault.rs",
        include_str!("arch/riscv/mm/fault.rs"),
    ),
    (
        "arch/riscv/mm/hugetlbpage.rs",
        include_str!("arch/riscv/mm/hugetlbpage.rs"),
    ),
    (
        "arch/riscv/mm/init.rs",
        include_str!("arch/riscv/mm/init.rs"),
    ),
    (
        "arch/riscv/mm/pgtable.rs",
        include_str!("arch/riscv/mm/pgtable.rs"),
    ),
    (
        "arch/riscv/mm/tlbflush.rs",
        include_str!("arch/riscv/mm/tlbflush.rs"),
    ),
    ("folio.rs", include_str!("folio.rs")),
    ("fs/drop_caches.rs", include_str!("fs/drop_caches.rs")),
    ("fs/exec.rs", include_str!("fs/exec.rs")),
    ("fs/ext4/extents.rs", include_str!("fs/ext4/extents.rs")),
    ("fs/ext4/inode.rs", include_str!("fs/ext4/inode.rs")),
    ("fs/file_table.rs", include_str!("fs/file_table.rs")),
    (
        "fs/hugetlbfs/inode.rs",
        include_str!("fs/hugetlbfs/inode.rs"),
    ),
    ("fs/open.rs", include_str!("fs/open.rs")),
    ("fs/proc/base.rs", include_str!("fs/proc/base.rs")),
    ("fs/proc/task_mmu.rs", include_str!("fs/proc/task_mmu.rs")),
    ("fs/read_write.rs", include_str!("fs/read_write.rs")),
    ("fs/splice.rs", include_str!("fs/splice.rs")),
    ("fs/sync.rs", include_str!("fs/sync.rs")),
    ("fs/userfaultfd.rs", include_str!("fs/userfaultfd.rs")),
    (
        "fs/xfs/xfs_bmap_util.rs",
        include_str!("fs/xfs/xfs_bmap_util.rs"),
    ),
    ("fs/xfs/xfs_file.rs", include_str!("fs/xfs/xfs_file.rs")),
    ("fs/xfs/xfs_iops.rs", include_str!("fs/xfs/xfs_iops.rs")),
    (
        "include/linux/mm_inline.rs",
        include_str!("include/linux/mm_inline.rs"),
    ),
    ("io_uring/memmap.rs", include_str!("io_uring/memmap.rs")),
    ("kernel/cpu.rs", include_str!("kernel/cpu.rs")),
    ("kernel/exit.rs", include_str!("kernel/exit.rs")),
    ("kernel/fork.rs", include_str!("kernel/fork.rs")),
    ("kernel/ptrace.rs", include_str!("kernel/ptrace.rs")),
    ("kernel/sched/core.rs", include_str!("kernel/sched/core.rs")),
    ("mm/damon/vaddr.rs", include_str!("mm/damon/vaddr.rs")),
    ("mm/filemap.rs", include_str!("mm/filemap.rs")),
    ("mm/filemap/xarray.rs", include_str!("mm/filemap/xarray.rs")),
    ("mm/gup.rs", include_str!("mm/gup.rs")),
    ("mm/huge_memory.rs", include_str!("mm/huge_memory.rs")),
    (
        "mm/huge_memory/split_file.rs",
        include_str!("mm/huge_memory/split_file.rs"),
    ),
    ("mm/hugetlb.rs", include_str!("mm/hugetlb.rs")),
    ("mm/hugetlb/fault.rs", include_str!("mm/hugetlb/fault.rs")),
    (
        "mm/hugetlb/reserve.rs",
        include_str!("mm/hugetlb/reserve.rs"),
    ),
    ("mm/hugetlb/share.rs", include_str!("mm/hugetlb/share.rs")),
    (
        "mm/hugetlb/userfault.rs",
        include_str!("mm/hugetlb/userfault.rs"),
    ),
    ("mm/interval_tree.rs", include_str!("mm/interval_tree.rs")),
    ("mm/khugepaged.rs", include_str!("mm/khugepaged.rs")),
    (
        "mm/khugepaged/file.rs",
        include_str!("mm/khugepaged/file.rs"),
    ),
    (
        "mm/khugepaged/mthp.rs",
        include_str!("mm/khugepaged/mthp.rs"),
    ),
    ("mm/ksm.rs", include_str!("mm/ksm.rs")),
    ("mm/ksm/merge.rs", include_str!("mm/ksm/merge.rs")),
    ("mm/ksm/scan.rs", include_str!("mm/ksm/scan.rs")),
    ("mm/ksm/tree.rs", include_str!("mm/ksm/tree.rs")),
    ("mm/madvise.rs", include_str!("mm/madvise.rs")),
    (
        "mm/madvise/pageout.rs",
        include_str!("mm/madvise/pageout.rs"),
    ),
    ("mm/memcontrol.rs", include_str!("mm/memcontrol.rs")),
    ("mm/memfd.rs", include_str!("mm/memfd.rs")),
    ("mm/memory.rs", include_str!("mm/memory.rs")),
    ("mm/memory/copy.rs", include_str!("mm/memory/copy.rs")),
    ("mm/memory/fault.rs", include_str!("mm/memory/fault.rs")),
    ("mm/memory/pfn.rs", include_str!("mm/memory/pfn.rs")),
    ("mm/memory/swap.rs", include_str!("mm/memory/swap.rs")),
    ("mm/memory/zap.rs", include_str!("mm/memory/zap.rs")),
    ("mm/mempolicy.rs", include_str!("mm/mempolicy.rs")),
    ("mm/migrate.rs", include_str!("mm/migrate.rs")),
    ("mm/mlock.rs", include_str!("mm/mlock.rs")),
    ("mm/mmap.rs", include_str!("mm/mmap.rs")),
    ("mm/mmu_gather.rs", include_str!("mm/mmu_gather.rs")),
    ("mm/mprotect.rs", include_str!("mm/mprotect.rs")),
    ("mm/mremap.rs", include_str!("mm/mremap.rs")),
    ("mm/mseal.rs", include_str!("mm/mseal.rs")),
    ("mm/msync.rs", include_str!("mm/msync.rs")),
    ("mm/oom_kill.rs", include_str!("mm/oom_kill.rs")),
    ("mm/page-writeback.rs", include_str!("mm/page-writeback.rs")),
    ("mm/page_alloc.rs", include_str!("mm/page_alloc.rs")),
    ("mm/page_io.rs", include_str!("mm/page_io.rs")),
    (
        "mm/page_vma_mapped.rs",
        include_str!("mm/page_vma_mapped.rs"),
    ),
    ("mm/pagewalk.rs", include_str!("mm/pagewalk.rs")),
    (
        "mm/pgtable-generic.rs",
        include_str!("mm/pgtable-generic.rs"),
    ),
    (
        "mm/process_vm_access.rs",
        include_str!("mm/process_vm_access.rs"),
    ),
    ("mm/readahead.rs", include_str!("mm/readahead.rs")),
    ("mm/rmap.rs", include_str!("mm/rmap.rs")),
    ("mm/rmap/anon_vma.rs", include_str!("mm/rmap/anon_vma.rs")),
    ("mm/secretmem.rs", include_str!("mm/secretmem.rs")),
    ("mm/shmem.rs", include_str!("mm/shmem.rs")),
    ("mm/shmem/huge.rs", include_str!("mm/shmem/huge.rs")),
    ("mm/shrinker.rs", include_str!("mm/shrinker.rs")),
    ("mm/swap.rs", include_str!("mm/swap.rs")),
    ("mm/swap_slots.rs", include_str!("mm/swap_slots.rs")),
    ("mm/swap_state.rs", include_str!("mm/swap_state.rs")),
    ("mm/swapfile.rs", include_str!("mm/swapfile.rs")),
    ("mm/swapfile/unuse.rs", include_str!("mm/swapfile/unuse.rs")),
    ("mm/truncate.rs", include_str!("mm/truncate.rs")),
    ("mm/userfaultfd.rs", include_str!("mm/userfaultfd.rs")),
    ("mm/util.rs", include_str!("mm/util.rs")),
    ("mm/vma.rs", include_str!("mm/vma.rs")),
    ("mm/vmscan.rs", include_str!("mm/vmscan.rs")),
    (
        "mm/vmscan/folio_list.rs",
        include_str!("mm/vmscan/folio_list.rs"),
    ),
    ("mm/workingset.rs", include_str!("mm/workingset.rs")),
    ("mm_types.rs", include_str!("mm_types.rs")),
    ("plain.rs", include_str!("plain.rs")),
    ("predict.rs", include_str!("predict.rs")),
    ("state.rs", include_str!("state.rs")),
];

/// Something of the model (a function, a type, a constant), and what of the kernel it mirrors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Its name in the model.
    pub name: &'static str,
    /// The model's file, below `reference-model/src`.
    pub file: &'static str,
    /// The line at which it begins, from 1.
    pub line: usize,
    /// Names of the kernel's functions, macros and types.
    pub kernel: BTreeSet<&'static str>,
    /// Those of them that its documentation names as functions.
    pub functions: BTreeSet<&'static str>,
    /// Files of the kernel that they are from: the one that the model's file has the path of,
    /// and those that its documentation names. Where a name is defined in other files too,
    /// these count.
    pub sources: BTreeSet<String>,
    /// The fields of [`Profile`](crate::Profile) that it reads.
    pub fields: BTreeSet<&'static str>,
    /// The model's other functions that it calls.
    pub calls: BTreeSet<&'static str>,
}

/// A field of [`Profile`](crate::Profile).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What of the kernel its documentation names.
    pub kernel: BTreeSet<&'static str>,
}

/// All that the model mirrors, in the order of its files.
pub fn mirrors() -> Vec<Mirror> {
    let fields: Vec<&str> = fields().iter().map(|field| field.name).collect();
    let mut mirrors = Vec::new();
    for (file, text) in SOURCES {
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        let own = kernel_file(file);
        mirrors.extend(items(text).into_iter().map(|item| {
            let named = files(item.docs.iter().copied());
            Mirror {
                name: item.name,
                file,
                line: item.line,
                kernel: item.kernel(),
                functions: item.functions(),
                sources: named.map(str::to_owned).chain(own.clone()).collect(),
                fields: after_a_dot(&item.body)
                    .filter(|word| fields.contains(word))
                    .collect(),
                calls: item.calls(),
            }
        }));
    }
    mirrors
}

/// The kernel's file that one of the model's mirrors, by its path: `mm/vma.c` by `mm/vma.rs`.
/// What a folder of the same name holds are parts of it. None where it mirrors no file.
pub fn kernel_file(file: &str) -> Option<String> {
    let is_file = |path: &str| {
        SOURCES
            .iter()
            .any(|(name, _)| *name == format!("{path}.rs"))
    };
    let mut path = file.strip_suffix(".rs")?;
    while let Some((folder, _)) = path.rsplit_once('/')
        && is_file(folder)
    {
        path = folder;
    }
    let kind = if path.starts_with("include/") {
        "h"
    } else {
        "c"
    };
    path.contains('/').then(|| format!("{path}.{kind}"))
}

/// The model's function that an operation begins with.
pub fn entry(op: &Op) -> &'static str {
    match op {
        Op::Mmap { .. } => "ksys_mmap_pgoff",
        Op::Munmap { .. } => "do_vmi_munmap",
        Op::Mprotect { .. } => "do_mprotect",
        Op::Madvise { .. } => "do_madvise",
        Op::Touch { .. } => "access",
        // No function of the kernel runs for a device, and the model speaks for none of the others.
        Op::Device { .. } | Op::Vm { .. } | Op::Compact | Op::UffdWriteprotect { .. } => {
            "context_switch"
        }
        Op::Ksm { .. } => "run_store",
        Op::MigratePages { .. } => "kernel_migrate_pages",
        Op::MovePages { .. } => "kernel_move_pages",
        Op::Mbind { .. } => "do_mbind",
        Op::Mremap { .. } => "do_mremap",
        Op::UffdRegister { .. } => "userfaultfd_register",
        Op::UffdUnregister { .. } => "userfaultfd_unregister",
        Op::UffdCopy { .. } => "userfaultfd_copy",
        Op::UffdZeropage { .. } => "userfaultfd_zeropage",
        Op::UffdContinue { .. } => "userfaultfd_continue",
        Op::UffdMove { .. } => "userfaultfd_move",
        Op::Msync { .. } => "msync",
        Op::Fsync { .. } => "do_fsync",
        Op::SyncFileRange { .. } => "sync_file_range",
        Op::Pwrite { .. } => "generic_perform_write",
        Op::Reclaim { .. } => "memory_reclaim",
        Op::Run => "context_switch",
        Op::Fork { .. } => "kernel_clone",
        Op::Exit => "do_exit",
        Op::Exec { .. } => "exec_mmap",
        Op::Ftruncate { .. } => "do_sys_ftruncate",
        Op::PunchHole { .. } | Op::Fallocate { .. } => "vfs_fallocate",
        Op::Pread { .. } => "ksys_pread64",
        Op::DropCaches { .. } => "drop_caches_sysctl_handler",
        Op::ProcessMadvise { .. } => "process_madvise",
        Op::Plain { what, .. } => plain_entry(*what),
    }
}

fn plain_entry(what: Plain) -> &'static str {
    match what {
        Plain::Mlock | Plain::Mlock2 => "do_mlock",
        Plain::Munlock => "munlock",
        Plain::Mlockall => "mlockall",
        Plain::Munlockall => "munlockall",
        Plain::ClearRefs => "clear_refs_write",
        Plain::ProcessVmWritev | Plain::ProcessVmReadv => "process_vm_rw_single_vec",
        Plain::MemWrite => "mem_write",
        Plain::PtracePoke => "ptrace_attach",
        Plain::RemapFilePages => "remap_file_pages",
        Plain::Mseal => "do_mseal",
        Plain::Brk => "brk",
        Plain::Vfork => "access",
        Plain::HartOffline => "cpu_down",
        Plain::ProcessMrelease => "process_mrelease",
        Plain::Vmsplice => "vmsplice_to_pipe",
        Plain::RegisterBuffers => "io_pin_pages",
        Plain::SecretMmap => "secretmem_file_create",
        Plain::DriverMmap => "vm_mmap_pgoff",
        Plain::DriverZap => "unmap_mapping_range",
        // The model speaks for none of these, but for a hart that comes back.
        Plain::HartOnline | Plain::MemoryMax | Plain::MemoryHigh => "context_switch",
        Plain::Swapoff => "swapoff",
        Plain::OomKill => "memory_max_write",
        Plain::DamonPageout => "damon_va_apply_scheme",
        Plain::Khugepaged => "khugepaged_do_scan",
        Plain::SplitHugePages => "split_huge_pages_pid",
        Plain::PagemapScan => "do_pagemap_scan",
        Plain::UffdAnswer | Plain::UffdAnswerWake => "userfaultfd_copy",
        Plain::UffdAnswerZeropage => "userfaultfd_zeropage",
        Plain::UffdAnswerContinue => "userfaultfd_continue",
        Plain::UffdEvents => "userfaultfd_ctx_read",
        Plain::DamonCold
        | Plain::Kswapd
        | Plain::MemoryUnplug
        | Plain::CmaAlloc
        | Plain::LruGen
        | Plain::LruGenAge
        | Plain::LruGenEvict
        | Plain::Uprobe
        | Plain::UprobeRemove => "context_switch",
    }
}

/// The fields of the profile that say what differs, in their order.
pub fn fields() -> Vec<Field> {
    let text = include_str!("profile.rs");
    let body = text.split_once("pub struct Profile {").map_or("", |s| s.1);
    let body = body.split("\n}").next().unwrap_or_default();
    let (mut fields, mut docs) = (Vec::new(), Vec::new());
    for line in body.lines().map(str::trim) {
        if line.starts_with("///") {
            docs.push(line);
        } else if let Some((name, _)) = line.split_once(':') {
            fields.push(Field {
                name: name.trim_start_matches("pub "),
                kernel: docs.drain(..).flat_map(in_backticks).collect(),
            });
        }
    }
    // The first one is the profile's name.
    fields.split_off(1)
}

/// A function, type or constant of a file, with its comments.
struct Item {
    name: &'static str,
    line: usize,
    docs: Vec<&'static str>,
    body: Vec<&'static str>,
}

impl Item {
    /// What of the kernel its comments name.
    fn kernel(&self) -> BTreeSet<&'static str> {
        let docs = self.docs.iter().copied().flat_map(in_backticks);
        let comments = self.body.iter().filter_map(|line| line.split_once("// "));
        docs.chain(comments.flat_map(|(_, comment)| with_parentheses(comment)))
            .collect()
    }

    /// The functions of the kernel that its documentation names.
    fn functions(&self) -> BTreeSet<&'static str> {
        let docs = self.docs.iter().copied().flat_map(quoted);
        let functions = docs.filter_map(|text| text.strip_suffix("()"));
        functions.filter(|name| is_name(name)).collect()
    }

    /// What it calls.
    fn calls(&self) -> BTreeSet<&'static str> {
        let code = self.body.iter().skip(1);
        let code = code.map(|line| line.split("//").next().unwrap_or_default());
        code.flat_map(with_parentheses).collect()
    }
}

/// The items of a file as rustfmt leaves it: the last line of one has its first line's
/// indentation.
fn items(text: &'static str) -> Vec<Item> {
    let (mut items, mut docs): (Vec<Item>, Vec<&str>) = (Vec::new(), Vec::new());
    let mut inside: Option<(Item, String)> = None;
    for (number, line) in text.lines().enumerate() {
        if let Some((item, end)) = &mut inside {
            item.body.push(line);
            if line == end {
                items.extend(inside.take().map(|(item, _)| item));
            }
        } else if line.trim_start().starts_with("///") {
            docs.push(line);
        } else if let Some(name) = defined(line) {
            let item = Item {
                name,
                line: number + 1,
                docs: std::mem::take(&mut docs),
                body: vec![line],
            };
            let indentation = line.len() - line.trim_start().len();
            let is_function = line.contains("fn ");
            if is_function && !line.ends_with('}') {
                inside = Some((item, format!("{}}}", &line[..indentation])));
            } else {
                items.push(item);
            }
        } else if !line.trim_start().starts_with("#[") {
            docs.clear();
        }
    }
    items
}

/// The name that a line begins to define.
fn defined(line: &str) -> Option<&str> {
    let words = line.trim_start();
    let words = words.strip_prefix("pub ").unwrap_or(words);
    let words = words.strip_prefix("pub(crate) ").unwrap_or(words);
    let words = words.strip_prefix("const fn ").unwrap_or(words);
    let keywords = ["fn ", "struct ", "enum ", "const ", "type "];
    let stripped = keywords.iter().find_map(|word| words.strip_prefix(word));
    let rest = stripped.or_else(|| (line.contains("const fn ")).then_some(words))?;
    rest.split(|c| !is_word(c)).next()
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Words of a doc comment in backticks that are names of the kernel: `f()`, `struct s`,
/// `enum e`, `MACRO`.
fn in_backticks(line: &str) -> Vec<&str> {
    quoted(line)
        .filter_map(|text| {
            let function = text.strip_suffix("()");
            let named = ["struct ", "enum ", "union "];
            let named = named.iter().find_map(|word| text.strip_prefix(word));
            let is_macro = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            let capitals = (text.contains('_') && text.chars().all(is_macro)).then_some(text);
            function.or(named).or(capitals)
        })
        .filter(|name| is_name(name))
        .collect()
}

/// What stands in backticks.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_word)
}

/// Names that a parenthesis follows.
fn with_parentheses(text: &str) -> Vec<&str> {
    let before = text.match_indices('(').map(|(at, _)| &text[..at]);
    before
        .filter_map(|text| text.rsplit(|c| !is_word(c)).next())
        .filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_'))
        .collect()
}

/// Names after a dot.
fn after_a_dot<'a>(lines: &'a [&'static str]) -> impl Iterator<Item = &'static str> + 'a {
    lines.iter().flat_map(|line| {
        let parts = line.split('.').skip(1);
        parts.filter_map(|part| part.split(|c| !is_word(c)).next())
    })
}

/// Files of the kernel that lines name.
fn files<'a>(lines: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    let is_path = |c: char| is_word(c) || c == '/' || c == '.' || c == '-';
    lines
        .flat_map(move |line| line.split(move |c| !is_path(c)))
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| word.contains('/') && (word.ends_with(".c") || word.ends_with(".h")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use operations::On;
    use std::path::Path;

    /// The one of that name.
    fn mirror(name: &str) -> Mirror {
        let all = mirrors();
        let mut found = all.into_iter().filter(|mirror| mirror.name == name);
        found.next().unwrap_or_else(|| panic!("no {name}"))
    }

    /// All files below a folder, by their paths from `root`.
    fn files_below(folder: &Path, root: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let names = paths.flat_map(|path| match path.is_dir() {
            true => files_below(&path, root),
            false => vec![path.strip_prefix(root).unwrap().display().to_string()],
        });
        names.collect()
    }

    #[test]
    fn each_operation_begins_with_a_function_of_the_model() {
        let (at, pages, advice, mm, file) = (0, 0, 0, 0, 0);
        let ops = [
            Op::Mmap {
                at,
                pages,
                prot: 0,
                flags: 0,
                file: None,
                offset: 0,
            },
            Op::Munmap { at, pages },
            Op::Mprotect { at, pages, prot: 0 },
            Op::Madvise { at, pages, advice },
            Op::Touch {
                at,
                pages,
                every: 1,
                write: false,
                value: None,
            },
            Op::Device {
                mm,
                at,
                pages,
                write: false,
                value: None,
            },
            Op::Vm {
                at,
                pages,
                write: false,
                value: None,
            },
            Op::Reclaim { pages },
            Op::Mremap {
                at,
                pages,
                to: None,
                new_pages: pages,
                keep: false,
            },
            Op::Ksm {
                zero_pages: false,
                unmerge: false,
            },
            Op::Compact,
            Op::MovePages {
                of: 0,
                at,
                pages,
                node: 1,
                all: false,
            },
            Op::Mbind {
                at,
                pages,
                policy: 0,
                nodes: 0,
                flags: 0,
            },
            Op::MigratePages {
                of: 0,
                from: 0,
                to: 1,
            },
            Op::Run,
            Op::Fork { child: 0, mm },
            Op::Exit,
            Op::Exec { mm },
            Op::Ftruncate { file, pages },
            Op::PunchHole {
                file,
                offset: 0,
                pages,
            },
            Op::ProcessMadvise {
                of: 0,
                ranges: vec![operations::Extent { at, pages }],
                advice,
            },
        ];
        let plain = Plain::ALL.iter().map(|what| Op::Plain {
            what: *what,
            on: On::default(),
        });
        for op in &ops.into_iter().chain(plain).collect::<Vec<_>>() {
            let name = entry(op);
            let found = mirrors().into_iter().find(|mirror| mirror.name == name);
            assert!(
                found.is_some(),
                "{op:?} begins with {name}, which is not there"
            );
        }
    }

    #[test]
    fn no_file_of_the_model_is_missing() {
        // These mirror nothing of the kernel.
        let apart = [
            "api.rs",
            "consistency.rs",
            "errno.rs",
            "forms.rs",
            "iommu.rs",
            "lib.rs",
            "mirrored.rs",
            "orders.rs",
            "profile.rs",
        ];
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
        let mut names = files_below(folder, folder);
        names.retain(|name| !apart.contains(&name.as_str()));
        names.sort();
        let listed: Vec<&str> = SOURCES.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, listed);
    }

    #[test]
    fn the_path_says_which_file_of_the_kernel_is_mirrored() {
        let file = |path| kernel_file(path).unwrap_or_default();
        assert_eq!(file("mm/vma.rs"), "mm/vma.c");
        assert_eq!(file("mm/memory/zap.rs"), "mm/memory.c");
        assert_eq!(
            file("include/linux/mm_inline.rs"),
            "include/linux/mm_inline.h"
        );
        assert_eq!(kernel_file("mm_types.rs"), None);
    }

    #[test]
    fn a_function_mirrors_what_its_comments_name() {
        let pageout = mirror("pageout");
        assert_eq!(pageout.file, "mm/vmscan/folio_list.rs");
        assert!(
            pageout.kernel.contains("pageout") && pageout.kernel.contains("is_page_cache_freeable")
        );
        assert!(pageout.sources.contains("mm/vmscan.c"));
        assert!(
            mirror("pte_accessible")
                .sources
                .contains("arch/riscv/include/asm/pgtable.h")
        );
        assert!(pageout.functions.contains("pageout"));
        // By a comment inside of it, too.
        assert!(
            mirror("copy_huge_pmd")
                .kernel
                .contains("folio_try_dup_anon_rmap_pmd")
        );
        assert!(mirror("ScanControl").kernel.contains("scan_control"));
        assert!(mirror("DEF_PRIORITY").kernel.contains("DEF_PRIORITY"));
    }

    #[test]
    fn what_it_reads_and_calls_is_known() {
        let notes = mirror("lru_note_cost");
        assert!(
            notes.fields.contains("note_cost_decays_on_zero"),
            "{notes:?}"
        );
        let shrink = mirror("shrink_folio_list");
        assert!(!shrink.calls.contains("shrink_folio_list"));
        assert!(
            mirror("shrink_inactive_list")
                .calls
                .contains("shrink_folio_list")
        );
    }

    #[test]
    fn each_field_of_the_profile_is_read_somewhere_and_says_of_what_it_speaks() {
        let fields = fields();
        // The name, and the first and the last line, are none.
        assert_eq!(
            fields.len(),
            format!("{:#?}", crate::Profile::STABLE).lines().count() - 3
        );
        let mirrors = mirrors();
        for field in fields {
            let read = mirrors
                .iter()
                .any(|mirror| mirror.fields.contains(field.name));
            assert!(read, "{} is read by nothing", field.name);
            assert!(!field.kernel.is_empty(), "{} names no function", field.name);
        }
    }
}
