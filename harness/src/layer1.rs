// SPDX-License-Identifier: GPL-2.0-only
//! Layer 1: for every call into `tlbflush.c`, on whatever mm, what the model of
//! that file does must be what followed. Raw bytes, nothing filtered.
//!
//! What cannot be seen is not compared: local fences and IPIs never, and
//! notifications only on mms that the tracer is subscribed to. One about another
//! of those mms than the call is about is a difference.

use crate::trace::{self, Traced, TracedCall};
use protocol::record::{F_ATTACHED, Record};
use reference_model::tlbflush::Context;
use reference_model::{Effect, Entry, Fence};

/// The model of `tlbflush.c`, as a function.
pub type Replay<'a> = &'a dyn Fn(&Entry, &Context) -> Vec<Effect>;

/// A call after which something else followed than the model of `tlbflush.c` does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer1Difference {
    /// The entry, or what followed none.
    pub record: Record,
    /// Step in which it came, from 0.
    pub step: Option<usize>,
    /// The entry; none where something followed no entry, or an entry that the model has not.
    pub entry: Option<Entry>,
    /// What the model does.
    pub expected: Vec<Effect>,
    /// What followed.
    pub followed: Vec<Effect>,
}

/// Checks calls as they come.
pub struct Layer1<'a> {
    replay: Replay<'a>,
    online: u64,
    differences: Vec<Layer1Difference>,
    checked: u64,
}

/// What came of checking a trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer1Verdict {
    /// Calls that were checked.
    pub checked: u64,
    /// Calls that differ.
    pub differences: Vec<Layer1Difference>,
}

impl<'a> Layer1<'a> {
    /// Nothing checked yet. `online` is `cpu_online_mask`.
    pub fn new(replay: Replay<'a>, online: u64) -> Layer1<'a> {
        Layer1 {
            replay,
            online,
            differences: Vec::new(),
            checked: 0,
        }
    }

    /// By the same model, nothing checked yet.
    pub fn afresh(&self) -> Layer1<'a> {
        Layer1::new(self.replay, self.online)
    }

    /// Checks one call.
    pub fn push(&mut self, traced: &Traced) {
        match traced {
            Traced::Call(call) => {
                self.checked += 1;
                let difference = self.check(call);
                self.differences.extend(difference);
            }
            // Its task may have been in the middle of a call when the trace began.
            Traced::Orphan { first: true, .. } | Traced::Context { .. } => {}
            Traced::Orphan {
                record,
                step,
                first: false,
            } => {
                self.differences.push(Layer1Difference {
                    record: *record,
                    step: *step,
                    entry: None,
                    expected: Vec::new(),
                    followed: trace::effect(record, record.mm).into_iter().collect(),
                });
            }
        }
    }

    fn check(&self, call: &TracedCall) -> Option<Layer1Difference> {
        let entry = trace::entry(&call.record);
        let followed = call.followed();
        let expected = entry
            .map(|entry| self.expected(entry, &call.record))
            .unwrap_or_default();
        let agrees = match entry {
            // The trace may have ended in the middle of this call.
            Some(_) if call.cut => expected.starts_with(&followed),
            Some(_) if call.released && expected != followed => {
                let notifies = |effect: &&Effect| matches!(effect, Effect::Notify(..));
                let others = expected.iter().filter(|effect| !notifies(effect));
                others.eq(&followed)
            }
            Some(_) => expected == followed,
            None => false,
        };
        let record = call.record;
        (!agrees).then_some(Layer1Difference {
            record,
            step: call.step,
            entry,
            expected,
            followed,
        })
    }

    fn expected(&self, entry: Entry, record: &Record) -> Vec<Effect> {
        let context = Context {
            hart: u32::from(record.hart),
            cpumask: record.cpumask,
            // What is about all harts was recorded with those that were online: a step may
            // have taken one.
            online: match entry {
                Entry::FlushTlbAll | Entry::FlushTlbKernelRange { .. } => record.cpumask,
                _ => self.online,
            },
            asid: record.asid,
        };
        let mut effects = (self.replay)(&entry, &context);
        let attached = record.flags & F_ATTACHED != 0;
        effects.retain(|effect| match effect {
            Effect::Notify(..) => attached,
            Effect::Fence(Fence::Sbi { .. }) => true,
            Effect::Fence(_) => false,
        });
        effects
    }

    /// What has differed since this was asked last, where a trace is too long to keep it all.
    pub fn take_differences(&mut self) -> Vec<Layer1Difference> {
        std::mem::take(&mut self.differences)
    }

    /// The trace has ended.
    pub fn finish(self) -> Layer1Verdict {
        Layer1Verdict {
            checked: self.checked,
            differences: self.differences,
        }
    }
}
