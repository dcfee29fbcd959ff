// SPDX-License-Identifier: GPL-2.0-only
//! What the tracer costs: scenarios with it and without it, in the same guest, by
//! the guest's own clock.
//!
//! `cargo bench --bench tracer -- PATH…`, paths from the project's folder on;
//! without one, a few small scenarios. Times are medians over rounds that alternate
//! between the two.

mod common;

use common::{root, scenarios};
use protocol::Tracing;
use std::error::Error;
use std::time::Duration;
use tlbdiff::convert::to_run;
use tlbdiff::scenario::Scenario;
use vm::KernelChoice;
use vm::guest::{Guest, GuestConfig};

const ROUNDS: usize = 31;
const TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT: &[&str] = &[
    "scenarios/munmap/middle.yaml",
    "scenarios/munmap/whole-area-frees-page-table.yaml",
    "scenarios/reclaim/twice.yaml",
];

/// What a scenario's steps took in all, in ns.
#[derive(Clone, Copy)]
struct Cost {
    untraced: u64,
    traced: u64,
    records: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let root = root();
    let scenarios = scenarios(DEFAULT)?;
    let artifacts = vm::locate(&KernelChoice::Named("stable".to_owned()))?;
    let mut guest = Guest::start(&GuestConfig::new(artifacts), &mut drop)?;
    println!("untraced µs  traced µs  records  ns a record  scenario");
    for scenario in &scenarios {
        let cost = measure(&mut guest, scenario)?;
        let more = cost.traced.saturating_sub(cost.untraced);
        println!(
            "{:>11.0}  {:>9.0}  {:>7}  {:>11}  {}",
            cost.untraced as f64 / 1e3,
            cost.traced as f64 / 1e3,
            cost.records,
            more / cost.records.max(1),
            scenario
                .path
                .strip_prefix(&root)
                .unwrap_or(&scenario.path)
                .display()
        );
    }
    Ok(())
}

fn measure(guest: &mut Guest, scenario: &Scenario) -> Result<Cost, Box<dyn Error>> {
    let mut took = [Vec::new(), Vec::new()];
    let mut records = 0;
    for round in 0..2 * ROUNDS {
        let on = round % 2 == 1;
        let tracing = Tracing {
            on,
            ..Tracing::default()
        };
        let harts = guest.system().harts;
        let run = to_run(scenario, harts, tracing).ok_or("too few harts")?;
        let report = guest.run(&run, TIMEOUT, &mut drop)?;
        took[usize::from(on)].push(report.step_ns.iter().sum::<u64>());
        records = report.recorded;
    }
    let [untraced, traced] = took.map(median);
    Ok(Cost {
        untraced,
        traced,
        records,
    })
}

fn median(mut times: Vec<u64>) -> u64 {
    times.sort_unstable();
    times[times.len() / 2]
}
