//! What a path is by where it is: shared by the system, or a service's own.

use serde::Serialize;

use crate::RawText;

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
pub(super) enum Place {
    /// A service's own: it can be given to the service's user.
    Private(Class),
    /// Many use it: objects in it can be made for the user, write access to it cannot be given.
    Shared(Class),
    /// What is there decides what root does, or belongs to the kernel: nothing there is given away.
    System(&'static str),
}

/// Directories below which a first component is a service's own.
const BASES: &[(&str, Class)] = &[
    ("/etc", Class::Config),
    ("/media", Class::Other),
    ("/mnt", Class::Other),
    ("/opt", Class::Other),
    ("/run", Class::Runtime),
    ("/srv", Class::Other),
    ("/tmp", Class::Other),
    ("/var/cache", Class::Cache),
    ("/var/lib", Class::State),
    ("/var/log", Class::Logs),
    ("/var/opt", Class::Other),
    ("/var/run", Class::Runtime),
    ("/var/spool", Class::Other),
    ("/var/tmp", Class::Other),
    ("/var/www", Class::Other),
];

/// Directories that many use although a base holds them.
const SHARED: &[&str] = &[
    "/run/lock",
    "/run/user",
    "/run/shm",
    "/run/log",
    "/var/run/lock",
    "/var/run/user",
    "/var/lib/misc",
    "/var/lib/private",
    "/var/cache/private",
    "/var/log/private",
    "/var/spool/mail",
    "/var/lib/dbus",
    "/run/dbus",
];

/// Further directories that are there on every system, and so are made for no service.
const COMMON: &[&str] = &[
    "/usr/include",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/local",
    "/usr/local/etc",
    "/usr/local/lib",
    "/usr/local/libexec",
    "/usr/local/share",
    "/usr/share",
    "/usr/src",
    "/var/backups",
    "/var/local",
    "/var/mail",
];

/// Top-level directories of the system; another one (`/data`, `/app`) was made for a service.
const TOP: &[&str] = &[
    "bin",
    "boot",
    "dev",
    "etc",
    "home",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "lost+found",
    "media",
    "mnt",
    "opt",
    "proc",
    "root",
    "run",
    "sbin",
    "srv",
    "sys",
    "tmp",
    "usr",
    "var",
];

const RUNS: &str = "what is there is run or obeyed by root, so giving it away gives root away";
const SHARES: &str = "the whole system relies on it";
const KERNEL: &str = "it belongs to the kernel, where owners and ACLs cannot be set for a service";
const ACCOUNTS: &str = "it decides who may log in and who is root";

/// Trees in which nothing is made writable for a service.
const SYSTEM: &[(&str, &str)] = &[
    ("/proc", KERNEL),
    ("/sys", KERNEL),
    ("/boot", RUNS),
    ("/bin", RUNS),
    ("/sbin", RUNS),
    ("/lib", RUNS),
    ("/lib32", RUNS),
    ("/lib64", RUNS),
    ("/usr/bin", RUNS),
    ("/usr/sbin", RUNS),
    ("/usr/lib/systemd", RUNS),
    ("/usr/lib/modules", RUNS),
    ("/usr/lib/udev", RUNS),
    ("/usr/local/bin", RUNS),
    ("/usr/local/sbin", RUNS),
    ("/root", RUNS),
    ("/etc/passwd", ACCOUNTS),
    ("/etc/passwd-", ACCOUNTS),
    ("/etc/group", ACCOUNTS),
    ("/etc/group-", ACCOUNTS),
    ("/etc/shadow", ACCOUNTS),
    ("/etc/shadow-", ACCOUNTS),
    ("/etc/gshadow", ACCOUNTS),
    ("/etc/gshadow-", ACCOUNTS),
    ("/etc/.pwd.lock", ACCOUNTS),
    ("/etc/subuid", ACCOUNTS),
    ("/etc/subgid", ACCOUNTS),
    ("/etc/nsswitch.conf", ACCOUNTS),
    ("/etc/security", ACCOUNTS),
    ("/etc/pam.d", ACCOUNTS),
    ("/etc/pam.conf", ACCOUNTS),
    ("/etc/ssh", ACCOUNTS),
    ("/etc/sudoers", ACCOUNTS),
    ("/etc/sudoers.d", ACCOUNTS),
    ("/etc/polkit-1", ACCOUNTS),
    ("/etc/hosts", SHARES),
    ("/etc/resolv.conf", SHARES),
    ("/etc/fstab", SHARES),
    ("/etc/environment", RUNS),
    ("/etc/profile", RUNS),
    ("/etc/profile.d", RUNS),
    ("/etc/bash.bashrc", RUNS),
    ("/etc/ld.so.preload", RUNS),
    ("/etc/ld.so.conf", RUNS),
    ("/etc/ld.so.conf.d", RUNS),
    ("/etc/ld.so.cache", RUNS),
    ("/etc/cron.d", RUNS),
    ("/etc/crontab", RUNS),
    ("/etc/cron.hourly", RUNS),
    ("/etc/cron.daily", RUNS),
    ("/etc/cron.weekly", RUNS),
    ("/etc/cron.monthly", RUNS),
    ("/etc/init.d", RUNS),
    ("/etc/rc.local", RUNS),
    ("/etc/systemd", RUNS),
    ("/etc/udev", RUNS),
    ("/etc/modprobe.d", RUNS),
    ("/etc/modules-load.d", RUNS),
    ("/etc/sysctl.d", RUNS),
    ("/etc/sysctl.conf", RUNS),
    ("/etc/tmpfiles.d", RUNS),
    ("/etc/sysusers.d", RUNS),
    ("/etc/logrotate.d", RUNS),
    ("/etc/apt", RUNS),
    ("/etc/network", SHARES),
    ("/etc/ssl", SHARES),
    ("/etc/ca-certificates", SHARES),
    ("/run/systemd", RUNS),
    ("/run/udev", RUNS),
    ("/run/utmp", SHARES),
    ("/run/credentials", RUNS),
    ("/run/tmpfiles.d", RUNS),
    ("/run/sysusers.d", RUNS),
    ("/run/log/journal", SHARES),
    ("/run/sudo", RUNS),
    ("/run/dbus/system_bus_socket", SHARES),
    ("/var/lib/dpkg", SHARES),
    ("/var/lib/apt", SHARES),
    ("/var/lib/rpm", SHARES),
    ("/var/lib/systemd", RUNS),
    ("/var/lib/sudo", RUNS),
    ("/var/lib/pam", RUNS),
    ("/var/lib/dbus/machine-id", SHARES),
    ("/var/cache/apt", SHARES),
    ("/var/cache/ldconfig", RUNS),
    ("/var/spool/cron", RUNS),
    ("/var/log/auth.log", SHARES),
    ("/var/log/syslog", SHARES),
    ("/var/log/kern.log", SHARES),
    ("/var/log/messages", SHARES),
    ("/var/log/dpkg.log", SHARES),
    ("/var/log/apt", SHARES),
    ("/var/log/audit", SHARES),
    ("/var/log/wtmp", SHARES),
    ("/var/log/btmp", SHARES),
    ("/var/log/lastlog", SHARES),
    ("/var/log/journal", SHARES),
];

/// Whose a directory is, for those who explain rather than grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot {
    /// A service's own.
    Own(Class),
    /// Used by many.
    Shared,
    /// The system's or the kernel's.
    System,
}

