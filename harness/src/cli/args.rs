// SPDX-License-Identifier: GPL-2.0-only
//! The command line as it is typed.

use crate::checks::CHECKS;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use protocol::Policy;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use vm::boards::Place;
use vm::guest::CpuFeatures;

/// Finds where Linux on RISC-V does not notify secondary MMUs as it should: runs the same memory
/// operations on a real kernel and on a model of it, and says where the two differ.
#[derive(Debug, Parser)]
#[command(
    name = "tlbdiff",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
#[command(after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do; without it, `run`.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of `run`.
    #[command(flatten)]
    pub run: RunArgs,
}

const AFTER_HELP: &str = "Exit codes: 0 all agree, 1 something was found, 2 bad command line or scenario, \
3 kernel and model disagree and the model was not read for the kernel's release (and nothing else was found), \
69 something could not be run (and nothing was found), 130 interrupted.

TLBDIFF_CACHE names the folder for what is built (default: tlbdiff in $XDG_CACHE_HOME or ~/.cache). \
TLBDIFF_HOME names the folder with vm/kernels.toml and the sources of module and agent (default: \
share/tlbdiff beside the program's folder bin, else the checkout that it was built in).";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run scenarios on a kernel and on the model, and compare (what `tlbdiff PATH…` does)
    Run(RunArgs),
    /// Say which notifications of two kernels differ
    Compare(CompareArgs),
    /// Say what changed between two kernels of what the model mirrors
    Drift(DriftArgs),
    /// Print what the model expects of scenarios, without any kernel
    Predict(PredictArgs),
    /// List scenarios with what they are about
    List(ListArgs),
    /// Check that scenario files are well-formed, without running them
    Check(CheckArgs),
    /// Fetch and build kernels, the tracing module and the guest program (runs vm/provision)
    Provision(ProvisionArgs),
    /// Say what is missing on this machine, each with its remedy
    Doctor(DoctorArgs),
    /// Say what notifications cost: steps with 0, 1, 4 and 16 subscribers
    Cost(CostArgs),
    /// Run any command under the tracer, and check what the kernel does for it
    Observe(ObserveArgs),
    /// Run scenarios, keep their results, and say what changed since earlier runs
    Nightly(NightlyArgs),
    /// Show the results that `nightly` has kept
    History(HistoryArgs),
    /// Write the manual pages: one of the program, one of each command
    Man(ManArgs),
    /// Print what a shell completes this command line with
    Completions(CompletionsArgs),
}

/// Which scenarios.
#[derive(Clone, Debug, Args)]
pub struct Selection {
    /// Scenario files, and folders of them
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Only those whose path contains this
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
}

/// Which kernels.
#[derive(Clone, Debug, Args)]
pub struct KernelArgs {
    /// Kernel to run on, by its name or series in vm/kernels.toml; `all` is all that stay in
    /// their series; may be given several times (default: stable)
    #[arg(long, value_name = "NAME")]
    pub kernel: Vec<String>,
    /// Run on the kernel built from this source tree; may be given several times
    #[arg(long, value_name = "DIR")]
    pub kernel_tree: Vec<PathBuf>,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would become the help's heading"
    )]
    pub own_image: ImageArgs,
}

/// Kernels that developers built themselves.
#[derive(Clone, Debug, Default, Args)]
pub struct ImageArgs {
    /// Run on this kernel, which you configured and built yourself: its arch/riscv/boot/Image;
    /// may be given several times, each with its --kernel-build
    #[arg(long, value_name = "FILE", requires = "kernel_build")]
    pub kernel_image: Vec<PathBuf>,
    /// The directory that it was built in, with its modules; nothing is written there
    #[arg(long, value_name = "DIR", requires = "kernel_image")]
    pub kernel_build: Vec<PathBuf>,
}

/// By which names results are kept.
#[derive(Clone, Debug, Args)]
pub struct KeptAs {
    /// The machine's name in kept results (default: `guest` with its --cpu, this machine's
    /// name, or the HOST of ssh)
    #[arg(long, value_name = "NAME")]
    pub board: Option<String>,
    /// The line of kernels whose results are kept and compared with each other (default: the
    /// name of a kernel from vm/kernels.toml; else its version, as in `6.12`)
    #[arg(long, value_name = "NAME")]
    pub line: Option<String>,
}

