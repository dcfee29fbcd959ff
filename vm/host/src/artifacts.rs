// SPDX-License-Identifier: GPL-2.0-only
//! Finds what provisioning made.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::cache::Cache;
use crate::error::VmError;
use crate::kernels::{self, KernelChoice, vm_dir};
use crate::keys::Keys;
use crate::manifest::{Manifest, TreeRecord};
use crate::provision::{TREE_CONFIG, initramfs, kbuild};
use crate::tree::Tree;

/// A kernel ready to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifacts {
    /// What it was asked for by: a name, or `tree:` and a path.
    pub kernel: String,
    /// The reference model's profile that speaks for it.
    pub profile: String,
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

/// Finds a provisioned kernel, built from what the checkout (and a developer's
/// tree) has now: takes milliseconds, builds nothing.
pub fn locate(kernel: &KernelChoice) -> Result<Artifacts, VmError> {
    locate_in(&Cache::from_env()?, &checkout(), kernel)
}

/// The checkout's root.
pub(crate) fn checkout() -> PathBuf {
    let vm = vm_dir();
    vm.parent().unwrap_or(&vm).to_owned()
}

/// What is asked for, before the cache is asked.
struct Wanted {
    slug: String,
    profile: String,
    config: Vec<PathBuf>,
    tree: Option<Tree>,
}

impl Wanted {
    fn new(checkout: &Path, kernel: &KernelChoice) -> Result<Wanted, VmError> {
        match kernel {
            KernelChoice::Named(name) => {
                let spec = kernels::by_name(&checkout.join("vm"), name)?;
                let (slug, profile, config) = (name.clone(), spec.profile, spec.config);
                Ok(Wanted {
                    slug,
                    profile,
                    config,
                    tree: None,
                })
            }
            KernelChoice::Tree(path) => {
                let tree = Tree::open(path)?;
                let (slug, profile) = (tree.slug(), tree.profile()?.to_owned());
                Ok(Wanted {
                    slug,
                    profile,
                    config: vec![TREE_CONFIG.into()],
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

    fn remedy(&self) -> String {
        match &self.tree {
            Some(tree) => format!("./vm/provision --kernel-tree {}", tree.path().display()),
            None => format!("./vm/provision {}", self.slug),
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
        remedy: wanted.remedy(),
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
    let fragments = kernels::fragments(&checkout.join("vm"), &wanted.config)?;
    let keys = Keys::of(checkout, &fragments, &manifest.facts)?;
    let found = cache
        .finished(&wanted.images(), &keys.kernel)
        .zip(cache.finished("initramfs", &keys.initramfs));
    let (build, root) =
        found.ok_or_else(|| refuse(difference(&keys, &manifest.keys).to_owned()))?;
    Ok(Artifacts {
        kernel: kernel.to_string(),
        profile: wanted.profile,
        release: kbuild::release(&build)?,
        image: kbuild::image(&build),
        initramfs: root.join(initramfs::NAME),
        vmlinux: Some(build.join("vmlinux")).filter(|path| path.exists()),
        key: keys.guest(),
        cache: cache.path("states").join(keys.guest()),
    })
}

fn edited(tree: &Tree, record: &TreeRecord) -> Option<PathBuf> {
    tree.edited_since(UNIX_EPOCH + Duration::from_nanos(record.began))
}

/// What changed between what is here and what was built.
fn difference(now: &Keys, built: &Keys) -> &'static str {
    if now.kernel != built.kernel {
        "its configuration has changed since it was built"
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
    use crate::keys::tests::{checkout, facts};
    use std::fs;

    const KERNELS: &str = r#"
[stable]
about = "one"
package = "linux-source-6.12"
suite = "trixie"
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
            let keys = Keys::of(fixture.checkout.path(), "CONFIG_A=y\n\n", &facts).unwrap();
            let cache = fixture.cache();
            for dir in [
                format!("builds/{}/include/config", keys.kernel),
                format!("initramfs/{}", keys.initramfs),
            ] {
                cache.dir(dir).unwrap();
            }
            let build = cache.path(format!("builds/{}", keys.kernel));
            fs::write(build.join("include/config/kernel.release"), "6.12.107\n").unwrap();
            let tree = None;
            Manifest { facts, keys, tree }
                .write(&cache, "stable")
                .unwrap();
            fixture
        }

        fn cache(&self) -> Cache {
            Cache::at(self.cache_dir.path())
        }

        fn edit(&self, file: &str, text: &str) {
            fs::write(self.checkout.path().join(file), text).unwrap();
        }

        fn locate(&self) -> Result<Artifacts, VmError> {
            let stable = KernelChoice::Named("stable".to_owned());
            locate_in(&self.cache(), self.checkout.path(), &stable)
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

    #[test]
    fn what_was_never_provisioned_comes_with_the_command_that_does() {
        let fixture = Fixture::new();
        fs::remove_file(fixture.cache().path("current/stable.json")).unwrap();
        assert_eq!(
            fixture.refusal(),
            "stable: not provisioned: run ./vm/provision stable"
        );
    }

    #[test]
    fn an_edit_since_then_is_named() {
        for (file, said) in [
            ("vm/base.config", "its configuration has changed"),
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
