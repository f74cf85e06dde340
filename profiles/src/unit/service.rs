//! What a service unit says of how its program is started, systemd.service(5) and systemd.exec(5).

use std::collections::BTreeMap;

use super::exec::{self, Exec};
use super::name::Name;
use super::specifier::{Host, expand};
use super::syntax::{boolean, words};
use super::{OfUnit, Unit};
use crate::emit::escape::unit::word;

const SECTION: &str = "Service";

/// `Type=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is up once it is forked.
    Simple,
    /// It is up once it is executed.
    Exec,
    /// Its first process ends and leaves a daemon behind.
    Forking,
    /// It does its work and ends.
    Oneshot,
    /// It is up once it has its name on the bus.
    Dbus,
    /// It says that it is up.
    Notify,
    /// As [`Kind::Simple`], once other jobs are done.
    Idle,
}

/// Why a unit does not tell how a program is started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoService {
    /// It starts none.
    #[error("{0} has no ExecStart=: it starts no program, so there is nothing to prove")]
    NothingStarted(String),
    /// It has a type that systemd does not know.
    #[error("{unit}: Type={value} is none that is known")]
    BadType {
        /// The unit.
        unit: String,
        /// The value.
        value: String,
    },
    /// A line cannot be read.
    #[error("{unit}: {directive}={value}: a quote is not closed, or there is no command")]
    BadLine {
        /// The unit.
        unit: String,
        /// The directive.
        directive: &'static str,
        /// Its value.
        value: String,
    },
    /// It starts several programs, as only one that ends may.
    #[error("{0} has more than one command in ExecStart=, which systemd takes for Type=oneshot alone")]
    SeveralStarted(String),
    /// Its program sees other files than this machine's.
    #[error(
        "{unit}: what it needs in the tree that {directive}= gives it is not found out here: run nrtrace in there"
    )]
    OtherRoot {
        /// The unit.
        unit: String,
        /// The directive.
        directive: &'static str,
    },
}

/// What a unit says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: Name,
    /// `Type=`, or what it is by default.
    pub kind: Kind,
    /// `User=`, unless that is root.
    pub user: Option<String>,
    /// `Group=`
    pub group: Option<String>,
    /// `SupplementaryGroups=`
    pub groups: Vec<String>,
    /// `DynamicUser=`
    pub dynamic_user: bool,
    /// What is run before, in order: `ExecStartPre=`, and all of `ExecStart=` but the last.
    pub before: Vec<Exec>,
    /// The last of `ExecStart=`.
    pub start: Exec,
    /// `Environment=`, in order.
    pub environment: Vec<(String, String)>,
    /// `EnvironmentFile=`, and whether one may be missing.
    pub environment_files: Vec<(String, bool)>,
    /// `WorkingDirectory=`, `~` for the user's home, and whether it may be missing.
    pub directory: Option<(String, bool)>,
    /// `PIDFile=`, absolute.
    pub pid_file: Option<String>,
    /// `UMask=`, limits, directories, what hardens: directives with their values, specifiers replaced, in order.
    pub directives: Vec<(String, String)>,
    /// Sockets that systemd hands over, as far as the unit itself names them.
    pub sockets: Vec<String>,
    /// Commands that run at other times, by their directives.
    pub otherwise: Vec<String>,
}

/// Directives of one word, or of a value that is taken as it is.
const PLAIN: [&str; 43] = [
    "UMask",
    "Nice",
    "OOMScoreAdjust",
    "LimitAS",
    "LimitCORE",
    "LimitCPU",
    "LimitDATA",
    "LimitFSIZE",
    "LimitLOCKS",
    "LimitMEMLOCK",
    "LimitMSGQUEUE",
    "LimitNICE",
    "LimitNOFILE",
    "LimitNPROC",
    "LimitRSS",
    "LimitRTPRIO",
    "LimitRTTIME",
    "LimitSIGPENDING",
    "LimitSTACK",
    "RuntimeDirectoryMode",
    "StateDirectoryMode",
    "CacheDirectoryMode",
    "LogsDirectoryMode",
    "ConfigurationDirectoryMode",
    "NoNewPrivileges",
    "ProtectSystem",
    "ProtectHome",
    "ProtectKernelTunables",
    "ProtectKernelModules",
    "ProtectKernelLogs",
    "ProtectControlGroups",
    "ProtectHostname",
    "ProtectClock",
    "ProtectProc",
    "ProcSubset",
    "PrivateTmp",
    "PrivateDevices",
    "PrivateNetwork",
    "PrivateUsers",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "LockPersonality",
    "MemoryDenyWriteExecute",
];

