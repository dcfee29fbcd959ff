// SPDX-License-Identifier: GPL-2.0-only
//! The multi-gen LRU, switched on by a step, aged and evicted from by debugfs. Nothing here
//! allocates.

use crate::system_file;
use operations::StepResult;
use std::ffi::CStr;
use std::io::Write;

/// Which parts of it are on.
pub const ENABLED: &str = "/sys/kernel/mm/lru_gen/enabled";
/// What it has of each cgroup, and where it is told what to do.
const DEBUG: &CStr = c"/sys/kernel/debug/lru_gen";

/// `MIN_NR_GENS` of include/linux/mmzone.h: the youngest ones, which are never evicted.
const MIN_NR_GENS: u64 = 2;
/// As /proc/sys/vm/swappiness is (settings.rs).
const SWAPPINESS: u64 = 60;

/// Whether the kernel has it, and can be told so.
pub fn is_there() -> bool {
    let there = |path: &str| std::path::Path::new(path).exists();
    there(ENABLED) && there(DEBUG.to_str().unwrap_or_default())
}

/// These parts of it are on, no others.
pub fn enable(parts: u64) -> StepResult {
    let mut digits = [0; 20];
    let text = crate::perform::decimal(parts, &mut digits);
    result(system_file::write(c"/sys/kernel/mm/lru_gen/enabled", text))
}

/// The cgroup of this process gets a new youngest generation, whatever generations there are.
pub fn age() -> StepResult {
    let aged = Generations::of_own_cgroup().and_then(|own| {
        let force = 1;
        own.tell('+', own.youngest, force)
    });
    result(aged)
}

/// Pages of its generations but the youngest ones are reclaimed, so many at the least.
pub fn evict(pages: u64) -> StepResult {
    let evicted = Generations::of_own_cgroup().and_then(|own| {
        let last = own.youngest.checked_sub(MIN_NR_GENS);
        own.tell('-', last.ok_or(libc::EINVAL)?, pages)
    });
    result(evicted)
}

fn result(done: Result<(), i32>) -> StepResult {
    match done {
        Ok(()) => StepResult::Ok,
        Err(errno) => StepResult::Errno(errno),
    }
}

/// A cgroup, as [`DEBUG`] has it, with one node of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Generations {
    memcg: u64,
    node: u64,
    youngest: u64,
}

impl Generations {
    fn of_own_cgroup() -> Result<Generations, i32> {
        let mut text = [0u8; 256];
        let length = read(c"/proc/self/cgroup", &mut text)?;
        let path = std::str::from_utf8(&text[..length]).map_err(|_| libc::EINVAL)?;
        let path = path.trim().strip_prefix("0::").ok_or(libc::EINVAL)?;
        let mut found = Finder::new(path);
        each_line(DEBUG, &mut |line| found.take(line))?;
        found.found.ok_or(libc::ENOENT)
    }

    fn tell(&self, what: char, generation: u64, option: u64) -> Result<(), i32> {
        let mut text = [0u8; 96];
        let mut rest = &mut text[..];
        let (memcg, node) = (self.memcg, self.node);
        write!(
            rest,
            "{what} {memcg} {node} {generation} {SWAPPINESS} {option}"
        )
        .map_err(|_| libc::EINVAL)?;
        let left = rest.len();
        let length = text.len() - left;
        system_file::write(DEBUG, &text[..length])
    }
}

/// Looks for a cgroup among the lines of [`DEBUG`].
struct Finder<'a> {
    path: &'a str,
    inside: bool,
    now: Generations,
    found: Option<Generations>,
}

impl<'a> Finder<'a> {
    fn new(path: &'a str) -> Finder<'a> {
        Finder {
            path,
            inside: false,
            now: Generations::default(),
            found: None,
        }
    }

    /// `memcg ID PATH`, then for each node `node ID`, and for each of its generations, the oldest
    /// first, a line that begins with its number.
    fn take(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let (first, second) = (words.next().unwrap_or_default(), words.next());
        let number = second.and_then(|word| word.parse().ok()).unwrap_or(0);
        match first {
            "memcg" => {
                self.inside = words.next() == Some(self.path);
                self.now.memcg = number;
            }
            "node" => self.now.node = number,
            first if self.inside => {
                if let Ok(youngest) = first.parse() {
                    self.now.youngest = youngest;
                    self.found = Some(self.now);
                }
            }
            _ => {}
        }
    }
}

fn read(path: &CStr, text: &mut [u8]) -> Result<usize, i32> {
    system_file::with(path, libc::O_RDONLY, |fd| {
        // SAFETY: reads into a valid buffer.
        unsafe { libc::read(fd, text.as_mut_ptr().cast(), text.len()) }
    })
}

/// Each line of a file of any length; of lines that are no longer than the buffer.
fn each_line(path: &CStr, take: &mut dyn FnMut(&str)) -> Result<(), i32> {
    let mut text = [0u8; 4096];
    let mut kept = 0;
    let read = system_file::with(path, libc::O_RDONLY, |fd| {
        loop {
            let room = &mut text[kept..];
            // SAFETY: reads into a valid buffer.
            let read = unsafe { libc::read(fd, room.as_mut_ptr().cast(), room.len()) };
            if read <= 0 {
                return read;
            }
            let length = kept + read as usize;
            let mut begin = 0;
            while let Some(end) = text[begin..length].iter().position(|byte| *byte == b'\n') {
                take(std::str::from_utf8(&text[begin..begin + end]).unwrap_or_default());
                begin += end + 1;
            }
            text.copy_within(begin..length, 0);
            kept = length - begin;
        }
    });
    read.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_youngest_generation_is_the_last_of_its_cgroup() {
        let text = "memcg     1 /\n node     0\n          0     4160          0         25 \n\
                    memcg     7 /tlbdiff-3\n node     0\n          2      100         64          0 \n\
                    \t          5       10          0          0 \nmemcg     8 /tlbdiff-33\n\
                    node 0\n 9 1 2 3\n";
        let mut finder = Finder::new("/tlbdiff-3");
        text.lines().for_each(|line| finder.take(line));
        let own = Generations {
            memcg: 7,
            node: 0,
            youngest: 5,
        };
        assert_eq!(finder.found, Some(own));
    }
}
