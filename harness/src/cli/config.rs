// SPDX-License-Identifier: GPL-2.0-only
//! What the command line means: names looked up, defaults filled in.

use super::args::USUAL_MEMORY;
use super::args::{BackendName, GuestArgs, KeptAs, KernelArgs, RunArgs, Selection};
use super::failure::Failure;
use crate::backend::board::{self, Boards};
use crate::backend::guest::Settings;
use crate::checks::Chosen;
use crate::event::{Rerun, Start};
use crate::outcome::Outcome;
use crate::reading::{Nearest, Reading, TLBFLUSH, unknown_forms};
use crate::report::style::Style;
use crate::scenario::{Scenario, find, names, naming};
use crate::snapshot::Set;
use anstream::{AutoStream, ColorChoice};
use reference_model::Profile;
use std::fs;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;
use vm::boards::Place;
use vm::{Artifacts, KernelChoice, KernelInfo, VmError};

/// The kernel where none is named.
const DEFAULT_KERNEL: &str = "stable";

/// What `run` is to do.
pub struct RunConfig {
    /// In the order of telling.
    pub scenarios: Vec<Arc<Scenario>>,
    /// On which kernels, in the order of running; or which one cannot be had, and why.
    pub kernels: Vec<Result<KernelRun, Missing>>,
    /// By which checks.
    pub checks: Chosen,
    /// How often each scenario is run.
    pub repeat: u32,
    /// How many at once.
    pub jobs: usize,
    /// The number that says the order of running, if it is not the order of telling.
    pub shuffle: Option<u64>,
    /// What the user should know before.
    pub notes: Vec<String>,
}

/// A run on one kernel.
pub struct KernelRun {
    /// Its name.
    pub kernel: String,
    /// The model's profile.
    pub profile: &'static Profile,
    /// Whether that was read for the kernel's release.
    pub reading: Reading,
    /// Where observations come from.
    pub from: BackendConfig,
    /// Which accepted snapshots are compared with.
    pub snapshots: Option<Set>,
    /// How the run is announced.
    pub start: Start,
}

/// Where observations come from.
#[derive(Clone)]
pub enum BackendConfig {
    /// Guests like this.
    Guest(Box<Settings>),
    /// Snapshots that were accepted.
    Recorded(Set),
    /// These boards.
    Boards(board::Settings, Arc<Boards>),
}

/// A kernel that cannot be run on.
pub struct Missing {
    /// How its run would have been announced.
    pub start: Start,
    /// Why, and what to do.
    pub why: String,
}

impl RunConfig {
    /// Finds out what is meant.
    ///
    /// # Errors
    /// A name is unknown, a scenario is wrong, or the only kernel has not been built.
    pub fn new(args: RunArgs) -> Result<RunConfig, Failure> {
        let named = args.model_profile.as_deref().map(profile).transpose()?;
        let mut scenarios = scenarios(&args.selection)?;
        if let Some(part) = args.partition {
            scenarios.retain(|scenario| part.has(&scenario.path));
        }
        let mut notes = Vec::new();
        let places = places(&args)?;
        if args.guest.secondary.is_some() && (!places.is_empty() || recorded(&args)) {
            return Err(no_secondary(
                "boards and snapshots have none that could be driven so",
            ));
        }
        if !places.is_empty() {
            return on_boards(&args, places, named, scenarios);
        }
        let choices = choices(&args.kernel)?;
        let several = choices.len() > 1;
        let mut kernels = Vec::new();
        for choice in choices {
            let run = if recorded(&args) {
                from_snapshots(&choice, named)
            } else {
                on_guest(&args, &choice, named, &scenarios, &mut notes)
            };
            let mut run = match run {
                // The others can be run all the same.
                Err(Failure::Cannot(why)) if several => {
                    let own = Profile::by_name(&choice.to_string());
                    let profile = named.or(own).unwrap_or(&Profile::STABLE);
                    let name = choice.to_string();
                    let mut start = start("guest", name.clone(), name, profile);
                    start.several = several;
                    kernels.push(Err(Missing { start, why }));
                    continue;
                }
                run => run?,
            };
            run.start.several = several;
            run.start.rerun = rerun(&args, &choice);
            kernels.push(Ok(run));
        }
        let jobs = usize::from(args.jobs);
        Ok(RunConfig::of(&args, scenarios, kernels, jobs, notes))
    }

