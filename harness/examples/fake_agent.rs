// SPDX-License-Identifier: GPL-2.0-only
//! For `tests/boards.rs`: an agent whose board has one fault, which is its argument.

use protocol::message::{Report, System};
use protocol::{PROTOCOL_VERSION, Reply, Request, frame};
use std::io::{stdin, stdout};
use std::process::exit;
use std::thread::sleep;
use std::time::Duration;

/// What ssh ends with where the connection is lost.
const SSH_LOST: i32 = 255;

fn main() {
    let fault = std::env::args().nth(1).unwrap_or_default();
    let (mut input, mut output) = (stdin().lock(), stdout().lock());
    // The end of the conversation is an error here.
    while let Ok(request) = frame::receive::<Request>(&mut input) {
        let reply = match request {
            Request::Hello { .. } => Reply::Ready {
                version: PROTOCOL_VERSION - u32::from(fault == "old"),
                system: system(),
            },
            Request::Run { id, .. } => match fault.as_str() {
                "dropped" | "rebooted" | "panicked" => exit(SSH_LOST),
                "silent" => loop {
                    sleep(Duration::from_secs(60));
                },
                "stuck" => Reply::Stuck {
                    id,
                    step: 1,
                    why: "it is in unmap_page_range".to_owned(),
                },
                "refusing" => Reply::Failed {
                    id,
                    why: "cannot reset zram".to_owned(),
                },
                _ => Reply::Done {
                    id,
                    report: tainted(),
                },
            },
            Request::Put { .. }
            | Request::Observe { .. }
            | Request::Sabotage(_)
            | Request::Poweroff => return,
        };
        if frame::send(&mut output, &reply).is_err() {
            return;
        }
    }
}

fn system() -> System {
    System {
        release: "6.12.107-fake".to_owned(),
        harts: 4,
        mmu: "sv48".to_owned(),
        asids: true,
        ..System::default()
    }
}

/// The kernel warned of the steps, and warns of other things all the time.
fn tainted() -> Report {
    Report {
        steps: vec![operations::StepResult::Ok; 3],
        taint_after: 1 << 9,
        kernel_warnings: vec!["WARNING: CPU: 1 at mm/memory.c".to_owned()],
        ..Report::default()
    }
}
