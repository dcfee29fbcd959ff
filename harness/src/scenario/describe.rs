// SPDX-License-Identifier: GPL-2.0-only
//! A step in one line: `munmap at 4 pages 2`.

use super::checked::Scenario;
use super::names::{self, Table};
use libc::c_int;
use operations::{
    Extent, Field, HugePages, MAP_DROPPABLE, MPOL_MF_MOVE, MPOL_MF_MOVE_ALL, MPOL_MF_STRICT, On,
    Op, Plain, Step,
};
use std::fmt::Write;

/// The step as texts head it.
pub fn describe(scenario: &Scenario, step: &Step) -> String {
    let what = describe_op(scenario, &step.op);
    match step.by {
        0 => what,
        by => format!("{what} by {}", scenario.actors[by]),
    }
}

/// Its kind, as costs are added up: the operation, and what decides what it does.
pub fn operation(scenario: &Scenario, op: &Op) -> String {
    let advised =
        |name: &str, advice: c_int| format!("{name} {}", name_or_number(names::ADVICE, advice));
    match op {
        Op::Madvise { advice, .. } => advised("madvise", *advice),
        Op::ProcessMadvise { advice, .. } => advised("process_madvise", *advice),
        Op::Touch { write: true, .. } => "touch write".to_owned(),
        Op::Touch { write: false, .. } => "touch read".to_owned(),
        Op::Vm { write: true, .. } => "vm write".to_owned(),
        Op::Vm { write: false, .. } => "vm read".to_owned(),
        Op::Device { write: true, .. } => "device write".to_owned(),
        Op::Device { write: false, .. } => "device read".to_owned(),
        op => {
            let described = describe_op(scenario, op);
            described.split(' ').next().unwrap_or_default().to_owned()
        }
    }
}