    fn of(
        args: &RunArgs,
        scenarios: Vec<Arc<Scenario>>,
        mut kernels: Vec<Result<KernelRun, Missing>>,
        jobs: usize,
        notes: Vec<String>,
    ) -> RunConfig {
        let names: Vec<String> = scenarios
            .iter()
            .map(|scenario| scenario.name.clone())
            .collect();
        let runs = kernels.len();
        for kernel in &mut kernels {
            let start = match kernel {
                Ok(run) => &mut run.start,
                Err(missing) => &mut missing.start,
            };
            start.board = board(&args.kept_as, &args.backend, args.guest.unusual());
            start.secondary = args.guest.secondary_name();
            if let Some(line) = &args.kept_as.line {
                start.line.clone_from(line);
            }
            start.scenarios = names.len();
            start.names.clone_from(&names);
            start.runs = runs;
        }
        RunConfig {
            scenarios,
            kernels,
            checks: Chosen::of(&args.checks),
            repeat: args.repeat,
            jobs,
            shuffle: args.shuffle,
            notes,
        }
    }
}

fn recorded(args: &RunArgs) -> bool {
    args.backend.contains(&BackendName::Recorded)
}

/// The boards that are meant, each once; none where it is a guest or snapshots.
fn places(args: &RunArgs) -> Result<Vec<Place>, Failure> {
    let mut places: Vec<Place> = Vec::new();
    for name in &args.backend {
        let place = name.place(args.ssh_config.as_deref());
        places.extend(place.filter(|place| !places.contains(place)));
    }
    if args.backend.len() > 1 && args.backend.iter().any(|name| !name.is_board()) {
        let message = "--backend: boards and other backends do not go together".to_owned();
        return Err(Failure::Usage(message));
    }
    let kernel = &args.kernel;
    let named = !kernel.kernel.is_empty()
        || !kernel.kernel_tree.is_empty()
        || !kernel.own_image.kernel_image.is_empty();
    if !places.is_empty() && named {
        let message = "--kernel: a board runs the kernel that it has".to_owned();
        return Err(Failure::Usage(message));
    }
    Ok(places)
}

/// Boards share the scenarios out, so the same model has to speak for all of them.
fn on_boards(
    args: &RunArgs,
    places: Vec<Place>,
    named: Option<&'static Profile>,
    scenarios: Vec<Arc<Scenario>>,
) -> Result<RunConfig, Failure> {
    let mut notes = Vec::new();
    let mut reached: Vec<(Place, String)> = Vec::new();
    let mut why = String::new();
    for place in places {
        match vm::boards::release(&place) {
            Ok(release) => reached.push((place, release)),
            Err(error) => {
                why = format!("{error}; {}", error.advice());
                notes.push(why.clone());
            }
        }
    }
    let Some((_, release)) = reached.first().cloned() else {
        return Err(Failure::Cannot(why));
    };
    let (own, exact) = Profile::of_release(&release);
    for (place, other) in &reached {
        if Profile::of_release(other).0 != own && named.is_none() {
            return Err(Failure::Usage(format!(
                "--backend: {place} runs {other} and another board {release}, of which the model \
                 expects different things: run them one by one"
            )));
        }
    }
    if !exact {
        notes.push(not_read(&release, own));
    }
    let profile = named.unwrap_or(own);
    let reading = if exact || named.is_some() {
        Reading::Read
    } else {
        let why = "the source of a board's kernel is not at hand".to_owned();
        nearest(&release, own, Err(why))
    };
    let jobs = reached.len();
    let places = reached.into_iter().map(|(place, _)| place).collect();
    let mut start = start("board", release.clone(), line_of(&release), profile);
    start.rerun = rerun(args, &KernelChoice::Named(DEFAULT_KERNEL.to_owned()));
    let settings = board::Settings {
        timeout: Duration::from_secs(args.guest.timeout),
        sabotage: args.guest.sabotage,
        buffer_records: args.guest.buffer_records,
        eager: args.guest.eager,
    };
    let kernel = KernelRun {
        kernel: release,
        profile,
        reading,
        snapshots: None,
        start,
        from: BackendConfig::Boards(settings, Arc::new(Boards::new(places))),
    };
    Ok(RunConfig::of(
        args,
        scenarios,
        vec![Ok(kernel)],
        jobs,
        notes,
    ))
}

