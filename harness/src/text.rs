// SPDX-License-Identifier: GPL-2.0-only
//! The one textual form of either side, in pages of the arena.
//!
//! ```text
//! 3. munmap at 4 pages 2: ok
//!    flush_tlb_mm_range [4,6) stride 4K
//!      notified [4,6)
//! ```
//!
//! Where there are several mms, a call is headed by whose it is about; and a
//! notification by whose that is about, where it is not the call's. Harts are
//! the scenario's: the subject's is 0.
//! Local fences are left out: no probe sees them, so they cannot be compared.
//! Addresses that are no page of the arena are told in hexadecimal bytes.

use crate::device::{Foreseen, Held, Reached};
use crate::fold::fold;
use crate::scenario::{Scenario, describe::describe};
use crate::steps::{Step, StepCall};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use operations::{ARENA_BASE, ARENA_PAGES, PAGE_SIZE};
use reference_model::{Effect, Entry, Fence, MmId, Range, StepResult, Unpredicted, Whose};
use secondary_mmu::{Kept, Kind};
use std::fmt::Write;

/// Says what each step came to and did, a line each; rounds of a `repeat` folded.
pub fn steps(scenario: &Scenario, steps: &[Step]) -> String {
    let mut text = String::new();
    let mut add = |lines: Vec<String>| {
        for line in lines {
            text.push_str(&line);
            text.push('\n');
        }
    };
    let one = |index: usize| self::step(scenario, index, &steps[index]);
    let mut index = 0;
    for rounds in &scenario.rounds {
        (index..rounds.first.min(steps.len())).for_each(|index| add(one(index)));
        let there = steps.len().saturating_sub(rounds.first) / rounds.steps.max(1);
        let of_round = |round: usize| {
            let first = rounds.first + round * rounds.steps;
            (first..first + rounds.steps).flat_map(one).collect()
        };
        let told: Vec<Vec<String>> = (0..there.min(rounds.times)).map(of_round).collect();
        index = rounds.first.min(steps.len()) + told.len() * rounds.steps;
        add(fold(&told));
    }
    (index..steps.len()).for_each(|index| add(one(index)));
    text
}

/// The lines of one step: its result, and its calls.
pub fn step(scenario: &Scenario, index: usize, step: &Step) -> Vec<String> {
    let calls = step.calls.iter().flat_map(|call| lines(scenario, call));
    std::iter::once(head(scenario, index, step.result))
        .chain(calls)
        .collect()
}

/// Says from where on nothing is predicted, and why not.
pub fn unpredicted(unpredicted: Unpredicted) -> String {
    let Unpredicted { step, why } = unpredicted;
    format!("not predicted from step {} on: {why}", step + 1)
}

/// Says how a step begins, before its result.
pub fn title(scenario: &Scenario, index: usize) -> String {
    let what = scenario
        .program
        .steps
        .get(index)
        .map(|step| describe(scenario, step));
    format!(
        "{}. {}",
        index + 1,
        what.unwrap_or_else(|| "(no such step)".to_owned())
    )
}

fn head(scenario: &Scenario, index: usize, result: StepResult) -> String {
    format!("{}: {}", title(scenario, index), self::result(result))
}

/// `child: ` where a scenario has several mms.
pub fn whose(scenario: &Scenario, mm: Option<usize>) -> String {
    let owner = mm.and_then(|mm| scenario.owner(mm));
    owner.map(|owner| format!("{owner}: ")).unwrap_or_default()
}

/// What stands for a call where a notification followed none.
pub const NO_CALL: &str = "(no call into tlbflush.c)";

/// What stands for an mm that is none of the scenario's.
pub const ANOTHER_MM: &str = "another mm";

/// A call, headed by whose it is about.
pub fn call(scenario: &Scenario, mm: Option<MmId>, entry: Option<Entry>) -> String {
    let call = entry.map_or_else(|| NO_CALL.to_owned(), self::entry);
    match mm {
        None if entry != Some(Entry::ArchTlbbatchFlush) => format!("{ANOTHER_MM}: {call}"),
        mm => format!("{}{call}", whose(scenario, mm)),
    }
}

/// What an mm is called where it is not the one that is expected.
pub fn mm_name(scenario: &Scenario, mm: Option<MmId>) -> String {
    let name = mm.and_then(|mm| scenario.mms.get(mm));
    name.map_or(ANOTHER_MM, String::as_str).to_owned()
}

fn lines(scenario: &Scenario, call: &StepCall) -> Vec<String> {
    let name = |mm| mm_name(scenario, mm);
    let effects = call.effects.iter();
    let effects = effects.map(|effect| format!("     {}", self::effect(effect, &name)));
    std::iter::once(format!("   {}", self::call(scenario, call.mm, call.entry)))
        .chain(effects)
        .collect()
}

