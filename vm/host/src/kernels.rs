// SPDX-License-Identifier: GPL-2.0-only
//! The kernels by name, as `vm/kernels.toml` lists them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::edits::Edit;
use crate::error::VmError;
use crate::home::home;
use crate::near::nearest;

/// The fragment laid over a developer's own tree.
pub(crate) const TREE_CONFIG: &str = "kernels/base.config";

/// And over that, for what is built again after every edit.
pub(crate) const EDITED_CONFIG: &str = "kernels/edited.config";

/// Stands for every kernel where names are given, but for those that move from series to
/// series, and those that are for trying one thing: what is asked for every night should not
/// become another thing by itself.
pub const EVERY: &str = "all";

/// Which kernel to run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelChoice {
    /// One that `vm/kernels.toml` names.
    Named(String),
    /// A developer's own source tree.
    Tree(PathBuf),
    /// A kernel that a developer built himself.
    Image {
        /// Its image.
        image: PathBuf,
        /// The directory that it was built in.
        build: PathBuf,
    },
}

impl fmt::Display for KernelChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KernelChoice::Named(name) => f.write_str(name),
            KernelChoice::Tree(path) => write!(f, "tree:{}", path.display()),
            KernelChoice::Image { image, .. } => write!(f, "image:{}", image.display()),
        }
    }
}

/// What is told of a kernel to someone who chooses one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelInfo {
    /// Its name, as `--kernel` takes it.
    pub name: String,
    /// What it is, in a sentence.
    pub about: String,
    /// The kernel that it is a variant of, if it is one.
    pub base: Option<String>,
    /// The series of releases that it is of, by which it can be called, too.
    pub series: Option<String>,
    /// The reference model's profile that speaks for it.
    pub profile: String,
}

/// Every kernel that `vm/kernels.toml` names.
pub fn kernels() -> Result<Vec<KernelInfo>, VmError> {
    let named = read(&vm_dir()?)?;
    Ok(named
        .into_iter()
        .map(|(name, spec)| KernelInfo {
            name,
            about: spec.about,
            base: spec.base,
            series: spec.series,
            profile: spec.profile,
        })
        .collect())
}

/// The names of the kernels that [`EVERY`] stands for.
///
/// # Errors
/// The list of kernels cannot be read.
pub fn every() -> Result<Vec<String>, VmError> {
    let stays =
        |(name, spec): (String, KernelSpec)| spec.series.filter(|_| !spec.aside).map(|_| name);
    Ok(read(&vm_dir()?)?.into_iter().filter_map(stays).collect())
}

/// The name of a kernel that is called by its name or its series.
///
/// # Errors
/// There is none.
pub fn kernel_name(called: &str) -> Result<String, VmError> {
    Ok(by_name(&vm_dir()?, called)?.0)
}

/// The kernels to provision for those asked for, each once: a variant comes
/// after the kernel whose object files it begins with, [`EVERY`] is all of them.
pub fn in_order(asked: &[KernelChoice]) -> Result<Vec<KernelChoice>, VmError> {
    let vm_dir = vm_dir()?;
    let mut order: Vec<KernelChoice> = Vec::new();
    let mut push = |choice: KernelChoice| {
        if !order.contains(&choice) {
            order.push(choice);
        }
    };
    for choice in asked {
        let names = match choice {
            KernelChoice::Named(name) if name == EVERY => every()?,
            KernelChoice::Named(name) => vec![name.clone()],
            KernelChoice::Tree(_) | KernelChoice::Image { .. } => {
                push(choice.clone());
                continue;
            }
        };
        for name in names {
            let (name, spec) = by_name(&vm_dir, &name)?;
            spec.root
                .map(KernelChoice::Named)
                .into_iter()
                .for_each(&mut push);
            push(KernelChoice::Named(name));
        }
    }
    Ok(order)
}

/// What a kernel is run on, where it is not the usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestBoard {
    /// Properties of QEMU's board: `aia=aplic-imsic`.
    pub machine: Option<String>,
    /// QEMU's name of the harts, with properties.
    pub cpu: Option<String>,
    /// What is added to the kernel's command line.
    pub cmdline: Option<String>,
}

impl fmt::Display for GuestBoard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("machine", &self.machine),
            ("cpu", &self.cpu),
            ("cmdline", &self.cmdline),
        ];
        let said = parts
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name} {}", value.as_ref()?)));
        f.write_str(&said.collect::<Vec<_>>().join(", "))
    }
}