fn on_guest(
    args: &RunArgs,
    choice: &KernelChoice,
    named: Option<&'static Profile>,
    scenarios: &[Arc<Scenario>],
    notes: &mut Vec<String>,
) -> Result<KernelRun, Failure> {
    let artifacts = artifacts(choice)?;
    let acted_on = scenarios.iter().map(|scenario| scenario.harts()).max();
    let own = profile_of(choice, &artifacts);
    let (_, read) = Profile::of_release(&artifacts.release);
    let read = read && own.is_some();
    let own = own.unwrap_or(&Profile::STABLE);
    let profile = named.unwrap_or(own);
    if !read {
        notes.push(not_read(&format!("{} ({choice})", artifacts.release), own));
    }
    notes.extend(unknown_form(choice, profile));
    // Who says which model it is knows what is read.
    let reading = if read || named.is_some() {
        Reading::Read
    } else {
        let sources = nearest_source(own).and_then(|nearest| Ok([nearest, source(choice)?]));
        nearest(&artifacts.release, own, sources)
    };
    let snapshots = Set::of_kernel(&artifacts.kernel).filter(|_| !args.no_snapshots);
    let line = line(choice, &artifacts);
    Ok(KernelRun {
        kernel: artifacts.kernel.clone(),
        profile,
        reading,
        snapshots,
        start: start("guest", kernel_name(&artifacts), line, profile),
        from: BackendConfig::Guest(Box::new(Settings {
            acted_on: acted_on.unwrap_or(0),
            ..settings(&args.guest, artifacts)
        })),
    })
}

/// The model's profile that speaks for a kernel: as vm/kernels.toml names it, or as its source
/// tells. None for a name that the model does not know.
pub fn profile_of(choice: &KernelChoice, artifacts: &Artifacts) -> Option<&'static Profile> {
    if let Some(name) = &artifacts.profile {
        return Profile::by_name(name);
    }
    let root = source(choice).ok()?;
    let text = |file: &str| fs::read_to_string(root.join(file)).ok();
    Some(Profile::of_source(&text))
}

fn not_read(release: &str, nearest: &Profile) -> String {
    format!(
        "the model was not read for Linux {release}; the nearest profile is `{}`: where it alone \
         disagrees with what the steps do, that is told as `{}`",
        nearest.name,
        Outcome::ModelNotRead.name()
    )
}

fn nearest(release: &str, nearest: &Profile, sources: Result<[PathBuf; 2], String>) -> Reading {
    let (release, nearest) = (release.to_owned(), nearest.name.to_owned());
    Reading::NotRead(Arc::new(Nearest::new(release, nearest, sources)))
}

/// The source of the kernel that a profile was read from.
fn nearest_source(profile: &Profile) -> Result<PathBuf, String> {
    let kernels = vm::kernels().map_err(|error| error.to_string())?;
    let mut kernels = kernels.into_iter();
    let is_it = |kernel: &KernelInfo| kernel.profile == profile.name;
    let kernel = kernels.find(is_it).ok_or_else(|| {
        format!(
            "no kernel of vm/kernels.toml is of profile {}",
            profile.name
        )
    })?;
    source(&KernelChoice::Named(kernel.name))
}

fn source(choice: &KernelChoice) -> Result<PathBuf, String> {
    vm::source(choice).map_err(|error| error.to_string())
}

/// That layer 1 judges what the model was not read for, if it does: an own tree's alone, for
/// named kernels have a profile that says so.
fn unknown_form(choice: &KernelChoice, profile: &Profile) -> Option<String> {
    if matches!(choice, KernelChoice::Named(_)) {
        return None;
    }
    let text = fs::read_to_string(source(choice).ok()?.join(TLBFLUSH)).ok()?;
    let unknown = unknown_forms(&text);
    (!unknown.is_empty()).then(|| {
        format!(
            "{TLBFLUSH} of {choice} is in no form that the model was read for ({}): layer 1 judges \
             it by the form of profile `{}`",
            unknown.join(", "),
            profile.name
        )
    })
}

fn from_snapshots(
    choice: &KernelChoice,
    named: Option<&'static Profile>,
) -> Result<KernelRun, Failure> {
    let own = match choice {
        KernelChoice::Named(name) => profile(name).ok(),
        KernelChoice::Tree(_) | KernelChoice::Image { .. } => None,
    };
    let set = own.and_then(|own| Set::of_kernel(own.name));
    let (Some(own), Some(set)) = (own, set) else {
        let message = format!("--kernel: no snapshots are kept of {choice}");
        return Err(Failure::Usage(message));
    };
    let profile = named.unwrap_or(own);
    let name = format!("recorded of {choice}");
    Ok(KernelRun {
        kernel: choice.to_string(),
        profile,
        reading: Reading::Read,
        snapshots: None,
        start: start("recorded", name, choice.to_string(), profile),
        from: BackendConfig::Recorded(set),
    })
}

