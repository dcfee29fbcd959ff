// SPDX-License-Identifier: GPL-2.0-only
//! A trace as it comes: judged by layer 1, counted, and what differs grouped by its cause.

use super::device::{Device, Reachable};
use super::tally::{Tally, is_context};
use crate::callers::{Caller, Callers};
use crate::layer1::{Layer1, Layer1Difference};
use crate::trace::{Calls, Traced};
use protocol::record::{Kind, Record};
use reference_model::{Effect, Range};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// So many notifications are remembered, of all mms together.
const REMEMBERED: usize = 256;
/// So many of those are told where a call differs.
const NEAR: usize = 4;
/// So many causes are kept apart. What differs beyond is counted only.
const CAUSES: usize = 256;

/// Takes the records of a trace.
pub struct Watch<'a> {
    calls: Calls,
    layer1: Layer1<'a>,
    callers: Callers,
    /// None where no secondary MMU is asked.
    device: Option<Device>,
    tally: Tally,
    /// The last notifications.
    last: VecDeque<Record>,
    /// Names, by process.
    names: HashMap<i32, String>,
    followed: u64,
    violations: BTreeMap<Cause, Violation>,
    others: u64,
    taken: u64,
    in_order: bool,
}

/// What differences have in common that are one fault.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cause {
    /// The function that was entered, or what followed no entry.
    function: &'static str,
    /// The number of the chain of its callers.
    chain: u64,
    /// How many notifications, and fences, the model makes, and there were.
    expected: [usize; 2],
    followed: [usize; 2],
}

/// Calls after which something else followed than the model does, for one cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// How many.
    pub times: u64,
    /// The first of them.
    pub first: Layer1Difference,
    /// The name of the process whose call it is.
    pub process: Option<String>,
    /// The last that was notified of that mm before.
    pub near: Vec<(u64, Range)>,
    /// Who called, from the function's caller outwards.
    pub callers: Vec<Caller>,
}

/// What a whole trace came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Counts.
    pub tally: Tally,
    /// Calls that layer 1 checked.
    pub checked: u64,
    /// mms that were followed.
    pub followed: u64,
    /// Records that came.
    pub taken: u64,
    /// They came with the numbers 0, 1, 2, …
    pub in_order: bool,
    /// What differs, by cause, the most frequent first.
    pub violations: Vec<Violation>,
    /// Calls that differ for further causes.
    pub others: u64,
    /// What a secondary MMU could reach and must not.
    pub reachable: Option<Reachable>,
    /// Who called.
    pub callers: Callers,
}

