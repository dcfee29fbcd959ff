// SPDX-License-Identifier: GPL-2.0-only
//! A kernel that a developer configured and built himself: its image, the directory that
//! it was built in, and whether the two belong together. Nothing of it is ever written.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::error::VmError;
use crate::keys::Key;
use crate::provision::kbuild;
use crate::tree::Tree;

/// Where a build directory says what is compiled in.
const CONFIG: &str = ".config";
/// What that was when it was last built.
const BUILT_CONFIG: &str = "include/config/auto.conf";
/// The symbols that a module may use.
const SYMBOLS: &str = "Module.symvers";
/// What a kernel says of its version beside its release.
const VERSION: &str = "include/generated/utsversion.h";

/// What a module is built against, and the target that makes it.
const NEEDED: &[(&str, &str)] = &[
    (CONFIG, "defconfig"),
    (BUILT_CONFIG, "Image modules"),
    (kbuild::RELEASE, "Image modules"),
    (SYMBOLS, "modules"),
    ("scripts/module.lds", "modules"),
    ("scripts/mod/modpost", "modules"),
];

/// An image and the directory that it was built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnImage {
    image: PathBuf,
    build: PathBuf,
    source: Tree,
}

/// A file as it was when it was last looked at.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stamp {
    path: PathBuf,
    /// In nanoseconds of the epoch.
    modified: u64,
    length: u64,
}

impl OwnImage {
    /// Finds out what belongs to it.
    pub(crate) fn open(image: &Path, build: &Path) -> Result<OwnImage, VmError> {
        let resolve =
            |path: &Path| fs::canonicalize(path).map_err(|error| bad(path, error.to_string()));
        let (image, build) = (resolve(image)?, resolve(build)?);
        for (file, target) in NEEDED {
            if !build.join(file).exists() {
                let why = format!(
                    "no directory that a kernel was built in with its modules: no {file} (`make \
                     ARCH=riscv {target}` makes it)"
                );
                return Err(bad(&build, why));
            }
        }
        let source = Tree::open(&source_of(&build)?)?;
        Ok(OwnImage {
            image,
            build,
            source,
        })
    }

    /// The image's file.
    pub(crate) fn image(&self) -> &Path {
        &self.image
    }

    /// The directory that it was built in.
    pub(crate) fn build(&self) -> &Path {
        &self.build
    }

    /// The source that it was built from.
    pub(crate) fn source(&self) -> &Tree {
        &self.source
    }

    /// Its name in the cache.
    pub(crate) fn slug(&self) -> String {
        slug(&self.image, &self.build)
    }

    /// Its configuration, which has to be what it was built with.
    pub(crate) fn config(&self) -> Result<String, VmError> {
        let (config, built) = (self.read(CONFIG)?, self.read(BUILT_CONFIG)?);
        if let Some(line) = differing(&config, &built) {
            let why = format!(
                "its .config was changed after it was built ({line}): build it again, image and \
                 modules"
            );
            return Err(bad(&self.build, why));
        }
        if !config.lines().any(|line| line == "CONFIG_RISCV=y") {
            return Err(bad(&self.build, "its .config is not of riscv".to_owned()));
        }
        Ok(config)
    }

