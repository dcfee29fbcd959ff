// SPDX-License-Identifier: GPL-2.0-only
//! Keys: hashes over all that goes into what is built.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::edits;
use crate::error::VmError;
use crate::kernels::Overlay;

/// Part of every key. To be raised whenever a stage builds something else from
/// the same inputs: other flags, another layout.
const RECIPE: &str = "2";

/// The folders, from the checkout's root, of the crates that the agent is
/// built from.
const AGENT_CRATES: &[(&str, &str)] = &[
    ("tlbdiff-agent", "vm/agent"),
    ("tlbdiff-protocol", "vm/protocol"),
    ("tlbdiff-operations", "reference-model/operations"),
];

/// What the machine contributes to a build. Recorded when provisioning, so
/// that finding the result again asks no compiler.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Facts {
    /// What the kernel is: a source package and its version, or an image's hash.
    pub(crate) source: String,
    /// The C cross compiler.
    pub(crate) gcc: String,
    /// The Rust cross compiler.
    pub(crate) rust: String,
    /// What the kernel was compiled with, where that is not `gcc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) compiler: Option<String>,
}

impl Facts {
    /// What the kernel was compiled with.
    pub(crate) fn compiler(&self) -> &str {
        self.compiler.as_deref().unwrap_or(&self.gcc)
    }
}

/// The key of each stage's result.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    pub(crate) kernel: String,
    pub(crate) module: String,
    pub(crate) agent: String,
    pub(crate) initramfs: String,
}

impl Keys {
    /// The keys of what would be built from this checkout.
    pub(crate) fn of(checkout: &Path, overlay: &Overlay, facts: &Facts) -> Result<Keys, VmError> {
        let kernel = kernel(&facts.source, overlay, facts.compiler());
        let module = module(checkout, &kernel)?;
        let agent = agent(checkout, facts)?;
        let initramfs = Key::new("initramfs").field(&module).field(&agent).finish();
        Ok(Keys {
            kernel,
            module,
            agent,
            initramfs,
        })
    }

    /// Over kernel and initramfs: what a booted guest is made of.
    pub(crate) fn guest(&self) -> String {
        Key::new("guest")
            .field(&self.kernel)
            .field(&self.initramfs)
            .finish()
    }
}

/// The key of a kernel's build directory. A variant that is built like its
/// base has its base's.
pub(crate) fn kernel(source: &str, overlay: &Overlay, compiler: &str) -> String {
    Key::new("kernel")
        .field(source)
        .field(&overlay.fragments)
        .field(edits::text(&overlay.edits))
        .field(compiler)
        .finish()
}

/// A hash over labelled fields, none of which can run into the next.
pub(crate) struct Key(Sha256);

impl Key {
    pub(crate) fn new(stage: &str) -> Key {
        Key(Sha256::new()).field(stage).field(RECIPE)
    }

