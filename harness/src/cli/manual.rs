// SPDX-License-Identifier: GPL-2.0-only
//! The command line as manual pages, and as what shells complete it with.

use super::args::{Cli, CompletionsArgs, ManArgs};
use super::failure::Failure;
use crate::outcome::EXIT_AGREE;
use clap::CommandFactory;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Writes the manual pages.
pub fn man(args: &ManArgs) -> Result<u8, Failure> {
    write_pages(&args.dir)
        .map_err(|error| Failure::Cannot(format!("{}: {error}", args.dir.display())))?;
    Ok(EXIT_AGREE)
}

/// One page for the program and one for each of its commands.
fn write_pages(dir: &Path) -> io::Result<()> {
    // Else each page would have one of its own for `help`.
    let command = Cli::command().disable_help_subcommand(true);
    fs::create_dir_all(dir)?;
    clap_mangen::generate_to(command, dir)
}

/// Prints what a shell completes the command line with.
pub fn completions(args: &CompletionsArgs) -> Result<u8, Failure> {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    // It is written at once, for clap's printing would panic where a reader has gone.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    io::stdout().write_all(&script)?;
    Ok(EXIT_AGREE)
}