/// Whose `path` is, for a program of that name.
pub fn spot(path: &RawText, name: &str) -> Spot {
    match place(path, name) {
        Place::Private(class) => Spot::Own(class),
        Place::Shared(_) => Spot::Shared,
        Place::System(_) => Spot::System,
    }
}

/// Whose `path` is. A directory below `/etc` is a service's own when it is named after it.
pub(super) fn place(path: &RawText, name: &str) -> Place {
    let bytes = path.as_bytes();
    if let Some((_, why)) = SYSTEM.iter().find(|(tree, _)| is_at_or_below(bytes, tree.as_bytes())) {
        return Place::System(why);
    }
    let base = BASES.iter().find(|(base, _)| is_below(bytes, base.as_bytes()));
    if SHARED.iter().any(|shared| bytes == shared.as_bytes()) {
        return Place::Shared(base.map_or(Class::Other, |(_, class)| *class));
    }
    match base {
        Some((base, Class::Config)) if !is_related(first_below(bytes, base), name) => {
            Place::Shared(Class::Config)
        }
        Some((_, class)) => Place::Private(*class),
        None => match bytes.split(|b| *b == b'/').nth(1) {
            Some(top) if !top.is_empty() && !TOP.iter().any(|t| t.as_bytes() == top) => {
                Place::Private(Class::Other)
            }
            _ => Place::Shared(Class::Other),
        },
    }
}