/// A kernel, with all that it has from its base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KernelSpec {
    pub(crate) about: String,
    /// The kernel that it is directly made from.
    pub(crate) base: Option<String>,
    /// The one at the end of the bases: it has source of its own, and the
    /// object files that its variants begin with.
    pub(crate) root: Option<String>,
    /// The series of releases that it is of; none where it moves from one to the next.
    pub(crate) series: Option<String>,
    pub(crate) package: String,
    /// Where the package is looked for.
    pub(crate) suites: Vec<String>,
    /// What its version begins with.
    pub(crate) version: String,
    pub(crate) config: Vec<PathBuf>,
    pub(crate) profile: String,
    pub(crate) edits: Vec<Edit>,
    /// For trying one thing, as one that is broken on purpose is.
    pub(crate) aside: bool,
    pub(crate) board: GuestBoard,
}

/// One table of `kernels.toml`, as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    about: String,
    base: Option<String>,
    series: Option<String>,
    package: Option<String>,
    suites: Option<Vec<String>>,
    version: Option<String>,
    #[serde(default)]
    config: Vec<PathBuf>,
    profile: Option<String>,
    #[serde(default, rename = "edit")]
    edits: Vec<Edit>,
    #[serde(default)]
    aside: bool,
    machine: Option<String>,
    cpu: Option<String>,
    cmdline: Option<String>,
}

/// The checkout's `vm` folder.
fn vm_dir() -> Result<PathBuf, VmError> {
    Ok(home()?.join("vm"))
}

/// The kernel of that name, or of that series, in `vm_dir`'s `kernels.toml`; with its name.
pub(crate) fn by_name(vm_dir: &Path, name: &str) -> Result<(String, KernelSpec), VmError> {
    let named = read(vm_dir)?;
    let is_meant = |(own, spec): &(&String, &KernelSpec)| {
        *own == name || spec.series.as_deref() == Some(name) && spec.base.is_none()
    };
    if let Some((name, spec)) = named.iter().find(is_meant) {
        return Ok((name.clone(), spec.clone()));
    }
    let known: Vec<String> = named.into_keys().collect();
    let nearest = nearest(name, &known);
    Err(VmError::UnknownKernel {
        name: name.to_owned(),
        known,
        nearest,
    })
}

/// What is laid over a kernel's source, by the checkout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overlay {
    /// Laid over `tinyconfig`.
    pub(crate) fragments: String,
    /// Laid over its text.
    pub(crate) edits: Vec<Edit>,
}

impl Overlay {
    /// As a kernel's table says.
    pub(crate) fn of(vm_dir: &Path, spec: &KernelSpec) -> Result<Overlay, VmError> {
        Ok(Overlay {
            fragments: fragments(vm_dir, &spec.config)?,
            edits: spec.edits.clone(),
        })
    }

    /// Of a developer's own tree: the usual configuration, and his own fragments over it.
    pub(crate) fn of_tree(vm_dir: &Path, config: &[PathBuf]) -> Result<Overlay, VmError> {
        let mut all = vec![PathBuf::from(TREE_CONFIG), PathBuf::from(EDITED_CONFIG)];
        all.extend_from_slice(config);
        Ok(Overlay {
            fragments: fragments(vm_dir, &all)?,
            edits: Vec::new(),
        })
    }
}

/// The text of configuration fragments, in order.
fn fragments(vm_dir: &Path, config: &[PathBuf]) -> Result<String, VmError> {
    let mut text = String::new();
    for fragment in config {
        let path = vm_dir.join(fragment);
        text += &std::fs::read_to_string(&path).map_err(VmError::io("read", &path))?;
        text.push('\n');
    }
    Ok(text)
}

fn read(vm_dir: &Path) -> Result<BTreeMap<String, KernelSpec>, VmError> {
    let path = vm_dir.join("kernels.toml");
    let text = std::fs::read_to_string(&path).map_err(VmError::io("read", &path))?;
    parse(&text).map_err(|message| VmError::Kernels { path, message })
}

fn parse(text: &str) -> Result<BTreeMap<String, KernelSpec>, String> {
    let tables: BTreeMap<String, Table> =
        toml::from_str(text).map_err(|error| error.to_string())?;
    let mut named = BTreeMap::new();
    for name in tables.keys() {
        let spec = resolve(&tables, name, &mut Vec::new());
        named.insert(
            name.clone(),
            spec.map_err(|why| format!("[{name}]: {why}"))?,
        );
    }
    Ok(named)
}

