//! Directives that take away what the user's rights do not, systemd.exec(5) and systemd.resource-control(5).

mod calls;
mod mounts;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use libc::sock_filter;
use nrtrace_profiles::Capability;

use self::calls::Calls;
use self::mounts::Places;
pub(crate) use self::mounts::Shown;
use super::words;
use crate::launch::{Error, Fence};

/// What is closed to the service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hardening {
    system: Option<System>,
    home: Option<Shown>,
    /// `ReadWritePaths=` and its kind; whether a path may be missing.
    paths: Vec<(PathBuf, Shown, bool)>,
    tunables: bool,
    modules: bool,
    logs: bool,
    control_groups: bool,
    host_name: bool,
    realtime: bool,
    personality: bool,
    /// `DeviceAllow=`; closes all others but the standard ones.
    devices: Vec<PathBuf>,
    calls: Calls,
}

/// `ProtectSystem=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum System {
    Yes,
    Full,
    Strict,
}

impl Hardening {
    /// Reads a directive; `None` for one that is not known, or has a value that is not.
    pub(super) fn directive(&mut self, name: &str, value: &str) -> Option<()> {
        let switch = match name {
            "ProtectKernelTunables" => Some(&mut self.tunables),
            "ProtectKernelModules" => Some(&mut self.modules),
            "ProtectKernelLogs" => Some(&mut self.logs),
            "ProtectControlGroups" => Some(&mut self.control_groups),
            "ProtectHostname" => Some(&mut self.host_name),
            "RestrictRealtime" => Some(&mut self.realtime),
            "LockPersonality" => Some(&mut self.personality),
            _ => None,
        };
        if let Some(switch) = switch {
            *switch = boolean(value)?;
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
            "ReadWritePaths" => self.add_paths(value, Shown::Writable)?,
            "ReadOnlyPaths" => self.add_paths(value, Shown::ReadOnly)?,
            "InaccessiblePaths" => self.add_paths(value, Shown::Inaccessible)?,
            "DeviceAllow" => {
                let path = words::split(value)?.into_iter().next()?;
                self.devices.push(path.starts_with(b"/dev/").then(|| OsString::from_vec(path).into())?);
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

    /// Capabilities that the directives take out of the bounding set.
    pub(super) fn dropped(&self) -> u64 {
        let of = |holds: bool, capability: Capability| u64::from(holds) << capability.number();
        of(self.modules, Capability::SYS_MODULE) | of(self.logs, Capability::SYSLOG)
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
        let devices = (!self.devices.is_empty()).then_some(self.devices.as_slice());
        let mounts = if places.is_empty() && devices.is_none() {
            None
        } else {
            Some(Arc::new(mounts::namespace(&places, devices)?))
        };
        Ok(Fence { mounts, host_name: self.host_name, directory: None, filters: self.filters() })
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
        if self.tunables {
            add(Shown::ReadOnly, mounts::TUNABLES);
            add(Shown::Inaccessible, &["/proc/kallsyms", "/proc/kcore"]);
            add(Shown::AsIs, &["/sys/fs/bpf", "/sys/fs/cgroup", "/sys/fs/selinux"]);
        }
        if self.modules {
            add(Shown::Inaccessible, &["/usr/lib/modules", "/lib/modules"]);
        }
        if self.logs {
            add(Shown::Inaccessible, &["/proc/kmsg", "/dev/kmsg"]);
        }
        if self.control_groups {
            add(Shown::ReadOnly, &["/sys/fs/cgroup"]);
        }
        for (path, shown, optional) in &self.paths {
            places.add(path, *shown, *optional);
        }
        places
    }

    fn filters(&self) -> Vec<Vec<sock_filter>> {
        let groups: [(bool, &[&str]); 4] = [
            (self.tunables, &["_sysctl"]),
            (self.modules, &["init_module", "finit_module", "delete_module"]),
            (self.logs, &["syslog"]),
            (self.host_name, &["sethostname", "setdomainname"]),
        ];
        let names = groups.iter().filter(|(holds, _)| *holds).flat_map(|(_, names)| *names);
        let mut rules: Vec<_> = names.map(|name| crate::seccomp::Rule::refuse(name, libc::EPERM)).collect();
        if self.realtime {
            rules.push(calls::realtime());
        }
        if self.personality {
            rules.push(calls::personality());
        }
        let programs = [rules, self.calls.rules()];
        programs
            .iter()
            .filter(|rules| !rules.is_empty())
            .map(|rules| crate::seccomp::program(rules))
            .collect()
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
            ("SystemCallFilter", "@system-service"),
            ("ReadWritePaths", "var"),
            ("DeviceAllow", "char-pts rw"),
            ("PrivateTmp", "yes"),
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
