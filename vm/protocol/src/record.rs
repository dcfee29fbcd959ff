// SPDX-License-Identifier: GPL-2.0-only
//! The tracing module's records, as they are read; how they lie in memory is in [`crate::uapi`].

use crate::uapi::RawRecord;
use std::mem::offset_of;
use thiserror::Error;

/// Records that the trace buffer holds where nothing else is asked for.
pub const DEFAULT_RECORDS: u32 = 65_536;

/// `TLBDIFF_FACT_*`: what the module says of itself and of its kernel.
pub mod fact {
    /// Functions are hooked by kprobes.
    pub const KPROBES: u32 = 1;
    /// Functions are hooked by the function tracer.
    pub const FTRACE: u32 = 2;
    /// CONFIG_SPARSEMEM.
    pub const SPARSEMEM: u32 = 4;
    /// `use_asid_allocator`
    pub const ASIDS: u32 = 8;
    /// `riscv_use_sbi_for_rfence()`
    pub const SBI_RFENCE: u32 = 0x10;
    /// `has_svnapot()`
    pub const SVNAPOT: u32 = 0x20;
}

/// `TLBDIFF_FAILED_*`: what an IOMMU failed at.
pub mod failed {
    /// Its command queue stopped.
    pub const COMMANDS: u64 = 1;
    /// Commands were not done in time.
    pub const TIMEOUT: u64 = 2;
    /// Its fault queue stopped.
    pub const FAULTS: u64 = 3;
    /// What it holds could not be noted.
    pub const MEMORY: u64 = 4;
    /// The device behind it did not move bytes in time.
    pub const DEVICE: u64 = 5;
}

/// One record, as `struct tlbdiff_record` in the header, which explains the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Global order, from 0, without gaps.
    pub seq: u64,
    /// Which mm; 0 where there is none.
    pub mm: u64,
    /// First byte, or the step of a mark.
    pub start: u64,
    /// End, exclusive, in bytes; or the phase of a mark.
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
    /// What the record tells.
    pub kind: Kind,
    /// The running hart.
    pub hart: u16,
    /// `TLBDIFF_F_*`. Of chains and symbols, what is in records before it.
    pub flags: u32,
    /// Who called: the number of a chain, 0 where it is not known. Of a symbol, its address.
    pub chain: u64,
}

/// This mm's notifications are traced (`TLBDIFF_F_ATTACHED`).
pub const F_ATTACHED: u32 = 1 << 0;
/// The vma is hugetlb (`TLBDIFF_F_HUGETLB`).
pub const F_HUGETLB: u32 = 1 << 2;
/// The fence went to all harts (`TLBDIFF_F_ALL_HARTS`).
pub const F_ALL_HARTS: u32 = 1 << 3;
/// The frames went to hugetlb's pool (`TLBDIFF_F_POOL`).
pub const F_POOL: u32 = 1 << 4;
/// All leaves have the frame of the first (`TLBDIFF_F_SAME_FRAME`).
pub const F_SAME_FRAME: u32 = 1 << 5;
/// In a step, before something is taken (`TLBDIFF_F_BEFORE`).
pub const F_BEFORE: u32 = 1 << 6;
/// Programs run while page tables are looked at (`TLBDIFF_F_RUNNING`).
pub const F_RUNNING: u32 = 1 << 7;
/// A flush of that mm was due when the look ended (`TLBDIFF_F_FLUSHING`).
pub const F_FLUSHING: u32 = 1 << 8;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// `enum tlbdiff_kind`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Kind { $($(#[$doc])* $name = $number,)* }

        impl Kind {
            /// The kind with that number.
            pub fn from_number(number: u16) -> Option<Kind> {
                match number { $($number => Some(Kind::$name),)* _ => None }
            }

            /// The kernel's name for it.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$name => $text,)* }
            }
        }
    };
}

