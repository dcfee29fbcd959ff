// SPDX-License-Identifier: GPL-2.0-only
//! Builds all that a guest is made of. Each stage does nothing if the key of
//! what it would make is in the cache.

mod agent;
mod apt;
mod context;
mod disks;
mod image;
pub(crate) mod initramfs;
pub(crate) mod kbuild;
mod module;
mod options;
mod own_image;
mod own_tree;
mod programs;
mod rust;
mod selftests;
mod source;
mod stage;
mod toolchain;
pub(crate) mod view;
mod wishes;

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::artifacts::{Artifacts, locate_in};
use crate::cache::{Cache, images};
use crate::edits::Edit;
use crate::error::VmError;
use crate::home::{home, installed_agent, provision_command};
use crate::kernels::{self, KernelChoice, KernelSpec, Overlay};
use crate::keys::{self, Facts, Keys};
use crate::manifest::{ImageRecord, Manifest, TreeRecord};
use crate::own_image::{OwnImage, slug};
use crate::tree::Tree;

use context::Provision;
use image::Root;
use kbuild::Kbuild;
use rust::Rustc;
use source::Source;
use toolchain::{Hints, Toolchain};
pub use wishes::Wishes;

/// How many results that no kernel uses any more are kept, by kind: going back
/// and forth between two edits should not build each time.
const KEPT: &[(&str, usize)] = &[
    ("agents", 8),
    ("builds", 2),
    ("disks", 1),
    ("initramfs", 8),
    ("modules", 8),
    ("programs", 1),
    ("sources", 1),
    ("states", 2),
];

/// Provisions a kernel: builds what is missing or out of date, telling on
/// standard error what it does. A variant wants the kernel that it begins with provisioned
/// before, as [`kernels::in_order`] gives them.
pub fn provision(kernel: &KernelChoice, wishes: &Wishes) -> Result<Artifacts, VmError> {
    let update = wishes.update;
    let checkout = home()?;
    let cache = Cache::from_env()?;
    match kernel {
        KernelChoice::Named(name) => {
            let (name, spec) = kernels::by_name(&checkout.join("vm"), name)?;
            let kernel = &KernelChoice::Named(name.clone());
            let mut provision = Provision::begin(cache, checkout, kernel, name, update)?;
            named(&mut provision, &spec)?;
            end(provision, kernel)
        }
        KernelChoice::Tree(path) => {
            let tree = Tree::open(path)?;
            let mut provision = Provision::begin(cache, checkout, kernel, tree.slug(), update)?;
            own(&mut provision, &tree, wishes)?;
            end(provision, kernel)
        }
        KernelChoice::Image { image, build } => {
            let own = OwnImage::open(image, build)?;
            let mut provision = Provision::begin(cache, checkout, kernel, own.slug(), update)?;
            own_image(&mut provision, &own, wishes)?;
            end(provision, kernel)
        }
    }
}

/// Provisions a developer's kernel as it was provisioned last, or, for the first time, as the
/// environment says.
///
/// # Errors
/// As [`provision`].
pub fn provision_again(kernel: &KernelChoice) -> Result<Artifacts, VmError> {
    let mut wishes = Wishes::of_environment();
    if let KernelChoice::Tree(path) = kernel {
        let manifest = Manifest::read(&Cache::from_env()?, &Tree::open(path)?.slug())?;
        if let Some(record) = manifest.and_then(|manifest| manifest.tree) {
            wishes.config = record.config;
            wishes.llvm = record.llvm;
        }
    }
    provision(kernel, &wishes)
}

/// Makes the disk with programs for `tlbdiff observe`. The kernel whose tests are there has to be
/// provisioned before.
///
/// # Errors
/// Debian's packages cannot be had, or the disk cannot be made.
pub fn programs(update: bool) -> Result<(), VmError> {
    let name = || crate::programs::NAME.to_owned();
    let kernel = KernelChoice::Named(name());
    let mut provision = Provision::begin(Cache::from_env()?, home()?, &kernel, name(), false)?;
    programs::ensure(&mut provision, update)?;
    let state = if provision.stages == 0 {
        "up to date"
    } else {
        "ready"
    };
    eprintln!("programs: they are {state}");
    Ok(())
}

