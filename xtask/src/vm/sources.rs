//! Where packages of several releases of Debian come from, whatever the machine itself is set up for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::kernel::{output, succeed};
use crate::cross::Arch;

/// The releases whose kernels are tried, and what is run beside them.
const RELEASES: [&str; 4] = ["bullseye", "bookworm", "trixie", BACKPORTS];
/// What has newer kernels, and no security updates of its own.
const BACKPORTS: &str = "trixie-backports";
/// Of all that the releases have, the last.
pub const NEWEST: &str = "newest";
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Lists of packages for one kind of machine, beside those of the machine itself.
pub struct Sources {
    configuration: PathBuf,
    arch: Arch,
}

impl Sources {
    /// Fetches the lists to `directory`, from where the machine gets its own.
    pub fn update(arch: Arch, directory: &Path) -> Result<Self> {
        let own = directory.join(format!("apt-{}", arch.debian()));
        for name in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(own.join(name)).with_context(|| format!("cannot make {}", own.display()))?;
        }
        let (status, list, configuration) =
            (own.join("status"), own.join("sources.list"), own.join("apt.conf"));
        fs::write(&status, "")?;
        fs::write(&list, lines(&servers()?))?;
        let text = format!(
            "Dir::State \"{0}\";\nDir::State::lists \"{0}/lists\";\nDir::State::status \"{1}\";\nDir::Cache \
             \"{0}/cache\";\nDir::Etc::sourcelist \"{2}\";\nDir::Etc::sourceparts \"/dev/null\";\nAPT::Architecture \
             \"{3}\";\nAPT::Architectures {{ \"{3}\"; }};\nAPT::Sandbox::User \"root\";\nAcquire::Languages \
             \"none\";\nAPT::Cache-Limit \"200000000\";\n",
            own.display(),
            status.display(),
            list.display(),
            arch.debian()
        );
        fs::write(&configuration, text)?;
        let sources = Self { configuration, arch };
        succeed(sources.apt("apt-get").args(["update", "-q"]))?;
        Ok(sources)
    }

    /// One of apt's programs, with these lists.
    pub fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.configuration);
        command
    }

    /// The newest cloud kernel of a version (such as `6.1`, or `newest`), by the name of its package.
    pub fn kernel(&self, version: &str) -> Result<Option<String>> {
        let version = if version == NEWEST { "[0-9]+".to_owned() } else { version.replace('.', r"\.") };
        let pattern = format!(r"^linux-(image|binary)-{version}\.[0-9].*-cloud-{}$", self.arch.debian());
        let listed = output(self.apt("apt-cache").args(["search", "--names-only", &pattern]))?;
        let names = listed.lines().filter_map(|line| line.split_whitespace().next());
        // From Linux 7.2 on, the kernel is in a package of its own.
        Ok(names.max_by_key(|name| (numbers(name), name.starts_with("linux-binary"))).map(str::to_owned))
    }

    /// Downloads a package to `directory`, unless it is there. With `release`, that release's.
    pub fn download(&self, package: &str, release: Option<&str>, directory: &Path) -> Result<PathBuf> {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let (start, end) = (format!("{package}_"), format!("_{}.deb", self.arch.debian()));
        let find = || -> Result<Option<PathBuf>> {
            for entry in fs::read_dir(directory)? {
                let path = entry?.path();
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if name.starts_with(&start) && name.ends_with(&end) {
                    return Ok(Some(path));
                }
            }
            Ok(None)
        };
        if let Some(found) = find()? {
            return Ok(found);
        }
        let wanted = release.map_or_else(|| package.to_owned(), |release| format!("{package}/{release}"));
        succeed(self.apt("apt-get").args(["-q", "download", &wanted]).current_dir(directory))?;
        find()?.with_context(|| format!("apt-get did not download {package}"))
    }
}

/// The numbers in a name, by which versions are ordered.
fn numbers(name: &str) -> Vec<u32> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// The servers of Debian's packages and of its security updates that this machine uses.
fn servers() -> Result<[String; 2]> {
    let format = "$(ORIGIN) $(CODENAME) $(REPO_URI)";
    let listed =
        output(Command::new("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]))?;
    let find = |is_it: fn(&str) -> bool| {
        listed.lines().find_map(|line| match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["Debian", codename, server] if is_it(codename) => Some((*server).to_owned()),
            _ => None,
        })
    };
    let main = find(|name| !name.contains('-')).context("this machine's package sources hold no Debian")?;
    let security = find(|name| name.ends_with("-security"));
    Ok([main.clone(), security.unwrap_or(main)])
}

fn lines([main, security]: &[String; 2]) -> String {
    let release = |name: &str| {
        let secured = if name == BACKPORTS { "# " } else { "" };
        format!(
            "deb [signed-by={KEYS}] {main} {name} main\n{secured}deb [signed-by={KEYS}] {security} {name}-security main\n"
        )
    };
    RELEASES.map(release).concat()
}

/// Unpacks packages over each other.
pub fn unpack(packages: &[PathBuf], root: &Path) -> Result<()> {
    for package in packages {
        ensure!(package.exists(), "there is no package {}", package.display());
        succeed(Command::new("dpkg-deb").arg("-x").arg(package).arg(root))?;
    }
    Ok(())
}
