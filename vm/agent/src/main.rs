// SPDX-License-Identifier: GPL-2.0-only
//! The guest's only program. As PID 1 it prepares the machine and then serves
//! the host; called with `actor` it is a process whose memory is watched.

mod actor;
mod boot;
mod cast;
mod cgroup;
mod files;
mod kmsg;
mod perform;
mod populate;
mod serve;
mod settings;
mod shared;
mod swap;
mod system;
mod touch;
mod tracer;

use anyhow::Result;

fn main() {
    if std::env::args().nth(1).as_deref() == Some(actor::ARGUMENT) {
        actor::main();
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