/// Options of `run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would become the help's heading"
    )]
    pub selection: Selection,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would become the help's heading"
    )]
    pub kernel: KernelArgs,
    /// Where observations come from: `guest`, a kernel in QEMU (default); `recorded`, the
    /// accepted snapshots; `local`, this RISC-V machine, as root;
    /// `ssh:[USER@]HOST[:PORT]`, another one. Several boards share the scenarios out
    #[arg(long, value_name = "WHERE")]
    pub backend: Vec<BackendName>,
    /// Configuration file for ssh, in place of the user's own
    #[arg(long, value_name = "FILE")]
    pub ssh_config: Option<PathBuf>,
    /// Run only the M-th of N parts of the scenarios, which machines that know nothing of
    /// each other can run: `hash:M/N`, with M from 1 to N
    #[arg(long, value_name = "hash:M/N")]
    pub partition: Option<Partition>,
    /// Judge by these checks alone: `kernel`, `layer1`, `layer2`, `coverage`, `tables`, `device`,
    /// `known`, `snapshot` (default: all). Without `layer2`, `coverage`, `tables` and `known`
    /// the model of the mm core is not asked
    #[arg(long, value_name = "CHECK,...", value_delimiter = ',', value_parser = check_names())]
    pub checks: Vec<String>,
    /// Run each scenario this often; results that vary are reported as such
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: u32,
    /// Run the scenarios in an order that this number says, and with --repeat all of them
    /// before any is run again: no result may depend on what was run before it
    #[arg(long, value_name = "SEED")]
    pub shuffle: Option<u64>,
    /// Guests at once
    #[arg(long, short, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,
    /// What is printed: for people, or for programs (harness/FORMATS.md)
    #[arg(long, value_enum, default_value_t = RunFormat::Human)]
    pub format: RunFormat,
    /// Write this format, too, to a file; may be given several times
    #[arg(long, value_name = "FORMAT=FILE")]
    pub output: Vec<Output>,
    /// Who reports to KCIDB, as it knows them
    #[arg(long, value_name = "NAME", value_parser = kcidb_origin)]
    pub kcidb_origin: Option<String>,
    /// The build that KCIDB knows already, in place of one that is made up
    #[arg(long, value_name = "ORIGIN:ID", value_parser = kcidb_build)]
    pub kcidb_build: Option<String>,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would become the help's heading"
    )]
    pub kept_as: KeptAs,
    /// The model's kernel; by default the one that speaks for the kernel run on
    #[arg(long, value_name = "NAME")]
    pub model_profile: Option<String>,
    /// Neither compare with accepted snapshots nor propose new ones
    #[arg(long)]
    pub no_snapshots: bool,
    /// No line for each scenario, but what failed, by what it has in common
    #[arg(long, short)]
    pub quiet: bool,
    /// All about each failure as it comes, and not of the smallest of each cause only
    #[arg(long, short)]
    pub verbose: bool,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would become the help's heading"
    )]
    pub guest: GuestArgs,
}

/// Options of `cost`.
#[derive(Clone, Debug, Args)]
pub struct CostArgs {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would become the help's heading"
    )]
    pub selection: Selection,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would become the help's heading"
    )]
    pub kernel: KernelArgs,
    /// Where: `guest` (default), whose clock counts instructions and nothing else; `local`,
    /// this RISC-V machine, as root; `ssh:[USER@]HOST[:PORT]`, another one
    #[arg(long, value_name = "WHERE")]
    pub backend: Option<BackendName>,
    /// Configuration file for ssh, in place of the user's own
    #[arg(long, value_name = "FILE")]
    pub ssh_config: Option<PathBuf>,
    /// Count each scenario this often with each number of subscribers, and on until the
    /// least, which counts, has stood for as long
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// For people, or JSON lines for programs (harness/COST.md)
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
    /// Database that it is kept in (default: as for `nightly`)
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// Keep nothing
    #[arg(long, conflicts_with = "history")]
    pub no_history: bool,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would become the help's heading"
    )]
    pub kept_as: KeptAs,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would become the help's heading"
    )]
    pub guest: GuestArgs,
}