    /// The image's bytes, if it is one that can be booted, and of this build.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>, VmError> {
        let bytes = fs::read(&self.image).map_err(VmError::io("read", &self.image))?;
        check_format(&bytes).map_err(|why| bad(&self.image, why))?;
        let release = kbuild::release(&self.build)?;
        let version = fs::read_to_string(self.build.join(VERSION)).ok();
        let version = version.as_deref().and_then(uts_version);
        together(&banners(&bytes), &release, version).map_err(|what| {
            let why = format!(
                "it and {} do not belong together: {what}; give the image that was last built \
                 there, or build it again, image and modules",
                self.build.display()
            );
            bad(&self.image, why)
        })?;
        Ok(bytes)
    }

    /// The symbols' file.
    pub(crate) fn symbols(&self) -> Result<Vec<u8>, VmError> {
        let path = self.build.join(SYMBOLS);
        fs::read(&path).map_err(VmError::io("read", &path))
    }

    /// How the files that it is made of are now.
    pub(crate) fn stamps(&self) -> Result<Vec<Stamp>, VmError> {
        let build = [CONFIG, BUILT_CONFIG, SYMBOLS, kbuild::RELEASE];
        let files = build.iter().map(|file| self.build.join(file));
        std::iter::once(self.image.clone())
            .chain(files)
            .map(|path| Stamp::of(&path).map_err(VmError::io("look at", &path)))
            .collect()
    }

    /// A file of the source that was edited after the image was built.
    pub(crate) fn edited(&self) -> Option<PathBuf> {
        let built = fs::metadata(&self.image).and_then(|meta| meta.modified());
        self.source.edited_since(built.ok()?)
    }

    fn read(&self, file: &str) -> Result<String, VmError> {
        let path = self.build.join(file);
        fs::read_to_string(&path).map_err(VmError::io("read", &path))
    }
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Stamp> {
        let meta = fs::metadata(path)?;
        let since = meta.modified()?.duration_since(UNIX_EPOCH);
        Ok(Stamp {
            path: path.to_owned(),
            modified: u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX),
            length: meta.len(),
        })
    }

    /// The file, if it is no longer as it was.
    pub(crate) fn changed(&self) -> Option<&Path> {
        let now = Stamp::of(&self.path);
        (now.ok().as_ref() != Some(self)).then_some(&self.path)
    }
}

/// The name in the cache of an image and its build directory.
pub(crate) fn slug(image: &Path, build: &Path) -> String {
    let key = Key::new("own image")
        .field(image.as_os_str().as_encoded_bytes())
        .field(build.as_os_str().as_encoded_bytes());
    format!("image-{}", key.finish())
}

fn bad(path: &Path, why: String) -> VmError {
    VmError::BadTree {
        path: path.to_owned(),
        why,
    }
}

/// With `O=` kbuild links the source; without, it is where it was built.
fn source_of(build: &Path) -> Result<PathBuf, VmError> {
    let is_source = |path: &Path| path.join("arch/riscv/Kconfig").is_file();
    [build.join("source"), build.to_owned()]
        .into_iter()
        .find(|path| is_source(path))
        .ok_or_else(|| {
            let why = "the source that it was built from cannot be found: it is not in there, and \
                       there is no link `source` to it (`ln -s SOURCE source` makes one)";
            bad(build, why.to_owned())
        })
}

/// The first option of two configurations that is set otherwise. In one of them strings may
/// be without their quotes.
fn differing(config: &str, built: &str) -> Option<String> {
    let set = |text: &str| -> BTreeSet<String> {
        let lines = text.lines().filter(|line| line.starts_with("CONFIG_"));
        lines.map(|line| line.replace(['"', '\\'], "")).collect()
    };
    set(config)
        .symmetric_difference(&set(built))
        .next()
        .cloned()
}

/// QEMU puts into memory what it is given, and runs it.
fn check_format(bytes: &[u8]) -> Result<(), String> {
    /// `RISCV_IMAGE_MAGIC2` of arch/riscv/include/asm/image.h, and where it is.
    const MAGIC: (usize, &[u8]) = (56, b"RSC\x05");
    let begins = |with: &[u8]| bytes.starts_with(with);
    let give = "give the file arch/riscv/boot/Image of the build directory";
    if bytes.get(MAGIC.0..MAGIC.0 + MAGIC.1.len()) == Some(MAGIC.1) {
        Ok(())
    } else if begins(b"\x1f\x8b") || begins(b"\x28\xb5\x2f\xfd") || begins(b"\xfd7zXZ") {
        Err(format!(
            "it is compressed, which QEMU does not undo: {give}"
        ))
    } else if begins(b"\x7fELF") {
        Err(format!("it is an ELF file, as vmlinux is: {give}"))
    } else {
        Err(format!("it is no riscv image: {give}"))
    }
}

