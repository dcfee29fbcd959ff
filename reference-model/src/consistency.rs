// SPDX-License-Identifier: GPL-2.0-only
//! Whether the model's own books are right after any steps: what the kernel's
//! `VM_BUG_ON_FOLIO()` and `check_mm()` look for, tried with random programs of several
//! actors.

use crate::api::{
    Actor, ActorKind, Effect, Machine, MemoryFile, Op, PAGE_SIZE, Program, Range, ShmemAllowed,
    Step, Thp, address,
};
use crate::errno;
use crate::mm::gup::references;
use crate::mm::vma::do_vmi_munmap;
use crate::mm_types::{CacheEntry, FolioId, Pte};
use crate::predict::{boot, step};
use crate::profile::Profile;
use crate::state::Kernel;
use operations::{On, Plain};
use proptest::prelude::*;
use std::collections::BTreeMap;

const PAGES: u64 = 1100;

/// How often each folio is referred to, and mapped, by what there is.
#[derive(Default)]
struct Counts {
    references: BTreeMap<FolioId, u32>,
    mappings: BTreeMap<FolioId, u32>,
    slots: BTreeMap<u32, u32>,
}

impl Counts {
    fn map(&mut self, id: FolioId) {
        *self.mappings.entry(id).or_default() += 1;
        *self.references.entry(id).or_default() += 1;
    }

    fn of(k: &Kernel<'_>) -> Counts {
        let mut counts = Counts::default();
        for mm in 0..k.mms.len() {
            let pgd = &k.mm(mm).pgd;
            let zero = k.huge_zero_folio;
            for pud in pgd.huge_puds.values() {
                counts.map(pud.folio);
            }
            for pmd in pgd.huge_pmds.values().filter(|pmd| zero != Some(pmd.folio)) {
                counts.map(pmd.folio);
            }
            for pte in pgd.pte_tables.values().flat_map(|table| table.iter()) {
                match *pte {
                    Pte::Present {
                        folio: Some(id), ..
                    } if !k.folios[id].special => counts.map(id),
                    Pte::Swap { entry, .. } => *counts.slots.entry(entry).or_default() += 1,
                    _ => {}
                }
            }
        }
        for batches in &k.fbatches {
            let all = [
                &batches.lru_add,
                &batches.lru_deactivate,
                &batches.lru_lazyfree,
                &batches.lru_activate,
            ];
            for id in all.into_iter().flatten() {
                *counts.references.entry(*id).or_default() += 1;
            }
        }
        for (id, _) in k.fbatches.iter().flat_map(|batches| &batches.mlock) {
            *counts.references.entry(*id).or_default() += 1;
        }
        for entry in k.files.iter().flat_map(|file| file.cache.values()) {
            if let CacheEntry::Folio(id) = entry {
                *counts.references.entry(*id).or_default() += 1;
            }
        }
        for held in &k.held {
            let held_by = references(&k.folios[held.folio], held.pin);
            *counts.references.entry(held.folio).or_default() += held_by;
        }
        for id in k.swap.slots.values().filter_map(|slot| slot.cache) {
            *counts.references.entry(id).or_default() += 1;
        }
        counts
    }
}

fn check(k: &Kernel<'_>) -> Result<(), String> {
    let counts = Counts::of(k);
    for (&id, &references) in &counts.references {
        let folio = &k.folios[id];
        let mappings = counts.mappings.get(&id).copied().unwrap_or_default();
        if folio.refcount != references || folio.mapcount != mappings {
            return Err(format!(
                "folio {id}: {references} references, {mappings} mappings, but {folio:?}"
            ));
        }
    }
    for (&entry, &references) in &counts.slots {
        let slot = k.swap.slots.get(&entry);
        if slot.is_none_or(|slot| slot.count != references) {
            return Err(format!("slot {entry}: {references} entries, but {slot:?}"));
        }
    }
    for lruvec in [&k.lruvec, &k.other_lruvec] {
        for (lru, list) in lruvec.lists.iter().enumerate() {
            let (mut at, mut pages) = (list.head, 0);
            while let Some(id) = at {
                if !k.folios[id].lru {
                    return Err(format!("folio {id} on list {lru}: {:?}", k.folios[id]));
                }
                pages += k.folios[id].nr_pages();
                at = k.folios[id].next;
            }
            if pages != list.len {
                return Err(format!("list {lru} has {pages} pages, not {}", list.len));
            }
        }
    }
    tables_are_disjoint(k)
}

