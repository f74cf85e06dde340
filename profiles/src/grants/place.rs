//! Whose a path is, by where it is and who asks: what is a service's own is allowed for a reason, and all else is
//! taken to be obeyed by others.

use std::collections::BTreeSet;

use serde::Serialize;

use super::carriers::is_interpreter;
use crate::RawText;
use crate::profile::Profile;

/// What a directory is for, by the Filesystem Hierarchy Standard; systemd has a directive for each but the last two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Below `/var/lib`: `StateDirectory=`.
    State,
    /// Below `/run`: `RuntimeDirectory=`. Gone after a restart of the machine.
    Runtime,
    /// Below `/var/cache`: `CacheDirectory=`.
    Cache,
    /// Below `/var/log`: `LogsDirectory=`.
    Logs,
    /// Below `/etc`: `ConfigurationDirectory=`.
    Config,
    /// Elsewhere.
    Other,
}

/// Whose a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A service's own: it can be given to the service's user.
    Private(Class),
    /// Many use it: objects in it can be made for the user, write access to it cannot be given.
    Shared(Class),
    /// Others execute, load or obey what is there, or it is the kernel's: nothing there is given away.
    System(&'static str),
}

/// Where the program runs: that decides which ways there are, and with whom it shares its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Setting {
    /// On a machine that others use too.
    Host,
    /// In a container, which shares its image with nobody.
    Container,
    /// In a container of a pod.
    Pod,
}

/// Who asks for a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct World {
    /// Where the program runs.
    pub setting: Setting,
    /// The name of its user.
    user: String,
    /// Names of the program; of an interpreter, which runs anything, none.
    names: BTreeSet<String>,
    /// Names of the programs that made calls: what is a service's own is its own if it is one of them.
    services: BTreeSet<String>,
}

/// Below these, what bears no other service's name is a service's own.
const BASES: &[(&str, Class)] = &[
    ("/etc", Class::Config),
    ("/home", Class::Other),
    ("/media", Class::Other),
    ("/mnt", Class::Other),
    ("/opt", Class::Other),
    ("/run", Class::Runtime),
    ("/srv", Class::Other),
    ("/tmp", Class::Other),
    ("/usr/local", Class::Other),
    ("/var/cache", Class::Cache),
    ("/var/lib", Class::State),
    ("/var/log", Class::Logs),
    ("/var/opt", Class::Other),
    ("/var/spool", Class::Other),
    ("/var/tmp", Class::Other),
    ("/var/www", Class::Other),
];

/// Directories that many use although a base holds them.
const SHARED: &[&str] = &[
    "/run/lock",
    "/run/shm",
    "/var/lib/misc",
    "/var/lib/private",
    "/var/cache/private",
    "/var/log/private",
    "/var/spool/mail",
];

/// Top-level directories of the system; another one (`/data`, `/app`) was made for a service.
const TOP: &[&str] = &["dev", "etc", "home", "media", "mnt", "opt", "run", "srv", "tmp", "usr", "var"];

pub(super) const RUNS: &str =
    "what is there is run, loaded or obeyed by others, so giving it away gives them away";
const SHARES: &str = "the whole system relies on it";
const KERNEL: &str = "it belongs to the kernel, where owners and ACLs cannot be set for a service";
pub(super) const ACCOUNTS: &str = "it decides who may log in and who is root";
pub(super) const CRON: &str = "cron or at runs what is there";
const SERVICE: &str = "another service obeys what is there";
const CONFIGURES: &str = "other programs are configured there, and the program's name is not on it";
const HOMES: &str = "it is somebody else's home";
const LOGS: &str = "it is the log of the whole system";

