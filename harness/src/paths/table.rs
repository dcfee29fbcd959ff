// SPDX-License-Identifier: GPL-2.0-only
//! The table: each way with the scenarios that were seen to come by it.

use super::{ENTRIES, Reasons};
use crate::callers::{Caller, Callers};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use vm::Artifacts;
use vm::call_sites::{CallSite, function_name};

/// Which ways a kernel has, and which function each of its calls is of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// For each function, who calls it.
    callers: BTreeMap<String, BTreeSet<String>>,
    /// What a call that returns there calls.
    called: BTreeMap<u64, String>,
    /// Functions that a way goes through.
    through: BTreeSet<String>,
    /// Where functions are.
    symbols: BTreeMap<String, u64>,
}

/// The functions of a way, from the one that it begins at, as `a → b → c`.
pub type Way = String;

/// Who came by a way: for each origin, which scenarios.
pub type By = BTreeMap<String, BTreeSet<String>>;

/// What was seen of the ways.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Each way, with those who came by it: from what the kernel was entered for (a system call,
    /// a page fault, a thread of its own), the names of the scenarios.
    pub ways: BTreeMap<Way, By>,
    /// Chains of callers that end before they come to where the kernel is entered.
    pub broken: BTreeSet<String>,
}

impl Ways {
    /// Those of a kernel.
    ///
    /// # Errors
    /// Its image or its System.map cannot be read.
    pub fn of(artifacts: &Artifacts, reasons: &Reasons) -> io::Result<Ways> {
        let through: BTreeSet<String> = reasons.through.iter().cloned().collect();
        let wanted = |name: &str| ENTRIES.contains(&name) || through.contains(name);
        let sites = artifacts.call_sites(&wanted)?;
        let symbols = artifacts.symbols()?;
        Ok(Ways::new(&sites, through, symbols))
    }

    fn new(sites: &[CallSite], through: BTreeSet<String>, symbols: BTreeMap<String, u64>) -> Ways {
        let mut ways = Ways {
            through,
            symbols,
            ..Ways::default()
        };
        for site in sites {
            let callers = ways.callers.entry(site.calls.clone()).or_default();
            callers.insert(site.within.clone());
            if let Some(returns) = site.returns {
                ways.called.insert(returns, site.calls.clone());
            }
        }
        ways
    }

    /// All of them, none come by.
    pub fn table(&self) -> Table {
        let mut table = Table::default();
        for entry in ENTRIES {
            self.add_below(vec![(*entry).to_owned()], &mut table);
        }
        table
    }

    /// The ways that end with these functions, the last of which is to be called.
    fn add_below(&self, way: Vec<String>, table: &mut Table) {
        let first = way.last().map_or("", String::as_str);
        for caller in self.callers.get(first).into_iter().flatten() {
            // Entries call each other inside of tlbflush.c; nobody calls in circles.
            if ENTRIES.contains(&caller.as_str()) || way.contains(caller) {
                continue;
            }
            let mut way = way.clone();
            way.push(caller.clone());
            if self.through.contains(caller) && self.callers.contains_key(caller) {
                self.add_below(way, table);
            } else {
                table.ways.entry(written(&way)).or_default();
            }
        }
    }

    /// The way that a chain of callers came by, and whether it was whole.
    fn way(&self, entry: &str, chain: &[Caller]) -> Way {
        let moved = self.moved_by(chain);
        let mut way = vec![entry.to_owned()];
        for caller in chain {
            let returns = caller.address.wrapping_sub(moved);
            // Who was called there and has jumped on is not on the stack.
            let called = self.called.get(&returns);
            if let Some(called) = called.filter(|called| way.last() != Some(called)) {
                way.push(called.clone());
            }
            let function = function_name(&caller.function);
            way.push(function.to_owned());
            if !self.through.contains(function) {
                break;
            }
        }
        written(&way)
    }

    /// By how much the kernel was moved when it booted.
    fn moved_by(&self, chain: &[Caller]) -> u64 {
        let places = chain.iter().filter_map(|caller| {
            let built = self
                .symbols
                .get(&caller.function)?
                .checked_add(caller.offset)?;
            Some(caller.address.wrapping_sub(built))
        });
        // Of several functions with one name the wrong one may have been taken.
        let places: Vec<u64> = places.collect();
        if places.contains(&0) {
            return 0;
        }
        places.last().copied().unwrap_or(0)
    }
}

impl Table {
    /// A scenario's trace told this.
    pub fn add(&mut self, ways: &Ways, scenario: &str, callers: &Callers) {
        for (entry, chain) in callers.entered() {
            if !ENTRIES.contains(&entry) {
                continue;
            }
            let way = ways.way(entry, &chain);
            let by = self.ways.entry(way).or_default();
            let seen = by.entry(origin(&chain)).or_default();
            seen.insert(scenario.to_owned());
            if !is_whole(&chain) {
                let chain: Vec<String> = chain.iter().map(Caller::to_string).collect();
                self.broken
                    .insert(format!("{entry} ← {}", chain.join(" ← ")));
            }
        }
    }

