//! Directives that take away what the user's rights do not, systemd.exec(5) and systemd.resource-control(5).

mod calls;
mod groups;
mod mounts;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use libc::sock_filter;
use nrtrace_profiles::Capability;

use self::calls::Calls;
pub(crate) use self::mounts::Shown;
use self::mounts::{Anew, Places};
use super::words;
use crate::launch::{Error, Fence};
use crate::seccomp::{self, Rule};

/// What is closed to the service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hardening {
    system: Option<System>,
    home: Option<Shown>,
    /// `ReadWritePaths=` and its kind; whether a path may be missing.
    paths: Vec<(PathBuf, Shown, bool)>,
    /// The names of [`SWITCHES`] that are on.
    on: BTreeSet<&'static str>,
    /// `ProtectProc=invisible`
    hides_processes: bool,
    /// `DeviceAllow=`; closes all others but the standard ones.
    devices: Vec<PathBuf>,
    /// `RestrictAddressFamilies=`
    families: Option<Vec<i32>>,
    /// `SystemCallArchitectures=native`
    native_only: bool,
    calls: Calls,
}

/// `ProtectSystem=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum System {
    Yes,
    Full,
    Strict,
}

/// A directive that is on or off, and what is done about it besides mounts.
struct Switch {
    name: &'static str,
    /// What it takes out of the bounding set.
    capabilities: &'static [Capability],
    /// Calls that fail with EPERM.
    calls: &'static [&'static str],
    /// Further rules about calls.
    rules: fn() -> Vec<Rule>,
}

const fn switch(
    name: &'static str,
    capabilities: &'static [Capability],
    calls: &'static [&'static str],
) -> Switch {
    Switch { name, capabilities, calls, rules: Vec::new }
}

const fn ruled(name: &'static str, rules: fn() -> Vec<Rule>) -> Switch {
    Switch { name, capabilities: &[], calls: &[], rules }
}

const CLOCK: &[&str] = &[
    "adjtimex",
    "clock_adjtime",
    "clock_adjtime64",
    "clock_settime",
    "clock_settime64",
    "settimeofday",
    "stime",
];
const SWITCHES: &[Switch] = &[
    switch(TUNABLES, &[], &["_sysctl"]),
    switch(MODULES, &[Capability::SYS_MODULE], &["init_module", "finit_module", "delete_module"]),
    switch(LOGS, &[Capability::SYSLOG], &["syslog"]),
    switch(CONTROL_GROUPS, &[], &[]),
    switch(HOST_NAME, &[], &["sethostname", "setdomainname"]),
    // CAP_WAKE_ALARM
    switch(CLOCK_SETTING, &[Capability::SYS_TIME, Capability::from_number(35)], CLOCK),
    switch(PRIVATE_DEVICES, &[Capability::MKNOD, Capability::SYS_RAWIO], &["ioperm", "iopl"]),
    switch(PRIVATE_TMP, &[], &[]),
    ruled("RestrictRealtime", || vec![calls::realtime()]),
    ruled("LockPersonality", || vec![calls::personality()]),
    ruled("RestrictNamespaces", calls::namespaces),
    ruled("MemoryDenyWriteExecute", calls::executable_memory),
    ruled("RestrictSUIDSGID", calls::set_id),
];
// Those that take mounts or a namespace.
const TUNABLES: &str = "ProtectKernelTunables";
const MODULES: &str = "ProtectKernelModules";
const LOGS: &str = "ProtectKernelLogs";
const CONTROL_GROUPS: &str = "ProtectControlGroups";
const HOST_NAME: &str = "ProtectHostname";
const CLOCK_SETTING: &str = "ProtectClock";
const PRIVATE_DEVICES: &str = "PrivateDevices";
const PRIVATE_TMP: &str = "PrivateTmp";

/// Families of sockets, by the names that `RestrictAddressFamilies=` knows.
const FAMILIES: [(&str, i32); 5] = [
    ("AF_UNIX", libc::AF_UNIX),
    ("AF_INET", libc::AF_INET),
    ("AF_INET6", libc::AF_INET6),
    ("AF_NETLINK", libc::AF_NETLINK),
    ("AF_PACKET", libc::AF_PACKET),
];