/// Options of `observe`.
#[derive(Clone, Debug, Args)]
#[command(after_help = OBSERVE_EXIT_CODES)]
pub struct ObserveArgs {
    /// The command and its arguments, as found on that machine; a file that is pushed comes first
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "replay")]
    pub command: Vec<String>,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would become the help's heading"
    )]
    pub kernel: KernelArgs,
    /// Where: `guest` (default), a kernel in QEMU; `local`, this RISC-V machine, as root;
    /// `ssh:[USER@]HOST[:PORT]`, another one
    #[arg(long, value_name = "WHERE")]
    pub backend: Option<BackendName>,
    /// Configuration file for ssh, in place of the user's own
    #[arg(long, value_name = "FILE")]
    pub ssh_config: Option<PathBuf>,
    /// Run a suite of workloads (harness/workloads.toml) in place of a COMMAND, each in a guest of
    /// its own, and print a line for each: mm-selftests, stress, everyday, or `all`; may be given
    /// several times. They want the disk that `vm/provision --programs` makes
    #[arg(long, value_name = "NAME", conflicts_with_all = ["command", "push", "programs", "record", "replay", "quiet", "timeout"])]
    pub suite: Vec<String>,
    /// Only workloads whose SUITE/NAME contains this
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Database that a suite's results are kept in (default: as for `nightly`)
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// Keep nothing of a suite
    #[arg(long, conflicts_with = "history")]
    pub no_history: bool,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would become the help's heading"
    )]
    pub kept_as: KeptAs,
    /// Put this file where the command begins, and where it is looked for; may be given several
    /// times. A guest has no libraries without --programs: what runs there is linked statically
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    pub push: Vec<PathBuf>,
    /// Give the guest a disk with everyday programs, and run the command there (`vm/provision
    /// --programs` makes it)
    #[arg(long, conflicts_with_all = ["replay", "backend"])]
    pub programs: bool,
    /// Keep the trace in this file (harness/OBSERVE.md)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["replay", "no_trace"])]
    pub record: Option<PathBuf>,
    /// Check the trace in this file again, without any kernel
    #[arg(long, value_name = "FILE")]
    pub replay: Option<PathBuf>,
    /// Compare with this profile of the model, not with the kernel's own
    #[arg(long, value_name = "NAME")]
    pub model_profile: Option<String>,
    /// What `{ops}` stands for in the command: how many operations it does
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub ops: Option<u64>,
    /// Where something is found, run the command again with fewer operations, and tell of the
    /// smallest number with which the same is found
    #[arg(long, requires = "ops", conflicts_with_all = ["record", "replay", "suite", "no_trace"])]
    pub reduce: bool,
    /// Run the command only: how long it takes without the tracer
    #[arg(long)]
    pub no_trace: bool,
    /// Do not look at page tables: what devices could reach is not checked, and less is recorded
    #[arg(long)]
    pub no_device: bool,
    /// Do not show what the command says, which comes to standard error
    #[arg(short, long)]
    pub quiet: bool,
    /// For people, or JSON lines for programs (harness/OBSERVE.md)
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
    /// Longest that the command may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub timeout: u64,
    /// Harts of the guest
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub harts: u32,
    /// What the guest's harts have and have not, as of `run`
    #[arg(long, value_name = "FEATURES")]
    pub cpu: Option<CpuFeatures>,
    /// Memory of the guest, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(128..=65536))]
    pub memory: u32,
    /// Boot anew instead of restoring a saved guest
    #[arg(long)]
    pub boot: bool,
}

const OBSERVE_EXIT_CODES: &str = "Exit codes: 0 the kernel did what the model does, 1 something was found, \
2 bad command line, 69 it could not be run, or the trace is not whole, 130 interrupted. How the command itself \
ended is told, and decides nothing.";

/// Options of `nightly`.
#[derive(Clone, Debug, Args)]
#[command(after_help = NIGHTLY_EXIT_CODES)]
pub struct NightlyArgs {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would become the help's heading"
    )]
    pub run: RunArgs,
    /// Database that results are kept in (default: history.sqlite in $STATE_DIRECTORY, which
    /// systemd sets, else in the folder tlbdiff of $XDG_STATE_HOME or ~/.local/state)
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// Forget all but the last N runs of each board and line
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..))]
    pub keep: u32,
    /// End as `run` does: whatever fails is found, also where it failed before
    #[arg(long)]
    pub strict: bool,
}

