// SPDX-License-Identifier: GPL-2.0-only
//! Empty swap on zram for each program that needs it, and no other.

use crate::notes::{self, Note};
use crate::{files, harts};
use anyhow::{Context, Result};
use nix::errno::Errno;
use operations::{Memory, PAGE_SIZE, Program, Thp};
use protocol::Run;
use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Size of the device in bytes; zram takes memory only for what is in it.
pub const SIZE: u64 = 256 << 20;

/// Where zram devices are made and removed.
const CONTROL: &str = "/sys/class/zram-control";
/// SWAP_FLAG_PREFER of include/linux/swap.h
const SWAP_FLAG_PREFER: i32 = 0x8000;

/// How long others may look at a device that has changed.
const LOOKED_AT: Duration = Duration::from_secs(10);

/// The number of the device that is ours. In a guest the first is nobody else's.
static DEVICE: OnceLock<u32> = OnceLock::new();

fn device(number: u32) -> PathBuf {
    PathBuf::from(format!("/dev/zram{number}"))
}

fn sysfs(number: u32) -> PathBuf {
    PathBuf::from(format!("/sys/block/zram{number}"))
}

/// Whether the kernel has the device, or can have it.
pub fn available() -> bool {
    sysfs(0).exists() || Path::new(CONTROL).exists()
}

/// On a machine that others use: loads zram if need be, and switches off what swap is on.
///
/// # Errors
/// What is swapped out does not fit into memory.
pub fn take_over() -> Result<()> {
    if !Path::new(CONTROL).exists() {
        load_zram()?;
    }
    for (path, priority) in in_order_of_priority(&files::read(Path::new("/proc/swaps"))?) {
        notes::note(&Note::Swap(path.clone(), priority))?;
        off(&path).with_context(|| format!("swapoff {}", path.display()))?;
    }
    Ok(())
}

/// With all that it needs. Without it, what needs swap is skipped.
fn load_zram() -> Result<()> {
    let Ok(shown) = Command::new("modprobe")
        .args(["--show-depends", "zram"])
        .output()
    else {
        return Ok(());
    };
    let loaded = files::read(Path::new("/proc/modules"))?;
    for module in to_load(&String::from_utf8_lossy(&shown.stdout), &loaded) {
        notes::note(&Note::OtherModule(module))?;
    }
    let _ = Command::new("modprobe").arg("zram").status();
    Ok(())
}

/// Of the modules that modprobe shows, in its order, those that /proc/modules has not.
fn to_load(shown: &str, loaded: &str) -> Vec<String> {
    let files = shown
        .lines()
        .filter_map(|line| line.strip_prefix("insmod "));
    let names = files.filter_map(|file| {
        let name = file.split_whitespace().next()?.rsplit('/').next()?;
        Some(name.split('.').next()?.replace('-', "_"))
    });
    let is_loaded = |name: &String| {
        let mut lines = loaded.lines();
        lines.any(|line| line.split(' ').next() == Some(name))
    };
    names.filter(|name| !is_loaded(name)).collect()
}

/// The devices and priorities of /proc/swaps, the lowest first: what is noted last is
/// undone first, and priorities that the kernel gives fall from device to device.
fn in_order_of_priority(swaps: &str) -> Vec<(PathBuf, i32)> {
    let lines = swaps.lines().skip(1);
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        // seq_file_path() of mm/swapfile.c escapes what would break a line or a column.
        let path = words.next()?.replace("\\040", " ").replace("\\011", "\t");
        Some((path.into(), words.last()?.parse().ok()?))
    };
    let mut active: Vec<(PathBuf, i32)> = lines.filter_map(parse).collect();
    active.sort_by_key(|(_, priority)| *priority);
    active
}

/// The number of our device, added at its first use where others may have some as well.
fn number() -> Result<u32> {
    if let Some(number) = DEVICE.get() {
        return Ok(*number);
    }
    let number = if notes::is_kept() {
        let text = files::read(&Path::new(CONTROL).join("hot_add"))?;
        let number = text.trim().parse().context("zram's hot_add")?;
        notes::note(&Note::Zram(number))?;
        number
    } else {
        0
    };
    Ok(*DEVICE.get_or_init(|| number))
}

