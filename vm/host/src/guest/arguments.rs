// SPDX-License-Identifier: GPL-2.0-only
//! QEMU's command line, part by part.

use super::GuestConfig;
use crate::{disks, programs};
use std::borrow::Cow;
use std::ffi::OsString;

/// Pages of 1 GiB that are reserved at the boot, where they are wanted.
const GIB_PAGES: u32 = 2;

/// The memory of a guest that can have pages of 1 GiB, in MiB. They lie at multiples of their
/// size, as the board's memory begins at one: the kernel is in the first GiB, and what it allocates
/// first is at the end.
pub const MEMORY_FOR_GIB_PAGES: u32 = (1 + GIB_PAGES) * 1024 + 512;

/// The program that is looked for in PATH.
pub(super) const QEMU: &str = "qemu-system-riscv64";

/// Numbers of the descriptors that QEMU inherits.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChannelFds {
    /// QEMU writes what the guest prints.
    pub(super) console: i32,
    /// QEMU reads what is typed.
    pub(super) keyboard: i32,
    pub(super) agent: i32,
    pub(super) qmp: i32,
    /// For QEMU's debugger interface, which is off unless asked for.
    pub(super) debugger: i32,
}

/// How the guest begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// It boots.
    Boot,
    /// It waits for a saved state.
    Restore,
}

/// The whole command line.
pub(super) fn all(config: &GuestConfig, fds: ChannelFds, begin: Begin) -> Vec<OsString> {
    let mut arguments = machine(config);
    arguments.extend(channels(fds));
    if begin == Begin::Restore {
        arguments.extend(words(&["-incoming", "defer"]));
    }
    arguments
}