/// A kernel with all that it has from its base. `variants` are those that are
/// being resolved.
fn resolve(
    tables: &BTreeMap<String, Table>,
    name: &str,
    variants: &mut Vec<String>,
) -> Result<KernelSpec, String> {
    check_name("the name", name)?;
    if name == EVERY {
        return Err(format!("`{EVERY}` stands for every kernel"));
    }
    let table = &tables[name];
    let mut own = table.edits.clone();
    for (index, edit) in own.iter_mut().enumerate() {
        edit.origin = format!("[[{name}.edit]] number {}", index + 1);
        edit.check().map_err(|why| format!("edit: {why}"))?;
    }
    let board = GuestBoard {
        machine: table.machine.clone(),
        cpu: table.cpu.clone(),
        cmdline: table.cmdline.clone(),
    };
    let Some(base) = &table.base else {
        return with_source(table, own, board);
    };
    variants.push(name.to_owned());
    if variants.contains(base) {
        return Err(format!("base is `{base}`, which is made from `{name}`"));
    }
    if !tables.contains_key(base) {
        return Err(format!("base is `{base}`, which is no kernel here"));
    }
    if table.package.is_some()
        || table.suites.is_some()
        || table.series.is_some()
        || table.version.is_some()
    {
        return Err(
            "it has its base's source, so no package, suites, series or version".to_owned(),
        );
    }
    let parent = resolve(tables, base, variants)?;
    Ok(KernelSpec {
        about: table.about.clone(),
        base: Some(base.clone()),
        root: Some(parent.root.unwrap_or_else(|| base.clone())),
        series: parent.series,
        package: parent.package,
        suites: parent.suites,
        version: parent.version,
        config: [parent.config, table.config.clone()].concat(),
        profile: table.profile.clone().unwrap_or(parent.profile),
        edits: [parent.edits, own].concat(),
        aside: parent.aside || table.aside,
        board: GuestBoard {
            machine: board.machine.or(parent.board.machine),
            cpu: board.cpu.or(parent.board.cpu),
            cmdline: board.cmdline.or(parent.board.cmdline),
        },
    })
}

/// A kernel that is made from nothing else.
fn with_source(table: &Table, edits: Vec<Edit>, board: GuestBoard) -> Result<KernelSpec, String> {
    let lacks = |field: &str| format!("it has neither `base` nor `{field}`");
    let needed = |field: &str, value: &Option<String>| value.clone().ok_or_else(|| lacks(field));
    let spec = KernelSpec {
        about: table.about.clone(),
        base: None,
        root: None,
        package: needed("package", &table.package)?,
        suites: table.suites.clone().ok_or_else(|| lacks("suites"))?,
        series: table.series.clone(),
        version: table.version.clone().unwrap_or_default(),
        config: table.config.clone(),
        profile: needed("profile", &table.profile)?,
        edits,
        aside: table.aside,
        board,
    };
    check_name("package", &spec.package)?;
    if spec.suites.is_empty() {
        return Err("suites names none".to_owned());
    }
    for suite in &spec.suites {
        check_name("suite", suite)?;
    }
    if let Some(series) = &spec.series {
        check_name("series", series)?;
    }
    if spec.config.is_empty() {
        return Err("config names no fragment".to_owned());
    }
    Ok(spec)
}

/// Names end up in paths and in apt's sources: what looks like anything else
/// than a name is refused.
fn check_name(field: &str, value: &str) -> Result<(), String> {
    if is_name(value) {
        Ok(())
    } else {
        Err(format!("{field} is `{value}`, which is not a name"))
    }
}

fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(plain) && text.chars().all(|c| plain(c) || "+.-_".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[stable]
about = "one"
package = "linux-source-6.12"
suites = ["trixie"]
config = ["kernels/base.config"]
profile = "stable"
"#;

    #[test]
    fn a_table_is_a_kernel() {
        let named = parse(GOOD).unwrap();
        assert_eq!(named["stable"].package, "linux-source-6.12");
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let message = parse(&format!("{GOOD}sweet = 1\n")).unwrap_err();
        assert!(message.contains("sweet"), "{message}");
        assert!(message.contains("line 8"), "{message}");
    }

    #[test]
    fn a_missing_key_is_an_error_that_names_it() {
        let message = parse(&GOOD.replace("suite", "#")).unwrap_err();
        assert!(message.contains("suite"), "{message}");
    }

    #[test]
    fn what_would_end_in_a_path_has_to_be_a_name() {
        for bad in ["../x", "a b", "", "Trixie", "-o"] {
            let message = parse(&GOOD.replace("trixie", bad)).unwrap_err();
            assert!(message.contains("suite is"), "{message}");
        }
    }

    #[test]
    fn no_fragment_is_an_error() {
        let message = parse(&GOOD.replace("\"kernels/base.config\"", "")).unwrap_err();
        assert!(message.contains("config names no fragment"), "{message}");
    }

    const VARIANT: &str = r#"
[mutant]
about = "two"
base = "stable"
[[mutant.edit]]
file = "mm/a.c"
function = "f"
replace = "a"
with = "b"
"#;

    fn parsed(more: &str) -> BTreeMap<String, KernelSpec> {
        parse(&format!("{GOOD}{more}")).unwrap()
    }

    fn refused(more: &str) -> String {
        parse(&format!("{GOOD}{more}")).unwrap_err()
    }

    #[test]
    fn a_variant_is_its_base_but_for_what_it_says() {
        let named = parsed(VARIANT);
        let (stable, mutant) = (&named["stable"], &named["mutant"]);
        assert_eq!(mutant.edits[0].function, "f");
        assert_eq!(mutant.edits[0].origin, "[[mutant.edit]] number 1");
        let as_base = KernelSpec {
            about: stable.about.clone(),
            base: None,
            root: None,
            edits: Vec::new(),
            ..mutant.clone()
        };
        assert_eq!(as_base, *stable);
        assert_eq!(mutant.base.as_deref(), Some("stable"));
    }

    #[test]
    fn a_variant_of_a_variant_has_both_and_the_root_s_source() {
        let named = parsed(&format!(
            "{VARIANT}[third]\nabout = \"3\"\nbase = \"mutant\"\nprofile = \"own\"\n\
             config = [\"more.config\"]\nmachine = \"aia=aplic-imsic\"\n\
             [[third.edit]]\nfile = \"mm/a.c\"\nfunction = \"g\"\nreplace = \"b\"\nwith = \"c\"\n"
        ));
        let third = &named["third"];
        let functions: Vec<_> = third.edits.iter().map(|edit| &edit.function[..]).collect();
        assert_eq!(functions, ["f", "g"]);
        assert_eq!(third.config.len(), 2);
        assert_eq!(third.root.as_deref(), Some("stable"));
        assert_eq!(third.base.as_deref(), Some("mutant"));
        assert_eq!(third.profile, "own");
        assert_eq!(third.board.machine.as_deref(), Some("aia=aplic-imsic"));
    }

    #[test]
    fn a_base_that_cannot_be_is_refused() {
        let variant = |base: &str| format!("[x]\nabout = \"x\"\nbase = \"{base}\"\n");
        assert!(refused(&variant("stabel")).contains("no kernel here"));
        assert!(refused(&variant("x")).contains("made from"));
        let circle = format!("{}[y]\nabout = \"y\"\nbase = \"x\"\n", variant("y"));
        assert!(refused(&circle).contains("made from"));
        let source = format!("{}suites = [\"forky\"]\n", variant("stable"));
        assert!(refused(&source).contains("its base's source"));
        assert!(refused("[x]\nabout = \"x\"\n").contains("neither `base` nor `package`"));
    }

    #[test]
    fn a_variant_comes_after_what_it_begins_with_and_nothing_comes_twice() {
        let named = |names: &[&str]| -> Vec<KernelChoice> {
            let named = |name: &&str| KernelChoice::Named((*name).to_owned());
            names.iter().map(named).collect()
        };
        let order = in_order(&named(&["prepatch", "stable", "noasid"])).unwrap();
        assert_eq!(order, named(&["stable", "prepatch", "noasid"]));
        let all = in_order(&named(&[EVERY])).unwrap();
        assert_eq!(all.len(), every().unwrap().len());
        assert!(!all.contains(&KernelChoice::Named("latest".to_owned())));
        assert!(in_order(&named(&["stabel"])).is_err());
        let tree = [KernelChoice::Tree("/a".into())];
        assert_eq!(in_order(&tree).unwrap(), tree);
    }

    #[test]
    fn an_edit_is_checked_where_it_is_read() {
        let no_path = VARIANT.replace("mm/a.c", "../a.c");
        assert!(refused(&no_path).contains("no path below the source"));
        let unknown = VARIANT.replace("with =", "mit =");
        assert!(refused(&unknown).contains("mit"), "{}", refused(&unknown));
    }

    #[test]
    fn an_unknown_kernel_is_told_the_known_ones_and_the_nearest() {
        let called = |name: &str| by_name(&vm_dir().unwrap(), name).unwrap().0;
        assert_eq!(
            (called("6.12"), called("7.2")),
            ("stable".into(), "next".into())
        );
        let error = by_name(&vm_dir().unwrap(), "stabel")
            .unwrap_err()
            .to_string();
        assert!(error.contains("did you mean `stable`?"), "{error}");
        let error = by_name(&vm_dir().unwrap(), "zzzzzzzzzzzz")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("known: ") && !error.contains("did you mean"),
            "{error}"
        );
    }

    #[test]
    fn every_listed_kernel_names_fragments_that_exist() {
        for (name, spec) in read(&vm_dir().unwrap()).unwrap() {
            for fragment in &spec.config {
                assert!(
                    vm_dir().unwrap().join(fragment).is_file(),
                    "{name}: {}",
                    fragment.display()
                );
            }
        }
    }
}
