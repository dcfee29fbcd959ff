// SPDX-License-Identifier: GPL-2.0-only
//! What a scenario takes beside its steps: judged in a guest that is kept, by the bare
//! steps' own clock in that guest, and by a plain boot of QEMU for it alone.
//!
//! `cargo bench --bench scenarios -- PATH…`, paths from the project's folder on; without
//! one, a scenario each without and with swap, of one hart and of four. Each runs in guests
//! of two harts, where it needs no more, and of five: one of them is the agent's.
//! harness/PERFORMANCE.md keeps what came of it.

mod common;

use common::scenarios;
use protocol::Tracing;
use reference_model::Profile;
use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use tlbdiff::backend::guest::{GuestBackend, Settings};
use tlbdiff::checks::Chosen;
use tlbdiff::convert::to_run;
use tlbdiff::judge::Judge;
use tlbdiff::outcome::Outcome;
use tlbdiff::reading::Reading;
use tlbdiff::scenario::Scenario;
use tlbdiff::snapshot::Set;
use vm::KernelChoice;
use vm::guest::{CpuFeatures, Guest, GuestConfig};

const KERNEL: &str = "stable";
const ROUNDS: usize = 60;
const BOOTS: usize = 3;
const HARTS: [u32; 2] = [2, 5];
const TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT: &[&str] = &[
    "scenarios/munmap/middle.yaml",
    "scenarios/reclaim/then-munmap.yaml",
    "scenarios/threads/on-four-harts.yaml",
];

fn main() -> Result<(), Box<dyn Error>> {
    let scenarios = scenarios(DEFAULT)?;
    println!("judged ms (least-most)  steps ms  boot ms  harts  swap  scenario");
    for scenario in scenarios.into_iter().map(Arc::new) {
        for harts in HARTS.into_iter().filter(|harts| *harts > scenario.harts()) {
            let mut judged = judged(&scenario, harts)?;
            judged.sort_by(f64::total_cmp);
            println!(
                "{:>9.1} ({:.1}-{:.1})  {:>8.2}  {:>7.0}  {harts:>5}  {:>4}  {}",
                judged[judged.len() / 2],
                judged[0],
                judged[judged.len() - 1],
                steps(&scenario, harts)?,
                boot(&scenario, harts)?,
                if scenario.needs_swap() { "yes" } else { "no" },
                scenario.name
            );
        }
    }
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// What it takes to have it judged, again and again.
fn judged(scenario: &Arc<Scenario>, harts: u32) -> Result<Vec<f64>, Box<dyn Error>> {
    let judge = Judge {
        checks: Chosen::default(),
        profile: &Profile::STABLE,
        reading: Reading::Read,
        repeat: 1,
        snapshots: Set::of_kernel(KERNEL),
        kernel: KERNEL.to_owned(),
    };
    let settings = Settings {
        artifacts: vm::locate(&KernelChoice::Named(KERNEL.to_owned()))?,
        harts: Some(harts),
        acted_on: 0,
        memory_mib: 512,
        cpu: CpuFeatures::default(),
        timeout: TIMEOUT,
        restore: true,
        sabotage: None,
        buffer_records: 0,
        eager: false,
        iommu: None,
        counted: false,
    };
    let (sender, _receiver) = channel();
    let mut backend = GuestBackend::new(settings, sender, Arc::default());
    let mut took = Vec::new();
    // The first one starts the guest.
    for round in 0..=ROUNDS {
        let begin = Instant::now();
        let verdict = judge.judge(scenario, &mut backend);
        if verdict.outcome() != Outcome::Agree {
            return Err(format!("{} does not agree", scenario.name).into());
        }
        if round > 0 {
            took.push(ms(begin.elapsed()));
        }
    }
    Ok(took)
}

/// What its steps take by the guest's own clock, untraced, in a guest that is kept.
fn steps(scenario: &Scenario, harts: u32) -> Result<f64, Box<dyn Error>> {
    let mut guest = Guest::start(&config(harts)?, &mut drop)?;
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let run = to_run(scenario, harts, Tracing::default()).ok_or("too few harts")?;
        let report = guest.run(&run, TIMEOUT, &mut drop)?;
        took.push(report.step_ns.iter().sum::<u64>() as f64 / 1e6);
    }
    took.sort_by(f64::total_cmp);
    Ok(took[took.len() / 2])
}

/// What it takes to boot a guest for it and to run it there.
fn boot(scenario: &Scenario, harts: u32) -> Result<f64, Box<dyn Error>> {
    let config = GuestConfig {
        snapshot: false,
        ..config(harts)?
    };
    let mut took = Vec::new();
    for _ in 0..BOOTS {
        let begin = Instant::now();
        let mut guest = Guest::start(&config, &mut drop)?;
        let run = to_run(scenario, harts, Tracing::full(0)).ok_or("too few harts")?;
        guest.run(&run, TIMEOUT, &mut drop)?;
        guest.stop();
        took.push(ms(begin.elapsed()));
    }
    took.sort_by(f64::total_cmp);
    Ok(took[took.len() / 2])
}

fn config(harts: u32) -> Result<GuestConfig, Box<dyn Error>> {
    let artifacts = vm::locate(&KernelChoice::Named(KERNEL.to_owned()))?;
    Ok(GuestConfig {
        harts,
        ..GuestConfig::new(artifacts)
    })
}