const NIGHTLY_EXIT_CODES: &str = "Exit codes: 0 nothing got worse, 1 something did (with --strict: something was found), \
2 bad command line or scenario, 69 something could not be run or kept (and nothing got worse), 130 interrupted.";

/// Options of `history`.
#[derive(Clone, Debug, Args)]
pub struct HistoryArgs {
    /// Show what this scenario came to, in place of the runs
    #[arg(value_name = "SCENARIO")]
    pub scenario: Option<PathBuf>,
    /// Database that results are kept in (default: as for `nightly`)
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// Only runs on this board
    #[arg(long, value_name = "NAME")]
    pub board: Option<String>,
    /// Only runs of this line of kernels
    #[arg(long, value_name = "NAME")]
    pub line: Option<String>,
    /// Only the last N runs of each board and line
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub last: u32,
    /// Show what notifications cost, in place of the runs (see `cost`)
    #[arg(long, conflicts_with_all = ["scenario", "html", "import"])]
    pub costs: bool,
    /// Write all of it as one page, which needs nothing but itself
    #[arg(long, value_name = "FILE", conflicts_with = "scenario")]
    pub html: Option<PathBuf>,
    /// Take in what `run --format json` wrote: results of partitions, and of other machines
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["scenario", "html"])]
    pub import: Vec<PathBuf>,
}

/// Options of `compare`.
#[derive(Clone, Debug, Args)]
pub struct CompareArgs {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would become the help's heading"
    )]
    pub selection: Selection,
    /// The kernels, by their names in vm/kernels.toml, separated by commas
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub kernels: Vec<String>,
    /// A kernel built from this source tree; may be given twice
    #[arg(long, value_name = "DIR")]
    pub kernel_tree: Vec<PathBuf>,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would become the help's heading"
    )]
    pub own_image: ImageArgs,
    /// For people, or JSON lines for programs (harness/JSON.md)
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
    /// Say nothing of scenarios in which both do the same
    #[arg(long, short)]
    pub quiet: bool,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would become the help's heading"
    )]
    pub guest: GuestArgs,
}

/// Options of `drift`.
#[derive(Clone, Debug, Args)]
#[command(after_help = DRIFT_EXIT_CODES)]
pub struct DriftArgs {
    /// The earlier kernel: its source tree, or its name or series in vm/kernels.toml
    #[arg(value_name = "OLD")]
    pub old: OsString,
    /// The later one
    #[arg(value_name = "NEW")]
    pub new: OsString,
    /// Only this function, macro or type of the kernel; may be given several times
    #[arg(long, value_name = "NAME")]
    pub function: Vec<String>,
    /// Without the changed lines
    #[arg(long)]
    pub brief: bool,
    /// For people, or JSON lines for programs (harness/JSON.md)
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
}

const DRIFT_EXIT_CODES: &str = "What the model mirrors, the comments of its source say. Comments and white space of the \
kernel do not count.\n\nExit codes: 0 nothing changed, 1 something did, 2 bad command line, 69 a source cannot be read.";

/// Options of `doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// Undo what a killed run left behind on a board: module, swap, cgroups and settings
    #[arg(long)]
    pub restore: bool,
    /// Which board, with --restore: `local` (default) or `ssh:[USER@]HOST[:PORT]`; may be
    /// given several times
    #[arg(long, value_name = "WHERE", requires = "restore")]
    pub backend: Vec<BackendName>,
    /// Configuration file for ssh, in place of the user's own
    #[arg(long, value_name = "FILE", requires = "restore")]
    pub ssh_config: Option<PathBuf>,
}

/// Memory of a guest, in MiB.
pub const USUAL_MEMORY: u32 = 512;