/// The agent's program, installed or built if need be: for boards, which bring their own
/// kernel.
///
/// # Errors
/// A compiler is missing, or it does not compile.
pub fn agent_program() -> Result<PathBuf, VmError> {
    let checkout = home()?;
    if let Some(agent) = installed_agent(&checkout) {
        return Ok(agent);
    }
    let name = || "boards".to_owned();
    let kernel = KernelChoice::Named(name());
    let mut provision = Provision::begin(Cache::from_env()?, checkout, &kernel, name(), false)?;
    let rustc = rust::ensure(&mut provision)?;
    let facts = Facts {
        source: String::new(),
        gcc: Toolchain::gcc()?.version().to_owned(),
        rust: rustc.id.clone(),
        compiler: None,
    };
    let key = keys::agent(&provision.checkout, &facts)?;
    agent::ensure(&mut provision, &rustc, &facts, &key)
}

/// Removes what is not needed any more, and gives what was made.
fn end(provision: Provision, kernel: &KernelChoice) -> Result<Artifacts, VmError> {
    prune(&provision.cache)?;
    let artifacts = locate_in(&provision.cache, &provision.checkout, kernel)?;
    let state = if provision.stages == 0 {
        "up to date"
    } else {
        "ready"
    };
    eprintln!(
        "{}: Linux {} is {state}",
        provision.kernel, artifacts.release
    );
    Ok(artifacts)
}

fn named(provision: &mut Provision, spec: &KernelSpec) -> Result<(), VmError> {
    let rustc = rust::ensure(provision)?;
    let toolchain = Toolchain::gcc()?;
    let gcc = toolchain.version().to_owned();
    let overlay = Overlay::of(&provision.checkout.join("vm"), spec)?;
    let (source, root) = match &spec.root {
        Some(name) => {
            let (source, root) = root(provision, name, &gcc)?;
            (source, Some(root))
        }
        None => {
            let recorded = Manifest::read(&provision.cache, &provision.slug)?;
            let recorded = recorded.map(|manifest| manifest.facts.source);
            (source::ensure(provision, spec, recorded.as_deref())?, None)
        }
    };
    let facts = Facts {
        source: source.id.clone(),
        gcc,
        rust: rustc.id.clone(),
        compiler: None,
    };
    let kernel = keys::kernel(&facts.source, &overlay, facts.compiler());
    let root = root.as_ref();
    let view = image::ensure(provision, &source, root, &overlay, &toolchain, &kernel)?;
    // Only now: what is edited while the kernel builds is still built below.
    let keys = Keys::of(&provision.checkout, &overlay, &facts)?;
    let kbuild = Kbuild::of_view(&view, toolchain);
    guest(provision, &kbuild, &rustc, &facts, &keys, None)?;
    let edits = overlay.edits.iter().map(Edit::place).collect();
    Manifest {
        kernel: provision.kernel.clone(),
        profile: Some(spec.profile.clone()),
        base: spec.base.clone(),
        edits,
        facts,
        keys,
        tree: None,
        image: None,
    }
    .write(&provision.cache, &provision.slug)
}

/// What a variant begins with: its root's source and object files.
fn root(provision: &Provision, name: &str, gcc: &str) -> Result<(Source, Root), VmError> {
    let refuse = |why: &str| VmError::NotProvisioned {
        kernel: provision.kernel.clone(),
        why: format!("{why} of {name}, which it is made from, is not in the cache"),
        remedy: format!(
            "{} {name} {}",
            provision_command(&provision.checkout),
            provision.kernel
        ),
    };
    let vm_dir = provision.checkout.join("vm");
    let overlay = Overlay::of(&vm_dir, &kernels::by_name(&vm_dir, name)?.1)?;
    let manifest = Manifest::read(&provision.cache, name)?;
    let id = manifest.ok_or_else(|| refuse("the source"))?.facts.source;
    let dir = provision.cache.finished("sources", &id);
    let dir = dir.ok_or_else(|| refuse("the source"))?;
    let key = keys::kernel(&id, &overlay, gcc);
    let view = provision.cache.finished("builds", &key);
    let view = view.ok_or_else(|| refuse("the build"))?;
    let fragments = overlay.fragments;
    Ok((Source { id, dir }, Root { view, fragments }))
}