    pub(crate) fn field(mut self, bytes: impl AsRef<[u8]>) -> Key {
        let bytes = bytes.as_ref();
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    fn file(self, name: &Path, path: &Path) -> Result<Key, VmError> {
        let bytes = fs::read(path).map_err(VmError::io("read", path))?;
        Ok(self.field(name.as_os_str().as_encoded_bytes()).field(bytes))
    }

    /// 80 bits: enough for a cache, short enough for a path.
    pub(crate) fn finish(self) -> String {
        self.0
            .finalize()
            .iter()
            .take(10)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// The files of `vm/module` that the module is built from, by name.
pub(crate) fn module_sources(checkout: &Path) -> Result<Vec<PathBuf>, VmError> {
    let is_source = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        name == "Kbuild"
            || name == "Makefile"
            || path
                .extension()
                .is_some_and(|extension| extension == "c" || extension == "h")
    };
    let mut files = files_below(&checkout.join("vm/module"))?;
    files.retain(|path| is_source(path));
    Ok(files)
}

/// The key of the module as `vm/module` has it, for a kernel's key.
pub(crate) fn module(checkout: &Path, kernel: &str) -> Result<String, VmError> {
    let mut key = Key::new("module").field(kernel);
    for path in module_sources(checkout)? {
        key = key.file(within(&path, checkout), &path)?;
    }
    Ok(key.finish())
}

/// The key of the agent as the checkout has it.
pub(crate) fn agent(checkout: &Path, facts: &Facts) -> Result<String, VmError> {
    let mut key = Key::new("agent").field(&facts.rust).field(&facts.gcc);
    for (_, folder) in AGENT_CRATES {
        let folder = checkout.join(folder);
        let mut files = files_below(&folder.join("src"))?;
        files.push(folder.join("Cargo.toml"));
        for path in files {
            key = key.file(within(&path, checkout), &path)?;
        }
    }
    Ok(key.field(workspace_share(checkout)?).finish())
}

/// What the workspace's manifest and lock file say that reaches the agent.
/// Their other lines change often, and the agent does not.
fn workspace_share(checkout: &Path) -> Result<String, VmError> {
    let manifest = read_toml(&checkout.join("Cargo.toml"))?;
    let lock = read_toml(&checkout.join("Cargo.lock"))?;
    let packages = locked_closure(&lock);
    let mut share = String::new();
    let names: BTreeSet<&str> = packages
        .iter()
        .map(|package| text(package, "name"))
        .collect();
    if let Some(dependencies) = manifest
        .get("workspace")
        .and_then(|w| w.get("dependencies"))
    {
        for (name, value) in dependencies.as_table().into_iter().flatten() {
            if names.contains(name.as_str()) {
                share += &format!("{name} = {value}\n");
            }
        }
    }
    for part in ["profile", "patch"] {
        share += &manifest
            .get(part)
            .map(|value| format!("{part}: {value}\n"))
            .unwrap_or_default();
    }
    for package in packages {
        let field = |name| text(package, name);
        share += &format!(
            "{} {} {}\n",
            field("name"),
            field("version"),
            field("checksum")
        );
    }
    Ok(share)
}

/// The locked packages that the agent is built from, sorted.
fn locked_closure(lock: &toml::Table) -> Vec<&toml::Value> {
    let all: Vec<&toml::Value> = lock
        .get("package")
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten()
        .collect();
    // A dependency is `name`, or `name version` where the name is not enough.
    let is = |package: &toml::Value, wanted: &str| {
        let mut words = wanted.split(' ');
        words.next() == Some(text(package, "name"))
            && words
                .next()
                .is_none_or(|version| version == text(package, "version"))
    };
    let mut reached = BTreeSet::new();
    let mut wanted: Vec<&str> = AGENT_CRATES.iter().map(|(name, _)| *name).collect();
    while let Some(name) = wanted.pop() {
        for (index, package) in all.iter().enumerate() {
            if is(package, name) && reached.insert(index) {
                let dependencies = package.get("dependencies").and_then(toml::Value::as_array);
                wanted.extend(
                    dependencies
                        .into_iter()
                        .flatten()
                        .filter_map(toml::Value::as_str),
                );
            }
        }
    }
    reached.into_iter().map(|index| all[index]).collect()
}

fn text<'a>(package: &'a toml::Value, field: &str) -> &'a str {
    package
        .get(field)
        .and_then(toml::Value::as_str)
        .unwrap_or_default()
}

fn read_toml(path: &Path) -> Result<toml::Table, VmError> {
    let text = fs::read_to_string(path).map_err(VmError::io("read", path))?;
    text.parse()
        .map_err(|error: toml::de::Error| VmError::io("read", path)(std::io::Error::other(error)))
}