/// Whether `path` is a directory of the system itself, which is not made for one service even where it is missing.
pub(super) fn is_common(path: &RawText) -> bool {
    let bytes = path.as_bytes();
    let top = |name: &&str| bytes.strip_prefix(b"/") == Some(name.as_bytes());
    let listed =
        SHARED.iter().chain(COMMON).chain(BASES.iter().map(|(base, _)| base)).any(|d| d.as_bytes() == bytes);
    listed || bytes == b"/" || TOP.iter().any(top) || parent(path).as_bytes() == b"/home"
}

/// The class of what lies directly in a shared directory: `/run/x.pid` is of the class of `/run`.
pub(super) fn class_in(path: &RawText, name: &str) -> Class {
    match place(path, name) {
        Place::Private(class) | Place::Shared(class) => class,
        Place::System(_) => Class::Other,
    }
}

/// Whether a directory's owner may change to the program's user: it is root's or the user's, or carries a name
/// like the program's.
pub(super) fn is_related(word: &[u8], name: &str) -> bool {
    let stem = |w: &[u8]| -> Vec<u8> {
        w.iter().filter(|b| b.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).collect()
    };
    let (word, name) = (stem(word), stem(name.as_bytes()));
    let holds = |long: &[u8], short: &[u8]| short.len() >= 3 && long.windows(short.len()).any(|w| w == short);
    !word.is_empty() && (word == name || holds(&word, &name) || holds(&name, &word))
}

/// The component of `path` that follows its base.
pub(super) fn own_name(path: &RawText) -> &[u8] {
    let bytes = path.as_bytes();
    BASES.iter().find(|(base, _)| is_below(bytes, base.as_bytes())).map_or_else(
        || bytes.split(|b| *b == b'/').nth(1).unwrap_or_default(),
        |(base, _)| first_below(bytes, base),
    )
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

fn is_at_or_below(path: &[u8], tree: &[u8]) -> bool {
    path == tree || is_below(path, tree)
}

/// The directory that holds `path`.
pub(super) fn parent(path: &RawText) -> RawText {
    let bytes = path.as_bytes();
    match bytes.iter().rposition(|b| *b == b'/') {
        Some(0) | None => RawText::from("/"),
        Some(at) => RawText::new(&bytes[..at]),
    }
}

/// Why a path cannot be named in any configuration, if it cannot: it is not absolute or not normal, or holds
/// what no file name holds.
pub(super) fn flaw(path: &RawText) -> Option<&'static str> {
    let bytes = path.as_bytes();
    let Some(rest) = bytes.strip_prefix(b"/") else {
        return Some("its path could not be made absolute");
    };
    if bytes.contains(&0) {
        return Some("its path holds a zero byte");
    }
    // PATH_MAX counts the closing zero byte.
    if bytes.len() >= 4096 || rest.split(|b| *b == b'/').any(|c| c.len() > 255) {
        return Some("its path is longer than the kernel accepts");
    }
    let odd = |c: &[u8]| c.is_empty() || c == b"." || c == b"..";
    (!rest.is_empty() && rest.split(|b| *b == b'/').any(odd)).then_some("its path is not in normal form")
}

/// The leading directories of a pattern that hold no wildcard, with `[*]` and `[?]` read as the characters they
/// stand for.
pub(super) fn fixed_part(pattern: &RawText) -> RawText {
    let mut fixed: Vec<&[u8]> = Vec::new();
    let components: Vec<&[u8]> = pattern.as_bytes().split(|b| *b == b'/').skip(1).collect();
    for component in components.iter().take(components.len().saturating_sub(1)) {
        if is_wild(component) {
            break;
        }
        fixed.push(component);
    }
    let mut out = Vec::new();
    for component in fixed {
        out.push(b'/');
        out.extend(literal(component));
    }
    if out.is_empty() { RawText::from("/") } else { RawText::new(out) }
}

fn is_wild(component: &[u8]) -> bool {
    let plain = literal_marks(component);
    plain.iter().any(|(byte, quoted)| !quoted && matches!(byte, b'*' | b'?'))
}

fn literal(component: &[u8]) -> Vec<u8> {
    literal_marks(component).into_iter().map(|(byte, _)| byte).collect()
}

/// The bytes of a component, each with whether brackets made it literal.
fn literal_marks(component: &[u8]) -> Vec<(u8, bool)> {
    let mut out = Vec::with_capacity(component.len());
    let mut rest = component;
    while let Some((&byte, tail)) = rest.split_first() {
        if let [b'[', inner @ (b'*' | b'?' | b'['), b']', after @ ..] = rest {
            out.push((*inner, true));
            rest = after;
        } else {
            out.push((byte, false));
            rest = tail;
        }
    }
    out
}