/// Directives of several lines, each of which is taken whole; an empty value resets them.
const LINES: [&str; 12] = [
    "ExecPaths",
    "NoExecPaths",
    "BindPaths",
    "BindReadOnlyPaths",
    "TemporaryFileSystem",
    "RestrictNamespaces",
    "RestrictAddressFamilies",
    "SystemCallFilter",
    "SystemCallErrorNumber",
    "SystemCallArchitectures",
    "SocketBindAllow",
    "SocketBindDeny",
];

/// Lists of paths or names, each of which is a word; an empty value resets them, too.
const WORDS: [&str; 10] = [
    "RuntimeDirectory",
    "StateDirectory",
    "CacheDirectory",
    "LogsDirectory",
    "ConfigurationDirectory",
    "LoadCredential",
    "ReadWritePaths",
    "ReadOnlyPaths",
    "InaccessiblePaths",
    "DeviceAllow",
];

/// What the drop-in says, too, and so is kept of the unit.
const CONTRADICTED: [&str; 2] = ["CapabilityBoundingSet", "AmbientCapabilities"];

impl Service {
    /// What a unit says.
    ///
    /// # Errors
    /// When it starts no program, or a line of it cannot be read.
    pub fn of(unit: &Unit, name: &Name, host: &Host) -> Result<Self, NoService> {
        let text = |value: &str| expand(value, name, host);
        let last = |key: &str| unit.last(SECTION, key).map(text);
        let list = |key: &str| unit.list(SECTION, key).into_iter().map(text).collect::<Vec<_>>();
        let commands = |directive: &'static str| -> Result<Vec<Exec>, NoService> {
            let mut all = Vec::new();
            for value in unit.list(SECTION, directive) {
                let bad =
                    || NoService::BadLine { unit: name.to_string(), directive, value: value.to_owned() };
                all.extend(exec::parse(value, name, host).ok_or_else(bad)?);
            }
            Ok(all)
        };
        let (mut before, mut start) = (commands("ExecStartPre")?, commands("ExecStart")?);
        let Some(main) = start.pop() else { return Err(NoService::NothingStarted(name.to_string())) };
        let kind = kind(unit, name)?;
        if !start.is_empty() && kind != Kind::Oneshot {
            return Err(NoService::SeveralStarted(name.to_string()));
        }
        let elsewhere = ["RootDirectory", "RootImage"].into_iter().find(|key| last(key).is_some());
        if let Some(directive) = elsewhere {
            return Err(NoService::OtherRoot { unit: name.to_string(), directive });
        }
        before.append(&mut start);
        let root = |user: &String| !matches!(user.as_str(), "root" | "0");
        let path = |value: String| match value.strip_prefix('-') {
            Some(path) => (path.to_owned(), true),
            None => (value, false),
        };
        let other = ["ExecCondition", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost"];
        Ok(Self {
            name: name.clone(),
            kind,
            user: last("User").filter(root),
            group: last("Group"),
            groups: list("SupplementaryGroups")
                .iter()
                .flat_map(|value| value.split_whitespace())
                .map(str::to_owned)
                .collect(),
            dynamic_user: last("DynamicUser").is_some_and(|value| boolean(&value) == Some(true)),
            before,
            start: main,
            environment: variables(unit, name, host),
            environment_files: list("EnvironmentFile").into_iter().map(path).collect(),
            directory: last("WorkingDirectory").map(path),
            pid_file: last("PIDFile")
                .map(|path| if path.starts_with('/') { path } else { format!("/run/{path}") }),
            directives: directives(unit, name, host),
            sockets: list("Sockets")
                .iter()
                .flat_map(|value| value.split_whitespace())
                .map(str::to_owned)
                .collect(),
            otherwise: other
                .iter()
                .filter(|key| !unit.list(SECTION, key).is_empty())
                .map(|key| (*key).to_owned())
                .collect(),
        })
    }