fn own(provision: &mut Provision, tree: &Tree, wishes: &Wishes) -> Result<(), VmError> {
    let rustc = rust::ensure(provision)?;
    let overlay = Overlay::of_tree(&provision.checkout.join("vm"), &wishes.config)?;
    let began = nanoseconds(SystemTime::now());
    let built = own_tree::build(provision, tree, &overlay.fragments, wishes)?;
    let toolchain = &built.kbuild.toolchain;
    let facts = Facts {
        source: built.image,
        gcc: Toolchain::gcc()?.version().to_owned(),
        rust: rustc.id.clone(),
        compiler: toolchain
            .llvm_value()
            .map(|_| toolchain.version().to_owned()),
    };
    let keys = Keys::of(&provision.checkout, &overlay, &facts)?;
    own_tree::keep(provision, tree, &built.kbuild.build, &keys.kernel)?;
    let folder = module_folder(provision);
    guest(
        provision,
        &built.kbuild,
        &rustc,
        &facts,
        &keys,
        Some(&folder),
    )?;
    let record = TreeRecord {
        path: tree.path().to_owned(),
        described: built.described,
        began,
        llvm: wishes.llvm.clone(),
        config: wishes.config.clone(),
    };
    Manifest {
        kernel: provision.kernel.clone(),
        profile: None,
        base: None,
        edits: Vec::new(),
        facts,
        keys,
        tree: Some(record),
        image: None,
    }
    .write(&provision.cache, &provision.slug)
}

fn own_image(provision: &mut Provision, own: &OwnImage, wishes: &Wishes) -> Result<(), VmError> {
    let rustc = rust::ensure(provision)?;
    let hints = Hints {
        llvm: wishes.llvm.clone(),
        cross_compile: wishes.cross_compile.clone(),
    };
    // Before they are read: what is written from here on is noticed.
    let stamps = own.stamps()?;
    let looked = own_image::look(provision, own, &hints)?;
    let facts = Facts {
        source: looked.source.clone(),
        gcc: Toolchain::gcc()?.version().to_owned(),
        rust: rustc.id.clone(),
        compiler: Some(looked.toolchain.version().to_owned()),
    };
    let keys = Keys::of(&provision.checkout, &Overlay::default(), &facts)?;
    own_image::keep(provision, own, &looked, &keys.kernel)?;
    let kbuild = Kbuild {
        source: own.source().path(),
        build: own.build().to_owned(),
        toolchain: looked.toolchain,
    };
    let folder = module_folder(provision);
    guest(provision, &kbuild, &rustc, &facts, &keys, Some(&folder))?;
    Manifest {
        kernel: provision.kernel.clone(),
        profile: None,
        base: None,
        edits: Vec::new(),
        facts,
        keys,
        tree: None,
        image: Some(ImageRecord {
            image: own.image().to_owned(),
            build: own.build().to_owned(),
            stamps,
        }),
    }
    .write(&provision.cache, &provision.slug)
}

/// Where the module of a developer's kernel is compiled, each time on what was before.
fn module_folder(provision: &Provision) -> PathBuf {
    let folder = format!("trees/{}/module", provision.slug);
    provision.cache.path(folder)
}

/// What every kernel's guest needs.
fn guest(
    provision: &mut Provision,
    kbuild: &Kbuild<'_>,
    rustc: &Rustc,
    facts: &Facts,
    keys: &Keys,
    module_folder: Option<&Path>,
) -> Result<(), VmError> {
    disks::ensure(provision)?;
    let modules = module::ensure(provision, kbuild, keys, module_folder)?;
    let agent = agent::ensure(provision, rustc, facts, &keys.agent)?;
    initramfs::ensure(provision, &agent, &modules, &keys.initramfs)
}

/// Removes what no kernel uses any more, but for the newest of each kind.
fn prune(cache: &Cache) -> Result<(), VmError> {
    let mut in_use = vec![crate::disks::key()];
    in_use.extend(crate::programs::facts(cache)?.map(|facts| crate::programs::key(&facts)));
    let mut kinds = Vec::new();
    for manifest in Manifest::all(cache)? {
        let Keys {
            kernel,
            module,
            agent,
            initramfs,
        } = manifest.keys.clone();
        in_use.extend([manifest.keys.guest(), kernel, module, agent, initramfs]);
        in_use.push(manifest.facts.source);
        if let Some(tree) = manifest.tree.and_then(|tree| Tree::open(&tree.path).ok()) {
            kinds.push(images(&tree.slug()));
        }
        if let Some(image) = manifest.image {
            kinds.push(images(&slug(&image.image, &image.build)));
        }
    }
    for (kind, keep) in KEPT {
        cache.prune(kind, *keep, &in_use)?;
    }
    kinds
        .iter()
        .try_for_each(|kind| cache.prune(kind, 2, &in_use))
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
