// SPDX-License-Identifier: GPL-2.0-only
//! From the text of an observation back to the observation: the inverse of [`crate::text`].

use crate::fold::unfold;
use crate::observe::{Observation, ObservedCall, ObservedStep};
use crate::scenario::Scenario;
use crate::text::{ANOTHER_MM, NO_CALL, PART, UNBORN, UNITS, WHOLE_MM, title};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use operations::address;
use reference_model::{Effect, Entry, Fence, Range, StepResult, Whose};
use thiserror::Error;

/// Why a text is no observation of a scenario.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseError {
    /// It was made from other steps.
    #[error("line {line} is of another step than the scenario's: `{text}`")]
    OtherSteps {
        /// Its line, from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// It tells of fewer steps.
    #[error("it has {told} steps, the scenario {steps}")]
    TooFew {
        /// Steps told of.
        told: usize,
        /// Steps of the scenario.
        steps: usize,
    },
    /// A line that this program does not write.
    #[error("line {line} is not understood: `{text}`")]
    Line {
        /// Its line, from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
}

/// Reads the text of an observation of that scenario.
///
/// # Errors
/// The text is of other steps, or nothing that [`crate::text`] writes.
pub fn parse(scenario: &Scenario, text: &str) -> Result<Observation, ParseError> {
    let mut observation = Observation::default();
    let text = unfold(text);
    for (index, line) in text.lines().enumerate() {
        let wrong = || ParseError::Line {
            line: index + 1,
            text: line.to_owned(),
        };
        if let Some(effect) = line.strip_prefix("     ") {
            let call = observation
                .steps
                .last_mut()
                .and_then(|step| step.calls.last_mut());
            call.ok_or_else(wrong)?
                .effects
                .push(parse_effect(scenario, effect).ok_or_else(wrong)?);
        } else if let Some(call) = line.strip_prefix("   ") {
            let step = observation.steps.last_mut().ok_or_else(wrong)?;
            let (mm, call) = parse_whose(scenario, call);
            step.calls.push(parse_call(mm, call).ok_or_else(wrong)?);
        } else {
            let other = || ParseError::OtherSteps {
                line: index + 1,
                text: line.to_owned(),
            };
            let title = title(scenario, observation.steps.len());
            let result = line
                .strip_prefix(&title)
                .and_then(|rest| rest.strip_prefix(": "));
            let result = parse_result(result.ok_or_else(other)?).ok_or_else(wrong)?;
            observation.steps.push(ObservedStep {
                result,
                calls: Vec::new(),
                context: Vec::new(),
            });
        }
    }
    let (told, steps) = (observation.steps.len(), scenario.program.steps.len());
    if told < steps {
        Err(ParseError::TooFew { told, steps })
    } else {
        Ok(observation)
    }
}

fn parse_result(text: &str) -> Option<StepResult> {
    if text == "ok" {
        return Some(StepResult::Ok);
    }
    if text == UNBORN {
        return Some(StepResult::Unborn);
    }
    if let Some(pages) = text.strip_prefix(PART) {
        let pages = pages.trim_start().parse().ok()?;
        return Some(StepResult::Part { pages });
    }
    if let Some((what, page)) = text.split_once(" at page ") {
        let page = page.parse().ok()?;
        let device = parse_device_result(what, page);
        if device.is_some() {
            return device;
        }
        if let Some(errno) = parse_errno(what) {
            return Some(StepResult::Refused { errno, page });
        }
    }
    if let Some((signal, page)) = text.split_once(" at page ") {
        let signal = match signal.strip_prefix("signal ") {
            Some(number) => number.parse().ok()?,
            None => signal.parse::<Signal>().ok()? as i32,
        };
        return Some(StepResult::Signal {
            signal,
            page: page.parse().ok()?,
        });
    }
    if let Some(pages) = text.strip_suffix(" pages left") {
        let pages = pages.parse().ok()?;
        return Some(StepResult::Left { pages });
    }
    parse_errno(text).map(StepResult::Errno)
}

fn parse_errno(text: &str) -> Option<i32> {
    match text.strip_prefix("errno ") {
        Some(number) => number.parse().ok(),
        None => (1..200).find(|&number| format!("{:?}", Errno::from_raw(number)) == text),
    }
}

/// What a device's access came to, or a byte that was read.
fn parse_device_result(what: &str, page: u64) -> Option<StepResult> {
    if let Some(value) = what.strip_prefix("saw ") {
        let value = value.parse().ok()?;
        return Some(StepResult::Saw { value, page });
    }
    if let Some(cause) = what.strip_prefix("fault ") {
        let cause = cause.parse().ok()?;
        return Some(StepResult::Fault { cause, page });
    }
    match what {
        "lost" => Some(StepResult::Lost { page }),
        "astray" => Some(StepResult::Astray { page }),
        _ => None,
    }
}

/// Whose a call is about, where it says so, and the call.
fn parse_whose<'a>(scenario: &Scenario, text: &'a str) -> (Option<usize>, &'a str) {
    if let Some((ANOTHER_MM, call)) = text.split_once(": ") {
        return (None, call);
    }
    let own = (scenario.mms.len() == 1).then_some(0);
    let named = text.split_once(": ").and_then(|(name, call)| {
        let mm = scenario.mms.iter().position(|owner| owner == name)?;
        Some((Some(mm), call))
    });
    named.unwrap_or((own, text))
}

