// SPDX-License-Identifier: GPL-2.0-only
//! Finds what provisioning made.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::cache::{Cache, images};
use crate::disks;
use crate::edits::Edit;
use crate::error::VmError;
use crate::home::{home, provision_command};
use crate::kernels::{self, GuestBoard, KernelChoice, Overlay};
use crate::keys::Keys;
use crate::manifest::{Manifest, TreeRecord};
use crate::own_image::{OwnImage, Stamp};
use crate::provision::view::BUILD;
use crate::provision::{initramfs, kbuild};
use crate::tree::Tree;

/// A kernel ready to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifacts {
    /// What it was asked for by: a name, `tree:` and a path, or `image:` and a file.
    pub kernel: String,
    /// The reference model's profile that speaks for it, as vm/kernels.toml says; none for a
    /// developer's kernel, of which its source tells.
    pub profile: Option<String>,
    /// The kernel that it is a variant of, if it is one.
    pub base: Option<String>,
    /// Where its source was edited: a file and a function each.
    pub edits: Vec<String>,
    /// What it is run on, where that is not the usual.
    pub board: GuestBoard,
    /// A developer's: after the next edit it is another one.
    pub own: bool,
    /// What was built, as the kernel itself says it: `6.12.107`.
    pub release: String,
    /// For QEMU's `-kernel`.
    pub image: PathBuf,
    /// For QEMU's `-initrd`: the agent as `/init`, the tracing module as
    /// `/tlbdiff.ko`.
    pub initramfs: PathBuf,
    /// A folder with the disks, of which a guest has copies.
    pub disks: PathBuf,
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
        let link = std::fs::canonicalize(self.build()?.join("source")).ok()?;
        Some(link)
    }

    /// Text of the kernel's configuration; none where it is not kept.
    pub fn config(&self) -> Option<String> {
        std::fs::read_to_string(self.build()?.join(".config")).ok()
    }

    /// The build directory, or what is kept of it.
    pub(crate) fn build(&self) -> Option<&Path> {
        let below = kbuild::image(Path::new("")).components().count();
        self.image.ancestors().nth(below)
    }
}

/// Finds a provisioned kernel, built from what the checkout (and a developer's
/// tree or image) has now: takes milliseconds, builds nothing.
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
    match &wanted.from {
        KernelOrigin::Named(_) => {}
        KernelOrigin::Tree(tree) => return Ok(tree.path().to_owned()),
        KernelOrigin::Image(own) => return Ok(own.source().path().to_owned()),
    }
    let manifest = Manifest::read(&cache, &wanted.slug)?;
    let key = manifest.as_ref().map(|manifest| &manifest.keys.kernel);
    let view = key.and_then(|key| cache.finished("builds", key));
    view.ok_or_else(|| VmError::NotProvisioned {
        kernel: kernel.to_string(),
        why: "not provisioned".to_owned(),
        remedy: wanted.remedy(&checkout, manifest.as_ref()),
    })
}

/// What is asked for, before the cache is asked.
struct Wanted {
    slug: String,
    profile: Option<String>,
    base: Option<String>,
    root: Option<String>,
    board: GuestBoard,
    from: KernelOrigin,
}

/// What it is made from.
enum KernelOrigin {
    /// Source by name, with what is laid over it.
    Named(Overlay),
    /// A developer's tree.
    Tree(Tree),
    /// A developer's image.
    Image(OwnImage),
}

impl Wanted {
    fn new(checkout: &Path, kernel: &KernelChoice) -> Result<Wanted, VmError> {
        match kernel {
            KernelChoice::Named(name) => {
                let vm_dir = checkout.join("vm");
                let (name, spec) = kernels::by_name(&vm_dir, name)?;
                Ok(Wanted {
                    slug: name,
                    from: KernelOrigin::Named(Overlay::of(&vm_dir, &spec)?),
                    profile: Some(spec.profile),
                    base: spec.base,
                    root: spec.root,
                    board: spec.board,
                })
            }
            KernelChoice::Tree(path) => {
                let tree = Tree::open(path)?;
                Wanted::own(tree.slug(), KernelOrigin::Tree(tree.clone()))
            }
            KernelChoice::Image { image, build } => {
                let own = OwnImage::open(image, build)?;
                Wanted::own(own.slug(), KernelOrigin::Image(own))
            }
        }
    }

    fn own(slug: String, from: KernelOrigin) -> Result<Wanted, VmError> {
        Ok(Wanted {
            slug,
            profile: None,
            base: None,
            root: None,
            board: GuestBoard::default(),
            from,
        })
    }

    /// What is laid over it; over a tree, what was when it was last built.
    fn overlay(&self, checkout: &Path, manifest: &Manifest) -> Result<Overlay, VmError> {
        match &self.from {
            KernelOrigin::Named(overlay) => Ok(overlay.clone()),
            KernelOrigin::Tree(_) => {
                let record = manifest.tree.as_ref();
                let config = record.map_or(&[][..], |record| &record.config);
                Overlay::of_tree(&checkout.join("vm"), config)
            }
            KernelOrigin::Image(_) => Ok(Overlay::default()),
        }
    }

