// SPDX-License-Identifier: GPL-2.0-only
//! Ctrl-C: once ends the run in order, twice ends it at once.

use crate::outcome::EXIT_INTERRUPTED;
use crate::run::Message;
use nix::sys::signal::{SigSet, Signal};
use std::sync::mpsc::Sender;
use std::{io, process, thread};

/// From here on signals that ask to end become messages. To be called before
/// any other thread is started, since threads inherit what is blocked.
///
/// # Errors
/// The thread that waits for signals cannot be started.
pub fn listen(sender: Sender<Message>) -> io::Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block()?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            if signals.wait().is_ok() && sender.send(Message::Interrupted).is_ok() {
                let _ = signals.wait();
            }
            process::exit(i32::from(EXIT_INTERRUPTED));
        })?;
    Ok(())
}
