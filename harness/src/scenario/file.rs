// SPDX-License-Identifier: GPL-2.0-only
//! A scenario as it is written: YAML and nothing more.
//!
//! Every value that a later check may refuse carries its place in the text
//! ([`Spanned`]), so that the refusal can point at it.

use operations::Plain;
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, Error, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};
use serde_saphyr::{Location, Spanned};
use std::collections::BTreeMap;
use std::fmt;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScenarioFile {
    /// Which behaviour, and why it matters.
    pub about: Spanned<String>,
    /// What it needs of kernel and machine.
    #[serde(default)]
    pub requires: Vec<Spanned<String>>,
    /// What is known of kernels that are wrong here.
    pub finding: Option<Documented>,
    /// Why Linux is free in what steps do here: what has to hold is judged all the same.
    pub varies: Option<Spanned<String>>,
    /// Memory files, by name.
    #[serde(default)]
    pub files: BTreeMap<String, Spanned<MemoryFile>>,
    /// Who acts besides the subject, by name.
    #[serde(default)]
    pub actors: BTreeMap<String, Spanned<Actor>>,
    /// What huge pages the kernel is set to make.
    pub thp: Option<Thp>,
    /// How many areas a process may have in the arena.
    pub max_map_count: Option<Spanned<Count>>,
    /// One map with one key each.
    pub steps: Spanned<Vec<Spanned<Written>>>,
}

/// What is known of kernels that are wrong here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Documented {
    /// The page that tells of it, beside the scenario.
    pub page: Spanned<String>,
    /// Names of the kernels that are wrong.
    pub kernels: Spanned<Vec<String>>,
}

/// A file made before the first step.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryFile {
    /// Its size.
    pub pages: Spanned<Count>,
    /// Written to its end beforehand.
    #[serde(default)]
    pub filled: bool,
    /// Mapped through a descriptor that is not open for writing.
    #[serde(default)]
    pub read_only: bool,
    /// Seals set after filling.
    #[serde(default)]
    pub seals: Vec<Spanned<String>>,
    /// The file system that keeps it; memory alone if nothing is said.
    pub on: Option<Spanned<String>>,
    /// `MFD_HUGETLB`, and of which size.
    pub hugetlb: Option<Spanned<PageSize>>,
}

/// Settings of /sys/kernel/mm/transparent_hugepage, by sysfs' names.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thp {
    /// `enabled`
    pub enabled: Option<Spanned<String>>,
    /// `hugepages-*kB/enabled`, by size.
    #[serde(default)]
    pub sizes: BTreeMap<String, Spanned<String>>,
    /// `shmem_enabled`
    pub shmem: Option<Spanned<String>>,
    /// `hugepages-*kB/shmem_enabled`, by size.
    #[serde(default)]
    pub shmem_sizes: BTreeMap<String, Spanned<String>>,
    /// `use_zero_page`
    pub use_zero_page: Option<bool>,
    /// `khugepaged/max_ptes_none`
    pub max_ptes_none: Option<Spanned<Count>>,
    /// `khugepaged/max_ptes_swap`
    pub max_ptes_swap: Option<Spanned<Count>>,
    /// `khugepaged/max_ptes_shared`
    pub max_ptes_shared: Option<Spanned<Count>>,
}

/// A process or thread besides the subject.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// What it is.
    pub kind: ActorKind,
    /// Whose thread it is.
    pub of: Option<Spanned<String>>,
    /// Hart that it is pinned to; 0, the subject's, if nothing is said.
    pub hart: Option<Spanned<Count>>,
}

/// What an actor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActorKind {
    /// A process of its own, there before the first step.
    Process,
    /// A thread of the subject or of a process, there before the first step.
    Thread,
    /// Made by a `fork` step.
    Fork,
}

/// A step as it stands there: a map of one operation, or the name of one that needs no field.
#[derive(Clone, Debug)]
pub struct Written(pub Step);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Written, D::Error> {
        from.deserialize_any(StepVisitor)
    }
}

