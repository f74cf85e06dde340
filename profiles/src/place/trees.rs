//! Trees of the file system, and whose they are.

use serde::Serialize;

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

/// Below these, what bears no other service's name is a service's own.
pub(super) const BASES: &[(&str, Class)] = &[
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
pub(super) const SHARED: &[&str] = &[
    "/run/lock",
    "/run/shm",
    "/var/lib/misc",
    "/var/lib/private",
    "/var/cache/private",
    "/var/log/private",
    "/var/spool/mail",
];

/// Top-level directories of the system; another one (`/data`, `/app`) was made for a service.
pub(super) const TOP: &[&str] =
    &["dev", "etc", "home", "media", "mnt", "opt", "run", "srv", "tmp", "usr", "var"];

pub(super) const RUNS: &str =
    "what is there is run, loaded or obeyed by others, so giving it away gives them away";
pub(super) const SHARES: &str = "the whole system relies on it";
pub(super) const KERNEL: &str = "it belongs to the kernel, where owners and ACLs cannot be set for a service";
pub(super) const ACCOUNTS: &str = "it decides who may log in and who is root";
pub(super) const CRON: &str = "cron or at runs what is there";
pub(super) const SERVICE: &str = "another service obeys what is there";
pub(super) const CONFIGURES: &str =
    "other programs are configured there, and the program's name is not on it";
pub(super) const HOMES: &str = "it is somebody else's home";
pub(super) const LOGS: &str = "it is the log of the whole system";

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
    (&["/run/dbus", "/var/lib/dbus"], SERVICE, &["dbus-daemon", "dbus-broker", "dbus-broker-launch"]),
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
    (&["/var/lib/dhcp"], SERVICE, &["dhcpd", "dhclient"]),
    (&["/var/lib/ntpsec"], SERVICE, &["ntpd"]),
];

/// Directories whose contents are executed or loaded, wherever they lie.
pub(super) const CODE: &[&str] = &[
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
pub(super) const LIBRARIES: &[&str] = &["lib", "lib32", "lib64", "plugins", "modules"];