/// A PMD maps a huge page or has a PTE table.
fn tables_are_disjoint(k: &Kernel<'_>) -> Result<(), String> {
    for mm in 0..k.mms.len() {
        let pgd = &k.mm(mm).pgd;
        if let Some(pmd) = pgd
            .huge_pmds
            .keys()
            .find(|pmd| pgd.pte_tables.contains_key(pmd))
        {
            return Err(format!("mm {mm}: PMD {pmd:#x} is both"));
        }
    }
    Ok(())
}

fn area() -> impl Strategy<Value = (u64, u64)> {
    let whole = prop_oneof![Just((0, 512)), Just((512, 512)), Just((0, PAGES))];
    let part = (0..PAGES, 1..200u64).prop_map(|(at, pages)| (at, pages.min(PAGES - at)));
    let area = prop_oneof![whole, part];
    area
}

/// Where an area moves, if it does: where huge pages can go as they are, or anywhere.
fn place() -> impl Strategy<Value = Option<u64>> {
    let to = prop_oneof![Just(0), Just(512), Just(2048), 0..PAGES, 2048..2048 + PAGES];
    prop::option::of(to)
}

fn op() -> impl Strategy<Value = Op> {
    const PRIVATE: i32 = 0x32;
    const SHARED: i32 = 0x31;
    let prot = prop_oneof![Just(0), Just(1), Just(3)];
    let advice = prop_oneof![
        Just(4),
        Just(8),
        Just(9),
        Just(8),
        Just(20),
        Just(21),
        Just(3),
        Just(16),
        Just(22),
        Just(23),
        Just(25),
        Just(25),
        Just(25),
        Just(102),
    ];
    prop_oneof![
        2 => area().prop_map(|(at, pages)| Op::Mmap { at, pages, prot: 3, flags: PRIVATE, file: None, offset: 0 }),
        1 => (0..PAGES).prop_map(|at| Op::Mmap {
            at, pages: 16, prot: 3, flags: SHARED, file: None, offset: 0,
        }),
        1 => Just(Op::Mmap { at: 0, pages: PAGES, prot: 3, flags: SHARED, file: None, offset: 0 }),
        2 => (area(), any::<bool>()).prop_map(|((at, pages), shared)| Op::Mmap {
            at, pages, prot: 3, flags: if shared { 0x11 } else { 0x12 }, file: Some(0), offset: at,
        }),
        1 => area().prop_map(|(offset, pages)| Op::PunchHole { file: 0, offset, pages }),
        1 => (0..PAGES).prop_map(|pages| Op::Ftruncate { file: 0, pages }),
        1 => area().prop_map(|(at, pages)| Op::Munmap { at, pages }),
        2 => (area(), prot).prop_map(|((at, pages), prot)| Op::Mprotect { at, pages, prot }),
        6 => (area(), advice).prop_map(|((at, pages), advice)| Op::Madvise { at, pages, advice }),
        4 => (area(), 1..4u64, any::<bool>())
            .prop_map(|((at, pages), every, write)| Op::Touch { at, pages, every, write, value: None }),
        3 => (area(), place(), 0..3u64, any::<bool>()).prop_map(|((at, pages), to, more, keep)| Op::Mremap {
            at, pages, to, new_pages: pages + more * 7, keep: keep && more == 0,
        }),
        2 => (1..700u64).prop_map(|pages| Op::Reclaim { pages }),
        2 => (area(), 0..3usize).prop_map(|((at, pages), what)| Op::Plain {
            what: [Plain::Mlock, Plain::Mlock2, Plain::Munlock][what],
            on: On { at, pages, ..On::default() },
        }),
        1 => Just(Op::Fork { child: 2, mm: 2 }),
        1 => Just(Op::Exit),
    ]
}