impl<'a> Watch<'a> {
    /// Nothing taken yet. With `device`, a secondary MMU is asked as well.
    pub fn new(layer1: Layer1<'a>, device: Option<Device>) -> Watch<'a> {
        Watch {
            calls: Calls::default(),
            layer1,
            callers: Callers::default(),
            device,
            tally: Tally::default(),
            last: VecDeque::with_capacity(REMEMBERED),
            names: HashMap::new(),
            followed: 0,
            violations: BTreeMap::new(),
            others: 0,
            taken: 0,
            in_order: true,
        }
    }

    /// Takes the next record.
    pub fn push(&mut self, record: Record) {
        self.in_order &= record.seq == self.taken;
        self.taken += 1;
        if record.kind == Kind::Task {
            self.followed += 1;
            self.names.insert(record.tgid, name(&record));
        }
        if let Some(device) = &mut self.device {
            device.push(&record);
        }
        if self.callers.push(&record) || is_context(record.kind) {
            return;
        }
        let (layer1, tally) = (&mut self.layer1, &mut self.tally);
        self.calls
            .push(record, &mut |traced| take(layer1, tally, &traced));
        self.sort_out();
        if record.kind == Kind::Notify {
            if self.last.len() == REMEMBERED {
                self.last.pop_front();
            }
            self.last.push_back(record);
        }
    }

    /// The trace has ended.
    pub fn finish(mut self) -> Watched {
        let (layer1, tally) = (&mut self.layer1, &mut self.tally);
        std::mem::take(&mut self.calls).finish(&mut |traced| take(layer1, tally, &traced));
        self.sort_out();
        let mut violations: Vec<Violation> = self.violations.into_values().collect();
        for violation in &mut violations {
            violation.callers = self.callers.chain(violation.first.record.chain);
        }
        violations.sort_by_key(|violation| std::cmp::Reverse(violation.times));
        let device = self.device;
        Watched {
            reachable: device.map(|device| device.finish(&self.callers, &self.names)),
            tally: self.tally,
            checked: self.layer1.finish().checked,
            followed: self.followed,
            taken: self.taken,
            in_order: self.in_order,
            violations,
            others: self.others,
            callers: self.callers,
        }
    }

    /// What differs, to its cause.
    fn sort_out(&mut self) {
        for difference in self.layer1.take_differences() {
            let cause = Cause::of(&difference);
            if let Some(known) = self.violations.get_mut(&cause) {
                known.times += 1;
            } else if self.violations.len() < CAUSES {
                let violation = self.violation(difference);
                self.violations.insert(cause, violation);
            } else {
                self.others += 1;
            }
        }
    }

    fn violation(&self, first: Layer1Difference) -> Violation {
        let record = &first.record;
        let before = self.last.iter().rev();
        let of_it = before.filter(|told| told.mm == record.mm && told.seq < record.seq);
        let near = of_it.take(NEAR).map(|told| {
            let (start, end) = (told.start, told.end);
            (told.seq, Range { start, end })
        });
        Violation {
            times: 1,
            process: self.names.get(&record.tgid).cloned(),
            near: near.collect(),
            callers: Vec::new(),
            first,
        }
    }
}

fn take(layer1: &mut Layer1<'_>, tally: &mut Tally, traced: &Traced) {
    layer1.push(traced);
    tally.push(traced);
}

/// `task_struct.comm`, which a record of a task has in two words.
fn name(record: &Record) -> String {
    let words = [record.start, record.end];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let text = String::from_utf8_lossy(&bytes);
    text.trim_end_matches('\0').to_owned()
}

impl Cause {
    fn of(difference: &Layer1Difference) -> Cause {
        let record = &difference.record;
        Cause {
            function: record.kind.name(),
            chain: record.chain,
            expected: numbers(&difference.expected),
            followed: numbers(&difference.followed),
        }
    }
}

/// How many notifications and how many fences.
fn numbers(effects: &[Effect]) -> [usize; 2] {
    let notified = effects
        .iter()
        .filter(|effect| matches!(effect, Effect::Notify(..)));
    let notified = notified.count();
    [notified, effects.len() - notified]
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::record::F_ATTACHED;
    use reference_model::tlbflush::Context;
    use reference_model::{Entry, Whose};

    fn record(seq: u64, kind: Kind, (start, end): (u64, u64)) -> Record {
        Record {
            seq,
            mm: 1,
            start,
            end,
            arg: 4096,
            cpumask: 1,
            asid: 1,
            pid: 2,
            tgid: 2,
            kind,
            hart: 0,
            flags: F_ATTACHED,
            chain: 9,
        }
    }

    /// What is told of a page is told of that page.
    fn page(entry: &Entry, _: &Context) -> Vec<Effect> {
        let Entry::FlushTlbPage { addr } = *entry else {
            return Vec::new();
        };
        let range = Range {
            start: addr,
            end: addr + 4096,
        };
        vec![Effect::Notify(Whose::Own, range)]
    }

    fn watched(records: &[Record]) -> Watched {
        let mut watch = Watch::new(Layer1::new(&page, 1), None);
        records.iter().for_each(|record| watch.push(*record));
        watch.finish()
    }

    #[test]
    fn what_differs_for_one_cause_is_told_once_with_what_was_near() {
        let comm = u64::from_le_bytes(*b"redis\0\0\0");
        let flush = |seq| record(seq, Kind::FlushTlbPage, (0x1000, 0x2000));
        let watched = watched(&[
            record(0, Kind::Task, (comm, 0)),
            flush(1),
            record(2, Kind::Notify, (0x1000, 0x2000)),
            flush(3),
            flush(4),
            flush(5),
            record(6, Kind::Notify, (0x1000, 0x2000)),
        ]);
        assert_eq!((watched.checked, watched.followed), (4, 1));
        assert!(watched.in_order);
        let [violation] = &watched.violations[..] else {
            panic!("{:?}", watched.violations);
        };
        assert_eq!((violation.times, violation.first.record.seq), (2, 3));
        assert_eq!(violation.process.as_deref(), Some("redis"));
        let near: Vec<u64> = violation.near.iter().map(|told| told.0).collect();
        assert_eq!(near, [2]);
    }

    #[test]
    fn a_gap_is_seen() {
        let flush = |seq| record(seq, Kind::FlushTlbMm, (0, 0));
        assert!(!watched(&[flush(0), flush(2)]).in_order);
    }
}