    /// The directives as the text of a unit: what is granted may come after it.
    pub fn text(&self) -> String {
        let mut text = "[Service]\n".to_owned();
        for (name, value) in &self.directives {
            text.push_str(&format!("{name}={value}\n"));
        }
        for group in &self.groups {
            text.push_str(&format!("SupplementaryGroups={group}\n"));
        }
        text
    }

    /// What a profile keeps of it. `unit` is what this was made of.
    pub fn kept(&self, unit: &Unit) -> OfUnit {
        let mut directives: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in &self.directives {
            directives.entry(name.clone()).or_default().push(value.clone());
        }
        for name in CONTRADICTED {
            let values: Vec<String> = unit.list(SECTION, name).into_iter().map(str::to_owned).collect();
            if !values.is_empty() {
                directives.insert(name.to_owned(), values);
            }
        }
        let lines = unit.list(SECTION, "ExecStart");
        let start = match self.start.prefix.is_privileged() {
            true => lines.into_iter().map(exec::unprivileged).collect(),
            false => Vec::new(),
        };
        OfUnit { name: self.name.to_string(), directives, start }
    }
}

fn kind(unit: &Unit, name: &Name) -> Result<Kind, NoService> {
    Ok(match unit.last(SECTION, "Type") {
        Some("simple") => Kind::Simple,
        Some("exec") => Kind::Exec,
        Some("forking") => Kind::Forking,
        Some("oneshot") => Kind::Oneshot,
        Some("dbus") => Kind::Dbus,
        Some("notify" | "notify-reload") => Kind::Notify,
        Some("idle") => Kind::Idle,
        None if unit.last(SECTION, "BusName").is_some() => Kind::Dbus,
        None => Kind::Simple,
        Some(value) => return Err(NoService::BadType { unit: name.to_string(), value: value.to_owned() }),
    })
}

fn variables(unit: &Unit, name: &Name, host: &Host) -> Vec<(String, String)> {
    let given = unit.list(SECTION, "Environment");
    let pairs = given.into_iter().flat_map(|value| words(value).unwrap_or_default());
    pairs
        .filter_map(|pair| {
            let (variable, value) = pair.split_once('=')?;
            Some((variable.to_owned(), expand(value, name, host)))
        })
        .collect()
}

/// Those that bear on what the program may do, and where.
fn directives(unit: &Unit, name: &Name, host: &Host) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for key in PLAIN {
        found.extend(unit.last(SECTION, key).map(|value| (key.to_owned(), expand(value, name, host))));
    }
    for key in WORDS.into_iter().chain(LINES) {
        for value in unit.list(SECTION, key) {
            if LINES.contains(&key) {
                found.push((key.to_owned(), expand(value, name, host)));
                continue;
            }
            // One that names a device has its rights in a second word.
            let whole = key == "DeviceAllow";
            let each = words(value).unwrap_or_default().into_iter().map(|text| expand(&text, name, host));
            let each: Vec<String> = each.map(|text| word(plain(key, &text).as_bytes())).collect();
            if whole {
                found.push((key.to_owned(), each.join(" ")));
            } else {
                found.extend(each.into_iter().map(|value| (key.to_owned(), value)));
            }
        }
    }
    found
}

/// A word without what says nothing here: the link beside a directory, and the plus for a path from the service's own root.
fn plain(key: &str, word: &str) -> String {
    if key.ends_with("Directory") {
        return word.split(':').next().unwrap_or_default().to_owned();
    }
    if !key.ends_with("Paths") {
        return word.to_owned();
    }
    match word.strip_prefix("-+") {
        Some(path) => format!("-{path}"),
        None => word.strip_prefix('+').unwrap_or(word).to_owned(),
    }
}
