// SPDX-License-Identifier: GPL-2.0-only
//! What PID 1 has to do before there is anything to serve.

use crate::{files, harts, limits, settings};
use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use std::ffi::CStr;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Name of the virtio-serial port.
const PORT: &str = "tlbdiff";
/// How long the port may take to appear.
const PORT_WAIT: Duration = Duration::from_secs(10);
/// File systems: place, type, options. `favordynmods` lets a subject join its
/// cgroup without waiting for a grace period of RCU.
const MOUNTS: &[(&str, &str, Option<&str>)] = &[
    ("/proc", "proc", None),
    ("/sys", "sysfs", None),
    ("/dev", "devtmpfs", None),
    ("/sys/kernel/debug", "debugfs", None),
    ("/sys/fs/cgroup", "cgroup2", Some("favordynmods")),
];

/// Mounts what is needed, loads the tracing module and makes the machine still.
///
/// # Errors
/// Whatever could not be done, with its name.
pub fn prepare() -> Result<()> {
    // The agent stays off the harts on which subjects run. From the start: a hart that has
    // once seen its mm is told of every change.
    harts::pin(0)?;
    for (place, kind, options) in MOUNTS {
        fs::create_dir_all(place).ok();
        mount(Some(*kind), *place, Some(*kind), MsFlags::empty(), *options)
            .with_context(|| format!("cannot mount {kind} at {place}"))?;
    }
    limits::prepare()?;
    load_module(Path::new("/tlbdiff.ko"), c"")?;
    settings::make_still()?;
    settings::keep_active()
}

/// Loads a module.
///
/// # Errors
/// There is none, or the kernel refuses it.
pub fn load_module(path: &Path, parameters: &CStr) -> Result<()> {
    let module = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    nix::kmod::finit_module(&module, parameters, nix::kmod::ModuleInitFlags::empty())
        .with_context(|| format!("the kernel refused {name}; its log says why"))
}

/// The host's port, as soon as it is there.
///
/// # Errors
/// It does not appear within ten seconds, or cannot be opened.
pub fn open_port() -> Result<File> {
    let end = Instant::now() + PORT_WAIT;
    loop {
        if let Some(path) = find_port() {
            return OpenOptions::new()
                .read(true)
                .write(true)
                .open(&path)
                .with_context(|| format!("cannot open {}", path.display()));
        }
        if Instant::now() > end {
            bail!("no virtio-serial port of the name {PORT} appeared");
        }
        sleep(Duration::from_millis(5));
    }
}

fn find_port() -> Option<PathBuf> {
    let ports = fs::read_dir("/sys/class/virtio-ports").ok()?;
    ports.flatten().find_map(|port| {
        let name = files::read(&port.path().join("name")).ok()?;
        let device = PathBuf::from("/dev").join(port.file_name());
        (name.trim() == PORT && device.exists()).then_some(device)
    })
}

/// Ends the guest.
pub fn power_off() -> ! {
    let _ = reboot(RebootMode::RB_POWER_OFF);
    std::process::exit(1);
}