/// Trees in which nothing is made or given, unless the program is the one that they are for.
pub(super) const OBEYED: &[(&[&str], &str, &[&str])] = &[
    (&["/proc", "/sys"], KERNEL, &[]),
    (
        &[
            "/boot",
            "/efi",
            "/bin",
            "/sbin",
            "/lib",
            "/lib32",
            "/lib64",
            "/libx32",
            "/lost+found",
            "/nix",
            "/gnu",
            "/snap",
            "/ostree",
            "/sysroot",
            "/root",
        ],
        RUNS,
        &[],
    ),
    (
        &[
            "/etc/passwd",
            "/etc/passwd-",
            "/etc/group",
            "/etc/group-",
            "/etc/shadow",
            "/etc/shadow-",
            "/etc/gshadow",
            "/etc/gshadow-",
            "/etc/.pwd.lock",
            "/etc/subuid",
            "/etc/subgid",
            "/etc/nsswitch.conf",
            "/etc/security",
            "/etc/pam.d",
            "/etc/pam.conf",
            "/etc/ssh",
            "/etc/sudoers",
            "/etc/sudoers.d",
            "/etc/polkit-1",
        ],
        ACCOUNTS,
        &[],
    ),
    (&["/etc/systemd", "/etc/apt", "/etc/dpkg", "/etc/sudo", "/etc/udev", "/etc/init.d"], RUNS, &[]),
    (&["/etc/ld.so.preload", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.cache"], RUNS, &[]),
    (&["/etc/profile", "/etc/profile.d", "/etc/modprobe.d", "/etc/rc.local"], RUNS, &[]),
    (&["/etc/cron.d", "/etc/cron.hourly", "/etc/cron.daily", "/etc/crontab", "/etc/anacrontab"], CRON, &[]),
    (&["/etc/cron.weekly", "/etc/cron.monthly", "/etc/cron.yearly"], CRON, &[]),
    (
        &[
            "/run/systemd",
            "/run/udev",
            "/run/credentials",
            "/run/tmpfiles.d",
            "/run/sysusers.d",
            "/run/sudo",
            "/run/user",
            "/run/log",
            "/run/initctl",
            "/run/initramfs",
            "/run/nologin",
            "/run/motd.dynamic",
            "/run/motd.d",
            "/run/reboot-required",
            "/run/reboot-required.pkgs",
            "/run/utmp",
            "/run/lvm",
            "/run/mount",
            "/run/host",
            "/run/cloud-init",
            "/run/ostree-booted",
            "/run/sysctl.d",
            "/run/modprobe.d",
            "/run/NetworkManager",
            "/run/polkit-1",
        ],
        RUNS,
        &[],
    ),
    (&["/run/dbus", "/var/lib/dbus"], SERVICE, &[]),
    (&["/run/docker", "/run/docker.sock", "/var/lib/docker"], SERVICE, &["dockerd"]),
    (
        &["/run/containerd", "/var/lib/containerd", "/run/nri", "/run/runc"],
        SERVICE,
        &["containerd", "dockerd", "k0s", "k3s"],
    ),
    (&["/run/crio", "/var/lib/crio", "/run/crun", "/run/libpod"], SERVICE, &["crio", "podman"]),
    (&["/var/lib/containers", "/run/containers"], SERVICE, &["crio", "podman", "buildah"]),
    (&["/var/lib/kubelet", "/run/kubernetes"], SERVICE, &["kubelet", "k0s", "k3s"]),
    (
        &["/var/lib/cni", "/run/flannel", "/run/calico"],
        SERVICE,
        &["kubelet", "containerd", "crio", "k0s", "k3s"],
    ),
    (&["/var/lib/libvirt", "/run/libvirt"], SERVICE, &["libvirtd", "virtqemud"]),
    (&["/var/lib/lxc", "/var/lib/lxd", "/var/lib/incus", "/run/incus"], SERVICE, &["lxc", "lxd", "incusd"]),
    (
        &[
            "/var/lib/dpkg",
            "/var/lib/apt",
            "/var/lib/rpm",
            "/var/lib/dnf",
            "/var/lib/pacman",
            "/var/lib/ucf",
            "/var/lib/systemd",
            "/var/lib/sudo",
            "/var/lib/pam",
            "/var/lib/snapd",
            "/var/lib/flatpak",
            "/var/lib/polkit-1",
            "/var/lib/initramfs-tools",
            "/var/lib/AccountsService",
            "/var/lib/cloud",
            "/var/lib/waagent",
            "/var/lib/machines",
            "/var/lib/portables",
            "/var/lib/extensions",
            "/var/lib/confexts",
            "/var/lib/sysupdate",
            "/var/lib/alternatives",
            "/var/lib/shim-signed",
            "/var/lib/dkms",
            "/var/lib/os-prober",
            "/var/lib/python",
            "/var/lib/gems",
            "/var/lib/xkb",
            "/var/lib/logrotate",
            "/var/lib/update-notifier",
            "/var/lib/update-manager",
            "/var/lib/NetworkManager",
            "/var/lib/dhcp",
            "/var/lib/ntpsec",
            "/var/cache/apt",
            "/var/cache/ldconfig",
            "/var/cache/debconf",
            "/var/cache/snapd",
            "/var/cache/dnf",
        ],
        RUNS,
        &[],
    ),
    (
        &[
            "/var/spool/cron",
            "/var/spool/at",
            "/var/spool/atjobs",
            "/var/spool/atspool",
            "/var/spool/incron",
            "/var/spool/anacron",
        ],
        CRON,
        &[],
    ),
    (
        &[
            "/var/log/auth.log",
            "/var/log/syslog",
            "/var/log/kern.log",
            "/var/log/messages",
            "/var/log/secure",
            "/var/log/daemon.log",
            "/var/log/user.log",
            "/var/log/mail.log",
            "/var/log/cron.log",
            "/var/log/debug",
        ],
        LOGS,
        &["rsyslogd", "syslog-ng", "syslogd"],
    ),
    (
        &[
            "/var/log/dpkg.log",
            "/var/log/apt",
            "/var/log/audit",
            "/var/log/wtmp",
            "/var/log/btmp",
            "/var/log/lastlog",
            "/var/log/journal",
            "/var/log/installer",
            "/var/log/sudo-io",
        ],
        SHARES,
        &[],
    ),
    (&["/opt/cni", "/opt/containerd"], RUNS, &[]),
];

/// Directories whose contents are executed or loaded, wherever they lie.
const CODE: &[&str] = &[
    "bin",
    "sbin",
    "libexec",
    "hooks",
    "dist-packages",
    "site-packages",
    "__pycache__",
    "node_modules",
    "cron.d",
    "systemd",
    "init.d",
    ".ssh",
];

/// The same, where a tree is not the program's own by name.
const LIBRARIES: &[&str] = &["lib", "lib32", "lib64", "plugins", "modules"];

impl World {
    /// The world of a profile's program.
    pub(super) fn of(profile: &Profile, user: &str) -> Self {
        let base = |path: &RawText| {
            String::from_utf8_lossy(path.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default())
                .into_owned()
        };
        let started = profile.requirements.iter().flat_map(|need| need.evidence.executables());
        let own = RawText::from(profile.name.as_str());
        let names = profile.executable.iter().chain([&own]).filter(|path| !is_interpreter(path)).map(base);
        let setting = match &profile.container {
            Some(container) if container.pod.is_some() => Setting::Pod,
            Some(_) => Setting::Container,
            None => Setting::Host,
        };
        Self { setting, user: user.to_owned(), names: names.collect(), services: started.map(base).collect() }
    }

    /// Whose `path` is.
    pub(crate) fn place(&self, path: &RawText) -> Place {
        let path = real(path);
        let bytes = path.as_bytes();
        if let Some(why) = self.obeyed(bytes) {
            return Place::System(why);
        }
        let base = BASES.iter().find(|(base, _)| is_below(bytes, base.as_bytes()));
        if SHARED.iter().any(|shared| bytes == shared.as_bytes()) {
            return Place::Shared(base.map_or(Class::Other, |(_, class)| *class));
        }
        let Some((base, class)) = base else { return self.elsewhere(bytes) };
        let first = first_below(bytes, base);
        let named = self.is_named(first);
        let code = components(bytes.get(base.len()..).unwrap_or_default())
            .any(|part| is_in(CODE, part) || (!named && is_in(LIBRARIES, part)));
        match *base {
            _ if self.setting != Setting::Host => Place::Private(*class),
            "/etc" if !named => Place::System(CONFIGURES),
            "/home" if first != self.user.as_bytes() => Place::System(HOMES),
            "/usr/local" if !named => Place::System(RUNS),
            _ if code => Place::System(RUNS),
            _ => Place::Private(*class),
        }
    }

    /// What lies in no base: top-level trees, and the rest of `/var` and `/usr`.
    fn elsewhere(&self, path: &[u8]) -> Place {
        match components(path).next() {
            None => Place::Shared(Class::Other),
            Some(b"usr") if path != b"/usr/local" || self.setting == Setting::Host => Place::System(RUNS),
            Some(top) if is_in(TOP, top) => Place::Shared(Class::Other),
            Some(top) if top.starts_with(b".") => Place::System(RUNS),
            Some(_) if components(path).any(|part| is_in(CODE, part) || is_in(LIBRARIES, part)) => {
                Place::System(RUNS)
            }
            Some(_) => Place::Private(Class::Other),
        }
    }

    fn obeyed(&self, path: &[u8]) -> Option<&'static str> {
        let (_, why, of) = OBEYED
            .iter()
            .find(|(trees, _, _)| trees.iter().any(|tree| is_at_or_below(path, tree.as_bytes())))?;
        let is_it =
            of.iter().any(|service| self.names.contains(*service) || self.services.contains(*service));
        (!is_it).then_some(*why)
    }

    /// Whether a name is the program's: equal, but for a version and the `d` of a daemon.
    pub(super) fn is_named(&self, word: &[u8]) -> bool {
        self.names.iter().any(|name| is_alike(word, name.as_bytes()))
    }

    /// Whether a name is that of the user.
    pub(super) fn is_user(&self, name: &str) -> bool {
        name == self.user
    }

    /// Whether a user's name is that of the program or of its user.
    pub(super) fn is_own_user(&self, name: &str) -> bool {
        self.is_user(name)
            || self.is_named(name.as_bytes())
            || is_alike(name.as_bytes(), self.user.as_bytes())
    }

    /// Whether a directory is one of the system itself, which is not made for one service even where it is missing.
    pub(super) fn is_common(&self, path: &RawText) -> bool {
        let path = real(path);
        let bytes = path.as_bytes();
        let listed = SHARED.iter().chain(BASES.iter().map(|(base, _)| base)).any(|d| d.as_bytes() == bytes);
        let top = bytes.strip_prefix(b"/").is_some_and(|rest| is_in(TOP, rest));
        listed || bytes == b"/" || top || parent(&path).as_bytes() == b"/home"
    }

    /// The class of what lies directly in a shared directory: `/run/x.pid` is of the class of `/run`.
    pub(super) fn class_in(&self, path: &RawText) -> Class {
        match self.place(path) {
            Place::Private(class) | Place::Shared(class) => class,
            Place::System(_) => Class::Other,
        }
    }
}

/// Whether a path lies in the root directory itself, where files are for others to find.
pub(super) fn is_at_root(path: &RawText) -> bool {
    parent(path).as_bytes() == b"/"
}

/// Whether two names are one but for a version, the `d` of a daemon and what follows a dash or a dot.
fn is_alike(a: &[u8], b: &[u8]) -> bool {
    fn stem(word: &[u8]) -> Vec<u8> {
        let lower = word.to_ascii_lowercase();
        let first = lower.split(|byte| !byte.is_ascii_alphanumeric()).find(|part| !part.is_empty());
        let first = first.unwrap_or_default();
        let digits = first.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let plain = first.get(..first.len() - digits).filter(|plain| !plain.is_empty()).unwrap_or(first);
        plain.strip_suffix(b"d").filter(|short| short.len() >= 3).unwrap_or(plain).to_vec()
    }
    let (a, b) = (stem(a), stem(b));
    // `postgres` and `postgresql` are one, `app` and `apparmor` are not.
    let begins = |long: &[u8], short: &[u8]| short.len() >= 6 && long.starts_with(short);
    !a.is_empty() && (a == b || begins(&a, &b) || begins(&b, &a))
}

/// Where a path really is: `/var/run` is `/run`, `/var/lock` is `/run/lock`.
pub(crate) fn real(path: &RawText) -> RawText {
    let bytes = path.as_bytes();
    for (link, target) in [(&b"/var/run"[..], &b"/run"[..]), (b"/var/lock", b"/run/lock")] {
        if let Some(rest) = bytes.strip_prefix(link).filter(|rest| rest.is_empty() || rest.starts_with(b"/"))
        {
            return RawText::new([target, rest].concat());
        }
    }
    path.clone()
}

pub(super) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
}

