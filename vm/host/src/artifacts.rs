// SPDX-License-Identifier: GPL-2.0-only
//! Finds what provisioning made.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::cache::Cache;
use crate::edits::Edit;
use crate::error::VmError;
use crate::home::{home, provision_command};
use crate::kernels::{self, Board, KernelChoice, Overlay};
use crate::keys::Keys;
use crate::manifest::{Manifest, TreeRecord};
use crate::provision::{BUILD, TREE_CONFIG, initramfs, kbuild};
use crate::tree::Tree;

/// A kernel ready to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifacts {
    /// What it was asked for by: a name, or `tree:` and a path.
    pub kernel: String,
    /// The reference model's profile that speaks for it.
    pub profile: String,
    /// The kernel that it is a variant of, if it is one.
    pub base: Option<String>,
    /// Where its source was edited: a file and a function each.
    pub edits: Vec<String>,
    /// What it is run on, where that is not the usual.
    pub board: Board,
    /// What was built, as the kernel itself says it: `6.12.107`.
    pub release: String,
    /// For QEMU's `-kernel`.
    pub image: PathBuf,
    /// For QEMU's `-initrd`: the agent as `/init`, the tracing module as
    /// `/tlbdiff.ko`.
    pub initramfs: PathBuf,
    /// With symbols, for a debugger.
    pub vmlinux: Option<PathBuf>,
    /// Changes whenever image or initramfs do.
    pub key: String,
    /// A folder of this key alone, where saved guest states may be kept. It
    /// need not exist yet; provisioning removes those of keys long unused.
    pub cache: PathBuf,
}

impl Artifacts {
    /// The unpacked source that the kernel was built from; none where it is not kept.
    pub fn source(&self) -> Option<PathBuf> {
        let build = self.vmlinux.as_deref()?.parent()?;
        let link = std::fs::canonicalize(build.join("source")).ok()?;
        Some(link)
    }

    /// Text of the kernel's configuration; none where it is not kept.
    pub fn config(&self) -> Option<String> {
        let build = self.vmlinux.as_deref()?.parent()?;
        std::fs::read_to_string(build.join(".config")).ok()
    }
}

/// Finds a provisioned kernel, built from what the checkout (and a developer's
/// tree) has now: takes milliseconds, builds nothing.
pub fn locate(kernel: &KernelChoice) -> Result<Artifacts, VmError> {
    locate_in(&Cache::from_env()?, &home()?, kernel)
}

/// The unpacked source of a kernel, with its edits: whether the kernel is up to date or not.
///
/// # Errors
/// It is unknown, or was never provisioned.
pub fn source(kernel: &KernelChoice) -> Result<PathBuf, VmError> {
    let (cache, checkout) = (Cache::from_env()?, home()?);
    let wanted = Wanted::new(&checkout, kernel)?;
    if let Some(tree) = &wanted.tree {
        return Ok(tree.path().to_owned());
    }
    let manifest = Manifest::read(&cache, &wanted.slug)?;
    let view = manifest.and_then(|manifest| cache.finished("builds", &manifest.keys.kernel));
    view.ok_or_else(|| VmError::NotProvisioned {
        kernel: kernel.to_string(),
        why: "not provisioned".to_owned(),
        remedy: wanted.remedy(&checkout),
    })
}

/// What is asked for, before the cache is asked.
struct Wanted {
    slug: String,
    profile: String,
    base: Option<String>,
    root: Option<String>,
    board: Board,
    overlay: Overlay,
    tree: Option<Tree>,
}