/// What stands for the result of a step whose actor never came to life.
pub const UNBORN: &str = "not done, for its actor was never born";

/// What is before the number of pages that were done of a vector.
pub const PART: &str = "ok for pages";

/// `ok`, `EINVAL`, `SIGSEGV at page 5`.
pub fn result(result: StepResult) -> String {
    match result {
        StepResult::Ok => "ok".to_owned(),
        StepResult::Errno(errno) => match Errno::from_raw(errno) {
            Errno::UnknownErrno => format!("errno {errno}"),
            known => format!("{known:?}"),
        },
        StepResult::Signal { signal, page } => match Signal::try_from(signal) {
            Ok(known) => format!("{known} at page {page}"),
            Err(_) => format!("signal {signal} at page {page}"),
        },
        StepResult::Unborn => UNBORN.to_owned(),
        StepResult::Saw { value, page } => format!("saw {value} at page {page}"),
        StepResult::Fault { cause, page } => format!("fault {cause} at page {page}"),
        StepResult::Lost { page } => format!("lost at page {page}"),
        StepResult::Astray { page } => format!("astray at page {page}"),
        StepResult::Refused { errno, page } => {
            format!("{} at page {page}", self::result(StepResult::Errno(errno)))
        }
        StepResult::Left { pages } => format!("{pages} pages left"),
        StepResult::Part { pages } => format!("{PART} {pages}"),
    }
}

/// A call with its arguments.
pub fn entry(entry: Entry) -> String {
    match entry {
        Entry::FlushTlbAll => "flush_tlb_all".to_owned(),
        Entry::FlushTlbMm => "flush_tlb_mm".to_owned(),
        Entry::FlushTlbMmRange {
            start,
            end,
            page_size,
        } => {
            format!(
                "flush_tlb_mm_range {} stride {}",
                range(Range { start, end }),
                size(page_size)
            )
        }
        Entry::FlushTlbPage { addr } => format!("flush_tlb_page {}", place(addr)),
        Entry::FlushTlbRange {
            start,
            end,
            huge_page_size: None,
        } => {
            format!("flush_tlb_range {}", range(Range { start, end }))
        }
        Entry::FlushTlbRange {
            start,
            end,
            huge_page_size: Some(huge),
        } => {
            format!(
                "flush_tlb_range {} huge {}",
                range(Range { start, end }),
                size(huge)
            )
        }
        Entry::FlushPmdTlbRange { start, end } => {
            format!("flush_pmd_tlb_range {}", range(Range { start, end }))
        }
        Entry::FlushTlbKernelRange { start, end } => {
            format!("flush_tlb_kernel_range {}", range(Range { start, end }))
        }
        Entry::ArchTlbbatchAddPending { uaddr } => {
            format!("arch_tlbbatch_add_pending {}", place(uaddr))
        }
        Entry::ArchTlbbatchAddPendingRange { start, end } => {
            format!("arch_tlbbatch_add_pending {}", range(Range { start, end }))
        }
        Entry::FlushPudTlbRange { start, end } => {
            format!("flush_pud_tlb_range {}", range(Range { start, end }))
        }
        Entry::ArchTlbbatchFlush => "arch_tlbbatch_flush".to_owned(),
        Entry::ArchFlushTlbBatchedPending => "arch_flush_tlb_batched_pending".to_owned(),
        Entry::Release => "release".to_owned(),
    }
}

/// A notification or a fence. `name` says what an mm is called that is not the call's.
pub fn effect(effect: &Effect, name: &dyn Fn(Option<MmId>) -> String) -> String {
    match effect {
        Effect::Notify(Whose::Own, notified) => format!("notified {}", range(*notified)),
        Effect::Notify(Whose::Other(mm), notified) => {
            format!("{}: notified {}", name(*mm), range(*notified))
        }
        Effect::Fence(fence) => self::fence(fence),
    }
}

fn fence(fence: &Fence) -> String {
    let whose = |asid: &Option<u64>| if asid.is_some() { "" } else { " all asids" };
    match fence {
        Fence::LocalAll { asid } => format!("local fence whole mm{}", whose(asid)),
        Fence::LocalPages {
            start,
            stride,
            pages,
            asid,
        } => {
            format!(
                "local fence from {}, {pages} times {}{}",
                place(*start),
                size(*stride),
                whose(asid)
            )
        }
        Fence::Sbi {
            harts,
            start,
            size,
            asid,
        } => {
            format!(
                "sbi fence {} {}{}",
                targets(*harts),
                sized(*start, *size),
                whose(asid)
            )
        }
        Fence::Ipi {
            harts,
            start,
            size,
            stride,
            asid,
        } => {
            let stride = self::size(*stride);
            format!(
                "ipi fence {} {} stride {stride}{}",
                targets(*harts),
                sized(*start, *size),
                whose(asid)
            )
        }
    }
}

