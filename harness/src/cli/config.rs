// SPDX-License-Identifier: GPL-2.0-only
//! What the command line means: names looked up, defaults filled in.

use super::Failure;
use super::args::{BackendName, Format, KernelArgs, RunArgs, Selection};
use crate::backend::guest::Settings;
use crate::report::human::Style;
use crate::report::{Rerun, Start};
use crate::scenario::{Scenario, find, names};
use reference_model::Profile;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;
use vm::{Artifacts, KernelChoice, VmError};

/// What `run` is to do.
pub struct RunConfig {
    /// In the order of telling.
    pub scenarios: Vec<Arc<Scenario>>,
    /// The model's kernel.
    pub profile: &'static Profile,
    /// How guests are made; none for recorded observations.
    pub guest: Option<Settings>,
    /// Compare with accepted snapshots.
    pub snapshots: bool,
    /// How often each scenario is run.
    pub repeat: u32,
    /// How many at once.
    pub jobs: usize,
    /// For whom it is printed.
    pub format: Format,
    /// How it is printed for people.
    pub style: Style,
    /// How the run is announced.
    pub start: Start,
}

impl RunConfig {
    /// Finds out what is meant.
    ///
    /// # Errors
    /// A name is unknown, a scenario is wrong, or the kernel has not been built.
    pub fn new(args: RunArgs) -> Result<RunConfig, Failure> {
        let named = args.model_profile.as_deref().map(profile).transpose()?;
        let scenarios = scenarios(&args.selection)?;
        let artifacts = match args.backend {
            BackendName::Guest => Some(artifacts(&args.kernel)?),
            BackendName::Recorded => None,
        };
        let profile = match (named, &artifacts) {
            (Some(named), _) => named,
            (None, Some(artifacts)) => profile(&artifacts.profile)?,
            (None, None) => &Profile::STABLE,
        };
        let start = Start {
            scenarios: scenarios.len(),
            backend: if artifacts.is_some() {
                "guest"
            } else {
                "recorded"
            },
            kernel: artifacts
                .as_ref()
                .map_or_else(|| "recorded".to_owned(), kernel_name),
            profile: profile.name,
        };
        let style = Style {
            quiet: args.quiet,
            rerun: rerun(&args),
            ..style()
        };
        Ok(RunConfig {
            scenarios,
            profile,
            snapshots: artifacts.is_some() && !args.no_snapshots,
            guest: artifacts.map(|artifacts| settings(&args, artifacts)),
            repeat: args.repeat,
            jobs: usize::from(args.jobs),
            format: args.format,
            style,
            start,
        })
    }
}

fn kernel_name(artifacts: &Artifacts) -> String {
    format!("{} ({})", artifacts.kernel, artifacts.release)
}

fn settings(args: &RunArgs, mut artifacts: Artifacts) -> Settings {
    let other = args.guest.initramfs.clone();
    let restore = !args.guest.boot && other.is_none();
    artifacts.initramfs = other.unwrap_or(artifacts.initramfs);
    Settings {
        artifacts,
        harts: args.guest.harts,
        memory_mib: args.guest.memory,
        timeout: Duration::from_secs(args.guest.timeout),
        restore,
        sabotage: args.guest.sabotage,
        buffer_records: args.guest.buffer_records,
    }
}

/// Well-formed scenarios, at least one.
///
/// # Errors
/// One is wrong, or there is none.
pub fn scenarios(selection: &Selection) -> Result<Vec<Arc<Scenario>>, Failure> {
    let (scenarios, errors) = find::load(&selection.paths, selection.filter.as_deref());
    if !errors.is_empty() {
        return Err(Failure::Input(errors));
    }
    if scenarios.is_empty() {
        let filter = selection.filter.as_deref().unwrap_or_default();
        return Err(Failure::Usage(format!(
            "no scenario's path contains `{filter}` (from --filter)"
        )));
    }
    Ok(scenarios.into_iter().map(Arc::new).collect())
}

/// The model's kernel of that name.
///
/// # Errors
/// There is none.
pub fn profile(name: &str) -> Result<&'static Profile, Failure> {
    Profile::by_name(name).ok_or_else(|| {
        let known: Vec<&str> = Profile::ALL.iter().map(|profile| profile.name).collect();
        let nearest = names::nearest(name, known.iter().copied());
        let hint = nearest
            .map(|name| format!(" (did you mean `{name}`?)"))
            .unwrap_or_default();
        Failure::Usage(format!(
            "no model profile is called `{name}`{hint}; known: {}",
            known.join(", ")
        ))
    })
}

/// Which kernel is meant.
pub fn choice(args: &KernelArgs) -> KernelChoice {
    match &args.kernel_tree {
        Some(tree) => KernelChoice::Tree(tree.clone()),
        None => KernelChoice::Named(args.kernel.clone()),
    }
}

fn artifacts(args: &KernelArgs) -> Result<Artifacts, Failure> {
    vm::locate(&choice(args)).map_err(|error| match error {
        VmError::UnknownKernel { .. } | VmError::BadTree { .. } => {
            Failure::Usage(format!("--kernel: {error}"))
        }
        other => Failure::Cannot(other.to_string()),
    })
}

/// Colours and a bar on a terminal only, and colours not where they are unwanted.
fn style() -> Style {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Style {
        colour: std::io::stdout().is_terminal() && !unwanted,
        bar: std::io::stderr().is_terminal(),
        ..Style::default()
    }
}

/// The command that runs one scenario in the same way.
fn rerun(args: &RunArgs) -> Rerun {
    // Cargo tells a program that it runs by this variable.
    let program: Vec<String> = match std::env::var_os("CARGO") {
        Some(_) => ["cargo", "run", "--"].map(str::to_owned).to_vec(),
        None => vec![
            std::env::args()
                .next()
                .unwrap_or_else(|| "tlbdiff".to_owned()),
        ],
    };
    let mut command = [program, vec!["run".to_owned()]].concat();
    let mut option = |name: &str, value: String| command.extend([name.to_owned(), value]);
    match (&args.kernel.kernel_tree, args.kernel.kernel.as_str()) {
        (Some(tree), _) => option("--kernel-tree", tree.display().to_string()),
        (None, "stable") => {}
        (None, kernel) => option("--kernel", kernel.to_owned()),
    }
    if args.backend == BackendName::Recorded {
        option("--backend", "recorded".to_owned());
    }
    if let Some(profile) = &args.model_profile {
        option("--model-profile", profile.clone());
    }
    if args.repeat > 1 {
        option("--repeat", args.repeat.to_string());
    }
    if let Some(harts) = args.guest.harts {
        option("--harts", harts.to_string());
    }
    Rerun { command }
}
