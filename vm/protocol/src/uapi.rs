// SPDX-License-Identifier: GPL-2.0-only
//! `vm/module/tlbdiff_uapi.h`, once for all in Rust that speak to the module; and what they
//! need of `tlbdiff_iommu_uapi.h`. A test compiles
//! the header and compares sizes, offsets and numbers.

use std::mem::size_of;

/// `TLBDIFF_ABI_VERSION`
pub const ABI_VERSION: u32 = 13;

/// `struct tlbdiff_record`, as it lies in the trace.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawRecord {
    /// Global order, from 0, without gaps.
    pub seq: u64,
    /// Which mm; 0 where there is none.
    pub mm: u64,
    /// First byte, or the step of a mark.
    pub start: u64,
    /// End, exclusive, or the phase of a mark.
    pub end: u64,
    /// Page size, event type, or size of a fence.
    pub arg: u64,
    /// Harts, by Linux's numbers.
    pub cpumask: u64,
    /// ASID.
    pub asid: u64,
    /// The running task.
    pub pid: i32,
    /// Its process.
    pub tgid: i32,
    /// `enum tlbdiff_kind`
    pub kind: u16,
    /// The running hart.
    pub hart: u16,
    /// `TLBDIFF_F_*`
    pub flags: u32,
    /// Who called: the number of a chain. Of a symbol, its address.
    pub chain: u64,
}

/// `struct tlbdiff_hello`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// In: the caller's. Out: the module's.
    pub abi_version: u32,
    /// In: the caller's. Out: the module's.
    pub record_size: u32,
    /// In: how many records the buffer is to hold; 0 for the module's default.
    pub buffer_records: u32,
    /// Out: `TLBDIFF_FACT_*`
    pub facts: u32,
}

/// `struct tlbdiff_mark`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// From 0.
    pub step: u64,
    /// 0 begin, 1 end.
    pub phase: u64,
}

/// `struct tlbdiff_status`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Records made.
    pub recorded: u64,
    /// Records lost for want of room.
    pub lost: u64,
    /// The caller's mm, as records name it.
    pub mm: u64,
    /// How many mms are attached.
    pub attached: u64,
    /// How many could not be followed.
    pub unfollowed: u64,
}

/// `struct tlbdiff_watch`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// First byte.
    pub start: u64,
    /// First byte after it.
    pub end: u64,
    /// `TLBDIFF_WATCH_*`
    pub flags: u64,
}

/// Also of each range, before anything is taken from it (`TLBDIFF_WATCH_EAGER`).
pub const WATCH_EAGER: u64 = 1;
/// Programs run meanwhile (`TLBDIFF_WATCH_RUNNING`).
pub const WATCH_RUNNING: u64 = 2;

/// `struct tlbdiff_walk`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// Which mm is next; 0 before the first and after the last.
    pub mm: u64,
    /// Where in it.
    pub start: u64,
}

/// `struct tlbdiff_zap`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Zap {
    /// First byte.
    pub start: u64,
    /// How many.
    pub length: u64,
}

/// `struct tlbdiff_count`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// In: 0 begin, 1 end.
    pub phase: u64,
    /// Cycles.
    pub cycles: u64,
    /// Instructions.
    pub instructions: u64,
    /// Time.
    pub nanoseconds: u64,
    /// Calls of subscribers.
    pub calls: u64,
}

/// `struct tlbdiff_dma` of `vm/module/tlbdiff_iommu_uapi.h`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dma {
    /// As records name it.
    pub mm: u64,
    /// First byte.
    pub start: u64,
    /// How many pages.
    pub pages: u64,
    /// `TLBDIFF_DMA_*`
    pub flags: u32,
    /// In: the byte to write or to be read. Out: read.
    pub value: u32,
    /// Out: [`dma_result`].
    pub result: u32,
    /// Out: of a fault.
    pub cause: u32,
    /// Out: the page that failed.
    pub at: u64,
}