fn start(backend: &'static str, kernel: String, line: String, profile: &Profile) -> Start {
    Start {
        id: Uuid::now_v7().to_string(),
        line,
        runs: 1,
        backend,
        kernel,
        profile: profile.name,
        ..Start::default()
    }
}

/// By which name a machine's results are kept: with what is not as usual of it.
pub fn board(kept_as: &KeptAs, backends: &[BackendName], unusual: Vec<String>) -> String {
    if let Some(name) = &kept_as.board {
        return name.clone();
    }
    let name = |backend: &BackendName| match backend {
        BackendName::Local => nix::unistd::gethostname().map_or_else(
            |_| "local".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        ),
        BackendName::Ssh(place) => {
            let host = place.rsplit('@').next().unwrap_or(place);
            host.split(':').next().unwrap_or(host).to_owned()
        }
        BackendName::Guest | BackendName::Recorded => backend.to_string(),
    };
    let names: Vec<String> = backends.iter().map(name).collect();
    let names = match names.is_empty() {
        true => BackendName::Guest.to_string(),
        false => names.join(","),
    };
    let parts = [vec![names], unusual];
    parts.concat().join(" ")
}

/// Where there is none.
pub fn no_secondary(why: &str) -> Failure {
    Failure::Usage(format!("--secondary: {why}; it is for guests"))
}

/// The line of a kernel that was provisioned.
pub fn line(choice: &KernelChoice, artifacts: &Artifacts) -> String {
    match choice {
        KernelChoice::Named(name) => name.clone(),
        KernelChoice::Tree(_) | KernelChoice::Image { .. } => line_of(&artifacts.release),
    }
}

/// The line of kernels that a release belongs to: `6.12` of `6.12.107+deb13-riscv64`.
pub fn line_of(release: &str) -> String {
    let numbers = release.split(['.', '-', '+']).take(2);
    numbers.collect::<Vec<_>>().join(".")
}

fn kernel_name(artifacts: &Artifacts) -> String {
    format!("{} ({})", artifacts.kernel, artifacts.release)
}

/// How guests of a kernel are made.
pub fn settings(guest: &GuestArgs, mut artifacts: Artifacts) -> Settings {
    let other = guest.initramfs.clone();
    let restore = !guest.boot && other.is_none();
    artifacts.initramfs = other.unwrap_or(artifacts.initramfs);
    Settings {
        artifacts,
        harts: guest.harts,
        acted_on: 0,
        memory_mib: guest.memory,
        cpu: guest.cpu.clone().unwrap_or_default(),
        timeout: Duration::from_secs(guest.timeout),
        restore,
        sabotage: guest.sabotage,
        buffer_records: guest.buffer_records,
        eager: guest.eager,
        iommu: guest.iommu(),
        counted: false,
    }
}

