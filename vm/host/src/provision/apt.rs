// SPDX-License-Identifier: GPL-2.0-only
//! A private apt: fetches and verifies packages of any Debian suite without
//! root, and without touching what the host's own apt knows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::stage::{DOWNLOAD_LIMIT, QUERY_LIMIT, Stage};
use crate::cache::Cache;
use crate::error::VmError;

/// Names the archive to fetch from, where the host's own is not wanted.
const MIRROR: &str = "TLBDIFF_DEBIAN_MIRROR";

/// Debian 13 renamed it and kept the old name for now.
const KEYRINGS: &[&str] = &[
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];

/// Mirrors hiccup: an index whose size does not match while it is replaced.
const PAUSES: &[u64] = &[0, 3, 10, 30];

/// Other names that a suite has for a while. A mirror keeps the files of each
/// name apart, and one may be whole where the other is half replaced.
const ALIASES: &[&str] = &["stable", "testing", "oldstable"];

/// Whose packages an apt knows. The less it asks for, the less can be amiss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Architectures {
    /// The host's.
    Native,
    /// The host's, and the guest's.
    WithGuest,
    /// The guest's, as if it were the host's: for what is to run there alone.
    Guest,
}

/// The private apt of one suite.
pub(super) struct Apt {
    config: PathBuf,
}

impl Apt {
    /// Sets it up and fetches the suite's index.
    pub(super) fn open(
        cache: &Cache,
        suite: &str,
        architectures: Architectures,
        stage: &mut Stage,
    ) -> Result<Apt, VmError> {
        let dir = cache.dir(match architectures {
            Architectures::Native => format!("apt/{suite}"),
            Architectures::WithGuest => format!("apt/{suite}-riscv64"),
            Architectures::Guest => format!("apt/{suite}-guest"),
        })?;
        for part in ["state/lists/partial", "cache/archives/partial"] {
            cache.dir(dir.join(part))?;
        }
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).map_err(VmError::io("write", &path))
        };
        let keyring = KEYRINGS
            .iter()
            .find(|path| Path::new(path).exists())
            .ok_or_else(|| {
                stage.fail("no keyring of Debian's archive: apt-get install debian-archive-keyring")
            })?;
        let mirror = mirror(stage)?;
        write("status", "")?;
        let network = stage.output(Command::new("apt-config").arg("dump"), QUERY_LIMIT)?;
        write("apt.conf", &config(&dir, architectures, &network))?;
        let apt = Apt {
            config: dir.join("apt.conf"),
        };
        let source = |name: &str| format!("deb [signed-by={keyring}] {mirror} {name} main\n");
        stage.doing(format!("asking {mirror} what {suite} has"));
        write("sources.list", &source(suite))?;
        let result = retry(stage, |stage| apt.update(stage));
        if result.is_ok() {
            return Ok(apt);
        }
        for alias in ALIASES {
            stage.doing(format!("asking {mirror} by the name of {alias}"));
            write("sources.list", &source(alias))?;
            if apt.update(stage).is_ok() && apt.codename(stage)? == suite {
                return Ok(apt);
            }
        }
        result.map(|()| apt)
    }

    fn update(&self, stage: &mut Stage) -> Result<(), VmError> {
        stage.run(&mut self.apt_get("update"), DOWNLOAD_LIMIT)
    }

    /// Which suite its index is of, as the index itself says.
    fn codename(&self, stage: &mut Stage) -> Result<String, VmError> {
        let mut ask = self.apt_get("indextargets");
        ask.args(["--format", "$(CODENAME)", "Identifier: Packages"]);
        let names = stage.output(&mut ask, QUERY_LIMIT)?;
        Ok(names.lines().next().unwrap_or_default().trim().to_owned())
    }

    /// The newest version that the suite has of a package, if it has it.
    pub(super) fn version(
        &self,
        package: &str,
        stage: &mut Stage,
    ) -> Result<Option<String>, VmError> {
        let mut ask = self.apt_cache("policy");
        Ok(candidate_in(&stage.output(ask.arg(package), QUERY_LIMIT)?))
    }

    /// Downloads packages, verified, into a folder; gives their files.
    pub(super) fn download(
        &self,
        packages: &[String],
        into: &Path,
        stage: &mut Stage,
    ) -> Result<Vec<PathBuf>, VmError> {
        retry(stage, |stage| {
            stage.run(
                self.apt_get("download").args(packages).current_dir(into),
                DOWNLOAD_LIMIT,
            )
        })?;
        debs_in(into)
    }

    /// Downloads packages with all that they depend on, verified, into a folder; gives their files.
    pub(super) fn download_all(
        &self,
        packages: &[&str],
        into: &Path,
        stage: &mut Stage,
    ) -> Result<Vec<PathBuf>, VmError> {
        let partial = into.join("partial");
        fs::create_dir_all(&partial).map_err(VmError::io("make", &partial))?;
        let archives = format!("Dir::Cache::archives={}", into.display());
        retry(stage, |stage| {
            let mut command = self.apt_get("install");
            command.args(["--download-only", "--no-install-recommends", "-y", "-o"]);
            stage.run(command.arg(&archives).args(packages), DOWNLOAD_LIMIT)
        })?;
        debs_in(into)
    }

    fn apt_get(&self, what: &str) -> Command {
        self.command("apt-get", what)
    }

    fn apt_cache(&self, what: &str) -> Command {
        self.command("apt-cache", what)
    }

    fn command(&self, program: &str, what: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", &self.config)
            .env("LC_ALL", "C")
            .args(["-q", what]);
        command
    }
}