    /// What of a developer's has changed since it was provisioned.
    fn changed(&self, manifest: &Manifest) -> Option<String> {
        match &self.from {
            KernelOrigin::Named(_) => None,
            KernelOrigin::Tree(tree) => {
                let file = edited(tree, manifest.tree.as_ref()?)?;
                Some(format!("{} has changed since it was built", file.display()))
            }
            KernelOrigin::Image(_) => {
                let mut stamps = manifest.image.as_ref()?.stamps.iter();
                let file = stamps.find_map(Stamp::changed)?.display();
                Some(format!("{file} has changed since it was provisioned"))
            }
        }
    }

    /// Where the cache keeps this kernel's images, by key.
    fn images(&self) -> String {
        match self.from {
            KernelOrigin::Named(_) => "builds".to_owned(),
            KernelOrigin::Tree(_) | KernelOrigin::Image(_) => images(&self.slug),
        }
    }

    /// The build directory in what the cache keeps.
    fn build(&self, kept: PathBuf) -> PathBuf {
        match self.from {
            KernelOrigin::Named(_) => kept.join(BUILD),
            KernelOrigin::Tree(_) | KernelOrigin::Image(_) => kept,
        }
    }

    /// The command that provisions it, as it was provisioned last.
    fn remedy(&self, checkout: &Path, manifest: Option<&Manifest>) -> String {
        let provision = provision_command(checkout);
        match &self.from {
            KernelOrigin::Named(_) => format!("{provision} {}", self.slug),
            KernelOrigin::Tree(tree) => {
                let record = manifest.and_then(|manifest| manifest.tree.as_ref());
                let llvm = record.and_then(|record| record.llvm.as_ref());
                let llvm = llvm.map(|value| format!("LLVM={value} "));
                let config = record.map_or(&[][..], |record| &record.config);
                let config = config
                    .iter()
                    .map(|file| format!(" --config {}", file.display()));
                format!(
                    "{}{provision} --kernel-tree {}{}",
                    llvm.unwrap_or_default(),
                    tree.path().display(),
                    config.collect::<String>()
                )
            }
            KernelOrigin::Image(own) => format!(
                "{provision} --kernel-image {} --kernel-build {}",
                own.image().display(),
                own.build().display()
            ),
        }
    }
}

