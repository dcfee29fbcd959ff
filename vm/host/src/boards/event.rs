// SPDX-License-Identifier: GPL-2.0-only
//! What happens while a board is made ready.

use std::time::Duration;

/// What happens while a board is made ready. For showing only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BoardEvent {
    /// It is asked what it is.
    Connecting {
        /// Where it is.
        place: String,
    },
    /// The tracing module is built there.
    BuildingModule,
    /// The agent has answered.
    Ready {
        /// Where.
        place: String,
        /// `uname -r` there.
        release: String,
        /// How functions are hooked.
        tracing: String,
        /// Since the start.
        took: Duration,
    },
}