    /// What others than these scenarios came by, and all ways.
    pub fn without(&self, scenarios: &BTreeSet<String>) -> Table {
        let mut table = self.clone();
        for by in table.ways.values_mut() {
            for seen in by.values_mut() {
                seen.retain(|name| !scenarios.contains(name));
            }
            by.retain(|_, seen| !seen.is_empty());
        }
        table
    }

    /// How many ways were come by.
    pub fn seen(&self) -> usize {
        self.ways.values().filter(|seen| !seen.is_empty()).count()
    }
}

/// Whether a chain goes back to where the kernel is entered or a thread of it begins.
fn is_whole(chain: &[Caller]) -> bool {
    let last = chain.last();
    last.is_some_and(|caller| is_outermost(&caller.function))
}

/// Labels of the kernel's assembly, of which several may stand at one place.
fn is_outermost(function: &str) -> bool {
    let roots = ["handle_exception", "ret_from_"];
    roots.iter().any(|root| function.starts_with(root))
}

/// Between what the kernel was entered for and where it is entered.
const OUTER: &[&str] = &[
    "do_irq",
    "do_trap_ecall_u",
    "exit_to_user_mode_loop",
    "irqentry_exit",
    "irqentry_exit_to_user_mode",
    "kthread",
    "process_one_work",
    "process_scheduled_works",
    "syscall_exit_to_user_mode",
    "worker_thread",
];

/// What functions that are system calls begin with, before the system call's name.
const SYSTEM_CALL: &[&str] = &["__riscv_sys_", "__se_sys_", "__do_sys_", "do_sys_", "ksys_"];

/// What the origin begins with where it is a thread of the kernel's own.
pub(super) const THREAD: &str = "thread ";

/// What the kernel was entered for: the name of a system call, or else a function.
fn origin(chain: &[Caller]) -> String {
    let functions = chain.iter().rev();
    let mut names = functions.map(|caller| function_name(&caller.function));
    let name = names
        .find(|name| !OUTER.contains(name) && !is_outermost(name))
        .unwrap_or("");
    if chain.iter().any(|caller| caller.function == "kthread") {
        return format!("{THREAD}{name}");
    }
    // A system call's own function may have jumped on to the one that does it.
    let call = SYSTEM_CALL.iter().find_map(|it| name.strip_prefix(it));
    match call.unwrap_or(name) {
        "vm_mmap_pgoff" | "mmap_pgoff" => "mmap",
        "do_page_fault" => "page fault",
        "arch_do_signal_or_restart" => "signal",
        other => other,
    }
    .to_owned()
}

fn written(way: &[String]) -> Way {
    let outermost_first: Vec<&str> = way.iter().rev().map(String::as_str).collect();
    outermost_first.join(" → ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(within: &str, calls: &str, returns: Option<u64>) -> CallSite {
        CallSite {
            calls: calls.to_owned(),
            within: within.to_owned(),
            returns,
        }
    }

    fn caller(function: &str, address: u64) -> Caller {
        Caller {
            address,
            function: function.to_owned(),
            offset: address % 0x100,
        }
    }

    fn ways() -> Ways {
        let sites = [
            site("ptep_clear_flush", "flush_tlb_page", Some(0x110)),
            site("huge_ptep_clear_flush", "ptep_clear_flush", None),
            site("hugetlb_wp", "huge_ptep_clear_flush", Some(0x310)),
            site("do_wp_page", "ptep_clear_flush", Some(0x410)),
            site("flush_tlb_range", "flush_tlb_page", Some(0x510)),
            site("unused", "flush_tlb_mm", Some(0x610)),
        ];
        let through = ["ptep_clear_flush", "huge_ptep_clear_flush"];
        let symbols = [("ptep_clear_flush", 0x100), ("hugetlb_wp", 0x300)];
        Ways::new(
            &sites,
            through.map(str::to_owned).into(),
            symbols.map(|(name, at)| (name.to_owned(), at)).into(),
        )
    }

    #[test]
    fn ways_go_through_helpers_and_begin_behind_them() {
        let table = ways().table();
        let all: Vec<&str> = table.ways.keys().map(String::as_str).collect();
        assert_eq!(
            all,
            [
                "do_wp_page → ptep_clear_flush → flush_tlb_page",
                "hugetlb_wp → huge_ptep_clear_flush → ptep_clear_flush → flush_tlb_page",
                "unused → flush_tlb_mm",
            ]
        );
        assert_eq!(table.seen(), 0);
    }

    #[test]
    fn who_has_jumped_on_is_known_by_the_call() {
        for moved in [0, 0x1000] {
            let chain = [
                caller("ptep_clear_flush", 0x110 + moved),
                caller("hugetlb_wp", 0x310 + moved),
                caller("handle_mm_fault", 0x710 + moved),
            ];
            assert_eq!(
                ways().way("flush_tlb_page", &chain),
                "hugetlb_wp → huge_ptep_clear_flush → ptep_clear_flush → flush_tlb_page"
            );
        }
    }
}