/// What a device holds after each step by the model, and what of it is wrong.
pub fn foreseen(scenario: &Scenario, foreseen: &Foreseen) -> String {
    let mut text = "a device that caches all it may:\n".to_owned();
    for (step, held) in foreseen.held.iter().enumerate() {
        let what: Vec<String> = held.iter().map(|held| self::held(scenario, held)).collect();
        let what = match what.is_empty() {
            true => "nothing".to_owned(),
            false => what.join(", "),
        };
        let _ = writeln!(text, "  after {}: {what}", title(scenario, step));
        for one in foreseen.reached.iter().filter(|one| one.step == step) {
            let _ = writeln!(text, "    {}", reached(scenario, one));
        }
    }
    text
}

fn held(scenario: &Scenario, held: &Held) -> String {
    let whose = whose(scenario, Some(held.mm));
    let dirty = if held.dirty { " dirty" } else { "" };
    let of = match held.of {
        1 => String::new(),
        of => format!(" by leaves of {of} pages"),
    };
    let (pages, rights) = (range(held.range), held.rights);
    format!("{whose}{pages} {rights}{dirty}{of}")
}

/// In which way what is kept of pages is wrong.
pub fn wrong((kind, kept): (Kind, Kept), pages: &str, frame: u64) -> String {
    let what = match (kind, kept) {
        (Kind::Freed, _) => {
            format!("pages {pages} are mapped to frames from {frame:#x}, which were given back")
        }
        (Kind::Walk, _) => {
            format!("the table of pages {pages}, frame {frame:#x}, is referred to, which is gone")
        }
        (Kind::Stale, _) => format!(
            "pages {pages} are mapped to frames from {frame:#x}, to which the page tables do not map them any more"
        ),
        (Kind::Right, Kept::Leaf { rights, .. }) => {
            format!("pages {pages} have rights {rights}, of which the page tables took some back")
        }
        (Kind::Narrow, Kept::Leaf { rights, .. }) => {
            format!("pages {pages} have rights {rights} alone, of which the page tables have more")
        }
        (Kind::Right | Kind::Narrow, Kept::Table { .. }) => format!("pages {pages}"),
        (Kind::Dirty, _) => format!("pages {pages} are dirty, which the page tables have clean"),
    };
    match kept {
        Kept::Leaf { of, .. } if of > 1 => format!("{what}, of a leaf of {of} pages"),
        Kept::Leaf { .. } | Kept::Table { .. } => what,
    }
}

/// What a device could reach that it must not, in a line.
pub fn reached(scenario: &Scenario, reached: &Reached) -> String {
    let Reached { kind, kept, .. } = *reached;
    let near = match reached.near {
        Some(near) => {
            let notified = range(Range {
                start: near.start,
                end: near.end,
            });
            format!(
                "the last notification near was {notified} in step {}",
                near.step + 1
            )
        }
        None => "no notification came near".to_owned(),
    };
    format!(
        "{}{}: {}: kept since step {}, wrong in step {}; {near}",
        whose(scenario, Some(reached.mm)),
        kind.name(),
        wrong((kind, kept), &range(reached.range), reached.frame),
        reached.since + 1,
        title(scenario, reached.step),
    )
}

fn targets(harts: Option<u64>) -> String {
    let Some(mask) = harts else {
        return "all harts".to_owned();
    };
    let set = (0..64).filter(|hart| mask & 1 << hart != 0);
    let set: Vec<String> = set.map(|hart: u32| hart.to_string()).collect();
    format!("harts {}", set.join(","))
}

fn sized(start: u64, size: u64) -> String {
    range(Range {
        start,
        end: start.wrapping_add(size),
    })
}

/// What stands for all of an address space.
pub const WHOLE_MM: &str = "whole mm";

/// `[4,6)`, or `whole mm`.
pub fn range(range: Range) -> String {
    match range {
        Range {
            start: 0,
            end: u64::MAX,
        } => WHOLE_MM.to_owned(),
        Range { start, end } => format!("[{},{})", place(start), place(end)),
    }
}

/// The number of a page of the arena, or a byte's address.
pub fn place(addr: u64) -> String {
    match addr.checked_sub(ARENA_BASE) {
        Some(offset) if offset.is_multiple_of(PAGE_SIZE) && offset <= ARENA_PAGES * PAGE_SIZE => {
            (offset / PAGE_SIZE).to_string()
        }
        _ => format!("{addr:#x}"),
    }
}

/// Units of sizes, largest first.
pub(crate) const UNITS: [(u64, &str); 3] = [(1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];

fn size(bytes: u64) -> String {
    let unit = UNITS
        .iter()
        .find(|unit| bytes != 0 && bytes.is_multiple_of(unit.0));
    unit.map_or_else(
        || bytes.to_string(),
        |(unit, name)| format!("{}{name}", bytes / unit),
    )
}
