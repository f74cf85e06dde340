//! Does what systemd does with a drop-in, for the directives nrtrace writes: there is no service manager in a sandbox.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::sandbox::BIN;
use crate::service::{Rights, quote};

/// A drop-in, as far as it matters for starting the service.
#[derive(Clone, Debug, Default)]
pub struct DropIn {
    /// User, groups, capabilities and limits.
    pub rights: Rights,
    /// Bash, as root, that makes the directories systemd would make.
    pub setup: String,
}

/// Directives that are of no consequence for whether the service can start and serve in a sandbox.
const HARMLESS: [&str; 18] = [
    "CapabilityBoundingSet",
    "Delegate",
    "DeviceAllow",
    "LockPersonality",
    "OOMScoreAdjust",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "RestrictRealtime",
    "RuntimeDirectoryPreserve",
    "SocketBindAllow",
    "SocketBindDeny",
    "StandardError",
    "StandardOutput",
    "TimeoutStopSec",
];

/// Which directory a directive is below, see systemd.exec(5).
const DIRECTORIES: [(&str, &str); 5] = [
    ("RuntimeDirectory", "/run"),
    ("StateDirectory", "/var/lib"),
    ("CacheDirectory", "/var/cache"),
    ("LogsDirectory", "/var/log"),
    ("ConfigurationDirectory", "/etc"),
];

impl DropIn {
    /// Reads the only drop-in below `directory` (`NAME.service.d/*.conf`).
    ///
    /// # Errors
    /// When there is not exactly one, or it has a directive that is not known here.
    pub fn find(directory: &Path) -> Result<Self> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(".service.d") {
                for file in std::fs::read_dir(&path)? {
                    found.push(file?.path());
                }
            }
        }
        ensure!(found.len() == 1, "wanted one drop-in below {}, found {found:?}", directory.display());
        let text = std::fs::read_to_string(&found[0])?;
        Self::parse(&text).with_context(|| format!("understand {}:\n{text}", found[0].display()))
    }

    /// Reads the text of a drop-in.
    ///
    /// # Errors
    /// A directive that is not known here: what it does would be missing from the proof.
    pub fn parse(text: &str) -> Result<Self> {
        let mut unit = Self::default();
        let mut directories = Vec::new();
        let mut modes = Vec::new();
        let (mut strict, mut writable) = (false, Vec::new());
        for line in
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']))
        {
            if line.starts_with('[') {
                ensure!(line == "[Service]", "a drop-in for a service has the section {line}");
                continue;
            }
            let (name, value) = line.split_once('=').with_context(|| format!("{line} is no directive"))?;
            let rights = &mut unit.rights;
            match name {
                "User" => rights.user = value.into(),
                "Group" => rights.group = value.into(),
                "SupplementaryGroups" => extend(&mut rights.groups, value),
                "AmbientCapabilities" => extend(&mut rights.capabilities, value),
                "NoNewPrivileges" => rights.no_new_privs = value == "yes" || value == "true",
                "SystemCallFilter" => {
                    let filter =
                        [format!("{BIN}/fixture"), "system-call-filter".to_owned(), value.to_owned()];
                    rights.wrapper.extend(filter);
                }
                "Nice" => rights.wrapper.extend(["nice".to_owned(), format!("--adjustment={value}")]),
                "Environment" => rights.environment.push(value.trim_matches('"').to_owned()),
                "WorkingDirectory" => rights.directory = Some(value.into()),
                "ProtectSystem" => strict = value == "strict",
                "ReadWritePaths" => {
                    writable.push(value.trim_matches('"').trim_start_matches('-').replace("%%", "%"));
                }
                _ if HARMLESS.contains(&name) => {}
                _ => match name.strip_prefix("Limit") {
                    Some(limit) => {
                        let value = if value == "infinity" { "unlimited" } else { value };
                        rights.limits.push(format!("--{}={value}", limit.to_lowercase()));
                    }
                    None => match name.strip_suffix("Mode") {
                        Some(kind) => modes.push((kind.to_owned(), value.to_owned())),
                        None => directories.push((name.to_owned(), value.to_owned())),
                    },
                },
            }
        }
        unit.make_directories(&directories, &modes)?;
        if strict {
            let made = directories.iter().flat_map(|(kind, names)| {
                let base = DIRECTORIES.iter().find(|(name, _)| name == kind).map_or("", |(_, base)| *base);
                names.split_whitespace().map(move |name| format!("{base}/{name}"))
            });
            unit.protect(writable.into_iter().chain(made));
        }
        Ok(unit)
    }

    /// Everything is read-only but these paths, `/dev`, `/proc` and `/sys`, in a mount namespace of the service.
    fn protect(&mut self, writable: impl Iterator<Item = String>) {
        let mut script = String::new();
        let mut closed = vec!["/", "/run", "/tmp"];
        for path in writable {
            closed.retain(|mount| *mount != path);
            let path = quote(&path);
            // Writing to a string cannot fail.
            let _ = writeln!(script, "[ ! -e {path} ] || mount --bind {path} {path}");
        }
        let _ = writeln!(
            script,
            "for mount in {}; do\n  if mountpoint -q $mount; then mount -o remount,bind,ro $mount; fi\ndone\nexec \"$@\"",
            closed.join(" ")
        );
        let words = ["unshare", "--mount", "--propagation", "private", "bash", "-euc", &script, "bash"];
        self.rights.wrapper.splice(0..0, words.map(str::to_owned));
    }

    fn make_directories(
        &mut self,
        directories: &[(String, String)],
        modes: &[(String, String)],
    ) -> Result<()> {
        for (kind, names) in directories {
            let Some((_, base)) = DIRECTORIES.iter().find(|(name, _)| name == kind) else {
                bail!("{kind}= is not known to this test: teach it what systemd does");
            };
            let mode = modes.iter().rfind(|(of, _)| of == kind).map_or("0755", |(_, mode)| mode.as_str());
            let (user, group) = (quote(&self.rights.user), quote(&self.rights.group));
            for name in names.split_whitespace() {
                let path = quote(&format!("{base}/{name}"));
                // As systemd does: what is there already changes hands with all its contents.
                writeln!(self.setup, "install -d -m {mode} {path}; chown -R {user}:{group} {path}")?;
            }
        }
        Ok(())
    }
}

/// A list directive: an empty value clears it.
fn extend(list: &mut Vec<String>, value: &str) {
    if value.trim().is_empty() {
        list.clear();
    }
    list.extend(value.split_whitespace().map(str::to_owned));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_cleared_and_added_to() {
        let text = "[Service]\n# Why.\nUser=web\nGroup=web\nAmbientCapabilities=\nAmbientCapabilities=CAP_KILL\n\
                    SupplementaryGroups=a b\nStateDirectory=x y\nStateDirectoryMode=0700\nLimitNOFILE=9\nLimitMEMLOCK=infinity\n";
        let unit = DropIn::parse(text).unwrap();
        assert_eq!(unit.rights.capabilities, ["CAP_KILL"]);
        assert_eq!(unit.rights.groups, ["a", "b"]);
        assert_eq!(unit.rights.limits, ["--nofile=9", "--memlock=unlimited"]);
        assert!(unit.setup.contains("install -d -m 0700 '/var/lib/y'; chown -R 'web':'web' '/var/lib/y'"));
    }

    #[test]
    fn an_unknown_directive_is_refused() {
        assert!(DropIn::parse("[Service]\nPrivateTmp=yes\n").is_err());
        assert!(DropIn::parse("[Unit]\nAfter=x\n").is_err());
    }
}