kinds! {
    /// A step begins (end = 0) or ends (end = 1).
    Mark = 1, "mark";
    /// `arch_invalidate_secondary_tlbs`.
    Notify = 2, "arch_invalidate_secondary_tlbs";
    /// `invalidate_range_start`.
    RangeStart = 3, "invalidate_range_start";
    /// `invalidate_range_end`.
    RangeEnd = 4, "invalidate_range_end";
    /// The mm is going away.
    Release = 5, "release";
    /// `sbi_remote_sfence_vma_asid`.
    SbiRfence = 6, "sbi_remote_sfence_vma_asid";
    /// Page frames were given back.
    Freed = 7, "freed";
    /// What an mm's page tables hold follows (arg = 0), or ends (arg = 1).
    Tables = 8, "page tables";
    /// An entry that refers to a table.
    Table = 9, "table";
    /// Leaf entries of one kind.
    Leaves = 10, "leaves";
    /// Pages that an IOMMU has cached.
    Held = 11, "held";
    /// An IOMMU refused to load what page tables hold.
    IommuFault = 12, "IOMMU fault";
    /// An IOMMU could not be driven.
    IommuError = 13, "IOMMU error";
    /// Return addresses: who called.
    Chain = 14, "chain";
    /// The name of one of them.
    Symbol = 15, "symbol";
    /// Entry of `flush_tlb_all`.
    FlushTlbAll = 16, "flush_tlb_all";
    /// Entry of `flush_tlb_mm`.
    FlushTlbMm = 17, "flush_tlb_mm";
    /// Entry of `flush_tlb_mm_range`.
    FlushTlbMmRange = 18, "flush_tlb_mm_range";
    /// Entry of `flush_tlb_page`.
    FlushTlbPage = 19, "flush_tlb_page";
    /// Entry of `flush_tlb_range`.
    FlushTlbRange = 20, "flush_tlb_range";
    /// Entry of `flush_pmd_tlb_range`.
    FlushPmdTlbRange = 21, "flush_pmd_tlb_range";
    /// Entry of `flush_pud_tlb_range`.
    FlushPudTlbRange = 22, "flush_pud_tlb_range";
    /// Entry of `flush_tlb_kernel_range`.
    FlushTlbKernelRange = 23, "flush_tlb_kernel_range";
    /// Entry of `arch_tlbbatch_add_pending`.
    TlbbatchAddPending = 24, "arch_tlbbatch_add_pending";
    /// Entry of `arch_tlbbatch_flush`.
    TlbbatchFlush = 25, "arch_tlbbatch_flush";
    /// Entry of `arch_flush_tlb_batched_pending`.
    TlbBatchedPending = 26, "arch_flush_tlb_batched_pending";
    /// Who is followed, by name.
    Task = 27, "task";
}

/// Bytes that are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// Not [`Record::SIZE`] bytes.
    #[error("a trace record has {0} bytes instead of {size}", size = Record::SIZE)]
    Size(usize),
    /// A kind that this version does not know.
    #[error("trace record {seq} is of unknown kind {kind}")]
    Kind {
        /// The record's number.
        seq: u64,
        /// Its kind.
        kind: u16,
    },
}

impl Record {
    /// Size of a record in bytes.
    pub const SIZE: usize = size_of::<RawRecord>();

    /// As [`Record::from_bytes`] reads it.
    pub fn to_bytes(&self) -> [u8; Record::SIZE] {
        let mut bytes = [0; Record::SIZE];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(offset_of!(RawRecord, seq), &self.seq.to_le_bytes());
        put(offset_of!(RawRecord, mm), &self.mm.to_le_bytes());
        put(offset_of!(RawRecord, start), &self.start.to_le_bytes());
        put(offset_of!(RawRecord, end), &self.end.to_le_bytes());
        put(offset_of!(RawRecord, arg), &self.arg.to_le_bytes());
        put(offset_of!(RawRecord, cpumask), &self.cpumask.to_le_bytes());
        put(offset_of!(RawRecord, asid), &self.asid.to_le_bytes());
        put(offset_of!(RawRecord, pid), &self.pid.to_le_bytes());
        put(offset_of!(RawRecord, tgid), &self.tgid.to_le_bytes());
        put(
            offset_of!(RawRecord, kind),
            &(self.kind as u16).to_le_bytes(),
        );
        put(offset_of!(RawRecord, hart), &self.hart.to_le_bytes());
        put(offset_of!(RawRecord, flags), &self.flags.to_le_bytes());
        put(offset_of!(RawRecord, chain), &self.chain.to_le_bytes());
        bytes
    }

    /// Reads one record from exactly [`Record::SIZE`] bytes.
    ///
    /// # Errors
    /// The bytes are too few or too many, or of a kind that is not known.
    pub fn from_bytes(bytes: &[u8]) -> Result<Record, RecordError> {
        let bytes: &[u8; Record::SIZE] = bytes
            .try_into()
            .map_err(|_| RecordError::Size(bytes.len()))?;
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let (seq, kind) = (
            u64_at(offset_of!(RawRecord, seq)),
            u16_at(offset_of!(RawRecord, kind)),
        );
        Ok(Record {
            seq,
            mm: u64_at(offset_of!(RawRecord, mm)),
            start: u64_at(offset_of!(RawRecord, start)),
            end: u64_at(offset_of!(RawRecord, end)),
            arg: u64_at(offset_of!(RawRecord, arg)),
            cpumask: u64_at(offset_of!(RawRecord, cpumask)),
            asid: u64_at(offset_of!(RawRecord, asid)),
            pid: u32_at(offset_of!(RawRecord, pid)) as i32,
            tgid: u32_at(offset_of!(RawRecord, tgid)) as i32,
            kind: Kind::from_number(kind).ok_or(RecordError::Kind { seq, kind })?,
            hart: u16_at(offset_of!(RawRecord, hart)),
            flags: u32_at(offset_of!(RawRecord, flags)),
            chain: u64_at(offset_of!(RawRecord, chain)),
        })
    }
}