struct StepVisitor;

impl<'de> Visitor<'de> for StepVisitor {
    type Value = Written;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an operation with its fields")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Written, E> {
        let own = Own { by: None };
        if let Some(what) = Plain::named(name).filter(|what| what.form().needs.is_empty()) {
            return Ok(Written(Step::Plain(what, PlainFields::default())));
        }
        Ok(Written(match name {
            "exit" => Step::Exit(own),
            "exec" => Step::Exec(own),
            "run" => Step::Run(own),
            "ksm" => Step::Ksm(Ksm::from(None)),
            "compact" => Step::Compact(own),
            _ => return Err(without_fields(name)),
        }))
    }

    fn visit_unit<E: Error>(self) -> Result<Written, E> {
        Err(E::custom("a step without operation"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Written, A::Error> {
        let Some(name) = map.next_key::<String>()? else {
            return Err(A::Error::custom("a step without operation"));
        };
        let step = match Plain::named(&name) {
            Some(what) => Step::Plain(what, map.next_value()?),
            None => {
                let rest = Begun {
                    key: Some(name),
                    map: &mut map,
                };
                Step::deserialize(MapAccessDeserializer::new(rest))?
            }
        };
        map.next_key::<NoMore>()?;
        Ok(Written(step))
    }
}

/// A map of which the first key was read already.
struct Begun<A> {
    key: Option<String>,
    map: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Begun<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        match self.key.take() {
            Some(key) => seed.deserialize(key.into_deserializer()).map(Some),
            None => self.map.next_key_seed(seed),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// A key that must not be there. It is refused while it is read, which tells its place.
struct NoMore;

impl<'de> Deserialize<'de> for NoMore {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<NoMore, D::Error> {
        let message = "a step is one operation, and another one begins with `-`";
        Err(D::Error::custom(message))
    }
}

/// The error for a name alone: there is no such operation, or it needs fields.
fn without_fields<E: Error>(name: &str) -> E {
    match Step::deserialize(StrDeserializer::<E>::new(name)) {
        Err(error) if error.to_string().starts_with("unknown variant") => error,
        _ => E::custom(format_args!(
            "`{name}` has no fields, they follow it: `{name}: {{ … }}`"
        )),
    }
}

/// An operation: its name is the key.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// `mmap(2)`.
    Mmap(Mmap),
    /// Reads or writes one byte of each page.
    Touch(Touch),
    /// A device does.
    Device(Device),
    /// A virtual machine does.
    Vm(Vm),
    /// `munmap(2)`.
    Munmap(Munmap),
    /// `mprotect(2)`.
    Mprotect(Mprotect),
    /// `madvise(2)`.
    Madvise(Madvise),
    /// `memory.reclaim` of the actors' cgroup.
    Reclaim(Reclaim),
    /// `fork(2)`.
    Fork(Fork),
    /// `exit_group(2)` of a process, `exit(2)` of a thread.
    Exit(Own),
    /// `execve(2)`.
    Exec(Own),
    /// User mode, until the actor's next step.
    Run(Own),
    /// `ftruncate(2)`.
    Ftruncate(Ftruncate),
    /// `fallocate(2)` with `FALLOC_FL_PUNCH_HOLE`.
    PunchHole(PunchHole),
    /// `process_madvise(2)`.
    ProcessMadvise(ProcessMadvise),
    /// `UFFDIO_REGISTER`
    UffdRegister(UffdRegister),
    /// `UFFDIO_UNREGISTER`
    UffdUnregister(UffdRange),
    /// `UFFDIO_COPY`
    UffdCopy(UffdCopy),
    /// `UFFDIO_ZEROPAGE`
    UffdZeropage(UffdRange),
    /// `UFFDIO_CONTINUE`
    UffdContinue(UffdRange),
    /// `UFFDIO_MOVE`
    UffdMove(UffdMove),
    /// `UFFDIO_WRITEPROTECT`
    UffdWriteprotect(UffdWriteprotect),
    /// `msync(2)`.
    Msync(Msync),
    /// `fsync(2)`.
    Fsync(Fsync),
    /// `sync_file_range(2)`.
    SyncFileRange(FileRange),
    /// `fallocate(2)`.
    Fallocate(Fallocate),
    /// `pwrite(2)`.
    Pwrite(Pwrite),
    /// `pread(2)`.
    Pread(FileRange),
    /// `/proc/sys/vm/drop_caches`.
    DropCaches(DropCaches),
    /// `mremap(2)`.
    Mremap(Mremap),
    /// ksmd scans.
    Ksm(Ksm),
    /// Memory is compacted.
    Compact(Own),
    /// One that is told by its name and a few fields, which is read apart.
    #[serde(skip)]
    Plain(Plain, PlainFields),
    /// `move_pages(2)`.
    MovePages(MovePages),
    /// `mbind(2)`.
    Mbind(Mbind),
    /// `migrate_pages(2)`.
    MigratePages(MigratePages),
    /// Steps, several times over.
    Repeat(Repeat),
    /// Steps of several actors, begun at the same moment.
    Together(Together),
}

impl Step {
    /// Who does it, if that is said.
    pub fn by(&self) -> Option<&Spanned<String>> {
        match self {
            Step::Mmap(step) => step.by.as_ref(),
            Step::Touch(step) => step.by.as_ref(),
            Step::Device(step) => step.by.as_ref(),
            Step::Vm(step) => step.by.as_ref(),
            Step::Munmap(step) => step.by.as_ref(),
            Step::Mprotect(step) => step.by.as_ref(),
            Step::Madvise(step) => step.by.as_ref(),
            Step::Reclaim(step) => step.by.as_ref(),
            Step::Fork(step) => step.by.as_ref(),
            Step::Exit(step) | Step::Exec(step) | Step::Run(step) | Step::Compact(step) => {
                step.by.as_ref()
            }
            Step::Ksm(step) => step.by.as_ref(),
            Step::MovePages(step) => step.by.as_ref(),
            Step::Mbind(step) => step.by.as_ref(),
            Step::MigratePages(step) => step.by.as_ref(),
            Step::Mremap(step) => step.by.as_ref(),
            Step::Plain(_, step) => step.by.as_ref(),
            Step::Ftruncate(step) => step.by.as_ref(),
            Step::PunchHole(step) => step.by.as_ref(),
            Step::ProcessMadvise(step) => step.by.as_ref(),
            Step::UffdRegister(step) => step.by.as_ref(),
            Step::UffdUnregister(step) | Step::UffdZeropage(step) | Step::UffdContinue(step) => {
                step.by.as_ref()
            }
            Step::UffdCopy(step) => step.by.as_ref(),
            Step::UffdMove(step) => step.by.as_ref(),
            Step::UffdWriteprotect(step) => step.by.as_ref(),
            Step::Msync(step) => step.by.as_ref(),
            Step::Fsync(step) => step.by.as_ref(),
            Step::SyncFileRange(step) | Step::Pread(step) => step.by.as_ref(),
            Step::Fallocate(step) => step.by.as_ref(),
            Step::Pwrite(step) => step.by.as_ref(),
            Step::DropCaches(step) => step.by.as_ref(),
            Step::Repeat(_) | Step::Together(_) => None,
        }
    }
}

/// Fields that operations have in common of which no more is to be said.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainFields {
    /// On whose process it acts.
    pub of: Option<Spanned<String>>,
    /// First page.
    pub at: Option<Spanned<Count>>,
    /// Length.
    pub pages: Option<Spanned<Count>>,
    /// Length afterwards.
    pub new_pages: Option<Spanned<Count>>,
    /// Offset in a file.
    pub offset: Option<Spanned<Count>>,
    /// A number, or a byte.
    pub value: Option<Spanned<Count>>,
    /// A hart's number.
    pub hart: Option<Spanned<Count>>,
    /// A file.
    pub file: Option<Spanned<String>>,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// Steps of several actors, begun at the same moment: a list, or a map with more to say.
#[derive(Clone, Debug)]
pub struct Together {
    /// How much later than the others each may begin, by chance, in turns of a loop.
    pub delay: Option<Spanned<Count>>,
    /// Who does what.
    pub steps: Vec<Spanned<Written>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TogetherFields {
    delay: Option<Spanned<Count>>,
    steps: Vec<Spanned<Written>>,
}

impl<'de> Deserialize<'de> for Together {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Together, D::Error> {
        from.deserialize_any(TogetherVisitor)
    }
}

struct TogetherVisitor;

impl<'de> Visitor<'de> for TogetherVisitor {
    type Value = Together;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list of steps, or `delay` and `steps`")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Together, A::Error> {
        let mut steps = Vec::new();
        while let Some(step) = list.next_element()? {
            steps.push(step);
        }
        Ok(Together { delay: None, steps })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Together, A::Error> {
        let fields = TogetherFields::deserialize(MapAccessDeserializer::new(map))?;
        let TogetherFields { delay, steps } = fields;
        Ok(Together { delay, steps })
    }
}

/// Steps that are done several times over.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// How often.
    pub times: Spanned<Count>,
    /// What the number of a round, from 0, is called after a `$`; `i` if nothing is said.
    #[serde(rename = "as")]
    pub variable: Option<Spanned<String>>,
    /// What is done in each round.
    pub steps: Spanned<Vec<Spanned<Written>>>,
}

/// Fields of a `fork` step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fork {
    /// Who comes to life.
    pub child: Spanned<String>,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// Fields of a step that an actor does with itself; none has to be said.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Option<OwnFields>")]
pub struct Own {
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnFields {
    by: Option<Spanned<String>>,
}

impl From<Option<OwnFields>> for Own {
    fn from(fields: Option<OwnFields>) -> Own {
        Own {
            by: fields.and_then(|fields| fields.by),
        }
    }
}

/// Fields of a `ksm` step; none has to be said.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "Option<KsmFields>")]
pub struct Ksm {
    /// Pages of zeroes become the zero page.
    pub zero_pages: bool,
    /// What was merged is parted.
    pub unmerge: Option<Spanned<bool>>,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KsmFields {
    #[serde(default)]
    zero_pages: bool,
    unmerge: Option<Spanned<bool>>,
    by: Option<Spanned<String>>,
}

impl From<Option<KsmFields>> for Ksm {
    fn from(fields: Option<KsmFields>) -> Ksm {
        fields.map_or_else(Ksm::default, |fields| Ksm {
            zero_pages: fields.zero_pages,
            unmerge: fields.unmerge,
            by: fields.by,
        })
    }
}

/// Fields of a `move_pages` step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MovePages {
    /// Whose pages; the actor's that does it if nothing is said.
    pub of: Option<Spanned<String>>,
    /// First page.
    pub at: Spanned<Count>,
    /// Length.
    pub pages: Spanned<Count>,
    /// Where they go.
    pub node: Spanned<Count>,
    /// `MPOL_MF_MOVE_ALL` instead of `MPOL_MF_MOVE`.
    #[serde(default)]
    pub all: bool,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// Fields of an `mbind` step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mbind {
    /// First page.
    pub at: Spanned<Count>,
    /// Length.
    pub pages: Spanned<Count>,
    /// Which policy.
    pub policy: Spanned<String>,
    /// The policy's node; none if nothing is said.
    pub node: Option<Spanned<Count>>,
    /// `MPOL_MF_MOVE`.
    #[serde(default, rename = "move")]
    pub moves: bool,
    /// `MPOL_MF_MOVE_ALL`.
    #[serde(default)]
    pub all: bool,
    /// `MPOL_MF_STRICT`.
    #[serde(default)]
    pub strict: bool,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// Fields of a `migrate_pages` step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigratePages {
    /// Whose pages; the actor's that does it if nothing is said.
    pub of: Option<Spanned<String>>,
    /// The node that they leave.
    pub from: Spanned<Count>,
    /// The node that they go to.
    pub to: Spanned<Count>,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// Fields of an `ftruncate` step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ftruncate {
    /// Name of a memory file.
    pub file: Spanned<String>,
    /// Its new size.
    pub pages: Spanned<Count>,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// Fields of a `punch_hole` step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PunchHole {
    /// Name of a memory file.
    pub file: Spanned<String>,
    /// First page in the file.
    pub offset: Spanned<Count>,
    /// Length.
    pub pages: Spanned<Count>,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// Fields of a `process_madvise` step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessMadvise {
    /// On whose process it acts.
    pub of: Spanned<String>,
    /// First page; without, there are ranges.
    pub at: Option<Spanned<Count>>,
    /// Length; without, there are ranges.
    pub pages: Option<Spanned<Count>>,
    /// Several of them.
    pub ranges: Option<Spanned<Vec<Spanned<Extent>>>>,
    /// Which advice.
    pub advice: Spanned<Advice>,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// Pages of a vector.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extent {
    /// First page.
    pub at: Spanned<Count>,
    /// Length.
    pub pages: Spanned<Count>,
}

/// Fields of a `uffd_register` step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UffdRegister {
    /// First page.
    pub at: Spanned<Count>,
    /// Length.
    pub pages: Spanned<Count>,
    /// Faults that it is asked about; missing pages if nothing is said.
    pub mode: Option<Spanned<String>>,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// Fields of a step of a userfaultfd that is about a range alone.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UffdRange {
    /// First page.
    pub at: Spanned<Count>,
    /// Length.
    pub pages: Spanned<Count>,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// Fields of a `uffd_copy` step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UffdCopy {
    /// First page.
    pub at: Spanned<Count>,
    /// Length.
    pub pages: Spanned<Count>,
    /// The byte that pages are full of.
    pub value: Option<Spanned<Count>>,
    /// Pages of hugetlb, and of which size.
    pub hugetlb: Option<Spanned<PageSize>>,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// Fields of a `uffd_move` step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UffdMove {
    /// First page.
    pub at: Spanned<Count>,
    /// Length.
    pub pages: Spanned<Count>,
    /// Where they go.
    pub to: Spanned<Count>,
    /// What is not there need not be moved.
    #[serde(default)]
    pub holes: bool,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// Fields of a `uffd_writeprotect` step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UffdWriteprotect {
    /// First page.
    pub at: Spanned<Count>,
    /// Length.
    pub pages: Spanned<Count>,
    /// The right to write is taken, or given back.
    pub protect: bool,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// Fields of an `msync` step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Msync {
    /// First page.
    pub at: Spanned<Count>,
    /// Length.
    pub pages: Spanned<Count>,
    /// How: it waits if nothing is said.
    pub mode: Option<Spanned<String>>,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// Fields of an `fsync` step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fsync {
    /// Name of a file.
    pub file: Spanned<String>,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// Fields of a step that is about a part of a file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRange {
    /// Name of a file.
    pub file: Spanned<String>,
    /// First page in the file.
    pub offset: Spanned<Count>,
    /// Length.
    pub pages: Spanned<Count>,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// Fields of a `fallocate` step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fallocate {
    /// Name of a file.
    pub file: Spanned<String>,
    /// In which way.
    pub mode: Spanned<String>,
    /// First page in the file.
    pub offset: Spanned<Count>,
    /// Length.
    pub pages: Spanned<Count>,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// Fields of a `pwrite` step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pwrite {
    /// Name of a file.
    pub file: Spanned<String>,
    /// First page in the file.
    pub offset: Spanned<Count>,
    /// Length.
    pub pages: Spanned<Count>,
    /// The byte that is written.
    pub value: Option<Spanned<Count>>,
    /// Past the page cache.
    #[serde(default)]
    pub direct: bool,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// Fields of a `drop_caches` step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropCaches {
    /// Which caches.
    pub what: Spanned<String>,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// Fields of an `mremap` step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mremap {
    /// First page.
    pub at: Spanned<Count>,
    /// Length.
    pub pages: Spanned<Count>,
    /// Where it goes; it stays if nothing is said.
    pub to: Option<Spanned<Count>>,
    /// Its new length; as it was if nothing is said.
    pub new_pages: Option<Spanned<Count>>,
    /// `MREMAP_DONTUNMAP`.
    #[serde(default)]
    pub keep: bool,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// Fields of an `mmap` step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mmap {
    /// First page.
    pub at: Spanned<Count>,
    /// Length.
    pub pages: Spanned<Count>,
    /// Rights; read and write if nothing is said.
    pub prot: Option<Spanned<String>>,
    /// `MAP_SHARED` instead of `MAP_PRIVATE`.
    #[serde(default)]
    pub shared: bool,
    /// Name of a memory file; anonymous without.
    pub file: Option<Spanned<String>>,
    /// Where in the file, in pages.
    pub offset: Option<Spanned<Count>>,
    /// `MAP_POPULATE`.
    #[serde(default)]
    pub populate: bool,
    /// `MAP_FIXED_NOREPLACE` instead of `MAP_FIXED`.
    #[serde(default)]
    pub noreplace: bool,
    /// `MAP_NORESERVE`.
    #[serde(default)]
    pub noreserve: bool,
    /// `MAP_LOCKED`.
    #[serde(default)]
    pub locked: bool,
    /// `MAP_GROWSDOWN`
    #[serde(default)]
    pub growsdown: bool,
    /// `MAP_DROPPABLE` instead of `MAP_PRIVATE`.
    #[serde(default)]
    pub droppable: bool,
    /// `MAP_HUGETLB`, and of which size.
    pub hugetlb: Option<Spanned<PageSize>>,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// Fields of a `touch` step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Touch {
    /// First page.
    pub at: Spanned<Count>,
    /// Length.
    pub pages: Spanned<Count>,
    /// Read or write.
    pub access: Access,
    /// Distance between touched pages.
    pub every: Option<Spanned<Count>>,
    /// The byte that is written, or that is to be read.
    pub value: Option<Spanned<Count>>,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// Fields of a `device` step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// First page.
    pub at: Spanned<Count>,
    /// Length.
    pub pages: Spanned<Count>,
    /// Read or write.
    pub access: Access,
    /// The byte that is written, or that is to be read.
    pub value: Option<Spanned<Count>>,
    /// Whose memory it is, gone or not; the actor's that does it if nothing is said.
    pub of: Option<Spanned<String>>,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// Fields of a `vm` step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vm {
    /// First page.
    pub at: Spanned<Count>,
    /// Length.
    pub pages: Spanned<Count>,
    /// Read or write.
    pub access: Access,
    /// The byte that is written, or that is to be read.
    pub value: Option<Spanned<Count>>,
    /// Whose machine it is; the subject's if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// How a page is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Its first byte is read.
    Read,
    /// Its first byte is written.
    Write,
}

/// Fields of a `munmap` step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Munmap {
    /// First page.
    pub at: Spanned<Count>,
    /// Length.
    pub pages: Spanned<Count>,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// Fields of an `mprotect` step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mprotect {
    /// First page.
    pub at: Spanned<Count>,
    /// Length.
    pub pages: Spanned<Count>,
    /// The new rights.
    pub prot: Spanned<String>,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// Fields of a `madvise` step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Madvise {
    /// First page.
    pub at: Spanned<Count>,
    /// Length.
    pub pages: Spanned<Count>,
    /// Which advice.
    pub advice: Spanned<Advice>,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// Fields of a `reclaim` step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reclaim {
    /// How many pages to ask for.
    pub pages: Spanned<Count>,
    /// Who does it; the subject if nothing is said.
    pub by: Option<Spanned<String>>,
}

/// A number of pages, or of a page; or what stands there instead.
///
/// What is no number is taken too, and refused later: only then is its place known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Count {
    /// A number.
    Pages(u64),
    /// What comes to one in each round of a `repeat`.
    Expression(String),
    /// Something else, for a message.
    Wrong(String),
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Count, D::Error> {
        Ok(match from.deserialize_any(ScalarVisitor)? {
            Scalar::Unsigned(number) => Count::Pages(number),
            Scalar::Text(text) if text.contains('$') => Count::Expression(text),
            // Without its quotes it would have been a number.
            Scalar::Text(text) if text.parse::<u64>().is_ok() => {
                Count::Wrong(format!("the text \"{text}\": a number has no quotes"))
            }
            Scalar::Text(text) | Scalar::Literal(text) => Count::Wrong(format!("`{text}`")),
            Scalar::Other(what) => Count::Wrong(what.to_owned()),
        })
    }
}

/// Advice by name, or by number where the number has no name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advice {
    /// As in `MADV_DONTNEED`, in lower case.
    Name(String),
    /// As it goes to the system call.
    Number(i32),
}

