// SPDX-License-Identifier: GPL-2.0-only
//! The driver against things that are called QEMU and are not.

use super::{start::start_with, *};
use crate::conversation::Stop;
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    thread,
};
use tempfile::TempDir;

/// A configuration that no test boots.
pub(super) fn config() -> GuestConfig {
    GuestConfig::new(Artifacts {
        kernel: "stable".into(),
        profile: Some("stable".into()),
        base: None,
        edits: Vec::new(),
        board: crate::GuestBoard::default(),
        own: false,
        release: "6.12.0".into(),
        image: "/nowhere/Image".into(),
        initramfs: "/nowhere/initramfs.cpio".into(),
        disks: "/nowhere/disks".into(),
        vmlinux: None,
        key: "0123456789abcdef".into(),
        cache: "/nowhere/cache".into(),
    })
}

/// A folder with a fake QEMU, and short timeouts to try it with.
struct Fake {
    folder: TempDir,
    config: GuestConfig,
}

impl Fake {
    fn new(script: &str) -> Fake {
        let folder = tempfile::tempdir().unwrap();
        // The program itself is never written: while another thread forks, a
        // file just written cannot be executed.
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/guest/fake-qemu");
        symlink(program, folder.path().join("qemu")).unwrap();
        fs::write(folder.path().join("script"), script).unwrap();
        let mut config = config();
        config.snapshot = false;
        config.timeouts = Timeouts {
            qemu: Duration::from_secs(5),
            boot: Duration::from_secs(5),
            restore: Duration::from_secs(5),
            save: Duration::from_secs(5),
            answer: Duration::from_millis(300),
            grace: Duration::from_millis(300),
        };
        config.artifacts.cache = folder.path().join("cache");
        Fake { folder, config }
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("qemu")
    }

    fn start(&self, events: &mut dyn FnMut(GuestEvent)) -> Result<Guest, GuestError> {
        start_with(&self.program(), &self.config, events)
    }

    /// The error that starting it gives, within a time.
    fn fails(&self, limit: Duration) -> GuestError {
        let mut pid = 0;
        let begin = Instant::now();
        let Err(error) = self.start(&mut |event| {
            if let GuestEvent::Started { pid: started } = event {
                pid = started;
            }
        }) else {
            panic!("a fake guest started");
        };
        assert!(begin.elapsed() < limit, "{:?}: {error}", begin.elapsed());
        assert_eq!(error.fault(), Fault::Run, "{error}");
        assert!(!error.advice().is_empty());
        let proc = format!("/proc/{pid}");
        assert!(!Path::new(&proc).exists(), "it is still there");
        error
    }
}

const SOON: Duration = Duration::from_secs(4);

#[test]
fn exits_at_once() {
    let error = Fake::new("echo 'bad machine' >&2; exit 3").fails(SOON);
    let text = error.to_string();
    assert!(matches!(error, GuestError::QemuDied { .. }), "{text}");
    assert!(text.contains("QEMU's greeting: exit status 3"), "{text}");
    assert!(text.ends_with("its last words: bad machine"), "{text}");
}

#[test]
fn is_killed() {
    let error = Fake::new("kill -KILL $$").fails(SOON);
    assert!(error.to_string().ends_with("killed by SIGKILL"), "{error}");
}