/// `TLBDIFF_DMA_WRITE`
pub const DMA_WRITE: u32 = 1;
/// `TLBDIFF_DMA_EXPECT`
pub const DMA_EXPECT: u32 = 2;

/// `enum tlbdiff_dma_result`
pub mod dma_result {
    /// Done.
    pub const OK: u32 = 0;
    /// Refused, and reported so.
    pub const FAULT: u32 = 1;
    /// Refused, and nobody was told.
    pub const LOST: u32 = 2;
    /// Another frame than the page's.
    pub const ASTRAY: u32 = 3;
    /// Another byte than expected.
    pub const SAW: u32 = 4;
}

/// `_IOC()` of asm-generic/ioctl.h: 1 writes to the kernel, 2 reads from it.
const fn ioc(direction: u32, number: u32, size: usize) -> u32 {
    direction << 30 | (size as u32) << 16 | (b't' as u32) << 8 | number
}

/// `TLBDIFF_IOC_HELLO`
pub const IOC_HELLO: u32 = ioc(3, 0, size_of::<Hello>());
/// `TLBDIFF_IOC_ATTACH`
pub const IOC_ATTACH: u32 = ioc(0, 1, 0);
/// `TLBDIFF_IOC_START`
pub const IOC_START: u32 = ioc(0, 2, 0);
/// `TLBDIFF_IOC_STOP`
pub const IOC_STOP: u32 = ioc(0, 3, 0);
/// `TLBDIFF_IOC_MARK`
pub const IOC_MARK: u32 = ioc(1, 4, size_of::<Mark>());
/// `TLBDIFF_IOC_STATUS`
pub const IOC_STATUS: u32 = ioc(2, 5, size_of::<Status>());
/// `TLBDIFF_IOC_FLUSH_STATS`
pub const IOC_FLUSH_STATS: u32 = ioc(0, 6, 0);
/// `TLBDIFF_IOC_SUBSCRIBE`
pub const IOC_SUBSCRIBE: u32 = ioc(1, 7, size_of::<u32>());
/// `TLBDIFF_IOC_COUNT`
pub const IOC_COUNT: u32 = ioc(3, 8, size_of::<Counted>());
/// `TLBDIFF_IOC_DETACH`
pub const IOC_DETACH: u32 = ioc(0, 9, 0);
/// `TLBDIFF_IOC_DMA`
pub const IOC_DMA: u32 = ioc(3, 32, size_of::<Dma>());
/// `TLBDIFF_IOC_WATCH`
pub const IOC_WATCH: u32 = ioc(1, 10, size_of::<Watch>());
/// `TLBDIFF_IOC_ZAP`
pub const IOC_ZAP: u32 = ioc(1, 11, size_of::<Zap>());
/// `TLBDIFF_IOC_FOLLOW`
pub const IOC_FOLLOW: u32 = ioc(0, 12, 0);
/// `TLBDIFF_IOC_WALK`
pub const IOC_WALK: u32 = ioc(3, 13, size_of::<Walk>());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{
        F_ALL_HARTS, F_ATTACHED, F_BEFORE, F_FLUSHING, F_HUGETLB, F_POOL, F_RUNNING, F_SAME_FRAME,
        Kind, Record, fact, failed,
    };
    use std::fmt::Write as _;
    use std::mem::offset_of;
    use std::path::Path;
    use std::process::Command;

    /// Each expression of C, and what it has to be.
    fn expected() -> Vec<(String, u64)> {
        let mut all: Vec<(String, u64)> = Vec::new();
        let mut add = |expression: &str, value: u64| all.push((expression.to_owned(), value));
        macro_rules! layout {
            ($c:literal, $rust:ty, $($field:ident),*) => {
                add(concat!("sizeof(struct ", $c, ")"), size_of::<$rust>() as u64);
                $(add(
                    concat!("__builtin_offsetof(struct ", $c, ", ", stringify!($field), ")"),
                    offset_of!($rust, $field) as u64,
                );)*
            };
        }
        layout!(
            "tlbdiff_record",
            RawRecord,
            seq,
            mm,
            start,
            end,
            arg,
            cpumask,
            asid,
            pid,
            tgid,
            kind,
            hart,
            flags,
            chain
        );
        layout!(
            "tlbdiff_hello",
            Hello,
            abi_version,
            record_size,
            buffer_records,
            facts
        );
        layout!("tlbdiff_mark", Mark, step, phase);
        layout!("tlbdiff_watch", Watch, start, end, flags);
        layout!("tlbdiff_zap", Zap, start, length);
        layout!("tlbdiff_walk", Walk, mm, start);
        layout!(
            "tlbdiff_status",
            Status,
            recorded,
            lost,
            mm,
            attached,
            unfollowed
        );
        layout!(
            "tlbdiff_count",
            Counted,
            phase,
            cycles,
            instructions,
            nanoseconds,
            calls
        );
        layout!(
            "tlbdiff_dma",
            Dma,
            mm,
            start,
            pages,
            flags,
            value,
            result,
            cause,
            at
        );
        for (name, value) in [
            ("ABI_VERSION", ABI_VERSION),
            ("IOC_DMA", IOC_DMA),
            ("FAILED_COMMANDS", failed::COMMANDS as u32),
            ("FAILED_TIMEOUT", failed::TIMEOUT as u32),
            ("FAILED_FAULTS", failed::FAULTS as u32),
            ("FAILED_MEMORY", failed::MEMORY as u32),
            ("FAILED_DEVICE", failed::DEVICE as u32),
            ("DMA_WRITE", DMA_WRITE),
            ("DMA_EXPECT", DMA_EXPECT),
            ("DMA_OK", dma_result::OK),
            ("DMA_FAULT", dma_result::FAULT),
            ("DMA_LOST", dma_result::LOST),
            ("DMA_ASTRAY", dma_result::ASTRAY),
            ("DMA_SAW", dma_result::SAW),
            ("IOC_HELLO", IOC_HELLO),
            ("IOC_ATTACH", IOC_ATTACH),
            ("IOC_START", IOC_START),
            ("IOC_STOP", IOC_STOP),
            ("IOC_MARK", IOC_MARK),
            ("IOC_STATUS", IOC_STATUS),
            ("IOC_FLUSH_STATS", IOC_FLUSH_STATS),
            ("IOC_SUBSCRIBE", IOC_SUBSCRIBE),
            ("IOC_COUNT", IOC_COUNT),
            ("IOC_DETACH", IOC_DETACH),
            ("IOC_WATCH", IOC_WATCH),
            ("IOC_ZAP", IOC_ZAP),
            ("IOC_FOLLOW", IOC_FOLLOW),
            ("IOC_WALK", IOC_WALK),
            ("F_POOL", F_POOL),
            ("F_SAME_FRAME", F_SAME_FRAME),
            ("F_BEFORE", F_BEFORE),
            ("F_RUNNING", F_RUNNING),
            ("F_FLUSHING", F_FLUSHING),
            ("WATCH_EAGER", WATCH_EAGER as u32),
            ("WATCH_RUNNING", WATCH_RUNNING as u32),
            ("F_ATTACHED", F_ATTACHED),
            ("F_HUGETLB", F_HUGETLB),
            ("F_ALL_HARTS", F_ALL_HARTS),
            ("FACT_KPROBES", fact::KPROBES),
            ("FACT_FTRACE", fact::FTRACE),
            ("FACT_SPARSEMEM", fact::SPARSEMEM),
            ("FACT_ASIDS", fact::ASIDS),
            ("FACT_SBI_RFENCE", fact::SBI_RFENCE),
            ("FACT_SVNAPOT", fact::SVNAPOT),
        ] {
            add(&format!("TLBDIFF_{name}"), u64::from(value));
        }
        for (name, kind) in [
            ("MARK", Kind::Mark),
            ("NOTIFY", Kind::Notify),
            ("RANGE_START", Kind::RangeStart),
            ("RANGE_END", Kind::RangeEnd),
            ("RELEASE", Kind::Release),
            ("SBI_RFENCE", Kind::SbiRfence),
            ("FREED", Kind::Freed),
            ("TABLES", Kind::Tables),
            ("TABLE", Kind::Table),
            ("LEAVES", Kind::Leaves),
            ("HELD", Kind::Held),
            ("IOMMU_FAULT", Kind::IommuFault),
            ("IOMMU_ERROR", Kind::IommuError),
            ("CHAIN", Kind::Chain),
            ("SYMBOL", Kind::Symbol),
            ("FLUSH_TLB_ALL", Kind::FlushTlbAll),
            ("FLUSH_TLB_MM", Kind::FlushTlbMm),
            ("FLUSH_TLB_MM_RANGE", Kind::FlushTlbMmRange),
            ("FLUSH_TLB_PAGE", Kind::FlushTlbPage),
            ("FLUSH_TLB_RANGE", Kind::FlushTlbRange),
            ("FLUSH_PMD_TLB_RANGE", Kind::FlushPmdTlbRange),
            ("FLUSH_PUD_TLB_RANGE", Kind::FlushPudTlbRange),
            ("FLUSH_TLB_KERNEL_RANGE", Kind::FlushTlbKernelRange),
            ("TLBBATCH_ADD_PENDING", Kind::TlbbatchAddPending),
            ("TLBBATCH_FLUSH", Kind::TlbbatchFlush),
            ("TLB_BATCHED_PENDING", Kind::TlbBatchedPending),
            ("TASK", Kind::Task),
        ] {
            add(&format!("TLBDIFF_{name}"), u64::from(kind as u16));
        }
        all
    }

    /// What a C compiler says of the header.
    fn compiled(expressions: &[(String, u64)]) -> Vec<u64> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../module");
        let mut program = "#include <stdio.h>\n".to_owned();
        for header in ["tlbdiff_uapi.h", "tlbdiff_iommu_uapi.h"] {
            let _ = writeln!(program, "#include \"{folder}/{header}\"");
        }
        program += "int main(void)\n{\n";
        for (expression, _) in expressions {
            let _ = writeln!(
                program,
                "\tprintf(\"%llu\\n\", (unsigned long long)(unsigned int)({expression}));"
            );
        }
        program += "\treturn 0;\n}\n";
        let folder = std::env::temp_dir().join(format!("tlbdiff-uapi-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (source, binary) = (folder.join("uapi.c"), folder.join("uapi"));
        std::fs::write(&source, program).expect("a file");
        let run = |program: &Path, arguments: &[&Path]| {
            let output = Command::new(program).args(arguments).output();
            let output = output.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{}: {said}", program.display());
            String::from_utf8(output.stdout).expect("text")
        };
        run(Path::new("cc"), &[&source, Path::new("-o"), &binary]);
        let told = run(&binary, &[]);
        std::fs::remove_dir_all(&folder).expect("what was made");
        let numbers = told.lines().map(|line| line.parse().expect("a number"));
        numbers.collect()
    }

    #[test]
    fn the_header_says_the_same() {
        let expected = expected();
        let compiled = compiled(&expected);
        for ((expression, value), compiled) in expected.iter().zip(&compiled) {
            assert_eq!(value, compiled, "{expression}");
        }
        assert_eq!(expected.len(), compiled.len());
        // All kinds are among them, and a record is read at these offsets.
        let kinds = (0..=u16::MAX).filter_map(Kind::from_number).count();
        let compared = expected.iter().filter(|(name, _)| {
            let constant = name.strip_prefix("TLBDIFF_");
            constant.is_some_and(|name| {
                !["IOC_", "F_", "FACT_", "ABI_", "WATCH_", "DMA_", "FAILED_"]
                    .iter()
                    .any(|p| name.starts_with(p))
            })
        });
        assert_eq!(compared.count(), kinds);
        assert_eq!(size_of::<RawRecord>(), Record::SIZE);
    }
}
