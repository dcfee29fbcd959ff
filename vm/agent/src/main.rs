// SPDX-License-Identifier: GPL-2.0-only
//! The program on the machine under test. In a guest, as PID 1, it prepares the machine
//! and then serves the host; called with `board` it does so on a machine that others use
//! as well, over standard input and output; called with `actor` it is a process whose
//! memory is watched.

mod actor;
mod board;
mod boot;
mod call;
mod cast;
mod cgroup;
mod cma;
mod damon;
mod disks;
mod file_io;
mod files;
mod futex;
mod handed;
mod harts;
mod hugetlb;
mod iommu;
mod kept;
mod kmsg;
mod ksm;
mod kswapd;
mod kvm;
mod limits;
mod lru_gen;
mod memory_block;
mod nodes;
mod notes;
mod outside;
mod pagemap;
mod perform;
mod pins;
mod plain;
mod populate;
mod region;
mod room;
mod serve;
mod settings;
mod shared;
mod swap;
mod system;
mod system_file;
mod thp;
mod touch;
mod tracer;
mod uffd;
mod undo;
mod uprobe;
mod vfork;
mod workload;
mod zygote;

use anyhow::Result;
use nix::sys::personality::{self, Persona};
use nix::unistd::execv;
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use zygote::Zygotes;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        [call::ACTOR, ..] => actor::main(),
        [call::SERVE, module] => {
            fix_addresses(c"/proc/self/exe");
            std::process::exit(board::serve(Path::new(module)))
        }
        [call::RESTORE] => std::process::exit(board::restore()),
        _ if std::process::id() != 1 => {
            eprintln!("tlbdiff-agent: started by tlbdiff, not by hand");
            std::process::exit(2);
        }
        _ => {}
    }
    fix_addresses(c"/init");
    if let Err(error) = agent() {
        println!("tlbdiff-agent: {error:#}");
    }
    boot::power_off();
}

/// Begins again where nothing has an address of its own choice, and so nothing of what
/// is forked from here: which tables a step shares with the rest must not be chance.
fn fix_addresses(program: &CStr) {
    let fixed = Persona::ADDR_NO_RANDOMIZE;
    let (Ok(now), words) = (personality::get(), std::env::args_os()) else {
        return;
    };
    if now.contains(fixed) || personality::set(now | fixed).is_err() {
        return;
    }
    let words = words.map(|word| CString::new(word.into_vec()));
    if let Ok(words) = words.collect::<Result<Vec<_>, _>>() {
        let Err(error) = execv(program, &words);
        eprintln!("tlbdiff-agent: cannot begin again: {error}");
    }
}

fn agent() -> Result<()> {
    boot::prepare()?;
    let mut zygotes = Zygotes::new()?;
    zygotes.make(harts::online()?)?;
    let port = boot::open_port()?;
    println!("tlbdiff-agent: ready");
    let output = port.try_clone()?;
    serve::serve(port, output, zygotes)
}
