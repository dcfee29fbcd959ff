// SPDX-License-Identifier: GPL-2.0-only
//! Records made by hand, as a kernel would make them.
#![allow(dead_code, reason = "each test uses a part")]

use operations::{ARENA_BASE, PAGE_SIZE, StepResult};
use protocol::Record;
use protocol::message::Report;
use protocol::record::{F_ATTACHED, Kind};
use reference_model::{Entry, Machine, Profile, tlbflush};
use tlbdiff::layer1::{Layer1, Layer1Verdict};
use tlbdiff::observe::{Observation, Observer};
use tlbdiff::trace::Calls;

/// The subject's mm.
pub const SUBJECT: u64 = 7;
/// The subject's task.
pub const PID: i32 = 100;
/// Some other task.
pub const OTHER_PID: i32 = 200;

/// Address of a page of the arena.
pub fn page(page: u64) -> u64 {
    ARENA_BASE + page * PAGE_SIZE
}

/// A history of the kernel, one record after the other.
#[derive(Default)]
pub struct History {
    /// In order.
    pub records: Vec<Record>,
}

impl History {
    /// Adds a record of the subject, changed as wanted.
    pub fn add(
        mut self,
        kind: Kind,
        start: u64,
        end: u64,
        change: impl FnOnce(&mut Record),
    ) -> History {
        let mut record = Record {
            seq: self.records.len() as u64,
            mm: SUBJECT,
            start,
            end,
            arg: 0,
            cpumask: 1,
            asid: 3,
            pid: PID,
            tgid: PID,
            kind,
            hart: 0,
            flags: F_ATTACHED,
            chain: 0,
        };
        change(&mut record);
        self.records.push(record);
        self
    }

    /// A step begins.
    pub fn begin(self, step: u64) -> History {
        self.add(Kind::Mark, step, 0, |record| record.mm = 0)
    }

    /// It ends.
    pub fn end(self, step: u64) -> History {
        self.add(Kind::Mark, step, 1, |record| record.mm = 0)
    }

    /// `flush_tlb_mm_range()` for pages.
    pub fn flush_range(self, first: u64, last: u64) -> History {
        self.add(Kind::FlushTlbMmRange, page(first), page(last), |record| {
            record.arg = PAGE_SIZE
        })
    }

    /// Pages are notified.
    pub fn notify(self, first: u64, last: u64) -> History {
        self.add(Kind::Notify, page(first), page(last), |_| ())
    }

    /// The whole address space is notified.
    pub fn notify_everything(self) -> History {
        self.add(Kind::Notify, 0, u64::MAX, |_| ())
    }

    /// What the harness makes of it, with the model of `profile`.
    pub fn told(&self, profile: &Profile, steps: usize) -> (Layer1Verdict, Observation) {
        self.told_of(profile, steps, &[SUBJECT])
    }

    /// The same, where the scenario has these mms.
    pub fn told_of(
        &self,
        profile: &Profile,
        steps: usize,
        mms: &[u64],
    ) -> (Layer1Verdict, Observation) {
        let machine = Machine::default();
        let replay = |entry: &Entry, context: &tlbflush::Context| {
            tlbflush::replay(profile, &machine, entry, context)
        };
        let (mut calls, mut observer) = (Calls::default(), Observer::default());
        let mut layer1 = Layer1::new(&replay, 3);
        let mut take = |traced| {
            layer1.push(&traced);
            observer.push(&traced);
        };
        for record in &self.records {
            calls.push(*record, &mut take);
        }
        calls.finish(&mut take);
        let report = Report {
            steps: vec![StepResult::Ok; steps],
            mms: mms.to_vec(),
            pids: vec![PID],
            ..Report::default()
        };
        (layer1.finish(), observer.finish(&report, 2))
    }
}