/// Removes a device that was added.
///
/// # Errors
/// It is still in use.
pub fn remove(number: u32) -> Result<()> {
    if !sysfs(number).exists() {
        return Ok(());
    }
    off(&device(number)).context("swapoff")?;
    write_when_closed(&Path::new(CONTROL).join("hot_remove"), &number.to_string())
        .with_context(|| format!("cannot remove zram{number}"))
}

/// A change of a device has udev open it and look at it, for a moment.
fn write_when_closed(path: &Path, text: &str) -> std::io::Result<()> {
    let end = Instant::now() + LOOKED_AT;
    loop {
        match fs::write(path, text) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < end => {
                sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

/// Whether the device has its size and its header.
static MADE: AtomicBool = AtomicBool::new(false);
/// Whether swap is on.
static ON: AtomicBool = AtomicBool::new(false);
/// Whether only small programs have used it since.
static LIKE_NEW: AtomicBool = AtomicBool::new(false);

/// Slots that the kernel keeps for each hart on the way in and out, at the most
/// (SWAP_SLOTS_CACHE_SIZE of include/linux/swap_slots.h), in KiB.
const KEPT_BY_A_HART: u64 = 2 * 64 * 4;

/// Swap on, as good as fresh and empty, or off, as a program needs it.
///
/// swapon(2) begins with all clusters free, whatever zram still has of slots that nobody has
/// any more: so the device itself is made once. To switch swap off and on takes longer than
/// a short program. Where a small program has used it, it is as good as fresh to another
/// small program: all its slots are free again, and which of them are taken next is not
/// seen, for nothing is read ahead. It would be where a huge page has to find room in one
/// piece, or where swap fills up.
///
/// # Errors
/// The device is missing, or refuses a step.
pub fn set(run: &Run) -> Result<()> {
    let small = is_small(&run.program);
    if ON.load(SeqCst) {
        if run.swap && small && LIKE_NEW.load(SeqCst) && is_empty()? {
            return Ok(());
        }
        off(&device(number()?)).context("swapoff")?;
        ON.store(false, SeqCst);
    }
    if run.swap {
        if !MADE.load(SeqCst) {
            make()?;
            MADE.store(true, SeqCst);
        }
        on_with(&device(number()?), 0)?;
        ON.store(true, SeqCst);
        LIKE_NEW.store(small, SeqCst);
    }
    Ok(())
}

/// A program has switched it off itself.
pub fn forget() {
    // Off it would do no harm: switching it off again is none.
    LIKE_NEW.store(false, SeqCst);
}

/// Whether a program makes no large folio, and has by far less memory than swap has room for: which
/// slots are free, and in how long a row, then shows in nothing.
pub fn is_small(program: &Program) -> bool {
    let steps = || program.steps.iter().map(|step| step.op.memory());
    let grown = steps().map(|memory| match memory {
        Memory::Pages(pages) => pages,
        Memory::NoMore | Memory::HugePages => 0,
    });
    let files = program.files.iter().map(|file| file.pages);
    let pages: u64 = grown.chain(files).sum();
    program.thp == Thp::default()
        && !steps().any(|memory| memory == Memory::HugePages)
        && pages * (program.mms() as u64) < SIZE / PAGE_SIZE / 8
}

/// Whether all slots were given back, but for those that harts keep.
fn is_empty() -> Result<bool> {
    let swaps = files::read(Path::new("/proc/swaps"))?;
    let used = used(&swaps).context("/proc/swaps says nothing of our device")?;
    Ok(used <= KEPT_BY_A_HART * u64::from(harts::online()?))
}

/// The sum of what is used, in KiB.
fn used(swaps: &str) -> Option<u64> {
    let lines = swaps.lines().skip(1);
    lines
        .map(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok())
        .sum()
}

fn make() -> Result<()> {
    let number = number()?;
    let sysfs = sysfs(number);
    write_when_closed(&sysfs.join("reset"), "1").context("cannot reset zram")?;
    fs::write(sysfs.join("disksize"), SIZE.to_string()).context("cannot size zram")?;
    let path = device(number);
    let device = OpenOptions::new()
        .write(true)
        .open(&path)
        .context("cannot open zram")?;
    device
        .write_all_at(&header(), 0)
        .context("cannot write the swap header")?;
    device
        .sync_all()
        .context("cannot write the swap header through")
}

fn off(path: &Path) -> nix::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the path is a valid C string; swapoff touches no memory of ours.
    match Errno::result(unsafe { libc::swapoff(path.as_ptr()) }) {
        // It was not on, or there is none.
        Ok(_) | Err(Errno::EINVAL | Errno::ENOENT | Errno::ENXIO) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Switches a swap device on again; a negative priority is the kernel's to give.
///
/// # Errors
/// The kernel refuses it.
pub fn on(path: &Path, priority: i32) -> Result<()> {
    let flags = if priority < 0 {
        0
    } else {
        SWAP_FLAG_PREFER | priority
    };
    match on_with(path, flags) {
        Err(error) if error.downcast_ref() == Some(&Errno::EBUSY) => Ok(()),
        result => result,
    }
}

fn on_with(path: &Path, flags: i32) -> Result<()> {
    let text = CString::new(path.as_os_str().as_bytes()).context("a path")?;
    // SAFETY: as above.
    Errno::result(unsafe { libc::swapon(text.as_ptr(), flags) })
        .with_context(|| format!("swapon {}", path.display()))
        .map(drop)
}

/// `union swap_header` of include/linux/swap.h: the first page of the device.
fn header() -> Vec<u8> {
    let mut page = vec![0; PAGE_SIZE as usize];
    let last_page = (SIZE / PAGE_SIZE - 1) as u32;
    page[1024..1028].copy_from_slice(&1u32.to_le_bytes());
    page[1028..1032].copy_from_slice(&last_page.to_le_bytes());
    page[4086..4096].copy_from_slice(b"SWAPSPACE2");
    page
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_header_names_its_version_and_last_page_and_ends_in_the_magic() {
        let page = super::header();
        assert_eq!(page.len(), 4096);
        assert_eq!(page[1024..1032], [1, 0, 0, 0, 0xff, 0xff, 0, 0]);
        assert!(page.ends_with(b"SWAPSPACE2"));
    }

    #[test]
    fn only_what_is_not_loaded_is_to_be_unloaded_later() {
        let shown = "builtin x\ninsmod /lib/modules/6/kernel/lib/lz4/lz4-compress.ko.xz \n\
                     insmod /lib/modules/6/kernel/drivers/block/zram/zram.ko.xz num=1\n";
        assert_eq!(
            super::to_load(shown, "ext4 1 0\n"),
            ["lz4_compress", "zram"]
        );
        assert_eq!(super::to_load(shown, "lz4_compress 1 0\n"), ["zram"]);
    }

    #[test]
    fn what_is_used_is_read() {
        let text = "Filename\tType\tSize\tUsed\tPriority\n/dev/zram0 partition\t9\t512\t-2\n";
        assert_eq!(super::used(text), Some(512));
        assert_eq!(super::used("Filename\nnonsense\n"), None);
    }

    #[test]
    fn a_program_is_small_without_huge_pages_and_with_little_memory() {
        use operations::{Op, Program};
        let advice = |advice: i32| Op::Madvise {
            at: 0,
            pages: 512,
            advice,
        };
        let map = |pages: u64| Op::Mmap {
            at: 0,
            pages,
            prot: 3,
            flags: 0,
            file: None,
            offset: 0,
        };
        let is_small = |ops: Vec<Op>| super::is_small(&Program::of_subject(Vec::new(), ops));
        assert!(is_small(vec![map(1000), advice(libc::MADV_PAGEOUT)]));
        assert!(!is_small(vec![map(1000), advice(libc::MADV_COLLAPSE)]));
        assert!(!is_small(vec![map(9000)]));
        assert!(!is_small(vec![map(1000), map(8000)]));
    }

    #[test]
    fn swaps_are_read_with_their_priorities() {
        let text = "Filename\tType\tSize\tUsed\tPriority\n\
                    /dev/sda2   partition\t9\t0\t-2\n/a\\040b   file\t9\t0\t-3\n";
        assert_eq!(
            super::in_order_of_priority(text),
            [("/a b".into(), -3), ("/dev/sda2".into(), -2)]
        );
        assert_eq!(super::in_order_of_priority("Filename\n"), []);
    }
}
