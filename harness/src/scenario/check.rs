// SPDX-License-Identifier: GPL-2.0-only
//! From what is written to what is meant: the last place where input can be wrong.

use super::actors::Cast;
use super::checked::{KnownFinding, Scenario, Written};
use super::checker::{Checked, Checker};
use super::errors::{InputError, did_you_mean};
use super::file::{self, Access, Advice, Count, ScenarioFile};
use super::names;
use super::naming;
use super::repeat::Unrolled;
use super::requirement::Requirement;
use libc::c_int;
use operations::{
    ARENA_PAGES, Extent, HugePages, MAP_DROPPABLE, MOST_RANGES, MOVED_PAGES, MPOL_MF_MOVE,
    MPOL_MF_MOVE_ALL, MPOL_MF_STRICT, MemoryFile, Op, PAGE_SIZE, Program, Step, Storage,
};
use serde_saphyr::{Location, Spanned};
use std::path::Path;

/// Highest offset in a file, in pages, whose byte still is an `off_t`.
const OFFSET_PAGES: u64 = i64::MAX as u64 / PAGE_SIZE;

/// The most pages that a device accesses in a step: each takes it a tenth of a second.
const DEVICE_PAGES: u64 = 64;

/// The most files: each is a descriptor that the agent and every actor have open.
const MOST_FILES: usize = 1000;

/// Reads and checks the text of a scenario.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn check(path: &Path, text: &str) -> Result<Scenario, InputError> {
    let lines = text.lines().collect();
    let rounds = Default::default();
    let checker = Checker {
        path,
        text,
        lines,
        rounds,
    };
    if text.trim().is_empty() {
        return Err(InputError::whole(path, "the file is empty")
            .with_hint(Some("a scenario has `about:` and `steps:`".to_owned())));
    }
    let file = file::parse(text).map_err(|(message, at)| checker.error(at, message))?;
    checker.scenario(file)
}