fn describe_op(scenario: &Scenario, op: &Op) -> String {
    let actor = |place: usize| scenario.actors[place].as_str();
    let file_named = |place: usize| scenario.files[place].as_str();
    match op {
        Op::Mmap {
            at,
            pages,
            prot,
            flags,
            file,
            offset,
        } => {
            let mut text = format!("mmap at {at} pages {pages}");
            if *prot != names::DEFAULT_PROT {
                let _ = write!(text, " {}", name_or_number(names::PROTS, *prot));
            }
            describe_mapping(
                &mut text,
                *flags,
                file.map(|place| scenario.files[place].as_str()),
                *offset,
            );
            text
        }
        Op::Munmap { at, pages } => format!("munmap at {at} pages {pages}"),
        Op::Mprotect { at, pages, prot } => {
            format!(
                "mprotect at {at} pages {pages} {}",
                name_or_number(names::PROTS, *prot)
            )
        }
        Op::Madvise { at, pages, advice } => {
            format!(
                "madvise at {at} pages {pages} {}",
                name_or_number(names::ADVICE, *advice)
            )
        }
        Op::Touch {
            at,
            pages,
            every,
            write,
            value,
        } => {
            let every = if *every == 1 {
                String::new()
            } else {
                format!(" every {every}")
            };
            let access = access(*write, *value);
            format!("touch at {at} pages {pages}{every} {access}")
        }
        Op::Device {
            mm,
            at,
            pages,
            write,
            value,
        } => {
            let whose = match scenario.owner(*mm) {
                Some(owner) => format!(" of {owner}"),
                None => String::new(),
            };
            let access = access(*write, *value);
            format!("device{whose} at {at} pages {pages} {access}")
        }
        Op::Vm {
            at,
            pages,
            write,
            value,
        } => {
            let access = access(*write, *value);
            format!("vm at {at} pages {pages} {access}")
        }
        Op::Reclaim { pages } => format!("reclaim pages {pages}"),
        Op::Fork { child, .. } => format!("fork {}", actor(*child)),
        Op::Exit => "exit".to_owned(),
        Op::Exec { .. } => "exec".to_owned(),
        Op::Run => "run".to_owned(),
        Op::Ksm {
            zero_pages,
            unmerge,
        } => {
            let told = [(*zero_pages, " zero_pages"), (*unmerge, " unmerge")];
            let told = told.iter().filter(|word| word.0).map(|word| word.1);
            std::iter::once("ksm").chain(told).collect()
        }
        Op::MovePages {
            of,
            at,
            pages,
            node,
            all,
        } => {
            let all = if *all { " all" } else { "" };
            let of = of_other(scenario, *of);
            format!("move_pages{of} at {at} pages {pages} node {node}{all}")
        }
        Op::Mbind {
            at,
            pages,
            policy,
            nodes,
            flags,
        } => {
            let mut text = format!(
                "mbind at {at} pages {pages} {}",
                name_or_number(names::POLICIES, *policy)
            );
            if *nodes != 0 {
                let _ = write!(text, " node {}", nodes.trailing_zeros());
            }
            let told = [
                (MPOL_MF_MOVE, " move"),
                (MPOL_MF_MOVE_ALL, " all"),
                (MPOL_MF_STRICT, " strict"),
            ];
            text.extend(
                told.iter()
                    .filter(|flag| flags & flag.0 != 0)
                    .map(|it| it.1),
            );
            text
        }
        Op::MigratePages { of, from, to } => {
            format!(
                "migrate_pages{} from {from} to {to}",
                of_other(scenario, *of)
            )
        }
        Op::Compact => "compact".to_owned(),
        Op::Mremap {
            at,
            pages,
            to,
            new_pages,
            keep,
        } => {
            let mut text = format!("mremap at {at} pages {pages}");
            if let Some(to) = to {
                let _ = write!(text, " to {to}");
            }
            if new_pages != pages {
                let _ = write!(text, " new_pages {new_pages}");
            }
            if *keep {
                text.push_str(" keep");
            }
            text
        }
        Op::Plain { what, on } => describe_plain(*what, on, &actor, &file_named),
        Op::Ftruncate { file, pages } => {
            format!("ftruncate file {} pages {pages}", scenario.files[*file])
        }
        Op::PunchHole {
            file,
            offset,
            pages,
        } => {
            let file = &scenario.files[*file];
            format!("punch_hole file {file} offset {offset} pages {pages}")
        }
        Op::UffdRegister { at, pages, mode } => {
            let mode = names::name(names::UFFD_MODES, *mode).unwrap_or("all");
            format!("uffd_register at {at} pages {pages} {mode}")
        }
        Op::UffdUnregister { at, pages } => format!("uffd_unregister at {at} pages {pages}"),
        Op::UffdCopy {
            at,
            pages,
            value,
            hugetlb,
        } => {
            let value = value.map_or_else(String::new, |value| format!(" value {value}"));
            let hugetlb = hugetlb.map_or_else(String::new, size_of_pages);
            format!("uffd_copy at {at} pages {pages}{value}{hugetlb}")
        }
        Op::UffdZeropage { at, pages } => format!("uffd_zeropage at {at} pages {pages}"),
        Op::UffdContinue { at, pages } => format!("uffd_continue at {at} pages {pages}"),
        Op::UffdMove {
            at,
            pages,
            to,
            holes,
        } => {
            let holes = if *holes { " holes" } else { "" };
            format!("uffd_move at {at} pages {pages} to {to}{holes}")
        }
        Op::UffdWriteprotect { at, pages, protect } => {
            let what = if *protect { "protect" } else { "allow" };
            format!("uffd_writeprotect at {at} pages {pages} {what}")
        }
        Op::Msync { at, pages, flags } => {
            let mode = name_or_number(names::MSYNC, *flags);
            format!("msync at {at} pages {pages} {mode}")
        }
        Op::Fsync { file } => format!("fsync file {}", scenario.files[*file]),
        Op::SyncFileRange {
            file,
            offset,
            pages,
        } => describe_part("sync_file_range", scenario, (*file, *offset, *pages)),
        Op::Fallocate {
            file,
            mode,
            offset,
            pages,
        } => {
            let text = describe_part("fallocate", scenario, (*file, *offset, *pages));
            format!("{text} {}", name_or_number(names::FALLOCATE, *mode))
        }
        Op::Pwrite {
            file,
            offset,
            pages,
            value,
            direct,
        } => {
            let mut text = describe_part("pwrite", scenario, (*file, *offset, *pages));
            if let Some(value) = value {
                let _ = write!(text, " value {value}");
            }
            if *direct {
                text.push_str(" direct");
            }
            text
        }
        Op::Pread {
            file,
            offset,
            pages,
        } => describe_part("pread", scenario, (*file, *offset, *pages)),
        Op::DropCaches { what } => {
            let what = name_or_number(names::CACHES, c_int::from(*what));
            format!("drop_caches {what}")
        }
        Op::ProcessMadvise { of, ranges, advice } => {
            let advice = name_or_number(names::ADVICE, *advice);
            let mut text = format!("process_madvise of {}", actor(*of));
            for (number, Extent { at, pages }) in ranges.iter().enumerate() {
                let and = if number > 0 { " and" } else { "" };
                let _ = write!(text, "{and} at {at} pages {pages}");
            }
            format!("{text} {advice}")
        }
    }
}