#[test]
fn cannot_be_executed() {
    let fake = Fake::new("");
    fs::remove_file(fake.program()).unwrap();
    fs::write(fake.program(), "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(fake.program(), fs::Permissions::from_mode(0o755)).unwrap();
    let error = fake.fails(SOON);
    assert!(matches!(error, GuestError::NotStarted(_)), "{error}");
}

#[test]
fn hangs() {
    let mut fake = Fake::new("sleep 100");
    fake.config.timeouts.qemu = Duration::from_millis(300);
    let error = fake.fails(SOON);
    let text = error.to_string();
    assert!(text.contains("waited for QEMU's greeting"), "{text}");
}

#[test]
fn talks_nonsense() {
    let error = Fake::new("echo garbage >&$qmp; sleep 100").fails(SOON);
    assert!(error.to_string().contains("not JSON: garbage"), "{error}");
    let error = Fake::new("echo '{\"a\": 1}' >&$qmp; sleep 100").fails(SOON);
    assert!(error.to_string().contains("this is no greeting"), "{error}");
}

#[test]
fn talks_for_ever() {
    let mut fake = Fake::new("yes >&2 & yes >&$console & yes | tr -d '\\n' >&$qmp");
    fake.config.timeouts.qemu = Duration::from_millis(500);
    let error = fake.fails(SOON);
    assert!(matches!(error, GuestError::Qmp { .. }), "{error}");
}

#[test]
fn is_too_old() {
    let error = Fake::new("greet 7 2; sleep 100").fails(SOON);
    assert!(matches!(error, GuestError::QemuTooOld { .. }), "{error}");
    let expected = "QEMU 7.2.0 fake is too old: 9.0 or later is needed";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn panics_while_booting() {
    let fake = Fake::new(
        "greet 9 0; echo 'Kernel panic - not syncing: VFS: Unable to mount root' >&$console",
    );
    let error = fake.fails(SOON);
    assert!(matches!(error, GuestError::BootFailed { .. }), "{error}");
    assert!(
        error.to_string().contains("Unable to mount root"),
        "{error}"
    );
    assert!(error.console().contains("Kernel panic"));
}

#[test]
fn loses_its_agent_while_booting() {
    let fake = Fake::new(
        "greet 9 0; echo 'tlbdiff-agent: tlbdiff.ko was refused: EINVAL' >&$console
         echo 'Kernel panic - not syncing: Attempted to kill init! exitcode=0x0100' >&$console",
    );
    let text = fake.fails(SOON).to_string();
    assert!(text.contains("tlbdiff.ko was refused: EINVAL"), "{text}");
}

#[test]
fn never_boots() {
    let mut fake = Fake::new("greet 9 0; echo 'Linux version' >&$console; sleep 100");
    fake.config.timeouts.boot = Duration::from_millis(300);
    let error = fake.fails(SOON);
    let text = error.to_string();
    assert!(
        text.contains("no word from the agent within 300ms"),
        "{text}"
    );
    assert_eq!(error.console(), "Linux version");
}

#[test]
fn cannot_be_restored_and_cannot_be_saved() {
    let mut fake = Fake::new(
        r#"greet 9 0
        case "$*" in *defer*) exit 1 ;; esac
        echo 'tlbdiff-agent: ready' >&$console
        while read -r request <&$qmp; do
            case $request in
            *migrate-set*) echo '{"error": {"class": "GenericError", "desc": "no such"}}' >&$qmp ;;
            *) echo '{"return": {}}' >&$qmp ;;
            esac
        done"#,
    );
    fake.config.snapshot = true;
    let state = state::SavedState::of(&fake.config, &fake.program()).unwrap();
    fs::create_dir_all(&fake.config.artifacts.cache).unwrap();
    fs::write(state.file(), "damaged").unwrap();
    let mut events = Vec::new();
    let result = fake.start(&mut |event| events.push(event));
    // Nobody is there to answer, but that is found out only after all of this.
    assert!(result.is_err());
    events.retain(|event| !matches!(event, GuestEvent::Started { .. }));
    let [
        GuestEvent::Restoring { from },
        GuestEvent::RestoreFailed(_),
        GuestEvent::Booting,
        GuestEvent::Saving,
        GuestEvent::SaveFailed(why),
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(from, &state.file());
    assert!(
        why.contains("migrate-set-capabilities was refused: no such"),
        "{why}"
    );
    assert!(!state.exists(), "the damaged state is still there");
}

/// The agent's side of a conversation, played by this file.
mod agent {
    use super::*;
    use conversation::{Greeting, Meanwhile, answer, greet};
    use protocol::{Kind, Reply, frame, message::System};
    use std::os::unix::net::UnixStream;

    /// Plays a machine whose agent is `agent`, and whose QEMU just sleeps.
    fn with_agent(agent: impl FnOnce(&mut UnixStream) + Send, host: impl FnOnce(&mut QemuMachine)) {
        let (mut machine, mut guest) = QemuMachine::with_fake_agent();
        thread::scope(|scope| {
            scope.spawn(move || agent(&mut guest));
            host(&mut machine);
        });
    }

    fn soon() -> Instant {
        Instant::now() + SOON
    }

    fn nonsense<T>(result: Result<T, Broken>) -> String {
        match result {
            Err(Broken::Nonsense(why)) => why,
            Err(Broken::Stopped(stop)) => panic!("stopped: {stop:?}"),
            Ok(_) => panic!("it made sense"),
        }
    }