impl Hardening {
    /// Reads a directive; `None` for one that is not known, or has a value that is not.
    pub(super) fn directive(&mut self, name: &str, value: &str) -> Option<()> {
        if let Some(switch) = SWITCHES.iter().find(|switch| switch.name == name) {
            match boolean(value)? {
                true => self.on.insert(switch.name),
                false => self.on.remove(switch.name),
            };
            return Some(());
        }
        match name {
            "ProtectSystem" => {
                self.system = match value {
                    "full" => Some(System::Full),
                    "strict" => Some(System::Strict),
                    value => boolean(value)?.then_some(System::Yes),
                };
            }
            "ProtectHome" => {
                self.home = match value {
                    "read-only" => Some(Shown::ReadOnly),
                    value => boolean(value)?.then_some(Shown::Inaccessible),
                };
            }
            "ProtectProc" => {
                self.hides_processes = match value {
                    "invisible" => true,
                    "default" => false,
                    _ => return None,
                }
            }
            "ReadWritePaths" => self.add_paths(value, Shown::Writable)?,
            "ReadOnlyPaths" => self.add_paths(value, Shown::ReadOnly)?,
            "InaccessiblePaths" => self.add_paths(value, Shown::Inaccessible)?,
            "DeviceAllow" => {
                let path = words::split(value)?.into_iter().next()?;
                self.devices.push(path.starts_with(b"/dev/").then(|| OsString::from_vec(path).into())?);
            }
            "RestrictAddressFamilies" => {
                let number = |name: &str| FAMILIES.iter().find(|(known, _)| *known == name).map(|(_, n)| *n);
                let named = value.split_whitespace().map(number).collect::<Option<Vec<_>>>()?;
                self.families = (!named.is_empty()).then_some(named);
            }
            "SystemCallArchitectures" => {
                self.native_only = match value {
                    "native" => true,
                    "" => false,
                    _ => return None,
                }
            }
            "SystemCallFilter" => self.calls.add(value)?,
            "SystemCallErrorNumber" => self.calls.set_errno(value)?,
            _ => return None,
        }
        Some(())
    }

    fn add_paths(&mut self, value: &str, shown: Shown) -> Option<()> {
        if value.is_empty() {
            self.paths.retain(|(_, of, _)| *of != shown);
        }
        for mut word in words::split(value)? {
            let optional = word.first() == Some(&b'-');
            if optional {
                word.remove(0);
            }
            if word.first() != Some(&b'/') {
                return None;
            }
            self.paths.push((OsString::from_vec(word).into(), shown, optional));
        }
        Some(())
    }

    fn is_on(&self, name: &str) -> bool {
        self.on.contains(name)
    }