fn is_in(list: &[&str], word: &[u8]) -> bool {
    list.iter().any(|known| known.as_bytes() == word)
}

/// The component of `path` that follows its base.
pub(super) fn own_name(path: &RawText) -> &[u8] {
    let bytes = path.as_bytes();
    let bytes = bytes.strip_prefix(b"/var/run").map_or(bytes, |_| bytes.get(4..).unwrap_or_default());
    BASES
        .iter()
        .find(|(base, _)| is_below(bytes, base.as_bytes()))
        .map_or_else(|| components(bytes).next().unwrap_or_default(), |(base, _)| first_below(bytes, base))
}

fn first_below<'a>(path: &'a [u8], base: &str) -> &'a [u8] {
    path.get(base.len() + 1..).unwrap_or_default().split(|b| *b == b'/').next().unwrap_or_default()
}

/// Whether `path` lies strictly below `tree`.
pub(super) fn is_below(path: &[u8], tree: &[u8]) -> bool {
    if tree == b"/" {
        return path.len() > 1;
    }
    path.len() > tree.len() + 1 && path.starts_with(tree) && path.get(tree.len()) == Some(&b'/')
}

pub(super) fn is_at_or_below(path: &[u8], tree: &[u8]) -> bool {
    path == tree || is_below(path, tree)
}

/// The directory that holds `path`.
pub(crate) fn parent(path: &RawText) -> RawText {
    let bytes = path.as_bytes();
    match bytes.iter().rposition(|b| *b == b'/') {
        Some(0) | None => RawText::from("/"),
        Some(at) => RawText::new(&bytes[..at]),
    }
}