/// What the guest is like.
#[derive(Clone, Debug, Args)]
pub struct GuestArgs {
    /// Harts of the guest; by default as many as the actors of any scenario of the run need,
    /// and one more
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub harts: Option<u32>,
    /// What the guest's harts have and have not: a largest mode of address translation
    /// (`sv39`, `sv48`, `sv57`) and extensions (`svnapot`, `svinval`, `svadu`, `svvptc`, each
    /// also with `no-` before it), as in `sv39,no-svadu`
    #[arg(long, value_name = "FEATURES")]
    pub cpu: Option<CpuFeatures>,
    /// Memory of the guest, in MiB
    #[arg(long, value_name = "MIB", default_value_t = USUAL_MEMORY, value_parser = clap::value_parser!(u32).range(128..=65536))]
    pub memory: u32,
    /// Longest that one scenario may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub timeout: u64,
    /// The device check's device also loads what a range maps when something is about to be
    /// taken from it, not only at the ends of steps: what comes and goes within one is seen
    #[arg(long)]
    pub eager: bool,
    /// A real secondary MMU that shares the actors' memory: what it still has cached after each
    /// step is compared with the page tables, and `device` steps can be done (harness/IOMMU.md)
    #[arg(long, value_name = "WHICH", value_enum)]
    pub secondary: Option<SecondaryName>,
    /// What notifications become for it
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = PolicyName::Leaf, requires = "secondary")]
    pub policy: PolicyName,
    /// Boot anew instead of restoring a saved guest
    #[arg(long)]
    pub boot: bool,
    /// Break the first guest of each worker (for the tests of this program)
    #[arg(long, hide = true, value_name = "WHAT")]
    pub sabotage: Option<SabotageName>,
    /// Boot with this initramfs (for the tests of this program)
    #[arg(long, hide = true, value_name = "FILE")]
    pub initramfs: Option<PathBuf>,
    /// Records that the trace buffer holds (for the tests of this program)
    #[arg(long, hide = true, default_value_t = 0)]
    pub buffer_records: u32,
}

/// A real secondary MMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SecondaryName {
    /// QEMU's RISC-V IOMMU, with a device behind it
    Iommu,
}

/// What notifications become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PolicyName {
    /// a command for each page of 4 KiB of a range, for all of the mm above 512 of them
    Leaf,
    /// a command for each leaf of which something was loaded
    Exact,
    /// a command for all of the mm
    All,
    /// nothing: the negative control
    None,
}

impl GuestArgs {
    /// The policy of the secondary MMU that is asked for.
    pub fn iommu(&self) -> Option<Policy> {
        let policy = match self.policy {
            PolicyName::Leaf => Policy::Leaf,
            PolicyName::Exact => Policy::Exact,
            PolicyName::All => Policy::All,
            PolicyName::None => Policy::None,
        };
        self.secondary.map(|SecondaryName::Iommu| policy)
    }

    /// What of it is not as usual, in the words that results are kept under.
    pub fn unusual(&self) -> Vec<String> {
        let cpu = self.cpu.as_ref().map(CpuFeatures::to_string);
        [cpu, self.secondary_name()].into_iter().flatten().collect()
    }

    /// What is asked for, in results: `iommu leaf`.
    pub fn secondary_name(&self) -> Option<String> {
        self.iommu()
            .map(|policy| format!("iommu {}", policy.name()))
    }
}

/// What the tests break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SabotageName {
    /// The kernel panics.
    Panic,
    /// The agent stops answering.
    Hang,
    /// The subject kills itself after its first step.
    KillSubject,
    /// The agent ends.
    Die,
    /// The IOMMU's command queue stops.
    StopIommu,
}

/// Where observations come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendName {
    /// A kernel in QEMU.
    Guest,
    /// Accepted snapshots.
    Recorded,
    /// This machine.
    Local,
    /// `[USER@]HOST[:PORT]`
    Ssh(String),
}

impl FromStr for BackendName {
    type Err = String;

    fn from_str(text: &str) -> Result<BackendName, String> {
        match text {
            "guest" => Ok(BackendName::Guest),
            "recorded" => Ok(BackendName::Recorded),
            "local" => Ok(BackendName::Local),
            _ => match text.strip_prefix("ssh:") {
                Some(place) if Place::ssh(place, None).is_some() => {
                    Ok(BackendName::Ssh(place.to_owned()))
                }
                _ => Err("it is `guest`, `recorded`, `local` or `ssh:[USER@]HOST[:PORT]`".into()),
            },
        }
    }
}