/// Two huge pages, of which some pages hold something.
fn begin_with_huge_pages(every: u64) -> Vec<Step> {
    const COLLAPSE: i32 = 25;
    let (at, pages) = (0, PAGES);
    let ops = [
        Op::Mmap {
            at,
            pages,
            prot: 3,
            flags: 0x32,
            file: None,
            offset: 0,
        },
        Op::Touch {
            at,
            pages,
            every,
            write: true,
            value: None,
        },
        Op::Madvise {
            at,
            pages,
            advice: COLLAPSE,
        },
    ];
    ops.map(|op| Step { by: 0, op }).into()
}

/// A subject, another process, and a child; who does not live does nothing.
fn program() -> impl Strategy<Value = Program> {
    let step = (0..3usize, op()).prop_map(|(by, op)| Step { by, op });
    let steps = (1..4u64, prop::collection::vec(step, 1..24), 0..3usize);
    steps.prop_map(|(every, more, thp)| {
        let mut steps = begin_with_huge_pages(every);
        steps.extend(more);
        let actor = |hart, kind| Actor { hart, kind };
        let actors = vec![
            actor(1, ActorKind::Process { mm: 0 }),
            actor(0, ActorKind::Process { mm: 1 }),
            actor(0, ActorKind::Fork),
        ];
        let files = vec![MemoryFile {
            pages: PAGES,
            filled: every == 2,
            ..MemoryFile::default()
        }];
        let always = ShmemAllowed::Always;
        let thp = match thp {
            0 => Thp::default(),
            1 => Thp {
                shmem: always,
                shmem_sizes: vec![(9, ShmemAllowed::Inherit)],
                ..Thp::default()
            },
            _ => Thp {
                shmem_sizes: vec![(4, always), (6, always)],
                ..Thp::default()
            },
        };
        let mut alive = [true, true, false];
        let may = |step: &Step| match step.op {
            Op::Fork { .. } if alive[2] || step.by != 0 => false,
            Op::Fork { .. } => {
                alive[2] = true;
                true
            }
            Op::Exit if step.by == 0 => false,
            Op::Exit => std::mem::replace(&mut alive[step.by], false),
            _ => alive[step.by],
        };
        let mut may = may;
        let steps = steps.into_iter().filter(|step| may(step)).collect();
        Program {
            files,
            actors,
            steps,
            thp,
            max_map_count: None,
            groups: Vec::new(),
        }
    })
}

/// No step says so: what a scenario names are whole pages.
#[test]
fn an_unaligned_address_is_refused() {
    let machine = Machine::default();
    let program = Program::of_subject(Vec::new(), [Op::Run]);
    let mut k = boot(&Profile::STABLE, &machine, &program);
    let refused = do_vmi_munmap(&mut k, address(0) + 1, PAGE_SIZE);
    assert_eq!(refused, Err(errno::EINVAL));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_books_are_right_and_what_is_lost_is_told(program in program(), next in any::<bool>(), svadu in any::<bool>()) {
        let profile = if next { &Profile::NEXT } else { &Profile::STABLE };
        let machine = Machine { svadu, ..Machine::default() };
        let mut k = boot(profile, &machine, &program);
        for (number, one) in program.steps.iter().enumerate() {
            let prediction = step(&mut k, one);
            if k.unpredicted.is_some() {
                break;
            }
            if let Err(what) = check(&k) {
                prop_assert!(false, "after step {number}, {one:x?}: {what}");
            }
            for (mm, lost) in &prediction.lost {
                let effects = prediction.calls.iter().filter(|call| call.mm == Some(*mm));
                let told: Vec<Range> = effects
                    .flat_map(|call| &call.effects)
                    .filter_map(|effect| match effect {
                        Effect::Notify(_, range) => Some(*range),
                        _ => None,
                    })
                    .collect();
                let covered = |addr: u64| told.iter().any(|told| told.start <= addr && addr < told.end);
                let all = (lost.start..lost.end).step_by(PAGE_SIZE as usize).all(covered);
                prop_assert!(all, "step {number}, {one:x?}: {lost:x?} of mm {mm} not in {told:x?}");
            }
        }
    }
}
