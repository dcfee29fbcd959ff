// SPDX-License-Identifier: GPL-2.0-only
//! SnapshotPath observations, as files of insta: read, compared, and proposed.
//!
//! A snapshot is `---`, a YAML header, `---`, the text. Only the text is
//! compared: the header tells where it came from. A text that differs is
//! written beside the accepted one as `*.snap.new`, which `cargo insta review`
//! shows and accepts.

use reference_model::Machine;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Header and text of a snapshot file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Where it came from.
    pub header: Header,
    /// What was observed.
    pub text: String,
}

/// The part of insta's header that this program writes and reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// What made it.
    pub source: String,
    /// The scenario's `about`.
    #[serde(default)]
    pub description: String,
    /// What was run where.
    #[serde(default)]
    pub info: Info,
    /// The scenario's file: `cargo insta review` shows it.
    #[serde(default)]
    pub input_file: String,
}

/// What was run where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// The scenario, from the checkout's root.
    pub scenario: String,
    /// The kernel's release.
    pub kernel: String,
    /// What the machine was.
    pub machine: MachineInfo,
}

/// The part of a machine on which a prediction depends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineInfo {
    /// Harts online.
    pub harts: u32,
    /// Levels of page tables.
    pub page_table_levels: u32,
    /// Harts have ASIDs.
    pub asids: bool,
    /// Harts have Svnapot.
    pub svnapot: bool,
    /// Harts set accessed and dirty bits themselves.
    pub svadu: bool,
    /// Harts see a page table entry that became valid without a fence.
    pub svvptc: bool,
    /// debugfs `fault_around_bytes`.
    pub fault_around_bytes: u64,
    /// Nodes of memory; kept where there are several.
    #[serde(skip_serializing_if = "is_one")]
    pub nodes: u32,
    /// It has pages of hugetlb of 1 GiB; kept where it has.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub gib_pages: bool,
}

fn is_one(number: &u32) -> bool {
    *number == 1
}

impl Default for MachineInfo {
    fn default() -> MachineInfo {
        MachineInfo::from(&Machine::default())
    }
}

impl From<&Machine> for MachineInfo {
    fn from(machine: &Machine) -> MachineInfo {
        MachineInfo {
            harts: machine.harts,
            page_table_levels: machine.page_table_levels,
            asids: machine.asids,
            svnapot: machine.svnapot,
            svadu: machine.svadu,
            svvptc: machine.svvptc,
            fault_around_bytes: machine.fault_around_bytes,
            nodes: machine.nodes,
            gib_pages: machine.gib_pages,
        }
    }
}

impl MachineInfo {
    /// Whether the other can be expected to do the same, on as many harts as it has.
    pub fn is_like(&self, other: &MachineInfo) -> bool {
        let harts = other.harts;
        MachineInfo { harts, ..*self } == *other
    }

    /// As the model takes it.
    pub fn machine(&self) -> Machine {
        Machine {
            harts: self.harts,
            page_table_levels: self.page_table_levels,
            asids: self.asids,
            svnapot: self.svnapot,
            svadu: self.svadu,
            svvptc: self.svvptc,
            fault_around_bytes: self.fault_around_bytes,
            nodes: self.nodes,
            gib_pages: self.gib_pages,
            ..Machine::default()
        }
    }
}

/// Which kernel's snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Set {
    /// Of `stable`: every scenario has one.
    Stable,
    /// Of another kernel: a scenario has one where it is not stable's.
    Other(String),
}

impl Set {
    /// The snapshots of the kernel of that name. Variants have none, and neither has a
    /// developer's tree, whichever profile speaks for it: what it does is not to be accepted.
    pub fn of_kernel(kernel: &str) -> Option<Set> {
        match kernel {
            "stable" => Some(Set::Stable),
            "next" => Some(Set::Other(kernel.to_owned())),
            _ => None,
        }
    }
}

/// Where a scenario's snapshot is kept: for `R/scenarios/munmap/middle.yaml`,
/// `R/snapshots/munmap/middle.snap`, or `middle@next.snap` beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPath {
    /// The accepted snapshot.
    pub accepted: PathBuf,
    /// The one that speaks for this kernel too where there is none of its own.
    pub common: Option<PathBuf>,
    /// The scenario, from the root.
    pub scenario: String,
}

impl SnapshotPath {
    /// None for a scenario that is in no folder `scenarios`: none is kept for it.
    pub fn of(scenario: &Path, set: &Set) -> Option<SnapshotPath> {
        let path = scenario.canonicalize().ok()?;
        let scenarios = path
            .ancestors()
            .skip(1)
            .find(|folder| folder.ends_with("scenarios"))?;
        let below = path.strip_prefix(scenarios).ok()?;
        let stable = scenarios
            .with_file_name("snapshots")
            .join(below)
            .with_extension("snap");
        let (accepted, common) = match set {
            Set::Stable => (stable, None),
            Set::Other(kernel) => {
                let stem = below.file_stem()?.to_string_lossy();
                let own = stable.with_file_name(format!("{stem}@{kernel}.snap"));
                (own, Some(stable))
            }
        };
        Some(SnapshotPath {
            accepted,
            common,
            scenario: format!("scenarios/{}", below.display()),
        })
    }

    /// The proposed one.
    pub fn pending(&self) -> PathBuf {
        self.accepted.with_extension("snap.new")
    }

    /// The accepted snapshot, if there is one.
    ///
    /// # Errors
    /// It cannot be read, or is no snapshot.
    pub fn read(&self) -> io::Result<Option<Snapshot>> {
        match (read(&self.accepted)?, &self.common) {
            (None, Some(common)) => read(common),
            (own, _) => Ok(own),
        }
    }

    /// Proposes a snapshot for review.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn propose(&self, snapshot: &Snapshot) -> io::Result<()> {
        let folder = self.accepted.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        io::Write::write_all(&mut file, snapshot.print().as_bytes())?;
        file.persist(self.pending())?;
        Ok(())
    }

    /// Takes back a proposal of an earlier run.
    ///
    /// # Errors
    /// There is one and it cannot be removed.
    pub fn withdraw(&self) -> io::Result<()> {
        match fs::remove_file(self.pending()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn read(path: &Path) -> io::Result<Option<Snapshot>> {
    match fs::read_to_string(path) {
        Ok(text) => Snapshot::parse(&text).map(Some).map_err(|why| {
            let message = format!("{}: {why}", path.display());
            io::Error::new(io::ErrorKind::InvalidData, message)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Snapshot {
    /// Reads a file of insta.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(file: &str) -> Result<Snapshot, String> {
        let rest = file
            .strip_prefix("---\n")
            .ok_or("it does not begin with `---`")?;
        let (header, text) = rest
            .split_once("\n---\n")
            .ok_or("its header does not end")?;
        let header =
            serde_yaml::from_str(header).map_err(|error| format!("its header: {error}"))?;
        Ok(Snapshot {
            header,
            text: text.to_owned(),
        })
    }

    /// Writes a file of insta.
    pub fn print(&self) -> String {
        let header = serde_yaml::to_string(&self.header).unwrap_or_default();
        format!(
            "---\n{}\n---\n{}\n",
            header.trim_end(),
            self.text.trim_end()
        )
    }

    /// As insta compares: without regard to white space at the end.
    pub fn says(&self, text: &str) -> bool {
        self.text.trim_end() == text.trim_end()
    }
}
