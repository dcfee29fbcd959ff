// SPDX-License-Identifier: GPL-2.0-only
//! The program on the machine under test. In a guest, as PID 1, it prepares the machine
//! and then serves the host; called with `board` it does so on a machine that others use
//! as well, over standard input and output; called with `actor` it is a process whose
//! memory is watched.

mod actor;
mod board;
mod boot;
mod cast;
mod cgroup;
mod files;
mod kmsg;
mod limits;
mod perform;
mod populate;
mod serve;
mod settings;
mod shared;
mod swap;
mod system;
mod touch;
mod tracer;
mod undo;

use anyhow::Result;
use std::path::Path;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        [actor::ARGUMENT, ..] => actor::main(),
        [board::SERVE, module] => std::process::exit(board::serve(Path::new(module))),
        [board::RESTORE] => std::process::exit(board::restore()),
        _ if std::process::id() != 1 => {
            eprintln!("tlbdiff-agent: started by tlbdiff, not by hand");
            std::process::exit(2);
        }
        _ => {}
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
    let output = port.try_clone()?;
    serve::serve(port, output)
}