impl Wanted {
    fn new(checkout: &Path, kernel: &KernelChoice) -> Result<Wanted, VmError> {
        match kernel {
            KernelChoice::Named(name) => {
                let vm_dir = checkout.join("vm");
                let (name, spec) = kernels::by_name(&vm_dir, name)?;
                Ok(Wanted {
                    slug: name,
                    overlay: Overlay::of(&vm_dir, &spec)?,
                    profile: spec.profile,
                    base: spec.base,
                    root: spec.root,
                    board: spec.board,
                    tree: None,
                })
            }
            KernelChoice::Tree(path) => {
                let tree = Tree::open(path)?;
                Ok(Wanted {
                    slug: tree.slug(),
                    overlay: Overlay::unedited(&checkout.join("vm"), &[TREE_CONFIG.into()])?,
                    profile: tree.profile()?.to_owned(),
                    base: None,
                    root: None,
                    board: Board::default(),
                    tree: Some(tree),
                })
            }
        }
    }

    /// Where the cache keeps this kernel's images, by key.
    fn images(&self) -> String {
        if self.tree.is_some() {
            format!("trees/{}/images", self.slug)
        } else {
            "builds".to_owned()
        }
    }

    /// The build directory in what the cache keeps.
    fn build(&self, kept: PathBuf) -> PathBuf {
        if self.tree.is_some() {
            kept
        } else {
            kept.join(BUILD)
        }
    }

    fn remedy(&self, checkout: &Path) -> String {
        let provision = provision_command(checkout);
        match &self.tree {
            Some(tree) => format!("{provision} --kernel-tree {}", tree.path().display()),
            None => format!("{provision} {}", self.slug),
        }
    }
}

pub(crate) fn locate_in(
    cache: &Cache,
    checkout: &Path,
    kernel: &KernelChoice,
) -> Result<Artifacts, VmError> {
    let wanted = Wanted::new(checkout, kernel)?;
    let refuse = |why: String| VmError::NotProvisioned {
        kernel: kernel.to_string(),
        why,
        remedy: wanted.remedy(checkout),
    };
    let manifest = Manifest::read(cache, &wanted.slug)?;
    let manifest = manifest.ok_or_else(|| refuse("not provisioned".to_owned()))?;
    if let (Some(tree), Some(record)) = (&wanted.tree, &manifest.tree)
        && let Some(file) = edited(tree, record)
    {
        return Err(refuse(format!(
            "{} has changed since it was built",
            file.display()
        )));
    }
    if let Some(source) = newer_root(cache, &wanted, &manifest)? {
        return Err(refuse(format!("what it is made from is now {source}")));
    }
    let keys = Keys::of(checkout, &wanted.overlay, &manifest.facts)?;
    let found = cache
        .finished(&wanted.images(), &keys.kernel)
        .zip(cache.finished("initramfs", &keys.initramfs));
    let (kept, root) = found.ok_or_else(|| refuse(difference(&keys, &manifest.keys).to_owned()))?;
    let build = wanted.build(kept);
    Ok(Artifacts {
        kernel: kernel.to_string(),
        profile: wanted.profile,
        base: wanted.base,
        edits: wanted.overlay.edits.iter().map(Edit::place).collect(),
        board: wanted.board,
        release: kbuild::release(&build)?,
        image: kbuild::image(&build),
        initramfs: root.join(initramfs::NAME),
        vmlinux: Some(build.join("vmlinux")).filter(|path| path.exists()),
        key: keys.guest(),
        cache: cache.path("states").join(keys.guest()),
    })
}

/// The source of a variant's root, if that is no longer what it was built from.
fn newer_root(
    cache: &Cache,
    wanted: &Wanted,
    manifest: &Manifest,
) -> Result<Option<String>, VmError> {
    let Some(root) = &wanted.root else {
        return Ok(None);
    };
    let root = Manifest::read(cache, root)?.map(|root| root.facts.source);
    Ok(root.filter(|source| *source != manifest.facts.source))
}

fn edited(tree: &Tree, record: &TreeRecord) -> Option<PathBuf> {
    tree.edited_since(UNIX_EPOCH + Duration::from_nanos(record.began))
}

