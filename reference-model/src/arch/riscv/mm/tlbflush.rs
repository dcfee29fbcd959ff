// SPDX-License-Identifier: GPL-2.0-only
//! `arch/riscv/mm/tlbflush.c`, function by function, in the file's order.
//!
//! Every function takes a [`Context`] in place of what the kernel reads from
//! the machine and the mm, and appends what it does to a list of effects.

use crate::api::{Effect, Entry, Fence, Machine, PAGE_SIZE, Range, Whose};
use crate::profile::Profile;

/// `FLUSH_TLB_MAX_SIZE` (`arch/riscv/include/asm/tlbflush.h`)
pub const FLUSH_TLB_MAX_SIZE: u64 = u64::MAX;

/// `tlb_flush_all_threshold`: more pages than this are flushed all at once.
pub const TLB_FLUSH_ALL_THRESHOLD: u64 = 64;

/// `PMD_SIZE` (`arch/riscv/include/asm/pgtable-64.h`)
pub const PMD_SIZE: u64 = 2 << 20;
/// `PUD_SIZE` (`arch/riscv/include/asm/pgtable-64.h`)
pub const PUD_SIZE: u64 = 1 << 30;
/// `P4D_SIZE` (`arch/riscv/include/asm/pgtable-64.h`), with five levels. Folded levels have
/// the size of the next one up.
const P4D_SIZE: u64 = 512 << 30;

/// What the file reads when one of its functions is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The hart that runs.
    pub hart: u32,
    /// `mm_cpumask(mm)`; for `arch_tlbbatch_flush` the batch's mask.
    pub cpumask: u64,
    /// `cpu_online_mask`.
    pub online: u64,
    /// `cntx2asid(mm->context.id)`.
    pub asid: u64,
}

/// One entry being played: what is fixed, and what has been done so far.
struct Flush<'a> {
    profile: &'a Profile,
    machine: &'a Machine,
    context: Context,
    effects: &'a mut Vec<Effect>,
}

/// All that an entry into the file does, in order.
pub fn replay(
    profile: &Profile,
    machine: &Machine,
    entry: &Entry,
    context: &Context,
) -> Vec<Effect> {
    let mut effects = Vec::new();
    replay_into(profile, machine, entry, context, &mut effects);
    effects
}

/// The file's function that fences and notifies, for an entry into it: most come to the same.
pub fn worker(entry: &Entry) -> &'static str {
    match entry {
        Entry::ArchTlbbatchAddPending { .. } | Entry::ArchTlbbatchAddPendingRange { .. } => {
            "arch_tlbbatch_add_pending"
        }
        Entry::Release => "mmu_notifier_release",
        Entry::FlushTlbAll => "flush_tlb_all",
        Entry::FlushTlbMm
        | Entry::FlushTlbMmRange { .. }
        | Entry::FlushTlbPage { .. }
        | Entry::FlushTlbRange { .. }
        | Entry::FlushPmdTlbRange { .. }
        | Entry::FlushPudTlbRange { .. }
        | Entry::FlushTlbKernelRange { .. }
        | Entry::ArchTlbbatchFlush
        | Entry::ArchFlushTlbBatchedPending => "__flush_tlb_range",
    }
}

/// [`replay`] into a list that the caller has.
pub fn replay_into(
    profile: &Profile,
    machine: &Machine,
    entry: &Entry,
    context: &Context,
    effects: &mut Vec<Effect>,
) {
    let mut flush = Flush {
        profile,
        machine,
        context: *context,
        effects,
    };
    match *entry {
        Entry::FlushTlbAll => flush.flush_tlb_all(),
        Entry::FlushTlbMm => flush.flush_tlb_mm(),
        Entry::FlushTlbMmRange {
            start,
            end,
            page_size,
        } => {
            flush.flush_tlb_mm_range(start, end, page_size);
        }
        Entry::FlushTlbPage { addr } => flush.flush_tlb_page(addr),
        Entry::FlushTlbRange {
            start,
            end,
            huge_page_size,
        } => {
            flush.flush_tlb_range(start, end, huge_page_size);
        }
        Entry::FlushTlbKernelRange { start, end } => flush.flush_tlb_kernel_range(start, end),
        Entry::FlushPmdTlbRange { start, end } => flush.flush_pmd_tlb_range(start, end),
        Entry::FlushPudTlbRange { start, end } => flush.flush_pud_tlb_range(start, end),
        Entry::ArchTlbbatchAddPending { uaddr } => {
            let start = uaddr & !(PAGE_SIZE - 1);
            flush.arch_tlbbatch_add_pending(start, start.wrapping_add(PAGE_SIZE));
        }
        Entry::ArchTlbbatchAddPendingRange { start, end } => {
            flush.arch_tlbbatch_add_pending(start, end);
        }
        Entry::ArchFlushTlbBatchedPending => flush.arch_flush_tlb_batched_pending(),
        Entry::ArchTlbbatchFlush => flush.arch_tlbbatch_flush(),
        Entry::Release => {}
    }
}