/// What a kernel says first, `Linux version 7.3.0 (…) (…) #1 SMP …`. An image may have it once
/// more, with neither number nor time.
fn banners(bytes: &[u8]) -> Vec<String> {
    const BEGINS: &[u8] = b"Linux version ";
    let windows = bytes.windows(BEGINS.len()).enumerate();
    let starts = windows.filter(|(_, window)| *window == BEGINS);
    let text = |at: usize| {
        let text = &bytes[at + BEGINS.len()..];
        let end = text.iter().position(|byte| matches!(byte, b'\n' | 0))?;
        Some(String::from_utf8_lossy(&text[..end]).into_owned())
    };
    // The others are formats.
    let is_one = |text: &String| text.starts_with(|c: char| c.is_ascii_digit());
    starts
        .filter_map(|(at, _)| text(at))
        .filter(is_one)
        .collect()
}

/// The text of `#define UTS_VERSION "#1 SMP …"`.
fn uts_version(header: &str) -> Option<&str> {
    let line = header.lines().find(|line| line.contains("UTS_VERSION"))?;
    line.split('"').nth(1)
}

/// Whether what an image says of itself is what its build directory does.
fn together(banners: &[String], release: &str, version: Option<&str>) -> Result<(), String> {
    let says = banners.last().map(|banner| banner.split(' ').next());
    let Some(says) = says.flatten() else {
        return Err("the image says nowhere `Linux version …`".to_owned());
    };
    if says != release {
        return Err(format!(
            "the image is Linux {says}, and the directory's is {release}"
        ));
    }
    let is_of = |version: &str| banners.iter().any(|banner| banner.ends_with(version));
    match version {
        Some(version) if !is_of(version) => {
            let said = banners.iter().filter_map(|banner| banner.split_once('#'));
            let said = said.map(|(_, said)| said).max_by_key(|said| said.len());
            Err(format!(
                "the image is of the build `#{}`, and the directory of `{version}`",
                said.unwrap_or_default()
            ))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const HEADER: &str = "#define UTS_VERSION \"#3 SMP Thu Jan 1\"\n";
    const BANNER: &str = "Linux version 6.12.0-mine (a@b) (gcc 12) #3 SMP Thu Jan 1\n\0";
    const CONFIG_TEXT: &str =
        "CONFIG_RISCV=y\nCONFIG_SMP=y\nCONFIG_LOCALVERSION=\"-mine\"\n# CONFIG_VT is not set\n";

    fn image(banner: &str) -> Vec<u8> {
        let mut bytes = vec![0; 56];
        bytes.extend(b"RSC\x05....%s version %s, Linux version %s\0");
        bytes.extend(banner.as_bytes());
        let (first, _) = banner.split_once('#').unwrap_or_default();
        bytes.extend(format!("{first}# SMP \n\0").as_bytes());
        bytes
    }

    /// A source, the directory that it was built in, and the image.
    pub(crate) struct Fixture {
        folder: tempfile::TempDir,
    }

    impl Fixture {
        pub(crate) fn new() -> Fixture {
            let fixture = Fixture {
                folder: tempfile::tempdir().unwrap(),
            };
            fixture.write("source/Makefile", "VERSION = 6\nPATCHLEVEL = 12\n");
            fixture.write("source/arch/riscv/Kconfig", "");
            fixture.write("source/arch/riscv/mm/tlbflush.c", "");
            for (file, _) in NEEDED {
                fixture.write(&format!("build/{file}"), "");
            }
            fixture.write("build/.config", CONFIG_TEXT);
            let built = CONFIG_TEXT.replace('"', "");
            fixture.write("build/include/config/auto.conf", &built);
            fixture.write("build/include/config/kernel.release", "6.12.0-mine\n");
            fixture.write("build/include/generated/utsversion.h", HEADER);
            let link = fixture.path("build/source");
            std::os::unix::fs::symlink(fixture.path("source"), link).unwrap();
            fs::write(fixture.path("Image"), image(BANNER)).unwrap();
            fixture
        }

        pub(crate) fn path(&self, file: &str) -> PathBuf {
            self.folder.path().join(file)
        }

        pub(crate) fn write(&self, file: &str, text: &str) {
            let path = self.path(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        pub(crate) fn open(&self) -> Result<OwnImage, VmError> {
            OwnImage::open(&self.path("Image"), &self.path("build"))
        }

        fn refusal(&self) -> String {
            let opened = self.open();
            let config = opened.and_then(|own| own.config().map(|_| own));
            let bytes = config.and_then(|own| own.bytes());
            bytes.unwrap_err().to_string()
        }
    }

    #[test]
    fn an_image_and_its_build_directory_are_taken() {
        let fixture = Fixture::new();
        let own = fixture.open().unwrap();
        assert_eq!(own.config().unwrap(), CONFIG_TEXT);
        assert_eq!(own.bytes().unwrap(), image(BANNER));
        assert!(own.source().path().ends_with("source"));
        assert!(own.slug().starts_with("image-"));
    }

    #[test]
    fn a_kernel_may_be_built_in_its_source() {
        let fixture = Fixture::new();
        fs::remove_file(fixture.path("build/source")).unwrap();
        let refused = fixture.refusal();
        assert!(refused.contains("ln -s SOURCE source"), "{refused}");
        fixture.write("build/Makefile", "VERSION = 6\nPATCHLEVEL = 12\n");
        fixture.write("build/arch/riscv/Kconfig", "");
        fixture.write("build/arch/riscv/mm/tlbflush.c", "");
        let own = fixture.open().unwrap();
        assert_eq!(own.source().path(), own.build());
    }

    #[test]
    fn what_was_not_built_is_named_with_what_makes_it() {
        for (file, target) in NEEDED {
            let fixture = Fixture::new();
            fs::remove_file(fixture.path("build").join(file)).unwrap();
            let refused = fixture.refusal();
            assert!(refused.contains(&format!("no {file} (")), "{refused}");
            assert!(refused.contains(target), "{refused}");
        }
    }

    #[test]
    fn an_image_of_another_build_is_refused() {
        let fixture = Fixture::new();
        for (banner, said) in [
            (
                BANNER.replace("6.12.0-mine", "6.12.1"),
                "the image is Linux 6.12.1, and the directory's is 6.12.0-mine",
            ),
            (
                BANNER.replace("#3", "#2"),
                "the build `#2 SMP Thu Jan 1`, and the directory of `#3 SMP Thu Jan 1`",
            ),
        ] {
            fs::write(fixture.path("Image"), image(&banner)).unwrap();
            let refused = fixture.refusal();
            assert!(refused.contains("do not belong together"), "{refused}");
            assert!(refused.contains(said), "{refused}");
        }
    }

    #[test]
    fn an_image_that_says_nothing_of_itself_is_refused() {
        let fixture = Fixture::new();
        fs::write(fixture.path("Image"), &image(BANNER)[..60]).unwrap();
        assert!(fixture.refusal().contains("says nowhere `Linux version"));
    }

    #[test]
    fn a_configuration_that_was_not_built_is_refused() {
        let fixture = Fixture::new();
        fixture.write("build/.config", &format!("{CONFIG_TEXT}CONFIG_KASAN=y\n"));
        let refused = fixture.refusal();
        assert!(refused.contains("(CONFIG_KASAN=y)"), "{refused}");
        let other = CONFIG_TEXT.replace("RISCV", "ARM64");
        fixture.write("build/.config", &other);
        fixture.write("build/include/config/auto.conf", &other);
        assert!(fixture.refusal().contains("not of riscv"));
    }

    #[test]
    fn what_qemu_cannot_boot_is_refused() {
        let fixture = Fixture::new();
        for (bytes, said) in [
            (&b"\x1f\x8b\x08"[..], "compressed"),
            (b"\x28\xb5\x2f\xfd", "compressed"),
            (b"\x7fELF", "ELF"),
            (b"MZ", "no riscv image"),
        ] {
            fs::write(fixture.path("Image"), bytes).unwrap();
            assert!(fixture.refusal().contains(said), "{}", fixture.refusal());
        }
    }

    #[test]
    fn a_file_that_was_written_since_is_named() {
        let fixture = Fixture::new();
        let stamps = fixture.open().unwrap().stamps().unwrap();
        assert!(stamps.iter().all(|stamp| stamp.changed().is_none()));
        fixture.write("build/Module.symvers", "0x0 f vmlinux EXPORT_SYMBOL\n");
        let changed: Vec<_> = stamps.iter().filter_map(Stamp::changed).collect();
        assert_eq!(changed.len(), 1);
        assert!(changed[0].ends_with("Module.symvers"));
    }
}