    /// The switches that are on.
    fn switches(&self) -> impl Iterator<Item = &'static Switch> {
        SWITCHES.iter().filter(|switch| self.on.contains(switch.name))
    }

    /// Capabilities that the directives take out of the bounding set.
    pub(super) fn dropped(&self) -> u64 {
        let all = self.switches().flat_map(|switch| switch.capabilities);
        all.fold(0, |bits, capability| bits | 1 << capability.number())
    }

    /// Makes what the program is started behind. `own` are the directories of the service, which stay writable.
    ///
    /// # Errors
    /// When a path that has to be there is not, or the mounts cannot be made.
    pub(super) fn fence(&self, own: impl IntoIterator<Item = PathBuf>) -> Result<Fence, Error> {
        let mut places = self.places();
        if self.system == Some(System::Strict) {
            own.into_iter().for_each(|path| places.add(path, Shown::Writable, true));
        }
        let mut devices = self.devices.clone();
        if self.is_on(CLOCK_SETTING) {
            devices.extend(["/dev/rtc", "/dev/rtc0"].map(PathBuf::from));
        }
        let anew = Anew {
            temporary: self.is_on(PRIVATE_TMP),
            devices: self.is_on(PRIVATE_DEVICES),
            processes: self.hides_processes,
        };
        let devices = (!devices.is_empty()).then_some(devices.as_slice());
        let mounts = if places.is_empty() && devices.is_none() && anew == Anew::default() {
            None
        } else {
            Some(Arc::new(mounts::namespace(&places, anew, devices)?))
        };
        let host_name = self.is_on(HOST_NAME);
        Ok(Fence { mounts, host_name, group: None, directory: None, filters: self.filters() })
    }

    /// How what is below which paths is shown.
    fn places(&self) -> Places {
        let mut places = Places::default();
        let mut add = |shown, paths: &[&str]| paths.iter().for_each(|path| places.add(path, shown, true));
        match self.system {
            None => {}
            Some(System::Yes) => add(Shown::ReadOnly, mounts::SYSTEM),
            Some(System::Full) => {
                add(Shown::ReadOnly, mounts::SYSTEM);
                add(Shown::ReadOnly, &["/etc"]);
            }
            Some(System::Strict) => {
                add(Shown::ReadOnly, &["/"]);
                add(Shown::AsIs, &["/dev", "/proc", "/sys"]);
                add(Shown::AsIs, mounts::HOMES);
            }
        }
        if let Some(shown) = self.home {
            add(shown, mounts::HOMES);
        }
        if self.is_on(TUNABLES) {
            add(Shown::ReadOnly, mounts::TUNABLES);
            add(Shown::Inaccessible, &["/proc/kallsyms", "/proc/kcore"]);
            add(Shown::AsIs, &["/sys/fs/bpf", "/sys/fs/cgroup", "/sys/fs/selinux"]);
        }
        if self.is_on(MODULES) {
            add(Shown::Inaccessible, &["/usr/lib/modules", "/lib/modules"]);
        }
        if self.is_on(LOGS) {
            add(Shown::Inaccessible, &["/proc/kmsg", "/dev/kmsg"]);
        }
        if self.is_on(CONTROL_GROUPS) {
            add(Shown::ReadOnly, &["/sys/fs/cgroup"]);
        }
        if self.is_on(PRIVATE_TMP) {
            add(Shown::Writable, mounts::TEMPORARY);
        }
        for (path, shown, optional) in &self.paths {
            places.add(path, *shown, *optional);
        }
        places
    }

    fn filters(&self) -> Vec<Vec<sock_filter>> {
        let mut rules = Vec::new();
        for switch in self.switches() {
            rules.extend(switch.calls.iter().map(|call| Rule::refuse(call, libc::EPERM)));
            rules.extend((switch.rules)());
        }
        rules.extend(self.families.as_deref().map(calls::families));
        let rules = (!rules.is_empty()).then(|| seccomp::program(&rules));
        let native_only = self.native_only.then(seccomp::native_only);
        // The lists may refuse to install any more.
        rules.into_iter().chain(native_only).chain(self.calls.filter()).collect()
    }
}

fn boolean(value: &str) -> Option<bool> {
    match value {
        "yes" | "true" | "on" | "1" => Some(true),
        "no" | "false" | "off" | "0" | "" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[(&str, &str)]) -> Hardening {
        let mut hardening = Hardening::default();
        for (name, value) in lines {
            assert_eq!(hardening.directive(name, value), Some(()), "{name}={value}");
        }
        hardening
    }

    #[test]
    fn what_is_closed_wins_over_what_is_open() {
        let places = read(&[
            ("ProtectSystem", "strict"),
            ("ProtectHome", "read-only"),
            ("ReadWritePaths", "-/var/lib/x /home"),
            ("InaccessiblePaths", "-/var/lib/x/keys"),
        ])
        .places();
        let of = |path: &str| places.governing(path.as_ref()).unwrap();
        assert_eq!(of("/etc/passwd"), Shown::ReadOnly);
        assert_eq!(of("/var/lib/x/a"), Shown::Writable);
        assert_eq!(of("/var/lib/x/keys"), Shown::Inaccessible);
        assert_eq!(of("/home/me"), Shown::ReadOnly);
        assert_eq!(of("/dev/shm"), Shown::AsIs);
        assert_eq!(of("/run/x"), Shown::ReadOnly);
    }

    #[test]
    fn an_unknown_value_is_no_directive() {
        for (name, value) in [
            ("ProtectSystem", "most"),
            ("SystemCallFilter", "~chown:ENOTHING"),
            ("SystemCallFilter", "~no_such_call:EPERM"),
            ("SystemCallFilter", "@no-such-group"),
            ("ReadWritePaths", "var"),
            ("DeviceAllow", "char-pts rw"),
            ("RestrictAddressFamilies", "AF_UNIX AF_NEW"),
            ("RestrictNamespaces", "user"),
            ("ProtectProc", "ptraceable"),
            ("SystemCallArchitectures", "x86"),
            ("PrivateUsers", "yes"),
        ] {
            assert_eq!(Hardening::default().directive(name, value), None, "{name}={value}");
        }
    }

    #[test]
    fn modules_and_logs_take_their_capabilities() {
        let hardening = read(&[("ProtectKernelModules", "yes"), ("ProtectKernelLogs", "yes")]);
        assert_eq!(hardening.dropped(), 1 << 16 | 1 << 34);
    }
}