impl Flush<'_> {
    /// `local_flush_tlb_range_threshold_asid()`
    fn local_flush_tlb_range_threshold_asid(
        &mut self,
        start: u64,
        size: u64,
        stride: u64,
        asid: Option<u64>,
    ) {
        let nr_ptes_in_range = size.div_ceil(stride.max(1));
        if nr_ptes_in_range > TLB_FLUSH_ALL_THRESHOLD {
            self.fence(Fence::LocalAll { asid });
            return;
        }
        self.fence(Fence::LocalPages {
            start,
            stride,
            pages: nr_ptes_in_range,
            asid,
        });
    }

    /// `local_flush_tlb_range_asid()`
    fn local_flush_tlb_range_asid(
        &mut self,
        start: u64,
        size: u64,
        stride: u64,
        asid: Option<u64>,
    ) {
        if size <= stride {
            self.fence(Fence::LocalPages {
                start,
                stride,
                pages: 1,
                asid,
            });
        } else if size == FLUSH_TLB_MAX_SIZE {
            self.fence(Fence::LocalAll { asid });
        } else {
            self.local_flush_tlb_range_threshold_asid(start, size, stride, asid);
        }
    }

    /// `flush_tlb_all()`
    fn flush_tlb_all(&mut self) {
        if self.context.online.count_ones() < 2 {
            self.fence(Fence::LocalAll { asid: None });
        } else if self.machine.sbi_rfence {
            self.fence(Fence::Sbi {
                harts: None,
                start: 0,
                size: FLUSH_TLB_MAX_SIZE,
                asid: None,
            });
        } else {
            self.fence(Fence::Ipi {
                harts: None,
                start: 0,
                size: FLUSH_TLB_MAX_SIZE,
                stride: PAGE_SIZE,
                asid: None,
            });
        }
    }

    /// `get_mm_asid()` where there is an mm: FLUSH_TLB_NO_ASID is for none.
    fn get_mm_asid(&self) -> Option<u64> {
        Some(self.context.asid)
    }

    /// `__flush_tlb_range()`. `mm` says whether one is passed; `asid` is `get_mm_asid(mm)`.
    ///
    /// Note the order: an empty mask returns before secondary MMUs are notified.
    fn __flush_tlb_range(&mut self, mm: bool, cmask: u64, start: u64, size: u64, stride: u64) {
        let asid = if mm { self.get_mm_asid() } else { None };

        if cmask == 0 {
            if mm && self.profile.tells_with_empty_cpumask {
                self.notify(start, start.wrapping_add(size));
            }
            return;
        }

        let others = cmask & !hart_bit(self.context.hart);
        if others == 0 {
            self.local_flush_tlb_range_asid(start, size, stride, asid);
        } else if self.machine.sbi_rfence {
            self.fence(Fence::Sbi {
                harts: Some(cmask),
                start,
                size,
                asid,
            });
        } else {
            self.fence(Fence::Ipi {
                harts: Some(cmask),
                start,
                size,
                stride,
                asid,
            });
        }

        if mm {
            self.notify(start, start.wrapping_add(size));
        }
    }

    /// `flush_tlb_mm()`
    fn flush_tlb_mm(&mut self) {
        self.__flush_tlb_range(true, self.context.cpumask, 0, FLUSH_TLB_MAX_SIZE, PAGE_SIZE);
    }

    /// `flush_tlb_mm_range()`
    fn flush_tlb_mm_range(&mut self, start: u64, end: u64, page_size: u64) {
        let size = end.wrapping_sub(start);
        self.__flush_tlb_range(true, self.context.cpumask, start, size, page_size);
    }

    /// `flush_tlb_page()`
    fn flush_tlb_page(&mut self, addr: u64) {
        self.__flush_tlb_range(true, self.context.cpumask, addr, PAGE_SIZE, PAGE_SIZE);
    }

    /// `flush_tlb_range()`
    fn flush_tlb_range(&mut self, start: u64, end: u64, huge_page_size: Option<u64>) {
        let stride_size = match huge_page_size {
            None => PAGE_SIZE,
            Some(size) if !self.machine.svnapot => size,
            // Every PTE in a NAPOT region must be invalidated: the size of its level.
            Some(size) if size >= P4D_SIZE => P4D_SIZE,
            Some(size) if size >= PUD_SIZE => PUD_SIZE,
            Some(size) if size >= PMD_SIZE => PMD_SIZE,
            Some(_) => PAGE_SIZE,
        };
        let size = end.wrapping_sub(start);
        self.__flush_tlb_range(true, self.context.cpumask, start, size, stride_size);
    }

    /// `flush_tlb_kernel_range()`
    fn flush_tlb_kernel_range(&mut self, start: u64, end: u64) {
        let size = end.wrapping_sub(start);
        self.__flush_tlb_range(false, self.context.online, start, size, PAGE_SIZE);
    }

    /// `flush_pmd_tlb_range()`
    fn flush_pmd_tlb_range(&mut self, start: u64, end: u64) {
        let size = end.wrapping_sub(start);
        self.__flush_tlb_range(true, self.context.cpumask, start, size, PMD_SIZE);
    }

    /// `flush_pud_tlb_range()`, of later kernels; in 6.12 a macro of `include/linux/pgtable.h`
    fn flush_pud_tlb_range(&mut self, start: u64, end: u64) {
        let size = end.wrapping_sub(start);
        self.__flush_tlb_range(true, self.context.cpumask, start, size, PUD_SIZE);
    }

    /// `arch_tlbbatch_add_pending()`: notifies unconditionally, and fences later.
    fn arch_tlbbatch_add_pending(&mut self, start: u64, end: u64) {
        self.notify(start, end);
    }

    /// `arch_flush_tlb_batched_pending()`
    fn arch_flush_tlb_batched_pending(&mut self) {
        self.flush_tlb_mm();
    }

    /// `arch_tlbbatch_flush()`: the mask is the batch's, and no mm is notified.
    fn arch_tlbbatch_flush(&mut self) {
        self.__flush_tlb_range(
            false,
            self.context.cpumask,
            0,
            FLUSH_TLB_MAX_SIZE,
            PAGE_SIZE,
        );
    }

    /// Notes a fence.
    fn fence(&mut self, fence: Fence) {
        self.effects.push(Effect::Fence(fence));
    }

    /// `mmu_notifier_arch_invalidate_secondary_tlbs()` (`include/linux/mmu_notifier.h`), where
    /// the patch is.
    fn notify(&mut self, start: u64, end: u64) {
        if self.profile.notifies_secondary {
            self.effects
                .push(Effect::Notify(Whose::Own, Range { start, end }));
        }
    }
}