impl BackendName {
    /// Where that machine is.
    pub fn place(&self, ssh_config: Option<&Path>) -> Option<Place> {
        match self {
            BackendName::Guest | BackendName::Recorded => None,
            BackendName::Local => Some(Place::Local),
            BackendName::Ssh(text) => Place::ssh(text, ssh_config.map(Path::to_owned)),
        }
    }

    /// Whether it is a machine that was not made for this.
    pub fn is_board(&self) -> bool {
        matches!(self, BackendName::Local | BackendName::Ssh(_))
    }
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackendName::Guest => f.write_str("guest"),
            BackendName::Recorded => f.write_str("recorded"),
            BackendName::Local => f.write_str("local"),
            BackendName::Ssh(place) => write!(f, "ssh:{place}"),
        }
    }
}

/// A part of the scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Which part, from 1.
    pub part: u64,
    /// Of how many.
    pub of: u64,
}

impl FromStr for Partition {
    type Err = String;

    fn from_str(text: &str) -> Result<Partition, String> {
        let numbers = text
            .strip_prefix("hash:")
            .and_then(|text| text.split_once('/'));
        let parsed = numbers.and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)));
        match parsed {
            Some((part, of)) if 1 <= part && part <= of => Ok(Partition { part, of }),
            _ => Err("it is `hash:M/N`, with M from 1 to N".into()),
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hash:{}/{}", self.part, self.of)
    }
}

impl Partition {
    /// Whether a scenario belongs to it: by its own and its folder's name, so that a new
    /// scenario moves no other one to another part, wherever all of them lie.
    pub fn has(&self, path: &Path) -> bool {
        let mut names = path.iter().rev();
        let (own, folder) = (names.next(), names.next());
        let bytes =
            |name: Option<&std::ffi::OsStr>| name.unwrap_or_default().as_encoded_bytes().to_vec();
        let name = [bytes(folder), b"/".to_vec(), bytes(own)].concat();
        // FNV-1a
        let hash = name.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
        hash % self.of + 1 == self.part
    }
}

/// What `--checks` takes.
fn check_names() -> clap::builder::PossibleValuesParser {
    CHECKS
        .iter()
        .map(|check| check.name)
        .collect::<Vec<_>>()
        .into()
}

/// What a run is told in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RunFormat {
    /// For people
    Human,
    /// JSON lines (harness/JSON.md)
    Json,
    /// KTAP version 1, for kunit.py and kselftest's tools
    Ktap,
    /// JUnit XML
    Junit,
    /// A report of KCIDB's schema 5
    Kcidb,
    /// LAVA's test case signals
    Lava,
}

/// A format, and the file that it is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output(pub RunFormat, pub PathBuf);

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Output, String> {
        let (format, file) = text.split_once('=').ok_or("it is FORMAT=FILE")?;
        if file.is_empty() {
            return Err("it is FORMAT=FILE".to_owned());
        }
        let format = RunFormat::from_str(format, false)?;
        Ok(Output(format, file.into()))
    }
}

/// KCIDB's pattern of names.
fn kcidb_origin(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !text.is_empty() && text.chars().all(allowed) {
        return Ok(text.to_owned());
    }
    Err("an origin is of a-z, 0-9 and _".to_owned())
}

/// And of what they report of.
fn kcidb_build(text: &str) -> Result<String, String> {
    let (origin, _) = text.split_once(':').ok_or("it is ORIGIN:ID")?;
    kcidb_origin(origin).map(|_| text.to_owned())
}

/// For whom it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// People.
    Human,
    /// Programs, one JSON object a line.
    Json,
}

/// Options of `predict`.
#[derive(Clone, Debug, Args)]
pub struct PredictArgs {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would become the help's heading"
    )]
    pub selection: Selection,
    /// The model's kernel
    #[arg(long, value_name = "NAME", default_value = "stable")]
    pub model_profile: String,
    /// What harts have and have not, as of `run`
    #[arg(long, value_name = "FEATURES")]
    pub cpu: Option<CpuFeatures>,
    /// Tell of local fences too, which no trace shows
    #[arg(long)]
    pub fences: bool,
    /// Tell what a device holds after each step that caches all it may, by the page tables and
    /// notifications of the model
    #[arg(long)]
    pub device: bool,
    /// For people, or JSON lines for programs
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
}