fn parse_call(mm: Option<usize>, text: &str) -> Option<ObservedCall> {
    let entry = if text == NO_CALL {
        None
    } else {
        Some(parse_entry(text)?)
    };
    let mm = mm.filter(|_| entry != Some(Entry::ArchTlbbatchFlush));
    Some(ObservedCall {
        seq: 0,
        chain: 0,
        mm,
        entry,
        effects: Vec::new(),
    })
}

fn parse_entry(text: &str) -> Option<Entry> {
    let words: Vec<&str> = text.split(' ').collect();
    let span = |text: &str| parse_range(text).map(|Range { start, end }| (start, end));
    Some(match words[..] {
        ["flush_tlb_all"] => Entry::FlushTlbAll,
        ["flush_tlb_mm"] => Entry::FlushTlbMm,
        ["flush_tlb_mm_range", range, "stride", stride] => {
            let (start, end) = span(range)?;
            Entry::FlushTlbMmRange {
                start,
                end,
                page_size: parse_size(stride)?,
            }
        }
        ["flush_tlb_page", page] => Entry::FlushTlbPage {
            addr: parse_place(page)?,
        },
        ["flush_tlb_range", range] => {
            let (start, end) = span(range)?;
            Entry::FlushTlbRange {
                start,
                end,
                huge_page_size: None,
            }
        }
        ["flush_tlb_range", range, "huge", size] => {
            let (start, end) = span(range)?;
            Entry::FlushTlbRange {
                start,
                end,
                huge_page_size: Some(parse_size(size)?),
            }
        }
        ["flush_pmd_tlb_range", range] => {
            let (start, end) = span(range)?;
            Entry::FlushPmdTlbRange { start, end }
        }
        ["flush_tlb_kernel_range", range] => {
            let (start, end) = span(range)?;
            Entry::FlushTlbKernelRange { start, end }
        }
        ["flush_pud_tlb_range", range] => {
            let (start, end) = span(range)?;
            Entry::FlushPudTlbRange { start, end }
        }
        ["arch_tlbbatch_add_pending", range] if range.starts_with('[') => {
            let (start, end) = span(range)?;
            Entry::ArchTlbbatchAddPendingRange { start, end }
        }
        ["arch_tlbbatch_add_pending", page] => Entry::ArchTlbbatchAddPending {
            uaddr: parse_place(page)?,
        },
        ["arch_tlbbatch_flush"] => Entry::ArchTlbbatchFlush,
        ["release"] => Entry::Release,
        ["arch_flush_tlb_batched_pending"] => Entry::ArchFlushTlbBatchedPending,
        _ => return None,
    })
}

fn parse_effect(scenario: &Scenario, text: &str) -> Option<Effect> {
    if let Some(told) = text.strip_prefix("notified ") {
        return Some(Effect::Notify(Whose::Own, parse_range(told)?));
    }
    if let Some((name, told)) = text.split_once(": notified ") {
        let mm = scenario.mms.iter().position(|owner| owner == name);
        let known = mm.is_some() || name == ANOTHER_MM;
        let told = parse_range(told).filter(|_| known)?;
        return Some(Effect::Notify(Whose::Other(mm), told));
    }
    let text = text.strip_prefix("sbi fence ")?;
    let (text, asid) = match text.strip_suffix(" all asids") {
        Some(text) => (text, None),
        None => (text, Some(0)),
    };
    let (harts, range) = match text.strip_prefix("all harts ") {
        Some(range) => (None, range),
        None => {
            let (harts, range) = text.strip_prefix("harts ")?.split_once(' ')?;
            let bit = |hart: &str| 1u64.checked_shl(hart.parse().ok()?);
            let mask = harts
                .split(',')
                .try_fold(0, |mask, hart| Some(mask | bit(hart)?))?;
            (Some(mask), range)
        }
    };
    let Range { start, end } = parse_range(range)?;
    Some(Effect::Fence(Fence::Sbi {
        harts,
        start,
        size: end.wrapping_sub(start),
        asid,
    }))
}

fn parse_range(text: &str) -> Option<Range> {
    if text == WHOLE_MM {
        return Some(Range {
            start: 0,
            end: u64::MAX,
        });
    }
    let (start, end) = text.strip_prefix('[')?.strip_suffix(')')?.split_once(',')?;
    Some(Range {
        start: parse_place(start)?,
        end: parse_place(end)?,
    })
}

fn parse_place(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text
            .parse()
            .ok()
            .filter(|page| *page <= operations::ARENA_PAGES)
            .map(address),
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let unit = UNITS
        .iter()
        .find_map(|(unit, name)| Some((unit, text.strip_suffix(name)?)));
    match unit {
        Some((unit, number)) => number.parse::<u64>().ok()?.checked_mul(*unit),
        None => text.parse().ok(),
    }
}
