// SPDX-License-Identifier: GPL-2.0-only
//! A restored guest is as good as a booted one. Needs `./vm/provision`.

use operations::{ARENA_PAGES, Actor, ActorKind, Op, Program, Step};
use protocol::{Run, Tracing};
use std::time::Duration;
use tlbdiff_vm::{
    KernelChoice,
    guest::{Guest, GuestConfig, GuestError, GuestEvent},
    locate,
};

/// A guest, restored: the first start saves it where that has not been done yet.
fn restored() -> Guest {
    let artifacts = locate(&KernelChoice::Named("stable".into())).expect("run ./vm/provision");
    let config = GuestConfig::new(artifacts);
    for _ in 0..2 {
        let mut ready = None;
        let guest = Guest::start(&config, &mut |event| {
            if let GuestEvent::Ready { restored, .. } = event {
                ready = Some(restored);
            }
        });
        let guest = guest.unwrap_or_else(|error| panic!("{error}\n{}", error.console()));
        if ready == Some(true) {
            return guest;
        }
    }
    panic!("what the first start saved, the second did not restore");
}

/// Reads as much memory as takes emulated harts some seconds.
fn takes_long() -> Run {
    let (at, pages) = (0, ARENA_PAGES);
    let map = Op::Mmap {
        at,
        pages,
        prot: libc::PROT_READ,
        flags: libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
        file: None,
        offset: 0,
    };
    let touch = Op::Touch {
        at,
        pages,
        every: 1,
        write: false,
        value: None,
    };
    let subject = Actor {
        kind: ActorKind::Process { mm: 0 },
        hart: 1,
    };
    Run {
        program: Program {
            files: Vec::new(),
            actors: vec![subject],
            steps: [map, touch].map(|op| Step { by: 0, op }).to_vec(),
            ..Program::default()
        },
        tracing: Tracing::full(0),
        ..Run::default()
    }
}

/// Without timer interrupts the agent would sleep until the subject's end,
/// and never see that its time is over.
#[test]
fn its_timers_fire() {
    let mut guest = restored();
    let result = guest.run(&takes_long(), Duration::from_millis(100), &mut |_| ());
    let Err(GuestError::AgentFailed { why, .. }) = &result else {
        panic!("{result:?}");
    };
    assert!(guest.usable(), "{why}");
    let mut short = takes_long();
    short.program.steps.truncate(1);
    let report = guest.run(&short, Duration::from_secs(10), &mut |_| ());
    assert_eq!(report.expect("it is well").steps.len(), 1);
}
