// SPDX-License-Identifier: GPL-2.0-only
//! kswapd at work for as long as a step takes: watermarks rise above what is free, and fall again.
//! Nothing here allocates.

use crate::{harts, system_file, thp};
use operations::{PAGE_SIZE, StepResult};
use std::ffi::CStr;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What all watermarks are made from (`__setup_per_zone_wmarks()`).
pub const MIN_FREE: &str = "/proc/sys/vm/min_free_kbytes";
const MIN_FREE_C: &CStr = c"/proc/sys/vm/min_free_kbytes";
const VMSTAT: &CStr = c"/proc/vmstat";
const MEMINFO: &CStr = c"/proc/meminfo";
/// hugetlb's pages of 2 MiB.
pub const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
const POOL_C: &CStr = c"/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
/// What one of them takes, in KiB.
const POOLED: u64 = 2048;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(20);
/// So many looks without a page that it took: it sleeps.
const ASLEEP: u32 = 15;

/// A step: kswapd frees so many pages, or as many as it can.
///
/// Of three watermarks the lowest is `min`, the next one a quarter higher, and the highest one
/// another quarter. Whoever allocates below `low` wakes kswapd, which then goes on until `high`;
/// below `min` one would have to reclaim by oneself. So free memory has to be between `min` and
/// `low`, which is so where more than twice and less than five times the pages are free that are
/// to be freed. What is free beyond that is in hugetlb's pool meanwhile.
pub fn free(kswapd: i32, pages: u64) -> StepResult {
    match raise(kswapd, pages) {
        Ok(()) => StepResult::Ok,
        Err(errno) => StepResult::Errno(errno),
    }
}

fn raise(kswapd: i32, pages: u64) -> Result<(), i32> {
    let wanted = pages * (PAGE_SIZE >> 10);
    // A kernel without hugetlb has no pool.
    let Ok(pooled) = system_file::number(POOL_C) else {
        return below_low(kswapd, wanted);
    };
    let more = line(MEMINFO, b"MemFree:")?.saturating_sub(7 * wanted / 2) / POOLED;
    set(POOL_C, pooled + more)?;
    let done = below_low(kswapd, wanted);
    set(POOL_C, pooled)?;
    done
}

/// In KiB.
fn below_low(kswapd: i32, wanted: u64) -> Result<(), i32> {
    let free = line(MEMINFO, b"MemFree:")?;
    if free <= 2 * wanted || free >= 5 * wanted {
        return Err(libc::EINVAL);
    }
    let before = system_file::number(MIN_FREE_C)?;
    harts::keep_kernel_thread(kswapd);
    set(MIN_FREE_C, 2 * (free + wanted) / 3)?;
    let slept = await_sleep();
    set(MIN_FREE_C, before)?;
    // Its last flush comes after the last page that it took.
    thp::until(|| thp::is_asleep(kswapd))?;
    slept
}

fn set(path: &CStr, value: u64) -> Result<(), i32> {
    let mut digits = [0; 20];
    system_file::write(path, crate::perform::decimal(value, &mut digits))
}

/// Whoever allocates a page wakes kswapd: so that is done before each look.
fn await_sleep() -> Result<(), i32> {
    let begin = Instant::now();
    let (mut stolen, mut still) = (line(VMSTAT, b"pgscan_kswapd ")?, 0);
    while still < ASLEEP {
        if begin.elapsed() > PATIENCE {
            return Err(libc::ETIMEDOUT);
        }
        allocate()?;
        sleep(LOOK);
        let now = line(VMSTAT, b"pgscan_kswapd ")?;
        still = if now == stolen { still + 1 } else { 0 };
        stolen = now;
    }
    Ok(())
}

/// A page, for a byte in a pipe.
fn allocate() -> Result<(), i32> {
    let mut pipe = [0; 2];
    let byte = 0u8;
    // SAFETY: two descriptors of our own, and a byte that is only read.
    let written = unsafe {
        if libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC) < 0 {
            return Err(*libc::__errno_location());
        }
        let written = libc::write(pipe[1], (&raw const byte).cast(), 1);
        libc::close(pipe[0]);
        libc::close(pipe[1]);
        written
    };
    if written == 1 {
        Ok(())
    } else {
        Err(libc::ENOMEM)
    }
}

/// The number in the line that begins so.
fn line(path: &CStr, name: &[u8]) -> Result<u64, i32> {
    let mut text = [0u8; 8192];
    let length = system_file::with(path, libc::O_RDONLY, |fd| {
        let mut length = 0;
        loop {
            let room = &mut text[length..];
            // SAFETY: reads into a valid buffer.
            let read = unsafe { libc::read(fd, room.as_mut_ptr().cast(), room.len()) };
            if read < 0 {
                return read;
            }
            if read == 0 {
                return length as isize;
            }
            length += read as usize;
        }
    })?;
    number(&text[..length], name).ok_or(libc::EINVAL)
}

fn number(text: &[u8], name: &[u8]) -> Option<u64> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let rest = lines.find_map(|line| line.strip_prefix(name))?;
    let rest = std::str::from_utf8(rest).ok()?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_found_by_the_whole_name() {
        let text = b"pgscan_kswapd_x 3\npgscan_kswapd 12\nMemFree:    4711 kB\n";
        assert_eq!(number(text, b"pgscan_kswapd "), Some(12));
        assert_eq!(number(text, b"MemFree:"), Some(4711));
        assert_eq!(number(text, b"pgsteal "), None);
    }
}
