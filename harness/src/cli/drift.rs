// SPDX-License-Identifier: GPL-2.0-only
//! What changed between two kernels.

use super::args::DriftArgs;
use super::config::style;
use super::failure::Failure;
use crate::drift::{self, Source};
use crate::report::drifts::Drifts;
use reference_model::mirrored::mirrors;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::thread;
use vm::{KernelChoice, VmError};

/// Says what changed of what the model mirrors.
pub fn drift(args: &DriftArgs) -> Result<u8, Failure> {
    let [old, new] = thread::scope(|scope| {
        let reads = [&args.old, &args.new].map(|kernel| scope.spawn(|| source(kernel)));
        reads.map(|read| {
            read.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    });
    let (old, new, mirrors) = (old?, new?, mirrors());
    let mut drift = drift::drift(&old, &new, &mirrors);
    if !args.function.is_empty() {
        drift.keep(&args.function);
    }
    let mut printer = Drifts {
        out: io::stdout().lock(),
        format: args.format,
        brief: args.brief,
        colour: style().colour,
    };
    printer.tell(&drift, [&old, &new])?;
    Ok(drift.exit_code())
}

/// The source of a kernel: a folder, or what a name stands for.
fn source(kernel: &OsStr) -> Result<Source, Failure> {
    let text = kernel.to_string_lossy();
    let is_folder = text.contains('/') || Path::new(kernel).is_dir();
    let choice = if is_folder {
        KernelChoice::Tree(kernel.into())
    } else {
        let name = vm::kernel_name(&text).map_err(told)?;
        KernelChoice::Named(name)
    };
    let root = vm::source(&choice).map_err(told)?;
    let read = Source::read(text.into_owned(), &root);
    read.map_err(|error| Failure::Cannot(format!("{}: {error}", root.display())))
}

fn told(error: VmError) -> Failure {
    match error {
        VmError::UnknownKernel { .. } | VmError::BadTree { .. } => {
            Failure::Usage(error.to_string())
        }
        other => Failure::Cannot(other.to_string()),
    }
}