fn describe_part(name: &str, scenario: &Scenario, part: (usize, u64, u64)) -> String {
    let (file, offset, pages) = part;
    let file = &scenario.files[file];
    format!("{name} file {file} offset {offset} pages {pages}")
}

fn describe_plain<'a>(
    what: Plain,
    on: &On,
    actor: &dyn Fn(usize) -> &'a str,
    file: &dyn Fn(usize) -> &'a str,
) -> String {
    let form = what.form();
    let mut text = form.name.to_owned();
    for field in form.needs.iter().chain(form.may) {
        let said = match field {
            Field::Of => on.of.map(|of| actor(of).to_owned()),
            Field::At => Some(on.at.to_string()),
            Field::Pages => Some(on.pages.to_string()),
            Field::NewPages => Some(on.new_pages.to_string()),
            Field::Offset => Some(on.offset.to_string()),
            Field::Value => on.value.map(|value| value.to_string()),
            Field::Hart => Some(on.hart.to_string()),
            Field::File => Some(file(on.file).to_owned()),
        };
        if let Some(said) = said {
            let _ = write!(text, " {} {said}", field.name());
        }
    }
    text
}

/// Whose pages, where that is not the subject's.
fn of_other(scenario: &Scenario, of: usize) -> String {
    match of {
        0 => String::new(),
        of => format!(" of {}", scenario.actors[of]),
    }
}

fn access(write: bool, value: Option<u8>) -> String {
    let name = if write { "write" } else { "read" };
    value.map_or_else(|| name.to_owned(), |value| format!("{name} {value}"))
}

fn describe_mapping(text: &mut String, flags: c_int, file: Option<&str>, offset: u64) {
    if let Some(file) = file {
        let _ = write!(text, " file {file}");
        if offset != 0 {
            let _ = write!(text, " offset {offset}");
        }
    }
    if flags & libc::MAP_TYPE == MAP_DROPPABLE {
        text.push_str(" droppable");
    }
    let told = [
        (libc::MAP_SHARED, "shared"),
        (libc::MAP_POPULATE, "populate"),
        (libc::MAP_FIXED_NOREPLACE, "noreplace"),
        (libc::MAP_NORESERVE, "noreserve"),
        (libc::MAP_LOCKED, "locked"),
        (libc::MAP_GROWSDOWN, "growsdown"),
    ];
    for (_, name) in told.iter().filter(|flag| flags & flag.0 != 0) {
        let _ = write!(text, " {name}");
    }
    if let Some(size) = HugePages::of_flags(flags) {
        text.push_str(&size_of_pages(size));
    }
}

/// Pages of hugetlb; of which size, where that is not the usual one.
fn size_of_pages(size: HugePages) -> String {
    match size {
        HugePages::Mib2 => " hugetlb".to_owned(),
        _ => {
            let name = names::name(names::HUGE_PAGES, size).unwrap_or_default();
            format!(" hugetlb {name}")
        }
    }
}

fn name_or_number(table: Table<c_int>, number: c_int) -> String {
    names::name(table, number).map_or_else(|| number.to_string(), str::to_owned)
}