impl Checker<'_> {
    fn scenario(&self, file: ScenarioFile) -> Checked<Scenario> {
        if file.about.value.trim().is_empty() {
            return Err(self.error(file.about.referenced, "`about` says nothing"));
        }
        if file.steps.value.is_empty() {
            return Err(self.error(file.steps.referenced, "`steps` has no step"));
        }
        if let Some((_, file)) = file.files.iter().nth(MOST_FILES) {
            let message = format!("too many files: a scenario has at most {MOST_FILES}");
            return Err(self.error(file.referenced, message));
        }
        if let Some(varies) = file.varies.as_ref().filter(|it| it.value.trim().is_empty()) {
            return Err(self.error(varies.referenced, "`varies` says why"));
        }
        let mut requires = self.requirements(file.requires)?;
        let finding = file
            .finding
            .map(|finding| self.finding(finding))
            .transpose()?;
        let files = file.files.into_iter().map(|(name, file)| {
            self.good_name(&name, file.referenced)?;
            Ok((name, self.memory_file(file.value)?))
        });
        let files = files.collect::<Checked<Vec<_>>>()?;
        for (_, file) in files.iter().filter(|(_, file)| file.on != Storage::Memory) {
            let disk = Requirement::Feature(file.on.name().to_owned());
            if !requires.contains(&disk) {
                requires.push(disk);
            }
        }
        let mut cast = self.cast(file.actors)?;
        let thp = file.thp.map(|thp| self.thp(&thp)).transpose()?;
        let mut made = Unrolled {
            files: &files,
            cast: &mut cast,
            steps: Vec::new(),
            written: Vec::new(),
            rounds: Vec::new(),
            groups: Vec::new(),
        };
        self.steps(&file.steps.value, &mut made)?;
        let Unrolled {
            steps,
            written,
            rounds,
            groups,
            ..
        } = made;
        let (names, files) = files.into_iter().unzip();
        self.all_act(&cast)?;
        let max_map_count = file.max_map_count.as_ref();
        let max_map_count = max_map_count
            .map(|limit| self.max_map_count(limit, &cast, &steps))
            .transpose()?;
        Ok(Scenario {
            path: self.path.to_owned(),
            name: naming::of(self.path),
            about: file
                .about
                .value
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" "),
            requires,
            finding,
            // Steps that are begun together are done in no order.
            varies: file.varies.is_some() || !groups.is_empty(),
            program: Program {
                files,
                actors: cast.actors,
                steps,
                thp: thp.unwrap_or_default(),
                max_map_count,
                groups,
            },
            files: names,
            actors: cast.names,
            mms: cast.mms,
            written,
            rounds,
        })
    }

    fn finding(&self, finding: file::Documented) -> Checked<KnownFinding> {
        let beside = Path::new(&finding.page.value).file_name()
            == Some(std::ffi::OsStr::new(&finding.page.value));
        let page = self.path.with_file_name(&finding.page.value);
        if !beside || !page.is_file() {
            let message = format!(
                "there is no page {} beside the scenario",
                finding.page.value
            );
            return Err(self.error(finding.page.referenced, message));
        }
        if finding.kernels.value.is_empty() {
            let message = "`kernels` names no kernel";
            return Err(self.error(finding.kernels.referenced, message));
        }
        Ok(KnownFinding {
            page,
            kernels: finding.kernels.value,
        })
    }

    fn requirements(&self, words: Vec<Spanned<String>>) -> Checked<Vec<Requirement>> {
        let check = |word: Spanned<String>| match Requirement::parse(&word.value) {
            Some(requirement) => Ok(requirement),
            None if word.value.starts_with("CONFIG_") || word.value.starts_with("kernel") => {
                let message = format!("`{}` is no requirement", word.value);
                let hint = "such as CONFIG_KSM, kernel>=6.12 or kernel<7.2";
                Err(self
                    .error(word.referenced, message)
                    .with_hint(Some(hint.to_owned())))
            }
            None => {
                self.named("feature", names::FEATURES, &word)?;
                Ok(Requirement::Feature(word.value))
            }
        };
        words.into_iter().map(check).collect()
    }

    fn memory_file(&self, file: file::MemoryFile) -> Checked<MemoryFile> {
        let on = match &file.on {
            Some(on) => self.named("file system", names::STORAGE, on)?,
            None => Storage::Memory,
        };
        if let Some(seal) = file.seals.first().filter(|_| on != Storage::Memory) {
            let message = "only a file in memory can be sealed";
            return Err(self.error(seal.referenced, message));
        }
        let mut seals = 0;
        for seal in &file.seals {
            seals |= self.named("seal", names::SEALS, seal)?;
        }
        let pages = self.at_most(&file.pages, ARENA_PAGES, "the arena has")?;
        let hugetlb = self.page_size(file.hugetlb.as_ref())?;
        if let Some(size) = hugetlb {
            self.fits(&file, pages, size)?;
        }
        Ok(MemoryFile {
            pages,
            filled: file.filled,
            read_only: file.read_only,
            seals: seals as u32,
            on,
            hugetlb,
        })
    }

    /// A file of hugetlb has whole pages, and of them no more than there are.
    fn fits(&self, file: &file::MemoryFile, pages: u64, size: HugePages) -> Checked<()> {
        let own = size.pages();
        let message = if file.on.is_some() {
            "a file of hugetlb's pages is kept in memory alone".to_owned()
        } else if !pages.is_multiple_of(own) {
            format!("a file of hugetlb's pages has a multiple of {own} pages")
        } else if file.filled && pages / own > size.pool() {
            format!(
                "hugetlb's pool has {} pages, and this fills {}",
                size.pool(),
                pages / own
            )
        } else {
            return Ok(());
        };
        Err(self.error(file.pages.referenced, message))
    }

    fn page_size(&self, size: Option<&Spanned<file::PageSize>>) -> Checked<Option<HugePages>> {
        let look_up = |size: &Spanned<file::PageSize>| {
            let name = &size.value.0;
            self.look_up("size of pages", names::HUGE_PAGES, name, size.referenced)
        };
        size.map(look_up).transpose()
    }

    pub(super) fn step(
        &self,
        step: Spanned<file::Written>,
        files: &[(String, MemoryFile)],
        cast: &mut Cast,
    ) -> Checked<(Step, Written)> {
        let line = step.referenced.line() as usize;
        let source = self.lines.get(line.saturating_sub(1)).unwrap_or(&"");
        let by = self.acting(step.value.0.by(), step.referenced, cast)?;
        let op = self.op(step.value.0, files, (by, step.referenced), cast)?;
        self.acted(by, &op, step.referenced, cast)?;
        let written = Written {
            line,
            source: self.in_this_round(source.trim().to_owned()),
        };
        Ok((Step { by, op }, written))
    }

    fn op(
        &self,
        step: file::Step,
        files: &[(String, MemoryFile)],
        (by, place): (usize, Location),
        cast: &mut Cast,
    ) -> Checked<Op> {
        Ok(match step {
            file::Step::Mmap(step) => self.mmap(step, files)?,
            file::Step::Touch(step) => self.touch(step)?,
            file::Step::Vm(step) => {
                let (at, pages) = self.extent(&step.at, &step.pages)?;
                Op::Vm {
                    at,
                    pages,
                    write: step.access == Access::Write,
                    value: self.value(step.value.as_ref())?,
                }
            }
            file::Step::Device(step) => self.device(step, by, cast)?,
            file::Step::Munmap(step) => {
                let (at, pages) = self.extent(&step.at, &step.pages)?;
                Op::Munmap { at, pages }
            }
            file::Step::Mprotect(step) => {
                let (at, pages) = self.extent(&step.at, &step.pages)?;
                Op::Mprotect {
                    at,
                    pages,
                    prot: self.named("protection", names::PROTS, &step.prot)?,
                }
            }
            file::Step::Madvise(step) => {
                let (at, pages) = self.extent(&step.at, &step.pages)?;
                Op::Madvise {
                    at,
                    pages,
                    advice: self.advice(&step.advice)?,
                }
            }
            file::Step::Reclaim(step) => Op::Reclaim {
                pages: self.at_most(&step.pages, ARENA_PAGES, "the arena has")?,
            },
            file::Step::Fork(step) => self.fork(&step, cast)?,
            file::Step::Exit(_) => Op::Exit,
            file::Step::Exec(_) => Op::Exec { mm: cast.exec(by) },
            file::Step::Run(_) => Op::Run,
            file::Step::Ksm(step) => self.ksm(&step)?,
            file::Step::MovePages(step) => self.move_pages(&step, by, cast)?,
            file::Step::Mbind(step) => self.mbind(&step)?,
            file::Step::MigratePages(step) => Op::MigratePages {
                of: self.target_or(step.of.as_ref(), by, cast)?,
                from: self.node(&step.from)?,
                to: self.node(&step.to)?,
            },
            file::Step::Compact(_) => Op::Compact,
            file::Step::Mremap(step) => self.mremap(&step)?,
            file::Step::Ftruncate(step) => Op::Ftruncate {
                file: self.file(&step.file, files)?,
                pages: self.at_most(&step.pages, ARENA_PAGES, "the arena has")?,
            },
            file::Step::PunchHole(step) => Op::PunchHole {
                file: self.file(&step.file, files)?,
                offset: self.at_most(&step.offset, ARENA_PAGES, "the arena has")?,
                pages: self.at_most(&step.pages, ARENA_PAGES, "the arena has")?,
            },
            file::Step::UffdRegister(step) => {
                let (at, pages) = self.extent(&step.at, &step.pages)?;
                let mode = step.mode.as_ref();
                let mode = mode.map(|mode| self.named("mode", names::UFFD_MODES, mode));
                Op::UffdRegister {
                    at,
                    pages,
                    mode: mode.unwrap_or(Ok(names::UFFD_MODES[0].1))?,
                }
            }
            file::Step::UffdUnregister(step) => {
                let (at, pages) = self.extent(&step.at, &step.pages)?;
                Op::UffdUnregister { at, pages }
            }
            file::Step::UffdZeropage(step) => {
                let (at, pages) = self.extent(&step.at, &step.pages)?;
                Op::UffdZeropage { at, pages }
            }
            file::Step::UffdContinue(step) => {
                let (at, pages) = self.extent(&step.at, &step.pages)?;
                Op::UffdContinue { at, pages }
            }
            file::Step::UffdCopy(step) => {
                let (at, pages) = self.extent(&step.at, &step.pages)?;
                Op::UffdCopy {
                    at,
                    pages,
                    value: self.value(step.value.as_ref())?,
                    hugetlb: self.page_size(step.hugetlb.as_ref())?,
                }
            }
            file::Step::UffdWriteprotect(step) => {
                let (at, pages) = self.extent(&step.at, &step.pages)?;
                Op::UffdWriteprotect {
                    at,
                    pages,
                    protect: step.protect,
                }
            }
            file::Step::UffdMove(step) => {
                let (at, pages) = self.extent(&step.at, &step.pages)?;
                let (to, _) = self.extent(&step.to, &step.pages)?;
                Op::UffdMove {
                    at,
                    pages,
                    to,
                    holes: step.holes,
                }
            }
            file::Step::Msync(step) => {
                let (at, pages) = self.extent(&step.at, &step.pages)?;
                let mode = step.mode.as_ref();
                let flags = mode.map(|mode| self.named("mode", names::MSYNC, mode));
                Op::Msync {
                    at,
                    pages,
                    flags: flags.unwrap_or(Ok(libc::MS_SYNC))?,
                }
            }
            file::Step::Fsync(step) => Op::Fsync {
                file: self.file(&step.file, files)?,
            },
            file::Step::SyncFileRange(step) => {
                let (file, offset, pages) = self.file_range(&step, files)?;
                Op::SyncFileRange {
                    file,
                    offset,
                    pages,
                }
            }
            file::Step::Pread(step) => {
                let (file, offset, pages) = self.file_range(&step, files)?;
                Op::Pread {
                    file,
                    offset,
                    pages,
                }
            }
            file::Step::Fallocate(step) => Op::Fallocate {
                file: self.file(&step.file, files)?,
                mode: self.named("mode", names::FALLOCATE, &step.mode)?,
                offset: self.at_most(&step.offset, ARENA_PAGES, "the arena has")?,
                pages: self.at_most(&step.pages, ARENA_PAGES, "the arena has")?,
            },
            file::Step::Pwrite(step) => Op::Pwrite {
                file: self.file(&step.file, files)?,
                offset: self.at_most(&step.offset, ARENA_PAGES, "the arena has")?,
                pages: self.at_most(&step.pages, ARENA_PAGES, "the arena has")?,
                value: self.value(step.value.as_ref())?,
                direct: step.direct,
            },
            file::Step::DropCaches(step) => Op::DropCaches {
                what: self.named("caches", names::CACHES, &step.what)? as u8,
            },
            file::Step::Plain(what, step) => {
                let file = match &step.file {
                    Some(file) => self.file(file, files)?,
                    None => 0,
                };
                self.plain(what, (&step, file), (by, place), cast)?
            }
            file::Step::ProcessMadvise(step) => Op::ProcessMadvise {
                of: self.target(&step.of, cast)?,
                ranges: self.ranges(&step)?,
                advice: self.advice(&step.advice)?,
            },
            file::Step::Repeat(_) | file::Step::Together(_) => {
                unreachable!("made of operations, and none itself")
            }
        })
    }

    fn file_range(
        &self,
        step: &file::FileRange,
        files: &[(String, MemoryFile)],
    ) -> Checked<(usize, u64, u64)> {
        Ok((
            self.file(&step.file, files)?,
            self.at_most(&step.offset, ARENA_PAGES, "the arena has")?,
            self.at_most(&step.pages, ARENA_PAGES, "the arena has")?,
        ))
    }

    fn mmap(&self, step: file::Mmap, files: &[(String, MemoryFile)]) -> Checked<Op> {
        let (at, pages) = self.extent(&step.at, &step.pages)?;
        let prot = match &step.prot {
            Some(prot) => self.named("protection", names::PROTS, prot)?,
            None => names::DEFAULT_PROT,
        };
        let offset = match &step.offset {
            Some(offset) if step.file.is_none() => {
                return Err(self.error(offset.referenced, "`offset` means nothing without `file`"));
            }
            Some(offset) => self.at_most(offset, OFFSET_PAGES, "an offset has at most")?,
            None => 0,
        };
        let file = step
            .file
            .as_ref()
            .map(|name| self.file(name, files))
            .transpose()?;
        Ok(Op::Mmap {
            at,
            pages,
            prot,
            flags: mmap_flags(&step)
                | self
                    .page_size(step.hugetlb.as_ref())?
                    .map_or(0, HugePages::flags),
            file,
            offset,
        })
    }

    fn mremap(&self, step: &file::Mremap) -> Checked<Op> {
        let (at, pages) = self.extent(&step.at, &step.pages)?;
        let new_pages = step.new_pages.as_ref().unwrap_or(&step.pages);
        let (to, new_pages) = self.extent(step.to.as_ref().unwrap_or(&step.at), new_pages)?;
        Ok(Op::Mremap {
            at,
            pages,
            to: step.to.as_ref().map(|_| to),
            new_pages,
            keep: step.keep,
        })
    }

    /// One range, or a vector of them.
    fn ranges(&self, step: &file::ProcessMadvise) -> Checked<Vec<Extent>> {
        let of = |at: &Spanned<Count>, pages: &Spanned<Count>| {
            let (at, pages) = self.extent(at, pages)?;
            Ok(Extent { at, pages })
        };
        match (&step.at, &step.pages, &step.ranges) {
            (Some(at), Some(pages), None) => Ok(vec![of(at, pages)?]),
            (None, None, Some(ranges)) => {
                let number = ranges.value.len();
                if !(1..=MOST_RANGES).contains(&number) {
                    let message = format!("`ranges` has 1 to {MOST_RANGES} of them, not {number}");
                    return Err(self.error(ranges.referenced, message));
                }
                let ranges = ranges.value.iter();
                ranges
                    .map(|range| of(&range.value.at, &range.value.pages))
                    .collect()
            }
            _ => {
                let message = "`process_madvise` takes either `at` and `pages`, or `ranges`";
                Err(self.error(step.of.referenced, message))
            }
        }
    }

    fn touch(&self, step: file::Touch) -> Checked<Op> {
        let (at, pages) = self.extent(&step.at, &step.pages)?;
        let every = match &step.every {
            Some(every) => self.at_most(every, ARENA_PAGES, "the arena has")?,
            None => 1,
        };
        if let Some(every) = step.every.as_ref().filter(|_| every == 0) {
            return Err(self.error(every.referenced, "`every` is at least 1"));
        }
        Ok(Op::Touch {
            at,
            pages,
            every,
            write: step.access == Access::Write,
            value: self.value(step.value.as_ref())?,
        })
    }

    fn device(&self, step: file::Device, by: usize, cast: &mut Cast) -> Checked<Op> {
        let (at, pages) = self.extent(&step.at, &step.pages)?;
        if pages == 0 || pages > DEVICE_PAGES {
            let message =
                format!("a device accesses 1 to {DEVICE_PAGES} pages in a step, not {pages}");
            return Err(self.error(step.pages.referenced, message));
        }
        let of = self.target_or(step.of.as_ref(), by, cast)?;
        Ok(Op::Device {
            mm: cast.mm_of(of),
            at,
            pages,
            write: step.access == Access::Write,
            value: self.value(step.value.as_ref())?,
        })
    }

    fn ksm(&self, step: &file::Ksm) -> Checked<Op> {
        let unmerge = step.unmerge.as_ref().filter(|unmerge| unmerge.value);
        if let Some(unmerge) = unmerge.filter(|_| step.zero_pages) {
            let message = "`unmerge` merges nothing, so `zero_pages` says nothing of it";
            return Err(self.error(unmerge.referenced, message));
        }
        Ok(Op::Ksm {
            zero_pages: step.zero_pages,
            unmerge: unmerge.is_some(),
        })
    }

    fn move_pages(&self, step: &file::MovePages, by: usize, cast: &mut Cast) -> Checked<Op> {
        let (at, pages) = self.extent(&step.at, &step.pages)?;
        if pages > MOVED_PAGES {
            let message = format!("one call moves {MOVED_PAGES} pages at the most, not {pages}");
            return Err(self.error(step.pages.referenced, message));
        }
        Ok(Op::MovePages {
            of: self.target_or(step.of.as_ref(), by, cast)?,
            at,
            pages,
            node: self.node(&step.node)?,
            all: step.all,
        })
    }

    fn mbind(&self, step: &file::Mbind) -> Checked<Op> {
        let (at, pages) = self.extent(&step.at, &step.pages)?;
        let node = step.node.as_ref().map(|node| self.node(node)).transpose()?;
        let flags = [
            (step.moves, MPOL_MF_MOVE),
            (step.all, MPOL_MF_MOVE_ALL),
            (step.strict, MPOL_MF_STRICT),
        ];
        let flags = flags.iter().filter(|flag| flag.0);
        Ok(Op::Mbind {
            at,
            pages,
            policy: self.named("policy", names::POLICIES, &step.policy)?,
            nodes: node.map_or(0, |node| 1 << node),
            flags: flags.fold(0, |all, flag| all | flag.1),
        })
    }

    /// Any number that a mask of nodes has room for: what there is none of is refused by Linux.
    fn node(&self, node: &Spanned<Count>) -> Checked<u32> {
        let number = self.count(node)?;
        let small = u32::try_from(number).ok().filter(|node| *node < 64);
        small.ok_or_else(|| self.error(node.referenced, "a node is a number from 0 to 63"))
    }

    /// Whom a step acts on: its own actor if nothing is said.
    fn target_or(
        &self,
        of: Option<&Spanned<String>>,
        by: usize,
        cast: &mut Cast,
    ) -> Checked<usize> {
        of.map_or(Ok(by), |of| self.target(of, cast))
    }

    /// A byte.
    fn value(&self, value: Option<&Spanned<Count>>) -> Checked<Option<u8>> {
        let Some(value) = value else {
            return Ok(None);
        };
        let byte = match value.value {
            Count::Pages(_) | Count::Expression(_) => {
                u8::try_from(self.number(value, "a byte")?).ok()
            }
            Count::Wrong(_) => None,
        };
        byte.map(Some)
            .ok_or_else(|| self.error(value.referenced, "`value` is a byte, from 0 to 255"))
    }

    fn extent(&self, at: &Spanned<Count>, pages: &Spanned<Count>) -> Checked<(u64, u64)> {
        let first = self.at_most(at, ARENA_PAGES, "the arena has")?;
        let length = self.count(pages)?;
        match first.checked_add(length) {
            Some(end) if end <= ARENA_PAGES => Ok((first, length)),
            _ => Err(self.error(
                pages.referenced,
                format!(
                    "{length} pages from page {first} reach outside the arena, which has {ARENA_PAGES}"
                ),
            )),
        }
    }

    fn advice(&self, advice: &Spanned<Advice>) -> Checked<c_int> {
        match &advice.value {
            Advice::Number(number) => Ok(*number),
            Advice::Name(name) => self.look_up("advice", names::ADVICE, name, advice.referenced),
        }
    }

    fn file(&self, name: &Spanned<String>, files: &[(String, MemoryFile)]) -> Checked<usize> {
        let place = files.iter().position(|file| file.0 == name.value);
        place.ok_or_else(|| {
            let hint = did_you_mean(&name.value, files.iter().map(|file| file.0.as_str()));
            let message = format!("no file `{}` under `files`", name.value);
            self.error(name.referenced, message).with_hint(hint)
        })
    }
}