/// The packages in a folder, by name.
fn debs_in(folder: &Path) -> Result<Vec<PathBuf>, VmError> {
    let files = crate::cache::list(folder)?.into_iter();
    let mut debs: Vec<PathBuf> = files
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "deb"))
        .collect();
    debs.sort();
    Ok(debs)
}

fn retry(
    stage: &mut Stage,
    mut attempt: impl FnMut(&mut Stage) -> Result<(), VmError>,
) -> Result<(), VmError> {
    let mut result = Ok(());
    for pause in PAUSES {
        std::thread::sleep(Duration::from_secs(*pause));
        result = attempt(stage);
        if result.is_ok() {
            break;
        }
    }
    result
}

/// Where Debian's packages come from: where the host has its own from.
fn mirror(stage: &mut Stage) -> Result<String, VmError> {
    if let Ok(mirror) = std::env::var(MIRROR) {
        return Ok(mirror);
    }
    let path = Path::new("/etc/os-release");
    let release = fs::read_to_string(path).map_err(VmError::io("read", path))?;
    let targets = stage.output(
        Command::new("apt-get").args([
            "indextargets",
            "--no-release-info",
            "--format",
            "$(RELEASE) $(COMPONENT) $(REPO_URI)",
            "Identifier: Packages",
        ]),
        QUERY_LIMIT,
    )?;
    archive_in(&targets, &release).ok_or_else(|| {
        stage.fail(format!(
            "this machine's apt sources name no archive of its Debian release: \
             set {MIRROR} to one (http://HOST/debian)"
        ))
    })
}

/// The archive of the host's own release, from apt's `RELEASE COMPONENT URI` lines
/// and the text of os-release.
fn archive_in(targets: &str, os_release: &str) -> Option<String> {
    let says = |key: &str| {
        let mut values = os_release.lines().filter_map(|line| line.strip_prefix(key));
        values.next().map(|value| value.trim_matches('"'))
    };
    let codename = says("VERSION_CODENAME=").filter(|_| says("ID=") == Some("debian"))?;
    targets.lines().find_map(|line| {
        let uri = line.strip_prefix(codename)?.strip_prefix(" main ")?;
        Some(uri.trim_end_matches('/').to_owned())
    })
}

/// The host's apt is read for two things: where the archive is, and how it
/// reaches the network.
fn config(dir: &Path, architectures: Architectures, host: &str) -> String {
    let network: String = host
        .lines()
        .filter(|line| line.starts_with("Acquire::") && !line.starts_with("Acquire::IndexTargets"))
        .map(|line| format!("{line}\n"))
        .collect();
    let dir = dir.display();
    let native = match architectures {
        Architectures::Guest => "riscv64",
        _ => debian_architecture(),
    };
    let architectures = match architectures {
        Architectures::Native => format!(r#""{native}";"#),
        Architectures::WithGuest => format!(r#""{native}"; "riscv64";"#),
        Architectures::Guest => r#""riscv64";"#.to_owned(),
    };
    format!(
        r#"{network}
Dir::State "{dir}/state";
Dir::State::status "{dir}/status";
Dir::Cache "{dir}/cache";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "{dir}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "{native}";
APT::Architectures {{ {architectures} }};
APT::Get::AllowUnauthenticated "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Retries "3";
Acquire::Languages "none";
"#
    )
}

/// The version in the line `Candidate:` of `apt-cache policy`, which says nothing at all of a
/// package that it does not know.
fn candidate_in(policy: &str) -> Option<String> {
    let mut lines = policy.lines().map(str::trim);
    let version = lines.find_map(|line| line.strip_prefix("Candidate: "))?;
    (version != "(none)").then(|| version.to_owned())
}

/// The host's architecture, as Debian calls it.
pub(super) fn debian_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_that_would_be_fetched() {
        let policy = "linux-source-6.12:\n  Installed: (none)\n  Candidate: 6.12.117-1\n  Version table:\n     6.12.107-1 500\n";
        assert_eq!(candidate_in(policy).as_deref(), Some("6.12.117-1"));
        assert_eq!(
            candidate_in("x:\n  Installed: (none)\n  Candidate: (none)\n"),
            None
        );
        assert_eq!(candidate_in(""), None);
    }

    #[test]
    fn the_archive_is_the_one_that_the_host_uses() {
        let targets = "stable main http://other/linux/\n\
                       trixie-security main http://m/debian-security/\n\
                       trixie main http://m/debian/\n";
        let archive = |os_release| archive_in(targets, os_release);
        let debian = "ID=debian\nVERSION_CODENAME=trixie\n";
        assert_eq!(archive(debian).as_deref(), Some("http://m/debian"));
        assert_eq!(archive("ID=debian\nVERSION_CODENAME=\"bookworm\"\n"), None);
        assert_eq!(archive("ID=ubuntu\nVERSION_CODENAME=trixie\n"), None);
    }

    #[test]
    fn of_the_host_s_configuration_only_the_network_is_taken() {
        let host =
            "APT::Default-Release \"sid\";\nAcquire::http::Proxy \"http://p:1/\";\nDir \"/\";\n";
        let config = config(Path::new("/c/apt"), Architectures::Native, host);
        assert!(config.contains("Acquire::http::Proxy \"http://p:1/\";"));
        assert!(!config.contains("sid"));
        assert!(!config.contains("riscv64"));
        assert!(config.contains("Dir::State \"/c/apt/state\";"));
    }
}
