//! The drop-in: what a service manager does with the directives that nrtrace writes, systemd.exec(5).

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::fd::{AsFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use nix::sys::resource::{RLIM_INFINITY, Resource, rlim_t};
use nrtrace_profiles::Capability;
use nrtrace_profiles::event::Identity;

use super::binds::Binds;
use super::harden::Hardening;
use super::{delegate, lines, words};
use crate::launch::{Error, Fence};
use crate::sandbox::Group;

/// A drop-in, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// `User=`
    pub user: String,
    /// `Group=`
    pub group: String,
    /// `SupplementaryGroups=`
    pub groups: Vec<String>,
    /// `AmbientCapabilities=`, one bit for each number.
    pub ambient: u64,
    /// `CapabilityBoundingSet=`; all where it is not given.
    bounding: u64,
    /// `NoNewPrivileges=`
    pub no_new_privs: bool,
    /// `Nice=`
    pub nice: Option<i32>,
    /// `OOMScoreAdjust=`
    pub oom_score: Option<i32>,
    /// `Limit…=`, with the directive as written.
    pub limits: Vec<(String, Resource, rlim_t)>,
    /// `RuntimeDirectory=` and its kind.
    directories: Vec<(&'static Kind, Vec<u8>)>,
    modes: Vec<(&'static Kind, u32)>,
    credentials: Vec<(String, PathBuf)>,
    environment: Vec<Vec<u8>>,
    /// `SocketBindAllow=` and `SocketBindDeny=`
    binds: Binds,
    /// `Delegate=`
    delegates: bool,
    /// `WorkingDirectory=`; whether it may be missing.
    pub directory: Option<(PathBuf, bool)>,
    /// `UMask=`
    pub umask: Option<u32>,
    /// `ExecStartPre=` with a plus: what root does before the start.
    pub before_start: Vec<Vec<String>>,
    /// Directives that take away what the user's rights do not.
    pub(super) hardening: Hardening,
    /// Directives that are not applied.
    pub unknown: Vec<String>,
}

/// A directory that a service manager makes.
#[derive(Debug, PartialEq, Eq)]
struct Kind {
    directive: &'static str,
    base: &'static str,
    variable: &'static str,
}

const fn kind(directive: &'static str, base: &'static str, variable: &'static str) -> Kind {
    Kind { directive, base, variable }
}

static KINDS: [Kind; 5] = [
    kind("RuntimeDirectory", "/run", "RUNTIME_DIRECTORY"),
    kind("StateDirectory", "/var/lib", "STATE_DIRECTORY"),
    kind("CacheDirectory", "/var/cache", "CACHE_DIRECTORY"),
    kind("LogsDirectory", "/var/log", "LOGS_DIRECTORY"),
    kind("ConfigurationDirectory", "/etc", "CONFIGURATION_DIRECTORY"),
];

/// Directives without effect on what a program may do once it is started.
const HARMLESS: [&str; 7] =
    ["ExecStart", "NotifyAccess", "PIDFile", "Restart", "RuntimeDirectoryPreserve", "TimeoutStopSec", "Type"];

const LIMITS: [(&str, Resource); 16] = [
    ("LimitAS", Resource::RLIMIT_AS),
    ("LimitCORE", Resource::RLIMIT_CORE),
    ("LimitCPU", Resource::RLIMIT_CPU),
    ("LimitDATA", Resource::RLIMIT_DATA),
    ("LimitFSIZE", Resource::RLIMIT_FSIZE),
    ("LimitLOCKS", Resource::RLIMIT_LOCKS),
    ("LimitMEMLOCK", Resource::RLIMIT_MEMLOCK),
    ("LimitMSGQUEUE", Resource::RLIMIT_MSGQUEUE),
    ("LimitNICE", Resource::RLIMIT_NICE),
    ("LimitNOFILE", Resource::RLIMIT_NOFILE),
    ("LimitNPROC", Resource::RLIMIT_NPROC),
    ("LimitRSS", Resource::RLIMIT_RSS),
    ("LimitRTPRIO", Resource::RLIMIT_RTPRIO),
    ("LimitRTTIME", Resource::RLIMIT_RTTIME),
    ("LimitSIGPENDING", Resource::RLIMIT_SIGPENDING),
    ("LimitSTACK", Resource::RLIMIT_STACK),
];

impl Unit {
    /// Reads the text of a drop-in. What is not known is in [`Unit::unknown`].
    pub fn parse(text: &str) -> Self {
        let mut unit = Self { bounding: u64::MAX, ..Self::default() };
        let mut of_service = true;
        for line in lines(text) {
            if line.starts_with('[') {
                of_service = line == "[Service]";
            }
            // What other sections say is about other units.
            if line.starts_with('[') || !of_service {
                continue;
            }
            let known =
                line.split_once('=').is_some_and(|(name, value)| unit.directive(name, value).is_some());
            if !known {
                unit.unknown.push(line.to_owned());
            }
        }
        unit
    }

    fn directive(&mut self, name: &str, value: &str) -> Option<()> {
        let plain = || value.split_whitespace().map(str::to_owned);
        match name {
            "User" => self.user = value.into(),
            "Group" => self.group = value.into(),
            "SupplementaryGroups" if value.is_empty() => self.groups.clear(),
            "SupplementaryGroups" => self.groups.extend(plain()),
            "AmbientCapabilities" if value.is_empty() => self.ambient = 0,
            "AmbientCapabilities" => self.ambient |= capabilities(value)?,
            "CapabilityBoundingSet" if value.is_empty() => self.bounding = 0,
            "CapabilityBoundingSet" => self.bounding |= capabilities(value)?,
            "NoNewPrivileges" => self.no_new_privs = matches!(value, "yes" | "true" | "on" | "1"),
            "Nice" => self.nice = Some(value.parse().ok()?),
            "OOMScoreAdjust" => self.oom_score = Some(value.parse().ok()?),
            "Environment" => self.environment.extend(words::split(value)?),
            "LoadCredential" => {
                let word = String::from_utf8(words::split(value)?.into_iter().next()?).ok()?;
                let (id, path) = word.split_once(':')?;
                self.credentials.push((id.to_owned(), path.into()));
            }
            "UMask" => self.umask = Some(u32::from_str_radix(value, 8).ok()?),
            "WorkingDirectory" => {
                let path = value.strip_prefix('-');
                let given = path.unwrap_or(value).replace("%%", "%");
                self.directory = Some((given.starts_with('/').then(|| given.into())?, path.is_some()));
            }
            "ExecStartPre" => {
                let words = words::split(value.strip_prefix('+')?)?.into_iter().map(String::from_utf8);
                self.before_start.push(words.collect::<Result<_, _>>().ok()?);
            }
            _ if HARMLESS.contains(&name) => {}
            "SocketBindAllow" => self.binds.add(true, value)?,
            "SocketBindDeny" => self.binds.add(false, value)?,
            // The names of controllers are as good as a yes.
            "Delegate" => self.delegates = !matches!(value, "no" | "false" | "off" | "0"),
            _ => {
                let limit = self.limit(name, value).or_else(|| self.service_directory(name, value));
                return limit.or_else(|| self.hardening.directive(name, value));
            }
        }
        Some(())
    }

    fn limit(&mut self, name: &str, value: &str) -> Option<()> {
        let resource = LIMITS.iter().find(|(directive, _)| *directive == name)?.1;
        // The hard one is as far as it gets by itself, where two are given.
        let value = amount(value.rsplit(':').next().unwrap_or_default())?;
        self.limits.push((format!("{name}={value}"), resource, value));
        Some(())
    }

    fn service_directory(&mut self, name: &str, value: &str) -> Option<()> {
        if let Some(kind) = KINDS.iter().find(|kind| kind.directive == name) {
            // As systemd, which ignores others.
            let names = words::split(value)?.into_iter().map(|name| before_link(&name).to_vec());
            self.directories.extend(names.filter(|name| is_normal(name)).map(|name| (kind, name)));
            return Some(());
        }
        let kind = KINDS.iter().find(|kind| name.strip_suffix("Mode") == Some(kind.directive))?;
        self.modes.push((kind, u32::from_str_radix(value, 8).ok()?));
        Some(())
    }

    /// Makes the directories of the service, as systemd does: one that belongs to somebody else changes hands with all
    /// that is in it.
    pub fn make_directories(&self, identity: &Identity, not_applied: &mut Vec<String>) {
        for (kind, name) in &self.directories {
            let path = place(kind, name);
            let mode = self.modes.iter().rfind(|(of, _)| of == kind).map_or(0o755, |(_, mode)| *mode);
            // The configuration stays root's, as under systemd.
            let whose = (kind.directive != "ConfigurationDirectory").then_some(identity);
            if let Err(error) = make_directory(&path, mode, whose) {
                not_applied.push(format!("{}={}: {error}", kind.directive, path.display()));
            }
        }
    }

    /// What the service is started behind.
    ///
    /// # Errors
    /// When a path that has to be there is not, or the mounts cannot be made.
    pub fn fence(&self) -> Result<Fence, Error> {
        let own = self.directories.iter().filter(|(kind, _)| kind.directive != "ConfigurationDirectory");
        self.hardening.fence(own.map(|(kind, name)| place(kind, name)))
    }

    /// Whether it says what takes a control group.
    pub fn takes_group(&self) -> bool {
        self.binds.refuse() || self.delegates
    }

    /// Has a control group hold its tasks to the unit; what a task is to write to, to be one of them. What cannot be done goes
    /// into `not_applied`, by the name of its directive.
    pub(super) fn join(
        &self,
        group: Result<&Group, &str>,
        identity: &Identity,
        not_applied: &mut Vec<String>,
    ) -> Option<RawFd> {
        let group = group.map_err(str::to_owned);
        let mut asked = |of_it: bool, directive: &str, apply: &dyn Fn(&Group) -> std::io::Result<()>| {
            if !of_it {
                return false;
            }
            let done = group.clone().and_then(|group| apply(group).map_err(|error| error.to_string()));
            if let Err(why) = &done {
                not_applied.push(format!("{directive} of the unit: {why}"));
            }
            done.is_ok()
        };
        let holds = asked(self.binds.refuse(), "SocketBindDeny=", &|group| {
            self.binds.hold(fs::File::open(&group.path)?.as_fd())
        });
        let delegates = asked(self.delegates, "Delegate=", &|group| delegate::give(&group.path, identity));
        group.ok().filter(|_| holds || delegates).map(|group| group.joins)
    }

    /// Whom it can become, at most: one bit for each capability.
    pub fn bounding(&self) -> u64 {
        self.bounding & !self.hardening.dropped()
    }

    /// The variables of the unit, and those that systemd sets for its directories and credentials.
    pub fn variables(&self, identity: &Identity, not_applied: &mut Vec<String>) -> Vec<(OsString, OsString)> {
        let mut variables = Vec::new();
        for pair in &self.environment {
            let mut parts = pair.splitn(2, |byte| *byte == b'=');
            if let (Some(name), Some(value)) = (parts.next(), parts.next()) {
                variables.push((OsString::from_vec(name.into()), OsString::from_vec(value.into())));
            }
        }
        for kind in &KINDS {
            let of_kind = self.directories.iter().filter(|(of, _)| *of == kind);
            let paths: Vec<Vec<u8>> =
                of_kind.map(|(_, name)| [kind.base.as_bytes(), b"/", name].concat()).collect();
            if !paths.is_empty() {
                variables.push((kind.variable.into(), OsString::from_vec(paths.join(&b':'))));
            }
        }
        if !self.credentials.is_empty() {
            let directory = PathBuf::from(format!("/run/credentials/nrtrace-{}.service", std::process::id()));
            match self.load_credentials(&directory, identity) {
                Ok(()) => variables.push(("CREDENTIALS_DIRECTORY".into(), directory.into())),
                Err(error) => not_applied.push(format!("LoadCredential=: {error}")),
            }
        }
        variables
    }

    fn load_credentials(&self, directory: &Path, identity: &Identity) -> std::io::Result<()> {
        fs::create_dir_all(directory)?;
        for (id, path) in &self.credentials {
            let target = directory.join(id);
            fs::write(&target, fs::read(path)?)?;
            lchown(&target, Some(identity.uid), Some(identity.gid))?;
            fs::set_permissions(&target, Permissions::from_mode(0o400))?;
        }
        lchown(directory, Some(identity.uid), Some(identity.gid))?;
        fs::set_permissions(directory, Permissions::from_mode(0o500))
    }
}

/// A limit as systemd.exec(5) has it: a number, with a suffix to the base of 1024, or none at all.
fn amount(text: &str) -> Option<rlim_t> {
    if text == "infinity" {
        return Some(RLIM_INFINITY);
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let exponent = match &text[digits.len()..] {
        "" | "B" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        _ => return None,
    };
    digits.trim_end().parse::<rlim_t>().ok()?.checked_mul(1 << (10 * exponent))
}

fn place(kind: &Kind, name: &[u8]) -> PathBuf {
    Path::new(kind.base).join(OsString::from_vec(name.into()))
}

fn capabilities(value: &str) -> Option<u64> {
    value.split_whitespace().try_fold(0, |bits, name| {
        let known = Capability::all().find(|capability| capability.to_string() == name)?;
        Some(bits | 1 << known.number())
    })
}

/// The name of a directory, without the link that stands behind it.
fn before_link(name: &[u8]) -> &[u8] {
    name.split(|byte| *byte == b':').next().unwrap_or_default()
}

/// Whether a name is relative, and leads nowhere else.
fn is_normal(name: &[u8]) -> bool {
    name.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."))
}

fn make_directory(path: &Path, mode: u32, whose: Option<&Identity>) -> std::io::Result<()> {
    let existed = path.exists();
    fs::create_dir_all(path)?;
    let Some(identity) = whose else {
        return if existed { Ok(()) } else { fs::set_permissions(path, Permissions::from_mode(mode)) };
    };
    let metadata = path.metadata()?;
    if (metadata.uid(), metadata.gid()) != (identity.uid, identity.gid) {
        give(path, identity)?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn give(path: &Path, identity: &Identity) -> std::io::Result<()> {
    lchown(path, Some(identity.uid), Some(identity.gid))?;
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), identity)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_directive_that_is_written_is_known() {
        use nrtrace_profiles::emit::Format;
        use nrtrace_profiles::grants::{Choices, Method};
        use nrtrace_profiles::profile::Profile;
        use nrtrace_profiles::ways::plan;
        let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../profiles/testdata");
        let prefer: [&[Method]; 3] =
            [&[], &[Method::Socket, Method::Manager, Method::Credential], &[Method::FileCapability]];
        let mut lines = 0;
        for sample in fs::read_dir(samples).unwrap() {
            let text = fs::read_to_string(sample.unwrap().path().join("profile.json")).unwrap();
            let profile = Profile::from_json(&text).unwrap();
            for prefer in prefer {
                let choices = Choices { prefer: prefer.to_vec(), ..Choices::default() };
                let grants = plan(&profile, &choices);
                for format in [Format::SystemdDropIn, Format::SystemdUnit] {
                    let written = format.emit(&profile, &grants).text;
                    assert_eq!(Unit::parse(&written).unknown, Vec::<String>::new(), "{written}");
                    lines += super::lines(&written).count();
                }
            }
        }
        assert!(lines > 500, "{lines}");
    }

    #[test]
    fn limits_have_suffixes_and_two_values() {
        let of = |value: &str| {
            Unit::parse(&format!("[Service]\nLimitNOFILE={value}\n")).limits.first().map(|limit| limit.2)
        };
        assert_eq!(
            (of("9"), of("1024:4096"), of("64K"), of("2M")),
            (Some(9), Some(4096), Some(65536), Some(2 << 20))
        );
        assert_eq!(
            (of("infinity"), of("9X"), of("x"), of("99999999999T")),
            (Some(RLIM_INFINITY), None, None, None)
        );
    }

    #[test]
    fn directives_are_read_as_systemd_does() {
        let unit = Unit::parse(
            "[Service]\n# Why.\nUser=web\nGroup=web\nAmbientCapabilities=\nCapabilityBoundingSet=\n\
             AmbientCapabilities=CAP_NET_BIND_SERVICE\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\n\
             SupplementaryGroups=a b\nNoNewPrivileges=yes\nRuntimeDirectory=x\nRuntimeDirectoryMode=0700\n\
             LimitNOFILE=9\nLimitMEMLOCK=infinity\nNice=-5\nEnvironment=\"A=b c\"\nDelegate=yes\nUMask=0027\n\
             WorkingDirectory=-/srv/a%%b\nExecStartPre=+sysctl -q -w a.b=1\nProtectSystem=strict\nPrivateUsers=yes\n\
             [Install]\nWantedBy=x\n[Service]\nAmbientCapabilities=CAP_NEW\n",
        );
        assert_eq!((unit.user.as_str(), unit.ambient, unit.bounding), ("web", 1 << 10, 1 << 10));
        assert_eq!((unit.groups.len(), unit.no_new_privs, unit.nice), (2, true, Some(-5)));
        let limits: Vec<&str> = unit.limits.iter().map(|(text, ..)| text.as_str()).collect();
        assert_eq!(limits, ["LimitNOFILE=9", "LimitMEMLOCK=18446744073709551615"]);
        assert_eq!(unit.unknown, ["PrivateUsers=yes", "AmbientCapabilities=CAP_NEW"]);
        assert_eq!((unit.takes_group(), unit.umask), (true, Some(0o027)));
        assert_eq!(unit.directory, Some(("/srv/a%b".into(), true)));
        assert_eq!(unit.before_start, [["sysctl", "-q", "-w", "a.b=1"]]);
        assert_eq!(unit.directories, [(&KINDS[0], b"x".to_vec())]);
        assert_eq!(unit.environment, [b"A=b c".to_vec()]);
    }

    #[test]
    fn directories_lead_nowhere_else_and_the_configuration_stays_roots() {
        let unit = Unit::parse(
            "[Service]\nStateDirectory=../../etc/cron.d . a/../b kept:link\nLogsDirectory=/etc\nConfigurationDirectory=x//y\n",
        );
        assert_eq!(unit.directories, [(&KINDS[1], b"kept".to_vec())]);
        assert!(unit.unknown.is_empty(), "{:?}", unit.unknown);
        let root = tempfile::tempdir().unwrap();
        let (path, mine) = (root.path().join("x"), root.path().metadata().unwrap().uid());
        make_directory(&path, 0o750, None).unwrap();
        assert_eq!((path.metadata().unwrap().mode() & 0o7777, path.metadata().unwrap().uid()), (0o750, mine));
        make_directory(&path, 0o700, None).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o750, "what is there stays as it is");
    }
}