/// The hart's bit of a cpumask.
fn hart_bit(hart: u32) -> u64 {
    1u64.checked_shl(hart).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE_HART: Context = Context {
        hart: 1,
        cpumask: 0b10,
        online: 0b11,
        asid: 7,
    };
    const TWO_HARTS: Context = Context {
        hart: 1,
        cpumask: 0b11,
        online: 0b11,
        asid: 7,
    };

    fn told(entry: Entry, context: Context) -> Vec<Effect> {
        replay(&Profile::STABLE, &Machine::default(), &entry, &context)
    }

    fn range(pages: u64) -> Entry {
        Entry::FlushTlbMmRange {
            start: 0x1000,
            end: 0x1000 + pages * PAGE_SIZE,
            page_size: PAGE_SIZE,
        }
    }

    fn notify(start: u64, end: u64) -> Effect {
        Effect::Notify(Whose::Own, Range { start, end })
    }

    #[test]
    fn a_range_on_one_hart_is_fenced_page_by_page_up_to_the_threshold() {
        let asid = Some(7);
        let pages = Fence::LocalPages {
            start: 0x1000,
            stride: PAGE_SIZE,
            pages: 64,
            asid,
        };
        assert_eq!(
            told(range(64), ONE_HART),
            [Effect::Fence(pages), notify(0x1000, 0x41000)]
        );
        assert_eq!(
            told(range(65), ONE_HART),
            [
                Effect::Fence(Fence::LocalAll { asid }),
                notify(0x1000, 0x42000)
            ]
        );
    }

    #[test]
    fn a_range_on_other_harts_goes_by_sbi_and_names_the_whole_mask() {
        let fence = Fence::Sbi {
            harts: Some(0b11),
            start: 0x1000,
            size: 0x2000,
            asid: Some(7),
        };
        assert_eq!(
            told(range(2), TWO_HARTS),
            [Effect::Fence(fence), notify(0x1000, 0x3000)]
        );
    }

    #[test]
    fn without_sbi_the_fence_goes_by_ipi_with_its_stride() {
        let machine = Machine {
            sbi_rfence: false,
            ..Machine::default()
        };
        let effects = replay(&Profile::STABLE, &machine, &range(2), &TWO_HARTS);
        let fence = Fence::Ipi {
            harts: Some(0b11),
            start: 0x1000,
            size: 0x2000,
            stride: PAGE_SIZE,
            asid: Some(7),
        };
        assert_eq!(effects, [Effect::Fence(fence), notify(0x1000, 0x3000)]);
    }

    #[test]
    fn an_empty_mask_returns_before_anyone_is_told() {
        let context = Context {
            cpumask: 0,
            ..ONE_HART
        };
        assert_eq!(told(range(2), context), []);
        assert_eq!(told(Entry::FlushTlbMm, context), []);
    }

    #[test]
    fn with_the_fix_an_empty_mask_is_told_and_not_fenced() {
        let context = Context {
            cpumask: 0,
            ..ONE_HART
        };
        let machine = Machine::default();
        let effects = replay(&Profile::FIXED, &machine, &range(2), &context);
        assert_eq!(effects, [notify(0x1000, 0x3000)]);
    }

    #[test]
    fn a_batched_page_is_told_even_with_an_empty_mask_and_fenced_later() {
        let context = Context {
            cpumask: 0,
            ..ONE_HART
        };
        let effects = told(Entry::ArchTlbbatchAddPending { uaddr: 0x1fff }, context);
        assert_eq!(effects, [notify(0x1000, 0x2000)]);
        let flush = told(Entry::ArchTlbbatchFlush, ONE_HART);
        assert_eq!(flush, [Effect::Fence(Fence::LocalAll { asid: None })]);
    }

    #[test]
    fn the_whole_mm_ends_at_ulong_max() {
        let all = Effect::Fence(Fence::LocalAll { asid: Some(7) });
        assert_eq!(
            told(Entry::FlushTlbMm, ONE_HART),
            [all, notify(0, u64::MAX)]
        );
        assert_eq!(
            told(Entry::ArchFlushTlbBatchedPending, ONE_HART),
            [all, notify(0, u64::MAX)]
        );
    }

    #[test]
    fn a_napot_huge_page_is_fenced_by_its_levels_size() {
        let entry = |size| Entry::FlushTlbRange {
            start: 0,
            end: 0x20000,
            huge_page_size: Some(size),
        };
        let stride = |svnapot| {
            let machine = Machine {
                svnapot,
                ..Machine::default()
            };
            match replay(&Profile::STABLE, &machine, &entry(0x10000), &ONE_HART)[0] {
                Effect::Fence(Fence::LocalPages { stride, pages, .. }) => (stride, pages),
                other => panic!("not a local fence: {other:?}"),
            }
        };
        assert_eq!(stride(true), (PAGE_SIZE, 32));
        assert_eq!(stride(false), (0x10000, 2));
    }

    #[test]
    fn kernel_ranges_tell_no_mm() {
        let effects = told(
            Entry::FlushTlbKernelRange {
                start: 0,
                end: 0x1000,
            },
            ONE_HART,
        );
        let fence = Fence::Sbi {
            harts: Some(0b11),
            start: 0,
            size: 0x1000,
            asid: None,
        };
        assert_eq!(effects, [Effect::Fence(fence)]);
    }

    #[test]
    fn before_the_patch_nobody_is_told() {
        let effects = replay(
            &Profile::PREPATCH,
            &Machine::default(),
            &range(1),
            &ONE_HART,
        );
        assert!(matches!(effects[..], [Effect::Fence(_)]));
    }
}