/// What the guest is. All of it decides whether a saved state fits; nothing else does.
pub(super) fn machine(config: &GuestConfig) -> Vec<OsString> {
    [
        bare(),
        board(config),
        accelerator(config),
        processors(config),
        memory(config),
        agent_device(),
        iommu_devices(config),
        disks::arguments(&config.artifacts.disks),
        programs_disk(config),
        kernel(config),
    ]
    .concat()
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// Nothing but what is asked for: no display, no network, none of the user's configuration.
fn bare() -> Vec<OsString> {
    words(&["-nodefaults", "-no-user-config", "-display", "none"])
}

/// A panicking kernel reboots at once, and a reboot ends QEMU.
fn board(config: &GuestConfig) -> Vec<OsString> {
    let properties = config.artifacts.board.machine.as_deref();
    let iommu = config.iommu.then_some("iommu-sys=on");
    let parts = [Some("virt"), properties, iommu];
    let machine = parts.into_iter().flatten().collect::<Vec<_>>().join(",");
    words(&["-machine", &machine, "-no-reboot"])
}

/// One thread per hart: harts that spin for each other would else wait for a time slice.
///
/// A guest whose instructions are counted has one for all of them. An instruction is a
/// nanosecond, who waits does not wait for the host's clock, and nothing is random.
fn accelerator(config: &GuestConfig) -> Vec<OsString> {
    if config.counted {
        return words(&[
            "-accel",
            "tcg,thread=single",
            "-icount",
            "shift=0,sleep=off",
            "-rtc",
            "base=2025-01-01,clock=vm",
            "-seed",
            "1",
        ]);
    }
    words(&["-accel", "tcg,thread=multi"])
}

/// Without physical memory protection, which nothing here uses, and which an emulated hart looks at
/// whenever it fills its TLB: a run takes a twentieth less.
fn processors(config: &GuestConfig) -> Vec<OsString> {
    let harts = config.harts.to_string();
    let (model, properties) = config.cpu.split_once(',').unwrap_or((&config.cpu, ""));
    let unprotected = model == "rv64" && !properties.contains("pmp=");
    let cpu = match unprotected {
        true => format!("{},pmp=off", config.cpu),
        false => config.cpu.clone(),
    };
    words(&["-cpu", &cpu, "-smp", &harts])
}

/// Of two nodes the first has the agent's hart and the second all others: the board wants a hart
/// at each, and actors' pages begin at the same node, whoever asks for them.
fn memory(config: &GuestConfig) -> Vec<OsString> {
    let memory_mib = match config.movable {
        true => movable_mib(config.memory_mib),
        false => config.memory_mib,
    };
    if !config.has_nodes() {
        return words(&["-m", &format!("{memory_mib}M")]);
    }
    let share = memory_mib / 2;
    let mut arguments = words(&["-m", &format!("{}M", share * 2)]);
    for (node, harts) in [(0, "0".to_owned()), (1, format!("1-{}", config.harts - 1))] {
        arguments.extend(words(&[
            "-object",
            &format!("memory-backend-ram,id=node{node},size={share}M"),
            "-numa",
            &format!("node,nodeid={node},memdev=node{node},cpus={harts}"),
        ]));
    }
    arguments
}

/// A disk with programs, written to in a copy of its own.
fn programs_disk(config: &GuestConfig) -> Vec<OsString> {
    let disk = config.programs.iter();
    disk.flat_map(|file| disks::drive(programs::NAME, file))
        .collect()
}

/// The agent finds its port by the name, in /sys/class/virtio-ports.
fn agent_device() -> Vec<OsString> {
    words(&[
        "-device",
        "virtio-serial-device",
        "-device",
        "virtserialport,chardev=agent,name=tlbdiff",
    ])
}

/// One whose accesses can be seen, and one that is fast. In these slots, for the IOMMU's
/// directory of devices has room for so many.
fn iommu_devices(config: &GuestConfig) -> Vec<OsString> {
    if !config.iommu {
        return Vec::new();
    }
    words(&[
        "-device",
        "edu,dma_mask=0xffffffffffffffff,addr=1",
        "-device",
        "intel-hda,addr=2",
        // It looks at all of it for each command, also at what was dropped.
        "-global",
        "riscv-iommu.ioatc-limit=8192",
    ])
}

fn kernel(config: &GuestConfig) -> Vec<OsString> {
    vec![
        "-kernel".into(),
        config.artifacts.image.clone().into(),
        "-initrd".into(),
        config.artifacts.initramfs.clone().into(),
        "-append".into(),
        kernel_arguments(config).join(" ").into(),
    ]
}

fn kernel_arguments(config: &GuestConfig) -> Vec<Cow<'_, str>> {
    let mut arguments = vec![
        // The board's UART, for diagnosis.
        "console=ttyS0",
        // Reboot on panic at once, which ends QEMU, instead of waiting for nobody.
        "panic=-1",
        // The same addresses in every run, on kernels that can move themselves.
        "nokaslr",
        // Allow sysrq by way of the console: a silent guest is asked what it waits for.
        "sysrq_always_enabled",
    ];
    arguments.extend(config.artifacts.board.cmdline.as_deref());
    if config.gib_pages {
        arguments.extend(["hugepagesz=1G", "hugepages=2"]);
    }
    let mut arguments: Vec<Cow<'_, str>> = arguments.into_iter().map(Cow::from).collect();
    if config.movable {
        arguments.push(format!("movablecore={}M", BLOCK_MIB + TAIL_MIB).into());
    }
    if config.contiguous {
        // The largest piece is half of the memory, for in the middle is the initramfs. Pages that can
        // move go there first while it is more than half of what is free (__rmqueue()), so that
        // some of the rest is taken by pages of hugetlb, of 2 MiB.
        let (taken, rest) = (config.memory_mib * 3 / 8, config.memory_mib * 5 / 16);
        arguments.push(format!("cma={taken}M").into());
        arguments.push(format!("hugepages={}", rest / 2).into());
    }
    arguments
}

/// A block of memory on riscv, in MiB: it goes offline as a whole (SECTION_SIZE_BITS).
const BLOCK_MIB: u32 = 128;

/// What is behind the last whole block: there is what is allocated first of all, from the end on,
/// and the board's description, and for those no block can go.
const TAIL_MIB: u32 = 48;

/// The memory of a guest of which a block can go, in whole blocks and a tail. Memory that can move
/// is always the last, so that it is the last block.
fn movable_mib(memory_mib: u32) -> u32 {
    memory_mib / BLOCK_MIB * BLOCK_MIB + TAIL_MIB
}