/// Every file below a folder, in a fixed order; editors' leavings are not files.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>, VmError> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(VmError::io("list", &folder))?;
        for entry in entries {
            let path = entry.map_err(VmError::io("list", &folder))?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if !name.starts_with('.') && !name.ends_with('~') {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Two checkouts of the same text share what is built.
fn within<'a>(path: &'a Path, checkout: &Path) -> &'a Path {
    path.strip_prefix(checkout).unwrap_or(path)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::edits::Edit;

    pub(crate) fn facts() -> Facts {
        Facts {
            source: "linux-source-6.12_1".into(),
            gcc: "gcc 12".into(),
            rust: "rustc 1.85".into(),
            compiler: None,
        }
    }

    /// A checkout with all that keys look at.
    pub(crate) fn checkout() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let files = [
            (
                "Cargo.toml",
                "[workspace.dependencies]\nnix = \"1\"\nclap = \"4\"\n",
            ),
            ("Cargo.lock", LOCK),
            ("vm/module/tlbdiff.c", "int x;"),
            ("vm/module/Kbuild", "obj-m := tlbdiff.o"),
            ("vm/module/README.md", "words"),
            ("vm/agent/Cargo.toml", "[package]"),
            ("vm/agent/src/main.rs", "fn main() {}"),
            ("reference-model/operations/Cargo.toml", "[package]"),
            ("reference-model/operations/src/lib.rs", ""),
            ("vm/protocol/Cargo.toml", "[package]"),
            ("vm/protocol/src/lib.rs", ""),
        ];
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const LOCK: &str = r#"
[[package]]
name = "tlbdiff-agent"
version = "0.1.0"
dependencies = ["nix 1.0.0", "tlbdiff-protocol"]
[[package]]
name = "tlbdiff-protocol"
version = "0.1.0"
dependencies = ["tlbdiff-operations"]
[[package]]
name = "tlbdiff-operations"
version = "0.1.0"
[[package]]
name = "nix"
version = "1.0.0"
checksum = "aa"
[[package]]
name = "nix"
version = "2.0.0"
checksum = "bb"
[[package]]
name = "clap"
version = "4.0.0"
checksum = "cc"
"#;

    pub(crate) fn overlay(fragments: &str) -> Overlay {
        Overlay {
            fragments: fragments.to_owned(),
            ..Overlay::default()
        }
    }

    /// The keys after a file got another text.
    fn after(name: &str, new: &str) -> Keys {
        let root = checkout();
        fs::write(root.path().join(name), new).unwrap();
        Keys::of(root.path(), &overlay("CONFIG_A=y"), &facts()).unwrap()
    }

    fn before() -> Keys {
        Keys::of(checkout().path(), &overlay("CONFIG_A=y"), &facts()).unwrap()
    }

    #[test]
    fn the_same_text_elsewhere_has_the_same_keys() {
        assert_eq!(before(), before());
    }

    #[test]
    fn the_module_s_text_reaches_module_and_initramfs_alone() {
        let (was, is) = (before(), after("vm/module/tlbdiff.c", "int y;"));
        assert_ne!(was.module, is.module);
        assert_ne!(was.initramfs, is.initramfs);
        assert_eq!(
            (was.kernel.clone(), was.agent.clone()),
            (is.kernel.clone(), is.agent.clone())
        );
        assert_ne!(was.guest(), is.guest());
    }

    #[test]
    fn what_the_agent_is_built_from_reaches_it() {
        for source in [
            "vm/protocol/src/lib.rs",
            "reference-model/operations/src/lib.rs",
        ] {
            let (was, is) = (before(), after(source, "//"));
            assert_ne!(was.agent, is.agent, "{source}");
            assert_eq!(was.module, is.module, "{source}");
        }
    }

    #[test]
    fn what_no_stage_reads_reaches_no_key() {
        assert_eq!(before(), after("vm/module/README.md", "other words"));
        assert_eq!(before(), after("vm/agent/src/.main.rs.swp", "x"));
        assert_eq!(before(), after("Cargo.lock", &LOCK.replace("cc", "dd")));
        assert_eq!(before(), after("Cargo.lock", &LOCK.replace("bb", "dd")));
        let manifest = "[workspace.dependencies]\nnix = \"1\"\nclap = \"5\"\n";
        assert_eq!(before(), after("Cargo.toml", manifest));
    }

    #[test]
    fn the_agent_s_dependencies_reach_it() {
        assert_ne!(
            before().agent,
            after("Cargo.lock", &LOCK.replace("aa", "dd")).agent
        );
        let manifest = "[workspace.dependencies]\nnix = { version = \"1\", features = [\"fs\"] }\n";
        assert_ne!(before().agent, after("Cargo.toml", manifest).agent);
    }

    #[test]
    fn source_configuration_and_compiler_each_reach_the_kernel() {
        let root = checkout();
        let key = |text: &str, facts: Facts| Keys::of(root.path(), &overlay(text), &facts).unwrap();
        let was = key("CONFIG_A=y", facts());
        assert_ne!(was.kernel, key("CONFIG_B=y", facts()).kernel);
        assert_ne!(
            was.kernel,
            key(
                "CONFIG_A=y",
                Facts {
                    gcc: "gcc 14".into(),
                    ..facts()
                }
            )
            .kernel
        );
        let clang = Facts {
            compiler: Some("clang 19".into()),
            ..facts()
        };
        let is = key("CONFIG_A=y", clang);
        assert_ne!(was.kernel, is.kernel);
        assert_ne!(was.module, is.module);
        assert_eq!(was.agent, is.agent);
        let newer = key(
            "CONFIG_A=y",
            Facts {
                source: "linux-source-6.12_2".into(),
                ..facts()
            },
        );
        assert_ne!(was.kernel, newer.kernel);
        assert_ne!(was.module, newer.module);
        assert_eq!(was.agent, newer.agent);
    }

    #[test]
    fn edits_reach_the_kernel_and_the_module() {
        let edit = Edit {
            file: "mm/a.c".into(),
            function: "f".into(),
            replace: "a".into(),
            with: "b".into(),
            origin: String::new(),
        };
        let edited = Overlay {
            edits: vec![edit],
            ..overlay("CONFIG_A=y")
        };
        let (was, root) = (before(), checkout());
        let is = Keys::of(root.path(), &edited, &facts()).unwrap();
        assert!(was.kernel != is.kernel && was.module != is.module);
        assert_eq!(was.agent, is.agent);
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        let key = |a, b| Key::new("x").field(a).field(b).finish();
        assert_ne!(key("ab", "c"), key("a", "bc"));
    }

    #[test]
    fn no_folder_is_missing_from_the_list_of_the_agent_s_crates() {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let lock = read_toml(&checkout.join("Cargo.lock")).unwrap();
        let known: BTreeSet<&str> = AGENT_CRATES.iter().map(|(name, _)| *name).collect();
        let ours: BTreeSet<&str> = locked_closure(&lock)
            .into_iter()
            .filter(|package| package.get("source").is_none())
            .map(|package| text(package, "name"))
            .collect();
        assert_eq!(ours, known);
    }
}
