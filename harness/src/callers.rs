// SPDX-License-Identifier: GPL-2.0-only
//! Who called: for each entry into `tlbflush.c`, the functions that led there, by the return
//! addresses that the module found on the stack and the names that the kernel has for them.
//!
//! Context, which is told and never compared.

use crate::trace::Traced;
use protocol::record::{Kind, Record};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Return addresses in one record.
const IN_A_RECORD: usize = 5;

/// Who called, in a trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Callers {
    chains: BTreeMap<u64, Vec<u64>>,
    names: BTreeMap<u64, Vec<u8>>,
    entered: BTreeSet<(&'static str, u64)>,
}

/// A place in the kernel that called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caller {
    /// Where the call returns to.
    pub address: u64,
    /// The function, as the kernel names it; empty where it has no name for it.
    pub function: String,
    /// Bytes from the function's beginning to where the call returns to.
    pub offset: u64,
}

impl Callers {
    /// Takes a record that is of who called, and says whether it was one.
    pub fn push(&mut self, record: &Record) -> bool {
        let words = [
            record.start,
            record.end,
            record.arg,
            record.cpumask,
            record.asid,
        ];
        let before = record.flags as usize;
        match record.kind {
            Kind::Chain => {
                let chain = self.chains.entry(record.chain).or_default();
                // The same again, where two harts were the first.
                if chain.len() == before && before.is_multiple_of(IN_A_RECORD) {
                    chain.extend(words.iter().filter(|address| **address != 0));
                }
                true
            }
            Kind::Symbol => {
                let name = self.names.entry(record.chain).or_default();
                if name.len() == before {
                    name.extend(words.iter().flat_map(|word| word.to_le_bytes()));
                }
                true
            }
            _ => false,
        }
    }

    /// Takes a call: within a step, and about memory of a process.
    pub fn note(&mut self, traced: &Traced) {
        let Traced::Call(call) = traced else { return };
        let record = &call.record;
        let of_a_process = record.mm != 0 || record.kind == Kind::TlbbatchFlush;
        if call.step.is_some() && of_a_process && record.chain != 0 {
            self.entered.insert((record.kind.name(), record.chain));
        }
    }

    /// Each function of `tlbflush.c` that was entered, with each chain of callers that it was
    /// entered by, from its caller outwards.
    pub fn entered(&self) -> impl Iterator<Item = (&'static str, Vec<Caller>)> + '_ {
        let entered = self.entered.iter();
        entered.map(|(function, chain)| (*function, self.chain(*chain)))
    }

    /// The chain of that number, from the function's caller outwards; empty for one that is
    /// not known.
    pub fn chain(&self, number: u64) -> Vec<Caller> {
        let addresses = self.chains.get(&number).into_iter().flatten();
        addresses.map(|address| self.caller(*address)).collect()
    }

    fn caller(&self, address: u64) -> Caller {
        let name = self.names.get(&address).map(Vec::as_slice);
        let text = String::from_utf8_lossy(name.unwrap_or_default());
        let text = text.trim_end_matches('\0');
        // `function+0xoffset/0xsize`, of the byte before.
        let named = text.rsplit_once('+').and_then(|(function, rest)| {
            let offset = rest.split('/').next()?.trim_start_matches("0x");
            let offset = u64::from_str_radix(offset, 16).ok()?;
            Some((function.to_owned(), offset + 1))
        });
        let (function, offset) = named.unwrap_or_default();
        Caller {
            address,
            function,
            offset,
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.function.as_str() {
            "" => write!(f, "{:#x}", self.address),
            function => write!(f, "{function}+{:#x}", self.offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: Kind, chain: u64, before: u32, words: [u64; 5]) -> Record {
        Record {
            seq: 0,
            mm: 0,
            start: words[0],
            end: words[1],
            arg: words[2],
            cpumask: words[3],
            asid: words[4],
            pid: 1,
            tgid: 1,
            kind,
            hart: 0,
            flags: before,
            chain,
        }
    }

    /// A name in as many records as it takes.
    fn named(callers: &mut Callers, address: u64, name: &str) {
        for (index, piece) in name.as_bytes().chunks(40).enumerate() {
            let mut bytes = [0; 40];
            bytes[..piece.len()].copy_from_slice(piece);
            let word =
                |at: usize| u64::from_le_bytes(bytes[8 * at..][..8].try_into().expect("8 bytes"));
            let words = [word(0), word(1), word(2), word(3), word(4)];
            let before = 40 * index as u32;
            assert!(callers.push(&record(Kind::Symbol, address, before, words)));
        }
    }

    #[test]
    fn a_chain_is_put_together_and_named() {
        let mut callers = Callers::default();
        assert!(callers.push(&record(Kind::Chain, 7, 0, [1, 2, 3, 4, 5])));
        assert!(callers.push(&record(Kind::Chain, 7, 5, [6, 0, 0, 0, 0])));
        // Another hart has recorded the same.
        assert!(callers.push(&record(Kind::Chain, 7, 0, [1, 2, 3, 4, 5])));
        assert!(callers.push(&record(Kind::Chain, 7, 5, [6, 0, 0, 0, 0])));
        assert!(!callers.push(&record(Kind::Mark, 7, 0, [1, 2, 3, 4, 5])));
        named(&mut callers, 1, "ptep_clear_flush+0x1d/0x38");
        let long = "a_function_with_a_name_of_more_than_forty_bytes+0x7/0x10 [module]";
        named(&mut callers, 6, long);
        let told: Vec<String> = callers.chain(7).iter().map(Caller::to_string).collect();
        assert_eq!(
            told,
            [
                "ptep_clear_flush+0x1e",
                "0x2",
                "0x3",
                "0x4",
                "0x5",
                "a_function_with_a_name_of_more_than_forty_bytes+0x8"
            ]
        );
        assert!(callers.chain(8).is_empty());
    }
}