fn mmap_flags(step: &file::Mmap) -> c_int {
    let chosen = [
        (
            true,
            if step.shared {
                libc::MAP_SHARED
            } else if step.droppable {
                MAP_DROPPABLE
            } else {
                libc::MAP_PRIVATE
            },
        ),
        (
            true,
            if step.noreplace {
                libc::MAP_FIXED_NOREPLACE
            } else {
                libc::MAP_FIXED
            },
        ),
        (step.file.is_none(), libc::MAP_ANONYMOUS),
        (step.populate, libc::MAP_POPULATE),
        (step.noreserve, libc::MAP_NORESERVE),
        (step.locked, libc::MAP_LOCKED),
        (step.growsdown, libc::MAP_GROWSDOWN),
    ];
    chosen
        .iter()
        .filter(|flag| flag.0)
        .fold(0, |flags, flag| flags | flag.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_op(step: &str) -> Op {
        let text = format!("about: x\nfiles:\n  a: {{ pages: 4 }}\nsteps:\n  - {step}\n");
        check(Path::new("t.yaml"), &text)
            .expect("a good scenario")
            .program
            .steps[0]
            .op
            .clone()
    }

    fn refusal(step: &str) -> String {
        let text = format!("about: x\nsteps:\n  - {step}\n");
        check(Path::new("t.yaml"), &text)
            .expect_err("a bad scenario")
            .to_string()
    }

    #[test]
    fn what_is_not_said_is_private_anonymous_and_read_write() {
        let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_ANONYMOUS;
        assert_eq!(
            first_op("mmap: { at: 1, pages: 16 }"),
            Op::Mmap {
                at: 1,
                pages: 16,
                prot: 3,
                flags,
                file: None,
                offset: 0
            }
        );
    }

    #[test]
    fn files_are_named_and_advice_may_be_a_number() {
        let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE | libc::MAP_POPULATE;
        assert_eq!(
            first_op(
                "mmap: { at: 0, pages: 2, file: a, offset: 1, shared: true, prot: r, populate: true, noreplace: true }"
            ),
            Op::Mmap {
                at: 0,
                pages: 2,
                prot: 1,
                flags,
                file: Some(0),
                offset: 1
            }
        );
        assert_eq!(
            first_op("madvise: { at: 0, pages: 2, advice: 77 }"),
            Op::Madvise {
                at: 0,
                pages: 2,
                advice: 77
            }
        );
    }

    #[test]
    fn nodes_are_numbers_that_fit_a_mask() {
        let of = 0;
        assert_eq!(
            first_op("move_pages: { at: 0, pages: 2, node: 1, all: true }"),
            Op::MovePages {
                of,
                at: 0,
                pages: 2,
                node: 1,
                all: true
            }
        );
        assert_eq!(
            first_op("mbind: { at: 0, pages: 2, policy: bind, node: 1, move: true }"),
            Op::Mbind {
                at: 0,
                pages: 2,
                policy: 2,
                nodes: 2,
                flags: 2
            }
        );
        let refused = refusal("migrate_pages: { from: 0, to: 64 }");
        assert!(refused.contains("from 0 to 63"), "{refused}");
        let refused = refusal("move_pages: { at: 0, pages: 1025, node: 1 }");
        assert!(refused.contains("1024 pages at the most"), "{refused}");
        let refused = refusal("mbind: { at: 0, pages: 1, policy: bond }");
        assert!(refused.contains("`bind`"), "{refused}");
    }

    #[test]
    fn ksm_merges_or_parts() {
        let ksm = |zero_pages, unmerge| Op::Ksm {
            zero_pages,
            unmerge,
        };
        assert_eq!(first_op("ksm"), ksm(false, false));
        assert_eq!(first_op("ksm: { zero_pages: true }"), ksm(true, false));
        assert_eq!(first_op("ksm: { unmerge: true }"), ksm(false, true));
        let refused = refusal("ksm: { unmerge: true, zero_pages: true }");
        assert!(refused.contains("merges nothing"), "{refused}");
    }

    #[test]
    fn a_step_keeps_its_line() {
        let text = "about: >\n  two\n  lines\n\nsteps:\n  # a comment\n  - munmap:\n      at: 0\n      pages: 1\n";
        let scenario = check(Path::new("t.yaml"), text).expect("a good scenario");
        assert_eq!(
            (
                scenario.written[0].line,
                scenario.written[0].source.as_str()
            ),
            (7, "- munmap:")
        );
        assert_eq!(scenario.about, "two lines");
    }

    #[test]
    fn the_arena_has_an_end() {
        first_op("munmap: { at: 1048576, pages: 0 }");
        first_op("munmap: { at: 0, pages: 1048576 }");
        assert!(refusal("munmap: { at: 1, pages: 1048576 }").contains("outside the arena"));
        assert!(refusal("munmap: { at: 1048577, pages: 0 }").contains("too large"));
        assert!(
            refusal("munmap: { at: 18446744073709551615, pages: 18446744073709551615 }")
                .contains("too large")
        );
    }
}