/// What changed between what is here and what was built.
fn difference(now: &Keys, built: &Keys) -> &'static str {
    if now.kernel != built.kernel {
        "its configuration or its edits have changed since it was built"
    } else if now.module != built.module {
        "vm/module has changed since it was built"
    } else if now.agent != built.agent {
        "vm/agent, vm/protocol or what they depend on has changed since it was built"
    } else {
        "what was built is no longer in the cache"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Facts;
    use crate::keys::tests::{checkout, facts, overlay};
    use std::fs;

    const KERNELS: &str = r#"
[stable]
about = "one"
package = "linux-source-6.12"
suites = ["trixie"]
config = ["base.config"]
profile = "stable"
"#;

    /// A checkout, and a cache that was provisioned from it.
    struct Fixture {
        checkout: tempfile::TempDir,
        cache_dir: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Fixture {
            let (checkout, cache_dir) = (checkout(), tempfile::tempdir().unwrap());
            let fixture = Fixture {
                checkout,
                cache_dir,
            };
            fixture.edit("vm/kernels.toml", KERNELS);
            fixture.edit("vm/base.config", "CONFIG_A=y\n");
            let facts = facts();
            fixture.provision("stable", &overlay("CONFIG_A=y\n\n"), facts);
            fixture
        }

        /// As if a kernel had been built from that.
        fn provision(&self, kernel: &str, overlay: &Overlay, facts: Facts) {
            let keys = Keys::of(self.checkout.path(), overlay, &facts).unwrap();
            let cache = self.cache();
            let build = format!("builds/{}/build", keys.kernel);
            let release = cache.dir(format!("{build}/include/config")).unwrap();
            cache.dir(format!("initramfs/{}", keys.initramfs)).unwrap();
            fs::write(release.join("kernel.release"), "6.12.107\n").unwrap();
            let manifest = Manifest {
                kernel: kernel.to_owned(),
                profile: kernel.to_owned(),
                base: None,
                edits: Vec::new(),
                facts,
                keys,
                tree: None,
            };
            manifest.write(&cache, kernel).unwrap();
        }

        fn cache(&self) -> Cache {
            Cache::at(self.cache_dir.path())
        }

        fn edit(&self, file: &str, text: &str) {
            fs::write(self.checkout.path().join(file), text).unwrap();
        }

        fn locate(&self) -> Result<Artifacts, VmError> {
            self.locate_named("stable")
        }

        fn locate_named(&self, name: &str) -> Result<Artifacts, VmError> {
            let kernel = KernelChoice::Named(name.to_owned());
            locate_in(&self.cache(), self.checkout.path(), &kernel)
        }

        fn refusal(&self) -> String {
            self.locate().unwrap_err().to_string()
        }
    }

    #[test]
    fn what_was_provisioned_is_found() {
        let artifacts = Fixture::new().locate().unwrap();
        assert_eq!(artifacts.kernel, "stable");
        assert_eq!(artifacts.profile, "stable");
        assert_eq!(artifacts.release, "6.12.107");
        assert_eq!(artifacts.vmlinux, None);
        assert!(artifacts.image.ends_with("arch/riscv/boot/Image"));
        assert!(
            artifacts
                .cache
                .ends_with(format!("states/{}", artifacts.key))
        );
    }

    const VARIANT: &str = r#"
[mutant]
about = "two"
base = "stable"
profile = "own"
cpu = "rv64,svinval=on"
[[mutant.edit]]
file = "mm/a.c"
function = "f"
replace = "a"
with = "b"
"#;

    /// With a variant, too.
    fn with_variant() -> (Fixture, Overlay) {
        let fixture = Fixture::new();
        fixture.edit("vm/kernels.toml", &format!("{KERNELS}{VARIANT}"));
        let vm = fixture.checkout.path().join("vm");
        let overlay = Overlay::of(&vm, &kernels::by_name(&vm, "mutant").unwrap().1).unwrap();
        fixture.provision("mutant", &overlay, facts());
        (fixture, overlay)
    }

    #[test]
    fn a_variant_is_found_with_all_that_it_differs_in() {
        let (fixture, _) = with_variant();
        let (stable, mutant) = (fixture.locate().unwrap(), fixture.locate_named("mutant"));
        let mutant = mutant.unwrap();
        assert_ne!(stable.image, mutant.image);
        assert_ne!(stable.key, mutant.key);
        assert_eq!(mutant.profile, "own");
        assert_eq!(mutant.base.as_deref(), Some("stable"));
        assert_eq!(mutant.edits, ["mm/a.c: f()"]);
        assert_eq!(mutant.board.cpu.as_deref(), Some("rv64,svinval=on"));
        assert!(stable.edits.is_empty() && stable.base.is_none());
    }

    #[test]
    fn a_variant_of_source_that_its_base_has_left_is_refused() {
        let (fixture, _) = with_variant();
        let newer = Facts {
            source: "linux-source-6.12_2".to_owned(),
            ..facts()
        };
        fixture.provision("stable", &overlay("CONFIG_A=y\n\n"), newer);
        let error = fixture.locate_named("mutant").unwrap_err().to_string();
        assert!(error.contains("is now linux-source-6.12_2"), "{error}");
        assert!(error.ends_with("/vm/provision mutant"), "{error}");
    }

    #[test]
    fn another_edit_is_another_kernel() {
        let (fixture, _) = with_variant();
        let other = VARIANT.replace("\"b\"", "\"c\"");
        fixture.edit("vm/kernels.toml", &format!("{KERNELS}{other}"));
        let error = fixture.locate_named("mutant").unwrap_err().to_string();
        assert!(error.contains("edits have changed"), "{error}");
        assert!(fixture.locate().is_ok());
    }

    #[test]
    fn what_was_never_provisioned_comes_with_the_command_that_does() {
        let fixture = Fixture::new();
        fs::remove_file(fixture.cache().path("current/stable.json")).unwrap();
        let checkout = fixture.checkout.path().display();
        assert_eq!(
            fixture.refusal(),
            format!("stable: not provisioned: run {checkout}/vm/provision stable")
        );
    }

    #[test]
    fn an_edit_since_then_is_named() {
        for (file, said) in [
            (
                "vm/base.config",
                "its configuration or its edits have changed",
            ),
            ("vm/module/tlbdiff.c", "vm/module has changed"),
            ("vm/agent/src/main.rs", "vm/agent, vm/protocol"),
        ] {
            let fixture = Fixture::new();
            fixture.edit(file, "// edited");
            assert!(
                fixture.refusal().contains(said),
                "{file}: {}",
                fixture.refusal()
            );
        }
    }

    #[test]
    fn an_edit_taken_back_is_no_edit() {
        let fixture = Fixture::new();
        let was = fixture.locate().unwrap();
        let file = "vm/module/tlbdiff.c";
        let text = fs::read_to_string(fixture.checkout.path().join(file)).unwrap();
        fixture.edit(file, "int edited;");
        assert!(fixture.locate().is_err());
        fixture.edit(file, &text);
        assert_eq!(fixture.locate().unwrap(), was);
    }

    #[test]
    fn an_interrupted_build_is_not_taken_for_whole() {
        let fixture = Fixture::new();
        let key = Manifest::read(&fixture.cache(), "stable")
            .unwrap()
            .unwrap()
            .keys
            .kernel;
        let build = fixture.cache().path(format!("builds/{key}"));
        fs::rename(&build, build.with_file_name(format!("{key}.partial-1"))).unwrap();
        assert!(
            fixture.refusal().contains("no longer in the cache"),
            "{}",
            fixture.refusal()
        );
    }

    #[test]
    fn a_record_that_cannot_be_read_is_none() {
        let fixture = Fixture::new();
        fs::write(fixture.cache().path("current/stable.json"), "{").unwrap();
        assert!(fixture.refusal().contains("not provisioned"));
    }
}
