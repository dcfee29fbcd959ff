// SPDX-License-Identifier: GPL-2.0-only
//! Framing: magic `tlbd`, length (u32, little-endian), then a postcard-encoded message.
//!
//! The magic lets either side find out at once that it reads something else
//! (a console, a half-finished conversation) instead of waiting for bytes.

use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, Read, Write};
use thiserror::Error;

const MAGIC: [u8; 4] = *b"tlbd";

/// No message is longer, in bytes.
pub const MAX_FRAME: usize = 64 << 20;

/// Why a message could not be sent or received.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The channel failed or ended.
    #[error("channel: {0}")]
    Io(#[from] io::Error),
    /// What was read is not a frame.
    #[error("not a frame: it begins with {0:02x?}")]
    Magic([u8; 4]),
    /// The frame claims to be longer than any message.
    #[error("a frame of {0} bytes is longer than any message")]
    TooLong(usize),
    /// The frame's content is no message of this version.
    #[error("not a message of this protocol version: {0}")]
    Message(#[from] postcard::Error),
}

/// Writes one message.
///
/// # Errors
/// The channel failed, or the message is too long.
pub fn send(to: &mut impl Write, message: &impl Serialize) -> Result<(), FrameError> {
    let body = postcard::to_stdvec(message)?;
    if body.len() > MAX_FRAME {
        return Err(FrameError::TooLong(body.len()));
    }
    let mut frame = Vec::with_capacity(8 + body.len());
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
    frame.extend_from_slice(&body);
    to.write_all(&frame)?;
    Ok(to.flush()?)
}

/// Reads one message.
///
/// # Errors
/// The channel failed or ended, or what was read is no message of this version.
pub fn receive<M: DeserializeOwned>(from: &mut impl Read) -> Result<M, FrameError> {
    let mut head = [0; 8];
    from.read_exact(&mut head)?;
    let magic: [u8; 4] = head[..4].try_into().expect("4 bytes");
    if magic != MAGIC {
        return Err(FrameError::Magic(magic));
    }
    let length = u32::from_le_bytes(head[4..].try_into().expect("4 bytes")) as usize;
    if length > MAX_FRAME {
        return Err(FrameError::TooLong(length));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(postcard::from_bytes(&body)?)
}