/// Well-formed scenarios, at least one.
///
/// # Errors
/// One is wrong, or there is none.
pub fn scenarios(selection: &Selection) -> Result<Vec<Arc<Scenario>>, Failure> {
    let (mut scenarios, errors) = find::load(&selection.paths, selection.filter.as_deref());
    if !errors.is_empty() {
        return Err(Failure::Input(errors));
    }
    if scenarios.is_empty() {
        let filter = selection.filter.as_deref().unwrap_or_default();
        return Err(Failure::Usage(format!(
            "no scenario's path contains `{filter}` (from --filter)"
        )));
    }
    naming::tell_apart(&mut scenarios);
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

/// Which kernels are meant, each once, at least one.
///
/// # Errors
/// The list of kernels cannot be read, or an image is without its build directory.
pub fn choices(args: &KernelArgs) -> Result<Vec<KernelChoice>, Failure> {
    let mut choices: Vec<KernelChoice> = Vec::new();
    let mut add = |choice: KernelChoice| {
        if !choices.contains(&choice) {
            choices.push(choice);
        }
    };
    for name in &args.kernel {
        if name == vm::EVERY {
            let all = vm::every().map_err(|error| Failure::Cannot(error.to_string()))?;
            all.into_iter()
                .for_each(|name| add(KernelChoice::Named(name)));
        } else {
            // What is called by its series is kept, and told, by its name. A name that is
            // none is told of where its files are looked for.
            let name = vm::kernel_name(name).unwrap_or_else(|_| name.clone());
            add(KernelChoice::Named(name));
        }
    }
    for tree in &args.kernel_tree {
        add(KernelChoice::Tree(tree.clone()));
    }
    let (images, builds) = (&args.own_image.kernel_image, &args.own_image.kernel_build);
    if images.len() != builds.len() {
        let message = "--kernel-image: each wants the --kernel-build that it was built in";
        return Err(Failure::Usage(message.to_owned()));
    }
    for (image, build) in images.iter().cloned().zip(builds.iter().cloned()) {
        add(KernelChoice::Image { image, build });
    }
    if choices.is_empty() {
        choices.push(KernelChoice::Named(DEFAULT_KERNEL.to_owned()));
    }
    Ok(choices)
}

/// Builds what own trees and images need, if that is not there or they were edited since; not
/// where the scenarios are wrong, which is told sooner. To be called before anything is listened
/// to: what builds is ended by Ctrl-C as it is anywhere.
///
/// # Errors
/// A tree or an image is none, or the only kernel does not build.
pub fn make_own_ready_for(args: &RunArgs) -> Result<(), Failure> {
    // What is wrong with the command line is told sooner, too, and where nothing is run in a
    // guest nothing is built.
    args.model_profile.as_deref().map(profile).transpose()?;
    match places(args)?.is_empty() && !recorded(args) {
        true => make_own_ready(&args.kernel, &args.selection),
        false => Ok(()),
    }
}

/// The same, of kernels that are run in guests.
///
/// # Errors
/// The same.
pub fn make_own_ready(args: &KernelArgs, selection: &Selection) -> Result<(), Failure> {
    let choices = choices(args)?;
    if !choices.iter().any(|choice| is_own(&choice)) || scenarios(selection).is_err() {
        return Ok(());
    }
    make_own_ready_of(args)
}

fn is_own(choice: &&KernelChoice) -> bool {
    !matches!(choice, KernelChoice::Named(_))
}

/// The same, whatever is to be run.
///
/// # Errors
/// The same.
pub fn make_own_ready_of(args: &KernelArgs) -> Result<(), Failure> {
    let choices = choices(args)?;
    for choice in choices.iter().filter(is_own) {
        match make_ready(choice) {
            // The others can be run all the same.
            Err(Failure::Cannot(why)) if choices.len() > 1 => eprintln!("{why}"),
            result => result?,
        }
    }
    Ok(())
}

fn make_ready(choice: &KernelChoice) -> Result<(), Failure> {
    if let Err(VmError::NotProvisioned { kernel, why, .. }) = vm::locate(choice) {
        eprintln!("{kernel}: {why}: building what it needs");
        vm::provision::provision_again(choice).map_err(not_had)?;
    }
    Ok(())
}

/// A kernel that was provisioned.
///
/// # Errors
/// It is unknown, or has not been built.
pub fn artifacts(choice: &KernelChoice) -> Result<Artifacts, Failure> {
    vm::locate(choice).map_err(not_had)
}

fn not_had(error: VmError) -> Failure {
    match error {
        VmError::UnknownKernel { .. } | VmError::BadTree { .. } => {
            Failure::Usage(format!("--kernel: {error}"))
        }
        other => Failure::Cannot(other.to_string()),
    }
}

/// Colours and a bar on a terminal only, and colours not where they are unwanted (NO_COLOR).
pub fn style() -> Style {
    let choice = AutoStream::choice(&std::io::stdout());
    Style {
        colour: choice != ColorChoice::Never,
        bar: std::io::stderr().is_terminal(),
        ..Style::default()
    }
}

/// The options that choose a kernel, which `named` does by its name.
fn kernel_options(choice: &KernelChoice, named: &str) -> Vec<String> {
    let option = |name: &str, value: String| vec![name.to_owned(), value];
    match choice {
        KernelChoice::Named(kernel) => option(named, kernel.clone()),
        KernelChoice::Tree(tree) => option("--kernel-tree", tree.display().to_string()),
        KernelChoice::Image { image, build } => [
            option("--kernel-image", image.display().to_string()),
            option("--kernel-build", build.display().to_string()),
        ]
        .concat(),
    }
}

/// The command that compares one scenario on the same kernels, in the same guests.
pub fn compare_again(choices: &[KernelChoice], guest: &GuestArgs) -> Rerun {
    let mut command = program();
    command.push("compare".to_owned());
    let is_named = |choice: &&KernelChoice| matches!(choice, KernelChoice::Named(_));
    let names: Vec<String> = choices
        .iter()
        .filter(is_named)
        .map(ToString::to_string)
        .collect();
    if !names.is_empty() {
        command.extend(["--kernels".to_owned(), names.join(",")]);
    }
    let others = choices.iter().filter(|choice| !is_named(choice));
    command.extend(others.flat_map(|choice| kernel_options(choice, "--kernels")));
    command.extend(guest_options(guest));
    Rerun { command }
}

/// The command that runs one scenario in the same way.
fn rerun(args: &RunArgs, choice: &KernelChoice) -> Rerun {
    let mut command = program();
    command.push("run".to_owned());
    match choice {
        KernelChoice::Named(kernel) if kernel == DEFAULT_KERNEL => {}
        choice => command.extend(kernel_options(choice, "--kernel")),
    }
    let mut option = |name: &str, value: String| command.extend([name.to_owned(), value]);
    for backend in &args.backend {
        option("--backend", backend.to_string());
    }
    if let Some(config) = &args.ssh_config {
        option("--ssh-config", config.display().to_string());
    }
    if let Some(profile) = &args.model_profile {
        option("--model-profile", profile.clone());
    }
    if !args.checks.is_empty() {
        option("--checks", args.checks.join(","));
    }
    if args.repeat > 1 {
        option("--repeat", args.repeat.to_string());
    }
    command.extend(guest_options(&args.guest));
    Rerun { command }
}

/// The options that make a guest another one than the usual.
fn guest_options(guest: &GuestArgs) -> Vec<String> {
    let mut options = Vec::new();
    let mut option = |name: &str, value: String| options.extend([name.to_owned(), value]);
    if let Some(cpu) = &guest.cpu {
        option("--cpu", cpu.to_string());
    }
    if let Some(harts) = guest.harts {
        option("--harts", harts.to_string());
    }
    if guest.memory != USUAL_MEMORY {
        option("--memory", guest.memory.to_string());
    }
    if let Some(policy) = guest.iommu() {
        option("--secondary", "iommu".to_owned());
        option("--policy", policy.name().to_owned());
    }
    if guest.eager {
        options.push("--eager".to_owned());
    }
    options
}

/// How this program was called.
pub fn program() -> Vec<String> {
    // Cargo tells a program that it runs by this variable.
    match std::env::var_os("CARGO") {
        Some(_) => ["cargo", "run", "--"].map(str::to_owned).to_vec(),
        None => vec![
            std::env::args()
                .next()
                .unwrap_or_else(|| "tlbdiff".to_owned()),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command, ImageArgs};
    use clap::Parser;

    fn image(number: u32) -> KernelChoice {
        KernelChoice::Image {
            image: format!("/i{number}").into(),
            build: format!("/b{number}").into(),
        }
    }

    #[test]
    fn each_image_goes_with_its_build_directory() {
        let mut args = KernelArgs {
            kernel: Vec::new(),
            kernel_tree: vec!["/t".into()],
            own_image: ImageArgs {
                kernel_image: vec!["/i1".into(), "/i2".into()],
                kernel_build: vec!["/b1".into(), "/b2".into()],
            },
        };
        let tree = KernelChoice::Tree("/t".into());
        assert_eq!(choices(&args).ok(), Some(vec![tree, image(1), image(2)]));
        args.own_image.kernel_build.pop();
        assert!(matches!(choices(&args), Err(Failure::Usage(_))));
    }

    #[test]
    fn kernels_are_compared_again_as_they_were_named() {
        let named = |name: &str| KernelChoice::Named(name.to_owned());
        let of = |line: &str| {
            let words = ["tlbdiff", "compare", "--kernels", "a,b", "x.yaml"];
            let words = words.into_iter().chain(line.split_whitespace());
            match Cli::parse_from(words).command {
                Some(Command::Compare(args)) => args.guest,
                other => panic!("{other:?}"),
            }
        };
        let options = |choices: &[KernelChoice]| {
            let command = compare_again(choices, &of("")).command;
            let at = command.iter().position(|word| word == "compare").unwrap();
            command[at + 1..].join(" ")
        };
        assert_eq!(options(&[named("a"), named("b")]), "--kernels a,b");
        let tree = KernelChoice::Tree("/t".into());
        assert_eq!(options(&[named("a"), tree]), "--kernels a --kernel-tree /t");
        assert_eq!(
            options(&[image(1), image(2)]),
            "--kernel-image /i1 --kernel-build /b1 --kernel-image /i2 --kernel-build /b2"
        );
        let other = "--cpu sv39,no-svadu --harts 3 --memory 256";
        let command = compare_again(&[named("a"), named("b")], &of(other)).command;
        assert!(command.join(" ").ends_with(other), "{command:?}");
    }
}