/// Options of `list`.
#[derive(Clone, Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would become the help's heading"
    )]
    pub selection: Selection,
    /// Run them, and list the ways into tlbflush.c that the kernel has instead, each with the
    /// scenarios that were seen to come by it
    #[arg(long = "paths", id = "ways")]
    pub ways: bool,
    /// Keep what was seen as the accepted table of the kernel, snapshots/paths/KERNEL.toml
    #[arg(long, requires = "ways")]
    pub accept: bool,
    /// With the names of all scenarios, and chains of callers that were not understood
    #[arg(long, short, requires = "ways")]
    pub verbose: bool,
    /// Guests at once
    #[arg(long, short, value_name = "N", default_value_t = 1, requires = "ways", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,
    /// For people, or JSON lines for programs (harness/JSON.md)
    #[arg(long, value_enum, default_value_t = Format::Human, requires = "ways")]
    pub format: Format,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would become the help's heading"
    )]
    pub kernel: KernelArgs,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would become the help's heading"
    )]
    pub guest: GuestArgs,
}

/// Options of `check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would become the help's heading"
    )]
    pub selection: Selection,
}

/// Options of `provision`.
#[derive(Clone, Debug, Args)]
pub struct ProvisionArgs {
    /// As for vm/provision
    #[arg(
        value_name = "ARGUMENT",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub arguments: Vec<OsString>,
}

/// Options of `man`.
#[derive(Clone, Debug, Args)]
pub struct ManArgs {
    /// Folder that they are written to, made if need be
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// Options of `completions`.
#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

#[cfg(test)]
mod tests {
    use super::{BackendName, Cli, Partition};
    use clap::Parser;
    use std::path::Path;

    #[test]
    fn an_image_wants_its_build_directory_and_the_other_way_round() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).map_err(|e| e.to_string());
        for command in ["run", "compare", "cost", "nightly"] {
            let both = "--kernel-image /i --kernel-build /b x.yaml";
            assert!(parse(&format!("tlbdiff {command} {both}")).is_ok());
            for (one, other) in [("image", "build"), ("build", "image")] {
                let line = format!("tlbdiff {command} --kernel-{one} /a x.yaml");
                let error = parse(&line).expect_err(&line);
                assert!(error.contains(&format!("--kernel-{other}")), "{error}");
            }
        }
    }

    #[test]
    fn each_scenario_is_in_one_part_wherever_it_lies() {
        let parts: Vec<Partition> = ["hash:1/3", "hash:2/3", "hash:3/3"]
            .iter()
            .map(|text| text.parse().expect("a part"))
            .collect();
        let mut sizes = [0; 3];
        for number in 0..300 {
            let here = format!("scenarios/munmap/{number}.yaml");
            let there = format!("/elsewhere/scenarios/munmap/{number}.yaml");
            let in_parts = |path: &str| -> Vec<usize> {
                let has = |part: &usize| parts[*part].has(Path::new(path));
                (0..3).filter(has).collect()
            };
            assert_eq!(in_parts(&here).len(), 1);
            assert_eq!(in_parts(&here), in_parts(&there));
            sizes[in_parts(&here)[0]] += 1;
        }
        assert!(sizes.iter().all(|size| *size > 70), "{sizes:?}");
        // Machines of different versions have to agree.
        let path = Path::new("scenarios/munmap/middle.yaml");
        assert_eq!(parts.iter().position(|part| part.has(path)), Some(MIDDLE));
    }

    /// FNV-1a of `munmap/middle.yaml`, modulo 3.
    const MIDDLE: usize = 2;

    #[test]
    fn backends_are_told_as_they_are_given() {
        for text in ["guest", "recorded", "local", "ssh:a", "ssh:root@b:2222"] {
            let name: BackendName = text.parse().expect("a backend");
            assert_eq!(name.to_string(), text);
            let place = name.place(None).map(|place| place.to_string());
            assert_eq!(place.is_some(), name.is_board());
            assert!(place.is_none_or(|place| place == text));
        }
    }
}