/// Each channel is inherited, so that no socket or pipe in the file system can
/// be left behind, taken over, or have too long a name.
///
/// The console is a pipe, not a socket: QEMU writes it byte by byte, and a
/// socket is full after 300 such writes, whereupon the guest's words are lost.
fn channels(fds: ChannelFds) -> Vec<OsString> {
    let set = |number: u32, fd: i32| ["-add-fd".into(), format!("fd={fd},set={number}").into()];
    let socket = |id: &str, fd: i32| ["-chardev".into(), format!("socket,id={id},fd={fd}").into()];
    [
        &set(1, fds.console)[..],
        &set(2, fds.keyboard),
        &words(&[
            "-chardev",
            // Appending, for else QEMU would cut the file, and a pipe cannot be cut.
            "file,id=console,append=on,path=/dev/fdset/1,input-path=/dev/fdset/2",
            "-serial",
            "chardev:console",
        ]),
        &socket("agent", fds.agent),
        &socket("qmp", fds.qmp),
        &words(&["-mon", "chardev=qmp,mode=control"]),
        &socket("gdb", fds.debugger),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::tests::config;

    fn text(arguments: &[OsString]) -> String {
        let words: Vec<_> = arguments.iter().map(|a| a.to_string_lossy()).collect();
        words.join(" ")
    }

    const FDS: ChannelFds = ChannelFds {
        console: 11,
        keyboard: 10,
        agent: 12,
        qmp: 13,
        debugger: 14,
    };

    #[test]
    fn the_configuration_is_in_it() {
        let mut config = config();
        (config.harts, config.memory_mib) = (4, 256);
        config.cpu = "rv64,svnapot=on".into();
        let line = text(&all(&config, FDS, Begin::Boot));
        for part in [
            "-cpu rv64,svnapot=on,pmp=off -smp 4",
            "-m 256M",
            "-add-fd fd=11,set=1 -add-fd fd=10,set=2 -chardev file,id=console",
            "-serial chardev:console",
            "socket,id=agent,fd=12",
            "virtserialport,chardev=agent,name=tlbdiff",
            "socket,id=qmp,fd=13 -mon chardev=qmp,mode=control",
            "-append console=ttyS0 panic=-1",
        ] {
            assert!(line.contains(part), "{part} is missing in: {line}");
        }
        assert!(!line.contains("-incoming"), "{line}");
    }

    #[test]
    fn what_a_kernel_is_run_on_is_in_it() {
        let mut config = config();
        config.artifacts.board = crate::GuestBoard {
            machine: Some("aia=aplic-imsic".into()),
            cpu: Some("rv64,svinval=on".into()),
            cmdline: Some("nosmp".into()),
        };
        let config = GuestConfig::new(config.artifacts);
        let line = text(&all(&config, FDS, Begin::Boot));
        for part in [
            "-machine virt,aia=aplic-imsic -no-reboot",
            "-cpu rv64,svinval=on,pmp=off",
            "sysrq_always_enabled nosmp",
        ] {
            assert!(line.contains(part), "{part} is missing in: {line}");
        }
    }

    #[test]
    fn pages_of_1_gib_are_reserved_at_the_boot() {
        let mut config = config();
        (config.gib_pages, config.memory_mib) = (true, MEMORY_FOR_GIB_PAGES);
        let text = text(&machine(&config));
        assert!(text.contains("-m 3584M"), "{text}");
        assert!(text.contains("hugepagesz=1G hugepages=2"), "{text}");
    }

    #[test]
    fn what_can_go_offline_is_the_last_whole_block() {
        let mut config = config();
        assert!(!text(&machine(&config)).contains("movablecore"));
        assert!(!text(&machine(&config)).contains("cma="));
        config.contiguous = true;
        assert!(text(&machine(&config)).contains(" cma=192M hugepages=80"));
        config.contiguous = false;
        (config.movable, config.memory_mib) = (true, 700);
        let line = text(&machine(&config));
        assert!(line.contains("-m 688M") && line.contains(" movablecore=176M"));
    }

    #[test]
    fn nodes_share_the_memory_and_the_second_has_the_actors_harts() {
        let mut config = config();
        assert!(!text(&machine(&config)).contains("-numa"));
        (config.harts, config.nodes, config.memory_mib) = (3, true, 513);
        let line = text(&machine(&config));
        for part in [
            "-m 512M",
            "-object memory-backend-ram,id=node0,size=256M -numa node,nodeid=0,memdev=node0,cpus=0",
            "-numa node,nodeid=1,memdev=node1,cpus=1-2",
        ] {
            assert!(line.contains(part), "{part} is missing in: {line}");
        }
        config.harts = 1;
        assert!(!text(&machine(&config)).contains("-numa"));
    }

    #[test]
    fn an_iommu_is_another_machine() {
        let mut config = config();
        let without = text(&machine(&config));
        config.iommu = true;
        config.artifacts.board.machine = Some("aia=aplic-imsic".into());
        let with = text(&machine(&config));
        assert!(!without.contains("iommu") && !without.contains("-device edu"));
        assert!(with.contains("-machine virt,aia=aplic-imsic,iommu-sys=on -no-reboot"));
        assert!(with.contains("-device edu,") && with.contains("-device intel-hda,"));
    }

    #[test]
    fn restoring_waits_for_the_state() {
        let line = text(&all(&config(), FDS, Begin::Restore));
        assert!(line.ends_with(" -incoming defer"), "{line}");
    }

    #[test]
    fn descriptors_do_not_make_another_machine() {
        assert!(!text(&machine(&config())).contains("fd="));
    }
}