pub(crate) fn locate_in(
    cache: &Cache,
    checkout: &Path,
    kernel: &KernelChoice,
) -> Result<Artifacts, VmError> {
    let wanted = Wanted::new(checkout, kernel)?;
    let manifest = Manifest::read(cache, &wanted.slug)?;
    let refuse = |why: String| VmError::NotProvisioned {
        kernel: kernel.to_string(),
        why,
        remedy: wanted.remedy(checkout, manifest.as_ref()),
    };
    let Some(manifest) = &manifest else {
        return Err(refuse("not provisioned".to_owned()));
    };
    if let Some(why) = wanted.changed(manifest) {
        return Err(refuse(why));
    }
    if let Some(source) = newer_root(cache, &wanted, manifest)? {
        return Err(refuse(format!("what it is made from is now {source}")));
    }
    let overlay = wanted
        .overlay(checkout, manifest)
        .map_err(|error| refuse(error.to_string()))?;
    let keys = Keys::of(checkout, &overlay, &manifest.facts)?;
    let found = cache
        .finished(&wanted.images(), &keys.kernel)
        .zip(cache.finished("initramfs", &keys.initramfs));
    let (kept, root) = found.ok_or_else(|| refuse(difference(&keys, &manifest.keys).to_owned()))?;
    let disks = cache.finished("disks", &disks::key());
    let disks = disks.ok_or_else(|| refuse("the guest's disks are not in the cache".to_owned()))?;
    let build = wanted.build(kept);
    Ok(Artifacts {
        kernel: kernel.to_string(),
        profile: wanted.profile,
        base: wanted.base,
        edits: overlay.edits.iter().map(Edit::place).collect(),
        board: wanted.board,
        own: !matches!(wanted.from, KernelOrigin::Named(_)),
        release: kbuild::release(&build)?,
        image: kbuild::image(&build),
        initramfs: root.join(initramfs::NAME),
        disks,
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
        "vm/agent, vm/protocol, reference-model/operations or what they depend on has changed since it was built"
    } else {
        "what was built is no longer in the cache"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Facts;
    use crate::keys::tests::{checkout, facts, overlay};
    use crate::manifest::ImageRecord;
    use crate::own_image;
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
            cache.dir(format!("disks/{}", disks::key())).unwrap();
            fs::write(release.join("kernel.release"), "6.12.107\n").unwrap();
            let manifest = Manifest {
                kernel: kernel.to_owned(),
                profile: Some(kernel.to_owned()),
                base: None,
                edits: Vec::new(),
                facts,
                keys,
                tree: None,
                image: None,
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
        assert_eq!(artifacts.profile.as_deref(), Some("stable"));
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
        assert_eq!(mutant.profile.as_deref(), Some("own"));
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

    /// As if that developer's kernel had been provisioned.
    fn keep(fixture: &Fixture, slug: &str, overlay: &Overlay, record: Record) {
        let compiler = Some("clang 19".to_owned());
        let facts = Facts {
            compiler,
            ..facts()
        };
        let keys = Keys::of(fixture.checkout.path(), overlay, &facts).unwrap();
        let cache = fixture.cache();
        let kept = format!("{}/{}/include/config", images(slug), keys.kernel);
        let release = cache.dir(kept).unwrap().join("kernel.release");
        fs::write(release, "6.12.0-mine\n").unwrap();
        cache.dir(format!("initramfs/{}", keys.initramfs)).unwrap();
        let manifest = Manifest {
            kernel: slug.to_owned(),
            profile: None,
            base: None,
            edits: Vec::new(),
            facts,
            keys,
            tree: record.0,
            image: record.1,
        };
        manifest.write(&cache, slug).unwrap();
    }

    type Record = (Option<TreeRecord>, Option<ImageRecord>);

    #[test]
    fn an_own_image_is_found_until_one_of_its_files_is_another() {
        let (fixture, files) = (Fixture::new(), own_image::tests::Fixture::new());
        let (image, build) = (files.path("Image"), files.path("build"));
        let kernel = KernelChoice::Image {
            image: image.clone(),
            build: build.clone(),
        };
        let locate = || locate_in(&fixture.cache(), fixture.checkout.path(), &kernel);
        let error = locate().unwrap_err().to_string();
        assert!(error.contains("not provisioned: run"), "{error}");
        let own = files.open().unwrap();
        let stamps = own.stamps().unwrap();
        let record = ImageRecord {
            image,
            build,
            stamps,
        };
        let overlay = Overlay::default();
        keep(&fixture, &own.slug(), &overlay, (None, Some(record)));
        let artifacts = locate().unwrap();
        assert_eq!(artifacts.release, "6.12.0-mine");
        assert_eq!(artifacts.profile, None);
        assert!(artifacts.kernel.starts_with("image:/"));
        assert!(artifacts.image.starts_with(fixture.cache().root()));
        files.write("build/Module.symvers", "0x0 f vmlinux EXPORT_SYMBOL\n");
        let error = locate().unwrap_err().to_string();
        assert!(error.contains("Module.symvers has changed"), "{error}");
        let (image, build) = (own.image().display(), own.build().display());
        let remedy = format!("/vm/provision --kernel-image {image} --kernel-build {build}");
        assert!(error.ends_with(&remedy), "{error}");
    }

    #[test]
    fn a_tree_is_found_as_it_was_built_last() {
        let (fixture, files) = (Fixture::new(), own_image::tests::Fixture::new());
        let vm = fixture.checkout.path().join("vm");
        fs::create_dir_all(vm.join("kernels")).unwrap();
        fixture.edit("vm/kernels/base.config", "CONFIG_A=y\n");
        fixture.edit("vm/kernels/edited.config", "CONFIG_B=y\n");
        files.write("own.config", "CONFIG_KASAN=y\n");
        let own = files.path("own.config");
        let tree = Tree::open(&files.path("source")).unwrap();
        let record = TreeRecord {
            path: tree.path().to_owned(),
            described: None,
            began: u64::MAX / 2,
            llvm: Some("-19".to_owned()),
            config: vec![own.clone()],
        };
        let overlay = Overlay::of_tree(&vm, std::slice::from_ref(&own)).unwrap();
        assert!(
            overlay
                .fragments
                .contains("CONFIG_A=y\n\nCONFIG_B=y\n\nCONFIG_KASAN=y")
        );
        keep(&fixture, &tree.slug(), &overlay, (Some(record), None));
        let kernel = KernelChoice::Tree(tree.path().to_owned());
        let locate = || locate_in(&fixture.cache(), fixture.checkout.path(), &kernel);
        assert_eq!(locate().unwrap().release, "6.12.0-mine");
        files.write("own.config", "CONFIG_KASAN=n\n");
        let error = locate().unwrap_err().to_string();
        assert!(error.contains("its configuration or its edits"), "{error}");
        assert!(error.contains("run LLVM=-19 /"), "{error}");
        let remedy = format!(
            "--kernel-tree {} --config {}",
            tree.path().display(),
            own.display()
        );
        assert!(error.ends_with(&remedy), "{error}");
        fs::remove_file(&own).unwrap();
        let error = locate().unwrap_err().to_string();
        assert!(
            error.contains("cannot read") && error.contains("run LLVM="),
            "{error}"
        );
    }
}