impl<'de> Deserialize<'de> for Advice {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Advice, D::Error> {
        let text = match from.deserialize_any(ScalarVisitor)? {
            Scalar::Unsigned(number) => number.to_string(),
            Scalar::Text(text) | Scalar::Literal(text) => text,
            Scalar::Other(what) => what.to_owned(),
        };
        Ok(text.parse().map_or(Advice::Name(text), Advice::Number))
    }
}

/// A size of hugetlb's pages, by its name; `true` is the usual one.
#[derive(Clone, Debug)]
pub struct PageSize(pub String);

impl<'de> Deserialize<'de> for PageSize {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<PageSize, D::Error> {
        Ok(PageSize(match from.deserialize_any(ScalarVisitor)? {
            Scalar::Literal(text) if text == "true" => "2M".to_owned(),
            Scalar::Unsigned(number) => number.to_string(),
            Scalar::Text(text) | Scalar::Literal(text) => text,
            Scalar::Other(what) => what.to_owned(),
        }))
    }
}

/// What stands where a number may stand.
enum Scalar {
    Unsigned(u64),
    /// A text.
    Text(String),
    /// A number or truth value of another kind.
    Literal(String),
    /// In words.
    Other(&'static str),
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a number")
    }

    fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
        Ok(u64::try_from(value)
            .map_or_else(|_| Scalar::Literal(value.to_string()), Scalar::Unsigned))
    }

    fn visit_u128<E>(self, _: u128) -> Result<Scalar, E> {
        Ok(Scalar::Other(TOO_LONG))
    }

    fn visit_i128<E>(self, _: i128) -> Result<Scalar, E> {
        Ok(Scalar::Other(TOO_LONG))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
        // Whole numbers that are too long come as floating point too, rounded.
        Ok(match value.fract() == 0.0 {
            true if value.abs() > u64::MAX as f64 => Scalar::Other(TOO_LONG),
            true => Scalar::Literal(format!("{value:e}")),
            false => Scalar::Literal(value.to_string()),
        })
    }

    fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar::Literal(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Other("nothing"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Scalar, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other("a map"))
    }
}

const TOO_LONG: &str = "a number of more than 64 bits";

/// Reads the text of a file.
///
/// # Errors
/// It is not YAML, or not of this shape: the message and where, counted from 1.
pub fn parse(text: &str) -> Result<ScenarioFile, (String, Location)> {
    serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet();
        let at = error.location().unwrap_or(Location::UNKNOWN);
        let mut message = error.to_string();
        // The place is told apart from the message, once.
        if let Some(end) = message.rfind(" at line ") {
            message.truncate(end);
        }
        (message, at)
    })
}