    fn record(seq: u64) -> Vec<u8> {
        let mut bytes = vec![0; Record::SIZE];
        bytes[..8].copy_from_slice(&seq.to_le_bytes());
        bytes[64] = Kind::Notify as u8;
        bytes
    }

    #[test]
    fn records_are_handed_on_in_order() {
        let trace = |from: u64, to: u64| Reply::Trace {
            id: 7,
            records: (from..to).flat_map(record).collect(),
        };
        with_agent(
            |agent| {
                frame::send(agent, &trace(0, 5000)).unwrap();
                frame::send(agent, &trace(5000, 5001)).unwrap();
                let report = Report::default();
                frame::send(agent, &Reply::Done { id: 7, report }).unwrap();
            },
            |machine| {
                let mut seen = Vec::new();
                let end = answer(machine, 7, soon, &mut |meanwhile| {
                    if let Meanwhile::Record(record) = meanwhile {
                        seen.push(record.seq);
                    }
                });
                assert!(matches!(end, Ok(End::Done(_))));
                assert!(seen.iter().copied().eq(0..5001));
            },
        );
    }

    #[test]
    fn another_version_is_told() {
        with_agent(
            |agent| {
                let _: Request = frame::receive(agent).unwrap();
                let system = System::default();
                frame::send(
                    agent,
                    &Reply::Ready {
                        version: 99,
                        system,
                    },
                )
                .unwrap();
            },
            |machine| {
                let Ok(answer) = greet(machine, soon()) else {
                    panic!("it was taken");
                };
                assert!(matches!(answer, Greeting::Mismatch { agent: 99, .. }));
            },
        );
    }

    #[test]
    fn nonsense_is_told() {
        let table: [(&[u8], &str); 3] = [
            (b"Linux version 6.12", "not a frame"),
            (b"tlbd\xff\xff\xff\xff", "longer than any message"),
            (
                b"tlbd\x01\0\0\0\x63",
                "not a message of this protocol version",
            ),
        ];
        for (bytes, expected) in table {
            with_agent(
                |agent| io_write(agent, bytes),
                |machine| {
                    let why = nonsense(answer(machine, 1, soon, &mut |_| ()));
                    assert!(why.contains(expected), "{why}");
                },
            );
        }
    }

    fn io_write(agent: &mut UnixStream, bytes: &[u8]) {
        std::io::Write::write_all(agent, bytes).unwrap();
    }

    #[test]
    fn half_a_record_and_the_answer_to_another_program_are_nonsense() {
        let records = record(0)[..50].to_vec();
        let half = Reply::Trace { id: 1, records };
        let report = Report::default();
        let other = Reply::Done { id: 2, report };
        for (reply, expected) in [
            (half, "50 bytes instead of 80"),
            (other, "an answer to request 2, in answer to 1"),
        ] {
            with_agent(
                move |agent| frame::send(agent, &reply).unwrap(),
                |machine| {
                    let why = nonsense(answer(machine, 1, soon, &mut |_| ()));
                    assert!(why.contains(expected), "{why}");
                },
            );
        }
    }

    #[test]
    fn silence_ends_with_the_deadline() {
        let (mut machine, _guest) = QemuMachine::with_fake_agent();
        let begin = Instant::now();
        let deadline = || begin + Duration::from_millis(200);
        let end = answer(&mut machine, 1, deadline, &mut |_| ());
        assert!(matches!(end, Err(Broken::Stopped(Stop::TimedOut))));
        let took = begin.elapsed();
        assert!(took > Duration::from_millis(190) && took < SOON, "{took:?}");
    }

    #[test]
    fn half_a_message_is_silence_too() {
        let (mut machine, mut guest) = QemuMachine::with_fake_agent();
        io_write(&mut guest, b"tlbd\x05\0");
        let deadline = Instant::now() + Duration::from_millis(200);
        let end = greet(&mut machine, deadline);
        assert!(matches!(end, Err(Broken::Stopped(Stop::TimedOut))));
    }
}

#[test]
fn the_first_guest_of_a_developer_s_kernel_is_told_from_the_next() {
    let fake = Fake::new("exit 1");
    let state = state::SavedState::of(&fake.config, &fake.program()).unwrap();
    assert!(state.is_first());
    assert!(!state.is_first());
    let mut other = fake.config.clone();
    other.harts += 1;
    let other = state::SavedState::of(&other, &fake.program()).unwrap();
    assert!(other.is_first());
}
