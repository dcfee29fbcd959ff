// SPDX-License-Identifier: GPL-2.0-only
//! The memory that the agent, its zygotes and all actors share. It is mapped once, before
//! there are any, and used for one program after the other:
//!
//! ```text
//! orders to zygotes | length of the script | words of Shared | the script, in postcard
//! ```

use crate::files;
use anyhow::{Context, Result, bail};
use operations::PAGE_SIZE;
use std::os::fd::{IntoRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Its size in words. Pages that nobody has used take no memory.
const WORDS: usize = (256 << 20) / 8;
/// Words of orders: an order and its answer for each hart.
pub const ORDERS: usize = 2 * HARTS;
/// Harts that there may be.
const HARTS: usize = 1024;
/// Length of the script, in bytes, and where its first word is.
const SCRIPT: usize = ORDERS;
/// The first word that a program uses for itself.
const FIRST: usize = SCRIPT + 2;
/// What a program used beyond that is given back when it has ended, in words.
const KEPT: usize = (1 << 20) / 8;

/// The mapped memory.
#[derive(Clone, Copy)]
pub struct Region {
    words: &'static [AtomicU64],
    fd: RawFd,
}

impl Region {
    /// Makes it.
    ///
    /// # Errors
    /// The kernel refuses the memory.
    pub fn make() -> Result<Region> {
        let file = files::memfd(c"tlbdiff-shared")?;
        file.set_len(WORDS as u64 * 8)
            .context("cannot size the shared memory")?;
        Region::map(file.into_raw_fd())
    }

    /// Maps that of a descriptor that was inherited.
    ///
    /// # Errors
    /// The memory cannot be mapped.
    pub fn map(fd: RawFd) -> Result<Region> {
        // SAFETY: a new mapping of a memfd of that size; AtomicU64 has no invalid values.
        let words = unsafe {
            let at = libc::mmap(
                std::ptr::null_mut(),
                WORDS * 8,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                fd,
                0,
            );
            if at == libc::MAP_FAILED {
                let error = std::io::Error::last_os_error();
                bail!("cannot map the shared memory: {error}");
            }
            std::slice::from_raw_parts(at.cast::<AtomicU64>(), WORDS)
        };
        Ok(Region { words, fd })
    }

    /// The descriptor, for who executes a program.
    pub fn fd(&self) -> RawFd {
        self.fd
    }

    /// The two words by which a hart's zygote is told what to do, and answers.
    pub fn order(&self, hart: usize) -> Option<(&'static AtomicU64, &'static AtomicU64)> {
        (hart < HARTS).then(|| (&self.words[2 * hart], &self.words[2 * hart + 1]))
    }

    /// Words for a program's own use, all 0, and behind them its script.
    ///
    /// # Errors
    /// There is not that much room.
    pub fn begin(&self, words: usize, script: &[u8]) -> Result<()> {
        let first = FIRST + words;
        let room = WORDS - FIRST;
        if words > room || script.len().div_ceil(8) > room - words {
            bail!(
                "the program is too large: {words} words and {} bytes",
                script.len()
            );
        }
        for word in &self.words[FIRST..first] {
            word.store(0, SeqCst);
        }
        for (word, bytes) in self.words[first..].iter().zip(script.chunks(8)) {
            let mut value = [0; 8];
            value[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_ne_bytes(value), SeqCst);
        }
        self.words[SCRIPT].store(script.len() as u64, SeqCst);
        self.words[SCRIPT + 1].store(first as u64, SeqCst);
        Ok(())
    }

    /// The words of the program that was begun last.
    pub fn words(&self) -> &'static [AtomicU64] {
        let end = self.words[SCRIPT + 1].load(SeqCst) as usize;
        &self.words[FIRST..end.clamp(FIRST, self.words.len())]
    }

    /// Its script.
    pub fn script(&self) -> Vec<u8> {
        let (length, first) = (&self.words[SCRIPT], &self.words[SCRIPT + 1]);
        let (length, first) = (length.load(SeqCst) as usize, first.load(SeqCst) as usize);
        let words = &self.words[first..][..length.div_ceil(8)];
        let mut bytes: Vec<u8> = words
            .iter()
            .flat_map(|word| word.load(SeqCst).to_ne_bytes())
            .collect();
        bytes.truncate(length);
        bytes
    }

    /// The program has ended: what it used beyond the usual is given back.
    pub fn end(&self) {
        let used = self.words().len() + self.words[SCRIPT].load(SeqCst) as usize / 8;
        if used > KEPT {
            let behind = &self.words[KEPT..];
            let at = behind.as_ptr().cast_mut().cast();
            // SAFETY: the memory is the region's own, and reads as 0 from now on. Where the
            // kernel refuses it, the memory stays in use.
            unsafe { libc::madvise(at, behind.len() * 8, libc::MADV_REMOVE) };
        }
    }

    /// What a program needs of it and nothing behind, which this process has no more: it has read
    /// its script.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn without_the_rest(self) -> Result<Region> {
        let page = PAGE_SIZE as usize / 8;
        let used = (FIRST + self.words().len())
            .next_multiple_of(page)
            .min(WORDS);
        let (words, rest) = self.words.split_at(used);
        let at = rest.as_ptr().cast_mut().cast();
        // SAFETY: whole pages of the region's own, which nothing of this process refers to from
        // now on: words of programs and orders are before.
        if unsafe { libc::munmap(at, rest.len() * 8) } < 0 {
            let error = std::io::Error::last_os_error();
            bail!("cannot unmap the rest of the shared memory: {error}");
        }
        Ok(Region { words, ..self })
    }

    /// Faults in what a program needs of it.
    pub fn populate(&self) {
        let used = FIRST + self.words().len();
        for word in self.words[..used].iter().step_by(512) {
            word.fetch_add(0, SeqCst);
        }
    }
}
