// SPDX-License-Identifier: GPL-2.0-only
//! The guest's only program. As PID 1 it prepares the machine and then serves
//! the host; called with `subject` it is the process whose memory is watched.

mod boot;
mod cgroup;
mod files;
mod kmsg;
mod serve;
mod settings;
mod subject;
mod swap;
mod system;
mod touch;
mod tracer;

use anyhow::Result;

fn main() {
    let subject = std::env::args().nth(1).as_deref() == Some(subject::ARGUMENT);
    if subject {
        subject::main();
    }
    if let Err(error) = agent() {
        println!("tlbdiff-agent: {error:#}");
    }
    boot::power_off();
}

fn agent() -> Result<()> {
    boot::prepare()?;
    let port = boot::open_port()?;
    println!("tlbdiff-agent: ready");
    serve::serve(port)
}
